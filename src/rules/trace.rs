//! Why an event matches a rule or does not: each test of it, with the values that the event has.

use super::{
    matcher::Scratch,
    model::Detection,
    predicate::{Condition, Context, Operand},
};
use crate::audit::event::Event;

/// Values of one field that are shown.
const MOST_VALUES: usize = 4;
/// Bytes of one value that are shown.
const VALUE_BYTES: usize = 200;

/// One test of a rule, tried on an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// The rule that it is of.
    pub rule: String,
    /// The key of the test as the rule has it, with its line.
    pub test: String,
    /// Values that the event has in its field, at most four.
    pub values: Vec<String>,
    /// Whether it holds.
    pub holds: bool,
}

impl Detection {
    /// All tests of the detection, tried on an event, in the order of its rules.
    pub fn trace(&self, event: &Event<'_>, scratch: &mut Scratch) -> Vec<Traced> {
        let mut all = Vec::new();
        for part in &self.parts {
            let mut context = Context {
                event,
                hops: &self.hops,
                scratch,
            };
            part.condition.trace(&part.name, &mut context, &mut all);
        }
        all
    }

    /// The first test that decides that an event does not match; of several rules, of the first.
    pub fn why_not(&self, event: &Event<'_>, scratch: &mut Scratch) -> Option<String> {
        let part = self.parts.first()?;
        part.decisive(event, &self.hops, scratch)
    }
}

impl Condition {
    fn trace(&self, rule: &str, context: &mut Context<'_, '_>, all: &mut Vec<Traced>) {
        match self {
            Self::All(parts) | Self::Any(parts) | Self::Some(_, parts) => {
                for part in parts {
                    part.trace(rule, context, all);
                }
            }
            Self::Not(part) => part.trace(rule, context, all),
            Self::Test(test) => all.push(Traced {
                rule: rule.to_owned(),
                test: test.text.clone(),
                values: values(&test.operand, context),
                holds: self.holds(context),
            }),
        }
    }
}

fn values(operand: &Operand, context: &Context<'_, '_>) -> Vec<String> {
    let mut values = Vec::new();
    operand.resolve(context.event, context.hops, &mut |field| {
        if values.len() < MOST_VALUES
            && let Some(text) = field.value()
        {
            values.push(text.cut(VALUE_BYTES));
        }
    });
    values
}
