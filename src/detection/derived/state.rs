//! The state of derived detections as messages of `proto/auditwatch/v1/state.proto`.
//!
//! What follows from the rest is made anew: the order in which entries give way, when something is
//! due, and bytes on the heap.

use std::sync::Arc;

use prost::Message;

use super::{
    ClusterState, State, Tables,
    bounded::Bounded,
    found::{self, Found},
    key::{Key, Network, Octets},
    life::{Life, Sent, Stage},
    lives::Lives,
    members::{Member, Members, Sketch},
    peers::{Claim, Peer, Peers},
    ring::Ring,
    rollup::{Address, Addresses, Rollup, Site},
    slow::{self, Slow},
    table::Table,
};
use crate::{
    detection::{
        event_time::EventTime,
        evidence::{Evidence, Paths},
        input::{hit_entry, read_hit},
        pieces::{apart, apart_each, field, nested},
        wire::{StateError, micros, place, read_place, time},
    },
    finding::Severity,
    proto::state as proto,
};

impl State {
    /// Whether there is nothing to write.
    pub(in crate::detection) fn is_empty(&self) -> bool {
        self.next == 0
    }

    /// Adds it as it is written into the state of the engine, table by table.
    pub(in crate::detection) fn write(&self, out: &mut Vec<u8>) {
        let clusters = self.clusters.iter().map(|(number, cluster)| {
            let found = cluster.found.iter().flat_map(|(detection, found)| {
                found.0.iter().map(|(key, finding)| proto::FoundState {
                    detection: u32::try_from(*detection).unwrap_or(u32::MAX),
                    address: key.octets.to_vec(),
                    id: finding.id.to_be_bytes().to_vec(),
                    is_listed: finding.is_listed,
                })
            });
            proto::DerivedCluster {
                number: *number,
                name: cluster.name.as_ref().to_owned(),
                max_event_time: time(cluster.event_time.max),
                watermark: time(cluster.event_time.watermark),
                closing_watermark: time(cluster.event_time.closing_watermark),
                is_busy: cluster.event_time.is_busy,
                found: found.collect(),
            }
        });
        for (detection, tables) in &self.tables {
            nested(DETECTIONS, out, |out| {
                write_detection(*detection, tables, out);
            });
        }
        let held = self.held.all().map(|(number, hit)| {
            let mut held = hit_entry(hit);
            // Under the name by which the cluster is known here, which may be a cut one.
            if let Some(cluster) = self.clusters.get(&number) {
                cluster.name.as_ref().clone_into(&mut held.cluster);
            }
            held
        });
        let rest = proto::DerivedState {
            next: self.next,
            clusters: clusters.collect(),
            detections: Vec::new(),
            held: held.collect(),
        };
        out.extend(rest.encode_to_vec());
    }

    /// As it is read from the state of an engine.
    pub(in crate::detection) fn read(bytes: &[u8]) -> Result<Self, StateError> {
        let (rest, detections) = apart(bytes, DETECTIONS)?;
        let state = proto::DerivedState::decode(rest.as_slice())?;
        let mut read = Self {
            next: state.next,
            ..Self::default()
        };
        for cluster in state.clusters {
            let name: Arc<str> = Arc::from(cluster.name);
            let mut of = ClusterState {
                name: Arc::clone(&name),
                event_time: EventTime {
                    max: micros(cluster.max_event_time),
                    watermark: micros(cluster.watermark),
                    closing_watermark: micros(cluster.closing_watermark),
                    is_busy: cluster.is_busy,
                },
                found: std::collections::BTreeMap::new(),
            };
            read.found += cluster.found.len();
            for finding in cluster.found {
                let key = Key {
                    cluster: cluster.number,
                    octets: octets(&finding.address)?,
                };
                let id = u128::from_be_bytes(octets(&finding.id)?);
                let is_listed = finding.is_listed;
                let found: &mut Found = of.found.entry(finding.detection as usize).or_default();
                found.0.insert(key, found::Finding { id, is_listed });
            }
            read.numbers.insert(name, cluster.number);
            read.clusters.insert(cluster.number, of);
        }
        for detection in detections {
            let (at, tables) = read_detection(detection)?;
            read.tables.insert(at, tables);
        }
        for hit in state.held {
            let hit = read_hit(hit).map_err(|_| StateError::Invalid("held request"))?;
            if let Some(number) = read.numbers.get(&hit.cluster) {
                drop(read.held.hold(*number, hit, usize::MAX));
            }
        }
        Ok(read)
    }
}

