//! What of TLS stands in the configuration itself: no other machine can make any better of it.

use rustls::{InconsistentKeys, RootCertStore, pki_types::CertificateDer, sign::CertifiedKey};
use secrecy::ExposeSecret as _;

use super::{Error, Pem, provider, server::expired};

/// The setting and what is wrong with it.
pub type Problem = (&'static str, String);

/// Checks a certificate and its key, as far as they are texts (`cert_pem`, `key_pem`).
///
/// # Errors
/// No PEM, a key that is encrypted or of another certificate, a certificate that has expired.
pub fn check_identity(cert: Option<&Pem>, key: Option<&Pem>) -> Result<(), Problem> {
    let chain = match cert {
        Some(cert @ Pem::Text(_)) => Some(certificates(cert, "cert_pem")?),
        _ => None,
    };
    if let Some(at) = chain.as_deref().and_then(expired) {
        return Err(("cert_pem", format!("expired at {at}, renew it")));
    }
    let Some(key @ Pem::Text(text)) = key else {
        return Ok(());
    };
    let of_key = |why: String| ("key_pem", why);
    let private = key.private_key("key_pem").map_err(|error| {
        of_key(if text.expose_secret().contains("ENCRYPTED") {
            "is encrypted, and there is no key for its password: \
             write what \"openssl pkey -in KEY\" prints"
                .to_owned()
        } else {
            words(&error)
        })
    })?;
    let unfit = |error: &dyn std::fmt::Display| of_key(format!("cannot be used: {error}"));
    let provider = provider();
    match chain {
        None => provider
            .key_provider
            .load_private_key(private)
            .map(drop)
            .map_err(|error| unfit(&error)),
        Some(chain) => match CertifiedKey::from_der(chain, private, &provider) {
            Ok(_) => Ok(()),
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(of_key(
                "is not the key of the first certificate in cert_pem".to_owned(),
            )),
            Err(error) => Err(unfit(&error)),
        },
    }
}

/// Checks authorities that are a text (`ca_pem`).
///
/// # Errors
/// When there is none in it, or one that cannot be used.
pub fn check_authorities(ca: Option<&Pem>) -> Result<(), Problem> {
    let Some(ca @ Pem::Text(_)) = ca else {
        return Ok(());
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates(ca, "ca_pem")? {
        roots
            .add(authority)
            .map_err(|error| ("ca_pem", format!("cannot be used: {error}")))?;
    }
    Ok(())
}

fn certificates(pem: &Pem, key: &'static str) -> Result<Vec<CertificateDer<'static>>, Problem> {
    pem.certificates(key).map_err(|error| (key, words(&error)))
}

/// An error without the name of the setting and of the text.
fn words(error: &Error) -> String {
    match error {
        Error::Nothing { wanted, begin, .. } => {
            format!("holds no {wanted} in PEM (BEGIN {begin})")
        }
        error => error.to_string(),
    }
}
