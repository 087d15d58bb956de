//! Which number of which part is which metric.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::common::Reloads;
use crate::{
    clock,
    config::ComponentId,
    detection::{
        engine::Stats,
        envelope::{Reason as Ignored, Shape},
    },
    exporter::{
        dead_letter::Counters as LetterCounters,
        queue::{Counters as QueueCounters, Queue},
    },
    http_server::{Class, CloseReason, Connections},
    memory::Plan,
    pipeline::{ClusterTotals, Counters, FindingBudget, STATES, SourceCounters},
    processor::detection::Kept,
    receiver::{Admission, Reason},
    storage::Usage,
    telemetry::{
        self,
        metrics::{self as m, Metric, Metrics},
        process,
    },
};

/// A counter among what a part counts.
type Count<T> = fn(&T) -> &AtomicU64;
/// The same, for parts that show no atomics.
type Number<T> = fn(&T) -> u64;

/// The process, and what its receivers share. Called in the runtime whose tasks are counted.
pub(super) fn process(metrics: &Metrics, admission: &Admission, findings: &FindingBudget) {
    let begin = clock::monotonic();
    metrics.observe(&m::UPTIME, &[], move || {
        nanos(clock::monotonic().saturating_duration_since(begin))
    });
    metrics.observe(&m::CPU, &[], || nanos(process::cpu()));
    metrics.observe(&m::RSS, &[], process::memory);
    metrics.observe(&m::LOG_DROPPED, &[], telemetry::dropped_lines);
    let runtime = tokio::runtime::Handle::current().metrics();
    metrics.observe(&m::TASKS, &[], move || wide(runtime.num_alive_tasks()));
    let admission = admission.clone();
    metrics.observe(&m::ADMISSION_MEMORY, &[], move || wide(admission.granted()));
    let findings = findings.clone();
    metrics.observe(&m::QUEUE_MEMORY, &[], move || wide(findings.heap_bytes()));
}

/// Reloads of the configuration.
pub(super) fn reloads(metrics: &Metrics, reloads: &Arc<Reloads>) {
    let counts: [(&str, Count<Reloads>); 2] = [
        ("applied", |reloads| &reloads.applied),
        ("refused", |reloads| &reloads.refused),
    ];
    for (outcome, count) in counts {
        let reloads = Arc::clone(reloads);
        metrics.observe(&m::RELOADS, &[("outcome", outcome)], move || {
            count(&reloads).load(Ordering::Relaxed)
        });
    }
    let reloads = Arc::clone(reloads);
    metrics.observe(&m::RELOAD_SUCCESSFUL, &[], move || {
        u64::from(!reloads.is_refused.load(Ordering::Relaxed))
    });
}

/// What the process may take.
pub(super) fn memory_limits(metrics: &Metrics, plan: &Plan) {
    let (soft, hard) = plan.limits.unwrap_or_default();
    for (kind, limit) in [("soft", soft), ("hard", hard)] {
        metrics.observe(&m::MEMORY_LIMIT, &[("limit", kind)], move || limit);
    }
}

/// One receiver and protocol.
pub(super) fn receiver(
    metrics: &Metrics,
    id: &ComponentId,
    transport: &'static str,
    source: &Arc<SourceCounters>,
) {
    let id = id.to_string();
    let at = [("receiver", id.as_str()), ("transport", transport)];
    let counters: [(&Metric, Count<SourceCounters>); 3] = [
        (&m::ACCEPTED, |source| &source.accepted),
        (&m::REFUSED, |source| &source.refused),
        (&m::REQUESTS, |source| &source.requests),
    ];
    for (metric, count) in counters {
        let source = Arc::clone(source);
        metrics.observe(metric, &at, move || count(&source).load(Ordering::Relaxed));
    }
    for reason in Reason::ALL {
        for class in [Class::Anonymous, Class::Authenticated] {
            let source = Arc::clone(source);
            let [receiver, transport] = at;
            let (reason_of, class_of) = (("reason", reason.name()), ("class", class.name()));
            let at = [receiver, transport, reason_of, class_of];
            metrics.observe(&m::REFUSED_REQUESTS, &at, move || {
                source.refused_requests(reason, class)
            });
        }
    }
}

/// The connections of one receiver and protocol.
pub(super) fn connections(
    metrics: &Metrics,
    id: &ComponentId,
    transport: &'static str,
    connections: &Arc<Connections>,
) {
    let id = id.to_string();
    let (receiver, transport) = (("receiver", id.as_str()), ("transport", transport));
    for class in Class::ALL {
        let connections = Arc::clone(connections);
        let at = [receiver, transport, ("class", class.name())];
        metrics.observe(&m::CONNECTIONS, &at, move || connections.open(class));
    }
    for reason in CloseReason::ALL {
        for &class in reason.classes() {
            let connections = Arc::clone(connections);
            let (reason_of, class_of) = (("reason", reason.name()), ("class", class.name()));
            let at = [receiver, transport, reason_of, class_of];
            metrics.observe(&m::REFUSED_CONNECTIONS, &at, move || {
                connections.closed(reason, class)
            });
        }
    }
}

