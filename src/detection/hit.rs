//! A hit: one event that counts, with everything that both semantics and the finding need.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use super::texts::{Texts, Values};
use super::{heap::block, time::Micros};
pub use crate::{audit::Identity, rules::model::LabelSet};

/// What hits are ordered by: event time, and an identity among those of one time.
pub(super) type Place = (Micros, Identity);

/// One event that counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// Which detection it is a hit of: its place in the list of the pipeline.
    pub detection: u32,
    /// Event time; `None` when the event has no readable one and no other time was taken instead.
    pub time: Option<Micros>,
    /// The time lay too far ahead of the time of observation and was set back to that.
    pub clamped: bool,
    /// Name of the cluster; empty when unknown.
    pub cluster: Arc<str>,
    /// The trusted address or network (native); empty in escu semantics.
    pub key: String,
    /// The texts of `sourceIPs`, in order, repeats included (escu); empty in native semantics,
    /// where those that are not the key are evidence.
    pub sources: Vec<String>,
    /// Which of the wanted codes it was.
    pub code: u16,
    /// The values of the fields that are evidence.
    pub texts: Texts,
    /// What makes two deliveries one request.
    pub identity: Identity,
    /// What it is a hit for.
    pub role: Role,
    /// Which labels of the detection the event has.
    pub labels: LabelSet,
    /// The entry of `exclude` that it matches: its place in the list. It does not count then.
    pub excluded: Option<u16>,
    /// An entry of `exclude` that names forgery matches it: what looks for forged addresses passes it
    /// over. `excluded` alone does not keep it from that.
    pub is_excluded_from_forgery: bool,
    /// Its time was logged in whole seconds, so that its identity does not tell requests apart: each
    /// delivery counts.
    pub is_time_coarse: bool,
}

/// What an event is a hit for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum Role {
    /// It matches the rule: it counts.
    #[default]
    Match,
    /// It is a success that the detection follows up for its key: it never counts.
    Success,
}

impl Hit {
    /// Bytes of memory it takes, about, with what the allocator adds.
    pub fn heap_bytes(&self) -> usize {
        let list = block(self.sources.capacity() * size_of::<String>());
        let sources = self.sources.iter().map(|text| block(text.capacity()));
        size_of::<Self>()
            + block(self.key.capacity())
            + list
            + sources.sum::<usize>()
            + self.texts.heap_bytes()
    }

    /// Cuts every text to a little more than `most` bytes, so that evidence, which keeps less,
    /// still sees that it was cut. What a client can write has no bound of its own.
    pub fn cut(&mut self, most: usize) {
        self.texts.cut(most);
        for text in &mut self.sources {
            if text.len() > most {
                text.truncate(text.ceil_char_boundary(most.saturating_add(1)));
                text.shrink_to_fit();
            }
        }
    }
}
