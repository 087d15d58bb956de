//! The HTTP client of an exporter: TLS, proxies, and an answer as it came.
//!
//! With `tls::server_name_override` the host of each URL becomes that name, so that it is the name
//! asked for in TLS and looked for in the certificate, a resolver of our own leads it to where the
//! endpoint is, and the `Host` header stays the endpoint's. Proxies of the environment are not
//! used then: they would resolve the name themselves.

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use reqwest::{
    Client, Method, RequestBuilder, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{HOST, HeaderValue},
    redirect::Policy,
};

use crate::{
    deadline,
    tls::{self, advice::Advice},
};

/// Most bytes of an answer's body that are worth reading.
pub(super) const BODY_MAX: usize = 64 * 1024;

/// Most characters of an error. One of HTTP/2 shows what the peer said at the end of a connection.
const REASON_MAX: usize = 400;

/// Longest wait that a receiver may ask for, so that one odd header does not silence us.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// How long the addresses of a name may be looked for. The time of the request counts as well.
const LOOKUP: Duration = Duration::from_secs(10);

/// What a client is made of.
pub(super) struct Settings<'a> {
    /// Where it sends to.
    pub(super) url: &'a Url,
    pub(super) tls: &'a tls::client::Config,
    /// How long one request may take.
    pub(super) timeout: Duration,
    /// Connections that are kept for later, and how long; zero: for ever.
    pub(super) max_idle: usize,
    pub(super) idle_timeout: Duration,
}

/// A client for one host.
pub(super) struct HttpClient {
    client: Client,
    posing: Option<Posing>,
}

/// `server_name_override` at work.
struct Posing {
    /// The name in the URL.
    name: String,
    /// Host and port of the endpoint.
    host: HeaderValue,
}

impl HttpClient {
    /// Prepares the client. Connects to nobody yet.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(super) fn new(settings: &Settings<'_>) -> Result<Self, tls::Error> {
        let Settings { url, tls, .. } = settings;
        let mut builder = Client::builder()
            // Tokens would travel with them.
            .redirect(Policy::none())
            .http1_only()
            .timeout(settings.timeout)
            // Shared among the addresses of a name, so that one that does not answer leaves time for
            // the others.
            .connect_timeout(settings.timeout / 2)
            .pool_max_idle_per_host(settings.max_idle)
            .pool_idle_timeout(Some(settings.idle_timeout).filter(|idle| !idle.is_zero()));
        if is_loopback(url) {
            // As in Go, and so in the Collector: proxies of the environment are not for this machine.
            builder = builder.no_proxy();
        }
        let mut posing = None;
        if url.scheme() == "http" {
            // reqwest is built without a provider of its own and takes the process's.
            tls::install();
            // Without this, a machine without certificates could not even speak plain HTTP.
            builder = builder.tls_certs_only([]);
        } else {
            builder = builder.tls_backend_preconfigured(tls.build()?);
            if let Some(name) = &tls.server_name_override {
                posing = Posing::new(name, url);
                builder = builder
                    .no_proxy()
                    .dns_resolver(std::sync::Arc::new(Elsewhere::new(url)));
            }
        }
        let client = builder
            .build()
            .map_err(|error| tls::Error::Unfit(chain(&error.without_url())))?;
        Ok(Self { client, posing })
    }

    /// A request, to be completed and sent.
    pub(super) fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        let mut url = url.clone();
        match &self.posing {
            // The name was checked when the client was built.
            Some(posing) if url.set_host(Some(&posing.name)).is_ok() => self
                .client
                .request(method, url)
                .header(HOST, posing.host.clone()),
            _ => self.client.request(method, url),
        }
    }
}

impl Posing {
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

/// Leads every name to one host.
struct Elsewhere(String);

impl Elsewhere {
    fn new(url: &Url) -> Self {
        let host = url.host_str().unwrap_or_default();
        Self(host.trim_matches(['[', ']']).to_owned())
    }
}

impl Resolve for Elsewhere {
    fn resolve(&self, _name: Name) -> Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            // The port is that of the URL, whatever is said here.
            Ok(Box::new(lookup(&host).await?.into_iter()) as Addrs)
        })
    }
}

/// The addresses of a host, with port 0.
pub(super) async fn lookup(host: &str) -> std::io::Result<Vec<SocketAddr>> {
    const WHAT: &str = "looking up the host name";
    let found = deadline::within(LOOKUP, WHAT, tokio::net::lookup_host((host, 0))).await;
    Ok(found.map_err(std::io::Error::from)??.collect())
}

/// The first bytes of an answer's body. An answer that breaks off ends there: what has come is
/// judged, and half a reply is none.
pub(super) async fn beginning(answer: &mut Response) -> Vec<u8> {
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
pub(super) fn retry_after(text: &str, now: i64) -> Option<Duration> {
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

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Why there was no answer, with what to do where that is known.
pub(super) fn unreached(error: &(dyn std::error::Error + 'static)) -> String {
    advised(error, Advice::of(error))
}

/// Why there was no answer, and what to do.
pub(super) fn advised(error: &(dyn std::error::Error + 'static), advice: Option<Advice>) -> String {
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
pub(super) fn chain(error: &dyn std::error::Error) -> String {
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
