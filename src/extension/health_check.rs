//! The `health_check` extension: whether the service is ready, over HTTP.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::{
    clock::{self, Instant},
    http_server::{self, Connections, Ends, Handler, Limits, Listening, Peer, Versions},
    tls,
};

/// Connections at a time. A new one takes the place of one that asks nothing.
const CONNECTIONS: usize = 50;

/// Settings of one `health_check` extension, under the Collector's key names.
#[derive(Clone, Debug)]
pub struct Config {
    /// `endpoint`: host and port to listen on.
    pub endpoint: String,
    /// `path` that is answered, and all below it when it ends in a slash; others get 404.
    pub path: String,
    /// `response_body::healthy`: the body while ready, instead of the Collector's JSON.
    pub healthy_body: Option<String>,
    /// `response_body::unhealthy`: the body while not ready.
    pub unhealthy_body: Option<String>,
    /// `tls`; `None`: in the clear.
    pub tls: Option<tls::server::Config>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:13133".to_owned(),
            path: "/".to_owned(),
            healthy_body: None,
            unhealthy_body: None,
            tls: None,
        }
    }
}

/// Whether the service is ready. Clones are about the same service.
#[derive(Clone, Default)]
pub struct Health(Arc<State>);

#[derive(Default)]
struct State {
    started: OnceLock<Started>,
    stopping: AtomicBool,
    parts: Mutex<Vec<Part>>,
}

type Part = Box<dyn Fn() -> bool + Send>;

struct Started {
    at: Instant,
    /// The same on the wall, in nanoseconds since 1970.
    unix_nanos: u64,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("ready", &self.ready_for())
            .finish()
    }
}

impl Health {
    /// From now on the service is ready only while this part is.
    pub fn watch(&self, is_up: impl Fn() -> bool + Send + 'static) {
        let mut parts = self.0.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.push(Box::new(is_up));
    }

    /// All is in place.
    pub fn started(&self) {
        self.0.started.get_or_init(|| Started {
            at: clock::monotonic(),
            unix_nanos: clock::unix_nanos(),
        });
    }

    /// Nothing new is taken from now on.
    pub fn stopping(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    /// Since when the service has been started, if it is ready.
    fn ready_for(&self) -> Option<(u64, Duration)> {
        let started = self.0.started.get()?;
        if self.0.stopping.load(Ordering::Relaxed) {
            return None;
        }
        let parts = self.0.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let uptime = clock::monotonic().saturating_duration_since(started.at);
        parts
            .iter()
            .all(|is_up| is_up())
            .then_some((started.unix_nanos, uptime))
    }
}

/// The server, which listens and does not serve yet.
#[derive(Debug)]
pub struct HealthCheck {
    listening: Listening,
    answers: Answers,
}

impl HealthCheck {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the address is in use or not ours, or certificates cannot be used.
    pub async fn bind(config: &Config, health: Health) -> Result<Self, http_server::Error> {
        let tls = config.tls.as_ref();
        let listening = Listening::bind(&config.endpoint, Versions::All, tls).await?;
        let answers = Answers {
            health,
            config: Arc::new(config.clone()),
        };
        Ok(Self { listening, answers })
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// What becomes of its connections.
    pub fn connections(&self) -> &Arc<Connections> {
        self.listening.connections()
    }

    /// Serves until it is to stop.
    pub async fn serve(self, ends: Ends) {
        let limits = Limits::brief(CONNECTIONS);
        http_server::serve(self.listening, limits, self.answers, ends).await;
    }
}

#[derive(Clone, Debug)]
struct Answers {
    health: Health,
    config: Arc<Config>,
}

impl Handler for Answers {
    type Body = Full<Bytes>;

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if !is_answered(&self.config.path, request.uri().path()) {
            let text = format!("only {} is answered", self.config.path);
            return respond(StatusCode::NOT_FOUND, TEXT, text);
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let text = "use GET".to_owned();
            let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
            return response;
        }
        if let Some(peer) = request.extensions().get::<Peer>() {
            peer.received();
        }
        let ready = self.health.ready_for();
        let (status, own) = match ready {
            Some(_) => (StatusCode::OK, &self.config.healthy_body),
            None => (StatusCode::SERVICE_UNAVAILABLE, &self.config.unhealthy_body),
        };
        match own {
            Some(text) => respond(status, TEXT, text.clone()),
            None => respond(status, "application/json", body(ready)),
        }
    }
}

/// Whether a path is answered. As in the Collector, one that ends in a slash covers all below it,
/// so that a probe of `/healthz` finds what listens at `/`.
fn is_answered(own: &str, asked: &str) -> bool {
    asked == own || own.ends_with('/') && asked.starts_with(own)
}

const TEXT: &str = "text/plain; charset=utf-8";

fn respond(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// What the Collector answers, key by key.
fn body(ready: Option<(u64, Duration)>) -> String {
    let (status, since, uptime) = match ready {
        Some((nanos, uptime)) => {
            let since = jiff::Timestamp::from_nanosecond(i128::from(nanos));
            let since = since.map_or_else(|_| NEVER.to_owned(), |since| since.to_string());
            ("Server available", since, go_text(uptime))
        }
        None => ("Server not available", NEVER.to_owned(), String::new()),
    };
    format!(r#"{{"status":"{status}","upSince":"{since}","uptime":"{uptime}"}}"#)
}

/// The zero of Go's time.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A duration as Go prints it: `1.5s`, `2m0.25s`, `1h0m0s`.
fn go_text(duration: Duration) -> String {
    let minutes = duration.as_secs() / 60;
    if duration.is_zero() {
        return "0s".to_owned();
    }
    if minutes == 0 {
        // Rust prints it so too.
        return format!("{duration:?}");
    }
    let rest = Duration::new(duration.as_secs() % 60, duration.subsec_nanos()).as_secs_f64();
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_uptimes_as_go_does() {
        for (millis, wanted) in [
            (0, "0s"),
            (250, "250ms"),
            (1500, "1.5s"),
            (60_000, "1m0s"),
            (120_250, "2m0.25s"),
            (3_600_000, "1h0m0s"),
            (90_061_001, "25h1m1.001s"),
        ] {
            assert_eq!(go_text(Duration::from_millis(millis)), wanted);
        }
    }

    #[test]
    fn answers_as_the_collector_does() {
        assert_eq!(
            body(Some((1_795_590_005_000_000_001, Duration::from_secs(61)))),
            r#"{"status":"Server available","upSince":"2026-11-25T07:00:05.000000001Z","uptime":"1m1s"}"#
        );
        assert_eq!(
            body(None),
            r#"{"status":"Server not available","upSince":"0001-01-01T00:00:00Z","uptime":""}"#
        );
    }

    #[test]
    fn is_ready_when_all_parts_are() {
        let health = Health::default();
        let up = Arc::new(AtomicBool::new(true));
        let part = Arc::clone(&up);
        health.watch(move || part.load(Ordering::Relaxed));
        let ready = || health.ready_for().is_some();
        assert!(!ready(), "not started");
        health.started();
        assert!(ready());
        up.store(false, Ordering::Relaxed);
        assert!(!ready());
        up.store(true, Ordering::Relaxed);
        assert!(ready());
        health.stopping();
        assert!(!ready());
    }
}
