//! Which connections a server has, and which it refused or ended: counted by reason and class, and
//! logged once a minute for each reason.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::warn;

use super::address::address_key;
use crate::throttle::{Detail, Line, Throttle};

/// Addresses that are counted at a time to find the one with the most connections.
const ADDRESSES: usize = 32;

/// What a connection has proved so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It has had no complete request.
    Unfinished,
    /// It has had a complete request, without authentication.
    Anonymous,
    /// A token or a certificate of the other side was accepted on it.
    Authenticated,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unfinished, Self::Anonymous, Self::Authenticated];

    /// The word for it in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unfinished => "unfinished",
            Self::Anonymous => "anonymous",
            Self::Authenticated => "authenticated",
        }
    }
}

/// Why the server refused or ended a connection. Idle connections that end after their time are
/// not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloseReason {
    /// Its address holds as many connections as `max_connections_per_address` allows.
    PerAddress,
    /// At `max_connections` it made room for another one.
    GaveWay,
    /// It sent nothing in time.
    NoFirstByte,
    /// Its TLS handshake failed or took too long.
    Handshake,
    /// It had no complete request in time.
    NoRequest,
    /// The headers of a request took too long.
    SlowHeaders,
    /// It did not read its answers.
    NotReading,
    /// It cancelled most of its requests.
    Cancelled,
    /// The process was above its hard memory limit.
    Memory,
}

impl CloseReason {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::PerAddress,
        Self::GaveWay,
        Self::NoFirstByte,
        Self::Handshake,
        Self::NoRequest,
        Self::SlowHeaders,
        Self::NotReading,
        Self::Cancelled,
        Self::Memory,
    ];

    /// The word for it in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::PerAddress => "per_address",
            Self::GaveWay => "gave_way",
            Self::NoFirstByte => "no_first_byte",
            Self::Handshake => "handshake",
            Self::NoRequest => "no_request",
            Self::SlowHeaders => "slow_headers",
            Self::NotReading => "not_reading",
            Self::Cancelled => "cancelled",
            Self::Memory => "memory",
        }
    }

    /// The classes of connections that can end for this reason.
    pub fn classes(self) -> &'static [Class] {
        match self {
            Self::NoFirstByte | Self::Handshake | Self::NoRequest => &[Class::Unfinished],
            Self::PerAddress | Self::GaveWay | Self::Memory => {
                &[Class::Unfinished, Class::Anonymous]
            }
            Self::SlowHeaders | Self::NotReading | Self::Cancelled => &Class::ALL,
        }
    }

    /// What happened and what to do; `None` when the line is written elsewhere.
    fn line(self) -> Option<&'static str> {
        Some(match self {
            Self::PerAddress => {
                "more connections from one address than max_connections_per_address, those \
                 beyond it were closed: if many senders share the address, raise it"
            }
            Self::GaveWay => {
                "connection limit reached, connections without a complete request gave way, then \
                 idle ones without a token: block the address if it sends no logs, else raise \
                 max_connections"
            }
            Self::NoFirstByte => {
                "connections that sent nothing were closed: block the address if it sends no logs"
            }
            Self::Handshake => return None,
            Self::NoRequest => {
                "connections without a complete request were closed: look at the network to the \
                 sender, or block the address if it sends no logs"
            }
            Self::SlowHeaders => {
                "connections were closed because headers took longer than read_header_timeout: \
                 look at the network to the sender, or raise it"
            }
            Self::NotReading => {
                "connections that did not read their answers were closed: look at the network to \
                 the sender"
            }
            Self::Memory => {
                "connections were refused or ended because the process is above its hard memory limit: \
                 lower service::admission::request_limit_mib or raise the limit (service::memory)"
            }
            Self::Cancelled => {
                "connections that cancelled most of their requests were closed: raise the timeout \
                 of the sender, or block the address if it sends no logs"
            }
        })
    }
}

/// The connections of one server: how many are open, how many ended for which reason.
#[derive(Debug)]
pub struct Connections {
    /// Where the server listens, for the log.
    endpoint: Arc<Mutex<SocketAddr>>,
    open: [AtomicU64; Class::ALL.len()],
    closed: [[AtomicU64; Class::ALL.len()]; CloseReason::ALL.len()],
    closes: Throttle<CloseReason, AddressCounts>,
    /// Connections that found no place and have to wait, by the limit.
    waits: Throttle<usize, AddressCounts>,
}

impl Connections {
    pub(super) fn new(endpoint: SocketAddr) -> Self {
        let endpoint = Arc::new(Mutex::new(endpoint));
        let now = |of: &Mutex<SocketAddr>| *of.lock().unwrap_or_else(PoisonError::into_inner);
        let (closing, waiting) = (Arc::clone(&endpoint), Arc::clone(&endpoint));
        Self {
            endpoint,
            open: Default::default(),
            closed: Default::default(),
            closes: Throttle::new(move |line| log_close(now(&closing), line)),
            waits: Throttle::new(move |line| log_wait(now(&waiting), line)),
        }
    }

