//! When a replay is told to stop.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and Ctrl-C. That they came is kept; each wait may be given up and taken up again.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
    /// How often it was told.
    times: u32,
}

impl Stop {
    /// From now on neither ends the process by itself.
    ///
    /// # Errors
    /// When signals cannot be had.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            times: 0,
        })
    }

    /// Whether somebody has noticed that it is to stop.
    pub(super) fn is_told(&self) -> bool {
        self.times > 0
    }

    /// Until it is told to stop, which it may have been already.
    pub(super) async fn told(&mut self) {
        self.told_times(1).await;
    }

    /// Until it is told a second time, likewise.
    pub(super) async fn told_again(&mut self) {
        self.told_times(2).await;
    }

    async fn told_times(&mut self, times: u32) {
        while self.times < times {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            self.times += 1;
        }
    }
}
