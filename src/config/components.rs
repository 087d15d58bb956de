//! The types of components: which there are, the settings of each, and what to say of types that only
//! the Collector has.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::LazyLock,
};

use super::{
    detection::DETECTION,
    exporters::{DEBUG, FILE, SPLUNK_HEC},
    extensions::{BEARER_TOKEN_AUTH, FILE_STORAGE, HEALTH_CHECK},
    forms::Part,
    hints::Suggestion,
    id::ComponentId,
    otlp_exporters::{OTLP_GRPC, OTLP_HTTP},
    read::Place,
    receivers::{OTLP, WEBHOOK},
    service::SERVICE,
    settings::{Entry, Shown, settings},
};
use TypeHint::{Absent, Use};

settings! {
    ROOT: () {
        receivers by config: Part(&RECEIVER_TYPES), "";
        processors by config: Part(&PROCESSOR_TYPES), "";
        exporters by config: Part(&EXPORTER_TYPES), "";
        extensions by config: Part(&EXTENSION_TYPES), "";
        service by config: Part(&SERVICE), "";
    }
    hints {
        "connectors": Remove("a pipeline ends with its detection's findings");
    }
}

settings! {
    RECEIVER_TYPES: () {
        otlp by receiver: Part(&OTLP), "";
        k8s_audit_webhook by receiver: Part(&WEBHOOK), "";
    }
}

settings! {
    PROCESSOR_TYPES: () {
        detection by detection: Part(&DETECTION), "";
    }
}

settings! {
    EXPORTER_TYPES: () {
        splunk_hec by exporter: Part(&SPLUNK_HEC), "";
        otlp_grpc by exporter: Part(&OTLP_GRPC), "";
        otlp_http by exporter: Part(&OTLP_HTTP), "";
        file by exporter: Part(&FILE), "";
        debug by exporter: Part(&DEBUG), "";
    }
}

settings! {
    EXTENSION_TYPES: () {
        health_check by extension: Part(&HEALTH_CHECK), "";
        bearertokenauth by extension: Part(&BEARER_TOKEN_AUTH), "";
        file_storage by extension: Part(&FILE_STORAGE), "";
    }
}

/// Keys whose values, and those within them, are never shown.
pub(crate) static SECRETS: LazyLock<BTreeSet<&'static str>> =
    LazyLock::new(|| names(&ROOT.entries(&()), &|entry| entry.fact.is_secret));

/// Keys whose values are addresses or paths.
pub(crate) static PLACES: LazyLock<BTreeSet<&'static str>> =
    LazyLock::new(|| names(&ROOT.entries(&()), &|entry| entry.fact.is_place));

/// The names of those of all keys that are wanted.
fn names(entries: &[Entry], wanted: &dyn Fn(&Entry) -> bool) -> BTreeSet<&'static str> {
    let own = entries.iter().filter(|entry| wanted(entry));
    let within = entries.iter().flat_map(|entry| match &entry.shown {
        Shown::Value(_) => BTreeSet::new(),
        Shown::Keys(inside) | Shown::Elements(inside) | Shown::Items(inside) => {
            names(inside, wanted)
        }
    });
    own.map(|entry| entry.fact.name).chain(within).collect()
}

/// The types of one kind of component, with hints for types that only the Collector has.
pub(crate) struct Types {
    /// The name of this kind of component, for messages.
    pub(crate) noun: &'static str,
    pub(crate) known: &'static [&'static str],
    pub(crate) hints: &'static [(&'static str, TypeHint)],
    /// Deprecated names that are still accepted, with their present names.
    pub(crate) renamed: &'static [(&'static str, &'static str)],
}

/// The hint for a component type that only the Collector has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TypeHint {
    /// This version does not have it.
    Absent,
    /// Do this instead.
    Use(&'static str),
}

impl fmt::Display for TypeHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Absent => "not available in this version",
            Use(what) => what,
        })
    }
}

/// Receivers, and processors that add the origin of logs.
const IN_FRONT: &str = "leave it to a collector that sends its logs here over otlp, and remove it";
const AS_THEY_COME: &str =
    "audit events are read as they come, leave it to the collector that sends them, and remove it";
const NOT_KEPT: &str = "use file_storage, a directory of this machine";
const OTHER_SIGNAL: &str =
    "findings are logs, send them to splunk_hec, otlp_grpc or otlp_http, and remove it";
const NO_DEBUG: &str = "service::telemetry has metrics and traces, remove it";
const BEARER: &str = "senders and exporters use bearertokenauth or certificates (tls), remove it";

