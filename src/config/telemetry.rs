//! `service::telemetry`: what auditwatch says of itself, and to whom.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Encoding, Level, LogsConfig, keys,
    otel_env::{Signal, Variables, Written, uri, url},
    read::{Place, Section},
};
use crate::telemetry::{MetricsConfig, Reader, metrics, otlp, prometheus, traces};

/// Our own logs.
pub(crate) fn logs(section: &Section<'_>) -> LogsConfig {
    let default = LogsConfig::default();
    let logs = section
        .section("telemetry", &keys::TELEMETRY)
        .section("logs", &keys::LOGS);
    let levels = [
        ("trace", Level::Trace),
        ("debug", Level::Debug),
        ("info", Level::Info),
        ("warn", Level::Warn),
        ("error", Level::Error),
    ];
    let encodings = [("console", Encoding::Console), ("json", Encoding::Json)];
    LogsConfig {
        level: logs.choice("level", &levels, default.level),
        encoding: logs.choice("encoding", &encodings, default.encoding),
    }
}

/// Our own metrics.
pub(crate) fn metrics(section: &Section<'_>) -> MetricsConfig {
    let default = MetricsConfig::default();
    let metrics = section
        .section("telemetry", &keys::TELEMETRY)
        .section("metrics", &keys::METRICS);
    let levels = [
        ("none", metrics::Level::None),
        ("basic", metrics::Level::Basic),
        ("normal", metrics::Level::Normal),
        ("detailed", metrics::Level::Detailed),
    ];
    let level = metrics.choice("level", &levels, default.level);
    let readers = match metrics.items("readers") {
        Some(items) => {
            if items.is_empty() && level != metrics::Level::None {
                metrics.fail("readers is empty, add one or set level: none");
            }
            items.into_iter().filter_map(reader).collect()
        }
        None => default.readers,
    };
    MetricsConfig { level, readers }
}

fn reader(place: Place<'_>) -> Option<Reader> {
    let section = place.section(&keys::READER);
    match (section.place("pull"), section.place("periodic")) {
        (Some(_), None) => pull(&section.section("pull", &keys::PULL)).map(Reader::Pull),
        (None, Some(_)) => {
            periodic(&section.section("periodic", &keys::PERIODIC)).map(Reader::Periodic)
        }
        _ => {
            section.fail("a reader is either pull or periodic");
            None
        }
    }
}

fn pull(section: &Section<'_>) -> Option<prometheus::Config> {
    let exporter = section.section("exporter", &keys::PULL_EXPORTER);
    if exporter.place("prometheus").is_none() {
        section.fail("needs exporter: {prometheus: }");
        return None;
    }
    let section = exporter.section("prometheus", &keys::PROMETHEUS);
    let default = prometheus::Config::default();
    let host = section.value("host").map(|value| value.filled());
    let config = prometheus::Config {
        port: section.number("port", 0..=u16::MAX, default.port),
        without_type_suffix: section.boolean("without_type_suffix", default.without_type_suffix),
        without_units: section.boolean("without_units", default.without_units),
        without_scope_info: section.boolean("without_scope_info", default.without_scope_info),
        ..default
    };
    Some(match host {
        Some(host) => prometheus::Config {
            host: host?,
            ..config
        },
        None => config,
    })
}

/// Our own spans.
pub(crate) fn traces(section: &Section<'_>) -> traces::Config {
    let default = traces::Config::default();
    let section = section
        .section("telemetry", &keys::TELEMETRY)
        .section("traces", &keys::TRACES);
    let ratio = section
        .section("sampler", &keys::SAMPLER)
        .section("trace_id_ratio_based", &keys::RATIO)
        .float("ratio", 0.0..=1.0, default.ratio);
    let items = section.items("processors").unwrap_or_default();
    traces::Config {
        ratio,
        processors: items.into_iter().filter_map(batch).collect(),
    }
}

