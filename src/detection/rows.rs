//! The rows of `scan`: both semantics over a whole log at once, in any order.
//!
//! Lateness and limits play no part here. What the service says of the same log while it runs is
//! the business of the engine.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;

use super::{
    evidence::Evidence,
    finding::Finding,
    geo::{self, Locate, Place},
    hit::{Hit, Identity},
    limits::Limits,
    packed::Fields,
    rule::{MissingCity, Rule, Semantics},
    time::Micros,
};

/// One row: serialized, it has exactly the keys the goldens have, in their order.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Row {
    /// A row of native semantics.
    Native(Box<NativeRow>),
    /// A row of escu semantics.
    Escu(Box<EscuRow>),
}

/// One address in native semantics.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NativeRow {
    /// Canonical address, network, or "unknown".
    pub src_ip: String,
    /// Time of the request that first takes a window above the threshold, in order of event time.
    #[serde(serialize_with = "stamp_or_null")]
    pub alert_at: Option<Micros>,
    /// The most requests in one window.
    pub max_in_window: u64,
    /// Requests in all.
    pub count: u64,
    /// The same by status code.
    pub count_by_code: BTreeMap<u16, u64>,
    /// Time of the first request.
    #[serde(serialize_with = "stamp")]
    pub first_time: Micros,
    /// Time of the last request.
    #[serde(serialize_with = "stamp")]
    pub last_time: Micros,
    /// What the table shows besides; no part of the row.
    #[serde(skip)]
    pub seen: Columns,
    /// The requests behind the row, if asked for; no part of the row.
    #[serde(skip)]
    pub detail: Option<Box<Detail>>,
}

/// One address, place and window in escu semantics.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EscuRow {
    /// Start of the window.
    #[serde(serialize_with = "stamp")]
    pub window_start: Micros,
    /// End of the window, itself outside.
    #[serde(serialize_with = "stamp")]
    pub window_end: Micros,
    /// As logged.
    pub src_ip: String,
    /// English name of the country.
    #[serde(rename = "Country")]
    pub country: Option<String>,
    /// English name of the city.
    #[serde(rename = "City")]
    pub city: Option<String>,
    /// Events times occurrences of the address.
    pub count: u64,
    /// The `values()` columns.
    #[serde(flatten)]
    pub columns: Columns,
    /// Time of the first event; no part of the row.
    #[serde(skip)]
    pub first_time: Micros,
    /// Time of the last event; no part of the row.
    #[serde(skip)]
    pub last_time: Micros,
    /// The requests behind the row, if asked for; no part of the row.
    #[serde(skip)]
    pub detail: Option<Box<Detail>>,
}

/// The requests behind a row, for the report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detail {
    /// Time and code of each request that is counted, in order of time.
    pub times: Vec<(Micros, u16)>,
    /// Counts by code, lists and samples, chosen and bounded as in a finding of the service. What
    /// a finding has besides (id, state, rule) is not set.
    pub seen: Finding,
}

/// The `values()` columns of the search: distinct, sorted by bytes, null when empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Columns {
    /// `userAgent`
    #[serde(rename = "userAgent", serialize_with = "values")]
    pub agents: BTreeSet<String>,
    /// `user.username`, renamed as the search does
    #[serde(rename = "user", serialize_with = "values")]
    pub users: BTreeSet<String>,
    /// `user.groups{}`
    #[serde(rename = "user.groups{}", serialize_with = "values")]
    pub groups: BTreeSet<String>,
    /// `verb`
    #[serde(rename = "verb", serialize_with = "values")]
    pub verbs: BTreeSet<String>,
    /// `requestURI`
    #[serde(rename = "requestURI", serialize_with = "values")]
    pub uris: BTreeSet<String>,
    /// `responseStatus.code`
    #[serde(rename = "responseStatus.code", serialize_with = "values")]
    pub codes: BTreeSet<String>,
    /// `responseStatus.message`
    #[serde(rename = "responseStatus.message", serialize_with = "values")]
    pub messages: BTreeSet<String>,
    /// `responseStatus.reason`
    #[serde(rename = "responseStatus.reason", serialize_with = "values")]
    pub reasons: BTreeSet<String>,
    /// `responseStatus.status`
    #[serde(rename = "responseStatus.status", serialize_with = "values")]
    pub statuses: BTreeSet<String>,
}

impl Columns {
    fn add(&mut self, hit: &Hit) {
        for (column, value) in [
            (&mut self.agents, &hit.agent),
            (&mut self.users, &hit.user),
            (&mut self.verbs, &hit.verb),
            (&mut self.uris, &hit.uri),
            (&mut self.messages, &hit.message),
            (&mut self.reasons, &hit.reason),
            (&mut self.statuses, &hit.status),
        ] {
            if let Some(value) = value {
                insert(column, value);
            }
        }
        insert(&mut self.codes, &hit.code_text);
        for group in &hit.groups {
            insert(&mut self.groups, group);
        }
    }
}

/// Copies the value only when it is new.
fn insert(column: &mut BTreeSet<String>, value: &str) {
    if !column.contains(value) {
        column.insert(value.to_owned());
    }
}

/// Rows in the making.
#[derive(Default)]
pub struct Rows {
    native: BTreeMap<String, Key>,
    /// By window start, source, country and city: the order of the rows.
    escu: BTreeMap<(Micros, String, Place), Group>,
    /// Whether each row gets its [`Detail`].
    detailed: bool,
    /// Events that count but have no readable time: in no window, in no row.
    pub untimed: u64,
}

#[derive(Default)]
struct Key {
    seen: HashSet<Identity>,
    times: Vec<(Micros, u16)>,
    columns: Columns,
    evidence: Option<Box<Evidence>>,
}

