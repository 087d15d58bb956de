//! The configuration loaded again while the service runs.
//!
//! All parts that have changed are made first. If one of them cannot be, or a key has changed that
//! needs a restart, nothing happens: one configuration is in use, whole. Otherwise they take their
//! places one after the other. What has not changed is not touched: listeners, connections, windows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use tracing::{error, info};

use super::{
    common::Common,
    exporters,
    files::Files,
    prepared::{detection, prepared, warn_of},
    receivers::{Authenticators, Server, ServerId, Servers},
    stored,
};
use crate::{
    clock,
    config::{
        ComponentId, Config, ExporterConfig, ExtensionConfig, ReceiverConfig, Section, is_below,
    },
    detection::time::Micros,
    exporter::{dead_letter::Counters, replaceable::Ready},
    extension::bearer_token_auth::BearerTokenAuth,
    pipeline::{Change, Control},
    processor::detection::Detection,
};

/// What runs, with the configuration that it was made of.
#[derive(Default)]
pub(super) struct Running {
    pub(super) config: Config,
    pub(super) files: Files,
    /// The state of a detection that writes no budget, in bytes.
    pub(super) state: usize,
    pub(super) authenticators: Authenticators,
    pub(super) exporters: BTreeMap<ComponentId, exporters::Running>,
    pub(super) pipelines: BTreeMap<ComponentId, Control>,
    pub(super) servers: Servers,
}

/// Why a configuration is not applied: every reason there is. The one before stays in use.
#[derive(Debug)]
pub struct Refused(Vec<String>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Refused {}

/// Changed keys that the log names.
const MOST_KEYS: usize = 20;

/// Where a key belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// To a component.
    Component(Section, ComponentId),
    /// To the exporters of a pipeline.
    Exporters,
    /// It is read whenever it is needed.
    Live,
    /// It cannot change without a restart.
    Fixed,
}

/// Keys below a component that cannot change without a restart.
const FIXED: [(Section, &str); 2] = [
    (Section::Processors, "storage"),
    (Section::Processors, "limits::memory_mib"),
];

impl Place {
    fn of(key: &str) -> Self {
        let mut steps = key.splitn(3, "::");
        let (Some(section), Some(name)) = (steps.next(), steps.next()) else {
            return Self::Fixed;
        };
        let rest = steps.next().unwrap_or_default();
        let section = match section {
            "receivers" => Section::Receivers,
            "processors" => Section::Processors,
            "exporters" => Section::Exporters,
            "extensions" => Section::Extensions,
            "service" => return Self::of_service(name, rest),
            _ => return Self::Fixed,
        };
        let Ok(id) = name.trim().parse::<ComponentId>() else {
            return Self::Fixed;
        };
        let mut fixed = FIXED.iter().filter(|(of, _)| *of == section);
        let is_fixed = fixed.any(|(_, key)| is_below(rest, key))
            || section == Section::Extensions && id.kind() != "bearertokenauth";
        if is_fixed {
            Self::Fixed
        } else {
            Self::Component(section, id)
        }
    }

    fn of_service(name: &str, rest: &str) -> Self {
        let below = rest.split_once("::").map(|(_pipeline, below)| below);
        match (name, below) {
            ("shutdown_timeout" | "reload_interval", _) => Self::Live,
            ("pipelines", Some(below)) if is_below(below, "exporters") => Self::Exporters,
            _ => Self::Fixed,
        }
    }
}

/// What differs between what runs and a new configuration.
struct Differences {
    keys: Vec<String>,
    /// Components that are made anew.
    components: BTreeSet<(Section, ComponentId)>,
    /// Whether pipelines have other exporters.
    exporters: bool,
    /// Keys that need a restart.
    fixed: Vec<String>,
}

impl Differences {
    fn between(running: &Running, config: &Config, files: &Files) -> Self {
        let keys = running.config.written.changes(&config.written);
        let mut components = running.files.changes(files);
        let (mut exporters, mut fixed) = (false, Vec::new());
        for key in &keys {
            match Place::of(key) {
                Place::Component(section, id) => {
                    components.insert((section, id));
                }
                Place::Exporters => exporters = true,
                Place::Live => {}
                Place::Fixed => fixed.push(key.clone()),
            }
        }
        // What is in no pipeline needs no restart.
        fixed.retain(|key| running.uses(key) || uses(config, key));
        Self {
            keys,
            components,
            exporters,
            fixed,
        }
    }

    fn has(&self, section: Section, id: &ComponentId) -> bool {
        self.components.contains(&(section, id.clone()))
    }

    fn any(&self, section: Section) -> bool {
        self.components.iter().any(|(of, _)| *of == section)
    }
}

impl Running {
    fn uses(&self, key: &str) -> bool {
        uses(&self.config, key)
    }
}

/// Whether a key is of the service or of a component that runs.
fn uses(config: &Config, key: &str) -> bool {
    let mut steps = key.splitn(3, "::");
    let (section, name) = (steps.next(), steps.next().unwrap_or_default());
    let Ok(id) = name.trim().parse::<ComponentId>() else {
        return true;
    };
    let mut pipelines = config.pipelines.values();
    match section {
        Some("processors") => pipelines.any(|parts| parts.processor == id),
        Some("exporters") => pipelines.any(|parts| parts.exporters.contains(&id)),
        Some("extensions") => config.service_extensions.contains(&id),
        _ => true,
    }
}

