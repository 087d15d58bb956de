//! Exporters: their settings, and what must hold.
use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::{
    client::{self, TLS},
    extensions::{Authenticators, absolute},
    forms::{Boolean, Number, OneOf, Own, Part, ReadBy, Text, Time, plain},
    hints::ABSENT,
    model::ExporterConfig,
    otlp_exporters,
    queue::{DEAD_LETTER, QUEUE, RETRY},
    read::{Place, Section},
    settings::{self, settings},
    value::go_text,
};
use crate::{
    endpoint,
    exporter::{
        debug::{self, Verbosity},
        file,
        splunk_hec::{self, AckConfig, Entity, Format, Risk},
    },
};

/// Most bytes of one request or event, as in the Collector.
const MOST_BYTES: usize = 838_860_800;
/// Headers that HEC is sent anyway.
const HEC_HEADERS: [&str; 4] = [
    "authorization",
    "x-splunk-request-channel",
    "__splunk_app_name",
    "__splunk_app_version",
];
const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// A text that travels in a header.
const HEADER_TEXT: Own<String> = Own {
    form: "text",
    read: |section, key| {
        let value = section.value(key)?;
        let fit = |letter: char| letter.is_ascii_graphic() || letter == ' ';
        if !value.text.chars().all(fit) {
            value.expected("expected plain ASCII letters, digits and signs");
        }
        Some(value.text)
    },
    text: |text| plain(text),
};

settings! {
    SPLUNK_HEC: splunk_hec::Config {
        token: Own {
                form: "text",
                read: |section, key| section.value(key)?.secret(),
                text: |_: &SecretString| String::new(),
            },
            "The HEC token.", required("${env:SPLUNK_HEC_TOKEN}"), secret;
        endpoint: Own {
                form: "URL",
                read: |section, key| hec_endpoint(section, key),
                text: |url| plain(url),
            },
            "URL of the HTTP Event Collector; without a path it gets /services/collector.",
            required("${env:SPLUNK_HEC_URL}"), place;
        source: Text, "Source of the events. With format: risk the default is search_name.";
        sourcetype: Text, "Sourcetype of the events. With format: risk the default is stash.";
        index: Text, "Index of the events; empty: the default of the token.";
        host: Text, "Host of the events; empty: the name of the cluster.", place;
        format: Own {
                form: "finding or risk",
                read: |section, _| Some(hec_format(section)),
                text: |format| match format {
                    Format::Finding => "finding".to_owned(),
                    Format::Risk(_) => "risk".to_owned(),
                },
            },
            "finding: every state of every finding, as a JSON object. risk: see splunk_hec/risk.";
        search_name by format: Text => Risk::default().search_name,
            "What the events say found them; empty: \"auditwatch - \" and the title of the rule.",
            shown_in("risk");
        entity by format: ReadBy("src_ip, user or cluster"),
            "What the risk is put on: cluster, src_ip (a private one as address@cluster) or user. \
             Unset: cluster; user in escu semantics.",
            shown_in("risk");
        timeout: Time(MILLISECOND..=HOUR), "How long one request may take.";
        disable_compression: Boolean, "Send plain JSON instead of gzip.";
        max_content_length_logs: Number(0..=MOST_BYTES),
            "Most bytes of one request before compression; 0: no limit.";
        max_event_size: Number(1..=MOST_BYTES),
            "Most bytes of one event; a larger one loses evidence until it fits.";
        health_check_enabled: Boolean,
            "Whether the start fails while HEC is not healthy, or does not know the token.";
        health_path: Own {
                form: "path of a URL",
                read: |section, key| {
                    absolute(section, key, "expected a path such as /services/collector/health")
                },
                text: |path| plain(path),
            },
            "Where HEC says how it is, on the host of the endpoint.";
        splunk_app_name: HEADER_TEXT,
            "The name of the sender, for Splunk's own metrics: in the User-Agent and in headers of \
             Splunk's.";
        splunk_app_version: HEADER_TEXT, "Its version. The default is auditwatch's own.";
        max_idle_conns: Own {
                form: "whole number, 0 to 1000000",
                read: |section, _| Some(idle_connections(section)),
                text: ToString::to_string,
            },
            "Connections that are kept for later; 0: no limit. One at a time is used.";
        max_idle_conns_per_host by max_idle_conns: Number(0..=1_000_000)
            => splunk_hec::Config::default().max_idle_conns,
            "The same, under its other name in the Collector: the smaller counts.";
        idle_conn_timeout: Time(Duration::ZERO..=DAY),
            "How long they are kept; 0: without end.";
        ack: Part(&ACK), "";
        headers: Own {
                form: "map of texts",
                read: |section, _| Some(client::headers(section, &HEC_HEADERS)),
                text: |_| String::new(),
            },
            "Headers that go with every request beside HEC's own, name: value.", secret;
        tls: Part(&TLS), "";
        sending_queue => queue: Part(&QUEUE), "";
        retry_on_failure => retry: Part(&RETRY), "";
        dead_letter: Part(&DEAD_LETTER), "";
    }
    hints {
        "heartbeat": Remove("only findings are sent");
        "telemetry": Remove("only findings are sent");
        "use_multi_metric_format": Remove("only findings are sent"), kept ["false"];
        "max_content_length_metrics": Remove("only findings are sent"), kept [];
        "max_content_length_traces": Remove("only findings are sent"), kept [];
        "log_data_enabled": Remove("findings are always sent"), kept ["true"];
        "profiling_data_enabled": Remove("only findings are sent"), kept [];
        "export_raw": Remove("a finding needs its time and source beside it"), kept ["false"];
        "otel_attrs_to_hec_metadata":
            Use("findings have no such attributes, set source, sourcetype, index or host");
        "hec_metadata_to_otel_attrs":
            Use("findings have no such attributes, set source, sourcetype, index or host");
        "otel_to_hec_fields": Remove("a finding says its severity itself");
        "batcher": Remove("what waits leaves together");
        "compression": Use("gzip, unless disable_compression says otherwise");
        "auth": Remove("token is what HEC asks for");
        "proxy_url": Use("set the environment variable HTTPS_PROXY");
        "max_connections": Remove("one connection is used at a time");
        "access_token": Use("write token");
        "max_conns_per_host": Remove("one request is under way at a time"), kept [];
    }
    check hec_fits
}

