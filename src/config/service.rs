//! The service section: pipelines, which must fit together.
use std::{collections::BTreeMap, time::Duration};

use super::{
    ComponentId, PipelineConfig,
    components::{EXPORTERS, EXTENSIONS, PROCESSORS, RECEIVERS, Types},
    keys,
    read::{Place, Section},
    value::Value,
};
use crate::memory;

/// Which ids are defined, also those of no use.
pub(crate) struct Defined<'a> {
    pub(crate) receivers: &'a dyn Fn(&ComponentId) -> State,
    pub(crate) processors: &'a dyn Fn(&ComponentId) -> State,
    pub(crate) exporters: &'a dyn Fn(&ComponentId) -> State,
}

/// What became of an id a pipeline refers to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It is defined.
    Good,
    /// It is defined, and what is wrong with it was told.
    Told,
    /// It is not defined.
    Missing,
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
    let section = place.section(&keys::PIPELINE);
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
    // Where nothing but the Collector's own processors stands, all of them are told to go.
    if processors.written == processors.foreign {
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
    /// How many there are, the wrong ones too.
    written: usize,
    /// How many are of a type that is none, and no mistyped one.
    foreign: usize,
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
        foreign: 0,
        good: Vec::new(),
    };
    for value in section.values(key).unwrap_or_default() {
        let Some(id) = value.id() else { continue };
        let noun = types.noun;
        let expected = format!("expected {noun}s that are defined, each once");
        found.foreign += usize::from(types.is_foreign(id.kind()));
        match state(&id) {
            State::Told => {}
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

const MIB: usize = 1024 * 1024;
/// The largest number of MiB that a budget or limit may have.
const MOST_MIB: usize = 1024 * 1024;

/// A number of MiB, in bytes, if it is written.
pub(crate) fn mib(section: &Section<'_>, key: &str) -> Option<usize> {
    section
        .value(key)
        .and_then(|value| value.number("whole number", 1..=MOST_MIB))
        .map(|mib| mib * MIB)
}

/// `service::admission`: what requests under way may hold, and what pending findings may.
pub(crate) fn admission(section: &Section<'_>) -> (Option<usize>, Option<usize>) {
    let admission = section.section("admission", &keys::ADMISSION);
    (
        mib(&admission, "request_limit_mib"),
        mib(&admission, "queue_limit_mib"),
    )
}

/// `service::memory`. `budgets` are those that the user wrote: they must fit within the limit.
pub(crate) fn memory(section: &Section<'_>, budgets: usize) -> memory::Config {
    let default = memory::Config::default();
    let memory = section.section("memory", &keys::MEMORY);
    let wide = |key| mib(&memory, key).and_then(|bytes| u64::try_from(bytes).ok());
    let (limit, spike_limit) = (wide("limit_mib"), wide("spike_limit_mib"));
    if let Some(limit) = limit {
        if spike_limit.is_some_and(|spike| spike >= limit)
            && let Some(place) = memory.get("spike_limit_mib")
        {
            place.fail_key("expected less than limit_mib, the soft limit is what is left of it");
        }
        if u64::try_from(budgets).is_ok_and(|budgets| budgets > limit)
            && let Some(place) = memory.get("limit_mib")
        {
            place.fail_key(format_args!(
                "the budgets of limits::memory_mib and service::admission add up to {} MiB, \
                 which is more than this limit, raise it or lower them",
                budgets / MIB
            ));
        }
    }
    let percentage = |key, range, default| memory.number::<u64>(key, range, default);
    memory::Config {
        limit,
        limit_percentage: percentage("limit_percentage", 1..=100, default.limit_percentage),
        spike_limit,
        spike_limit_percentage: percentage(
            "spike_limit_percentage",
            0..=99,
            default.spike_limit_percentage,
        ),
        check_interval: memory.duration(
            "check_interval",
            Duration::from_millis(10)..=Duration::from_mins(1),
            default.check_interval,
        ),
    }
}
