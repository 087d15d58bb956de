//! How an attempt ended, made fit for the loop of deliveries and shown in a span.

use crate::{exporter::Outcome, telemetry::traces::Span};

/// An outcome that can be true of `findings` findings: whatever an exporter says, the loop ends
/// and nothing is counted as accepted that was not there.
pub(super) fn possible(outcome: Outcome, findings: usize) -> Outcome {
    match outcome {
        Outcome::Accepted(0) | Outcome::Partial { findings: 0, .. } => {
            Outcome::retry("the exporter accepted nothing")
        }
        Outcome::Accepted(count) => Outcome::Accepted(count.min(findings)),
        Outcome::Partial {
            findings: held,
            rejected,
            reason,
        } => Outcome::Partial {
            findings: held.min(findings),
            rejected: rejected.min(held).min(findings),
            reason,
        },
        Outcome::TooLarge {
            findings: held,
            reason,
        } => Outcome::TooLarge {
            findings: held.min(findings),
            reason,
        },
        Outcome::Invalid { index, reason } if index >= findings => {
            Outcome::TooLarge { findings, reason }
        }
        sound => sound,
    }
}

/// Records the outcome of an attempt in its span.
pub(super) fn describe(span: &mut Span, outcome: &Outcome) {
    let (name, reason) = match outcome {
        Outcome::Accepted(count) => {
            span.set("accepted", i64::try_from(*count).unwrap_or(i64::MAX));
            ("accepted", None)
        }
        Outcome::Partial { reason, .. } => ("partial", Some(reason)),
        Outcome::Retry { reason, .. } => ("retry", Some(reason)),
        Outcome::TooLarge { reason, .. } => ("too_large", Some(reason)),
        Outcome::Invalid { reason, .. } => ("invalid", Some(reason)),
        Outcome::Refused { reason, .. } => ("refused", Some(reason)),
    };
    span.set("outcome", name);
    if let Some(reason) = reason {
        span.fail(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_outcomes_are_made_possible() {
        let reason = || "x".to_owned();
        assert!(matches!(
            possible(Outcome::Accepted(0), 3),
            Outcome::Retry { .. }
        ));
        assert_eq!(possible(Outcome::Accepted(9), 3), Outcome::Accepted(3));
        assert_eq!(
            possible(
                Outcome::Invalid {
                    index: 3,
                    reason: reason()
                },
                3
            ),
            Outcome::TooLarge {
                findings: 3,
                reason: reason()
            }
        );
    }
}
