//! A field of an audit event by its path, such as `objectRef.resource` or
//! `requestObject.spec.containers[].securityContext.privileged`.
//!
//! A path is resolved where the event lies, without copying: JSON text or a map. A list on the way
//! means each of its elements, with or without `[]`. Behind `annotations`, `labels` and other maps
//! whose keys hold dots, the rest of the path is one key. The last of duplicate keys wins.

use std::fmt;

use super::{
    event::{Composite, Event, Field},
    fields::{self, AuditField, Kind},
    json,
};
use crate::pdata::AnyValue;

/// Bytes of a path.
const MOST_BYTES: usize = 1024;
/// Steps of a path.
const MOST_STEPS: usize = 32;
/// Lists within each other that are looked into at one step.
const MOST_LISTS: usize = 8;

/// Maps with keys of the user's choice, which often hold dots.
const FREE_KEYS: [&str; 5] = [
    "annotations",
    "labels",
    "matchLabels",
    "nodeSelector",
    "extra",
];

/// What an audit event has at its top, as `audit.k8s.io/v1` names it.
const TOP: [&str; 20] = [
    "kind",
    "apiVersion",
    "metadata",
    "level",
    "auditID",
    "stage",
    "requestURI",
    "verb",
    "user",
    "impersonatedUser",
    "authenticationMetadata",
    "sourceIPs",
    "userAgent",
    "objectRef",
    "responseStatus",
    "requestObject",
    "responseObject",
    "requestReceivedTimestamp",
    "stageTimestamp",
    "annotations",
];

/// A path to a field. Shown, it is as it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Path {
    text: String,
    root: Root,
    /// All its names, and how many of them lead to the root.
    names: Vec<String>,
    used: usize,
}

/// Where a path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    /// A field of the table that is one value.
    Field(AuditField),
    /// A field of the table that is a list.
    List(AuditField),
    Received,
    User,
    ImpersonatedUser,
    ObjectRef,
    ResponseStatus,
    RequestObject,
    ResponseObject,
    Annotations,
    /// The event itself.
    Event,
}

/// Why a text is no path, and what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPath {
    /// Nothing, or nothing between two dots.
    #[error("a name is missing: write a path such as objectRef.resource")]
    Empty,
    /// `[0]`
    #[error("it names one element of a list: write [] or nothing, which is any element")]
    Index,
    /// `{}`
    #[error("{{}} is Splunk's spelling of a list: write [] or nothing, which is any element")]
    Braces,
    /// A quote without another.
    #[error("a quote is not closed: quote one whole name, as in metadata.\"a.b\"")]
    Quote,
    /// Longer, or with more steps, than is read.
    #[error("it is too long: at most 1024 bytes and 32 names")]
    Long,
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Path {
    /// Reads a path.
    ///
    /// # Errors
    /// When the text is none.
    pub fn parse(text: &str) -> Result<Self, NoPath> {
        let names = names(text)?;
        let (root, used) = root(&names);
        Ok(Self {
            text: text.to_owned(),
            root,
            names,
            used,
        })
    }

    /// Whether audit events of Kubernetes have a field of its first name.
    pub fn begins_as_audit_event(&self) -> bool {
        let first = self.text.split(['.', '[']).next().unwrap_or_default();
        TOP.contains(&first)
    }

    /// The names of the path: keys that an event needs for the field to be there.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether this is `responseStatus.code`.
    pub(crate) fn is_code(&self) -> bool {
        self.root == Root::Field(AuditField::Code)
    }

    /// Shows each value of the field: texts, numbers and truth values, and objects as a whole. Of a
    /// list, each element. Whether there is a field at all, with a value other than null.
    pub fn resolve<'a>(&self, event: &Event<'a>, show: &mut dyn FnMut(Field<'a>)) -> bool {
        let parts = &event.parts;
        let begin = match self.root {
            Root::Field(field) => return scalar(&event.field(field), show),
            Root::List(field) => return list(&event.field(field), show),
            Root::Received => return scalar(&event.received, show),
            Root::User => parts.user,
            Root::ImpersonatedUser => parts.impersonated_user,
            Root::ObjectRef => parts.object_ref,
            Root::ResponseStatus => parts.response_status,
            Root::RequestObject => parts.request_object,
            Root::ResponseObject => parts.response_object,
            Root::Annotations => parts.annotations,
            Root::Event => parts.whole,
        };
        let steps = self.names.get(self.used..).unwrap_or_default();
        begin.is_some_and(|value| walk(value, steps, MOST_LISTS, show))
    }
}

