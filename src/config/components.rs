//! Receivers and exporters: their types, keys, defaults and what must hold.
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{
    ExporterConfig, OtlpReceiver, ReceiverConfig,
    id::ComponentId,
    keys::{self, advice},
    read::{Place, Section, go_text},
};
use crate::{
    exporter::{debug, file, queue, splunk_hec},
    receiver::{Limits, otlp_grpc, otlp_http},
};

/// Most bytes of one request or event, as in the Collector.
const MOST_BYTES: usize = 838_860_800;
const MIB: usize = 1024 * 1024;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// The types of one kind of component, and what to say of some that are none.
pub(crate) struct Types {
    /// What such a component is called.
    pub(crate) noun: &'static str,
    pub(crate) known: &'static [&'static str],
    pub(crate) hints: &'static [(&'static str, &'static str)],
}

const ABSENT: &str = "not available in this version";

/// Receivers.
pub(crate) const RECEIVERS: Types = Types {
    noun: "receiver",
    known: &["otlp"],
    hints: &[
        (
            "filelog",
            "auditwatch reads no files while it runs, let a collector send them over otlp",
        ),
        (
            "file_log",
            "auditwatch reads no files while it runs, let a collector send them over otlp",
        ),
        ("splunk_hec", ABSENT),
        ("k8s_audit_webhook", ABSENT),
    ],
};

/// Processors.
pub(crate) const PROCESSORS: Types = Types {
    noun: "processor",
    known: &["detection"],
    hints: &[
        (
            "memory_limiter",
            "auditwatch bounds its memory itself, remove it",
        ),
        (
            "batch",
            "findings leave at once and splunk_hec batches what waits, remove it",
        ),
        ("filter", "detection looks at audit events alone, remove it"),
    ],
};

/// Exporters.
pub(crate) const EXPORTERS: Types = Types {
    noun: "exporter",
    known: &["debug", "file", "splunk_hec"],
    hints: &[
        ("otlp", ABSENT),
        ("otlp_grpc", ABSENT),
        ("otlphttp", ABSENT),
        ("otlp_http", ABSENT),
        ("logging", "it is called debug"),
    ],
};

impl Types {
    /// What to say of a type that is none.
    pub(crate) fn unknown(&self, kind: &str) -> String {
        let advice = advice(kind, self.known, self.hints);
        let known = if advice.ends_with(ABSENT) {
            format!(", known: {}", self.known.join(", "))
        } else {
            String::new()
        };
        format!("unknown {} type {kind:?}{advice}{known}", self.noun)
    }

