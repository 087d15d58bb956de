//! auditwatch runs detections over Kubernetes audit logs.
//!
//! Audit logs arrive over OTLP. Findings leave to Splunk HEC, as OTLP logs, or to a file. The modules
//! in the order of the data:
//!
//! ```text
//!  main -> cli -> service -> config
//!
//!  receiver          authenticate, admit, read, submit: one function for each protocol
//!     | pdata            walks the OTLP bytes and shows each record to the visitor
//!     | detection::screen    prefilter (rules), one parse per event (audit), match: hits
//!  pipeline          intake -> admission -> engine task -> exporter lanes
//!     | processor        budgets of state, ticks
//!     | detection::engine    hits and ticks -> one shard per cluster -> emissions
//!     | finding          the typed finding that all exporters encode
//!  exporter          queue, delivery loop, destination
//! ```
//!
//! `audit` reads one event. `rules` loads detections from Sigma files. `detection` is the pure core:
//! no I/O, no clock, no threads. Receivers, processors and exporters do not depend on each other.
//! `http_server` and `tls` serve connections, `extension` holds authentication and the health check,
//! and `telemetry` our own logs, metrics and spans. ARCHITECTURE.md follows one record through these
//! modules.

pub mod audit;
pub mod cli;
pub mod clock;
pub mod config;
pub mod deadline;
pub mod detection;
pub mod endpoint;
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
pub mod proxy;
pub mod receiver;
pub mod redact;
pub mod reload;
pub mod rules;
pub mod service;
pub mod storage;
pub mod telemetry;
pub mod throttle;
pub mod tls;
pub mod visible;
mod yaml;
