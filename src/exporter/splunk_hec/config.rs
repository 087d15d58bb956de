//! Settings of the `splunk_hec` exporter, under the Collector's key names.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

use crate::exporter::queue::{QueueConfig, RetryConfig};

/// Settings of one `splunk_hec` exporter.
#[derive(Clone, Debug)]
pub struct Config {
    /// `token`: the HEC token. Required.
    pub token: SecretString,
    /// `endpoint`: URL of the collector; a bare host gets the path `/services/collector`. Required.
    pub endpoint: String,
    /// `source` of the events.
    pub source: String,
    /// `sourcetype` of the events.
    pub sourcetype: String,
    /// `index` of the events; empty: the token's default.
    pub index: String,
    /// `format`, with `search_name` and `entity` when it is risk.
    pub format: Format,
    /// `timeout` of one request.
    pub timeout: Duration,
    /// `disable_compression`: send plain JSON instead of gzip.
    pub disable_compression: bool,
    /// `max_content_length_logs`: most bytes of one request before compression; 0: no limit.
    pub max_content_length_logs: usize,
    /// `max_event_size`: a larger event is given up.
    pub max_event_size: usize,
    /// `tls`.
    pub tls: TlsConfig,
    /// `sending_queue`.
    pub queue: QueueConfig,
    /// `retry_on_failure`.
    pub retry: RetryConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            token: SecretString::default(),
            endpoint: String::new(),
            source: "auditwatch".to_owned(),
            sourcetype: "auditwatch:finding".to_owned(),
            index: String::new(),
            format: Format::Finding,
            timeout: Duration::from_secs(10),
            disable_compression: false,
            max_content_length_logs: 2 * 1024 * 1024,
            max_event_size: 5 * 1024 * 1024,
            tls: TlsConfig::default(),
            queue: QueueConfig::default(),
            retry: RetryConfig::default(),
        }
    }
}

/// What the events are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `finding`: every state of every finding, as a JSON object.
    #[default]
    Finding,
    /// `risk`: one risk event for each finding, for Splunk's index=risk.
    Risk(Risk),
}

/// Settings of risk events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Risk {
    /// `search_name`: what the events say found them. Splunk counts distinct ones, so it is one
    /// constant.
    pub search_name: String,
    /// `entity`: whom the risk is put on; `None`: the address, or the user in escu semantics.
    pub entity: Option<Entity>,
}

impl Default for Risk {
    fn default() -> Self {
        Self {
            search_name: "auditwatch - Kubernetes Scanning by Unauthenticated IP Address"
                .to_owned(),
            entity: None,
        }
    }
}

/// Whom a risk is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entity {
    /// The address that scans.
    SrcIp,
    /// The user name, as ESCU does: all scanners then share one.
    User,
    /// The cluster that is scanned.
    Cluster,
}

/// `tls` of an exporter.
#[derive(Clone, Debug, Default)]
pub struct TlsConfig {
    /// `ca_file`: PEM file of the authorities to trust, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// `insecure_skip_verify`: accept any certificate. For tests only.
    pub insecure_skip_verify: bool,
}
