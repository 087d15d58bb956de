//! The state of the engine as bytes: `proto/auditwatch/v1/state.proto`.
//!
//! What is written is a function of the state alone, and an engine that reads it continues just
//! as the one that wrote it. Totals and orders that follow from the rest are not written but made
//! anew: bytes on the heap, the eviction order, the index of values.

mod known;
mod listings;
mod losses;
mod texts;

use std::{collections::BTreeMap, sync::Arc};

use prost::Message as _;

use super::{
    coverage::Coverage,
    dedup::{DedupSet, Generation},
    derived,
    engine::EngineState,
    event_time::EventTime,
    eviction::Usage,
    evidence::{Evidence, Paths},
    finding::Severity,
    follow_up::{FollowUps, Watched},
    group::GroupKey,
    hit::{Identity, LabelSet, Place},
    hits::{self, Kept, Slim, Unassigned},
    joins::Joins,
    key_text::KeyText,
    packed::Packed,
    pieces::{apart, apart_each, field, nested},
    session::{Key, Open, Rest, Sent},
    sessions::Sessions,
    shard::{DetectionState, Shard, Windows},
    time::{BEGINNING, Micros},
    tumbling::{self, Few, Group, Named, Whole},
    wire::{VERSION, check, micros, place, read_place, time},
};
use crate::proto::state as proto;
use known::{detection_stats, known_detection};
use listings::{listing, read_listing};
use losses::{floor_state, horizons_state, read_floor, read_horizons};
use texts::{ReadTexts, Written};

pub use super::wire::StateError;

impl EngineState {
    /// The state as bytes. Equal states have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// Adds the same bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let listed: BTreeMap<_, _> = self.quietest.iter().map(|(at, name)| (name, *at)).collect();
        let detections = self.detections.iter().map(detection_stats);
        let log = Written::of(&self.log);
        for shard in self.shards.values() {
            let listed = listed.get(&shard.name).copied().unwrap_or(BEGINNING);
            nested(SHARDS, out, |out| write_shard(shard, listed, &log, out));
        }
        if !self.derived.is_empty() {
            nested(DERIVED, out, |out| self.derived.write(out));
        }
        let (texts_before, texts) = log.extent();
        let rest = proto::EngineState {
            version: VERSION,
            detections: detections.collect(),
            shards: Vec::new(),
            derived: None,
            coverage: self.coverage.to_state(),
            joins: self.joins.to_state(),
            texts_before,
            texts,
        };
        out.extend(rest.encode_to_vec());
    }

    /// Bytes that it takes when it is written, nearly always: half of what it takes in memory.
    pub(crate) fn most_bytes(&self) -> usize {
        usize::midpoint(self.evictions.heap_bytes(), self.derived.heap_bytes())
    }

    /// Reads a state.
    ///
    /// # Errors
    /// When the bytes are damaged or of a later major version.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let (rest, [shards, derived]) = apart_each(bytes, [SHARDS, DERIVED])?;
        let message = proto::EngineState::decode(rest.as_slice())?;
        check(message.version)?;
        let mut state = Self::default();
        let mut texts = ReadTexts::new(message.texts_before, message.texts);
        for known in message.detections {
            state.detections.push(known_detection(known));
        }
        if let Some(derived) = derived.first() {
            state.derived = derived::State::read(derived)?;
        }
        for shard in shards {
            let (rest, detections) = apart(shard, DETECTIONS)?;
            let shard = proto::ShardState::decode(rest.as_slice())?;
            check(shard.version)?;
            let name: Arc<str> = Arc::from(shard.cluster);
            state
                .quietest
                .insert((micros(shard.listed), Arc::clone(&name)));
            let mut read = Box::new(Shard::new(Arc::clone(&name)));
            for detection in detections {
                let detection = read_detection(detection, &mut texts)?;
                if read
                    .detections
                    .last()
                    .is_some_and(|last| last.detection >= detection.detection)
                {
                    return Err(StateError::Invalid("the order of detections"));
                }
                read.detections.push(detection);
            }
            state.shards.insert(name, read);
        }
        state.coverage = Coverage::from_state(message.coverage)?;
        state.joins = Joins::from_state(message.joins)?;
        state.log = texts.log();
        state.report();
        Ok(state)
    }
}

