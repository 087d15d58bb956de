//! An event whose members of members are keys with dots: `user.username`, `sourceIPs.0`. Processors
//! and log stores flatten objects like this.

use super::{
    node::Node,
    whole::checked,
    written::{self, Object, Output},
};

/// Elements of a flattened list that are put together again.
const MOST_ELEMENTS: usize = 4096;

/// The objects of an event that rules look into.
const OBJECTS: [&str; 5] = [
    "user",
    "impersonatedUser",
    "objectRef",
    "responseStatus",
    "annotations",
];

/// The same event with members of members, if it has at most this many bytes.
pub(super) fn event(node: Node<'_>, most: usize) -> Option<Vec<u8>> {
    written::object(most, |event| write(event, node))
}

fn write(event: &mut Object<'_>, node: Node<'_>) {
    node.members(|key, value| {
        let is_flat = OBJECTS.iter().any(|object| inner(key, object).is_some());
        let is_source = element(key, b"sourceIPs").is_some();
        if !(is_flat || is_source) {
            event.node(key, value);
        }
    });
    for name in OBJECTS {
        let mut is_there = false;
        node.members(|key, _| is_there |= inner(key, name).is_some());
        if is_there {
            event.object(name, |object| members(object, node, name));
        }
    }
    list(event, node, b"sourceIPs", "sourceIPs");
}

fn members(object: &mut Object<'_>, node: Node<'_>, name: &str) {
    let of_groups = [name.as_bytes(), b".groups"].concat();
    node.members(|key, value| {
        if let Some(rest) = inner(key, name)
            && element(key, &of_groups).is_none()
        {
            object.node(rest, value);
        }
    });
    list(object, node, &of_groups, "groups");
}

/// Puts a list together, if any key is one of its elements.
fn list(object: &mut Object<'_>, node: Node<'_>, list: &[u8], name: &str) {
    let mut elements = Vec::new();
    node.members(|key, value| {
        if let Some(at) = element(key, list)
            && elements.len() < MOST_ELEMENTS
        {
            elements.push((at, value));
        }
    });
    if elements.is_empty() {
        return;
    }
    elements.sort_by_key(|(at, _)| *at);
    object.raw(name, |out| {
        out.push(b"[");
        let mut is_first = true;
        for (_, value) in elements {
            let size = if value.is_text() {
                value.text_bytes()
            } else {
                0
            };
            // What is decoded counts as well, as long as it is held.
            out.holding(size, |out| spread(value, &mut is_first, out));
        }
        out.push(b"]");
    });
}

/// Writes an element. It may be the list itself, also as text: the JSON of it.
fn spread(value: Node<'_>, is_first: &mut bool, out: &mut Output) {
    if value.is_list() {
        value.elements(|value| {
            comma(is_first, out);
            written::node(value, out);
        });
    } else if let Some(text) = value.text().filter(|text| text.first() == Some(&b'['))
        && checked(&text).is_ok()
    {
        Node::Json(&text).elements(|value| {
            comma(is_first, out);
            written::node(value, out);
        });
    } else {
        comma(is_first, out);
        written::node(value, out);
    }
}

fn comma(is_first: &mut bool, out: &mut Output) {
    if !std::mem::take(is_first) {
        out.push(b",");
    }
}

/// What of a key is the name of a member of this object.
fn inner<'k>(key: &'k [u8], object: &str) -> Option<&'k [u8]> {
    key.strip_prefix(object.as_bytes())?.strip_prefix(b".")
}

/// The place in this list whose key this is: `list.0`, `list[0]`, `list{}`, or the list itself.
fn element(key: &[u8], list: &[u8]) -> Option<usize> {
    let rest = key.strip_prefix(list)?;
    let digits = match rest {
        [] | [b'{', b'}'] => return Some(0),
        [b'.', digits @ ..] | [b'[', digits @ .., b']'] => digits,
        _ => return None,
    };
    std::str::from_utf8(digits).ok()?.parse().ok()
}