/// Exactly as many bytes as are wanted.
fn array<const LENGTH: usize>(bytes: &[u8]) -> Result<[u8; LENGTH], StateError> {
    bytes
        .try_into()
        .map_err(|_| StateError::Invalid("the length of a value"))
}

fn octets(bytes: &[u8]) -> Result<Octets, StateError> {
    array(bytes)
}

fn id(id: Option<u128>) -> Vec<u8> {
    id.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default()
}

fn read_id(bytes: &[u8]) -> Result<Option<u128>, StateError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    Ok(Some(u128::from_be_bytes(octets(bytes)?)))
}

fn severity(severity: Option<Severity>) -> String {
    severity.map_or("", Severity::as_str).to_owned()
}

fn read_severity(text: &str) -> Result<Option<Severity>, StateError> {
    if text.is_empty() {
        return Ok(None);
    }
    let severity = text.parse().map_err(|_| StateError::Invalid("severity"))?;
    Ok(Some(severity))
}

fn number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Numbers of fields that are written and read in pieces.
const DETECTIONS: u32 = 3;
const SITES: u32 = 4;
const SLOW: u32 = 5;
const ENTRIES: u32 = 1;

fn write_detection(detection: usize, tables: &Tables, out: &mut Vec<u8>) {
    use proto::derived_detection::Tables as Written;
    let (buckets, sweep, written, lives) = match tables {
        Tables::Prefix(rollup) => {
            let (buckets, sweep, sites) = rollup.sites.parts();
            nested(SITES, out, |out| {
                for site in sites {
                    field(ENTRIES, &site_state(site), out);
                }
            });
            (buckets, sweep, None, &rollup.lives)
        }
        Tables::Address(slow) => {
            let (buckets, sweep, addresses) = slow.addresses.parts();
            nested(SLOW, out, |out| {
                for address in addresses {
                    field(ENTRIES, &slow_address(address), out);
                }
            });
            (buckets, sweep, None, &slow.lives)
        }
        Tables::Peer(peers) => {
            let all = peers.all.iter().map(|(key, peer)| peer_state(*key, peer));
            let all = proto::PeersState {
                peers: all.collect(),
            };
            (0, 0, Some(Written::Peers(all)), &peers.lives)
        }
    };
    let lives = lives
        .iter()
        .map(|(network, life)| life_state(network, life));
    let rest = proto::DerivedDetection {
        detection: number(detection),
        buckets: number(buckets),
        sweep: number(sweep),
        tables: written,
        lives: lives.collect(),
    };
    out.extend(rest.encode_to_vec());
}

fn read_detection(bytes: &[u8]) -> Result<(usize, Tables), StateError> {
    use proto::derived_detection::Tables as Written;
    let (rest, [sites, slow]) = apart_each(bytes, [SITES, SLOW])?;
    let state = proto::DerivedDetection::decode(rest.as_slice())?;
    let at = state.detection as usize;
    let (buckets, sweep) = (state.buckets as usize, state.sweep as usize);
    let mut lives = Lives::default();
    for life in state.lives {
        let (network, life) = read_life(life)?;
        lives.restore(network, life);
    }
    let tables = match (sites.as_slice(), slow.as_slice(), state.tables) {
        ([sites], [], None) => Tables::Prefix(Rollup {
            sites: Table::restored(buckets, sweep, entries(sites, read_site)?.into_iter()),
            lives,
        }),
        ([], [slow], None) => Tables::Address(Slow {
            addresses: Table::restored(
                buckets,
                sweep,
                entries(slow, read_slow_address)?.into_iter(),
            ),
            lives,
        }),
        ([], [], Some(Written::Peers(peers))) => {
            let mut all = Peers::default();
            all.lives = lives;
            for peer in &peers.peers {
                let (key, peer) = read_peer(peer)?;
                all.restore(key, peer);
            }
            Tables::Peer(all)
        }
        _ => return Err(StateError::Invalid("tables")),
    };
    Ok((at, tables))
}

