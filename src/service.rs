//! The service: builds everything from the configuration, starts what data flows to first, and
//! stops what it comes from first.
//!
//! Every task of the service is spawned here, through one tracker, so that shutdown can wait for
//! all of them. The end of the data is the signal to stop: receivers end, so the intakes are gone,
//! so the pipelines drain and end, so the queues are closed, so the exporters drain and end.

mod common;
mod exporters;
mod files;
mod memory;
mod observed;
mod prepared;
mod receivers;
mod reload;
mod stored;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

pub use self::{
    files::Files,
    reload::{Refused, log_refused},
};

use anyhow::Context as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info};

use self::{
    common::Common,
    prepared::{detection, prepared, warn_of},
    receivers::{Authenticators, Servers},
    reload::Running,
    stored::{Ending, queues_of},
};

use crate::{
    clock,
    config::{ComponentId, Config, DetectionConfig, ExtensionConfig, PipelineConfig},
    deadline,
    detection::time::Micros,
    extension::{bearer_token_auth::BearerTokenAuth, file_storage, health_check::HealthCheck},
    http_server::Ends,
    memory::{Plan, Pressure, cgroup_limit},
    pipeline::FindingBudget,
    receiver::{self, Admission},
    telemetry,
};

/// How long it may take to look at all files.
const LOOK: Duration = Duration::from_mins(1);

/// Grace period of background tasks, after everything else has ended.
const GRACE_PERIOD: Duration = Duration::from_secs(3);

