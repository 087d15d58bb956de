//! The places of a server's connections: how many there are, how many one address may have, and
//! which connection gives way to a new one.
//!
//! A connection that has proved nothing gives way to any newcomer, the one whose address has the
//! most of them first, and of those the one that has waited longest. Only if there is none does an
//! idle connection that has had a complete request give way, and never one that is authenticated
//! or whose request is being answered. So a flood of silent connections displaces itself, not the
//! senders, and a newcomer that sends its request at once gets in beside it.

#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    address::address_key,
    closed::{Class, CloseReason, Connections},
};
use crate::clock::{self, Instant};

/// How many connections there may be, and how long each stage is left alone.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    /// Connections at a time.
    pub(super) connections: usize,
    /// The same for one address.
    pub(super) per_address: usize,
    /// How long a stage lasts before it gives way to an address that has as many connections.
    pub(super) spare: Spare,
}

/// How long connections are spared, by their stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spare {
    /// Without the headers of a request: the time of some round trips.
    pub silent: Duration,
    /// With the headers of a first request, while its body comes in.
    pub first: Duration,
    /// Idle after a complete request without authentication.
    pub idle: Duration,
    /// While the body of a later request comes in, without authentication.
    pub again: Duration,
}

impl Default for Spare {
    fn default() -> Self {
        Self {
            silent: Duration::from_millis(500),
            first: Duration::from_secs(2),
            idle: Duration::from_secs(5),
            again: Duration::from_secs(10),
        }
    }
}

impl Spare {
    /// Every newcomer has its place at once.
    pub const NONE: Self = Self {
        silent: Duration::ZERO,
        first: Duration::ZERO,
        idle: Duration::ZERO,
        again: Duration::ZERO,
    };

    fn of(self, stage: Stage) -> Duration {
        match stage {
            Stage::Silent => self.silent,
            Stage::First => self.first,
            Stage::Idle => self.idle,
            Stage::Again => self.again,
        }
    }
}

/// What a connection that can give way is doing. The order is the one in which they give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It has no request under way, and has had no complete one.
    Silent,
    /// Its first request is coming in.
    First,
    /// It has had a complete request, and has none under way.
    Idle,
    /// A later request is coming in.
    Again,
}

impl Stage {
    fn group(self) -> usize {
        usize::from(self >= Self::Idle)
    }
}

/// Unfinished connections, and those that have had a complete request.
const GROUPS: usize = 2;

/// A connection that can give way: its stage, since when, its number.
type Candidate = (Stage, Instant, u64);
/// The candidates of an address: how many, the first of them, the address.
type Crowd = (Reverse<usize>, Candidate, IpAddr);

#[derive(Debug, Default)]
struct Table {
    open: BTreeMap<u64, Entry>,
    addresses: BTreeMap<IpAddr, Address>,
    /// Addresses with candidates, the one with the most of them first.
    crowds: [BTreeSet<Crowd>; GROUPS],
    /// All candidates, in the order in which they give way.
    candidates: [BTreeSet<Candidate>; GROUPS],
    next: u64,
}

#[derive(Debug)]
struct Entry {
    /// As [`address_key`] has it.
    address: IpAddr,
    peer: IpAddr,
    class: Class,
    stage: Option<(Stage, Instant)>,
    gave_way: CancellationToken,
}

#[derive(Debug, Default)]
struct Address {
    open: usize,
    candidates: [BTreeSet<Candidate>; GROUPS],
}

/// Whether a newcomer has a place.
#[derive(Debug)]
pub(super) enum Placed {
    /// It has.
    Yes(Slot),
    /// Its address has too many connections, it is to be closed.
    Refused,
    /// All places are taken and no connection gives way now.
    Full,
}

/// The places of one server.
#[derive(Debug)]
pub(super) struct Slots {
    bounds: Bounds,
    table: Mutex<Table>,
    connections: Arc<Connections>,
    /// A place has become free, or a connection may give way now.
    pub(super) changed: Notify,
}

