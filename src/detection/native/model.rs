//! A model of one key: the same rules over plain sorted lists of whole hits, with linear searches.
//! It is slow and large, and easy to see through; [`super::Key`] has to say the same.

use super::{
    super::{
        evidence::Evidence,
        finding::FindingState,
        hit::{Hit, Identity},
        packed::Fields,
        seen::Seen,
        time::{BEGINNING, Micros},
    },
    Arrival, Fate, Terms,
};

/// Hears of each new state of a finding.
pub(super) type Say<'s> = &'s mut dyn FnMut(FindingState, &Open);

/// A hit with its time made certain.
#[derive(Clone, Debug)]
pub(super) struct TimedHit {
    pub(super) time: Micros,
    pub(super) hit: Hit,
}

impl TimedHit {
    pub(super) fn place(&self) -> (Micros, Identity) {
        (self.time, self.hit.identity)
    }
}

/// State of one key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// Hits that belong to no finding, by time and identity.
    pub(super) free: Hits,
    /// Requests that are remembered besides the free ones.
    seen: Seen,
    open: Option<Box<Open>>,
    /// What happened up to here may have been forgotten.
    floor: Micros,
    /// Time of the latest hit.
    last: Micros,
    /// Where the cluster was when the last hit arrived.
    arrival: Arrival,
}

/// A finding in the making.
#[derive(Clone, Debug)]
pub(super) struct Open {
    /// Time and identity of the hit that opened it: what its id is made of.
    pub(super) opening: (Micros, Identity),
    /// Time of the first hit, in order of event time, that takes a window above the threshold.
    pub(super) alert_at: Micros,
    pub(super) evidence: Evidence,
    /// Hits up to `alert_at`, members or not: a late hit may move it back.
    before: Hits,
    /// Time of its last hit.
    last: Micros,
    /// How far the cluster was quiet when a hit last joined.
    joined: Micros,
    /// Count when it was last sent.
    sent: u64,
    /// Whether anything has changed since.
    changed: bool,
    /// Whether it was closed; it stays, for a backlog may show that the quiet was none.
    closed: bool,
}

impl Key {
    /// A key without hits, in a place where what happened up to `floor` may have been forgotten.
    pub(super) fn new(floor: Micros) -> Self {
        Self {
            free: Hits::default(),
            seen: Seen::default(),
            open: None,
            floor,
            last: BEGINNING,
            arrival: Arrival {
                front: BEGINNING,
                watermark: BEGINNING,
                quiet: BEGINNING,
            },
        }
    }

    /// How precious the key is: by its hits at hand, with an open finding above all others.
    pub(super) fn rank(&self, terms: &Terms<'_>) -> u64 {
        match &self.open {
            Some(open) if !open.closed => u64::MAX,
            _ => (self.free.len() as u64).min(terms.threshold + 1),
        }
    }

    /// Time at which the finding closes, if one is open: after a window of quiet. A finding that
    /// grows by late hits is always behind; it gets a window from the last of them, so that it
    /// does not close and go on with each.
    pub(super) fn closes_at(&self, terms: &Terms<'_>) -> Option<Micros> {
        let open = self.open.as_ref().filter(|open| !open.closed)?;
        Some(
            open.last
                .plus(terms.window)
                .max(open.joined.plus(terms.window)),
        )
    }

    /// Greatest event time of the cluster at which the key may be forgotten: no hit on time can
    /// meet its hits then, and late ones have had their time.
    pub(super) fn expires_at(&self, terms: &Terms<'_>) -> Micros {
        self.arrival.front.plus(terms.keep)
    }

    /// Most findings that so many further hits can cause.
    pub(super) fn bound(&self, hits: u64, terms: &Terms<'_>) -> u64 {
        let doublings = |from: u64, to: u64| u64::from((to / from.max(1)).max(1).ilog2());
        let count = self.free.len() as u64 + hits;
        let goes_on = self.open.as_ref().map_or(0, |open| {
            // A late hit may bring in free ones, or earlier ones that were no members so far.
            let outside = open.alert_at.minus(terms.window);
            let earlier = open.before.partition_point(|hit| hit.time <= outside) as u64;
            let most = open.evidence.count + earlier + count;
            u64::from(open.closed) + doublings(open.sent, most)
        });
        let opens = if count > terms.threshold {
            1 + doublings(terms.threshold + 1, count)
        } else {
            0
        };
        let due = goes_on + opens;
        due.min(hits)
    }

