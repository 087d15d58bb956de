//! Broken configurations, and their errors word for word.
use std::fmt::Write as _;

use proptest::prelude::*;

use super::{DEBUG, DETECTION, OTLP, SERVICE, env, identity};
use crate::config::parse;

/// Checks that exactly these errors are reported, each without the name of the file.
#[track_caller]
fn refused(text: &str, wanted: &[&str]) {
    let error = parse("a.yaml", text, &env).expect_err(text);
    let message: Vec<_> = error
        .problems()
        .iter()
        .map(|line| line.strip_prefix("a.yaml:").unwrap())
        .collect();
    assert_eq!(message, wanted, "{text}");
    assert!(!error.to_string().contains("s3cret"), "{error}");
}

/// The same for a file whose detection has these keys.
#[track_caller]
fn refused_detection(keys: &str, wanted: &[&str]) {
    refused(
        &format!("processors: {{detection: {{{keys}}}}}\n{OTLP}{DEBUG}{SERVICE}"),
        wanted,
    );
}

/// The same for a file whose `splunk_hec` has these keys beside those that it must have.
#[track_caller]
fn refused_hec(keys: &str, wanted: &[&str]) {
    let hec = "token: t, endpoint: 'http://a'";
    let service = SERVICE.replace("debug", "splunk_hec");
    refused(
        &format!("exporters: {{splunk_hec: {{{hec},\n  {keys}}}}}\n{OTLP}{DETECTION}{service}"),
        wanted,
    );
}

/// The same for a file with this pipeline.
#[track_caller]
fn refused_pipelines(pipelines: &str, wanted: &[&str]) {
    let base = "receivers: {otlp: {protocols: {grpc: }}, otlp/2: {protocols: {grpc: }}}
processors: {detection: , detection/2: }
exporters: {debug: , debug/2: }
";
    refused(
        &format!("{base}service: {{pipelines: {{{pipelines}}}}}"),
        wanted,
    );
}

#[test]
fn tells_all_problems_at_once_in_the_order_of_the_file() {
    refused(
        "
receivers: {otlp: {protocols: {gprc: }}}
processors:
  detection:
    treshold: 5
    window: tomorrow
    threshold: ${env:WORD}
exporters:
  splunk_hec:
    tokn: s3cret
    endpoint: ${NONE}
service:
  pipelines:
    logs: {receivers: [otpl], processors: [detection], exporters: [splunk_hec, file]}
",
        &[
            "2:32: receivers::otlp::protocols: unknown key \"gprc\", did you mean \"grpc\"?",
            "5:5: processors::detection: unknown key \"treshold\", did you mean \"threshold\"?",
            "6:13: processors::detection::window: expected a duration such as 300ms, 5s or 1h30m, got \"tomorrow\"",
            "7:16: processors::detection::threshold: expected a whole number from 0 to 1000000000, got something else (from ${env:WORD})",
            "9:3: exporters::splunk_hec: token is required",
            "10:5: exporters::splunk_hec: unknown key \"tokn\", did you mean \"token\"?",
            "11:15: exporters::splunk_hec::endpoint: environment variable NONE is not set, set it or write ${env:NONE:-default}",
            "14:24: service::pipelines::logs::receivers: unknown receiver type \"otpl\", did you mean \"otlp\"?",
            "14:80: service::pipelines::logs::exporters: exporter file is not defined, add it under exporters or remove it here",
        ],
    );
}

#[test]
fn refuses_what_is_no_yaml_or_more_than_a_configuration_needs() {
    for (text, wanted) in [
        (
            "a: [",
            "2:1: not valid YAML: while parsing a node, did not find expected node content",
        ),
        (
            "a: *x",
            "1:4: not valid YAML: while parsing node, found unknown anchor: a text that begins with * needs quotes",
        ),
        ("a: &x [*x]", "1:8: an alias of a value that holds it"),
        (
            "a: 1\n---\nb: 2",
            "2:1: a second YAML document: one file holds one configuration, remove the \"---\"",
        ),
        (
            "? [a]\n: b",
            "1:3: a map or list cannot be a key, write a text",
        ),
        (
            "a: &x b\n*x : c",
            "2:1: an alias cannot be a key, write the key",
        ),
    ] {
        refused(text, &[wanted]);
    }
    let deep = format!("a: {}", "[".repeat(40));
    refused(
        &deep,
        &["1:35: more than 32 maps and lists within each other"],
    );
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for round in 1..9 {
        let alias = format!("*a{}, ", round - 1).repeat(10);
        writeln!(laughs, "a{round}: &a{round} [{alias}]").unwrap();
    }
    refused(
        &laughs,
        &["4:45: more than 10000 values, aliases counted as what they hold"],
    );
}

#[test]
fn refuses_tags_and_repeated_keys_and_goes_on() {
    let debug = "exporters: {debug: {verbosity: !!str basic}}\n";
    refused(
        &format!("{OTLP}{DETECTION}{debug}{SERVICE}receivers: 1\n"),
        &[
            "3:32: the tag !!str is not supported, remove it (quotes make a text)",
            "6:1: the key \"receivers\" is defined twice, first in line 1: remove one",
        ],
    );
    refused_detection(
        "window: 1h,\n  window: 2h, <<: 1",
        &[
            "2:3: the key \"window\" is defined twice, first in line 1: remove one",
            "2:19: \"<<\" takes a map or a list of maps",
        ],
    );
}

#[test]
fn refuses_other_shapes() {
    refused(
        "",
        &["1:1: service is required, it says which components make a pipeline"],
    );
    refused(
        "[]",
        &[
            "1:1: expected a map",
            "1:1: service is required, it says which components make a pipeline",
        ],
    );
    refused(
        &format!("connectors: {{}}\nprocesors:\n{OTLP}{DETECTION}{DEBUG}{SERVICE}"),
        &[
            "1:1: unknown key \"connectors\": a pipeline ends with its detection's findings, remove it",
            "2:1: unknown key \"procesors\", did you mean \"processors\"?",
        ],
    );
    refused_detection(
        "window: [1h], codes: {a: b}, geo: 1",
        &[
            "1:34: processors::detection::window: expected a single value",
            "1:47: processors::detection::codes: expected a list, or a text with commas",
            "1:60: processors::detection::geo: expected a map",
        ],
    );
}

#[test]
fn refuses_components_it_does_not_have() {
    refused(
        &format!(
            "receivers: {{otlp: {{protocols: {{grpc: }}}}, filelog: , foreign: }}
processors: {{detection: , memory_limiter: {{limit_mib: 1}}, batch: , _x: }}
exporters: {{debug: , logging/x: , splunkhec: }}
{}",
            SERVICE.replace("[detection]", "[memory_limiter, batch, detection]")
        ),
        &[
            "1:42: receivers::filelog: unknown receiver type \"filelog\": auditwatch reads no files while it runs, let a collector send them over otlp",
            "1:53: receivers::foreign: unknown receiver type \"foreign\", known: k8s_audit_webhook, otlp",
            "2:27: processors::memory_limiter: unknown processor type \"memory_limiter\": auditwatch bounds its memory itself, remove it",
            "2:59: processors::batch: unknown processor type \"batch\": findings leave at once and splunk_hec batches what waits, remove it",
            "2:68: processors::_x: expected type[/name]: a letter, then letters, digits and underscores; the name without blanks",
            "3:22: exporters::logging/x: unknown exporter type \"logging\": it is called debug",
            "3:35: exporters::splunkhec: unknown exporter type \"splunkhec\", did you mean \"splunk_hec\"?",
        ],
    );
}

