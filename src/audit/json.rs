//! Audit events from JSON text.
//!
//! Fields are views of the text and read one by one, so that a number keeps its spelling, a field
//! of the wrong type is absent rather than an error, and the last of duplicate keys wins. Lists are
//! not collected: [`visit`] shows the events of an `items` array one after the other.

use super::{
    event::{Composite, Event, Field},
    lexer::Lexer,
    reading::{Member, Reading},
    text::Text,
};

pub use super::lexer::NotJson;

/// What one JSON text holds.
#[derive(Debug, PartialEq)]
pub enum Document<'a> {
    /// An object: one event, whatever its kind.
    Event(Box<Event<'a>>),
    /// An object with an `items` array, such as an `EventList`: its events, and how many of the
    /// items are none.
    List(Vec<Event<'a>>, usize),
    /// Any other JSON value.
    Other,
}

/// What kind of document a JSON text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One event.
    Event,
    /// A list of events, and how many of its items are none.
    List(usize),
    /// No object.
    Other,
}

/// Reads one JSON text and keeps all its events.
///
/// # Errors
/// When it is not exactly one JSON value.
pub fn read<'a>(text: &'a str, time_field: &str) -> Result<Document<'a>, NotJson> {
    let mut events = Vec::new();
    let kind = visit(text.as_bytes(), time_field, &mut |event| events.push(event))?;
    Ok(match kind {
        Kind::List(others) => Document::List(events, others),
        Kind::Event => events
            .pop()
            .map_or(Document::Other, |event| Document::Event(Box::new(event))),
        Kind::Other => Document::Other,
    })
}

/// Shows each event of one JSON text. What is no UTF-8 reads as U+FFFD.
///
/// # Errors
/// When it is not exactly one JSON value. No event is shown then.
pub fn visit<'a>(
    text: &'a [u8],
    time_field: &str,
    show: &mut dyn FnMut(Event<'a>),
) -> Result<Kind, NotJson> {
    let Some((event, items)) = document(text, time_field)? else {
        return Ok(Kind::Other);
    };
    let Some(items) = items else {
        show(event);
        return Ok(Kind::Event);
    };
    let mut others = 0;
    elements(items, |item| match object(item, time_field) {
        Some((event, _items)) => show(event),
        None => others += 1,
    });
    Ok(Kind::List(others))
}

/// The event that one JSON text is; `None` when it is a list of events or no object.
///
/// # Errors
/// When it is not exactly one JSON value.
pub(crate) fn one<'a>(text: &'a [u8], time_field: &str) -> Result<Option<Event<'a>>, NotJson> {
    let found = document(text, time_field)?;
    Ok(found.and_then(|(event, items)| items.is_none().then_some(event)))
}

/// An event, and its member `items` when that is a list.
type Object<'a> = (Event<'a>, Option<&'a [u8]>);

/// One JSON text: the object that it is.
fn document<'a>(text: &'a [u8], time_field: &str) -> Result<Option<Object<'a>>, NotJson> {
    let mut lexer = Lexer::new(text);
    let mut reading = ObjectReading::new(time_field);
    let is_object = text.trim_ascii_start().first() == Some(&b'{');
    if is_object {
        lexer.members(|key, value| key.as_key(|key| reading.member(key, value)))?;
    } else {
        lexer.value()?;
    }
    lexer.end()?;
    reading
        .event
        .whole(Composite::Json(text.trim_ascii_start()));
    Ok(is_object.then(|| reading.object()))
}

/// A checked value as an event; `None` when it is no object.
fn object<'a>(raw: &'a [u8], time_field: &str) -> Option<Object<'a>> {
    let mut reading = ObjectReading::new(time_field);
    reading.event.whole(Composite::Json(raw));
    members(raw, |key, value| reading.member(key, value)).then(|| reading.object())
}

/// A checked value.
#[derive(Clone, Copy)]
struct Checked<'a>(&'a [u8]);

impl<'a> Member<'a> for Checked<'a> {
    fn value(self) -> Composite<'a> {
        Composite::Json(self.0)
    }

    fn members(self, mut show: impl FnMut(&[u8], Self)) -> bool {
        members(self.0, |key, value| show(key, Self(value)))
    }
}

/// An object in the making: an event, and its member `items` when that is a list.
struct ObjectReading<'a, 't> {
    event: Reading<'a, 't>,
    items: Option<&'a [u8]>,
}

impl<'a, 't> ObjectReading<'a, 't> {
    fn new(time_field: &'t str) -> Self {
        Self {
            event: Reading::new(time_field),
            items: None,
        }
    }

    fn member(&mut self, key: &[u8], value: &'a [u8]) {
        if key == b"items" {
            self.items = is_list(value).then_some(value);
        }
        self.event.member(key, Checked(value));
    }

