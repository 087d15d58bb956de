//! A message on its way from the wire to where it is read: in small steps, each of them charged.
//!
//! A few kilobytes may inflate to a message that takes a second to read. So what it holds is asked
//! for after each step, not after each frame; between steps others have their turn; and a record
//! that takes long is read where it holds up nobody.

use std::{num::NonZero, sync::LazyLock, thread};

use bytes::{Buf, Bytes};
use tokio::{sync::Semaphore, task};

use super::{
    Refusal,
    decompress::{Compression, Inflow, STEP, Sink},
    in_flight::Lease,
    rejection::Rejection,
};

/// After so much work, about a millisecond, others have their turn.
const TURN: usize = 4 * STEP;

/// Long work that is done at a time, over all receivers: so much that a core is left for others,
/// where there is more than one.
static LONG_WORK: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    Semaphore::new((cores / 2).max(1))
});

/// Does work that takes long on a thread of its own. It is done even if nobody waits for it any
/// more, so what it holds goes with it.
///
/// # Errors
/// When the runtime goes down.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let turn = LONG_WORK.acquire().await;
    let done = task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    done.await.map_err(|_gone| Refusal::ShuttingDown)
}

/// A message, what it goes into, and the memory that both hold.
pub(super) struct Reading<S: Sink> {
    inflow: Inflow<S>,
    lease: Lease,
    /// What is held beside.
    beside: usize,
    /// Bytes that have gone in and come out since others last had their turn: a decoder may be fed
    /// what nothing comes out of.
    work: usize,
}

impl<S: Sink + Send + 'static> Reading<S> {
    /// A message of at most so many bytes.
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

    /// Counts bytes that are held beside it as well, from now on.
    pub(super) fn beside(mut self, bytes: usize) -> Self {
        self.beside = bytes;
        self
    }

    /// Takes the next bytes of the message.
    ///
    /// # Errors
    /// When the message cannot be read, or there is no room in memory for what it holds.
    pub(super) async fn feed(mut self, mut bytes: Bytes) -> Result<Self, Rejection> {
        while !bytes.is_empty() {
            if self.inflow.may_take_long() {
                (self, bytes) = apart(move || {
                    let taken = self.step(&bytes)?;
                    bytes.advance(taken);
                    Ok::<_, Rejection>((self, bytes))
                })
                .await??;
            } else {
                let taken = self.step(&bytes)?;
                bytes.advance(taken);
            }
            if self.work >= TURN {
                self.work = 0;
                task::yield_now().await;
            }
        }
        Ok(self)
    }

    /// The same for all of a message at once, for where nobody else waits.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub(super) fn feed_all(mut self, mut bytes: &[u8]) -> Result<Self, Rejection> {
        while !bytes.is_empty() {
            let taken = self.step(bytes)?;
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(self)
    }

    fn step(&mut self, bytes: &[u8]) -> Result<usize, Rejection> {
        let before = self.inflow.written();
        let taken = self.inflow.step(bytes)?;
        let written = self.inflow.written().saturating_sub(before);
        self.work = self.work.saturating_add(self.inflow.work(taken, written));
        self.lease
            .hold(self.inflow.held().saturating_add(self.beside))?;
        Ok(taken)
    }

    /// The message has ended: the sink, which has all of it, and what holds its memory.
    ///
    /// # Errors
    /// When it ended too early.
    pub(super) async fn finish(self) -> Result<(S, Lease), Rejection> {
        // The last bytes that came out of a decoder are still in it.
        if self.inflow.may_take_long() {
            apart(move || self.end()).await?
        } else {
            self.end()
        }
    }

    /// The same at once, for where nobody else waits.
    ///
    /// # Errors
    /// When it ended too early.
    pub(super) fn end(self) -> Result<(S, Lease), Rejection> {
        let sink = self.inflow.finish()?;
        let mut lease = self.lease;
        lease.hold(sink.held())?;
        Ok((sink, lease))
    }
}
