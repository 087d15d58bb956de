//! The keys under `custom:`, for what Sigma has no key.

use std::collections::BTreeMap;

use super::{
    blind_spot::Spot,
    cases::{self, Case},
    duration,
    reader::{Map, Parameters, Reader, Scalar, Typed, find, is_name, quoted},
};
use crate::{
    rules::{
        model::{Dedup, Emit, Label},
        settings::{MissingCity, SECOND},
    },
    yaml::{Mark, Node, Value},
};

/// Values of one parameter.
const MOST_VALUES: usize = 10_000;

/// All keys, as docs/rules.md describes them.
const KEYS: [&str; 21] = [
    "attack_technique",
    "blind_spot",
    "dedup",
    "derive",
    "drilldown",
    "emit",
    "follow_up",
    "group_by",
    "labels",
    "lateness",
    "location",
    "message",
    "parameters",
    "rule",
    "score",
    "selections",
    "tests",
    "variant",
    "version",
    "window",
    "window_offset",
];

/// The kind of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WindowKind {
    Session,
    Tumbling,
}

/// A value of the author, and where its key is.
pub(super) type At<T> = Option<(T, Mark)>;

/// What is under `derive:`, as it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Derive {
    pub(super) more_requests_than: At<u64>,
    pub(super) or_requests: At<u64>,
    pub(super) hours: At<u64>,
    pub(super) quiet: At<i64>,
}

/// What is under `custom:`.
#[derive(Debug, Default)]
pub(super) struct Custom {
    pub(super) blind_spot: Option<Spot>,
    pub(super) group_by: At<Vec<(String, Mark)>>,
    pub(super) window_kind: At<WindowKind>,
    pub(super) window: At<i64>,
    pub(super) window_offset: At<i64>,
    pub(super) lateness: Option<i64>,
    pub(super) dedup: Dedup,
    pub(super) emit: At<Emit>,
    pub(super) missing_city: At<MissingCity>,
    pub(super) derive: At<Derive>,
    pub(super) follow_up: At<FollowUp>,
    pub(super) score: Option<u32>,
    pub(super) message: Option<String>,
    pub(super) drilldown: Option<String>,
    pub(super) attack_technique: Option<String>,
    pub(super) version: Option<String>,
    /// Rules of one identifier that are variants are not loaded together.
    pub(super) variant: Option<String>,
    /// What events may look like, and where the key is.
    pub(super) labels: At<Vec<Label>>,
    /// Where one of them has `join`.
    pub(super) join: Option<Mark>,
    pub(super) cases: Vec<Case>,
}

/// `follow_up`: which rule says what is looked for after a finding, and for how long.
#[derive(Debug)]
pub(super) struct FollowUp {
    /// Its name, and where it is.
    pub(super) rule: (String, Mark),
    /// In microseconds.
    pub(super) window: i64,
}

/// How long a finding is followed up without another length.
const FOLLOW_UP: i64 = 24 * 3600 * SECOND;

impl<'d> Reader<'d> {
    /// Reads the key `custom` of a rule or correlation.
    pub(super) fn custom(&self, document: &Map<'d, '_>, is_correlation: bool) -> Custom {
        let Some(node) = document.get("custom") else {
            return Custom::default();
        };
        let Some(map) = self.map(node, "custom", &KEYS) else {
            return Custom::default();
        };
        let mut custom = Custom {
            window_offset: self.length(&map, "window_offset"),
            lateness: self.length(&map, "lateness").map(|(length, _)| length),
            message: map.text("message"),
            drilldown: map.text("drilldown"),
            attack_technique: map.text("attack_technique"),
            version: map.text("version"),
            variant: map.text("variant"),
            score: self.score(&map),
            blind_spot: map.get("blind_spot").and_then(|node| self.blind_spot(node)),
            ..Custom::default()
        };
        if let Some(mark) = map.mark_of("group_by") {
            let names = map.texts("group_by");
            if names.is_empty() {
                self.fail(mark, "group_by: name a field, or remove it");
            }
            custom.group_by = Some((names, mark));
        }
        if map.word("dedup", &["request", "none"]) == Some("none") {
            custom.dedup = Dedup::None;
        }
        if let (Some(word), Some(mark)) =
            (map.word("emit", &["finding", "each"]), map.mark_of("emit"))
        {
            let emit = if word == "each" {
                Emit::Each
            } else {
                Emit::Finding
            };
            custom.emit = Some((emit, mark));
        }
        self.window(&map, &mut custom);
        self.location(&map, &mut custom);
        custom.derive = self.derive(&map);
        custom.follow_up = self.follow_up(&map);
        custom.join = Self::join(&map);
        let labels = self.labels(&map);
        custom.labels = map.mark_of("labels").map(|mark| (labels, mark));
        if let Some(node) = map.get("tests") {
            let labels = custom.labels.as_ref().map(|(labels, _)| labels.as_slice());
            custom.cases = cases::read(self, node, is_correlation, labels.unwrap_or_default());
        }
        if let Some(mark) = map.mark_of("rule") {
            self.fail(
                mark,
                "rule takes a shipped rule with other parameters: remove all but custom: {rule, \
                 parameters} from this document",
            );
        }
        custom
    }

