//! What the user wrote, read into what the code may rely on.
//!
//! It has the Collector's shape. It goes four steps: YAML to a tree that knows its lines
//! (`yaml.rs`), the trees of all sources to one (`source.rs`), that to typed settings (`read.rs`, with
//! the variables of `env.rs` replaced on the way), and the settings to a [`Config`] whose parts fit
//! together. All that is wrong is reported at once, each with file, line and column. The environment is
//! read here and nowhere else.
mod client;
mod components;
mod detection;
mod env;
mod exporters;
mod extensions;
mod files;
mod forms;
mod hints;
mod id;
mod otel_env;
mod otlp_exporters;
mod print;
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

use std::{collections::BTreeMap, fmt, time::Duration};

pub use detection::DetectionConfig;
pub use id::{ComponentId, InvalidId};
pub use source::Source;

use crate::{
    exporter, extension, memory, receiver,
    telemetry::{MetricsConfig, traces},
    yaml,
};
use service::{Defined, SERVICE, State};

/// Everything that was configured, checked: ids in pipelines exist, and each pipeline is whole.
#[derive(Clone, Debug)]
pub struct Config {
    /// `receivers`, those in no pipeline too.
    pub receivers: BTreeMap<ComponentId, ReceiverConfig>,
    /// `processors`, those in no pipeline too. All are detections.
    pub processors: BTreeMap<ComponentId, DetectionConfig>,
    /// `exporters`, those in no pipeline too.
    pub exporters: BTreeMap<ComponentId, ExporterConfig>,
    /// `extensions`, those that are not started too.
    pub extensions: BTreeMap<ComponentId, ExtensionConfig>,
    /// `service::extensions`: those that are started.
    pub service_extensions: Vec<ComponentId>,
    /// `service::pipelines`, at least one. The ids are `logs[/name]`.
    pub pipelines: BTreeMap<ComponentId, PipelineConfig>,
    /// `service::telemetry::logs`: our own logs.
    pub telemetry: LogsConfig,
    /// `service::telemetry::metrics`: our own metrics.
    pub metrics: MetricsConfig,
    /// `service::telemetry::traces`: our own spans.
    pub traces: traces::Config,
    /// `service::telemetry::resource`: attributes of their resource.
    pub resource: BTreeMap<String, String>,
    /// `service::memory`: what the process may take.
    pub memory: memory::Config,
    /// `service::admission::request_limit_mib`, in bytes: what requests under way may hold. `None`:
    /// a share of the limit of `memory`.
    pub request_limit: Option<usize>,
    /// `service::admission::queue_limit_mib`, in bytes: what pending findings may hold. `None`: a
    /// share of the limit of `memory`.
    pub queue_limit: Option<usize>,
    /// `service::shutdown_timeout`: how long the shutdown may take in all.
    pub shutdown_timeout: Duration,
    /// Settings of the Collector that have no effect here, a line for people each.
    pub without_effect: Vec<String>,
}

/// Settings of one receiver.
#[derive(Clone, Debug)]
pub enum ReceiverConfig {
    /// `otlp`.
    Otlp(OtlpReceiver),
}

/// Settings of one `otlp` receiver: a server for each protocol that is given, at least one.
#[derive(Clone, Debug)]
pub struct OtlpReceiver {
    /// `protocols::grpc`.
    pub grpc: Option<receiver::otlp_grpc::Config>,
    /// `protocols::grpc::auth::authenticator`: a `bearertokenauth` that is started.
    pub grpc_auth: Option<ComponentId>,
    /// `protocols::http`.
    pub http: Option<receiver::otlp_http::Config>,
    /// `protocols::http::auth::authenticator`: a `bearertokenauth` that is started.
    pub http_auth: Option<ComponentId>,
}

/// Settings of one exporter.
#[derive(Clone, Debug)]
pub enum ExporterConfig {
    /// `splunk_hec`.
    SplunkHec(exporter::splunk_hec::Config),
    /// `otlp_grpc`.
    OtlpGrpc(exporter::otlp_grpc::Config),
    /// `otlp_http`.
    OtlpHttp(exporter::otlp_http::Config),
    /// `file`.
    File(exporter::file::Config),
    /// `debug`.
    Debug(exporter::debug::Config),
}

