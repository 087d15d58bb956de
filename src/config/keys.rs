//! Every key there is, section by section, and what to say of those that only the Collector has.
//!
//! The readers take their keys from here and nowhere else; the test that compares
//! `otel-config/auditwatch.yaml` with them does too.

/// The keys of one section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    /// Where the section stands, with types in place of ids.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the reference file is compared by it")
    )]
    pub(crate) path: &'static str,
    pub(crate) keys: &'static [&'static str],
    /// Keys a user of the Collector may expect, each with what to do instead.
    pub(crate) hints: &'static [(&'static str, &'static str)],
}

/// Keys whose values, and those within them, are never shown.
pub(crate) const SECRETS: &[&str] = &[
    "token", "tokens", "headers", "ca_pem", "cert_pem", "key_pem",
];

/// Keys whose values are addresses or paths.
pub(crate) const PLACES: &[&str] = &[
    "endpoint",
    "logs_endpoint",
    "host",
    "path",
    "filename",
    "databases",
    "ca_file",
    "cert_file",
    "key_file",
    "client_ca_file",
];

/// Keys of the Collector with values under which nothing is different here: a configuration may keep
/// them. No value: any, for the key has no effect here, which is noted. Null is always among them.
const HARMLESS: &[(&str, &[&str])] = &[
    ("transport", &["tcp"]),
    ("include_metadata", &["false"]),
    ("read_buffer_size", &[]),
    ("write_buffer_size", &[]),
    ("logs_url_path", &["/v1/logs"]),
    ("traces_url_path", &[]),
    ("metrics_url_path", &[]),
    ("keep_alives_enabled", &["true"]),
    ("enforcement_policy", &[]),
    ("include_insecure_cipher_suites", &["false"]),
    ("num_consumers", &[]),
    ("block_on_overflow", &["false"]),
    ("wait_for_result", &["false"]),
    ("sizer", &["requests", "items"]),
    ("insecure", &["false"]),
    ("log_data_enabled", &["true"]),
    ("profiling_data_enabled", &[]),
    ("export_raw", &["false"]),
    ("use_multi_metric_format", &["false"]),
    ("max_content_length_metrics", &[]),
    ("max_content_length_traces", &[]),
    ("max_conns_per_host", &[]),
    ("max_idle_conns", &[]),
    ("max_idle_conns_per_host", &[]),
    ("idle_conn_timeout", &[]),
    ("balancer_name", &[]),
    ("wait_for_ready", &[]),
    ("disable_keep_alives", &["false"]),
    ("force_attempt_http2", &[]),
    ("http2_read_idle_timeout", &[]),
    ("http2_ping_timeout", &[]),
    ("format", &["json"]),
    ("flush_interval", &[]),
    ("sampling_initial", &[]),
    ("sampling_thereafter", &[]),
    ("use_internal_logger", &["true"]),
    ("development", &["false"]),
    ("output_paths", &["stderr"]),
    ("error_output_paths", &["stderr"]),
    ("disable_caller", &[]),
    ("disable_stacktrace", &[]),
    ("check_collector_pipeline", &[]),
];

impl Table {
    /// The values that a key of the Collector may keep here; none: any. `None`: it may not stay.
    pub(crate) fn harmless(&self, key: &str) -> Option<&'static [&'static str]> {
        self.hint(key)?;
        let listed = HARMLESS.iter().find(|(name, _)| *name == key);
        listed.map(|(_, values)| *values)
    }

    /// What to say of a key that only the Collector has.
    pub(crate) fn hint(&self, key: &str) -> Option<&'static str> {
        let found = self.hints.iter().find(|(hinted, _)| *hinted == key);
        found.map(|(_, hint)| *hint)
    }
}

const ABSENT: &str = "not available in this version, remove it";
const ONE: &str = "one connection is used at a time, remove it";

macro_rules! tables {
    ($($name:ident at $path:literal: [$($key:literal),*], [$($hinted:literal: $hint:expr),*];)*) => {
        $(pub(crate) const $name: Table = Table {
            path: $path,
            keys: &[$($key),*],
            hints: &[$(($hinted, $hint)),*],
        };)*
        /// All of them.
        #[cfg(test)]
        pub(crate) const ALL: &[Table] = &[$($name),*];
    };
}

