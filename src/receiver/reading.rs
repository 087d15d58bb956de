//! A message on its way from the wire to where it is read: in small steps, each of them charged.
//!
//! A few kilobytes may inflate to a message that takes a second to read. So what it holds is asked
//! for after each step, not after each frame; between steps others have their turn; and a record
//! that takes long is read on a thread of its own, where no other request waits for it.

use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, header::CONTENT_ENCODING};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio::task;

use super::{
    admission::Lease,
    decompress::{Compression, Inflow, STEP, Stepped, Unreadable},
    refusal::Refusal,
    rejection::Rejection,
    turns::Turn,
};
use crate::pdata::Sink;

/// After this much work, about a millisecond, another request has its turn.
const TURN: usize = 4 * STEP;

/// How long the rest of a request that is refused is passed over, before its answer.
pub(super) const LINGER: Duration = Duration::from_secs(10);

/// Does work that takes long on a thread of its own. It is done even if nothing waits for it any
/// more, so what it holds goes with it.
///
/// # Errors
/// When the runtime goes down.
pub(super) async fn apart<T: Send + 'static>(
    turn: Turn,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let done = task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    done.await.map_err(|_gone| Refusal::ShuttingDown)
}

/// The next bytes of a body; `None` at its end.
///
/// # Errors
/// When the request is cut off.
pub(super) async fn next_data(body: &mut Incoming) -> Result<Option<Bytes>, Rejection> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// The compression that the headers of a request name.
///
/// # Errors
/// When it is none that is supported.
pub(super) fn compression(headers: &HeaderMap) -> Result<Compression, Rejection> {
    let named: Vec<_> = headers.get_all(CONTENT_ENCODING).iter().collect();
    let known = match &named[..] {
        [] => Some(Compression::Identity),
        [name] => Compression::from_name(name.as_bytes()),
        _ => None,
    };
    known.ok_or_else(|| {
        let names = named
            .iter()
            .map(|name| String::from_utf8_lossy(name.as_bytes()));
        Rejection::Compression(names.collect::<Vec<_>>().join(", "))
    })
}

/// Passes over what is left of a body.
pub(super) async fn drain(body: &mut Incoming) {
    while let Ok(Some(_)) = next_data(body).await {}
}

/// Reads a body of at most `limit` bytes, frame by frame, into a sink.
///
/// # Errors
/// When it cannot be read, or there is no room in memory for what it holds.
pub(super) async fn read_into<S: Sink + Send + 'static>(
    sink: S,
    body: &mut Incoming,
    compression: Compression,
    limit: usize,
    lease: Lease,
) -> Result<(S, Lease), Rejection> {
    let mut reading = Reading::new(compression, sink, limit, lease)?;
    let mut received = 0_usize;
    if body.size_hint().lower() > limit as u64 {
        return Err(Unreadable::TooLarge(limit).into());
    }
    while let Some(data) = next_data(body).await? {
        received = received.saturating_add(data.len());
        if received > limit {
            return Err(Unreadable::TooLarge(limit).into());
        }
        reading = reading.feed(data).await?;
    }
    reading.finish().await
}

/// A message, what it goes into, and the memory that both hold.
pub(super) struct Reading<S: Sink> {
    inflow: Inflow<S>,
    lease: Lease,
    /// Bytes that are held besides it.
    beside: usize,
    /// Bytes that have gone in and come out since others last had their turn: a decoder may be fed
    /// what nothing comes out of.
    work: usize,
}

impl<S: Sink + Send + 'static> Reading<S> {
    /// A message of at most `limit` bytes.
    ///
    /// # Errors
    /// When there is no memory for a decoder.
    pub(super) fn new(
        compression: Compression,
        sink: S,
        limit: usize,
        lease: Lease,
    ) -> Result<Self, Rejection> {
        Ok(Self {
            inflow: Inflow::new(compression, sink, limit)?,
            lease,
            beside: 0,
            work: 0,
        })
    }

    /// Charges these bytes as well, from now on.
    pub(super) fn beside(mut self, bytes: usize) -> Self {
        self.beside = bytes;
        self
    }

    /// Takes the next bytes of the message.
    ///
    /// # Errors
    /// When the message cannot be read, or there is no room in memory for what it holds.
    pub(super) async fn feed(mut self, mut bytes: Bytes) -> Result<Self, Rejection> {
        let mut turn = self.lease.turn().await;
        while !bytes.is_empty() {
            if self.inflow.may_take_long() {
                drop(turn);
                let long_turn = self.lease.long_turn().await;
                (self, bytes) = apart(long_turn, move || {
                    let Stepped { taken, work } = self.inflow.step(&bytes)?;
                    self.charge(work)?;
                    bytes.advance(taken);
                    Ok::<_, Rejection>((self, bytes))
                })
                .await??;
                turn = self.lease.turn().await;
            } else {
                let Stepped { taken, work } = self.inflow.step(&bytes)?;
                self.charge(work)?;
                bytes.advance(taken);
            }
            if self.work >= TURN {
                self.work = 0;
                // The turn is kept meanwhile: with no other request ready to be read, the runtime asks
                // the sockets what else has come before this task goes on.
                task::yield_now().await;
                drop(turn);
                turn = self.lease.turn().await;
            }
        }
        Ok(self)
    }

    /// The same for all of a message at once, on a thread where no other request waits.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub(super) fn feed_all(mut self, mut bytes: &[u8]) -> Result<Self, Rejection> {
        while !bytes.is_empty() {
            let Stepped { taken, work } = self.inflow.step(bytes)?;
            self.charge(work)?;
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(self)
    }

    /// Charges what the message holds after a step.
    fn charge(&mut self, work: usize) -> Result<(), Refusal> {
        self.work = self.work.saturating_add(work);
        let held = self.inflow.heap_bytes();
        self.lease.hold(held.saturating_add(self.beside))
    }

    /// The message has ended: the sink, which has all of it, and what holds its memory.
    ///
    /// # Errors
    /// When it ended too early.
    pub(super) async fn finish(self) -> Result<(S, Lease), Rejection> {
        // The last bytes that came out of a decoder are still in it.
        if self.inflow.may_take_long() {
            let turn = self.lease.long_turn().await;
            apart(turn, move || self.end()).await?
        } else {
            self.end()
        }
    }

    /// The same at once, on a thread where no other request waits.
    ///
    /// # Errors
    /// When it ended too early.
    pub(super) fn end(self) -> Result<(S, Lease), Rejection> {
        let sink = self.inflow.finish()?;
        let mut lease = self.lease;
        lease.hold(sink.heap_bytes())?;
        Ok((sink, lease))
    }
}
