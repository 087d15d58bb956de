//! `${env:X}`, `${env:X:-default}`, `${X}`, `${X:-default}` and `$$` inside a scalar.
//!
//! It works on the text of one scalar after the YAML was parsed, so that a value can hold anything
//! and never becomes a key, a list or another setting.

/// A function that knows the environment.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A text without placeholders.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// The placeholders as written, without defaults: `${env:X}`.
    pub(crate) from: Vec<String>,
}

/// Replaces the placeholders of `text`.
///
/// # Errors
/// All that cannot be replaced, as texts for people.
pub(crate) fn expand(text: &str, env: Env<'_>) -> Result<Expanded, Vec<String>> {
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
                problems.push("\"${\" without \"}\", write $$ for a dollar sign".to_owned());
                rest = "";
                break;
            };
            match replace(inside, env) {
                Ok((value, from)) => {
                    done.text.push_str(&value);
                    done.from.push(from);
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

/// The value of what stands between the braces, and where it came from.
fn replace(inside: &str, env: Env<'_>) -> Result<(String, String), String> {
    let (reference, default) = match inside.split_once(":-") {
        Some((reference, default)) => (reference, Some(default)),
        None => (inside, None),
    };
    let (scheme, name) = reference.split_once(':').unwrap_or(("env", reference));
    if scheme != "env" {
        return Err(format!(
            "${{{scheme}:...}} is not available in this version, use ${{env:X}}"
        ));
    }
    let valid = name
        .chars()
        .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty();
    if !valid {
        return Err(format!(
            "{name:?} is no name of an environment variable, write $$ for a dollar sign"
        ));
    }
    if default.is_some_and(|default| default.contains('$')) {
        return Err(format!(
            "the default of ${{{reference}}} may not hold another variable"
        ));
    }
    // As in the Collector, a variable that is set to nothing is set.
    let from = format!("${{{reference}}}");
    match (env(name), default) {
        (Some(value), _) => Ok((value, from)),
        (None, Some(default)) => Ok((default.to_owned(), format!("the default of {from}"))),
        (None, None) => Err(format!(
            "environment variable {name} is not set, set it or write ${{env:{name}:-default}}"
        )),
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
    fn names_what_it_cannot_replace() {
        for (text, wanted) in [
            (
                "${env:NONE}",
                "environment variable NONE is not set, set it or write ${env:NONE:-default}",
            ),
            ("${A", "\"${\" without \"}\", write $$ for a dollar sign"),
            (
                "${}",
                "\"\" is no name of an environment variable, write $$ for a dollar sign",
            ),
            (
                "${1A}",
                "\"1A\" is no name of an environment variable, write $$ for a dollar sign",
            ),
            (
                "${file:x}",
                "${file:...} is not available in this version, use ${env:X}",
            ),
            (
                "${A:-${B}}",
                "the default of ${A} may not hold another variable",
            ),
        ] {
            assert_eq!(expand(text, &env), Err(vec![wanted.to_owned()]), "{text}");
        }
        assert_eq!(expand("${X}${Y}", &env).unwrap_err().len(), 2);
    }
}
