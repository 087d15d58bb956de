//! The service: builds everything from the configuration, starts what data flows to first, and
//! stops what it comes from first.
//!
//! Every task of the service is spawned here, through one tracker, so that shutdown can wait for
//! all of them. The end of the data is the signal to stop: receivers end, so the intakes are gone,
//! so the pipelines drain and end, so the queues are closed, so the exporters drain and end.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::{
    config::{
        ComponentId, Config, DetectionConfig, ExporterConfig, ExtensionConfig, OtlpReceiver,
        ReceiverConfig,
    },
    exporter::{
        Exporter,
        debug::Debug,
        file::File,
        otlp_grpc::OtlpGrpc as OtlpGrpcExporter,
        otlp_http::OtlpHttp as OtlpHttpExporter,
        queue::{self, Queue, QueueConfig, RetryConfig},
        splunk_hec::SplunkHec,
    },
    extension::bearer_token_auth::BearerTokenAuth,
    pipeline,
    processor::detection::Detection,
    receiver::{self, InFlight, otlp_grpc::OtlpGrpc, otlp_http::OtlpHttp},
};

/// Findings that one request of an exporter carries at most.
const BATCH: usize = 512;

/// A service at work.
pub struct Service {
    addresses: Vec<(ComponentId, SocketAddr)>,
    tracker: TaskTracker,
    /// Receivers finish what has begun and end.
    stop: CancellationToken,
    /// Pipelines take nothing more in, whoever still holds on.
    cut: CancellationToken,
    /// Exporters give up what they still have.
    abandon: CancellationToken,
}

impl Service {
    /// Builds and starts everything that stands in a pipeline.
    ///
    /// # Errors
    /// When a component cannot be built, or an address not listened on. Nothing runs then.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let mut service = Self {
            addresses: Vec::new(),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            abandon: CancellationToken::new(),
        };
        match service.build(config).await {
            Ok(()) => {
                service.tracker.close();
                Ok(service)
            }
            Err(error) => {
                service.stop.cancel();
                service.cut.cancel();
                service.abandon.cancel();
                Err(error)
            }
        }
    }

    async fn build(&mut self, config: Config) -> anyhow::Result<()> {
        let Config {
            receivers,
            processors,
            exporters,
            extensions,
            service_extensions,
            pipelines,
            request_limit,
            ..
        } = config;
        let authenticators = authenticators(&extensions, &service_extensions)?;
        let shared = receiver::Shared {
            in_flight: InFlight::new(request_limit),
            stop: self.stop.clone(),
            cut: self.cut.clone(),
        };
        let mut queues: BTreeMap<ComponentId, Queue> = BTreeMap::new();
        let mut waiting = Vec::new();
        for (id, parts) in pipelines {
            for exporter in &parts.exporters {
                if !queues.contains_key(exporter)
                    && let Some(config) = exporters.get(exporter)
                {
                    queues.insert(
                        exporter.clone(),
                        self.start_exporter(exporter, config).await?,
                    );
                }
            }
            let own = parts
                .exporters
                .iter()
                .filter_map(|id| queues.get(id).cloned())
                .collect();
            let detection = processors
                .get(&parts.processor)
                .with_context(|| format!("there is no processor {}", parts.processor))
                .and_then(|config| detection(&parts.processor, config))?;
            let (intake, pipeline) = pipeline::pipeline(id.to_string(), detection, own);
            self.tracker.spawn(pipeline.run(self.cut.clone()));
            for receiver in parts.receivers {
                let Some(ReceiverConfig::Otlp(config)) = receivers.get(&receiver) else {
                    continue;
                };
                let servers = servers(config, &authenticators)
                    .await
                    .with_context(|| format!("cannot start receiver {receiver}"))?;
                for server in servers {
                    waiting.push((receiver.clone(), server, intake.clone()));
                }
            }
        }
        // Nobody is let in before everybody is in place.
        for (id, server, intake) in waiting {
            info!(receiver = %id, protocol = server.protocol(), endpoint = %server.address(), "listening");
            self.addresses.push((id, server.address()));
            self.tracker.spawn(server.serve(intake, shared.clone()));
        }
        Ok(())
    }

    async fn start_exporter(
        &mut self,
        id: &ComponentId,
        config: &ExporterConfig,
    ) -> anyhow::Result<Queue> {
        let context = || format!("cannot start exporter {id}");
        match config {
            ExporterConfig::SplunkHec(config) => {
                let exporter = SplunkHec::new(config).with_context(context)?;
                if config.health_check_enabled {
                    exporter.check_health().await.with_context(context)?;
                }
                Ok(self.run_exporter(id, exporter, config.queue.clone(), config.retry.clone()))
            }
            ExporterConfig::OtlpGrpc(config) => {
                renamed(id, "otlp_grpc");
                let exporter = OtlpGrpcExporter::new(config).with_context(context)?;
                Ok(self.run_exporter(id, exporter, config.queue.clone(), config.retry.clone()))
            }
            ExporterConfig::OtlpHttp(config) => {
                renamed(id, "otlp_http");
                let exporter = OtlpHttpExporter::new(config).with_context(context)?;
                Ok(self.run_exporter(id, exporter, config.queue.clone(), config.retry.clone()))
            }
            ExporterConfig::File(config) => {
                let exporter = File::new(config).with_context(context)?;
                Ok(self.run_exporter(id, exporter, QueueConfig::default(), RetryConfig::default()))
            }
            ExporterConfig::Debug(config) => {
                let exporter = Debug::new(config);
                Ok(self.run_exporter(id, exporter, QueueConfig::default(), RetryConfig::default()))
            }
        }
    }

    fn run_exporter(
        &mut self,
        id: &ComponentId,
        exporter: impl Exporter,
        config: QueueConfig,
        retry: RetryConfig,
    ) -> Queue {
        let (queue, receiver) = queue::queue(id.to_string(), config);
        let abandon = self.abandon.clone();
        let id = id.to_string();
        self.tracker.spawn(async move {
            let totals = queue::run(receiver, exporter, retry, BATCH, abandon).await;
            info!(
                exporter = id,
                sent = totals.sent,
                failed = totals.failed,
                "exporter stopped"
            );
        });
        queue
    }

    /// The addresses that are listened on.
    pub fn addresses(&self) -> &[(ComponentId, SocketAddr)] {
        &self.addresses
    }

    /// Stops: receivers end, pipelines drain, exporters drain, all within `deadline`. Whether
    /// there was time enough for that.
    pub async fn shutdown(self, deadline: Duration) -> bool {
        info!("shutting down");
        self.stop.cancel();
        // A sender that never ends its request must not cost the findings their time.
        let intake = deadline / 4;
        if tokio::time::timeout(intake, self.tracker.wait())
            .await
            .is_ok()
        {
            return true;
        }
        self.cut.cancel();
        if tokio::time::timeout(deadline.saturating_sub(intake), self.tracker.wait())
            .await
            .is_ok()
        {
            return true;
        }
        error!(?deadline, "shutdown took too long, giving up what is left");
        self.abandon.cancel();
        // Exporters count and log what they give up, which takes no time.
        let _ended = tokio::time::timeout(Duration::from_secs(1), self.tracker.wait()).await;
        false
    }
}

