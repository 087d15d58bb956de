//! The documents that the declared settings are written to: `otel-config/auditwatch.yaml`, and the
//! lists of docs/components.md. `UPDATE_DOCS=1` writes them afresh.
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use super::{MINIMAL, env};
use crate::config::{
    Config, Source, checked, component_types,
    components::ROOT,
    settings::{Entry, Need, Shown},
    source,
};

/// Columns of a line of the reference file.
const WIDTH: usize = 100;
/// Columns of a line of a page.
const LINE: usize = 120;

const HEAD: &str = "\
# Every key of auditwatch with its default. A key that is left out, or has no value, has its default.
# Brackets say what a value looks like, and that it is an example where it is not the default.
# This file is written by UPDATE_DOCS=1 cargo test --lib docs, from the declarations in src/config.
#
# Values may hold ${env:X}, ${env:X:-default} and $$ for a dollar sign. Lists may be written as text
# with commas, so that a variable can hold one. Durations are written 300ms, 5s, 1h30m.
";

/// A component as the reference file shows it.
struct Instance {
    section: &'static str,
    kind: &'static str,
    /// It shows the keys that are `shown_in` this name; the one without a name all others.
    name: &'static str,
    note: &'static str,
    /// Keys it shows beside those, with a value and a comment.
    set: &'static [(&'static str, &'static str, &'static str)],
}

const fn plain(section: &'static str, kind: &'static str, note: &'static str) -> Instance {
    Instance {
        section,
        kind,
        name: "",
        note,
        set: &[],
    }
}

const INSTANCES: &[Instance] = &[
    plain("receivers", "otlp", ""),
    Instance {
        section: "receivers",
        kind: "otlp",
        name: "tls",
        note: "In no pipeline. For senders on other machines.",
        set: &[
            (
                "protocols::grpc::endpoint",
                "0.0.0.0:4317",
                "All addresses of this machine.",
            ),
            (
                "protocols::http::endpoint",
                "0.0.0.0:4318",
                "All addresses of this machine.",
            ),
        ],
    },
    plain(
        "receivers",
        "k8s_audit_webhook",
        "In no pipeline. EventLists that an API server posts itself, without a collector.",
    ),
    Instance {
        section: "receivers",
        kind: "k8s_audit_webhook",
        name: "tls",
        note: "In no pipeline. For API servers on other machines.",
        set: &[("endpoint", "0.0.0.0:9443", "All addresses of this machine.")],
    },
    plain("processors", "detection", ""),
    Instance {
        section: "processors",
        kind: "detection",
        name: "escu",
        note: "In no pipeline, so it costs nothing: what else there is under semantics: escu.",
        set: &[
            ("semantics", "escu", "As the Splunk ESCU search counts."),
            (
                "geo::databases",
                "[/usr/share/GeoIP/GeoLite2-City.mmdb]",
                "As above.",
            ),
        ],
    },
    Instance {
        section: "processors",
        kind: "detection",
        name: "quiet",
        note: "In no pipeline: what keeps known requests and findings away.",
        set: &[],
    },
    plain("exporters", "splunk_hec", ""),
    Instance {
        section: "exporters",
        kind: "splunk_hec",
        name: "risk",
        note: "In no pipeline. One risk event for each finding, when it opens, for Enterprise \
               Security's index=risk.",
        set: &[
            (
                "token",
                "${env:SPLUNK_HEC_TOKEN}",
                "A token that may write to index=risk.",
            ),
            (
                "endpoint",
                "${env:SPLUNK_HEC_URL}",
                "As above, as is every key that is not shown here.",
            ),
            (
                "format",
                "risk",
                "key=\"value\" text as Enterprise Security writes it.",
            ),
        ],
    },
    plain(
        "exporters",
        "otlp_grpc",
        "In no pipeline. Findings as log records to an OTLP receiver, over gRPC. No proxy is used.",
    ),
    plain(
        "exporters",
        "otlp_http",
        "In no pipeline. The same over HTTP.",
    ),
    plain(
        "exporters",
        "file",
        "In no pipeline. Findings as JSON, one a line.",
    ),
    plain(
        "exporters",
        "debug",
        "In no pipeline. Findings to auditwatch's own log.",
    ),
    plain(
        "extensions",
        "health_check",
        "Answers 200 while auditwatch is ready to take logs and its exporters are up, else 503.",
    ),
    Instance {
        section: "extensions",
        kind: "health_check",
        name: "tls",
        note: "Not started below. The same for probes from other machines.",
        set: &[(
            "endpoint",
            "0.0.0.0:13133",
            "All addresses of this machine.",
        )],
    },
    plain(
        "extensions",
        "bearertokenauth",
        "Which senders are accepted, by a secret in a header: auth of a receiver names it.",
    ),
    plain(
        "extensions",
        "file_storage",
        "Not started below. A directory for what a restart must not lose: storage of a detection names it.",
    ),
    plain("service", "", ""),
];

