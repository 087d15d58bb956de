//! A finding of a derived detection: gathered, opened, updated and closed.
//!
//! Hits decide what belongs to it and when it opens. Its states are emitted when event time has
//! come to them, never in the course of a hit, so hits cause no findings here.

use super::{
    key::{Network, Octets},
    members::Members,
};
use crate::{
    audit::time::Micros,
    detection::{
        evidence::{Evidence, Paths},
        finding::FindingState,
        heap,
        hit::Place,
        limits::Limits,
        packed::Fields,
    },
    finding::{CloseReason, Finding, Severity},
    proto::finding::{Member, New},
    rules::settings::SECOND,
};

/// A finding that grows fast is updated at most this often.
const LEAST_BETWEEN: i64 = 10 * SECOND;
/// The same for members whose own findings are not sent: a network may have thousands.
const LISTED_BETWEEN: i64 = 60 * SECOND;
/// Findings of members that a finding is linked with.
pub(in crate::detection) const SINGLES: usize = 5;
/// Reasons for a severity that are kept.
const REASONS: usize = 8;
/// The lists that lack what came before evidence was gathered.
const LISTS: [&str; 4] = ["codes", "paths", "user_agents", "verbs"];

/// How a detection lets its findings live. In microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detection) struct Pace {
    /// One that has changed is updated after this long, whatever has changed.
    pub(in crate::detection) period: i64,
    /// It is closed after this long without a request.
    pub(in crate::detection) quiet: i64,
    /// What is gathered, or kept of a closed one, is forgotten after this long without a request.
    pub(in crate::detection) memory: i64,
    /// How far a request may be behind the greatest event time.
    pub(in crate::detection) lateness: i64,
}

/// How a finding is written.
#[derive(Clone, Copy)]
pub(in crate::detection) struct Form<'a> {
    /// Bits of an IPv6 address that count.
    pub(in crate::detection) ipv6_prefix: u8,
    pub(in crate::detection) limits: &'a Limits,
}

/// A request that has come.
#[derive(Clone, Copy)]
pub(in crate::detection) struct Arrived<'a> {
    pub(in crate::detection) place: Place,
    pub(in crate::detection) fields: Fields<'a>,
    /// The address it counts for.
    pub(in crate::detection) octets: Octets,
    /// Its cluster, as a number.
    pub(in crate::detection) cluster: u32,
    /// The closing watermark of the cluster.
    pub(in crate::detection) closing: Micros,
    pub(in crate::detection) limits: &'a Limits,
}

/// What was sent of a finding last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detection) struct Sent {
    pub(in crate::detection) count: u64,
    pub(in crate::detection) members: u64,
    pub(in crate::detection) severity: Option<Severity>,
    /// Event time at which it was sent.
    pub(in crate::detection) at: Micros,
}

/// How far a finding has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::detection) enum Stage {
    /// It may be kept, because another one may continue it.
    #[default]
    Closed,
    /// Evidence is gathered for one that may open.
    Gathering,
    /// It is open.
    Open,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::detection) struct Life {
    pub(in crate::detection) stage: Stage,
    /// Time and identity of the hit that opened it.
    pub(in crate::detection) opening: Place,
    /// Its id, once it has opened.
    pub(in crate::detection) id: u128,
    /// The one that it continues.
    pub(in crate::detection) continues: Option<u128>,
    /// Requests, with those before its evidence was gathered.
    pub(in crate::detection) count: u64,
    pub(in crate::detection) first: Micros,
    pub(in crate::detection) last: Micros,
    /// The closing watermark when a request last joined.
    pub(in crate::detection) joined: Micros,
    pub(in crate::detection) evidence: Evidence,
    pub(in crate::detection) members: Members,
    /// Findings that belong to it and were sent.
    pub(in crate::detection) related: Vec<u128>,
    /// What is measured, by name.
    pub(in crate::detection) values: u64,
    /// Its severity, if that is not the level of the rule.
    pub(in crate::detection) severity: Option<Severity>,
    pub(in crate::detection) reasons: Vec<String>,
    pub(in crate::detection) sent: Option<Sent>,
    pub(in crate::detection) is_changed: bool,
    /// Whether a member has a finding since that is shown in this one alone.
    pub(in crate::detection) has_listed: bool,
}

