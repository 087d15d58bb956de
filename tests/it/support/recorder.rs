//! Receivers in front of a consumer that writes down what it gets.
#![expect(clippy::disallowed_methods, reason = "the tests have no task tracker")]

use std::{
    net::SocketAddr,
    num::NonZero,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use auditwatch::{
    detection::{
        rule::Rule,
        screen::{Screen, ScreenVisitor, Screened},
    },
    extension::bearer_token_auth::BearerTokenAuth,
    memory::Pressure,
    receiver::{
        Accepted, Admission, Class, Consumer, Limits, Reason, Refusal, RejectedRecords, Shared,
        otlp_grpc::{self, OtlpGrpc},
        otlp_http::{self, OtlpHttp},
    },
    tls,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::events::RECEIVED;

/// The largest message these receivers take.
pub(crate) const MAX_MESSAGE: usize = 1 << 20;

/// Takes everything, or refuses everything.
#[derive(Clone)]
pub(crate) struct Recorder {
    screen: Screen,
    refusal: Option<Refusal>,
    taken: Arc<Mutex<Vec<Screened>>>,
    refused: Arc<AtomicUsize>,
}

impl Consumer for Recorder {
    type Visitor = ScreenVisitor;

    fn begin(&self, _received: u64) -> ScreenVisitor {
        self.screen.visitor(RECEIVED.cast_unsigned() * 1000)
    }

    async fn consume(&self, visited: ScreenVisitor) -> Result<Accepted, Refusal> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        let screened = visited.into_screened();
        let rejected = NonZero::new(screened.unreadable).map(|count| RejectedRecords {
            count,
            reason: "not one JSON value",
        });
        self.taken.lock().unwrap().push(screened);
        Ok(Accepted { rejected })
    }

    fn refused(&self, _reason: Reason, _class: Class) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// How the receivers are set up.
pub(crate) struct Setup {
    pub(crate) refusal: Option<Refusal>,
    pub(crate) limits: Limits,
    pub(crate) admission: usize,
    pub(crate) tls: Option<tls::server::Config>,
    pub(crate) auth: Option<BearerTokenAuth>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            refusal: None,
            limits: Limits::default(),
            admission: 256 << 20,
            tls: None,
            auth: None,
        }
    }
}

/// Both receivers in front of one recorder.
pub(crate) struct Running {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) shared: Shared,
    recorder: Recorder,
    pub(crate) servers: Vec<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.shared.cut.cancel();
    }
}

impl Running {
    pub(crate) async fn start(setup: Setup) -> Self {
        let recorder = Recorder {
            screen: Screen::new(Rule::default(), usize::MAX, None),
            refusal: setup.refusal,
            taken: Arc::default(),
            refused: Arc::default(),
        };
        let shared = Shared {
            admission: Admission::new(setup.admission),
            pressure: Pressure::default(),
            stop: CancellationToken::new(),
            replaced: CancellationToken::new(),
            cut: CancellationToken::new(),
        };
        let grpc = OtlpGrpc::bind(&otlp_grpc::Config {
            endpoint: "127.0.0.1:0".to_owned(),
            max_recv_msg_bytes: MAX_MESSAGE,
            limits: setup.limits.clone(),
            tls: setup.tls.clone(),
        })
        .await
        .unwrap()
        .guarded(setup.auth.clone());
        let http = OtlpHttp::bind(&otlp_http::Config {
            endpoint: "127.0.0.1:0".to_owned(),
            max_request_body_size: MAX_MESSAGE,
            limits: setup.limits,
            tls: setup.tls,
        })
        .await
        .unwrap()
        .guarded(setup.auth);
        Self {
            grpc: grpc.address(),
            http: http.address(),
            servers: vec![
                tokio::spawn(grpc.serve(recorder.clone(), shared.clone())),
                tokio::spawn(http.serve(recorder.clone(), shared.clone())),
            ],
            shared,
            recorder,
        }
    }

    /// Requests that the receivers refused themselves.
    pub(crate) fn refused(&self) -> usize {
        self.recorder.refused.load(Ordering::Relaxed)
    }

    /// What was taken since this was last asked.
    pub(crate) fn take(&self) -> Vec<Screened> {
        std::mem::take(&mut self.recorder.taken.lock().unwrap())
    }
}