/// The entries of a table, which may be a million.
fn entries<M: Message + Default, E>(
    table: &[u8],
    read: fn(&M) -> Result<E, StateError>,
) -> Result<Vec<E>, StateError> {
    let (_, entries) = apart(table, ENTRIES)?;
    let read = entries.into_iter().map(|entry| read(&M::decode(entry)?));
    read.collect()
}

fn site_state(site: &Site) -> proto::SiteState {
    proto::SiteState {
        cluster: site.cluster,
        addresses: site.addresses.as_slice().iter().map(trace).collect(),
    }
}

fn trace(address: &Address) -> proto::TraceState {
    proto::TraceState {
        address: address.octets.to_vec(),
        newest: address.ring.newest,
        counts: address.ring.counts.to_vec(),
        count: address.count,
        first: address.first,
        ..proto::TraceState::default()
    }
}

fn ring(trace: &proto::TraceState) -> Result<Ring, StateError> {
    Ok(Ring {
        newest: trace.newest,
        counts: array(&trace.counts)?,
    })
}

fn read_site(state: &proto::SiteState) -> Result<Site, StateError> {
    let addresses = state.addresses.iter().map(|trace| {
        Ok(Address {
            octets: octets(&trace.address)?,
            ring: ring(trace)?,
            count: trace.count,
            first: trace.first,
        })
    });
    let addresses = addresses.collect::<Result<Vec<_>, StateError>>()?;
    Ok(Site {
        cluster: state.cluster,
        addresses: Addresses::of(addresses).ok_or(StateError::Invalid("the order of addresses"))?,
    })
}

fn slow_address(address: &slow::Address) -> proto::SlowAddress {
    let [present, before] = address.paths;
    proto::SlowAddress {
        cluster: address.cluster,
        address: address.octets.to_vec(),
        hour: address.hour,
        hours: address.hours.to_vec(),
        days: address.days.to_vec(),
        paths: [present, before].concat(),
    }
}

fn read_slow_address(state: &proto::SlowAddress) -> Result<slow::Address, StateError> {
    let (sketches, rest) = state.paths.as_chunks::<6>();
    let &[present, before] = sketches else {
        return Err(StateError::Invalid("the length of a value"));
    };
    if !rest.is_empty() {
        return Err(StateError::Invalid("the length of a value"));
    }
    Ok(slow::Address {
        octets: octets(&state.address)?,
        cluster: state.cluster,
        hour: state.hour,
        hours: array(&state.hours)?,
        days: array(&state.days)?,
        paths: [present, before],
    })
}

fn peer_state(key: Key, peer: &Peer) -> proto::PeerState {
    let claims = peer
        .claims
        .as_slice()
        .iter()
        .map(|claim| proto::TraceState {
            address: claim.octets.to_vec(),
            newest: claim.ring.newest,
            counts: claim.ring.counts.to_vec(),
            count: claim.count,
            first: 0,
            agent: claim.agent,
            paths: claim.paths,
        });
    proto::PeerState {
        cluster: key.cluster,
        address: key.octets.to_vec(),
        claims: claims.collect(),
        last_claim: peer.last_claim.to_vec(),
        shared_at: peer.shared_at.and_then(time),
        last: peer.last.and_then(time),
        requests: peer.requests,
    }
}

