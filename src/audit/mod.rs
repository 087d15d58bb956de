//! One Kubernetes audit event: read from JSON or from a parsed map, whatever sent it.
//!
//! [`event`] is what is read, from JSON text ([`json`], over `lexer`) or from a map of OTLP
//! values (`map`); [`fields`] is the table of what is kept of it, [`path`] leads to any other field.
//! [`address`] finds the source address that can be trusted, `identity` says
//! which two events are one request, [`time`] is event time. [`selector`] looks at the attributes
//! around an event, `envelope` takes events out of what senders put around them, and [`shapes`]
//! describes records that hold none.

pub mod address;
pub mod envelope;
pub mod event;
pub mod fields;
pub(crate) mod identity;
pub mod json;
pub(crate) mod lexer;
pub(crate) mod map;
pub(crate) mod marked;
pub mod path;
mod reading;
pub mod selector;
pub mod shapes;
pub mod text;
pub mod time;

pub use identity::Identity;
