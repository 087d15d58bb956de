//! Findings to Splunk, over its HTTP Event Collector (HEC).
//!
//! This file owns the connection. What is sent ([`event`], [`request`]) and what an answer means
//! ([`response`]) are pure functions beside it. Delivery is at least once: an answer that is lost
//! leaves open whether the events are in, so they are sent again, under the same finding ids.

mod ack;
mod config;
pub mod event;
pub mod request;
pub mod response;
mod risk;

pub use config::{AckConfig, Config, Entity, Format, Risk, TlsConfig};

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use reqwest::{
    Client, Url,
    header::{
        AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
        USER_AGENT,
    },
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
    /// The name or version of the application cannot be sent.
    #[error("{0}: holds characters that no HTTP header can carry")]
    App(&'static str),
    /// HEC is not fit to take events.
    #[error("health_check_enabled: {0}")]
    Unhealthy(String),
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
    health: Url,
    ack: Option<Ack>,
}

/// Indexer acknowledgement at work.
struct Ack {
    url: Url,
    poll_interval: Duration,
    timeout: Duration,
    /// Whether the log has been told that the token gives no acknowledgement.
    told: bool,
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
        let headers = headers(&token, config)?;
        if config.timeout.is_zero() {
            return Err(Error::Timeout);
        }
        let mut health = url.clone();
        health.set_path(&config.health_path);
        let ack = config.ack.enabled.then(|| Ack {
            url: ack::url(&url),
            poll_interval: config.ack.poll_interval,
            timeout: config.ack.timeout,
            told: false,
        });
        Ok(Self {
            client: client(&url, config)?,
            url,
            health,
            ack,
            headers,
            token,
            shape: request::Shape {
                metadata: event::Metadata {
                    source: config.source.clone(),
                    sourcetype: config.sourcetype.clone(),
                    index: config.index.clone(),
                    host: config.host.clone(),
                },
                format: config.format.clone(),
                max_content_length: config.max_content_length_logs,
                max_event_size: config.max_event_size,
                gzip: !config.disable_compression,
            },
        })
    }

    /// Asks HEC whether it is fit to take events, for `health_check_enabled`.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub async fn check_health(&self) -> Result<(), Error> {
        let mut headers = self.headers.clone();
        headers.remove(CONTENT_TYPE);
        headers.remove(CONTENT_ENCODING);
        let request = self.client.get(self.health.clone()).headers(headers);
        let path = self.health.path();
        let said = match self.exchange(request).await {
            Ok(heard) => response::health(&heard.answer(0, self.token.expose_secret()))
                .map_err(|reason| format!("{path} says {reason}")),
            Err(reason) => Err(format!(
                "{path} does not answer ({reason}): is endpoint right, and is Splunk up?"
            )),
        };
        said.map_err(Error::Unhealthy)
    }

    async fn attempt(&mut self, mut request: request::Request) -> Outcome {
        let post = self
            .client
            .post(self.url.clone())
            .headers(self.headers.clone())
            .body(std::mem::take(&mut request.body));
        let heard = match self.exchange(post).await {
            Ok(heard) => heard,
            Err(reason) => return Outcome::retry(reason),
        };
        let secret = self.token.expose_secret();
        let outcome = response::judge(&heard.answer(request.events.len(), secret));
        if matches!(outcome, Outcome::Accepted(_))
            && let Err(reason) = self.indexed(&heard.body).await
        {
            return Outcome::retry(reason);
        }
        request.of_findings(outcome)
    }

    /// Waits until what an answer accepts is indexed, if acknowledgement is asked for. The error
    /// tells what was heard last.
    async fn indexed(&mut self, accepted: &str) -> Result<(), String> {
        let Some(ack) = &mut self.ack else {
            return Ok(());
        };
        let Some(number) = ack::number(accepted) else {
            if !std::mem::replace(&mut ack.told, true) {
                tracing::warn!(
                    "HEC accepts events without an acknowledgement to come, so they count as \
                     delivered: enable indexer acknowledgement for the token, or remove ack"
                );
            }
            return Ok(());
        };
        let (poll_interval, timeout) = (ack.poll_interval, ack.timeout);
        let mut last = "not asked yet".to_owned();
        let asking = async {
            loop {
                tokio::time::sleep(poll_interval).await;
                match self.ask(number).await {
                    Ok(true) => break,
                    Ok(false) => "not yet".clone_into(&mut last),
                    // The question is asked again: the events themselves were accepted.
                    Err(reason) => last = reason,
                }
            }
        };
        let asked = tokio::time::timeout(timeout, asking).await;
        asked.map_err(|_| {
            format!(
                "accepted, but after ack::timeout ({timeout:?}) not acknowledged as indexed, \
                 last answer: {last}"
            )
        })
    }

    /// Asks once whether the events under a number are indexed.
    async fn ask(&self, number: u64) -> Result<bool, String> {
        let Some(ack) = &self.ack else {
            return Ok(true);
        };
        let mut headers = self.headers.clone();
        headers.remove(CONTENT_ENCODING);
        let question = self.client.post(ack.url.clone()).headers(headers);
        let heard = self.exchange(question.body(ack::question(number))).await?;
        ack::is_indexed(heard.status, &heard.body, number)
            .ok_or_else(|| response::describe(&heard.answer(1, self.token.expose_secret())))
    }

    /// Sends a request and hears the answer. The error tells why there was none.
    async fn exchange(&self, request: reqwest::RequestBuilder) -> Result<Heard, String> {
        let mut answer = request.send().await.map_err(|error| {
            let reason = unreached(&error.without_url());
            response::hidden(&reason, self.token.expose_secret())
        })?;
        let retry_after = answer.headers().get(RETRY_AFTER).cloned();
        Ok(Heard {
            status: answer.status().as_u16(),
            retry_after,
            body: String::from_utf8_lossy(&beginning(&mut answer).await).into_owned(),
        })
    }
}

