//! Admission: bounds the memory of requests in progress, over all connections of all receivers, and
//! decides which request is read next.
//!
//! A request holds a lease, which must grow before the request may hold more memory. The lease covers
//! the decoder, the longest record so far and the hits, not the bytes that were read. So a large
//! request of small records needs little, and a thousand senders that stop midway cannot fill the
//! memory.
//!
//! Shares are relative to free memory, so that a single sender may use most of it: a connection may
//! hold as much as stays free, an address twice as much, and the only request of an address all that
//! is free. An eighth is reserved for usual requests on connections without another request. So a few
//! connections cannot lock out many others, and senders behind one address cannot lock out each other.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    num::NonZero,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::{
    refusal::{Holder, Refusal},
    turns::{Turn, Turns},
};
use crate::memory::{Level, Pressure};

/// Memory of any request besides its content: its task and its stream. Measured with 17,000 of them.
const BASE: usize = 16 * 1024;
/// Leases grow and shrink by this number of bytes, so that few frames take the shared lock.
const STEP: usize = 16 * 1024;
/// Memory that the only request of a connection may hold, whatever its address holds: a usual
/// request with its decoder.
const USUAL: usize = 256 * 1024;
/// The same as a part of all memory, where that is less.
const USUAL_PART: usize = 16;
/// The part of all memory that is kept for usual requests.
const KEPT_PART: usize = 8;
/// How long a sender is asked to wait when there is no room.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The memory bound of all requests in progress. Clones share it.
#[derive(Clone, Debug)]
pub struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    granted: Mutex<Granted>,
    pressure: Pressure,
    /// Requests that are read on the runtime: as many as it has threads.
    turns: Turns,
    /// Those of which a part takes long, on threads of their own: this leaves a core to others, where
    /// there is more than one.
    long_turns: Turns,
}

#[derive(Debug)]
struct Granted {
    limit: usize,
    all: usize,
    /// Bytes granted to requests of a usual size.
    usual: usize,
    addresses: BTreeMap<IpAddr, usize>,
    connections: BTreeMap<u64, usize>,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// The address, as [`crate::http_server::address_key`] has it.
    pub(super) address: IpAddr,
    /// The number of the connection.
    pub(super) connection: u64,
}

impl Admission {
    /// A bound of `limit` bytes. A single request may hold more, else it could never be accepted.
    pub fn new(limit: usize) -> Self {
        Self::under(limit, Pressure::default())
    }

    /// The same. Under memory pressure no request is admitted, and none grows beyond a usual request.
    pub fn under(limit: usize, pressure: Pressure) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            shared: Arc::new(Shared {
                pressure,
                turns: Turns::new(cores),
                long_turns: Turns::new((cores / 2).max(1)),
                granted: Mutex::new(Granted {
                    limit,
                    all: 0,
                    usual: 0,
                    addresses: BTreeMap::new(),
                    connections: BTreeMap::new(),
                }),
            }),
        }
    }

    /// Bytes that are granted to requests now.
    pub fn granted(&self) -> usize {
        self.shared.lock().all
    }

    /// Admits a request that begins, with this number of bytes of headers.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn admit(&self, origin: Origin, headers: usize) -> Result<Lease, Refusal> {
        let mut lease = Lease {
            shared: Arc::clone(&self.shared),
            origin,
            headers,
            granted: 0,
        };
        lease.resize(BASE.saturating_add(headers))?;
        Ok(lease)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Granted> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Granted {
    /// Whether a lease may grow.
    fn allows(&self, lease: &Lease, wanted: usize) -> Result<(), Holder> {
        let limit = self.limit;
        let besides = |granted: Option<&usize>| {
            granted.map_or(0, |granted| granted.saturating_sub(lease.granted))
        };
        let others = self.all.saturating_sub(lease.granted);
        if others == 0 {
            return Ok(());
        }
        let all = others.saturating_add(wanted);
        let address = besides(self.addresses.get(&lease.origin.address));
        let connection = besides(self.connections.get(&lease.origin.connection));
        if connection == 0 && self.is_usual(wanted) {
            // One request alone may hold more than all may, and must not keep these out meanwhile.
            let usual = self.usual.saturating_sub(self.usual_part(lease.granted));
            return if all <= limit || usual.saturating_add(wanted) <= limit / KEPT_PART {
                Ok(())
            } else {
                Err(Holder::All)
            };
        }
        let Some(free) = (limit - limit / KEPT_PART).checked_sub(all) else {
            return Err(Holder::All);
        };
        if address == 0 {
            return Ok(());
        }
        if address.saturating_add(wanted) > free.saturating_mul(2) {
            return Err(Holder::Address);
        }
        if connection > 0 && connection.saturating_add(wanted) > free {
            return Err(Holder::Connection);
        }
        Ok(())
    }

    fn is_usual(&self, bytes: usize) -> bool {
        bytes <= USUAL.min(self.limit / USUAL_PART)
    }

    /// The bytes of a request that count as those of a usual one.
    fn usual_part(&self, bytes: usize) -> usize {
        if self.is_usual(bytes) { bytes } else { 0 }
    }

    fn resize(&mut self, origin: Origin, from: usize, to: usize) {
        self.all = self.all.saturating_sub(from).saturating_add(to);
        let (less, more) = (self.usual_part(from), self.usual_part(to));
        self.usual = self.usual.saturating_sub(less).saturating_add(more);
        resize(&mut self.addresses, origin.address, from, to);
        resize(&mut self.connections, origin.connection, from, to);
    }
}

