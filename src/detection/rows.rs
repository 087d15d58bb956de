//! The rows of `scan`: both semantics over a whole log at once, in any order.
//!
//! Lateness and limits play no part here. What the service says of the same log while it runs is
//! the business of the engine. But a log is written by others, so what an address costs that makes
//! no row is little: its name, a few numbers, and a share of the values (`values.rs`). Rows
//! are made one by one when they are asked for.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Serialize, Serializer};

use super::{
    columns::Columns,
    event::Event,
    finding::Finding,
    gathered::{self, Gathered, Identities},
    geo::{self, Locate, Place},
    hit::Hit,
    limits::{Bounds, Limits},
    rule::{MissingCity, Rule, Semantics},
    time::Micros,
    values::{Set, Values},
};
use crate::rules::{Scratch, model::Detection};

/// Addresses that are kept apart (escu: in each window), at most.
pub const MOST_ADDRESSES: usize = 4_000_000;
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

/// Rows in the making.
pub struct Rows {
    native: BTreeMap<Box<str>, Key>,
    /// By window start and source: with the place that follows from it, the order of the rows.
    escu: BTreeMap<Micros, BTreeMap<Box<str>, Group>>,
    /// Groups of escu semantics.
    groups: usize,
    /// Those places that groups are in.
    places: BTreeSet<Arc<Place>>,
    values: Values,
    /// Whether each row gets its [`Detail`].
    detailed: bool,
    /// Most addresses.
    most: usize,
    /// What the rule at hand is, as it is matched.
    detection: Option<(Rule, Arc<Detection>)>,
    scratch: Scratch,
    /// Events that count but have no readable time: in no window, in no row.
    pub untimed: u64,
    /// Events times addresses that were left out because there were too many addresses.
    pub left_out: u64,
}

struct Key {
    seen: Identities,
    times: Vec<(Micros, u16)>,
    values: Set,
    gathered: Option<Box<Gathered>>,
}

struct Group {
    count: u64,
    first: Micros,
    last: Micros,
    place: Option<Arc<Place>>,
    values: Set,
    gathered: Option<Box<Gathered>>,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            native: BTreeMap::new(),
            escu: BTreeMap::new(),
            groups: 0,
            places: BTreeSet::new(),
            values: Values::new(usize::MAX),
            detailed: false,
            most: MOST_ADDRESSES,
            detection: None,
            scratch: Scratch::default(),
            untimed: 0,
            left_out: 0,
        }
    }
}

/// Shows the sources of an event one by one.
type Sources<'s> = &'s dyn Fn(&mut dyn FnMut(&str));

impl Rows {
    /// Rows that come with the requests behind them.
    pub fn detailed() -> Self {
        Self {
            detailed: true,
            ..Self::default()
        }
    }