/// The error for the Collector's processors also says what belongs there.
#[test]
fn asks_for_a_detection_where_only_foreign_processors_stand() {
    let service = SERVICE.replace("[detection]", "[batch, transform]");
    refused(
        &format!("processors: {{batch: , transform: }}\n{OTLP}{DEBUG}{service}"),
        &[
            "1:14: processors::batch: unknown processor type \"batch\": findings leave at once and splunk_hec batches what waits, remove it",
            "1:23: processors::transform: unknown processor type \"transform\": audit events are read as they come, leave it to the collector that sends them, and remove it",
            "5:23: service::pipelines::logs: needs one detection processor, such as processors: [detection]",
        ],
    );
}

/// Secrets where people put them by mistake, none of which is shown.
#[test]
fn shows_no_secret_in_the_wrong_place() {
    for (keys, wanted) in [
        (
            "token:s3cret",
            "2:3: exporters::splunk_hec: expected a blank behind \"token:\", before the value",
        ),
        (
            "password=s3cret",
            "2:3: exporters::splunk_hec: unknown key that begins with \"password\", known: ",
        ),
        (
            "headers: {Authorization s3cret: }",
            "2:13: exporters::splunk_hec::headers: holds a key that is no name of a header, expected name: value",
        ),
        (
            "headers: [{name: 'a s3cret', value: b}]",
            "2:32: exporters::splunk_hec::headers: holds a key that is no name of a header, expected name: value",
        ),
        (
            "source: !s3cret a",
            "2:11: what begins with ! is a tag, which is not supported, remove it (quotes make a text)",
        ),
        (
            "source: 'a${s3cret!}'",
            "2:11: exporters::splunk_hec::source: what is between ${ and } is no name of an environment variable, write $$ for a dollar sign",
        ),
    ] {
        let hec = "token: t, endpoint: 'http://a'";
        let service = SERVICE.replace("debug", "splunk_hec");
        let text =
            format!("exporters: {{splunk_hec: {{{hec},\n  {keys}}}}}\n{OTLP}{DETECTION}{service}");
        let error = parse("a.yaml", &text, &env).expect_err(keys);
        let message = error.to_string();
        assert!(
            message.starts_with(&format!("a.yaml:{wanted}")),
            "{message}"
        );
        assert!(!message.contains("s3cret"), "{message}");
    }
}

#[test]
fn refuses_receivers_that_cannot_listen() {
    for (otlp, wanted) in [
        (
            "",
            "1:13: receivers::otlp: no protocol to listen on, add protocols: {grpc: }",
        ),
        (
            "{protocols: {}}",
            "1:20: receivers::otlp::protocols: no protocol to listen on, add protocols: {grpc: }",
        ),
        (
            "{protocols: {htp: }}",
            "1:32: receivers::otlp::protocols: unknown key \"htp\", did you mean \"http\"?",
        ),
        (
            "{protocols: {grpc: {endpoint: 'http://a:1'}}}",
            "1:49: receivers::otlp::protocols::grpc::endpoint: expected host:port without a scheme, such as 127.0.0.1:4317, got \"http://a:1\"",
        ),
        (
            "{protocols: {grpc: {endpoint: ':${WORD}'}}}",
            "1:49: receivers::otlp::protocols::grpc::endpoint: expected host:port with a port from 0 to 65535, got something else (from ${WORD})",
        ),
        (
            "{protocols: {grpc: {endpoint: 'a:1'}, http: {endpoint: 'a:1'}}}",
            "1:74: receivers::otlp::protocols::http::endpoint: grpc listens on this address already, give http another port",
        ),
        (
            "{protocols: {grpc: {endpoint: ':1'}, http: {endpoint: '0.0.0.0:1'}}}",
            "1:73: receivers::otlp::protocols::http::endpoint: grpc listens on this address already, give http another port",
        ),
        (
            "{protocols: {grpc: {endpoint: '2001:db8::9:4317'}}}",
            "1:49: receivers::otlp::protocols::grpc::endpoint: an IPv6 address needs brackets, such as [2001:db8::9]:4317, got \"2001:db8::9:4317\"",
        ),
        (
            "{grpc: , protocols: {http: }}",
            "1:20: receivers::otlp: unknown key \"grpc\": it belongs under protocols",
        ),
        (
            "{protocols: {http: {endpoint: '4318'}}}",
            "1:49: receivers::otlp::protocols::http::endpoint: expected host:port, such as 127.0.0.1:4317, or :4317 for all addresses, got \"4318\"",
        ),
        (
            "{protocols: {http: {max_request_body_size: -1}}}",
            "1:62: receivers::otlp::protocols::http::max_request_body_size: expected a whole number from 1 to 1073741824, got \"-1\"",
        ),
        (
            "{protocols: {grpc: {max_recv_msg_size_mib: 0}}}",
            "1:62: receivers::otlp::protocols::grpc::max_recv_msg_size_mib: expected a whole number from 1 to 1024, got \"0\"",
        ),
        (
            "{protocols: {http: {max_connections: 0}}}",
            "1:56: receivers::otlp::protocols::http::max_connections: expected a whole number from 1 to 1000000, got \"0\"",
        ),
        (
            "{protocols: {grpc: {max_connections_per_address: 0}}}",
            "1:68: receivers::otlp::protocols::grpc::max_connections_per_address: expected a whole number from 1 to 1000000, got \"0\"",
        ),
        (
            "{protocols: {http: {idle_timeout: 0}}}",
            "1:53: receivers::otlp::protocols::http::idle_timeout: expected a duration from 1s to 1h, got \"0\"",
        ),
        (
            "{protocols: {grpc: {max_concurrent_streams: none}}}",
            "1:63: receivers::otlp::protocols::grpc::max_concurrent_streams: expected a whole number from 1 to 1000000, got \"none\"",
        ),
        (
            "{protocols: {grpc: {transport: unix}}}",
            "1:39: receivers::otlp::protocols::grpc: unknown key \"transport\": always tcp, remove it",
        ),
    ] {
        refused(
            &format!("receivers: {{otlp: {otlp}}}\n{DETECTION}{DEBUG}{SERVICE}"),
            &[wanted],
        );
    }
}

