//! Native semantics as a stream: the life of one key.
//!
//! A key holds the hits of the last window that belong to no finding yet (`free`), and at most one
//! finding. The hit that takes a window of free hits above the threshold opens a finding with just
//! the hits of that window; later hits join it as long as they are less than a window behind its
//! last one. A hit further ahead stays free until the finding is closed, because a late hit might
//! still bridge the gap. The finding closes when the watermark says that nothing can.
//!
//! Time is event time. The set of hits decides, not their order, wherever lateness allows; only
//! *when* a finding opens, and hence its id, follows the order of arrival. That holds as long as
//! the lateness is shorter than the window, which the engine sees to.

use serde::{Deserialize, Serialize};

use super::{
    evidence::Evidence,
    finding::FindingState,
    heap,
    hits::{Few, Kept, Place, Unassigned},
    limits::Limits,
    packed::{Fields, Packed},
    seen::Seen,
    time::{BEGINNING, Micros},
};

/// What a key needs to know of the rule and its bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub(super) threshold: u64,
    pub(super) window: i64,
    pub(super) limits: &'a Limits,
    /// How far back hits are remembered: at least as far as hits on time can reach.
    pub(super) keep: i64,
}

/// Where the cluster is when a hit arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Arrival {
    /// Greatest event time seen.
    pub(super) front: Micros,
    pub(super) watermark: Micros,
    /// Findings that are quiet for a window up to here are over.
    pub(super) quiet: Micros,
}

/// Hears of each new state of a finding.
pub(super) type Say<'s> = &'s mut dyn FnMut(FindingState, &Open);

/// What became of a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It counts.
    Counted,
    /// It counts, and the oldest that waited for the finding before them to close gave way.
    Crowded,
    /// It was seen before.
    Repeat,
    /// It came too late to be counted exactly.
    TooLate,
}

/// State of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Key {
    /// Hits that belong to no finding, by time and identity.
    free: Unassigned,
    /// Requests that are remembered besides the free ones.
    seen: Option<Box<Seen>>,
    open: Option<Box<Open>>,
    /// What happened up to here may have been forgotten.
    floor: Micros,
    /// Time of the latest hit.
    last: Micros,
    /// Greatest event time of the cluster when the last hit arrived.
    front: Micros,
    /// How far the cluster was quiet then.
    quiet: Micros,
}

