//! Peers and helpers for the integration tests.

pub(crate) mod auditwatch;
pub(crate) mod certificates;
pub(crate) mod corpus;
pub(crate) mod events;
pub(crate) mod hec;
pub(crate) mod hits;
pub(crate) mod json;
pub(crate) mod judge;
pub(crate) mod mmdb;
pub(crate) mod otlp;
pub(crate) mod otlp_peer;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod props;
pub(crate) mod recorder;
pub(crate) mod sender;
pub(crate) mod stored;
pub(crate) mod tls_peers;
