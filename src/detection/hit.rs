//! A hit: one event that counts, with everything that both semantics and the finding need.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{heap::block, time::Micros};
pub use crate::audit::Identity;

/// What hits are ordered by: event time, and an identity among those of one time.
pub(super) type Place = (Micros, Identity);

/// One event that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// Which detection it is a hit of: its place in the list of the pipeline.
    pub detection: u32,
    /// Event time; `None` when the event has no readable one and nobody has stood in for it.
    pub time: Option<Micros>,
    /// The time lay too far ahead of the time of observation and was set back to that.
    pub clamped: bool,
    /// Name of the cluster; empty when unknown.
    pub cluster: Arc<str>,
    /// The trusted address or network (native); empty in escu semantics.
    pub key: String,
    /// The texts of `sourceIPs`, in order.
    pub sources: Vec<String>,
    /// Which of the wanted codes it was.
    pub code: u16,
    /// `responseStatus.code` as logged.
    pub code_text: String,
    /// `user.username`
    pub user: Option<String>,
    /// `user.groups`
    pub groups: Vec<String>,
    /// `verb`
    pub verb: Option<String>,
    /// `requestURI`
    pub uri: Option<String>,
    /// `userAgent`
    pub agent: Option<String>,
    /// `responseStatus.message`
    pub message: Option<String>,
    /// `responseStatus.reason`
    pub reason: Option<String>,
    /// `responseStatus.status`
    pub status: Option<String>,
    /// `auditID`
    pub audit_id: Option<String>,
    /// `stage`
    pub stage: Option<String>,
    /// What makes two deliveries one request.
    pub identity: Identity,
}

impl Hit {
    /// Bytes of memory it holds, about, with what the allocator adds.
    pub fn held(&self) -> usize {
        let texts = [
            &self.user,
            &self.verb,
            &self.uri,
            &self.agent,
            &self.message,
            &self.reason,
            &self.status,
            &self.audit_id,
            &self.stage,
        ];
        let texts = texts.into_iter().flatten();
        let more = [&self.key, &self.code_text].into_iter();
        let lists = [&self.sources, &self.groups];
        let elements = lists.into_iter().flatten();
        let lists = lists.map(|list| block(list.capacity() * size_of::<String>()));
        let texts = texts.chain(more).chain(elements);
        let texts = texts.map(|text| block(text.capacity()));
        size_of::<Self>() + texts.chain(lists).sum::<usize>()
    }

    /// Cuts every text to a little more than `most` bytes, so that whoever keeps less still sees
    /// that it was cut. What a client can write has no bound of its own.
    pub fn cut(&mut self, most: usize) {
        let cut = |text: &mut String| {
            if text.len() > most {
                text.truncate(text.ceil_char_boundary(most + 1));
                text.shrink_to_fit();
            }
        };
        for text in [
            &mut self.user,
            &mut self.verb,
            &mut self.uri,
            &mut self.agent,
            &mut self.message,
            &mut self.reason,
            &mut self.status,
            &mut self.audit_id,
            &mut self.stage,
        ] {
            text.iter_mut().for_each(cut);
        }
        cut(&mut self.code_text);
        self.groups.iter_mut().for_each(cut);
        self.sources.iter_mut().for_each(cut);
    }

    /// Keeps the last `most` elements of `sourceIPs`: those a client can least write.
    pub fn keep_sources(&mut self, most: usize) {
        let excess = self.sources.len().saturating_sub(most);
        self.sources.drain(..excess);
        // The place of what was taken out would stay.
        self.sources.shrink_to_fit();
    }
}
