//! The exporters `otlp_grpc` and `otlp_http`: keys, defaults and what must hold.
use std::time::Duration;

use super::{
    client,
    exporters::{queue, retry},
    extensions::Authenticators,
    keys,
    read::{Place, Section},
};
use crate::{
    exporter::{
        compression::Compression,
        otlp_grpc,
        otlp_http::{self, Encoding},
    },
    extension::bearer_token_auth,
    tls,
};

const HOUR: Duration = Duration::from_hours(1);

pub(crate) fn grpc(
    section: &Section<'_>,
    authenticators: &Authenticators<'_>,
) -> otlp_grpc::Config {
    let default = otlp_grpc::Config::default();
    let tls = tls(section);
    let endpoint = section.required("endpoint").and_then(|value| {
        let endpoint = value.filled()?.trim().to_owned();
        if let Err(why) = otlp_grpc::address(&endpoint, &tls) {
            value.fail(why);
        }
        Some(endpoint)
    });
    otlp_grpc::Config {
        endpoint: endpoint.unwrap_or_default(),
        headers: client::headers(
            section,
            &[
                "grpc-encoding",
                "grpc-accept-encoding",
                "grpc-timeout",
                "te",
            ],
        ),
        auth: auth(section, authenticators),
        compression: compression(section, default.compression),
        timeout: timeout(section, default.timeout),
        queue: queue(&section.section("sending_queue", &keys::QUEUE)),
        retry: retry(&section.section("retry_on_failure", &keys::RETRY)),
        tls,
    }
}

pub(crate) fn http(
    section: &Section<'_>,
    authenticators: &Authenticators<'_>,
) -> otlp_http::Config {
    let default = otlp_http::Config::default();
    let tls = tls(section);
    let url = |key| {
        let value = section.value(key)?;
        let url = value.filled()?.trim().to_owned();
        match otlp_http::url(&url, &tls) {
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
    let encodings = [("proto", Encoding::Proto), ("json", Encoding::Json)];
    otlp_http::Config {
        endpoint: url("endpoint").unwrap_or_default(),
        logs_endpoint: url("logs_endpoint"),
        encoding: section.choice("encoding", &encodings, default.encoding),
        headers: client::headers(section, &[]),
        auth: auth(section, authenticators),
        compression: compression(section, default.compression),
        timeout: timeout(section, default.timeout),
        queue: queue(&section.section("sending_queue", &keys::QUEUE)),
        retry: retry(&section.section("retry_on_failure", &keys::RETRY)),
        tls,
    }
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

/// The extension that `auth` names, whose header is in nobody else's hands.
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

fn tls(section: &Section<'_>) -> tls::client::Config {
    let section = section.section("tls", &keys::OTLP_TLS);
    let tls = client::tls(&section, true);
    let others = tls.ca.is_some()
        || tls.cert.is_some()
        || tls.key.is_some()
        || tls.insecure_skip_verify
        || tls.include_system_ca_certs_pool
        || tls.server_name_override.is_some();
    if tls.insecure && others {
        section.fail("insecure: true speaks no TLS, remove it or what is set beside it");
    }
    tls
}

fn compression(section: &Section<'_>, default: Compression) -> Compression {
    let words = [
        ("gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
        ("none", Compression::None),
    ];
    section.choice("compression", &words, default)
}

fn timeout(section: &Section<'_>, default: Duration) -> Duration {
    section.duration("timeout", Duration::from_millis(1)..=HOUR, default)
}
