//! The service: builds everything from the configuration, starts what data flows to first, and
//! stops what it comes from first.
//!
//! Every task of the service is spawned here, through one tracker, so that shutdown can wait for
//! all of them. The end of the data is the signal to stop: receivers end, so the intakes are gone,
//! so the pipelines drain and end, so the queues are closed, so the exporters drain and end.

mod memory;
mod observed;
mod prepared;
mod stored;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use self::{
    prepared::{detection, prepared, with_letters},
    stored::{Ending, queues_of},
};

use crate::{
    clock,
    config::{
        ComponentId, Config, DetectionConfig, ExporterConfig, ExtensionConfig, OtlpReceiver,
        PipelineConfig, ReceiverConfig,
    },
    detection::time::Micros,
    exporter::{
        Exporter,
        debug::Debug,
        file::File,
        otlp_grpc::OtlpGrpc as OtlpGrpcExporter,
        otlp_http::OtlpHttp as OtlpHttpExporter,
        queue::{self, Queue, QueueConfig, RetryConfig},
        splunk_hec::SplunkHec,
    },
    extension::{
        bearer_token_auth::BearerTokenAuth,
        file_storage,
        health_check::{Health, HealthCheck},
    },
    http_server::{Connections, Ends},
    memory::{Plan, Pressure, cgroup_limit},
    pipeline::{self, FindingBudget},
    receiver::{self, Admission, otlp_grpc::OtlpGrpc, otlp_http::OtlpHttp},
    telemetry::{self, metrics::Metrics, traces::Tracer},
};

/// Findings that one request of an exporter carries at most.
const BATCH: usize = 512;

/// Grace period of background tasks, after everything else has ended.
const GRACE_PERIOD: Duration = Duration::from_secs(3);

/// A service at work.
pub struct Service {
    addresses: Vec<(ComponentId, SocketAddr)>,
    extension_addresses: Vec<(ComponentId, SocketAddr)>,
    metrics_addresses: Vec<SocketAddr>,
    health: Health,
    metrics: Metrics,
    tracer: Tracer,
    tracker: TaskTracker,
    /// Background tasks: extensions and telemetry, which begin before all others and end after them.
    background: TaskTracker,
    stop_background: CancellationToken,
    /// Receivers finish what has begun and end.
    stop: CancellationToken,
    /// Pipelines take nothing more in, whatever is still sent.
    cut: CancellationToken,
    /// Exporters wait no longer than they must, and at the end give up what they still have.
    ending: queue::Shutdown,
    /// A vital part has panicked.
    failed: CancellationToken,
}

impl Service {
    /// Builds and starts everything that is in a pipeline.
    ///
    /// # Errors
    /// When a component cannot be built, or an address not listened on. Nothing runs then.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let mut service = Self {
            addresses: Vec::new(),
            extension_addresses: Vec::new(),
            metrics_addresses: Vec::new(),
            health: Health::default(),
            metrics: Metrics::default(),
            tracer: Tracer::default(),
            tracker: TaskTracker::new(),
            background: TaskTracker::new(),
            stop_background: CancellationToken::new(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            ending: queue::Shutdown::default(),
            failed: CancellationToken::new(),
        };
        match service.build(config).await {
            Ok(()) => {
                service.tracker.close();
                service.health.started();
                Ok(service)
            }
            Err(error) => {
                service.stop.cancel();
                service.cut.cancel();
                service.ending.abandon();
                service.stop_background.cancel();
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
            memory,
            request_limit,
            queue_limit,
            metrics,
            traces,
            resource,
            ..
        } = config;
        self.start_telemetry(&metrics, &traces, &resource).await?;
        let authenticators = self
            .start_extensions(&extensions, &service_extensions)
            .await?;
        let mut plan = memory.plan(cgroup_limit()).with(request_limit, queue_limit);
        let state = share_state(&mut plan, &processors, &pipelines);
        let (shared, mut watch) = self.budgets(plan, memory.check_interval);
        let mut queues: BTreeMap<ComponentId, Queue> = BTreeMap::new();
        let mut waiting = Vec::new();
        let now = Micros::from_unix_nanos(clock::unix_nanos()).unwrap_or_default();
        let volatile = stored::volatile(&pipelines, &processors);
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
            let own = queues_of(&parts, &queues);
            let config = processors
                .get(&parts.processor)
                .with_context(|| format!("there is no processor {}", parts.processor))?;
            warn_of(&parts.processor, config, now);
            let detection = detection(&parts.processor, config.clone(), state).await?;
            let storage = config.storage.as_ref().and_then(|id| extensions.get(id));
            let ends = Ending {
                health: &self.health,
                metrics: &self.metrics,
                findings: watch.findings.clone(),
                exporters: &self.ending,
            };
            let (intake, task) =
                stored::pipeline((&id, now), (detection, own), storage, ends).await?;
            let task = task.run(shared.pressure.clone(), self.cut.clone());
            self.spawn_vital(id.to_string(), task);
            observed::pipeline(&self.metrics, &id, &parts.processor, intake.counters());
            watch.counters.push(Arc::clone(intake.counters()));
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
        stored::keep(&queues, &volatile);
        let servers = waiting.iter().map(|(_, server, _)| server.connections());
        watch.connections = servers.cloned().collect();
        self.background
            .spawn(watch.run(self.stop_background.clone()));
        self.background.close();
        // No request is let in before all parts are in place.
        for (id, server, intake) in waiting {
            self.start_receiver(id, server, &intake, shared.clone());
        }
        Ok(())
    }

