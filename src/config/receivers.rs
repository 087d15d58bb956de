//! Receivers: their settings, and what must hold.
use std::time::Duration;

use super::{
    extensions::{AUTH, Authenticators},
    forms::{Mib, Number, Part, Text, Time, Unset},
    hints::ABSENT,
    listen::LISTEN,
    model::{OtlpReceiver, ReceiverConfig, WebhookReceiver},
    read::{Place, Section},
    server_tls::{EXAMPLE, ServerTls},
    settings::settings,
};
use crate::{
    endpoint::Endpoint,
    receiver::{Limits, k8s_audit_webhook, otlp_grpc, otlp_http},
};

const MIB: usize = 1024 * 1024;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const MOST_CONNECTIONS: usize = 1_000_000;

settings! {
    OTLP: () {
        protocols by receiver: Part(&PROTOCOLS),
            "At least one protocol. It is served when its key is there.";
    }
    hints {
        "grpc": Use("it belongs under protocols");
        "http": Use("it belongs under protocols");
    }
}

settings! {
    PROTOCOLS: () {
        grpc by receiver: Part(&GRPC), "OTLP/gRPC.";
        http by receiver: Part(&HTTP), "POST /v1/logs in protobuf or JSON.";
    }
}

settings! {
    GRPC: otlp_grpc::Config {
        endpoint: LISTEN,
            "Where to listen, host:port. :4317, 0.0.0.0:4317 and [::]:4317 listen on all addresses of IPv4 \
             and IPv6.", place;
        max_recv_msg_size_mib => max_recv_msg_bytes: Mib(1024),
            "Largest message that is taken, after decompression, in MiB.";
        max_connections => limits.max_connections: Number(1..=MOST_CONNECTIONS),
            "Connections at a time. A new one takes the place of one without a complete request, else \
             of an idle one without a token; if there is none it waits until one ends.";
        max_connections_per_address => limits.max_connections_per_address:
            Unset(Number(1..=MOST_CONNECTIONS)),
            "The same for one address, IPv6 by its /64; more are closed. Unset: half of \
             max_connections. Raise it if many senders come through one address (NAT, load balancer).";
        max_concurrent_streams => limits.max_concurrent_streams: Number(1..=1_000_000),
            "Requests of one connection at a time; more wait.";
        read_timeout => limits.read_timeout: Time(SECOND..=HOUR),
            "How long a request may take to come in; the sender is then asked to send it again.";
        keepalive => limits: Part(&KEEPALIVE), "";
        tls: ServerTls, "", shown_in("tls");
        auth by receiver: Part(&AUTH), "", shown_in("tls");
    }
    hints {
        "transport": Remove("always tcp"), kept ["tcp"];
        "read_buffer_size": Remove(ABSENT), kept [];
        "write_buffer_size": Remove(ABSENT), kept [];
        "include_metadata": Remove(ABSENT), kept ["false"];
    }
}

settings! {
    KEEPALIVE: Limits {
        server_parameters => self: Part(&SERVER_PARAMETERS), "";
    }
    hints {
        "enforcement_policy":
            Remove("clients may ask whether we are there as often as they like"), kept [];
    }
}

settings! {
    SERVER_PARAMETERS: Limits {
        max_connection_idle => idle_timeout: Time(SECOND..=DAY),
            "A connection without a request for this long is closed, the sender opens another.";
        time => keepalive_time: Time(SECOND..=DAY),
            "How often the other side is asked whether it is still there.";
        timeout => keepalive_timeout: Time(SECOND..=DAY),
            "How long its answer may take before the connection is closed.";
    }
    hints {
        "max_connection_age": Remove(ABSENT);
        "max_connection_age_grace": Remove(ABSENT);
    }
}

