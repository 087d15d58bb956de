//! The `otlp_http` exporter: findings as log records to an OTLP receiver, over HTTP.

use std::{fmt, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, USER_AGENT},
};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message as _;
use reqwest::{Method, Url};

use super::{
    Exporter, Outcome,
    auth::Headers,
    compression::{Compression, Compressor},
    dead_letter,
    http_client::{HttpClient, Settings, beginning, unreached},
    otlp::{
        Warnings,
        request::{self, Observed, REQUEST_MAX},
        response::{self, Answer},
    },
    queue::{QueueConfig, RetryConfig},
    text,
};
use crate::{
    clock,
    detection::Finding,
    endpoint::plain_url,
    extension::bearer_token_auth,
    proxy::{self, Proxies},
    tls,
};

/// Where a receiver takes logs.
const PATH: &str = "/v1/logs";

/// Settings of one `otlp_http` exporter, under the Collector's key names.
#[derive(Clone, Debug)]
pub struct Config {
    /// `endpoint`: URL that `/v1/logs` is appended to. Required unless `logs_endpoint` is given.
    pub endpoint: String,
    /// `logs_endpoint`: URL that is taken as it is, instead of `endpoint`.
    pub logs_endpoint: Option<String>,
    /// `encoding`.
    pub encoding: Encoding,
    /// `tls`.
    pub tls: tls::client::Config,
    /// `headers` that go with every request. Their values are secrets.
    pub headers: HeaderMap,
    /// `auth::authenticator`: the extension whose first token goes with every request.
    pub auth: Option<bearer_token_auth::Config>,
    /// `compression` of requests.
    pub compression: Compression,
    /// `timeout` of one request.
    pub timeout: Duration,
    /// `sending_queue`.
    pub queue: QueueConfig,
    /// `retry_on_failure`.
    pub retry: RetryConfig,
    /// The proxies of the environment.
    pub proxies: Proxies,
    /// `dead_letter`: what becomes of findings that can never be delivered.
    pub dead_letter: dead_letter::Config,
}

impl Config {
    /// Whether TLS is spoken.
    pub fn is_secure(&self) -> bool {
        let whole = self.logs_endpoint.as_deref();
        whole.unwrap_or(&self.endpoint).starts_with("https://")
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            logs_endpoint: None,
            encoding: Encoding::Proto,
            tls: tls::client::Config::default(),
            headers: HeaderMap::new(),
            auth: None,
            compression: Compression::Gzip,
            timeout: Duration::from_secs(30),
            queue: QueueConfig::default(),
            retry: RetryConfig::default(),
            proxies: Proxies::default(),
            dead_letter: dead_letter::Config::default(),
        }
    }
}

/// The form of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `proto`: protobuf.
    Proto,
    /// `json`: OTLP/JSON.
    Json,
}

/// Why an exporter cannot be made of its settings. Holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint is none.
    #[error("{0}: {1}")]
    Endpoint(&'static str, &'static str),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The proxy of the environment cannot be used.
    #[error(transparent)]
    Proxy(#[from] proxy::Error),
    /// There is no token to send.
    #[error("auth: {0}")]
    Auth(#[from] bearer_token_auth::Error),
    /// The compressor cannot be made.
    #[error("compression: {0}")]
    Compression(std::io::Error),
}

/// The URL that an endpoint means, checked against what `tls` says. The text itself is not in the
/// error: people put credentials into URLs.
///
/// # Errors
/// What is wrong with it.
pub fn url(endpoint: &str, tls: &tls::client::Config) -> Result<Url, &'static str> {
    let url = Url::parse(&plain_url(endpoint.trim()))
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or("expected a URL such as http://collector:4318")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password, which headers are for");
    }
    if url.fragment().is_some() {
        return Err("a URL to send to has no fragment, remove what begins with #");
    }
    if url.scheme() == "https" && tls.insecure {
        return Err("https:// and tls::insecure contradict each other, remove one");
    }
    Ok(url)
}

/// The `otlp_http` exporter.
pub struct OtlpHttp {
    client: HttpClient,
    url: Url,
    encoding: Encoding,
    compressor: Compressor,
    headers: Headers,
    observed: Observed,
    warnings: Warnings,
}

impl fmt::Debug for OtlpHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpHttp")
            .field("host", &self.url.host_str())
            .finish_non_exhaustive()
    }
}

