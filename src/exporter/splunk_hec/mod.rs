//! Findings to Splunk, over its HTTP Event Collector (HEC).
//!
//! This file owns the connection. What is sent ([`event`], [`request`]) and what an answer means
//! ([`response`]) are pure functions beside it. Delivery is at least once: an answer that is lost
//! leaves open whether the events are in, so they are sent again, under the same finding ids.

mod config;
pub mod event;
pub mod request;
pub mod response;
mod risk;

pub use config::{Config, Entity, Format, Risk, TlsConfig};

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use reqwest::{
    Client, Url,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
};
use secrecy::{ExposeSecret as _, SecretString};

use super::{Exporter, Outcome};
use crate::{clock, detection::Finding};

/// Path of HEC where the endpoint names none.
const DEFAULT_PATH: &str = "/services/collector";

/// Why an exporter cannot be made of its settings. Never holds the token or the endpoint's query.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint is no URL that requests can be sent to.
    #[error("endpoint: {0}, expected one such as https://splunk.example.com:8088")]
    Endpoint(&'static str),
    /// The token cannot be sent.
    #[error("token: {0}")]
    Token(&'static str),
    /// Requests would never end.
    #[error("timeout: must be more than zero")]
    Timeout,
    /// The file of authorities cannot be read.
    #[error("tls::ca_file: cannot read {path}: {source}")]
    CaFile {
        /// Where it should be.
        path: PathBuf,
        /// Why it cannot be read.
        source: std::io::Error,
    },
    /// The file of authorities holds none.
    #[error("tls::ca_file: {path} holds no certificate, expected PEM with BEGIN CERTIFICATE")]
    NoCertificate {
        /// Where it is.
        path: PathBuf,
    },
    /// TLS cannot be set up.
    #[error("tls: {0}; if this machine has no certificates of its own, set tls::ca_file")]
    Tls(String),
}

/// The `splunk_hec` exporter.
pub struct SplunkHec {
    client: Client,
    url: Url,
    headers: HeaderMap,
    token: SecretString,
    shape: request::Shape,
}

impl fmt::Debug for SplunkHec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SplunkHec")
            .field("host", &self.url.host_str())
            .finish_non_exhaustive()
    }
}

impl SplunkHec {
    /// Checks the settings and prepares the client. Connects to nobody yet.
    ///
    /// # Errors
    /// A setting that cannot work, by its name.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let url = endpoint(&config.endpoint)?;
        let token = SecretString::from(config.token.expose_secret().trim());
        let headers = headers(&token, !config.disable_compression)?;
        if config.timeout.is_zero() {
            return Err(Error::Timeout);
        }
        Ok(Self {
            client: client(&url, config)?,
            url,
            headers,
            token,
            shape: request::Shape {
                metadata: event::Metadata {
                    source: config.source.clone(),
                    sourcetype: config.sourcetype.clone(),
                    index: config.index.clone(),
                },
                format: config.format.clone(),
                max_content_length: config.max_content_length_logs,
                max_event_size: config.max_event_size,
                gzip: !config.disable_compression,
            },
        })
    }

    async fn attempt(&self, mut request: request::Request) -> Outcome {
        let sent = self
            .client
            .post(self.url.clone())
            .headers(self.headers.clone())
            .body(std::mem::take(&mut request.body))
            .send()
            .await;
        let mut answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                return Outcome::retry(response::hidden(
                    &unreached(&error.without_url()),
                    self.token.expose_secret(),
                ));
            }
        };
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get(RETRY_AFTER).cloned();
        let body = String::from_utf8_lossy(&beginning(&mut answer).await).into_owned();
        let outcome = response::judge(&response::Answer {
            status,
            retry_after: retry_after.as_ref().and_then(|value| value.to_str().ok()),
            body: &body,
            events: request.events.len(),
            now: i64::try_from(clock::unix_nanos() / 1_000_000_000).unwrap_or(i64::MAX),
            secret: self.token.expose_secret(),
        });
        request.of_findings(outcome)
    }
}

impl Exporter for SplunkHec {
    async fn send(&mut self, batch: &[Arc<Finding>]) -> Outcome {
        match request::first(batch, &self.shape) {
            // Findings whose state makes no event are done with as they are.
            Ok(request) if request.events.is_empty() => Outcome::Accepted(request.findings),
            Ok(request) => self.attempt(request).await,
            Err(outcome) => outcome,
        }
    }
}

/// The first bytes of an answer's body. An answer that breaks off ends there: what has come is
/// judged, and half a reply is none.
async fn beginning(answer: &mut reqwest::Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < response::BODY_MAX {
        let Ok(Some(piece)) = answer.chunk().await else {
            break;
        };
        body.extend_from_slice(&piece);
    }
    body.truncate(response::BODY_MAX);
    body
}

fn endpoint(text: &str) -> Result<Url, Error> {
    // The text itself is not repeated: it may hold a password.
    let mut url = Url::parse(text.trim()).map_err(|_| Error::Endpoint("is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Error::Endpoint("does not start with http:// or https://"));
    }
    if !url.has_host() {
        return Err(Error::Endpoint("names no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::Endpoint(
            "holds a user name or password, which token is for",
        ));
    }
    if url.path().trim_matches('/').is_empty() {
        url.set_path(DEFAULT_PATH);
    }
    url.set_fragment(None);
    Ok(url)
}

fn headers(token: &SecretString, gzip: bool) -> Result<HeaderMap, Error> {
    if token.expose_secret().is_empty() {
        return Err(Error::Token(
            "is empty, set it to the token of an HEC input",
        ));
    }
    let mut authorization = HeaderValue::from_str(&format!("Splunk {}", token.expose_secret()))
        .map_err(|_| Error::Token("holds characters that no HTTP header can carry"))?;
    authorization.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, authorization);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(headers)
}

fn client(url: &Url, config: &Config) -> Result<Client, Error> {
    // reqwest is built without a provider of its own and takes the process's. Another exporter may
    // have installed it already; it is the same one then.
    let _already_there = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("auditwatch/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .timeout(config.timeout)
        .pool_idle_timeout(Duration::from_secs(10));
    if is_loopback(url) {
        // As in Go, and so in the Collector: proxies of the environment are not for this machine.
        builder = builder.no_proxy();
    }
    if url.scheme() == "http" {
        // Without this, a machine without certificates could not even speak plain HTTP.
        builder = builder.tls_certs_only([]);
    } else if config.tls.insecure_skip_verify {
        builder = builder.tls_danger_accept_invalid_certs(true);
    } else if let Some(path) = &config.tls.ca_file {
        builder = builder.tls_certs_only(authorities(path)?);
    }
    builder
        .build()
        .map_err(|error| Error::Tls(chain(&error.without_url())))
}

fn authorities(path: &std::path::Path) -> Result<Vec<reqwest::Certificate>, Error> {
    let pem = std::fs::read(path).map_err(|source| Error::CaFile {
        path: path.to_owned(),
        source,
    })?;
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Error::NoCertificate {
            path: path.to_owned(),
        }),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Why there was no answer, with what to do where that is known.
fn unreached(error: &dyn std::error::Error) -> String {
    let mut reason = chain(error);
    if reason.contains("certificate") {
        reason.push_str(": set tls::ca_file to the authority that signed it");
    }
    reason
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