    /// Reads every component under `place`. The result holds every id that was written, with
    /// `None` where the component is of no known type, so that nobody complains of it twice.
    pub(crate) fn read<T>(
        &self,
        place: Option<&Place<'_>>,
        mut read: impl FnMut(&str, Place<'_>) -> Option<T>,
    ) -> BTreeMap<ComponentId, Option<T>> {
        let mut all = BTreeMap::new();
        for (key, place) in place.into_iter().flat_map(Place::children) {
            match key.name.parse::<ComponentId>() {
                Ok(id) if self.known.contains(&id.kind()) => {
                    let component = read(id.kind(), place);
                    all.insert(id, component);
                }
                Ok(id) => {
                    place.fail_key(self.unknown(id.kind()));
                    all.insert(id, None);
                }
                Err(error) => place.fail_key(error),
            }
        }
        all
    }
}

/// Reads one `otlp` receiver.
pub(crate) fn receiver(place: Place<'_>) -> ReceiverConfig {
    let otlp = place.section(&keys::OTLP);
    let protocols = otlp.section("protocols", &keys::PROTOCOLS);
    if protocols.is_empty() {
        protocols.fail("no protocol to listen on, add protocols: {grpc: }");
    }
    let grpc = protocols
        .place("grpc")
        .map(|place| grpc(&place.section(&keys::GRPC)));
    let http = protocols
        .place("http")
        .map(|place| http(&place.section(&keys::HTTP)));
    ReceiverConfig::Otlp(OtlpReceiver { grpc, http })
}

fn http(section: &Section<'_>) -> otlp_http::Config {
    let default = otlp_http::Config::default();
    let limits = default.limits;
    let wait = |key, default| section.duration(key, SECOND..=HOUR, default);
    otlp_http::Config {
        endpoint: listen(section).unwrap_or(default.endpoint),
        max_request_body_size: section.number(
            "max_request_body_size",
            1..=1024 * MIB,
            default.max_request_body_size,
        ),
        limits: Limits {
            max_connections: max_connections(section, limits.max_connections),
            read_header_timeout: wait("read_header_timeout", limits.read_header_timeout),
            read_timeout: wait("read_timeout", limits.read_timeout),
            idle_timeout: wait("idle_timeout", limits.idle_timeout),
            ..limits
        },
    }
}

fn max_connections(section: &Section<'_>, default: usize) -> usize {
    section.number("max_connections", 1..=1_000_000, default)
}

/// The address to listen on, if it is written and has the form of one.
fn listen(section: &Section<'_>) -> Option<String> {
    let value = section.value("endpoint")?;
    if let Err(why) = check_listen(&value.text) {
        value.expected(why);
        return None;
    }
    Some(value.text)
}

fn grpc(section: &Section<'_>) -> otlp_grpc::Config {
    let default = otlp_grpc::Config::default();
    let mib = section.number(
        "max_recv_msg_size_mib",
        1..=1024,
        default.max_recv_msg_bytes / MIB,
    );
    let limits = default.limits;
    let parameters = section
        .section("keepalive", &keys::KEEPALIVE)
        .section("server_parameters", &keys::SERVER_PARAMETERS);
    let wait = |key, default| parameters.duration(key, SECOND..=DAY, default);
    otlp_grpc::Config {
        endpoint: listen(section).unwrap_or(default.endpoint),
        max_recv_msg_bytes: mib * MIB,
        limits: Limits {
            max_connections: max_connections(section, limits.max_connections),
            max_concurrent_streams: section.number(
                "max_concurrent_streams",
                1..=1_000_000,
                limits.max_concurrent_streams,
            ),
            read_timeout: section.duration("read_timeout", SECOND..=HOUR, limits.read_timeout),
            idle_timeout: wait("max_connection_idle", limits.idle_timeout),
            keepalive_time: wait("time", limits.keepalive_time),
            keepalive_timeout: wait("timeout", limits.keepalive_timeout),
            ..limits
        },
    }
}

/// Whether a text has the form of an address to listen on.
fn check_listen(text: &str) -> Result<(), &'static str> {
    if text.contains("://") {
        return Err("expected host:port without a scheme, such as 127.0.0.1:4317");
    }
    let form = "expected host:port, such as 127.0.0.1:4317";
    let (host, port) = text.rsplit_once(':').ok_or(form)?;
    if port.parse::<u16>().is_err() || port.starts_with('+') {
        return Err("expected host:port with a port from 0 to 65535");
    }
    if host.is_empty() {
        return Err("expected host:port, write 0.0.0.0 as the host to listen on all addresses");
    }
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bracketed {
        Some(inside) if inside.parse::<std::net::Ipv6Addr>().is_ok() => Ok(()),
        Some(_) => Err("expected an IPv6 address between the brackets, such as [::1]:4317"),
        None if host.contains(':') => Err("an IPv6 address needs brackets, such as [::1]:4317"),
        None if host.contains(|letter: char| letter.is_whitespace() || letter == '/') => Err(form),
        None => Ok(()),
    }
}

/// Reads one exporter of a known type.
pub(crate) fn exporter(kind: &str, place: Place<'_>) -> Option<ExporterConfig> {
    Some(match kind {
        "splunk_hec" => ExporterConfig::SplunkHec(splunk_hec(&place.section(&keys::SPLUNK_HEC))),
        "file" => ExporterConfig::File(file(&place.section(&keys::FILE))),
        "debug" => ExporterConfig::Debug(debug(&place.section(&keys::DEBUG))),
        _ => return None,
    })
}