#[test]
fn refuses_tls_that_cannot_be_served() {
    for (otlp, wanted) in [
        (
            "{protocols: {grpc: {tls: }}}",
            "1:39: receivers::otlp::protocols::grpc::tls: needs cert_file and key_file, the certificate that senders are shown and its key",
        ),
        (
            "{protocols: {grpc: {tls: {cert_file: c}}}}",
            "1:39: receivers::otlp::protocols::grpc::tls: a certificate needs its key, add key_file",
        ),
        (
            "{protocols: {http: {tls: {key_pem: s3cret}}}}",
            "1:39: receivers::otlp::protocols::http::tls: a key needs its certificate, add cert_file",
        ),
        (
            "{protocols: {grpc: {tls: {cert_file: c, cert_pem: p, key_file: k}}}}",
            "1:39: receivers::otlp::protocols::grpc::tls: cert_file and cert_pem exclude each other, keep one",
        ),
        (
            "{protocols: {grpc: {tls: {cert_file: c, key_file: k, min_version: 1.1}}}}",
            "1:85: receivers::otlp::protocols::grpc::tls::min_version: tls 1.0 and 1.1 are broken and not spoken, expected 1.2 or 1.3, got \"1.1\"",
        ),
        (
            "{protocols: {grpc: {tls: {cert_file: c, key_file: k, max_version: TLSv1.3}}}}",
            "1:85: receivers::otlp::protocols::grpc::tls::max_version: expected 1.2 or 1.3, got \"TLSv1.3\"",
        ),
        (
            "{protocols: {grpc: {tls: {cert_file: c, key_file: k, min_version: 1.3, max_version: 1.2}}}}",
            "1:39: receivers::otlp::protocols::grpc::tls: min_version is above max_version, no version is left",
        ),
        (
            "{protocols: {grpc: {tls: {cert_file: c, key_file: k, reload_interval: often}}}}",
            "1:89: receivers::otlp::protocols::grpc::tls::reload_interval: expected a duration such as 300ms, 5s or 1h30m, got \"often\"",
        ),
        (
            "{protocols: {grpc: {tls: {cert_file: c, key_file: k, ca_file: a}}}}",
            "1:72: receivers::otlp::protocols::grpc::tls: unknown key \"ca_file\": that is for clients, client_ca_file asks senders for a certificate",
        ),
        (
            "{protocols: {grpc: {tls: {cert_file: c, key_file: k, client_ca_file_reload: true}}}}",
            "1:72: receivers::otlp::protocols::grpc::tls: unknown key \"client_ca_file_reload\": reload_interval reads client_ca_file again too, remove it",
        ),
    ] {
        refused(
            &format!("receivers: {{otlp: {otlp}}}\n{DETECTION}{DEBUG}{SERVICE}"),
            &[wanted],
        );
    }
}

#[test]
fn refuses_settings_the_semantics_has_no_use_for() {
    let at = "processors::detection";
    for (keys, wanted) in [
        (
            "semantics: splunk, codes: 403",
            format!("1:37: {at}::semantics: expected native or escu, got \"splunk\""),
        ),
        (
            "semantics: escu, who: any",
            format!(
                "1:43: {at}::who: is not valid with semantics: escu, remove it or set semantics: native"
            ),
        ),
        (
            "window_offset: 5m",
            format!(
                "1:26: {at}::window_offset: is not valid with semantics: native, remove it or set semantics: escu"
            ),
        ),
        (
            "semantics: escu, missing_city: drop",
            format!(
                "1:43: {at}::missing_city: is not valid without a location, remove it or name a database in geo"
            ),
        ),
    ] {
        refused_detection(keys, &[&wanted]);
    }
}

#[test]
fn refuses_what_describes_a_scan_where_none_is_looked_for() {
    let at = "processors::detection";
    let wanted = |place: &str, key: &str| {
        format!(
            "{place}: {at}::{key}: is not valid with scanning: false, remove it or set scanning: true"
        )
    };
    for (key, value) in [
        ("semantics", "escu"),
        ("threshold", "5"),
        ("window", "1h"),
        ("window_offset", "50m"),
        ("codes", "403"),
        ("who", "any"),
        ("missing_city", "drop"),
        ("threshold_401", "9"),
        ("distributed", "true"),
        ("low_and_slow", "true"),
        ("forged_forwarding", "false"),
        ("follow_up", "1h"),
    ] {
        refused_detection(
            &format!("scanning: false, rules: a, {key}: {value}"),
            &[&wanted("1:53", key)],
        );
    }
    refused_detection(
        "scanning: false, anonymous_success: false, blind_spots: false",
        &[&format!(
            "1:26: {at}::scanning: leaves nothing to detect, name rules or turn a detection on"
        )],
    );
    refused_detection(
        "scanning: never, rules: [a, '', a]",
        &[
            &format!("1:36: {at}::scanning: expected true or false, got \"never\""),
            &format!("1:54: {at}::rules: must not be empty"),
            &format!("1:58: {at}::rules: \"a\" is listed twice"),
        ],
    );
}

#[test]
fn refuses_values_a_rule_cannot_have() {
    let at = "processors::detection";
    for (keys, wanted) in [
        (
            "window: 0",
            format!("1:34: {at}::window: expected a duration from 1µs to 8760h, got \"0\""),
        ),
        (
            "window: -1h",
            format!(
                "1:34: {at}::window: expected a duration such as 300ms, 5s or 1h30m, got \"-1h\""
            ),
        ),
        (
            "lateness: '${WORD:-x}${NOT:-y}'",
            format!(
                "1:36: {at}::lateness: expected a duration such as 300ms, 5s or 1h30m, got something else (from ${{WORD}}, the default of ${{NOT}})"
            ),
        ),
        (
            "threshold: -1",
            format!(
                "1:37: {at}::threshold: expected a whole number from 0 to 1000000000, got \"-1\""
            ),
        ),
        (
            "codes: []",
            format!("1:26: {at}::codes: needs at least one status code, such as 403"),
        ),
        (
            "codes: [401, 401]",
            format!("1:39: {at}::codes: 401 is listed twice"),
        ),
        (
            "codes: [forbidden]",
            format!("1:34: {at}::codes: expected a status code from 100 to 599, got \"forbidden\""),
        ),
        (
            "ipv6_prefix: 129",
            format!("1:39: {at}::ipv6_prefix: expected a whole number from 1 to 128, got \"129\""),
        ),
        (
            "trusted_proxies: [10.0.0.1/8]",
            format!(
                "1:44: {at}::trusted_proxies: 10.0.0.1/8 has bits set behind the prefix, did you mean 10.0.0.0/8?"
            ),
        ),
        (
            "time_field: ''",
            format!("1:38: {at}::time_field: must not be empty"),
        ),
        (
            "geo: {databases: [a, a]}",
            format!("1:47: {at}::geo::databases: \"a\" is listed twice"),
        ),
        (
            "threshold: 10, limits: {hits_per_key: 10}",
            format!(
                "1:14: {at}: limits::hits_per_key is 10 and threshold 10, so nothing could ever be found: keep more hits than the threshold"
            ),
        ),
        (
            "cluster: '${NONE}'",
            format!(
                "1:35: {at}::cluster: environment variable NONE is not set, set it or write ${{env:NONE:-default}}"
            ),
        ),
    ] {
        refused_detection(keys, &[&wanted]);
    }
}

#[test]
fn refuses_what_hec_cannot_do() {
    let at = "exporters::splunk_hec";
    for (keys, wanted) in [
        (
            "health_path: health",
            format!(
                "2:16: {at}::health_path: expected a path such as /services/collector/health, got \"health\""
            ),
        ),
        (
            "splunk_app_name: Überwachung",
            format!(
                "2:20: {at}::splunk_app_name: expected plain ASCII letters, digits and signs, got \"Überwachung\""
            ),
        ),
        (
            "max_idle_conns: -1",
            format!(
                "2:19: {at}::max_idle_conns: expected a whole number from 0 to 1000000, got \"-1\""
            ),
        ),
        (
            "ack: {poll_interval: 2m}",
            format!("2:3: {at}::ack: poll_interval (2m) must be shorter than timeout (2m)"),
        ),
        (
            "ack: {enabled: true, timeout: 5m}, retry_on_failure: {max_elapsed_time: 5m}",
            format!(
                "1:13: {at}: ack::timeout (5m) must be shorter than retry_on_failure::max_elapsed_time (5m), or nothing would be sent again"
            ),
        ),
        (
            "export_raw: true",
            format!(
                "2:3: {at}: unknown key \"export_raw\": a finding needs its time and source beside it, remove it"
            ),
        ),
        (
            "otel_attrs_to_hec_metadata: {index: x}",
            format!(
                "2:3: {at}: unknown key \"otel_attrs_to_hec_metadata\": findings have no such attributes, set source, sourcetype, index or host"
            ),
        ),
        (
            "sending_queue: {block_on_overflow: true}",
            format!(
                "2:19: {at}::sending_queue: unknown key \"block_on_overflow\": without room senders are asked to retry later, remove it"
            ),
        ),
    ] {
        refused_hec(keys, &[&wanted]);
    }
}

