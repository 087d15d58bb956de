//! The findings of one derived detection, within bounds: by network, by when something is due, and
//! by which gives way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    key::{Cluster, Network, Octets},
    life::{Form, Life, Pace, Stage},
};
use crate::{
    audit::time::Micros,
    detection::{heap, hit::Place, steps},
    finding::{CloseReason, Finding, FindingState, Severity},
};

/// Findings that are gathered or open at a time.
const MOST: usize = 4096;

/// One that gives way before others.
type Rank = ((Stage, u32), Network);

/// A state of a finding that is to be emitted.
#[derive(Clone, Debug)]
pub(in crate::detection) struct Due {
    pub(in crate::detection) network: Network,
    pub(in crate::detection) state: FindingState,
    /// Time and identity of the hit that opened it.
    pub(in crate::detection) opening: Place,
    /// Its severity, if that is not the level of the rule.
    pub(in crate::detection) severity: Option<Severity>,
    /// The same in the state before, if there was one.
    pub(in crate::detection) severity_before: Option<Severity>,
    pub(in crate::detection) evidence: Finding,
}

impl Due {
    fn of(network: &Network, life: &mut Life, how: How, form: Form<'_>) -> Self {
        let How { state, closed, at } = how;
        let severity_before = match life.sent {
            Some(sent) => sent.severity,
            None => life.severity,
        };
        Self {
            network: *network,
            state,
            opening: life.opening,
            severity: life.severity,
            severity_before,
            evidence: life.write(closed, at, (network, form)),
        }
    }
}

/// How a finding is emitted.
#[derive(Clone, Copy)]
struct How {
    state: FindingState,
    closed: Option<CloseReason>,
    /// Time of the cluster.
    at: Micros,
}

#[derive(Clone, Debug)]
struct Listed {
    /// Shared with a snapshot until it changes.
    life: Arc<Life>,
    due: Micros,
    rank: (Stage, u32),
    bytes: usize,
}

/// Findings by network.
#[derive(Clone, Debug, Default)]
pub(in crate::detection) struct Lives {
    all: BTreeMap<Network, Listed>,
    due: BTreeSet<(Cluster, Micros, Network)>,
    ranks: BTreeSet<Rank>,
    bytes: usize,
}

/// What a finding adds to the trees.
const PLACES: usize = heap::entry(size_of::<(Network, Listed)>())
    + heap::entry(size_of::<(Cluster, Micros, Network)>())
    + heap::entry(size_of::<Rank>());

impl Lives {
    pub(in crate::detection) fn heap_bytes(&self) -> usize {
        self.bytes
    }

    pub(in crate::detection) fn get(&self, network: &Network) -> Option<&Life> {
        self.all.get(network).map(|listed| &*listed.life)
    }

    pub(in crate::detection) fn iter(&self) -> impl Iterator<Item = (&Network, &Life)> {
        self.all
            .iter()
            .map(|(network, listed)| (network, &*listed.life))
    }

    /// Whether one of this network is open.
    pub(in crate::detection) fn is_open(&self, network: &Network) -> bool {
        self.get(network).is_some_and(Life::is_open)
    }

    /// The networks inside another one whose findings are open, in order.
    pub(in crate::detection) fn open_in(&self, outer: Network) -> impl Iterator<Item = &Network> {
        let last = Network {
            first: outer.last(),
            bits: u8::MAX,
            ..outer
        };
        let inside = self.all.range(outer..=last);
        inside
            .filter(move |(network, listed)| network.bits > outer.bits && listed.life.is_open())
            .map(|(network, _)| network)
    }

    /// Adds one that is not there; the others stay within their bounds, see [`Self::bound`].
    pub(in crate::detection) fn insert(&mut self, network: Network, life: Life, pace: &Pace) {
        let life = Arc::new(life);
        let listed = Listed {
            due: life.due_at(pace),
            rank: life.rank(),
            bytes: life.heap_bytes() + PLACES,
            life,
        };
        self.remove(&network);
        self.due.insert((network.cluster, listed.due, network));
        self.ranks.insert((listed.rank, network));
        self.bytes += listed.bytes;
        self.all.insert(network, listed);
    }

    /// Adds one as it was. It is looked at with the next that is due, whenever that is.
    pub(in crate::detection) fn restore(&mut self, network: Network, life: Life) {
        const AT_ONCE: Pace = Pace {
            period: i64::MIN,
            quiet: i64::MIN,
            memory: i64::MIN,
            lateness: 0,
        };
        self.insert(network, life, &AT_ONCE);
    }

    /// Changes one, and lists it anew.
    pub(in crate::detection) fn change<T>(
        &mut self,
        network: &Network,
        pace: &Pace,
        change: impl FnOnce(&mut Life) -> T,
    ) -> Option<T> {
        let listed = self.all.get_mut(network)?;
        let result = change(Arc::make_mut(&mut listed.life));
        let (due, rank) = (listed.life.due_at(pace), listed.life.rank());
        // One that is listed too early is looked at when that time has come.
        if due < listed.due {
            self.due.remove(&(network.cluster, listed.due, *network));
            self.due.insert((network.cluster, due, *network));
            listed.due = due;
        }
        if rank != listed.rank {
            self.ranks.remove(&(listed.rank, *network));
            self.ranks.insert((rank, *network));
            listed.rank = rank;
        }
        let bytes = listed.life.heap_bytes() + PLACES;
        self.bytes = (self.bytes + bytes).saturating_sub(listed.bytes);
        listed.bytes = bytes;
        Some(result)
    }