impl Life {
    /// Gathers evidence from this hit on.
    pub(in crate::detection) fn new(place: Place) -> Self {
        Self {
            stage: Stage::Gathering,
            opening: place,
            id: 0,
            continues: None,
            count: 0,
            first: place.0,
            last: place.0,
            joined: place.0,
            evidence: Evidence::new(Paths::WithoutQuery),
            members: Members::default(),
            related: Vec::new(),
            values: 0,
            severity: None,
            reasons: Vec::new(),
            sent: None,
            is_changed: false,
            has_listed: false,
        }
    }

    pub(in crate::detection) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Bytes on the heap, with its own.
    pub(in crate::detection) fn heap_bytes(&self) -> usize {
        let reasons = self
            .reasons
            .iter()
            .map(|reason| heap::block(reason.capacity()));
        heap::shared(size_of::<Self>())
            + self.evidence.heap_bytes()
            + self.members.heap_bytes()
            + heap::list(&self.related)
            + heap::list(&self.reasons)
            + reasons.sum::<usize>()
    }

    /// What decides which gives way: the stage, and the magnitude of its requests.
    pub(in crate::detection) fn rank(&self) -> (Stage, u32) {
        (self.stage, self.count.checked_ilog2().unwrap_or_default())
    }

    /// Takes a request.
    pub(in crate::detection) fn add(&mut self, hit: &Arrived<'_>) {
        let (time, _) = hit.place;
        self.evidence.add(&hit.fields, hit.place, 1, hit.limits);
        self.count += 1;
        self.first = self.first.min(time);
        self.last = self.last.max(time);
        self.joined = hit.closing;
        self.is_changed = true;
    }

    /// Gathers again, if it is one that rests.
    pub(in crate::detection) fn wake(&mut self, place: Place) {
        if self.stage == Stage::Closed {
            self.stage = Stage::Gathering;
            (self.first, self.last) = (place.0, place.0);
        }
    }

    /// Raises the severity; `reason` says why.
    pub(in crate::detection) fn raise(
        &mut self,
        severity: Severity,
        reason: impl FnOnce() -> String,
    ) {
        if self.severity.is_none_or(|own| own < severity) {
            self.severity = Some(severity);
            self.is_changed = true;
            if self.reasons.len() < REASONS {
                self.reasons.push(reason());
            }
        }
    }

    /// Links it with a finding that belongs to it.
    pub(in crate::detection) fn relate(&mut self, id: u128) {
        if self.related.len() < SINGLES && !self.related.contains(&id) {
            self.related.reserve_exact(1);
            self.related.push(id);
            self.is_changed = true;
        }
    }

    /// Shows a member whose own finding is not sent, also if its requests wait.
    pub(in crate::detection) fn list(&mut self, octets: Octets) {
        self.members.add(octets, 0);
        self.is_changed = true;
        self.has_listed = true;
    }

    /// Opens it with the hit that has just come.
    pub(in crate::detection) fn open(&mut self, hit: &Arrived<'_>, id: u128) {
        self.stage = Stage::Open;
        self.opening = hit.place;
        self.id = id;
        self.sent = None;
        self.is_changed = true;
    }

    /// Time of the cluster at which something is to be done.
    pub(in crate::detection) fn due_at(&self, pace: &Pace) -> Micros {
        let quiet_since = self.last.max(self.joined);
        match (self.stage, &self.sent) {
            (Stage::Open, None) => self.opening.0,
            (Stage::Open, Some(sent)) => {
                let closes = quiet_since.plus(pace.quiet).plus(pace.lateness);
                if !self.is_changed {
                    return closes;
                }
                let wait = if self.has_risen(sent) {
                    0
                } else if self.has_doubled(sent) {
                    LEAST_BETWEEN
                } else if self.has_listed {
                    LISTED_BETWEEN.min(pace.period)
                } else {
                    pace.period
                };
                closes.min(sent.at.plus(wait))
            }
            (Stage::Gathering | Stage::Closed, _) => {
                quiet_since.plus(pace.memory).plus(pace.lateness)
            }
        }
    }