/// A finding in the making.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Open {
    /// Time and identity of the hit that opened it: what its id is made of.
    pub(super) opening: Place,
    /// Time of the first hit, in order of event time, that takes a window above the threshold.
    pub(super) alert_at: Micros,
    pub(super) evidence: Evidence,
    /// Hits up to `alert_at`, members or not: a late hit may move it back. Each window of them
    /// but the last is below the threshold, so they are few. Members are without their texts.
    before: Few,
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
            free: Unassigned::default(),
            seen: None,
            open: None,
            floor,
            last: BEGINNING,
            front: BEGINNING,
            quiet: BEGINNING,
        }
    }

    /// Time of the latest hit.
    pub(super) fn last(&self) -> Micros {
        self.last
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |open| {
            heap::block(size_of::<Open>()) + open.before.heap_bytes() + open.evidence.heap_bytes()
        });
        let seen = self
            .seen
            .as_ref()
            .map_or(0, |seen| heap::block(size_of::<Seen>()) + seen.heap_bytes());
        self.free.heap_bytes() + seen + open
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
        self.front.plus(terms.keep)
    }

    /// Most findings that so many further hits can cause.
    pub(super) fn bound(&self, hits: u64, terms: &Terms<'_>) -> u64 {
        let doublings = |from: u64, to: u64| u64::from((to / from.max(1)).max(1).ilog2());
        let count = self.free.len() as u64 + hits;
        let goes_on = self.open.as_ref().map_or(0, |open| {
            // A late hit may bring in free ones, or earlier ones that were no members so far.
            let outside = open.alert_at.minus(terms.window);
            let earlier = open.before.partition_point(|hit| hit.time() <= outside) as u64;
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
        (place, fields): (Place, &Fields<'_>),
        arrival: Arrival,
        terms: &Terms<'_>,
        say: Say<'_>,
    ) -> Fate {
        let (time, identity) = place;
        let is_seen = |seen: &Seen| seen.contains(identity);
        if self.free.contains(identity) || self.seen.as_deref().is_some_and(is_seen) {
            return Fate::Repeat;
        }
        if time < arrival.watermark && !self.is_exact(time, terms) {
            return Fate::TooLate;
        }
        self.last = self.last.max(time);
        (self.front, self.quiet) = (arrival.front, arrival.quiet);
        self.forget(self.last.minus(terms.keep));
        if let Some(open) = &mut self.open {
            if time < open.last.plus(terms.window) {
                remember(&mut self.seen, &mut self.floor, open, place, terms);
                open.joined = arrival.quiet;
                open.join(place, fields, terms);
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
        self.free.insert(place, fields, terms.limits);
        let crowded = self.free.len() > terms.limits.hits_per_key;
        if crowded && let Some(first) = self.free.pop_first() {
            self.floor = self.floor.max(first.time());
        }
        if self.open.is_none()
            && let Some(window) = self.free_window_of(time, terms)
        {
            self.open_with(window, Some(place), terms, say);
        }
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
            if let Some(window) = self.free_window(terms) {
                self.open_with(window, None, terms, say);
            }
        }
    }

    /// Says what has not been said yet, because nothing may come any more.
    pub(super) fn drain(&mut self, terms: &Terms<'_>, say: Say<'_>) {
        if let Some(open) = self.open.as_mut().filter(|open| !open.closed) {
            if open.changed {
                open.say(FindingState::Updated, say);
            }
            // A scan that waits for the finding before it to close must not be lost.
            if let Some(window) = self.free_window(terms) {
                self.retire();
                self.open_with(window, None, terms, say);
                if let Some(open) = self.open.as_mut().filter(|open| open.changed) {
                    open.say(FindingState::Updated, say);
                }
            }
        }
    }

    /// Says a last word about a finding that has to give way.
    pub(super) fn evict(&mut self, say: Say<'_>) {
        if let Some(open) = self.open.as_mut().filter(|open| !open.closed) {
            open.say(FindingState::Closed, say);
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
        while let Some((time, _)) = self.free.first()
            && time <= horizon
            && self.free.pop_first().is_some()
        {
            self.floor = self.floor.max(time);
        }
        if let Some(open) = &mut self.open {
            let forgotten = open.before.partition_point(|hit| hit.time() <= horizon);
            if let Some(last) = open.before.take_first(forgotten).last() {
                self.floor = self.floor.max(last.time());
            }
        }
        if let Some(seen) = &mut self.seen {
            self.floor = self.floor.max(seen.forget(horizon));
            if seen.is_empty() {
                self.seen = None;
            }
        }
    }

    /// The finding is over for good.
    fn retire(&mut self) {
        if let Some(open) = self.open.take() {
            self.floor = self.floor.max(open.last);
        }
    }

    /// The first window of free hits above the threshold: its first hit, and the one that takes it
    /// there.
    fn free_window(&self, terms: &Terms<'_>) -> Option<(Place, Place)> {
        window_above(self.free.places(), terms)
    }

    /// The same, when a hit of this time is the only one that can have made such a window: while
    /// no finding is open, all windows of free hits are looked at as each hit comes.
    fn free_window_of(&self, time: Micros, terms: &Terms<'_>) -> Option<(Place, Place)> {
        if self.free.len() as u64 <= terms.threshold {
            return None;
        }
        let near = self
            .free
            .between(time.minus(terms.window), time.plus(terms.window));
        window_above(near, terms)
    }

    /// Opens a finding with a window of free hits. `opening` is the hit that has just come.
    fn open_with(
        &mut self,
        (first, alert): (Place, Place),
        opening: Option<Place>,
        terms: &Terms<'_>,
        say: Say<'_>,
    ) {
        let mut open = Box::new(Open {
            opening: opening.unwrap_or(alert),
            alert_at: alert.0,
            evidence: Evidence::default(),
            before: Few::default(),
            last: alert.0,
            joined: self.quiet,
            sent: 0,
            changed: false,
            closed: false,
        });
        while let Some(place) = self.free.first()
            && place <= alert
            && let Some(hit) = self.free.pop_first()
        {
            remember(&mut self.seen, &mut self.floor, &mut open, place, terms);
            if place >= first {
                open.evidence
                    .add(&hit.packed.fields(), place, 1, terms.limits);
            }
            open.before.insert(hit);
        }
        open.before.strip_after(alert.0.minus(terms.window));
        self.free.shrink();
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
        while let Some(place) = self.free.first()
            && place.0 < open.last.plus(terms.window)
            && let Some(hit) = self.free.pop_first()
        {
            remember(&mut self.seen, &mut self.floor, open, place, terms);
            open.join(place, &hit.packed.fields(), terms);
        }
    }
}

impl Open {
    /// Whether a hit of this time belongs to this finding or to none: not to a scan of its own
    /// that would have come before.
    fn reaches_back_to(&self, time: Micros, terms: &Terms<'_>) -> bool {
        let start = self.alert_at.minus(terms.window);
        let mut latest = time;
        let later = self.before.partition_point(|hit| hit.time() <= time);
        for before in self.before.iter().skip(later) {
            if latest > start || before.time() >= latest.plus(terms.window) {
                break;
            }
            latest = before.time();
        }
        latest > start
    }

    fn say(&mut self, state: FindingState, say: Say<'_>) {
        self.sent = self.evidence.count;
        self.changed = false;
        say(state, self);
    }

    /// Takes a hit that is less than a window behind the last one, or before it.
    fn join(&mut self, place: Place, fields: &Fields<'_>, terms: &Terms<'_>) {
        let (time, _) = place;
        let is_member = time > self.alert_at.minus(terms.window);
        if is_member {
            self.evidence.add(fields, place, 1, terms.limits);
            self.last = self.last.max(time);
            self.changed = true;
        }
        if time < self.alert_at && self.before.len() < terms.limits.hits_per_key {
            let packed = if is_member {
                Packed::bare(fields)
            } else {
                Packed::of(fields)
            };
            self.before.insert(Kept { place, packed });
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
        let places = self.before.iter().enumerate();
        let places = places.map(|(at, hit)| (hit.time(), at));
        let Some(((_, first), (time, alert))) = window_above(places, terms) else {
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
            .take_while(|hit| hit.time() <= outside)
        {
            self.evidence
                .add(&member.packed.fields(), member.place, 1, terms.limits);
        }
        self.alert_at = time;
        self.before.truncate(alert + 1);
        self.before.strip_after(time.minus(terms.window));
        self.changed = true;
    }
}

/// Remembers a request that belongs to a finding, and what had to be forgotten for it.
fn remember(
    seen: &mut Option<Box<Seen>>,
    floor: &mut Micros,
    open: &mut Open,
    (time, identity): Place,
    terms: &Terms<'_>,
) {
    let seen = seen.get_or_insert_default();
    let forgotten = seen.insert(identity, time, terms.limits.hits_per_key);
    if forgotten.until > open.last.minus(terms.keep) {
        open.evidence.unverified += forgotten.requests;
    }
    *floor = (*floor).max(forgotten.until);
}

/// A hit in order of event time, with what else is known of it.
type Timed<T> = (Micros, T);

/// The first window, in order of event time, that is above the threshold: its first hit, and the
/// hit that takes it there.
fn window_above<T: Copy>(
    hits: impl Iterator<Item = Timed<T>> + Clone,
    terms: &Terms<'_>,
) -> Option<(Timed<T>, Timed<T>)> {
    let mut window = hits.clone().peekable();
    let mut count = 0;
    for hit in hits {
        count += 1;
        // Two hits share a window when they differ by less than its length.
        while window
            .next_if(|old| old.0 <= hit.0.minus(terms.window))
            .is_some()
        {
            count -= 1;
        }
        if count > terms.threshold {
            return window.peek().map(|first| (*first, hit));
        }
    }
    None
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
