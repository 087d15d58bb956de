//! What a server allows its connections.

use std::time::Duration;

use super::slots::{Bounds, Spare};

/// What one server allows its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `max_connections`: most connections at a time. A new one takes the place of one that has
    /// proved less; if there is none it waits.
    pub max_connections: usize,
    /// `max_connections_per_address`: most connections of one address at a time, IPv6 by its /64.
    /// `None`: half of `max_connections`.
    pub max_connections_per_address: Option<usize>,
    /// `max_concurrent_streams`: most requests of one HTTP/2 connection at a time.
    pub max_concurrent_streams: u32,
    /// How long a connection may take to its first byte.
    pub first_byte_timeout: Duration,
    /// How long a connection may take to its first complete request. While one goes on coming in,
    /// `read_timeout` counts.
    pub first_request_timeout: Duration,
    /// `read_header_timeout`: how long the headers of an HTTP/1.1 request may take from their first
    /// byte, and a TLS handshake, which has 10 s at most.
    pub read_header_timeout: Duration,
    /// `read_timeout`: how long a request may take to come in.
    pub read_timeout: Duration,
    /// `idle_timeout`, `keepalive::server_parameters::max_connection_idle`: a connection without a
    /// request for so long is closed.
    pub idle_timeout: Duration,
    /// How long an answer may take to leave.
    pub write_timeout: Duration,
    /// `keepalive::server_parameters::time`: how often an HTTP/2 peer is asked whether it is there.
    pub keepalive_time: Duration,
    /// `keepalive::server_parameters::timeout`: how long its answer may take.
    pub keepalive_timeout: Duration,
    /// Whether an HTTP/1.1 connection has more than one request.
    pub keep_alive: bool,
    /// How long connections are spared at `max_connections`.
    pub spare: Spare,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Two servers and the exporters fit into the usual 1024 file descriptors.
            max_connections: 400,
            max_connections_per_address: None,
            max_concurrent_streams: 100,
            first_byte_timeout: Duration::from_secs(10),
            first_request_timeout: Duration::from_secs(30),
            read_header_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_mins(1),
            idle_timeout: Duration::from_mins(5),
            write_timeout: Duration::from_secs(30),
            keepalive_time: Duration::from_mins(1),
            keepalive_timeout: Duration::from_secs(20),
            keep_alive: true,
            spare: Spare::default(),
        }
    }
}

impl Limits {
    /// Limits of a server that is asked briefly, such as by probes: this number of connections, each with
    /// 2 s for its request, and a new one never waits for those that ask nothing.
    pub fn brief(max_connections: usize) -> Self {
        const BRIEF: Duration = Duration::from_secs(2);
        Self {
            max_connections,
            // Probes of one node and of what else runs there have one address.
            max_connections_per_address: Some(max_connections),
            max_concurrent_streams: 10,
            first_byte_timeout: BRIEF,
            first_request_timeout: BRIEF,
            read_header_timeout: BRIEF,
            write_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            spare: Spare::NONE,
            ..Self::default()
        }
    }

    /// How many connections there may be.
    pub(super) fn bounds(&self) -> Bounds {
        let half = (self.max_connections / 2).max(1);
        Bounds {
            connections: self.max_connections,
            per_address: self.max_connections_per_address.unwrap_or(half),
            spare: self.spare,
        }
    }
}
