//! What is known of the feeds, as messages: `proto/auditwatch/v1/coverage.proto`.

use std::sync::Arc;

use super::{
    super::{
        activity::Delays,
        time::Micros,
        wire::{StateError, micros, time},
    },
    Coverage, Names,
    cluster::{Cluster, Spot},
    flood::{Counted, Flood, Network},
    refusals::Refusals,
    ring::{PARTS, Ring},
};
use crate::proto::coverage as proto;

impl Coverage {
    /// As a message; `None` when there is nothing.
    pub(in super::super) fn to_state(&self) -> Option<proto::CoverageState> {
        let Self {
            clusters,
            cursor: _,
            names,
            is_due,
        } = self;
        let Names {
            recent,
            all,
            last,
            open,
            opened,
            time: greatest,
        } = names;
        if clusters.is_empty() && *names == Names::default() {
            return None;
        }
        let last = last
            .iter()
            .map(|(cluster, events)| proto::DisplacedCluster {
                cluster: cluster.as_ref().to_owned(),
                events: *events,
            });
        Some(proto::CoverageState {
            clusters: clusters.iter().map(|cluster| feed(cluster)).collect(),
            displaced: values(recent),
            displaced_elapsed: recent.elapsed,
            displaced_all: *all,
            last_displaced: last.collect(),
            names_open: open.as_ref().map(spot),
            names_opened: *opened,
            time: greatest.map(|time| time.0),
            is_due: *is_due,
        })
    }

    /// Reads it again.
    pub(in super::super) fn from_state(
        state: Option<proto::CoverageState>,
    ) -> Result<Self, StateError> {
        let state = state.unwrap_or_default();
        let mut clusters = Vec::with_capacity(state.clusters.len());
        for cluster in state.clusters {
            clusters.push(Box::new(read_feed(cluster)?));
        }
        if !clusters.is_sorted_by(|one, next| one.name < next.name) {
            return Err(StateError::Invalid("the order of clusters"));
        }
        let last = state.last_displaced.into_iter();
        let last = last.map(|one| (Arc::from(one.cluster), one.events));
        Ok(Self {
            clusters,
            cursor: 0,
            names: Names {
                recent: ring(&state.displaced, state.displaced_elapsed)?,
                all: state.displaced_all,
                last: last.collect(),
                open: state.names_open.as_ref().map(read_spot).transpose()?,
                opened: state.names_opened,
                time: state.time.map(Micros),
            },
            is_due: state.is_due,
        })
    }
}

fn feed(cluster: &Cluster) -> proto::ClusterFeed {
    let Cluster {
        name,
        events,
        last,
        silent,
        silences,
        longest,
        aged,
        refusals,
        cuts,
        truncated,
        cut_bytes,
        times,
        off,
        delays,
        askew,
        straight,
        flood,
        open,
        opened,
    } = cluster;
    proto::ClusterFeed {
        cluster: name.as_ref().to_owned(),
        events: *events,
        last: time(*last),
        silent: *silent,
        silences: *silences,
        longest: *longest,
        aged: *aged,
        unauthorized: refusals.unauthorized.clone(),
        unauthorized_all: refusals.all,
        first_unauthorized: (refusals.all > 0).then_some(refusals.first.0),
        last_unauthorized: time(refusals.last),
        last_forbidden: time(refusals.forbidden),
        cuts: values(cuts),
        cuts_elapsed: cuts.elapsed,
        truncated: *truncated,
        cut_bytes: *cut_bytes,
        times: values(times),
        times_elapsed: times.elapsed,
        off: *off,
        delays: delays.to_vec(),
        askew: *askew,
        straight: *straight,
        flood: flood.as_deref().map(flood_state),
        open: open.iter().map(spot).collect(),
        opened: *opened,
    }
}