/// The keys of a section, by the names that lead to it.
fn keys(path: &str) -> Vec<Entry> {
    let steps = path.split("::").filter(|step| !step.is_empty());
    steps.fold(ROOT.entries(&()), |entries, step| {
        let found = entries.into_iter().find(|entry| entry.fact.name == step);
        match found.unwrap_or_else(|| panic!("there is no {path}")).shown {
            Shown::Keys(inside) | Shown::Elements(inside) | Shown::Items(inside) => inside,
            Shown::Value(_) => panic!("{path} is no section"),
        }
    })
}

/// Writes the reference file.
struct Writer<'a> {
    instance: &'a Instance,
    out: String,
}

impl Writer<'_> {
    /// Writes the keys under `path`. Those without a component of their own are `shown_in` this one.
    fn keys(&mut self, entries: &[Entry], path: &str, indent: usize, shown_in: &str) {
        for entry in entries {
            let fact = entry.fact;
            let path = [path, fact.name]
                .join("::")
                .trim_start_matches(':')
                .to_owned();
            let shown_in = if shown_in.is_empty() {
                fact.shown_in
            } else {
                shown_in
            };
            let set = self.instance.set.iter().find(|(key, ..)| *key == path);
            let is_shown = shown_in == self.instance.name;
            match (&entry.shown, set) {
                (_, Some((_, value, comment))) => {
                    self.comment(comment, indent);
                    self.line(fact.name, value, indent);
                }
                (Shown::Keys(inside), None) if fact.like.is_none() => {
                    let mut within = Writer {
                        instance: self.instance,
                        out: String::new(),
                    };
                    within.keys(inside, &path, indent + 2, shown_in);
                    if !within.out.is_empty() {
                        self.comment(if is_shown { fact.meaning } else { "" }, indent);
                        self.line(fact.name, "", indent);
                        self.out += &within.out;
                    }
                }
                (Shown::Elements(inside), None) if is_shown => {
                    self.comment(fact.meaning, indent);
                    self.line(fact.name, "", indent);
                    for element in inside {
                        self.comment(element.fact.meaning, indent + 2);
                        self.line(&format!("- {}", element.fact.name), "", indent + 2);
                        if let Shown::Keys(inside) = &element.shown {
                            self.keys(inside, &path, indent + 6, shown_in);
                        }
                    }
                }
                (Shown::Items(inside), None) if is_shown => {
                    self.comment(fact.meaning, indent);
                    self.line(fact.name, "", indent);
                    let mut dash = "- ";
                    for entry in inside {
                        let margin = indent + 4 - dash.len();
                        self.comment(&comment(entry), margin);
                        let value = entry.fact.example.unwrap_or(default(entry));
                        self.line(&format!("{dash}{}", entry.fact.name), value, margin);
                        dash = "";
                    }
                }
                _ if is_shown => {
                    self.comment(&comment(entry), indent);
                    self.line(fact.name, fact.example.unwrap_or(default(entry)), indent);
                }
                _ => {}
            }
        }
    }

    fn line(&mut self, key: &str, value: &str, indent: usize) {
        let line = format!("{:indent$}{key}: {value}", "");
        writeln!(self.out, "{}", line.trim_end()).unwrap();
    }

    fn comment(&mut self, text: &str, indent: usize) {
        if !text.is_empty() {
            let margin = format!("{:indent$}# ", "");
            // The margin is no word of its own.
            let mut lines = String::new();
            wrap(&mut lines, text, "", WIDTH - margin.len());
            self.out
                .extend(lines.lines().map(|line| format!("{margin}{line}\n")));
        }
    }
}

fn default(entry: &Entry) -> &str {
    match &entry.shown {
        Shown::Value(text) => text,
        Shown::Keys(_) | Shown::Elements(_) | Shown::Items(_) => "",
    }
}

