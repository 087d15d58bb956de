//! screen: bytes of a request to hits, almost always none. Stateless across requests.
//!
//! ```
//! use auditwatch::detection::{rule::Rule, screen::Screen};
//!
//! let screen = Screen::new(Rule::default(), 64, None);
//! let mut request = screen.begin(1_764_055_023_000_000_000);
//! request.feed(b"").unwrap();
//! let screened = request.finish().unwrap();
//! assert!(screened.hits.is_empty());
//! ```

mod clusters;
mod lines;
mod opening;
mod selection;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
};

pub use super::screened::Screened;
use super::{
    begun_lines::Lines,
    envelope,
    event::Event,
    exclude::Exclusions,
    feed::Feed,
    following::{FollowUps, Following},
    hit::{Hit, Role},
    json,
    limits::{Bounds, Limits},
    map,
    naming::Named,
    rule::{Rule, SECOND},
    screened::{is_object, named, naming},
    selector::SelectorMatch,
    text,
    time::Micros,
    watch::Watch,
};
use crate::{
    pdata::{AnyValue, KeyValues, Malformed, Record, Sink as _, Visitor, Walk},
    rules::{
        Scratch,
        model::Detection,
        prefilter::{self, Prefilter},
    },
};

/// An event time further ahead of the time of observation than this is set back to that.
const MAX_AHEAD: i64 = 300 * SECOND;

/// The feed check parses this many records at the beginning of a stream, until the first audit event.
pub const SAMPLED: u64 = 10_000;
/// The shape of one in this many of them is described.
const SHAPED: u64 = 100;

/// The screen of the detections of a pipeline, shared by all connections.
#[derive(Clone, Debug)]
pub struct Screen {
    inner: Arc<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    /// Selector and time field.
    rule: Rule,
    detections: Vec<Arc<Detection>>,
    prefilter: Prefilter,
    bounds: Bounds,
    cluster: Option<Arc<str>>,
    follow_ups: Option<Arc<FollowUps>>,
    exclusions: Arc<Exclusions>,
    /// Records that were ignored, to describe a sample of them.
    ignored: Arc<AtomicU64>,
}

/// A list of fewer hits than this doubles when it is full.
const DOUBLING: usize = 4096;

/// Of a success that is followed up, this many bytes are kept of one value.
const SUCCESS_BYTES: usize = 512;
/// And this many values of one field.
const SUCCESS_VALUES: usize = 8;

impl Screen {
    /// A screen that keeps at most `source_ips` elements of `sourceIPs` (the rightmost), else as
    /// much of an event as is kept by default, and names the cluster itself if `cluster` is given.
    pub fn new(rule: Rule, source_ips: usize, cluster: Option<&str>) -> Self {
        let limits = Limits {
            source_ips,
            ..Limits::default()
        };
        Self::bounded(rule, &limits, cluster)
    }

    /// A screen that keeps no more of an event than these limits allow.
    pub fn bounded(rule: Rule, limits: &Limits, cluster: Option<&str>) -> Self {
        let detections = vec![Arc::new(Detection::of(&rule))];
        Self::of(detections, rule, limits, cluster)
    }

    /// A screen of several detections; of the settings, the selector and the time field count.
    pub fn of(
        detections: Vec<Arc<Detection>>,
        rule: Rule,
        limits: &Limits,
        cluster: Option<&str>,
    ) -> Self {
        let prefilter = Prefilter::of(&detections);
        let bounds = Bounds::from(limits);
        let bounded = |name: &str| Arc::from(text::bounded(name.as_bytes(), bounds.value_bytes));
        Self {
            inner: Arc::new(Inner {
                rule,
                detections,
                prefilter,
                bounds,
                cluster: cluster.map(bounded),
                follow_ups: None,
                exclusions: Arc::default(),
                ignored: Arc::default(),
            }),
        }
    }

    /// Looks as well for what the detections follow up, with the watch that their engine has.
    #[must_use]
    pub fn watching(self, watch: &Watch) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.inner);
        inner.follow_ups = FollowUps::new(&inner.detections, watch);
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The detections whose hits it looks for.
    pub fn detections(&self) -> &[Arc<Detection>] {
        &self.inner.detections
    }

    /// Whether a screen is this one, and not one with other settings.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// What keeps hits from counting.
    pub fn exclusions(&self) -> &Exclusions {
        &self.inner.exclusions
    }

    /// The same screen with exclusions, before it is shared.
    #[must_use]
    pub fn excluding(mut self, exclusions: Arc<Exclusions>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.exclusions = exclusions;
        }
        self
    }

    /// Starts a request that arrives at `received` (nanoseconds since 1970, 0: unknown).
    pub fn begin(&self, received: u64) -> Screening {
        Screening(Walk::new(self.visitor(received)))
    }

    /// The visitor of the records of a request that arrives at `received` (nanoseconds since 1970, 0:
    /// unknown).
    pub fn visitor(&self, received: u64) -> ScreenVisitor {
        let follow_ups = self.inner.follow_ups.clone();
        ScreenVisitor {
            screen: Arc::clone(&self.inner),
            following: follow_ups.map(|of| Box::new(Following::new(of))),
            received,
            out: Screened {
                received,
                ..Screened::default()
            },
            cluster: String::new(),
            resource: SelectorMatch::default(),
            resource_hits: 0,
            matches: Vec::new(),
            broken: BTreeMap::new(),
            hit_bytes: 0,
            sample: None,
            sampled: BTreeMap::new(),
            scratch: Scratch::default(),
            feed: Feed::default(),
            resource_unreadable: 0,
            named: Named::default(),
            glance: envelope::Glance::default(),
            lines: Lines::default(),
        }
    }
}

