//! What a finding gathers while it grows, within bounds, whatever the order of arrival.
//!
//! Of more values than fit, those seen earliest in event time are kept. That choice does not
//! depend on the order of arrival: a value that was pushed out was later than all that stayed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    finding::{Finding, Sample},
    hit::{Hit, Identity},
    limits::Limits,
    time::Micros,
};

/// Sample requests of a finding.
const SAMPLES: usize = 10;

/// When something was first seen: event time, and an identity to break ties.
type First = (Micros, Identity);

/// Distinct things with the time they were first seen, by their own order. A list, not a tree: of
/// most fields there is one value, and there may be a hundred thousand findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Earliest<T> {
    things: Vec<(T, First)>,
    /// Whether there was more than fits.
    full: bool,
}

impl<T> Default for Earliest<T> {
    fn default() -> Self {
        Self {
            things: Vec::new(),
            full: false,
        }
    }
}

impl<T: Ord> Earliest<T> {
    /// Takes a thing, made of a part of it only if it is to be kept. Whether it is kept as seen
    /// just now.
    fn add<Q: Ord + ?Sized>(
        &mut self,
        thing: &Q,
        seen: First,
        most: usize,
        own: impl FnOnce(&Q) -> T,
    ) -> bool
    where
        T: std::borrow::Borrow<Q>,
    {
        let at = self
            .things
            .binary_search_by(|(known, _)| known.borrow().cmp(thing));
        match at {
            Ok(at) => match self.things.get_mut(at) {
                Some((_, first)) if *first > seen => *first = seen,
                _ => return false,
            },
            Err(_) if self.things.len() >= most => {
                self.full = true;
                let latest = self.latest();
                let Some((known, first)) = latest.and_then(|at| self.things.get(at)) else {
                    return false;
                };
                if (*first, known.borrow()) <= (seen, thing) {
                    return false;
                }
                if let Some(at) = latest {
                    self.things.remove(at);
                }
                return self.add(thing, seen, most, own);
            }
            Err(at) => {
                if self.things.is_empty() {
                    self.things.reserve_exact(1);
                }
                self.things.insert(at, (own(thing), seen));
            }
        }
        true
    }

    /// Where the thing is that was first seen last.
    fn latest(&self) -> Option<usize> {
        (0..self.things.len()).max_by(|a, b| {
            let place = |at: &usize| self.things.get(*at).map(|(thing, first)| (first, thing));
            place(a).cmp(&place(b))
        })
    }
}

/// The distinct values of one field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ValueSet(Earliest<String>);

impl ValueSet {
    fn add(&mut self, value: &str, seen: First, limits: &Limits) {
        let whole = value.len();
        let value = cut(value, limits.value_bytes);
        self.0.full |= value.len() < whole;
        self.0
            .add(value, seen, limits.values_per_field, str::to_owned);
    }

    /// The values into a list of the finding; its name into `truncated` when some are missing.
    fn write(&self, name: &str, list: &mut Vec<String>, truncated: &mut Vec<String>) {
        list.extend(self.0.things.iter().map(|(value, _)| value.clone()));
        if self.0.full {
            truncated.push(name.to_owned());
        }
    }
}

/// At most so many bytes of a text, cut between characters.
fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// One request of a distinct verb and path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Request {
    verb: String,
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Detail {
    audit_id: String,
    stage: String,
    code: String,
    user_agent: String,
}

/// Everything gathered for one finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Evidence {
    pub(super) count: u64,
    by_code: BTreeMap<u16, u64>,
    pub(super) first: Option<Micros>,
    pub(super) last: Option<Micros>,
    clamped: bool,
    pub(super) unverified: u64,
    verbs: ValueSet,
    paths: ValueSet,
    agents: ValueSet,
    users: ValueSet,
    groups: ValueSet,
    codes: ValueSet,
    messages: ValueSet,
    reasons: ValueSet,
    statuses: ValueSet,
    claimed: ValueSet,
    requests: Earliest<Request>,
    details: Vec<(First, Detail)>,
}

impl Evidence {
    /// Bytes of memory it holds, about.
    pub(super) fn held(&self) -> usize {
        let sets = [
            &self.verbs,
            &self.paths,
            &self.agents,
            &self.users,
            &self.groups,
            &self.codes,
            &self.messages,
            &self.reasons,
            &self.statuses,
            &self.claimed,
        ];
        let values = sets.into_iter().flat_map(|set| &set.0.things);
        let values = values.map(|(value, _)| size_of::<(String, First)>() + value.len());
        let requests = self.requests.things.iter();
        let requests = requests.map(|(request, _)| request.verb.len() + request.path.len());
        let details = self.details.iter().map(|(_, detail)| {
            let Detail {
                audit_id,
                stage,
                code,
                user_agent,
            } = detail;
            let texts = audit_id.len() + stage.len() + code.len() + user_agent.len();
            size_of::<(Request, First, First, Detail)>() + texts
        });
        size_of::<Self>() + values.chain(requests).chain(details).sum::<usize>()
    }