/// The connections of a server that answers probes or scrapes.
pub(super) fn server(metrics: &Metrics, server: &str, connections: &Arc<Connections>) {
    let server = ("server", server);
    for class in Class::ALL {
        let connections = Arc::clone(connections);
        let at = [server, ("class", class.name())];
        metrics.observe(&m::SERVER_CONNECTIONS, &at, move || connections.open(class));
    }
    for reason in CloseReason::ALL {
        for &class in reason.classes() {
            let connections = Arc::clone(connections);
            let at = [server, ("reason", reason.name()), ("class", class.name())];
            metrics.observe(&m::REFUSED_SERVER_CONNECTIONS, &at, move || {
                connections.closed(reason, class)
            });
        }
    }
}

/// A pipeline and its detection.
pub(super) fn pipeline(
    metrics: &Metrics,
    id: &ComponentId,
    processor: &ComponentId,
    counters: &Arc<Counters>,
) {
    let (id, processor) = (id.to_string(), processor.to_string());
    let at = [("pipeline", id.as_str())];
    let atomics: [(&Metric, Count<Counters>); 5] = [
        (&m::SCREENED, |counters| &counters.screened),
        (&m::CANDIDATES, |counters| &counters.candidates),
        (&m::DESELECTED, |counters| &counters.deselected),
        (&m::UNREADABLE, |counters| &counters.rejected),
        (&m::HITS, |counters| &counters.hits),
    ];
    for (metric, count) in atomics {
        let counters = Arc::clone(counters);
        metrics.observe(metric, &at, move || {
            count(&counters).load(Ordering::Relaxed)
        });
    }
    let stats: [(&Metric, Number<Stats>); 7] = [
        (&m::DUPLICATES, |stats| stats.duplicates),
        (&m::LATE, |stats| stats.late),
        (&m::LATE_DROPPED, |stats| stats.late_dropped),
        (&m::UNTIMED, |stats| stats.untimed),
        (&m::OVERFLOW, |stats| stats.overflow),
        (&m::EVICTED, |stats| stats.evicted),
        (&m::EVICTED_HITS, |stats| stats.evicted_hits),
    ];
    for (metric, count) in stats {
        let counters = Arc::clone(counters);
        metrics.observe(metric, &at, move || count(&counters.detection().stats));
    }
    clusters(metrics, &id, counters);
    opened(metrics, &id, counters);
    let kept: [(&Metric, Number<Kept>); 2] = [
        (&m::FILTERED, |kept| kept.filtered),
        (&m::FILTER_ERRORS, |kept| kept.filter_errors),
    ];
    for (metric, count) in kept {
        let counters = Arc::clone(counters);
        metrics.observe(metric, &at, move || count(&counters.detection()));
    }
    let excluding = Arc::clone(counters);
    metrics.observe_each(&m::EXCLUDED, &at, move || excluding.excluded());
    let tracking = Arc::clone(counters);
    metrics.observe(&m::TRACKED, &at, move || wide(tracking.detection().tracked));
    let tracking = Arc::clone(counters);
    metrics.observe(&m::STATE, &at, move || {
        wide(tracking.detection().heap_bytes)
    });
    for (place, state) in STATES.into_iter().enumerate() {
        let counters = Arc::clone(counters);
        let at = [("pipeline", id.as_str()), ("state", state.as_str())];
        metrics.observe(&m::FINDINGS, &at, move || counters.findings(place));
    }
    let [opened, updated, _] = STATES.map(|state| {
        metrics.timer(
            &m::FINDING_LAG,
            &[("pipeline", &id), ("state", state.as_str())],
        )
    });
    counters.time(opened, updated);

    let at = [("processor", processor.as_str()), ("otel.signal", "logs")];
    let incoming = Arc::clone(counters);
    metrics.observe(&m::INCOMING, &at, move || {
        // A request may end between the two.
        let screened = incoming.screened.load(Ordering::Relaxed);
        screened.saturating_sub(incoming.rejected.load(Ordering::Relaxed))
    });
    let outgoing = Arc::clone(counters);
    metrics.observe(&m::OUTGOING, &at, move || {
        (0..STATES.len())
            .map(|place| outgoing.findings(place))
            .sum()
    });
}

