//! The service: builds everything from the configuration, starts what data flows to first, and
//! stops what it comes from first.
//!
//! Every task of the service is spawned here, through one tracker, so that shutdown can wait for
//! all of them. The end of the data is the signal to stop: receivers end, so the intakes are gone,
//! so the pipelines drain and end, so the queues are closed, so the exporters drain and end.

mod observed;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info};

use crate::{
    config::{ComponentId, Config, DetectionConfig, ExporterConfig, ReceiverConfig},
    exporter::{
        Exporter,
        debug::Debug,
        file::File,
        queue::{self, Queue, QueueConfig, RetryConfig},
        splunk_hec::SplunkHec,
    },
    pipeline,
    processor::detection::Detection,
    receiver::{self, InFlight, otlp_grpc::OtlpGrpc, otlp_http::OtlpHttp},
    telemetry::{self, metrics::Metrics, traces::Tracer},
};

/// Findings that one request of an exporter carries at most.
const BATCH: usize = 512;

/// How long those who look on may take to end.
const LAST_LOOK: Duration = Duration::from_secs(3);

/// A service at work.
pub struct Service {
    addresses: Vec<(ComponentId, SocketAddr)>,
    metrics_addresses: Vec<SocketAddr>,
    metrics: Metrics,
    tracer: Tracer,
    tracker: TaskTracker,
    /// Those who look on: they begin before the others and end after them.
    onlookers: TaskTracker,
    /// Onlookers end.
    unwatch: CancellationToken,
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
            metrics_addresses: Vec::new(),
            metrics: Metrics::default(),
            tracer: Tracer::default(),
            tracker: TaskTracker::new(),
            onlookers: TaskTracker::new(),
            unwatch: CancellationToken::new(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            abandon: CancellationToken::new(),
        };
        match service.build(config).await {
            Ok(()) => {
                service.tracker.close();
                service.onlookers.close();
                Ok(service)
            }
            Err(error) => {
                service.stop.cancel();
                service.cut.cancel();
                service.abandon.cancel();
                service.unwatch.cancel();
                Err(error)
            }
        }
    }

    async fn build(&mut self, config: Config) -> anyhow::Result<()> {
        let Config {
            receivers,
            processors,
            exporters,
            pipelines,
            request_limit,
            metrics,
            traces,
            resource,
            ..
        } = config;
        self.look_on(&metrics, &traces, &resource).await?;
        let shared = receiver::Shared {
            in_flight: InFlight::new(request_limit),
            stop: self.stop.clone(),
            cut: self.cut.clone(),
        };
        observed::process(&self.metrics, &shared.in_flight);
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
            observed::pipeline(&self.metrics, &id, &parts.processor, intake.counters());
            self.tracker.spawn(pipeline.run(self.cut.clone()));
            for receiver in parts.receivers {
                let Some(ReceiverConfig::Otlp(config)) = receivers.get(&receiver) else {
                    continue;
                };
                if let Some(grpc) = &config.grpc {
                    let server = Server::Grpc(OtlpGrpc::bind(grpc).await?);
                    waiting.push((receiver.clone(), server, intake.clone()));
                }
                if let Some(http) = &config.http {
                    let server = Server::Http(OtlpHttp::bind(http).await?);
                    waiting.push((receiver.clone(), server, intake.clone()));
                }
            }
        }
        // Nobody is let in before everybody is in place.
        for (id, server, intake) in waiting {
            info!(receiver = %id, protocol = server.protocol(), endpoint = %server.address(), "listening");
            let (intake, entry) =
                intake.entry(id.to_string(), server.protocol(), self.tracer.clone());
            observed::receiver(&self.metrics, &id, server.protocol(), &entry);
            self.addresses.push((id, server.address()));
            self.tracker.spawn(server.serve(intake, shared.clone()));
        }
        Ok(())
    }

    /// Starts to measure, and lets others see it, before there is anything to see.
    async fn look_on(
        &mut self,
        metrics: &telemetry::MetricsConfig,
        traces: &telemetry::traces::Config,
        resource: &BTreeMap<String, String>,
    ) -> anyhow::Result<()> {
        let resource = telemetry::resource(resource);
        let (metrics, mut tasks) = telemetry::measure(metrics, &resource).await?;
        let (tracer, more) = telemetry::trace(traces, &resource)?;
        tasks.extend(more);
        self.metrics = metrics;
        self.tracer = tracer;
        for task in tasks {
            if let Some(address) = task.address() {
                info!(endpoint = %format_args!("http://{address}/metrics"), "metrics for Prometheus");
                self.metrics_addresses.push(address);
            }
            self.onlookers.spawn(task.run(self.unwatch.clone()));
        }
        self.onlookers
            .spawn(telemetry::folded().run(self.unwatch.clone()));
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
        observed::exporter(&self.metrics, id, &queue);
        queue.counters().trace(self.tracer.clone());
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

    /// The addresses at which Prometheus may ask.
    pub fn metrics_addresses(&self) -> &[SocketAddr] {
        &self.metrics_addresses
    }

    /// Stops: receivers end, pipelines drain, exporters drain, all within `deadline`. Whether
    /// there was time enough for that.
    pub async fn shutdown(self, deadline: Duration) -> bool {
        let delivered = self.stop_data(deadline).await;
        // How it ended is worth seeing too.
        self.unwatch.cancel();
        let _ended = tokio::time::timeout(LAST_LOOK, self.onlookers.wait()).await;
        delivered
    }

    async fn stop_data(&self, deadline: Duration) -> bool {
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
