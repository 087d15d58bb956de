//! TLS of what connects to us: our certificate, the versions, and who may connect.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    AlertDescription, CertificateError, InconsistentKeys, InvalidMessage, PeerIncompatible,
    RootCertStore, ServerConfig,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
    server::{ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Error, Pem, Version, advice::cause, provider, versions};
use crate::{
    clock,
    reload::{Reloaded, Source},
    visible,
};

/// Settings of `tls` of something that is listened on.
#[derive(Clone, Debug)]
pub struct Config {
    /// `cert_file` or `cert_pem`: our certificate, and behind it those that lead to its authority.
    pub cert: Pem,
    /// `key_file` or `key_pem`: its key.
    pub key: Pem,
    /// `client_ca_file`: who connects must show a certificate of one of these authorities.
    pub client_ca_file: Option<PathBuf>,
    /// `min_version`: the oldest version that is spoken.
    pub min_version: Version,
    /// `max_version`: the newest.
    pub max_version: Version,
    /// `reload_interval`: after so long files are read again; `None`: never.
    pub reload_interval: Option<Duration>,
}

/// Makes TLS of connections. Clones share what was read.
#[derive(Clone, Debug)]
pub struct Acceptor(Reloaded<Files>);

/// The files of a [`Config`].
struct Files {
    config: Config,
    protocols: &'static [&'static [u8]],
}

/// What is made of them.
struct Loaded {
    tls: Arc<ServerConfig>,
    chain: Vec<CertificateDer<'static>>,
    authorities: Vec<CertificateDer<'static>>,
}

/// The key follows from the certificate.
impl PartialEq for Loaded {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain && self.authorities == other.authorities
    }
}

impl Source for Files {
    type Value = Loaded;
    type Error = Error;

    const WHAT: &'static str = "certificates";

    fn place(&self) -> String {
        self.config.cert.place()
    }

    fn interval(&self) -> Option<Duration> {
        self.config.reload_interval
    }

    fn read(&self) -> Result<Loaded, Error> {
        load(&self.config, self.protocols)
    }
}

impl Acceptor {
    /// Reads certificates and key. `protocols` are offered by ALPN, the first is liked best.
    ///
    /// # Errors
    /// When something cannot be read, has expired, or does not fit together.
    pub fn new(config: &Config, protocols: &'static [&'static [u8]]) -> Result<Self, Error> {
        let config = config.clone();
        Ok(Self(Reloaded::new(Files { config, protocols })?))
    }

    /// Shakes hands, with certificates that are read again when it is time for that. The time for
    /// the handshake is the caller's affair.
    ///
    /// # Errors
    /// When the other side speaks no TLS, does not like ours, or may not connect.
    pub async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let loaded = self.0.current().await;
        TlsAcceptor::from(Arc::clone(&loaded.tls))
            .accept(stream)
            .await
    }
}

fn load(config: &Config, protocols: &[&[u8]]) -> Result<Loaded, Error> {
    let provider = provider();
    let cert = setting(&config.cert, "cert_file", "cert_pem");
    let key = setting(&config.key, "key_file", "key_pem");
    let chain = config.cert.certificates(cert)?;
    check_time(
        &chain,
        &provider,
        &format!("{cert} {}", config.cert.place()),
    )?;
    let private = config.key.private_key(key)?;
    let unfit = |error: rustls::Error| Error::Unfit(error.to_string());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(config.min_version, config.max_version))
        .map_err(unfit)?;
    let mut authorities = Vec::new();
    let builder = match &config.client_ca_file {
        Some(path) => {
            authorities = Pem::File(path.clone()).certificates("client_ca_file")?;
            builder.with_client_cert_verifier(verifier(path, &authorities, provider)?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut tls =
        builder
            .with_single_cert(chain.clone(), private)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    Error::Unfit(format!(
                        "{key} {} is not the key of the first certificate in {cert} {}",
                        config.key.place(),
                        config.cert.place()
                    ))
                }
                error => Error::Unfit(format!(
                    "{cert} {} and {key} {} cannot be used: {error}",
                    config.cert.place(),
                    config.key.place()
                )),
            })?;
    tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(Loaded {
        tls: Arc::new(tls),
        chain,
        authorities,
    })
}

