//! Processors: between receivers and exporters. There is one kind, [`detection`].

pub mod detection;