impl PartialEq for EngineState {
    fn eq(&self, other: &Self) -> bool {
        self.encode() == other.encode()
    }
}

/// Numbers of fields that are written and read in pieces.
const SHARDS: u32 = 3;
const DERIVED: u32 = 50;
const DETECTIONS: u32 = 4;
const SESSIONS: u32 = 6;
const KEYS: u32 = 1;

fn write_shard(shard: &Shard, listed: Micros, log: &Written<'_>, out: &mut Vec<u8>) {
    for state in &shard.detections {
        let windows = match &state.windows {
            Windows::Session(_) => None,
            Windows::Tumbling(windows) => Some(proto::detection_state::Windows::Tumbling(
                tumbling_state(windows, log),
            )),
        };
        let rest = proto::DetectionState {
            detection: u32::try_from(state.detection).unwrap_or(u32::MAX),
            max_event_time: time(state.event_time.max),
            watermark: time(state.event_time.watermark),
            closing_watermark: time(state.event_time.closing_watermark),
            is_busy: state.event_time.is_busy,
            watched: state
                .watched
                .iter()
                .flat_map(|of| watched_state(of))
                .collect(),
            windows,
        };
        nested(DETECTIONS, out, |out| {
            out.extend(rest.encode_to_vec());
            if let Windows::Session(sessions) = &state.windows {
                nested(SESSIONS, out, |out| write_sessions(sessions, log, out));
            }
        });
    }
    let rest = proto::ShardState {
        version: VERSION,
        cluster: shard.name.as_ref().to_owned(),
        listed: time(listed),
        detections: Vec::new(),
    };
    out.extend(rest.encode_to_vec());
}

fn read_detection(bytes: &[u8], texts: &mut ReadTexts) -> Result<DetectionState, StateError> {
    let (rest, sessions) = apart(bytes, SESSIONS)?;
    let state = proto::DetectionState::decode(rest.as_slice())?;
    let windows = match (sessions.as_slice(), state.windows) {
        ([sessions], None) => Windows::Session(Box::new(read_sessions(sessions, texts)?)),
        ([], Some(proto::detection_state::Windows::Tumbling(windows))) => {
            Windows::Tumbling(read_tumbling(windows, texts)?)
        }
        _ => return Err(StateError::Invalid("windows")),
    };
    Ok(DetectionState {
        detection: state.detection as usize,
        event_time: EventTime {
            max: micros(state.max_event_time),
            watermark: micros(state.watermark),
            closing_watermark: micros(state.closing_watermark),
            is_busy: state.is_busy,
        },
        windows,
        watched: read_watched(state.watched)?,
        reported: Usage::default(),
    })
}

fn watched_state(watched: &FollowUps) -> Vec<proto::WatchedState> {
    let keys = watched.iter().map(|(key, one)| proto::WatchedState {
        key: key.as_ref().to_owned(),
        address: one.address.as_ref().to_owned(),
        opening: place(one.opening),
        count: one.count,
        closed: one.closed.map(|at| at.0),
        end: one.end.map(|at| at.0),
        last_success: time(one.last_success),
        dedup: Some(dedup_state(&one.seen)),
    });
    keys.collect()
}

fn read_watched(states: Vec<proto::WatchedState>) -> Result<Option<Box<FollowUps>>, StateError> {
    if states.is_empty() {
        return Ok(None);
    }
    let mut watched = Box::new(FollowUps::default());
    for state in states {
        let one = Watched {
            address: Arc::from(state.address),
            opening: read_place(state.opening)?,
            count: state.count,
            closed: state.closed.map(Micros),
            end: state.end.map(Micros),
            last_success: micros(state.last_success),
            seen: read_dedup(state.dedup)?.map(|set| *set).unwrap_or_default(),
        };
        watched.list(&Arc::from(state.key), Box::new(one));
    }
    Ok(Some(watched))
}

