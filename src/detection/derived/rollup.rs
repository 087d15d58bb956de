//! Networks whose addresses share a scan: IPv4 by 24 bits; IPv6 by 64, 56 and 48; and autonomous
//! systems, where a database knows them.
//!
//! Addresses are kept by their widest network (a site), so that the narrower ones are parts of one
//! sorted list. The most specific network that qualifies opens a finding. A wider one opens only
//! if addresses in several narrower ones make it: all of a network that has a finding of its own
//! count there as one, and their requests not at all, unless there are enough such networks.

use super::{
    bounded::{Bounded, Weighed},
    found::Found,
    key::{self, Key, MAPPED, Network, Octets},
    life::{Arrived, Life, Pace},
    lives::Lives,
    ring::{Ring, Slots},
    table::{Bounds, Entry, Table},
};
use crate::{audit::time::Micros, detection::heap, finding::Severity, rules::settings::SECOND};

/// Why the finding of a system is no worse.
const UNRELATED: &str = "Clients of one autonomous system may know nothing of each other: read members and user agents.";
/// Bits of the networks that are looked at, of 128, the most specific first.
const V4: [u8; 1] = [MAPPED + 24];
const V6: [u8; 3] = [64, 56, 48];
/// An autonomous system has members of its own form ([`key::in_system`]). Its parts are IPv4 /24 and
/// IPv6 /56.
const SYSTEM: [u8; 1] = [key::SYSTEM_BITS];
const SYSTEM_PART: u8 = key::SYSTEM_BITS + 56;
/// With more addresses than this, those of a system are looked at when one of them is new or has
/// twice as many requests: a large system costs no more than others then.
const AT_ONCE: usize = 16;
/// A system needs this many times the addresses of another network: many of its clients know nothing of
/// each other.
const SYSTEM_ADDRESSES: u64 = 4;
/// Evidence is gathered from this many addresses on.
const GATHER: u64 = 2;
/// Findings of narrower networks that are sent beside the one of a wider network.
const NARROWER: usize = 5;

/// An address of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detection) struct Address {
    pub(in crate::detection) octets: Octets,
    pub(in crate::detection) ring: Ring,
    /// Its requests since it was kept.
    pub(in crate::detection) count: u32,
    /// The second of the first of them, since 1970.
    pub(in crate::detection) first: u32,
}

impl Weighed for Address {
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

/// Addresses of a network of 24 (IPv4) or 48 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::detection) struct Site {
    pub(in crate::detection) cluster: u32,
    pub(in crate::detection) addresses: Addresses,
}

/// Addresses in order: one as a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::detection) enum Addresses {
    One(Address),
    Many(Box<Bounded<Address>>),
}

impl Addresses {
    pub(in crate::detection) fn as_slice(&self) -> &[Address] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many.as_slice(),
        }
    }

    /// Addresses that are a site's, in order.
    pub(in crate::detection) fn of(all: Vec<Address>) -> Option<Self> {
        match all.as_slice() {
            [] => None,
            [one] => Some(Self::One(*one)),
            _ => Some(Self::Many(Box::new(Bounded::of(all)?))),
        }
    }
}

impl Entry for Site {
    fn key(&self) -> Key {
        let first = self.addresses.as_slice().first();
        let octets = first.map_or(Octets::default(), |address| address.octets);
        site_of(self.cluster, octets).key()
    }

    fn is(&self, key: Key) -> bool {
        // Nearly all others are told by a look at two addresses.
        let first = self.addresses.as_slice().first();
        let room = if key::is_v4(key.octets) {
            1 << 8
        } else {
            1 << 80
        };
        let is_near = |first: &Address| {
            u128::from_be_bytes(first.octets) ^ u128::from_be_bytes(key.octets) < room
        };
        first.is_some_and(is_near) && self.key() == key
    }

    fn cluster(&self) -> u32 {
        self.cluster
    }

    /// By addresses, by requests, by time.
    fn strength(&self) -> (u64, u64, u64) {
        let all = self.addresses.as_slice();
        let requests = all.iter().map(|address| u64::from(address.count)).sum();
        let newest = all.iter().map(|address| address.ring.newest).max();
        (
            all.len() as u64,
            requests,
            newest.unwrap_or_default().into(),
        )
    }

