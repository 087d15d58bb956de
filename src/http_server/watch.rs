//! What one connection is doing, and by when it has to do the next thing.
//!
//! Bytes are noted where they are read and written, requests where they begin and end. From that
//! follows one deadline at any time, and the stage in which the connection can give way.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    closed::{Class, CloseReason},
    slots::{Place, Stage},
};
use crate::clock::{self, Instant};

/// What a connection with HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A first request that has received no byte for this long has stalled.
const STALL: Duration = Duration::from_secs(10);
/// How long a connection that was asked to end may take for that once it has no request.
const FAREWELL: Duration = Duration::from_secs(2);
/// Requests that a connection may cancel, beside as many as it has had answered.
const CANCELLED: u64 = 200;

/// The next number of a connection.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// How long things may take on a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// To the first byte.
    pub(super) first_byte: Duration,
    /// To a complete first request.
    pub(super) first_request: Duration,
    /// From the first byte of the headers of an HTTP/1.1 request to their last.
    pub(super) headers: Duration,
    /// Between two requests.
    pub(super) idle: Duration,
    /// Until what is sent has left.
    pub(super) write: Duration,
}

/// What happens to a connection whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It is asked to end, for a reason that is counted if there is one.
    Ask(Option<CloseReason>),
    /// It is closed.
    Close(CloseReason),
    /// It was asked to end and did not; it is closed.
    Leave,
}

/// The version of HTTP that a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// Not known yet: the first bytes are those of [`PREFACE`], this number of them.
    Unknown(usize),
    Http1,
    Http2,
}

impl Version {
    fn read(self, bytes: &[u8]) -> Self {
        let Self::Unknown(known) = self else {
            return self;
        };
        let rest = PREFACE.get(known..).unwrap_or_default();
        let (bytes, rest) = (
            bytes.get(..rest.len()).unwrap_or(bytes),
            rest.get(..bytes.len()).unwrap_or(rest),
        );
        if bytes != rest {
            Self::Http1
        } else if known + bytes.len() == PREFACE.len() {
            Self::Http2
        } else {
            Self::Unknown(known + bytes.len())
        }
    }
}

#[derive(Debug)]
struct Facts {
    opened: Instant,
    version: Version,
    /// The last byte that came in, if any did.
    last_byte: Option<Instant>,
    /// The first byte of headers that are not complete, with HTTP/1.1.
    headers: Option<Instant>,
    authenticated: bool,
    /// A request was received whole and well-formed.
    complete: bool,
    /// A request was received whole, or answered.
    answered: bool,
    /// Requests that are not answered.
    running: usize,
    /// Those of them that have not come in whole.
    incoming: usize,
    /// When the last request ended.
    idle: Instant,
    /// Since when bytes wait to be sent.
    unflushed: Option<Instant>,
    /// Answers whose bodies have not left, by when they began.
    answers: BTreeSet<(Instant, u64)>,
    next_answer: u64,
    /// Requests that ended, answered or not, and those that were answered.
    left: u64,
    done: u64,
    /// Since when it has been asked to end.
    ending: Option<Instant>,
}

/// The life of one connection.
#[derive(Debug)]
pub(super) struct Watch {
    number: u64,
    times: Times,
    place: Place,
    facts: Mutex<Facts>,
    /// A deadline may be earlier now.
    pub(super) changed: Notify,
}

impl Watch {
    pub(super) fn new(times: Times, place: Place) -> Self {
        let now = clock::monotonic();
        Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            times,
            place,
            facts: Mutex::new(Facts {
                opened: now,
                version: Version::Unknown(0),
                last_byte: None,
                headers: None,
                authenticated: false,
                complete: false,
                answered: false,
                running: 0,
                incoming: 0,
                idle: now,
                unflushed: None,
                answers: BTreeSet::new(),
                next_answer: 0,
                left: 0,
                done: 0,
                ending: None,
            }),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the facts, and with them the stage.
    fn change<R>(&self, change: impl FnOnce(&mut Facts, Instant) -> R) -> R {
        let now = clock::monotonic();
        let mut facts = self.lock();
        let before = (facts.class(), facts.stage());
        let result = change(&mut facts, now);
        let after = (facts.class(), facts.stage());
        if before != after {
            // An unfinished connection has waited since it was opened, whatever it tried.
            let since = match after.1 {
                Some(Stage::Silent) => facts.opened,
                _ => now,
            };
            self.place.set(after.0, after.1.map(|stage| (stage, since)));
        }
        result
    }

    /// Counts that the connection ends for this reason.
    pub(super) fn close(&self, reason: CloseReason) {
        let class = self.lock().class();
        self.place.close(reason, class);
    }

    /// The other side has proved who it is.
    pub(super) fn authenticated(&self) {
        self.change(|facts, _| facts.authenticated = true);
    }

    /// Whether it has had a complete request.
    pub(super) fn is_finished(&self) -> bool {
        self.lock().class() != Class::Unfinished
    }

    /// The TLS handshake has ended well.
    pub(super) fn shook_hands(&self) {
        self.lock().last_byte = Some(clock::monotonic());
    }

    /// Bytes came in.
    pub(super) fn read(&self, bytes: &[u8]) {
        let now = clock::monotonic();
        let mut facts = self.lock();
        facts.last_byte = Some(now);
        facts.version = facts.version.read(bytes);
        if facts.version == Version::Http2 {
            facts.headers = None;
        } else if facts.running == 0 {
            facts.headers.get_or_insert(now);
        }
    }

    /// Whether bytes wait to be sent, because the other side does not read.
    pub(super) fn wrote(&self, waits: bool) {
        let mut facts = self.lock();
        if waits {
            if facts.unflushed.is_none() {
                facts.unflushed = Some(clock::monotonic());
                self.changed.notify_one();
            }
        } else {
            facts.unflushed = None;
        }
    }

    /// A request begins: its headers are there.
    pub(super) fn begin(self: &Arc<Self>, address: SocketAddr) -> (Running, Peer) {
        self.change(|facts, _| {
            facts.headers = None;
            facts.running += 1;
            facts.incoming += 1;
        });
        let received = Arc::new(AtomicBool::new(false));
        let running = Running {
            watch: Arc::clone(self),
            received: Arc::clone(&received),
        };
        let peer = Peer {
            address,
            watch: Arc::clone(self),
            received,
        };
        (running, peer)
    }

    /// The connection was asked to end.
    pub(super) fn ending(&self) {
        let now = clock::monotonic();
        self.lock().ending.get_or_insert(now);
    }

    /// When the time of the connection is over, and what happens then.
    pub(super) fn due(&self) -> Option<(Instant, End)> {
        let facts = self.lock();
        facts.due(&self.times)
    }
}

impl Facts {
    fn class(&self) -> Class {
        if self.authenticated {
            Class::Authenticated
        } else if self.complete {
            Class::Anonymous
        } else {
            Class::Unfinished
        }
    }