#[test]
fn refuses_tls_and_headers_that_do_not_fit() {
    let at = "exporters::splunk_hec";
    for (keys, wanted) in [
        (
            "tls: {min_version: 1.1}",
            format!(
                "2:22: {at}::tls::min_version: TLS before 1.2 is broken and not spoken, expected 1.2 or 1.3, got \"1.1\""
            ),
        ),
        (
            "tls: {max_version: '2'}",
            format!("2:22: {at}::tls::max_version: expected 1.2 or 1.3, got \"2\""),
        ),
        (
            "tls: {min_version: '1.3', max_version: '1.2'}",
            format!("2:3: {at}::tls: min_version (1.3) must not be newer than max_version (1.2)"),
        ),
        (
            "tls: {cert_file: a.pem}",
            format!("2:3: {at}::tls: a client certificate needs its key, add key_file"),
        ),
        (
            "tls: {key_pem: s3cret}",
            format!("2:3: {at}::tls: a key needs its client certificate, add cert_file"),
        ),
        (
            "tls: {ca_file: a.pem, ca_pem: s3cret}",
            format!("2:3: {at}::tls: ca_file and ca_pem exclude each other, keep one"),
        ),
        (
            "tls: {server_name_override: '192.0.2.1'}",
            format!(
                "2:31: {at}::tls::server_name_override: expected a host name such as splunk.example.com, got \"192.0.2.1\""
            ),
        ),
        (
            "tls: {insecure: true}",
            format!(
                "2:9: {at}::tls: unknown key \"insecure\": the endpoint's http:// or https:// says it, remove it"
            ),
        ),
        (
            "headers: {AUTHORIZATION: s3cret}",
            format!(
                "2:13: {at}::headers::AUTHORIZATION: the exporter sets this header itself, remove it"
            ),
        ),
        (
            "headers: {'a b': s3cret}",
            format!(
                "2:13: {at}::headers: holds a key that is no name of a header, expected name: value"
            ),
        ),
        (
            "headers: {a: '${LINE}'}",
            format!(
                "2:16: {at}::headers::a: holds characters that no header can carry (from ${{LINE}})"
            ),
        ),
        (
            "headers: {a: s3cret, A: s3cret}",
            format!("2:24: {at}::headers::A: is given twice, names of headers ignore case"),
        ),
        (
            "headers: s3cret",
            format!("2:12: {at}::headers: expected a map"),
        ),
    ] {
        refused_hec(keys, &[&wanted]);
    }
}

#[test]
fn refuses_who_is_no_authenticator() {
    for (keys, wanted) in [
        (
            "auth: {authenticator: bearertokenauth/2}",
            "1:64: exporters::otlp_grpc::auth::authenticator: extension bearertokenauth/2 is not defined, add it under extensions",
        ),
        (
            "auth: {authenticator: health_check}",
            "1:64: exporters::otlp_grpc::auth::authenticator: health_check is no authenticator, name a bearertokenauth",
        ),
        (
            "auth: {authenticator: bearertokenauth}, headers: {authorization: s3cret}",
            "1:42: exporters::otlp_grpc::auth: its extension sets the header Authorization, remove it from headers",
        ),
        (
            "auth: ",
            "1:42: exporters::otlp_grpc::auth: authenticator is required",
        ),
    ] {
        let service = SERVICE.replace("debug", "otlp_grpc").replace(
            "{pipelines",
            "{extensions: [bearertokenauth, health_check], pipelines",
        );
        refused(
            &format!(
                "exporters: {{otlp_grpc: {{endpoint: 'a:1', {keys}}}}}\n{OTLP}{DETECTION}\
                 extensions: {{health_check: , bearertokenauth: {{token: s3cret}}}}\n{service}"
            ),
            &[wanted],
        );
    }
}

/// The same for a file with this exporter.
#[track_caller]
fn refused_exporter(exporter: &str, wanted: &[&str]) {
    let service = SERVICE.replace("debug", exporter.split(':').next().unwrap());
    refused(
        &format!("exporters: {{{exporter}}}\n{OTLP}{DETECTION}{service}"),
        wanted,
    );
}

#[test]
fn refuses_otlp_exporters_that_cannot_send() {
    for (exporter, wanted) in [
        (
            "otlp_grpc: ",
            "1:13: exporters::otlp_grpc: endpoint is required",
        ),
        (
            "otlp_grpc: {endpoint: 'http://a:1'}",
            "1:35: exporters::otlp_grpc::endpoint: http:// speaks no TLS, set tls: {insecure: true} or write https://",
        ),
        (
            "otlp_grpc: {endpoint: 'https://a:1', tls: {insecure: true}}",
            "1:35: exporters::otlp_grpc::endpoint: https:// and tls::insecure contradict each other, remove one",
        ),
        (
            "otlp_grpc: {endpoint: 'u:s3cret@a:1'}",
            "1:35: exporters::otlp_grpc::endpoint: holds a user name or password, which headers are for",
        ),
        (
            "otlp: {endpoint: a}",
            "1:30: exporters::otlp::endpoint: expected host:port, such as collector:4317",
        ),
        (
            "otlp_grpc: {endpoint: 'a:1', compression: snappy}",
            "1:55: exporters::otlp_grpc::compression: expected gzip, zstd or none, got \"snappy\"",
        ),
        (
            "otlp_grpc: {endpoint: 'a:1', tls: {insecure: true, ca_file: x}}",
            "1:42: exporters::otlp_grpc::tls: insecure: true speaks no TLS, remove it or what is set beside it",
        ),
        (
            "otlp_grpc: {endpoint: 'a:1', headers: {Grpc-Timeout: s3cret}}",
            "1:52: exporters::otlp_grpc::headers::Grpc-Timeout: the exporter sets this header itself, remove it",
        ),
        (
            "otlp_http: ",
            "1:13: exporters::otlp_http: endpoint is required, or logs_endpoint",
        ),
        (
            "otlp_http: {endpoint: 'a:4318'}",
            "1:35: exporters::otlp_http::endpoint: expected a URL such as http://collector:4318",
        ),
        (
            "otlphttp: {logs_endpoint: 'http://u:s3cret@a'}",
            "1:39: exporters::otlphttp::logs_endpoint: holds a user name or password, which headers are for",
        ),
        (
            "otlp_http: {endpoint: 'https://a', tls: {insecure: true}}",
            "1:35: exporters::otlp_http::endpoint: https:// and tls::insecure contradict each other, remove one",
        ),
        (
            "otlp_http: {endpoint: 'http://a', encoding: text}",
            "1:57: exporters::otlp_http::encoding: expected proto or json, got \"text\"",
        ),
        (
            "otlp_http: {endpoint: 'http://a', traces_endpoint: x}",
            "1:47: exporters::otlp_http: unknown key \"traces_endpoint\": findings are logs, set logs_endpoint or endpoint",
        ),
    ] {
        refused_exporter(exporter, &[wanted]);
    }
}

