//! What to do about a connection that failed in TLS, by the type of its error.

use std::{error::Error, fmt, io};

use rustls::{AlertDescription, CertificateError, OtherError};

/// What an operator can do about a TLS error of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// The authority of the server's certificate is not trusted.
    TrustAuthority,
    /// The server uses the certificate of an authority as its own.
    AuthorityAsServer,
    /// The server's certificate holds another name.
    NameInCertificate,
    /// The server's certificate cannot be accepted for another reason, such as its age.
    OtherCertificate,
    /// There is no version of TLS that both sides speak.
    Versions,
    /// The server may want a client certificate.
    ClientCertificate,
    /// The server does not accept the client certificate.
    RefusedClient,
    /// The server does not go by the name that was asked for.
    ServerName,
    /// The other side does not speak TLS.
    NoTls,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TrustAuthority => {
                "set tls::ca_file to the authority that signed the server's certificate"
            }
            Self::AuthorityAsServer => {
                "the server shows the certificate of an authority, give it one that is signed by it"
            }
            Self::NameInCertificate => {
                "set endpoint or tls::server_name_override to a name that the certificate holds"
            }
            Self::OtherCertificate => "the server needs another certificate",
            Self::Versions => {
                "the server speaks none of the versions from tls::min_version to tls::max_version"
            }
            Self::ClientCertificate => {
                "the server may want a client certificate, set tls::cert_file and tls::key_file"
            }
            Self::RefusedClient => {
                "the server does not take the client certificate, check tls::cert_file"
            }
            Self::ServerName => {
                "the server may go by another name, set endpoint or tls::server_name_override to it"
            }
            Self::NoTls => "what answers there does not speak TLS",
        })
    }
}

impl Advice {
    /// What to do about an error of a connection; `None` where TLS had no part in it, or there is
    /// nothing to say.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        Some(match cause::<rustls::Error>(error)? {
            rustls::Error::InvalidCertificate(error) => Self::of_certificate(error),
            rustls::Error::AlertReceived(alert) => return Self::of_alert(*alert),
            rustls::Error::PeerIncompatible(_) => Self::Versions,
            rustls::Error::InvalidMessage(_) => Self::NoTls,
            _ => return None,
        })
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::TrustAuthority
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::NameInCertificate
            }
            CertificateError::Other(OtherError(error)) => match cause::<webpki::Error>(&**error) {
                Some(webpki::Error::CaUsedAsEndEntity) => Self::AuthorityAsServer,
                _ => Self::OtherCertificate,
            },
            _ => Self::OtherCertificate,
        }
    }

    fn of_alert(alert: AlertDescription) -> Option<Self> {
        Some(match alert {
            AlertDescription::ProtocolVersion => Self::Versions,
            AlertDescription::HandshakeFailure | AlertDescription::CertificateRequired => {
                Self::ClientCertificate
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::DecryptError
            | AlertDescription::CertificateUnknown => Self::RefusedClient,
            AlertDescription::UnrecognisedName | AlertDescription::AccessDenied => Self::ServerName,
            _ => return None,
        })
    }
}

/// The first cause of an error that is of this type, itself included.
pub(super) fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>() {
            // Its source is that of what it holds.
            Some(outer) => outer.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{InvalidMessage, PeerIncompatible, pki_types::ServerName};

    use super::*;

    #[test]
    fn errors_of_a_handshake_come_with_what_to_do() {
        let certificate = rustls::Error::InvalidCertificate;
        let other = |error| certificate(CertificateError::Other(OtherError(Arc::new(error))));
        for (error, wanted) in [
            (
                certificate(CertificateError::UnknownIssuer),
                Some(Advice::TrustAuthority),
            ),
            (
                other(webpki::Error::CaUsedAsEndEntity),
                Some(Advice::AuthorityAsServer),
            ),
            (
                other(webpki::Error::MaximumPathDepthExceeded),
                Some(Advice::OtherCertificate),
            ),
            (
                certificate(CertificateError::NotValidForNameContext {
                    expected: ServerName::try_from("a.example").unwrap(),
                    presented: Vec::new(),
                }),
                Some(Advice::NameInCertificate),
            ),
            (
                certificate(CertificateError::Expired),
                Some(Advice::OtherCertificate),
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::ProtocolVersion),
                Some(Advice::Versions),
            ),
            (
                rustls::Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered),
                Some(Advice::Versions),
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::CertificateRequired),
                Some(Advice::ClientCertificate),
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::UnknownCA),
                Some(Advice::RefusedClient),
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::UnrecognisedName),
                Some(Advice::ServerName),
            ),
            (
                rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType),
                Some(Advice::NoTls),
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::InternalError),
                None,
            ),
        ] {
            // As a connector hands it on: inside errors of the operating system.
            let inner = io::Error::new(io::ErrorKind::InvalidData, error.clone());
            let outer = io::Error::other(inner);
            assert_eq!(Advice::of(&outer), wanted, "{error}");
        }
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(Advice::of(&refused), None);
    }
}
