//! The state of the engine as bytes: `proto/auditwatch/v1/state.proto`.
//!
//! What is written is a function of the state alone, and an engine that reads it continues just
//! as the one that wrote it. Totals and orders that follow from the rest are not written but made
//! anew: bytes on the heap, the eviction order, the index of values.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message as _;

use super::{
    dedup::{DedupSet, Generation},
    engine::{EngineState, Known, Stats},
    event_time::EventTime,
    eviction::{Priority, Usage},
    evidence::Evidence,
    finding::Sample,
    follow_up::{FollowUps, Successes, Watched},
    group::{GroupId, GroupKey},
    hit::{Identity, Place},
    hits::{Few, Kept, Unassigned},
    key_table::Listed,
    packed::Packed,
    session::{Key, Open},
    sessions::Sessions,
    shard::{DetectionState, Shard, Windows},
    time::{BEGINNING, Micros},
    tumbling::{self, Group},
    wire::{VERSION, check, micros, place, read_place, time},
};
use crate::proto::state as proto;

pub use super::wire::StateError;

impl EngineState {
    /// The state as bytes. Equal states have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let listed: BTreeMap<_, _> = self.quietest.iter().map(|(at, name)| (name, *at)).collect();
        let detections = self.detections.iter().map(detection_stats);
        let shards = self.shards.values().map(|shard| {
            let listed = listed.get(&shard.name).copied().unwrap_or(BEGINNING);
            shard_state(shard, listed)
        });
        proto::EngineState {
            version: VERSION,
            detections: detections.collect(),
            shards: shards.collect(),
        }
        .encode_to_vec()
    }

    /// Reads a state.
    ///
    /// # Errors
    /// When the bytes are damaged or of a later major version.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let message = proto::EngineState::decode(bytes)?;
        check(message.version)?;
        let mut state = Self::default();
        for known in message.detections {
            state.detections.push(known_detection(known));
        }
        for shard in message.shards {
            check(shard.version)?;
            let name: Arc<str> = Arc::from(shard.cluster);
            state
                .quietest
                .insert((micros(shard.listed), Arc::clone(&name)));
            let mut read = Box::new(Shard::new(Arc::clone(&name)));
            for detection in shard.detections {
                let detection = read_detection(detection)?;
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
        state.report();
        Ok(state)
    }
}

impl PartialEq for EngineState {
    fn eq(&self, other: &Self) -> bool {
        self.encode() == other.encode()
    }
}

fn detection_stats(known: &Known) -> proto::DetectionStats {
    let Known {
        rule_id,
        fingerprint,
        stats,
    } = known;
    let Stats {
        hits,
        duplicates,
        late,
        late_dropped,
        untimed,
        overflow,
        evicted,
        evicted_hits,
        successes,
        unwatched,
    } = *stats;
    proto::DetectionStats {
        rule_id: rule_id.clone(),
        fingerprint: fingerprint.clone(),
        hits,
        duplicates,
        late,
        late_dropped,
        untimed,
        overflow,
        evicted,
        evicted_hits,
        successes,
        unwatched,
    }
}

fn known_detection(known: proto::DetectionStats) -> Known {
    Known {
        rule_id: known.rule_id,
        fingerprint: known.fingerprint,
        stats: Stats {
            hits: known.hits,
            duplicates: known.duplicates,
            late: known.late,
            late_dropped: known.late_dropped,
            untimed: known.untimed,
            overflow: known.overflow,
            evicted: known.evicted,
            evicted_hits: known.evicted_hits,
            successes: known.successes,
            unwatched: known.unwatched,
        },
    }
}

fn shard_state(shard: &Shard, listed: Micros) -> proto::ShardState {
    let detections = shard.detections.iter().map(|state| {
        let windows = match &state.windows {
            Windows::Session(sessions) => {
                proto::detection_state::Windows::Sessions(sessions_state(sessions))
            }
            Windows::Tumbling(windows) => {
                proto::detection_state::Windows::Tumbling(tumbling_state(windows))
            }
        };
        proto::DetectionState {
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
            windows: Some(windows),
        }
    });
    proto::ShardState {
        version: VERSION,
        cluster: shard.name.as_ref().to_owned(),
        listed: time(listed),
        detections: detections.collect(),
    }
}