    /// Takes one request (or, in escu semantics, one event times address).
    pub(super) fn add(&mut self, hit: &Hit, time: Micros, limits: &Limits) {
        let seen = (time, hit.identity);
        self.count += 1;
        *self.by_code.entry(hit.code).or_default() += 1;
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
        self.clamped |= hit.clamped;
        for (set, value) in [
            (&mut self.verbs, &hit.verb),
            (&mut self.paths, &hit.uri),
            (&mut self.agents, &hit.agent),
            (&mut self.users, &hit.user),
            (&mut self.messages, &hit.message),
            (&mut self.reasons, &hit.reason),
            (&mut self.statuses, &hit.status),
        ] {
            if let Some(value) = value {
                set.add(value, seen, limits);
            }
        }
        self.codes.add(&hit.code_text, seen, limits);
        for group in &hit.groups {
            self.groups.add(group, seen, limits);
        }
        // In escu semantics every element is a source of its own, so none is a mere claim.
        if !hit.key.is_empty() {
            for source in hit
                .sources
                .iter()
                .filter(|source| !is_key(source, &hit.key))
            {
                self.claimed.add(source, seen, limits);
            }
        }
        self.sample(hit, seen, limits);
    }

    fn sample(&mut self, hit: &Hit, seen: First, limits: &Limits) {
        let text = |value: &Option<String>| {
            cut(value.as_deref().unwrap_or_default(), limits.value_bytes).to_owned()
        };
        let request = Request {
            verb: text(&hit.verb),
            path: text(&hit.uri),
        };
        if self.requests.add(&request, seen, SAMPLES, Request::clone) {
            let detail = Detail {
                audit_id: text(&hit.audit_id),
                stage: text(&hit.stage),
                code: cut(&hit.code_text, limits.value_bytes).to_owned(),
                user_agent: text(&hit.agent),
            };
            if self.details.is_empty() {
                self.details.reserve_exact(1);
            }
            self.details.push((seen, detail));
            let kept = &self.requests.things;
            self.details
                .retain(|(seen, _)| kept.iter().any(|(_, first)| first == seen));
        }
    }

    /// Writes all this into a finding.
    pub(super) fn write(&self, finding: &mut Finding) {
        finding.count = self.count;
        finding.count_by_code = self
            .by_code
            .iter()
            .map(|(code, count)| (code.to_string(), *count))
            .collect();
        finding.first_time = self.first.map(Micros::to_proto);
        finding.last_time = self.last.map(Micros::to_proto);
        finding.time_clamped = self.clamped;
        finding.unverified = self.unverified;
        let mut truncated = Vec::new();
        for (set, name, list) in [
            (&self.verbs, "verbs", &mut finding.verbs),
            (&self.paths, "paths", &mut finding.paths),
            (&self.agents, "user_agents", &mut finding.user_agents),
            (&self.users, "users", &mut finding.users),
            (&self.groups, "groups", &mut finding.groups),
            (&self.codes, "codes", &mut finding.codes),
            (&self.messages, "messages", &mut finding.messages),
            (&self.reasons, "reasons", &mut finding.reasons),
            (&self.statuses, "statuses", &mut finding.statuses),
            (&self.claimed, "claimed_ips", &mut finding.claimed_ips),
        ] {
            set.write(name, list, &mut truncated);
        }
        finding.truncated = truncated;
        let mut requests: Vec<_> = self.requests.things.iter().collect();
        requests.sort_by_key(|(request, first)| (first, request));
        for (request, seen) in requests {
            let Some((_, detail)) = self.details.iter().find(|(first, _)| first == seen) else {
                continue;
            };
            finding.samples.push(Sample {
                time: Some(seen.0.to_proto()),
                audit_id: detail.audit_id.clone(),
                stage: detail.stage.clone(),
                verb: request.verb.clone(),
                path: request.path.clone(),
                code: detail.code.clone(),
                user_agent: detail.user_agent.clone(),
            });
        }
    }
}

/// Whether a logged source is the address (or in the network) that the request is counted for.
fn is_key(source: &str, key: &str) -> bool {
    let Some(address) = super::address::parse(source) else {
        return false;
    };
    match key.parse::<ipnet::IpNet>() {
        Ok(net) => net.contains(&address),
        Err(_) => key.parse() == Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the order of arrival, the same things are kept: those seen earliest.
        #[test]
        fn keeps_the_earliest(
            things in prop::collection::vec((0u8..12, 0i64..20), 0..60),
            most in 1usize..6,
        ) {
            let seen = |time| (Micros(time), Identity::default());
            let mut first: BTreeMap<u8, i64> = BTreeMap::new();
            for (thing, time) in &things {
                let entry = first.entry(*thing).or_insert(*time);
                *entry = (*entry).min(*time);
            }
            let mut wanted: Vec<_> = first.iter().map(|(thing, time)| (*time, *thing)).collect();
            wanted.sort_unstable();
            let full = wanted.len() > most;
            wanted.truncate(most);

            let mut kept = Earliest::default();
            for (thing, time) in &things {
                kept.add(thing, seen(*time), most, u8::clone);
            }
            let mut got: Vec<_> =
                kept.things.iter().map(|(thing, first)| (first.0.0, *thing)).collect();
            got.sort_unstable();
            prop_assert_eq!(got, wanted);
            prop_assert_eq!(kept.full, full);
        }
    }
}
