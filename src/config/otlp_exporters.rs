//! The exporters `otlp_grpc` and `otlp_http`: their settings, and what must hold.
use std::time::Duration;

use super::{
    client::{self, OTLP_TLS},
    extensions::{AUTH, Authenticators},
    forms::{OneOf, Own, Part, Time},
    hints::ABSENT,
    queue::{DEAD_LETTER, QUEUE, RETRY},
    read::{Place, Section},
    settings::settings,
};
use crate::{
    exporter::{
        compression::Compression,
        otlp_grpc,
        otlp_http::{self, Encoding},
    },
    extension::bearer_token_auth,
};

/// Why the keys of a pool of connections are none here.
const ONE_CONNECTION: &str = "one connection is used at a time";
const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_hours(1);

const COMPRESSION: OneOf<Compression> = OneOf(&[
    ("gzip", Compression::Gzip),
    ("zstd", Compression::Zstd),
    ("none", Compression::None),
]);

/// Headers that gRPC sets itself.
const GRPC_HEADERS: [&str; 4] = [
    "grpc-encoding",
    "grpc-accept-encoding",
    "grpc-timeout",
    "te",
];

settings! {
    OTLP_GRPC: otlp_grpc::Config {
        endpoint: Own {
                form: "host:port",
                read: |section, key| Some(section.value(key)?.filled()?.trim().to_owned()),
                text: Clone::clone,
            },
            "host:port of the receiver, with https://, http://, dns:/// or nothing before it.",
            required("collector:4317"), place;
        headers: Own {
                form: "map of texts",
                read: |section, _| Some(client::headers(section, &GRPC_HEADERS)),
                text: |_| String::new(),
            },
            "Headers that go with every request, name: value.", secret;
        auth by grpc: Part(&AUTH), "";
        compression: COMPRESSION, "Compression of requests.";
        timeout: Time(MILLISECOND..=HOUR), "How long one request may take.";
        tls: Part(&OTLP_TLS), "";
        sending_queue => queue: Part(&QUEUE), "", like("splunk_hec");
        retry_on_failure => retry: Part(&RETRY), "", like("splunk_hec");
        dead_letter: Part(&DEAD_LETTER), "", like("splunk_hec");
    }
    hints {
        "keepalive": Remove(ABSENT);
        "middlewares": Remove(ABSENT);
        "compression_params": Remove(ABSENT);
        "authority": Use("set tls::server_name_override, which is the authority too");
        "balancer_name": Remove("one connection is used at a time"), kept [];
        "wait_for_ready": Remove("retry_on_failure says how long a receiver may be away"), kept [];
        "batcher": Remove("what waits leaves together");
        "read_buffer_size": Remove(ABSENT), kept [];
        "write_buffer_size": Remove(ABSENT), kept [];
    }
    check address_fits
}

settings! {
    OTLP_HTTP: otlp_http::Config {
        endpoint by urls_fit: Own {
                form: "URL",
                read: |_, _| None,
                text: Clone::clone,
            },
            "URL of the receiver; /v1/logs is appended.",
            required_or("logs_endpoint", "http://collector:4318"), place;
        logs_endpoint by urls_fit: Own {
                form: "URL",
                read: |_, _| None,
                text: Clone::clone,
            },
            "The whole URL instead.", place;
        encoding: OneOf(&[("proto", Encoding::Proto), ("json", Encoding::Json)]), "Form of requests.";
        headers: Own {
                form: "map of texts",
                read: |section, _| Some(client::headers(section, &[])),
                text: |_| String::new(),
            },
            "Headers that go with every request, name: value.", secret;
        auth by http: Part(&AUTH), "", like("otlp_grpc"), example("{authenticator: bearertokenauth}");
        compression: COMPRESSION, "Compression of requests.";
        timeout: Time(MILLISECOND..=HOUR), "How long one request may take.";
        tls: Part(&OTLP_TLS), "", like("otlp_grpc");
        sending_queue => queue: Part(&QUEUE), "", like("splunk_hec");
        retry_on_failure => retry: Part(&RETRY), "", like("splunk_hec");
        dead_letter: Part(&DEAD_LETTER), "", like("splunk_hec");
    }
    hints {
        "middlewares": Remove(ABSENT);
        "cookies": Remove(ABSENT);
        "compression_params": Remove(ABSENT);
        "traces_endpoint": Use("findings are logs, set logs_endpoint or endpoint");
        "metrics_endpoint": Use("findings are logs, set logs_endpoint or endpoint");
        "profiles_endpoint": Use("findings are logs, set logs_endpoint or endpoint");
        "proxy_url": Use("set the environment variable HTTPS_PROXY");
        "batcher": Remove("what waits leaves together");
        "max_idle_conns": Remove(ONE_CONNECTION), kept [];
        "max_idle_conns_per_host": Remove(ONE_CONNECTION), kept [];
        "max_conns_per_host": Remove(ONE_CONNECTION), kept [];
        "keepalive": Remove(ONE_CONNECTION);
        "idle_conn_timeout": Remove(ONE_CONNECTION), kept [];
        "disable_keep_alives": Remove(ABSENT), kept ["false"];
        "force_attempt_http2": Remove(ABSENT), kept [];
        "http2_read_idle_timeout": Remove(ABSENT), kept [];
        "http2_ping_timeout": Remove(ABSENT), kept [];
        "read_buffer_size": Remove(ABSENT), kept [];
        "write_buffer_size": Remove(ABSENT), kept [];
    }
    check urls_fit
}

