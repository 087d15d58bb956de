//! ARCHITECTURE.md names files and functions: they exist.

use std::{collections::BTreeMap, fs, path::Path};

/// The words in backticks, with the number of their line. Code blocks have none.
fn quoted(page: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut is_code = false;
    for (line, text) in page.lines().enumerate() {
        if text.starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            let parts = text.split('`').skip(1).step_by(2);
            words.extend(parts.map(|word| (line + 1, word)));
        }
    }
    words
}

/// The sources by their path below `src`.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    crate::floors::sources()
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
            (name.to_owned(), fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// Whether a word is the path of a file or a folder, below the root or below `src`.
fn is_path(word: &str) -> bool {
    let end = Path::new(word)
        .extension()
        .and_then(|end| end.to_str())
        .is_some_and(|end| ["rs", "proto", "toml", "yaml", "md"].contains(&end));
    let letters = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    (end || word.ends_with('/')) && word.chars().all(letters)
}

/// What of the page does not exist.
fn missing(page: &str, sources: &BTreeMap<String, String>, root: &Path) -> Vec<String> {
    let mut missing = Vec::new();
    // The file that was named last: a function that follows is in it.
    let mut file = None;
    for (line, word) in quoted(page) {
        if is_path(word) {
            if !root.join(word).exists() && !root.join("src").join(word).exists() {
                missing.push(format!("line {line}: there is no {word}"));
            }
            file = sources.get(word);
        } else if let Some((owner, name)) = word.split_once("::")
            && !name.contains(':')
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && owner.starts_with(|c: char| c.is_ascii_uppercase())
        {
            let declaration = [format!("fn {name}("), format!("fn {name}<")];
            let has = |text: &String| declaration.iter().any(|fun| text.contains(fun));
            match file {
                Some(text) if has(text) && text.contains(owner) => {}
                Some(_) => missing.push(format!("line {line}: the file before has no {word}")),
                None => missing.push(format!("line {line}: no file is named before {word}")),
            }
        }
    }
    missing
}

#[test]
fn what_the_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let found = missing(&page, &sources(), root);
    assert!(found.is_empty(), "ARCHITECTURE.md: {found:#?}");
    let functions = quoted(&page)
        .into_iter()
        .filter(|(_, word)| word.contains("::"));
    assert!(functions.count() >= 8, "it follows a record through code");
}

#[test]
fn what_does_not_exist_is_found() {
    let sources = BTreeMap::from([("a/b.rs".to_owned(), "impl B {\n fn go<T>() {}".to_owned())]);
    let root = Path::new("/nonexistent");
    for (page, wanted) in [
        ("`a/b.rs` has", "line 1: there is no a/b.rs"),
        ("\n`B::go`", "line 2: no file is named before B::go"),
        (
            "`a/b.rs` `B::stop`",
            "line 1: the file before has no B::stop",
        ),
        ("`a/b.rs` `C::go`", "line 1: the file before has no C::go"),
    ] {
        let found = missing(page, &sources, root);
        assert!(found.iter().any(|one| one == wanted), "{page}: {found:?}");
    }
    let found = missing(
        "`a/b.rs` `B::go`, `service::x`\n```\n`C::d`\n```",
        &sources,
        root,
    );
    assert_eq!(found, ["line 1: there is no a/b.rs"]);
}
