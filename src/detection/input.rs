//! The inputs of the engine as entries of the ordered log (`journal.proto`).
//!
//! What is read from an entry is what was written, to the byte: a replay gives the engine what the
//! first run gave it.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use thiserror::Error;

use super::{
    activity::{Activities, Activity, Delays},
    hit::{Hit, Identity, LabelSet, Role, Texts},
    time::Micros,
};
use crate::proto::journal as proto;

/// The major version of entries and snapshots.
pub const VERSION: u32 = 1;

/// One input of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The hits of one request.
    Hits(Vec<Hit>),
    /// What arrived of each cluster.
    Activity(Box<Activities>),
    /// The passing of time.
    Tick {
        /// The time that has passed.
        elapsed: Duration,
        /// Bytes that the state may take from now on.
        state_limit: usize,
    },
    /// From here on hits name these detections, by rule id and fingerprint of each: a process has
    /// started, or has loaded its configuration again.
    Start(Vec<(String, String)>),
    /// Findings below this number were caused by the entries before, and are in the outbox.
    Numbered(u64),
}

/// Why an entry cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InputError {
    /// A later version wrote it.
    #[error(
        "an entry of the log has version {0}, this auditwatch reads up to {VERSION}: \
         run the version that wrote it, or a later one"
    )]
    Newer(u32),
    /// It is not an entry.
    #[error("an entry of the log cannot be read: {0}")]
    Invalid(&'static str),
}

impl Input {
    /// As an entry.
    pub fn encode(&self) -> Vec<u8> {
        let input = match self {
            Self::Hits(hits) => proto::journal_entry::Input::Hits(proto::HitsInput {
                hits: hits.iter().map(hit_entry).collect(),
            }),
            Self::Activity(activities) => {
                proto::journal_entry::Input::Activity(activity_entry(activities))
            }
            Self::Tick {
                elapsed,
                state_limit,
            } => proto::journal_entry::Input::Tick(proto::TickInput {
                elapsed: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
                state_limit: *state_limit as u64,
            }),
            Self::Start(detections) => {
                proto::journal_entry::Input::Start(start_entry(detections.clone()))
            }
            Self::Numbered(next) => {
                proto::journal_entry::Input::Numbered(proto::NumberedInput { next: *next })
            }
        };
        proto::JournalEntry {
            version: VERSION,
            input: Some(input),
        }
        .encode_to_vec()
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// When a later version wrote it, or it is damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, InputError> {
        let entry = proto::JournalEntry::decode(bytes).map_err(|_| InputError::Invalid("form"))?;
        if entry.version > VERSION {
            return Err(InputError::Newer(entry.version));
        }
        Ok(
            match entry.input.ok_or(InputError::Invalid("kind of input"))? {
                proto::journal_entry::Input::Hits(input) => {
                    let hits: Result<_, _> = input.hits.into_iter().map(read_hit).collect();
                    Self::Hits(hits?)
                }
                proto::journal_entry::Input::Activity(input) => {
                    Self::Activity(Box::new(read_activities(&input)))
                }
                proto::journal_entry::Input::Tick(tick) => Self::Tick {
                    elapsed: Duration::from_micros(tick.elapsed),
                    state_limit: usize::try_from(tick.state_limit).unwrap_or(usize::MAX),
                },
                proto::journal_entry::Input::Start(start) => Self::Start(read_start(start)),
                proto::journal_entry::Input::Numbered(input) => Self::Numbered(input.next),
            },
        )
    }
}

/// Detections, as they are written.
pub fn start_entry(detections: Vec<(String, String)>) -> proto::StartInput {
    let detections = detections.into_iter();
    let detections = detections.map(|(rule_id, fingerprint)| proto::JournalDetection {
        rule_id,
        fingerprint,
    });
    proto::StartInput {
        detections: detections.collect(),
    }
}

/// Detections, as they were written.
pub fn read_start(start: proto::StartInput) -> Vec<(String, String)> {
    let detections = start.detections.into_iter();
    detections
        .map(|known| (known.rule_id, known.fingerprint))
        .collect()
}

/// A hit, as it is written.
pub(super) fn hit_entry(hit: &Hit) -> proto::JournalHit {
    proto::JournalHit {
        detection: hit.detection,
        time: hit.time.map(|time| time.0),
        clamped: hit.clamped,
        cluster: hit.cluster.as_ref().to_owned(),
        key: hit.key.clone(),
        sources: hit.sources.clone(),
        code: hit.code.into(),
        texts: hit.texts.as_bytes().to_vec(),
        identity: hit.identity.0.to_vec(),
        is_success: hit.role == Role::Success,
        labels: hit.labels.0,
        excluded: hit.excluded.map(Into::into),
        is_excluded_from_forgery: hit.is_excluded_from_forgery,
        is_time_coarse: hit.is_time_coarse,
    }
}

