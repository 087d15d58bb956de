//! auditwatch, in the order in which the data flows.
pub mod cli;
pub mod clock;
pub mod detection;
pub mod exporter;
pub mod geo;
pub mod pdata;