/// Settings of one extension.
#[derive(Clone, Debug)]
pub enum ExtensionConfig {
    /// `bearertokenauth`.
    BearerTokenAuth(extension::bearer_token_auth::Config),
    /// `health_check`.
    HealthCheck(extension::health_check::Config),
}

/// One pipeline. A receiver or processor is in one pipeline only, an exporter in any number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineConfig {
    /// Where records come from, at least one.
    pub receivers: Vec<ComponentId>,
    /// The detection.
    pub processor: ComponentId,
    /// Where findings go to, at least one.
    pub exporters: Vec<ComponentId>,
}

/// `service::telemetry::logs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogsConfig {
    /// `level`: the least that is logged.
    pub level: Level,
    /// `encoding`: the form of a line.
    pub encoding: Encoding,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What an operator wants to know.
    #[default]
    Info,
    /// What an operator should look at.
    Warn,
    /// What does not work.
    Error,
}

/// The form of a line of our own logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// For people.
    #[default]
    Console,
    /// A JSON object a line.
    Json,
}

/// All that is wrong with a configuration. Shown, each problem is a line
/// `path/to/file.yaml:12:5: where::it::is: what is wrong`; no secret is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<String>,
}

impl Default for Config {
    /// Nothing is defined, and the process has its defaults.
    fn default() -> Self {
        Self {
            receivers: BTreeMap::new(),
            processors: BTreeMap::new(),
            exporters: BTreeMap::new(),
            extensions: BTreeMap::new(),
            service_extensions: Vec::new(),
            pipelines: BTreeMap::new(),
            telemetry: LogsConfig::default(),
            metrics: MetricsConfig::default(),
            traces: traces::Config::default(),
            resource: BTreeMap::new(),
            memory: memory::Config::default(),
            request_limit: None,
            queue_limit: None,
            shutdown_timeout: Duration::from_secs(20),
            without_effect: Vec::new(),
        }
    }
}

impl ConfigError {
    /// The problems in the order of the file, at least one.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

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
/// All that is wrong in it, sources that cannot be read among it.
pub fn load(sources: &[Source]) -> Result<Config, ConfigError> {
    checked(source::load(sources, &variable), &variable).map(|(config, _)| config)
}

/// The same, as YAML: merged, variables and files replaced, and every secret as `[REDACTED]`.
///
/// # Errors
/// As [`load`]: what is wrong is not printed.
pub fn print(sources: &[Source]) -> Result<String, ConfigError> {
    checked(source::load(sources, &variable), &variable)
        .map(|(_, root)| print::yaml(&root, &variable))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads a configuration from a text. `name` is what messages call it, `env` knows the variables.
///
/// # Errors
/// All that is wrong in it.
pub fn parse(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigError> {
    checked(source::load_text(name, text, env), env).map(|(config, _)| config)
}

/// What was loaded as settings, and as the tree they are in.
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
    let reader = read::Reader::new(env, problems);
    let mut config = config(reader.root(&root));
    let (problems, notes) = reader.into_found();
    if problems.is_empty() {
        config.without_effect = places.lines(notes);
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
        service::extensions(section, &|id| state(&extensions, id))
    });
    let authenticators = extensions::Authenticators {
        defined: &extensions,
        started: &started,
    };
    let receivers = components::RECEIVERS.read(root.place("receivers").as_ref(), |_, place| {
        Some(receivers::receiver(place, &authenticators))
    });
    let processors = components::PROCESSORS.read(root.place("processors").as_ref(), |_, place| {
        Some(detection::detection(place))
    });
    let exporters = components::EXPORTERS.read(root.place("exporters").as_ref(), |kind, place| {
        exporters::exporter(kind, place, &authenticators)
    });
    let mut config = Config::default();
    if let Some(section) = service {
        config = SERVICE.of(&section);
        let defined = Defined {
            receivers: &|id| state(&receivers, id),
            processors: &|id| state(&processors, id),
            exporters: &|id| state(&exporters, id),
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

fn state<T>(all: &BTreeMap<ComponentId, Option<T>>, id: &ComponentId) -> State {
    match all.get(id) {
        Some(Some(_)) => State::Good,
        Some(None) => State::Reported,
        None => State::Missing,
    }
}

fn known<T>(all: BTreeMap<ComponentId, Option<T>>) -> BTreeMap<ComponentId, T> {
    all.into_iter()
        .filter_map(|(id, component)| Some((id, component?)))
        .collect()
}
