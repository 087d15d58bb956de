//! TLS of exporters: the Collector's `ClientConfig`, made a configuration of rustls.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
};
use rustls_platform_verifier::Verifier;

use super::{Error, Pem, Version, provider, versions};

/// `tls` of an exporter, under the Collector's key names.
#[derive(Clone, Debug)]
pub struct Config {
    /// `insecure`: no TLS at all. Where a URL says that itself, this is not read.
    pub insecure: bool,
    /// `ca_file` or `ca_pem`: the authorities to trust instead of the system's.
    pub ca: Option<Pem>,
    /// `include_system_ca_certs_pool`: trust the system's beside those.
    pub include_system_ca_certs_pool: bool,
    /// `insecure_skip_verify`: accept any certificate. For tests only.
    pub insecure_skip_verify: bool,
    /// `server_name_override`: the name to ask for and to find in the certificate, instead of the
    /// host of the endpoint. A host name, not an address.
    pub server_name_override: Option<String>,
    /// `cert_file` or `cert_pem`: the client's certificate, those of its issuers behind it.
    pub cert: Option<Pem>,
    /// `key_file` or `key_pem`: its private key.
    pub key: Option<Pem>,
    /// `min_version`: the oldest version spoken.
    pub min_version: Version,
    /// `max_version`: the newest.
    pub max_version: Version,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            insecure: false,
            ca: None,
            include_system_ca_certs_pool: false,
            insecure_skip_verify: false,
            server_name_override: None,
            cert: None,
            key: None,
            min_version: Version::Tls12,
            max_version: Version::Tls13,
        }
    }
}

impl Config {
    /// Reads every file and looks whether it can be used. Connects to nothing, and does not look
    /// for the system's certificates.
    ///
    /// # Errors
    /// The first setting that cannot be used, with its file.
    pub fn check(&self) -> Result<(), Error> {
        if self.insecure {
            return Ok(());
        }
        self.check_name()?;
        self.authorities()?;
        // Whose certificates are trusted does not matter to the key.
        self.with_identity(Arc::new(AnyCertificate(provider())))?;
        Ok(())
    }

    /// The configuration for rustls. No protocol of an application is chosen (ALPN).
    ///
    /// # Errors
    /// The first setting that cannot be used, with its file; or that this machine has no
    /// certificates and none were set.
    pub fn build(&self) -> Result<ClientConfig, Error> {
        self.check_name()?;
        let authorities = self.authorities()?;
        if self.insecure_skip_verify {
            return self.with_identity(Arc::new(AnyCertificate(provider())));
        }
        if let Some(authorities) = &authorities
            && !self.include_system_ca_certs_pool
        {
            let mut roots = RootCertStore::empty();
            for authority in authorities {
                roots.add(authority.clone()).map_err(|error| {
                    Error::Unfit(format!("an authority cannot be used: {error}"))
                })?;
            }
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            return match verifier {
                Ok(verifier) => self.with_identity(verifier),
                Err(error) => Err(Error::Unfit(error.to_string())),
            };
        }
        let system = Verifier::new_with_extra_roots(authorities.unwrap_or_default(), provider())
            .map_err(|error| {
                Error::Unfit(format!(
                    "{error}; if this machine has no certificates of its own, set tls::ca_file"
                ))
            })?;
        self.with_identity(Arc::new(system))
    }

    fn check_name(&self) -> Result<(), Error> {
        match &self.server_name_override {
            Some(name) if !is_host_name(name) => Err(Error::Unfit(
                "server_name_override is no host name".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    fn authorities(&self) -> Result<Option<Vec<CertificateDer<'static>>>, Error> {
        let key = named(self.ca.as_ref(), "ca_file", "ca_pem");
        self.ca
            .as_ref()
            .map(|pem| pem.certificates(key))
            .transpose()
    }

    fn identity(&self) -> Result<Option<Identity>, Error> {
        match (&self.cert, &self.key) {
            (None, None) => Ok(None),
            (Some(cert), Some(key)) => Ok(Some((
                cert.certificates(named(Some(cert), "cert_file", "cert_pem"))?,
                key.private_key(named(Some(key), "key_file", "key_pem"))?,
            ))),
            _ => Err(Error::Unfit(
                "a client certificate and its key go together, set both or neither".to_owned(),
            )),
        }
    }

    fn with_identity(&self, verifier: Arc<dyn ServerCertVerifier>) -> Result<ClientConfig, Error> {
        let versions = versions(self.min_version, self.max_version);
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions)
            .map_err(|error| {
                Error::Unfit(format!(
                    "no version to speak: {error}, check min_version and max_version"
                ))
            })?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let Some((chain, key)) = self.identity()? else {
            return Ok(builder.with_no_client_auth());
        };
        builder.with_client_auth_cert(chain, key).map_err(|error| {
            Error::Unfit(format!(
                "the client certificate and its key cannot be used together: {error}"
            ))
        })
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The name of the setting that was used.
fn named(pem: Option<&Pem>, file: &'static str, text: &'static str) -> &'static str {
    match pem {
        Some(Pem::Text(_)) => text,
        _ => file,
    }
}

/// Whether a name can be asked for in TLS. An address cannot.
pub fn is_host_name(name: &str) -> bool {
    matches!(ServerName::try_from(name), Ok(ServerName::DnsName(_)))
}

/// Accepts every certificate, but only from who holds its key, as Go does with
/// `InsecureSkipVerify`.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