fn read_feed(state: proto::ClusterFeed) -> Result<Cluster, StateError> {
    let delays: [u64; Delays::BUCKETS] = state
        .delays
        .try_into()
        .map_err(|_| StateError::Invalid("delays"))?;
    let open = state.open.iter().map(read_spot);
    let mut open = open.collect::<Result<Vec<_>, _>>()?;
    open.sort_by_key(|spot| spot.kind);
    open.dedup_by_key(|spot| spot.kind);
    Ok(Cluster {
        name: Arc::from(state.cluster),
        events: state.events,
        last: micros(state.last),
        silent: state.silent,
        silences: state.silences,
        longest: state.longest,
        aged: state.aged,
        refusals: Refusals {
            unauthorized: state.unauthorized,
            all: state.unauthorized_all,
            first: Micros(state.first_unauthorized.unwrap_or(i64::MAX)),
            last: micros(state.last_unauthorized),
            forbidden: micros(state.last_forbidden),
        },
        cuts: ring(&state.cuts, state.cuts_elapsed)?,
        truncated: state.truncated,
        cut_bytes: state.cut_bytes,
        times: ring(&state.times, state.times_elapsed)?,
        off: state.off,
        delays,
        askew: state.askew,
        straight: state.straight,
        flood: state.flood.map(read_flood).transpose()?.map(Box::new),
        open,
        opened: state.opened,
    })
}

fn flood_state(flood: &Flood) -> proto::FloodState {
    let Flood {
        recent,
        all,
        peak,
        hits,
        networks,
        calm,
    } = flood;
    let networks = networks.iter().map(|one| proto::FloodNetwork {
        network: one.network.to_bytes(),
        count: one.count,
        error: one.error,
    });
    proto::FloodState {
        recent: values(recent),
        recent_elapsed: recent.elapsed,
        all: *all,
        peak: *peak,
        hits: *hits,
        networks: networks.collect(),
        calm: *calm,
    }
}

fn read_flood(state: proto::FloodState) -> Result<Flood, StateError> {
    let networks = state.networks.into_iter().map(|one| {
        let network = Network::from_bytes(&one.network);
        Ok(Counted {
            network: network.ok_or(StateError::Invalid("a network"))?,
            count: one.count,
            error: one.error.min(one.count),
        })
    });
    Ok(Flood {
        recent: ring(&state.recent, state.recent_elapsed)?,
        all: state.all,
        peak: state.peak,
        hits: state.hits,
        networks: networks.collect::<Result<_, StateError>>()?,
        calm: state.calm,
    })
}

fn spot(spot: &Spot) -> proto::SpotState {
    let Spot {
        kind,
        opening,
        number,
        base,
        count,
        sent,
        since_sent,
    } = spot;
    proto::SpotState {
        kind: kind.as_str().to_owned(),
        opening: time(*opening),
        number: *number,
        base: *base,
        count: *count,
        sent: *sent,
        since_sent: *since_sent,
    }
}

fn read_spot(state: &proto::SpotState) -> Result<Spot, StateError> {
    let kind = state.kind.parse();
    Ok(Spot {
        kind: kind.map_err(|_| StateError::Invalid("a blind spot"))?,
        opening: micros(state.opening),
        number: state.number,
        base: state.base,
        count: state.count,
        sent: state.sent,
        since_sent: state.since_sent,
    })
}

fn values<const N: usize>(ring: &Ring<N>) -> Vec<u64> {
    if ring.is_empty() {
        return Vec::new();
    }
    ring.parts.iter().flatten().copied().collect()
}

fn ring<const N: usize>(values: &[u64], elapsed: i64) -> Result<Ring<N>, StateError> {
    let mut ring = Ring {
        elapsed,
        ..Ring::default()
    };
    if values.is_empty() {
        return Ok(ring);
    }
    if values.len() != N * PARTS {
        return Err(StateError::Invalid("a ring"));
    }
    let mut values = values.iter();
    for count in ring.parts.iter_mut().flatten() {
        *count = values.next().copied().unwrap_or_default();
    }
    Ok(ring)
}
