//! The signals that a running service hears. None of them ends the process by itself: what it holds
//! is delivered first.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

use crate::{telemetry::process, throttle::Throttle};

/// What a signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// The service drains and ends.
    Stop,
    /// The same, and a second one ends the service at once: it comes from a keyboard.
    Interrupt,
    /// The configuration is loaded again.
    Reload,
    /// Nothing, though it would end a process that does not listen.
    Nothing,
}

struct Heard {
    name: &'static str,
    effect: Effect,
    signal: Signal,
}

/// The signals of the service.
pub(super) struct Signals {
    listened: Vec<Heard>,
    /// Signals that do nothing, by name.
    ignored: Throttle<&'static str>,
    /// Whether a reload was asked for that has not begun.
    is_reload_due: bool,
}

/// What a signal asks of a running service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// To drain and end.
    Stop,
    /// To load its configuration again.
    Reload,
}

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
            ("SIGHUP", Effect::Reload, SignalKind::hangup()),
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
            });
        }
        let ignored = Throttle::new(|line| {
            warn!(
                signal = line.key,
                suppressed = line.suppressed(),
                "this signal does nothing here, SIGTERM drains and ends the service and SIGHUP loads the \
                 configuration again"
            );
        });
        Ok(Self {
            listened: heard,
            ignored,
            is_reload_due: false,
        })
    }

    /// The next request. May be dropped at any time.
    pub(super) async fn request(&mut self) -> Request {
        if std::mem::take(&mut self.is_reload_due) {
            return Request::Reload;
        }
        loop {
            let (name, effect) = self.next().await;
            match effect {
                Effect::Stop | Effect::Interrupt => return Request::Stop,
                Effect::Reload => return Request::Reload,
                Effect::Nothing => self.ignored.log(name, ()),
            }
        }
    }

    /// Until the service is to stop. A reload that is asked for meanwhile is due after that.
    pub(super) async fn stop(&mut self) {
        loop {
            let (name, effect) = self.next().await;
            match effect {
                Effect::Stop | Effect::Interrupt => return,
                Effect::Reload => self.is_reload_due = true,
                Effect::Nothing => self.ignored.log(name, ()),
            }
        }
    }

    /// Until a service that stops is to end at once.
    pub(super) async fn end_at_once(&mut self) {
        loop {
            let (name, effect) = self.next().await;
            match effect {
                Effect::Interrupt => return,
                Effect::Nothing => self.ignored.log(name, ()),
                Effect::Stop | Effect::Reload => {}
            }
        }
    }

    /// The next signal: its name and its effect.
    async fn next(&mut self) -> (&'static str, Effect) {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<(&'static str, Effect)> {
        for heard in &mut self.listened {
            if let Poll::Ready(Some(())) = heard.signal.poll_recv(context) {
                return Poll::Ready((heard.name, heard.effect));
            }
        }
        Poll::Pending
    }
}