settings! {
    HTTP: otlp_http::Config {
        endpoint: LISTEN, "Where to listen, host:port.", place;
        max_request_body_size: Number(1..=1024 * MIB),
            "Most bytes of a body, after decompression.";
        max_connections => limits.max_connections: Number(1..=MOST_CONNECTIONS),
            "Connections at a time. A new one takes the place of one without a complete request, else \
             of an idle one without a token; if there is none it waits until one ends.";
        max_connections_per_address => limits.max_connections_per_address:
            Unset(Number(1..=MOST_CONNECTIONS)),
            "The same for one address, IPv6 by its /64; more are closed. Unset: half of \
             max_connections. Raise it if many senders come through one address (NAT, load balancer).";
        read_header_timeout => limits.read_header_timeout: Time(SECOND..=HOUR),
            "How long the headers of a request may take, and a TLS handshake, which has 10s at most.";
        read_timeout => limits.read_timeout: Time(SECOND..=HOUR),
            "How long a request may take to come in; the sender is then asked to send it again.";
        idle_timeout => limits.idle_timeout: Time(SECOND..=HOUR),
            "A connection without a request for this long is closed, the sender opens another.";
        tls: ServerTls, "", shown_in("tls"), like("grpc"), example(EXAMPLE);
        auth by receiver: Part(&AUTH), "", shown_in("tls"), like("grpc"),
            example("{authenticator: bearertokenauth}");
    }
    hints {
        "cors": Remove(ABSENT);
        "include_metadata": Remove(ABSENT), kept ["false"];
        "write_timeout": Remove("answers are short, and have 30s to leave");
        "keepalive": Remove("idle_timeout says how long a connection is kept");
        "transport": Remove("always tcp"), kept ["tcp"];
        "keep_alives_enabled": Remove(ABSENT), kept ["true"];
        "middlewares": Remove(ABSENT);
        "response_headers": Remove(ABSENT);
        "logs_url_path": Remove(ABSENT), kept ["/v1/logs"];
        "compression_algorithms": Remove("identity, gzip and zstd");
        "traces_url_path": Remove("only logs are taken"), kept [];
        "metrics_url_path": Remove("only logs are taken"), kept [];
    }
}

settings! {
    WEBHOOK: k8s_audit_webhook::Config {
        endpoint: LISTEN, "Where to listen, host:port.", place;
        cluster_name: Text,
            "Name of the cluster of lists whose path names none. An API server that posts to \
             /audit/NAME is of the cluster NAME.";
        max_request_body_size: Number(1..=1024 * MIB),
            "Most bytes of a body, after decompression.";
        max_connections => limits.max_connections: Number(1..=MOST_CONNECTIONS),
            "Connections at a time. A new one takes the place of one without a complete request, else \
             of an idle one without a token; if there is none it waits until one ends.";
        max_connections_per_address => limits.max_connections_per_address:
            Unset(Number(1..=MOST_CONNECTIONS)),
            "The same for one address, IPv6 by its /64; more are closed. Unset: half of \
             max_connections. Raise it if many senders come through one address (NAT, load balancer).";
        read_header_timeout => limits.read_header_timeout: Time(SECOND..=HOUR),
            "How long the headers of a request may take, and a TLS handshake, which has 10s at most.";
        read_timeout => limits.read_timeout: Time(SECOND..=HOUR),
            "How long a request may take to come in; the sender is then asked to send it again.";
        idle_timeout => limits.idle_timeout: Time(SECOND..=HOUR),
            "A connection without a request for this long is closed, the sender opens another.";
        tls: ServerTls, "", shown_in("tls"), example(EXAMPLE);
        auth by receiver: Part(&AUTH), "", shown_in("tls"),
            example("{authenticator: bearertokenauth}");
    }
    hints {
        "path": Remove("lists are taken at /audit and /audit/CLUSTER");
        "transport": Remove("always tcp"), kept ["tcp"];
        "include_metadata": Remove(ABSENT), kept ["false"];
    }
}

/// Reads one `k8s_audit_webhook` receiver.
pub(crate) fn webhook(place: Place<'_>, authenticators: &Authenticators<'_>) -> ReceiverConfig {
    let section = place.section(&WEBHOOK.table);
    let auth = |keys: &Section<'_>| authenticators.read(keys);
    ReceiverConfig::K8sAuditWebhook(WebhookReceiver {
        server: WEBHOOK.of(&section),
        auth: auth(&section),
    })
}

/// Reads one `otlp` receiver.
pub(crate) fn receiver(place: Place<'_>, authenticators: &Authenticators<'_>) -> ReceiverConfig {
    let otlp = place.section(&OTLP.table);
    let protocols = otlp.section("protocols", &PROTOCOLS.table);
    if protocols.is_empty() {
        protocols.fail("no protocol to listen on, add protocols: {grpc: }");
    }
    let section = |key, table| {
        let place = protocols.place(key);
        place.map(|place| place.section(table))
    };
    let (grpc, http) = (section("grpc", &GRPC.table), section("http", &HTTP.table));
    let auth = |keys: &Section<'_>| authenticators.read(keys);
    if let (Some(grpc), Some(http)) = (&grpc, &http)
        && let (Some(grpc), Some(http)) = (grpc.value("endpoint"), http.value("endpoint"))
        && let Ok(of_grpc) = Endpoint::to_listen(&grpc.text)
        && Endpoint::to_listen(&http.text) == Ok(of_grpc.clone())
        && of_grpc.port != 0
    {
        http.fail("grpc listens on this address already, give http another port");
    }
    ReceiverConfig::Otlp(OtlpReceiver {
        grpc: grpc.as_ref().map(|section| GRPC.of(section)),
        grpc_auth: grpc.as_ref().and_then(auth),
        http: http.as_ref().map(|section| HTTP.of(section)),
        http_auth: http.as_ref().and_then(auth),
    })
}
