//! auditwatch finds unauthenticated addresses that scan a Kubernetes API server.
//!
//! Audit logs come in over OTLP, findings go out to Splunk HEC. The modules in the order in which
//! the data flows, with what each may use below it:
//!
//! ```text
//!  main -> cli -> service -> config, pipeline
//!
//!  receiver          bytes off the wire, frame by frame
//!     | detection::screen     pdata walks them; almost nothing comes out: hits
//!  pipeline          intake, admission, engine task, exporter lanes
//!     | processor -> detection::engine     hits and ticks to findings
//!  exporter          queue, retry, and the way out
//! ```
//!
//! `detection` is the pure core and knows `pdata`, and `visible` for text that others wrote. Receivers, processors and exporters never
//! know each other. `http_server` and `tls` are what others connect to, `extension` stands beside the
//! data. ARCHITECTURE.md follows one batch through these modules.

pub mod audit;
pub mod cli;
pub mod clock;
pub mod config;
pub mod deadline;
pub mod detection;
pub mod exporter;
pub mod extension;
pub mod finding;
pub mod geo;
pub mod http_server;
pub mod memory;
pub mod pdata;
pub mod pipeline;
pub mod processor;
pub mod proto;
pub mod receiver;
pub mod redact;
pub mod reload;
pub mod rules;
pub mod service;
pub mod telemetry;
pub mod throttle;
pub mod tls;
pub mod visible;
mod yaml;