/// Says so when a component goes by an old name of its type.
fn renamed(id: &ComponentId, now: &str) {
    if id.kind() != now {
        warn!(exporter = %id, now, "this type has got another name, write that one");
    }
}

/// A server of a receiver.
enum Server {
    Grpc(OtlpGrpc),
    Http(OtlpHttp),
}

impl Server {
    fn protocol(&self) -> &'static str {
        match self {
            Self::Grpc(_) => "grpc",
            Self::Http(_) => "http",
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Grpc(server) => server.address(),
            Self::Http(server) => server.address(),
        }
    }

    async fn serve(self, intake: pipeline::Intake, shared: receiver::Shared) {
        match self {
            Self::Grpc(server) => server.serve(intake, shared).await,
            Self::Http(server) => server.serve(intake, shared).await,
        }
    }
}

type Authenticators = BTreeMap<ComponentId, BearerTokenAuth>;

/// Those extensions that are started and know who may send.
fn authenticators(
    extensions: &BTreeMap<ComponentId, ExtensionConfig>,
    started: &[ComponentId],
) -> anyhow::Result<Authenticators> {
    let mut all = BTreeMap::new();
    for id in started {
        if let Some(ExtensionConfig::BearerTokenAuth(config)) = extensions.get(id) {
            let auth = BearerTokenAuth::new(config)
                .with_context(|| format!("cannot start extension {id}"))?;
            all.insert(id.clone(), auth);
        }
    }
    Ok(all)
}

/// The servers of a receiver, which listen and do not serve yet.
async fn servers(
    config: &OtlpReceiver,
    authenticators: &Authenticators,
) -> anyhow::Result<Vec<Server>> {
    // A door that was to have a guard must not stand open.
    let auth = |id: &Option<ComponentId>| match id {
        Some(id) => match authenticators.get(id) {
            Some(auth) => Ok(Some(auth.clone())),
            None => Err(anyhow::anyhow!("there is no extension {id}")),
        },
        None => Ok(None),
    };
    let mut servers = Vec::new();
    if let Some(grpc) = &config.grpc {
        let server = OtlpGrpc::bind(grpc).await.context("protocols::grpc")?;
        servers.push(Server::Grpc(server.guarded(auth(&config.grpc_auth)?)));
    }
    if let Some(http) = &config.http {
        let server = OtlpHttp::bind(http).await.context("protocols::http")?;
        servers.push(Server::Http(server.guarded(auth(&config.http_auth)?)));
    }
    Ok(servers)
}

fn detection(id: &ComponentId, config: &DetectionConfig) -> anyhow::Result<Detection> {
    let DetectionConfig {
        rule,
        limits,
        geo_databases,
        cluster,
    } = config;
    Detection::new(
        rule.clone(),
        limits.clone(),
        geo_databases,
        cluster.as_deref(),
    )
    .with_context(|| format!("cannot start processor {id}"))
}
