//! The pure core: audit events in, findings out. No I/O, no clock, no threads.
//!
//! In reading order: an audit event is read from JSON ([`json`]) or from a map, judged
//! ([`event`]) and becomes a [`hit::Hit`] with the [`address`] it counts for. [`screen`] does that
//! for requests off the wire, behind a byte filter. [`engine`] folds hits and ticks into findings
//! for the service; [`rows`] answers for a whole log at once.

pub mod cases;
mod cluster;
pub mod engine;
mod escu;
mod evidence;
mod floors;
mod gathered;
pub mod geo;
mod heap;
pub mod hit;
mod hits;
mod judge;
pub mod limits;
mod native;
mod packed;
mod ranking;
mod report;
pub mod rows;
pub mod rule_rows;
pub mod screen;
mod seen;
mod texts;
mod values;

use crate::{audit::map, finding::ids};
pub use crate::{
    audit::{address, event, fields, json, selector, shapes, text, time},
    finding::{self, Finding, Sample},
    rules::settings as rule,
};