    /// They belong to a server that listens here from now on.
    pub(super) fn move_to(&self, endpoint: SocketAddr) {
        *self.endpoint.lock().unwrap_or_else(PoisonError::into_inner) = endpoint;
    }

    /// Connections that are open now.
    pub fn open(&self, class: Class) -> u64 {
        self.open
            .get(class as usize)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Connections that the server refused or ended so far.
    pub fn closed(&self, reason: CloseReason, class: Class) -> u64 {
        let counts = self.closed.get(reason as usize);
        counts
            .and_then(|counts| counts.get(class as usize))
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(super) fn opened(&self, class: Class) {
        if let Some(count) = self.open.get(class as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn left(&self, class: Class) {
        if let Some(count) = self.open.get(class as usize) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Counts a connection that is refused or ended, and logs it if it is time for that.
    pub(super) fn close(&self, reason: CloseReason, class: Class, peer: IpAddr) {
        if let Some(counts) = self.closed.get(reason as usize)
            && let Some(count) = counts.get(class as usize)
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if reason.line().is_some() {
            self.closes.log(reason, AddressCounts::once(peer));
        }
    }

    /// A connection finds no place and has to wait.
    pub(super) fn waits(&self, peer: IpAddr, limit: usize) {
        self.waits.log(limit, AddressCounts::once(peer));
    }
}

fn log_close(endpoint: SocketAddr, line: &Line<'_, CloseReason, AddressCounts>) {
    if let Some(reason) = line.key
        && let Some(text) = reason.line()
    {
        warn!(
            %endpoint,
            connections = line.count,
            most_from = %line.detail.most_from(),
            reason = reason.name(),
            "{text}"
        );
    }
}

fn log_wait(endpoint: SocketAddr, line: &Line<'_, usize, AddressCounts>) {
    warn!(
        %endpoint,
        max_connections = line.key,
        most_from = %line.detail.most_from(),
        "connection limit reached, further connections wait: raise max_connections, or find out \
         which senders hold them"
    );
}

/// How often something happened, and which addresses caused it: what a throttled line says of a
/// flood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressCounts {
    last: IpAddr,
    /// The most frequent addresses: those that cause more than one in [`ADDRESSES`] are here.
    counts: BTreeMap<IpAddr, u64>,
}

impl AddressCounts {
    /// Once, by this address.
    pub fn once(address: IpAddr) -> Self {
        // Who has one address of a network has all of them.
        let address = address_key(address);
        Self {
            last: address,
            counts: BTreeMap::from([(address, 1)]),
        }
    }

    /// The address that caused it most often.
    pub fn most_from(&self) -> IpAddr {
        let most = self.counts.iter().max_by_key(|(_, count)| **count);
        most.map_or(self.last, |(most, _)| *most)
    }

    /// Counts an address (Misra and Gries): few counters, and frequent addresses keep theirs.
    fn add(&mut self, address: IpAddr) {
        self.last = address;
        if let Some(count) = self.counts.get_mut(&address) {
            *count += 1;
        } else if self.counts.len() < ADDRESSES {
            self.counts.insert(address, 1);
        } else {
            self.counts.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }
}

impl Detail for AddressCounts {
    /// The later one is one message, so it holds one address.
    fn join(&mut self, later: Self) {
        self.add(later.last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_with_the_most_is_named() {
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        let mut counts = AddressCounts::once(address(1));
        assert_eq!(counts.most_from(), address(1));
        for n in 0..200 {
            counts.join(AddressCounts::once(address(n)));
            counts.join(AddressCounts::once(address(7)));
        }
        assert_eq!(counts.most_from(), address(7));
        assert!(counts.counts.len() <= ADDRESSES);
    }

    #[test]
    fn counts_by_reason_and_class() {
        let connections = Connections::new(([127, 0, 0, 1], 1).into());
        let peer = IpAddr::from([192, 0, 2, 1]);
        connections.opened(Class::Unfinished);
        connections.opened(Class::Unfinished);
        connections.left(Class::Unfinished);
        connections.opened(Class::Authenticated);
        assert_eq!(Class::ALL.map(|class| connections.open(class)), [1, 0, 1]);
        connections.close(CloseReason::GaveWay, Class::Anonymous, peer);
        for reason in CloseReason::ALL {
            for class in Class::ALL {
                let wanted = (reason, class) == (CloseReason::GaveWay, Class::Anonymous);
                assert_eq!(connections.closed(reason, class), u64::from(wanted));
            }
        }
    }
}
