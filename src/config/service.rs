//! The service section: pipelines, which must fit together.
use std::{collections::BTreeMap, time::Duration};

use super::{
    components::{EXPORTERS, EXTENSIONS, PROCESSORS, RECEIVERS, Types},
    forms::{Mib, Number, Part, ReadBy, Time, Unset},
    hints::ABSENT,
    id::ComponentId,
    model::{Config, PipelineConfig},
    read::{Place, Section},
    settings::settings,
    telemetry::TELEMETRY,
    value::Value,
};
use crate::memory;

const MIB: usize = 1024 * 1024;
/// The largest number of MiB that a budget or limit may have.
pub(crate) const MOST_MIB: usize = 1024 * 1024;

settings! {
    SERVICE: Config {
        extensions by extensions: ReadBy("list of component ids"), "The extensions that are started.",
            example("[health_check, bearertokenauth]");
        admission => self: Part(&ADMISSION), "";
        memory: Part(&MEMORY),
            "The keys of the Collector's memory_limiter. Above the soft limit new requests are refused \
             for now while requests are what exceeds, above the hard one new connections too.";
        shutdown_timeout: Time(Duration::ZERO..=Duration::from_hours(1)),
            "How long the shutdown may take: receivers stop, findings under way are delivered.";
        reload_interval: Time(Duration::ZERO..=Duration::from_hours(24)),
            "How often the configuration and the files that it names are looked at: what has changed \
             is applied. 0s: only at SIGHUP.";
        telemetry => self: Part(&TELEMETRY), "";
        pipelines by pipelines: Part(&PIPELINES),
            "Pipelines are called logs or logs/name. A receiver or processor is in one only.";
    }
}

settings! {
    ADMISSION: Config {
        request_limit_mib => request_limit: Unset(Mib(MOST_MIB)),
            "Memory that requests under way may hold, over all receivers, in MiB. A request that needs \
             more is refused for now. One request alone may hold more, up to its own limit. Without a \
             value a quarter of the limit of service::memory; 128 where there is no limit.";
        queue_limit_mib => queue_limit: Unset(Mib(MOST_MIB)),
            "Memory that findings may hold until their exporters have delivered them, over all queues, \
             in MiB. Beyond it requests that may cause findings are refused for now. Without a value an \
             eighth of the limit of service::memory; 64 where there is no limit.";
    }
    hints {
        "waiting_limit_mib": Remove("requests beyond the limit do not wait, they are refused");
    }
}

settings! {
    MEMORY: memory::Config {
        check_interval: Time(Duration::from_millis(10)..=Duration::from_mins(1)),
            "How often the memory of the process is looked at.";
        limit_mib => limit: Unset(Mib(MOST_MIB as u64)),
            "The hard limit: what the process may take, in MiB. It goes before limit_percentage.";
        spike_limit_mib => spike_limit: Unset(Mib(MOST_MIB as u64)),
            "How far the soft limit is below the hard one, in MiB. It goes before \
             spike_limit_percentage.";
        limit_percentage: Number(1..=100),
            "The hard limit in percent of the memory limit of the cgroup (of the pod). Without such a \
             limit, and without limit_mib, there is none.";
        spike_limit_percentage: Number(0..=99),
            "How far the soft limit is below the hard one, in percent of that.";
    }
    hints {
        "min_gc_interval_when_soft_limited": Remove(ABSENT);
        "min_gc_interval_when_hard_limited": Remove(ABSENT);
    }
    check spike_fits
}

settings! {
    PIPELINES: () {
        logs by pipelines: Part(&PIPELINE), "";
    }
}

settings! {
    PIPELINE: () {
        receivers by pipeline: ReadBy("list of component ids"), "One or more.", required("[otlp]");
        processors by pipeline: ReadBy("list of component ids"), "Exactly one detection.",
            required("[detection]");
        exporters by pipeline: ReadBy("list of component ids"), "One or more. Each gets every finding.",
            required("[splunk_hec]");
    }
}

/// Which ids are defined, also those that are wrong.
pub(crate) struct Defined<'a> {
    pub(crate) receivers: &'a dyn Fn(&ComponentId) -> State,
    pub(crate) processors: &'a dyn Fn(&ComponentId) -> State,
    pub(crate) exporters: &'a dyn Fn(&ComponentId) -> State,
}

/// The state of a component that a pipeline refers to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It is defined.
    Good,
    /// It is defined, and what is wrong with it was reported.
    Reported,
    /// It is not defined.
    Missing,
}

impl State {
    /// The state of the component with this id, among those that were read.
    pub(crate) fn of<T>(all: &BTreeMap<ComponentId, Option<T>>, id: &ComponentId) -> Self {
        match all.get(id) {
            Some(Some(_)) => Self::Good,
            Some(None) => Self::Reported,
            None => Self::Missing,
        }
    }
}

/// The extensions that are to be started.
pub(crate) fn extensions(
    section: &Section<'_>,
    state: &dyn Fn(&ComponentId) -> State,
) -> Vec<ComponentId> {
    let found = references(section, "extensions", &EXTENSIONS, state);
    found.good.into_iter().map(|(id, _)| id).collect()
}

