//! The times of a finding as exporters need them. That of its state is defined here alone, so that
//! Splunk and OTLP show one finding at one instant.

use crate::detection::{Finding, finding::FindingState, time::Micros};

/// When this state came about: for an opened finding the hit that opened it, else the last hit so
/// far. An ESCU row, which is always "opened", has no opening hit and stands at its last event.
///
/// `None` when the finding holds no such time; a receiver then takes the time of arrival.
pub fn of_state(finding: &Finding) -> Option<Micros> {
    let opening = finding
        .alert_at
        .filter(|_| finding.state() == Some(FindingState::Opened) && !finding.is_row());
    opening
        .or(finding.last_time)
        .or(finding.alert_at)
        .or(finding.first_time)
        .map(Micros::from_proto)
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp {
            seconds,
            nanos: 35_818_999,
        }
    }

    #[test]
    fn each_state_has_its_time() {
        let finding = |state: &str, semantics: &str| Finding {
            state: state.to_owned(),
            semantics: semantics.to_owned(),
            first_time: Some(at(1)),
            last_time: Some(at(3)),
            alert_at: Some(at(2)),
            ..Finding::default()
        };
        for (state, semantics, seconds) in [
            ("opened", "native", 2),
            ("updated", "native", 3),
            ("closed", "native", 3),
            ("opened", "escu", 3),
        ] {
            let time = of_state(&finding(state, semantics));
            assert_eq!(
                time,
                Some(Micros(seconds * 1_000_000 + 35_818)),
                "{state} {semantics}"
            );
        }
    }

    #[test]
    fn missing_times_fall_back() {
        let opened = Finding {
            state: "opened".to_owned(),
            ..Finding::default()
        };
        assert_eq!(of_state(&opened), None);
        assert_eq!(
            of_state(&Finding {
                first_time: Some(at(1)),
                ..opened.clone()
            }),
            Some(Micros(1_035_818))
        );
        let far = Timestamp {
            seconds: i64::MIN,
            nanos: -1,
        };
        assert_eq!(
            of_state(&Finding {
                last_time: Some(far),
                ..opened
            }),
            Some(Micros(i64::MIN))
        );
    }
}
