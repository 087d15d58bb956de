//! The integration tests: one binary, so that it is linked once.
#![cfg(test)]

mod otlp_grpc;
mod splunk_hec;
mod support;
