//! The configuration as its users meet it: what loads, and as what.
mod docs;
mod reference;
mod refused;
mod sources;

use std::{path::Path, sync::LazyLock, time::Duration};

use rcgen::{CertificateParams, KeyPair};
use secrecy::ExposeSecret;

use super::*;
use crate::{
    detection::{
        exclude::{Exclusion, Target, Wildcard},
        limits::Limits,
        rule::{MissingCity, SECOND, Who},
        selector::{Pattern, Selector},
        time::Micros,
    },
    rules::switches::Switches,
    tls,
};
use crate::{exporter, extension, memory, receiver};

const MINIMAL: &str = include_str!("../../otel-config/minimal.yaml");
const REFERENCE: &str = include_str!("../../otel-config/auditwatch.yaml");

/// A pipeline that is whole, to put components in front of.
const SERVICE: &str = "
service: {pipelines: {logs: {receivers: [otlp], processors: [detection], exporters: [debug]}}}
";
const OTLP: &str = "receivers: {otlp: {protocols: {grpc: }}}\n";
const DETECTION: &str = "processors: {detection: }\n";
const DEBUG: &str = "exporters: {debug: }\n";

/// A certificate that signs itself, and its key.
static IDENTITY: LazyLock<(String, String)> = LazyLock::new(|| identity(|_| {}));