/// The pipelines. A receiver or processor that is in one already is refused in another.
pub(crate) fn pipelines(
    section: &Section<'_>,
    defined: &Defined<'_>,
) -> BTreeMap<ComponentId, PipelineConfig> {
    let mut pipelines = BTreeMap::new();
    let mut taken = BTreeMap::new();
    let place = section.place("pipelines");
    let children = place.as_ref().map(Place::children).unwrap_or_default();
    if children.is_empty() {
        let message = "no pipeline, add logs: {receivers: [otlp], processors: [detection], \
                       exporters: [splunk_hec]}";
        match &place {
            Some(place) => place.fail_key(message),
            None => section.fail(format_args!("pipelines is required: {message}")),
        }
    }
    for (key, place) in children {
        let Some(id) = pipeline_id(&key.name, &place) else {
            continue;
        };
        let pipeline = pipeline(&id, place, defined, &mut taken);
        pipelines.extend(pipeline.map(|pipeline| (id, pipeline)));
    }
    pipelines
}

fn pipeline_id(text: &str, place: &Place<'_>) -> Option<ComponentId> {
    let id: ComponentId = text.parse().map_err(|error| place.fail_key(error)).ok()?;
    match id.kind() {
        "logs" => return Some(id),
        "traces" | "metrics" | "profiles" => place.fail_key(
            "auditwatch finds scans in audit logs and handles no other signal, \
             use logs and leave the rest to a collector",
        ),
        kind => place.fail_key(format_args!("unknown signal {kind:?}, known: logs")),
    }
    None
}

type Taken = BTreeMap<(&'static str, ComponentId), ComponentId>;

fn pipeline(
    id: &ComponentId,
    place: Place<'_>,
    defined: &Defined<'_>,
    taken: &mut Taken,
) -> Option<PipelineConfig> {
    let section = place.section(&PIPELINE.table);
    let receivers = references(&section, "receivers", &RECEIVERS, defined.receivers);
    let processors = references(&section, "processors", &PROCESSORS, defined.processors);
    let exporters = references(&section, "exporters", &EXPORTERS, defined.exporters);

    let one_only = [
        (&receivers, &RECEIVERS, "a sender gets one answer"),
        (&processors, &PROCESSORS, "its windows belong to one stream"),
    ];
    for (found, types, why) in one_only {
        for (reference, value) in &found.good {
            let slot = (types.noun, reference.clone());
            if let Some(first) = taken.get(&slot) {
                value.fail(format_args!(
                    "{} {reference} is in pipeline {first} already: {why}, \
                     so define another one, such as {}/2",
                    types.noun,
                    reference.kind()
                ));
            } else {
                taken.insert(slot, id.clone());
            }
        }
    }
    for (found, example) in [(&receivers, "[otlp]"), (&exporters, "[splunk_hec]")] {
        if found.written == 0 {
            let key = found.key;
            section.fail(format_args!(
                "needs at least one of {key}, such as {key}: {example}"
            ));
        }
    }
    // Where there are only the Collector's own processors, each is reported already.
    if processors.written == processors.unknown {
        section.fail("needs one detection processor, such as processors: [detection]");
    }
    for (reference, value) in processors.good.iter().skip(1) {
        value.fail(format_args!(
            "{reference} is a second processor: a pipeline has exactly one, \
             give each its own pipeline"
        ));
    }
    let processor = processors.good.into_iter().next()?.0;
    let ids = |found: Found<'_>| found.good.into_iter().map(|(id, _)| id).collect();
    Some(PipelineConfig {
        receivers: ids(receivers),
        processor,
        exporters: ids(exporters),
    })
}

/// The references of one list of a pipeline.
struct Found<'a> {
    key: &'static str,
    /// Number of references, the wrong ones too.
    written: usize,
    /// Number of references to a type that we do not have and that is no misspelling of ours.
    unknown: usize,
    good: Vec<(ComponentId, Value<'a>)>,
}

fn references<'a>(
    section: &Section<'a>,
    key: &'static str,
    types: &Types,
    state: &dyn Fn(&ComponentId) -> State,
) -> Found<'a> {
    let mut found = Found {
        key,
        written: section.count(key),
        unknown: 0,
        good: Vec::new(),
    };
    for value in section.values(key).unwrap_or_default() {
        let Some(id) = value.id() else { continue };
        let noun = types.noun;
        let expected = format!("expected {noun}s that are defined, each once");
        found.unknown += usize::from(types.is_unknown_type(id.kind()));
        match state(&id) {
            State::Reported => {}
            State::Missing if types.known.contains(&id.kind()) => value.refuse(
                format_args!("{noun} {id} is not defined, add it under {key} or remove it here"),
                expected,
            ),
            State::Missing => value.refuse(types.unknown(id.kind()), expected),
            State::Good if found.good.iter().any(|(earlier, _)| *earlier == id) => {
                value.refuse(format_args!("{id} is listed twice"), expected);
            }
            State::Good => found.good.push((id, value)),
        }
    }
    found
}

fn spike_fits(section: &Section<'_>, memory: &mut memory::Config) {
    if let (Some(limit), Some(spike)) = (memory.limit, memory.spike_limit)
        && spike >= limit
        && let Some(place) = section.get("spike_limit_mib")
    {
        place.fail_key("expected less than limit_mib, the soft limit is what is left of it");
    }
}

/// The budgets that the user wrote must fit within the limit.
pub(crate) fn budgets_fit(section: &Section<'_>, memory: &memory::Config, budgets: usize) {
    let exceed = |limit| u64::try_from(budgets).is_ok_and(|budgets| budgets > limit);
    if memory.limit.is_some_and(exceed)
        && let Some(place) = section.section("memory", &MEMORY.table).get("limit_mib")
    {
        place.fail_key(format_args!(
            "the budgets of limits::memory_mib and service::admission add up to {} MiB, \
             which is more than this limit, raise it or lower them",
            budgets / MIB
        ));
    }
}