/// The names of a path; the rest behind a map with free keys is one.
fn names(text: &str) -> Result<Vec<String>, NoPath> {
    if text.len() > MOST_BYTES {
        return Err(NoPath::Long);
    }
    let mut names: Vec<String> = Vec::new();
    let mut rest = text;
    loop {
        let is_free = names
            .last()
            .is_some_and(|last| FREE_KEYS.contains(&last.as_str()));
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (name, behind) = if let Some(quote) = quote {
            let inner = rest.get(1..).unwrap_or_default();
            let (name, behind) = inner.split_once(quote).ok_or(NoPath::Quote)?;
            let behind = behind.strip_prefix("[]").unwrap_or(behind);
            if !behind.is_empty() && !behind.starts_with('.') {
                return Err(NoPath::Quote);
            }
            (name, behind.strip_prefix('.'))
        } else if is_free {
            (strip_lists(rest), None)
        } else {
            let (name, behind) = match rest.split_once('.') {
                Some((name, behind)) => (name, Some(behind)),
                None => (rest, None),
            };
            (plain(name)?, behind)
        };
        if name.is_empty() {
            return Err(NoPath::Empty);
        }
        if names.len() == MOST_STEPS {
            return Err(NoPath::Long);
        }
        names.push(name.to_owned());
        match behind {
            Some(behind) => rest = behind,
            None => return Ok(names),
        }
    }
}

fn strip_lists(name: &str) -> &str {
    name.trim_end_matches("[]")
}

/// A name that is not quoted, without the brackets of a list.
fn plain(name: &str) -> Result<&str, NoPath> {
    let name = strip_lists(name);
    if name.ends_with("{}") {
        Err(NoPath::Braces)
    } else if name.ends_with(']') {
        Err(NoPath::Index)
    } else {
        Ok(name)
    }
}

/// Where a path with these names begins, and how many of them lead there.
fn root(names: &[String]) -> (Root, usize) {
    let text = names.join(".");
    // Values of a map have paths of their own.
    let known = fields::TABLE
        .iter()
        .find(|row| row.path == text && !matches!(row.kind, Kind::Map | Kind::Peer));
    if let Some(row) = known {
        let root = match row.kind {
            Kind::Single => Root::Field(row.field),
            Kind::List | Kind::Claimed | Kind::Map | Kind::Peer => Root::List(row.field),
        };
        return (root, names.len());
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match names.as_slice() {
        ["requestReceivedTimestamp"] => (Root::Received, 1),
        ["user", ..] => (Root::User, 1),
        ["impersonatedUser", ..] => (Root::ImpersonatedUser, 1),
        ["objectRef", ..] => (Root::ObjectRef, 1),
        ["responseStatus", ..] => (Root::ResponseStatus, 1),
        ["requestObject", ..] => (Root::RequestObject, 1),
        ["responseObject", ..] => (Root::ResponseObject, 1),
        ["annotations", ..] => (Root::Annotations, 1),
        _ => (Root::Event, 0),
    }
}

/// A field that the audit API defines as a text or a number: any other type is no value.
fn scalar<'a>(field: &Field<'a>, show: &mut dyn FnMut(Field<'a>)) -> bool {
    let is_value = field.value().is_some();
    if is_value {
        show(*field);
    }
    is_value
}

/// A field that the audit API defines as a list of texts.
fn list<'a>(field: &Field<'a>, show: &mut dyn FnMut(Field<'a>)) -> bool {
    let list = field.list();
    list.unwrap_or_default().for_each(|element| {
        scalar(&element, show);
    });
    list.is_some()
}

fn walk<'a>(
    value: Composite<'a>,
    steps: &[String],
    lists: usize,
    show: &mut dyn FnMut(Field<'a>),
) -> bool {
    if let Some(is_there) = elements(value, steps, lists, show) {
        return is_there;
    }
    let Some((step, behind)) = steps.split_first() else {
        let field = value.field();
        let is_there = field != Field::Absent;
        if is_there {
            show(field);
        }
        return is_there;
    };
    member(value, step).is_some_and(|value| walk(value, behind, MOST_LISTS, show))
}

/// Continues with each element of a list; `None` for any other value.
fn elements<'a>(
    value: Composite<'a>,
    steps: &[String],
    lists: usize,
    show: &mut dyn FnMut(Field<'a>),
) -> Option<bool> {
    // An empty list is a field too.
    let mut is_there = steps.is_empty();
    match value {
        Composite::Json(raw) if raw.first() == Some(&b'[') => {
            let lists = lists.checked_sub(1)?;
            json::elements(raw, |element| {
                is_there |= walk(Composite::Json(element), steps, lists, show);
            });
        }
        Composite::Otlp(AnyValue::Array(values)) => {
            let lists = lists.checked_sub(1)?;
            values.for_each(|element| {
                is_there |= walk(Composite::Otlp(element), steps, lists, show);
            });
        }
        _ => return None,
    }
    Some(is_there)
}

/// The member of an object with this key: the last, if there are several.
fn member<'a>(value: Composite<'a>, wanted: &str) -> Option<Composite<'a>> {
    let wanted = wanted.as_bytes();
    let mut found = None;
    match value {
        Composite::Json(raw) => {
            json::members(raw, |key, value| {
                if key == wanted {
                    found = Some(Composite::Json(value));
                }
            });
        }
        Composite::Otlp(AnyValue::Map(map)) => map.for_each(|key, value| {
            if key == wanted {
                found = Some(Composite::Otlp(value));
            }
        }),
        Composite::Otlp(_) => {}
    }
    found
}

