//! Detections as data: what matches, by what it is grouped, in which windows it is counted, and
//! what a finding says of it.
//!
//! [`model`] is a detection as the engine runs it; nothing there knows a rule by name. [`settings`]
//! are the parameters of the detection of scans that the configuration and the flags of `scan`
//! name one by one. [`prefilter`] rejects on raw bytes what cannot match.

pub mod model;
pub(crate) mod prefilter;
pub mod settings;
