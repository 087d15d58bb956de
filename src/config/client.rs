//! What exporters that speak over the network share: `tls` and `headers`.
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    forms::{Boolean, Form, OptionalPath, Own, ReadBy},
    hints::ABSENT,
    read::Section,
    server_tls::{check_authorities, check_identity, version_text},
    settings::{Shown, settings},
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

/// PEM in a file, or in the configuration itself under the key beside it.
struct PemFile(&'static str);

impl Form for PemFile {
    type Value = Option<Pem>;

    fn read(&self, section: &Section<'_>, key: &'static str, slot: &mut Self::Value) {
        *slot = pem(section, key, self.0);
    }

    fn describe(&self) -> String {
        OptionalPath.describe()
    }

    fn shown(&self, _: &Self::Value) -> Shown {
        OptionalPath.shown(&None)
    }
}

const VERSION: Own<Version> = Own {
    form: "1.2 or 1.3",
    read: version,
    text: |version| version_text(*version),
};

const SERVER_NAME: Own<Option<String>> = Own {
    form: "host name",
    read: |section, _| Some(server_name(section)),
    text: |_| String::new(),
};

/// The keys of `tls` of an exporter, beside those that only some have.
macro_rules! client_tls {
    ($name:ident { $($own:tt)* } $($rest:tt)*) => {
        settings! {
            $name: client::Config {
                $($own)*
                ca_file => ca: PemFile("ca_pem"),
                    "PEM file of the authorities to trust instead of the system's.", place;
                ca_pem by ca_file: ReadBy("PEM"), "The same as a text. One of both.", secret;
                include_system_ca_certs_pool: Boolean, "Trust the system's authorities beside those.";
                insecure_skip_verify: Boolean, "Accept any certificate. For tests only.";
                cert_file => cert: PemFile("cert_pem"),
                    "PEM file of our own certificate, where the server wants one; its issuers behind \
                     it.", place;
                cert_pem by cert_file: ReadBy("PEM"), "The same as a text. One of both.", secret;
                key_file => key: PemFile("key_pem"), "PEM file of its private key.", place;
                key_pem by key_file: ReadBy("PEM"), "The same as a text. One of both.", secret;
                min_version: VERSION, "The oldest version spoken.";
                max_version: VERSION, "The newest.";
            }
            $($rest)*
            check tls_fits
        }
    };
}

client_tls! {
    TLS {
        server_name_override: SERVER_NAME,
            "The name to ask for in TLS and to find in the certificate, instead of the endpoint's host. \
             Proxies of the environment are not used then.";
    }
    hints {
        "insecure": Remove("the endpoint's http:// or https:// says it"), kept ["false"];
        "cipher_suites": Remove("only sound ones are spoken");
        "curve_preferences": Remove("only sound ones are spoken");
        "reload_interval": Remove(ABSENT);
        "tpm": Remove(ABSENT);
    }
}

client_tls! {
    OTLP_TLS {
        insecure: Boolean, "No TLS at all. With http:// before the endpoint it must be true.";
        server_name_override: SERVER_NAME,
            "The name to ask for in TLS and to find in the certificate, instead of the endpoint's host. \
             It is the authority of requests too.";
    }
    hints {
        "cipher_suites": Remove("only sound ones are spoken");
        "curve_preferences": Remove("only sound ones are spoken");
        "reload_interval": Remove(ABSENT);
        "tpm": Remove(ABSENT);
    }
}

fn tls_fits(section: &Section<'_>, config: &mut client::Config) {
    match (&config.cert, &config.key) {
        (Some(_), None) => section.fail("a client certificate needs its key, add key_file"),
        (None, Some(_)) => section.fail("a key needs its client certificate, add cert_file"),
        _ => check_identity(section, config.cert.as_ref(), config.key.as_ref()),
    }
    check_authorities(section, config.ca.as_ref());
    if config.min_version > config.max_version {
        section.fail("min_version (1.3) must not be newer than max_version (1.2)");
    }
    let others = config.ca.is_some()
        || config.cert.is_some()
        || config.key.is_some()
        || config.insecure_skip_verify
        || config.include_system_ca_certs_pool
        || config.server_name_override.is_some();
    if config.insecure && others {
        section.fail("insecure: true speaks no TLS, remove it or what is set beside it");
    }
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
            place.fail_key("is given twice, names of headers ignore case");
        }
    }
    headers
}