    fn stage(&self) -> Option<Stage> {
        let (idle, busy) = match self.class() {
            Class::Authenticated => return None,
            Class::Unfinished => (Stage::Silent, Stage::First),
            Class::Anonymous => (Stage::Idle, Stage::Again),
        };
        if self.running == 0 {
            return Some(idle);
        }
        // While it is answered it is the server that takes its time.
        (self.incoming > 0).then_some(busy)
    }

    fn due(&self, times: &Times) -> Option<(Instant, End)> {
        let writing = [
            self.unflushed,
            self.answers.first().map(|(since, _)| *since),
        ];
        let writing = writing
            .into_iter()
            .flatten()
            .map(|since| (since + times.write, End::Close(CloseReason::NotReading)));
        let cancelled = self.left.saturating_sub(self.done);
        let cancelled = (cancelled > self.done.saturating_add(CANCELLED))
            .then_some((self.opened, End::Close(CloseReason::Cancelled)));
        [self.request_due(times), cancelled]
            .into_iter()
            .flatten()
            .chain(writing)
            .min_by_key(|(at, _)| *at)
    }

    /// When the next request, or the rest of one, is due.
    fn request_due(&self, times: &Times) -> Option<(Instant, End)> {
        if let Some(ending) = self.ending {
            let since = ending.max(self.idle);
            return (self.running == 0).then_some((since + FAREWELL, End::Leave));
        }
        let first = self.opened + times.first_request;
        if self.running > 0 {
            // What goes on coming in has the time of any request.
            let stalled = self.last_byte.unwrap_or(self.opened) + STALL.min(times.first_request);
            let unknown = !self.answered && !self.authenticated;
            return unknown.then_some((first.max(stalled), End::Close(CloseReason::NoRequest)));
        }
        let idle = Some((self.idle + times.idle, End::Ask(None)));
        let silent = self.last_byte.is_none().then_some((
            self.opened + times.first_byte,
            End::Close(CloseReason::NoFirstByte),
        ));
        let none = (!self.answered).then_some((first, End::Ask(Some(CloseReason::NoRequest))));
        let headers = self
            .headers
            .map(|since| (since + times.headers, End::Close(CloseReason::SlowHeaders)));
        match headers {
            // Between the bytes of its headers a connection is not idle.
            Some(headers) => [Some(headers), none]
                .into_iter()
                .flatten()
                .min_by_key(|(at, _)| *at),
            None => [idle, silent, none]
                .into_iter()
                .flatten()
                .min_by_key(|(at, _)| *at),
        }
    }
}

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) struct Running {
    watch: Arc<Watch>,
    received: Arc<AtomicBool>,
}

impl Running {
    /// The request is answered, its answer leaves.
    pub(super) fn answered(self) -> Answering {
        let watch = Arc::clone(&self.watch);
        let answer = watch.change(|facts, now| {
            facts.done += 1;
            facts.answered = true;
            let answer = (now, facts.next_answer);
            facts.next_answer += 1;
            facts.answers.insert(answer);
            answer
        });
        Answering { watch, answer }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let received = self.received.load(Ordering::Relaxed);
        self.watch.change(|facts, now| {
            facts.running -= 1;
            facts.incoming -= usize::from(!received);
            facts.idle = now;
            facts.left += 1;
        });
        self.watch.changed.notify_one();
    }
}

/// An answer that has not left.
#[derive(Debug)]
pub(super) struct Answering {
    watch: Arc<Watch>,
    answer: (Instant, u64),
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.watch.lock().answers.remove(&self.answer);
    }
}

/// Who sent a request; each has it among its extensions.
#[derive(Clone, Debug)]
pub struct Peer {
    address: SocketAddr,
    watch: Arc<Watch>,
    received: Arc<AtomicBool>,
}

impl Peer {
    /// Where the request comes from.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of the connection, over all servers.
    pub fn connection(&self) -> u64 {
        self.watch.number
    }

    /// The request carries a token that is accepted: its connection does not give way any more.
    pub fn authenticated(&self) {
        self.watch.authenticated();
    }

    /// Whether a token, or a certificate of the other side, was accepted on the connection.
    pub fn is_authenticated(&self) -> bool {
        self.watch.lock().authenticated
    }

    /// The request was received whole and is well-formed.
    pub fn received(&self) {
        if !self.received.swap(true, Ordering::Relaxed) {
            self.watch.change(|facts, _| {
                facts.incoming -= 1;
                facts.complete = true;
                facts.answered = true;
            });
        }
    }
}