/// An answer, as it came.
struct Heard {
    status: u16,
    retry_after: Option<HeaderValue>,
    body: String,
}

impl Heard {
    fn answer<'a>(&'a self, events: usize, secret: &'a str) -> response::Answer<'a> {
        response::Answer {
            status: self.status,
            retry_after: self
                .retry_after
                .as_ref()
                .and_then(|value| value.to_str().ok()),
            body: &self.body,
            events,
            now: i64::try_from(clock::unix_nanos() / 1_000_000_000).unwrap_or(i64::MAX),
            secret,
        }
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

fn headers(token: &SecretString, config: &Config) -> Result<HeaderMap, Error> {
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
    let (app, version) = (&config.splunk_app_name, &config.splunk_app_version);
    let value = |text: &str, key| HeaderValue::from_str(text).map_err(|_| Error::App(key));
    let app_value = value(app, "splunk_app_name")?;
    let version_value = value(version, "splunk_app_version")?;
    // As the Collector names itself, for Splunk's metrics about who sends.
    let agent = value(&format!("{app}/{version}"), "splunk_app_name")?;
    headers.insert(USER_AGENT, agent);
    headers.insert("__splunk_app_name", app_value);
    headers.insert("__splunk_app_version", version_value);
    if config.ack.enabled {
        let channel = HeaderValue::from_str(&ack::channel(rand::random()));
        headers.insert(ack::CHANNEL, channel.map_err(|_| Error::App("ack"))?);
    }
    if !config.disable_compression {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(headers)
}

fn client(url: &Url, config: &Config) -> Result<Client, Error> {
    // reqwest is built without a provider of its own and takes the process's. Another exporter may
    // have installed it already; it is the same one then.
    let _already_there = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut builder = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .timeout(config.timeout)
        .pool_max_idle_per_host(config.max_idle_conns)
        .pool_idle_timeout(Some(config.idle_conn_timeout).filter(|idle| !idle.is_zero()));
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