    fn object(self) -> Object<'a> {
        (self.event.event(), self.items)
    }
}

pub(super) fn is_list(raw: &[u8]) -> bool {
    raw.first() == Some(&b'[')
}

/// A checked value as a field.
pub(crate) fn field(raw: &[u8]) -> Field<'_> {
    match raw.first() {
        Some(b'"') => Field::Text(string(raw)),
        Some(b't') => Field::Bool(true),
        Some(b'f') => Field::Bool(false),
        Some(b'{' | b'[') => Field::Composite(Composite::Json(raw)),
        Some(b'-' | b'0'..=b'9') => Field::Text(Text::plain(raw)),
        _ => Field::Absent,
    }
}

/// The content of a checked string.
pub(crate) fn string(quoted: &[u8]) -> Text<'_> {
    let inner = quoted
        .get(1..quoted.len().saturating_sub(1))
        .unwrap_or_default();
    Text::quoted(inner, memchr::memchr(b'\\', inner).is_some())
}

/// Shows each member of a checked object; false when the value is no object.
pub(crate) fn members<'a>(raw: &'a [u8], mut show: impl FnMut(&[u8], &'a [u8])) -> bool {
    texts(raw, |key, value| key.as_key(|key| show(key, value)))
}

/// The same, with keys that are not decoded yet.
pub(crate) fn texts<'a>(raw: &'a [u8], show: impl FnMut(Text<'a>, &'a [u8])) -> bool {
    raw.first() == Some(&b'{') && Lexer::new(raw).members(show).is_ok()
}

/// Shows each element of a checked list.
pub(crate) fn elements<'a>(raw: &'a [u8], show: impl FnMut(&'a [u8])) {
    // It was checked, so it does not fail, and where it did nothing more would be shown.
    let _ok = Lexer::new(raw).elements(show);
}

#[cfg(test)]
mod tests {
    use super::{super::fields::AuditField::*, *};

    fn one(text: &str) -> Event<'_> {
        match read(text, "requestReceivedTimestamp").unwrap() {
            Document::Event(event) => *event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_keep_their_spelling_and_wrong_types_are_absent() {
        let event = one(
            r#"{"verb": 4.030e2, "stage": true, "userAgent": null, "requestURI": {"a": 1}, "user": "x",
                "sourceIPs": ["a", null, 7, ["b"]], "responseStatus": {"code": -0, "message": "a\tb\u00e9"}}"#,
        );
        let text = |field| event.field(field).text();
        assert_eq!(text(Verb).as_deref(), Some("4.030e2"));
        assert_eq!(text(Stage).as_deref(), Some("true"));
        assert_eq!((text(UserAgent), text(RequestUri)), (None, None));
        assert!(!event.has_user);
        let mut sources = Vec::new();
        event.sources().unwrap().for_each(|source| {
            sources.push(source.text().map(String::from));
        });
        let wanted = [Some("a"), None, Some("7"), None];
        assert_eq!(sources, wanted.map(|text| text.map(str::to_owned)));
        assert_eq!(text(Code).as_deref(), Some("-0"));
        assert_eq!(text(Message).as_deref(), Some("a\tbé"));
    }

    #[test]
    fn the_last_of_duplicate_keys_wins_however_it_is_spelled() {
        let event =
            one(r#"{"verb":"a","v\u0065rb":"b","user":{"username":"x"},"user":7,"\ud800":1}"#);
        assert_eq!(event.field(Verb).text().as_deref(), Some("b"));
        assert_eq!(event.field(Username), Field::Absent);
        assert!(!event.has_user);
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced() {
        let event = one(r#"{"verb":"a\ud800b\udfff","stage":"\ud83d\ude00"}"#);
        assert_eq!(
            event.field(Verb).text().as_deref(),
            Some("a\u{fffd}b\u{fffd}")
        );
        assert_eq!(event.field(Stage).text().as_deref(), Some("😀"));
    }

    #[test]
    fn a_list_is_its_items_and_anything_else_is_other() {
        let list = read(
            r#"{"items":[{"verb":"get"},5,{"items":[]}],"kind":"EventList"}"#,
            "t",
        );
        assert!(matches!(list, Ok(Document::List(events, 1)) if events.len() == 2));
        assert!(matches!(
            read(r#"{"items":7}"#, "t"),
            Ok(Document::Event(_))
        ));
        assert!(matches!(read("[1]", "t"), Ok(Document::Other)));
        for broken in ["", "{", "{} {}", "{\"a\":\"\u{1}\"}", "\0", "\u{feff}{}"] {
            assert!(read(broken, "t").is_err(), "{broken:?}");
        }
    }

    #[test]
    fn depth_does_not_matter() {
        let deep = format!(
            r#"{{"a":{}{},"verb":"get"}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert_eq!(one(&deep).field(Verb).text().as_deref(), Some("get"));
    }
}
