//! The settings of the service, as the code uses them.

use std::{collections::BTreeMap, time::Duration};

use super::{detection::DetectionConfig, id::ComponentId, written::Written};
use crate::{
    exporter, extension, memory, receiver,
    telemetry::{MetricsConfig, traces},
    tls,
};

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
    /// `service::memory`: the memory limit of the process.
    pub memory: memory::Config,
    /// `service::admission::request_limit_mib`, in bytes: what requests under way may hold. `None`:
    /// a share of the limit of `memory`.
    pub request_limit: Option<usize>,
    /// `service::admission::queue_limit_mib`, in bytes: what pending findings may hold. `None`: a
    /// share of the limit of `memory`.
    pub queue_limit: Option<usize>,
    /// `service::shutdown_timeout`: how long the shutdown may take in all.
    pub shutdown_timeout: Duration,
    /// `service::reload_interval`: how often files are looked at for changes; zero: never.
    pub reload_interval: Duration,
    /// Settings of the Collector that have no effect here, a line for people each.
    pub without_effect: Vec<String>,
    /// What was written, to compare it with another configuration.
    pub written: Written,
}

/// Settings of one receiver.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there are few of them, and most are of the large one"
)]
pub enum ReceiverConfig {
    /// `otlp`.
    Otlp(OtlpReceiver),
    /// `k8s_audit_webhook`.
    K8sAuditWebhook(WebhookReceiver),
}

impl ReceiverConfig {
    /// The certificates of its servers.
    pub(crate) fn tls(&self) -> impl Iterator<Item = &tls::server::Config> {
        let (one, other) = match self {
            Self::Otlp(otlp) => (
                otlp.grpc.as_ref().and_then(|grpc| grpc.tls.as_ref()),
                otlp.http.as_ref().and_then(|http| http.tls.as_ref()),
            ),
            Self::K8sAuditWebhook(webhook) => (webhook.server.tls.as_ref(), None),
        };
        one.into_iter().chain(other)
    }

    /// The extensions that say who may send.
    pub(crate) fn authenticators(&self) -> impl Iterator<Item = &ComponentId> {
        let (one, other) = match self {
            Self::Otlp(otlp) => (otlp.grpc_auth.as_ref(), otlp.http_auth.as_ref()),
            Self::K8sAuditWebhook(webhook) => (webhook.auth.as_ref(), None),
        };
        one.into_iter().chain(other)
    }
}

/// Settings of one `k8s_audit_webhook` receiver.
#[derive(Clone, Debug)]
pub struct WebhookReceiver {
    /// Its server.
    pub server: receiver::k8s_audit_webhook::Config,
    /// `auth::authenticator`: a `bearertokenauth` that is started.
    pub auth: Option<ComponentId>,
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
    /// `file_storage`.
    FileStorage(extension::file_storage::Config),
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
    /// `level`: the lowest level that is logged.
    pub level: Level,
    /// `encoding`: the form of a line.
    pub encoding: Encoding,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Trace,
    /// Details for debugging.
    Debug,
    /// Normal operation.
    #[default]
    Info,
    /// Problems that need attention.
    Warn,
    /// Failures.
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
            reload_interval: Duration::from_secs(10),
            without_effect: Vec::new(),
            written: Written::default(),
        }
    }
}
