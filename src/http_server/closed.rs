//! Which connections a server has, and which it refused or ended: counted by reason and class, and
//! logged once a minute for each reason.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tracing::warn;

use super::slots::address_key;
use crate::clock::{self, Instant};

/// How often one thing is logged at most.
const PERIOD: Duration = Duration::from_mins(1);
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    endpoint: SocketAddr,
    open: [AtomicU64; Class::ALL.len()],
    closed: [[AtomicU64; Class::ALL.len()]; CloseReason::ALL.len()],
    notices: [Notice; CloseReason::ALL.len()],
    /// Connections that found no place and have to wait.
    waiting: Notice,
}

impl Connections {
    pub(super) fn new(endpoint: SocketAddr) -> Self {
        Self {
            endpoint,
            open: Default::default(),
            closed: Default::default(),
            notices: Default::default(),
            waiting: Notice::default(),
        }
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
        if let Some(line) = reason.line()
            && let Some(notice) = self.notices.get(reason as usize)
            && let Some(Noted { count, most_from }) = notice.note(peer)
        {
            warn!(
                endpoint = %self.endpoint,
                connections = count,
                %most_from,
                reason = reason.name(),
                "{line}"
            );
        }
    }

    /// A connection finds no place and has to wait.
    pub(super) fn waits(&self, peer: IpAddr, limit: usize) {
        if let Some(Noted { most_from, .. }) = self.waiting.note(peer) {
            warn!(
                endpoint = %self.endpoint,
                max_connections = limit,
                %most_from,
                "connection limit reached, further connections wait: raise max_connections, or \
                 find out which senders hold them"
            );
        }
    }
}

/// Something that addresses may cause often: a flood of it does not become a flood of lines.
#[derive(Debug, Default)]
pub struct Notice(Mutex<Noting>);

#[derive(Debug, Default)]
struct Noting {
    last: Option<Instant>,
    count: u64,
    /// The most frequent addresses: those that cause more than one in [`ADDRESSES`] are here.
    addresses: BTreeMap<IpAddr, u64>,
}

/// What happened since the last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// How often, this time included.
    pub count: u64,
    /// The address that caused it most often.
    pub most_from: IpAddr,
}

impl Notice {
    /// An address has caused it once more. `Some` if it is time for a line.
    pub fn note(&self, address: IpAddr) -> Option<Noted> {
        // Who has one address of a network has all of them.
        let address = address_key(address);
        let mut noting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noting.count += 1;
        noting.add(address);
        let now = clock::monotonic();
        if noting.last.is_some_and(|last| now - last < PERIOD) {
            return None;
        }
        let most = noting.addresses.iter().max_by_key(|(_, count)| **count);
        let most_from = most.map_or(address, |(most, _)| *most);
        let count = noting.count;
        *noting = Noting {
            last: Some(now),
            ..Noting::default()
        };
        Some(Noted { count, most_from })
    }
}

impl Noting {
    /// Counts an address (Misra and Gries): few counters, and frequent addresses keep theirs.
    fn add(&mut self, address: IpAddr) {
        if let Some(count) = self.addresses.get_mut(&address) {
            *count += 1;
        } else if self.addresses.len() < ADDRESSES {
            self.addresses.insert(address, 1);
        } else {
            self.addresses.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_a_minute_names_the_address_with_the_most() {
        let notice = Notice::default();
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        let first = notice.note(address(1));
        assert_eq!(
            first,
            Some(Noted {
                count: 1,
                most_from: address(1)
            })
        );
        for n in 0..200 {
            assert_eq!(notice.note(address(n)), None);
            assert_eq!(notice.note(address(7)), None);
        }
        tokio::time::advance(PERIOD).await;
        assert_eq!(
            notice.note(address(1)),
            Some(Noted {
                count: 401,
                most_from: address(7)
            })
        );
        assert_eq!(notice.note(address(1)), None);
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