/// A hit, as it was written.
pub(super) fn read_hit(hit: proto::JournalHit) -> Result<Hit, InputError> {
    let narrow = |number: u32| u16::try_from(number).map_err(|_| InputError::Invalid("number"));
    let identity = hit.identity.try_into();
    Ok(Hit {
        detection: hit.detection,
        time: hit.time.map(Micros),
        clamped: hit.clamped,
        cluster: Arc::from(hit.cluster),
        key: hit.key,
        sources: hit.sources,
        code: narrow(hit.code)?,
        texts: Texts::from_bytes(&hit.texts),
        identity: Identity(identity.map_err(|_| InputError::Invalid("identity"))?),
        role: if hit.is_success {
            Role::Success
        } else {
            Role::Match
        },
        labels: LabelSet(hit.labels),
        excluded: hit.excluded.map(narrow).transpose()?,
        is_excluded_from_forgery: hit.is_excluded_from_forgery,
        is_time_coarse: hit.is_time_coarse,
    })
}

fn activity_entry(activities: &Activities) -> proto::ActivityInput {
    let clusters = activities.iter();
    proto::ActivityInput {
        clusters: clusters
            .map(|(cluster, activity)| one_activity(cluster, activity))
            .collect(),
        beyond: Some(one_activity("", activities.beyond())),
    }
}

fn one_activity(cluster: &str, activity: &Activity) -> proto::ClusterActivity {
    proto::ClusterActivity {
        cluster: cluster.to_owned(),
        records: activity.records,
        events: activity.events,
        candidates: activity.candidates,
        hits: activity.hits,
        truncated: activity.truncated,
        cut_bytes: activity.cut_bytes,
        last: activity.last.map(|time| time.0),
        delay_events: activity.delays.events,
        late: activity.delays.late,
        ahead: activity.delays.ahead,
        delays: activity.delays.buckets.to_vec(),
    }
}

fn read_activities(input: &proto::ActivityInput) -> Activities {
    let mut activities = Activities::default();
    for cluster in &input.clusters {
        activities.add(&cluster.cluster, &read_activity(cluster));
    }
    activities.with_beyond(input.beyond.as_ref().map(read_activity).unwrap_or_default())
}

fn read_activity(input: &proto::ClusterActivity) -> Activity {
    let mut buckets = [0; Delays::BUCKETS];
    for (bucket, count) in buckets.iter_mut().zip(&input.delays) {
        *bucket = *count;
    }
    Activity {
        records: input.records,
        events: input.events,
        candidates: input.candidates,
        hits: input.hits,
        truncated: input.truncated,
        cut_bytes: input.cut_bytes,
        last: input.last.map(Micros),
        delays: Delays {
            events: input.delay_events,
            late: input.late,
            ahead: input.ahead,
            buckets,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written() {
        let hit = Hit {
            detection: 3,
            time: Some(Micros(-5)),
            clamped: true,
            cluster: Arc::from("prod"),
            key: "192.0.2.7".to_owned(),
            sources: vec!["a".to_owned(), String::new()],
            code: 403,
            texts: Texts::from_bytes(&[1, 2, 255]),
            identity: Identity([9; 16]),
            role: Role::Success,
            labels: LabelSet(1 << 63),
            excluded: Some(7),
            is_excluded_from_forgery: true,
            is_time_coarse: true,
        };
        let mut activities = Activities::default();
        let activity = Activity {
            records: 9,
            last: Some(Micros(4)),
            delays: Delays {
                events: 2,
                buckets: [5; Delays::BUCKETS],
                ..Delays::default()
            },
            ..Activity::default()
        };
        activities.add("", &activity);
        activities.add("b", &activity);
        for input in [
            Input::Hits(vec![hit, Hit::default()]),
            Input::Activity(Box::new(activities.with_beyond(activity))),
            Input::Tick {
                elapsed: Duration::from_micros(1_000_001),
                state_limit: 5,
            },
            Input::Start(vec![("rule".to_owned(), "print".to_owned())]),
        ] {
            assert_eq!(Input::decode(&input.encode()), Ok(input));
        }
    }

    #[test]
    fn a_version_of_tomorrow_is_refused_by_name() {
        let entry = proto::JournalEntry {
            version: 2,
            input: None,
        };
        let error = Input::decode(&entry.encode_to_vec()).unwrap_err();
        assert_eq!(error, InputError::Newer(2));
        assert!(error.to_string().contains("version 2"), "{error}");
        assert_eq!(Input::decode(&[0xff; 9]), Err(InputError::Invalid("form")));
        assert_eq!(
            Input::decode(&[]),
            Err(InputError::Invalid("kind of input"))
        );
    }
}
