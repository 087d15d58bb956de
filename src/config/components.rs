//! The types of components: which there are, and what to say of some that are none.
use std::collections::BTreeMap;

use super::{id::ComponentId, keys::advice, read::Place};

/// The types of one kind of component, and what to say of some that are none.
pub(crate) struct Types {
    /// What such a component is called.
    pub(crate) noun: &'static str,
    pub(crate) known: &'static [&'static str],
    pub(crate) hints: &'static [(&'static str, &'static str)],
    /// Old names in the Collector, still taken, and what they are called now.
    pub(crate) renamed: &'static [(&'static str, &'static str)],
}

const ABSENT: &str = "not available in this version";
/// Receivers, and processors that say where logs come from.
const IN_FRONT: &str = "leave it to a collector that sends its logs here over otlp, and remove it";
const AS_THEY_COME: &str =
    "audit events are read as they come, leave it to the collector that sends them, and remove it";
const NOT_KEPT: &str = "nothing is kept on disk, remove it";
const OTHER_SIGNAL: &str =
    "findings are logs, send them to splunk_hec, otlp_grpc or otlp_http, and remove it";
const NO_DEBUG: &str = "service::telemetry has metrics and traces, remove it";
const BEARER: &str = "senders and exporters use bearertokenauth or certificates (tls), remove it";

/// Receivers.
pub(crate) const RECEIVERS: Types = Types {
    noun: "receiver",
    known: &["otlp"],
    hints: &[
        (
            "filelog",
            "auditwatch reads no files while it runs, let a collector send them over otlp",
        ),
        (
            "file_log",
            "auditwatch reads no files while it runs, let a collector send them over otlp",
        ),
        ("splunk_hec", ABSENT),
        ("k8s_audit_webhook", ABSENT),
        ("fluentforward", IN_FRONT),
        ("fluent_forward", IN_FRONT),
        ("hostmetrics", IN_FRONT),
        ("host_metrics", IN_FRONT),
        ("jaeger", IN_FRONT),
        ("journald", IN_FRONT),
        ("k8s_cluster", IN_FRONT),
        ("k8s_events", IN_FRONT),
        ("k8sobjects", IN_FRONT),
        ("k8s_objects", IN_FRONT),
        ("kafka", IN_FRONT),
        ("kubeletstats", IN_FRONT),
        ("kubelet_stats", IN_FRONT),
        ("nop", "a pipeline needs a source, use otlp"),
        ("prometheus", IN_FRONT),
        ("receiver_creator", IN_FRONT),
        ("signalfx", IN_FRONT),
        ("smartagent", IN_FRONT),
        ("statsd", IN_FRONT),
        ("syslog", IN_FRONT),
        ("tcplog", IN_FRONT),
        ("tcp_log", IN_FRONT),
        ("webhookevent", IN_FRONT),
        ("webhook_event", IN_FRONT),
        ("zipkin", IN_FRONT),
    ],
    renamed: &[],
};

/// Processors.
pub(crate) const PROCESSORS: Types = Types {
    noun: "processor",
    known: &["detection"],
    hints: &[
        (
            "memory_limiter",
            "auditwatch bounds its memory itself, remove it",
        ),
        (
            "batch",
            "findings leave at once and splunk_hec batches what waits, remove it",
        ),
        ("filter", "detection looks at audit events alone, remove it"),
        ("attributes", AS_THEY_COME),
        ("cumulativetodelta", "only logs are taken, remove it"),
        ("groupbyattrs", AS_THEY_COME),
        ("group_by_attrs", AS_THEY_COME),
        ("k8sattributes", AS_THEY_COME),
        ("k8s_attributes", AS_THEY_COME),
        ("logstransform", AS_THEY_COME),
        ("metricstransform", "only logs are taken, remove it"),
        ("metrics_transform", "only logs are taken, remove it"),
        (
            "probabilistic_sampler",
            "a rule that counts needs every event, remove it",
        ),
        ("redaction", AS_THEY_COME),
        (
            "resource",
            "the cluster is k8s.cluster.name of what comes, or detection::cluster, remove it",
        ),
        (
            "resource_detection",
            "the cluster is k8s.cluster.name of what comes, or detection::cluster, remove it",
        ),
        (
            "resourcedetection",
            "the cluster is k8s.cluster.name of what comes, or detection::cluster, remove it",
        ),
        ("tail_sampling", "only logs are taken, remove it"),
        ("transform", AS_THEY_COME),
    ],
    renamed: &[],
};