    fn heap_bytes(&self) -> usize {
        match &self.addresses {
            Addresses::One(_) => 0,
            Addresses::Many(many) => heap::block(size_of::<Bounded<Address>>()) + many.heap_bytes(),
        }
    }
}

/// The widest network of an address.
fn site_of(cluster: u32, octets: Octets) -> Network {
    let bits = levels(octets).last().copied().unwrap_or_default();
    Network::of(cluster, octets, bits)
}

fn levels(octets: Octets) -> &'static [u8] {
    match key::system(octets) {
        Some(_) => &SYSTEM,
        None if key::is_v4(octets) => &V4,
        None => &V6,
    }
}

/// Bits of the parts of a network that has some, the one at this place of the levels of an address.
fn part(octets: Octets, at: usize) -> Option<u8> {
    if key::system(octets).is_some() {
        return Some(SYSTEM_PART);
    }
    levels(octets).get(at.checked_sub(1)?).copied()
}

/// What makes a network qualify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detection) struct Needs {
    /// More addresses than this.
    pub(in crate::detection) addresses: u64,
    /// With more requests than this.
    pub(in crate::detection) requests: u64,
    pub(in crate::detection) slots: Slots,
    pub(in crate::detection) pace: Pace,
    pub(in crate::detection) table: Bounds,
}

/// What a window of a network holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    addresses: u64,
    requests: u64,
    /// Networks of the next narrower kind that the addresses are in.
    parts: u64,
    /// Those with a finding of their own.
    open: u64,
}

/// The networks of all clusters.
#[derive(Clone, Debug, Default)]
pub(in crate::detection) struct Rollup {
    pub(in crate::detection) sites: Table<Site>,
    pub(in crate::detection) lives: Lives,
}

impl Rollup {
    pub(in crate::detection) fn heap_bytes(&self) -> usize {
        self.sites.heap_bytes() + self.lives.heap_bytes()
    }

    /// Takes a request of an address. `name` makes the id of a finding that opens.
    pub(in crate::detection) fn observe(
        &mut self,
        hit: &Arrived<'_>,
        needs: &Needs,
        found: &Found,
        name: impl Fn(&Network) -> u128,
    ) {
        self.keep(hit, needs);
        let (mut is_gathered, mut narrower_is_open) = (false, false);
        for (at, bits) in levels(hit.octets).iter().enumerate() {
            let network = Network::of(hit.cluster, hit.octets, *bits);
            if self.lives.is_open(&network) {
                self.lives.change(&network, &needs.pace, |life| {
                    life.add(hit);
                    life.members.add(hit.octets, 1);
                });
                (is_gathered, narrower_is_open) = (true, true);
                continue;
            }
            if narrower_is_open {
                continue;
            }
            let part = part(hit.octets, at);
            let seen = self.seen(&network, part, (hit.octets, hit.place.0), needs);
            let is_spread = part.is_none() || seen.parts > 1;
            if !is_gathered && is_spread && seen.addresses >= GATHER {
                is_gathered = true;
                self.gather(&network, hit, needs);
            }
            let least = match key::system(network.first) {
                Some(_) => needs.addresses.saturating_mul(SYSTEM_ADDRESSES),
                None => needs.addresses,
            };
            let are_enough = seen.requests > needs.requests || seen.open > least;
            if seen.addresses > least && are_enough && is_spread && !self.is_listed(&network) {
                narrower_is_open = true;
                self.open(&network, hit, needs, (found, name(&network)));
            }
        }
    }

    /// Counts the request for its address.
    fn keep(&mut self, hit: &Arrived<'_>, needs: &Needs) {
        let slot = needs.slots.slot(hit.place.0);
        let second = hit.place.0.0.div_euclid(SECOND).max(0);
        let new = Address {
            octets: hit.octets,
            ring: Ring {
                newest: slot,
                ..Ring::default()
            },
            count: 0,
            first: u32::try_from(second).unwrap_or(u32::MAX),
        };
        let site = site_of(hit.cluster, hit.octets);
        let kept = self.sites.change(site.key(), |site| {
            count(&mut site.addresses, new, slot);
        });
        if kept.is_none() {
            let mut addresses = Addresses::One(new);
            count(&mut addresses, new, slot);
            let site = Site {
                cluster: hit.cluster,
                addresses,
            };
            self.sites.insert(site, needs.table);
        }
    }

