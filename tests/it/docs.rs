//! docs/operations.md: its table of metrics is the list in the code.

use std::{fmt::Write as _, fs, path::Path};

use auditwatch::telemetry::metrics::{ALL, Kind, Level};

fn table() -> String {
    let mut table =
        "| metric | kind | attributes | level | meaning |\n|---|---|---|---|---|\n".to_owned();
    for metric in ALL {
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
        let attributes: Vec<_> = metric
            .attributes
            .iter()
            .map(|name| format!("`{name}`"))
            .collect();
        writeln!(
            table,
            "| `{}` | {kind} | {} | {level} | {} |",
            metric.name,
            attributes.join(", "),
            metric.description
        )
        .unwrap();
    }
    table
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "UPDATE_DOCS=1 writes the page afresh instead of comparing it"
)]
fn every_metric_is_documented() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let page = fs::read_to_string(&file).unwrap();
    let (before, rest) = page.split_once("<!-- metrics -->").unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    let fresh = format!(
        "{before}<!-- metrics -->\n\n{}\n<!-- end -->{after}",
        table()
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

/// Every metric that a page speaks of is one.
#[test]
fn pages_speak_of_metrics_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let conf = root.join("deploy/splunk/TA-auditwatch/default/macros.conf");
    let macros: Vec<String> = fs::read_to_string(conf)
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix('['))
        .map(|line| line.split(['(', ']']).next().unwrap().to_owned())
        .collect();
    for entry in fs::read_dir(root.join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for prefix in ["otelcol_", "auditwatch_"] {
            let mut before = ' ';
            for (part, rest) in text.split(prefix).zip(text.split(prefix).skip(1)) {
                before = part.chars().next_back().unwrap_or(before);
                let end = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
                let name = format!("{prefix}{}", rest.split(end).next().unwrap_or_default());
                // Macros of the add-on, and the prefix itself, are no metrics.
                let other = name == prefix
                    || macros.contains(&name)
                    || before.is_alphanumeric()
                    || "-_/".contains(before);
                assert!(
                    other || ALL.iter().any(|metric| metric.name == name),
                    "{}: there is no metric {name}",
                    path.display()
                );
            }
        }
    }
}
