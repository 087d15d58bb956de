//! What is sent: the shape of records, requests and connections.

use clap::{Args, ValueEnum};

/// How a record holds its event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Body {
    /// JSON text.
    #[default]
    Text,
    /// The same as bytes.
    Bytes,
    /// A map, as a parser in front of the exporter makes it.
    Map,
    /// JSON text of a list of 100 events.
    EventList,
}

/// How a request is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    /// Not at all.
    #[default]
    None,
    /// As the Collector does by default.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// How a request is carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// OTLP over gRPC.
    #[default]
    Grpc,
    /// OTLP over HTTP/1.1, protobuf.
    Http,
}

/// What is sent.
#[derive(Args, Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scenario {
    /// How a record holds its event
    #[arg(long, value_enum, default_value_t)]
    pub(crate) body: Body,
    /// How a request is compressed
    #[arg(long, value_enum, default_value_t)]
    pub(crate) compression: Compression,
    /// How a request is carried
    #[arg(long, value_enum, default_value_t)]
    pub(crate) protocol: Protocol,
    /// Records of a request
    #[arg(long, default_value_t = 1000)]
    pub(crate) batch: usize,
    /// Connections that send at the same time
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: usize,
    /// Share of the events that are refused requests without credentials
    #[arg(long, default_value_t = 0.0)]
    pub(crate) hits: f64,
    /// Addresses that these come from; 0: each from an address of its own
    #[arg(long, default_value_t = 10)]
    pub(crate) addresses: u32,
    /// Clusters that events are of
    #[arg(long, default_value_t = 1)]
    pub(crate) clusters: u32,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            body: Body::Text,
            compression: Compression::None,
            protocol: Protocol::Grpc,
            batch: 1000,
            connections: 1,
            hits: 0.0,
            addresses: 10,
            clusters: 1,
        }
    }
}
