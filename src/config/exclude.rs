//! `exclude` of the detection processor: the keys of an entry, and what must hold of all of them.
use std::collections::HashSet;

use super::{
    forms::{Filled, ListOf, Own, Text, plain},
    read::Section,
    settings::settings,
    value::Value,
};
use crate::detection::{
    exclude::{Exclusion, MOST, Target, Wildcard},
    rule::{Semantics, parse_proxy},
    time::Micros,
};

/// Bytes of a name, which is the value of an attribute of metrics.
const MOST_NAME: usize = 64;

const WILDCARDS: ListOf<Wildcard> = ListOf {
    of: "patterns",
    parse: |value| wildcard(value),
    text: |pattern| plain(&pattern.to_string()),
};

settings! {
    EXCLUSION: Exclusion {
        name: Filled, "Its name, in metrics and in explain.", required("probes");
        cidr: ListOf {
                of: "CIDRs",
                parse: |value| {
                    let expected = "expected a CIDR such as 10.0.0.0/8, or an address";
                    parse_proxy(&value.text)
                        .map_err(|why| value.refuse(why, expected))
                        .ok()
                },
                text: ToString::to_string,
            },
            "The trusted source address is in one of these networks.", example("[10.0.0.0/28]");
        path: WILDCARDS,
            "The path is like one of these, without its query. A path with . or .. segments, \
             empty segments or % matches none.", example("[/healthz, /readyz]");
        user_agent: WILDCARDS,
            "The user agent is like one of these; \"\" for none. A client can write any.",
            example("[ELB-HealthChecker/*]");
        user: WILDCARDS,
            "The user name is like one of these; \"\" for none.",
            example("[\"\", system:anonymous]");
        code: ListOf {
                of: "status codes",
                parse: |value| value.number("status code", &(100..=599)),
                text: ToString::to_string,
            },
            "The status code is one of these.", example("[401]");
        expires: Own {
                form: "time",
                read: |section, key| Some(Some(time(&section.value(key)?)?)),
                text: |_| String::new(),
            },
            "It applies to requests before this time, by their event time. An entry that has \
             expired is warned about.", example("2027-01-31T00:00:00Z");
        reason: Text, "Why it is there, for people.",
            example("health checks of the load balancer");
        applies_to: ListOf {
                of: "targets",
                parse: |value| value.filled().and_then(|text| text.parse().ok()),
                text: ToString::to_string,
            },
            "What it applies to: scanning, success, forgery, and names of rules that this processor \
             runs. The default is scanning alone.", example("[scanning]");
    }
    hints {
        "src_ip": Use("write cidr");
        "user_agents": Use("write user_agent");
        "users": Use("write user");
        "codes": Use("write code");
        "paths": Use("write path");
    }
    check has_condition
}

fn wildcard(value: &Value<'_>) -> Option<Wildcard> {
    Wildcard::new(&value.text)
        .map_err(|why| value.fail(why))
        .ok()
}

fn time(value: &Value<'_>) -> Option<Micros> {
    let time = Micros::parse(value.text.trim());
    if time.is_none() {
        value.expected("expected a time such as 2027-01-31T00:00:00Z");
    }
    time
}

fn has_condition(section: &Section<'_>, exclusion: &mut Exclusion) {
    let written = ["cidr", "path", "user_agent", "user", "code"];
    let is_written = written.iter().any(|key| section.count(key) > 0);
    // A condition that was wrong has been reported.
    if !exclusion.has_condition() && !is_written {
        section.fail("needs a condition: cidr, path, user_agent, user or code");
    }
    if exclusion.name.len() > MOST_NAME || exclusion.name.chars().any(char::is_control) {
        section.fail(format_args!(
            "name has more than {MOST_NAME} bytes or a control character, write a shorter one"
        ));
    }
}

/// Checks what must hold of all exclusions together, and with the other keys.
pub(super) fn exclusions_fit(
    section: &Section<'_>,
    exclusions: &[Exclusion],
    semantics: Semantics,
    scanning: bool,
) {
    let Some(place) = section.get("exclude") else {
        return;
    };
    if exclusions.len() > MOST {
        place.fail_key(format_args!(
            "has more than {MOST} entries, join some of them"
        ));
    }
    let mut names = HashSet::new();
    for exclusion in exclusions {
        let name = &exclusion.name;
        if !name.is_empty() && !names.insert(name) {
            place.fail_key(format_args!("has two entries named {name:?}, rename one"));
        }
        for target in exclusion.targets() {
            let other = match (target, semantics) {
                (Target::Rule(_), _) => continue,
                (Target::Scanning | Target::Forgery, _) if !scanning => "scanning: false",
                (_, Semantics::Escu) => "semantics: escu",
                (_, Semantics::Native) => continue,
            };
            place.fail_key(format_args!(
                "{name:?} applies to {target}, which is not valid with {other}: name rules in \
                 applies_to, or use filter"
            ));
        }
    }
}
