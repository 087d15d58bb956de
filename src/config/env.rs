//! `${env:X}`, `${env:X:-default}`, `${X}`, `${X:-default}`, `${file:PATH}` and `$$` inside a scalar.
//!
//! It works on the text of one scalar after the YAML was parsed, so that a value can hold anything
//! and never becomes a key or another setting. Only a value that is one of them as a whole may be a
//! map or a list, which `source.rs` sees to.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use crate::visible;

/// Most bytes of a file that is a configuration or part of one.
const MOST_BYTES: u64 = 1024 * 1024;

/// A function that knows the environment.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A text without placeholders.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// The placeholders as written, without defaults: `${env:X}`.
    pub(crate) from: Vec<String>,
    /// Whether some of it is not in the configuration itself, and so may be a secret.
    pub(crate) hidden: bool,
}

/// Why a placeholder cannot be replaced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpandError {
    /// A variable that the environment does not have, by its name.
    #[error("environment variable {0} is not set, set it or write ${{env:{0}:-default}}")]
    Unset(String),
    /// Anything else, as a text for people.
    #[error("{0}")]
    Other(String),
}

impl From<String> for ExpandError {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

/// What a placeholder is replaced with.
struct Replaced {
    value: String,
    from: String,
    hidden: bool,
}

/// Replaces the placeholders of `text`.
///
/// # Errors
/// All that cannot be replaced.
pub(crate) fn expand(text: &str, env: Env<'_>) -> Result<Expanded, Vec<ExpandError>> {
    let mut done = Expanded::default();
    let mut problems = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        done.text.push_str(before);
        if let Some(behind) = after.strip_prefix('$') {
            done.text.push('$');
            rest = behind;
        } else if let Some(inside) = after.strip_prefix('{') {
            let Some((inside, behind)) = inside.split_once('}') else {
                let why = "\"${\" without \"}\", write $$ for a dollar sign";
                problems.push(why.to_owned().into());
                rest = "";
                break;
            };
            match replace(inside, env) {
                Ok(Replaced {
                    value,
                    from,
                    hidden,
                }) => {
                    done.text.push_str(&value);
                    done.from.push(from);
                    done.hidden |= hidden;
                }
                Err(problem) => problems.push(problem),
            }
            rest = behind;
        } else {
            // As in the Collector, a dollar sign without a brace is itself.
            done.text.push('$');
            rest = after;
        }
    }
    done.text.push_str(rest);
    if problems.is_empty() {
        Ok(done)
    } else {
        Err(problems)
    }
}

/// The file that a text names as a whole: `${file:PATH}`.
pub(crate) fn whole_file(text: &str) -> Option<PathBuf> {
    let path = text.trim().strip_prefix("${file:")?.strip_suffix('}')?;
    (!path.contains(['$', '}'])).then(|| PathBuf::from(path))
}

/// The name and the content of the variable that a text is as a whole, `${env:X}`, when that has
/// the form of a map or list, `{...}` or `[...]`.
pub(crate) fn whole_variable(text: &str, env: Env<'_>) -> Option<(String, String)> {
    let inside = text.trim().strip_prefix("${")?.strip_suffix('}')?;
    let (reference, default) = match inside.split_once(":-") {
        Some((reference, default)) => (reference, Some(default)),
        None => (inside, None),
    };
    let name = reference.strip_prefix("env:").unwrap_or(reference);
    let content = env(name).or_else(|| default.map(str::to_owned))?;
    let is_whole = !inside.contains("${") && content.trim_start().starts_with(['{', '[']);
    is_whole.then(|| (name.to_owned(), content))
}

/// Where in a text a shell's `$NAME` is looked for, which is literal here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It is the whole text.
    Whole,
    /// It is a word of it: `Bearer $NAME`.
    Words,
    /// Anywhere: `https://$NAME:8088`.
    Anywhere,
}

/// The name behind the first `$NAME` in a text, as it was written.
pub(crate) fn unbraced(text: &str, look: Look) -> Option<&str> {
    let text = text.trim();
    let begins = |before: &str, rest: &str| {
        let first = before.is_empty() && rest.len() == text.len();
        first || before.ends_with(|c: char| c.is_whitespace() || c == ',')
    };
    // Splunk's collector also had `$file:PATH`.
    let ends = |c: char| c.is_whitespace() || c == ',' || c == ':';
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        if let Some(behind) = behind.strip_prefix(['$', '{']) {
            rest = behind;
            continue;
        }
        let end = behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, after) = behind.split_at(end.unwrap_or(behind.len()));
        let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        let fits = match look {
            Look::Whole => {
                text.starts_with('$')
                    && rest.len() == text.len()
                    && (after.is_empty() || after.starts_with(':'))
            }
            Look::Words => begins(before, rest) && (after.is_empty() || after.starts_with(ends)),
            Look::Anywhere => true,
        };
        if is_name && fits {
            return Some(name);
        }
        rest = after;
    }
    None
}