/// What arrives of each cluster.
fn clusters(metrics: &Metrics, pipeline: &str, counters: &Arc<Counters>) {
    let totals: [(&Metric, Number<ClusterTotals>); 4] = [
        (&m::CLUSTER_RECORDS, |totals| totals.records),
        (&m::CLUSTER_HITS, |totals| totals.hits),
        (&m::CLUSTER_LAST, |totals| totals.last_event),
        (&m::TRUNCATED, |totals| totals.truncated),
    ];
    for (metric, count) in totals {
        let counters = Arc::clone(counters);
        metrics.observe_each(metric, &[("pipeline", pipeline)], move || {
            let totals = counters.clusters.totals().into_iter();
            totals
                .map(|(cluster, totals)| (cluster, count(&totals)))
                .collect()
        });
    }
}

/// What was in records that are no plain events.
fn opened(metrics: &Metrics, pipeline: &str, counters: &Arc<Counters>) {
    for shape in Shape::ALL {
        let counters = Arc::clone(counters);
        let at = [("pipeline", pipeline), ("shape", shape.name())];
        metrics.observe(&m::ENVELOPES, &at, move || {
            counters.opened().envelopes(shape)
        });
    }
    for reason in Ignored::ALL {
        let counters = Arc::clone(counters);
        let at = [("pipeline", pipeline), ("reason", reason.name())];
        metrics.observe(&m::IGNORED, &at, move || counters.opened().ignored(reason));
    }
}

/// The storage of a pipeline. `limit`: bytes of its log and of its outbox, each.
pub(super) fn storage(
    metrics: &Metrics,
    pipeline: &str,
    (usage, is_up): (&Arc<Usage>, &Arc<AtomicBool>),
    limit: u64,
) {
    let at = [("pipeline", pipeline)];
    let is_up = Arc::clone(is_up);
    metrics.observe(&m::STORAGE_UP, &at, move || {
        u64::from(is_up.load(Ordering::Relaxed))
    });
    metrics.observe(&m::STORAGE_LIMIT, &at, move || limit);
    let numbers: [(&Metric, Number<Usage>); 4] = [
        (&m::STORAGE_COMMITS, Usage::commits),
        (&m::STORAGE_FAILED, Usage::failed_commits),
        (&m::STORAGE_SNAPSHOTS, Usage::snapshots),
        (&m::STORAGE_SNAPSHOT_AGE, |usage| {
            usage.snapshot_age().as_secs()
        }),
    ];
    for (metric, count) in numbers {
        let usage = Arc::clone(usage);
        metrics.observe(metric, &at, move || count(&usage));
    }
    let parts: [(&Metric, &str, Number<Usage>); 5] = [
        (&m::STORAGE_SIZE, "log", |usage| usage.bounds().entry_bytes),
        (&m::STORAGE_SIZE, "outbox", |usage| {
            usage.bounds().finding_bytes
        }),
        (&m::STORAGE_SIZE, "snapshot", Usage::snapshot_bytes),
        (&m::STORAGE_ENTRIES, "log", |usage| usage.bounds().entries()),
        (&m::STORAGE_ENTRIES, "outbox", |usage| {
            usage.bounds().findings()
        }),
    ];
    for (metric, part, count) in parts {
        let usage = Arc::clone(usage);
        let at = [("pipeline", pipeline), ("part", part)];
        metrics.observe(metric, &at, move || count(&usage));
    }
    usage.time(metrics.timer(&m::STORAGE_DELAY, &at));
}

/// What becomes of an exporter's dead letters.
pub(super) fn dead_letters(metrics: &Metrics, id: &ComponentId, counters: &Arc<LetterCounters>) {
    let id = id.to_string();
    let at = [("exporter", id.as_str())];
    let (written, failed) = (Arc::clone(counters), Arc::clone(counters));
    metrics.observe(&m::DEAD_LETTERS, &at, move || written.written());
    metrics.observe(&m::DEAD_LETTERS_FAILED, &at, move || failed.failed());
}

/// An exporter and its queue.
pub(super) fn exporter(metrics: &Metrics, id: &ComponentId, queue: &Queue) {
    let id = id.to_string();
    let at = [("exporter", id.as_str())];
    let counters: [(&Metric, Number<QueueCounters>); 4] = [
        (&m::SENT, QueueCounters::sent),
        (&m::SEND_FAILED, QueueCounters::send_failed),
        (&m::ENQUEUE_FAILED, QueueCounters::enqueue_failed),
        (&m::RETRIES, QueueCounters::retries),
    ];
    for (metric, count) in counters {
        let counters = Arc::clone(queue.counters());
        metrics.observe(metric, &at, move || count(&counters));
    }
    queue
        .counters()
        .time(metrics.timer(&m::DELIVERY_DELAY, &at));
    let counters = Arc::clone(queue.counters());
    metrics.observe(&m::OLDEST, &at, move || counters.oldest_age().as_secs());
    let at = [("exporter", id.as_str()), ("data_type", "logs")];
    let capacity = wide(queue.capacity());
    metrics.observe(&m::QUEUE_CAPACITY, &at, move || capacity);
    let waiting = queue.waiting();
    metrics.observe(&m::QUEUE_SIZE, &at, move || wide(waiting()));
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
