//! The signals that stop a command that sends.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and Ctrl-C. Each is remembered; each wait may be given up and taken up again.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
    /// Signals so far.
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

    /// Whether a wait has ended with a signal.
    pub(super) fn is_requested(&self) -> bool {
        self.times > 0
    }

    /// Until the first signal, which may have come already.
    pub(super) async fn requested(&mut self) {
        self.wait_for(1).await;
    }

    /// Until the second signal, likewise.
    pub(super) async fn repeated(&mut self) {
        self.wait_for(2).await;
    }

    async fn wait_for(&mut self, times: u32) {
        while self.times < times {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            self.times += 1;
        }
    }
}