    fn score(&self, map: &Map<'d, '_>) -> Option<u32> {
        let node = map.get("score")?;
        match self.filled(node, "score")?.value {
            Typed::Number(_, text) => text.parse().ok().filter(|score| *score <= 100),
            _ => None,
        }
        .or_else(|| {
            self.fail(node.mark, "score: expected a whole number from 0 to 100");
            None
        })
    }

    pub(super) fn length(&self, map: &Map<'d, '_>, key: &str) -> At<i64> {
        let node = map.get(key)?;
        let scalar = self.filled(node, key)?;
        match duration::read(scalar.text()) {
            Ok(length) => Some((length, map.mark_of(key)?)),
            Err(text) => {
                self.fail(node.mark, format!("{key}: {text}"));
                None
            }
        }
    }

    /// `window: session`, `window: tumbling`, or a length before or behind that.
    fn window(&self, map: &Map<'d, '_>, custom: &mut Custom) {
        let (Some(node), Some(mark)) = (map.get("window"), map.mark_of("window")) else {
            return;
        };
        let Some(scalar) = self.filled(node, "window") else {
            return;
        };
        for word in scalar.text().split_whitespace() {
            match word {
                "session" => custom.window_kind = Some((WindowKind::Session, mark)),
                "tumbling" => custom.window_kind = Some((WindowKind::Tumbling, mark)),
                length => match duration::read(length) {
                    Ok(0) => self.fail(node.mark, "window: is longer than nothing, such as 1h"),
                    Ok(length) => custom.window = Some((length, mark)),
                    Err(text) => self.fail(
                        node.mark,
                        format!("window: expected session, tumbling or a length: {text}"),
                    ),
                },
            }
        }
    }

    /// What makes a correlation take the requests that another one has counted.
    fn derive(&self, map: &Map<'d, '_>) -> At<Derive> {
        let (node, mark) = (map.get("derive")?, map.mark_of("derive")?);
        let known = ["more_requests_than", "or_requests", "hours", "quiet"];
        let own = self.map(node, "derive", &known)?;
        let derive = Derive {
            more_requests_than: self.whole(&own, "more_requests_than"),
            or_requests: self.whole(&own, "or_requests"),
            hours: self.whole(&own, "hours"),
            quiet: self.length(&own, "quiet"),
        };
        Some((derive, mark))
    }

    pub(super) fn whole(&self, map: &Map<'d, '_>, key: &str) -> At<u64> {
        let (node, mark) = (map.get(key)?, map.mark_of(key)?);
        let scalar = self.filled(node, key)?;
        let Ok(number) = scalar.text().parse() else {
            self.fail(node.mark, format!("{key}: expected a whole number"));
            return None;
        };
        Some((number, mark))
    }

    fn follow_up(&self, map: &Map<'d, '_>) -> At<FollowUp> {
        let node = map.get("follow_up")?;
        let own = self.map(node, "follow_up", &["rule", "window"])?;
        let Some(rule) = own.get("rule") else {
            self.fail(
                own.mark,
                "follow_up: rule is missing: name the rule of the requests to look for",
            );
            return None;
        };
        let window = match own.get("window") {
            Some(_) => self.length(&own, "window")?.0,
            None => FOLLOW_UP,
        };
        let follow_up = FollowUp {
            rule: (self.text(rule, "rule")?, rule.mark),
            window,
        };
        Some((follow_up, map.mark_of("follow_up")?))
    }

