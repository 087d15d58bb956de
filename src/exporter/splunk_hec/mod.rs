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

pub use config::{AckConfig, Config, Entity, Format, Risk};

use std::{fmt, sync::Arc, time::Duration};

use reqwest::{
    Method, Url,
    header::{
        AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
        USER_AGENT,
    },
};
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Exporter, Outcome,
    compression::{Compression, Compressor},
    http_client::{HttpClient, Settings, beginning, unreached},
    shutdown::Shutdown,
    text,
};
use crate::{clock, detection::Finding, tls};

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
    /// The compressor cannot be made.
    #[error("disable_compression: {0}")]
    Compression(std::io::Error),
    /// HEC is not fit to take events.
    #[error("health_check_enabled: {0}")]
    Unhealthy(String),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// The `splunk_hec` exporter.
pub struct SplunkHec {
    client: HttpClient,
    url: Url,
    headers: HeaderMap,
    /// What no message may hold: the token, the values of `headers` and those in the URL.
    secrets: Vec<SecretString>,
    shape: request::Shape,
    compressor: Compressor,
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
    shutdown: Shutdown,
}

/// Why events that were accepted do not count as delivered.
enum Unindexed {
    /// The receiver does not say that they are indexed: they are sent again.
    Unacknowledged(String),
    /// There is no time to find out.
    ShuttingDown(String),
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
            shutdown: Shutdown::default(),
        });
        let compression = if config.disable_compression {
            Compression::None
        } else {
            Compression::Gzip
        };
        let client = HttpClient::new(&Settings {
            url: &url,
            tls: &config.tls,
            timeout: config.timeout,
            max_idle: config.max_idle_conns,
            idle_timeout: config.idle_conn_timeout,
        })?;
        let mut secrets = text::secrets(&config.headers, Some(token));
        secrets.extend(text::secrets_of_url(&url));
        Ok(Self {
            client,
            url,
            health,
            ack,
            headers,
            compressor: Compressor::new(compression).map_err(Error::Compression)?,
            secrets,
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
        let request = self
            .client
            .request(Method::GET, &self.health)
            .headers(headers);
        let path = self.health.path();
        let said = match self.exchange(request).await {
            Ok(heard) => response::health(&heard.answer(0, &self.secrets))
                .map_err(|reason| format!("{path} says {reason}")),
            Err(reason) => Err(format!(
                "{path} does not answer ({reason}): is endpoint right, and is Splunk up?"
            )),
        };
        said.map_err(Error::Unhealthy)
    }

    async fn attempt(&mut self, mut request: request::Request) -> Outcome {
        let body = match self.compressor.compress(std::mem::take(&mut request.body)) {
            Ok(body) => body,
            Err(error) => {
                return Outcome::retry(format!("the request could not be compressed: {error}"));
            }
        };
        let post = self
            .client
            .request(Method::POST, &self.url)
            .headers(self.headers.clone())
            .body(body);
        let heard = match self.exchange(post).await {
            Ok(heard) => heard,
            Err(reason) => return Outcome::retry(reason),
        };
        let outcome = response::judge(&heard.answer(request.events.len(), &self.secrets));
        if !matches!(outcome, Outcome::Accepted(_)) {
            return request.of_findings(outcome);
        }
        match self.indexed(&heard.body).await {
            Ok(()) => request.of_findings(outcome),
            Err(Unindexed::Unacknowledged(reason)) => Outcome::retry(reason),
            // Sending it again would keep those behind it from being sent at all.
            Err(Unindexed::ShuttingDown(reason)) => Outcome::Partial {
                findings: request.findings,
                rejected: request.findings,
                reason,
            },
        }
    }

    /// Waits until what an answer accepts is indexed, if acknowledgement is asked for. The error
    /// tells what was heard last. In the shutdown it waits for a third of the time that is left.
    async fn indexed(&mut self, accepted: &str) -> Result<(), Unindexed> {
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
        let shutdown = ack.shutdown.clone();
        let mut last = "not asked yet".to_owned();
        let asking = async {
            loop {
                shutdown.pause(poll_interval).await;
                match self.ask(number).await {
                    Ok(true) => break,
                    Ok(false) => "not yet".clone_into(&mut last),
                    // The question is asked again: the events themselves were accepted.
                    Err(reason) => last = reason,
                }
            }
        };
        tokio::select! {
            asked = tokio::time::timeout(timeout, asking) => asked.map_err(|_| {
                Unindexed::Unacknowledged(format!(
                    "accepted, but after ack::timeout ({timeout:?}) not acknowledged as indexed, \
                     last answer: {last}"
                ))
            }),
            () = shutdown.part_over(3) => Err(Unindexed::ShuttingDown(format!(
                "accepted, but not acknowledged as indexed before the shutdown, so they may be \
                 missing if an indexer fails now, last answer: {last}"
            ))),
        }
    }

    /// Asks once whether the events under a number are indexed.
    async fn ask(&self, number: u64) -> Result<bool, String> {
        let Some(ack) = &self.ack else {
            return Ok(true);
        };
        let mut headers = self.headers.clone();
        headers.remove(CONTENT_ENCODING);
        let question = self.client.request(Method::POST, &ack.url).headers(headers);
        let heard = self.exchange(question.body(ack::question(number))).await?;
        ack::is_indexed(heard.status, &heard.body, number)
            .ok_or_else(|| response::describe(&heard.answer(1, &self.secrets)))
    }

    /// Sends a request and hears the answer. The error tells why there was none.
    async fn exchange(&self, request: reqwest::RequestBuilder) -> Result<Heard, String> {
        let answer = request.send().await;
        // The URL, which may have secrets, is the only part of it that is not ours.
        let mut answer = answer.map_err(|error| unreached(&error.without_url()))?;
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
    fn answer<'a>(&'a self, events: usize, secrets: &'a [SecretString]) -> response::Answer<'a> {
        response::Answer {
            status: self.status,
            retry_after: self
                .retry_after
                .as_ref()
                .and_then(|value| value.to_str().ok()),
            body: &self.body,
            events,
            now: i64::try_from(clock::unix_nanos() / 1_000_000_000).unwrap_or(i64::MAX),
            secrets,
        }
    }
}

impl Exporter for SplunkHec {
    fn attach(&mut self, shutdown: &Shutdown) {
        if let Some(ack) = &mut self.ack {
            ack.shutdown = shutdown.clone();
        }
    }

    async fn send(&mut self, batch: &[Arc<Finding>]) -> Outcome {
        match request::first(batch, &self.shape) {
            // Findings whose state makes no event are done with as they are.
            Ok(request) if request.events.is_empty() => Outcome::Accepted(request.findings),
            Ok(request) => self.attempt(request).await,
            Err(outcome) => outcome,
        }
    }
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
    let mut headers = config.headers.clone();
    headers.insert(AUTHORIZATION, authorization);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let (app, version) = (&config.splunk_app_name, &config.splunk_app_version);
    let value = |text: &str, key| HeaderValue::from_str(text).map_err(|_| Error::App(key));
    let app_value = value(app, "splunk_app_name")?;
    let version_value = value(version, "splunk_app_version")?;
    // As the Collector names itself, for Splunk's metrics about who sends.
    let agent = value(&format!("{app}/{version}"), "splunk_app_name")?;
    headers.entry(USER_AGENT).or_insert(agent);
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

#[cfg(test)]
mod tests;
