//! Every key there is, section by section, and what to say of those that only the Collector has.
//!
//! The readers take their keys from here and nowhere else; the test that compares
//! `otel-config/auditwatch.yaml` with them does too.

use super::hints::{
    Advice::{self, Remove, Use},
    Hint,
};

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
    /// Keys a user of the Collector may expect.
    pub(crate) hints: &'static [Hint],
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

impl Table {
    /// What to say of a key that only the Collector has.
    pub(crate) fn hint(&self, key: &str) -> Option<&'static Hint> {
        self.hints.iter().find(|hint| hint.key == key)
    }
}

const ABSENT: Advice = Remove("not available in this version");
const ONE: Advice = Remove("one connection is used at a time");

macro_rules! kept {
    () => { None };
    ([$($value:literal),*]) => { Some(&[$($value),*]) };
}

macro_rules! tables {
    ($($name:ident at $path:literal: [$($key:literal),*], [
        $($hinted:literal: $kind:ident $(($why:literal))? $(kept [$($value:literal),*])?),*
    ];)*) => {
        $(pub(crate) const $name: Table = Table {
            path: $path,
            keys: &[$($key),*],
            hints: &[$(Hint {
                key: $hinted,
                advice: $kind $(($why))?,
                kept: kept!($([$($value),*])?),
            }),*],
        };)*
        /// All of them.
        #[cfg(test)]
        pub(crate) const ALL: &[Table] = &[$($name),*];
    };
}

