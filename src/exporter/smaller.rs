//! What to leave out of a finding that is too large for its receiver. Pure.
//!
//! The largest list loses the half that matters less, again and again, until enough is gone. So a
//! finding with one very long list keeps all others whole.

use crate::detection::{
    Finding, fields,
    finding::{Label, Member, Sample},
};

/// The finding without at least `bytes` bytes of what its lists hold, or without all of it.
/// `truncated` names the lists that were cut; nothing outside of lists changes. `None` when no list
/// has anything to leave out.
pub(super) fn without(finding: &Finding, bytes: usize) -> Option<Finding> {
    let mut smaller = finding.clone();
    let mut cut = std::mem::take(&mut smaller.truncated);
    let mut evidence = taken(&mut smaller);
    let mut gone = 0_usize;
    {
        let mut parts = parts(&mut smaller, &mut evidence);
        while gone < bytes.max(1) {
            let mut largest: Option<&mut Part<'_>> = None;
            for part in &mut parts {
                // Of equal ones the first.
                if largest.as_ref().is_none_or(|most| part.bytes > most.bytes) {
                    largest = Some(part);
                }
            }
            let Some(part) = largest.filter(|part| part.bytes > 0) else {
                break;
            };
            let left = part.list.halve();
            gone = gone.saturating_add(part.bytes.saturating_sub(left));
            part.bytes = left;
            if !cut.iter().any(|known| known == part.name) {
                cut.push(part.name.to_owned());
            }
        }
    }
    for (row, values) in evidence {
        if let Some(list) = smaller.list_mut(row.field) {
            *list = values;
        }
    }
    smaller.truncated = cut;
    (gone > 0).then_some(smaller)
}

/// The lists of evidence, taken out of the finding.
fn taken(finding: &mut Finding) -> Vec<(&'static fields::Row, Vec<String>)> {
    let rows = fields::TABLE.iter().filter(|row| row.list.is_some());
    rows.filter_map(|row| Some((row, std::mem::take(finding.list_mut(row.field)?))))
        .collect()
}

/// All lists of what requests said or did, in a fixed order. What the rule says, and why the
/// severity is what it is, stays.
fn parts<'a>(
    finding: &'a mut Finding,
    evidence: &'a mut [(&'static fields::Row, Vec<String>)],
) -> Vec<Part<'a>> {
    let evidence = evidence.iter_mut();
    let evidence = evidence.filter_map(|(row, values)| Some(Part::of(row.list?, values)));
    let mut parts: Vec<Part<'a>> = evidence.collect();
    parts.extend([
        Part::of("samples", &mut finding.samples),
        Part::of("successes", &mut finding.successes),
        Part::of("members", &mut finding.members),
        Part::of("labels", &mut finding.labels),
        Part::of("related", &mut finding.related),
    ]);
    if let Some(new) = &mut finding.new {
        parts.extend([
            Part::of("new.paths", &mut new.paths),
            Part::of("new.user_agents", &mut new.user_agents),
            Part::of("new.verbs", &mut new.verbs),
            Part::of("new.codes", &mut new.codes),
            Part::of("new.users", &mut new.users),
            Part::of("new.labels", &mut new.labels),
        ]);
    }
    parts
}

/// A list of a finding.
struct Part<'a> {
    name: &'static str,
    /// Bytes of its values, at least one for each.
    bytes: usize,
    list: &'a mut dyn List,
}

impl<'a> Part<'a> {
    fn of(name: &'static str, list: &'a mut dyn List) -> Self {
        Self {
            name,
            bytes: list.bytes(),
            list,
        }
    }
}

/// A list that can lose half of its values.
trait List {
    /// Bytes of its values, at least one for each.
    fn bytes(&self) -> usize;
    /// Leaves the first half of the values; how many bytes those have.
    fn halve(&mut self) -> usize;
}

impl<T: Value> List for Vec<T> {
    fn bytes(&self) -> usize {
        self.iter().map(|value| value.bytes() + 1).sum()
    }

    fn halve(&mut self) -> usize {
        self.truncate(self.len() / 2);
        self.bytes()
    }
}

/// What a list is made of.
trait Value {
    /// Bytes of its texts.
    fn bytes(&self) -> usize;
}

