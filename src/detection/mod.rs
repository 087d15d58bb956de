//! The pure core: audit events in, findings out. No I/O, no clock, no threads.
pub mod finding;
pub mod limits;
pub mod rule;
pub mod time;

pub use finding::{Finding, Sample};
