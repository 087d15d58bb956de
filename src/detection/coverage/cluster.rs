//! What is known of the feed of one cluster, and which blind spots follow from it.

use std::sync::Arc;

use super::{
    super::{
        activity::{Activity, Delays},
        heap,
        time::{BEGINNING, Micros},
    },
    flood::{Counted, Flood},
    refusals::Refusals,
    ring::{PARTS, Ring},
};
use crate::rules::{blind_spot::BlindSpotKind, settings::SECOND};

/// Hours of a day with answers 401 before it counts that none is 403: what happens in fewer is one
/// client.
const LEAST_HOURS: usize = 6;
/// After this many silences within [`RARE`] each, the cluster is one whose log is silent at times.
const USUAL_SILENCES: u32 = 3;
/// Time in which one silence is forgotten.
const RARE: i64 = 2 * 24 * 3600 * SECOND;
/// Windows without a flood after which it is over.
const CALM_WINDOWS: u32 = 10;

/// One rule about feeds, as the engine runs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) kind: BlindSpotKind,
    /// In microseconds.
    pub(super) window: i64,
    pub(super) above: u64,
    pub(super) percent: u64,
}

/// A blind spot with an open finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) kind: BlindSpotKind,
    /// Its time in the id of the finding, and the number of blind spots of the cluster before it.
    pub(super) opening: Micros,
    pub(super) number: u64,
    /// What its kind counted in all before it began.
    pub(super) base: u64,
    /// What it counted by now, and when it was sent last.
    pub(super) count: u64,
    pub(super) sent: u64,
    /// Microseconds since it was sent.
    pub(super) since_sent: i64,
}

/// What a rule says of a cluster now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Whether a finding opens.
    pub(super) begins: bool,
    /// Whether one that is open closes.
    pub(super) ends: bool,
    /// What the kind counts, since the start, and in its window.
    pub(super) all: u64,
    pub(super) recent: u64,
    /// When the blind spot began, as event time.
    pub(super) since: Micros,
}

/// The feed of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cluster {
    pub(super) name: Arc<str>,
    /// Audit events in all.
    pub(super) events: u64,
    /// Greatest time of a record or hit.
    pub(super) last: Micros,
    /// Microseconds since anything came, by ticks.
    pub(super) silent: i64,
    /// Silences that were as long as the window, each forgotten in time, and the longest of them.
    pub(super) silences: u32,
    pub(super) longest: i64,
    /// Microseconds since one was forgotten.
    pub(super) aged: i64,
    pub(super) refusals: Refusals,
    /// Events, and those of them that were cut.
    pub(super) cuts: Ring<2>,
    pub(super) truncated: u64,
    pub(super) cut_bytes: u64,
    /// Events with both times, late ones, those ahead.
    pub(super) times: Ring<3>,
    /// Events that were late or ahead, in all.
    pub(super) off: u64,
    /// Delays of the last events.
    pub(super) delays: [u64; Delays::BUCKETS],
    /// Parts of the window in a row in which the times were off, and in which they were not.
    pub(super) askew: u32,
    pub(super) straight: u32,
    pub(super) flood: Option<Box<Flood>>,
    pub(super) open: Vec<Spot>,
    /// Blind spots so far.
    pub(super) opened: u64,
}

