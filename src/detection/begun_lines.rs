//! The lines of a request that a container runtime has divided, and where they come from.

use std::{
    hash::{Hash as _, Hasher as _},
    sync::Arc,
};

use siphasher::sip::SipHasher13;

use super::{
    envelope::{self, Parts},
    selector::SelectorMatch,
};
use crate::pdata::{AnyValue, KeyValues, Record};

/// Attributes that say where a line comes from.
const SOURCES: [&[u8]; 8] = [
    b"log.file.path",
    b"k8s.pod.uid",
    b"k8s.pod.name",
    b"k8s.container.name",
    b"container.id",
    b"com.splunk.source",
    b"filename",
    b"source",
];
/// Those that many sources have in common: the file of every container is `0.log`.
const COMMON: [&[u8]; 2] = [b"log.file.name", b"k8s.container.restart_count"];

/// The lines of a request that have not ended.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) parts: Parts<Begun>,
    /// What is known of the resource of the records at hand.
    resource: Source,
    /// How many resources ended before it.
    number: u64,
    /// The selector's result for the line at hand, whose record is gone.
    pub(super) matched: Option<SelectorMatch>,
}

/// A hash of where records come from.
#[derive(Clone, Copy, Debug, Default)]
struct Source {
    hash: Option<u64>,
    /// It says where from, or only what many have in common.
    is_certain: bool,
    is_common: bool,
}

/// What is known of the first part of a line.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) time_unix_nano: u64,
    pub(super) observed_time_unix_nano: u64,
    /// The cluster that its record names.
    pub(super) cluster: Option<Arc<str>>,
    /// The selector's result for its record.
    pub(super) matched: SelectorMatch,
    /// The cluster of its resource and the selector's result for that, once it has ended.
    pub(super) resource: Option<(Arc<str>, SelectorMatch)>,
}

impl Lines {
    /// Takes what a resource says. Other parts of it may follow.
    pub(super) fn resource(&mut self, encoded: &[u8], attributes: &KeyValues<'_>) {
        let mut hash = SipHasher13::new();
        self.resource.hash.hash(&mut hash);
        hash.write(encoded);
        self.resource.hash = Some(hash.finish());
        let source = &mut self.resource;
        attributes.for_each(|key, _| {
            let _is_known = source.note(key);
        });
    }

    /// Where a record comes from; `None` when other sources may go by the same name.
    pub(super) fn source(&self, record: &Record<'_>) -> Option<envelope::Source> {
        let mut hash = SipHasher13::new();
        // One that has not named itself yet is no other's namesake.
        let number = self.resource.hash.is_none().then_some(self.number);
        (self.resource.hash, number).hash(&mut hash);
        let mut source = self.resource;
        record.attributes().for_each(|key, value| {
            if let AnyValue::Text(text) = value
                && source.note(key)
            {
                (key, text).hash(&mut hash);
            }
        });
        (source.is_certain || !source.is_common).then(|| envelope::Source {
            hash: hash.finish(),
            is_certain: source.is_certain,
        })
    }

    /// The resource of the lines that have not ended has: what is known of it goes on with them.
    pub(super) fn leave(&mut self, cluster: &str, matched: SelectorMatch) {
        self.number += 1;
        self.resource = Source::default();
        let mut known = None;
        for begun in self.parts.first_parts() {
            if begun.resource.is_none() {
                let known = known.get_or_insert_with(|| (Arc::from(cluster), matched));
                begun.resource = Some(known.clone());
            }
        }
    }

    /// Bytes on the heap, about.
    pub(super) fn heap_bytes(&self) -> usize {
        self.parts.heap_bytes()
    }
}

impl Source {
    /// Takes the key of an attribute; whether it says anything of the source.
    fn note(&mut self, key: &[u8]) -> bool {
        let (is_certain, is_common) = (SOURCES.contains(&key), COMMON.contains(&key));
        self.is_certain |= is_certain;
        self.is_common |= is_common;
        is_certain || is_common
    }
}
