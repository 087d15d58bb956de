//! Peers that hand source addresses over, as a proxy does: whether these are the claims of one
//! client.
//!
//! A peer is the last element of `sourceIPs`, which no client can write. Where the key is another
//! element, it is the word of that peer. A real proxy in front of many clients is told apart by
//! what they do: clients of their own have findings of their own, or user agents of their own.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    bounded::{Bounded, Weighed},
    found::Found,
    key::{self, Key, Network, Octets},
    life::{Arrived, Life, Pace},
    lives::Lives,
    ring::{Ring, Slots},
    slow,
};
use crate::{
    audit::{fields::AuditField, time::Micros},
    detection::heap,
    finding::Severity,
    rules::settings::SECOND,
};

/// Peers that are kept, of all clusters.
const MOST_PEERS: usize = 1024;
/// Claims that are looked at with each request.
const AT_ONCE: usize = 16;
/// A peer that has handed over a single address for this long, in microseconds, has one client.
const MEMORY: i64 = 7 * 24 * 3600 * SECOND;
/// Distinct paths from which on the requests enumerate.
const MANY_PATHS: u64 = 20;
/// Part of the claims that have to share a user agent, in percent.
const SHARED: u64 = 90;

/// A source address that a peer has handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detection) struct Claim {
    pub(in crate::detection) octets: Octets,
    pub(in crate::detection) ring: Ring,
    /// Its requests since it was kept.
    pub(in crate::detection) count: u32,
    /// Hash of the user agent of the first of them.
    pub(in crate::detection) agent: u32,
    /// A bit for each path, by a hash.
    pub(in crate::detection) paths: u64,
}

impl Weighed for Claim {
    fn octets(&self) -> Octets {
        self.octets
    }

    fn ring(&self) -> &Ring {
        &self.ring
    }

    fn count(&self) -> u32 {
        self.count
    }
}

/// A peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::detection) struct Peer {
    pub(in crate::detection) claims: Bounded<Claim>,
    /// The address that it has handed over last, and the first and last time that this was another
    /// one than before.
    pub(in crate::detection) last_claim: Octets,
    pub(in crate::detection) shared_at: Option<Micros>,
    /// Time of its latest request.
    pub(in crate::detection) last: Option<Micros>,
    /// Its requests.
    pub(in crate::detection) requests: u64,
}

/// What makes a peer qualify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detection) struct Needs {
    /// More addresses than this,
    pub(in crate::detection) claims: u64,
    /// with more requests than this.
    pub(in crate::detection) requests: u64,
    pub(in crate::detection) slots: Slots,
    pub(in crate::detection) pace: Pace,
}

/// The peers of all clusters.
#[derive(Clone, Debug, Default)]
pub(in crate::detection) struct Peers {
    pub(in crate::detection) all: BTreeMap<Key, Arc<Peer>>,
    claims: usize,
    pub(in crate::detection) lives: Lives,
}

/// What a window of a peer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    claims: u64,
    requests: u64,
    /// Claims that have a finding.
    found: u64,
    /// Claims with the user agent of the request at hand.
    same_agent: u64,
    agents: u64,
    /// Distinct paths, estimated.
    paths: u64,
    /// Distinct paths of each claim, added up.
    paths_of_claims: u64,
}

impl Peers {
    pub(in crate::detection) fn heap_bytes(&self) -> usize {
        heap::tree(self.all.len(), size_of::<(Key, Arc<Peer>)>())
            + self.all.len() * heap::shared(size_of::<Peer>())
            + self.claims * Bounded::<Claim>::ENTRY * 2
            + self.lives.heap_bytes()
    }

    /// Adds a peer as it was.
    pub(in crate::detection) fn restore(&mut self, key: Key, peer: Peer) {
        self.claims += peer.claims.len();
        self.all.insert(key, Arc::new(peer));
    }

