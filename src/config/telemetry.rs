//! `service::telemetry`: our own logs, metrics and spans, and where they are sent.

use std::{collections::BTreeMap, time::Duration};

use super::{
    forms::{Boolean, Elements, Float, Form, Millis, Number, OneOf, Own, Part, ReadBy},
    hints::ABSENT,
    listen::LISTEN_HOST,
    model::{Config, Encoding, Level, LogsConfig},
    otel_env::{Signal, Variables, Written, uri, url},
    read::{Place, Section},
    settings::{Settings, Shown, settings},
};
use crate::{
    endpoint::plain_url,
    telemetry::{MetricsConfig, Reader, metrics, otlp, prometheus, traces},
};

const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_hours(24);

/// The form of OTLP that is spoken.
const PROTOCOL: OneOf<otlp::Protocol> = OneOf(&[
    ("grpc", otlp::Protocol::Grpc),
    ("http/protobuf", otlp::Protocol::Http),
]);

settings! {
    TELEMETRY: Config {
        logs => telemetry: Part(&LOGS), "";
        metrics: Part(&METRICS), "";
        traces: Part(&TRACES), "";
        resource: Own {
                form: "map of texts",
                read: |section, _| Some(resource(section)),
                text: |_| "{}".to_owned(),
            },
            "Attributes of all metrics and spans beside service.name, service.version and \
             service.instance.id, or in place of them; empty: without it.";
    }
}

settings! {
    LOGS: LogsConfig {
        level: OneOf(&[
                ("trace", Level::Trace),
                ("debug", Level::Debug),
                ("info", Level::Info),
                ("warn", Level::Warn),
                ("error", Level::Error),
            ]),
            "The least that is logged.";
        encoding: OneOf(&[("console", Encoding::Console), ("json", Encoding::Json)]),
            "The form of a line.";
    }
    hints {
        "development": Remove(ABSENT), kept ["false"];
        "sampling": Remove(ABSENT);
        "output_paths": Remove(ABSENT), kept ["stderr"];
        "error_output_paths": Remove(ABSENT), kept ["stderr"];
        "initial_fields": Remove(ABSENT);
        "disable_caller": Remove(ABSENT), kept [];
        "disable_stacktrace": Remove(ABSENT), kept [];
        "processors": Remove(ABSENT);
    }
}

settings! {
    METRICS: MetricsConfig {
        level: OneOf(&[
                ("none", metrics::Level::None),
                ("basic", metrics::Level::Basic),
                ("normal", metrics::Level::Normal),
                ("detailed", metrics::Level::Detailed),
            ]),
            "How much is measured; none: nothing is measured, and no port is needed.";
        readers by readers: Elements(&READER),
            "Where metrics go. The default is pull with its defaults.";
    }
    hints {
        "address":
            Use("use readers: [{pull: {exporter: {prometheus: {host: localhost, port: 8888}}}}]");
        "views": Remove(ABSENT);
    }
    check readers
}

settings! {
    READER: () {
        pull by reader: Part(&PULL), "GET /metrics, for Prometheus.";
        periodic by reader: Part(&PERIODIC),
            "Sent by OTLP as well. Without this element nothing is sent.";
    }
}

settings! {
    PULL: () {
        exporter by pull: Part(&PULL_EXPORTER), "";
    }
}

settings! {
    PULL_EXPORTER: () {
        prometheus by pull: Part(&PROMETHEUS), "";
    }
    hints {
        "otlp": Use("that is sent, so it belongs under periodic");
    }
}

settings! {
    PROMETHEUS: prometheus::Config {
        host: LISTEN_HOST,
            "Where to listen. 0.0.0.0 listens on all addresses of IPv4 and IPv6.", place;
        port: Number(0..=u16::MAX),
            "The same port as a collector's: on one machine one of the two has to take another.";
        without_type_suffix: Boolean, "Counters have no _total behind their names.";
        without_units: Boolean, "Names do not end in a unit.";
        without_scope_info: Boolean, "Values do not name the library that measured them.";
    }
    hints {
        "with_resource_constant_labels": Remove("target_info has them");
    }
}

settings! {
    /// `periodic`, as it is written.
    pub(crate) struct Periodic {}
    PERIODIC {
        interval [Duration = Duration::from_mins(1)]: Millis(MILLISECOND..=DAY),
            "How often; a plain number is milliseconds.";
        timeout [Duration = Duration::from_secs(30)]: Millis(MILLISECOND..=DAY),
            "How long one request may take; a plain number is milliseconds.";
        exporter by periodic: Part(&PERIODIC_EXPORTER), "";
    }
}