    fn start_receiver(
        &mut self,
        id: ComponentId,
        server: Server,
        intake: &pipeline::Intake,
        shared: receiver::Shared,
    ) {
        info!(receiver = %id, protocol = server.protocol(), endpoint = %server.address(), "listening");
        let protocol = server.protocol();
        let (intake, source) = intake.for_source(id.to_string(), protocol, self.tracer.clone());
        observed::receiver(&self.metrics, &id, protocol, &source);
        observed::connections(&self.metrics, &id, protocol, server.connections());
        self.addresses.push((id, server.address()));
        self.tracker.spawn(server.serve(intake, shared));
    }

    /// The budgets of requests and of findings, with their metrics, and what watches them.
    fn budgets(&self, plan: Plan, interval: Duration) -> (receiver::Shared, memory::Watch) {
        let pressure = Pressure::default();
        let admission = Admission::under(plan.requests, pressure.clone());
        let findings = FindingBudget::new(plan.findings);
        observed::process(&self.metrics, &admission, &findings);
        observed::memory_limits(&self.metrics, &plan);
        let shared = receiver::Shared {
            admission: admission.clone(),
            pressure: pressure.clone(),
            stop: self.stop.clone(),
            cut: self.cut.clone(),
        };
        let watch = memory::Watch {
            plan,
            pressure,
            admission,
            findings,
            counters: Vec::new(),
            connections: Vec::new(),
            interval,
        };
        (shared, watch)
    }

