//! No two files import each other: one of the two can be read without the other.
//!
//! A file that only passes on what is in its own folder (`pub use`) does not depend on it. One that
//! also uses the name does.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::floors::{production, sources};

/// Circles that are still there. The list only gets shorter: one that is gone has to leave it.
const REMAINING: &[(&str, &str)] = &[
    ("audit::event", "audit::json"),
    ("audit::event", "audit::map"),
    // The declarations of settings and the reader that they drive.
    ("config::components", "config::extensions"),
    ("config::components", "config::read"),
    ("config::components", "config::service"),
    ("config::forms", "config::settings"),
    ("config::forms", "config::value"),
    ("config::read", "config::settings"),
    ("config::read", "config::value"),
];

/// The path of a file's module: `src/audit/json.rs` is `audit::json`, `src/cli/mod.rs` is `cli`.
fn module(file: &Path) -> Vec<String> {
    let inner = file
        .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .unwrap()
        .with_extension("");
    let mut path: Vec<_> = inner
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    path.pop_if(|last| last == "mod");
    path
}

/// A path that a file names, and whether it only passes it on.
#[derive(Debug, PartialEq)]
struct Named {
    path: Vec<String>,
    passed_on: bool,
}

/// All paths that a text imports or names from `crate`, `super` or `self`, and what it imports from
/// modules below its own.
fn named(text: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let mut rest = String::new();
    for statement in text.split_inclusive(';') {
        let Some((before, import)) = import(statement) else {
            rest.push_str(statement);
            continue;
        };
        let passed_on = before.trim_end().ends_with("pub")
            || before.trim_end().ends_with(')') && before.contains("pub(");
        rest.push_str(before);
        rest.push('\n');
        let import: String = import.replace(" as ", "@").split_whitespace().collect();
        expand(&[], &import, &mut |path| {
            found.push(Named { path, passed_on });
        });
    }
    let outside = |c: char| !c.is_alphanumeric() && c != '_' && c != ':';
    for word in rest.split(outside).filter(|word| word.contains("::")) {
        let path = word.split("::").map(str::to_owned).collect();
        found.push(Named {
            path,
            passed_on: false,
        });
    }
    found
}

/// What is before the `use` of a statement, and what it imports.
fn import(statement: &str) -> Option<(&str, &str)> {
    let (at, _) = statement.match_indices("use ").find(|(at, _)| {
        let before = statement.split_at(*at).0;
        before.is_empty() || before.ends_with(char::is_whitespace)
    })?;
    let (before, import) = statement.split_at(at);
    let is_import = !import.contains(['(', '=', '"']);
    is_import.then(|| {
        (
            before,
            import.trim_start_matches("use ").trim_end_matches(';'),
        )
    })
}

/// The paths of an import: `a::{b::c, d@e}` is `a::b::c` and `a::d`.
fn expand(base: &[String], tree: &str, found: &mut impl FnMut(Vec<String>)) {
    let (path, list) = match tree.split_once('{') {
        Some((path, list)) => (path, list.strip_suffix('}')),
        None => (tree, None),
    };
    let path = path.split('@').next().unwrap();
    let mut base = base.to_vec();
    base.extend(
        path.split("::")
            .filter(|part| !part.is_empty())
            .map(str::to_owned),
    );
    let Some(list) = list else {
        return found(base);
    };
    let (mut depth, mut begin) = (0, 0);
    for (at, c) in list.char_indices().chain([(list.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let tree = list.get(begin..at).unwrap();
                if !tree.is_empty() {
                    expand(&base, tree, found);
                }
                begin = at + 1;
            }
            _ => {}
        }
    }
}

