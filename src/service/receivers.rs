//! The servers of the receivers: how each listens, at the start and when its settings have changed.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{common::Common, observed};
use crate::{
    config::{ComponentId, ReceiverConfig},
    extension::bearer_token_auth::BearerTokenAuth,
    http_server::{Before, Connections},
    pipeline::{self, SourceCounters},
    receiver::{
        self, k8s_audit_webhook::K8sAuditWebhook, otlp_grpc::OtlpGrpc, otlp_http::OtlpHttp,
    },
};

/// Who may send, by extension.
pub(super) type Authenticators = BTreeMap<ComponentId, BearerTokenAuth>;

/// A receiver and one of its protocols.
pub(super) type ServerId = (ComponentId, &'static str);

/// A server of a receiver.
pub(super) enum Server {
    Grpc(OtlpGrpc),
    Http(OtlpHttp),
    Webhook(K8sAuditWebhook),
}

/// A server at work.
struct Running {
    /// What another one needs to take its place.
    before: Before,
    address: SocketAddr,
    /// What came in by it.
    source: Arc<SourceCounters>,
    /// It takes no more connections, and ends when its requests have.
    replaced: CancellationToken,
}

impl Server {
    fn protocol(&self) -> &'static str {
        match self {
            Self::Grpc(_) => "grpc",
            Self::Http(_) | Self::Webhook(_) => "http",
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Grpc(server) => server.address(),
            Self::Http(server) => server.address(),
            Self::Webhook(server) => server.address(),
        }
    }

    fn connections(&self) -> &Arc<Connections> {
        match self {
            Self::Grpc(server) => server.connections(),
            Self::Http(server) => server.connections(),
            Self::Webhook(server) => server.connections(),
        }
    }

    fn before(&self) -> Before {
        match self {
            Self::Grpc(server) => server.before(),
            Self::Http(server) => server.before(),
            Self::Webhook(server) => server.before(),
        }
    }

    async fn serve(self, intake: pipeline::Intake, shared: receiver::Shared) {
        match self {
            Self::Grpc(server) => server.serve(intake, shared).await,
            Self::Http(server) => server.serve(intake, shared).await,
            Self::Webhook(server) => server.serve(intake, shared).await,
        }
    }
}

/// The servers at work.
#[derive(Default)]
pub(super) struct Servers {
    running: BTreeMap<ServerId, Running>,
    /// What the receivers share; `None` before the start and in the shutdown.
    shared: Option<receiver::Shared>,
    /// The connections of all of them.
    connections: Arc<Mutex<Vec<Arc<Connections>>>>,
}

impl Servers {
    /// None yet.
    pub(super) fn new(shared: receiver::Shared) -> Self {
        Self {
            shared: Some(shared),
            ..Self::default()
        }
    }

    /// The connections of all servers, those too that come later.
    pub(super) fn connections(&self) -> Arc<Mutex<Vec<Arc<Connections>>>> {
        Arc::clone(&self.connections)
    }

    /// The servers of a receiver, which listen and do not serve yet. They take the places of those
    /// that run.
    pub(super) async fn listen(
        &self,
        id: &ComponentId,
        config: &ReceiverConfig,
        authenticators: &Authenticators,
    ) -> anyhow::Result<Vec<Server>> {
        // A server that was to ask for tokens must not serve without.
        let auth = |id: &Option<ComponentId>| match id {
            Some(id) => match authenticators.get(id) {
                Some(auth) => Ok(Some(auth.clone())),
                None => Err(anyhow::anyhow!("there is no extension {id}")),
            },
            None => Ok(None),
        };
        let before = |protocol| {
            let running = self.running.get(&(id.clone(), protocol));
            running.map(|running| &running.before)
        };
        let context = || format!("cannot start receiver {id}");
        let mut servers = Vec::new();
        let config = match config {
            ReceiverConfig::Otlp(config) => config,
            ReceiverConfig::K8sAuditWebhook(webhook) => {
                let server = K8sAuditWebhook::bind_after(before("http"), &webhook.server).await;
                let server = server.with_context(context)?;
                let auth = auth(&webhook.auth).with_context(context)?;
                servers.push(Server::Webhook(server.guarded(auth)));
                return Ok(servers);
            }
        };
        if let Some(grpc) = &config.grpc {
            let server = OtlpGrpc::bind_after(before("grpc"), grpc).await;
            let server = server.context("protocols::grpc").with_context(context)?;
            let auth = auth(&config.grpc_auth).with_context(context)?;
            servers.push(Server::Grpc(server.guarded(auth)));
        }
        if let Some(http) = &config.http {
            let server = OtlpHttp::bind_after(before("http"), http).await;
            let server = server.context("protocols::http").with_context(context)?;
            let auth = auth(&config.http_auth).with_context(context)?;
            servers.push(Server::Http(server.guarded(auth)));
        }
        Ok(servers)
    }

    /// Serves what comes to a server from now on. The one whose place it takes ends when the requests
    /// that it has begun have ended.
    pub(super) fn start(
        &mut self,
        common: &Common,
        id: &ComponentId,
        server: Server,
        intake: &pipeline::Intake,
    ) {
        let Some(shared) = self.shared.clone() else {
            return;
        };
        let (protocol, endpoint) = (server.protocol(), server.address());
        info!(receiver = %id, protocol, %endpoint, "listening");
        let at = (id.clone(), protocol);
        let before = self.running.remove(&at);
        let source = before.as_ref().map(|before| Arc::clone(&before.source));
        let is_first = source.is_none();
        let source = source.unwrap_or_else(|| intake.new_source());
        let intake = intake.for_source(id.to_string(), protocol, &source, common.tracer.clone());
        if is_first {
            observed::receiver(&common.metrics, id, protocol, &source);
            observed::connections(&common.metrics, id, protocol, server.connections());
            let all = self.connections.lock();
            let mut all = all.unwrap_or_else(PoisonError::into_inner);
            all.push(Arc::clone(server.connections()));
        }
        let replaced = CancellationToken::new();
        let shared = receiver::Shared {
            replaced: replaced.clone(),
            ..shared
        };
        let running = Running {
            address: endpoint,
            before: server.before(),
            source,
            replaced,
        };
        common.tracker.spawn(server.serve(intake, shared));
        self.running.insert(at, running);
        if let Some(before) = before {
            before.replaced.cancel();
        }
    }

    /// The servers of a receiver that are not among these.
    pub(super) fn others(&self, id: &ComponentId, than: &[Server]) -> Vec<ServerId> {
        let is_there = |protocol: &str| than.iter().any(|server| server.protocol() == protocol);
        let of = self.running.keys().filter(|(receiver, _)| receiver == id);
        of.filter(|(_, protocol)| !is_there(protocol))
            .cloned()
            .collect()
    }

    /// Ends a server whose protocol is not configured any more.
    pub(super) fn stop(&self, id: &ServerId) {
        let running = self.running.get(id);
        if let Some(running) = running.filter(|running| !running.replaced.is_cancelled()) {
            info!(receiver = %id.0, protocol = id.1, "listens no more");
            running.replaced.cancel();
        }
    }

    /// Where those listen that serve.
    pub(super) fn addresses(&self) -> Vec<(ComponentId, SocketAddr)> {
        let serving = self.running.iter();
        let serving = serving.filter(|(_, running)| !running.replaced.is_cancelled());
        serving
            .map(|((id, _), running)| (id.clone(), running.address))
            .collect()
    }
}