/// Exporters.
pub(crate) const EXPORTERS: Types = Types {
    noun: "exporter",
    known: &["debug", "file", "otlp_grpc", "otlp_http", "splunk_hec"],
    hints: &[
        ("logging", "it is called debug"),
        ("kafka", OTHER_SIGNAL),
        (
            "loadbalancing",
            "one receiver gets all findings, use otlp_grpc",
        ),
        (
            "load_balancing",
            "one receiver gets all findings, use otlp_grpc",
        ),
        ("nop", "findings have to go somewhere, use debug"),
        ("prometheus", OTHER_SIGNAL),
        ("prometheusremotewrite", OTHER_SIGNAL),
        ("prometheus_remote_write", OTHER_SIGNAL),
        ("sapm", OTHER_SIGNAL),
        ("signalfx", OTHER_SIGNAL),
    ],
    renamed: &[("otlp", "otlp_grpc"), ("otlphttp", "otlp_http")],
};

/// Extensions.
pub(crate) const EXTENSIONS: Types = Types {
    noun: "extension",
    known: &["bearertokenauth", "health_check"],
    hints: &[
        (
            "memory_limiter",
            "service::memory has its keys, move them there",
        ),
        ("file_storage", NOT_KEPT),
        ("db_storage", NOT_KEPT),
        ("redis_storage", NOT_KEPT),
        ("basicauth", BEARER),
        ("headers_setter", "set headers of the exporter, remove it"),
        ("asapauthclient", BEARER),
        ("oauth2client", BEARER),
        ("oidc", BEARER),
        ("sigv4auth", BEARER),
        ("healthcheckv2", "it is called health_check"),
        ("http_forwarder", "not available, remove it"),
        ("k8s_observer", "nothing is looked for, remove it"),
        ("host_observer", "nothing is looked for, remove it"),
        ("docker_observer", "nothing is looked for, remove it"),
        ("opamp", "restart it with another configuration, remove it"),
        ("smartagent", "not available, remove it"),
        ("pprof", NO_DEBUG),
        ("zpages", NO_DEBUG),
    ],
    renamed: &[],
};

impl Types {
    /// What to say of a type that is none.
    pub(crate) fn unknown(&self, kind: &str) -> String {
        let advice = advice(kind, self.known, self.hints);
        let known = if advice.ends_with(ABSENT) {
            format!(", known: {}", self.known.join(", "))
        } else {
            String::new()
        };
        format!("unknown {} type {kind:?}{advice}{known}", self.noun)
    }

    /// Whether a type is none, and no mistyped one either.
    pub(crate) fn is_foreign(&self, kind: &str) -> bool {
        let kind = self.present(kind);
        !self.known.contains(&kind)
            && !advice(kind, self.known, self.hints).contains("did you mean")
    }

    /// What a type is called now.
    fn present<'a>(&self, kind: &'a str) -> &'a str {
        let renamed = self.renamed.iter().find(|(old, _)| *old == kind);
        renamed.map_or(kind, |(_, new)| new)
    }

    /// Reads every component under `place`. The result holds every id that was written, with
    /// `None` where the component is of no known type, so that nobody complains of it twice.
    pub(crate) fn read<T>(
        &self,
        place: Option<&Place<'_>>,
        mut read: impl FnMut(&str, Place<'_>) -> Option<T>,
    ) -> BTreeMap<ComponentId, Option<T>> {
        let mut all = BTreeMap::new();
        for (key, place) in place.into_iter().flat_map(Place::children) {
            match key.name.parse::<ComponentId>() {
                Ok(id) => {
                    let kind = self.present(id.kind());
                    let component = if self.known.contains(&kind) {
                        read(kind, place)
                    } else {
                        place.fail_key(self.unknown(kind));
                        None
                    };
                    all.insert(id, component);
                }
                Err(error) => place.fail_key(error),
            }
        }
        all
    }
}