fn batch(place: Place<'_>) -> Option<traces::Batch> {
    let section = place.section(&keys::SPANS);
    if section.place("batch").is_none() {
        section.fail("a processor is batch: {exporter: {otlp: {endpoint: ...}}}");
        return None;
    }
    let section = section.section("batch", &keys::BATCH);
    let delay = milliseconds(&section, "schedule_delay", Duration::from_secs(5));
    let timeout = written_milliseconds(&section, "export_timeout");
    let exporter = section.section("exporter", &keys::BATCH_EXPORTER);
    if exporter.place("otlp").is_none() {
        section.fail("needs exporter: {otlp: {endpoint: ...}}");
        return None;
    }
    let to = otlp(
        &exporter.section("otlp", &keys::SPANS_OTLP),
        Signal::Traces,
        ("export_timeout", timeout),
    );
    Some(traces::Batch {
        delay: delay?,
        to: to?,
    })
}

/// A duration, as plain numbers of the SDK's own configuration have it.
fn milliseconds(section: &Section<'_>, key: &str, default: Duration) -> Option<Duration> {
    match section.get(key) {
        Some(_) => written_milliseconds(section, key),
        None => Some(default),
    }
}

/// The same without a default.
fn written_milliseconds(section: &Section<'_>, key: &str) -> Option<Duration> {
    let range = Duration::from_millis(1)..=Duration::from_hours(24);
    section.value(key)?.millis(range)
}

fn periodic(section: &Section<'_>) -> Option<otlp::Periodic> {
    let interval = milliseconds(section, "interval", Duration::from_mins(1));
    let timeout = written_milliseconds(section, "timeout");
    let exporter = section.section("exporter", &keys::PERIODIC_EXPORTER);
    if exporter.place("otlp").is_none() {
        section.fail("needs exporter: {otlp: {endpoint: ...}}");
        return None;
    }
    let to = otlp(
        &exporter.section("otlp", &keys::METRICS_OTLP),
        Signal::Metrics,
        ("timeout", timeout),
    );
    Some(otlp::Periodic {
        interval: interval?,
        to: to?,
    })
}

/// Where OTLP is sent to, with what the environment says where no key does.
fn otlp(
    section: &Section<'_>,
    signal: Signal,
    timeout: (&'static str, Option<Duration>),
) -> Option<otlp::Config> {
    let protocols = [
        ("grpc", otlp::Protocol::Grpc),
        ("http/protobuf", otlp::Protocol::Http),
    ];
    let protocol = section
        .get("protocol")
        .map(|_| section.choice("protocol", &protocols, otlp::Protocol::default()));
    let insecure = section
        .get("insecure")
        .map(|_| section.boolean("insecure", false));
    let mut headers = BTreeMap::new();
    for (name, place) in section
        .get("headers")
        .map(|place| place.pairs())
        .unwrap_or_default()
    {
        if http::HeaderName::try_from(&name).is_err() {
            place.fail_name("holds a key that is no name of a header, expected name: value");
            continue;
        }
        if let Some(value) = place.header() {
            headers.insert(name, value);
        }
    }
    let variables = Variables::new(section, signal);
    let value = if variables.has_endpoint() {
        section.value("endpoint")
    } else {
        Some(section.required("endpoint")?)
    };
    // Empty is as good as not there, so that a variable can say whether anything is sent.
    let value = value.filter(|value| !value.text.is_empty());
    if value.is_none() && !variables.has_endpoint() {
        return None;
    }
    if let Some(value) = &value
        && uri(&url(&value.text, false)).is_none()
    {
        value.fail("must be a URL such as http://localhost:4317");
        return None;
    }
    let written = Written {
        protocol,
        insecure,
        headers,
        timeout,
    };
    variables.complete(written, value.as_ref().map(|value| value.text.as_str()))
}

/// What our own metrics and spans are said to come from, beside what is known anyway. A value that
/// is empty takes an attribute away.
pub(crate) fn resource(section: &Section<'_>) -> BTreeMap<String, String> {
    let place = section
        .section("telemetry", &keys::TELEMETRY)
        .get("resource");
    let mut resource = BTreeMap::new();
    for (key, place) in place.iter().flat_map(Place::children) {
        // The other form of the Collector, whose schema says nothing that we would not.
        let pairs = match key.name.as_str() {
            "schema_url" => continue,
            "attributes" => place.pairs(),
            name => vec![(name.to_owned(), place)],
        };
        let read = |(name, place): (String, Place<'_>)| Some((name, place.text_or_null()?));
        resource.extend(pairs.into_iter().filter_map(read));
    }
    resource
}
