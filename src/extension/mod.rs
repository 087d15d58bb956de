//! Extensions: what stands beside the data, as in the Collector.

pub mod bearer_token_auth;
pub mod file_storage;
pub mod health_check;
