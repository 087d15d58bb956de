//! The rows of `scan --rules`: what several detections find in a whole log, in any order.
//!
//! As the rows of `scan`, they know no lateness and no limits of the service: a row is a group (in
//! fixed windows, a group and a window) that comes above its condition anywhere in the log.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde::Serialize;

use super::{
    event::Event,
    fields::AuditField,
    hit::Identity,
    rows::{stamp, stamp_or_null},
    time::Micros,
};
use crate::rules::{
    Scratch,
    matches::Match,
    model::{Aggregate, Dedup, Detection, GroupBy, Window},
};

/// Groups that are kept apart, of all detections and windows.
const MOST_GROUPS: usize = 2_000_000;
/// Identifiers of requests that a row lists: those of the first ones.
const MOST_AUDIT_IDS: usize = 20;
/// Bytes of one value of a group, and of one identifier.
const VALUE_BYTES: usize = 1024;

/// A group above the condition of its rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleRow {
    /// Identifier of the rule.
    pub rule_id: String,
    /// Its name, or its title.
    pub rule: String,
    /// Its title.
    pub title: String,
    /// Its severity.
    pub level: String,
    /// The fields of the group; null where an event has none.
    pub group: BTreeMap<String, Option<String>>,
    /// Matches in all (in fixed windows, in this one); of `value_count` and `temporal`, requests.
    pub count: u64,
    /// The most distinct values, or rules, in one window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distinct: Option<u64>,
    /// Time of the match that first takes a window above the condition, in order of event time.
    #[serde(serialize_with = "stamp")]
    pub alert_at: Micros,
    /// Time of the first match.
    #[serde(serialize_with = "stamp")]
    pub first_time: Micros,
    /// Time of the last match.
    #[serde(serialize_with = "stamp")]
    pub last_time: Micros,
    /// `auditID` of the first requests.
    pub audit_ids: Vec<String>,
    /// Start of a fixed window.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "stamp_or_null"
    )]
    pub window_start: Option<Micros>,
    /// Its end.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "stamp_or_null"
    )]
    pub window_end: Option<Micros>,
}

/// A group in the making, and the key that orders it.
#[derive(Debug, Default)]
struct Group {
    /// With `dedup: request`, the earliest time of each match.
    once: HashMap<Identity, Micros>,
    /// With `dedup: none`, all.
    all: Vec<(Micros, Identity)>,
    audit_ids: BTreeSet<(Micros, String)>,
}

/// Detection, key, start of the window.
type GroupKey = (usize, Box<str>, Option<Micros>);

/// Rows in the making.
#[derive(Debug, Default)]
pub struct RuleRows {
    detections: Vec<Arc<Detection>>,
    groups: BTreeMap<GroupKey, Group>,
    scratch: Scratch,
    /// Matches without a readable time: in no window, in no row.
    pub untimed: u64,
    /// Matches of groups that were left out because there were too many.
    pub left_out: u64,
}

impl RuleRows {
    /// No rows of these detections yet.
    pub fn new(detections: Vec<Arc<Detection>>) -> Self {
        Self {
            detections,
            ..Self::default()
        }
    }

    /// Takes an event.
    pub fn add_event(&mut self, event: &Event<'_>) {
        let detections = std::mem::take(&mut self.detections);
        let mut scratch = std::mem::take(&mut self.scratch);
        for (at, detection) in detections.iter().enumerate() {
            detection.matches(event, &mut scratch, VALUE_BYTES, &mut |found| {
                self.take((at, detection), event, &found);
            });
        }
        scratch.trim();
        (self.detections, self.scratch) = (detections, scratch);
    }

    fn take(&mut self, (at, detection): (usize, &Detection), event: &Event<'_>, found: &Match) {
        let Some(time) = event.time() else {
            self.untimed += 1;
            return;
        };
        let window = match detection.window {
            Window::Session { .. } => None,
            Window::Tumbling { length, offset } => Some(window_start(time, length, offset)),
        };
        let audit_id = event
            .field(AuditField::AuditId)
            .value()
            .map(|id| id.cut(VALUE_BYTES));
        match &detection.group_by {
            GroupBy::Fields(_) => {
                let key = (at, found.key.as_str().into(), window);
                self.count(key, detection.dedup, (time, found.identity), audit_id);
            }
            GroupBy::Sources { .. } => event.for_each_source(|source| {
                let key = (at, source.into(), window);
                self.count(
                    key,
                    detection.dedup,
                    (time, found.identity),
                    audit_id.clone(),
                );
            }),
        }
    }