fn write_sessions(sessions: &Sessions, log: &Written<'_>, out: &mut Vec<u8>) {
    for (name, key, inherited, listed) in sessions.keys.sorted() {
        let rest = key.rest.as_deref();
        let state = proto::KeyState {
            key: name.with(str::to_owned),
            unassigned: Some(unassigned_state(&key.unassigned, log)),
            dedup: rest.and_then(|rest| rest.dedup.as_deref()).map(dedup_state),
            open: rest.and_then(|rest| rest.open.as_deref()).map(open_state),
            horizon: time(key.horizon),
            last: time(key.last()),
            max_event_time: time(key.max_event_time),
            // Of hits, with the first, which needs no number.
            deliveries: rest.map_or(0, |rest| rest.deliveries + 1),
            listing: Some(listing(listed, inherited)),
            has_rest: rest.is_some(),
            is_unchecked: rest.is_some_and(|rest| rest.is_unchecked),
            next: rest.and_then(|rest| rest.next.as_deref()).map(open_state),
            ..proto::KeyState::default()
        };
        field(KEYS, &state, out);
    }
    let rest = proto::SessionsState {
        keys: Vec::new(),
        horizons: horizons_state(&sessions.horizons),
        evicted: horizons_state(&sessions.evicted),
        floor: Some(floor_state(sessions.floor)),
    };
    out.extend(rest.encode_to_vec());
}

fn read_sessions(bytes: &[u8], texts: &mut ReadTexts) -> Result<Sessions, StateError> {
    let (rest, states) = apart(bytes, KEYS)?;
    let state = proto::SessionsState::decode(rest.as_slice())?;
    let mut sessions = Sessions {
        horizons: read_horizons(state.horizons)?,
        evicted: read_horizons(state.evicted)?,
        floor: read_floor(state.floor),
        ..Sessions::default()
    };
    let mut keys = Vec::with_capacity(states.len());
    for state in states {
        let state = proto::KeyState::decode(state)?;
        let (listed, inherited) = read_listing(state.listing)?;
        let name = KeyText::from(state.key.as_str());
        let key = read_key(state, texts)?;
        let heap_bytes = key.heap_bytes();
        keys.push((name, key, inherited, listed, heap_bytes));
    }
    sessions.keys.restore(keys);
    Ok(sessions)
}

fn read_key(state: proto::KeyState, texts: &mut ReadTexts) -> Result<Key, StateError> {
    let open = |open: Option<proto::OpenState>| -> Result<Option<Box<Open>>, StateError> {
        Ok(open.map(read_open).transpose()?.map(Box::new))
    };
    let rest = Rest {
        dedup: read_dedup(state.dedup)?,
        open: open(state.open)?,
        next: open(state.next)?,
        last: micros(state.last),
        deliveries: state.deliveries.saturating_sub(1),
        is_unchecked: state.is_unchecked,
    };
    let unassigned = read_unassigned(state.unassigned.unwrap_or_default(), texts)?;
    let is_needed = rest.dedup.is_some() || rest.open.is_some() || rest.deliveries > 0;
    let has_rest = state.has_rest || is_needed || rest.last != unassigned.last();
    Ok(Key {
        unassigned,
        horizon: micros(state.horizon),
        max_event_time: micros(state.max_event_time),
        rest: has_rest.then(|| Box::new(rest)),
    })
}

fn hit_state(at: Place, packed: &Packed) -> proto::HitState {
    proto::HitState {
        place: place(at),
        packed: packed.to_bytes(),
        ..proto::HitState::default()
    }
}

/// A hit with its texts, which are in the log.
fn slim_state(hit: Slim, log: &Written<'_>) -> proto::HitState {
    let number = hit.brief.number();
    proto::HitState {
        number,
        ..hit_state(hit.place, &hit.brief.with(log.texts(number)))
    }
}

fn read_hit(state: proto::HitState) -> Result<Kept, StateError> {
    Ok(Kept {
        place: read_place(state.place)?,
        packed: Packed::from_bytes(&state.packed).ok_or(StateError::Invalid("a hit"))?,
    })
}