fn read_peer(state: &proto::PeerState) -> Result<(Key, Peer), StateError> {
    let key = Key {
        cluster: state.cluster,
        octets: octets(&state.address)?,
    };
    let claims = state.claims.iter().map(|trace| {
        Ok(Claim {
            octets: octets(&trace.address)?,
            ring: ring(trace)?,
            count: trace.count,
            agent: trace.agent,
            paths: trace.paths,
        })
    });
    let claims = claims.collect::<Result<Vec<_>, StateError>>()?;
    let claims = Bounded::of(claims).ok_or(StateError::Invalid("the order of claims"))?;
    let peer = Peer {
        claims,
        last_claim: octets(&state.last_claim)?,
        shared_at: state.shared_at.map(crate::audit::time::Micros),
        last: state.last.map(crate::audit::time::Micros),
        requests: state.requests,
    };
    Ok((key, peer))
}

fn life_state(network: &Network, life: &Life) -> proto::LifeState {
    let members = life
        .members
        .kept
        .iter()
        .map(|(octets, member)| proto::MemberState {
            address: octets.to_vec(),
            count: member.count,
            finding: id(member.finding),
        });
    let stage = match life.stage {
        Stage::Closed => 0,
        Stage::Gathering => 1,
        Stage::Open => 2,
    };
    let sent = life.sent.map(|sent| proto::DerivedSentState {
        count: sent.count,
        members: sent.members,
        severity: severity(sent.severity),
        at: time(sent.at),
    });
    proto::LifeState {
        cluster: network.cluster,
        network: network.first.to_vec(),
        bits: network.bits.into(),
        stage,
        opening: place(life.opening),
        id: id(Some(life.id)),
        continues: id(life.continues),
        count: life.count,
        first: time(life.first),
        last: time(life.last),
        joined: time(life.joined),
        evidence: Some(life.evidence.to_state()),
        members: members.collect(),
        sketch: life
            .members
            .sketch
            .as_ref()
            .map_or_else(Vec::new, |sketch| sketch.registers().to_vec()),
        related: life
            .related
            .iter()
            .flat_map(|id| id.to_be_bytes())
            .collect(),
        values: life.values,
        severity: severity(life.severity),
        reasons: life.reasons.clone(),
        sent,
        is_changed: life.is_changed,
        has_listed: life.has_listed,
    }
}

fn read_life(state: proto::LifeState) -> Result<(Network, Life), StateError> {
    let network = Network {
        cluster: state.cluster,
        first: octets(&state.network)?,
        bits: u8::try_from(state.bits).map_err(|_| StateError::Invalid("bits of a network"))?,
    };
    let mut members = Members {
        sketch: Some(state.sketch)
            .filter(|registers| !registers.is_empty())
            .map(|registers| Box::new(Sketch::of(registers))),
        ..Members::default()
    };
    for member in state.members {
        let of = Member {
            count: member.count,
            finding: read_id(&member.finding)?,
        };
        members.kept.insert(octets(&member.address)?, of);
    }
    let (related, rest) = state.related.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(StateError::Invalid("the length of a value"));
    }
    let sent = state.sent.map(|sent| {
        Ok::<_, StateError>(Sent {
            count: sent.count,
            members: sent.members,
            severity: read_severity(&sent.severity)?,
            at: micros(sent.at),
        })
    });
    let life = Life {
        stage: match state.stage {
            0 => Stage::Closed,
            1 => Stage::Gathering,
            2 => Stage::Open,
            _ => return Err(StateError::Invalid("the stage of a finding")),
        },
        opening: read_place(state.opening)?,
        id: read_id(&state.id)?.unwrap_or_default(),
        continues: read_id(&state.continues)?,
        count: state.count,
        first: micros(state.first),
        last: micros(state.last),
        joined: micros(state.joined),
        evidence: Evidence::from_state(state.evidence.unwrap_or_default(), Paths::WithoutQuery)?,
        members,
        related: related.iter().copied().map(u128::from_be_bytes).collect(),
        values: state.values,
        severity: read_severity(&state.severity)?,
        reasons: state.reasons,
        sent: sent.transpose()?,
        is_changed: state.is_changed,
        has_listed: state.has_listed,
    };
    Ok((network, life))
}