impl OtlpHttp {
    /// Checks the settings and prepares the client. Connects to nothing yet.
    ///
    /// # Errors
    /// A setting that cannot work, by its name.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let url = if let Some(whole) = &config.logs_endpoint {
            url(whole, &config.tls).map_err(|why| Error::Endpoint("logs_endpoint", why))?
        } else {
            let mut url = url(&config.endpoint, &config.tls)
                .map_err(|why| Error::Endpoint("endpoint", why))?;
            let path = format!("{}{PATH}", url.path().trim_end_matches('/'));
            url.set_path(&path);
            url
        };
        let client = HttpClient::new(&Settings {
            url: &url,
            tls: &config.tls,
            timeout: config.timeout,
            max_idle: 1,
            idle_timeout: Duration::from_secs(90),
            proxy: config.proxies.of_url(&url)?,
            cookies: false,
        })?;
        let mut headers = config.headers.clone();
        let agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
        headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(agent));
        let kind = match config.encoding {
            Encoding::Proto => "application/x-protobuf",
            Encoding::Json => "application/json",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(encoding) = config.compression.name() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        let headers = Headers::new(headers, &config.headers, config.auth.as_ref())?
            .hiding(text::secrets_of_url(&url));
        Ok(Self {
            client,
            url,
            encoding: config.encoding,
            compressor: Compressor::new(config.compression).map_err(Error::Compression)?,
            headers,
            observed: Observed::default(),
            warnings: Warnings::default(),
        })
    }

    fn body(&mut self, message: &ExportLogsServiceRequest) -> std::io::Result<Vec<u8>> {
        let body = match self.encoding {
            Encoding::Proto => message.encode_to_vec(),
            Encoding::Json => serde_json::to_vec(message)?,
        };
        self.compressor.compress(body)
    }

    /// Sends one request, which holds this number of records, once, and says how it ended.
    pub async fn export(&mut self, message: &ExportLogsServiceRequest, records: usize) -> Outcome {
        let body = match self.body(message) {
            Ok(body) => body,
            Err(error) => {
                return Outcome::retry(format!("the request could not be written: {error}"));
            }
        };
        let (headers, secrets) = self.headers.now().await;
        let post = self
            .client
            .request(Method::POST, &self.url)
            .headers(headers)
            .body(body);
        let mut heard = match post.send().await {
            Ok(heard) => heard,
            Err(error) => {
                self.client.reconnect();
                return Outcome::retry(unreached(&error.without_url()));
            }
        };
        if matches!(heard.status().as_u16(), 408 | 502..=504) {
            // Another connection may lead to a server that is well.
            self.client.reconnect();
        }
        let body = beginning(&mut heard).await;
        let header = |name| {
            heard
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let judged = response::http(&Answer {
            status: heard.status().as_u16(),
            content_type: header(CONTENT_TYPE).unwrap_or_default(),
            retry_after: header(RETRY_AFTER),
            body: &body,
            findings: records,
            now: i64::try_from(clock::unix_nanos() / 1_000_000_000).unwrap_or(i64::MAX),
            secrets: &secrets,
        });
        self.warnings.log(judged.warning);
        judged.outcome
    }
}

impl Exporter for OtlpHttp {
    async fn send(&mut self, batch: &[Arc<Finding>]) -> Outcome {
        let times = self.observed.times(batch, clock::unix_nanos());
        let request = request::first(batch, &times, REQUEST_MAX);
        self.export(&request.message, request.findings).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_get_the_path_of_logs() {
        let with = |endpoint: &str, logs: Option<&str>| {
            let config = Config {
                endpoint: endpoint.to_owned(),
                logs_endpoint: logs.map(str::to_owned),
                ..Config::default()
            };
            OtlpHttp::new(&config)
                .map(|exporter| exporter.url.to_string())
                .map_err(|error| error.to_string())
        };
        for (endpoint, wanted) in [
            ("http://a:4318", "http://a:4318/v1/logs"),
            (" http://a:4318/ ", "http://a:4318/v1/logs"),
            ("http://[::1]:4318/otlp/", "http://[::1]:4318/otlp/v1/logs"),
            ("http://a/x?y=z", "http://a/x/v1/logs?y=z"),
        ] {
            assert_eq!(with(endpoint, None).unwrap(), wanted);
        }
        assert_eq!(with("", Some("http://a/in")).unwrap(), "http://a/in");
        for (endpoint, wanted) in [
            ("", "endpoint: expected a URL"),
            ("a:4318", "endpoint: expected a URL"),
            ("http://u:pa55word@a", "endpoint: holds a user name"),
            ("http://a#b", "endpoint: a URL to send to has no fragment"),
        ] {
            let error = with(endpoint, None).unwrap_err();
            assert!(error.starts_with(wanted), "{error}");
            assert!(!error.contains("pa55word"));
        }
        let insecure = tls::client::Config {
            insecure: true,
            ..tls::client::Config::default()
        };
        assert!(
            url("https://a", &insecure)
                .unwrap_err()
                .contains("contradict")
        );
        assert!(url("http://a", &insecure).is_ok());
    }
}
