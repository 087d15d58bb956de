//! Peers and helpers for the integration tests.

pub(crate) mod corpus;
pub(crate) mod hec;
pub(crate) mod process;
pub(crate) mod sender;
