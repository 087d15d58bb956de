//! A shard: everything that is kept of one cluster.
//!
//! A shard holds for each detection its event time and its windows. Nothing in it depends on
//! another cluster or another detection: only which key is evicted does, when all together are too
//! many or too large.

use std::sync::Arc;

use super::{
    emission::{Draft, Origin},
    event_time::EventTime,
    eviction::{Evictions, PLACE, Usage},
    follow_up::{self, Changes, FollowUps, Of, Standing},
    geo::Locate,
    heap::{self, Counted},
    hit::Hit,
    hit_counts::Span,
    ids,
    key_table::Measure,
    limits::Limits,
    session::{self, Disposition},
    sessions::{Loss, Outlet, Sessions},
    steps,
    time::{BEGINNING, Micros},
    tumbling,
};
use crate::rules::model::{Detection, Window};

/// A window and the lateness is what hits on time can reach back. What is further back is kept for
/// this many windows more, for the sake of late hits: a backlog that a collector sends over
/// several connections at once comes in any order.
const LATE_WINDOWS: i64 = 4;

/// What a shard needs to know of a detection and its bounds.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) detection: &'a Detection,
    /// How far a hit may be behind the greatest event time and still be on time, in microseconds.
    pub(super) lateness: i64,
    pub(super) limits: &'a Limits,
    pub(super) locate: Option<&'a dyn Locate>,
    pub(super) changes: &'a Changes,
    /// Event time at which the process started to count, if it did not continue.
    pub(super) started: Option<Micros>,
}

impl<'a> Context<'a> {
    /// What the keys that are watched need to know.
    fn follow_up<'c>(&'c self, place: usize, cluster: &'c Arc<str>) -> Of<'c> {
        Of {
            detection: self.detection,
            place,
            cluster,
            changes: self.changes,
        }
    }

    pub(super) fn session(&self) -> session::Params<'a> {
        let window = self.detection.window.length();
        session::Params {
            threshold: self.detection.threshold,
            window,
            aggregate: self.detection.aggregate,
            dedup: self.detection.dedup,
            emit: self.detection.emit,
            limits: self.limits,
            detection: self.detection,
            retention: window
                .saturating_mul(1 + LATE_WINDOWS)
                .saturating_add(self.lateness),
            lateness: self.lateness,
        }
    }

    pub(super) fn tumbling(&self) -> tumbling::Params<'a> {
        let (length, offset) = match self.detection.window {
            Window::Session { length } => (length, 0),
            Window::Tumbling { length, offset } => (length, offset),
        };
        tumbling::Params {
            threshold: self.detection.threshold,
            length,
            offset,
            aggregate: self.detection.aggregate,
            dedup: self.detection.dedup,
            group_by: &self.detection.group_by,
            locate: self.locate,
            limits: self.limits,
            started: self.started,
        }
    }
}

/// State of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    /// Name of the cluster.
    pub(super) name: Arc<str>,
    /// In the order of detections; those that have had a hit.
    pub(super) detections: Vec<DetectionState>,
    /// Bytes on the heap that are counted for it, without its keys.
    pub(super) bytes: Counted,
}

/// What one detection keeps of one cluster.
#[derive(Clone, Debug)]
pub(super) struct DetectionState {
    /// Its place in the list of the engine.
    pub(super) detection: usize,
    pub(super) event_time: EventTime,
    pub(super) windows: Windows,
    /// Keys that are watched for a success, if it follows up and has had a finding.
    pub(super) watched: Option<Box<FollowUps>>,
    /// What was last reported of its keys.
    pub(super) reported: Usage,
}

/// The windows of a detection.
#[derive(Clone, Debug)]
pub(super) enum Windows {
    Session(Box<Sessions>),
    Tumbling(tumbling::Windows),
}

impl Windows {
    fn new(window: Window) -> Self {
        match window {
            Window::Session { .. } => Self::Session(Box::default()),
            Window::Tumbling { .. } => Self::Tumbling(tumbling::Windows::default()),
        }
    }
}