    /// Takes a request whose address this peer has handed over.
    pub(in crate::detection) fn observe(
        &mut self,
        hit: &Arrived<'_>,
        peer: Octets,
        (needs, found): (&Needs, &Found),
        name: impl Fn(&Network) -> u128,
    ) {
        let key = Key {
            cluster: hit.cluster,
            octets: peer,
        };
        let agent = hit.fields.texts.get(AuditField::UserAgent);
        let agent = agent_of(agent.unwrap_or_default());
        self.keep(key, hit, agent, needs);
        let network = Network::of(hit.cluster, peer, 128);
        if self.lives.get(&network).is_none() {
            self.lives
                .insert(network, Life::new(hit.place), &needs.pace);
        }
        let Some(of) = self.all.get(&key) else {
            return;
        };
        // Many claims are looked at once for several requests: each costs the same then.
        let is_turn = of.claims.len() <= AT_ONCE || of.requests.is_multiple_of(AT_ONCE as u64);
        let end = if is_turn { of.end(hit, needs) } else { 0 };
        let seen = is_turn.then(|| of.seen((hit, end), agent, (needs, found)));
        let opens = seen.is_some_and(|seen| {
            let is_lone = of.is_lone(hit.place.0) && seen.claims == 1 && seen.found == 1;
            seen.qualifies(needs) || is_lone
        });
        let claims: Vec<Claim> = match self.lives.get(&network) {
            Some(life) if opens && !life.is_open() => of.in_window(end, needs).copied().collect(),
            _ => Vec::new(),
        };
        self.lives.change(&network, &needs.pace, |life| {
            life.wake(hit.place);
            life.add(hit);
            if life.is_open() {
                life.members.add(hit.octets, 1);
            } else if opens {
                life.open(hit, name(&network));
                let mut count = 0;
                for claim in claims {
                    let key = Key {
                        octets: claim.octets,
                        ..key
                    };
                    count += u64::from(claim.count);
                    let member = life.members.add(claim.octets, claim.count.into());
                    let sent = found.get(&key).filter(|finding| !finding.is_listed);
                    member.finding = sent.map(|finding| finding.id);
                }
                life.count = life.count.max(count);
            }
            if let Some(seen) = seen.filter(|_| life.is_open()) {
                let (severity, reason) = seen.severity(needs);
                life.raise(severity, || reason.to_owned());
            }
        });
    }

    fn keep(&mut self, key: Key, hit: &Arrived<'_>, agent: u32, needs: &Needs) {
        let slot = needs.slots.slot(hit.place.0);
        if self.all.len() >= MOST_PEERS && !self.all.contains_key(&key) {
            let oldest = self.all.iter().min_by_key(|(key, peer)| (peer.last, **key));
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.remove(oldest);
            }
        }
        let peer = Arc::make_mut(self.all.entry(key).or_default());
        if peer.last.is_some() && peer.last_claim != hit.octets {
            peer.shared_at = peer.shared_at.max(Some(hit.place.0));
        }
        peer.last_claim = hit.octets;
        peer.last = peer.last.max(Some(hit.place.0));
        peer.requests += 1;
        let before = peer.claims.len();
        let path = slow::path_of(hit) % 64;
        let new = Claim {
            octets: hit.octets,
            ring: Ring {
                newest: slot,
                ..Ring::default()
            },
            count: 0,
            agent,
            paths: 0,
        };
        peer.claims.change(new, slot, |claim| {
            claim.ring.add(slot);
            claim.count = claim.count.saturating_add(1);
            claim.paths |= 1 << path;
        });
        self.claims = (self.claims + peer.claims.len()).saturating_sub(before);
    }

    fn remove(&mut self, key: Key) {
        if let Some(peer) = self.all.remove(&key) {
            self.claims = self.claims.saturating_sub(peer.claims.len());
        }
    }

    /// Links the open finding of a peer with one of a claim; its id.
    pub(in crate::detection) fn relate(
        &mut self,
        (peer, claim): (Key, Octets),
        id: u128,
        pace: &Pace,
    ) -> Option<u128> {
        let network = Network::of(peer.cluster, peer.octets, 128);
        self.lives.get(&network).filter(|life| life.is_open())?;
        self.lives.change(&network, pace, |life| {
            life.relate(id);
            if let Some(member) = life.members.kept.get_mut(&claim) {
                member.finding = Some(id);
            }
            life.id
        })
    }

    /// Removes the peers of a cluster that is gone.
    pub(in crate::detection) fn remove_cluster(&mut self, cluster: u32) {
        let first = Key {
            cluster,
            octets: Octets::default(),
        };
        while let Some((key, _)) = self.all.range(first..).next()
            && key.cluster == cluster
        {
            let key = *key;
            self.remove(key);
        }
    }
}

