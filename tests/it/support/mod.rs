//! Peers and helpers for the integration tests.

pub(crate) mod hec;