fn setting(pem: &Pem, file: &'static str, text: &'static str) -> &'static str {
    match pem {
        Pem::File(_) => file,
        Pem::Text(_) => text,
    }
}

/// Whether a certificate is valid now. Otherwise no sender that checks it would connect, and the
/// operator of this side is to learn that, not only that of the sender.
fn check_time(
    chain: &[CertificateDer<'static>],
    provider: &CryptoProvider,
    place: &str,
) -> Result<(), Error> {
    match untimely(chain, provider) {
        Some(CertificateError::ExpiredContext { not_after, .. }) => Err(Error::Unfit(format!(
            "the certificate in {place} expired at {}, renew it",
            day(not_after)
        ))),
        Some(CertificateError::NotValidYetContext { not_before, .. }) => {
            Err(Error::Unfit(format!(
                "the certificate in {place} is not valid before {}, look at the clock of this machine",
                day(not_before)
            )))
        }
        _ => Ok(()),
    }
}

/// When the first certificate expired, if it has.
pub(super) fn expired(chain: &[CertificateDer<'static>]) -> Option<String> {
    match untimely(chain, &provider()) {
        Some(CertificateError::ExpiredContext { not_after, .. }) => Some(day(not_after)),
        _ => None,
    }
}

fn day(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "?".to_owned(), |at| at.to_string())
}

/// What is wrong with the first certificate now; its time is looked at before all else.
fn untimely(
    chain: &[CertificateDer<'static>],
    provider: &CryptoProvider,
) -> Option<CertificateError> {
    let parsed = ParsedCertificate::try_from(chain.first()?).ok()?;
    let now = UnixTime::since_unix_epoch(Duration::from_nanos(clock::unix_nanos()));
    // Without authorities nothing is good, but the time is what is looked at first.
    let judged = verify_server_cert_signed_by_trust_anchor(
        &parsed,
        &RootCertStore::empty(),
        &[],
        now,
        provider.signature_verification_algorithms.all,
    );
    match judged {
        Err(rustls::Error::InvalidCertificate(error)) => Some(error),
        _ => None,
    }
}

/// Asks who connects for a certificate of one of these authorities.
fn verifier(
    path: &std::path::Path,
    authorities: &[CertificateDer<'static>],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let unfit = |error: &dyn std::fmt::Display| {
        Error::Unfit(format!(
            "client_ca_file {} cannot be used: {error}",
            visible::path(path)
        ))
    };
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots
            .add(authority.clone())
            .map_err(|error| unfit(&error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| unfit(&error))
}

/// Why a handshake failed and what to do, for the log. `None` when the other side only left, as
/// those do that look whether a port is open.
pub fn why(error: &io::Error) -> Option<String> {
    let Some(inner) = cause::<rustls::Error>(error) else {
        let left = [
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::BrokenPipe,
        ];
        return (!left.contains(&error.kind())).then(|| error.to_string());
    };
    Some(match inner {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what came is no TLS, turn tls on at the sender (https://, no insecure: true)"
                .to_owned()
        }
        rustls::Error::NoCertificatesPresented => {
            "the sender shows no certificate, which client_ca_file asks for: \
             set its tls::cert_file and tls::key_file"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(error) => {
            format!("the certificate of the sender is not accepted by client_ca_file: {error}")
        }
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired),
        ) => format!(
            "the sender does not accept our certificate ({alert:?}), set its tls::ca_file and ask \
             for a name that the certificate holds"
        ),
        rustls::Error::PeerIncompatible(
            PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => {
            "the sender offers no version of TLS that min_version and max_version allow".to_owned()
        }
        error => error.to_string(),
    })
}
