//! The detection processor: its settings, and which of them go together.
use std::{collections::HashSet, path::PathBuf, time::Duration};

use super::{
    exclude::{EXCLUSION, exclusions_fit},
    forms::{
        Boolean, Filled, Items, ListOf, Mib, Number, Own, Part, Span, Time, Unset, Word, list,
        plain,
    },
    id::ComponentId,
    read::Section,
    service::MOST_MIB,
    settings::settings,
    value::Value,
};
use crate::{
    detection::{
        exclude::Exclusion,
        limits::Limits,
        rule::{
            MissingCity, Rule, Semantics, TRUST_IN_ALL, UNAUTHORIZED, Who, covers_all, parse_proxy,
        },
        selector::{Pattern, Selector},
        time::Micros,
    },
    processor::filter::Filter,
    rules::switches::Switches,
    visible,
};

/// Windows and offsets beyond a year are mistakes of the unit.
const YEAR: Duration = Duration::from_hours(365 * 24);
const MICROSECOND: Duration = Duration::from_micros(1);

const MONTH: Duration = Duration::from_hours(30 * 24);

/// The keys that shape the scan detection and what is derived from it, and nothing else.
const SCAN_KEYS: [&str; 12] = [
    "semantics",
    "distributed",
    "low_and_slow",
    "forged_forwarding",
    "follow_up",
    "threshold",
    "threshold_401",
    "window",
    "window_offset",
    "codes",
    "who",
    "missing_city",
];

const PATTERNS: ListOf<Pattern> = ListOf {
    of: "patterns",
    parse: |value| Some(Pattern::new(&value.filled()?)),
    // There is none by default.
    text: |_| String::new(),
};