tables! {
    ROOT at "": ["receivers", "processors", "exporters", "extensions", "service"],
        ["connectors": "a pipeline ends with its detection's findings, remove it"];

    OTLP at "receivers::otlp": ["protocols"],
        ["grpc": "it stands under protocols", "http": "it stands under protocols"];
    PROTOCOLS at "receivers::otlp::protocols": ["grpc", "http"], [];
    HTTP at "receivers::otlp::protocols::http": [
        "endpoint", "max_request_body_size", "max_connections", "max_connections_per_address",
        "read_header_timeout", "read_timeout", "idle_timeout", "tls", "auth"
    ],
        ["cors": ABSENT, "include_metadata": ABSENT,
         "write_timeout": "answers are short, and have 30s to leave, remove it",
         "keepalive": "idle_timeout says how long a connection is kept, remove it",
         "transport": "always tcp, remove it",
         "keep_alives_enabled": ABSENT, "middlewares": ABSENT, "response_headers": ABSENT,
         "logs_url_path": ABSENT, "compression_algorithms": "identity, gzip and zstd, remove it",
         "traces_url_path": "only logs are taken, remove it",
         "metrics_url_path": "only logs are taken, remove it"];
    GRPC at "receivers::otlp::protocols::grpc": [
        "endpoint", "max_recv_msg_size_mib", "max_connections", "max_connections_per_address",
        "max_concurrent_streams", "read_timeout", "keepalive", "tls", "auth"
    ],
        ["transport": "always tcp, remove it",
         "read_buffer_size": ABSENT, "write_buffer_size": ABSENT, "include_metadata": ABSENT];
    KEEPALIVE at "receivers::otlp::protocols::grpc::keepalive": ["server_parameters"],
        ["enforcement_policy": "clients may ask whether we are there as often as they like, remove it"];
    SERVER_PARAMETERS at "receivers::otlp::protocols::grpc::keepalive::server_parameters":
        ["max_connection_idle", "time", "timeout"],
        ["max_connection_age": ABSENT, "max_connection_age_grace": ABSENT];

    // The same under protocols::http and in health_check.
    SERVER_TLS at "receivers::otlp::protocols::grpc::tls": [
        "cert_file", "cert_pem", "key_file", "key_pem", "client_ca_file", "min_version",
        "max_version", "reload_interval"
    ],
        ["client_ca_file_reload": "reload_interval reads client_ca_file again too, remove it",
         "ca_file": "that is for who connects, client_ca_file asks senders for a certificate",
         "ca_pem": "that is for who connects, client_ca_file asks senders for a certificate",
         "client_ca_pem": "not available, use client_ca_file",
         "include_system_ca_certs_pool": "that is for who connects, client_ca_file asks senders for a certificate",
         "insecure": "that is for who connects; without tls there is none",
         "insecure_skip_verify": "that is for who connects; client_ca_file says whether senders are asked for a certificate",
         "server_name_override": "that is for who connects, remove it",
         "include_insecure_cipher_suites": "only secure cipher suites are spoken, remove it",
         "cipher_suites": "those of tls 1.3, and ECDHE with AES-GCM or ChaCha20 of tls 1.2, are spoken; remove it",
         "curve_preferences": "X25519MLKEM768, X25519, P-256 and P-384 are spoken, remove it",
         "tpm": ABSENT];

    // The same under protocols::http.
    AUTH at "receivers::otlp::protocols::grpc::auth": ["authenticator"],
        ["request_params": "the token is looked for in the header of the extension, remove it"];

    DETECTION at "processors::detection": [
        "semantics", "threshold", "window", "window_offset", "time_field", "codes", "who",
        "trusted_proxies", "allow_all", "ipv6_prefix", "missing_city", "lateness", "cluster", "selector", "geo",
        "limits"
    ], [];
    SELECTOR at "processors::detection::selector": ["source", "sourcetype", "index"],
        ["body": "what looks like an audit event is one, whatever else is selected, remove it",
         "com.splunk.source": "write source", "com.splunk.sourcetype": "write sourcetype",
         "com.splunk.index": "write index"];
    GEO at "processors::detection::geo": ["databases"], [];
    LIMITS at "processors::detection::limits":
        ["keys", "memory_mib", "hits_per_key", "values_per_field", "value_bytes", "source_ips"], [];

    SPLUNK_HEC at "exporters::splunk_hec": [
        "token", "endpoint", "source", "sourcetype", "index", "host", "format", "search_name",
        "entity", "timeout",
        "disable_compression", "max_content_length_logs", "max_event_size",
        "health_check_enabled", "health_path", "splunk_app_name", "splunk_app_version",
        "max_idle_conns", "max_idle_conns_per_host", "idle_conn_timeout", "ack", "headers", "tls",
        "sending_queue", "retry_on_failure"
    ], ["heartbeat": "only findings are sent, remove it",
        "telemetry": "only findings are sent, remove it",
        "use_multi_metric_format": "only findings are sent, remove it",
        "max_content_length_metrics": "only findings are sent, remove it",
        "max_content_length_traces": "only findings are sent, remove it",
        "log_data_enabled": "findings are always sent, remove it",
        "profiling_data_enabled": "only findings are sent, remove it",
        "export_raw": "a finding needs its time and source beside it, remove it",
        "otel_attrs_to_hec_metadata":
            "findings have no such attributes, set source, sourcetype, index or host",
        "hec_metadata_to_otel_attrs":
            "findings have no such attributes, set source, sourcetype, index or host",
        "otel_to_hec_fields": "a finding says its severity itself, remove it",
        "batcher": "what waits leaves together, remove it",
        "compression": "gzip, unless disable_compression says otherwise",
        "auth": "token is what HEC asks for, remove it",
        "proxy_url": "set the environment variable HTTPS_PROXY",
        "max_connections": "one connection is used at a time, remove it",
        "access_token": "write token",
        "max_conns_per_host": "one request is under way at a time, remove it"];
    ACK at "exporters::splunk_hec::ack": ["enabled", "poll_interval", "timeout"],
        ["extension": "that is for receivers, set ack: {enabled: true}"];
    TLS at "exporters::splunk_hec::tls": [
        "ca_file", "ca_pem", "include_system_ca_certs_pool", "insecure_skip_verify",
        "server_name_override", "cert_file", "cert_pem", "key_file", "key_pem", "min_version",
        "max_version"
    ], ["insecure": "the endpoint's http:// or https:// says it, remove it",
        "cipher_suites": "only sound ones are spoken, remove it",
        "curve_preferences": "only sound ones are spoken, remove it",
        "reload_interval": ABSENT, "tpm": ABSENT];
    QUEUE at "exporters::splunk_hec::sending_queue": ["enabled", "queue_size"],
        ["num_consumers": "one request at a time keeps findings in order, remove it",
         "storage": ABSENT, "wait_for_result": ABSENT,
         "block_on_overflow": "without room senders are told to come again, remove it", "sizer": "the queue counts findings, remove it",
         "batch": "what waits leaves together, remove it"];
    RETRY at "exporters::splunk_hec::retry_on_failure": [
        "enabled", "initial_interval", "randomization_factor", "multiplier", "max_interval",
        "max_elapsed_time"
    ], [];
    OTLP_GRPC at "exporters::otlp_grpc": [
        "endpoint", "tls", "headers", "auth", "compression", "timeout", "sending_queue",
        "retry_on_failure"
    ], ["keepalive": ABSENT, "middlewares": ABSENT, "compression_params": ABSENT,
        "authority": "set tls::server_name_override, which is the authority too",
        "balancer_name": "one connection is used at a time, remove it",
        "wait_for_ready": "retry_on_failure says how long a receiver may be away, remove it",
        "batcher": "what waits leaves together, remove it",
        "read_buffer_size": ABSENT, "write_buffer_size": ABSENT];
    OTLP_HTTP at "exporters::otlp_http": [
        "endpoint", "logs_endpoint", "encoding", "tls", "headers", "auth", "compression",
        "timeout", "sending_queue", "retry_on_failure"
    ], ["middlewares": ABSENT, "cookies": ABSENT, "compression_params": ABSENT,
        "traces_endpoint": "findings are logs, set logs_endpoint or endpoint",
        "metrics_endpoint": "findings are logs, set logs_endpoint or endpoint",
        "profiles_endpoint": "findings are logs, set logs_endpoint or endpoint",
        "proxy_url": "set the environment variable HTTPS_PROXY",
        "batcher": "what waits leaves together, remove it",
        "max_idle_conns": ONE, "max_idle_conns_per_host": ONE, "max_conns_per_host": ONE,
        "keepalive": ONE, "idle_conn_timeout": ONE, "disable_keep_alives": ABSENT, "force_attempt_http2": ABSENT,
        "http2_read_idle_timeout": ABSENT, "http2_ping_timeout": ABSENT,
        "read_buffer_size": ABSENT, "write_buffer_size": ABSENT];
    OTLP_TLS at "exporters::otlp_grpc::tls": [
        "insecure", "ca_file", "ca_pem", "include_system_ca_certs_pool", "insecure_skip_verify",
        "server_name_override", "cert_file", "cert_pem", "key_file", "key_pem", "min_version",
        "max_version"
    ], ["cipher_suites": "only sound ones are spoken, remove it",
        "curve_preferences": "only sound ones are spoken, remove it",
        "reload_interval": ABSENT, "tpm": ABSENT];
    FILE at "exporters::file": ["path", "append"],
        ["rotation": ABSENT, "create_directory": "make the directory first, remove it",
         "directory_permissions": "make the directory first, remove it", "group_by": ABSENT,
         "compression_params": ABSENT, "format": "always JSON, a finding a line, remove it",
         "compression": ABSENT, "flush_interval": ABSENT, "encoding": ABSENT];
    DEBUG at "exporters::debug": ["verbosity"],
        ["output_paths": ABSENT, "sending_queue": ABSENT, "sampling_initial": ABSENT, "sampling_thereafter": ABSENT, "use_internal_logger": ABSENT];

    BEARER_TOKEN_AUTH at "extensions::bearertokenauth":
        ["header", "scheme", "token", "tokens", "filename"], [];
    HEALTH_CHECK at "extensions::health_check": ["endpoint", "path", "response_body", "tls"],
        ["check_collector_pipeline": "exporters are looked at as it is, remove it",
         "component_health": "exporters are looked at as it is, remove it",
         "use_v2": ABSENT, "grpc": ABSENT, "http": "write endpoint and path without it",
         "keepalive": ABSENT, "transport": "always tcp, remove it", "auth": ABSENT, "cors": ABSENT,
         "read_header_timeout": "2s, remove it", "read_timeout": ABSENT, "write_timeout": ABSENT,
         "idle_timeout": "30s, remove it", "response_headers": ABSENT, "middlewares": ABSENT,
         "include_metadata": ABSENT, "max_request_body_size": ABSENT,
         "compression_algorithms": ABSENT];
    RESPONSE_BODY at "extensions::health_check::response_body": ["healthy", "unhealthy"], [];

    SERVICE at "service": ["extensions", "pipelines", "telemetry", "admission", "memory",
        "shutdown_timeout"], [];
    MEMORY at "service::memory": ["check_interval", "limit_mib", "spike_limit_mib",
        "limit_percentage", "spike_limit_percentage"],
        ["min_gc_interval_when_soft_limited": ABSENT, "min_gc_interval_when_hard_limited": ABSENT];
    ADMISSION at "service::admission": ["request_limit_mib", "queue_limit_mib"],
        ["waiting_limit_mib": "requests beyond the limit do not wait, they are refused, remove it"];
    PIPELINE at "service::pipelines::logs": ["receivers", "processors", "exporters"], [];
    TELEMETRY at "service::telemetry": ["logs", "metrics", "traces", "resource"], [];
    TRACES at "service::telemetry::traces": ["processors", "sampler"],
        ["level": "spans are made when processors says where to, remove it",
         "propagators": ABSENT];
    SAMPLER at "service::telemetry::traces::sampler": ["trace_id_ratio_based"],
        ["parent_based": "use trace_id_ratio_based, our spans have no parents of others",
         "always_on": "remove it, that is the default",
         "always_off": "remove processors instead"];
    RATIO at "service::telemetry::traces::sampler::trace_id_ratio_based": ["ratio"], [];
    SPANS at "service::telemetry::traces::processors": ["batch"], ["simple": "use batch"];
    BATCH at "service::telemetry::traces::processors::batch":
        ["schedule_delay", "export_timeout", "exporter"],
        ["max_queue_size": "2048, remove it", "max_export_batch_size": "512, remove it"];
    BATCH_EXPORTER at "service::telemetry::traces::processors::batch::exporter": ["otlp"],
        ["console": ABSENT];
    SPANS_OTLP at "service::telemetry::traces::processors::batch::exporter::otlp":
        ["protocol", "endpoint", "headers", "insecure"],
        ["timeout": "export_timeout of batch says it", "compression": ABSENT,
         "certificate": ABSENT, "client_certificate": ABSENT, "client_key": ABSENT,
         "headers_list": "use headers"];
    METRICS at "service::telemetry::metrics": ["level", "readers"],
        ["address": "use readers: [{pull: {exporter: {prometheus: {host: localhost, port: 8888}}}}]",
         "views": ABSENT];
    READER at "service::telemetry::metrics::readers": ["pull", "periodic"], [];
    PULL at "service::telemetry::metrics::readers::pull": ["exporter"], [];
    PULL_EXPORTER at "service::telemetry::metrics::readers::pull::exporter": ["prometheus"],
        ["otlp": "that is sent, so it stands under periodic"];
    PROMETHEUS at "service::telemetry::metrics::readers::pull::exporter::prometheus": [
        "host", "port", "without_type_suffix", "without_units", "without_scope_info"
    ], ["with_resource_constant_labels": "target_info has them, remove it"];
    PERIODIC at "service::telemetry::metrics::readers::periodic":
        ["interval", "timeout", "exporter"], [];
    PERIODIC_EXPORTER at "service::telemetry::metrics::readers::periodic::exporter": ["otlp"],
        ["prometheus": "that is asked, so it stands under pull",
         "console": "debug level of logs shows findings, remove it"];
    METRICS_OTLP at "service::telemetry::metrics::readers::periodic::exporter::otlp":
        ["protocol", "endpoint", "headers", "insecure"],
        ["timeout": "timeout of periodic says it", "compression": ABSENT, "certificate": ABSENT,
         "client_certificate": ABSENT, "client_key": ABSENT, "headers_list": "use headers",
         "temporality_preference": "always cumulative, remove it",
         "default_histogram_aggregation": ABSENT];
    LOGS at "service::telemetry::logs": ["level", "encoding"],
        ["development": ABSENT, "sampling": ABSENT, "output_paths": ABSENT,
         "error_output_paths": ABSENT, "initial_fields": ABSENT, "disable_caller": ABSENT,
         "disable_stacktrace": ABSENT, "processors": ABSENT];
}