    fn count(
        &mut self,
        key: GroupKey,
        dedup: Dedup,
        (time, identity): (Micros, Identity),
        audit_id: Option<String>,
    ) {
        if self.groups.len() >= MOST_GROUPS && !self.groups.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        let group = self.groups.entry(key).or_default();
        match dedup {
            Dedup::Request => {
                let earliest = group.once.entry(identity).or_insert(time);
                *earliest = (*earliest).min(time);
            }
            Dedup::None => group.all.push((time, identity)),
        }
        if let Some(audit_id) = audit_id {
            group.audit_ids.insert((time, audit_id));
            while group.audit_ids.len() > MOST_AUDIT_IDS {
                group.audit_ids.pop_last();
            }
        }
    }

    /// The rows by rule and first time.
    pub fn finish(&self) -> Vec<RuleRow> {
        let mut rows: Vec<_> = self
            .groups
            .iter()
            .filter_map(|(key, group)| self.row(key, group))
            .collect();
        rows.sort_by(|a, b| {
            let order = |row: &RuleRow| (row.rule.clone(), row.first_time, row.window_start);
            order(a)
                .cmp(&order(b))
                .then_with(|| a.group.cmp(&b.group))
                .then_with(|| a.audit_ids.cmp(&b.audit_ids))
        });
        rows
    }

    fn row(&self, (at, key, window): &GroupKey, group: &Group) -> Option<RuleRow> {
        let detection = self.detections.get(*at)?;
        let once = group.once.iter().map(|(identity, time)| (*time, *identity));
        let mut matches: Vec<_> = once.chain(group.all.iter().copied()).collect();
        matches.sort_unstable();
        let is_distinct = detection.aggregate == Aggregate::Values;
        let length = match detection.window {
            Window::Session { length } => length,
            // All of them are in one window.
            Window::Tumbling { .. } => i64::MAX,
        };
        let judged = judge(&matches, length, detection.threshold, is_distinct);
        let requests: BTreeSet<_> = matches
            .iter()
            .map(|(_, Identity(bytes))| bytes.get(..8))
            .collect();
        let count = if is_distinct {
            requests.len()
        } else {
            matches.len()
        };
        let annotations = &detection.annotations;
        let mut audit_ids: Vec<String> = Vec::new();
        for (_, audit_id) in &group.audit_ids {
            if !audit_ids.contains(audit_id) {
                audit_ids.push(audit_id.clone());
            }
        }
        Some(RuleRow {
            rule_id: annotations.id.clone(),
            rule: detection.name().to_owned(),
            title: annotations.title.clone(),
            level: annotations.level.clone(),
            group: match &detection.group_by {
                GroupBy::Fields(_) => detection.group(key).into_iter().collect(),
                GroupBy::Sources { .. } => [("sourceIPs".to_owned(), Some(key.to_string()))].into(),
            },
            count: count as u64,
            distinct: is_distinct.then_some(judged.most),
            alert_at: judged.alert_at?,
            first_time: matches.first()?.0,
            last_time: matches.last()?.0,
            audit_ids,
            window_start: *window,
            window_end: window.map(|start| start.plus(detection.window.length())),
        })
    }
}

/// What the windows over some matches say.
#[derive(Debug, Default)]
struct Judged {
    alert_at: Option<Micros>,
    /// The most in one window.
    most: u64,
}

/// Moves a window over matches in order of time: two share one when they differ by less than its
/// length.
fn judge(matches: &[(Micros, Identity)], length: i64, threshold: u64, is_distinct: bool) -> Judged {
    let value = |Identity(bytes): Identity| bytes.last_chunk::<8>().copied().unwrap_or_default();
    let mut judged = Judged::default();
    let mut values: HashMap<[u8; 8], u64> = HashMap::new();
    let mut oldest = matches.iter().peekable();
    let mut in_window = 0_u64;
    for (time, identity) in matches {
        in_window += 1;
        *values.entry(value(*identity)).or_default() += 1;
        while let Some((_, old)) = oldest.next_if(|(old, _)| *old <= time.minus(length)) {
            in_window -= 1;
            if let Some(count) = values.get_mut(&value(*old)) {
                *count -= 1;
                if *count == 0 {
                    values.remove(&value(*old));
                }
            }
        }
        let count = if is_distinct {
            values.len() as u64
        } else {
            in_window
        };
        judged.most = judged.most.max(count);
        if count > threshold && judged.alert_at.is_none() {
            judged.alert_at = Some(*time);
        }
    }
    judged
}

/// Start of the fixed window that holds a time.
fn window_start(time: Micros, length: i64, offset: i64) -> Micros {
    let (length, offset) = (i128::from(length.max(1)), i128::from(offset));
    let start = (i128::from(time.0) - offset).div_euclid(length) * length + offset;
    Micros(i64::try_from(start).unwrap_or(i64::MIN))
}
