//! The match of a rule: a condition over the fields of an audit event.

use std::{fmt, sync::Arc};

use super::{
    derived::{self, Derived, Hops},
    matcher::{self, OneOf, Place, Scratch},
};
use crate::audit::{
    address::Trusted,
    event::{Event, Field},
    path::Path,
};

/// Pairs of values that one `fieldref` compares in one event.
const MOST_PAIRS: usize = 4096;

/// What a value is taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    /// A field of the event.
    Field(Path),
    /// Something that follows from it.
    Derived(Derived),
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(path) => write!(f, "{path}"),
            Self::Derived(derived) => write!(f, "{derived}"),
        }
    }
}

impl Operand {
    /// Shows each value. Whether there is one that is not null.
    pub(crate) fn resolve<'a>(
        &self,
        event: &Event<'a>,
        hops: &Hops,
        show: &mut dyn FnMut(Field<'_>),
    ) -> bool {
        match self {
            Self::Field(path) => path.resolve(event, &mut |field| show(field)),
            Self::Derived(derived) => {
                let mut is_there = false;
                derived.resolve(event, hops, &mut |text| {
                    is_there = true;
                    show(Field::Text(text.into()));
                });
                is_there
            }
        }
    }
}

/// A condition.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    /// At least this number of them.
    Some(usize, Vec<Condition>),
    Not(Box<Condition>),
    /// Shared by the conditions that name its selection.
    Test(Arc<Test>),
}

impl Condition {
    /// What is always so, or never.
    pub(crate) fn constant(value: bool) -> Self {
        if value {
            Self::All(Vec::new())
        } else {
            Self::Any(Vec::new())
        }
    }
}

/// What one field has to be.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    pub(crate) operand: Operand,
    pub(crate) wanted: Kind,
    /// The place in the rule, for `rules test`.
    pub(crate) text: String,
}

/// What a field has to be.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// One of its values is one of these; or, with `null`, it has none.
    OneOf { values: OneOf, null: bool },
    /// Whether the field exists, with a value other than null.
    Exists(bool),
    /// One of its values is one of another field.
    FieldRef {
        other: Operand,
        place: Place,
        cased: bool,
    },
}

/// What events are held against.
pub(crate) struct Context<'e, 'a> {
    pub(crate) event: &'e Event<'a>,
    pub(crate) hops: &'e Hops,
    pub(crate) scratch: &'e mut Scratch,
}

impl Condition {
    /// Whether an event is so.
    pub(crate) fn holds(&self, context: &mut Context<'_, '_>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(context)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(context)),
            Self::Some(least, parts) => {
                let mut parts = parts.iter().filter(|part| part.holds(context));
                *least == 0 || parts.nth(least - 1).is_some()
            }
            Self::Not(part) => !part.holds(context),
            Self::Test(test) => test.holds(context),
        }
    }

    /// The first test that decides that an event is not so, or that it is.
    pub(crate) fn decisive(&self, context: &mut Context<'_, '_>) -> Option<&Test> {
        let holds = self.holds(context);
        match self {
            Self::Test(test) => Some(test),
            Self::Not(part) => part.decisive(context),
            Self::All(parts) | Self::Any(parts) | Self::Some(_, parts) => {
                let same = parts.iter().find(|part| part.holds(context) == holds);
                same.or(parts.first())?.decisive(context)
            }
        }
    }
}

impl Test {
    /// Whether an event is so.
    pub(crate) fn holds(&self, context: &mut Context<'_, '_>) -> bool {
        let Context {
            event,
            hops,
            scratch,
        } = context;
        match &self.wanted {
            Kind::Exists(wanted) => self.operand.resolve(event, hops, &mut |_| {}) == *wanted,
            Kind::OneOf { values, null } => {
                // An address is held against networks as it is: to show it as a text takes longer.
                if let Operand::Derived(Derived::Address) = self.operand
                    && let Trusted::Address(address) = derived::trusted(event, hops)
                    && let Some(is_one) = values.has_address(address)
                {
                    return is_one;
                }
                let (mut is_one, mut has_value) = (false, false);
                self.operand.resolve(event, hops, &mut |field| {
                    has_value |= matcher::is_value(&field);
                    is_one = is_one || values.matches(&field, scratch);
                });
                is_one || (*null && !has_value)
            }
            Kind::FieldRef {
                other,
                place,
                cased,
            } => refers(&self.operand, other, (*place, *cased), (event, hops)),
        }
    }
}

/// Whether a value of one field is at a place of a value of the other.
fn refers(
    operand: &Operand,
    other: &Operand,
    (place, cased): (Place, bool),
    (event, hops): (&Event<'_>, &Hops),
) -> bool {
    let mut left = MOST_PAIRS;
    let mut found = false;
    operand.resolve(event, hops, &mut |field| {
        let Some(whole) = field.text().filter(|_| !found && left > 0) else {
            return;
        };
        other.resolve(event, hops, &mut |field| {
            if found || left == 0 {
                return;
            }
            left -= 1;
            if let Some(part) = field.text() {
                found = matcher::is_at(place, &whole, &part, cased);
            }
        });
    });
    found
}
