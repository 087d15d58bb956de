//! The members of an object that say what it is, seen in one pass.

use super::node::Node;

/// Keys under which senders put an event, the surest first.
pub(super) const CARRIERS: [&[u8]; 12] = [
    b"log",
    b"message",
    b"event",
    b"MESSAGE",
    b"log_processed",
    b"structured",
    b"body",
    b"jsonPayload",
    b"textPayload",
    b"@message",
    b"_raw",
    b"msg",
];

/// What an object looks like.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is the answer to a question of its own"
)]
pub(super) struct Survey<'a> {
    /// It says what was requested.
    request: bool,
    /// Who, from where, and how it ended, a bit each.
    parts: u8,
    /// The same with keys in another case.
    other_request: bool,
    other_parts: u8,
    /// The same with keys that have dots.
    flat_parts: u8,
    pub(super) items: Option<Node<'a>>,
    pub(super) log_events: Option<Node<'a>>,
    pub(super) log_group: Option<Node<'a>>,
    pub(super) message_type: Option<Node<'a>>,
    pub(super) records: Option<Node<'a>>,
    pub(super) proto_payload: Option<Node<'a>>,
    pub(super) carriers: [Option<Node<'a>>; CARRIERS.len()],
    pub(super) time: Option<Node<'a>>,
    properties: bool,
    category: bool,
}

impl<'a> Survey<'a> {
    /// Takes a member.
    pub(super) fn member(&mut self, key: &[u8], value: Node<'a>) {
        match key {
            b"requestURI" | b"verb" => self.request = true,
            b"user" => self.parts |= 1,
            b"sourceIPs" => self.parts |= 2,
            b"responseStatus" => self.parts |= 4,
            b"items" | b"Items" => self.items = value.is_list().then_some(value),
            b"logEvents" => self.log_events = value.is_list().then_some(value),
            b"logGroup" => self.log_group = Some(value),
            b"messageType" => self.message_type = Some(value),
            b"records" => self.records = value.is_list().then_some(value),
            b"protoPayload" => self.proto_payload = value.is_object().then_some(value),
            b"properties" => self.properties = true,
            b"category" | b"Category" => self.category = true,
            b"time" | b"timestamp" | b"@timestamp" => self.time = Some(value),
            _ => self.other(key, value),
        }
    }

    fn other(&mut self, key: &[u8], value: Node<'a>) {
        if let Some(at) = CARRIERS.iter().position(|one| *one == key) {
            if let Some(place) = self.carriers.get_mut(at) {
                *place = Some(value);
            }
            return;
        }
        if key.len() > 32 {
            return;
        }
        let is = |name: &[u8]| key.eq_ignore_ascii_case(name);
        match key.first() {
            Some(b'R' | b'V') if is(b"requestURI") || is(b"verb") => self.other_request = true,
            Some(b'U') if is(b"user") => self.other_parts |= 1,
            Some(b'S') if is(b"sourceIPs") => self.other_parts |= 2,
            Some(b'R') if is(b"responseStatus") => self.other_parts |= 4,
            Some(b'u') if key.starts_with(b"user.") => self.flat_parts |= 1,
            Some(b's') if key.starts_with(b"sourceIPs") => self.flat_parts |= 2,
            Some(b'r') if key.starts_with(b"responseStatus.") => self.flat_parts |= 4,
            _ => {}
        }
    }

    /// Whether it is an event: a request, and two of who, from where and how it ended.
    pub(super) fn is_event(&self) -> bool {
        self.request && self.parts.count_ones() >= 2
    }

    /// Whether it would be one, with keys in another case.
    pub(super) fn is_respelled(&self) -> bool {
        self.other_request && self.other_parts.count_ones() >= 2
    }

    /// Whether it would be one, if keys with dots were members of members.
    pub(super) fn is_flat(&self) -> bool {
        self.request && (self.parts | self.flat_parts).count_ones() >= 2
    }

    /// Whether it is one record of AKS.
    pub(super) fn is_aks(&self) -> bool {
        self.properties && self.category
    }
}