    /// Takes an event if it counts.
    pub fn add_event(&mut self, event: &Event<'_>, rule: &Rule, locate: Option<&dyn Locate>) {
        let limits = Limits::default();
        let bounds = match rule.semantics {
            // Columns of the search are exact, and its sources are walked where they are.
            Semantics::Escu => Bounds {
                source_ips: 0,
                ..Bounds::NONE
            },
            Semantics::Native => Bounds {
                source_ips: if self.detailed { limits.source_ips } else { 0 },
                ..Bounds::NONE
            },
        };
        let detection = match &self.detection {
            Some((of, detection)) if of == rule => Arc::clone(detection),
            _ => {
                let detection = Arc::new(Detection::of(rule));
                self.detection = Some((rule.clone(), Arc::clone(&detection)));
                detection
            }
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        event.hits(&detection, &mut scratch, &bounds, &mut |hit| {
            self.take(&hit, (rule, locate), &|show| event.for_each_source(show));
        });
        self.scratch = scratch;
    }

    /// Takes one event that counts.
    pub fn add(&mut self, hit: &Hit, rule: &Rule, locate: Option<&dyn Locate>) {
        self.take(hit, (rule, locate), &|show| {
            hit.sources.iter().for_each(|source| show(source));
        });
    }

    fn take(
        &mut self,
        hit: &Hit,
        (rule, locate): (&Rule, Option<&dyn Locate>),
        sources: Sources<'_>,
    ) {
        let Some(time) = hit.time else {
            self.untimed += 1;
            return;
        };
        // What is kept of a request for its details is what a finding may show of it.
        let shared = self.detailed.then(|| {
            let mut kept = hit.clone();
            kept.cut(Limits::default().value_bytes);
            Arc::new(kept)
        });
        match rule.semantics {
            Semantics::Native => self.take_native(hit, time, shared.as_ref()),
            Semantics::Escu => {
                let start = window_start(time, rule);
                let drop_missing_city = rule.missing_city == MissingCity::Drop;
                let one = One {
                    start,
                    time,
                    values: self.values.of(hit),
                    shared,
                };
                sources(&mut |source| {
                    if let Some(place) = geo::place(source, locate, drop_missing_city) {
                        self.take_source(source, place, &one);
                    }
                });
            }
        }
    }

    fn take_native(&mut self, hit: &Hit, time: Micros, shared: Option<&Arc<Hit>>) {
        if !self.native.contains_key(hit.key.as_str()) {
            if self.native.len() >= self.most {
                self.left_out += 1;
                return;
            }
            let key = Key {
                seen: Identities::Few(Vec::with_capacity(1)),
                times: Vec::with_capacity(1),
                values: Set::Shared(self.values.of(hit)),
                gathered: None,
            };
            self.native.insert(hit.key.as_str().into(), key);
        }
        if let Some(key) = self.native.get_mut(hit.key.as_str())
            && key.seen.insert(hit.identity)
        {
            key.times.push((time, hit.code));
            let event = self.values.of(hit);
            self.values.add(&mut key.values, &event);
            gathered::add(&mut key.gathered, time, shared);
        }
    }

    /// Counts an event for one of its sources.
    fn take_source(&mut self, source: &str, place: Place, one: &One) {
        let groups = self.escu.entry(one.start).or_default();
        if !groups.contains_key(source) {
            if self.groups >= self.most {
                self.left_out += 1;
                return;
            }
            self.groups += 1;
            let place = (place != (None, None)).then(|| {
                if let Some(known) = self.places.get(&place) {
                    return Arc::clone(known);
                }
                let place = Arc::new(place);
                self.places.insert(Arc::clone(&place));
                place
            });
            let group = Group {
                count: 0,
                first: one.time,
                last: one.time,
                place,
                values: Set::Shared(Arc::clone(&one.values)),
                gathered: None,
            };
            groups.insert(source.into(), group);
        }
        if let Some(group) = groups.get_mut(source) {
            group.count += 1;
            group.first = group.first.min(one.time);
            group.last = group.last.max(one.time);
            self.values.add(&mut group.values, &one.values);
            gathered::add(&mut group.gathered, one.time, one.shared.as_ref());
        }
    }

    /// The rows in order; with `all` also the native keys that stay below the threshold.
    pub fn finish(self, rule: &Rule, all: bool) -> Vec<Row> {
        self.rows(rule, all).collect()
    }

    /// The same, made one by one.
    pub fn rows<'a>(&'a self, rule: &'a Rule, all: bool) -> impl Iterator<Item = Row> + 'a {
        self.bare(rule, all).map(|mut row| {
            self.add_times(&mut row);
            self.add_values(&mut row);
            row
        })
    }

    /// All rows, with the times of their requests, but with values and evidence of the `most`
    /// busiest alone; of equally busy ones, of the first. `rank` goes before the number of requests:
    /// a row of a higher rank is not pushed out by busier ones.
    pub fn busiest<K: Ord>(
        &self,
        rule: &Rule,
        all: bool,
        most: usize,
        rank: impl Fn(&Row) -> K,
    ) -> Vec<Row> {
        let mut rows: Vec<_> = self.bare(rule, all).collect();
        for row in &mut rows {
            self.add_times(row);
        }
        let mut busy: Vec<_> = rows.iter_mut().collect();
        busy.sort_by_cached_key(|row| Reverse((rank(row), row.count())));
        for row in busy.into_iter().take(most) {
            self.add_values(row);
        }
        rows
    }

    /// The rows without values and details.
    fn bare<'a>(&'a self, rule: &'a Rule, all: bool) -> impl Iterator<Item = Row> + 'a {
        let native = self
            .native
            .iter()
            .filter_map(|(src_ip, key)| native_row(src_ip, key, rule))
            .filter(move |row| all || row.alert_at.is_some())
            .map(|row| Row::Native(Box::new(row)));
        let escu = self.escu.iter().flat_map(|(start, groups)| {
            let groups = groups.iter();
            let above = groups.filter(|(_, group)| group.count > rule.threshold);
            above.map(|(src_ip, group)| Row::Escu(Box::new(escu_row(*start, src_ip, group, rule))))
        });
        // One of the two is empty.
        native.chain(escu)
    }

    /// Adds the times of its requests to a row, if it is to have details.
    fn add_times(&self, row: &mut Row) {
        let (times, detail) = match row {
            Row::Native(row) => (
                self.key(row)
                    .filter(|key| key.gathered.is_some())
                    .map(|key| key.times.clone()),
                &mut row.detail,
            ),
            Row::Escu(row) => (
                self.group(row)
                    .and_then(|group| group.gathered.as_ref())
                    .map(|gathered| gathered.times()),
                &mut row.detail,
            ),
        };
        *detail = times.map(|mut times| {
            times.sort_unstable();
            Box::new(Detail {
                times,
                seen: Finding::default(),
            })
        });
    }

    /// Adds its values to a row, and its evidence if it has details.
    fn add_values(&self, row: &mut Row) {
        let (values, gathered, columns, detail) = match row {
            Row::Native(row) => {
                let Some(key) = self.key(row) else { return };
                (&key.values, &key.gathered, &mut row.seen, &mut row.detail)
            }
            Row::Escu(row) => {
                let Some(group) = self.group(row) else { return };
                (
                    &group.values,
                    &group.gathered,
                    &mut row.columns,
                    &mut row.detail,
                )
            }
        };
        *columns = self.values.columns(values);
        if let (Some(gathered), Some(detail)) = (gathered, detail) {
            gathered.write(&mut detail.seen);
        }
    }

    fn key(&self, row: &NativeRow) -> Option<&Key> {
        self.native.get(row.src_ip.as_str())
    }

    fn group(&self, row: &EscuRow) -> Option<&Group> {
        self.escu.get(&row.window_start)?.get(row.src_ip.as_str())
    }
}

impl Row {
    /// Requests in all.
    fn count(&self) -> u64 {
        match self {
            Self::Native(row) => row.count,
            Self::Escu(row) => row.count,
        }
    }
}

fn escu_row(start: Micros, src_ip: &str, group: &Group, rule: &Rule) -> EscuRow {
    let (country, city) = group.place.as_deref().cloned().unwrap_or_default();
    EscuRow {
        window_start: start,
        window_end: start.plus(rule.window),
        src_ip: src_ip.to_owned(),
        country,
        city,
        count: group.count,
        columns: Columns::default(),
        first_time: group.first,
        last_time: group.last,
        detail: None,
    }
}

/// An event that is counted for each of its sources.
struct One {
    start: Micros,
    time: Micros,
    values: Arc<[u32]>,
    /// For the details.
    shared: Option<Arc<Hit>>,
}

/// Start of the tumbling window that holds `time`.
fn window_start(time: Micros, rule: &Rule) -> Micros {
    super::tumbling::window_start(time, rule.window, rule.window_offset)
}

fn native_row(src_ip: &str, key: &Key, rule: &Rule) -> Option<NativeRow> {
    let mut times = key.times.clone();
    times.sort_unstable();
    let (first_time, last_time) = (times.first()?.0, times.last()?.0);
    let mut alert_at = None;
    let mut max_in_window = 0;
    let mut count_by_code = BTreeMap::new();
    let mut oldest = times.iter().peekable();
    let mut in_window = 0;
    for (time, code) in &times {
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
        src_ip: src_ip.to_owned(),
        alert_at,
        max_in_window,
        count: times.len() as u64,
        count_by_code,
        first_time,
        last_time,
        seen: Columns::default(),
        detail: None,
    })
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
pub(super) fn stamp<S: Serializer>(time: &Micros, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(time)
}

#[expect(clippy::ref_option, reason = "the signature serde asks for")]
pub(super) fn stamp_or_null<S: Serializer>(
    time: &Option<Micros>,
    out: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => out.collect_str(time),
        None => out.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{fields::AuditField, json};

    /// Many busy addresses do not push out the details of a bad one.
    #[test]
    fn a_row_of_a_higher_rank_keeps_its_values_though_others_are_busier() {
        let rule = Rule {
            threshold: 0,
            ..Rule::default()
        };
        let mut rows = Rows::detailed();
        for address in 1..=9 {
            for at in 0..address {
                let line = format!(
                    r#"{{"auditID":"{address}-{at}","verb":"get","requestURI":"/{at}",
                    "user":{{"groups":["system:unauthenticated"]}},"sourceIPs":["192.0.2.{address}"],
                    "responseStatus":{{"code":403}},
                    "requestReceivedTimestamp":"2026-11-25T07:00:00Z"}}"#
                );
                let event = json::one(line.as_bytes(), "requestReceivedTimestamp");
                rows.add_event(&event.unwrap().unwrap(), &rule, None);
            }
        }
        let with_values = |bad: Option<&str>| -> Vec<String> {
            let rank = |row: &Row| matches!(row, Row::Native(row) if Some(&*row.src_ip) == bad);
            let rows = rows.busiest(&rule, true, 2, rank).into_iter();
            rows.filter_map(|row| match row {
                Row::Native(row) => {
                    let seen = !row.seen.get(AuditField::Verb).is_empty();
                    seen.then_some(row.src_ip)
                }
                Row::Escu(_) => None,
            })
            .collect()
        };
        assert_eq!(with_values(None), ["192.0.2.8", "192.0.2.9"]);
        assert_eq!(with_values(Some("192.0.2.1")), ["192.0.2.1", "192.0.2.9"]);
    }
}