/// All parts that take the places of others.
struct Prepared {
    authenticators: Authenticators,
    exporters: Vec<(ComponentId, Ready, Arc<Counters>)>,
    detections: BTreeMap<ComponentId, Box<Detection>>,
    servers: Vec<(ComponentId, ComponentId, Server)>,
    /// Servers of protocols that are not configured any more.
    stopped: Vec<ServerId>,
}

impl Running {
    /// Loads a configuration with these files in the place of the one that runs.
    pub(super) async fn reload(
        &mut self,
        common: &Common,
        config: Config,
        files: Files,
    ) -> Result<(), Refused> {
        let differences = Differences::between(self, &config, &files);
        if differences.keys.is_empty() && differences.components.is_empty() {
            info!("the configuration was read again, nothing has changed");
            return Ok(());
        }
        let prepared = self.prepare(&config, &differences).await?;
        self.apply(common, prepared, config, differences).await?;
        self.files = files;
        Ok(())
    }

    /// Makes all that has changed.
    async fn prepare(
        &self,
        config: &Config,
        differences: &Differences,
    ) -> Result<Prepared, Refused> {
        let mut problems: Vec<String> = Vec::new();
        for key in &differences.fixed {
            problems.push(format!("{key} has changed, which needs a restart"));
        }
        let mut problem = |error: anyhow::Error| problems.push(format!("{error:#}"));
        let authenticators = self.authenticators(config, differences, &mut problem).await;
        let exporters = self.exporters(config, differences, &mut problem).await;
        let mut detections = BTreeMap::new();
        for (id, parts) in &config.pipelines {
            if differences.has(Section::Processors, &parts.processor)
                && let Some(of) = config.processors.get(&parts.processor)
            {
                match detection(&parts.processor, of.clone(), self.state).await {
                    Ok(detection) => {
                        detections.insert(id.clone(), Box::new(detection));
                    }
                    Err(error) => problem(error),
                }
            }
        }
        let (mut made, mut stopped) = (Vec::new(), Vec::new());
        for (pipeline, receiver, of) in changed_receivers(config, differences) {
            match self.servers.listen(receiver, of, &authenticators).await {
                Ok(servers) => {
                    stopped.extend(self.servers.others(receiver, &servers));
                    for server in servers {
                        made.push((pipeline.clone(), receiver.clone(), server));
                    }
                }
                Err(error) => problem(error),
            }
        }
        if !problems.is_empty() {
            return Err(Refused(problems));
        }
        Ok(Prepared {
            authenticators,
            exporters,
            detections,
            servers: made,
            stopped,
        })
    }

    /// Who may send, with what has changed of it.
    async fn authenticators(
        &self,
        config: &Config,
        differences: &Differences,
        problem: &mut impl FnMut(anyhow::Error),
    ) -> Authenticators {
        let mut authenticators = self.authenticators.clone();
        for id in &config.service_extensions {
            if let Some(ExtensionConfig::BearerTokenAuth(of)) = config.extensions.get(id)
                && differences.has(Section::Extensions, id)
            {
                let of = of.clone();
                match prepared(move || Ok(BearerTokenAuth::new(&of)?)).await {
                    Ok(auth) => {
                        authenticators.insert(id.clone(), auth);
                    }
                    Err(error) => problem(error.context(format!("extension {id}"))),
                }
            }
        }
        authenticators
    }

    /// The exporters that have changed or are new in a pipeline.
    async fn exporters(
        &self,
        config: &Config,
        differences: &Differences,
        problem: &mut impl FnMut(anyhow::Error),
    ) -> Vec<(ComponentId, Ready, Arc<Counters>)> {
        let mut made = Vec::new();
        let used = config.pipelines.values().flat_map(|parts| &parts.exporters);
        for id in used.collect::<BTreeSet<_>>() {
            let Some(of) = config.exporters.get(id) else {
                continue;
            };
            let running = self.exporters.get(id);
            if running.is_some_and(|running| !running.has_queue_of(of)) {
                let key = format!("exporters::{id}::sending_queue");
                problem(anyhow::anyhow!("{key} has changed, which needs a restart"));
                continue;
            }
            // The token of an extension is among the settings of an exporter that names it.
            let has_auth = match of {
                ExporterConfig::OtlpGrpc(of) => of.auth.is_some(),
                ExporterConfig::OtlpHttp(of) => of.auth.is_some(),
                _ => false,
            };
            let is_changed = differences.has(Section::Exporters, id)
                || has_auth && differences.any(Section::Extensions);
            // One that was away may have changed meanwhile.
            let is_back = running.is_some_and(|running| !running.is_used());
            if running.is_none() || is_changed || is_back {
                let letters = running.map(exporters::Running::letters).unwrap_or_default();
                match exporters::ready(id, of, Arc::clone(&letters), false).await {
                    Ok(ready) => made.push((id.clone(), ready, letters)),
                    Err(error) => problem(error),
                }
            }
        }
        made
    }

