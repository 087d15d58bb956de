//! docs/components.md: its tables of keys are those of `otel-config/auditwatch.yaml`, row by row.
use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use super::{MINIMAL, REFERENCE, env};
use crate::config::{Source, checked, component_types, source};

/// A key of the reference file.
#[derive(Clone, Debug)]
struct Row {
    /// Where it stands, with types in place of ids.
    path: Vec<String>,
    /// `None`: there is more under it.
    default: Option<String>,
    meaning: String,
}

/// The keys of the reference file in their order, each once.
fn rows() -> Vec<Row> {
    let lines: Vec<&str> = REFERENCE.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let is_key = |line: &&&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let (mut rows, mut known) = (Vec::new(), BTreeSet::new());
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut comment = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let text = line.trim();
        if let Some(words) = text.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        let meaning = std::mem::take(&mut comment).join(" ");
        let Some((key, value)) = text.split_once(':') else {
            continue;
        };
        path.retain(|(depth, _)| *depth < indent(line));
        path.push((indent(line), key.split('/').next().unwrap().to_owned()));
        let path: Vec<String> = path.iter().map(|(_, key)| key.clone()).collect();
        let next = lines[at + 1..].iter().find(is_key);
        let is_section = value.is_empty() && next.is_some_and(|next| indent(next) > indent(line));
        if known.insert(path.clone()) {
            rows.push(Row {
                path,
                default: (!is_section).then(|| value.trim().to_owned()),
                meaning,
            });
        }
    }
    rows
}

/// The rows under a section as a table, and how many there are.
fn table(section: &[String], rows: &[Row]) -> (String, usize) {
    let mut table = "| key | default | meaning |\n|---|---|---|\n".to_owned();
    let mut written = 0;
    for row in rows {
        let Some(key) = row.path.strip_prefix(section).filter(|key| !key.is_empty()) else {
            continue;
        };
        written += 1;
        let default = match row.default.as_deref() {
            None if row.meaning.is_empty() => continue,
            None => String::new(),
            Some("") => "none".to_owned(),
            // A variable that may be missing stands for no value.
            Some(default) if default.ends_with(":-}") => "none".to_owned(),
            Some(default) if default.starts_with("${") => "required".to_owned(),
            Some(default) => format!("`{default}`"),
        };
        // An element of a list is told by its key.
        let key = key.join("::").replace("::- ", "::");
        let meaning = row.meaning.replace('|', "\\|");
        writeln!(table, "| `{key}` | {default} | {meaning} |").unwrap();
    }
    (table, written)
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "UPDATE_DOCS=1 writes the page afresh instead of comparing it"
)]
fn components_are_documented_key_by_key() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/components.md");
    let page = fs::read_to_string(&file).unwrap();
    let rows = rows();
    let mut fresh = String::new();
    let (mut sections, mut written) = (Vec::new(), 0);
    let mut rest = page.as_str();
    while let Some((before, after)) = rest.split_once("<!-- keys of ") {
        let (name, after) = after.split_once(" -->").unwrap();
        let (_, after) = after.split_once("<!-- end -->").unwrap();
        let section: Vec<String> = name.split("::").map(str::to_owned).collect();
        let (table, count) = table(&section, &rows);
        assert!(count > 0, "there is no {name}");
        write!(
            fresh,
            "{before}<!-- keys of {name} -->\n\n{table}\n<!-- end -->"
        )
        .unwrap();
        written += count;
        sections.push(name.to_owned());
        rest = after;
    }
    fresh.push_str(rest);
    for (kind, types) in component_types() {
        for name in types {
            let section = format!("{kind}::{name}");
            assert!(
                sections.contains(&section),
                "docs/components.md misses {section}"
            );
            assert!(
                page.contains(&format!("`{name}`")),
                "docs/components.md misses {name}"
            );
        }
    }
    // All but the sections themselves and the kinds they are of.
    let all = rows.iter().filter(|row| !row.path.is_empty()).count();
    let around = sections.iter().filter(|name| name.contains("::")).count() + 5;
    assert_eq!(
        written + around,
        all,
        "some keys stand in no section of docs/components.md"
    );
    if std::env::var("UPDATE_DOCS").is_ok() {
        fs::write(&file, &fresh).unwrap();
    }
    assert!(
        fresh == page || std::env::var("UPDATE_DOCS").is_ok(),
        "docs/components.md is behind otel-config/auditwatch.yaml: run UPDATE_DOCS=1 cargo test --lib docs"
    );
}

#[test]
fn examples_of_the_documentation_load() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).unwrap();
    let mut pages: Vec<_> = pages.map(|entry| entry.unwrap().path()).collect();
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.push(root.join("README.md"));
    let mut examples = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for block in text.split("```yaml\n").skip(1) {
            let (example, _) = block.split_once("```").unwrap();
            // The files are those of a cluster.
            let example = example
                .replace("${file:", "${env:F:-")
                .replace("SPLUNK_RISK", "SPLUNK_HEC");
            let sources = [MINIMAL, &example].map(|text| Source::Yaml(text.to_owned()));
            let loaded = checked(source::load(&sources, &env), &env);
            assert!(
                loaded.is_ok(),
                "{}: {}\n{example}",
                page.display(),
                loaded.err().unwrap()
            );
            examples += 1;
        }
    }
    assert!(examples >= 8, "{examples}");
}