    pub(in crate::detection) fn remove(&mut self, network: &Network) -> Option<Life> {
        let listed = self.all.remove(network)?;
        self.due.remove(&(network.cluster, listed.due, *network));
        self.ranks.remove(&(listed.rank, *network));
        self.bytes = self.bytes.saturating_sub(listed.bytes);
        Some(Arc::unwrap_or_clone(listed.life))
    }

    /// Removes what is over the bounds, the weakest first; states of those that were open.
    pub(in crate::detection) fn bound(&mut self, bytes: usize, form: Form<'_>, out: &mut Vec<Due>) {
        while self.all.len() > MOST || (self.bytes > bytes && self.all.len() > 1) {
            let Some((_, network)) = self.ranks.first().copied() else {
                return;
            };
            self.end(&network, CloseReason::Evicted, form, out);
        }
    }

    /// Removes one; its last state, if it was open.
    fn end(&mut self, network: &Network, reason: CloseReason, form: Form<'_>, out: &mut Vec<Due>) {
        let Some(mut life) = self.remove(network) else {
            return;
        };
        if life.is_open() {
            // One that was never sent is sent whole.
            let state = match life.sent {
                None => FindingState::Opened,
                Some(_) => FindingState::Closed,
            };
            let how = How {
                state,
                closed: (state == FindingState::Closed).then_some(reason),
                at: life.last,
            };
            out.push(Due::of(network, &mut life, how, form));
        }
    }

    /// Removes all of a cluster that is evicted.
    pub(in crate::detection) fn remove_cluster(
        &mut self,
        cluster: Cluster,
        form: Form<'_>,
        out: &mut Vec<Due>,
    ) {
        while let Some(network) = self.first_of(cluster) {
            self.end(&network, CloseReason::Evicted, form, out);
        }
    }

    fn first_of(&self, cluster: Cluster) -> Option<Network> {
        let (network, _) = self.all.range(first_network(cluster)..).next()?;
        Some(*network).filter(|network| network.cluster == cluster)
    }

    /// Emits what is due in a cluster at this time, in at most this many steps; whether that was
    /// all.
    pub(in crate::detection) fn settle(
        &mut self,
        (cluster, now): (Cluster, Micros),
        (pace, form): (&Pace, Form<'_>),
        steps: &mut usize,
        out: &mut Vec<Due>,
    ) -> bool {
        loop {
            let Some((of, at, network)) = self.first_due(cluster) else {
                return true;
            };
            if of != cluster || at > now {
                return true;
            }
            if !steps::take(steps) {
                return false;
            }
            self.settle_one(&network, now, (pace, form), out);
        }
    }

    /// What is due next, of this cluster if anything is.
    fn first_due(&self, cluster: Cluster) -> Option<(Cluster, Micros, Network)> {
        let first = self.due.first()?;
        if first.0 == cluster {
            // As nearly always: there is one cluster.
            return Some(*first);
        }
        let from = (cluster, Micros(i64::MIN), first_network(cluster));
        self.due.range(from..).next().copied()
    }

    fn settle_one(
        &mut self,
        network: &Network,
        now: Micros,
        (pace, form): (&Pace, Form<'_>),
        out: &mut Vec<Due>,
    ) {
        let Some(mut life) = self.remove(network) else {
            return;
        };
        if life.is_over(now, pace) {
            return;
        }
        if let Some(state) = life.advance(now, pace) {
            let how = How {
                state,
                closed: (state == FindingState::Closed).then_some(CloseReason::Quiet),
                at: now,
            };
            out.push(Due::of(network, &mut life, how, form));
            if state == FindingState::Closed {
                life.rest();
            }
        }
        self.insert(*network, life, pace);
    }

    /// Emits what was not emitted yet, and forgets all, in at most this many steps; whether that
    /// was all.
    pub(in crate::detection) fn drain(
        &mut self,
        form: Form<'_>,
        steps: &mut usize,
        out: &mut Vec<Due>,
    ) -> bool {
        while let Some((network, _)) = self.all.first_key_value() {
            let network = *network;
            if !steps::take(steps) {
                return false;
            }
            let Some(mut life) = self.remove(&network) else {
                continue;
            };
            if life.is_open() && life.is_changed {
                let state = match life.sent {
                    None => FindingState::Opened,
                    Some(_) => FindingState::Updated,
                };
                let how = How {
                    state,
                    closed: None,
                    at: life.last,
                };
                out.push(Due::of(&network, &mut life, how, form));
            }
        }
        true
    }
}

fn first_network(cluster: Cluster) -> Network {
    Network {
        cluster,
        first: Octets::default(),
        bits: 0,
    }
}
