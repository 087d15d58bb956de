//! The signals that a running service hears. None of them ends the process by itself: what it holds
//! is delivered first.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::{
    clock::{self, Instant},
    telemetry::process,
};

/// At most one line in this time about a signal that does nothing.
const LOG_EVERY: Duration = Duration::from_mins(1);

/// What a signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// The service drains and ends.
    Stop,
    /// The same, and once more ends it at once: somebody sits at the keyboard.
    Interrupt,
    /// The same as [`Effect::Stop`], and the log says so, for elsewhere it means to reload.
    Hangup,
    /// Nothing, though it would end a process that does not listen.
    Nothing,
}

struct Heard {
    name: &'static str,
    effect: Effect,
    signal: Signal,
    /// When it was logged that it does nothing.
    logged: Option<Instant>,
}

/// The signals of the service.
pub(super) struct Signals(Vec<Heard>);

impl Signals {
    /// From now on none of them ends the process by itself.
    ///
    /// # Errors
    /// When signals cannot be had.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let all = [
            ("SIGTERM", Effect::Stop, SignalKind::terminate()),
            ("SIGINT", Effect::Interrupt, SignalKind::interrupt()),
            ("SIGQUIT", Effect::Interrupt, SignalKind::quit()),
            ("SIGHUP", Effect::Hangup, SignalKind::hangup()),
            ("SIGUSR1", Effect::Nothing, SignalKind::user_defined1()),
            ("SIGUSR2", Effect::Nothing, SignalKind::user_defined2()),
            ("SIGALRM", Effect::Nothing, SignalKind::alarm()),
            ("SIGIO", Effect::Nothing, SignalKind::io()),
        ];
        let mut heard = Vec::new();
        for (name, effect, kind) in all {
            // Who starts us with nohup wants us to outlive the terminal. A shell that starts us in the
            // background ignores Ctrl-C likewise, which is heard all the same.
            if name != "SIGINT" && process::ignores(kind.as_raw_value()) {
                continue;
            }
            let signal = signal(kind).context("cannot listen for signals")?;
            heard.push(Heard {
                name,
                effect,
                signal,
                logged: None,
            });
        }
        Ok(Self(heard))
    }

    /// Until the service is to stop.
    pub(super) async fn stop(&mut self) {
        loop {
            let heard = self.next().await;
            match heard.effect {
                Effect::Stop | Effect::Interrupt => return,
                Effect::Hangup => {
                    info!("SIGHUP drains and ends the service as SIGTERM does, it reloads nothing");
                    return;
                }
                Effect::Nothing => heard.log(),
            }
        }
    }

    /// Until a service that stops is to end at once.
    pub(super) async fn end_at_once(&mut self) {
        loop {
            let heard = self.next().await;
            match heard.effect {
                Effect::Interrupt => return,
                Effect::Nothing => heard.log(),
                Effect::Stop | Effect::Hangup => {}
            }
        }
    }

    async fn next(&mut self) -> &mut Heard {
        let at = poll_fn(|context| self.poll(context)).await;
        match self.0.get_mut(at) {
            Some(heard) => heard,
            None => std::future::pending().await,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        for (at, heard) in self.0.iter_mut().enumerate() {
            if let Poll::Ready(Some(())) = heard.signal.poll_recv(context) {
                return Poll::Ready(at);
            }
        }
        Poll::Pending
    }
}

impl Heard {
    /// Logs that it does nothing.
    fn log(&mut self) {
        let now = clock::monotonic();
        let quiet = |logged: Instant| now.saturating_duration_since(logged) < LOG_EVERY;
        if !self.logged.is_some_and(quiet) {
            self.logged = Some(now);
            warn!(
                signal = self.name,
                "this signal does nothing here, SIGTERM drains and ends the service"
            );
        }
    }
}