    /// The most that a window with this time holds.
    fn seen(
        &self,
        network: &Network,
        part: Option<u8>,
        (octets, time): (Octets, Micros),
        needs: &Needs,
    ) -> Seen {
        let site = site_of(network.cluster, network.first);
        let Some(site) = self.sites.get(site.key()) else {
            return Seen::default();
        };
        let all = site.addresses.as_slice();
        let from = all.partition_point(|address| address.octets < network.first);
        let inside = all.get(from..).unwrap_or_default();
        let inside = inside
            .get(..inside.partition_point(|address| network.contains(address.octets)))
            .unwrap_or_default();
        let newest = inside.iter().map(|address| address.ring.newest).max();
        let slot = needs.slots.slot(time);
        let open: Vec<Network> = match part {
            Some(_) if key::system(octets).is_some() => {
                let own = inside.iter().find(|address| address.octets == octets);
                let is_turn = own.is_some_and(|own| own.count.is_power_of_two());
                if inside.len() > AT_ONCE && !is_turn {
                    return Seen::default();
                }
                let parts = self.open_parts(network.cluster, inside);
                outermost(parts.map(|(part, _)| part))
            }
            Some(_) => outermost(self.lives.open_in(*network).copied()),
            None => Vec::new(),
        };
        let ends = needs.slots.ends(slot, newest.unwrap_or(slot));
        let seen = ends.map(|end| window(inside, &open, (end, part), needs));
        seen.max().unwrap_or_default()
    }

    /// The networks with open findings that members of a system are in: each as a part of the system,
    /// in order, and as itself.
    fn open_parts<'a>(
        &'a self,
        cluster: u32,
        members: &'a [Address],
    ) -> impl Iterator<Item = (Network, Network)> + 'a {
        members.iter().filter_map(move |one| {
            let address = key::member(one.octets);
            // The widest of them.
            let mut wider = levels(address).iter().rev();
            let network = wider.find_map(|bits| {
                let network = Network::of(cluster, address, *bits);
                self.lives.is_open(&network).then_some(network)
            })?;
            let bits = if key::is_v4(address) {
                SYSTEM_PART
            } else {
                key::SYSTEM_BITS + network.bits
            };
            Some((Network::of(cluster, one.octets, bits), network))
        })
    }

    fn gather(&mut self, network: &Network, hit: &Arrived<'_>, needs: &Needs) {
        if self.lives.get(network).is_none() {
            self.lives
                .insert(*network, Life::new(hit.place), &needs.pace);
        }
        self.lives.change(network, &needs.pace, |life| {
            life.wake(hit.place);
            life.add(hit);
        });
    }

    /// Whether a network is only listed in the finding of a wider one, which has enough others.
    fn is_listed(&self, network: &Network) -> bool {
        let wider = levels(network.first)
            .iter()
            .filter(|bits| **bits < network.bits);
        wider.copied().any(|bits| {
            let wider = Network::of(network.cluster, network.first, bits);
            let is_open = self.lives.is_open(&wider);
            is_open && self.lives.open_in(wider).take(NARROWER).count() >= NARROWER
        })
    }

    fn open(
        &mut self,
        network: &Network,
        hit: &Arrived<'_>,
        needs: &Needs,
        (found, id): (&Found, u128),
    ) {
        if self.lives.get(network).is_none() {
            self.gather(network, hit, needs);
        }
        let site = site_of(network.cluster, network.first);
        let kept = self.sites.get(site.key());
        let slot = needs.slots.slot(hit.place.0);
        let kept = kept.into_iter().flat_map(|site| site.addresses.as_slice());
        let kept = kept.filter(|one| network.contains(one.octets) && !one.ring.is_over(slot));
        let members: Vec<Address> = kept.copied().collect();
        let is_system = key::system(network.first).is_some();
        let inside: Vec<Network> = if is_system {
            let parts = self.open_parts(network.cluster, &members);
            parts.map(|(_, network)| network).collect()
        } else {
            self.lives.open_in(*network).copied().collect()
        };
        let narrower = inside
            .iter()
            .filter_map(|network| Some(self.lives.get(network)?.id));
        let narrower: Vec<u128> = narrower.collect();
        self.lives.change(network, &needs.pace, |life| {
            let mut count = 0;
            for one in &members {
                count += u64::from(one.count);
                let key = Key {
                    cluster: network.cluster,
                    octets: key::member(one.octets),
                };
                let member = life.members.add(one.octets, u64::from(one.count));
                let sent = found.get(&key).filter(|finding| !finding.is_listed);
                member.finding = sent.map(|finding| finding.id);
                if let Some(id) = member.finding.filter(|_| is_system) {
                    life.relate(id);
                }
                life.first = life
                    .first
                    .min(Micros(i64::from(one.first).saturating_mul(SECOND)));
            }
            life.count = life.count.max(count);
            for id in narrower {
                life.relate(id);
            }
            for id in found.sent_in(network, super::life::SINGLES) {
                life.relate(id);
            }
            if is_system {
                life.raise(Severity::Low, || UNRELATED.to_owned());
            }
            life.open(hit, id);
        });
        let wider = levels(hit.octets)
            .iter()
            .filter(|bits| **bits < network.bits);
        for bits in wider {
            let wider = Network::of(hit.cluster, hit.octets, *bits);
            if self.lives.is_open(&wider) {
                self.lives
                    .change(&wider, &needs.pace, |life| life.relate(id));
            }
        }
    }

    /// The open findings of networks that an address is in, the most specific first.
    pub(in crate::detection) fn open_around(
        &self,
        cluster: u32,
        octets: Octets,
    ) -> impl Iterator<Item = Network> + '_ {
        let networks = levels(octets).iter();
        let networks = networks.map(move |bits| Network::of(cluster, octets, *bits));
        networks.filter(|network| self.lives.is_open(network))
    }

    /// Removes some of the sites that no request can meet any more.
    pub(in crate::detection) fn sweep(
        &mut self,
        slots: &Slots,
        bounds: Bounds,
        now: impl Fn(u32) -> Option<Micros>,
    ) {
        self.sites.sweep(bounds, |site| {
            let newest = site.addresses.as_slice().iter();
            let newest = newest.max_by_key(|address| address.ring.newest);
            now(site.cluster).is_none_or(|now| {
                newest.is_none_or(|address| address.ring.is_over(slots.slot(now)))
            })
        });
    }
}