fn unassigned_state(unassigned: &Unassigned, log: &Written<'_>) -> proto::UnassignedState {
    let hits = unassigned.iter().map(|hit| slim_state(hit, log));
    let (are_many, value_window) = match unassigned.form() {
        hits::Form::Few => (false, None),
        hits::Form::Many { value_window } => (true, value_window),
    };
    proto::UnassignedState {
        hits: hits.collect(),
        are_many,
        value_window: value_window.unwrap_or_default(),
        ..proto::UnassignedState::default()
    }
}

fn read_unassigned(
    state: proto::UnassignedState,
    texts: &mut ReadTexts,
) -> Result<Unassigned, StateError> {
    let mut kept = Vec::with_capacity(state.hits.len());
    for hit in state.hits {
        let number = hit.number;
        kept.push(texts.take(&read_hit(hit)?, number));
    }
    let form = if state.are_many {
        hits::Form::Many {
            value_window: (state.value_window != 0).then_some(state.value_window),
        }
    } else {
        hits::Form::Few
    };
    Ok(Unassigned::restored(kept, form))
}

fn dedup_state(set: &DedupSet) -> proto::DedupState {
    let generation = |generation: &Generation| {
        let mut identities: Vec<_> = generation.identities.iter().collect();
        identities.sort_unstable();
        proto::Generation {
            identities: identities
                .into_iter()
                .flat_map(|Identity(identity)| identity)
                .copied()
                .collect(),
            last: time(generation.last),
        }
    };
    proto::DedupState {
        young: Some(generation(&set.young)),
        old: Some(generation(&set.old)),
    }
}

fn read_dedup(state: Option<proto::DedupState>) -> Result<Option<Box<DedupSet>>, StateError> {
    let read = |generation: Option<proto::Generation>| {
        let generation = generation.unwrap_or_default();
        let (identities, rest) = generation.identities.as_chunks::<16>();
        if !rest.is_empty() {
            return Err(StateError::Invalid("identity"));
        }
        Ok(Generation {
            identities: identities.iter().copied().map(Identity).collect(),
            last: micros(generation.last),
        })
    };
    let Some(state) = state else { return Ok(None) };
    Ok(Some(Box::new(DedupSet {
        young: read(state.young)?,
        old: read(state.old)?,
    })))
}

fn open_state(open: &Open) -> proto::OpenState {
    let before = open.before.iter();
    proto::OpenState {
        opening: place(open.opening),
        alert_at: time(open.alert_at),
        evidence: Some(open.evidence.to_state()),
        before: before
            .map(|hit| hit_state(hit.place, &hit.packed))
            .collect(),
        last: time(open.last),
        joined: time(open.joined),
        sent: open.sent.count,
        is_changed: open.is_changed,
        is_closed: open.is_closed,
        count_error: open.count_error,
        duplicates: open.duplicates,
        was_sent: Some(sent_state(&open.sent)),
        continues: open.continues.and_then(place),
        rolls_at: open.rolls_at.and_then(time),
        continued: open.continued.as_deref().map(open_state).map(Box::new),
    }
}

fn sent_state(sent: &Sent) -> proto::SentState {
    let name = |severity: Option<Severity>| severity.map_or("", Severity::as_str).to_owned();
    proto::SentState {
        at: time(sent.at),
        interval: sent.interval,
        codes: sent.codes,
        write_verbs: sent.write_verbs.into(),
        user_agents: sent.user_agents,
        successes: sent.successes,
        labels: sent.labels.0,
        severity: name(sent.severity),
        greatest_severity: name(sent.greatest),
    }
}

/// What was sent last. A version that did not write it sent states on doubling alone: nothing that
/// is there by now is new.
fn read_sent(count: u64, state: Option<proto::SentState>, open: &Open) -> Sent {
    match state {
        Some(state) => Sent {
            count,
            codes: state.codes,
            write_verbs: u16::try_from(state.write_verbs).unwrap_or_default(),
            user_agents: state.user_agents,
            successes: state.successes,
            labels: LabelSet(state.labels),
            severity: state.severity.parse().ok(),
            greatest: state.greatest_severity.parse().ok(),
            at: micros(state.at),
            interval: state.interval,
        },
        None => open.as_sent(count),
    }
}

