//! What was forgotten, in the state: evictions, and up to when hits may be missing.

use super::super::{
    evicted::{EvictionCount, Network},
    eviction::Floor,
    late::Horizons,
    time::Micros,
    wire::{StateError, micros, time},
};
use crate::proto::state as proto;

pub(super) fn evicted_networks(evicted: &EvictionCount) -> Vec<proto::EvictedNetwork> {
    let networks = evicted.networks.iter().map(|(network, keys)| {
        let network = match network {
            Network::V4(bytes) => bytes.to_vec(),
            Network::V6(bytes) => bytes.to_vec(),
        };
        proto::EvictedNetwork {
            network,
            keys: *keys,
        }
    });
    networks.collect()
}

pub(super) fn read_evictions(
    keys: u64,
    bound: u64,
    networks: Vec<proto::EvictedNetwork>,
) -> Result<EvictionCount, StateError> {
    let networks = networks.into_iter().map(|one| {
        let bytes = one.network.as_slice();
        let network = match (bytes.try_into(), bytes.try_into()) {
            (Ok(bytes), _) => Network::V4(bytes),
            (_, Ok(bytes)) => Network::V6(bytes),
            _ => return Err(StateError::Invalid("network")),
        };
        Ok((network, one.keys))
    });
    Ok(EvictionCount {
        keys,
        bound,
        networks: networks.collect::<Result<_, _>>()?,
    })
}

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