fn read_detection(state: proto::DetectionState) -> Result<DetectionState, StateError> {
    let windows = match state.windows {
        Some(proto::detection_state::Windows::Sessions(sessions)) => {
            Windows::Session(read_sessions(sessions)?)
        }
        Some(proto::detection_state::Windows::Tumbling(windows)) => {
            Windows::Tumbling(read_tumbling(windows)?)
        }
        None => return Err(StateError::Invalid("windows")),
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
        successes: one.successes.count,
        sent: one.successes.sent,
        samples: one
            .successes
            .shown
            .iter()
            .map(|(at, shown)| sample_state(*at, shown))
            .collect(),
        dedup: Some(dedup_state(&one.successes.dedup)),
    });
    keys.collect()
}

fn read_watched(states: Vec<proto::WatchedState>) -> Result<Option<Box<FollowUps>>, StateError> {
    if states.is_empty() {
        return Ok(None);
    }
    let mut watched = Box::new(FollowUps::default());
    for state in states {
        let shown = state.samples.into_iter().map(read_sample);
        let mut shown: Vec<_> = shown.collect::<Result<_, _>>()?;
        shown.shrink_to_fit();
        let one = Watched {
            address: Arc::from(state.address),
            opening: read_place(state.opening)?,
            count: state.count,
            closed: state.closed.map(Micros),
            end: state.end.map(Micros),
            last_success: micros(state.last_success),
            successes: Successes {
                count: state.successes,
                sent: state.sent,
                shown,
                dedup: read_dedup(state.dedup)?.map(|set| *set).unwrap_or_default(),
            },
        };
        watched.list(&Arc::from(state.key), Box::new(one));
    }
    Ok(Some(watched))
}