settings! {
    PERIODIC_EXPORTER: () {
        otlp by periodic: Part(&METRICS_OTLP), "";
    }
    hints {
        "prometheus": Use("that is asked, so it belongs under pull");
        "console": Remove("debug level of logs shows findings");
    }
}

settings! {
    /// `otlp` of metrics or spans, as it is written.
    pub(crate) struct Otlp {}
    METRICS_OTLP {
        protocol [otlp::Protocol = otlp::Protocol::default()]: PROTOCOL, "The form of OTLP.";
        endpoint by otlp: ReadBy("URL"),
            "For http/protobuf with its path, such as http://localhost:4318/v1/metrics. Empty: \
             OTEL_EXPORTER_OTLP_ENDPOINT sets it (docs/operations.md), or nothing is sent.",
            example("${env:AUDITWATCH_METRICS_ENDPOINT:-}"), place;
        headers by otlp: ReadBy("map of texts"), "Headers of every request, such as Authorization.",
            secret;
        insecure [bool = false]: Boolean,
            "Whether an endpoint without a scheme is http:// rather than https://.";
    }
    hints {
        "timeout": Use("timeout of periodic says it");
        "compression": Remove(ABSENT);
        "certificate": Remove(ABSENT);
        "client_certificate": Remove(ABSENT);
        "client_key": Remove(ABSENT);
        "headers_list": Use("use headers");
        "temporality_preference": Remove("always cumulative");
        "default_histogram_aggregation": Remove(ABSENT);
    }
}

settings! {
    TRACES: traces::Config {
        sampler => self: Part(&SAMPLER), "";
        processors: Spans, "Where spans are sent to. Without an element there are none.";
    }
    hints {
        "level": Remove("spans are made when processors says where to");
        "propagators": Remove(ABSENT);
    }
}

settings! {
    SAMPLER: traces::Config {
        trace_id_ratio_based => self: Part(&RATIO), "";
    }
    hints {
        "parent_based": Use("use trace_id_ratio_based, our spans have no parents of others");
        "always_on": Use("remove it, that is the default");
        "always_off": Use("remove processors instead");
    }
}

settings! {
    RATIO: traces::Config {
        ratio: Float(0.0..=1.0),
            "The share of requests with hits, and of attempts to deliver, that have a span.";
    }
}

settings! {
    SPANS: () {
        batch by batch: Part(&BATCH), "";
    }
    hints {
        "simple": Use("use batch");
    }
}

settings! {
    /// `batch`, as it is written.
    pub(crate) struct Batch {}
    BATCH {
        schedule_delay [Duration = Duration::from_secs(5)]: Millis(MILLISECOND..=DAY),
            "How long spans wait for others; a plain number is milliseconds.";
        export_timeout [Duration = Duration::from_secs(30)]: Millis(MILLISECOND..=DAY),
            "How long one request may take; a plain number is milliseconds.";
        exporter by batch: Part(&BATCH_EXPORTER), "";
    }
    hints {
        "max_queue_size": Remove("2048");
        "max_export_batch_size": Remove("512");
    }
}

settings! {
    BATCH_EXPORTER: () {
        otlp by batch: Part(&SPANS_OTLP), "";
    }
    hints {
        "console": Remove(ABSENT);
    }
}

settings! {
    SPANS_OTLP: Otlp {
        protocol: PROTOCOL, "The form of OTLP.";
        endpoint by otlp: ReadBy("URL"),
            "Such as http://localhost:4318/v1/traces. Empty: OTEL_EXPORTER_OTLP_ENDPOINT sets it \
             (docs/operations.md), or there are no spans.",
            example("${env:AUDITWATCH_TRACES_ENDPOINT:-}"), place;
        headers by otlp: ReadBy("map of texts"), "Headers of every request.", secret;
        insecure: Boolean, "Whether an endpoint without a scheme is http:// rather than https://.";
    }
    hints {
        "timeout": Use("export_timeout of batch says it");
        "compression": Remove(ABSENT);
        "certificate": Remove(ABSENT);
        "client_certificate": Remove(ABSENT);
        "client_key": Remove(ABSENT);
        "headers_list": Use("use headers");
    }
}

/// The elements of `traces::processors`.
struct Spans;

impl Form for Spans {
    type Value = Vec<traces::Batch>;