/// In brackets what the value of a key looks like, and what the key does.
fn comment(entry: &Entry) -> String {
    let fact = entry.fact;
    let mut words = vec![entry.form.clone()];
    words.push(match (fact.need, fact.example) {
        (Need::Required, _) => "required, this is an example".to_owned(),
        (Need::RequiredOr(other), _) => format!("required, or {other}; this is an example"),
        (Need::Optional, Some(_)) => match default(entry) {
            "" => "an example, the default is none".to_owned(),
            default => format!("an example, the default is {default}"),
        },
        (Need::Optional, None) => String::new(),
    });
    words.push(if fact.is_secret { "never printed" } else { "" }.to_owned());
    words.retain(|word| !word.is_empty());
    let as_there = fact.like.map(|other| format!("As for {other}."));
    let meaning = as_there.as_deref().unwrap_or(fact.meaning);
    if words.is_empty() {
        meaning.to_owned()
    } else {
        format!("[{}] {meaning}", words.join("; "))
    }
}

fn reference() -> String {
    let mut out = HEAD.to_owned();
    let mut section = "";
    for instance in INSTANCES {
        if instance.section != section {
            section = instance.section;
            write!(out, "\n{section}:\n").unwrap();
        } else if section != "extensions" {
            out.push('\n');
        }
        let mut writer = Writer { instance, out };
        let is_component = !instance.kind.is_empty();
        if is_component {
            let name = if instance.name.is_empty() { "" } else { "/" };
            writer.comment(instance.note, 2);
            writer.line(&format!("{}{name}{}", instance.kind, instance.name), "", 2);
        }
        let path = [section, instance.kind].join("::");
        let indent = if is_component { 4 } else { 2 };
        writer.keys(&keys(path.trim_end_matches(':')), "", indent, "");
        out = writer.out;
    }
    out
}

/// The keys under a section as a list of docs/components.md.
fn list(entries: &[Entry], path: &str) -> String {
    let mut list = String::new();
    for entry in entries {
        let fact = entry.fact;
        let path = [path, fact.name]
            .join("::")
            .trim_start_matches(':')
            .to_owned();
        let as_there = fact.like.map(|other| format!("As for {other}."));
        let meaning = as_there.as_deref().unwrap_or(fact.meaning);
        if !meaning.is_empty() {
            let facts = match &entry.shown {
                Shown::Value(_) => format!(" ({})", facts(entry)),
                Shown::Keys(_) | Shown::Elements(_) | Shown::Items(_) => String::new(),
            };
            wrap(
                &mut list,
                &format!("- `{path}`{facts}: {meaning}"),
                "  ",
                LINE,
            );
        }
        match &entry.shown {
            Shown::Keys(inside) | Shown::Elements(inside) | Shown::Items(inside)
                if fact.like.is_none() =>
            {
                list += &self::list(inside, &path);
            }
            _ => {}
        }
    }
    list
}

/// What the value of a key looks like, and its default.
fn facts(entry: &Entry) -> String {
    let fact = entry.fact;
    let default = match (fact.need, fact.example, default(entry)) {
        (Need::Required, Some(example), _) if !example.starts_with("${") => {
            format!("required, such as `{example}`")
        }
        (Need::Required, ..) => "required".to_owned(),
        (Need::RequiredOr(other), ..) => format!("required, or {other}"),
        (Need::Optional, _, "") => "no default".to_owned(),
        (Need::Optional, _, default) => format!("default `{default}`"),
    };
    let secret = if fact.is_secret {
        "; never printed"
    } else {
        ""
    };
    format!("{}; {default}{secret}", entry.form)
}

/// Adds a text in lines of at most `width` characters. Each but the first begins with `more`.
fn wrap(out: &mut String, text: &str, more: &str, width: usize) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            writeln!(out, "{line}").unwrap();
            line = format!("{more}{word}");
        } else {
            line += if line.is_empty() { "" } else { " " };
            line += word;
        }
    }
    writeln!(out, "{line}").unwrap();
}

/// Compares a checked-in document with what it should be, or writes it.
#[expect(
    clippy::disallowed_methods,
    reason = "UPDATE_DOCS=1 writes the documents afresh instead of comparing them"
)]
fn compare(name: &str, fresh: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var("UPDATE_DOCS").is_ok() {
        // At once, for other tests read it at the same time.
        let unfinished = file.with_extension("fresh");
        fs::write(&unfinished, fresh).unwrap();
        fs::rename(&unfinished, &file).unwrap();
    }
    assert!(
        fs::read_to_string(&file).unwrap() == fresh,
        "{name} is behind the declared settings: run UPDATE_DOCS=1 cargo test --lib docs"
    );
}

#[test]
fn the_reference_file_is_that_of_the_declared_settings() {
    compare("otel-config/auditwatch.yaml", &reference());
}