tables! {
    ROOT at "": ["receivers", "processors", "exporters", "extensions", "service"],
        ["connectors": Remove("a pipeline ends with its detection's findings")];

    OTLP at "receivers::otlp": ["protocols"],
        ["grpc": Use("it stands under protocols"), "http": Use("it stands under protocols")];
    PROTOCOLS at "receivers::otlp::protocols": ["grpc", "http"], [];
    HTTP at "receivers::otlp::protocols::http": [
        "endpoint", "max_request_body_size", "max_connections", "max_connections_per_address",
        "read_header_timeout", "read_timeout", "idle_timeout", "tls", "auth"
    ],
        ["cors": ABSENT, "include_metadata": ABSENT kept ["false"],
         "write_timeout": Remove("answers are short, and have 30s to leave"),
         "keepalive": Remove("idle_timeout says how long a connection is kept"),
         "transport": Remove("always tcp") kept ["tcp"],
         "keep_alives_enabled": ABSENT kept ["true"], "middlewares": ABSENT, "response_headers": ABSENT,
         "logs_url_path": ABSENT kept ["/v1/logs"], "compression_algorithms": Remove("identity, gzip and zstd"),
         "traces_url_path": Remove("only logs are taken") kept [],
         "metrics_url_path": Remove("only logs are taken") kept []];
    GRPC at "receivers::otlp::protocols::grpc": [
        "endpoint", "max_recv_msg_size_mib", "max_connections", "max_connections_per_address",
        "max_concurrent_streams", "read_timeout", "keepalive", "tls", "auth"
    ],
        ["transport": Remove("always tcp") kept ["tcp"],
         "read_buffer_size": ABSENT kept [], "write_buffer_size": ABSENT kept [], "include_metadata": ABSENT kept ["false"]];
    KEEPALIVE at "receivers::otlp::protocols::grpc::keepalive": ["server_parameters"],
        ["enforcement_policy": Remove("clients may ask whether we are there as often as they like") kept []];
    SERVER_PARAMETERS at "receivers::otlp::protocols::grpc::keepalive::server_parameters":
        ["max_connection_idle", "time", "timeout"],
        ["max_connection_age": ABSENT, "max_connection_age_grace": ABSENT];

    // The same under protocols::http and in health_check.
    SERVER_TLS at "receivers::otlp::protocols::grpc::tls": [
        "cert_file", "cert_pem", "key_file", "key_pem", "client_ca_file", "min_version",
        "max_version", "reload_interval"
    ],
        ["client_ca_file_reload": Remove("reload_interval reads client_ca_file again too"),
         "ca_file": Use("that is for who connects, client_ca_file asks senders for a certificate"),
         "ca_pem": Use("that is for who connects, client_ca_file asks senders for a certificate"),
         "client_ca_pem": Use("not available, use client_ca_file"),
         "include_system_ca_certs_pool": Use("that is for who connects, client_ca_file asks senders for a certificate"),
         "insecure": Use("that is for who connects; without tls there is none") kept ["false"],
         "insecure_skip_verify": Use("that is for who connects; client_ca_file says whether senders are asked for a certificate"),
         "server_name_override": Remove("that is for who connects"),
         "include_insecure_cipher_suites": Remove("only secure cipher suites are spoken") kept ["false"],
         "cipher_suites": Remove("those of tls 1.3, and ECDHE with AES-GCM or ChaCha20 of tls 1.2, are spoken"),
         "curve_preferences": Remove("X25519MLKEM768, X25519, P-256 and P-384 are spoken"),
         "tpm": ABSENT];

    // The same under protocols::http.
    AUTH at "receivers::otlp::protocols::grpc::auth": ["authenticator"],
        ["request_params": Remove("the token is looked for in the header of the extension")];

    DETECTION at "processors::detection": [
        "semantics", "threshold", "window", "window_offset", "time_field", "codes", "who",
        "trusted_proxies", "allow_all", "ipv6_prefix", "missing_city", "lateness", "cluster", "selector", "geo",
        "limits"
    ], [];
    SELECTOR at "processors::detection::selector": ["source", "sourcetype", "index"],
        ["body": Remove("what looks like an audit event is one, whatever else is selected"),
         "com.splunk.source": Use("write source"), "com.splunk.sourcetype": Use("write sourcetype"),
         "com.splunk.index": Use("write index")];
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
    ], ["heartbeat": Remove("only findings are sent"),
        "telemetry": Remove("only findings are sent"),
        "use_multi_metric_format": Remove("only findings are sent") kept ["false"],
        "max_content_length_metrics": Remove("only findings are sent") kept [],
        "max_content_length_traces": Remove("only findings are sent") kept [],
        "log_data_enabled": Remove("findings are always sent") kept ["true"],
        "profiling_data_enabled": Remove("only findings are sent") kept [],
        "export_raw": Remove("a finding needs its time and source beside it") kept ["false"],
        "otel_attrs_to_hec_metadata": Use("findings have no such attributes, set source, sourcetype, index or host"),
        "hec_metadata_to_otel_attrs": Use("findings have no such attributes, set source, sourcetype, index or host"),
        "otel_to_hec_fields": Remove("a finding says its severity itself"),
        "batcher": Remove("what waits leaves together"),
        "compression": Use("gzip, unless disable_compression says otherwise"),
        "auth": Remove("token is what HEC asks for"),
        "proxy_url": Use("set the environment variable HTTPS_PROXY"),
        "max_connections": Remove("one connection is used at a time"),
        "access_token": Use("write token"),
        "max_conns_per_host": Remove("one request is under way at a time") kept []];
    ACK at "exporters::splunk_hec::ack": ["enabled", "poll_interval", "timeout"],
        ["extension": Use("that is for receivers, set ack: {enabled: true}")];
    TLS at "exporters::splunk_hec::tls": [
        "ca_file", "ca_pem", "include_system_ca_certs_pool", "insecure_skip_verify",
        "server_name_override", "cert_file", "cert_pem", "key_file", "key_pem", "min_version",
        "max_version"
    ], ["insecure": Remove("the endpoint's http:// or https:// says it") kept ["false"],
        "cipher_suites": Remove("only sound ones are spoken"),
        "curve_preferences": Remove("only sound ones are spoken"),
        "reload_interval": ABSENT, "tpm": ABSENT];
    QUEUE at "exporters::splunk_hec::sending_queue": ["enabled", "queue_size"],
        ["num_consumers": Remove("one request at a time keeps findings in order") kept [],
         "storage": ABSENT, "wait_for_result": ABSENT kept ["false"],
         "block_on_overflow": Remove("without room senders are told to come again") kept ["false"], "sizer": Remove("the queue counts findings") kept ["requests", "items"],
         "batch": Remove("what waits leaves together")];
    RETRY at "exporters::splunk_hec::retry_on_failure": [
        "enabled", "initial_interval", "randomization_factor", "multiplier", "max_interval",
        "max_elapsed_time"
    ], [];
    OTLP_GRPC at "exporters::otlp_grpc": [
        "endpoint", "tls", "headers", "auth", "compression", "timeout", "sending_queue",
        "retry_on_failure"
    ], ["keepalive": ABSENT, "middlewares": ABSENT, "compression_params": ABSENT,
        "authority": Use("set tls::server_name_override, which is the authority too"),
        "balancer_name": Remove("one connection is used at a time") kept [],
        "wait_for_ready": Remove("retry_on_failure says how long a receiver may be away") kept [],
        "batcher": Remove("what waits leaves together"),
        "read_buffer_size": ABSENT kept [], "write_buffer_size": ABSENT kept []];
    OTLP_HTTP at "exporters::otlp_http": [
        "endpoint", "logs_endpoint", "encoding", "tls", "headers", "auth", "compression",
        "timeout", "sending_queue", "retry_on_failure"
    ], ["middlewares": ABSENT, "cookies": ABSENT, "compression_params": ABSENT,
        "traces_endpoint": Use("findings are logs, set logs_endpoint or endpoint"),
        "metrics_endpoint": Use("findings are logs, set logs_endpoint or endpoint"),
        "profiles_endpoint": Use("findings are logs, set logs_endpoint or endpoint"),
        "proxy_url": Use("set the environment variable HTTPS_PROXY"),
        "batcher": Remove("what waits leaves together"),
        "max_idle_conns": ONE kept [], "max_idle_conns_per_host": ONE kept [], "max_conns_per_host": ONE kept [],
        "keepalive": ONE, "idle_conn_timeout": ONE kept [], "disable_keep_alives": ABSENT kept ["false"], "force_attempt_http2": ABSENT kept [],
        "http2_read_idle_timeout": ABSENT kept [], "http2_ping_timeout": ABSENT kept [],
        "read_buffer_size": ABSENT kept [], "write_buffer_size": ABSENT kept []];
    OTLP_TLS at "exporters::otlp_grpc::tls": [
        "insecure", "ca_file", "ca_pem", "include_system_ca_certs_pool", "insecure_skip_verify",
        "server_name_override", "cert_file", "cert_pem", "key_file", "key_pem", "min_version",
        "max_version"
    ], ["cipher_suites": Remove("only sound ones are spoken"),
        "curve_preferences": Remove("only sound ones are spoken"),
        "reload_interval": ABSENT, "tpm": ABSENT];
    FILE at "exporters::file": ["path", "append"],
        ["rotation": ABSENT, "create_directory": Remove("make the directory first"),
         "directory_permissions": Remove("make the directory first"), "group_by": ABSENT,
         "compression_params": ABSENT, "format": Remove("always JSON, a finding a line") kept ["json"],
         "compression": ABSENT, "flush_interval": ABSENT kept [], "encoding": ABSENT];
    DEBUG at "exporters::debug": ["verbosity"],
        ["output_paths": ABSENT kept ["stderr"], "sending_queue": ABSENT, "sampling_initial": ABSENT kept [], "sampling_thereafter": ABSENT kept [], "use_internal_logger": ABSENT kept ["true"]];

    BEARER_TOKEN_AUTH at "extensions::bearertokenauth":
        ["header", "scheme", "token", "tokens", "filename"], [];
    HEALTH_CHECK at "extensions::health_check": ["endpoint", "path", "response_body", "tls"],
        ["check_collector_pipeline": Remove("exporters are looked at as it is") kept [],
         "component_health": Remove("exporters are looked at as it is"),
         "use_v2": ABSENT, "grpc": ABSENT, "http": Use("write endpoint and path without it"),
         "keepalive": ABSENT, "transport": Remove("always tcp") kept ["tcp"], "auth": ABSENT, "cors": ABSENT,
         "read_header_timeout": Remove("2s"), "read_timeout": ABSENT, "write_timeout": ABSENT,
         "idle_timeout": Remove("30s"), "response_headers": ABSENT, "middlewares": ABSENT,
         "include_metadata": ABSENT kept ["false"], "max_request_body_size": ABSENT,
         "compression_algorithms": ABSENT];
    RESPONSE_BODY at "extensions::health_check::response_body": ["healthy", "unhealthy"], [];

    SERVICE at "service": ["extensions", "pipelines", "telemetry", "admission", "memory",
        "shutdown_timeout"], [];
    MEMORY at "service::memory": ["check_interval", "limit_mib", "spike_limit_mib",
        "limit_percentage", "spike_limit_percentage"],
        ["min_gc_interval_when_soft_limited": ABSENT, "min_gc_interval_when_hard_limited": ABSENT];
    ADMISSION at "service::admission": ["request_limit_mib", "queue_limit_mib"],
        ["waiting_limit_mib": Remove("requests beyond the limit do not wait, they are refused")];
    PIPELINE at "service::pipelines::logs": ["receivers", "processors", "exporters"], [];
    TELEMETRY at "service::telemetry": ["logs", "metrics", "traces", "resource"], [];
    TRACES at "service::telemetry::traces": ["processors", "sampler"],
        ["level": Remove("spans are made when processors says where to"),
         "propagators": ABSENT];
    SAMPLER at "service::telemetry::traces::sampler": ["trace_id_ratio_based"],
        ["parent_based": Use("use trace_id_ratio_based, our spans have no parents of others"),
         "always_on": Use("remove it, that is the default"),
         "always_off": Use("remove processors instead")];
    RATIO at "service::telemetry::traces::sampler::trace_id_ratio_based": ["ratio"], [];
    SPANS at "service::telemetry::traces::processors": ["batch"], ["simple": Use("use batch")];
    BATCH at "service::telemetry::traces::processors::batch":
        ["schedule_delay", "export_timeout", "exporter"],
        ["max_queue_size": Remove("2048"), "max_export_batch_size": Remove("512")];
    BATCH_EXPORTER at "service::telemetry::traces::processors::batch::exporter": ["otlp"],
        ["console": ABSENT];
    SPANS_OTLP at "service::telemetry::traces::processors::batch::exporter::otlp":
        ["protocol", "endpoint", "headers", "insecure"],
        ["timeout": Use("export_timeout of batch says it"), "compression": ABSENT,
         "certificate": ABSENT, "client_certificate": ABSENT, "client_key": ABSENT,
         "headers_list": Use("use headers")];
    METRICS at "service::telemetry::metrics": ["level", "readers"],
        ["address": Use("use readers: [{pull: {exporter: {prometheus: {host: localhost, port: 8888}}}}]"),
         "views": ABSENT];
    READER at "service::telemetry::metrics::readers": ["pull", "periodic"], [];
    PULL at "service::telemetry::metrics::readers::pull": ["exporter"], [];
    PULL_EXPORTER at "service::telemetry::metrics::readers::pull::exporter": ["prometheus"],
        ["otlp": Use("that is sent, so it stands under periodic")];
    PROMETHEUS at "service::telemetry::metrics::readers::pull::exporter::prometheus": [
        "host", "port", "without_type_suffix", "without_units", "without_scope_info"
    ], ["with_resource_constant_labels": Remove("target_info has them")];
    PERIODIC at "service::telemetry::metrics::readers::periodic":
        ["interval", "timeout", "exporter"], [];
    PERIODIC_EXPORTER at "service::telemetry::metrics::readers::periodic::exporter": ["otlp"],
        ["prometheus": Use("that is asked, so it stands under pull"),
         "console": Remove("debug level of logs shows findings")];
    METRICS_OTLP at "service::telemetry::metrics::readers::periodic::exporter::otlp":
        ["protocol", "endpoint", "headers", "insecure"],
        ["timeout": Use("timeout of periodic says it"), "compression": ABSENT, "certificate": ABSENT,
         "client_certificate": ABSENT, "client_key": ABSENT, "headers_list": Use("use headers"),
         "temporality_preference": Remove("always cumulative"),
         "default_histogram_aggregation": ABSENT];
    LOGS at "service::telemetry::logs": ["level", "encoding"],
        ["development": ABSENT kept ["false"], "sampling": ABSENT, "output_paths": ABSENT kept ["stderr"],
         "error_output_paths": ABSENT kept ["stderr"], "initial_fields": ABSENT, "disable_caller": ABSENT kept [],
         "disable_stacktrace": ABSENT kept [], "processors": ABSENT];
}
