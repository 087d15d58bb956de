//! Settings of the `splunk_hec` exporter, under the Collector's key names.

use std::time::Duration;

use http::HeaderMap;
use secrecy::SecretString;

use crate::{
    exporter::{
        dead_letter,
        queue::{QueueConfig, RetryConfig},
    },
    proxy::Proxies,
    tls,
};

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
    /// `host` of the events; empty: the name of the cluster.
    pub host: String,
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
    /// `health_check_enabled`: the start fails while HEC is not healthy.
    pub health_check_enabled: bool,
    /// `health_path`: where HEC says so, on the host of the endpoint.
    pub health_path: String,
    /// `splunk_app_name`: who sends, for Splunk's own logs.
    pub splunk_app_name: String,
    /// `splunk_app_version`: the same, in which version.
    pub splunk_app_version: String,
    /// `max_idle_conns` and `max_idle_conns_per_host`: connections that are kept for later. There
    /// is one host, so the smaller counts.
    pub max_idle_conns: usize,
    /// `idle_conn_timeout`: how long they are kept; zero: as long as they live.
    pub idle_conn_timeout: Duration,
    /// `ack`.
    pub ack: AckConfig,
    /// `tls`.
    pub tls: tls::client::Config,
    /// `headers` that go with every request, beside HEC's own. Their values are secrets.
    pub headers: HeaderMap,
    /// `sending_queue`.
    pub queue: QueueConfig,
    /// `retry_on_failure`.
    pub retry: RetryConfig,
    /// The proxies of the environment.
    pub proxies: Proxies,
    /// `dead_letter`: what becomes of findings that can never be delivered.
    pub dead_letter: dead_letter::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            token: SecretString::default(),
            endpoint: String::new(),
            source: "auditwatch".to_owned(),
            sourcetype: "auditwatch:finding".to_owned(),
            index: String::new(),
            host: String::new(),
            format: Format::Finding,
            timeout: Duration::from_secs(10),
            disable_compression: false,
            max_content_length_logs: 2 * 1024 * 1024,
            max_event_size: 5 * 1024 * 1024,
            health_check_enabled: false,
            health_path: "/services/collector/health".to_owned(),
            splunk_app_name: env!("CARGO_PKG_NAME").to_owned(),
            splunk_app_version: env!("CARGO_PKG_VERSION").to_owned(),
            max_idle_conns: 100,
            idle_conn_timeout: Duration::from_secs(10),
            ack: AckConfig::default(),
            tls: tls::client::Config::default(),
            headers: HeaderMap::new(),
            queue: QueueConfig::default(),
            retry: RetryConfig::default(),
            proxies: Proxies::default(),
            dead_letter: dead_letter::Config::default(),
        }
    }
}

impl Config {
    /// What Splunk would take in another way than it was probably meant.
    pub fn warning(&self) -> Option<String> {
        let index = &self.index;
        let is_part = |letter: char| {
            letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_' || letter == '-'
        };
        if index.chars().all(is_part) && !index.starts_with('-') {
            return None;
        }
        let lower: String = index.trim().to_lowercase();
        let advice = if lower.chars().all(is_part) && !lower.starts_with('-') {
            format!(", did you mean {lower}?")
        } else {
            String::new()
        };
        Some(format!(
            "Splunk has no index {index:?}: names of indexes have lower-case letters, digits, _ and - \
             only, so it would refuse all findings{advice}"
        ))
    }
}

/// What the events are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `finding`: every state of every finding, as a JSON object.
    #[default]
    Finding,
    /// `risk`: a risk event when a finding opens and for each rise in severity, for Splunk's
    /// index=risk.
    Risk(Risk),
}

/// Settings of risk events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Risk {
    /// `search_name`: what the events say found them; empty: `auditwatch - ` and the title of the
    /// rule. Splunk counts distinct ones.
    pub search_name: String,
    /// `entity`: what the risk is put on; `None`: the cluster, or the user in escu semantics.
    pub entity: Option<Entity>,
}

/// What a risk is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entity {
    /// The address that scans; a private one with the name of its cluster.
    SrcIp,
    /// The user name, as ESCU does: all scanners then share one.
    User,
    /// The cluster, which is what is at risk.
    Cluster,
}

/// `ack`: indexer acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckConfig {
    /// `enabled`: findings count as delivered when they are indexed, not when they are accepted.
    pub enabled: bool,
    /// `poll_interval`: wait before each question whether they are.
    pub poll_interval: Duration,
    /// `timeout`: findings that are not indexed after so long are sent again.
    pub timeout: Duration,
}

impl Default for AckConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            poll_interval: Duration::from_secs(1),
            timeout: Duration::from_mins(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_cannot_be_is_warned_about() {
        for (index, wanted) in [
            ("", None),
            ("k8s_findings", None),
            ("_internal", None),
            ("k8s-findings2", None),
            ("K8s_Findings", Some("did you mean k8s_findings?")),
            (" k8s_findings", Some("did you mean k8s_findings?")),
            ("k8s findings", Some("refuse all findings")),
            ("k8s.findings", Some("refuse all findings")),
            ("-k8s", Some("refuse all findings")),
            ("k8s\u{1b}", Some("\\u{1b}")),
        ] {
            let config = Config {
                index: index.to_owned(),
                ..Config::default()
            };
            let warning = config.warning();
            assert_eq!(warning.is_some(), wanted.is_some(), "{warning:?}");
            if let (Some(warning), Some(wanted)) = (warning, wanted) {
                assert!(warning.contains(wanted), "{warning}");
            }
        }
    }
}
