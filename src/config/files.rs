//! Whether the files that a configuration names can be used here, for `validate`.
//!
//! It is no part of being right: a configuration is often checked where its secrets and databases
//! are not. So what cannot be read is a note, and not a problem.
use super::{ComponentId, Config, ExporterConfig, ExtensionConfig, ReceiverConfig};
use crate::{
    extension::bearer_token_auth::BearerTokenAuth,
    tls::{self, server::Acceptor},
    visible,
};

impl Config {
    /// What would keep it from starting on this machine as it is now, a line each. What is in no
    /// pipeline, or not among the extensions that are started, keeps nothing from it.
    pub fn notes(&self) -> Vec<String> {
        let pipelines = || self.pipelines.values();
        let receives = |id: &ComponentId| pipelines().any(|one| one.receivers.contains(id));
        let detects = |id: &ComponentId| pipelines().any(|one| one.processor == *id);
        let exports = |id: &ComponentId| pipelines().any(|one| one.exporters.contains(id));
        let mut notes = Vec::new();
        let mut note = |id: &dyn std::fmt::Display, why: Option<String>| {
            notes.extend(why.map(|why| format!("{id}: {why}")));
        };
        for (id, ReceiverConfig::Otlp(otlp)) in self.receivers.iter().filter(|(id, _)| receives(id))
        {
            let grpc = otlp.grpc.as_ref().and_then(|grpc| grpc.tls.as_ref());
            let http = otlp.http.as_ref().and_then(|http| http.tls.as_ref());
            for tls in grpc.into_iter().chain(http) {
                note(id, server(tls));
            }
        }
        for (id, detection) in self.processors.iter().filter(|(id, _)| detects(id)) {
            for path in &detection.geo_databases {
                let opened = opened(path).err();
                let why = |error| {
                    format!(
                        "geo::databases: cannot read {}: {error}",
                        visible::path(path)
                    )
                };
                note(id, opened.map(why));
            }
        }
        for (id, exporter) in self.exporters.iter().filter(|(id, _)| exports(id)) {
            let tls = match exporter {
                ExporterConfig::SplunkHec(hec) if hec.endpoint.starts_with("https://") => &hec.tls,
                ExporterConfig::OtlpGrpc(grpc) => &grpc.tls,
                ExporterConfig::OtlpHttp(http) if http.is_secure() => &http.tls,
                _ => continue,
            };
            note(id, tls.check().err().map(|error| error.to_string()));
        }
        let started = &self.service_extensions;
        for (id, extension) in self
            .extensions
            .iter()
            .filter(|(id, _)| started.contains(id))
        {
            let why = match extension {
                ExtensionConfig::BearerTokenAuth(auth) => BearerTokenAuth::new(auth)
                    .err()
                    .map(|error| error.to_string()),
                ExtensionConfig::FileStorage(_) => None,
                ExtensionConfig::HealthCheck(health) => health.tls.as_ref().and_then(server),
            };
            note(id, why);
        }
        notes
    }
}

fn server(config: &tls::server::Config) -> Option<String> {
    Acceptor::new(config, &[])
        .err()
        .map(|error| error.to_string())
}

/// Whether a file can be read. To open a pipe would wait for who writes into it.
fn opened(path: &std::path::Path) -> std::io::Result<()> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    std::fs::File::open(path).map(drop)
}
