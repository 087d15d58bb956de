//! Derived detections: they take the requests that another detection has counted, deduplicated and
//! once each, and judge them by other groups: networks, addresses over days, peers.
//!
//! What they keep is apart from the keys of the detection behind, and within bounds of its own: an
//! eighth of the memory of all state for each. Their findings are emitted as event time comes to
//! them, never by a hit, so the bound of what hits cause has nothing to add for them.
//!
//! They also see the findings of the detection behind ([`State::link`]): those of a network whose
//! addresses share a finding are linked with it, and after the first few only listed in it.

mod bounded;
mod found;
mod held;
mod key;
mod life;
mod linking;
mod lives;
mod members;
mod peers;
mod program;
mod ring;
mod rollup;
mod slow;
mod state;
mod table;
mod waiting;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use self::{
    found::Found,
    held::Held,
    key::{Cluster, Key, Network},
    life::Arrived,
    lives::{Due, Lives},
    peers::Peers,
    program::{LIVES_PART, PART, Program, table},
    rollup::Rollup,
    slow::Slow,
};
pub(super) use program::Setup;

use super::{
    emission::{Draft, Origin},
    event_time::EventTime,
    heap,
    hit::Hit,
    limits::Limits,
    packed::Fields,
    time::Micros,
};
use crate::{finding::Severity, rules::model::Over};

/// A state of a finding of a derived detection.
pub(super) struct Emitted {
    pub(super) detection: usize,
    pub(super) cluster: Arc<str>,
    pub(super) draft: Draft,
    /// Its severity, if that is not the level of the rule.
    pub(super) severity: Option<Severity>,
    /// The severity of the state before, where it has changed.
    pub(super) before: Option<Severity>,
}

/// What derived detections remember.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Numbers of clusters by name.
    numbers: BTreeMap<Arc<str>, Cluster>,
    clusters: BTreeMap<Cluster, ClusterState>,
    next: Cluster,
    /// By the place of the detection in the list of the engine.
    tables: BTreeMap<usize, Tables>,
    /// Entries in all lists of findings of the detections behind.
    found: usize,
    /// Requests that may be the second log of one.
    held: Held,
}

#[derive(Clone, Debug)]
struct ClusterState {
    name: Arc<str>,
    event_time: EventTime,
    /// By the place of the detection that they are of.
    found: BTreeMap<usize, Found>,
}

#[derive(Clone, Debug)]
enum Tables {
    Prefix(Rollup),
    Address(Slow),
    Peer(Peers),
}

impl Tables {
    fn of(over: Over) -> Self {
        match over {
            Over::Prefix { .. } => Self::Prefix(Rollup::default()),
            Over::Address { .. } => Self::Address(Slow::default()),
            Over::Peer { .. } => Self::Peer(Peers::default()),
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Prefix(rollup) => rollup.heap_bytes(),
            Self::Address(slow) => slow.heap_bytes(),
            Self::Peer(peers) => peers.heap_bytes(),
        }
    }

    fn share(&mut self) {
        match self {
            Self::Prefix(rollup) => rollup.sites.share(),
            Self::Address(slow) => slow.addresses.share(),
            // Those are few.
            Self::Peer(_) => {}
        }
    }

    fn lives(&mut self) -> &mut Lives {
        match self {
            Self::Prefix(rollup) => &mut rollup.lives,
            Self::Address(slow) => &mut slow.lives,
            Self::Peer(peers) => &mut peers.lives,
        }
    }
}

impl ClusterState {
    /// The time of the cluster: of its latest hit, and what ticks have added.
    fn now(&self, lateness: i64) -> Micros {
        self.event_time.closing_watermark.plus(lateness)
    }
}

