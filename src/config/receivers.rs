//! Receivers: keys, defaults and what must hold.
use std::time::Duration;

use super::{
    OtlpReceiver, ReceiverConfig,
    extensions::Authenticators,
    keys,
    read::{Place, Section},
    server_tls::server_tls,
};
use crate::receiver::{Limits, otlp_grpc, otlp_http};

const MIB: usize = 1024 * 1024;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Reads one `otlp` receiver.
pub(crate) fn receiver(place: Place<'_>, authenticators: &Authenticators<'_>) -> ReceiverConfig {
    let otlp = place.section(&keys::OTLP);
    let protocols = otlp.section("protocols", &keys::PROTOCOLS);
    if protocols.is_empty() {
        protocols.fail("no protocol to listen on, add protocols: {grpc: }");
    }
    let section = |key, table| {
        let place = protocols.place(key);
        place.map(|place| place.section(table))
    };
    let (grpc_keys, http_keys) = (section("grpc", &keys::GRPC), section("http", &keys::HTTP));
    let auth = |keys: &Section<'_>| authenticators.read(keys);
    if let (Some(grpc), Some(http)) = (&grpc_keys, &http_keys)
        && let (Some(grpc), Some(http)) = (grpc.value("endpoint"), http.value("endpoint"))
        && grpc.text == http.text
        && !http.text.ends_with(":0")
    {
        http.fail("grpc listens on this address already, give http another port");
    }
    ReceiverConfig::Otlp(OtlpReceiver {
        grpc: grpc_keys.as_ref().map(grpc),
        grpc_auth: grpc_keys.as_ref().and_then(auth),
        http: http_keys.as_ref().map(http),
        http_auth: http_keys.as_ref().and_then(auth),
    })
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
            max_connections_per_address: per_address(section),
            read_header_timeout: wait("read_header_timeout", limits.read_header_timeout),
            read_timeout: wait("read_timeout", limits.read_timeout),
            idle_timeout: wait("idle_timeout", limits.idle_timeout),
            ..limits
        },
        tls: server_tls(section),
    }
}

fn max_connections(section: &Section<'_>, default: usize) -> usize {
    section.number("max_connections", 1..=1_000_000, default)
}

/// The most connections of one address, if it is written.
fn per_address(section: &Section<'_>) -> Option<usize> {
    let value = section.value("max_connections_per_address")?;
    value.number("whole number", 1..=1_000_000)
}

/// The address to listen on, if it is written and has the form of one.
pub(crate) fn listen(section: &Section<'_>) -> Option<String> {
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
            max_connections_per_address: per_address(section),
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
        tls: server_tls(section),
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
}
