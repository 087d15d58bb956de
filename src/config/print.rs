//! The tree as YAML again, for `print-config`: variables replaced, secrets hidden.

use std::fmt::Write as _;

use reqwest::Url;

use super::{
    components::SECRETS,
    env::{self, Env},
};
use crate::visible;
use crate::yaml::{Node, Value};

pub(super) const REDACTED: &str = "[REDACTED]";

/// What is not shown.
#[derive(Clone, Copy)]
enum Hide {
    Nothing,
    /// All but the `name` of a pair.
    Values,
    All,
}

/// Writes a tree. Reading it again gives the same settings, but for the secrets.
pub(super) fn yaml(root: &Node, env: Env<'_>) -> String {
    let mut out = String::new();
    write(&mut out, root, env, 0, Hide::Nothing);
    out
}

/// Writes a value behind its key or dash, and ends the line.
fn write(out: &mut String, node: &Node, env: Env<'_>, depth: usize, hide: Hide) {
    match &node.value {
        Value::Null if depth == 0 => out.push_str("{}\n"),
        Value::Null => begin(out, depth),
        Value::Scalar(text) => {
            // It was read before, so its variables are there.
            let text =
                env::expand(text, env).map_or_else(|_| REDACTED.to_owned(), |done| done.text);
            let text = match (hide, text) {
                (Hide::All | Hide::Values, text) if !text.is_empty() => REDACTED.to_owned(),
                (_, text) => without_credentials(text),
            };
            out.push_str(&scalar(&text));
            out.push('\n');
        }
        Value::List(items) if items.is_empty() => out.push_str("[]\n"),
        Value::Map(entries) if entries.is_empty() => out.push_str("{}\n"),
        Value::List(items) => {
            begin(out, depth);
            for item in items {
                indent(out, depth);
                out.push_str("- ");
                let hide = match (hide, &item.value) {
                    // A list of headers: each has a name and a value.
                    (Hide::All, Value::Map(_)) => Hide::Values,
                    _ => hide,
                };
                write(out, item, env, depth + 1, hide);
            }
        }
        Value::Map(entries) => {
            begin(out, depth);
            for (key, node) in entries {
                indent(out, depth);
                out.push_str(&scalar(&key.name));
                out.push_str(": ");
                let hide = match (hide, key.name.as_str()) {
                    (Hide::Values, "name") => Hide::Nothing,
                    (Hide::Values, _) => Hide::All,
                    (Hide::Nothing, name) if SECRETS.contains(name) => Hide::All,
                    (hide, _) => hide,
                };
                write(out, node, env, depth + 1, hide);
            }
        }
    }
}

/// Nothing more follows on the line of a key or dash.
fn begin(out: &mut String, depth: usize) {
    if depth > 0 {
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    }
}

fn indent(out: &mut String, depth: usize) {
    for _ in 0..depth {
        out.push_str("  ");
    }
}

/// A text as YAML: plain where it cannot be read as something else.
fn scalar(text: &str) -> String {
    let text = text.replace('$', "$$");
    let plain = text
        .chars()
        .all(|letter| letter.is_ascii_alphanumeric() || "_-./:$".contains(letter))
        && text.starts_with(|first: char| first.is_ascii_alphanumeric() || "/$".contains(first))
        && !text.ends_with(':')
        && !matches!(text.to_ascii_lowercase().as_str(), "null" | "~");
    if plain || text == REDACTED {
        // A secret looks the same everywhere.
        return if plain { text } else { format!("{text:?}") };
    }
    quoted(&text)
}

/// A text in double quotes, as YAML has them, in which every character is visible.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        // Writing into a string cannot fail.
        let _ok = match c {
            '"' | '\\' => write!(quoted, "\\{c}"),
            '\n' => write!(quoted, "\\n"),
            '\t' => write!(quoted, "\\t"),
            '\r' => write!(quoted, "\\r"),
            c if visible::is_visible(c) => write!(quoted, "{c}"),
            c if u32::from(c) > 0xffff => write!(quoted, "\\U{:08x}", u32::from(c)),
            c => write!(quoted, "\\u{:04x}", u32::from(c)),
        };
    }
    quoted.push('"');
    quoted
}

/// A URL without what may be a password in it.
fn without_credentials(text: String) -> String {
    if !text.contains("://") {
        return text;
    }
    let Ok(url) = Url::parse(&text) else {
        return text;
    };
    if url.username().is_empty() && url.password().is_none() && url.query().is_none() {
        return text;
    }
    let host = url.host_str().unwrap_or_default();
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    let user = if url.username().is_empty() && url.password().is_none() {
        ""
    } else {
        "[REDACTED]@"
    };
    let query = url.query().map_or("", |_| "?[REDACTED]");
    format!("{}://{user}{host}{port}{}{query}", url.scheme(), url.path())
}
