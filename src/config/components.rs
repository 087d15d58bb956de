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
    ],
    renamed: &[],
};

/// Exporters.
pub(crate) const EXPORTERS: Types = Types {
    noun: "exporter",
    known: &["debug", "file", "otlp_grpc", "otlp_http", "splunk_hec"],
    hints: &[("logging", "it is called debug")],
    renamed: &[("otlp", "otlp_grpc"), ("otlphttp", "otlp_http")],
};

/// Extensions.
pub(crate) const EXTENSIONS: Types = Types {
    noun: "extension",
    known: &["bearertokenauth", "health_check"],
    hints: &[
        (
            "memory_limiter",
            "service::admission::request_limit_mib bounds what requests hold, remove it",
        ),
        ("file_storage", ABSENT),
        (
            "basicauth",
            "senders prove themselves by bearertokenauth or by certificates",
        ),
        ("pprof", ABSENT),
        ("zpages", ABSENT),
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
