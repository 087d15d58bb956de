//! Findings of single addresses and those that are derived from several, linked with each other.

use super::{
    State, Tables,
    found::{self, Found},
    key::{self, Cluster, Key},
    life,
    program::Setup,
};
use crate::{
    detection::emission::Emission,
    finding::{FindingState, Severity},
    rules::model::Over,
};

impl State {
    /// Takes the findings that the engine has appended to a list from this place on: links those
    /// of the detections behind with derived ones, and removes those that are only listed there.
    pub(in crate::detection) fn link(
        &mut self,
        setup: &Setup,
        from: usize,
        out: &mut Vec<Emission>,
    ) {
        if from >= out.len() || setup.programs.is_empty() {
            return;
        }
        let emissions = out.split_off(from);
        for mut emission in emissions {
            let source = setup.programs.iter().find(|program| {
                let derivation = program.rule.derivation.as_ref();
                derivation.is_some_and(|derivation| emission.detection.is_source_of(derivation))
            });
            let is_sent = match source.map(|program| program.source) {
                Some(source) => self.link_one(setup, source, &mut emission),
                None => true,
            };
            if is_sent {
                out.push(emission);
            }
        }
    }

    /// Links one; whether it is to be sent.
    fn link_one(&mut self, setup: &Setup, source: usize, emission: &mut Emission) -> bool {
        let finding = &mut emission.finding;
        let Some((octets, id)) = key::read(&finding.src_ip).zip(life::number(&finding.finding_id))
        else {
            return true;
        };
        let cluster = self.number(&finding.cluster);
        let key = Key { cluster, octets };
        let severity = finding.severity();
        let has_succeeded = severity == Some(Severity::Critical) || !finding.outcome.is_empty();
        let (state, peers) = (emission.state, finding.peers.clone());
        let known = self
            .found(cluster, source)
            .and_then(|found| found.get(&key).copied());
        let known = known.filter(|known| known.id == id);
        let mut is_listed = known.is_some_and(|known| known.is_listed);
        for program in setup.of_source(source) {
            let related = match (self.tables.get_mut(&program.detection), program.over) {
                (Some(Tables::Prefix(rollup)), Over::Prefix { .. }) => {
                    let mut around: Vec<_> = rollup.open_around(cluster, octets).collect();
                    // Clients of a system know nothing of each other: its finding replaces none.
                    if known.is_none() && state == FindingState::Opened {
                        let mut lives = around.iter().filter_map(|one| rollup.lives.get(one));
                        is_listed = lives.any(|life| life.related.len() >= life::SINGLES);
                    }
                    let member = setup.in_system(octets);
                    let system = member.map(|member| rollup.open_around(cluster, member));
                    around.extend(system.into_iter().flatten().collect::<Vec<_>>());
                    for network in &around {
                        rollup.lives.change(network, &program.pace, |life| {
                            let octets = member.filter(|one| network.contains(*one));
                            let severity = severity.filter(|_| octets.is_none());
                            let octets = octets.unwrap_or(key.octets);
                            let key = Key { octets, ..key };
                            take_member(life, (key, id), severity, is_listed);
                            if is_listed && known.is_none() {
                                life.list(key.octets);
                            }
                        });
                    }
                    let first = around.first().and_then(|one| rollup.lives.get(one));
                    first.map(|life| life.id)
                }
                (Some(Tables::Address(slow)), Over::Address { .. }) => {
                    if state == FindingState::Opened {
                        slow.forget(key);
                    }
                    slow.relate(key, id, &program.pace)
                }
                (Some(Tables::Peer(all)), Over::Peer { .. }) => {
                    let peers = peers.iter().filter_map(|peer| key::read(peer));
                    let related = peers.filter_map(|octets| {
                        let peer = Key { cluster, octets };
                        all.relate((peer, key.octets), id, &program.pace)
                    });
                    related.last()
                }
                _ => None,
            };
            if let Some(related) = related.map(life::hex)
                && !finding.related.contains(&related)
            {
                finding.related.push(related);
            }
        }
        is_listed &= !has_succeeded;
        let finding = found::Finding { id, is_listed };
        if let Some(found) = self.found(cluster, source) {
            let before = found.0.len();
            match state {
                FindingState::Closed => found.0.remove(&key),
                FindingState::Opened | FindingState::Updated => found.0.insert(key, finding),
            };
            let now = found.0.len();
            self.found = (self.found + now).saturating_sub(before);
        }
        !is_listed
    }

    fn found(&mut self, cluster: Cluster, source: usize) -> Option<&mut Found> {
        let state = self.clusters.get_mut(&cluster)?;
        Some(state.found.entry(source).or_default())
    }
}

/// Notes in the finding of a network that one of its addresses has a finding.
fn take_member(
    life: &mut life::Life,
    (key, id): (Key, u128),
    severity: Option<Severity>,
    is_listed: bool,
) {
    if !is_listed {
        life.relate(id);
        if let Some(member) = life.members.kept.get_mut(&key.octets) {
            member.finding = Some(id);
        }
    }
    if let Some(severity) = severity.filter(|severity| *severity > Severity::Medium) {
        life.raise(severity, || {
            let address = key::text(key.octets, 128);
            format!(
                "The finding of {address} has severity {}.",
                severity.as_str()
            )
        });
    }
}
