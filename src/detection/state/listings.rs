//! Where keys are listed, in the state: their places in the orders of a key table.

use super::super::{
    key_table::{Inherited, Listed, level},
    time::Micros,
    wire::{StateError, time},
};
use crate::proto::state as proto;

pub(super) fn listing(listed: Listed, inherited: Inherited) -> proto::Listing {
    proto::Listing {
        closing: listed.due.and_then(time),
        arrival: listed.arrival,
        level: listed.level.into(),
        place: listed.place,
        error: inherited.error,
        minute: inherited.minute,
        ..proto::Listing::default()
    }
}

/// Where a key was listed. State without places has the keys in the order of their expiry and of
/// their eviction; `later` is the greatest time of one of them.
pub(super) fn read_listing(
    listing: Option<proto::Listing>,
) -> Result<(Listed, Inherited), StateError> {
    let listing = listing.ok_or(StateError::Invalid("listing"))?;
    let order = |time: Option<i64>| time.map_or(0, |time| time.cast_unsigned() ^ (1 << 63));
    let listed = if listing.arrival == 0 {
        Listed {
            level: level(listing.hits),
            due: listing.closing.map(Micros),
            arrival: order(listing.expiry),
            place: order(listing.last),
        }
    } else {
        Listed {
            level: u8::try_from(listing.level).map_err(|_| StateError::Invalid("level"))?,
            due: listing.closing.map(Micros),
            arrival: listing.arrival,
            place: listing.place,
        }
    };
    let inherited = Inherited {
        error: listing.error,
        minute: listing.minute,
    };
    Ok((listed, inherited))
}