struct Group {
    count: u64,
    columns: Columns,
    times: Vec<(Micros, u16)>,
    evidence: Option<Box<Evidence>>,
    first: Micros,
    last: Micros,
}

impl Rows {
    /// Rows that come with the requests behind them.
    pub fn detailed() -> Self {
        Self {
            detailed: true,
            ..Self::default()
        }
    }

    /// Takes one event that counts.
    pub fn add(&mut self, hit: &Hit, rule: &Rule, locate: Option<&dyn Locate>) {
        let Some(time) = hit.time else {
            self.untimed += 1;
            return;
        };
        match rule.semantics {
            Semantics::Native => {
                if !self.native.contains_key(&hit.key) {
                    self.native.insert(hit.key.clone(), Key::default());
                }
                if let Some(key) = self.native.get_mut(&hit.key)
                    && key.seen.insert(hit.identity)
                {
                    key.times.push((time, hit.code));
                    key.columns.add(hit);
                    if self.detailed {
                        gather(&mut key.evidence, hit, time);
                    }
                }
            }
            Semantics::Escu => {
                let start = window_start(time, rule);
                let drop_missing_city = rule.missing_city == MissingCity::Drop;
                for source in &hit.sources {
                    let Some(place) = geo::place(source, locate, drop_missing_city) else {
                        continue;
                    };
                    let group = self
                        .escu
                        .entry((start, source.clone(), place))
                        .or_insert_with(|| Group {
                            count: 0,
                            columns: Columns::default(),
                            times: Vec::new(),
                            evidence: None,
                            first: time,
                            last: time,
                        });
                    group.count += 1;
                    group.columns.add(hit);
                    if self.detailed {
                        group.times.push((time, hit.code));
                        gather(&mut group.evidence, hit, time);
                    }
                    group.first = group.first.min(time);
                    group.last = group.last.max(time);
                }
            }
        }
    }

    /// The rows in order; with `all` also the native keys that stay below the threshold.
    pub fn finish(self, rule: &Rule, all: bool) -> Vec<Row> {
        match rule.semantics {
            Semantics::Native => self
                .native
                .into_iter()
                .filter_map(|(src_ip, key)| native_row(src_ip, key, rule))
                .filter(|row| all || row.alert_at.is_some())
                .map(|row| Row::Native(Box::new(row)))
                .collect(),
            Semantics::Escu => self
                .escu
                .into_iter()
                .filter(|(_, group)| group.count > rule.threshold)
                .map(|((start, src_ip, (country, city)), group)| {
                    Row::Escu(Box::new(EscuRow {
                        window_start: start,
                        window_end: start.plus(rule.window),
                        src_ip,
                        country,
                        city,
                        count: group.count,
                        columns: group.columns,
                        first_time: group.first,
                        last_time: group.last,
                        detail: group
                            .evidence
                            .map(|evidence| detail(group.times, &evidence)),
                    }))
                })
                .collect(),
        }
    }
}

/// Start of the tumbling window that holds `time`.
pub(super) fn window_start(time: Micros, rule: &Rule) -> Micros {
    let window = i128::from(rule.window.max(1));
    let offset = i128::from(rule.window_offset);
    let start = (i128::from(time.0) - offset).div_euclid(window) * window + offset;
    Micros(i64::try_from(start).unwrap_or(i64::MIN))
}

fn native_row(src_ip: String, mut key: Key, rule: &Rule) -> Option<NativeRow> {
    key.times.sort_unstable();
    let (first_time, last_time) = (key.times.first()?.0, key.times.last()?.0);
    let mut alert_at = None;
    let mut max_in_window = 0;
    let mut count_by_code = BTreeMap::new();
    let mut oldest = key.times.iter().peekable();
    let mut in_window = 0;
    for (time, code) in &key.times {
        in_window += 1;
        // Two events share a window when they differ by less than its length.
        while oldest
            .next_if(|(old, _)| *old <= time.minus(rule.window))
            .is_some()
        {
            in_window -= 1;
        }
        max_in_window = max_in_window.max(in_window);
        if in_window > rule.threshold && alert_at.is_none() {
            alert_at = Some(*time);
        }
        *count_by_code.entry(*code).or_default() += 1;
    }
    Some(NativeRow {
        src_ip,
        alert_at,
        max_in_window,
        count: key.times.len() as u64,
        count_by_code,
        first_time,
        last_time,
        seen: key.columns,
        detail: key.evidence.map(|evidence| detail(key.times, &evidence)),
    })
}

fn gather(evidence: &mut Option<Box<Evidence>>, hit: &Hit, time: Micros) {
    evidence.get_or_insert_default().add(
        &Fields::of(hit),
        (time, hit.identity),
        1,
        &Limits::default(),
    );
}

fn detail(mut times: Vec<(Micros, u16)>, evidence: &Evidence) -> Box<Detail> {
    times.sort_unstable();
    let mut seen = Finding::default();
    evidence.write(&mut seen);
    Box::new(Detail { times, seen })
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
fn stamp<S: serde::Serializer>(time: &Micros, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(time)
}

#[expect(clippy::ref_option, reason = "the signature serde asks for")]
fn stamp_or_null<S: serde::Serializer>(time: &Option<Micros>, out: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => out.collect_str(time),
        None => out.serialize_none(),
    }
}

fn values<S: serde::Serializer>(column: &BTreeSet<String>, out: S) -> Result<S::Ok, S::Error> {
    if column.is_empty() {
        out.serialize_none()
    } else {
        out.collect_seq(column)
    }
}
