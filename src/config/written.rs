//! What a configuration says, key by key, so that two of them can be compared without showing a value.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use super::env::{self, Env};
use crate::yaml::{Node, Value};

/// The hash of each value by its key, such as `exporters::splunk_hec::token`; variables and files are
/// replaced. It holds no value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Written(BTreeMap<String, u64>);

// A hash of a secret is not for a log either.
impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").finish_non_exhaustive()
    }
}

impl Written {
    pub(super) fn of(root: &Node, env: Env<'_>) -> Self {
        let mut written = Self::default();
        written.add(String::new(), root, env);
        written
    }

    fn add(&mut self, path: String, node: &Node, env: Env<'_>) {
        let below = |key: &dyn fmt::Display| match path.as_str() {
            "" => key.to_string(),
            path => format!("{path}::{key}"),
        };
        let text = match &node.value {
            Value::Map(entries) if !entries.is_empty() => {
                for (key, node) in entries {
                    self.add(below(&key.name), node, env);
                }
                return;
            }
            Value::List(items) if !items.is_empty() => {
                for (place, node) in items.iter().enumerate() {
                    self.add(below(&place), node, env);
                }
                return;
            }
            Value::Null | Value::Map(_) | Value::List(_) => None,
            Value::Scalar(text) => env::expand(text, env).ok().map(|done| done.text),
        };
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        self.0.insert(path, hasher.finish());
    }

    /// The keys of which the other says something else.
    pub fn changes(&self, other: &Self) -> Vec<String> {
        let keys: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        let changed = |key: &&String| self.0.get(*key) != other.0.get(*key);
        keys.into_iter().filter(changed).cloned().collect()
    }
}

/// Whether a key is this one or below it.
pub fn is_below(key: &str, section: &str) -> bool {
    let rest = key.strip_prefix(section);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use crate::config;

    fn changes(old: &str, new: &str) -> Vec<String> {
        let written = |text: &str| {
            let rest = "{receivers: {otlp: {protocols: {grpc: }}}, processors: {detection: {X}}, \
                        exporters: {splunk_hec: {endpoint: 'https://h:1', token: T}}, service: \
                        {pipelines: {logs: {receivers: [otlp], processors: [detection], \
                        exporters: [splunk_hec]}}}}";
            let (detection, token) = text.split_once(';').unwrap();
            let text = rest.replace('X', detection).replace('T', token);
            let env = |name: &str| (name == "SECRET").then(|| "abc".to_owned());
            config::parse("test.yaml", &text, &env).unwrap().written
        };
        written(old).changes(&written(new))
    }

    #[test]
    fn says_which_keys_differ_and_no_value() {
        assert!(changes("threshold: 5;abc", "threshold:  5 ;'abc'").is_empty());
        assert!(changes(";abc", ";'${env:SECRET}'").is_empty());
        assert_eq!(changes(";abc", ";abd"), ["exporters::splunk_hec::token"]);
        assert_eq!(
            changes("rules: [a, b]; x", "rules: [a, c], threshold: 6; x"),
            [
                "processors::detection::rules::1",
                "processors::detection::threshold"
            ]
        );
        assert_eq!(
            changes("exclude: [{name: a, path: /a}]; x", "; x"),
            [
                "processors::detection",
                "processors::detection::exclude::0::name",
                "processors::detection::exclude::0::path"
            ]
        );
        assert!(super::is_below("a::b", "a") && super::is_below("a", "a"));
        assert!(!super::is_below("ab", "a"));
    }
}
