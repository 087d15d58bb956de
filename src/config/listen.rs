//! The address that a server listens on.

use super::{
    forms::{Own, plain},
    read::Section,
};
use crate::endpoint::Endpoint;

/// An address to listen on.
pub(crate) const LISTEN: Own<String> = Own {
    form: "host:port",
    read: |section, _| listen(section),
    text: |endpoint| plain(endpoint),
};

/// A host to listen on, whose port is a key of its own.
pub(crate) const LISTEN_HOST: Own<String> = Own {
    form: "host",
    read: |section, key| {
        let value = section.value(key)?;
        value.filled()?;
        if let Err(why) = Endpoint::of(&value.text, 0) {
            value.expected(why.0);
            return None;
        }
        Some(value.text)
    },
    text: |host| plain(host),
};

/// The address to listen on, if it is written and has the form of one.
fn listen(section: &Section<'_>) -> Option<String> {
    let value = section.value("endpoint")?;
    if let Err(why) = Endpoint::to_listen(&value.text) {
        value.expected(why.0);
        return None;
    }
    Some(value.text)
}