fn splunk_hec(section: &Section<'_>) -> splunk_hec::Config {
    let default = splunk_hec::Config::default();
    let endpoint = section.required("endpoint").and_then(|value| {
        value.filled()?;
        // The value is not shown: people put credentials into URLs.
        if let Err(why) = check_url(&value.text) {
            value.fail(why);
            return None;
        }
        Some(value.text)
    });
    let (format, source, sourcetype) = hec_format(section, &default);
    let idle = |key| match section.number(key, 0..=1_000_000, default.max_idle_conns) {
        0 => usize::MAX,
        most => most,
    };
    let config = splunk_hec::Config {
        format,
        token: section
            .required("token")
            .and_then(|value| value.secret())
            .unwrap_or_default(),
        endpoint: endpoint.unwrap_or_default(),
        source: section.text("source", source),
        sourcetype: section.text("sourcetype", sourcetype),
        index: section.text("index", default.index),
        host: section.text("host", default.host),
        timeout: section.duration("timeout", Duration::from_millis(1)..=HOUR, default.timeout),
        disable_compression: section.boolean("disable_compression", default.disable_compression),
        max_content_length_logs: section.number(
            "max_content_length_logs",
            0..=MOST_BYTES,
            default.max_content_length_logs,
        ),
        max_event_size: section.number("max_event_size", 1..=MOST_BYTES, default.max_event_size),
        health_check_enabled: section.boolean("health_check_enabled", false),
        health_path: health_path(section, default.health_path),
        splunk_app_name: header_text(section, "splunk_app_name", default.splunk_app_name),
        splunk_app_version: header_text(section, "splunk_app_version", default.splunk_app_version),
        max_idle_conns: idle("max_idle_conns").min(idle("max_idle_conns_per_host")),
        idle_conn_timeout: section.duration(
            "idle_conn_timeout",
            Duration::ZERO..=DAY,
            default.idle_conn_timeout,
        ),
        ack: ack(&section.section("ack", &keys::ACK)),
        tls: tls(&section.section("tls", &keys::TLS)),
        queue: queue(&section.section("sending_queue", &keys::QUEUE)),
        retry: retry(&section.section("retry_on_failure", &keys::RETRY)),
    };
    let (ack, most) = (&config.ack, config.retry.max_elapsed_time);
    if ack.enabled && config.retry.enabled && !most.is_zero() && ack.timeout >= most {
        section.fail(format_args!(
            "ack::timeout ({}) must be shorter than retry_on_failure::max_elapsed_time ({}), or \
             nothing would be sent again",
            go_text(ack.timeout),
            go_text(most)
        ));
    }
    config
}

fn health_path(section: &Section<'_>, default: String) -> String {
    let path = section.text("health_path", default);
    if !path.starts_with('/')
        && let Some(value) = section.value("health_path")
    {
        value.expected("expected a path such as /services/collector/health");
    }
    path
}

/// A text that travels in a header.
fn header_text(section: &Section<'_>, key: &str, default: String) -> String {
    let text = section.text(key, default);
    let fit = |letter: char| letter.is_ascii_graphic() || letter == ' ';
    if !text.chars().all(fit)
        && let Some(value) = section.value(key)
    {
        value.expected("expected plain ASCII letters, digits and signs");
    }
    text
}

fn ack(section: &Section<'_>) -> splunk_hec::AckConfig {
    let default = splunk_hec::AckConfig::default();
    let span = Duration::from_millis(1)..=HOUR;
    let ack = splunk_hec::AckConfig {
        enabled: section.boolean("enabled", default.enabled),
        poll_interval: section.duration("poll_interval", span.clone(), default.poll_interval),
        timeout: section.duration("timeout", span, default.timeout),
    };
    if ack.poll_interval >= ack.timeout {
        section.fail(format_args!(
            "poll_interval ({}) must be shorter than timeout ({})",
            go_text(ack.poll_interval),
            go_text(ack.timeout)
        ));
    }
    ack
}

/// The format, and the source and sourcetype that go with it by default.
fn hec_format(
    section: &Section<'_>,
    default: &splunk_hec::Config,
) -> (splunk_hec::Format, String, String) {
    let is_risk = section.value("format").is_some_and(|format| {
        if format.text != "finding" && format.text != "risk" {
            format.expected("expected finding or risk");
        }
        format.text == "risk"
    });
    if !is_risk {
        for key in ["search_name", "entity"] {
            if let Some(value) = section.value(key) {
                value.fail("means nothing without format: risk");
            }
        }
        let (source, sourcetype) = (default.source.clone(), default.sourcetype.clone());
        return (splunk_hec::Format::Finding, source, sourcetype);
    }
    let search_name = section.text("search_name", splunk_hec::Risk::default().search_name);
    let entity = section
        .value("entity")
        .and_then(|value| match value.text.as_str() {
            "src_ip" => Some(splunk_hec::Entity::SrcIp),
            "user" => Some(splunk_hec::Entity::User),
            "cluster" => Some(splunk_hec::Entity::Cluster),
            _ => {
                value.expected("expected src_ip, user or cluster");
                None
            }
        });
    let source = search_name.clone();
    let risk = splunk_hec::Risk {
        search_name,
        entity,
    };
    (splunk_hec::Format::Risk(risk), source, "stash".to_owned())
}

