//! x
pub mod finding;
pub mod time;
pub use finding::{Finding, Sample};