impl Cluster {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            events: 0,
            last: BEGINNING,
            silent: 0,
            silences: 0,
            longest: 0,
            aged: 0,
            refusals: Refusals::default(),
            cuts: Ring::default(),
            truncated: 0,
            cut_bytes: 0,
            times: Ring::default(),
            off: 0,
            delays: [0; Delays::BUCKETS],
            askew: 0,
            straight: 0,
            flood: None,
            open: Vec::new(),
            opened: 0,
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let flood = self.flood.as_ref().map_or(0, |flood| {
            heap::block(size_of::<Flood>())
                + heap::block(flood.networks.capacity() * size_of::<Counted>())
        });
        let hours = heap::tree(self.refusals.unauthorized.len(), size_of::<(i64, u64)>());
        heap::block(size_of::<Self>())
            + heap::shared(self.name.len())
            + heap::list(&self.open)
            + hours
            + flood
    }

    /// Takes what arrived.
    pub(super) fn take(&mut self, activity: &Activity, window: Option<i64>) {
        let Activity {
            events,
            truncated,
            cut_bytes,
            last,
            delays,
            ..
        } = activity;
        self.last = self.last.max(last.unwrap_or(BEGINNING));
        self.events = self.events.saturating_add(*events);
        if *events > 0 {
            self.talk(window);
        }
        self.cuts.add([*events, *truncated]);
        self.truncated = self.truncated.saturating_add(*truncated);
        self.cut_bytes = self.cut_bytes.max(*cut_bytes);
        self.times.add([delays.events, delays.late, delays.ahead]);
        self.off = self.off.saturating_add(delays.late + delays.ahead);
        for (own, more) in self.delays.iter_mut().zip(&delays.buckets) {
            *own = own.saturating_add(*more);
        }
    }

    /// Takes a hit.
    pub(super) fn hit(&mut self, code: u16, time: Micros, window: Option<i64>) {
        self.last = self.last.max(time);
        self.refusals.take(code, time);
        self.talk(window);
    }

    /// Something came: a silence is over.
    fn talk(&mut self, window: Option<i64>) {
        if window.is_some_and(|window| self.silent >= window) {
            self.silences = self.silences.saturating_add(1);
            self.longest = self.longest.max(self.silent);
        }
        self.silent = 0;
    }

    /// Lets time pass, in microseconds.
    pub(super) fn advance(&mut self, elapsed: i64) {
        self.silent = self.silent.saturating_add(elapsed);
        self.aged = self.aged.saturating_add(elapsed);
        while self.aged >= RARE && self.silences > 0 {
            self.aged -= RARE;
            self.silences -= 1;
        }
        if self.silences == 0 {
            (self.aged, self.longest) = (0, 0);
        }
        self.cuts.advance(elapsed);
        self.times.advance(elapsed);
        if let Some(flood) = &mut self.flood {
            flood.recent.advance(elapsed);
        }
        for spot in &mut self.open {
            spot.since_sent = spot.since_sent.saturating_add(elapsed);
        }
    }

    /// What a rule says now. Called once after time has passed.
    pub(super) fn judge(&mut self, rule: &Rule) -> Verdict {
        let spot = self
            .open
            .iter()
            .find(|spot| spot.kind == rule.kind)
            .copied();
        match rule.kind {
            BlindSpotKind::Silence => self.judge_silence(rule, spot),
            BlindSpotKind::UnauthorizedOnly => self.judge_refusals(rule, spot),
            BlindSpotKind::Truncation => self.judge_cuts(rule),
            BlindSpotKind::ClockSkew => self.judge_times(rule),
            BlindSpotKind::Flood => self.judge_flood(rule),
            // That is no fact of one cluster.
            BlindSpotKind::ClusterNames => Verdict::none(self.last),
        }
    }

    fn judge_silence(&self, rule: &Rule, spot: Option<Spot>) -> Verdict {
        let usual = if self.silences >= USUAL_SILENCES {
            self.longest.saturating_mul(2)
        } else {
            0
        };
        let seconds = u64::try_from(self.silent / SECOND).unwrap_or(0);
        Verdict {
            begins: self.silent >= rule.window.max(usual) && self.events > rule.above,
            ends: self.silent < rule.window,
            // Its length is lost when something comes.
            all: spot.map_or(seconds, |spot| spot.count.max(seconds)),
            recent: seconds,
            since: self.last,
        }
    }

    fn judge_refusals(&self, rule: &Rule, spot: Option<Spot>) -> Verdict {
        let (recent, hours) = self.refusals.unauthorized();
        Verdict {
            begins: self.refusals.length() >= rule.window
                && recent > rule.above
                && hours >= LEAST_HOURS,
            ends: spot.is_some_and(|spot| self.refusals.forbidden > spot.opening),
            all: self.refusals.all,
            recent,
            since: self.refusals.since(),
        }
    }

    fn judge_cuts(&mut self, rule: &Rule) -> Verdict {
        while self.cuts.next_part(rule.window).is_some() {}
        let [events, truncated] = self.cuts.sums();
        let share = |times: u64| truncated.saturating_mul(100).saturating_mul(times);
        let least = rule.percent.saturating_mul(events);
        Verdict {
            begins: truncated > rule.above && share(1) >= least,
            ends: truncated == 0 || share(2) < least,
            all: self.truncated,
            recent: truncated,
            since: self.last,
        }
    }

    fn judge_times(&mut self, rule: &Rule) -> Verdict {
        let parts = u32::try_from(PARTS).unwrap_or(1);
        while let Some([events, late, ahead]) = self.times.next_part(rule.window) {
            for bucket in &mut self.delays {
                *bucket /= 2;
            }
            if events <= rule.above / u64::from(parts) {
                continue;
            }
            let is_ahead =
                ahead > 0 && ahead.saturating_mul(100) >= rule.percent.saturating_mul(events);
            if late.saturating_mul(2) > events || is_ahead {
                (self.askew, self.straight) = (self.askew.saturating_add(1), 0);
            } else {
                (self.askew, self.straight) = (0, self.straight.saturating_add(1));
            }
        }
        let [_, late, ahead] = self.times.sums();
        Verdict {
            begins: self.askew >= parts,
            // Half a window.
            ends: self.straight >= parts / 2,
            all: self.off,
            recent: late.saturating_add(ahead),
            since: self.last,
        }
    }

    fn judge_flood(&mut self, rule: &Rule) -> Verdict {
        let last = self.last;
        let Some(flood) = &mut self.flood else {
            return Verdict::none(last);
        };
        let [evictions] = flood.recent.sums();
        let is_flood = evictions > rule.above;
        if is_flood {
            flood.calm = 0;
        }
        while flood.recent.next_part(rule.window).is_some() {
            let [left] = flood.recent.sums();
            flood.calm = if left > rule.above {
                0
            } else {
                flood.calm.saturating_add(1)
            };
        }
        flood.peak = flood.peak.max(evictions);
        let parts = u32::try_from(PARTS).unwrap_or(1);
        let verdict = Verdict {
            begins: is_flood,
            ends: flood.calm >= CALM_WINDOWS * parts,
            all: flood.all,
            recent: evictions,
            since: last,
        };
        let is_open = self.open.iter().any(|spot| spot.kind == rule.kind);
        if !is_open && !is_flood && flood.recent.is_empty() {
            // Nothing but a flood needs its memory.
            self.flood = None;
        }
        verdict
    }

    /// About the seconds that half of the last events took to arrive.
    pub(super) fn median_delay(&self) -> u64 {
        Delays {
            buckets: self.delays,
            ..Delays::default()
        }
        .median_seconds()
    }
}

impl Verdict {
    /// Nothing is wrong.
    pub(super) fn none(since: Micros) -> Self {
        Self {
            begins: false,
            ends: true,
            all: 0,
            recent: 0,
            since,
        }
    }
}
