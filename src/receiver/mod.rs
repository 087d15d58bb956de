//! Receivers: requests off the wire to the consumer behind them, and the answer to their sender.
//!
//! The life of a request is four steps, one after the other, in one function of each protocol
//! ([`otlp_grpc`], [`otlp_http`], [`k8s_audit_webhook`]): authenticate, admit, read, submit. A receiver knows OTLP log data
//! (`pdata`) and shows it to the visitor of its [`Consumer`] while the bytes arrive. What the visitor
//! looks for, and what to answer, is decided behind the consumer.

mod admission;
mod consumer;
mod decompress;
pub mod k8s_audit_webhook;
pub mod otlp_grpc;
pub mod otlp_http;
mod reading;
mod refusal;
mod rejection;
mod server;
mod steps;
mod turns;

pub use admission::Admission;
pub use consumer::{Accepted, Consumer, RejectedRecords};
pub use refusal::{Holder, Reason, Refusal};
pub use server::Shared;

pub use crate::http_server::{Class, Connections, Error, Limits};