/// The screening of one request whose bytes are at hand: [`ScreenVisitor`] on its walk.
#[derive(Debug)]
pub struct Screening(Walk<ScreenVisitor>);

impl Screening {
    /// Takes the next bytes of the request.
    ///
    /// # Errors
    /// When the request is no OTLP logs request. Nothing of it counts then.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Malformed> {
        self.0.feed(piece)
    }

    /// Approximate bytes on the heap: the incomplete record and the hits. Parsing a record takes a
    /// negligible amount besides.
    pub fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }

    /// Ends the request and releases its hits.
    ///
    /// # Errors
    /// When the request ended too early. Nothing of it counts then.
    pub fn finish(self) -> Result<Screened, Malformed> {
        self.0.finish().map(ScreenVisitor::into_screened)
    }
}

/// The visitor of one request's records: it screens each of them and keeps the hits.
#[derive(Debug)]
pub struct ScreenVisitor {
    screen: Arc<Inner>,
    received: u64,
    out: Screened,
    /// The name of the cluster in the resource of the records at hand; empty when it has none.
    cluster: String,
    /// With a selector, its result for the attributes of that resource.
    resource: SelectorMatch,
    /// Hits before the first one of this resource.
    resource_hits: usize,
    /// With a selector, its result for the records of these hits, one each.
    matches: Vec<SelectorMatch>,
    /// With a selector, the number of unreadable records by the selector's result.
    broken: BTreeMap<SelectorMatch, u64>,
    /// Bytes on the heap of the hits.
    hit_bytes: usize,
    /// Number of the next record in the stream, while records are sampled.
    sample: Option<u64>,
    /// Sampled audit events of this resource, by the selector's result.
    sampled: BTreeMap<SelectorMatch, u64>,
    /// Memory for texts that have to be decoded.
    scratch: Scratch,
    /// What the records of this resource say of their feed.
    feed: Feed,
    /// Unreadable records before the first one of this resource.
    resource_unreadable: u64,
    /// What records or their envelopes say of their clusters.
    named: Named,
    /// How the last events began.
    glance: envelope::Glance,
    /// Lines that have not ended.
    lines: Lines,
    /// What is followed up, if anything is.
    following: Option<Box<Following>>,
}

/// What became of a record that may match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    /// It is an event, and was judged.
    Event,
    /// It is a candidate that cannot be read.
    Broken,
    /// It is several events in a row.
    Row,
    /// It need not be read, or is no plain event.
    Not,
}

