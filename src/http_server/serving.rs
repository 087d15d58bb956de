//! Serving: accepts connections until the server stops, and waits for those that have begun.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    accepting::{self, Accepting},
    connection::{Parts, Server, Streams},
    handler::Handler,
    limits::Limits,
    listening::Listening,
    slots::{Slot, Slots},
};

/// How long the last answers may take to leave when no more time is given.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long the connections of a server that is replaced may bring requests before they are asked to
/// end.
const HANDOVER: Duration = Duration::from_secs(2);

/// When a server ends.
#[derive(Clone, Debug)]
pub struct Ends {
    /// No more connections; what has begun may end.
    pub stop: CancellationToken,
    /// Another server takes the connections that come; those that are here may go on for a moment.
    pub replaced: CancellationToken,
    /// What has not ended by now is left.
    pub cut: CancellationToken,
}

/// Serves until `stop`, then finishes what has begun, until `cut`. Connections end with it.
pub async fn serve<H: Handler>(listening: Listening, limits: Limits, handler: H, ends: Ends) {
    let Listening {
        listener,
        address,
        versions,
        tls,
        connections,
        pressure,
        ..
    } = listening;
    connections.move_to(address);
    let streams = TaskTracker::new();
    let slots = Arc::new(Slots::new(limits.bounds(), Arc::clone(&connections)));
    let stop = ends.stop.child_token();
    let parts = Parts {
        versions,
        tls,
        address,
        connections: Arc::clone(&connections),
        streams: Streams(streams.clone()),
        stop: stop.clone(),
    };
    let server = Arc::new(Server::new(&limits, parts));
    let mut accepting = Accepting {
        listener,
        slots,
        connections,
        pressure,
        limit: limits.max_connections,
        waiting: None,
        failures: accepting::failures(),
    };
    let mut tasks = JoinSet::new();
    let connect = |tasks: &mut JoinSet<()>, (stream, peer, slot): (TcpStream, SocketAddr, Slot)| {
        // Without it answers are only later, not wrong.
        let _set = stream.set_nodelay(true);
        let (server, handler) = (Arc::clone(&server), handler.clone());
        tasks.spawn(async move { server.connected(stream, peer, slot, handler).await });
    };
    loop {
        let accepted = tokio::select! {
            () = ends.stop.cancelled() => break,
            () = ends.replaced.cancelled() => {
                if let Some(last) = accepting.last() {
                    connect(&mut tasks, last);
                }
                break;
            }
            Some(_) = tasks.join_next() => continue,
            // It may be dropped at any time: a connection that waits for a place is kept.
            accepted = accepting.next() => accepted,
        };
        connect(&mut tasks, accepted);
        // In a flood the new connection is looked at before it may have to give way.
        yield_now().await;
    }
    drop(accepting);
    streams.close();
    let mut finish = pin!(async {
        while tasks.join_next().await.is_some() {}
        streams.wait().await;
    });
    // Hyper closes a connection that is asked to end before its first request has come.
    tokio::select! {
        () = &mut finish => return,
        () = ends.stop.cancelled() => {}
        () = ends.cut.cancelled() => {}
        () = sleep(HANDOVER) => {}
    }
    stop.cancel();
    tokio::select! {
        () = &mut finish => {}
        () = ends.cut.cancelled() => {
            let _finished = timeout(LAST_WORDS, finish).await;
        }
    }
}
