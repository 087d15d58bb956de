//! Detections as data: what matches, by what it is grouped, in which windows it is counted, and
//! what a finding says of it.
//!
//! [`load`] reads Sigma rules and correlations, ours ([`shipped`]) and others, into [`model`]: a
//! detection as the engine runs it; nothing there knows a rule by name. `predicate` is the match
//! of a rule over `matcher` and [`derived`] fields, [`matches`](mod@matches) what a match makes of an event,
//! `group` the text of what it is grouped by, `labeler` which labels an event has (`remembered`
//! what that said of the last one). [`blind_spot`] is
//! what a rule about the feed of a cluster looks for.
//! [`settings`] are the parameters of the detection of scans that the configuration and the flags
//! of `scan` name one by one. `prefilter` rejects on raw bytes what cannot match, by what is
//! `necessary` for it.

pub mod blind_spot;
mod compiled;
pub mod derived;
pub mod group;
pub mod labeler;
pub mod load;
pub(crate) mod matcher;
pub mod matches;
pub mod model;
mod necessary;
pub(crate) mod pattern;
pub(crate) mod predicate;
pub(crate) mod prefilter;
mod remembered;
pub mod settings;
pub mod severity;
pub mod shipped;
pub mod switches;
pub mod trace;

pub use matcher::Scratch;
pub(crate) use matcher::number;
