//! The pure core: audit events in, findings out. No I/O, no clock, no threads.
//!
//! In reading order: an audit event is read from JSON ([`json`]) or from a map, judged
//! ([`event`]) and becomes a [`hit::Hit`] with the [`address`] it counts for. [`screen`] does that
//! for requests off the wire, behind a prefilter. [`engine`] folds hits and ticks into findings
//! for the service; [`rows`] answers for a whole log at once.

pub mod activity;
mod begun_lines;
pub mod cases;
pub mod columns;
mod coverage;
mod dedup;
mod derived;
pub mod emission;
pub mod engine;
mod event_time;
mod eviction;
mod evidence;
mod evidence_log;
pub mod exclude;
pub mod explain;
mod feed;
mod follow_up;
mod following;
mod gathered;
pub mod geo;
mod group;
mod heap;
pub mod hit;
mod hit_counts;
mod hits;
mod index;
pub mod input;
mod joins;
mod judge;
mod key_table;
mod key_text;
mod keyed;
mod late;
pub mod limits;
mod naming;
mod packed;
mod page;
pub(crate) mod pieces;
mod raw_source;
mod report;
pub mod rows;
pub mod rule_rows;
pub mod screen;
mod screened;
mod session;
mod sessions;
mod shard;
mod slab;
pub(crate) mod sorted;
pub mod state;
mod steps;
mod texts;
mod threshold;
mod tumbling;
mod values;
pub mod watch;
mod wire;

use crate::{audit::map, finding::ids};
pub use crate::{
    audit::{address, envelope, event, fields, json, selector, shapes, text, time},
    finding::{self, Finding, Sample},
    rules::settings as rule,
};
