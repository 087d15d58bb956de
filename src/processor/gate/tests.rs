//! Which states of findings leave.

use std::sync::Arc;

use Decided::{Failed, Filtered, Kept};
use FindingState::{Closed, Opened, Updated};

use super::*;
use crate::{
    detection::{
        Finding,
        rule::{Rule, Semantics},
    },
    rules::{load, model::Detection, switches::Switches},
};

fn emission(id: u128, state: FindingState, count: u64, detection: &Arc<Detection>) -> Emission {
    Emission {
        detection: Arc::clone(detection),
        state,
        finding: Finding {
            finding_id: format!("{id:032x}"),
            count,
            ..Finding::default()
        },
    }
}

fn scans() -> Arc<Detection> {
    load::scans(&Rule::default()).remove(0)
}

fn gate(source: &str, all: bool, most: usize) -> Gate {
    Gate::new(Some(Filter::new(source).unwrap()), all, most)
}

/// What has left once leaves until it closes; what has not is asked about again.
#[test]
fn a_finding_that_has_left_is_seen_to_close() {
    let scans = scans();
    let mut gate = gate("finding.count > 10 && finding.count < 20", false, 100);
    let mut decide = |id, state, count| gate.decide(&emission(id, state, count, &scans));
    assert_eq!(decide(1, Opened, 15), Kept);
    assert_eq!(decide(2, Opened, 6), Filtered);
    assert_eq!(decide(1, Updated, 30), Kept);
    assert_eq!(decide(2, Updated, 12), Kept);
    assert_eq!(decide(2, Updated, 40), Kept);
    assert_eq!(decide(3, Closed, 6), Filtered);
    assert_eq!(decide(2, Closed, 40), Kept);
    assert_eq!(decide(1, Closed, 60), Kept);
    // They are over.
    assert_eq!(decide(1, Updated, 60), Filtered);
    assert_eq!((gate.filtered(), gate.errors()), (3, 0));
    assert!(gate.left.len() == 0);
}

#[test]
fn an_error_keeps_the_finding_and_is_counted() {
    let scans = scans();
    let mut gate = gate("finding.users[0] == 'a'", false, 100);
    assert_eq!(gate.decide(&emission(1, Opened, 6, &scans)), Failed);
    assert_eq!(gate.decide(&emission(1, Updated, 12, &scans)), Kept);
    assert_eq!((gate.filtered(), gate.errors()), (0, 1));
}

#[test]
fn memory_of_open_findings_is_bounded_and_never_hides_one() {
    let scans = scans();
    let mut gate = gate("finding.count == 6", false, 100);
    for id in 0..1000 {
        assert_eq!(gate.decide(&emission(id, Opened, 6, &scans)), Kept);
    }
    assert_eq!(gate.left.len(), 100);
    assert!(gate.heap_bytes() < 100 * 100);
    for id in 0..1000 {
        assert_eq!(gate.decide(&emission(id, Closed, 9, &scans)), Kept, "{id}");
        if gate.left.len() == 0 {
            break;
        }
    }
    assert_eq!(gate.decide(&emission(5000, Updated, 9, &scans)), Filtered);
}

#[test]
fn success_and_forgery_leave_unless_the_filter_is_for_all() {
    let scans = scans();
    let switches = Switches::default();
    let detections = load::pipeline(&Rule::default(), &switches, &[]).unwrap();
    let success = detections
        .iter()
        .find(|one| one.name() == "anonymous_success")
        .unwrap();
    for (all, wanted) in [(false, Kept), (true, Filtered)] {
        let mut gate = gate("false", all, 100);
        assert_eq!(gate.decide(&emission(1, Opened, 1, success)), wanted);
        let mut raised = emission(2, Updated, 9, &scans);
        raised.finding.outcome = "success".to_owned();
        assert_eq!(gate.decide(&emission(2, Opened, 6, &scans)), Filtered);
        assert_eq!(gate.decide(&raised), wanted);
        assert_eq!(gate.decide(&emission(2, Closed, 9, &scans)), wanted);
    }
}

/// Rows of escu and single matches are sent once and close never.
#[test]
fn what_is_sent_once_is_not_remembered() {
    let escu = Rule {
        semantics: Semantics::Escu,
        ..Rule::default()
    };
    let escu = load::scans(&escu).remove(0);
    let mut gate = gate("finding.count > 5", false, 100);
    assert_eq!(gate.decide(&emission(1, Opened, 6, &escu)), Kept);
    assert_eq!(gate.decide(&emission(2, Opened, 5, &escu)), Filtered);
    assert!(gate.left.len() == 0);
}

#[test]
fn without_a_filter_all_leave() {
    let scans = scans();
    let mut all = vec![
        emission(1, Opened, 6, &scans),
        emission(1, Closed, 6, &scans),
    ];
    Gate::default().pass(&mut all);
    assert_eq!(all.len(), 2);
    let mut none = gate("finding.cluster == 'lab'", false, 10);
    none.pass(&mut all);
    assert!(all.is_empty());
}