impl State {
    /// Copies made from now on are the same memory, until it changes here.
    pub(super) fn share(&mut self) {
        let clusters = self.clusters.values_mut();
        for found in clusters.flat_map(|cluster| cluster.found.values_mut()) {
            found.0.share();
        }
        for tables in self.tables.values_mut() {
            tables.share();
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        const CLUSTER: usize = heap::entry(size_of::<(Arc<str>, Cluster)>())
            + heap::entry(size_of::<(Cluster, ClusterState)>())
            + heap::tree(1, size_of::<(usize, Found)>())
            + found::LEAST;
        let tables = self.tables.values().map(Tables::heap_bytes);
        self.clusters.len() * CLUSTER
            + tables.sum::<usize>()
            + self.found * found::ENTRY
            + self.held.heap_bytes()
    }

    /// Takes a request that the detection behind has counted.
    pub(super) fn observe(&mut self, setup: &Setup, hit: &Hit, cluster: (&str, &Limits)) {
        self.take(setup, hit, cluster, &|_| true);
    }

    /// Takes a request that is excluded from the detection it would count for: an exclusion does
    /// not hide forged addresses.
    pub(super) fn observe_excluded(&mut self, setup: &Setup, hit: &Hit, cluster: (&str, &Limits)) {
        self.take(setup, hit, cluster, &|program| {
            matches!(program.over, Over::Peer { .. })
        });
    }

    /// Takes a request for those programs that want it.
    fn take(
        &mut self,
        setup: &Setup,
        hit: &Hit,
        (cluster, limits): (&str, &Limits),
        wants: &dyn Fn(&Program) -> bool,
    ) {
        let Some(number) = self.arrive(setup, hit, cluster) else {
            return;
        };
        self.count(setup, hit, (number, limits), wants);
    }

    /// Takes the time of a request; the number of its cluster.
    fn arrive(&mut self, setup: &Setup, hit: &Hit, cluster: &str) -> Option<Cluster> {
        let number = self.number(cluster);
        let state = self.clusters.get_mut(&number)?;
        state.event_time.advance_by_hit(hit.time?, setup.lateness);
        Some(number)
    }

    /// Counts a request whose time was taken.
    fn count(
        &mut self,
        setup: &Setup,
        hit: &Hit,
        (number, limits): (Cluster, &Limits),
        wants: &dyn Fn(&Program) -> bool,
    ) {
        let (Some(time), Some(octets)) = (hit.time, key::read(&hit.key)) else {
            return;
        };
        let Some(state) = self.clusters.get_mut(&number) else {
            return;
        };
        let arrived = Arrived {
            place: (time, hit.identity),
            fields: Fields::of(hit),
            octets,
            cluster: number,
            closing: state.event_time.closing_watermark,
            limits,
        };
        let source = hit.detection as usize;
        let found = state.found.entry(source).or_default();
        let name = Arc::clone(&state.name);
        let key = Key {
            cluster: number,
            octets,
        };
        let is_found = found.get(&key).is_some();
        for program in setup.of_source(source).filter(|program| wants(program)) {
            let tables = self
                .tables
                .entry(program.detection)
                .or_insert_with(|| Tables::of(program.over));
            let id = |network: &Network| program.id(&name, network, &arrived);
            match (tables, program.over) {
                // No client has an address of the form that members of a system have.
                (Tables::Prefix(rollup), Over::Prefix { requests })
                    if key::system(octets).is_none() =>
                {
                    let needs = program.rollup(requests, limits);
                    rollup.observe(&arrived, &needs, found, id);
                    if let Some(octets) = setup.in_system(octets) {
                        let member = Arrived { octets, ..arrived };
                        rollup.observe(&member, &needs, found, id);
                    }
                }
                (
                    Tables::Address(slow),
                    Over::Address {
                        or_requests, hours, ..
                    },
                ) if !is_found => {
                    slow.observe(&arrived, &program.slow((or_requests, hours), limits), id);
                }
                (Tables::Peer(peers), Over::Peer { requests }) => {
                    if let Some(peer) = peers::peer_of(&arrived) {
                        peers.observe(&arrived, peer, (&program.peers(requests), found), id);
                    }
                }
                _ => {}
            }
        }
    }

    /// The number of a cluster, a new one if it is not known.
    fn number(&mut self, name: &str) -> Cluster {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let (name, number): (Arc<str>, _) = (Arc::from(name), self.next);
        self.next = self.next.wrapping_add(1);
        self.numbers.insert(Arc::clone(&name), number);
        let state = ClusterState {
            name,
            event_time: EventTime::default(),
            found: BTreeMap::new(),
        };
        self.clusters.insert(number, state);
        number
    }

    /// Takes the passing of time.
    pub(super) fn advance(&mut self, elapsed: Duration) {
        let elapsed = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        for cluster in self.clusters.values_mut() {
            cluster.event_time.advance_by_tick(elapsed);
        }
    }

    /// Emits what is due in a cluster, whose next hit has this time, or in all, in at most this many
    /// steps; whether that was all.
    pub(super) fn settle(
        &mut self,
        (setup, limits): (&Setup, &Limits),
        hit: Option<(&str, Micros)>,
        steps: &mut usize,
        out: &mut Vec<Emitted>,
    ) -> bool {
        let mut all = Vec::new();
        if hit.is_none() {
            self.sweep(setup, limits);
        }
        self.bound(setup, limits, &mut all);
        let only = hit.map(|(name, time)| {
            let number = self.numbers.get(name).copied()?;
            let state = self.clusters.get_mut(&number)?;
            state.event_time.advance_by_hit(time, setup.lateness);
            Some(number)
        });
        let only_cluster = only.map(Option::unwrap_or_default);
        let mut is_all = self.release_due((setup, limits), only_cluster, steps);
        for program in &setup.programs {
            let Some(tables) = self.tables.get_mut(&program.detection) else {
                continue;
            };
            let lives = tables.lives();
            let mut due = Vec::new();
            let mut settle = |number: Cluster, state: &ClusterState| {
                let now = state.now(setup.lateness);
                let how = (&program.pace, program.form());
                lives.settle((number, now), how, steps, &mut due)
            };
            is_all &= match only {
                Some(number) => {
                    let state =
                        number.and_then(|number| Some((number, self.clusters.get(&number)?)));
                    state.is_none_or(|(number, state)| settle(number, state))
                }
                None => self
                    .clusters
                    .iter()
                    .all(|(number, state)| settle(*number, state)),
            };
            all.extend(due.into_iter().map(|due| (program.detection, due)));
        }
        self.emit(setup, all, out);
        is_all
    }

    /// Removes a little of what is over.
    fn sweep(&mut self, setup: &Setup, limits: &Limits) {
        for program in &setup.programs {
            let clusters = &self.clusters;
            let now = |number| Some(clusters.get(&number)?.now(setup.lateness));
            let bounds = table(limits);
            match self.tables.get_mut(&program.detection) {
                Some(Tables::Prefix(rollup)) => rollup.sweep(&program.slots, bounds, now),
                Some(Tables::Address(slow)) => slow.sweep(bounds, now),
                Some(Tables::Peer(_)) | None => {}
            }
        }
    }

    /// Removes findings that are over the bounds.
    fn bound(&mut self, setup: &Setup, limits: &Limits, out: &mut Vec<(usize, Due)>) {
        let bytes = limits.memory / PART / LIVES_PART;
        for program in &setup.programs {
            if let Some(tables) = self.tables.get_mut(&program.detection) {
                let mut due = Vec::new();
                tables.lives().bound(bytes, program.form(), &mut due);
                out.extend(due.into_iter().map(|due| (program.detection, due)));
            }
        }
    }

    fn emit(&self, setup: &Setup, all: Vec<(usize, Due)>, out: &mut Vec<Emitted>) {
        for (detection, due) in all {
            let program = setup.programs.iter().find(|one| one.detection == detection);
            let cluster = self.clusters.get(&due.network.cluster);
            if let (Some(program), Some(cluster)) = (program, cluster) {
                out.push(emitted(program, &cluster.name, due));
            }
        }
    }

    /// Emits what was not emitted yet, because the process ends, and forgets all.
    pub(super) fn drain(
        &mut self,
        setup: &Setup,
        steps: &mut usize,
        out: &mut Vec<Emitted>,
    ) -> bool {
        let (mut is_all, mut all) = (true, Vec::new());
        for program in &setup.programs {
            let Some(tables) = self.tables.get_mut(&program.detection) else {
                continue;
            };
            let mut due = Vec::new();
            is_all &= tables.lives().drain(program.form(), steps, &mut due);
            all.extend(due.into_iter().map(|due| (program.detection, due)));
        }
        self.emit(setup, all, out);
        if is_all {
            *self = Self {
                next: self.next,
                ..Self::default()
            };
        }
        is_all
    }

    /// Gives the detections the places that are listed for them, and leaves out others.
    pub(super) fn move_detections(&mut self, places: &[Option<usize>]) {
        let place = |at: usize| places.get(at).copied().flatten();
        self.held.move_detections(place);
        let tables = std::mem::take(&mut self.tables).into_iter();
        self.tables = tables
            .filter_map(|(at, tables)| Some((place(at)?, tables)))
            .collect();
        for cluster in self.clusters.values_mut() {
            let found = std::mem::take(&mut cluster.found).into_iter();
            cluster.found = found
                .filter_map(|(at, found)| Some((place(at)?, found)))
                .collect();
        }
        let found = self
            .clusters
            .values()
            .flat_map(|cluster| cluster.found.values());
        self.found = found.map(|found| found.0.len()).sum();
    }

    /// Forgets a cluster; what its open findings are last.
    pub(super) fn remove_cluster(&mut self, setup: &Setup, name: &str, out: &mut Vec<Emitted>) {
        let Some(number) = self.numbers.remove(name) else {
            return;
        };
        self.held.remove_cluster(number);
        let mut all = Vec::new();
        for program in &setup.programs {
            let Some(tables) = self.tables.get_mut(&program.detection) else {
                continue;
            };
            let mut due = Vec::new();
            tables
                .lives()
                .remove_cluster(number, program.form(), &mut due);
            if let Tables::Peer(peers) = tables {
                peers.remove_cluster(number);
            }
            all.extend(due.into_iter().map(|due| (program.detection, due)));
        }
        self.emit(setup, all, out);
        if let Some(cluster) = self.clusters.remove(&number) {
            let found = cluster.found.values().map(|found| found.0.len());
            self.found = self.found.saturating_sub(found.sum());
        }
    }
}

fn emitted(program: &Program, cluster: &Arc<str>, due: Due) -> Emitted {
    let mut evidence = due.evidence;
    let (name, value_field) = match program.over {
        Over::Prefix { .. } | Over::Peer { .. } => (program.name(&due.network), "source.address"),
        Over::Address { .. } => (program.name(&due.network), "requestURI"),
    };
    value_field.clone_into(&mut evidence.value_field);
    if let Over::Address { .. } = program.over {
        evidence.estimated.push("paths".to_owned());
        evidence
            .distinct
            .insert("paths".to_owned(), evidence.value_count);
    }
    let level = program.rule.annotations.level.parse().ok();
    let has_changed = due.severity_before != due.severity;
    let before = has_changed.then(|| due.severity_before.or(level));
    Emitted {
        detection: program.detection,
        cluster: Arc::clone(cluster),
        draft: Draft {
            state: due.state,
            origin: Origin::Session {
                key: Arc::from(name),
                opening: due.opening,
                alert_at: due.opening.0,
                continues: None,
            },
            evidence,
        },
        severity: due.severity,
        before: before.flatten(),
    }
}