settings! {
    ACK: AckConfig {
        enabled: Boolean,
            "Whether findings count as delivered only when they are indexed: the token then needs \
             indexer acknowledgement (useACK). One request is under way at a time.";
        poll_interval: Time(MILLISECOND..=HOUR), "Wait before each question whether they are.";
        timeout: Time(MILLISECOND..=HOUR),
            "Findings that are not indexed after this long are sent again, under the same ids.";
    }
    hints {
        "extension": Use("that is for receivers, set ack: {enabled: true}");
    }
    check ack_fits
}

settings! {
    FILE: file::Config {
        path: Own {
                form: "path",
                read: |section, key| section.value(key)?.filled().map(PathBuf::from),
                text: |_| String::new(),
            },
            "Where to write.", required("/var/lib/auditwatch/findings.ndjson"), place;
        append: Boolean, "Append to what is there; false begins afresh at every start.";
    }
    hints {
        "rotation": Remove(ABSENT);
        "create_directory": Remove("make the directory first");
        "directory_permissions": Remove("make the directory first");
        "group_by": Remove(ABSENT);
        "compression_params": Remove(ABSENT);
        "format": Remove("always JSON, a finding a line"), kept ["json"];
        "compression": Remove(ABSENT);
        "flush_interval": Remove(ABSENT), kept [];
        "encoding": Remove(ABSENT);
    }
}

settings! {
    DEBUG: debug::Config {
        verbosity: OneOf(&[
                ("basic", Verbosity::Basic),
                ("normal", Verbosity::Normal),
                ("detailed", Verbosity::Detailed),
            ]),
            "basic: how many; normal: one line each; detailed: everything.";
    }
    hints {
        "output_paths": Remove(ABSENT), kept ["stderr"];
        "sending_queue": Remove(ABSENT);
        "sampling_initial": Remove(ABSENT), kept [];
        "sampling_thereafter": Remove(ABSENT), kept [];
        "use_internal_logger": Remove(ABSENT), kept ["true"];
    }
}

