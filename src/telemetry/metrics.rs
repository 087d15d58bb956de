//! Our own metrics: their names, and the numbers they are read from.
//!
//! Parts of the service count for themselves, in atomics. [`Metrics::observe`] ties such a number
//! to a name; a reader reads it on demand, and until then it costs nothing. Names and attributes of
//! `otelcol_*` are the Collector's, so that its dashboards show auditwatch too.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Histogram, Meter, MeterProvider as _},
};
use opentelemetry_sdk::{
    Resource,
    metrics::{MeterProviderBuilder, SdkMeterProvider},
};

/// How much is measured, `service::telemetry::metrics::level`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing is measured, and no scrape is answered.
    None,
    /// Records in, hits and findings, findings out.
    Basic,
    /// Besides those, what an operator needs.
    #[default]
    Normal,
    /// Everything.
    Detailed,
}

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number that grows.
    Counter,
    /// Seconds that grow, read as nanoseconds.
    Seconds,
    /// A whole number that goes up and down.
    Gauge,
    /// A histogram of durations, in seconds.
    Histogram,
}

/// One metric: its name and its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The name, as OTLP has it. Prometheus shows the same one.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// The lowest level at which it is measured.
    pub level: Level,
    /// The unit, as UCUM writes it.
    pub unit: &'static str,
    /// Its description, for readers of the metric.
    pub description: &'static str,
    /// Names of the attributes that each of its values has.
    pub attributes: &'static [&'static str],
}

macro_rules! metrics {
    ($($id:ident: $kind:ident $level:ident $name:literal [$($attribute:literal),*]
        $unit:literal $description:literal;)*) => {
        $(#[doc = $description]
        pub const $id: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            level: Level::$level,
            unit: $unit,
            description: $description,
            attributes: &[$($attribute),*],
        };)*
        /// All metrics there are.
        pub const ALL: &[Metric] = &[$($id),*];
    };
}