/// Counts a request for an address, which is `new` if it is not kept yet.
fn count(addresses: &mut Addresses, new: Address, slot: u32) {
    let add = |address: &mut Address| {
        if address.ring.is_over(slot) {
            (address.count, address.first) = (0, new.first);
        }
        address.ring.add(slot);
        address.count = address.count.saturating_add(1);
        address.first = address.first.min(new.first);
    };
    match addresses {
        Addresses::One(one) if one.octets == new.octets => add(one),
        Addresses::One(one) => {
            let mut many = Bounded::default();
            many.change(*one, slot, |_| {});
            many.change(new, slot, add);
            *addresses = Addresses::Many(Box::new(many));
        }
        Addresses::Many(many) => many.change(new, slot, add),
    }
}

/// Of networks in order those that are in no other.
fn outermost(networks: impl Iterator<Item = Network>) -> Vec<Network> {
    let mut kept: Vec<Network> = Vec::new();
    for network in networks {
        if !kept.last().is_some_and(|last| last.contains(network.first)) {
            kept.push(network);
        }
    }
    kept
}

/// What the window with this last slot holds of addresses. Those of networks that are open count
/// as one for each network. Both are in order, and none of the networks is in another.
fn window(
    addresses: &[Address],
    open: &[Network],
    (end, part): (u32, Option<u8>),
    needs: &Needs,
) -> Seen {
    let mut seen = Seen::default();
    let (mut last_part, mut last_open) = (None, None);
    let mut open = open.iter().peekable();
    for address in addresses {
        let requests = address.ring.sum(end, &needs.slots);
        if requests == 0 {
            continue;
        }
        while open
            .next_if(|network| network.last() < address.octets)
            .is_some()
        {}
        let network = open.peek().copied();
        match network.filter(|network| network.contains(address.octets)) {
            Some(network) if last_open == Some(*network) => {}
            Some(network) => {
                last_open = Some(*network);
                seen.addresses += 1;
                seen.open += 1;
            }
            None => {
                seen.addresses += 1;
                seen.requests += requests;
            }
        }
        if let Some(bits) = part {
            let part = Network::of(0, address.octets, bits);
            if last_part != Some(part) {
                last_part = Some(part);
                seen.parts += 1;
            }
        }
    }
    seen
}