#[test]
fn refuses_exporters_that_cannot_send() {
    let at = "exporters::splunk_hec";
    for (keys, wanted) in [
        (
            "timeout: 0s",
            format!("2:12: {at}::timeout: expected a duration from 1ms to 1h, got \"0s\""),
        ),
        (
            "timeout: 10",
            format!(
                "2:12: {at}::timeout: expected a duration such as 300ms, 5s or 1h30m, got \"10\""
            ),
        ),
        (
            "disable_compression: 1",
            format!("2:24: {at}::disable_compression: expected true or false, got \"1\""),
        ),
        (
            "max_event_size: 5MiB",
            format!(
                "2:19: {at}::max_event_size: expected a whole number from 1 to 838860800, got \"5MiB\""
            ),
        ),
        (
            "format: stash",
            format!("2:11: {at}::format: expected finding or risk, got \"stash\""),
        ),
        (
            "sending_queue: {enabled: false}",
            format!(
                "2:28: {at}::sending_queue::enabled: only true is possible, because a sender is answered when the queue has the findings"
            ),
        ),
        (
            "sending_queue: {storage: x}",
            format!(
                "2:19: {at}::sending_queue: unknown key \"storage\": not available in this version, remove it"
            ),
        ),
        (
            "retry_on_failure: {randomization_factor: nan}",
            format!(
                "2:44: {at}::retry_on_failure::randomization_factor: expected a number from 0 to 1, got \"nan\""
            ),
        ),
        (
            "retry_on_failure: {initial_interval: 31s}",
            format!(
                "2:3: {at}::retry_on_failure: initial_interval (31s) must not be longer than max_interval (30s)"
            ),
        ),
        (
            "dead_letter: {max_backups: 0}",
            format!(
                "2:30: {at}::dead_letter::max_backups: expected a whole number from 1 to 1000, got \"0\""
            ),
        ),
        (
            "retry_on_failure: {max_elapsed_time: 10s}",
            format!(
                "2:3: {at}::retry_on_failure: max_elapsed_time (10s) must not be shorter than max_interval (30s); 0 means no end"
            ),
        ),
        (
            "tls: {insecure: true}",
            format!(
                "2:9: {at}::tls: unknown key \"insecure\": the endpoint's http:// or https:// says it, remove it"
            ),
        ),
    ] {
        refused_hec(keys, &[&wanted]);
    }
    let file =
        format!("exporters: {{debug: {{verbosity: loud}}, file: }}\n{OTLP}{DETECTION}{SERVICE}");
    refused(
        &file,
        &[
            "1:32: exporters::debug::verbosity: expected basic, normal or detailed, got \"loud\"",
            "1:39: exporters::file: path is required",
        ],
    );
}

#[test]
fn never_shows_a_secret() {
    for (token, endpoint, wanted) in [
        (
            "${LINE}",
            "http://a",
            "1:33: exporters::splunk_hec::token: holds a blank, a line end or another character no token has (from ${LINE})",
        ),
        (
            "s3cret s3cret",
            "http://a",
            "1:33: exporters::splunk_hec::token: holds a blank, a line end or another character no token has",
        ),
        (
            "${EMPTY}",
            "http://a",
            "1:33: exporters::splunk_hec::token: must not be empty (from ${EMPTY})",
        ),
        (
            "t",
            "u:s3cret@a",
            "1:48: exporters::splunk_hec::endpoint: expected a URL such as https://splunk:8088",
        ),
        (
            "t",
            "http://u:s3cret@a:x",
            "1:48: exporters::splunk_hec::endpoint: no valid URL: invalid port number",
        ),
        (
            "t",
            "",
            "1:48: exporters::splunk_hec::endpoint: must not be empty",
        ),
    ] {
        let hec =
            format!("exporters: {{splunk_hec: {{token: '{token}', endpoint: '{endpoint}'}}}}\n");
        let service = SERVICE.replace("debug", "splunk_hec");
        refused(&format!("{hec}{OTLP}{DETECTION}{service}"), &[wanted]);
    }
}

#[test]
fn refuses_pipelines_that_do_not_fit_together() {
    let whole = "receivers: [otlp], processors: [detection], exporters: [debug]";
    let at = "service::pipelines";
    for (pipelines, wanted) in [
        (String::new(), "4:11: service::pipelines: no pipeline, add logs: {receivers: [otlp], processors: [detection], exporters: [splunk_hec]}".to_owned()),
        (format!("logs: {{{whole}}},\n  traces: "), format!("5:3: {at}::traces: auditwatch finds scans in audit logs and handles no other signal, use logs and leave the rest to a collector")),
        (format!("logs: {{{whole}}},\n  log: "), format!("5:3: {at}::log: unknown signal \"log\", known: logs")),
        (format!("logs: {{{whole}}},\n  logs/: "), format!("5:3: {at}::logs/: expected type[/name]: a letter, then letters, digits and underscores; the name without blanks")),
        ("\n  logs: {processors: [detection], exporters: [debug]}".to_owned(), format!("5:3: {at}::logs: needs at least one of receivers, such as receivers: [otlp]")),
        ("\n  logs: {receivers: [otlp], exporters: [debug]}".to_owned(), format!("5:3: {at}::logs: needs one detection processor, such as processors: [detection]")),
        ("\n  logs: {receivers: [otlp], processors: [detection], exporters: '${EMPTY}'}".to_owned(), format!("5:3: {at}::logs: needs at least one of exporters, such as exporters: [splunk_hec]")),
        ("\n  logs: {receivers: [otlp], processors: [detection, detection/2], exporters: [debug]}".to_owned(), format!("5:53: {at}::logs::processors: detection/2 is a second processor: a pipeline has exactly one, give each its own pipeline")),
        ("\n  logs: {receivers: [otlp, otlp/3], processors: [detection], exporters: [debug]}".to_owned(), format!("5:28: {at}::logs::receivers: receiver otlp/3 is not defined, add it under receivers or remove it here")),
        ("\n  logs: {receivers: [otlp, otlp], processors: [detection], exporters: [debug]}".to_owned(), format!("5:28: {at}::logs::receivers: otlp is listed twice")),
        ("\n  logs: {receivers: [otlp], processors: [detection], exporters: 'debug, file'}".to_owned(), format!("5:65: {at}::logs::exporters: exporter file is not defined, add it under exporters or remove it here")),
        (format!("logs: {{{whole}}},\n  logs/2: {{receivers: [otlp], processors: [detection/2], exporters: [debug]}}"), format!("5:24: {at}::logs/2::receivers: receiver otlp is in pipeline logs already: a sender gets one answer, so define another one, such as otlp/2")),
        (format!("logs: {{{whole}}},\n  logs/2: {{receivers: [otlp/2], processors: [detection], exporters: [debug]}}"), format!("5:46: {at}::logs/2::processors: processor detection is in pipeline logs already: its windows belong to one stream, so define another one, such as detection/2")),
    ] {
        refused_pipelines(&pipelines, &[&wanted]);
    }
}

