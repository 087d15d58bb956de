//! The integration tests: one binary, so that it is linked once.
#![cfg(test)]

mod attacks;
mod collector;
mod collector_tls;
mod deadlines;
mod docs;
mod engine;
mod engine_backlog;
mod engine_detections;
mod engine_escu;
mod engine_limits;
mod engine_state;
mod floors;
mod goldens;
mod health_check;
mod otlp_exporters;
mod otlp_grpc;
mod otlp_http;
mod receiver_auth;
mod receiver_limits;
mod receiver_tls;
mod replay;
mod rows;
mod scan_cli;
mod scan_html;
mod screen;
mod selector;
mod service;
mod splunk_hec;
mod splunk_hec_tls;
mod support;
mod telemetry;
mod terminal;
mod walk;