settings! {
    /// Settings of one `detection` processor.
    #[derive(Clone, Debug)]
    pub struct DetectionConfig {
        /// The scan detection, and how events are read.
        rule: Rule = Rule::default();
        /// Which shipped detections run, and for how long addresses are watched.
        switches: Switches = Switches::default();
        /// `limits`: what is kept.
        limits: Limits = Limits::default();
        /// `limits::memory_mib`, in bytes. `None`: a share of the limit of `service::memory`.
        state_limit: Option<usize> = None;
        /// `geo::databases`: files to locate addresses with. Whether they can be read is not known.
        geo_databases: Vec<PathBuf> = Vec::new();
    }
    DETECTION {
        scanning => switches.scanning: Boolean,
            "Detect scans by unauthenticated addresses, as semantics and the keys below describe; \
             false: none, nor what is derived from their counts.";
        anonymous_success => switches.anonymous_success: Boolean,
            "Detect requests without credentials that succeed on a path that is not meant for all \
             clients. Native only.";
        distributed => switches.distributed: Boolean,
            "Detect scans that several addresses of one network share. Native only.";
        low_and_slow => switches.low_and_slow: Boolean,
            "Detect scans that stay below the threshold for days. Native only.";
        forged_forwarding => switches.forged_forwarding: Boolean,
            "Detect peers that hand over many claimed addresses. Native only.";
        blind_spots => switches.blind_spots: Boolean,
            "Report what cannot be seen: 401 without 403, silence, events that are cut, floods of \
             the state. Native only.";
        follow_up => switches.follow_up: Time(Duration::ZERO..=MONTH),
            "How long after the last request of a scan its address is watched for requests that \
             succeed; 0s: not at all. Native only.";
        rules [Vec<String> = Vec::new()]: Own {
                form: "list of names or paths",
                read: |section, key| each_once(section, key, "expected another rule"),
                text: |rules| list(rules.iter().map(|rule| plain(rule))),
            },
            "Detections that run as well: names of shipped rules, files, and folders whose files are \
             read.", place;
        storage [Option<ComponentId> = None]: Own {
                form: "component id",
                read: |section, key| Some(section.value(key)?.id()),
                text: |_| String::new(),
            },
            "A file_storage extension, which is under service::extensions: what was acknowledged, open \
             windows and findings that are not delivered survive a restart. Without a value they are in \
             memory.";
        semantics => rule.semantics: Word(&[Semantics::Native, Semantics::Escu]),
            "native: one trusted address per request, every request once, sliding window. escu: exactly \
             as the Splunk ESCU search counts, see detection/escu.";
        threshold => rule.threshold: Number(0..=1_000_000_000),
            "A window with more than this many requests is a scan.";
        threshold_401 => rule.threshold_401: Unset(Number(0..=1_000_000_000)),
            "The same for requests with code 401, which then count apart, as a detection of their \
             own. Without a value they count together with the other codes. Native only.";
        window => rule.window: Span(MICROSECOND..=YEAR),
            "Length of a window; a plain number is seconds.";
        window_offset => rule.window_offset: Span(Duration::ZERO..=YEAR),
            "Where in the hour the windows begin; a plain number is seconds. Escu only.",
            shown_in("escu");
        time_field => rule.time_field: Filled,
            "Field of the audit event that holds its time.";
        codes => rule.codes: Own {
                form: "list of status codes, 100 to 599",
                read: |section, _| codes(section),
                text: |codes| list(codes),
            },
            "Status codes that count. Native only.";
        who => rule.who: Word(&[Who::Any, Who::Group]),
            "any: unauthenticated group, anonymous user, or no user at all; group: that group only. \
             Native only.";
        trusted_proxies => rule.trusted_proxies: ListOf {
                of: "CIDRs",
                parse: |value| {
                    let expected = "expected a CIDR such as 10.0.0.0/8";
                    parse_proxy(&value.text)
                        .map_err(|why| value.refuse(why, expected))
                        .ok()
                },
                text: ToString::to_string,
            },
            "Proxies in front of the API server whose word about the address before them is believed, \
             such as 10.0.0.0/8. Native only.";
        allow_all [bool = false]: Boolean,
            "Accept trusted_proxies that cover every address. The leftmost claim in sourceIPs is \
             counted then, which a client writes: findings can be forged and avoided. Native only.";
        ipv6_prefix => rule.ipv6_prefix: Number(1..=128),
            "IPv6 addresses count together by this many leading bits; 64 makes a network one. Native \
             only.";
        missing_city => rule.missing_city: Word(&[MissingCity::Empty, MissingCity::Drop]),
            "empty: an address with a country but without a city makes a row with City \"\"; drop: it \
             makes none. Escu only, and only with a database.", shown_in("escu");
        lateness => rule.lateness: Span(Duration::ZERO..=YEAR),
            "How far an event may be behind the newest and still be on time; a plain number is seconds.";
        cluster [Option<String> = None]: Own {
                form: "text",
                // An empty text is no cluster, so that ${env:CLUSTER:-} works.
                read: |section, key| {
                    let name = section.value(key)?.text;
                    Some(Some(name).filter(|name| !name.is_empty()))
                },
                text: |name| plain(name.as_deref().unwrap_or_default()),
            },
            "Name of the cluster of what names none: neither k8s.cluster.name of the record or its resource, \
             nor its envelope.";
        selector => rule.selector: Part(&SELECTOR),
            "Which records are looked at, by the attributes that become their source, sourcetype and \
             index in Splunk (com.splunk.source and so on, of the record or its resource). Each is a \
             list in which one must match; * matches any text. A key without patterns does not matter. \
             Without any, every record whose body, or whose attributes, look like an audit event.";
        exclude [Vec<Exclusion> = Vec::new()]: Items(&EXCLUSION),
            "Known requests that do not count, each entry with a name. All conditions of an entry \
             must hold, and one value of each. Case matters; * is any text, ? one character. \
             Success and forgery are found all the same, unless applies_to names them.",
            shown_in("quiet");
        filter [Option<Filter> = None]: Own {
                form: "CEL expression",
                read: |section, key| {
                    let value = section.value(key)?;
                    // An empty text is no filter, so that ${env:FILTER:-} works.
                    if value.text.trim().is_empty() {
                        return Some(None);
                    }
                    filter(&value).map(Some)
                },
                text: |filter| plain(filter.as_ref().map_or("", Filter::source)),
            },
            "Which findings leave: those for which it is true. The finding is called finding, with \
             the fields of its JSON form. An error keeps the finding.",
            example("finding.cluster != \"lab\" || finding.count > 20"), shown_in("quiet");
        filter_all [bool = false]: Boolean,
            "Ask the filter for findings of success and of forgery too. Without it they always \
             leave.", shown_in("quiet");
        geo => self: Part(&GEO), "";
        limits => self: Part(&LIMITS), "Bounds of what is kept. What falls out is counted.";
    }
    check settings_fit
}

settings! {
    SELECTOR: Selector {
        source: PATTERNS, "Such as /var/log/kubernetes/apiserver/audit*.log";
        sourcetype: PATTERNS, "Such as kube:apiserver-audit";
        index: PATTERNS, "Such as k8s_audit";
    }
    hints {
        "body": Remove("what looks like an audit event is one, whatever else is selected");
        "com.splunk.source": Use("write source");
        "com.splunk.sourcetype": Use("write sourcetype");
        "com.splunk.index": Use("write index");
    }
}

settings! {
    GEO: DetectionConfig {
        databases => geo_databases: Own {
                form: "list of paths",
                read: |section, key| {
                    let paths = each_once(section, key, "expected another path")?;
                    Some(paths.into_iter().map(PathBuf::from).collect())
                },
                text: |paths: &Vec<PathBuf>| list(paths.iter().map(|path| visible::path(path))),
            },
            "Databases in MaxMind's format, of any vendor, that locate addresses, such as \
             GeoLite2-City.mmdb, or name their autonomous systems, such as GeoLite2-ASN.mmdb.", place;
    }
}