#[test]
fn refuses_settings_of_the_service() {
    refused(
        &format!(
            "{OTLP}{DETECTION}{DEBUG}service:
  extensions: [health_check]
  shutdown_timeout: forever
  telemetry: {{logs: {{level: loud, encoding: xml}}, trace: }}
  admission: {{request_limit_mib: 0, waiting_limit_mib: 1}}
  memory: {{limit_mib: 5, spike_limit_mib: 5, limit_percentage: 101, min_gc_interval_when_soft_limited: 1s}}
  pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [debug]}}}}
"
        ),
        &[
            "5:16: service::extensions: extension health_check is not defined, add it under extensions or \
             remove it here",
            "6:21: service::shutdown_timeout: expected a duration such as 300ms, 5s or 1h30m, got \"forever\"",
            "7:29: service::telemetry::logs::level: expected trace, debug, info, warn or error, got \"loud\"",
            "7:45: service::telemetry::logs::encoding: expected console or json, got \"xml\"",
            "7:51: service::telemetry: unknown key \"trace\", did you mean \"traces\"?",
            "8:34: service::admission::request_limit_mib: expected a whole number from 1 to 1048576, got \"0\"",
            "8:37: service::admission: unknown key \"waiting_limit_mib\": requests beyond the limit do not wait, they are refused, remove it",
            "9:26: service::memory::spike_limit_mib: expected less than limit_mib, the soft limit is what is left of it",
            "9:64: service::memory::limit_percentage: expected a whole number from 1 to 100, got \"101\"",
            "9:69: service::memory: unknown key \"min_gc_interval_when_soft_limited\": not available in this version, remove it",
        ],
    );
}

#[test]
fn refuses_settings_of_telemetry() {
    let refused_telemetry = |keys: &str, wanted: &[&str]| {
        let pipeline =
            "pipelines: {logs: {receivers: [otlp], processors: [detection], exporters: [debug]}}";
        refused(
            &format!("service:\n  telemetry: {{{keys}}}\n  {pipeline}\n{OTLP}{DETECTION}{DEBUG}"),
            wanted,
        );
    };
    refused_telemetry(
        "metrics: {level: loud, address: 'localhost:8888'}, resource: [a]",
        &[
            "2:32: service::telemetry::metrics::level: expected none, basic, normal or detailed, got \"loud\"",
            "2:38: service::telemetry::metrics: unknown key \"address\": use readers: [{pull: {exporter: \
             {prometheus: {host: localhost, port: 8888}}}}]",
            "2:76: service::telemetry::resource: expected a map",
        ],
    );
    refused_telemetry(
        "traces: {level: basic, sampler: {trace_id_ratio_based: {ratio: 2}},\n    processors: [{}, {batch: }, {batch: {exporter: {otlp: }}}]}",
        &[
            "2:24: service::telemetry::traces: unknown key \"level\": spans are made when processors says where to, remove it",
            "2:78: service::telemetry::traces::sampler::trace_id_ratio_based::ratio: expected a number from 0 to 1, got \"2\"",
            "3:18: service::telemetry::traces::processors: a processor is batch: {exporter: {otlp: {endpoint: ...}}}",
            "3:23: service::telemetry::traces::processors::batch: needs exporter: {otlp: {endpoint: ...}}",
            "3:53: service::telemetry::traces::processors::batch::exporter::otlp: endpoint is required",
        ],
    );
    refused_telemetry(
        "metrics: {readers: []}",
        &["2:15: service::telemetry::metrics: readers is empty, add one or set level: none"],
    );
    refused_telemetry(
        "metrics: {readers: {pull: }}",
        &["2:34: service::telemetry::metrics::readers: expected a list"],
    );
    refused_telemetry(
        "metrics: {readers: [{}, {pull: }, {pull: {exporter: {prometheus: {port: 70000, host: ''}}}}]}",
        &[
            "2:35: service::telemetry::metrics::readers: a reader is either pull or periodic",
            "2:40: service::telemetry::metrics::readers::pull: needs exporter: {prometheus: }",
            "2:87: service::telemetry::metrics::readers::pull::exporter::prometheus::port: expected a whole number from 0 to 65535, got \"70000\"",
            "2:100: service::telemetry::metrics::readers::pull::exporter::prometheus::host: must not be empty",
        ],
    );
    refused_telemetry(
        "metrics: {readers: [{periodic: }, {periodic: {interval: 0, exporter: {otlp: {protocol: json, \
         headers: {'a b': c, d: \"e\\n\"}, endpoint: 'ftp://x'}}}}, {periodic: {exporter: {otlp: }}}]}",
        &[
            "2:36: service::telemetry::metrics::readers::periodic: needs exporter: {otlp: {endpoint: ...}}",
            "2:71: service::telemetry::metrics::readers::periodic::interval: expected a duration from 1ms to 24h, got \"0\"",
            "2:102: service::telemetry::metrics::readers::periodic::exporter::otlp::protocol: expected grpc or http/protobuf, got \"json\"",
            "2:118: service::telemetry::metrics::readers::periodic::exporter::otlp::headers: holds a key that is no name of a header, expected name: value",
            "2:131: service::telemetry::metrics::readers::periodic::exporter::otlp::headers::d: holds a line end or another character no header has",
            "2:149: service::telemetry::metrics::readers::periodic::exporter::otlp::endpoint: must be a URL such as http://localhost:4317",
            "2:187: service::telemetry::metrics::readers::periodic::exporter::otlp: endpoint is required",
        ],
    );
}

proptest! {
    /// Pieces of YAML in any order end in an answer.
    #[test]
    fn answers_to_anything(pieces in proptest::collection::vec(
        prop::sample::select(vec![
            "receivers", "otlp", "service", "pipelines", "logs", "exporters", ":", ": ", "\n", "\n  ",
            "- ", "[", "]", "{", "}", ",", "&a ", "*a", "<<", "!!str ", "${", "${EMPTY}", "'", "\"",
            "|\n", "---\n", "...\n", "%YAML 1.2\n", "? ", "#", "\u{feff}", "\t", "\0", "ü", "~",
        ]), 0..40))
    {
        if let Err(error) = parse("a.yaml", &pieces.concat(), &env) {
            prop_assert!(!error.problems().is_empty());
        }
    }
}

#[test]
fn refuses_settings_of_an_extension() {
    refused(
        &format!(
            "
{OTLP}{DETECTION}{DEBUG}extensions:
  health_check: {{endpoint: 13133, path: health, tls: }}
  health_check/b: {{enabled: true}}
  bearertokenauth: {{token: a b}}
  bearertokenauth/b: {{token: t, filename: f}}
  bearertokenauth/c:
  bearertokenauth/d: {{token: t, header: 'a b', scheme: 'a b'}}
  zpages:
{SERVICE}"
        ),
        &[
            "6:28: extensions::health_check::endpoint: expected host:port, such as 127.0.0.1:4317, or :4317 for all addresses, got \
             \"13133\"",
            "6:41: extensions::health_check::path: expected a path such as /, got \"health\"",
            "6:49: extensions::health_check::tls: needs cert_file and key_file, the certificate that senders are shown and its key",
            "7:20: extensions::health_check/b: unknown key \"enabled\", known: endpoint, path, response_body, tls",
            "8:28: extensions::bearertokenauth::token: holds a blank, a line end or another character \
             no token has",
            "9:3: extensions::bearertokenauth/b: token, tokens and filename exclude each other, keep one",
            "10:3: extensions::bearertokenauth/c: needs a token, tokens or a filename to read tokens from",
            "11:41: extensions::bearertokenauth/d::header: expected the name of a header",
            "11:56: extensions::bearertokenauth/d::scheme: expected a word such as Bearer, without the token",
            "12:3: extensions::zpages: unknown extension type \"zpages\": service::telemetry has metrics \
             and traces, remove it",
        ],
    );
}