/// Whether a text is a URL the exporter can post to.
fn check_url(text: &str) -> Result<(), String> {
    if !(text.starts_with("http://") || text.starts_with("https://")) {
        return Err("expected a URL such as https://splunk:8088".to_owned());
    }
    let url = reqwest::Url::parse(text).map_err(|error| format!("no valid URL: {error}"))?;
    if url.fragment().is_some() {
        return Err("a URL to send to has no fragment, remove what begins with #".to_owned());
    }
    Ok(())
}

fn tls(section: &Section<'_>) -> splunk_hec::TlsConfig {
    splunk_hec::TlsConfig {
        ca_file: section.path("ca_file"),
        insecure_skip_verify: section.boolean("insecure_skip_verify", false),
    }
}

fn queue(section: &Section<'_>) -> queue::QueueConfig {
    let default = queue::QueueConfig::default();
    if !section.boolean("enabled", true)
        && let Some(value) = section.value("enabled")
    {
        value.fail(
            "only true is possible, because a sender is answered when the queue has the findings",
        );
    }
    queue::QueueConfig {
        queue_size: section.number("queue_size", 1..=1_000_000, default.queue_size),
    }
}

fn retry(section: &Section<'_>) -> queue::RetryConfig {
    let default = queue::RetryConfig::default();
    let wait = Duration::from_millis(1)..=DAY;
    let retry = queue::RetryConfig {
        enabled: section.boolean("enabled", default.enabled),
        initial_interval: section.duration(
            "initial_interval",
            wait.clone(),
            default.initial_interval,
        ),
        randomization_factor: section.float(
            "randomization_factor",
            0.0..=1.0,
            default.randomization_factor,
        ),
        multiplier: section.float("multiplier", 1.0..=100.0, default.multiplier),
        max_interval: section.duration("max_interval", wait, default.max_interval),
        max_elapsed_time: section.duration(
            "max_elapsed_time",
            Duration::ZERO..=365 * DAY,
            default.max_elapsed_time,
        ),
    };
    let [initial, longest, elapsed] = [
        retry.initial_interval,
        retry.max_interval,
        retry.max_elapsed_time,
    ]
    .map(go_text);
    if retry.initial_interval > retry.max_interval {
        section.fail(format_args!(
            "initial_interval ({initial}) must not be longer than max_interval ({longest})"
        ));
    }
    if !retry.max_elapsed_time.is_zero() && retry.max_elapsed_time < retry.max_interval {
        section.fail(format_args!(
            "max_elapsed_time ({elapsed}) must not be shorter than max_interval ({longest}); \
             0 means no end"
        ));
    }
    retry
}

fn file(section: &Section<'_>) -> file::Config {
    let path = section.required("path").and_then(|value| value.filled());
    file::Config {
        path: path.map(PathBuf::from).unwrap_or_default(),
        append: section.boolean("append", true),
    }
}

fn debug(section: &Section<'_>) -> debug::Config {
    use debug::Verbosity::{Basic, Detailed, Normal};
    let words = [("basic", Basic), ("normal", Normal), ("detailed", Detailed)];
    debug::Config {
        verbosity: section.choice("verbosity", &words, Normal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_addresses_to_listen_on() {
        for good in [
            "127.0.0.1:4317",
            "0.0.0.0:0",
            "localhost:4317",
            "[::1]:4317",
            "[::]:1",
        ] {
            assert_eq!(check_listen(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "localhost",
            ":4317",
            "http://a:1",
            "a:",
            "a:65536",
            "a:+1",
            "::1:4317",
            "[x]:1",
            "a b:1",
        ] {
            assert!(check_listen(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn knows_urls_to_send_to() {
        for good in ["http://a", "https://a:8088/x?y=1", "https://[::1]:8088"] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a:8088",
            "ftp://a",
            "http://",
            "https://a:x",
            "https://a#b",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}
