//! x
mod config;
pub use config::{Config, TlsConfig};