    fn read(&self, section: &Section<'_>, key: &'static str, slot: &mut Self::Value) {
        let items = section.items(key).unwrap_or_default();
        *slot = items.into_iter().filter_map(batch).collect();
    }

    fn describe(&self) -> String {
        String::new()
    }

    fn shown(&self, _: &Self::Value) -> Shown {
        Elements(&SPANS).shown(&())
    }
}

/// Where metrics go.
fn readers(section: &Section<'_>, config: &mut MetricsConfig) {
    let Some(items) = section.items("readers") else {
        return;
    };
    if items.is_empty() && config.level != metrics::Level::None {
        section.fail("readers is empty, add one or set level: none");
    }
    config.readers = items.into_iter().filter_map(reader).collect();
}

fn reader(place: Place<'_>) -> Option<Reader> {
    let section = place.section(&READER.table);
    match (section.place("pull"), section.place("periodic")) {
        (Some(place), None) => pull(&place.section(&PULL.table)).map(Reader::Pull),
        (None, Some(place)) => periodic(&place.section(&PERIODIC.table)).map(Reader::Periodic),
        _ => {
            section.fail("a reader is either pull or periodic");
            None
        }
    }
}

fn pull(section: &Section<'_>) -> Option<prometheus::Config> {
    let exporter = section.section("exporter", &PULL_EXPORTER.table);
    let Some(place) = exporter.place("prometheus") else {
        section.fail("needs exporter: {prometheus: }");
        return None;
    };
    Some(PROMETHEUS.at(place))
}

fn batch(place: Place<'_>) -> Option<traces::Batch> {
    let section = place.section(&SPANS.table);
    let Some(place) = section.place("batch") else {
        section.fail("a processor is batch: {exporter: {otlp: {endpoint: ...}}}");
        return None;
    };
    let section = place.section(&BATCH.table);
    let written = BATCH.of(&section);
    let exporter = section.section("exporter", &BATCH_EXPORTER.table);
    let timeout = section
        .get("export_timeout")
        .map(|_| written.export_timeout);
    let to = otlp(
        &section,
        &exporter,
        &SPANS_OTLP,
        Push {
            signal: Signal::Traces,
            timeout: ("export_timeout", timeout),
        },
    )?;
    Some(traces::Batch {
        delay: written.schedule_delay,
        to,
    })
}

fn periodic(section: &Section<'_>) -> Option<otlp::Periodic> {
    let written = PERIODIC.of(section);
    let exporter = section.section("exporter", &PERIODIC_EXPORTER.table);
    let timeout = section.get("timeout").map(|_| written.timeout);
    let to = otlp(
        section,
        &exporter,
        &METRICS_OTLP,
        Push {
            signal: Signal::Metrics,
            timeout: ("timeout", timeout),
        },
    )?;
    Some(otlp::Periodic {
        interval: written.interval,
        to,
    })
}

/// The signal that is pushed, and its timeout with the name of the key, if that is given.
#[derive(Clone, Copy)]
struct Push {
    signal: Signal,
    timeout: (&'static str, Option<Duration>),
}

/// Reads the `otlp` exporter of telemetry. Variables of the environment fill the keys that are absent.
/// `outer` is the section that needs the exporter.
fn otlp(
    outer: &Section<'_>,
    exporter: &Section<'_>,
    settings: &'static Settings<Otlp>,
    push: Push,
) -> Option<otlp::Config> {
    let Some(place) = exporter.place("otlp") else {
        outer.fail("needs exporter: {otlp: {endpoint: ...}}");
        return None;
    };
    let section = place.section(&settings.table);
    let otlp = settings.of(&section);
    let protocol = section.get("protocol").map(|_| otlp.protocol);
    let insecure = section.get("insecure").map(|_| otlp.insecure);
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
    let variables = Variables::new(&section, push.signal);
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
        && uri(&url(&plain_url(&value.text), false)).is_none()
    {
        value.fail("must be a URL such as http://localhost:4317");
        return None;
    }
    let written = Written {
        protocol,
        insecure,
        headers,
        timeout: push.timeout,
    };
    let endpoint = value.map(|value| plain_url(&value.text));
    variables.complete(written, endpoint.as_deref())
}

/// Resource attributes of our own metrics and spans, added to the detected ones. A value that
/// is empty takes an attribute away.
fn resource(section: &Section<'_>) -> BTreeMap<String, String> {
    let place = section.get("resource");
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
