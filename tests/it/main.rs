//! The integration tests: one binary, so that it is linked once.
#![cfg(test)]

mod collector;
mod floors;
mod otlp_grpc;
mod service;
mod splunk_hec;
mod support;