impl Value for String {
    fn bytes(&self) -> usize {
        self.len()
    }
}

impl Value for Sample {
    fn bytes(&self) -> usize {
        let Self {
            time: _,
            audit_id,
            stage,
            verb,
            path,
            code,
            user_agent,
            user,
        } = self;
        [audit_id, stage, verb, path, code, user_agent, user]
            .map(String::len)
            .iter()
            .sum()
    }
}

impl Value for Member {
    fn bytes(&self) -> usize {
        self.source.len() + self.finding_id.len()
    }
}

impl Value for Label {
    fn bytes(&self) -> usize {
        self.name.len() + self.title.len() + self.example.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::exporter::samples;

    #[test]
    fn all_that_requests_said_can_be_left_out_and_nothing_else() {
        let (message, full) = samples::full();
        let least = without(&full, usize::MAX).unwrap();
        assert_eq!(without(&least, 1), None, "nothing is left to leave out");
        // Lists that stay: what the rule says, and what is said about the finding.
        let stay: BTreeSet<_> = [
            "group_by",
            "matched_rules",
            "truncated",
            "false_positives",
            "references",
            "attack_techniques",
            "severity_reasons",
            "estimated",
        ]
        .into();
        let forms: serde_json::Value = serde_json::from_str(&least.to_json()).unwrap();
        let whole: serde_json::Value = serde_json::from_str(&full.to_json()).unwrap();
        for field in prost_reflect::ReflectMessage::descriptor(&message).fields() {
            let name = field.name();
            if field.is_list() && !stay.contains(name) {
                assert!(forms[name].is_null(), "{name} stays");
                let named = least.truncated.iter().filter(|cut| *cut == name);
                assert_eq!(named.count(), 1, "{name} is named once");
            } else if !matches!(name, "truncated" | "new") {
                assert_eq!(forms[name], whole[name], "{name}");
            }
        }
        assert_eq!(least.new.as_ref().unwrap().paths, Vec::<String>::new());
        assert_eq!(
            least.new.as_ref().unwrap().count,
            full.new.as_ref().unwrap().count
        );
    }

    #[test]
    fn what_is_cut_is_named_once() {
        let finding = Finding {
            paths: ["/a", "/b", "/c"].map(str::to_owned).to_vec(),
            truncated: vec!["paths".to_owned()],
            ..Finding::default()
        };
        let smaller = without(&finding, 1).unwrap();
        assert_eq!(
            (smaller.paths, smaller.truncated),
            (vec!["/a".to_owned()], vec!["paths".to_owned()])
        );
        assert_eq!(without(&Finding::default(), 1), None);
    }

    proptest! {
        /// One long list never costs another list anything, while it alone can give enough.
        #[test]
        fn the_largest_list_gives_first(
            long in 50..200_usize,
            short in 1..10_usize,
            place in 0..4_usize,
            bytes in 1..2000_usize,
        ) {
            let values = |many: usize| (0..many).map(|at| format!("/{at:039}")).collect::<Vec<_>>();
            let mut finding = Finding {
                paths: values(short),
                user_agents: values(short),
                related: values(short),
                members: values(short)
                    .into_iter()
                    .map(|source| Member { source, ..Member::default() })
                    .collect(),
                ..Finding::default()
            };
            let before = finding.clone();
            match place {
                0 => finding.paths = values(long),
                1 => finding.user_agents = values(long),
                2 => finding.related = values(long),
                _ => finding.members = values(long)
                    .into_iter()
                    .map(|source| Member { source, ..Member::default() })
                    .collect(),
            }
            // After this it would have to be cut to less than a short one has.
            prop_assume!(bytes <= (long / 2) * 41 && long / 2 > short);
            let smaller = without(&finding, bytes).unwrap();
            prop_assert!(finding.to_json().len() - smaller.to_json().len() >= bytes.saturating_sub(40));
            prop_assert_eq!(smaller.truncated.len(), 1);
            let others = [
                (0, smaller.paths == before.paths),
                (1, smaller.user_agents == before.user_agents),
                (2, smaller.related == before.related),
                (3, smaller.members == before.members),
            ];
            for (other, same) in others {
                prop_assert_eq!(same, other != place);
            }
        }
    }
}
