//! Parts that all messages of `proto/auditwatch/v1/state.proto` are made of, and why one cannot be
//! read.

use super::{
    hit::{Identity, Place},
    time::{BEGINNING, Micros},
};
use crate::proto::state as proto;

/// The major version of the messages that are written, and the greatest that is read.
pub(super) const VERSION: u32 = 1;

/// Why the state of an engine cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StateError {
    /// The bytes are no message of the schema.
    #[error("the state is damaged, start without it: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A later version wrote it.
    #[error(
        "the state has version {found}, this program reads up to {VERSION}: use the later version, \
         or start without the state"
    )]
    Newer {
        /// Its version.
        found: u32,
    },
    /// Something in it cannot be.
    #[error("the state is damaged, start without it: {0} is wrong")]
    Invalid(&'static str),
}

impl StateError {
    /// Whether the bytes are damaged, and not of a later version.
    pub fn is_damage(&self) -> bool {
        !matches!(self, Self::Newer { .. })
    }
}

/// Refuses a major version that is not known.
pub(super) fn check(version: u32) -> Result<(), StateError> {
    match version {
        0 => Err(StateError::Invalid("version")),
        1..=VERSION => Ok(()),
        found => Err(StateError::Newer { found }),
    }
}

/// A time as it is written: none before all others.
pub(super) fn time(time: Micros) -> Option<i64> {
    (time != BEGINNING).then_some(time.0)
}

/// A time as it was written.
pub(super) fn micros(time: Option<i64>) -> Micros {
    time.map_or(BEGINNING, Micros)
}

/// The place of a hit as it is written.
#[expect(
    clippy::unnecessary_wraps,
    reason = "fields that are messages are optional"
)]
pub(super) fn place((at, Identity(identity)): Place) -> Option<proto::Place> {
    Some(proto::Place {
        time: time(at),
        identity: identity.to_vec(),
    })
}

/// The place of a hit as it was written.
pub(super) fn read_place(place: Option<proto::Place>) -> Result<Place, StateError> {
    let place = place.ok_or(StateError::Invalid("place"))?;
    let identity = <[u8; 16]>::try_from(place.identity.as_slice());
    let identity = identity.map_err(|_| StateError::Invalid("identity"))?;
    Ok((micros(place.time), Identity(identity)))
}
