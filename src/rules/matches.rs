//! What a match makes of an event: the key of its group, and the identity it counts by.

use sha2::{Digest, Sha256};

use super::{
    derived::{self, Derived},
    group,
    matcher::Scratch,
    model::{Aggregate, Dedup, Detection, Emit, GroupBy, Part},
    predicate::{Context, Operand},
};
use crate::audit::{
    Identity,
    address::Trusted,
    event::{Event, Field},
    fields::AuditField,
    identity, text,
};

/// Groups that one event may be in, when fields of the group have several values.
const MOST_GROUPS: usize = 16;
/// A value of a group is not cut to less: an address is whole.
const LEAST_BYTES: usize = 64;
/// Distinct values of one field that one event may count for.
const MOST_VALUES: usize = 64;

/// One match of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Text of the group's values, as [`Detection::group`] reads it.
    pub key: String,
    /// The field whose values it counts.
    pub identity: Identity,
    /// Which of the detection's parts matched.
    pub part: usize,
    /// The address it counts for, if that was looked for.
    pub(crate) own: Option<Trusted>,
}

impl Detection {
    /// Shows each match of an event, with values of the key of at most `value_bytes` bytes. For an event
    /// that does not match nothing is allocated.
    pub fn matches(
        &self,
        event: &Event<'_>,
        scratch: &mut Scratch,
        value_bytes: usize,
        show: &mut dyn FnMut(Match),
    ) {
        for (at, part) in self.parts.iter().enumerate() {
            let mut context = Context {
                event,
                hops: &self.hops,
                scratch,
            };
            if part.holds(&mut context) {
                self.match_of(event, (at, part), value_bytes, show);
            }
        }
    }

    fn match_of(
        &self,
        event: &Event<'_>,
        (at, part): (usize, &Part),
        value_bytes: usize,
        show: &mut dyn FnMut(Match),
    ) {
        let request = self.identity(event);
        if self.is_address(part) && self.aggregate == Aggregate::Events {
            // It has one value, which is never cut.
            let own = self.address(event);
            show(Match {
                key: own.to_string(),
                identity: request,
                part: at,
                own: Some(own),
            });
            return;
        }
        let groups = match &self.group_by {
            GroupBy::Fields(_) => self.groups(part, event, value_bytes),
            GroupBy::Sources { .. } => vec![Vec::new()],
        };
        let identities = match self.aggregate {
            Aggregate::Events => vec![request],
            Aggregate::Values => match &part.value {
                Some(value) => self.values(value, event, request),
                None => vec![counted(request, part.name.as_bytes())],
            },
        };
        for values in &groups {
            for identity in &identities {
                show(Match {
                    key: self.key(values, request),
                    identity: *identity,
                    part: at,
                    own: None,
                });
            }
        }
    }

    /// The address an event counts for.
    pub(crate) fn address(&self, event: &Event<'_>) -> Trusted {
        derived::trusted(event, &self.hops)
    }

    /// What makes two deliveries one match: the request, or where each event counts, the event.
    fn identity(&self, event: &Event<'_>) -> Identity {
        let request = identity::of([
            &event.field(AuditField::AuditId),
            &event.received,
            &event.field(AuditField::Verb),
            &event.field(AuditField::RequestUri),
        ]);
        match self.dedup {
            Dedup::Request => request,
            Dedup::None => {
                let Identity(bytes) = identity::of([
                    &event.field(AuditField::Stage),
                    &event.time,
                    &Field::Absent,
                    &Field::Absent,
                ]);
                let Identity(mut mixed) = request;
                mixed
                    .iter_mut()
                    .zip(bytes)
                    .for_each(|(to, from)| *to ^= from);
                Identity(mixed)
            }
        }
    }

    /// Whether the key of each hit is its address alone.
    pub(crate) fn is_by_address(&self) -> bool {
        self.parts.iter().all(|part| self.is_address(part))
    }

    /// Whether the group of a match is its address alone, as nearly always.
    fn is_address(&self, part: &Part) -> bool {
        let is_plain = matches!(self.group_by, GroupBy::Fields(_)) && self.emit != Emit::Each;
        is_plain && *part.group_by == [Operand::Derived(Derived::Address)]
    }

    /// The values of the group; several when a field has several.
    fn groups(&self, part: &Part, event: &Event<'_>, most: usize) -> Vec<Vec<Option<String>>> {
        let most = most.max(LEAST_BYTES);
        let mut groups: Vec<Vec<Option<String>>> = vec![Vec::new()];
        for operand in &part.group_by {
            let mut values: Vec<Option<String>> = Vec::new();
            operand.resolve(event, &self.hops, &mut |field| {
                let value = field
                    .value()
                    .map(|value| text::bounded(value.whole().as_bytes(), most).into_owned());
                if value.is_some() && values.len() < MOST_GROUPS && !values.contains(&value) {
                    values.push(value);
                }
            });
            if values.len() < 2 {
                // As nearly always: nothing to combine.
                let value = values.pop().flatten();
                for group in &mut groups {
                    group.push(value.clone());
                }
                continue;
            }
            let combined = groups.iter().flat_map(|group| {
                values.iter().map(|value| {
                    let mut group = group.clone();
                    group.push(value.clone());
                    group
                })
            });
            groups = combined.take(MOST_GROUPS).collect();
        }
        groups
    }

    fn values(&self, value: &Operand, event: &Event<'_>, request: Identity) -> Vec<Identity> {
        let mut identities = Vec::new();
        value.resolve(event, &self.hops, &mut |field| {
            if let Some(text) = field.value()
                && identities.len() < MOST_VALUES
            {
                let mut hash = Sha256::new();
                text.hash_into(&mut hash);
                let identity = counted(request, &hash.finalize());
                if !identities.contains(&identity) {
                    identities.push(identity);
                }
            }
        });
        identities
    }

    /// The text of a group. Where each match is a finding, its request is one more value.
    fn key(&self, values: &[Option<String>], request: Identity) -> String {
        let own = (self.emit == Emit::Each).then(|| text::hex(&request.0, request.0.len()));
        let values = values.iter().map(Option::as_deref);
        let values: Vec<_> = values.chain(own.as_deref().map(Some)).collect();
        group::encode(&values)
    }

    /// The fields of the group and their values, out of the key of a match.
    pub fn group(&self, key: &str) -> Vec<(String, Option<String>)> {
        let GroupBy::Fields(names) = &self.group_by else {
            return Vec::new();
        };
        let fields = names.len() + usize::from(self.emit == Emit::Each);
        names
            .iter()
            .cloned()
            .zip(group::decode(key, fields))
            .collect()
    }
}

/// An identity that counts a value of a request.
fn counted(request: Identity, value: &[u8]) -> Identity {
    let Identity(mut bytes) = request;
    let digest = Sha256::digest(value);
    bytes
        .iter_mut()
        .skip(8)
        .zip(digest)
        .for_each(|(to, from)| *to = from);
    Identity(bytes)
}