/// Reads one exporter of a known type.
pub(crate) fn exporter(
    kind: &str,
    place: Place<'_>,
    authenticators: &Authenticators<'_>,
) -> Option<ExporterConfig> {
    Some(match kind {
        "splunk_hec" => ExporterConfig::SplunkHec(SPLUNK_HEC.at(place)),
        "otlp_grpc" => ExporterConfig::OtlpGrpc(otlp_exporters::grpc(place, authenticators)),
        "otlp_http" => ExporterConfig::OtlpHttp(otlp_exporters::http(place, authenticators)),
        "file" => ExporterConfig::File(FILE.at(place)),
        "debug" => ExporterConfig::Debug(DEBUG.at(place)),
        _ => return None,
    })
}

fn hec_endpoint(section: &Section<'_>, key: &str) -> Option<String> {
    let value = section.value(key)?;
    value.filled()?;
    // The value is not shown: people put credentials into URLs.
    if let Err(why) = check_url(&value.text) {
        value.fail(why);
        return None;
    }
    Some(value.text)
}

/// The smaller of two limits, where 0 means no limit.
fn idle_connections(section: &Section<'_>) -> usize {
    let default = splunk_hec::Config::default().max_idle_conns;
    let limit = |key| {
        let value = section.value(key);
        let most = value.and_then(|value| value.number("whole number", &(0..=1_000_000)));
        match most.unwrap_or(default) {
            0 => usize::MAX,
            most => most,
        }
    };
    limit("max_idle_conns").min(limit("max_idle_conns_per_host"))
}

/// The format, with what belongs to it.
fn hec_format(section: &Section<'_>) -> Format {
    let format = section.value("format");
    let format = format.and_then(|format| format.word(&["finding", "risk"]));
    if format != Some("risk") {
        for key in ["search_name", "entity"] {
            if let Some(value) = section.value(key) {
                value.fail("is not valid without format: risk");
            }
        }
        return Format::Finding;
    }
    let mut risk = Risk::default();
    settings::read(&Text, section, "search_name", &mut risk.search_name);
    risk.entity = section.value("entity").and_then(|value| {
        match value.word(&["src_ip", "user", "cluster"])? {
            "src_ip" => Some(Entity::SrcIp),
            "user" => Some(Entity::User),
            _ => Some(Entity::Cluster),
        }
    });
    Format::Risk(risk)
}

fn hec_fits(section: &Section<'_>, config: &mut splunk_hec::Config) {
    if let Format::Risk(risk) = &config.format {
        if section.get("source").is_none() {
            config.source.clone_from(&risk.search_name);
        }
        if section.get("sourcetype").is_none() {
            "stash".clone_into(&mut config.sourcetype);
        }
    }
    let (ack, most) = (&config.ack, config.retry.max_elapsed_time);
    if ack.enabled && config.retry.enabled && !most.is_zero() && ack.timeout >= most {
        section.fail(format_args!(
            "ack::timeout ({}) must be shorter than retry_on_failure::max_elapsed_time ({}), or \
             nothing would be sent again",
            go_text(ack.timeout),
            go_text(most)
        ));
    }
}

fn ack_fits(section: &Section<'_>, ack: &mut AckConfig) {
    if ack.poll_interval >= ack.timeout {
        section.fail(format_args!(
            "poll_interval ({}) must be shorter than timeout ({})",
            go_text(ack.poll_interval),
            go_text(ack.timeout)
        ));
    }
}

/// Whether a text is a URL the exporter can post to.
fn check_url(text: &str) -> Result<(), String> {
    if !(text.starts_with("http://") || text.starts_with("https://")) {
        return Err("expected a URL such as https://splunk:8088".to_owned());
    }
    let url = reqwest::Url::parse(&endpoint::plain_url(text))
        .map_err(|error| format!("no valid URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password, which token is for".to_owned());
    }
    if url.fragment().is_some() {
        return Err("a URL to send to has no fragment, remove what begins with #".to_owned());
    }
    takes_events(&url)
}

/// Whether a path is not one of the HEC endpoints that accept something other than events.
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