metrics! {
    ACCEPTED: Counter Basic "otelcol_receiver_accepted_log_records" ["receiver", "transport"]
        "{records}" "Log records that the pipeline accepted.";
    REFUSED: Counter Basic "otelcol_receiver_refused_log_records" ["receiver", "transport"]
        "{records}" "Log records that were refused: unreadable records, and all records of a request that was refused for now. Records of a request that was refused before it was read are not counted.";
    INCOMING: Counter Basic "otelcol_processor_incoming_items" ["processor", "otel.signal"]
        "{items}" "Log records that entered the detection.";
    OUTGOING: Counter Basic "otelcol_processor_outgoing_items" ["processor", "otel.signal"]
        "{items}" "Emissions of the detection. Each one is one state of a finding.";
    SENT: Counter Basic "otelcol_exporter_sent_log_records" ["exporter"]
        "{records}" "Findings that the destination accepted.";
    SEND_FAILED: Counter Basic "otelcol_exporter_send_failed_log_records" ["exporter"]
        "{records}" "Findings that the exporter gave up.";
    ENQUEUE_FAILED: Counter Basic "otelcol_exporter_enqueue_failed_log_records" ["exporter"]
        "{records}" "Findings that got no place in the queue before the exporter ended.";
    QUEUE_SIZE: Gauge Basic "otelcol_exporter_queue_size" ["exporter", "data_type"]
        "{findings}" "Findings in the queue of the exporter.";
    QUEUE_CAPACITY: Gauge Basic "otelcol_exporter_queue_capacity" ["exporter", "data_type"]
        "{findings}" "Findings that the queue of the exporter can hold.";
    OLDEST: Gauge Basic "otelcol_exporter_oldest_undelivered_age" ["exporter"]
        "s" "Age of the oldest finding that the exporter holds and has neither delivered nor given up. 0 means that none waits.";
    UPTIME: Seconds Basic "otelcol_process_uptime" []
        "s" "Time since the process started.";
    CPU: Seconds Basic "otelcol_process_cpu_seconds" []
        "s" "CPU time of the process, user and system.";
    RSS: Gauge Basic "otelcol_process_memory_rss" []
        "By" "Physical memory of the process.";
    LOG_DROPPED: Counter Normal "auditwatch_log_lines_dropped" []
        "{lines}" "Lines of the log of auditwatch that were dropped, because standard error was not read or could not be written.";
    RELOADS: Counter Normal "auditwatch_config_reloads" ["outcome"]
        "{reloads}" "Reloads of the configuration and its files, applied or refused.";
    RELOAD_SUCCESSFUL: Gauge Basic "auditwatch_config_last_reload_successful" []
        "{boolean}" "1: the configuration in use is the last one that was written. 0: that one was refused, and the one before is in use.";
    TASKS: Gauge Normal "auditwatch_tasks" []
        "{tasks}" "Tasks that have not ended: connections, streams, pipelines, exporters.";

    REQUESTS: Counter Detailed "auditwatch_receiver_requests" ["receiver", "transport"]
        "{requests}" "Requests that were accepted.";
    REFUSED_REQUESTS: Counter Normal "auditwatch_receiver_refused_requests" ["receiver", "transport", "reason", "class"]
        "{requests}" "Requests that were refused, by reason and by class of their connection.";
    CONNECTIONS: Gauge Normal "auditwatch_receiver_connections" ["receiver", "transport", "class"]
        "{connections}" "Open connections by class: authenticated, anonymous (has sent a complete request), unfinished (has not).";
    REFUSED_CONNECTIONS: Counter Normal "auditwatch_receiver_refused_connections" ["receiver", "transport", "reason", "class"]
        "{connections}" "Connections that auditwatch refused or closed early, by reason and class.";
    SERVER_CONNECTIONS: Gauge Normal "auditwatch_server_connections" ["server", "class"]
        "{connections}" "Open connections of probes and scrapes by class. The server is a `health_check` extension or `prometheus`.";
    REFUSED_SERVER_CONNECTIONS: Counter Normal "auditwatch_server_refused_connections" ["server", "reason", "class"]
        "{connections}" "Connections of probes and scrapes that auditwatch refused or closed early, by reason and class.";
    MEMORY_LIMIT: Gauge Normal "auditwatch_memory_limit" ["limit"]
        "By" "Memory limit of the process, soft and hard. 0 means that there is no limit.";
    QUEUE_MEMORY: Gauge Normal "auditwatch_queue_memory" []
        "By" "Memory of findings that wait for exporters or are in an attempt.";
    ADMISSION_MEMORY: Gauge Normal "auditwatch_admission_memory" []
        "By" "Memory that admission has granted to requests, over all receivers.";
    SCREENED: Counter Normal "auditwatch_screened_log_records" ["pipeline"]
        "{records}" "Log records of accepted requests that were screened.";
    CANDIDATES: Counter Normal "auditwatch_candidates" ["pipeline"]
        "{records}" "Candidates: log records that the prefilter let through. They are parsed.";
    UNREADABLE: Counter Normal "auditwatch_unreadable_log_records" ["pipeline"]
        "{records}" "Candidates that are not one JSON value.";
    HITS: Counter Basic "auditwatch_hits" ["pipeline"]
        "{hits}" "Hits: audit events that match a detection.";
    DESELECTED: Counter Normal "auditwatch_hits_deselected" ["pipeline"]
        "{hits}" "Matching audit events that the selector excluded.";
    EXCLUDED: Counter Normal "auditwatch_excluded_hits" ["pipeline", "exclude"]
        "{hits}" "Hits that did not count because an entry of exclude applies. They are among the hits that match a detection.";
    FILTERED: Counter Normal "auditwatch_filtered_findings" ["pipeline"]
        "{findings}" "States of findings that the filter kept away.";
    FILTER_ERRORS: Counter Normal "auditwatch_filter_errors" ["pipeline"]
        "{findings}" "States of findings that were sent because the filter failed.";
    DUPLICATES: Counter Normal "auditwatch_hits_duplicate" ["pipeline"]
        "{hits}" "Duplicate hits. A request is counted once.";
    LATE: Counter Normal "auditwatch_hits_late" ["pipeline"]
        "{hits}" "Late hits: their event time is below the watermark.";
    LATE_DROPPED: Counter Normal "auditwatch_hits_late_dropped" ["pipeline"]
        "{hits}" "Late hits that were dropped, because they could not be counted exactly any more.";
    OVERFLOW: Counter Normal "auditwatch_hits_overflow" ["pipeline"]
        "{hits}" "Unassigned hits that were discarded, because their key had more of them than the state keeps.";
    UNTIMED: Counter Normal "auditwatch_hits_untimed" ["pipeline"]
        "{hits}" "Hits without a time. They are dropped.";
    TRACKED: Gauge Normal "auditwatch_tracked_keys" ["pipeline"]
        "{keys}" "Keys in the state.";
    STATE: Gauge Normal "auditwatch_state_memory" ["pipeline"]
        "By" "Memory of the state: bytes on the heap.";
    CLUSTER_RECORDS: Counter Normal "auditwatch_cluster_log_records" ["pipeline", "cluster"]
        "{records}" "Log records that were accepted, by cluster. The first 100 clusters have a value each, the rest is `other`; a cluster without a name is `unknown`.";
    CLUSTER_HITS: Counter Normal "auditwatch_cluster_hits" ["pipeline", "cluster"]
        "{hits}" "Hits by cluster.";
    CLUSTER_LAST: Gauge Normal "auditwatch_cluster_last_event_time" ["pipeline", "cluster"]
        "s" "Time of the last log record of a cluster, in seconds since 1970: the time of the event where it is known, else that of the record.";
    TRUNCATED: Counter Normal "auditwatch_truncated_candidates" ["pipeline", "cluster"]
        "{records}" "Audit events that were cut on their way, by cluster. Those whose status code is behind the cut are in no other count.";
    ENVELOPES: Counter Normal "auditwatch_envelopes" ["pipeline", "shape"]
        "{envelopes}" "Envelopes that held audit events, by their shape. One record may have several around each other. Plain events have none.";
    IGNORED: Counter Normal "auditwatch_ignored_records" ["pipeline", "reason"]
        "{records}" "Records that were accepted and hold no audit event, by reason; of an envelope each part. The log describes a sample of them.";
    EVICTED: Counter Normal "auditwatch_evicted_keys" ["pipeline"]
        "{keys}" "Keys that were evicted to stay within the bounds of the state.";
    EVICTED_HITS: Gauge Normal "auditwatch_evicted_hits_bound" ["pipeline"]
        "{hits}" "The most hits of one window that any key may have lost by evictions. A key with more than the threshold and this many hits in a window is found.";
    FINDINGS: Counter Basic "auditwatch_findings" ["pipeline", "state"]
        "{findings}" "Emissions by state of the finding: opened, updated, closed.";
    FINDING_LAG: Histogram Normal "auditwatch_finding_lag" ["pipeline", "state"]
        "s" "Wall-clock time from the event that opened or changed a finding to the emission. For escu it starts at the end of the window.";
    STORAGE_UP: Gauge Normal "auditwatch_storage_up" ["pipeline"]
        "{boolean}" "Whether the last write to the storage succeeded, 1 or 0. At 0 requests with hits are refused for now.";
    STORAGE_SIZE: Gauge Normal "auditwatch_storage_size" ["pipeline", "part"]
        "By" "Bytes in the storage: of the log, of the outbox (findings that are not delivered), of the last snapshot.";
    STORAGE_LIMIT: Gauge Normal "auditwatch_storage_size_limit" ["pipeline"]
        "By" "Bytes of the log, and of the outbox, at which requests with hits are refused for now.";
    STORAGE_ENTRIES: Gauge Normal "auditwatch_storage_entries" ["pipeline", "part"]
        "{entries}" "Entries of the log that a start would read, and findings in the outbox.";
    STORAGE_COMMITS: Counter Normal "auditwatch_storage_commits" ["pipeline"]
        "{commits}" "Writes to the storage that were synced. One holds what all connections have waiting.";
    STORAGE_FAILED: Counter Normal "auditwatch_storage_failed_commits" ["pipeline"]
        "{commits}" "Writes to the storage that failed. The log says why.";
    STORAGE_DELAY: Histogram Normal "auditwatch_storage_commit_duration" ["pipeline"]
        "s" "Time of a write to the storage, with its sync. Requests with hits wait for it.";
    STORAGE_SNAPSHOTS: Counter Normal "auditwatch_storage_snapshots" ["pipeline"]
        "{snapshots}" "Snapshots of the state that were kept.";
    STORAGE_SNAPSHOT_AGE: Gauge Normal "auditwatch_storage_snapshot_age" ["pipeline"]
        "s" "Time since the last snapshot was kept, or since the start when none was since then. A start reads the log behind it.";
    RETRIES: Counter Normal "auditwatch_exporter_retries" ["exporter"]
        "{requests}" "Attempts of an exporter that repeat an earlier attempt.";
    DEAD_LETTERS: Counter Normal "auditwatch_exporter_dead_letters" ["exporter"]
        "{findings}" "Findings that the destination can never take and that are in the dead-letter file. They count as given up too.";
    DEAD_LETTERS_FAILED: Counter Normal "auditwatch_exporter_dead_letters_failed" ["exporter"]
        "{findings}" "Findings that belong into the dead-letter file and could not be written to it. They count as given up too.";
    DELIVERY_DELAY: Histogram Normal "auditwatch_exporter_delivery_delay" ["exporter"]
        "s" "Time from the queue to the acceptance by the destination, for each finding.";
}

