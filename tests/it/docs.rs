//! The documentation, checked: its list of metrics is the list in the code, it quotes messages that
//! the code writes, its links lead somewhere, its lines are short, and its words are ours.

use std::{
    fs,
    path::{Path, PathBuf},
};

use auditwatch::telemetry::metrics::{ALL, Kind, Level, Metric};

/// The longest line, in characters.
const WIDTH: usize = 120;

/// Kinds of files whose lines and words are checked, by the end of their path. Add a kind here when
/// its files hold.
const KINDS: &[&str] = &[
    ".md",
    ".yaml",
    ".yml",
    ".sh",
    ".service",
    ".tpl",
    "Dockerfile",
    ".ci/run",
];

/// Files that are not checked.
const EXCEPTIONS: &[&str] = &[
    // A hash of it names the built Collector, so a shorter line costs a build.
    "tests/collector/builder.yaml",
];

/// Messages of `docs/operations.md` that the code does not write yet.
const MESSAGES_TO_COME: &[&str] = &[];

/// Words that another word has replaced (docs/glossary.md), and words that hide who does what.
const BANNED: &[&str] = &[
    "whoever",
    "nobody",
    "foreign record",
    "foreign records",
    "means nothing under",
    "has got another name",
    "more like this were left out",
    "the world",
    "comes again",
    "come again",
    "for ever",
    "so many",
    "stands for",
    "told",
    "gives way",
    "give way",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder, by their path from the top of the repository: neither what is built,
/// nor hidden folders but `.ci`, nor recorded data.
fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = folder.join(&name);
        if entry.file_type().unwrap().is_dir() {
            let hidden = name.starts_with('.') && name != ".ci";
            let data = ["tests/data/corpus", "deploy/splunk/tests/data"].map(Path::new);
            if !hidden && name != "target" && !data.contains(&path.as_path()) {
                files(&path, out);
            }
        } else {
            out.push(path);
        }
    }
}

/// The path and the text of each file whose path ends in one of the kinds.
fn texts(kinds: &[&str]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    files(Path::new(""), &mut all);
    all.sort();
    let named = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let of_kind = |path: &String| kinds.iter().any(|kind| path.ends_with(kind));
    all.iter()
        .map(named)
        .filter(of_kind)
        .map(|path| {
            let text = fs::read_to_string(root().join(&path)).unwrap();
            (path, text)
        })
        .collect()
}

/// Documentation and configurations, but for those that are still being rewritten.
fn checked() -> impl Iterator<Item = (String, String)> {
    let mut texts = texts(KINDS);
    texts.retain(|(path, _)| !EXCEPTIONS.contains(&path.as_str()));
    texts.into_iter()
}

#[test]
fn no_line_is_too_long() {
    let mut long = Vec::new();
    for (path, text) in checked() {
        for (at, line) in text.lines().enumerate() {
            let width = line.chars().count();
            if width > WIDTH {
                long.push(format!("{path}:{}: {width} characters", at + 1));
            }
        }
    }
    assert!(
        long.is_empty(),
        "longer than {WIDTH} characters:\n{}",
        long.join("\n")
    );
}

#[test]
fn words_are_those_of_the_glossary() {
    let mut found = Vec::new();
    for (path, text) in checked() {
        // A phrase may go on in the next line, which in a comment begins with a mark.
        let words = text
            .split_whitespace()
            .filter(|word| !["#", "//"].contains(word))
            .collect::<Vec<_>>()
            .join(" ")
            .to_lowercase();
        for banned in BANNED {
            for (at, _) in words.match_indices(banned) {
                let (before, rest) = words.split_at(at);
                let (_, after) = rest.split_at(banned.len());
                let ends = |letter: Option<char>| !letter.is_some_and(char::is_alphanumeric);
                if ends(before.chars().next_back()) && ends(after.chars().next()) {
                    let context: String = rest.chars().take(60).collect();
                    found.push(format!("{path}: {banned:?} in {context:?}"));
                }
            }
        }
    }
    assert!(
        found.is_empty(),
        "write another word (docs/glossary.md):\n{}",
        found.join("\n")
    );
}