    fn has_doubled(&self, sent: &Sent) -> bool {
        let doubles = |now: u64, before: u64| now >= before.saturating_mul(2) && now > before;
        doubles(self.count, sent.count) || doubles(self.members.count(), sent.members)
    }

    fn has_risen(&self, sent: &Sent) -> bool {
        self.severity > sent.severity
    }

    /// What is due at this time of the cluster: a state to be emitted. `None` when nothing is.
    pub(in crate::detection) fn advance(
        &mut self,
        now: Micros,
        pace: &Pace,
    ) -> Option<FindingState> {
        if !self.is_open() || self.due_at(pace) > now {
            return None;
        }
        let closes = self
            .last
            .max(self.joined)
            .plus(pace.quiet)
            .plus(pace.lateness);
        Some(match self.sent {
            None => FindingState::Opened,
            Some(_) if closes <= now => {
                self.stage = Stage::Closed;
                FindingState::Closed
            }
            Some(_) => FindingState::Updated,
        })
    }

    /// Whether it may be forgotten at this time of the cluster.
    pub(in crate::detection) fn is_over(&self, now: Micros, pace: &Pace) -> bool {
        !self.is_open() && self.due_at(pace) <= now
    }

    /// Writes it as it is now, closed for this reason if it is.
    pub(in crate::detection) fn write(
        &mut self,
        closed: Option<CloseReason>,
        at: Micros,
        (network, form): (&Network, Form<'_>),
    ) -> Finding {
        let mut finding = Finding::default();
        self.evidence.write(&mut finding, form.limits);
        let before = self.sent;
        if self.evidence.count < self.count {
            for list in LISTS {
                if !finding.truncated.iter().any(|name| name == list) {
                    finding.truncated.push(list.to_owned());
                }
            }
            finding.truncated.sort();
        }
        finding.count = self.count;
        finding.first_time = Some(self.first.to_proto());
        finding.last_time = Some(self.last.to_proto());
        finding.related = self.related.iter().copied().map(hex).collect();
        finding.continues = self.continues.map(hex).unwrap_or_default();
        // Each has raised it: the strongest came last, and is to be first.
        finding.severity_reasons = self.reasons.iter().rev().cloned().collect();
        finding.value_count = self.values.max(self.members.count());
        finding.member_count = self.members.count();
        let members = self.members.listed().map(|(octets, member)| Member {
            source: super::key::text(octets, form.ipv6_prefix),
            count: member.count,
            finding_id: member.finding.map(hex).unwrap_or_default(),
        });
        finding.members = members.collect();
        if self.members.sketch.is_some() {
            finding.estimated.push("members".to_owned());
        }
        if network.bits < 128 {
            finding.prefix = network.text();
        }
        if let Some(reason) = closed {
            reason.as_str().clone_into(&mut finding.close_reason);
        }
        if let Some(before) = before {
            finding.new = Some(New {
                count: self.count.saturating_sub(before.count),
                ..New::default()
            });
        }
        self.sent = Some(Sent {
            count: self.count,
            members: self.members.count(),
            severity: self.severity,
            at,
        });
        self.is_changed = false;
        self.has_listed = false;
        finding
    }

    /// What a closed one leaves for one that may continue it.
    pub(in crate::detection) fn rest(&mut self) {
        let mut rest = Self::new(self.opening);
        rest.stage = Stage::Closed;
        rest.continues = Some(self.id);
        rest.last = self.last;
        rest.joined = self.joined;
        *self = rest;
    }
}

/// An id as findings have it.
pub(in crate::detection) fn hex(id: u128) -> String {
    format!("{id:032x}")
}

/// An id of a finding as a number.
pub(in crate::detection) fn number(id: &str) -> Option<u128> {
    u128::from_str_radix(id, 16).ok()
}
