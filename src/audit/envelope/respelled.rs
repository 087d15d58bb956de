//! An event whose keys are spelled in another case, such as `RequestURI`: what encoders write that
//! know the fields and not their JSON names.

use super::{
    node::Node,
    written::{self, Object},
};

/// The members of an event, and of the objects in it that rules name.
const MEMBERS: [&str; 19] = [
    "kind",
    "apiVersion",
    "level",
    "auditID",
    "stage",
    "requestURI",
    "verb",
    "user",
    "impersonatedUser",
    "sourceIPs",
    "userAgent",
    "objectRef",
    "responseStatus",
    "requestObject",
    "responseObject",
    "requestReceivedTimestamp",
    "stageTimestamp",
    "annotations",
    "metadata",
];
const USER: [&str; 4] = ["username", "uid", "groups", "extra"];
const OBJECT: [&str; 8] = [
    "resource",
    "namespace",
    "name",
    "uid",
    "apiGroup",
    "apiVersion",
    "resourceVersion",
    "subresource",
];
const STATUS: [&str; 6] = ["metadata", "status", "message", "reason", "details", "code"];

/// The same event with the names of audit.k8s.io/v1, if it has at most this many bytes.
pub(super) fn event(node: Node<'_>, most: usize) -> Option<Vec<u8>> {
    written::object(most, |event| {
        node.members(|key, value| match named(key, &MEMBERS) {
            Some(name @ ("user" | "impersonatedUser")) => object(event, name, value, &USER),
            Some(name @ "objectRef") => object(event, name, value, &OBJECT),
            Some(name @ "responseStatus") => object(event, name, value, &STATUS),
            Some(name) => event.node(name.as_bytes(), value),
            None => event.node(key, value),
        });
    })
}

fn object(event: &mut Object<'_>, name: &str, value: Node<'_>, members: &[&'static str]) {
    if !value.is_object() {
        event.node(name.as_bytes(), value);
        return;
    }
    event.object(name, |object| {
        value.members(|key, value| match named(key, members) {
            Some(name) => object.node(name.as_bytes(), value),
            None => object.node(key, value),
        });
    });
}

fn named(key: &[u8], names: &[&'static str]) -> Option<&'static str> {
    let mut names = names.iter().copied();
    names.find(|name| key.eq_ignore_ascii_case(name.as_bytes()))
}
