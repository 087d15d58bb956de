//! The structure, checked: no import points up, and files stay small enough to read.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each module and what of the crate it may import. The order is that of the floors, lowest first.
const FLOORS: &[(&str, &[&str])] = &[
    ("pdata", &[]),
    ("clock", &[]),
    ("deadline", &[]),
    ("endpoint", &[]),
    ("memory", &[]),
    ("redact", &[]),
    ("proxy", &[]),
    ("throttle", &["clock"]),
    ("reload", &["clock", "deadline", "throttle"]),
    ("visible", &[]),
    ("yaml", &[]),
    ("audit", &["pdata", "visible"]),
    ("rules", &["audit", "pdata", "visible", "yaml"]),
    ("tls", &["clock", "reload", "visible"]),
    (
        "http_server",
        &["clock", "endpoint", "memory", "throttle", "tls"],
    ),
    (
        "telemetry",
        &[
            "clock",
            "deadline",
            "endpoint",
            "http_server",
            "redact",
            "throttle",
            "tls",
            "visible",
        ],
    ),
    ("proto", &["audit"]),
    ("finding", &["audit", "proto", "rules", "visible"]),
    (
        "detection",
        &["audit", "finding", "pdata", "proto", "rules", "visible"],
    ),
    ("storage", &["clock", "telemetry", "visible"]),
    ("geo", &["detection", "visible"]),
    (
        "extension",
        &["clock", "http_server", "reload", "tls", "visible"],
    ),
    (
        "receiver",
        &[
            "extension",
            "pdata",
            "http_server",
            "memory",
            "clock",
            "throttle",
            "tls",
        ],
    ),
    (
        "processor",
        &["detection", "geo", "memory", "proto", "rules", "visible"],
    ),
    (
        "exporter",
        &[
            "endpoint",
            "proxy",
            "detection",
            "extension",
            "pdata",
            "clock",
            "deadline",
            "redact",
            "telemetry",
            "throttle",
            "tls",
            "visible",
        ],
    ),
    (
        "config",
        &[
            "endpoint",
            "proxy",
            "detection",
            "extension",
            "receiver",
            "exporter",
            "memory",
            "processor",
            "rules",
            "telemetry",
            "tls",
            "visible",
            "yaml",
        ],
    ),
    (
        "pipeline",
        &[
            "detection",
            "receiver",
            "processor",
            "exporter",
            "memory",
            "clock",
            "telemetry",
            "deadline",
            "storage",
            "throttle",
        ],
    ),
    (
        "service",
        &[
            "config",
            "pipeline",
            "receiver",
            "processor",
            "exporter",
            "extension",
            "http_server",
            "detection",
            "memory",
            "clock",
            "deadline",
            "rules",
            "storage",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "processor",
            "proxy",
            "service",
            "config",
            "telemetry",
            "detection",
            "audit",
            "rules",
            "geo",
            "exporter",
            "clock",
            "deadline",
            "redact",
            "throttle",
            "tls",
            "visible",
        ],
    ),
];

/// Most lines of a file, without its tests.
const MAX_LINES: usize = 600;

pub(crate) fn sources() -> Vec<PathBuf> {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    collect(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    files.sort();
    assert!(files.len() > 30, "the sources are somewhere else");
    files
}

/// The module of a file: `src/detection/rule.rs` is of `detection`.
fn module(file: &Path) -> String {
    let inner = file
        .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .unwrap();
    let first = inner
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules of the crate that a text names: `crate::a`, and each of `crate::{a::b, c}`.
fn imports(text: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let (_, rest) = text.split_at(at + "crate::".len());
        let Some(list) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut at_start = true;
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => at_start = true,
                c if at_start && c.is_alphabetic() => {
                    found.insert(word(list.split_at(at).1));
                    at_start = false;
                }
                _ => {}
            }
        }
    }
    found
}

/// What of a file is no test and no comment.
pub(crate) fn production(file: &Path, text: &str) -> String {
    if is_test(file) {
        return String::new();
    }
    let text = text.split("#[cfg(test)]\nmod tests {").next();
    code(text.unwrap_or_default())
}

/// Whether a file holds nothing but tests.
fn is_test(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == "tests.rs")
        || file
            .parent()
            .is_some_and(|folder| folder.ends_with("tests"))
}

/// Comments may name what they like.
fn code(text: &str) -> String {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn no_import_points_up() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in sources() {
        let module = module(&file);
        if module == "lib" || module == "main" {
            continue;
        }
        let Some((_, allowed)) = FLOORS.iter().find(|(name, _)| *name == module) else {
            panic!("{} stands on no floor, add it to FLOORS", file.display());
        };
        for import in imports(&code(&fs::read_to_string(&file).unwrap())) {
            if import != module && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{} imports {import}", file.display()));
            }
        }
        seen.insert(module);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen.len(), FLOORS.len(), "a floor of FLOORS has no module");
}

#[test]
fn every_file_says_its_job_and_is_short_enough() {
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//!"), "{} has no header", file.display());
        let production = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap()
            .lines()
            .count();
        let generated = file
            .parent()
            .is_some_and(|folder| folder.ends_with("proto"));
        assert!(
            is_test(&file) || generated || production <= MAX_LINES,
            "{} has {production} lines, more than {MAX_LINES}",
            file.display()
        );
    }
}

/// The checker itself: an import that points up is found however it is written.
#[test]
fn imports_are_found_however_they_are_written() {
    let text = "use crate::detection::rule::Rule;\nuse crate::{\n  config::{self, Config},\n  \
                pipeline,\n};\nlet x = crate::service::Service;";
    let wanted = ["config", "detection", "pipeline", "service"].map(str::to_owned);
    assert_eq!(imports(text), wanted.into());
}
