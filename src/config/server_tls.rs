//! TLS of what is listened on: its settings, and what must hold.
use std::{path::PathBuf, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    forms::{Form, OptionalPath, Own, Time},
    hints::ABSENT,
    print::REDACTED,
    read::Section,
    settings::{Shown, settings},
};
use crate::tls::{
    Pem, Version,
    inline::{self, Problem},
    server::Config,
};

const DAY: Duration = Duration::from_hours(24);

/// What the reference file shows where the keys are those of another section.
pub(crate) const EXAMPLE: &str =
    "{cert_file: /etc/auditwatch/tls.crt, key_file: /etc/auditwatch/tls.key}";

const VERSION: Own<Version> = Own {
    form: "1.2 or 1.3",
    read: version,
    text: |version| version_text(*version),
};

const PEM: Own<Option<SecretString>> = Own {
    form: "PEM",
    read: |section, key| {
        let text = section.value(key)?.text;
        Some(
            Some(text.into()).filter(|text: &SecretString| !text.expose_secret().trim().is_empty()),
        )
    },
    text: |_| String::new(),
};

settings! {
    /// `tls` of what is listened on, as it is written.
    pub(crate) struct Written {}
    SERVER_TLS {
        cert_file [Option<PathBuf> = None]: OptionalPath,
            "PEM file of the certificate that senders are shown, with those that lead to its authority \
             behind it.", required_or("cert_pem", "/etc/auditwatch/tls.crt"), place;
        cert_pem [Option<SecretString> = None]: PEM, "The same as text.", secret;
        key_file [Option<PathBuf> = None]: OptionalPath, "PEM file of its key, not encrypted.",
            required_or("key_pem", "/etc/auditwatch/tls.key"), place;
        key_pem [Option<SecretString> = None]: PEM, "The same as text.", secret;
        client_ca_file [Option<PathBuf> = None]: OptionalPath,
            "PEM file of authorities: senders must then show a certificate of one of them.", place;
        min_version [Version = Version::Tls12]: VERSION, "The oldest version that is spoken.";
        max_version [Version = Version::Tls13]: VERSION, "The newest.";
        reload_interval [Duration = Duration::ZERO]: Time(Duration::ZERO..=DAY),
            "After this long the files are read again by the next connection; 0: never. If they cannot \
             be used then, the log says so and those before stay.";
    }
    hints {
        "client_ca_file_reload": Remove("reload_interval reads client_ca_file again too");
        "ca_file": Use("that is for clients, client_ca_file asks senders for a certificate");
        "ca_pem": Use("that is for clients, client_ca_file asks senders for a certificate");
        "client_ca_pem": Use("not available, use client_ca_file");
        "include_system_ca_certs_pool":
            Use("that is for clients, client_ca_file asks senders for a certificate");
        "insecure": Use("that is for clients; without tls there is none"), kept ["false"];
        "insecure_skip_verify":
            Use("that is for clients; client_ca_file says whether senders are asked for a certificate");
        "server_name_override": Remove("that is for clients");
        "include_insecure_cipher_suites":
            Remove("only secure cipher suites are spoken"), kept ["false"];
        "cipher_suites":
            Remove("those of tls 1.3, and ECDHE with AES-GCM or ChaCha20 of tls 1.2, are spoken");
        "curve_preferences": Remove("X25519MLKEM768, X25519, P-256 and P-384 are spoken");
        "tpm": Remove(ABSENT);
    }
}

/// `tls` of something that is listened on; `None` when it is not there.
pub(crate) struct ServerTls;

impl Form for ServerTls {
    type Value = Option<Config>;

    fn read(&self, section: &Section<'_>, _: &'static str, slot: &mut Self::Value) {
        *slot = server_tls(section);
    }

    fn describe(&self) -> String {
        String::new()
    }

    fn shown(&self, _: &Self::Value) -> Shown {
        Shown::Keys(SERVER_TLS.entries(&Written::default()))
    }
}

fn server_tls(parent: &Section<'_>) -> Option<Config> {
    // Nothing behind the key is not the same as no key: who wrote it wants TLS.
    let section = parent.place("tls")?.section(&SERVER_TLS.table);
    let written = SERVER_TLS.of(&section);
    let cert = pem(
        &section,
        "cert_file",
        written.cert_file,
        "cert_pem",
        written.cert_pem,
    );
    let key = pem(
        &section,
        "key_file",
        written.key_file,
        "key_pem",
        written.key_pem,
    );
    match (&cert, &key) {
        (None, None) => section.fail(
            "needs cert_file and key_file, the certificate that senders are shown and its key",
        ),
        (Some(_), None) => section.fail("a certificate needs its key, add key_file"),
        (None, Some(_)) => section.fail("a key needs its certificate, add cert_file"),
        (Some(_), Some(_)) => check_identity(&section, cert.as_ref(), key.as_ref()),
    }
    if written.min_version > written.max_version {
        section.fail("min_version is above max_version, no version is left");
    }
    Some(Config {
        cert: cert?,
        key: key?,
        client_ca_file: written.client_ca_file,
        min_version: written.min_version,
        max_version: written.max_version,
        reload_interval: Some(written.reload_interval).filter(|interval| !interval.is_zero()),
    })
}

fn pem(
    section: &Section<'_>,
    file: &str,
    path: Option<PathBuf>,
    text: &str,
    inline: Option<SecretString>,
) -> Option<Pem> {
    if path.is_some() && inline.is_some() {
        section.fail(format_args!(
            "{file} and {text} exclude each other, keep one"
        ));
    }
    path.map(Pem::File).or_else(|| inline.map(Pem::Text))
}

/// Says what is wrong with a certificate and key in the configuration itself. Files are
/// looked at when it starts, where they are.
pub(super) fn check_identity(section: &Section<'_>, cert: Option<&Pem>, key: Option<&Pem>) {
    report(section, inline::check_identity(written(cert), written(key)));
}

/// The same of authorities.
pub(super) fn check_authorities(section: &Section<'_>, ca: Option<&Pem>) {
    report(section, inline::check_authorities(written(ca)));
}

/// A text that was written, and not what `print-config` shows instead of one: what that prints is
/// to be read again.
fn written(pem: Option<&Pem>) -> Option<&Pem> {
    pem.filter(|pem| !matches!(pem, Pem::Text(text) if text.expose_secret() == REDACTED))
}

fn report(section: &Section<'_>, checked: Result<(), Problem>) {
    if let Err((key, why)) = checked
        && let Some(place) = section.place(key)
    {
        place.fail_key(why);
    }
}

fn version(section: &Section<'_>, key: &'static str) -> Option<Version> {
    let value = section.value(key)?;
    match value.text.as_str() {
        // As in the Collector, where an empty text is the default.
        "" => None,
        "1.2" => Some(Version::Tls12),
        "1.3" => Some(Version::Tls13),
        "1.0" | "1.1" => {
            value.expected("tls 1.0 and 1.1 are broken and not spoken, expected 1.2 or 1.3");
            None
        }
        _ => {
            value.expected("expected 1.2 or 1.3");
            None
        }
    }
}

/// A version as YAML.
pub(crate) fn version_text(version: Version) -> String {
    match version {
        Version::Tls12 => "\"1.2\"",
        Version::Tls13 => "\"1.3\"",
    }
    .to_owned()
}
