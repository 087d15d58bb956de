//! TLS of receivers and exporters, under the key names of the Collector's `configtls`.
//!
//! What both sides share: where PEM comes from, which versions are spoken, and the errors for what
//! cannot be used. No message holds any of a key.

pub mod advice;
pub mod client;
pub mod inline;
pub mod server;

use std::{path::PathBuf, sync::Arc};

use rustls::{
    SupportedProtocolVersion,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::{TLS12, TLS13},
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::visible;

/// Where certificates or a key come from.
#[derive(Clone, Debug)]
pub enum Pem {
    /// `..._file`: a file.
    File(PathBuf),
    /// `..._pem`: the PEM itself.
    Text(SecretString),
}

/// A version of TLS, as `min_version` and `max_version` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `1.2`, the oldest that is spoken.
    Tls12,
    /// `1.3`.
    Tls13,
}

/// Why TLS cannot be set up. Holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("tls::{key}: cannot read {}: {why}", visible::path(.path))]
    Read {
        /// The setting that names it.
        key: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// Why it cannot be read. Part of the message, and so no source that is printed behind it.
        why: std::io::Error,
    },
    /// A file or text does not hold what it should.
    #[error("tls::{key}: {place} holds no {wanted} in PEM (BEGIN {begin})")]
    Nothing {
        /// The setting that names it.
        key: &'static str,
        /// The file, or "the text".
        place: String,
        /// What was looked for.
        wanted: &'static str,
        /// How it would begin.
        begin: &'static str,
    },
    /// What there is does not fit together, or not what is asked for.
    #[error("tls: {0}")]
    Unfit(String),
}

impl Pem {
    /// Where it comes from, for messages.
    pub fn place(&self) -> String {
        match self {
            Self::File(path) => visible::path(path).to_string(),
            Self::Text(_) => "the text".to_owned(),
        }
    }

    fn read(&self, key: &'static str) -> Result<(Vec<u8>, String), Error> {
        match self {
            Self::File(path) => match std::fs::read(path) {
                Ok(bytes) => Ok((bytes, self.place())),
                Err(why) => Err(Error::Read {
                    key,
                    path: path.clone(),
                    why,
                }),
            },
            Self::Text(text) => Ok((text.expose_secret().as_bytes().to_vec(), self.place())),
        }
    }

    /// The certificates of a setting, at least one.
    ///
    /// # Errors
    /// When they cannot be read, or there are none.
    pub fn certificates(&self, key: &'static str) -> Result<Vec<CertificateDer<'static>>, Error> {
        let (bytes, place) = self.read(key)?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            _ => Err(Error::Nothing {
                key,
                place,
                wanted: "certificate",
                begin: "CERTIFICATE",
            }),
        }
    }

    /// The private key of a setting.
    ///
    /// # Errors
    /// When it cannot be read, or there is none.
    pub fn private_key(&self, key: &'static str) -> Result<PrivateKeyDer<'static>, Error> {
        let (bytes, place) = self.read(key)?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| Error::Nothing {
            key,
            place,
            wanted: "unencrypted private key",
            begin: "PRIVATE KEY",
        })
    }
}

/// The versions from `min` to `max`, newest first.
pub fn versions(min: Version, max: Version) -> Vec<&'static SupportedProtocolVersion> {
    [(Version::Tls13, &TLS13), (Version::Tls12, &TLS12)]
        .into_iter()
        .filter(|(version, _)| (min..=max).contains(version))
        .map(|(_, supported)| supported)
        .collect()
}

/// Makes it the provider of the process, for libraries that ask for that one.
pub fn install() {
    // An earlier caller installed the same.
    let _already_there = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
