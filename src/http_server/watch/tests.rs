//! Deadlines and stages of one connection, with time paused.

use tokio::time::advance;

use super::*;
use crate::http_server::{
    closed::Connections,
    limits::Limits,
    slots::{Placed, Slot, Slots},
};

const SECOND: Duration = Duration::from_secs(1);

const TIMES: Times = Times {
    first_byte: Duration::from_secs(10),
    first_request: Duration::from_secs(30),
    headers: Duration::from_secs(5),
    idle: Duration::from_mins(1),
    write: Duration::from_secs(20),
};

fn watch() -> (Slot, Arc<Watch>) {
    let connections = Arc::new(Connections::new(([127, 0, 0, 1], 1).into()));
    let slots = Arc::new(Slots::new(Limits::default().bounds(), connections));
    match slots.place([192, 0, 2, 1].into()) {
        Placed::Yes(slot) => {
            let watch = Watch::new(TIMES, slot.place().clone());
            (slot, Arc::new(watch))
        }
        other => panic!("{other:?}"),
    }
}

fn begin(watch: &Arc<Watch>) -> (Running, Peer) {
    watch.begin(([192, 0, 2, 1], 1).into())
}

/// In how many seconds something is due, and what.
fn due(watch: &Watch) -> Option<(u64, End)> {
    let (at, end) = watch.due()?;
    let left = at.saturating_duration_since(clock::monotonic());
    Some((left.as_secs(), end))
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_its_time_to_the_first_byte_and_request() {
    let (_slot, watch) = watch();
    let silent = End::Close(CloseReason::NoFirstByte);
    let none = End::Ask(Some(CloseReason::NoRequest));
    assert_eq!(due(&watch), Some((10, silent)));
    advance(SECOND).await;
    // HTTP/2 without a request.
    watch.read(&PREFACE[..10]);
    watch.read(&PREFACE[10..]);
    assert_eq!(due(&watch), Some((29, none)));
    advance(28 * SECOND).await;
    watch.read(b"ping");
    assert_eq!(due(&watch), Some((1, none)));
    // A request that goes on coming has the time of any request, one that stalls has not.
    let (running, peer) = begin(&watch);
    assert_eq!(due(&watch), Some((10, End::Close(CloseReason::NoRequest))));
    advance(5 * SECOND).await;
    assert_eq!(due(&watch), Some((5, End::Close(CloseReason::NoRequest))));
    watch.read(b"more");
    assert_eq!(due(&watch), Some((10, End::Close(CloseReason::NoRequest))));
    peer.received();
    assert_eq!(due(&watch), None);
    drop(running.answered());
    assert_eq!(due(&watch), Some((60, End::Ask(None))));
}

/// Between two requests it is the idle timeout that counts, and the one for headers from their
/// first byte.
#[tokio::test(start_paused = true)]
async fn keep_alive_lasts_as_long_as_idle_says() {
    let (_slot, watch) = watch();
    let slow = End::Close(CloseReason::SlowHeaders);
    watch.read(b"POST / HTTP/1.1\r\n");
    assert_eq!(due(&watch), Some((5, slow)));
    let (running, peer) = begin(&watch);
    peer.received();
    drop(running.answered());
    assert_eq!(due(&watch), Some((60, End::Ask(None))));
    advance(50 * SECOND).await;
    watch.read(b"P");
    assert_eq!(due(&watch), Some((5, slow)));
    advance(4 * SECOND).await;
    watch.read(b"O");
    assert_eq!(due(&watch), Some((1, slow)));
    let (running, _peer) = begin(&watch);
    drop(running.answered());
    assert_eq!(due(&watch), Some((60, End::Ask(None))));
    watch.ending();
    assert_eq!(due(&watch), Some((2, End::Leave)));
    let (_running, _peer) = begin(&watch);
    assert_eq!(due(&watch), None, "what has begun may end");
}

#[tokio::test(start_paused = true)]
async fn answers_have_their_time_to_leave() {
    let (_slot, watch) = watch();
    watch.read(PREFACE);
    let not_reading = End::Close(CloseReason::NotReading);
    let (first, _) = begin(&watch);
    let first = first.answered();
    advance(SECOND).await;
    let (second, _) = begin(&watch);
    let second = second.answered();
    assert_eq!(due(&watch), Some((19, not_reading)));
    drop(first);
    assert_eq!(due(&watch), Some((20, not_reading)));
    drop(second);
    watch.wrote(true);
    advance(SECOND).await;
    watch.wrote(true);
    assert_eq!(due(&watch), Some((19, not_reading)));
    watch.wrote(false);
    assert_eq!(due(&watch).map(|(_, end)| end), Some(End::Ask(None)));
}

#[tokio::test(start_paused = true)]
async fn requests_cancelled_without_end_end_the_connection() {
    let (_slot, watch) = watch();
    watch.read(PREFACE);
    for _ in 0..10 {
        let (running, _) = begin(&watch);
        drop(running.answered());
    }
    for _ in 0..CANCELLED + 10 {
        drop(begin(&watch));
    }
    assert_eq!(due(&watch).map(|(_, end)| end), Some(End::Ask(None)));
    drop(begin(&watch));
    let cancelled = End::Close(CloseReason::Cancelled);
    assert_eq!(due(&watch), Some((0, cancelled)));
}

#[tokio::test(start_paused = true)]
async fn the_stage_follows_the_requests() {
    let (_slot, watch) = watch();
    let stage = || {
        let facts = watch.lock();
        (facts.class(), facts.stage())
    };
    assert_eq!(stage(), (Class::Unfinished, Some(Stage::Silent)));
    let (running, peer) = begin(&watch);
    assert_eq!(stage(), (Class::Unfinished, Some(Stage::First)));
    // An answer to what was not taken proves nothing.
    drop(running.answered());
    drop(peer);
    assert_eq!(stage(), (Class::Unfinished, Some(Stage::Silent)));
    let (running, peer) = begin(&watch);
    peer.received();
    peer.received();
    assert_eq!(stage(), (Class::Anonymous, None));
    drop(running.answered());
    assert_eq!(stage(), (Class::Anonymous, Some(Stage::Idle)));
    let (running, peer) = begin(&watch);
    assert_eq!(stage(), (Class::Anonymous, Some(Stage::Again)));
    peer.authenticated();
    assert_eq!(stage(), (Class::Authenticated, None));
    drop(running);
    assert_eq!(stage(), (Class::Authenticated, None));
}

#[test]
fn versions_are_told_by_their_first_bytes() {
    let read = |pieces: &[&[u8]]| {
        pieces
            .iter()
            .fold(Version::Unknown(0), |version, bytes| version.read(bytes))
    };
    assert_eq!(read(&[b"PRI"]), Version::Unknown(3));
    assert_eq!(read(&[PREFACE]), Version::Http2);
    assert_eq!(read(&[PREFACE, b"x"]), Version::Http2);
    let behind = [PREFACE, b"frames"].concat();
    assert_eq!(read(&[&behind[..5], &behind[5..]]), Version::Http2);
    assert_eq!(read(&[b"PRI", b"X"]), Version::Http1);
    assert_eq!(read(&[b"GET / HTTP/1.1\r\n\r\n", PREFACE]), Version::Http1);
    assert_eq!(read(&[b""]), Version::Unknown(0));
}
