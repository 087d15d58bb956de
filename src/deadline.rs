//! The time that a peer, a file or a pipe is given. What would wait longer is an error with a name.
//!
//! A task that waits can be dropped, but a thread that hangs in the kernel cannot. So blocking work
//! that may be asked for again and again goes through a [`Exclusive`], which starts no second one while
//! the first hangs.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// It took longer than this.
    Elapsed(&'static str, Duration),
    /// The same work, begun earlier, has not ended yet.
    Busy(&'static str),
    /// The work ended without a result, because it panicked or the runtime ends.
    Ended(&'static str),
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elapsed(what, limit) => write!(f, "{what} took longer than {limit:?}"),
            Self::Busy(what) => write!(f, "{what} has not ended since the last try"),
            Self::Ended(what) => write!(f, "{what} ended without a result"),
        }
    }
}

impl std::error::Error for Late {}

impl From<Late> for std::io::Error {
    fn from(late: Late) -> Self {
        Self::new(std::io::ErrorKind::TimedOut, late)
    }
}

/// Waits for `work`, which `what` names, for at most `limit`. Dropped then.
///
/// # Errors
/// When it took longer.
pub async fn within<F: Future>(
    limit: Duration,
    what: &'static str,
    work: F,
) -> Result<F::Output, Late> {
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| Late::Elapsed(what, limit))
}

/// Does blocking `work` on a thread for that, and waits for at most `limit`. The thread goes on
/// beyond that, so this is for work that is done once.
///
/// # Errors
/// When it took longer, or panicked.
pub async fn blocking<T: Send + 'static>(
    limit: Duration,
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Late> {
    let mut started = Started::new(what, work);
    started.within(limit).await
}

/// Blocking work that has begun. Waiting for it can be given up and taken up again.
#[derive(Debug)]
pub struct Started<T> {
    what: &'static str,
    thread: tokio::task::JoinHandle<T>,
}

impl<T: Send + 'static> Started<T> {
    /// Begins `work`, which `what` names.
    pub fn new(what: &'static str, work: impl FnOnce() -> T + Send + 'static) -> Self {
        #[cfg(test)]
        let work = match simulated::begin(work) {
            Ok(thread) => return Self { what, thread },
            Err(work) => work,
        };
        Self {
            what,
            thread: tokio::task::spawn_blocking(work),
        }
    }

    /// Waits for at most `limit`. Not to be asked again once it has given a result or [`Late::Ended`].
    ///
    /// # Errors
    /// When it is not done yet, or has panicked.
    pub async fn within(&mut self, limit: Duration) -> Result<T, Late> {
        within(limit, self.what, &mut self.thread)
            .await?
            .map_err(|_| Late::Ended(self.what))
    }
}

/// Blocking work of one kind, one at a time: a file on a disk that hangs costs one thread, however
/// often it is asked for.
#[derive(Clone, Debug, Default)]
pub struct Exclusive(Arc<AtomicBool>);

impl Exclusive {
    /// As [`blocking`].
    ///
    /// # Errors
    /// When the work before has not ended, when this took longer, or panicked.
    pub async fn blocking<T: Send + 'static>(
        &self,
        limit: Duration,
        what: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Late> {
        /// Ends with the thread, also when that panics or never begins.
        struct Taken(Exclusive);
        impl Drop for Taken {
            fn drop(&mut self) {
                self.0.0.store(false, Ordering::Release);
            }
        }
        if self.0.swap(true, Ordering::AcqRel) {
            return Err(Late::Busy(what));
        }
        let taken = Taken(self.clone());
        blocking(limit, what, move || {
            let _taken = taken;
            work()
        })
        .await
    }
}

/// Blocking work without threads, so that a simulation has one order of events for one seed.
#[cfg(test)]
pub(crate) mod simulated {
    use std::{cell::RefCell, time::Duration};

    use tokio::{task::JoinHandle, time::sleep};

    type Pauses = Box<dyn FnMut() -> Duration>;

    thread_local! {
        static PAUSES: RefCell<Option<Pauses>> = const { RefCell::new(None) };
    }

    /// From now on [`super::Started`] does its work on this thread; `pauses` says how long it is
    /// held up before it and after it. `None`: as always.
    pub(crate) fn set(pauses: Option<Pauses>) {
        PAUSES.with_borrow_mut(|all| *all = pauses);
    }

    fn pause() -> Option<Duration> {
        PAUSES.with_borrow_mut(|pauses| pauses.as_mut().map(|next| next()))
    }

    #[expect(clippy::disallowed_methods, reason = "it stands for a thread")]
    pub(super) fn begin<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
        work: W,
    ) -> Result<JoinHandle<T>, W> {
        let Some(before) = pause() else {
            return Err(work);
        };
        Ok(tokio::spawn(async move {
            if !before.is_zero() {
                sleep(before).await;
            }
            let done = work();
            let after = pause().unwrap_or_default();
            if !after.is_zero() {
                sleep(after).await;
            }
            done
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn what_takes_too_long_is_named() {
        let late = within(SHORT, "waiting", std::future::pending::<()>()).await;
        assert_eq!(
            late.unwrap_err().to_string(),
            "waiting took longer than 20ms"
        );
        assert_eq!(within(LONG, "no wait", async { 7 }).await, Ok(7));
    }

    #[tokio::test]
    async fn what_hangs_is_begun_once() {
        let work = Exclusive::default();
        let (go, wait) = sync_channel::<()>(1);
        let hangs = work.blocking(SHORT, "reading", move || wait.recv()).await;
        assert_eq!(hangs, Err(Late::Elapsed("reading", SHORT)));
        assert_eq!(
            work.blocking(LONG, "reading", || 7).await,
            Err(Late::Busy("reading"))
        );
        go.send(()).unwrap();
        while work.0.load(Ordering::Acquire) {
            tokio::time::sleep(SHORT).await;
        }
        assert_eq!(work.blocking(LONG, "reading", || 7).await, Ok(7));
        let panics = work.blocking(LONG, "reading", || panic!("as it should"));
        assert_eq!(panics.await, Err(Late::Ended("reading")));
        assert_eq!(work.blocking(LONG, "reading", || 8).await, Ok(8));
    }

    #[tokio::test]
    async fn waiting_can_be_taken_up_again() {
        let (go, wait) = sync_channel(1);
        let mut work = Started::new("writing", move || wait.recv().unwrap());
        assert!(work.within(SHORT).await.is_err());
        go.send(7).unwrap();
        assert_eq!(work.within(LONG).await, Ok(7));
    }
}
