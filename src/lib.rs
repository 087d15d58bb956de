//! auditwatch, in the order in which the data flows.
pub mod clock;
pub mod detection;
pub mod exporter;
pub mod pdata;