    /// Starts telemetry, before there is anything to measure.
    async fn start_telemetry(
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
            if let Some(connections) = task.connections() {
                let name = match self.metrics_addresses.len() {
                    1 => "prometheus".to_owned(),
                    n => format!("prometheus/{n}"),
                };
                observed::server(&self.metrics, &name, connections);
            }
            self.background
                .spawn(task.run(self.stop_background.clone()));
        }
        self.background
            .spawn(telemetry::report_suppressed(self.stop_background.clone()));
        Ok(())
    }

    /// Starts extensions, and gives those that know who may send.
    async fn start_extensions(
        &mut self,
        extensions: &BTreeMap<ComponentId, ExtensionConfig>,
        started: &[ComponentId],
    ) -> anyhow::Result<Authenticators> {
        let mut authenticators = BTreeMap::new();
        for id in started {
            let context = || format!("cannot start extension {id}");
            match extensions.get(id) {
                Some(ExtensionConfig::BearerTokenAuth(config)) => {
                    let config = config.clone();
                    let auth = prepared(move || Ok(BearerTokenAuth::new(&config)?))
                        .await
                        .with_context(context)?;
                    authenticators.insert(id.clone(), auth);
                }
                Some(ExtensionConfig::HealthCheck(config)) => {
                    let health = self.health.clone();
                    let server = HealthCheck::bind(config, health)
                        .await
                        .with_context(context)?;
                    info!(extension = %id, endpoint = %server.address(), "answering whether it is ready");
                    observed::server(&self.metrics, &id.to_string(), server.connections());
                    self.extension_addresses
                        .push((id.clone(), server.address()));
                    let ends = Ends {
                        stop: self.stop_background.clone(),
                        cut: self.stop_background.clone(),
                    };
                    self.background.spawn(server.serve(ends));
                }
                // Detections open their files in it.
                Some(ExtensionConfig::FileStorage(config)) => {
                    let config = config.clone();
                    let create = move || {
                        if config.create_directory {
                            file_storage::create(&config.directory)?;
                        }
                        Ok(())
                    };
                    prepared(create).await.with_context(context)?;
                }
                None => {}
            }
        }
        Ok(authenticators)
    }

    async fn start_exporter(
        &mut self,
        id: &ComponentId,
        config: &ExporterConfig,
    ) -> anyhow::Result<Queue> {
        let context = || format!("cannot start exporter {id}");
        match config.clone() {
            ExporterConfig::SplunkHec(config) => {
                let (queue, retry) = (config.queue.clone(), config.retry.clone());
                let check = config.health_check_enabled;
                let exporter =
                    with_letters(&self.metrics, id, config.dead_letter.clone(), move || {
                        Ok(SplunkHec::new(&config)?)
                    })
                    .await;
                let exporter = exporter.with_context(context)?;
                if check {
                    exporter
                        .inner()
                        .check_health()
                        .await
                        .with_context(context)?;
                }
                Ok(self.run_exporter(id, exporter, queue, retry))
            }
            ExporterConfig::OtlpGrpc(config) => {
                warn_deprecated(id, "otlp_grpc");
                let (queue, retry) = (config.queue.clone(), config.retry.clone());
                let exporter =
                    with_letters(&self.metrics, id, config.dead_letter.clone(), move || {
                        Ok(OtlpGrpcExporter::new(&config)?)
                    })
                    .await;
                Ok(self.run_exporter(id, exporter.with_context(context)?, queue, retry))
            }
            ExporterConfig::OtlpHttp(config) => {
                warn_deprecated(id, "otlp_http");
                let (queue, retry) = (config.queue.clone(), config.retry.clone());
                let exporter =
                    with_letters(&self.metrics, id, config.dead_letter.clone(), move || {
                        Ok(OtlpHttpExporter::new(&config)?)
                    })
                    .await;
                Ok(self.run_exporter(id, exporter.with_context(context)?, queue, retry))
            }
            ExporterConfig::File(config) => {
                let exporter = prepared(move || Ok(File::new(&config)?)).await;
                // A disk that is full and a pipe without a reader are for an operator to mend.
                let retry = RetryConfig {
                    max_elapsed_time: Duration::ZERO,
                    ..RetryConfig::default()
                };
                let queue = QueueConfig::default();
                Ok(self.run_exporter(id, exporter.with_context(context)?, queue, retry))
            }
            ExporterConfig::Debug(config) => {
                let (queue, retry) = (QueueConfig::default(), RetryConfig::default());
                Ok(self.run_exporter(id, Debug::new(&config), queue, retry))
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
        let counters = Arc::clone(queue.counters());
        self.health.watch(move || counters.is_up());
        let ending = self.ending.clone();
        let id = id.to_string();
        self.spawn_vital(id.clone(), async move {
            let totals = queue::run(receiver, exporter, retry, BATCH, ending).await;
            info!(
                exporter = id,
                sent = totals.sent,
                failed = totals.failed,
                "exporter stopped"
            );
        });
        queue
    }

    /// Starts a task without which the service is of no use: should it panic, the service has failed.
    fn spawn_vital(&self, part: String, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.tracker.spawn(task);
        let failed = self.failed.clone();
        self.tracker.spawn(async move {
            if task.await.is_err_and(|error| error.is_panic()) {
                error!(
                    part,
                    "a part that nothing works without has panicked, the service ends"
                );
                failed.cancel();
            }
        });
    }

    /// Until a part without which nothing works has panicked. It is time to shut down then, and to
    /// let whatever watches the process start it again.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// The addresses that are listened on.
    pub fn addresses(&self) -> &[(ComponentId, SocketAddr)] {
        &self.addresses
    }

    /// The addresses that extensions listen on.
    pub fn extension_addresses(&self) -> &[(ComponentId, SocketAddr)] {
        &self.extension_addresses
    }

    /// The addresses at which Prometheus may ask.
    pub fn metrics_addresses(&self) -> &[SocketAddr] {
        &self.metrics_addresses
    }

    /// Stops: receivers end, pipelines drain, exporters drain, all within `deadline`, and then
    /// extensions and telemetry. Whether there was time enough for that, and no finding was given up
    /// meanwhile.
    pub async fn shutdown(self, deadline: Duration) -> bool {
        info!("shutting down");
        self.health.stopping();
        let in_time = self.drain(deadline).await;
        // Metrics and spans of the end are pushed as well.
        self.stop_background.cancel();
        let _ended = tokio::time::timeout(GRACE_PERIOD, self.background.wait()).await;
        in_time && self.ending.lost() == 0
    }

    async fn drain(&self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.ending.begin(deadline);
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
        self.ending.abandon();
        // Exporters count and log what they give up, which takes no time.
        let _ended = tokio::time::timeout(Duration::from_secs(1), self.tracker.wait()).await;
        false
    }
}

/// Warns of what may be a mistake at this time.
fn warn_of(id: &ComponentId, config: &DetectionConfig, now: Micros) {
    for warning in config.warnings(now) {
        warn!(processor = %id, "{warning}");
    }
}

/// Warns about a component whose type is written by its old name.
fn warn_deprecated(id: &ComponentId, kind: &str) {
    if id.kind() != kind {
        warn!(exporter = %id, "deprecated, use {kind}");
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

    fn connections(&self) -> &Arc<Connections> {
        match self {
            Self::Grpc(server) => server.connections(),
            Self::Http(server) => server.connections(),
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

/// The servers of a receiver, which listen and do not serve yet.
async fn servers(
    config: &OtlpReceiver,
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

/// Gives detections in pipelines that write no budget an equal share of that of the plan, which then
/// holds what all of them may take. The share.
fn share_state(
    plan: &mut Plan,
    processors: &BTreeMap<ComponentId, DetectionConfig>,
    pipelines: &BTreeMap<ComponentId, PipelineConfig>,
) -> usize {
    let used = pipelines.values().map(|parts| &parts.processor);
    let written: Vec<_> = used
        .filter_map(|id| processors.get(id))
        .map(|config| config.state_limit)
        .collect();
    let open = written.iter().filter(|limit| limit.is_none()).count();
    let share = plan.state / open.max(1);
    plan.state = written.iter().map(|limit| limit.unwrap_or(share)).sum();
    share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// A budget that was written counts as state too: filling it must not have requests refused.
    #[test]
    fn the_budget_of_state_is_what_all_detections_may_take() {
        let text = "receivers: {otlp: {protocols: {grpc: }}, otlp/b: {protocols: {http: }}}\n\
                    processors: {detection: {limits: {memory_mib: 400}}, detection/b: }\n\
                    exporters: {debug: }\n\
                    service: {pipelines: {\
                    logs: {receivers: [otlp], processors: [detection], exporters: [debug]}, \
                    logs/b: {receivers: [otlp/b], processors: [detection/b], exporters: [debug]}}}\n";
        let config = config::parse("test.yaml", text, &|_| None).unwrap();
        let mut plan = config.memory.plan(None);
        let share = share_state(&mut plan, &config.processors, &config.pipelines);
        assert_eq!((share >> 20, plan.state >> 20), (192, 592));
    }

    /// Only tasks that nothing works without end the service: one request that makes its own task
    /// panic must not end it for all.
    #[tokio::test]
    async fn a_vital_part_that_panics_fails_the_service() {
        let text = "receivers: {otlp: {protocols: {grpc: {endpoint: '127.0.0.1:0'}}}}\n\
                    processors: {detection: }\nexporters: {debug: }\n\
                    service: {telemetry: {metrics: {level: none}}, pipelines: {logs: \
                    {receivers: [otlp], processors: [detection], exporters: [debug]}}}\n";
        let config = config::parse("test.yaml", text, &|_| None).unwrap();
        let service = Service::start(config).await.unwrap();
        service.tracker.spawn(async { panic!("as it should") });
        service.spawn_vital("ends".to_owned(), async {});
        tokio::task::yield_now().await;
        assert!(!service.failed.is_cancelled());
        service.spawn_vital("panics".to_owned(), async { panic!("as it should") });
        let failed = tokio::time::timeout(Duration::from_secs(20), service.failed()).await;
        assert!(failed.is_ok());
        assert!(service.shutdown(Duration::from_secs(20)).await);
    }
}