impl Shard {
    /// Copies of what is most of it made from now on are the same memory, until it changes here.
    pub(super) fn share(&mut self) {
        for state in &mut self.detections {
            match &mut state.windows {
                Windows::Session(sessions) => sessions.keys.share(),
                Windows::Tumbling(windows) => {
                    for groups in windows.starts.values_mut() {
                        groups.share();
                    }
                }
            }
        }
    }

    /// A shard without hits.
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            detections: Vec::new(),
            bytes: Counted::default(),
        }
    }

    /// Greatest event time of all detections.
    pub(super) fn max_event_time(&self) -> Micros {
        let times = self.detections.iter().map(|state| state.event_time.max);
        times.max().unwrap_or(BEGINNING)
    }

    pub(super) fn get(&self, detection: usize) -> Option<&DetectionState> {
        let at = self.position(detection).ok()?;
        self.detections.get(at)
    }

    pub(super) fn get_mut(&mut self, detection: usize) -> Option<&mut DetectionState> {
        let at = self.position(detection).ok()?;
        self.detections.get_mut(at)
    }

    /// What a detection keeps here; nothing at first.
    pub(super) fn entry(
        &mut self,
        detection: usize,
        window: Window,
    ) -> Option<&mut DetectionState> {
        let at = self.position(detection).unwrap_or_else(|at| {
            self.detections.reserve_exact(1);
            self.detections
                .insert(at, DetectionState::new(detection, window));
            at
        });
        self.detections.get_mut(at)
    }

    fn position(&self, detection: usize) -> Result<usize, usize> {
        self.detections
            .binary_search_by_key(&detection, |state| state.detection)
    }

    /// Takes the findings of a detection that are emitted, and writes successes into them.
    /// Returns how many keys are watched no longer, because they were too many.
    pub(super) fn follow_up(
        &mut self,
        detection: usize,
        drafts: &mut [Draft],
        context: &Context<'_>,
    ) -> u64 {
        let name = Arc::clone(&self.name);
        let Some(state) = self.get_mut(detection) else {
            return 0;
        };
        let of = context.follow_up(detection, &name);
        let now = state.event_time.closing_watermark;
        state.watched.get_or_insert_default().take(drafts, now, &of)
    }

    /// Writes into findings of successes which scan they follow: of that detection, with that rule.
    pub(super) fn refer(&self, scan: usize, rule: &str, drafts: &mut [Draft]) {
        let watched = self.get(scan).and_then(|state| state.watched.as_ref());
        for draft in drafts {
            follow_up::all_succeeded(&mut draft.evidence);
            if let Origin::Session { key, .. } = &draft.origin
                && let Some(opening) = watched.and_then(|watched| watched.opening(key))
            {
                draft.evidence.related = vec![ids::native(rule, &self.name, key, opening)];
            }
        }
    }

    /// Takes a success; the state of the open finding that it makes due.
    pub(super) fn succeed(
        &mut self,
        hit: &Hit,
        time: Micros,
        context: &Context<'_>,
        outlet: &mut Outlet<'_>,
    ) -> Standing {
        let name = Arc::clone(&self.name);
        let detection = hit.detection as usize;
        let Some(state) = self.get_mut(detection) else {
            return Standing::Ignored;
        };
        let Some(watched) = &mut state.watched else {
            return Standing::Ignored;
        };
        let standing = watched.succeed(hit, time, &context.follow_up(detection, &name));
        if let (Standing::Open, Windows::Session(sessions)) = (standing, &mut state.windows) {
            sessions.observe(hit, &state.event_time, &context.session(), outlet);
        }
        standing
    }

    /// Watches keys no longer whose time is over, in at most this many steps; whether that was all.
    pub(super) fn expire_watched(
        &mut self,
        detection: usize,
        context: &Context<'_>,
        steps: &mut usize,
    ) -> bool {
        let is_due = self.get(detection).is_some_and(|state| {
            let now = state.event_time.closing_watermark;
            let watched = state.watched.as_ref();
            watched.is_some_and(|watched| watched.is_due(now))
        });
        if !is_due {
            return true;
        }
        let name = Arc::clone(&self.name);
        let Some(state) = self.get_mut(detection) else {
            return true;
        };
        let now = state.event_time.closing_watermark;
        let Some(watched) = &mut state.watched else {
            return true;
        };
        watched.expire(now, steps, &context.follow_up(detection, &name))
    }

    /// Watches none of its keys any longer.
    pub(super) fn forget_watched(&mut self, changes: &Changes) {
        let name = Arc::clone(&self.name);
        for state in &mut self.detections {
            if let Some(mut watched) = state.watched.take() {
                watched.clear(state.detection, &name, changes);
            }
        }
    }

    /// Says which of its keys are watched.
    pub(super) fn announce_watched(&self, changes: &Changes) {
        for state in &self.detections {
            if let Some(watched) = &state.watched {
                watched.announce(state.detection, &self.name, changes);
            }
        }
    }

    /// Reports what it takes by now, after a detection has come or has forgotten keys.
    pub(super) fn report(&mut self, detection: usize, evictions: &mut Evictions) {
        self.report_keys(detection, evictions);
        evictions.resize(self.count_bytes());
    }

    /// Reports what the keys of a detection take by now: a hit changes nothing else.
    pub(super) fn report_keys(&mut self, detection: usize, evictions: &mut Evictions) {
        if let Ok(at) = self.position(detection)
            && let Some(state) = self.detections.get_mut(at)
        {
            let usage = state.usage();
            evictions.report(detection, &self.name, &mut state.reported, usage);
        }
    }

    /// Gives the detections the places that are listed for them, and leaves out others.
    pub(super) fn move_detections(&mut self, places: &[Option<usize>]) {
        self.detections.retain_mut(|state| {
            let place = places.get(state.detection).copied().flatten();
            state.detection = place.unwrap_or(state.detection);
            place.is_some()
        });
        self.detections.sort_by_key(|state| state.detection);
    }

    /// Reports all that it takes, of which nothing was reported.
    pub(super) fn report_all(&mut self, evictions: &mut Evictions) {
        for state in &mut self.detections {
            state.reported = Usage::default();
            let usage = state.usage();
            evictions.report(state.detection, &self.name, &mut state.reported, usage);
        }
        self.bytes = Counted::default();
        evictions.resize(self.count_bytes());
    }

    /// Counts anew what it takes on the heap, apart from keys: before and now.
    fn count_bytes(&mut self) -> (usize, usize) {
        /// A place among the shards, and one in the order of their event times.
        const PLACES: usize = heap::entry(size_of::<(Arc<str>, Box<Shard>)>())
            + heap::entry(size_of::<(Micros, Arc<str>)>());
        let detections = self.detections.iter().map(DetectionState::own_bytes);
        let now = heap::block(size_of::<Self>())
            + heap::shared(self.name.len())
            + PLACES
            + heap::list(&self.detections)
            + detections.sum::<usize>();
        self.bytes.set(now)
    }
}

