//! The detections as a function of a log: what they are given when it is replayed, and their state at
//! one position of it.

use prost::Message as _;
use thiserror::Error;

use super::{
    Detection, Recall,
    continued::{Known, known},
};
use crate::{
    detection::{
        emission::Emission,
        engine::EngineState,
        hit::Hit,
        input::{Input, VERSION, read_start, start_entry},
        pieces::{apart, nested},
        sorted::Sorted,
        state::StateError,
        time::Micros,
    },
    memory::Pressure,
    proto::journal::Snapshot,
};

/// The field of the state in a snapshot.
const ENGINE: u32 = 4;

/// Steps between two looks at what follows.
const SLICE: usize = 64;

/// The state at one position of the log, which can be encoded on another thread.
#[derive(Debug)]
pub struct Moment {
    engine: EngineState,
    /// Ids of open findings that have left.
    left: Sorted<u128, ()>,
    snapshot: Snapshot,
}

/// What a snapshot says beside the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The first entry that is not in the state.
    pub next_entry: u64,
    /// The number of the next finding.
    pub next_finding: u64,
    /// When the first process began to count.
    pub started: Option<Micros>,
    /// The detections of the entries that follow.
    pub known: Known,
}

/// Why a snapshot cannot be read.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// A later version wrote it.
    #[error(
        "the snapshot has version {0}, this auditwatch reads up to {VERSION}: run the version that \
         wrote it, or a later one"
    )]
    Newer(u32),
    /// The state in it.
    #[error(transparent)]
    State(#[from] StateError),
    /// It is no snapshot.
    #[error("the snapshot cannot be read: {0}")]
    Invalid(#[from] prost::DecodeError),
}

impl Moment {
    /// As bytes. Takes seconds for a million keys.
    pub fn encode(self) -> Vec<u8> {
        let Self {
            engine,
            left,
            mut snapshot,
        } = self;
        let ids = left.iter().flat_map(|(id, ())| id.to_be_bytes());
        snapshot.left = ids.collect();
        // Room that is not used is no memory; a list that grows to the end is there twice.
        let mut out = Vec::with_capacity(engine.most_bytes());
        out.extend(snapshot.encode_to_vec());
        nested(ENGINE, &mut out, |out| engine.encode_into(out));
        out
    }
}

impl Detection {
    /// What a replay must not do: remember successes of requests that it does not see. When `is_live`,
    /// those of addresses that are watched from now on wait for [`Self::take_recalled`], because they
    /// are inputs, and inputs enter the log.
    pub fn follow_log(&mut self, is_live: bool) {
        self.recall = if is_live {
            Recall::Later(Vec::new())
        } else {
            Recall::Never
        };
    }

    /// Successes that happened before their address was watched.
    pub fn take_recalled(&mut self) -> Vec<Hit> {
        match &mut self.recall {
            Recall::Later(hits) => std::mem::take(hits),
            Recall::AtOnce | Recall::Never => Vec::new(),
        }
    }

    /// Cuts the texts of hits to what the engine would keep, before they are written.
    pub fn cut(&self, hits: &mut [Hit]) {
        for hit in hits {
            hit.cut(self.value_bytes);
        }
    }

    /// Bytes that the state may take at this pressure.
    pub fn state_limit(&self, pressure: &Pressure) -> usize {
        pressure.left_of(self.budget)
    }

    /// The state may take this many bytes from now on.
    pub fn limit_state(&mut self, bytes: usize) {
        self.engine.limit_memory(bytes);
    }

    /// The first process that has this log starts to count at this time: windows that hold it are
    /// partial.
    pub fn started_at_time(&mut self, time: Micros) {
        self.engine.started_at(time);
    }

    /// The rule id and the fingerprint of each detection, in the order that hits name them in.
    pub fn known(&self) -> Known {
        known(&self.screen)
    }

    /// Applies an input whole; the findings that it causes. A log that is applied in its order gives
    /// the same findings in the same order, always.
    pub fn apply(&mut self, input: Input) -> Vec<Emission> {
        let mut findings = Vec::new();
        match input {
            Input::Hits(hits) => {
                let mut hits = hits.into_iter();
                while !hits.as_slice().is_empty() {
                    findings.extend(self.observe(&mut hits, SLICE));
                }
            }
            Input::Activity(activities) => findings = self.activity(&activities),
            Input::Tick {
                elapsed,
                state_limit,
            } => {
                self.limit_state(state_limit);
                self.advance(elapsed);
                loop {
                    let (some, is_settled) = self.settle(SLICE);
                    findings.extend(some);
                    if is_settled {
                        break;
                    }
                }
            }
            Input::Start(_) | Input::Numbered(_) => {}
        }
        findings
    }

    /// Makes [`Self::moment`] a matter of a moment, whatever the number of keys: the state is copied
    /// page by page, as it changes.
    pub fn share(&mut self) {
        self.engine.share();
        self.gate.share();
    }

    /// The state at this position.
    pub fn moment(&self, position: &Position) -> Moment {
        let (left, has_overflowed) = self.gate.remembered();
        Moment {
            engine: self.engine.export(),
            left,
            snapshot: Snapshot {
                version: VERSION,
                next_entry: position.next_entry,
                next_finding: position.next_finding,
                engine: Vec::new(),
                started: position.started.map(|time| time.0),
                left: Vec::new(),
                has_overflowed,
                detections: Some(start_entry(position.known.clone())),
            },
        }
    }

    /// Continues from a snapshot.
    ///
    /// # Errors
    /// When it is damaged, or a later version wrote it. Nothing has changed then.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<Position, SnapshotError> {
        let (rest, engines) = apart(bytes, ENGINE)?;
        let snapshot = Snapshot::decode(rest.as_slice())?;
        if snapshot.version > VERSION {
            return Err(SnapshotError::Newer(snapshot.version));
        }
        let engine = engines.first().copied().unwrap_or_default();
        self.engine.import(EngineState::decode(engine)?);
        let started = snapshot.started.map(Micros);
        if let Some(started) = started {
            self.engine.started_at(started);
        }
        let ids = snapshot.left.chunks_exact(16);
        let ids = ids.filter_map(|id| id.try_into().ok().map(u128::from_be_bytes));
        self.gate.remember_all(ids, snapshot.has_overflowed);
        let changes = self.engine.changes();
        self.watch.apply(&changes);
        Ok(Position {
            next_entry: snapshot.next_entry,
            next_finding: snapshot.next_finding,
            started,
            known: read_start(snapshot.detections.unwrap_or_default()),
        })
    }
}