fn identity(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
    change(&mut params);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn env(name: &str) -> Option<String> {
    let value = match name {
        "SPLUNK_HEC_TOKEN" => "s3cret",
        "SPLUNK_HEC_URL" => "https://splunk:8088",
        "PROXIES" => "10.0.0.0/8, 192.0.2.1",
        "RULES" => "impersonation, rules/own.yaml",
        "WORD" => "fifty",
        "LINE" => "s3cret\n",
        "AUDITWATCH_TOKEN" => "s3cret-too",
        "EMPTY" => "",
        "CERT" => &IDENTITY.0,
        "KEY" => &IDENTITY.1,
        _ => return None,
    };
    Some(value.to_owned())
}

fn load(text: &str) -> Config {
    parse("a.yaml", text, &env).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn id(text: &str) -> ComponentId {
    text.parse().unwrap()
}

fn only_hec(config: &Config) -> &exporter::splunk_hec::Config {
    match &config.exporters[&id("splunk_hec")] {
        ExporterConfig::SplunkHec(hec) => hec,
        other => panic!("{other:?}"),
    }
}

fn only_otlp(config: &Config) -> &OtlpReceiver {
    let ReceiverConfig::Otlp(otlp) = &config.receivers[&id("otlp")] else {
        panic!()
    };
    otlp
}

#[test]
fn loads_from_a_file_and_says_when_it_cannot() {
    let file = |path: &Path| super::load(&[Source::File(path.to_owned())]);
    let error = file(Path::new("no/such.yaml")).unwrap_err().to_string();
    assert!(
        error.starts_with("no/such.yaml: cannot read no/such.yaml: "),
        "{error}"
    );

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.yaml");
    std::fs::write(&path, format!("{OTLP}{DETECTION}{DEBUG}{SERVICE}")).unwrap();
    assert_eq!(file(&path).unwrap().pipelines.len(), 1);
    // Cargo sets this one for every test.
    let text = format!("{OTLP}{DETECTION}exporters: {{file: {{path: '${{CARGO_MANIFEST_DIR}}'}}}}")
        + &SERVICE.replace("debug", "file");
    std::fs::write(&path, text).unwrap();
    let config = file(&path).unwrap();
    let ExporterConfig::File(file) = &config.exporters[&id("file")] else {
        panic!()
    };
    assert_eq!(file.path, Path::new(env!("CARGO_MANIFEST_DIR")));
}

/// Every key with another value than its default.
const EVERYTHING: &str = r#"
receivers:
  otlp/a:
    protocols:
      grpc:
        {endpoint: "[::1]:1", max_recv_msg_size_mib: 4, max_connections: 3,
        max_connections_per_address: 2,
        max_concurrent_streams: 2, read_timeout: 1s, keepalive:
          {server_parameters: {max_connection_idle: 1h, time: 2s, timeout: 3s}},
        tls: {cert_file: c.pem, key_file: k.pem, client_ca_file: ca.pem, min_version: 1.3,
          max_version: "1.3", reload_interval: 5m}, auth: {authenticator: bearertokenauth}}
      http:
        {endpoint: "localhost:2", max_request_body_size: 5, max_connections: 6,
        max_connections_per_address: 7,
        read_header_timeout: 7s, read_timeout: 8s, idle_timeout: 9s,
        tls: {cert_pem: "${env:CERT}", key_pem: "${env:KEY}", max_version: 1.2},
        auth: {authenticator: bearertokenauth/b}}
processors:
  detection:
    threshold: 9
    threshold_401: 10
    anonymous_success: false
    distributed: false
    low_and_slow: false
    forged_forwarding: false
    blind_spots: false
    follow_up: 36h
    exclude:
      - {name: probes, cidr: [10.0.0.0/28, "2001:db8::7"], path: /healthz, user_agent: ["", "kube-probe/*"],
        user: "system:anonymous", code: 401, expires: 2027-01-31T00:00:00Z, reason: health checks,
        applies_to: [scanning, success, pod_exec]}
      - {name: scraper, cidr: 192.0.2.1}
    filter: finding.count > 7
    filter_all: true
    window: 90
    time_field: stageTimestamp
    codes: "401,403"
    who: group
    trusted_proxies: "${env:PROXIES}"
    allow_all: true
    ipv6_prefix: 64
    lateness: 1m30s
    cluster: prod
    selector: {source: "kubernetes, *audit.log", sourcetype: ["a,b"], index: 7}
    geo: {databases: [a.mmdb, b.mmdb]}
    limits: {keys: 10, memory_mib: 5, hits_per_key: 11, values_per_field: 12, value_bytes: 13, source_ips: 14}
  detection/escu:
    {semantics: escu, window_offset: 0, missing_city: drop, geo: {databases: a.mmdb}, cluster: "${EMPTY}"}
  detection/rules:
    {scanning: false, rules: "${env:RULES}", trusted_proxies: 10.0.0.0/8, ipv6_prefix: 64, lateness: 0}
exporters:
  splunk_hec:
    token: "pa$$word"
    endpoint: http://${env:H:-a}:8088
    source: s
    sourcetype: t
    index: 0123
    host: h
    health_check_enabled: true
    health_path: /healthy
    splunk_app_name: app
    splunk_app_version: v
    max_idle_conns: 0
    max_idle_conns_per_host: 3
    idle_conn_timeout: 0
    ack: {enabled: true, poll_interval: 10ms, timeout: 5m}
    format: risk
    search_name: found
    entity: user
    timeout: 300ms
    disable_compression: True
    max_content_length_logs: 0
    max_event_size: 7
    headers: {X-Scope: s3cret-scope, b: "2"}
    tls: {ca_file: ca.pem, include_system_ca_certs_pool: true, insecure_skip_verify: true,
      server_name_override: other.example, cert_file: c.pem, key_pem: "${env:KEY}",
      min_version: 1.3, max_version: "1.3"}
    sending_queue: {enabled: true, queue_size: 8}
    retry_on_failure: {enabled: false, initial_interval: 1s, randomization_factor: 0,
      multiplier: 2, max_interval: 2s, max_elapsed_time: 0}
    dead_letter: {path: d.ndjson, max_megabytes: 1, max_backups: 2}
  otlp/old: {endpoint: "dns:///a:1", headers: {X-A: s3cret}, compression: zstd, timeout: 1s,
    auth: {authenticator: bearertokenauth}, tls: {insecure: true}, sending_queue: {queue_size: 8}, retry_on_failure: {enabled: false}}
  otlp_http: {endpoint: "https://a", logs_endpoint: "https://a/in", encoding: json,
    headers: {X-A: s3cret}, compression: none, timeout: 1s,
    auth: {authenticator: bearertokenauth}, tls: {insecure_skip_verify: true},
    sending_queue: {queue_size: 8}, retry_on_failure: {enabled: false}}
  file: {path: x, append: false}
  debug: {verbosity: detailed}
extensions:
  health_check: {endpoint: "[::1]:3", path: /ok, response_body: {healthy: good, unhealthy: bad},
    tls: {cert_file: c, key_file: k}}
  bearertokenauth: {header: X-Token, scheme: Token, tokens: [s3cret, other]}
  bearertokenauth/b: {filename: tokens}
service:
  extensions: [health_check, bearertokenauth, bearertokenauth/b]
  pipelines:
    logs: {receivers: otlp/a, processors: [detection], exporters: "splunk_hec, file"}
  telemetry:
    logs: {level: DEBUG, encoding: json}
    metrics:
      level: detailed
      readers:
        - pull: {exporter: {prometheus: {host: "::1", port: 0, without_type_suffix: false,
            without_units: false, without_scope_info: false}}}
        - periodic: {interval: 100, timeout: 2s, exporter: {otlp: {protocol: grpc,
            endpoint: "collector:4317", insecure: true, headers: {X-Token: s3cret}}}}
        - periodic: {exporter: {otlp: {endpoint: https://collector/v1/metrics}}}
        - periodic: {exporter: {otlp: {endpoint: "${EMPTY}"}}}
    traces:
      sampler: {trace_id_ratio_based: {ratio: 0.5}}
      processors: [batch: {schedule_delay: 1s, export_timeout: 200, exporter: {otlp: {
        protocol: grpc, endpoint: "collector:4317", insecure: false, headers: {a: s3cret}}}}]
    resource: {service.name: mine, deployment.environment.name: test, service.instance.id: }
  admission: {request_limit_mib: 7, queue_limit_mib: 8}
  memory: {check_interval: 1s, limit_mib: 90, spike_limit_mib: 9, limit_percentage: 70, spike_limit_percentage: 0}
  shutdown_timeout: 1m
"#;

#[test]
fn reads_every_setting_of_a_receiver() {
    let config = load(EVERYTHING);
    let ReceiverConfig::Otlp(otlp) = &config.receivers[&id("otlp/a")] else {
        panic!()
    };
    let seconds = Duration::from_secs;
    let limits = receiver::Limits::default();
    let grpc = receiver::otlp_grpc::Config {
        endpoint: "[::1]:1".to_owned(),
        max_recv_msg_bytes: 4 << 20,
        limits: receiver::Limits {
            max_connections: 3,
            max_connections_per_address: Some(2),
            max_concurrent_streams: 2,
            read_timeout: seconds(1),
            idle_timeout: Duration::from_hours(1),
            keepalive_time: seconds(2),
            keepalive_timeout: seconds(3),
            ..limits.clone()
        },
        tls: Some(tls::server::Config {
            cert: tls::Pem::File("c.pem".into()),
            key: tls::Pem::File("k.pem".into()),
            client_ca_file: Some("ca.pem".into()),
            min_version: tls::Version::Tls13,
            max_version: tls::Version::Tls13,
            reload_interval: Some(Duration::from_mins(5)),
        }),
    };
    assert_eq!(format!("{:?}", otlp.grpc), format!("{:?}", Some(grpc)));
    let http = receiver::otlp_http::Config {
        endpoint: "localhost:2".to_owned(),
        max_request_body_size: 5,
        limits: receiver::Limits {
            max_connections: 6,
            max_connections_per_address: Some(7),
            read_header_timeout: seconds(7),
            read_timeout: seconds(8),
            idle_timeout: seconds(9),
            ..limits
        },
        tls: Some(tls::server::Config {
            cert: tls::Pem::Text(IDENTITY.0.as_str().into()),
            key: tls::Pem::Text(IDENTITY.1.as_str().into()),
            client_ca_file: None,
            min_version: tls::Version::Tls12,
            max_version: tls::Version::Tls12,
            reload_interval: None,
        }),
    };
    assert_eq!(format!("{:?}", otlp.http), format!("{:?}", Some(http)));
    let Some(tls::Pem::Text(key)) = otlp
        .http
        .as_ref()
        .and_then(|http| http.tls.as_ref())
        .map(|tls| &tls.key)
    else {
        panic!()
    };
    assert_eq!(key.expose_secret(), IDENTITY.1);
    assert_eq!(config.request_limit, Some(7 << 20));
    assert_eq!(config.queue_limit, Some(8 << 20));
    let memory = memory::Config {
        limit: Some(90 << 20),
        limit_percentage: 70,
        spike_limit: Some(9 << 20),
        spike_limit_percentage: 0,
        check_interval: seconds(1),
    };
    assert_eq!(config.memory, memory);
    assert_eq!(
        [&otlp.grpc_auth, &otlp.http_auth],
        [&Some(id("bearertokenauth")), &Some(id("bearertokenauth/b"))]
    );
}

#[test]
fn reads_every_setting_of_a_detection() {
    let config = load(EVERYTHING);
    let rule = &config.processors[&id("detection")].rule;
    assert_eq!(
        (rule.threshold, rule.window, rule.lateness),
        (9, 90 * SECOND, 90 * SECOND)
    );
    assert_eq!(
        (rule.codes.as_slice(), rule.who, rule.ipv6_prefix),
        ([401, 403].as_slice(), Who::Group, 64)
    );
    let proxies: Vec<_> = rule
        .trusted_proxies
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        (rule.time_field.as_str(), proxies.as_slice()),
        (
            "stageTimestamp",
            ["10.0.0.0/8".to_owned(), "192.0.2.1/32".to_owned()].as_slice()
        )
    );
    let detection = &config.processors[&id("detection")];
    assert_eq!(detection.cluster.as_deref(), Some("prod"));
    assert_eq!(
        detection.geo_databases,
        [Path::new("a.mmdb"), Path::new("b.mmdb")]
    );
    let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern::new(text)).collect();
    let selector = Selector {
        source: patterns(&["kubernetes", "*audit.log"]),
        sourcetype: patterns(&["a,b"]),
        index: patterns(&["7"]),
    };
    assert_eq!(rule.selector, selector);
    let limits = Limits {
        keys: 10,
        memory: 5 << 20,
        hits_per_key: 11,
        values_per_field: 12,
        value_bytes: 13,
        source_ips: 14,
    };
    assert_eq!(detection.limits, limits);
    reads_what_keeps_a_detection_quiet(detection);
    let escu = &config.processors[&id("detection/escu")];
    assert_eq!(
        (escu.rule.window_offset, escu.rule.missing_city),
        (0, MissingCity::Drop)
    );
    assert_eq!(escu.cluster, None);
    assert!(escu.switches.scanning && escu.rules.is_empty());
    let rules = &config.processors[&id("detection/rules")];
    assert!(!rules.switches.scanning);
    assert_eq!(rules.rules, ["impersonation", "rules/own.yaml"]);
}

fn reads_what_keeps_a_detection_quiet(detection: &DetectionConfig) {
    assert_eq!(detection.rule.threshold_401, Some(10));
    let switches = Switches {
        scanning: true,
        follow_up: Duration::from_hours(36),
        ..Switches::scanning_alone()
    };
    assert_eq!(detection.switches, switches);
    let wildcards = |texts: &[&str]| {
        let texts = texts.iter().map(|text| Wildcard::new(text).unwrap());
        texts.collect::<Vec<_>>()
    };
    let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
    let probes = Exclusion {
        name: "probes".to_owned(),
        cidr: nets(&["10.0.0.0/28", "2001:db8::7/128"]),
        path: wildcards(&["/healthz"]),
        user_agent: wildcards(&["", "kube-probe/*"]),
        user: wildcards(&["system:anonymous"]),
        code: vec![401],
        expires: Micros::parse("2027-01-31T00:00:00Z"),
        reason: "health checks".to_owned(),
        applies_to: vec![
            Target::Scanning,
            Target::Success,
            Target::Rule("pod_exec".to_owned()),
        ],
    };
    let scraper = Exclusion {
        name: "scraper".to_owned(),
        cidr: nets(&["192.0.2.1/32"]),
        ..Exclusion::default()
    };
    assert_eq!(detection.exclude, [probes, scraper]);
    let filter = detection.filter.as_ref().unwrap();
    assert_eq!(
        (filter.source(), detection.filter_all),
        ("finding.count > 7", true)
    );
    let warned = |time: &str| detection.warnings(Micros::parse(time).unwrap()).len();
    assert_eq!(warned("2027-01-30T23:59:59Z"), 0);
    assert_eq!(warned("2027-01-31T00:00:00Z"), 1);
}

#[test]
fn reads_every_setting_of_an_exporter_and_the_service() {
    let config = load(EVERYTHING);
    let hec = only_hec(&config);
    assert_eq!(
        (hec.token.expose_secret(), hec.endpoint.as_str()),
        ("pa$word", "http://a:8088")
    );
    assert_eq!(
        (
            hec.source.as_str(),
            hec.sourcetype.as_str(),
            hec.index.as_str()
        ),
        ("s", "t", "0123")
    );
    assert_eq!(hec.host, "h");
    assert!(hec.health_check_enabled);
    assert_eq!(
        [
            &hec.health_path,
            &hec.splunk_app_name,
            &hec.splunk_app_version
        ],
        ["/healthy", "app", "v"]
    );
    assert_eq!(
        (hec.max_idle_conns, hec.idle_conn_timeout),
        (3, Duration::ZERO)
    );
    let ack = exporter::splunk_hec::AckConfig {
        enabled: true,
        poll_interval: Duration::from_millis(10),
        timeout: Duration::from_mins(5),
    };
    assert_eq!(hec.ack, ack);
    assert_eq!(hec.timeout, Duration::from_millis(300));
    assert!(hec.disable_compression && hec.tls.insecure_skip_verify && !hec.retry.enabled);
    assert_eq!((hec.max_content_length_logs, hec.max_event_size), (0, 7));
    assert_eq!(hec.queue.queue_size, 8);
    assert_eq!(hec.headers.len(), 2);
    assert_eq!(hec.headers["x-scope"], "s3cret-scope");
    assert_eq!(hec.retry.max_interval, Duration::from_secs(2));
    assert_eq!(
        format!(
            "{:?} {:?}",
            hec.retry.randomization_factor, hec.retry.multiplier
        ),
        "0.0 2.0"
    );
    assert!(hec.retry.max_elapsed_time.is_zero());
    let letters = exporter::dead_letter::Config {
        path: "d.ndjson".into(),
        max_megabytes: 1,
        max_backups: 2,
    };
    assert_eq!(hec.dead_letter, letters);
    let pipeline = &config.pipelines[&id("logs")];
    assert_eq!(pipeline.exporters, [id("splunk_hec"), id("file")]);
    assert_eq!(
        config.telemetry,
        LogsConfig {
            level: Level::Debug,
            encoding: Encoding::Json
        }
    );
    assert_eq!(config.shutdown_timeout, Duration::from_mins(1));
}

#[test]
fn reads_every_setting_of_telemetry() {
    use crate::telemetry::{Reader, metrics, otlp, prometheus};

    let config = load(EVERYTHING);
    assert_eq!(config.metrics.level, metrics::Level::Detailed);
    let [
        Reader::Pull(pull),
        Reader::Periodic(grpc),
        Reader::Periodic(http),
    ] = &config.metrics.readers[..]
    else {
        panic!("{:?}", config.metrics.readers)
    };
    let wanted = prometheus::Config {
        host: "::1".to_owned(),
        port: 0,
        without_type_suffix: false,
        without_units: false,
        without_scope_info: false,
    };
    assert_eq!(*pull, wanted);
    let times = |periodic: &otlp::Periodic| (periodic.interval, periodic.to.timeout);
    assert_eq!(
        times(grpc),
        (Duration::from_millis(100), Duration::from_secs(2))
    );
    assert_eq!(
        (grpc.to.protocol, grpc.to.endpoint.as_str()),
        (otlp::Protocol::Grpc, "http://collector:4317")
    );
    assert_eq!(grpc.to.headers["X-Token"].expose_secret(), "s3cret");
    assert_eq!(
        times(http),
        (Duration::from_mins(1), Duration::from_secs(30))
    );
    assert_eq!(
        (http.to.protocol, http.to.endpoint.as_str()),
        (otlp::Protocol::Http, "https://collector/v1/metrics")
    );
    let [spans] = &config.traces.processors[..] else {
        panic!("{:?}", config.traces)
    };
    assert_eq!(format!("{:?}", config.traces.ratio), "0.5");
    assert_eq!(
        (spans.delay, spans.to.timeout, spans.to.endpoint.as_str()),
        (
            Duration::from_secs(1),
            Duration::from_millis(200),
            "https://collector:4317"
        )
    );
    let resource = [
        ("service.name", "mine"),
        ("deployment.environment.name", "test"),
        ("service.instance.id", ""),
    ];
    assert_eq!(
        config.resource,
        resource
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    );
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn reads_every_setting_of_tls() {
    let config = load(EVERYTHING);
    let tls = &only_hec(&config).tls;
    assert_eq!(
        format!("{tls:?}"),
        "Config { insecure: false, ca: Some(File(\"ca.pem\")), \
         include_system_ca_certs_pool: true, insecure_skip_verify: true, \
         server_name_override: Some(\"other.example\"), cert: Some(File(\"c.pem\")), \
         key: Some(Text(SecretBox<str>([REDACTED]))), min_version: Tls13, max_version: Tls13 }"
    );
}

#[test]
fn reads_every_setting_of_the_otlp_exporters() {
    use exporter::{compression::Compression, otlp_http::Encoding};

    let config = load(EVERYTHING);
    let ExporterConfig::OtlpGrpc(grpc) = &config.exporters[&id("otlp/old")] else {
        panic!()
    };
    assert_eq!(grpc.endpoint, "dns:///a:1");
    assert_eq!(grpc.headers["x-a"], "s3cret");
    assert_eq!(grpc.auth.as_ref().unwrap().header, "X-Token");
    assert!(grpc.tls.insecure && !grpc.retry.enabled);
    assert_eq!(
        (grpc.compression, grpc.timeout, grpc.queue.queue_size),
        (Compression::Zstd, Duration::from_secs(1), 8)
    );
    let ExporterConfig::OtlpHttp(http) = &config.exporters[&id("otlp_http")] else {
        panic!()
    };
    assert_eq!(
        (http.endpoint.as_str(), http.logs_endpoint.as_deref()),
        ("https://a", Some("https://a/in"))
    );
    assert_eq!(http.headers["x-a"], "s3cret");
    assert_eq!(http.auth.as_ref().unwrap().header, "X-Token");
    assert!(http.tls.insecure_skip_verify && !http.retry.enabled);
    assert_eq!(
        (http.compression, http.timeout, http.queue.queue_size),
        (Compression::None, Duration::from_secs(1), 8)
    );
    assert_eq!(http.encoding, Encoding::Json);
}

#[test]
fn reads_every_setting_of_an_extension() {
    let config = load(EVERYTHING);
    assert_eq!(
        config.service_extensions,
        ["health_check", "bearertokenauth", "bearertokenauth/b"].map(id)
    );
    let ExtensionConfig::HealthCheck(health) = &config.extensions[&id("health_check")] else {
        panic!()
    };
    let wanted = extension::health_check::Config {
        endpoint: "[::1]:3".to_owned(),
        path: "/ok".to_owned(),
        healthy_body: Some("good".to_owned()),
        unhealthy_body: Some("bad".to_owned()),
        tls: Some(tls::server::Config {
            cert: tls::Pem::File("c".into()),
            key: tls::Pem::File("k".into()),
            client_ca_file: None,
            min_version: tls::Version::Tls12,
            max_version: tls::Version::Tls13,
            reload_interval: None,
        }),
    };
    assert_eq!(format!("{health:?}"), format!("{wanted:?}"));
    let ExtensionConfig::BearerTokenAuth(auth) = &config.extensions[&id("bearertokenauth")] else {
        panic!()
    };
    let tokens: Vec<_> = auth
        .tokens
        .iter()
        .map(ExposeSecret::expose_secret)
        .collect();
    assert_eq!(
        (auth.header.as_str(), auth.scheme.as_str(), tokens),
        ("X-Token", "Token", vec!["s3cret", "other"])
    );
    let ExtensionConfig::BearerTokenAuth(auth) = &config.extensions[&id("bearertokenauth/b")]
    else {
        panic!()
    };
    assert_eq!(
        (auth.header.as_str(), auth.scheme.as_str(), &auth.filename),
        ("Authorization", "Bearer", &Some("tokens".into()))
    );
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn anchors_and_merges_share_settings() {
    let config = load(
        "
receivers: {otlp: {protocols: {grpc: }}, otlp/2: {protocols: {grpc: {endpoint: '[::1]:1'}}}}
processors: {detection: &d {threshold: 7, window: 2h}, detection/2: {<<: *d, window: 3h}}
exporters: {debug: }
service:
  pipelines:
    logs/a: {receivers: [otlp], processors: [detection], exporters: &e [debug]}
    logs/b: {receivers: [otlp/2], processors: [detection/2], exporters: *e}
",
    );
    let rule = &config.processors[&id("detection/2")].rule;
    assert_eq!((rule.threshold, rule.window), (7, 3 * 3600 * SECOND));
    assert_eq!(config.pipelines[&id("logs/b")].exporters, [id("debug")]);
}
