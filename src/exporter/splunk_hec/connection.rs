//! HTTP to HEC: where requests go, their headers, and the answer as it came.

use std::fmt;

use reqwest::{
    Method, RequestBuilder, Url,
    header::{
        AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
        USER_AGENT,
    },
};
use secrecy::{ExposeSecret as _, SecretString};

use super::{ack, config::Config, error::Error, response};
use crate::{
    clock,
    endpoint::plain_url,
    exporter::{
        http_client::{HttpClient, Settings, beginning, unreached},
        text,
    },
};

/// Path of HEC where the endpoint names none.
const DEFAULT_PATH: &str = "/services/collector";

/// The way to one HEC.
pub(super) struct Connection {
    client: HttpClient,
    events: Url,
    acks: Url,
    health: Url,
    headers: HeaderMap,
    /// What no message may hold: the token, the values of `headers` and those in the URL.
    secrets: Vec<SecretString>,
}

/// An answer, as it came.
pub(super) struct Answer {
    status: u16,
    retry_after: Option<HeaderValue>,
    pub(super) body: String,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("host", &self.events.host_str())
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

impl Answer {
    /// Whether what answered could not reach a server that is well, so that another connection may.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.status, 408 | 502..=504)
    }
}

impl Connection {
    /// Checks the settings and prepares the client. Connects to nothing yet.
    ///
    /// # Errors
    /// A setting that cannot work, by its name.
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let events = endpoint(&config.endpoint)?;
        let token = SecretString::from(config.token.expose_secret().trim());
        let headers = headers(&token, config)?;
        if config.timeout.is_zero() {
            return Err(Error::Timeout);
        }
        let mut health = events.clone();
        health.set_path(&config.health_path);
        let client = HttpClient::new(&Settings {
            url: &events,
            tls: &config.tls,
            timeout: config.timeout,
            max_idle: config.max_idle_conns,
            idle_timeout: config.idle_conn_timeout,
            proxy: config.proxies.of_url(&events)?,
            // Numbers of acknowledgements are those of one indexer.
            cookies: config.ack.enabled,
        })?;
        let mut secrets = text::secrets(&config.headers, Some(token));
        secrets.extend(text::secrets_of_url(&events));
        Ok(Self {
            client,
            acks: ack::url(&events),
            events,
            health,
            headers,
            secrets,
        })
    }

    /// Posts events. The error says why there was no answer.
    pub(super) async fn post(&self, body: Vec<u8>) -> Result<Answer, String> {
        let post = self.client.request(Method::POST, &self.events);
        self.exchange(post.headers(self.headers.clone()).body(body))
            .await
    }

    /// Leaves the server behind the connection: the next request goes over a new one, without the
    /// cookies that would lead back, and on a new channel, for numbers of acknowledgements that are
    /// still open belong to the server that is left.
    pub(super) fn leave(&mut self) {
        self.client.start_anew();
        if self.headers.contains_key(ack::CHANNEL)
            && let Ok(channel) = HeaderValue::from_str(&ack::channel(rand::random()))
        {
            self.headers.insert(ack::CHANNEL, channel);
        }
    }

    /// The next request goes over a new connection, to the same server where cookies say so.
    pub(super) fn reconnect(&mut self) {
        self.client.reconnect();
    }

    /// Asks once whether the events under a number are indexed. The error says why it is unknown.
    pub(super) async fn is_indexed(&self, number: u64) -> Result<bool, String> {
        let mut headers = self.headers.clone();
        headers.remove(CONTENT_ENCODING);
        let question = self.client.request(Method::POST, &self.acks);
        let question = question.headers(headers).body(ack::question(number));
        let answer = self.exchange(question).await?;
        ack::is_indexed(answer.status, &answer.body, number)
            .ok_or_else(|| response::describe(&self.judged(&answer, 1)))
    }

    /// Asks whether HEC is fit to take events.
    pub(super) async fn health(&self) -> Result<Answer, String> {
        let mut headers = self.headers.clone();
        headers.remove(CONTENT_TYPE);
        headers.remove(CONTENT_ENCODING);
        let get = self.client.request(Method::GET, &self.health);
        self.exchange(get.headers(headers)).await
    }

    /// Where that is asked.
    pub(super) fn health_path(&self) -> &str {
        self.health.path()
    }

    /// The answer to a request with this number of events, for [`super::response`].
    pub(super) fn judged<'a>(&'a self, answer: &'a Answer, events: usize) -> response::Answer<'a> {
        let retry_after = answer.retry_after.as_ref();
        response::Answer {
            status: answer.status,
            retry_after: retry_after.and_then(|value| value.to_str().ok()),
            body: &answer.body,
            events,
            now: i64::try_from(clock::unix_nanos() / 1_000_000_000).unwrap_or(i64::MAX),
            secrets: &self.secrets,
        }
    }

    async fn exchange(&self, request: RequestBuilder) -> Result<Answer, String> {
        let answer = request.send().await;
        // The URL, which may have secrets, is the only part of it that is not ours.
        let mut answer = answer.map_err(|error| unreached(&error.without_url()))?;
        let retry_after = answer.headers().get(RETRY_AFTER).cloned();
        Ok(Answer {
            status: answer.status().as_u16(),
            retry_after,
            body: String::from_utf8_lossy(&beginning(&mut answer).await).into_owned(),
        })
    }
}

pub(super) fn endpoint(text: &str) -> Result<Url, Error> {
    // The text itself is not repeated: it may hold a password.
    let mut url = Url::parse(&plain_url(text.trim())).map_err(|_| Error::Endpoint("is no URL"))?;
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
