//! The HTTP client of an exporter: TLS, proxies, and an answer as it came.
//!
//! With `tls::server_name_override` the host of each URL becomes that name, so that it is the name
//! asked for in TLS and looked for in the certificate, [`FixedResolver`] leads it to where the
//! endpoint is, and the `Host` header stays the endpoint's. No proxy is used then: it would resolve
//! the name itself.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use reqwest::{
    Client, Method, RequestBuilder, Response, Url,
    cookie::Jar,
    header::{HOST, HeaderValue},
    redirect::Policy,
};

use super::resolver::FixedResolver;
use crate::tls::{self, advice::Advice};

/// Most bytes of an answer's body that are worth reading.
pub(crate) const BODY_MAX: usize = 64 * 1024;

/// Most characters of an error. One of HTTP/2 shows what the peer said at the end of a connection.
const REASON_MAX: usize = 400;

/// Longest wait that a receiver may ask for, so that one odd header does not silence us.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// What a client is made of.
pub(crate) struct Settings<'a> {
    /// Where it sends to.
    pub(crate) url: &'a Url,
    pub(crate) tls: &'a tls::client::Config,
    /// How long one request may take.
    pub(crate) timeout: Duration,
    /// Connections that are kept for later, and how long; zero: as long as they live.
    pub(crate) max_idle: usize,
    pub(crate) idle_timeout: Duration,
    /// The proxy that requests go through.
    pub(crate) proxy: Option<Url>,
    /// Whether cookies are kept and sent, so that a balancer finds the same server again.
    pub(crate) cookies: bool,
}

/// A client for one host.
pub(crate) struct HttpClient {
    client: Client,
    parts: Parts,
    server_name: Option<ServerNameOverride>,
}

/// What a client is made of again when its connections are left.
struct Parts {
    /// `None`: requests are not encrypted.
    tls: Option<rustls::ClientConfig>,
    timeout: Duration,
    max_idle: usize,
    idle_timeout: Option<Duration>,
    proxy: Option<Url>,
    resolver: Option<FixedResolver>,
    /// The cookies, if they are kept. They outlive connections.
    cookies: Option<Arc<Jar>>,
}

/// `server_name_override` at work.
struct ServerNameOverride {
    /// The name in the URL.
    name: String,
    /// Host and port of the endpoint.
    host: HeaderValue,
}

impl HttpClient {
    /// Prepares the client. Connects to nothing yet.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, tls::Error> {
        let Settings { url, tls, .. } = settings;
        let mut parts = Parts {
            tls: None,
            timeout: settings.timeout,
            max_idle: settings.max_idle,
            idle_timeout: Some(settings.idle_timeout).filter(|idle| !idle.is_zero()),
            proxy: settings.proxy.clone(),
            resolver: None,
            cookies: settings.cookies.then(Arc::default),
        };
        let mut server_name = None;
        if url.scheme() == "https" {
            parts.tls = Some(tls.build()?);
            if let Some(name) = &tls.server_name_override {
                server_name = ServerNameOverride::new(name, url);
                parts.resolver = Some(FixedResolver::new(url.host_str().unwrap_or_default()));
                parts.proxy = None;
            }
        }
        Ok(Self {
            client: parts.client()?,
            parts,
            server_name,
        })
    }

    /// Leaves all connections, so that the next request goes over a new one: a balancer may know a
    /// better server meanwhile.
    pub(crate) fn reconnect(&mut self) {
        // It was made of the same parts before. If not, the old one is better than none.
        if let Ok(client) = self.parts.client() {
            self.client = client;
        }
    }

    /// The same, and forgets the cookies, which would lead back to the server that is left.
    pub(crate) fn start_anew(&mut self) {
        if let Some(cookies) = &mut self.parts.cookies {
            *cookies = Arc::default();
        }
        self.reconnect();
    }

    /// A request, to be completed and sent.
    pub(crate) fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        let mut url = url.clone();
        match &self.server_name {
            // The name was checked when the client was built.
            Some(server_name) if url.set_host(Some(&server_name.name)).is_ok() => self
                .client
                .request(method, url)
                .header(HOST, server_name.host.clone()),
            _ => self.client.request(method, url),
        }
    }
}

impl Parts {
    fn client(&self) -> Result<Client, tls::Error> {
        let fail = |error: reqwest::Error| tls::Error::Unfit(chain(&error.without_url()));
        let mut builder = Client::builder()
            // Tokens would travel with them.
            .redirect(Policy::none())
            .http1_only()
            // The environment was read before, as Go does it.
            .no_proxy()
            .timeout(self.timeout)
            // Shared among the addresses of a name, so that one that does not answer leaves time for
            // the others.
            .connect_timeout(self.timeout / 2)
            .pool_max_idle_per_host(self.max_idle)
            .pool_idle_timeout(self.idle_timeout);
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy.clone()).map_err(fail)?);
        }
        builder = if let Some(tls) = &self.tls {
            builder.tls_backend_preconfigured(tls.clone())
        } else {
            // reqwest is built without a provider of its own and takes the process's.
            tls::install();
            // Without this, a machine without certificates could not even speak plain HTTP.
            builder.tls_certs_only([])
        };
        if let Some(resolver) = &self.resolver {
            builder = builder.dns_resolver(Arc::new(resolver.clone()));
        }
        if let Some(cookies) = &self.cookies {
            builder = builder.cookie_provider(Arc::clone(cookies));
        }
        builder.build().map_err(fail)
    }
}

impl ServerNameOverride {
    fn new(name: &str, url: &Url) -> Option<Self> {
        let host = url.host_str()?;
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Some(Self {
            name: name.to_owned(),
            host: HeaderValue::from_str(&host).ok()?,
        })
    }
}

/// The first bytes of an answer's body. An answer that breaks off ends there: what has come is
/// judged, and half a reply is none.
pub(crate) async fn beginning(answer: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < BODY_MAX {
        let Ok(Some(piece)) = answer.chunk().await else {
            break;
        };
        body.extend_from_slice(&piece);
    }
    body.truncate(BODY_MAX);
    body
}

/// The wait that `Retry-After` asks for, in seconds or as a date; `now` in seconds since 1970.
pub(crate) fn retry_after(text: &str, now: i64) -> Option<Duration> {
    let text = text.trim();
    let seconds = if let Ok(seconds) = text.parse::<u64>() {
        seconds
    } else {
        // HTTP dates are those of mail, always in GMT.
        let date = jiff::fmt::rfc2822::parse(text).ok()?;
        u64::try_from(date.timestamp().as_second().saturating_sub(now)).unwrap_or(0)
    };
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// Why there was no answer, with what to do where that is known.
pub(crate) fn unreached(error: &(dyn std::error::Error + 'static)) -> String {
    advised(error, Advice::of(error))
}

/// Why there was no answer, and what to do.
pub(crate) fn advised(error: &(dyn std::error::Error + 'static), advice: Option<Advice>) -> String {
    let mut reason: String = chain(error)
        .chars()
        .take(REASON_MAX)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    if let Some(advice) = advice {
        // Writing into a string cannot fail.
        let _ok = write!(reason, ": {advice}");
    }
    reason
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Some errors show their cause themselves.
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}