fn resize<K: Ord>(all: &mut BTreeMap<K, usize>, key: K, from: usize, to: usize) {
    let granted = all.get(&key).copied().unwrap_or(0);
    match granted.saturating_sub(from).saturating_add(to) {
        0 => all.remove(&key),
        granted => all.insert(key, granted),
    };
}

/// The memory that is granted to one request, until the lease is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    shared: Arc<Shared>,
    origin: Origin,
    headers: usize,
    granted: usize,
}

impl Lease {
    /// Waits until it is the request's turn to be read. The turn ends when it is dropped.
    pub(super) async fn turn(&self) -> Turn {
        self.shared.turns.turn(self.origin.address).await
    }

    /// The same for work that takes long and has a thread of its own.
    pub(super) async fn long_turn(&self) -> Turn {
        self.shared.long_turns.turn(self.origin.address).await
    }

    /// Resizes the lease to this number of bytes, besides the base of every request.
    ///
    /// # Errors
    /// When there is no room for more.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), Refusal> {
        let wanted = bytes
            .checked_next_multiple_of(STEP)
            .unwrap_or(usize::MAX)
            .saturating_add(BASE)
            .saturating_add(self.headers);
        self.resize(wanted)
    }

    fn resize(&mut self, wanted: usize) -> Result<(), Refusal> {
        if wanted == self.granted {
            return Ok(());
        }
        let mut granted = self.shared.lock();
        if wanted > self.granted {
            if self.shared.pressure.level() > Level::Normal
                && (self.granted == 0 || !granted.is_usual(wanted))
            {
                return Err(Refusal::Memory {
                    retry_after: RETRY_AFTER,
                    holder: Holder::Process,
                });
            }
            granted
                .allows(self, wanted)
                .map_err(|holder| Refusal::Memory {
                    retry_after: RETRY_AFTER,
                    holder,
                })?;
        }
        granted.resize(self.origin, self.granted, wanted);
        drop(granted);
        self.granted = wanted;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.lock().resize(self.origin, self.granted, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn origin(address: u8, connection: u64) -> Origin {
        Origin {
            address: [192, 0, 2, address].into(),
            connection,
        }
    }

    fn holder(result: Result<(), Refusal>) -> Option<Holder> {
        match result {
            Ok(()) => None,
            Err(Refusal::Memory { holder, .. }) => Some(holder),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn leases_share_a_bound_and_give_back_what_they_held() {
        let admission = Admission::new(74 * 1024);
        let mut one = admission.admit(origin(1, 1), 0).unwrap();
        let mut other = admission.admit(origin(2, 2), 0).unwrap();
        assert_eq!(admission.granted(), 2 * BASE);
        one.hold(0).unwrap();
        other.hold(0).unwrap();
        one.hold(2 * STEP).unwrap();
        assert_eq!(admission.granted(), 4 * BASE);
        assert_eq!(holder(other.hold(1)), Some(Holder::All));
        assert!(admission.admit(origin(3, 3), 0).is_err());
        // What was refused holds what it held before.
        assert_eq!(admission.granted(), 4 * BASE);
        one.hold(STEP).unwrap();
        other.hold(STEP).unwrap();
        drop(one);
        assert_eq!(admission.granted(), 2 * BASE);
        drop(other);
        assert_eq!(admission.granted(), 0);
        assert!(admission.shared.lock().addresses.is_empty());
        assert!(admission.shared.lock().connections.is_empty());
    }

    #[test]
    fn one_that_holds_more_than_all_may_does_not_keep_usual_ones_out() {
        let admission = Admission::new(16 * MIB);
        let mut large = admission.admit(origin(1, 1), 0).unwrap();
        large.hold(40 * MIB).unwrap();
        let mut usual = Vec::new();
        let refused = loop {
            let number = u64::try_from(usual.len()).unwrap();
            match admission.admit(origin(2, 2 + number), 0) {
                Ok(lease) => usual.push(lease),
                refused => break holder(refused.map(drop)),
            }
        };
        assert_eq!(refused, Some(Holder::All));
        assert_eq!(usual.len() * BASE, 2 * MIB);
        assert_eq!(holder(usual[0].hold(MIB)), Some(Holder::All));
        usual.pop();
        usual[0].hold(0).unwrap();
        drop(admission.admit(origin(1, 1000), 0).unwrap());
        drop((large, usual));
        assert_eq!((admission.granted(), admission.shared.lock().usual), (0, 0));
    }

    #[test]
    fn under_pressure_nothing_begins_and_only_what_is_usual_goes_on() {
        let plan = crate::memory::Config {
            limit: Some(100),
            ..crate::memory::Config::default()
        }
        .plan(None);
        let usage = |resident| crate::memory::Usage {
            resident,
            requests: 50,
            ..crate::memory::Usage::default()
        };
        let pressure = Pressure::default();
        let admission = Admission::under(16 * MIB, pressure.clone());
        let mut usual = admission.admit(origin(1, 1), 0).unwrap();
        let mut large = admission.admit(origin(2, 2), 0).unwrap();
        large.hold(2 * MIB).unwrap();
        pressure.update(&plan, usage(90));
        assert_eq!(
            holder(admission.admit(origin(3, 3), 0).map(drop)),
            Some(Holder::Process)
        );
        assert_eq!(holder(large.hold(3 * MIB)), Some(Holder::Process));
        usual.hold(STEP).unwrap();
        large.hold(MIB).unwrap();
        pressure.update(&plan, usage(70));
        large.hold(3 * MIB).unwrap();
        drop(admission.admit(origin(3, 3), 0).unwrap());
    }

    #[test]
    fn one_request_alone_may_hold_more() {
        let admission = Admission::new(1);
        let mut lease = admission.admit(origin(1, 1), 0).unwrap();
        lease.hold(100 * STEP).unwrap();
        assert!(admission.admit(origin(1, 1), 0).is_err());
        assert!(admission.admit(origin(2, 2), 0).is_err());
        lease.hold(usize::MAX).unwrap();
        drop(lease);
        assert_eq!(admission.granted(), 0);
        assert!(admission.admit(origin(2, 2), 0).is_ok());
    }

    /// Takes requests of this size until one is refused; what they hold, and whose share was full.
    fn fill(
        admission: &Admission,
        origins: impl IntoIterator<Item = Origin>,
        bytes: usize,
    ) -> (Vec<Lease>, Holder) {
        let mut leases = Vec::new();
        for origin in origins {
            let entered = admission.admit(origin, 0);
            let mut lease = match entered {
                Ok(lease) => lease,
                Err(Refusal::Memory { holder, .. }) => return (leases, holder),
                Err(other) => panic!("{other}"),
            };
            if let Some(holder) = holder(lease.hold(bytes)) {
                return (leases, holder);
            }
            leases.push(lease);
        }
        panic!("all of them have room")
    }

    #[test]
    fn a_connection_and_an_address_leave_room_for_others() {
        let admission = Admission::new(256 * MIB);
        // One connection takes half of what is not kept ...
        let (first, holder_of_one) = fill(&admission, (0..1000).map(|_| origin(1, 1)), MIB);
        assert_eq!(holder_of_one, Holder::Connection);
        assert!((105..=112).contains(&first.len()), "{}", first.len());
        // ... and with others of its address two thirds.
        let more = (2..1000).flat_map(|at| [origin(1, at); 2]);
        let (more, holder_of_all) = fill(&admission, more, MIB);
        assert_eq!(holder_of_all, Holder::Address);
        let granted = admission.granted() / MIB;
        assert!((140..=150).contains(&granted), "{granted}");
        // A usual request over another connection has room all the same, from that address too.
        let mut usual = admission.admit(origin(1, 5000), 0).unwrap();
        usual.hold(200 * 1024).unwrap();
        assert_eq!(holder(usual.hold(MIB)), Some(Holder::Address));
        // Another address has room for a large one, and for more.
        let mut large = admission.admit(origin(2, 5001), 0).unwrap();
        large.hold(40 * MIB).unwrap();
        large.hold(0).unwrap();
        let (_leases, holder_of_other) = fill(&admission, (0..1000).map(|_| origin(2, 5001)), MIB);
        assert_eq!(holder_of_other, Holder::Connection);
        drop((first, more));
    }

    #[test]
    fn addresses_without_end_leave_something_free() {
        let admission = Admission::new(64 * MIB);
        let mut all = Vec::new();
        for address in 0..20 {
            let number = u64::from(address);
            let (leases, _) = fill(&admission, (0..100_000).map(|_| origin(address, number)), 0);
            all.extend(leases);
        }
        let free = 64 * MIB - admission.granted();
        assert!(free >= 7 * MIB, "{free}");
        let mut one = admission.admit(origin(1, 200), 0).unwrap();
        one.hold(200 * 1024).unwrap();
    }
}