pub(crate) fn grpc(place: Place<'_>, authenticators: &Authenticators<'_>) -> otlp_grpc::Config {
    let section = place.section(&OTLP_GRPC.table);
    let mut config = OTLP_GRPC.of(&section);
    config.auth = auth(&section, authenticators);
    config
}

pub(crate) fn http(place: Place<'_>, authenticators: &Authenticators<'_>) -> otlp_http::Config {
    let section = place.section(&OTLP_HTTP.table);
    let mut config = OTLP_HTTP.of(&section);
    config.auth = auth(&section, authenticators);
    config
}

fn address_fits(section: &Section<'_>, config: &mut otlp_grpc::Config) {
    if let Some(value) = section.value("endpoint")
        && !config.endpoint.is_empty()
        && let Err(why) = otlp_grpc::address(&config.endpoint, &config.tls)
    {
        value.fail(why);
    }
}

fn urls_fit(section: &Section<'_>, config: &mut otlp_http::Config) {
    let url = |key| {
        let value = section.value(key)?;
        let url = value.filled()?.trim().to_owned();
        match otlp_http::url(&url, &config.tls) {
            Err(why) => value.fail(why),
            Ok(url) => {
                if let Some(why) = takes_something_else(key, url.path()) {
                    value.fail(why);
                }
            }
        }
        Some(url)
    };
    if section.get("endpoint").is_none() && section.get("logs_endpoint").is_none() {
        section.fail("endpoint is required, or logs_endpoint");
    }
    let (endpoint, logs_endpoint) = (url("endpoint"), url("logs_endpoint"));
    config.endpoint = endpoint.unwrap_or_default();
    config.logs_endpoint = logs_endpoint;
}

/// Why findings cannot be sent to a path.
fn takes_something_else(key: &str, path: &str) -> Option<&'static str> {
    let path = path.trim_end_matches('/');
    if path.ends_with("/v1/logs") && key == "endpoint" {
        Some("ends in /v1/logs, which is added to it: leave that out, or write logs_endpoint")
    } else if path.ends_with("/v1/traces") || path.ends_with("/v1/metrics") {
        Some("findings are logs, which this path does not take: logs_endpoint ends in /v1/logs")
    } else {
        None
    }
}

/// The extension that `auth` names, whose header nothing else sets.
fn auth(
    section: &Section<'_>,
    authenticators: &Authenticators<'_>,
) -> Option<bearer_token_auth::Config> {
    let config = authenticators.config(section)?;
    let given = |place: Place<'_>| {
        let mut names = place.pairs().into_iter();
        names.any(|(name, _)| name.eq_ignore_ascii_case(&config.header))
    };
    if section.get("headers").is_some_and(given)
        && let Some(place) = section.get("auth")
    {
        place.fail_key(format_args!(
            "its extension sets the header {}, remove it from headers",
            config.header
        ));
    }
    Some(config)
}