/// Bounds of the histograms, in seconds: from a request that goes well to an outage.
const BOUNDS: [f64; 15] = [
    0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0,
];

/// Name and value of an attribute.
pub type Attribute<'a> = (&'static str, &'a str);

/// Shows a value with its attributes.
type Show<'a> = &'a mut dyn FnMut(u64, &[KeyValue]);

/// The source of some values.
struct Source(Box<dyn Fn(Show<'_>) + Send + Sync>);

/// The sources of one metric.
#[derive(Clone, Default)]
struct Sources(Arc<Mutex<Vec<Source>>>);

impl Sources {
    fn each(&self, mut show: impl FnMut(u64, &[KeyValue])) {
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for Source(read) in &*sources {
            read(&mut show);
        }
    }
}

/// The metrics of a service. Copies share them; one of level none measures nothing.
#[derive(Clone, Default)]
pub struct Metrics {
    inner: Option<Arc<Inner>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

struct Inner {
    level: Level,
    meter: Meter,
    sources: Mutex<BTreeMap<&'static str, Sources>>,
    /// Its readers end with it.
    _provider: SdkMeterProvider,
}

impl Metrics {
    /// Metrics for the readers of a provider.
    pub(super) fn new(level: Level, provider: MeterProviderBuilder, resource: Resource) -> Self {
        let provider = provider.with_resource(resource).build();
        Self {
            inner: Some(Arc::new(Inner {
                level,
                meter: provider.meter("auditwatch"),
                sources: Mutex::default(),
                _provider: provider,
            })),
        }
    }

    fn at(&self, metric: &Metric) -> Option<&Inner> {
        let inner = self.inner.as_deref()?;
        (metric.level <= inner.level).then_some(inner)
    }

    /// Binds a number to a metric. Each reader calls `read`, which must not block.
    pub fn observe(
        &self,
        metric: &Metric,
        attributes: &[Attribute<'_>],
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let attributes = key_values(metric, attributes);
        self.bind(metric, move |show| show(read(), &attributes));
    }

    /// Binds numbers to a metric, one for each value of its last attribute. Each reader calls `read`,
    /// which must not block.
    pub fn observe_each(
        &self,
        metric: &Metric,
        attributes: &[Attribute<'_>],
        read: impl Fn() -> Vec<(Arc<str>, u64)> + Send + Sync + 'static,
    ) {
        let Some((&last, _)) = metric.attributes.split_last() else {
            return;
        };
        let all: Vec<_> = attributes.iter().copied().chain([(last, "")]).collect();
        let mut attributes = key_values(metric, &all);
        attributes.pop();
        self.bind(metric, move |show| {
            for (value, number) in read() {
                let mut of = attributes.clone();
                of.push(KeyValue::new(last, value));
                show(number, &of);
            }
        });
    }

    fn bind(&self, metric: &Metric, read: impl Fn(Show<'_>) + Send + Sync + 'static) {
        let Some(inner) = self.at(metric) else { return };
        let mut all = inner.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let sources = all.entry(metric.name).or_insert_with(|| {
            let sources = Sources::default();
            instrument(&inner.meter, metric, sources.clone());
            sources
        });
        sources
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Source(Box::new(read)));
    }

    /// A recorder of the durations of a histogram.
    pub fn timer(&self, metric: &Metric, attributes: &[Attribute<'_>]) -> Timer {
        Timer {
            to: self.at(metric).map(|inner| {
                let histogram = inner
                    .meter
                    .f64_histogram(metric.name)
                    .with_unit(metric.unit)
                    .with_description(metric.description)
                    .with_boundaries(BOUNDS.to_vec())
                    .build();
                (histogram, key_values(metric, attributes).into())
            }),
        }
    }
}

fn key_values(metric: &Metric, attributes: &[Attribute<'_>]) -> Vec<KeyValue> {
    debug_assert!(
        metric
            .attributes
            .iter()
            .eq(attributes.iter().map(|(name, _)| name)),
        "{} has other attributes",
        metric.name
    );
    attributes
        .iter()
        .map(|(name, value)| KeyValue::new(*name, (*value).to_owned()))
        .collect()
}

/// Creates the instrument that reports the values of the sources.
fn instrument(meter: &Meter, metric: &Metric, sources: Sources) {
    let Metric {
        name,
        unit,
        description,
        ..
    } = *metric;
    match metric.kind {
        Kind::Counter => {
            meter
                .u64_observable_counter(name)
                .with_unit(unit)
                .with_description(description)
                .with_callback(move |seen| sources.each(|value, at| seen.observe(value, at)))
                .build();
        }
        Kind::Gauge => {
            meter
                .u64_observable_gauge(name)
                .with_unit(unit)
                .with_description(description)
                .with_callback(move |seen| sources.each(|value, at| seen.observe(value, at)))
                .build();
        }
        Kind::Seconds => {
            meter
                .f64_observable_counter(name)
                .with_unit(unit)
                .with_description(description)
                .with_callback(move |seen| {
                    sources.each(|nanos, at| {
                        seen.observe(Duration::from_nanos(nanos).as_secs_f64(), at);
                    });
                })
                .build();
        }
        // Durations are recorded, not observed.
        Kind::Histogram => debug_assert!(false, "{name} wants a timer"),
    }
}

/// Takes the times of a histogram. The default takes them and does nothing.
#[derive(Clone, Debug, Default)]
pub struct Timer {
    to: Option<(Histogram<f64>, Arc<[KeyValue]>)>,
}

impl Timer {
    /// Takes one time.
    pub fn record(&self, time: Duration) {
        if let Some((histogram, attributes)) = &self.to {
            histogram.record(time.as_secs_f64(), attributes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_has_a_name_of_its_own_and_says_what_it_is() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            let Metric {
                name, description, ..
            } = metric;
            assert!(
                name.starts_with("otelcol_") || name.starts_with("auditwatch_"),
                "{name}"
            );
            assert!(description.ends_with('.'), "{name}");
            assert!(metric.level > Level::None, "{name}");
        }
    }

    #[test]
    fn without_a_provider_nothing_is_measured() {
        let metrics = Metrics::default();
        metrics.observe(&UPTIME, &[], || panic!("level none must not observe"));
        metrics
            .timer(&DELIVERY_DELAY, &[("exporter", "debug")])
            .record(Duration::from_secs(1));
    }
}