    /// Puts all parts in their places.
    async fn apply(
        &mut self,
        common: &Common,
        prepared: Prepared,
        config: Config,
        differences: Differences,
    ) -> Result<(), Refused> {
        let Prepared {
            authenticators,
            exporters,
            mut detections,
            servers,
            stopped,
        } = prepared;
        self.authenticators = authenticators;
        for (id, ready, letters) in exporters {
            if let Some(running) = self.exporters.get(&id) {
                running.replace.with(ready);
            } else if let Some(of) = config.exporters.get(&id) {
                let running = exporters::run(common, (&id, of), ready, letters);
                self.exporters.insert(id, running);
            }
        }
        stored::keep(&self.exporters, &config.pipelines, &config.processors);
        let now = Micros::from_unix_nanos(clock::unix_nanos()).unwrap_or_default();
        for (id, parts) in &config.pipelines {
            let detection = detections.remove(id);
            if detection.is_none() && !differences.exporters {
                continue;
            }
            if detection.is_some()
                && let Some(of) = config.processors.get(&parts.processor)
            {
                warn_of(&parts.processor, of, now);
            }
            let change = Change {
                detection,
                queues: stored::queues_of(parts, &self.exporters),
            };
            if let Some(control) = self.pipelines.get(id) {
                match control.apply(change).await {
                    Ok(begun) if begun.is_empty() => {}
                    Ok(begun) => info!(
                        pipeline = %id,
                        detections = begun.join(", "),
                        "their windows begin anew, for what shapes them has changed"
                    ),
                    Err(_ended) => {
                        let problem = format!("pipeline {id} has ended: restart auditwatch");
                        return Err(Refused(vec![problem]));
                    }
                }
            }
        }
        for (id, running) in &self.exporters {
            let mut pipelines = config.pipelines.values();
            running.use_it(pipelines.any(|parts| parts.exporters.contains(id)));
        }
        for id in &stopped {
            self.servers.stop(id);
        }
        for (pipeline, receiver, server) in servers {
            if let Some(control) = self.pipelines.get(&pipeline) {
                let intake = control.intake();
                self.servers.start(common, &receiver, server, intake);
            }
        }
        self.config = config;
        info!(
            keys = %first_of(&differences.keys),
            files_of = %names(&differences.components),
            "the configuration was loaded again"
        );
        Ok(())
    }
}

/// Receivers that are made anew, with their pipelines.
fn changed_receivers<'a>(
    config: &'a Config,
    differences: &Differences,
) -> Vec<(&'a ComponentId, &'a ComponentId, &'a ReceiverConfig)> {
    let mut changed = Vec::new();
    for (pipeline, parts) in &config.pipelines {
        for id in &parts.receivers {
            let Some(of) = config.receivers.get(id) else {
                continue;
            };
            let has_other_auth = |id| differences.has(Section::Extensions, id);
            if differences.has(Section::Receivers, id) || of.authenticators().any(has_other_auth) {
                changed.push((pipeline, id, of));
            }
        }
    }
    changed
}

/// Keys for the log, not all of very many.
fn first_of(keys: &[String]) -> String {
    let shown: Vec<&str> = keys.iter().take(MOST_KEYS).map(String::as_str).collect();
    match keys.len().saturating_sub(MOST_KEYS) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn names(components: &BTreeSet<(Section, ComponentId)>) -> String {
    let names: Vec<_> = components.iter().map(|(_, id)| id.to_string()).collect();
    names.join(", ")
}

/// Says why a configuration is not applied.
pub fn log_refused(refused: &dyn fmt::Display) {
    for problem in refused.to_string().lines() {
        error!(
            problem,
            "the configuration was not applied, the one before stays in use"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_place() {
        let component = |section, id: &str| Place::Component(section, id.parse().unwrap());
        for (key, wanted) in [
            (
                "receivers::otlp::protocols::grpc::endpoint",
                component(Section::Receivers, "otlp"),
            ),
            (
                "processors::detection/b::threshold",
                component(Section::Processors, "detection/b"),
            ),
            (
                "processors::detection::limits::keys",
                component(Section::Processors, "detection"),
            ),
            ("processors::detection::limits::memory_mib", Place::Fixed),
            ("processors::detection::storage", Place::Fixed),
            (
                "exporters::splunk_hec::token",
                component(Section::Exporters, "splunk_hec"),
            ),
            (
                "extensions::bearertokenauth::token",
                component(Section::Extensions, "bearertokenauth"),
            ),
            ("extensions::health_check::endpoint", Place::Fixed),
            ("service::pipelines::logs::exporters::0", Place::Exporters),
            ("service::pipelines::logs/b::exporters", Place::Exporters),
            ("service::pipelines::logs::receivers::0", Place::Fixed),
            ("service::pipelines::logs", Place::Fixed),
            ("service::shutdown_timeout", Place::Live),
            ("service::telemetry::logs::level", Place::Fixed),
            ("service", Place::Fixed),
        ] {
            assert_eq!(Place::of(key), wanted, "{key}");
        }
    }
}
