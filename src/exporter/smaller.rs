//! What to leave out of a finding that is too large for its receiver. Pure.

use crate::detection::{Finding, fields};

/// The finding with half of the values of each list, the earlier sample requests and nothing that
/// stands outside lists changed. `truncated` names what was cut. `None` when nothing is left to
/// leave out.
pub(super) fn halved(finding: &Finding) -> Option<Finding> {
    let mut smaller = finding.clone();
    let mut cut = std::mem::take(&mut smaller.truncated);
    let mut any = false;
    for row in &fields::TABLE {
        let (Some(name), Some(list)) = (row.list, smaller.list_mut(row.field)) else {
            continue;
        };
        if list.is_empty() {
            continue;
        }
        list.truncate(list.len() / 2);
        any = true;
        if !cut.iter().any(|known| known == name) {
            cut.push(name.to_owned());
        }
    }
    any |= !smaller.samples.is_empty();
    smaller.samples.truncate(smaller.samples.len() / 2);
    smaller.truncated = cut;
    any.then_some(smaller)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exporter::samples;

    #[test]
    fn half_is_left_until_nothing_is() {
        let (_, full) = samples::full();
        let mut sizes = vec![full.to_json().len()];
        let mut last = full.clone();
        while let Some(smaller) = halved(&last) {
            sizes.push(smaller.to_json().len());
            last = smaller;
            assert!(sizes.len() < 10, "{sizes:?}");
        }
        assert!(sizes.len() > 2);
        assert!(last.paths.is_empty() && last.samples.is_empty());
        assert!(last.truncated.contains(&"paths".to_owned()));
        let plain = Finding {
            verbs: vec![],
            ..last.clone()
        };
        assert_eq!(halved(&plain), None);
        // What makes findings distinct is never touched.
        assert_eq!(
            (&last.finding_id, &last.drilldown_search, last.count),
            (&full.finding_id, &full.drilldown_search, full.count)
        );
    }

    #[test]
    fn what_is_cut_is_named_once() {
        let finding = Finding {
            paths: ["/a", "/b", "/c"].map(str::to_owned).to_vec(),
            truncated: vec!["paths".to_owned()],
            ..Finding::default()
        };
        let smaller = halved(&finding).unwrap();
        assert_eq!(
            (smaller.paths, smaller.truncated),
            (vec!["/a".to_owned()], vec!["paths".to_owned()])
        );
    }
}