fn read_open(state: proto::OpenState) -> Result<Open, StateError> {
    let mut before = hits::Few::default();
    for hit in state.before {
        before.insert(read_hit(hit)?);
    }
    let evidence = state.evidence.unwrap_or_default();
    let evidence = Evidence::from_state(evidence, Paths::WithoutQuery)?;
    let mut open = Open::stored(read_place(state.opening)?, evidence);
    open.alert_at = micros(state.alert_at);
    open.before = before;
    open.last = micros(state.last);
    open.joined = micros(state.joined);
    open.is_changed = state.is_changed;
    open.is_closed = state.is_closed;
    open.sent = read_sent(state.sent, state.was_sent, &open);
    let continues = state.continues.map(|place| read_place(Some(place)));
    open.continues = continues.transpose()?;
    open.rolls_at = state.rolls_at.map(Micros);
    let continued = state.continued.map(|continued| read_open(*continued));
    open.continued = continued.transpose()?.map(Box::new);
    open.count_error = state.count_error;
    open.duplicates = state.duplicates;
    Ok(open)
}

fn tumbling_state(windows: &tumbling::Windows, log: &Written<'_>) -> proto::TumblingState {
    let groups = windows.starts.iter().flat_map(|(start, groups)| {
        let groups = groups.sorted().into_iter();
        groups.map(|(key, group, inherited, listed)| {
            let (country, city) = key.place();
            proto::GroupState {
                start: time(*start),
                text: key.text.with(str::to_owned),
                country: country.clone(),
                city: city.clone(),
                listing: Some(listing(listed, inherited)),
                ..group_state(group, log)
            }
        })
    });
    proto::TumblingState {
        evaluated: time(windows.evaluated),
        groups: groups.collect(),
        floor: Some(floor_state(windows.floor)),
    }
}

fn group_state(group: &Group, log: &Written<'_>) -> proto::GroupState {
    match group {
        Group::Few(few) => {
            let hits = few.list().iter().map(|named| proto::HitState {
                times: named.times,
                ..slim_state(named.hit, log)
            });
            proto::GroupState {
                hits: hits.collect(),
                ..proto::GroupState::default()
            }
        }
        Group::Whole(whole) => proto::GroupState {
            evidence: Some(whole.evidence.to_state()),
            dedup: whole.dedup.as_deref().map(dedup_state),
            values: whole.values.iter().copied().collect(),
            ..proto::GroupState::default()
        },
    }
}

fn read_tumbling(
    state: proto::TumblingState,
    texts: &mut ReadTexts,
) -> Result<tumbling::Windows, StateError> {
    let mut windows = tumbling::Windows {
        evaluated: micros(state.evaluated),
        floor: read_floor(state.floor),
        ..tumbling::Windows::default()
    };
    let mut groups: BTreeMap<Micros, Vec<_>> = BTreeMap::new();
    for state in state.groups {
        let is_old = state.listing.is_some_and(|listing| listing.arrival == 0);
        let (mut listed, inherited) = read_listing(state.listing)?;
        let start = micros(state.start);
        if is_old {
            // It may make a row: that was not written.
            listed.due = Some(start);
        }
        let key = GroupKey::new(&state.text, (state.country.clone(), state.city.clone()));
        let group = read_group(state, texts)?;
        let heap_bytes = group.heap_bytes();
        let window = groups.entry(start).or_default();
        window.push((key, group, inherited, listed, heap_bytes));
    }
    for (start, groups) in groups {
        windows.restore(start, groups);
    }
    Ok(windows)
}

fn read_group(state: proto::GroupState, texts: &mut ReadTexts) -> Result<Group, StateError> {
    let mut named = Vec::with_capacity(state.hits.len());
    for hit in state.hits {
        let (number, times) = (hit.number, hit.times);
        let hit = texts.take(&read_hit(hit)?, number);
        named.push(Named { hit, times });
    }
    if let Some(few) = Few::restored(named) {
        return Ok(Group::Few(few));
    }
    Ok(Group::Whole(Box::new(Whole {
        evidence: Evidence::from_state(state.evidence.unwrap_or_default(), Paths::Whole)?,
        dedup: read_dedup(state.dedup)?,
        values: state.values.into_iter().collect(),
    })))
}
