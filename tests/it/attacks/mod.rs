//! Attacks on the real binary: what a client, a log line, an answer or an outage may cost at most.
//!
//! Each test is one attack that was seen to work, with others of its kind. Bounds are those that
//! ARCHITECTURE.md promises, with room for what a debug build and a busy machine add.

mod connections;
mod memory;
mod outages;
mod records;
mod state;
mod words;