impl DetectionState {
    /// What a detection keeps of a cluster before its first hit.
    pub(super) fn new(detection: usize, window: Window) -> Self {
        Self {
            detection,
            event_time: EventTime::default(),
            windows: Windows::new(window),
            watched: None,
            reported: Usage::default(),
        }
    }

    /// Whether it has no keys or groups.
    pub(super) fn is_empty(&self) -> bool {
        self.usage().keys == 0
    }

    /// Bytes on the heap besides those of its keys.
    fn own_bytes(&self) -> usize {
        let windows = match &self.windows {
            Windows::Session(sessions) => {
                heap::block(size_of::<Sessions>())
                    + sessions.horizons.heap_bytes()
                    + sessions.evicted.heap_bytes()
            }
            Windows::Tumbling(windows) => windows.starts.len() * tumbling::Windows::WINDOW,
        };
        let watched = self.watched.as_ref().map_or(0, |watched| {
            heap::block(size_of::<FollowUps>()) + watched.heap_bytes()
        });
        PLACE + windows + watched
    }

    /// What its keys take.
    pub(super) fn usage(&self) -> Usage {
        match &self.windows {
            Windows::Session(sessions) => Usage {
                keys: sessions.keys.len(),
                bytes: Counted(sessions.keys.heap_bytes() + sessions.keys.spare_bytes()),
            },
            Windows::Tumbling(windows) => windows.usage,
        }
    }