/// The entry of a metric, wrapped.
fn entry(metric: &Metric) -> String {
    let kind = match metric.kind {
        Kind::Counter | Kind::Seconds => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let level = match metric.level {
        Level::None => "none",
        Level::Basic => "basic",
        Level::Normal => "normal",
        Level::Detailed => "detailed",
    };
    let names: Vec<_> = metric
        .attributes
        .iter()
        .map(|name| format!("`{name}`"))
        .collect();
    let labels = match names.as_slice() {
        [] => String::new(),
        [name] => format!("label {name}; "),
        names => format!("labels {}; ", names.join(", ")),
    };
    let text = format!(
        "- `{}` ({kind}; {labels}level {level}): {}",
        metric.name, metric.description
    );
    let mut lines = String::new();
    let mut width = 0;
    for word in text.split(' ') {
        if width > 0 && width + 1 + word.len() > WIDTH {
            lines.push_str("\n ");
            width = 1;
        }
        if width > 0 {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += word.len();
    }
    lines
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "UPDATE_DOCS=1 writes the page afresh instead of comparing it"
)]
fn every_metric_is_documented() {
    let file = root().join("docs/operations.md");
    let page = fs::read_to_string(&file).unwrap();
    let (before, rest) = page.split_once("<!-- metrics -->").unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    let entries: Vec<_> = ALL.iter().map(entry).collect();
    let fresh = format!(
        "{before}<!-- metrics -->\n\n{}\n\n<!-- end -->{after}",
        entries.join("\n")
    );
    if std::env::var("UPDATE_DOCS").is_ok() {
        fs::write(&file, &fresh).unwrap();
    } else {
        assert!(
            fresh == page,
            "docs/operations.md is behind telemetry/metrics.rs: run UPDATE_DOCS=1 cargo test --test it docs"
        );
    }
}

/// Every metric that a page names is one.
#[test]
fn pages_name_metrics_that_exist() {
    let conf = root().join("deploy/splunk/TA-auditwatch/default/macros.conf");
    let macros: Vec<String> = fs::read_to_string(conf)
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix('['))
        .map(|line| line.split(['(', ']']).next().unwrap().to_owned())
        .collect();
    let views = root().join("deploy/splunk/TA-auditwatch/default/data/ui/views");
    for (path, text) in texts(&[".md"]) {
        if !path.starts_with("docs/") {
            continue;
        }
        for prefix in ["otelcol_", "auditwatch_"] {
            let mut before = ' ';
            for (part, rest) in text.split(prefix).zip(text.split(prefix).skip(1)) {
                before = part.chars().next_back().unwrap_or(before);
                let end = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
                let name = format!("{prefix}{}", rest.split(end).next().unwrap_or_default());
                // Macros and views of the add-on, and the prefix itself, are no metrics.
                let other = name == prefix
                    || macros.contains(&name)
                    || views.join(format!("{name}.xml")).exists()
                    || before.is_alphanumeric()
                    || "-_/".contains(before);
                assert!(
                    other || ALL.iter().any(|metric| metric.name == name),
                    "{path}: there is no metric {name}"
                );
            }
        }
    }
}

/// The items of a list: their lines joined.
fn items(section: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for line in section.lines() {
        if line.starts_with("- ") {
            items.push(line.to_owned());
        } else if let (Some(more), Some(item)) = (line.strip_prefix("  "), items.last_mut()) {
            item.push(' ');
            item.push_str(more);
        }
    }
    items
}

/// Every message that docs/operations.md explains is in the code, and they are sorted.
#[test]
fn messages_are_quoted_as_the_code_writes_them() {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let (_, rest) = page.split_once("\n## Messages").unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let mut code = String::new();
    for (path, text) in texts(&[".rs"]) {
        if !path.starts_with("src/") {
            continue;
        }
        // A string that goes on in the next line.
        let mut pieces = text.split("\\\n");
        code.push_str(pieces.next().unwrap());
        for piece in pieces {
            code.push_str(piece.trim_start());
        }
    }
    let mut first = Vec::new();
    for item in items(section) {
        let Some((head, _)) = item.split_once("`: ") else {
            panic!("no message begins this item: {item}");
        };
        let messages: Vec<_> = head.split('`').skip(1).step_by(2).collect();
        first.push(messages[0].to_lowercase());
        for message in messages {
            let known = message.split("...").all(|part| code.contains(part.trim()));
            assert!(
                known || MESSAGES_TO_COME.contains(&message),
                "the code does not write {message:?}"
            );
        }
    }
    assert!(first.len() > 20, "{first:?}");
    assert!(first.is_sorted(), "{first:?}");
}

/// The name that GitHub gives to the place of a heading.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter))
        .map(|letter| if letter == ' ' { '-' } else { letter })
        .collect()
}

#[test]
fn links_lead_to_files_and_headings() {
    for (path, text) in texts(&[".md"]) {
        if EXCEPTIONS.contains(&path.as_str()) {
            continue;
        }
        let mut code_block = false;
        for line in text.lines() {
            code_block ^= line.starts_with("```");
            if code_block {
                continue;
            }
            for link in line.split("](").skip(1) {
                let link = link.split(')').next().unwrap();
                if link.contains("://") {
                    continue;
                }
                let (file, place) = link.split_once('#').unwrap_or((link, ""));
                let target = if file.is_empty() {
                    root().join(&path)
                } else {
                    root().join(&path).parent().unwrap().join(file)
                };
                assert!(target.exists(), "{path}: there is no {file}");
                if !place.is_empty() {
                    let page = fs::read_to_string(&target).unwrap();
                    let found = page
                        .lines()
                        .any(|line| line.starts_with('#') && anchor(line) == place);
                    assert!(found, "{path}: {link} has no such heading");
                }
            }
        }
    }
}