/// docs/components.md with fresh lists of keys, and the sections that have one.
fn components() -> (String, Vec<String>) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/components.md");
    let page = fs::read_to_string(page).unwrap();
    let mut fresh = String::new();
    let mut sections = Vec::new();
    let mut rest = page.as_str();
    while let Some((before, after)) = rest.split_once("<!-- keys of ") {
        let (name, after) = after.split_once(" -->").unwrap();
        let (_, after) = after.split_once("<!-- end -->").unwrap();
        let list = list(&keys(name), "");
        write!(
            fresh,
            "{before}<!-- keys of {name} -->\n\n{list}\n<!-- end -->"
        )
        .unwrap();
        sections.push(name.to_owned());
        rest = after;
    }
    fresh.push_str(rest);
    (fresh, sections)
}

#[test]
fn components_are_documented_key_by_key() {
    let (fresh, sections) = components();
    for (kind, types) in component_types() {
        let mut declared: Vec<_> = keys(kind).iter().map(|entry| entry.fact.name).collect();
        declared.sort_unstable();
        assert_eq!(declared, types, "{kind}");
        for name in types {
            let section = format!("{kind}::{name}");
            assert!(
                sections.contains(&section),
                "docs/components.md misses {section}"
            );
        }
    }
    assert!(sections.contains(&"service".to_owned()));
    compare("docs/components.md", &fresh);
}

/// Every component there is, with what it must have and no more.
const BASE: &str = "
receivers:
  otlp: {protocols: {grpc: , http: }}
  otlp/tls: {protocols: {grpc: {tls: {cert_file: c, key_file: k}}}}
  k8s_audit_webhook:
  k8s_audit_webhook/tls: {tls: {cert_file: c, key_file: k}}
processors:
  detection:
  detection/escu: {semantics: escu, geo: {databases: [a.mmdb]}}
exporters:
  splunk_hec: {token: t, endpoint: 'https://a'}
  splunk_hec/risk: {token: t, endpoint: 'https://a', format: risk}
  otlp_grpc: {endpoint: 'a:1'}
  otlp_http: {endpoint: 'http://a'}
  file: {path: p}
  debug:
extensions:
  file_storage:
  health_check:
  bearertokenauth: {token: t}
service:
  pipelines: {logs: {receivers: [otlp], processors: [detection], exporters: [debug]}}
";

/// A default that is documented is the one the code has: who writes it changes nothing.
#[test]
fn documented_defaults_are_the_defaults() {
    let load = |sources: &[Source]| -> Config {
        let loaded = checked(source::load(sources, &env), &env);
        loaded.unwrap_or_else(|error| panic!("{error}")).0
    };
    let base = Source::Yaml(BASE.to_owned());
    let wanted = format!("{:?}", load(std::slice::from_ref(&base)));
    let (page, _) = components();
    let mut defaults = 0;
    for part in page.split("<!-- keys of ").skip(1) {
        let (section, rows) = part.split_once(" -->").unwrap();
        // An item may go on in the next line, which is indented.
        for row in rows.replace("\n  ", " ").lines() {
            let Some((key, default)) = row
                .strip_prefix("- `")
                .and_then(|row| row.split_once("; default `"))
            else {
                continue;
            };
            let key = key.split('`').next().unwrap();
            let default = default.split('`').next().unwrap();
            // Elements of lists have no path; the reference file shows them.
            if key.contains("::readers::")
                || key.contains("::processors::")
                || key.starts_with("exclude::")
            {
                continue;
            }
            let component = match (section, key) {
                ("processors::detection", "window_offset" | "missing_city") => "/escu",
                ("exporters::splunk_hec", "search_name") => "/risk",
                ("receivers::otlp", key) if key.contains("::tls::") => "/tls",
                ("receivers::k8s_audit_webhook", key) if key.starts_with("tls::") => "/tls",
                _ => "",
            };
            let text = format!("{section}{component}::{key}: {default}");
            let config = load(&[base.clone(), Source::Yaml(text.clone())]);
            assert_eq!(format!("{config:?}"), wanted, "{text}");
            defaults += 1;
        }
    }
    assert!(defaults > 90, "{defaults}");
}

#[test]
fn examples_of_the_documentation_load() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).unwrap();
    let mut pages: Vec<_> = pages.map(|entry| entry.unwrap().path()).collect();
    // The examples of rules.md are rules, which tests/it/rules/mod.rs loads, and so is that of
    // detections.md.
    let is_page = |page: &PathBuf| {
        let are_rules = page.ends_with("rules.md") || page.ends_with("detections.md");
        page.extension().is_some_and(|extension| extension == "md") && !are_rules
    };
    pages.retain(is_page);
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
