//! The detection processor: the rule, its limits, and which settings go together.
use std::{collections::HashSet, path::PathBuf, time::Duration};

use super::{
    DetectionConfig, keys,
    read::{Place, Section},
    service,
};
use crate::detection::{
    limits::Limits,
    rule::{Rule, Semantics, TRUST_IN_ALL, covers_all, parse_proxy},
    selector::{Pattern, Selector},
};

/// Windows and offsets beyond a year are slips of the unit.
const YEAR: Duration = Duration::from_hours(365 * 24);
const MICROSECOND: Duration = Duration::from_micros(1);

/// Reads one detection processor.
pub(crate) fn detection(place: Place<'_>) -> DetectionConfig {
    let section = place.section(&keys::DETECTION);
    let databases = databases(&section.section("geo", &keys::GEO));
    let limit_keys = section.section("limits", &keys::LIMITS);
    let state_limit = service::mib(&limit_keys, "memory_mib");
    let limits = limits(&limit_keys, state_limit);
    let rule = rule(&section);
    check_semantics(&section, rule.semantics, !databases.is_empty());
    let allow_all = section.boolean("allow_all", false);
    if !allow_all
        && covers_all(&rule.trusted_proxies)
        && let Some(place) = section.get("trusted_proxies")
    {
        place.fail_key(format_args!(
            "{TRUST_IN_ALL}; list your proxies alone, or set allow_all: true"
        ));
    }
    if rule.semantics == Semantics::Native
        && u64::try_from(limits.hits_per_key).is_ok_and(|most| most <= rule.threshold)
    {
        section.fail(format_args!(
            "limits::hits_per_key is {} and threshold {}, so nothing could ever be found: \
             keep more hits than the threshold",
            limits.hits_per_key, rule.threshold
        ));
    }
    DetectionConfig {
        rule,
        limits,
        state_limit,
        geo_databases: databases,
        // An empty text is no cluster, so that ${env:CLUSTER:-} works.
        cluster: section
            .value("cluster")
            .map(|value| value.text)
            .filter(|name| !name.is_empty()),
    }
}

fn rule(section: &Section<'_>) -> Rule {
    let default = Rule::default();
    Rule {
        semantics: section.word("semantics", default.semantics),
        selector: selector(&section.section("selector", &keys::SELECTOR)),
        threshold: section.number("threshold", 0..=1_000_000_000, default.threshold),
        window: micros(section, "window", MICROSECOND, default.window),
        window_offset: micros(
            section,
            "window_offset",
            Duration::ZERO,
            default.window_offset,
        ),
        time_field: section
            .value("time_field")
            .and_then(|value| value.filled())
            .unwrap_or(default.time_field),
        codes: codes(section).unwrap_or(default.codes),
        who: section.word("who", default.who),
        trusted_proxies: section
            .values("trusted_proxies")
            .into_iter()
            .flatten()
            .filter_map(|value| {
                let expected = "expected a CIDR such as 10.0.0.0/8";
                parse_proxy(&value.text)
                    .map_err(|why| value.refuse(why, expected))
                    .ok()
            })
            .collect(),
        ipv6_prefix: section.number("ipv6_prefix", 1..=128, default.ipv6_prefix),
        missing_city: section.word("missing_city", default.missing_city),
        lateness: micros(section, "lateness", Duration::ZERO, default.lateness),
    }
}

fn selector(section: &Section<'_>) -> Selector {
    let patterns = |key| {
        let values = section.values(key).into_iter().flatten();
        values
            .filter_map(|value| Some(Pattern::new(&value.filled()?)))
            .collect()
    };
    Selector {
        source: patterns("source"),
        sourcetype: patterns("sourcetype"),
        index: patterns("index"),
    }
}

/// A span of event time: a duration, or a plain number of seconds as Splunk users write it.
fn micros(section: &Section<'_>, key: &str, least: Duration, default: i64) -> i64 {
    let span = section
        .value(key)
        .and_then(|value| value.span(least..=YEAR));
    span.and_then(|span| i64::try_from(span.as_micros()).ok())
        .unwrap_or(default)
}

fn codes(section: &Section<'_>) -> Option<Vec<u16>> {
    let values = section.values("codes")?;
    if section.count("codes") == 0
        && let Some(place) = section.get("codes")
    {
        place.fail_key("needs at least one status code, such as 403");
    }
    let mut codes = Vec::new();
    for value in values {
        let Some(code) = value.number("status code", 100..=599) else {
            continue;
        };
        if codes.contains(&code) {
            value.fail(format_args!("{code} is listed twice"));
        }
        codes.push(code);
    }
    Some(codes)
}

fn databases(section: &Section<'_>) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    let values = section.values("databases").into_iter().flatten();
    values
        .filter_map(|value| {
            let path = value.filled()?;
            if !seen.insert(path.clone()) {
                value.refuse(
                    format_args!("{path:?} is listed twice"),
                    "expected another path",
                );
            }
            Some(PathBuf::from(path))
        })
        .collect()
}

fn limits(section: &Section<'_>, memory: Option<usize>) -> Limits {
    let default = Limits::default();
    Limits {
        keys: section.number("keys", 1..=1_000_000_000, default.keys),
        memory: memory.unwrap_or(default.memory),
        hits_per_key: section.number("hits_per_key", 1..=100_000_000, default.hits_per_key),
        values_per_field: section.number(
            "values_per_field",
            1..=1_000_000,
            default.values_per_field,
        ),
        value_bytes: section.number("value_bytes", 1..=1_048_576, default.value_bytes),
        source_ips: section.number("source_ips", 1..=1_000_000, default.source_ips),
    }
}

/// Refuses settings that mean nothing under the semantics: who writes one believes it works.
fn check_semantics(section: &Section<'_>, semantics: Semantics, located: bool) {
    // A word that was not understood says nothing about the other settings.
    if section
        .get("semantics")
        .is_some_and(|place| !place.reads::<Semantics>())
    {
        return;
    }
    let (idle, other) = match semantics {
        Semantics::Native => (
            ["window_offset", "missing_city"].as_slice(),
            Semantics::Escu,
        ),
        Semantics::Escu => (
            [
                "codes",
                "who",
                "trusted_proxies",
                "allow_all",
                "ipv6_prefix",
            ]
            .as_slice(),
            Semantics::Native,
        ),
    };
    for place in idle.iter().filter_map(|key| section.get(key)) {
        place.fail_key(format_args!(
            "means nothing under semantics: {semantics}, remove it or set semantics: {other}"
        ));
    }
    if semantics == Semantics::Escu
        && !located
        && let Some(place) = section.get("missing_city")
    {
        place.fail_key("means nothing without a location, remove it or name a database in geo");
    }
}