#[test]
fn refuses_selectors_that_select_nothing() {
    refused_detection(
        "selector: {sorce: a, source: [a, ''],\n  com.splunk.index: b, body: c}",
        &[
            "1:37: processors::detection::selector: unknown key \"sorce\", did you mean \"source\"?",
            "1:59: processors::detection::selector::source: must not be empty",
            "2:3: processors::detection::selector: unknown key \"com.splunk.index\": write index",
            "2:24: processors::detection::selector: unknown key \"body\": what looks like an audit \
             event is one, whatever else is selected, remove it",
        ],
    );
}

/// A misspelled authenticator is an error: it must not disable authentication.
#[test]
fn refuses_authenticators_that_do_not_stand_at_a_door() {
    let at = "receivers::otlp::protocols::grpc::auth";
    for (auth, wanted) in [
        ("", format!("1:39: {at}: authenticator is required")),
        ("{}", format!("1:39: {at}: authenticator is required")),
        (
            "{authenticator: bearertokenauth/x}",
            format!(
                "1:61: {at}::authenticator: extension bearertokenauth/x is not defined, add it under extensions"
            ),
        ),
        (
            "{authenticator: bearertokenauth/idle}",
            format!(
                "1:61: {at}::authenticator: extension bearertokenauth/idle is not started, add it to service::extensions"
            ),
        ),
        (
            "{authenticator: health_check}",
            format!(
                "1:61: {at}::authenticator: health_check is no authenticator, name a bearertokenauth"
            ),
        ),
        (
            "{authenticator: beartokenauth}",
            format!(
                "1:61: {at}::authenticator: unknown extension type \"beartokenauth\", did you mean \"bearertokenauth\"?"
            ),
        ),
        (
            "{authenticator: bearertokenauth, request_params: [a]}",
            format!(
                "1:78: {at}: unknown key \"request_params\": the token is looked for in the header of the extension, remove it"
            ),
        ),
    ] {
        refused(
            &format!(
                "receivers: {{otlp: {{protocols: {{grpc: {{auth: {auth}}}}}}}}}
extensions: {{health_check: , bearertokenauth: {{token: t}}, bearertokenauth/idle: {{token: t}}}}
{DETECTION}{DEBUG}{}",
                SERVICE.replace(
                    "{pipelines",
                    "{extensions: [health_check, bearertokenauth], pipelines"
                )
            ),
            &[&wanted],
        );
    }
}

#[test]
fn refuses_variables_as_a_shell_writes_them() {
    const GENERAL: &str = "a $ before a word is literal here, write ${env:NAME} for an environment variable, or $$ for a dollar sign";
    let at = "exporters::splunk_hec";
    for (keys, wanted) in [
        (
            "index: $INDEX",
            format!(
                "2:10: {at}::index: $INDEX is literal here, write ${{env:INDEX}} for the environment variable, or $$INDEX for this text"
            ),
        ),
        (
            "timeout: $T",
            format!(
                "2:12: {at}::timeout: $T is literal here, write ${{env:T}} for the environment variable, or $$T for this text"
            ),
        ),
        (
            "headers: {X-A: $s3cret}",
            format!("2:18: {at}::headers::X-A: {GENERAL}"),
        ),
        (
            "headers: {X-A: Bearer $s3cret}",
            format!("2:18: {at}::headers::X-A: {GENERAL}"),
        ),
        (
            "headers: [{name: X-A, value: $s3cret}]",
            format!("2:32: {at}::headers::X-A: {GENERAL}"),
        ),
        (
            "tls: {ca_file: $HOME/ca.pem}",
            format!("2:18: {at}::tls::ca_file: {GENERAL}"),
        ),
        (
            "tls: {cert_file: c, key_pem: $s3cret}",
            format!("2:32: {at}::tls::key_pem: {GENERAL}"),
        ),
    ] {
        let keyless = keys.contains("key_pem");
        let wanted = [wanted];
        let mut wanted: Vec<_> = wanted.iter().map(String::as_str).collect();
        if keyless {
            wanted.insert(
                0,
                "2:3: exporters::splunk_hec::tls: a client certificate needs its key, add key_file",
            );
        }
        refused_hec(keys, &wanted);
    }
    for hec in [
        "token: $s3cret, endpoint: 'http://a'",
        "token: '$file:/s3cret', endpoint: 'http://a'",
    ] {
        let service = SERVICE.replace("debug", "splunk_hec");
        let text = format!("exporters: {{splunk_hec: {{{hec}}}}}\n{OTLP}{DETECTION}{service}");
        refused(&text, &[&format!("1:33: {at}::token: {GENERAL}")]);
    }
    refused(
        &format!(
            "exporters: {{splunk_hec: {{token: t, endpoint: 'https://$HOST:8088'}}}}\n{OTLP}{DETECTION}{}",
            SERVICE.replace("debug", "splunk_hec")
        ),
        &[&format!("1:46: {at}::endpoint: {GENERAL}")],
    );
    refused(
        &format!(
            "extensions: {{bearertokenauth: {{tokens: [a, $s3cret]}}}}\n{OTLP}{DETECTION}{DEBUG}{SERVICE}"
        ),
        &[&format!(
            "1:44: extensions::bearertokenauth::tokens: {GENERAL}"
        )],
    );
    refused_detection(
        "cluster: $CLUSTER",
        &[
            "1:35: processors::detection::cluster: $CLUSTER is literal here, write ${env:CLUSTER} for the environment variable, or $$CLUSTER for this text",
        ],
    );
}

#[test]
fn refuses_endpoints_of_hec_and_otlp_that_take_something_else() {
    let hec = |path: &str| {
        format!(
            "exporters: {{splunk_hec: {{token: t, endpoint: 'https://a:8088{path}'}}}}\n{OTLP}{DETECTION}{}",
            SERVICE.replace("debug", "splunk_hec")
        )
    };
    for (path, wanted) in [
        (
            "/services/collector/raw",
            "raw, which takes lines of text, and findings are events",
        ),
        (
            "/services/collector/raw/1.0/",
            "raw, which takes lines of text, and findings are events",
        ),
        (
            "/services/collector/ack",
            "ack, which only answers what was indexed; ack::enabled asks there by itself",
        ),
        (
            "/services/collector/health",
            "health, which only says whether HEC is well; health_path names it",
        ),
    ] {
        refused(
            &hec(path),
            &[&format!(
                "1:46: exporters::splunk_hec::endpoint: ends in /{wanted}: end it with /services/collector, or with the port"
            )],
        );
    }
    for good in [
        "",
        "/",
        "/services/collector/event",
        "/services/collector/event/1.0",
    ] {
        parse("a.yaml", &hec(good), &env).unwrap();
    }
    let otlp = |keys: &str| {
        format!(
            "exporters: {{otlp_http: {{{keys}}}}}\n{OTLP}{DETECTION}{}",
            SERVICE.replace("debug", "otlp_http")
        )
    };
    refused(
        &otlp("endpoint: 'https://a/v1/logs'"),
        &[
            "1:35: exporters::otlp_http::endpoint: ends in /v1/logs, which is added to it: leave that out, or write logs_endpoint",
        ],
    );
    refused(
        &otlp("logs_endpoint: 'https://a/v1/traces/'"),
        &[
            "1:40: exporters::otlp_http::logs_endpoint: findings are logs, which this path does not take: logs_endpoint ends in /v1/logs",
        ],
    );
}

