//! OTLP log data on the wire, without building it.
//!
//! [`Walk`] takes the bytes of an `ExportLogsServiceRequest` as they come off the socket, in
//! pieces of any size, and shows each log record to a [`Visitor`] as soon as its last byte is
//! there. A record that lies whole in one piece is never copied; one that straddles two is put
//! together in a buffer that is used again. Nothing is decoded into messages.
//!
//! What is malformed is what `prost` calls malformed, with one exception: text that is no UTF-8
//! is let through, because the Collector lets it through and one bad byte in one record must not
//! cost its neighbours. Readers replace such bytes with U+FFFD.
//!
//! The schema is one table for protobuf and JSON (`schema.rs`). A request in JSON is written as
//! protobuf ([`json`]) and then walked like any other.

pub mod buffer;
pub mod json;
mod record;
mod schema;
mod single;
mod sink;
mod walk;
mod wire;

pub use record::{AnyValue, KeyValues, Record, Values};
pub use single::record_of;
pub use sink::Sink;
pub use walk::{Visitor, Walk};
pub use wire::Malformed;