    fn location(&self, map: &Map<'d, '_>, custom: &mut Custom) {
        let Some(node) = map.get("location") else {
            return;
        };
        let Some(location) = self.map(node, "location", &["missing_city"]) else {
            return;
        };
        let word = location.word("missing_city", &["empty", "drop"]);
        let missing_city = match word {
            Some("drop") => MissingCity::Drop,
            _ => MissingCity::Empty,
        };
        custom.missing_city = Some((missing_city, location.mark));
    }
}

/// The parameters of all documents of a file.
pub(super) fn parameters(reader: &Reader<'_>) -> Parameters {
    let mut all = Parameters::new();
    for root in &reader.documents.roots {
        let Some(node) = find(root, "custom").and_then(|custom| find(custom, "parameters")) else {
            continue;
        };
        let Some(map) = reader.any_map(node, "parameters") else {
            continue;
        };
        for (key, node) in map.entries {
            if !is_name(&key.name) {
                reader.fail(
                    key.mark,
                    format!(
                        "parameters: {} is no name: use letters, digits and _",
                        quoted(&key.name)
                    ),
                );
            } else if all.contains_key(&key.name) {
                reader.fail(
                    key.mark,
                    format!("parameters: {} is in two documents: keep one", key.name),
                );
            } else {
                all.insert(key.name.clone(), values(reader, node));
            }
        }
    }
    all
}

/// The parameters that tests put in place of empty ones.
pub(super) fn test_parameters(reader: &Reader<'_>) -> Vec<(String, Vec<Scalar>, Mark)> {
    let mut all = Vec::new();
    for root in &reader.documents.roots {
        let tests = find(root, "custom").and_then(|custom| find(custom, "tests"));
        let Some(Value::Map(entries)) = tests
            .and_then(|tests| find(tests, "parameters"))
            .map(|node| &node.value)
        else {
            continue;
        };
        for (key, node) in entries {
            all.push((key.name.clone(), values(reader, node), key.mark));
        }
    }
    all
}

fn values(reader: &Reader<'_>, node: &Node) -> Vec<Scalar> {
    let nodes = match &node.value {
        Value::List(nodes) => nodes.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if nodes.len() > MOST_VALUES {
        reader.fail(
            node.mark,
            format!("parameters: more than {MOST_VALUES} values"),
        );
        return Vec::new();
    }
    let mut values = Vec::with_capacity(nodes.len());
    for node in nodes {
        match reader.scalar(node) {
            Some(scalar) => values.push(scalar),
            None => reader.fail(
                node.mark,
                "parameters: expected a value or a list of values",
            ),
        }
    }
    values
}

/// A document that takes a shipped rule with other parameters.
pub(super) struct Taken {
    pub(super) rule: String,
    pub(super) mark: Mark,
    pub(super) parameters: BTreeMap<String, Vec<Scalar>>,
}

/// Reads such a document: `custom: {rule: NAME, parameters: {...}}` and nothing else.
pub(super) fn taken<'d>(reader: &Reader<'d>, root: &'d Node) -> Option<Taken> {
    let node = find(root, "custom").and_then(|custom| find(custom, "rule"))?;
    let document = reader.any_map(root, "a rule")?;
    if document.get("detection").is_some() || document.get("correlation").is_some() {
        return None;
    }
    let _known = reader.map(root, "a document with custom: rule", &["custom"])?;
    let custom = reader.map(document.get("custom")?, "custom", &["rule", "parameters"])?;
    let mut parameters = BTreeMap::new();
    let given = custom.get("parameters");
    if let Some(map) = given.and_then(|node| reader.any_map(node, "parameters")) {
        for (key, node) in map.entries {
            parameters.insert(key.name.clone(), values(reader, node));
        }
    }
    Some(Taken {
        rule: reader.text(node, "rule")?,
        mark: node.mark,
        parameters,
    })
}
