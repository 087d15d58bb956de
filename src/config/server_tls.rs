//! TLS of what is listened on: keys, defaults and what must hold.
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::{keys, print::REDACTED, read::Section};
use crate::tls::{
    Pem, Version,
    inline::{self, Problem},
    server::Config,
};

/// Reads `tls` of a section; `None` when it is not there.
pub(crate) fn server_tls(parent: &Section<'_>) -> Option<Config> {
    // Nothing behind the key is not the same as no key: nobody who wrote it wants no TLS.
    let section = parent.place("tls")?.section(&keys::SERVER_TLS);
    let cert = pem(&section, "cert_file", "cert_pem");
    let key = pem(&section, "key_file", "key_pem");
    match (&cert, &key) {
        (None, None) => section.fail(
            "needs cert_file and key_file, the certificate that senders are shown and its key",
        ),
        (Some(_), None) => section.fail("a certificate needs its key, add key_file"),
        (None, Some(_)) => section.fail("a key needs its certificate, add cert_file"),
        (Some(_), Some(_)) => check_identity(&section, cert.as_ref(), key.as_ref()),
    }
    let min_version = version(&section, "min_version", Version::Tls12);
    let max_version = version(&section, "max_version", Version::Tls13);
    if min_version > max_version {
        section.fail("min_version is above max_version, no version is left");
    }
    let day = Duration::from_hours(24);
    let interval = section.duration("reload_interval", Duration::ZERO..=day, Duration::ZERO);
    Some(Config {
        cert: cert?,
        key: key?,
        client_ca_file: section.path("client_ca_file"),
        min_version,
        max_version,
        reload_interval: Some(interval).filter(|interval| !interval.is_zero()),
    })
}

fn pem(section: &Section<'_>, file: &str, text: &str) -> Option<Pem> {
    let path = section.path(file);
    let inline = section
        .value(text)
        .map(|value| value.text)
        .filter(|text| !text.trim().is_empty());
    if path.is_some() && inline.is_some() {
        section.fail(format_args!(
            "{file} and {text} exclude each other, keep one"
        ));
    }
    path.map(Pem::File)
        .or_else(|| inline.map(|text| Pem::Text(text.into())))
}

/// Says what is wrong with a certificate and key that stand in the configuration itself. Files are
/// looked at when it starts, where they are.
pub(super) fn check_identity(section: &Section<'_>, cert: Option<&Pem>, key: Option<&Pem>) {
    tell(section, inline::check_identity(written(cert), written(key)));
}

/// The same of authorities.
pub(super) fn check_authorities(section: &Section<'_>, ca: Option<&Pem>) {
    tell(section, inline::check_authorities(written(ca)));
}

/// A text that was written, and not what `print-config` shows instead of one: what that prints is
/// to be read again.
fn written(pem: Option<&Pem>) -> Option<&Pem> {
    pem.filter(|pem| !matches!(pem, Pem::Text(text) if text.expose_secret() == REDACTED))
}

fn tell(section: &Section<'_>, checked: Result<(), Problem>) {
    if let Err((key, why)) = checked
        && let Some(place) = section.place(key)
    {
        place.fail_key(why);
    }
}

fn version(section: &Section<'_>, key: &str, default: Version) -> Version {
    let Some(value) = section.value(key) else {
        return default;
    };
    match value.text.as_str() {
        "" => default,
        "1.2" => Version::Tls12,
        "1.3" => Version::Tls13,
        "1.0" | "1.1" => {
            value.expected("tls 1.0 and 1.1 are broken and not spoken, expected 1.2 or 1.3");
            default
        }
        _ => {
            value.expected("expected 1.2 or 1.3");
            default
        }
    }
}