    /// Takes a hit. It is late when the watermark had passed it before it arrived.
    pub(super) fn observe(
        &mut self,
        hit: TimedHit,
        arrival: Arrival,
        terms: &Terms<'_>,
        say: Say<'_>,
    ) -> Fate {
        let (time, identity) = hit.place();
        let is_free = self.free.iter().any(|free| free.hit.identity == identity);
        if is_free || self.seen.contains(identity) {
            return Fate::Repeat;
        }
        if time < arrival.watermark && !self.is_exact(time, terms) {
            return Fate::TooLate;
        }
        self.last = self.last.max(time);
        self.arrival = arrival;
        self.forget(self.last.minus(terms.keep));
        if let Some(open) = &mut self.open {
            if time < open.last.plus(terms.window) {
                remember(&mut self.seen, &mut self.floor, open, &hit, terms);
                open.joined = arrival.quiet;
                open.join(hit, terms);
                self.absorb(terms);
                if let Some(open) = &mut self.open {
                    open.go_on(say);
                }
                return Fate::Counted;
            }
            if open.closed {
                self.retire();
            }
        }
        self.free.insert(hit);
        let crowded = self.free.len() > terms.limits.hits_per_key;
        if crowded {
            self.forget_first(1);
        }
        self.open_if_due(Some((time, identity)), terms, say);
        if crowded {
            Fate::Crowded
        } else {
            Fate::Counted
        }
    }

    /// Closes the finding if it has been quiet for a window. Free hits behind it may then open the
    /// next.
    pub(super) fn close(&mut self, quiet: Micros, terms: &Terms<'_>, say: Say<'_>) {
        if self.closes_at(terms).is_none_or(|at| at > quiet) {
            return;
        }
        let Some(open) = &mut self.open else { return };
        open.closed = true;
        open.say(FindingState::Closed, say);
        if !self.free.is_empty() {
            self.retire();
            self.open_if_due(None, terms, say);
        }
    }

    /// Says what has not been said yet, because nothing may come any more.
    pub(super) fn drain(&mut self, terms: &Terms<'_>, say: Say<'_>) {
        if let Some(open) = self.open.as_mut().filter(|open| !open.closed) {
            if open.changed {
                open.say(FindingState::Updated, say);
            }
            // A scan that waits for the finding before it to close must not be lost.
            if first_above(&self.free, terms).is_some() {
                self.retire();
                self.open_if_due(None, terms, say);
                if let Some(open) = self.open.as_mut().filter(|open| open.changed) {
                    open.say(FindingState::Updated, say);
                }
            }
        }
    }

    /// Whether everything is still known that a hit of this time could have met.
    fn is_exact(&self, time: Micros, terms: &Terms<'_>) -> bool {
        time.minus(terms.window) >= self.floor
            && self
                .open
                .as_ref()
                .is_none_or(|open| open.reaches_back_to(time, terms))
    }

    fn forget(&mut self, horizon: Micros) {
        let forgotten = self.free.partition_point(|free| free.time <= horizon);
        self.forget_first(forgotten);
        if let Some(open) = &mut self.open {
            let forgotten = open.before.partition_point(|hit| hit.time <= horizon);
            if let Some(last) = open.before.take_first(forgotten).last() {
                self.floor = self.floor.max(last.time);
            }
        }
        self.floor = self.floor.max(self.seen.forget(horizon));
    }

    fn forget_first(&mut self, count: usize) {
        if let Some(last) = self.free.take_first(count).last() {
            self.floor = self.floor.max(last.time);
        }
    }

    /// The finding is over for good.
    fn retire(&mut self) {
        if let Some(open) = self.open.take() {
            self.floor = self.floor.max(open.last);
        }
    }

    /// Opens a finding if none is open and a window of free hits is above the threshold.
    /// `opening` is the hit that has just come.
    fn open_if_due(
        &mut self,
        opening: Option<(Micros, Identity)>,
        terms: &Terms<'_>,
        say: Say<'_>,
    ) {
        if self.open.is_some() {
            return;
        }
        let Some((first, alert)) = first_above(&self.free, terms) else {
            return;
        };
        let before = self.free.take_first(alert + 1);
        let Some(alert) = before.last().map(TimedHit::place) else {
            return;
        };
        let mut open = Box::new(Open {
            opening: opening.unwrap_or(alert),
            alert_at: alert.0,
            evidence: Evidence::default(),
            before: Hits::default(),
            last: alert.0,
            joined: self.arrival.quiet,
            sent: 0,
            changed: false,
            closed: false,
        });
        for hit in &before {
            remember(&mut self.seen, &mut self.floor, &mut open, hit, terms);
        }
        for member in before.iter().skip(first) {
            open.evidence
                .add(&Fields::of(&member.hit), member.place(), 1, terms.limits);
        }
        open.before = Hits(before);
        open.say(FindingState::Opened, say);
        self.open = Some(open);
        self.absorb(terms);
        // One hit says one thing at most: what came with it is told with the next.
        if let (Some(open), None) = (&mut self.open, opening) {
            open.go_on(say);
        }
    }