/// Whether an object or list holds nothing.
pub(crate) fn is_empty(value: Composite<'_>) -> bool {
    let mut is_empty = true;
    match value {
        Composite::Json(raw) => {
            is_empty = raw
                .get(1..)
                .unwrap_or_default()
                .trim_ascii_start()
                .first()
                .is_none_or(|byte| matches!(byte, b'}' | b']'));
        }
        Composite::Otlp(AnyValue::Map(map)) => map.for_each(|_, _| is_empty = false),
        Composite::Otlp(AnyValue::Array(list)) => list.for_each(|_| is_empty = false),
        Composite::Otlp(_) => {}
    }
    is_empty
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"verb":"create","level":"Request","user":{"username":"u","groups":["a","b"],
        "extra":{"authentication.kubernetes.io/pod-name":["web-0"]},"uid":7},"user":{"username":"v",
        "groups":["c",null,["d"]],"extra":{"authentication.kubernetes.io/pod-name":["web-0","web-1"]}},
        "sourceIPs":[],"objectRef":{"resource":"pods","a.b":{"c":1}},
        "requestObject":{"spec":{"containers":[{"image":"x","ports":[{"n":1},{"n":2.50}]},{"image":"y",
        "securityContext":{"privileged":true}},{"image":null}],"volumes":[],"none":null,"map":{}}},
        "annotations":{"authorization.k8s.io/decision":"allow"},"strange":{"deep":[[["z"]]]},
        "responseStatus":{"code":4.03e2,"metadata":{}}}"#;

    fn values(path: &str) -> (bool, Vec<String>) {
        let event = json::one(EVENT.as_bytes(), "t").unwrap().unwrap();
        let mut found = Vec::new();
        let is_there = Path::parse(path).unwrap().resolve(&event, &mut |field| {
            found.push(match field {
                Field::Composite(value) if is_empty(value) => "empty".to_owned(),
                Field::Composite(_) => "object".to_owned(),
                other => other.text().unwrap().into_owned(),
            });
        });
        (is_there, found)
    }

    #[test]
    fn fields_are_found_wherever_they_are() {
        for (path, wanted) in [
            ("verb", &["create"] as &[&str]),
            ("level", &["Request"]),
            ("user.username", &["v"]),
            ("user.groups", &["c"]),
            ("user.groups[]", &["c"]),
            ("user", &["object"]),
            (
                "user.extra.authentication.kubernetes.io/pod-name",
                &["web-0", "web-1"],
            ),
            (
                "user.extra.authentication.kubernetes.io/pod-name[]",
                &["web-0", "web-1"],
            ),
            ("objectRef.resource", &["pods"]),
            ("objectRef.\"a.b\".c", &["1"]),
            ("objectRef.'a.b'.c", &["1"]),
            ("requestObject.spec.containers.image", &["x", "y"]),
            ("requestObject.spec.containers[].image", &["x", "y"]),
            ("requestObject.spec.containers[].ports[].n", &["1", "2.50"]),
            (
                "requestObject.spec.containers[].securityContext.privileged",
                &["true"],
            ),
            ("requestObject.spec.volumes", &[]),
            ("requestObject.spec.map", &["empty"]),
            ("annotations.authorization.k8s.io/decision", &["allow"]),
            ("strange.deep", &["z"]),
            ("responseStatus.code", &["4.03e2"]),
            ("responseStatus.metadata", &["empty"]),
        ] {
            let found = values(path);
            assert!(found.0, "{path}");
            assert_eq!(found.1, wanted, "{path}");
        }
        for path in [
            "stage",
            "user.uid",
            "objectRef.name",
            "verb.x",
            "requestObject.spec.none",
            "requestObject.spec.volumes.hostPath",
            "annotations.authorization",
            "requestObject.spec.containers.ports.x",
        ] {
            assert_eq!(values(path), (false, vec![]), "{path}");
        }
        // A list is there even if nothing is in it.
        assert_eq!(values("sourceIPs"), (true, vec![]));
    }

    #[test]
    fn what_is_no_path_says_what_to_write() {
        for (text, wanted) in [
            ("", NoPath::Empty),
            ("a..b", NoPath::Empty),
            ("a.", NoPath::Empty),
            ("a[0].b", NoPath::Index),
            ("user.groups{}", NoPath::Braces),
            ("a.\"b", NoPath::Quote),
            ("a.\"b\"c", NoPath::Quote),
        ] {
            assert_eq!(Path::parse(text), Err(wanted), "{text}");
        }
        assert_eq!(Path::parse(&"a.".repeat(600)), Err(NoPath::Long));
        assert_eq!(Path::parse(&"a.".repeat(40)), Err(NoPath::Long));
        assert!(!Path::parse("hostPath").unwrap().begins_as_audit_event());
        assert!(Path::parse("level").unwrap().begins_as_audit_event());
    }

    #[test]
    fn lists_within_lists_have_a_bound() {
        let deep = format!(
            r#"{{"verb":"get","x":{}1{}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        let event = json::one(deep.as_bytes(), "t").unwrap().unwrap();
        Path::parse("x.y").unwrap().resolve(&event, &mut |_| {});
        Path::parse("x").unwrap().resolve(&event, &mut |_| {});
    }
}
