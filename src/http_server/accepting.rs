//! The accept loop: takes connections off the socket and gives them their places.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tracing::warn;

use super::{
    closed::{Class, CloseReason, Connections},
    slots::{Placed, Slot, Slots},
    socket,
};
use crate::{
    memory::{Level, Pressure},
    throttle::Throttle,
};

/// How long to wait when no connection can be accepted, for want of file descriptors.
const BREATH: Duration = Duration::from_millis(100);
/// Connections that end at a time while the process is above its hard memory limit.
const SHED: usize = 16;
/// How often it is looked whether a connection gives way by now.
const LOOK: Duration = Duration::from_millis(100);

/// Takes connections and gives them their places.
pub(super) struct Accepting {
    pub(super) listener: Arc<TcpListener>,
    pub(super) slots: Arc<Slots>,
    pub(super) connections: Arc<Connections>,
    pub(super) pressure: Pressure,
    /// `max_connections`
    pub(super) limit: usize,
    /// The connection that waits for a place; more wait with the kernel.
    pub(super) waiting: Option<(TcpStream, SocketAddr)>,
    /// Connections that cannot be accepted.
    pub(super) failures: Throttle<(), String>,
}

impl Accepting {
    /// The next connection that has a place.
    pub(super) async fn next(&mut self) -> (TcpStream, SocketAddr, Slot) {
        loop {
            let waits = self.waiting.is_some();
            let (stream, peer) = match self.waiting.take() {
                Some(waiting) => waiting,
                None => self.accept().await,
            };
            if self.pressure.level() == Level::Hard {
                self.connections
                    .close(CloseReason::Memory, Class::Unfinished, peer.ip());
                let _set = stream.set_zero_linger();
                continue;
            }
            match self.slots.place(peer.ip()) {
                Placed::Yes(slot) => return (stream, peer, slot),
                Placed::Refused => {
                    // Closed with a reset, which leaves nothing behind here.
                    let _set = stream.set_zero_linger();
                }
                Placed::Full => {
                    self.waiting = Some((stream, peer));
                    if !waits {
                        self.connections.waits(peer.ip(), self.limit);
                    }
                    let _changed = timeout(LOOK, self.slots.changed.notified()).await;
                }
            }
        }
    }

    /// The connection that waits for a place, when another server takes those that come: it was
    /// accepted here, so it is served here.
    pub(super) fn last(&mut self) -> Option<(TcpStream, SocketAddr, Slot)> {
        let (stream, peer) = self.waiting.take()?;
        match self.slots.place_last(peer.ip()) {
            Placed::Yes(slot) => Some((stream, peer, slot)),
            Placed::Refused | Placed::Full => {
                let _set = stream.set_zero_linger();
                None
            }
        }
    }

    async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            let accepted = timeout(LOOK, self.listener.accept()).await;
            if self.pressure.level() == Level::Hard {
                // What they sent ahead is held for them, and charged to no request.
                for _ in 0..SHED {
                    self.slots.shed(CloseReason::Memory);
                }
            }
            let Ok(accepted) = accepted else { continue };
            match accepted {
                Ok((stream, from)) => return (stream, socket::peer(from)),
                Err(error) => {
                    self.failures.log((), error.to_string());
                    // Most often there are too few file descriptors.
                    self.slots.shed(CloseReason::GaveWay);
                    sleep(BREATH).await;
                }
            }
        }
    }
}

/// The log of connections that cannot be accepted.
pub(super) fn failures() -> Throttle<(), String> {
    Throttle::new(|line| {
        let suppressed = line.suppressed();
        warn!(error = %line.detail, suppressed, "cannot accept a connection, trying again");
    })
}
