//! Processors: between receivers and exporters. There is one kind, [`detection`]. [`gate`] decides
//! which of its findings leave, by a [`filter`].

pub mod detection;
pub mod filter;
pub mod gate;