settings! {
    LIMITS: DetectionConfig {
        keys => limits.keys: Number(1..=1_000_000_000), "Addresses that are tracked at a time.";
        memory_mib => state_limit: Unset(Mib(MOST_MIB)),
            "Memory that they may hold with all that is kept for them, in MiB. Without a value three \
             eighths of the limit of service::memory, shared by all detections in pipelines; 192 where \
             there is no limit.";
        hits_per_key => limits.hits_per_key: Number(1..=100_000_000),
            "Requests that are remembered for one address. More than the threshold.";
        values_per_field => limits.values_per_field: Number(1..=1_000_000),
            "Distinct values that are kept of one field of one finding.";
        value_bytes => limits.value_bytes: Number(1..=1_048_576), "Bytes that are kept of one value.";
        source_ips => limits.source_ips: Number(1..=1_000_000),
            "Elements of sourceIPs that are kept of one event, from the right.";
    }
}

impl DetectionConfig {
    /// What may be a mistake at this time, though it is valid: lines for people.
    pub fn warnings(&self, now: Micros) -> Vec<String> {
        let exclusions = self.exclude.iter();
        exclusions
            .flat_map(|exclusion| exclusion.warnings(now))
            .collect()
    }
}

fn filter(value: &Value<'_>) -> Option<Filter> {
    Filter::new(&value.text)
        .map_err(|error| value.refuse(error, "expected a CEL expression over the finding"))
        .ok()
}

fn settings_fit(section: &Section<'_>, config: &mut DetectionConfig) {
    if let Some(memory) = config.state_limit {
        config.limits.memory = memory;
    }
    let (rule, limits) = (&config.rule, &config.limits);
    if config.switches.scanning {
        check_semantics(section, rule.semantics, !config.geo_databases.is_empty());
    } else {
        check_rules_alone(section, &config.switches);
    }
    let scanning = config.switches.scanning;
    exclusions_fit(section, &config.exclude, rule.semantics, scanning);
    if config.filter_all
        && config.filter.is_none()
        && let Some(place) = section.get("filter_all")
    {
        place.fail_key("is not valid without a filter, remove it or set filter");
    }
    if rule.threshold_401.is_some()
        && !rule.codes.contains(&UNAUTHORIZED)
        && let Some(place) = section.get("threshold_401")
    {
        place.fail_key("is not valid when codes has no 401, remove it or add 401 to codes");
    }
    let threshold = rule.threshold_401.unwrap_or_default().max(rule.threshold);
    if !config.allow_all
        && covers_all(&rule.trusted_proxies)
        && let Some(place) = section.get("trusted_proxies")
    {
        place.fail_key(format_args!(
            "{TRUST_IN_ALL}; list your proxies alone, or set allow_all: true"
        ));
    }
    if config.switches.scanning
        && rule.semantics == Semantics::Native
        && u64::try_from(limits.hits_per_key).is_ok_and(|most| most <= threshold)
    {
        section.fail(format_args!(
            "limits::hits_per_key is {} and threshold {threshold}, so nothing could ever be found: \
             keep more hits than the threshold",
            limits.hits_per_key
        ));
    }
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
        let Some(code) = value.number("status code", &(100..=599)) else {
            continue;
        };
        if codes.contains(&code) {
            value.fail(format_args!("{code} is listed twice"));
        }
        codes.push(code);
    }
    Some(codes)
}

/// The texts of a list without duplicates.
fn each_once(section: &Section<'_>, key: &str, expected: &str) -> Option<Vec<String>> {
    let mut seen = HashSet::new();
    let values = section.values(key)?.into_iter();
    let texts = values.filter_map(|value| {
        let text = value.filled()?;
        if !seen.insert(text.clone()) {
            value.refuse(format_args!("{text:?} is listed twice"), expected);
        }
        Some(text)
    });
    Some(texts.collect())
}

/// Refuses what describes a scan where no scans are detected: who writes it believes it works.
fn check_rules_alone(section: &Section<'_>, switches: &Switches) {
    for place in SCAN_KEYS.iter().filter_map(|key| section.get(key)) {
        place.fail_key("is not valid with scanning: false, remove it or set scanning: true");
    }
    if section.count("rules") == 0
        && !switches.anonymous_success
        && !switches.blind_spots
        && let Some(place) = section.get("scanning")
    {
        place.fail_key("leaves nothing to detect, name rules or turn a detection on");
    }
}

/// Refuses settings that the semantics does not use: who writes one believes it works.
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
                "anonymous_success",
                "distributed",
                "low_and_slow",
                "forged_forwarding",
                "blind_spots",
                "follow_up",
                "threshold_401",
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
            "is not valid with semantics: {semantics}, remove it or set semantics: {other}"
        ));
    }
    if semantics == Semantics::Escu
        && !located
        && let Some(place) = section.get("missing_city")
    {
        place.fail_key("is not valid without a location, remove it or name a database in geo");
    }
}