/// What to say of a word that is none of the known ones.
pub(crate) fn advice(word: &str, known: &[&str], hints: &[(&str, &str)]) -> String {
    if let Some((_, hint)) = hints.iter().find(|(hinted, _)| *hinted == word) {
        return format!(": {hint}");
    }
    let nearest = known
        .iter()
        .map(|known| (distance(word, known), known))
        .min();
    match nearest {
        // A third of a word mistyped is about as much as still tells which word was meant.
        Some((wrong, nearest)) if wrong <= nearest.len().div_ceil(3).min(3) => {
            format!(", did you mean {nearest:?}?")
        }
        _ => format!(", known: {}", known.join(", ")),
    }
}

/// Letters to insert, remove or replace to make one word of the other, case ignored.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    // Nobody mistypes so much; without a bound a hostile file costs its length squared.
    for (index, letter) in one.to_lowercase().chars().take(64).enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        for (cell, wanted) in row.iter_mut().skip(1).zip(&other) {
            let replaced = diagonal + usize::from(letter != *wanted);
            diagonal = *cell;
            left = replaced.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_how_far_words_are() {
        for (one, other, wanted) in [
            ("token", "token", 0),
            ("Token", "token", 0),
            ("tokn", "token", 1),
            ("tokens", "token", 1),
            ("toekn", "token", 2),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, other), wanted, "{one} {other}");
        }
    }

    #[test]
    fn advises_by_hint_nearness_or_list() {
        let known = ["window", "window_offset", "who"];
        assert_eq!(advice("windw", &known, &[]), ", did you mean \"window\"?");
        assert_eq!(advice("how", &known, &[("how", "ask who")]), ": ask who");
        assert_eq!(
            advice("zzz", &known, &[]),
            ", known: window, window_offset, who"
        );
    }
}