#[test]
fn refuses_to_trust_everybody() {
    let wanted = "1:26: processors::detection::trusted_proxies: covers every address: each would be believed to be a proxy, and the leftmost claim in sourceIPs would be counted, which a client writes; list your proxies alone, or set allow_all: true";
    for proxies in [
        "0.0.0.0/0",
        "'::/0'",
        "'::ffff:0:0/96'",
        "[10.0.0.0/8, 0.0.0.0/1, 128.0.0.0/1]",
        "'2000::/3'",
    ] {
        refused_detection(&format!("trusted_proxies: {proxies}"), &[wanted]);
        let allowed = format!(
            "processors: {{detection: {{trusted_proxies: {proxies}, allow_all: true}}}}\n{OTLP}{DEBUG}{SERVICE}"
        );
        parse("a.yaml", &allowed, &env).unwrap();
    }
    refused_detection(
        "semantics: escu, allow_all: true",
        &[
            "1:43: processors::detection::allow_all: is not valid with semantics: escu, remove it or set semantics: native",
        ],
    );
}

#[test]
fn refuses_inline_certificates_and_keys_that_can_never_work() {
    let ((cert, key), (_, other)) = (identity(|_| {}), identity(|_| {}));
    let (expired, its_key) = identity(|params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let quoted = |pem: &str| serde_json::Value::from(pem).to_string();
    for (cert, key, wanted) in [
        (
            &cert as &str,
            "s3cret",
            "key_pem: holds no unencrypted private key in PEM (BEGIN PRIVATE KEY)",
        ),
        (
            &cert,
            encrypted,
            "key_pem: is encrypted, and there is no key for its password: write what \"openssl pkey -in KEY\" prints",
        ),
        (
            &cert,
            &other,
            "key_pem: is not the key of the first certificate in cert_pem",
        ),
        (
            &key,
            &key,
            "cert_pem: holds no certificate in PEM (BEGIN CERTIFICATE)",
        ),
        (
            &expired,
            &its_key,
            "cert_pem: expired at 2020-01-01T00:00:00Z, renew it",
        ),
    ] {
        let tls = format!("{{cert_pem: {}, key_pem: {}}}", quoted(cert), quoted(key));
        for (section, text) in [
            (
                "receivers::otlp::protocols::grpc::tls",
                format!(
                    "receivers: {{otlp: {{protocols: {{grpc: {{tls: {tls}}}}}}}}}\n{DETECTION}{DEBUG}{SERVICE}"
                ),
            ),
            (
                "exporters::splunk_hec::tls",
                format!(
                    "exporters: {{splunk_hec: {{token: t, endpoint: 'https://a', tls: {tls}}}}}\n{OTLP}{DETECTION}{}",
                    SERVICE.replace("debug", "splunk_hec")
                ),
            ),
        ] {
            let error = parse("a.yaml", &text, &env).unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("{section}::{wanted}")) && error.lines().count() == 1,
                "{error}\n{wanted}"
            );
        }
    }
    refused_hec(
        "tls: {ca_pem: s3cret}",
        &[
            "2:9: exporters::splunk_hec::tls::ca_pem: holds no certificate in PEM (BEGIN CERTIFICATE)",
        ],
    );
}

#[test]
fn refuses_exclusions_that_cannot_be_meant() {
    let at = "processors::detection::exclude";
    for (keys, wanted) in [
        ("exclude: 7", "1:35: AT: expected a list"),
        (
            "exclude: [{cidr: 10.0.0.0/8}]",
            "1:36: AT: name is required",
        ),
        (
            "exclude: [{name: a}]",
            "1:36: AT: needs a condition: cidr, path, user_agent, user or code",
        ),
        (
            "exclude: [{name: a, paths: /a, code: 401}]",
            "1:46: AT: unknown key \"paths\": write path",
        ),
        (
            "exclude: [{name: a, cidr: 10.0.0.1/8}]",
            "1:52: AT::cidr: 10.0.0.1/8 has bits set behind the prefix, did you mean 10.0.0.0/8?",
        ),
        (
            "exclude: [{name: a, code: 99}]",
            "1:52: AT::code: expected a status code from 100 to 599, got \"99\"",
        ),
        (
            "exclude: [{name: a, code: 401, expires: soon}]",
            "1:66: AT::expires: expected a time such as 2027-01-31T00:00:00Z, got \"soon\"",
        ),
        (
            "exclude: [{name: a, code: 401}, {name: a, code: 403}]",
            "1:26: AT: has two entries named \"a\", rename one",
        ),
        (
            "semantics: escu, exclude: [{name: a, code: 403}]",
            "1:43: AT: \"a\" applies to scanning, which is not valid with semantics: escu: name rules in applies_to, or use filter",
        ),
        (
            "scanning: false, exclude: [{name: a, code: 403}]",
            "1:43: AT: \"a\" applies to scanning, which is not valid with scanning: false: name rules in applies_to, or use filter",
        ),
    ] {
        refused_detection(keys, &[&wanted.replace("AT", at)]);
    }
    let long = "x".repeat(65);
    refused_detection(
        &format!("exclude: [{{name: {long}, code: 401}}]"),
        &[&format!(
            "1:36: {at}: name has more than 64 bytes or a control character, write a shorter one"
        )],
    );
}

#[test]
fn refuses_filters_that_cannot_be_meant() {
    let at = "processors::detection";
    for (keys, wanted) in [
        (
            "filter: finding.scr_ip == 'a'",
            "1:34: AT::filter: character 8: unknown field \"scr_ip\", did you mean \"src_ip\"?",
        ),
        (
            "filter: finding.count",
            "1:34: AT::filter: character 8: a filter needs true or false, this is a number",
        ),
        (
            "filter_all: true",
            "1:26: AT::filter_all: is not valid without a filter, remove it or set filter",
        ),
        (
            "threshold_401: 5, codes: 403",
            "1:26: AT::threshold_401: is not valid when codes has no 401, remove it or add 401 to codes",
        ),
        (
            "semantics: escu, follow_up: 1h",
            "1:43: AT::follow_up: is not valid with semantics: escu, remove it or set semantics: native",
        ),
        (
            "semantics: escu, threshold_401: 9",
            "1:43: AT::threshold_401: is not valid with semantics: escu, remove it or set semantics: native",
        ),
        (
            "semantics: escu, anonymous_success: true",
            "1:43: AT::anonymous_success: is not valid with semantics: escu, remove it or set semantics: native",
        ),
    ] {
        refused_detection(keys, &[&wanted.replace("AT", at)]);
    }
    // None, so that a variable may leave it out.
    for none in ["filter: ''", "filter: ", "exclude: []", "exclude: "] {
        let text = format!("processors: {{detection: {{{none}}}}}\n{OTLP}{DEBUG}{SERVICE}");
        let config = parse("a.yaml", &text, &env).unwrap();
        let detection = config.processors.values().next().unwrap();
        assert!(detection.filter.is_none() && detection.exclude.is_empty());
    }
}
