//! The files that a configuration names, and whether they can be used here.
//!
//! To be usable is no part of being right: a configuration is often checked where its secrets and databases
//! are not. So what cannot be read is a note, and not a problem.
use std::{collections::BTreeMap, path::PathBuf};

use super::{ComponentId, Config, ExporterConfig, ExtensionConfig};
use crate::{
    extension::bearer_token_auth::BearerTokenAuth,
    tls::{self, Pem, server::Acceptor},
    visible,
};

/// A section of the configuration that holds components.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// `receivers`.
    Receivers,
    /// `processors`.
    Processors,
    /// `exporters`.
    Exporters,
    /// `extensions`.
    Extensions,
}

impl Config {
    /// The files and folders that each component reads when it is made.
    ///
    /// A server that reads its certificates again by itself (`reload_interval`) has none here, for
    /// that ends no connection; nor has a file of tokens, which is read again by itself too.
    pub fn files(&self) -> BTreeMap<(Section, ComponentId), Vec<PathBuf>> {
        let mut files: BTreeMap<_, Vec<PathBuf>> = BTreeMap::new();
        for (id, receiver) in &self.receivers {
            let servers = receiver.tls();
            for tls in servers.filter(|tls| tls.reload_interval.is_none()) {
                let of = files.entry((Section::Receivers, id.clone())).or_default();
                of.extend([&tls.cert, &tls.key].into_iter().filter_map(file));
                of.extend(tls.client_ca_file.clone());
            }
        }
        for (id, detection) in &self.processors {
            let of = files.entry((Section::Processors, id.clone())).or_default();
            of.extend(detection.geo_databases.iter().cloned());
            of.extend(detection.rules.iter().map(PathBuf::from));
        }
        for (id, exporter) in &self.exporters {
            let tls: &tls::client::Config = match exporter {
                ExporterConfig::SplunkHec(config) => &config.tls,
                ExporterConfig::OtlpGrpc(config) => &config.tls,
                ExporterConfig::OtlpHttp(config) => &config.tls,
                ExporterConfig::File(_) | ExporterConfig::Debug(_) => continue,
            };
            let of = files.entry((Section::Exporters, id.clone())).or_default();
            let all = [&tls.ca, &tls.cert, &tls.key].into_iter().flatten();
            of.extend(all.filter_map(file));
        }
        files
    }

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
        for (id, receiver) in self.receivers.iter().filter(|(id, _)| receives(id)) {
            for tls in receiver.tls() {
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

fn file(pem: &Pem) -> Option<PathBuf> {
    match pem {
        Pem::File(path) => Some(path.clone()),
        Pem::Text(_) => None,
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