impl Peer {
    /// Whether it has handed over one address alone for as long as it is remembered.
    fn is_lone(&self, now: Micros) -> bool {
        self.shared_at.is_none_or(|at| at.plus(MEMORY) < now)
    }

    /// The end of the window with most claims that holds a request, which may have come late.
    fn end(&self, hit: &Arrived<'_>, needs: &Needs) -> u32 {
        let slot = needs.slots.slot(hit.place.0);
        let newest = self
            .claims
            .as_slice()
            .iter()
            .map(|claim| claim.ring.newest)
            .max();
        let ends = needs.slots.ends(slot, newest.unwrap_or(slot));
        let most = ends.max_by_key(|end| {
            let sums = self
                .claims
                .as_slice()
                .iter()
                .map(|claim| claim.ring.sum(*end, &needs.slots));
            sums.fold((0_u64, 0_u64), |(claims, requests), sum| {
                (claims + u64::from(sum > 0), requests + sum)
            })
        });
        most.unwrap_or(slot)
    }

    fn in_window<'a>(&'a self, end: u32, needs: &'a Needs) -> impl Iterator<Item = &'a Claim> + 'a {
        let inside = self.claims.as_slice().iter();
        inside.filter(move |claim| claim.ring.sum(end, &needs.slots) > 0)
    }

    fn seen(
        &self,
        (hit, end): (&Arrived<'_>, u32),
        agent: u32,
        (needs, found): (&Needs, &Found),
    ) -> Seen {
        let mut seen = Seen::default();
        let (mut paths, mut agents) = (0, Vec::new());
        for claim in self.in_window(end, needs) {
            let key = Key {
                cluster: hit.cluster,
                octets: claim.octets,
            };
            seen.claims += 1;
            seen.requests += claim.ring.sum(end, &needs.slots);
            seen.found += u64::from(found.get(&key).is_some());
            seen.same_agent += u64::from(claim.agent == agent);
            seen.paths_of_claims += estimate(claim.paths);
            paths |= claim.paths;
            agents.push(claim.agent);
        }
        agents.sort_unstable();
        agents.dedup();
        seen.agents = agents.len() as u64;
        seen.paths = estimate(paths);
        seen
    }
}

impl Seen {
    fn qualifies(&self, needs: &Needs) -> bool {
        let are_many = self.claims > needs.claims && self.requests > needs.requests;
        are_many && (self.found == 0 || self.share_agent() && self.share_paths())
    }

    fn share_agent(&self) -> bool {
        self.same_agent * 100 >= self.claims * SHARED
    }

    /// Whether claims ask for the same paths, or divide a list of many.
    fn share_paths(&self) -> bool {
        self.paths >= MANY_PATHS || self.paths_of_claims * 2 >= self.paths * self.claims
    }

    /// How bad it is, and why.
    fn severity(&self, needs: &Needs) -> (Severity, &'static str) {
        if self.claims <= needs.claims {
            return (
                Severity::Informational,
                "The peer has handed over this address alone: the address is the word of the peer.",
            );
        }
        match (self.paths >= MANY_PATHS, self.agents * 2 >= self.claims) {
            (true, false) => (
                Severity::Medium,
                "The claims ask for many distinct paths, as one client does that changes its claim.",
            ),
            (true, true) => (
                Severity::Low,
                "Many distinct paths, but about as many user agents as addresses.",
            ),
            (false, true) => (
                Severity::Informational,
                "Few paths, and about as many user agents as addresses: as clients behind a proxy.",
            ),
            (false, false) => (
                Severity::Low,
                "The claims share a user agent and ask for few paths.",
            ),
        }
    }
}

/// Distinct paths behind the bits of their hashes.
fn estimate(paths: u64) -> u64 {
    let bits = f64::from(u64::BITS);
    let empty = f64::from(paths.count_zeros().max(1));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small count"
    )]
    let count = (bits * (bits / empty).ln()).round() as u64;
    count
}

fn agent_of(agent: &str) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "a hash")]
    let agent = slow::hash(agent) as u32;
    agent
}

/// The peer of a request.
pub(in crate::detection) fn peer_of(hit: &Arrived<'_>) -> Option<Octets> {
    key::read(hit.fields.texts.get(AuditField::Peers)?)
}