/// Receivers.
pub(crate) const RECEIVERS: Types = Types {
    noun: "receiver",
    known: &["k8s_audit_webhook", "otlp"],
    hints: &[
        (
            "filelog",
            Use("auditwatch reads no files while it runs, let a collector send them over otlp"),
        ),
        (
            "file_log",
            Use("auditwatch reads no files while it runs, let a collector send them over otlp"),
        ),
        ("splunk_hec", Absent),
        ("fluentforward", Use(IN_FRONT)),
        ("fluent_forward", Use(IN_FRONT)),
        ("hostmetrics", Use(IN_FRONT)),
        ("host_metrics", Use(IN_FRONT)),
        ("jaeger", Use(IN_FRONT)),
        ("journald", Use(IN_FRONT)),
        ("k8s_cluster", Use(IN_FRONT)),
        ("k8s_events", Use(IN_FRONT)),
        ("k8sobjects", Use(IN_FRONT)),
        ("k8s_objects", Use(IN_FRONT)),
        ("kafka", Use(IN_FRONT)),
        ("kubeletstats", Use(IN_FRONT)),
        ("kubelet_stats", Use(IN_FRONT)),
        ("nop", Use("a pipeline needs a source, use otlp")),
        ("prometheus", Use(IN_FRONT)),
        ("receiver_creator", Use(IN_FRONT)),
        ("signalfx", Use(IN_FRONT)),
        ("smartagent", Use(IN_FRONT)),
        ("statsd", Use(IN_FRONT)),
        ("syslog", Use(IN_FRONT)),
        ("tcplog", Use(IN_FRONT)),
        ("tcp_log", Use(IN_FRONT)),
        ("webhookevent", Use(IN_FRONT)),
        ("webhook_event", Use(IN_FRONT)),
        ("zipkin", Use(IN_FRONT)),
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
            Use("auditwatch bounds its memory itself, remove it"),
        ),
        (
            "batch",
            Use("findings leave at once and splunk_hec batches what waits, remove it"),
        ),
        (
            "filter",
            Use("detection looks at audit events alone, remove it"),
        ),
        ("attributes", Use(AS_THEY_COME)),
        ("cumulativetodelta", Use("only logs are taken, remove it")),
        ("groupbyattrs", Use(AS_THEY_COME)),
        ("group_by_attrs", Use(AS_THEY_COME)),
        ("k8sattributes", Use(AS_THEY_COME)),
        ("k8s_attributes", Use(AS_THEY_COME)),
        ("logstransform", Use(AS_THEY_COME)),
        ("metricstransform", Use("only logs are taken, remove it")),
        ("metrics_transform", Use("only logs are taken, remove it")),
        (
            "probabilistic_sampler",
            Use("a rule that counts needs every event, remove it"),
        ),
        ("redaction", Use(AS_THEY_COME)),
        (
            "resource",
            Use("the cluster is k8s.cluster.name of what comes, or detection::cluster, remove it"),
        ),
        (
            "resource_detection",
            Use("the cluster is k8s.cluster.name of what comes, or detection::cluster, remove it"),
        ),
        (
            "resourcedetection",
            Use("the cluster is k8s.cluster.name of what comes, or detection::cluster, remove it"),
        ),
        ("tail_sampling", Use("only logs are taken, remove it")),
        ("transform", Use(AS_THEY_COME)),
    ],
    renamed: &[],
};

/// Exporters.
pub(crate) const EXPORTERS: Types = Types {
    noun: "exporter",
    known: &["debug", "file", "otlp_grpc", "otlp_http", "splunk_hec"],
    hints: &[
        ("logging", Use("it is called debug")),
        ("kafka", Use(OTHER_SIGNAL)),
        (
            "loadbalancing",
            Use("one receiver gets all findings, use otlp_grpc"),
        ),
        (
            "load_balancing",
            Use("one receiver gets all findings, use otlp_grpc"),
        ),
        ("nop", Use("findings have to go somewhere, use debug")),
        ("prometheus", Use(OTHER_SIGNAL)),
        ("prometheusremotewrite", Use(OTHER_SIGNAL)),
        ("prometheus_remote_write", Use(OTHER_SIGNAL)),
        ("sapm", Use(OTHER_SIGNAL)),
        ("signalfx", Use(OTHER_SIGNAL)),
    ],
    renamed: &[("otlp", "otlp_grpc"), ("otlphttp", "otlp_http")],
};

/// Extensions.
pub(crate) const EXTENSIONS: Types = Types {
    noun: "extension",
    known: &["bearertokenauth", "file_storage", "health_check"],
    hints: &[
        (
            "memory_limiter",
            Use("service::memory has its keys, move them there"),
        ),
        ("db_storage", Use(NOT_KEPT)),
        ("redis_storage", Use(NOT_KEPT)),
        ("basicauth", Use(BEARER)),
        (
            "headers_setter",
            Use("set headers of the exporter, remove it"),
        ),
        ("asapauthclient", Use(BEARER)),
        ("oauth2client", Use(BEARER)),
        ("oidc", Use(BEARER)),
        ("sigv4auth", Use(BEARER)),
        ("healthcheckv2", Use("it is called health_check")),
        ("http_forwarder", Use("not available, remove it")),
        ("k8s_observer", Use("nothing is looked for, remove it")),
        ("host_observer", Use("nothing is looked for, remove it")),
        ("docker_observer", Use("nothing is looked for, remove it")),
        (
            "opamp",
            Use("restart it with another configuration, remove it"),
        ),
        ("smartagent", Use("not available, remove it")),
        ("pprof", Use(NO_DEBUG)),
        ("zpages", Use(NO_DEBUG)),
    ],
    renamed: &[],
};

impl Types {
    /// The error for an unknown type.
    pub(crate) fn unknown(&self, kind: &str) -> String {
        let suggestion = self.suggestion(kind);
        let known = match suggestion {
            Suggestion::Hint(Absent) => format!(", known: {}", self.known.join(", ")),
            _ => String::new(),
        };
        format!("unknown {} type {kind:?}{suggestion}{known}", self.noun)
    }

    /// Whether a type is unknown and no misspelling of a known one.
    pub(crate) fn is_unknown_type(&self, kind: &str) -> bool {
        let kind = self.present(kind);
        !self.known.contains(&kind) && !matches!(self.suggestion(kind), Suggestion::Meant(_))
    }

    fn suggestion(&self, kind: &str) -> Suggestion<'static, TypeHint> {
        let hint = self.hints.iter().find(|(hinted, _)| *hinted == kind);
        Suggestion::of(kind, self.known, hint.map(|(_, hint)| *hint))
    }

    /// What a type is called now.
    fn present<'a>(&self, kind: &'a str) -> &'a str {
        let renamed = self.renamed.iter().find(|(old, _)| *old == kind);
        renamed.map_or(kind, |(_, new)| new)
    }

    /// Reads every component under `place`. The result holds every id that was written, with
    /// `None` where the component is of no known type, so that it is reported once.
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