/// The text of a file.
///
/// # Errors
/// Why it cannot be read, as a text for people.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let shown = visible::path(path);
    let mut text = Vec::new();
    let file = std::fs::File::open(path);
    // Bounded whatever it says of its size: it may be a device.
    file.and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut text))
        .map_err(|error| format!("cannot read {shown}: {error}"))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(format!("cannot read {shown}: it has more than 1 MiB"));
    }
    String::from_utf8(text).map_err(|_| format!("cannot read {shown}: it is not UTF-8"))
}

/// The text of a file as a value, without the line end that editors and `echo` leave.
fn replace_file(path: &str) -> Result<Replaced, String> {
    let text = read(Path::new(path))?;
    Ok(Replaced {
        value: text.trim_end_matches(['\n', '\r']).to_owned(),
        from: format!("${{file:{path}}}"),
        hidden: true,
    })
}

/// What is between the braces, replaced.
fn replace(inside: &str, env: Env<'_>) -> Result<Replaced, ExpandError> {
    if let Some(path) = inside.strip_prefix("file:") {
        return Ok(replace_file(path)?);
    }
    let (reference, default) = match inside.split_once(":-") {
        Some((reference, default)) => (reference, Some(default)),
        None => (inside, None),
    };
    let (scheme, name) = reference.split_once(':').unwrap_or(("env", reference));
    if scheme != "env" {
        let why = format!("${{{scheme}:...}} is not available, use ${{env:X}} or ${{file:PATH}}");
        return Err(why.into());
    }
    let valid = name
        .chars()
        .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty();
    if !valid {
        // It may be a part of a secret, which is not shown.
        let why = "what is between ${ and } is no name of an environment variable, write $$ \
                   for a dollar sign";
        return Err(why.to_owned().into());
    }
    if default.is_some_and(|default| default.contains('$')) {
        let why = format!("the default of ${{{reference}}} may not hold another variable");
        return Err(why.into());
    }
    // As in the Collector, a variable that is set to nothing is set.
    let from = format!("${{{reference}}}");
    match (env(name), default) {
        (Some(value), _) => Ok(Replaced {
            value,
            from,
            hidden: true,
        }),
        (None, Some(default)) => Ok(Replaced {
            value: default.to_owned(),
            from: format!("the default of {from}"),
            hidden: false,
        }),
        (None, None) => Err(ExpandError::Unset(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${A}: [x]\nb: $$".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn replaces_what_the_collector_replaces() {
        for (text, wanted) in [
            ("plain", "plain"),
            ("${A}${env:A}", "11"),
            ("http://${env:H:-a}:8088", "http://a:8088"),
            ("${EMPTY:-x}|${NONE:-}", "|"),
            ("${NONE:-127.0.0.1:4317}", "127.0.0.1:4317"),
            ("$$A $${A} $A a$", "$A ${A} $A a$"),
            ("${TRICK}", "${A}: [x]\nb: $$"),
        ] {
            assert_eq!(expand(text, &env).unwrap().text, wanted, "{text}");
        }
        let from = expand("${A}-${env:NONE:-x}", &env).unwrap().from;
        assert_eq!(from, ["${A}", "the default of ${env:NONE}"]);
    }

    #[test]
    fn knows_variables_as_shells_write_them() {
        use Look::{Anywhere, Whole, Words};
        for (text, wanted) in [
            ("$A", [true, true, true]),
            (" $_A1 ", [true, true, true]),
            ("Bearer $A", [false, true, true]),
            ("x, $A,y", [false, true, true]),
            ("$file:/run/token", [true, true, true]),
            ("x$file:/run/token", [false, false, true]),
            ("https://$A:8088", [false, false, true]),
            ("pa$word", [false, false, true]),
            ("$A$B", [false, false, true]),
            ("$$A", [false; 3]),
            ("${A}", [false; 3]),
            ("${A}B$", [false; 3]),
            ("$5", [false; 3]),
            ("a$ b", [false; 3]),
            ("", [false; 3]),
        ] {
            let found = [Whole, Words, Anywhere].map(|look| unbraced(text, look).is_some());
            assert_eq!(found, wanted, "{text}");
        }
    }

    #[test]
    fn names_what_it_cannot_replace() {
        for (text, wanted) in [
            (
                "${env:NONE}",
                "environment variable NONE is not set, set it or write ${env:NONE:-default}",
            ),
            ("${A", "\"${\" without \"}\", write $$ for a dollar sign"),
            (
                "${}",
                "what is between ${ and } is no name of an environment variable, write $$ for a dollar sign",
            ),
            (
                "${1A}",
                "what is between ${ and } is no name of an environment variable, write $$ for a dollar sign",
            ),
            (
                "${http:x}",
                "${http:...} is not available, use ${env:X} or ${file:PATH}",
            ),
            (
                "${A:-${B}}",
                "the default of ${A} may not hold another variable",
            ),
        ] {
            let errors = expand(text, &env).unwrap_err();
            let message: Vec<_> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(message, [wanted], "{text}");
        }
        assert_eq!(expand("${X}${Y}", &env).unwrap_err().len(), 2);
    }
}
