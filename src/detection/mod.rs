//! The pure core: audit events in, findings out. No I/O, no clock, no threads.
//!
//! In reading order: an audit event is read from JSON ([`json`]) or from a map, judged
//! ([`event`]) and becomes a [`hit::Hit`] with the [`address`] it counts for. [`screen`] does that
//! for requests off the wire, behind a byte filter. [`engine`] folds hits and ticks into findings
//! for the service; [`rows`] answers for a whole log at once.

pub mod address;
mod cluster;
pub mod engine;
mod escu;
pub mod event;
mod evidence;
mod filter;
pub mod finding;
mod floors;
mod gathered;
pub mod geo;
mod heap;
pub mod hit;
mod hits;
mod identity;
mod ids;
pub mod json;
mod lexer;
pub mod limits;
mod map;
mod native;
mod packed;
mod ranking;
mod report;
pub mod rows;
pub mod rule;
pub mod screen;
mod seen;
pub mod selector;
pub mod shapes;
pub mod text;
pub mod time;
mod values;

pub use finding::{Finding, Sample};