/// Without the byte order mark that some readers of files leave before a text.
#[inline]
fn unmarked(body: AnyValue<'_>) -> AnyValue<'_> {
    let unmark = |text| <[u8]>::strip_prefix(text, b"\xef\xbb\xbf").unwrap_or(text);
    match body {
        AnyValue::Text(text @ [0xef, ..]) => AnyValue::Text(unmark(text)),
        AnyValue::Bytes(text @ [0xef, ..]) => AnyValue::Bytes(unmark(text)),
        other => other,
    }
}

/// Which parts of a record the prefilter could not rule out.
#[derive(Clone, Copy)]
struct MayMatch {
    body: prefilter::MayMatch,
    attributes: prefilter::MayMatch,
}

impl Visitor for ScreenVisitor {
    fn resource(&mut self, encoded: &[u8]) {
        let Inner { rule, bounds, .. } = &*self.screen;
        let attributes = KeyValues::of_resource(encoded);
        self.lines.resource(encoded, &attributes);
        if !rule.selector.is_empty() {
            self.resource = rule.selector.evaluate(&attributes).or(self.resource);
        }
        if let Some(name) = named(&attributes) {
            self.cluster.clear();
            self.cluster
                .push_str(&text::bounded(name, bounds.value_bytes));
            if let Some(following) = &mut self.following {
                following.enter(name);
            }
        }
    }

    #[inline]
    fn record(&mut self, record: &Record<'_>) {
        self.out.records += 1;
        let filter = &self.screen.prefilter;
        let body = unmarked(record.body());
        let mut name = None;
        let may = MayMatch {
            body: self.may_match(&body),
            attributes: if record.has_attributes() {
                filter.may_match_map_and(&record.attributes(), |key, value| {
                    name = naming(key, value).or(name);
                })
            } else {
                prefilter::MayMatch::default()
            },
        };
        match name {
            Some(name) if self.is_another(name) => {
                self.of_cluster(name, false, |screen| screen.look(record, &body, may));
            }
            _ => self.look(record, &body, may),
        }
    }

    fn resource_end(&mut self) {
        self.lines.leave(&self.cluster, self.resource);
        self.end_resource();
    }

    fn heap_bytes(&self) -> usize {
        let hits = &self.out.hits;
        // The detection sorts the hits of a request by key before it takes them.
        let places = (hits.capacity() - hits.len()) * size_of::<Hit>()
            + hits.len() * size_of::<(&str, &str, u64)>() * 2
            + self.matches.capacity() * size_of::<SelectorMatch>();
        let following = self.following.as_ref().map_or(0, |one| one.heap_bytes());
        self.cluster.capacity()
            + self.hit_bytes
            + places
            + self.scratch.heap_bytes()
            + self.out.activity.heap_bytes()
            + self.named.heap_bytes()
            + self.lines.heap_bytes()
            + following
    }
}

impl ScreenVisitor {
    /// Samples the records for the feed check until an audit event is among them. `before` is the number
    /// of records of the stream before this request.
    #[must_use]
    pub fn sampled(mut self, before: u64) -> Self {
        self.sample = Some(before).filter(|before| *before < SAMPLED);
        self
    }

    /// The screen that it began with.
    pub fn screen(&self) -> Screen {
        Screen {
            inner: Arc::clone(&self.screen),
        }
    }

    /// The result, once the whole request has been visited.
    pub fn into_screened(mut self) -> Screened {
        self.end_lines();
        if let Some(following) = self.following.take() {
            following.release(&mut self.out.hits, self.received);
        }
        self.out
    }

    /// Settles what depends on the whole of a resource.
    fn end_resource(&mut self) {
        self.name_hits();
        self.select();
        self.end_feeds();
        self.resource_hits = self.out.hits.len();
        self.cluster.clear();
        self.resource = SelectorMatch::default();
    }

    /// What a body may match.
    #[inline]
    fn may_match(&self, body: &AnyValue<'_>) -> prefilter::MayMatch {
        let filter = &self.screen.prefilter;
        match body {
            AnyValue::Text(text) | AnyValue::Bytes(text) => filter.may_match_text(text),
            AnyValue::Map(map) => filter.may_match_map(map),
            _ => prefilter::MayMatch::default(),
        }
    }

    /// Looks at a record whose cluster is known, as far as it names it.
    #[inline]
    fn look(&mut self, record: &Record<'_>, body: &AnyValue<'_>, may: MayMatch) {
        let seen = self.feed.note(record, body);
        if seen.is_cut {
            self.count_cut(record);
        }
        let read = self.read(record, body, may);
        match read {
            Read::Event => self.feed.note_event(),
            Read::Broken if seen.is_usual => self.reject(record),
            Read::Not if seen.is_usual => {}
            _ => self.unusual(record, body, (read, may)),
        }
        if let Some(number) = self.sample {
            self.sample(record, body, number);
        }
    }

    /// Reads an event if it may match or is followed up.
    #[inline]
    fn read(&mut self, record: &Record<'_>, body: &AnyValue<'_>, may: MayMatch) -> Read {
        if may.body.any() || may.attributes.any() {
            self.out.candidates += 1;
            self.feed.note_candidate();
            return self.candidate(record, body, may);
        }
        let received = self.received;
        let wants = |following: &mut Box<Following>| {
            following.wants(record, body, (may.body, may.attributes), received)
        };
        if !self.following.as_mut().is_some_and(wants) {
            return Read::Not;
        }
        self.out.followed += 1;
        let read = self.candidate(record, body, may);
        if let Some(following) = &mut self.following {
            following.end_record();
        }
        read
    }

    /// Reads a record that may match. One record is one event: the body if it holds one, else the
    /// attributes, never both.
    fn candidate(&mut self, record: &Record<'_>, body: &AnyValue<'_>, may: MayMatch) -> Read {
        let screen = Arc::clone(&self.screen);
        let time_field = &screen.rule.time_field;
        let (mut broken, mut is_row) = (false, false);
        let mut salvaged = None;
        let mut event = match body {
            AnyValue::Text(bytes) | AnyValue::Bytes(bytes) => {
                let read = json::one(bytes, time_field);
                if read.is_err() && self.feed.note_unreadable(bytes) {
                    self.count_cut(record);
                }
                // A text of another kind may hold a word that a rule looks for.
                // One that its transport has cut is no candidate for the sake of a text.
                let may_be = is_object(bytes) && !self.feed.is_cut();
                broken = read.is_err() && (may.body.code || may.body.text && may_be);
                is_row = read.is_err() && envelope::is_row(bytes);
                if read.is_err() && self.feed.is_cut() && bytes.len() <= envelope::MOST_DECODED {
                    salvaged = envelope::salvage(bytes);
                }
                match &salvaged {
                    Some(event) => json::one(event, time_field).ok().flatten(),
                    None => read.ok().flatten(),
                }
            }
            AnyValue::Map(map) => Some(map::event(map, time_field)),
            _ => None,
        }
        .filter(Event::is_audit_event);
        let may_attributes = may.attributes.any() || may.attributes.follow_up;
        if event.is_none() && may_attributes {
            event =
                Some(map::event(&record.attributes(), time_field)).filter(Event::is_audit_event);
        }
        match event {
            Some(event) => {
                self.judge(record, &event, &screen);
                Read::Event
            }
            None if is_row => Read::Row,
            None if broken => Read::Broken,
            None => Read::Not,
        }
    }

    fn judge(&mut self, record: &Record<'_>, event: &Event<'_>, screen: &Inner) {
        self.feed.note_times(
            event.time(),
            self.observed(record),
            screen.rule.lateness,
            MAX_AHEAD,
        );
        let mut scratch = std::mem::take(&mut self.scratch);
        for (place, detection) in (0..).zip(&screen.detections) {
            let before = self.out.hits.len();
            event.hits(detection, &mut scratch, &screen.bounds, &mut |mut hit| {
                hit.detection = place;
                self.set_time(&mut hit, record);
                screen.exclusions.mark(event, detection, &mut hit);
                self.keep(hit, record);
            });
            if let (Some(following), Some(_)) = (&mut self.following, &detection.follow_up) {
                if self.out.hits.len() > before {
                    let address = &self.out.hits;
                    let address = address.last().map(|hit| hit.key.as_str());
                    match address.filter(|_| detection.is_by_address()) {
                        Some(address) => following.suspect(address),
                        None => following.suspect(&detection.address(event).to_string()),
                    }
                }
                self.follow(record, event, (place, detection), &mut scratch);
            }
        }
        scratch.trim();
        self.scratch = scratch;
    }

    /// When a record was observed, but not after its request arrived: that clock may be ahead.
    fn observed(&self, record: &Record<'_>) -> Option<Micros> {
        let times = [record.observed_time_unix_nano, self.received].into_iter();
        times.filter_map(Micros::from_unix_nanos).min()
    }

    /// Keeps an event that a detection follows up, as a success of its source.
    fn follow(
        &mut self,
        record: &Record<'_>,
        event: &Event<'_>,
        (place, detection): (u32, &Detection),
        scratch: &mut Scratch,
    ) {
        let Some(follow_up) = &detection.follow_up else {
            return;
        };
        let bounds = Bounds {
            values: self.screen.bounds.values.min(SUCCESS_VALUES),
            ..self.screen.bounds
        };
        event.hits(&follow_up.detection, scratch, &bounds, &mut |mut hit| {
            hit.detection = place;
            hit.role = Role::Success;
            hit.cut(SUCCESS_BYTES);
            self.set_time(&mut hit, record);
            self.screen
                .exclusions
                .mark(event, &follow_up.detection, &mut hit);
            self.keep(hit, record);
            if let Some(following) = &mut self.following {
                following.succeeded();
            }
        });
    }

    /// Gives a hit its time: that of the event, else of the record, and none far in the future.
    fn set_time(&self, hit: &mut Hit, record: &Record<'_>) {
        let sent = Micros::from_unix_nanos(record.time_unix_nano);
        let now = self.observed(record);
        hit.time = hit.time.or(sent).or(now);
        if let (Some(time), Some(now)) = (hit.time, now)
            && time > now.plus(MAX_AHEAD)
        {
            hit.time = Some(now);
            hit.clamped = true;
        }
    }

    fn keep(&mut self, mut hit: Hit, record: &Record<'_>) {
        self.named.name(&mut hit, self.out.hits.len());
        if !self.screen.rule.selector.is_empty() {
            self.matches.push(self.matched(record));
        }
        self.hit_bytes += hit.heap_bytes();
        let hits = &mut self.out.hits;
        if hits.len() == hits.capacity() {
            // A list that grows is copied, into memory that is new as a rule. While it is small it
            // doubles; then by a quarter, so that it holds about what is in it.
            let more = if hits.len() < DOUBLING {
                hits.len()
            } else {
                hits.len() / 4
            };
            hits.reserve_exact(more.max(4));
        }
        hits.push(hit);
    }
}