/// A service at work.
pub struct Service {
    addresses: Vec<(ComponentId, SocketAddr)>,
    extension_addresses: Vec<(ComponentId, SocketAddr)>,
    metrics_addresses: Vec<SocketAddr>,
    common: Common,
    /// Background tasks: extensions and telemetry, which begin before all others and end after them.
    background: TaskTracker,
    stop_background: CancellationToken,
    /// What runs, and what a reload may change.
    running: Running,
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
            common: Common::default(),
            background: TaskTracker::new(),
            stop_background: CancellationToken::new(),
            running: Running::default(),
        };
        match service.build(config).await {
            Ok(()) => {
                service.common.tracker.close();
                service.common.health.started();
                Ok(service)
            }
            Err(error) => {
                service.common.stop.cancel();
                service.common.cut.cancel();
                service.common.ending.abandon();
                service.stop_background.cancel();
                Err(error)
            }
        }
    }

    async fn build(&mut self, config: Config) -> anyhow::Result<()> {
        let looked = config.clone();
        let look = move || Files::of(&looked);
        self.running.files = deadline::blocking(LOOK, "looking at the files", look).await?;
        self.start_telemetry(&config).await?;
        self.running.authenticators = self
            .start_extensions(&config.extensions, &config.service_extensions)
            .await?;
        let mut plan = config.memory.plan(cgroup_limit());
        plan = plan.with(config.request_limit, config.queue_limit);
        let state = share_state(&mut plan, &config.processors, &config.pipelines);
        self.running.state = state;
        let (shared, mut watch) = self.budgets(plan, config.memory.check_interval);
        self.running.servers = Servers::new(shared.clone());
        let mut waiting = Vec::new();
        let now = Micros::from_unix_nanos(clock::unix_nanos()).unwrap_or_default();
        for (id, parts) in &config.pipelines {
            for exporter in &parts.exporters {
                if !self.running.exporters.contains_key(exporter)
                    && let Some(config) = config.exporters.get(exporter)
                {
                    let running = exporters::start(&self.common, exporter, config).await?;
                    self.running.exporters.insert(exporter.clone(), running);
                }
            }
            let own = queues_of(parts, &self.running.exporters);
            let of = config.processors.get(&parts.processor);
            let of = of.with_context(|| format!("there is no processor {}", parts.processor))?;
            warn_of(&parts.processor, of, now);
            let detection = detection(&parts.processor, of.clone(), state).await?;
            let storage = of.storage.as_ref();
            let storage = storage.and_then(|id| config.extensions.get(id));
            let ends = Ending {
                health: &self.common.health,
                metrics: &self.common.metrics,
                findings: watch.findings.clone(),
                exporters: &self.common.ending,
            };
            let (control, task) =
                stored::pipeline((id, now), (detection, own), storage, ends).await?;
            let task = task.run(shared.pressure.clone(), self.common.cut.clone());
            self.common.spawn_vital(id.to_string(), task);
            let counters = control.intake().counters();
            observed::pipeline(&self.common.metrics, id, &parts.processor, counters);
            watch.counters.push(Arc::clone(counters));
            for receiver in &parts.receivers {
                let Some(config) = config.receivers.get(receiver) else {
                    continue;
                };
                let (servers, auth) = (&self.running.servers, &self.running.authenticators);
                for server in servers.listen(receiver, config, auth).await? {
                    waiting.push((receiver.clone(), server, control.intake().clone()));
                }
            }
            self.running.pipelines.insert(id.clone(), control);
        }
        stored::keep(
            &self.running.exporters,
            &config.pipelines,
            &config.processors,
        );
        watch.connections = self.running.servers.connections();
        self.background
            .spawn(watch.run(self.stop_background.clone()));
        self.background.close();
        self.running.config = config;
        observed::reloads(&self.common.metrics, &self.common.reloads);
        // No request is let in before all parts are in place.
        for (id, server, intake) in waiting {
            let servers = &mut self.running.servers;
            servers.start(&self.common, &id, server, &intake);
        }
        self.addresses = self.running.servers.addresses();
        Ok(())
    }

    /// The budgets of requests and of findings, with their metrics, and what watches them.
    fn budgets(&self, plan: Plan, interval: Duration) -> (receiver::Shared, memory::Watch) {
        let pressure = Pressure::default();
        let admission = Admission::under(plan.requests, pressure.clone());
        let findings = FindingBudget::new(plan.findings);
        observed::process(&self.common.metrics, &admission, &findings);
        observed::memory_limits(&self.common.metrics, &plan);
        let shared = receiver::Shared {
            admission: admission.clone(),
            pressure: pressure.clone(),
            stop: self.common.stop.clone(),
            replaced: CancellationToken::new(),
            cut: self.common.cut.clone(),
        };
        let watch = memory::Watch {
            plan,
            pressure,
            admission,
            findings,
            counters: Vec::new(),
            connections: Arc::default(),
            interval,
        };
        (shared, watch)
    }

    /// Starts telemetry, before there is anything to measure.
    async fn start_telemetry(&mut self, config: &Config) -> anyhow::Result<()> {
        let resource = telemetry::resource(&config.resource);
        let (metrics, mut tasks) = telemetry::measure(&config.metrics, &resource).await?;
        let (tracer, more) = telemetry::trace(&config.traces, &resource)?;
        tasks.extend(more);
        self.common.metrics = metrics;
        self.common.tracer = tracer;
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
                observed::server(&self.common.metrics, &name, connections);
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
                    let health = self.common.health.clone();
                    let server = HealthCheck::bind(config, health)
                        .await
                        .with_context(context)?;
                    info!(extension = %id, endpoint = %server.address(), "answering whether it is ready");
                    observed::server(&self.common.metrics, &id.to_string(), server.connections());
                    self.extension_addresses
                        .push((id.clone(), server.address()));
                    let ends = Ends {
                        stop: self.stop_background.clone(),
                        replaced: CancellationToken::new(),
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

    /// Until a part without which nothing works has panicked. It is time to shut down then, and to
    /// let whatever watches the process start it again.
    pub async fn failed(&self) {
        self.common.failed.cancelled().await;
    }

    /// Loads a configuration with these files in the place of the one that runs. What has changed is
    /// applied; windows go on, but for those of detections whose rules have changed. May be dropped
    /// before it ends if the service is shut down next.
    ///
    /// # Errors
    /// When it cannot be applied, with all reasons. Nothing has changed then, unless a pipeline has ended.
    pub async fn reload(&mut self, config: Config, files: Files) -> Result<(), Refused> {
        let reloaded = self.running.reload(&self.common, config, files).await;
        self.addresses = self.running.servers.addresses();
        match reloaded {
            Ok(()) => {
                let reloads = &self.common.reloads;
                reloads.applied.fetch_add(1, Ordering::Relaxed);
                reloads.is_refused.store(false, Ordering::Relaxed);
            }
            Err(_) => self.count_refused(),
        }
        reloaded
    }

    /// Counts a configuration that could not even be read.
    pub fn count_refused(&self) {
        let reloads = &self.common.reloads;
        reloads.refused.fetch_add(1, Ordering::Relaxed);
        reloads.is_refused.store(true, Ordering::Relaxed);
    }

    /// Until a part without which nothing works has panicked, for who has lent the service out.
    pub fn failure(&self) -> impl Future<Output = ()> + Send + use<> {
        self.common.failed.clone().cancelled_owned()
    }

    /// How long the shutdown may take, by the configuration in use.
    pub fn shutdown_timeout(&self) -> Duration {
        self.running.config.shutdown_timeout
    }

    /// How often to look for changes, by the configuration in use.
    pub fn reload_interval(&self) -> Duration {
        self.running.config.reload_interval
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
    pub async fn shutdown(mut self, deadline: Duration) -> bool {
        info!("shutting down");
        self.common.health.stopping();
        // Intakes and queues are held here too, and their end is what ends the parts behind them.
        self.running = Running::default();
        let in_time = self.drain(deadline).await;
        // Metrics and spans of the end are pushed as well.
        self.stop_background.cancel();
        let _ended = tokio::time::timeout(GRACE_PERIOD, self.background.wait()).await;
        in_time && self.common.ending.lost() == 0
    }

    async fn drain(&self, deadline: Duration) -> bool {
        self.common.stop.cancel();
        self.common.ending.begin(deadline);
        // A sender that never ends its request must not cost the findings their time.
        let intake = deadline / 4;
        if tokio::time::timeout(intake, self.common.tracker.wait())
            .await
            .is_ok()
        {
            return true;
        }
        self.common.cut.cancel();
        if tokio::time::timeout(deadline.saturating_sub(intake), self.common.tracker.wait())
            .await
            .is_ok()
        {
            return true;
        }
        error!(?deadline, "shutdown took too long, giving up what is left");
        self.common.ending.abandon();
        // Exporters count and log what they give up, which takes no time.
        let _ended = tokio::time::timeout(Duration::from_secs(1), self.common.tracker.wait()).await;
        false
    }
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
        service
            .common
            .tracker
            .spawn(async { panic!("as it should") });
        service.common.spawn_vital("ends".to_owned(), async {});
        tokio::task::yield_now().await;
        assert!(!service.common.failed.is_cancelled());
        service
            .common
            .spawn_vital("panics".to_owned(), async { panic!("as it should") });
        let failed = tokio::time::timeout(Duration::from_secs(20), service.failed()).await;
        assert!(failed.is_ok());
        assert!(service.shutdown(Duration::from_secs(20)).await);
    }
}
