//! What exporters that speak over the network share: `tls` and `headers`.
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    read::Section,
    server_tls::{check_authorities, check_identity},
};
use crate::tls::{Pem, Version, client};

const VERSIONS: [(&str, Version); 2] = [("1.2", Version::Tls12), ("1.3", Version::Tls13)];

/// Headers that say how a request is to be read.
const FRAMING: [&str; 5] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "transfer-encoding",
];

/// `tls` of an exporter. `insecure` is a key only where `has_insecure` says so.
pub(crate) fn tls(section: &Section<'_>, has_insecure: bool) -> client::Config {
    let default = client::Config::default();
    let config = client::Config {
        insecure: has_insecure && section.boolean("insecure", false),
        ca: pem(section, "ca_file", "ca_pem"),
        include_system_ca_certs_pool: section.boolean("include_system_ca_certs_pool", false),
        insecure_skip_verify: section.boolean("insecure_skip_verify", false),
        server_name_override: server_name(section),
        cert: pem(section, "cert_file", "cert_pem"),
        key: pem(section, "key_file", "key_pem"),
        min_version: version(section, "min_version").unwrap_or(default.min_version),
        max_version: version(section, "max_version").unwrap_or(default.max_version),
    };
    match (&config.cert, &config.key) {
        (Some(_), None) => section.fail("a client certificate needs its key, add key_file"),
        (None, Some(_)) => section.fail("a key needs its client certificate, add cert_file"),
        _ => check_identity(section, config.cert.as_ref(), config.key.as_ref()),
    }
    check_authorities(section, config.ca.as_ref());
    if config.min_version > config.max_version {
        section.fail("min_version (1.3) must not be newer than max_version (1.2)");
    }
    config
}

/// PEM from a file, or as a text that no message shows.
fn pem(section: &Section<'_>, file: &str, text: &str) -> Option<Pem> {
    let path = section.path(file);
    let pem = section
        .value(text)
        .map(|value| value.text)
        .filter(|pem| !pem.is_empty());
    match (path, pem) {
        (Some(path), None) => Some(Pem::File(path)),
        (None, Some(pem)) => Some(Pem::Text(pem.into())),
        (None, None) => None,
        (Some(path), Some(_)) => {
            section.fail(format_args!(
                "{file} and {text} exclude each other, keep one"
            ));
            Some(Pem::File(path))
        }
    }
}

fn server_name(section: &Section<'_>) -> Option<String> {
    let value = section.value("server_name_override")?;
    if value.text.is_empty() {
        return None;
    }
    if !client::is_host_name(&value.text) {
        value.expected("expected a host name such as splunk.example.com");
        return None;
    }
    Some(value.text)
}

fn version(section: &Section<'_>, key: &str) -> Option<Version> {
    let value = section.value(key)?;
    let found = VERSIONS.iter().find(|(word, _)| *word == value.text);
    match value.text.as_str() {
        _ if found.is_some() => {}
        // As in the Collector, where an empty text is the default.
        "" => {}
        "1.0" | "1.1" => {
            value.expected("TLS before 1.2 is broken and not spoken, expected 1.2 or 1.3");
        }
        _ => value.expected("expected 1.2 or 1.3"),
    }
    found.map(|(_, version)| *version)
}

/// `headers`: a map of names and values that go with every request. No message shows a value.
/// Those of `taken` belong to the exporter, and those of framing to HTTP.
pub(crate) fn headers(section: &Section<'_>, taken: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(place) = section.get("headers") else {
        return headers;
    };
    for (key, place) in place.pairs() {
        let Ok(name) = HeaderName::try_from(key.as_str()) else {
            place.fail_name("holds a key that is no name of a header, expected name: value");
            continue;
        };
        if taken.contains(&name.as_str()) || FRAMING.contains(&name.as_str()) {
            place.fail_key("the exporter sets this header itself, remove it");
            continue;
        }
        let Some(value) = place.value() else { continue };
        let Ok(mut content) = HeaderValue::try_from(value.text.as_str()) else {
            value.fail("holds characters that no header can carry");
            continue;
        };
        if value.text.bytes().any(|byte| !byte.is_ascii()) {
            value.fail("holds characters that no header can carry");
        }
        content.set_sensitive(true);
        if headers.insert(name, content).is_some() {
            place.fail_key("is given twice, names of headers know no case");
        }
    }
    headers
}