    /// Takes a hit, whose time has moved the event time already.
    pub(super) fn observe(
        &mut self,
        hit: &Hit,
        time: Micros,
        context: &Context<'_>,
        outlet: &mut Outlet<'_>,
    ) -> Disposition {
        match &mut self.windows {
            Windows::Session(sessions) => {
                sessions.observe(hit, &self.event_time, &context.session(), outlet)
            }
            Windows::Tumbling(windows) => windows.observe(hit, time, &context.tumbling(), outlet),
        }
    }

    /// Most findings that this many further hits of one key can cause, where all hits are of such a
    /// span; those that time causes are not among them.
    pub(super) fn bound(&self, key: &str, hits: u64, span: &Span, context: &Context<'_>) -> u64 {
        let from = match self.event_time.max {
            BEGINNING => span.earliest,
            max => max,
        };
        let advance = span.latest.0.saturating_sub(from.0);
        let advance = (advance, span.has_successes);
        match &self.windows {
            Windows::Session(sessions) => sessions.bound(key, hits, advance, &context.session()),
            Windows::Tumbling(_) => 0,
        }
    }

    /// Does what its event time makes due, in at most this many steps; whether that was all.
    pub(super) fn settle(
        &mut self,
        context: &Context<'_>,
        steps: &mut usize,
        outlet: &mut Outlet<'_>,
    ) -> bool {
        match &mut self.windows {
            Windows::Session(sessions) => {
                sessions.settle(&self.event_time, &context.session(), steps, outlet)
            }
            Windows::Tumbling(windows) => {
                let params = context.tumbling();
                while windows.evaluate_next(self.event_time.watermark, &params, outlet.out) {
                    if !steps::take(steps) {
                        return false;
                    }
                }
                true
            }
        }
    }

    /// Emits what was not emitted yet of its first key or group, and forgets it; of those that
    /// have nothing to emit all at once.
    pub(super) fn drain_first(&mut self, context: &Context<'_>, outlet: &mut Outlet<'_>) {
        match &mut self.windows {
            Windows::Session(sessions) => sessions.drain_first(&context.session(), outlet),
            Windows::Tumbling(windows) => windows.drain_first(&context.tumbling(), outlet.out),
        }
    }

    /// Evicts the weakest key or group, so that there is less of something.
    pub(super) fn evict_weakest(
        &mut self,
        measure: Measure,
        context: &Context<'_>,
        outlet: &mut Outlet<'_>,
    ) -> Option<Loss> {
        match &mut self.windows {
            Windows::Session(sessions) => {
                sessions.evict_weakest(measure, &self.event_time, &context.session(), outlet)
            }
            Windows::Tumbling(windows) => {
                windows.evict_weakest(measure, &context.tumbling(), outlet.out)
            }
        }
    }

    /// Evicts its first key or group, because its cluster is; of those that have nothing to emit
    /// all at once.
    pub(super) fn evict_first(
        &mut self,
        context: &Context<'_>,
        outlet: &mut Outlet<'_>,
    ) -> Option<Loss> {
        match &mut self.windows {
            Windows::Session(sessions) => {
                sessions.evict_first(&self.event_time, &context.session(), outlet)
            }
            Windows::Tumbling(windows) => windows.evict_first(&context.tumbling(), outlet.out),
        }
    }
}
