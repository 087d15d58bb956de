//! What was forgotten, in the state: what evictions may have lost, and up to when hits may be missing.

use super::super::{
    eviction::Floor,
    late::Horizons,
    time::Micros,
    wire::{StateError, micros, time},
};
use crate::proto::state as proto;

pub(super) fn floor_state(floor: Floor) -> proto::Floor {
    proto::Floor {
        since: time(floor.since),
        young: floor.young,
        old: floor.old,
    }
}

pub(super) fn read_floor(floor: Option<proto::Floor>) -> Floor {
    floor.map_or(Floor::default(), |floor| Floor {
        since: micros(floor.since),
        young: floor.young,
        old: floor.old,
    })
}

pub(super) fn horizons_state(horizons: &Horizons) -> Vec<proto::Horizon> {
    let horizons = horizons.parts().map(|(part, until)| proto::Horizon {
        part: part.into(),
        until: until.0,
    });
    horizons.collect()
}

pub(super) fn read_horizons(state: Vec<proto::Horizon>) -> Result<Horizons, StateError> {
    let mut horizons = Horizons::default();
    for horizon in state {
        let part = u16::try_from(horizon.part).map_err(|_| StateError::Invalid("horizon"))?;
        horizons.raise_part(part, Micros(horizon.until));
    }
    Ok(horizons)
}
