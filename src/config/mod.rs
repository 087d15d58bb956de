//! The configuration: read from YAML, checked, and typed.
//!
//! It has the Collector's shape. Reading has four steps. `yaml.rs` parses YAML to a tree with
//! positions. `source.rs` merges the trees of all sources. `read.rs` reads typed settings from the
//! tree and replaces variables (`env.rs`). This module checks that the settings fit together and
//! makes a [`Config`]. All errors are reported at once, each with file, line and column. Only this
//! module reads the environment.
mod client;
mod components;
mod detection;
mod env;
mod error;
mod exclude;
mod exporters;
mod extensions;
mod files;
mod forms;
mod hints;
mod id;
mod listen;
mod model;
mod otel_env;
mod otlp_exporters;
mod print;
mod queue;
mod read;
mod receivers;
mod server_tls;
mod service;
mod settings;
mod source;
mod telemetry;
#[cfg(test)]
mod tests;
mod value;
mod written;

use std::collections::BTreeMap;

pub use detection::DetectionConfig;
pub use error::ConfigError;
pub use files::Section;
pub use id::{ComponentId, InvalidId};
pub use model::{
    Config, Encoding, ExporterConfig, ExtensionConfig, Level, LogsConfig, OtlpReceiver,
    PipelineConfig, ReceiverConfig, WebhookReceiver,
};
pub use source::Source;
pub use written::{Written, is_below};

use crate::{proxy::Proxies, yaml};
use service::{Defined, SERVICE, State};

/// The types of components that a configuration may name, by section.
pub fn component_types() -> [(&'static str, &'static [&'static str]); 4] {
    [
        ("receivers", components::RECEIVERS.known),
        ("processors", components::PROCESSORS.known),
        ("exporters", components::EXPORTERS.known),
        ("extensions", components::EXTENSIONS.known),
    ]
}

/// Reads a configuration from its sources, with the variables of the process's environment.
///
/// # Errors
/// All errors in it, also of sources that cannot be read.
pub fn load(sources: &[Source]) -> Result<Config, ConfigError> {
    checked(source::load(sources, &variable), &variable).map(|(config, _)| config)
}

/// The same, as YAML: merged, variables and files replaced, and every secret as `[REDACTED]`.
///
/// # Errors
/// As [`load`]; a configuration with errors is not printed.
pub fn print(sources: &[Source]) -> Result<String, ConfigError> {
    checked(source::load(sources, &variable), &variable)
        .map(|(_, root)| print::yaml(&root, &variable))
}

/// The proxies of the process's environment, for what is not configured.
pub fn proxies() -> Proxies {
    Proxies::of(&variable)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads a configuration from a text. Messages call it `name`; `env` looks up variables.
///
/// # Errors
/// All errors in it.
pub fn parse(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigError> {
    checked(source::load_text(name, text, env), env).map(|(config, _)| config)
}

/// The loaded configuration, as settings and as the tree that they were read from.
fn checked(
    loaded: source::Loaded,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Config, yaml::Node), ConfigError> {
    let source::Loaded {
        root,
        problems,
        places,
    } = loaded;
    let Some(root) = root else {
        return Err(places.error(problems));
    };
    // Before the values are read: a file that `${file:}` names may change in between, and is then seen
    // to differ when the configuration is read again.
    let written = Written::of(&root, env);
    let reader = read::Reader::new(env, problems);
    let mut config = config(reader.root(&root));
    use_proxies(&mut config, &Proxies::of(env));
    let (problems, notes) = reader.into_found();
    if problems.is_empty() {
        config.without_effect = places.lines(notes);
        config.written = written;
        Ok((config, root))
    } else {
        Err(places.error(problems))
    }
}

/// Reads the whole tree. The result can be used only if there was no problem.
fn config(root: read::Place<'_>) -> Config {
    let root = root.section(&components::ROOT.table);
    let service = root
        .place("service")
        .map(|place| place.section(&SERVICE.table));
    // Others refer to extensions, so they come first.
    let extensions =
        components::EXTENSIONS.read(root.place("extensions").as_ref(), extensions::extension);
    let started = service.as_ref().map_or_else(Vec::new, |section| {
        service::extensions(section, &|id| State::of(&extensions, id))
    });
    let authenticators = extensions::Authenticators {
        defined: &extensions,
        started: &started,
    };
    let receivers = components::RECEIVERS.read(root.place("receivers").as_ref(), |kind, place| {
        Some(match kind {
            "k8s_audit_webhook" => receivers::webhook(place, &authenticators),
            _ => receivers::receiver(place, &authenticators),
        })
    });
    let processors = components::PROCESSORS.read(root.place("processors").as_ref(), |_, place| {
        let section = place.section(&detection::DETECTION.table);
        extensions::check_storage(&section, &authenticators);
        Some(detection::DETECTION.of(&section))
    });
    let exporters = components::EXPORTERS.read(root.place("exporters").as_ref(), |kind, place| {
        exporters::exporter(kind, place, &authenticators)
    });
    let mut config = Config::default();
    if let Some(section) = service {
        config = SERVICE.of(&section);
        let defined = Defined {
            receivers: &|id| State::of(&receivers, id),
            processors: &|id| State::of(&processors, id),
            exporters: &|id| State::of(&exporters, id),
        };
        config.pipelines = service::pipelines(&section, &defined);
        let state = config.pipelines.values().filter_map(|pipeline| {
            let detection = processors.get(&pipeline.processor)?.as_ref()?;
            detection.state_limit
        });
        let budgets = config.request_limit.into_iter().chain(config.queue_limit);
        service::budgets_fit(&section, &config.memory, state.chain(budgets).sum());
    } else {
        root.fail("service is required, it says which components make a pipeline");
    }
    config.service_extensions = started;
    config.receivers = known(receivers);
    config.processors = known(processors);
    config.exporters = known(exporters);
    config.extensions = known(extensions);
    config
}

/// Gives the exporters the proxies of the environment.
fn use_proxies(config: &mut Config, proxies: &Proxies) {
    for exporter in config.exporters.values_mut() {
        match exporter {
            ExporterConfig::SplunkHec(config) => config.proxies = proxies.clone(),
            ExporterConfig::OtlpGrpc(config) => config.proxies = proxies.clone(),
            ExporterConfig::OtlpHttp(config) => config.proxies = proxies.clone(),
            ExporterConfig::File(_) | ExporterConfig::Debug(_) => {}
        }
    }
}

fn known<T>(all: BTreeMap<ComponentId, Option<T>>) -> BTreeMap<ComponentId, T> {
    all.into_iter()
        .filter_map(|(id, component)| Some((id, component?)))
        .collect()
}