    /// Lets free hits join the finding as far as its last hit has come near them.
    fn absorb(&mut self, terms: &Terms<'_>) {
        let Some(open) = &mut self.open else { return };
        let mut near = 0;
        let mut last = open.last;
        while let Some(free) = self.free.get(near)
            && free.time < last.plus(terms.window)
        {
            last = last.max(free.time);
            near += 1;
        }
        for hit in self.free.take_first(near) {
            remember(&mut self.seen, &mut self.floor, open, &hit, terms);
            open.join(hit, terms);
        }
    }
}

impl Open {
    /// Whether a hit of this time belongs to this finding or to none: not to a scan of its own
    /// that would have come before.
    fn reaches_back_to(&self, time: Micros, terms: &Terms<'_>) -> bool {
        let start = self.alert_at.minus(terms.window);
        let mut latest = time;
        for before in self.before.iter() {
            if before.time > latest && before.time < latest.plus(terms.window) {
                latest = before.time;
            }
        }
        time > start || latest > start
    }

    fn say(&mut self, state: FindingState, say: Say<'_>) {
        self.sent = self.evidence.count;
        self.changed = false;
        say(state, self);
    }

    /// Takes a hit that is less than a window behind the last one, or before it.
    fn join(&mut self, hit: TimedHit, terms: &Terms<'_>) {
        if hit.time > self.alert_at.minus(terms.window) {
            self.evidence
                .add(&Fields::of(&hit.hit), hit.place(), 1, terms.limits);
            self.last = self.last.max(hit.time);
            self.changed = true;
        }
        if hit.time < self.alert_at && self.before.len() < terms.limits.hits_per_key {
            self.before.insert(hit);
            self.correct(terms);
        }
    }

    /// Says what has come of the hits that joined, if it is due.
    fn go_on(&mut self, say: Say<'_>) {
        if self.closed && self.changed {
            self.closed = false;
            self.say(FindingState::Updated, say);
        } else if self.evidence.count >= self.sent.saturating_mul(2) {
            self.say(FindingState::Updated, say);
        }
    }

    /// Moves `alert_at` back if a window before it is above the threshold by now.
    fn correct(&mut self, terms: &Terms<'_>) {
        let Some((first, alert)) = first_above(&self.before, terms) else {
            return;
        };
        let Some(time) = self.before.get(alert).map(|hit| hit.time) else {
            return;
        };
        if time >= self.alert_at {
            return;
        }
        let outside = self.alert_at.minus(terms.window);
        for member in self
            .before
            .iter()
            .skip(first)
            .take_while(|hit| hit.time <= outside)
        {
            self.evidence
                .add(&Fields::of(&member.hit), member.place(), 1, terms.limits);
        }
        self.alert_at = time;
        self.before.truncate(alert + 1);
        self.changed = true;
    }
}

/// Remembers a request that belongs to a finding, and what had to be forgotten for it.
fn remember(
    seen: &mut Seen,
    floor: &mut Micros,
    open: &mut Open,
    hit: &TimedHit,
    terms: &Terms<'_>,
) {
    let forgotten = seen.insert(hit.hit.identity, hit.time, terms.limits.hits_per_key);
    if forgotten.until > open.last.minus(terms.keep) {
        open.evidence.unverified += forgotten.requests;
    }
    *floor = (*floor).max(forgotten.until);
}

/// The first hit, in order of event time, that takes a window above the threshold: its index, and
/// that of the first hit in its window.
fn first_above(hits: &[TimedHit], terms: &Terms<'_>) -> Option<(usize, usize)> {
    let mut first = 0;
    for (at, hit) in hits.iter().enumerate() {
        // Two hits share a window when they differ by less than its length.
        while hits
            .get(first)
            .is_some_and(|old| old.time <= hit.time.minus(terms.window))
        {
            first += 1;
        }
        if (at + 1 - first) as u64 > terms.threshold {
            return Some((first, at));
        }
    }
    None
}

/// Hits by time and identity.
#[derive(Clone, Debug, Default)]
pub(super) struct Hits(Vec<TimedHit>);

impl std::ops::Deref for Hits {
    type Target = [TimedHit];

    fn deref(&self) -> &[TimedHit] {
        &self.0
    }
}

impl Hits {
    fn insert(&mut self, hit: TimedHit) {
        let at = self.0.partition_point(|other| other.place() < hit.place());
        self.0.insert(at, hit);
    }

    fn take_first(&mut self, count: usize) -> Vec<TimedHit> {
        let later = self.0.split_off(count.min(self.0.len()));
        std::mem::replace(&mut self.0, later)
    }

    fn truncate(&mut self, count: usize) {
        self.0.truncate(count);
    }
}