impl Slots {
    pub(super) fn new(bounds: Bounds, connections: Arc<Connections>) -> Self {
        Self {
            bounds,
            table: Mutex::default(),
            connections,
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a new connection a place, if need be that of another one.
    pub(super) fn place(self: &Arc<Self>, peer: IpAddr) -> Placed {
        self.place_within(peer, self.bounds.connections)
    }

    /// The same for the connection that waits when no more are taken: one more than there may be.
    pub(super) fn place_last(self: &Arc<Self>, peer: IpAddr) -> Placed {
        self.place_within(peer, self.bounds.connections.saturating_add(1))
    }

    fn place_within(self: &Arc<Self>, peer: IpAddr, most: usize) -> Placed {
        let address = address_key(peer);
        let now = clock::monotonic();
        let mut table = self.lock();
        let own = table.addresses.get(&address).map_or(0, |own| own.open);
        let Bounds {
            connections,
            per_address,
            ..
        } = self.bounds;
        let (victim, reason) = if own >= per_address && per_address < connections {
            // Connections of one address displace each other, not those of others.
            let Some(victim) = self.own_victim(&table, address, now) else {
                drop(table);
                self.connections
                    .close(CloseReason::PerAddress, Class::Unfinished, peer);
                return Placed::Refused;
            };
            (Some(victim), CloseReason::PerAddress)
        } else if table.open.len() >= most {
            let Some(victim) = self.victim(&table, own, now) else {
                return Placed::Full;
            };
            (Some(victim), CloseReason::GaveWay)
        } else {
            (None, CloseReason::GaveWay)
        };
        let displaced = victim.and_then(|victim| table.remove(victim));
        let id = table.next;
        table.next += 1;
        let gave_way = CancellationToken::new();
        table.insert(
            id,
            Entry {
                address,
                peer,
                class: Class::Unfinished,
                stage: Some((Stage::Silent, now)),
                gave_way: gave_way.clone(),
            },
        );
        drop(table);
        self.connections.opened(Class::Unfinished);
        self.displaced(displaced, reason);
        Placed::Yes(Slot {
            place: Place {
                slots: Arc::clone(self),
                id,
                peer,
            },
            gave_way,
        })
    }

    /// Ends the connection that has proved least, because there is no file descriptor or no memory
    /// for it.
    pub(super) fn shed(&self, reason: CloseReason) {
        let now = clock::monotonic();
        let mut table = self.lock();
        let victim = self.victim(&table, 0, now);
        let displaced = victim.and_then(|victim| table.remove(victim));
        drop(table);
        self.displaced(displaced, reason);
    }

    /// Ends a connection that has lost its place.
    fn displaced(&self, entry: Option<Entry>, reason: CloseReason) {
        if let Some(entry) = entry {
            entry.gave_way.cancel();
            self.connections.left(entry.class);
            self.connections.close(reason, entry.class, entry.peer);
        }
    }

    /// The connection that gives way to a new one, whose address has `own` others.
    fn victim(&self, table: &Table, own: usize, now: Instant) -> Option<u64> {
        for (crowds, candidates) in table.crowds.iter().zip(&table.candidates) {
            if let Some((_, candidate, address)) = crowds.first() {
                let open = table.addresses.get(address).map_or(0, |other| other.open);
                let fairer = match candidate.0 {
                    Stage::Silent => own <= open,
                    _ => own < open,
                };
                if fairer || self.had_its_time(candidate, now) {
                    return Some(candidate.2);
                }
            }
            if let Some(candidate) = candidates.first()
                && self.had_its_time(candidate, now)
            {
                return Some(candidate.2);
            }
        }
        None
    }

    /// The connection of an address that gives way to another one of it.
    fn own_victim(&self, table: &Table, address: IpAddr, now: Instant) -> Option<u64> {
        let own = table.addresses.get(&address)?;
        own.candidates
            .iter()
            .filter_map(BTreeSet::first)
            .find(|candidate| candidate.0 == Stage::Silent || self.had_its_time(candidate, now))
            .map(|candidate| candidate.2)
    }

    fn had_its_time(&self, &(stage, since, _): &Candidate, now: Instant) -> bool {
        now.saturating_duration_since(since) >= self.bounds.spare.of(stage)
    }
}

impl Table {
    fn insert(&mut self, id: u64, entry: Entry) {
        let (address, stage) = (entry.address, entry.stage);
        self.open.insert(id, entry);
        self.addresses.entry(address).or_default().open += 1;
        self.set_candidate(address, id, None, stage);
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.open.remove(&id)?;
        self.set_candidate(entry.address, id, entry.stage, None);
        if let Some(address) = self.addresses.get_mut(&entry.address) {
            address.open -= 1;
            if address.open == 0 {
                self.addresses.remove(&entry.address);
            }
        }
        Some(entry)
    }

    /// Moves a connection among the candidates.
    fn set_candidate(
        &mut self,
        address: IpAddr,
        id: u64,
        before: Option<(Stage, Instant)>,
        after: Option<(Stage, Instant)>,
    ) {
        let Some(own) = self.addresses.get_mut(&address) else {
            return;
        };
        for (group, ((crowds, all), own)) in self
            .crowds
            .iter_mut()
            .zip(&mut self.candidates)
            .zip(&mut own.candidates)
            .enumerate()
        {
            let here = |at: Option<(Stage, Instant)>| {
                at.filter(|(stage, _)| stage.group() == group)
                    .map(|(stage, since)| (stage, since, id))
            };
            let (before, after) = (here(before), here(after));
            if before == after {
                continue;
            }
            let crowd = |own: &BTreeSet<Candidate>| {
                own.first()
                    .map(|first| (Reverse(own.len()), *first, address))
            };
            if let Some(crowd) = crowd(own) {
                crowds.remove(&crowd);
            }
            if let Some(before) = before {
                own.remove(&before);
                all.remove(&before);
            }
            if let Some(after) = after {
                own.insert(after);
                all.insert(after);
            }
            if let Some(crowd) = crowd(own) {
                crowds.insert(crowd);
            }
        }
    }
}

/// The place of one connection, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    place: Place,
    gave_way: CancellationToken,
}

impl Slot {
    /// Cancelled when the connection has to give way.
    pub(super) fn gave_way(&self) -> &CancellationToken {
        &self.gave_way
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Place { slots, id, .. } = &self.place;
        let entry = slots.lock().remove(*id);
        if let Some(entry) = entry {
            slots.connections.left(entry.class);
        }
        slots.changed.notify_one();
    }
}

/// Which place a connection has, or had.
#[derive(Clone, Debug)]
pub(super) struct Place {
    slots: Arc<Slots>,
    id: u64,
    peer: IpAddr,
}

impl Place {
    /// What the connection has proved, and its stage if it can give way.
    pub(super) fn set(&self, class: Class, stage: Option<(Stage, Instant)>) {
        let mut table = self.slots.lock();
        let Some(entry) = table.open.get_mut(&self.id) else {
            return;
        };
        if class != entry.class {
            self.slots.connections.left(entry.class);
            self.slots.connections.opened(class);
            entry.class = class;
        }
        let (address, before) = (entry.address, entry.stage);
        entry.stage = stage;
        table.set_candidate(address, self.id, before, stage);
    }

    /// Counts that the server ends the connection.
    pub(super) fn close(&self, reason: CloseReason, class: Class) {
        self.slots.connections.close(reason, class, self.peer);
    }
}
