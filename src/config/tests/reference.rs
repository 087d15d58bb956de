//! The files of `otel-config/`: they load, with the defaults, and the reference file shows every key.
use std::{collections::BTreeMap, time::Duration};

use secrecy::ExposeSecret;

use super::{MINIMAL, REFERENCE, id, load, only_hec, only_otlp};
use crate::{
    config::{
        Config, Encoding, ExporterConfig, ExtensionConfig, Level, LogsConfig, PipelineConfig,
        ReceiverConfig,
        components::ROOT,
        settings::{Entry, Shown},
    },
    detection::{
        limits::Limits,
        rule::{Rule, Semantics},
    },
    exporter, receiver, tls,
    yaml::{self, Node, Value},
};

#[test]
fn minimal_is_all_defaults() {
    let config = load(MINIMAL);
    let ReceiverConfig::Otlp(otlp) = &config.receivers[&id("otlp")] else {
        panic!()
    };
    let grpc = otlp.grpc.as_ref().unwrap();
    assert_eq!(grpc.endpoint, "127.0.0.1:4317");
    assert_eq!(grpc.max_recv_msg_bytes, 64 * 1024 * 1024);
    let detection = &config.processors[&id("detection")];
    assert_eq!(detection.rule, Rule::default());
    assert_eq!(detection.limits, Limits::default());
    assert!(detection.geo_databases.is_empty() && detection.cluster.is_none());
    let hec = only_hec(&config);
    assert_eq!(hec.token.expose_secret(), "s3cret");
    assert_eq!(hec.endpoint, "https://splunk:8088");
    assert_eq!(
        config.telemetry,
        LogsConfig {
            level: Level::Info,
            encoding: Encoding::Console
        }
    );
    assert_eq!(config.shutdown_timeout, Duration::from_secs(20));
    let pipeline = PipelineConfig {
        receivers: vec![id("otlp")],
        processor: id("detection"),
        exporters: vec![id("splunk_hec")],
    };
    assert_eq!(config.pipelines, BTreeMap::from([(id("logs"), pipeline)]));
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn the_reference_file_shows_the_defaults() {
    let (reference, minimal) = (load(REFERENCE), load(MINIMAL));
    let shown = |config: &Config| {
        let hec = only_hec(config);
        let pipeline = config.pipelines.clone();
        format!(
            "{:?} {:?} {hec:?} {pipeline:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            only_otlp(config).grpc,
            config.processors[&id("detection")],
            config.telemetry,
            config.metrics,
            config.traces,
            config.resource,
            (config.request_limit, config.queue_limit, &config.memory),
            config.shutdown_timeout
        )
    };
    assert_eq!(shown(&reference), shown(&minimal));
    let http = only_otlp(&reference).http.clone();
    let default = Some(receiver::otlp_http::Config::default());
    assert_eq!(format!("{http:?}"), format!("{default:?}"));
    let ReceiverConfig::Otlp(with_tls) = &reference.receivers[&id("otlp/tls")] else {
        panic!()
    };
    let tls = with_tls.grpc.as_ref().unwrap().tls.as_ref().unwrap();
    assert_eq!(
        (tls.min_version, tls.max_version, tls.reload_interval),
        (tls::Version::Tls12, tls::Version::Tls13, None)
    );
    assert!(tls.client_ca_file.is_none());
    let escu = &reference.processors[&id("detection/escu")].rule;
    assert_eq!(
        *escu,
        Rule {
            semantics: Semantics::Escu,
            ..Rule::default()
        }
    );
    let shown = |config: &ExporterConfig| format!("{config:?}");
    let ExtensionConfig::BearerTokenAuth(auth) = &reference.extensions[&id("bearertokenauth")]
    else {
        panic!()
    };
    let grpc = exporter::otlp_grpc::Config {
        endpoint: "collector:4317".to_owned(),
        auth: Some(auth.clone()),
        ..Default::default()
    };
    assert_eq!(
        shown(&reference.exporters[&id("otlp_grpc")]),
        shown(&ExporterConfig::OtlpGrpc(grpc))
    );
    let http = exporter::otlp_http::Config {
        endpoint: "http://collector:4318".to_owned(),
        auth: Some(auth.clone()),
        ..Default::default()
    };
    assert_eq!(
        shown(&reference.exporters[&id("otlp_http")]),
        shown(&ExporterConfig::OtlpHttp(http))
    );
    let ExporterConfig::File(file) = &reference.exporters[&id("file")] else {
        panic!()
    };
    assert!(file.append);
    let ExporterConfig::Debug(debug) = &reference.exporters[&id("debug")] else {
        panic!()
    };
    assert_eq!(debug.verbosity, exporter::debug::Verbosity::Normal);
}

#[test]
fn the_reference_file_shows_every_key() {
    let root = yaml::parse(REFERENCE, 0, &mut Vec::new()).unwrap();
    shows(&[&root], &ROOT.entries(&()), "");
}

/// Checks that each of these keys is in one of the sections at least, and those within it likewise.
fn shows(sections: &[&Node], entries: &[Entry], path: &str) {
    for entry in entries {
        let name = entry.fact.name;
        let found: Vec<_> = sections.iter().flat_map(|node| under(node, name)).collect();
        assert!(
            !found.is_empty(),
            "otel-config/auditwatch.yaml does not show {path}::{name}"
        );
        match &entry.shown {
            Shown::Keys(inside) | Shown::Elements(inside) if entry.fact.like.is_none() => {
                shows(&found, inside, &format!("{path}::{name}"));
            }
            _ => {}
        }
    }
}

/// The values under a key, or under the ids of a type.
fn under<'a>(node: &'a Node, step: &str) -> Vec<&'a Node> {
    if let Value::List(items) = &node.value {
        return items.iter().flat_map(|item| under(item, step)).collect();
    }
    let Value::Map(entries) = &node.value else {
        return Vec::new();
    };
    let of_step = |name: &str| name.split('/').next() == Some(step);
    entries
        .iter()
        .filter(|(key, _)| of_step(&key.name))
        .map(|(_, node)| node)
        .collect()
}

#[test]
fn every_key_is_commented_in_the_reference_file() {
    let mut commented = false;
    let mut inside = false;
    for line in REFERENCE.lines().map(str::trim) {
        let has_value = line
            .split_once(':')
            .is_some_and(|(_, value)| !value.is_empty());
        inside |= line == "receivers:";
        if inside && has_value && !line.starts_with('#') && !line.starts_with("semantics: escu") {
            let geo_again = line.starts_with("databases: [/");
            assert!(commented || geo_again, "no comment before {line}");
        }
        commented = line.starts_with('#');
    }
}