/// A path as `crate` sees it; `None` when it is not of this crate.
fn absolute(
    module: &[String],
    path: &[String],
    is_module: impl Fn(&[String]) -> bool,
) -> Option<Vec<String>> {
    let mut base = module.to_vec();
    let mut rest = path;
    match rest.first()?.as_str() {
        "crate" => {
            base.clear();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        "super" => {}
        first => {
            base.push(first.to_owned());
            if !is_module(&base) {
                return None;
            }
            rest = &rest[1..];
        }
    }
    while rest.first().is_some_and(|first| first == "super") {
        base.pop();
        rest = &rest[1..];
    }
    base.extend_from_slice(rest);
    Some(base)
}

/// Which module depends on which.
fn dependencies(modules: &BTreeMap<Vec<String>, String>) -> BTreeSet<(&[String], &[String])> {
    let mut found = BTreeSet::new();
    for (module, text) in modules {
        for Named { path, passed_on } in named(text) {
            let Some(path) = absolute(module, &path, |path| modules.contains_key(path)) else {
                continue;
            };
            // A folder is its own file when nothing below it has the name.
            let mut target = path.as_slice();
            while !target.is_empty() && !modules.contains_key(target) {
                target = &target[..target.len() - 1];
            }
            let Some((target, _)) = modules.get_key_value(target) else {
                continue;
            };
            let is_below = target.starts_with(module);
            let name = path.last().unwrap();
            if passed_on && is_below && occurrences(text, name) < 2 {
                continue;
            }
            if target != module {
                found.insert((module.as_slice(), target.as_slice()));
            }
        }
    }
    found
}

fn occurrences(text: &str, name: &str) -> usize {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| *word == name).count()
}

fn circles(modules: &BTreeMap<Vec<String>, String>) -> BTreeSet<(String, String)> {
    let all = dependencies(modules);
    let there_and_back = all
        .iter()
        .filter(|(one, other)| one < other && all.contains(&(*other, *one)));
    there_and_back
        .map(|(one, other)| (one.join("::"), other.join("::")))
        .collect()
}

#[test]
fn no_two_files_import_each_other() {
    let modules = sources().into_iter().filter_map(|file| {
        let text = production(&file, &std::fs::read_to_string(&file).unwrap());
        let module = module(&file);
        let is_root = module.len() == 1 && ["lib", "main"].contains(&module[0].as_str());
        (!is_root).then_some((module, text))
    });
    let found = circles(&modules.collect());
    let remaining = REMAINING
        .iter()
        .map(|(one, other)| ((*one).to_owned(), (*other).to_owned()));
    let remaining: BTreeSet<_> = remaining.collect();
    let new: Vec<_> = found.difference(&remaining).collect();
    assert!(new.is_empty(), "files that import each other: {new:#?}");
    let gone: Vec<_> = remaining.difference(&found).collect();
    assert!(gone.is_empty(), "take these out of REMAINING: {gone:#?}");
}

/// The checker itself: a circle is found however it is written.
#[test]
fn circles_are_found_however_they_are_written() {
    let found = |files: &[(&str, &str)]| {
        let modules = files.iter().map(|(module, text)| {
            let path = module.split("::").map(str::to_owned).collect();
            (path, (*text).to_owned())
        });
        circles(&modules.collect())
    };
    for (one, other, is_circle) in [
        ("use super::b::B;", "use super::{c, a::A};", true),
        (
            "use crate::{d, r::b::{B, C}};",
            "fn f() { crate::r::a::f() }",
            true,
        ),
        (
            "fn f() { super::b::f() }",
            "use super::a::A as Other;",
            true,
        ),
        ("use super::b::B;", "use super::c::A;", false),
        ("use super::b::B;", "", false),
    ] {
        let circles = found(&[("r", ""), ("r::a", one), ("r::b", other)]);
        assert_eq!(circles.len(), usize::from(is_circle), "{one} {other}");
    }
    for (folder, inner, is_circle) in [
        ("mod a; use a::A; struct R(A);", "use super::R;", true),
        ("mod a; pub use a::A; struct R(A);", "use super::R;", true),
        ("mod a; pub use a::A; struct R;", "use super::R;", false),
        ("mod a; fn f() { a::f() }", "use super::R;", true),
    ] {
        let circles = found(&[("r", folder), ("r::a", inner)]);
        assert_eq!(circles.len(), usize::from(is_circle), "{folder}");
    }
}
