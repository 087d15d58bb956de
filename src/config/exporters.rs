//! Exporters: keys, defaults and what must hold.
use std::{path::PathBuf, time::Duration};

use super::{
    ExporterConfig, client,
    extensions::Authenticators,
    keys, otlp_exporters,
    read::{Place, Section},
    value::go_text,
};
use crate::exporter::{debug, file, queue, splunk_hec};

/// Most bytes of one request or event, as in the Collector.
const MOST_BYTES: usize = 838_860_800;
/// Headers that HEC is sent anyway.
const HEC_HEADERS: [&str; 4] = [
    "authorization",
    "x-splunk-request-channel",
    "__splunk_app_name",
    "__splunk_app_version",
];
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Reads one exporter of a known type.
pub(crate) fn exporter(
    kind: &str,
    place: Place<'_>,
    authenticators: &Authenticators<'_>,
) -> Option<ExporterConfig> {
    Some(match kind {
        "splunk_hec" => ExporterConfig::SplunkHec(splunk_hec(&place.section(&keys::SPLUNK_HEC))),
        "otlp_grpc" => ExporterConfig::OtlpGrpc(otlp_exporters::grpc(
            &place.section(&keys::OTLP_GRPC),
            authenticators,
        )),
        "otlp_http" => ExporterConfig::OtlpHttp(otlp_exporters::http(
            &place.section(&keys::OTLP_HTTP),
            authenticators,
        )),
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
        tls: client::tls(&section.section("tls", &keys::TLS), false),
        headers: client::headers(section, &HEC_HEADERS),
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
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password, which token is for".to_owned());
    }
    if url.fragment().is_some() {
        return Err("a URL to send to has no fragment, remove what begins with #".to_owned());
    }
    takes_events(&url)
}

/// Whether a path is none of those of HEC that take something else than events.
fn takes_events(url: &reqwest::Url) -> Result<(), String> {
    const OTHERS: [(&str, &str); 5] = [
        ("raw", "takes lines of text, and findings are events"),
        (
            "ack",
            "only answers what was indexed; ack::enabled asks there by itself",
        ),
        (
            "health",
            "only says whether HEC is well; health_path names it",
        ),
        ("mint", "takes data of mobile apps"),
        ("s2s", "takes what Splunk's forwarders send"),
    ];
    let mut words = url.path().split('/').filter(|word| !word.is_empty()).rev();
    let version = |word: &&str| word.chars().all(|c| c.is_ascii_digit() || c == '.');
    let Some(last) = words.find(|word| !version(word)) else {
        return Ok(());
    };
    let found = OTHERS
        .iter()
        .find(|(word, _)| last.eq_ignore_ascii_case(word));
    found.map_or(Ok(()), |(word, why)| {
        Err(format!(
            "ends in /{word}, which {why}: end it with /services/collector, or with the port"
        ))
    })
}

pub(crate) fn queue(section: &Section<'_>) -> queue::QueueConfig {
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

pub(crate) fn retry(section: &Section<'_>) -> queue::RetryConfig {
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
    fn knows_urls_to_send_to() {
        for good in [
            "http://a",
            "https://a:8088/x?y=1",
            "https://[::1]:8088",
            "https://a/services/collector/event/1.0",
            "https://raw/",
            "https://a/raw/collector/",
            "https://a/1.0",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a:8088",
            "ftp://a",
            "http://",
            "https://a:x",
            "https://a#b",
            "https://user:pass@a",
            "https://user@a",
            "https://a/services/collector/raw",
            "https://a/services/collector/raw/1.0",
            "https://a:8088/services/collector/RAW//",
            "https://a/services/collector/ack?channel=1",
            "https://a/hec/health/",
            "https://a/services/collector/health/1.0",
            "https://a/services/collector/mint/1.0",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}