/// The texts of a sample, by their names.
fn sample_texts(sample: &mut Sample) -> [(&'static str, &mut String); 5] {
    let Sample {
        audit_id,
        stage,
        code,
        user_agent,
        user,
        ..
    } = sample;
    [
        ("audit_id", audit_id),
        ("stage", stage),
        ("code", code),
        ("user_agent", user_agent),
        ("user", user),
    ]
}

fn sample_state(at: Place, sample: &Sample) -> proto::SampleState {
    let mut sample = sample.clone();
    let texts = sample_texts(&mut sample).into_iter();
    proto::SampleState {
        texts: texts
            .map(|(name, text)| proto::SampleText {
                name: name.to_owned(),
                text: std::mem::take(text),
            })
            .collect(),
        place: place(at),
        verb: sample.verb,
        path: sample.path,
    }
}

fn read_sample(state: proto::SampleState) -> Result<(Place, Sample), StateError> {
    let place = read_place(state.place)?;
    let mut sample = Sample {
        time: Some(place.0.to_proto()),
        verb: state.verb,
        path: state.path,
        ..Sample::default()
    };
    for text in state.texts {
        let mut own = sample_texts(&mut sample).into_iter();
        if let Some((_, own)) = own.find(|(name, _)| *name == text.name) {
            *own = text.text;
        }
    }
    Ok((place, sample))
}

fn listing(listed: Option<Listed>) -> Option<proto::Listing> {
    listed.map(|listed| proto::Listing {
        hits: listed.priority.hits,
        last: time(listed.priority.last),
        closing: listed.closing.and_then(time),
        expiry: listed.expiry.and_then(time),
    })
}

fn read_listing(listing: Option<proto::Listing>) -> Result<Listed, StateError> {
    let listing = listing.ok_or(StateError::Invalid("listing"))?;
    Ok(Listed {
        priority: Priority {
            hits: listing.hits,
            last: micros(listing.last),
        },
        closing: listing.closing.map(Micros),
        expiry: listing.expiry.map(Micros),
    })
}

fn sessions_state(sessions: &Sessions) -> proto::SessionsState {
    let keys = sessions.keys.iter().map(|(name, key)| proto::KeyState {
        key: name.as_ref().to_owned(),
        unassigned: Some(unassigned_state(&key.unassigned)),
        dedup: key.dedup.as_deref().map(dedup_state),
        open: key.open.as_deref().map(open_state),
        horizon: time(key.horizon),
        last: time(key.last),
        max_event_time: time(key.max_event_time),
        closing_watermark: time(key.closing_watermark),
        deliveries: key.deliveries,
        listing: listing(sessions.keys.listed(name)),
    });
    let horizons = sessions.horizons.parts();
    let horizons = horizons.map(|(part, until)| proto::Horizon {
        part: part.into(),
        until: until.0,
    });
    proto::SessionsState {
        keys: keys.collect(),
        horizons: horizons.collect(),
    }
}

fn read_sessions(state: proto::SessionsState) -> Result<Sessions, StateError> {
    let mut sessions = Sessions::default();
    for horizon in state.horizons {
        let part = u16::try_from(horizon.part).map_err(|_| StateError::Invalid("horizon"))?;
        sessions.horizons.raise_part(part, Micros(horizon.until));
    }
    for state in state.keys {
        let listed = read_listing(state.listing)?;
        let key = Key {
            unassigned: read_unassigned(state.unassigned.unwrap_or_default())?,
            dedup: read_dedup(state.dedup)?,
            open: state.open.map(read_open).transpose()?.map(Box::new),
            horizon: micros(state.horizon),
            last: micros(state.last),
            max_event_time: micros(state.max_event_time),
            closing_watermark: micros(state.closing_watermark),
            deliveries: state.deliveries,
        };
        let heap_bytes = key.heap_bytes();
        let keyed = sessions.keys.entry(Arc::from(state.key), || key);
        keyed.list_at(listed, heap_bytes);
    }
    Ok(sessions)
}

fn hit_state(at: Place, packed: &Packed) -> proto::HitState {
    proto::HitState {
        place: place(at),
        packed: packed.to_bytes(),
    }
}

fn read_hit(state: proto::HitState) -> Result<Kept, StateError> {
    Ok(Kept {
        place: read_place(state.place)?,
        packed: Packed::from_bytes(&state.packed).ok_or(StateError::Invalid("a hit"))?,
    })
}

fn unassigned_state(unassigned: &Unassigned) -> proto::UnassignedState {
    let hits = unassigned.iter().map(|(at, packed)| hit_state(at, packed));
    let many = unassigned.many();
    proto::UnassignedState {
        hits: hits.collect(),
        are_many: many.is_some(),
        bare_from: many.and_then(|many| many.bare_from).and_then(place),
        value_window: many.and_then(|many| many.value_window).unwrap_or_default(),
    }
}

fn read_unassigned(state: proto::UnassignedState) -> Result<Unassigned, StateError> {
    let hits = state.hits.into_iter().map(read_hit);
    let hits = hits.collect::<Result<Vec<_>, _>>()?;
    let bare_from = state.bare_from.map(|from| read_place(Some(from)));
    Ok(Unassigned::restored(
        hits,
        state.are_many.then_some(super::hits::ManyState {
            bare_from: bare_from.transpose()?,
            value_window: (state.value_window != 0).then_some(state.value_window),
        }),
    ))
}

fn dedup_state(set: &DedupSet) -> proto::DedupState {
    let generation = |generation: &Generation| proto::Generation {
        identities: generation
            .identities
            .iter()
            .flat_map(|Identity(identity)| identity)
            .copied()
            .collect(),
        last: time(generation.last),
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
        sent: open.sent,
        is_changed: open.is_changed,
        is_closed: open.is_closed,
    }
}

fn read_open(state: proto::OpenState) -> Result<Open, StateError> {
    let mut before = Few::default();
    for hit in state.before {
        before.insert(read_hit(hit)?);
    }
    Ok(Open {
        opening: read_place(state.opening)?,
        alert_at: micros(state.alert_at),
        evidence: Evidence::from_state(state.evidence.unwrap_or_default())?,
        before,
        last: micros(state.last),
        joined: micros(state.joined),
        sent: state.sent,
        is_changed: state.is_changed,
        is_closed: state.is_closed,
    })
}

fn tumbling_state(windows: &tumbling::Windows) -> proto::TumblingState {
    let groups = windows.groups.iter().map(|(id, group)| {
        let (country, city) = &id.key.place;
        proto::GroupState {
            start: time(id.start),
            text: id.key.text.as_ref().to_owned(),
            country: country.clone(),
            city: city.clone(),
            evidence: Some(group.evidence.to_state()),
            dedup: group.dedup.as_deref().map(dedup_state),
            values: group.values.iter().copied().collect(),
            listing: listing(windows.groups.listed(id)),
        }
    });
    proto::TumblingState {
        evaluated: time(windows.evaluated),
        groups: groups.collect(),
    }
}

fn read_tumbling(state: proto::TumblingState) -> Result<tumbling::Windows, StateError> {
    let mut windows = tumbling::Windows {
        evaluated: micros(state.evaluated),
        ..tumbling::Windows::default()
    };
    for state in state.groups {
        let listed = read_listing(state.listing)?;
        let group = Group {
            evidence: Evidence::from_state(state.evidence.unwrap_or_default())?,
            dedup: read_dedup(state.dedup)?,
            values: state.values.into_iter().collect(),
        };
        let id = GroupId {
            start: micros(state.start),
            key: Arc::new(GroupKey {
                text: state.text.into(),
                place: (state.country, state.city),
            }),
        };
        let heap_bytes = group.heap_bytes();
        windows
            .groups
            .entry(id, || group)
            .list_at(listed, heap_bytes);
    }
    Ok(windows)
}
