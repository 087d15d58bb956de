//! Which labels an event has: the conditions of all labels of a detection, evaluated together.
//!
//! Conditions name the same selections again and again, so a test is done at most once for an
//! event, and only if a condition comes to it. Expressions over one field are one set, which one
//! pass over the field's text decides. Of most fields the next event has the same text: what tests
//! have said of it is remembered.

use std::sync::Arc;

use regex::bytes::RegexSet;

use super::{
    compiled,
    predicate::{Condition, Context, Kind, Operand, Test},
    remembered::{Bits, Known, MOST_TESTS},
};
use crate::audit::event::Field;

/// Bytes of a text that expressions look at. A client writes texts of a megabyte, and what it asks for
/// is at their beginning.
const MOST_BYTES: usize = 512;

/// The conditions of all labels, prepared. Empty when they cannot be.
#[derive(Clone, Debug, Default)]
pub struct Labeler {
    tests: Vec<Arc<Test>>,
    /// By test: the set that decides it.
    set_of: Vec<Option<usize>>,
    sets: Vec<Set>,
    /// The fields of which tests are remembered.
    fields: Vec<FieldTests>,
    /// By label.
    labels: Vec<Node>,
    /// What tells it from others, but for its copies.
    own: Arc<()>,
}

/// The tests that look at one field alone.
#[derive(Clone, Debug)]
struct FieldTests {
    operand: Operand,
    tests: Bits,
}

/// Expressions over one field.
#[derive(Clone, Debug)]
struct Set {
    operand: Operand,
    expressions: RegexSet,
    /// By expression: the test that it belongs to.
    tests: Vec<usize>,
    /// All those tests.
    all: Bits,
}

/// A condition over tests by their place.
#[derive(Clone, Debug)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Some(usize, Vec<Node>),
    Not(Box<Node>),
    Test(usize),
}

impl Labeler {
    /// Prepares the conditions of labels, in the order of the labels.
    pub(crate) fn of<'c>(conditions: impl Iterator<Item = &'c Condition>) -> Self {
        let mut labeler = Self::default();
        for condition in conditions {
            let node = labeler.node(condition);
            labeler.labels.push(node);
        }
        if labeler.tests.len() > MOST_TESTS {
            return Self::default();
        }
        labeler.join();
        labeler.find_fields();
        labeler
    }

    /// Finds the tests that look at one field alone.
    fn find_fields(&mut self) {
        for (at, test) in self.tests.iter().enumerate() {
            let (Operand::Field(_), Kind::OneOf { .. } | Kind::Exists(_)) =
                (&test.operand, &test.wanted)
            else {
                continue;
            };
            let known = self.fields.iter().position(|of| of.operand == test.operand);
            let of = known.unwrap_or_else(|| {
                self.fields.push(FieldTests {
                    operand: test.operand.clone(),
                    tests: Bits::default(),
                });
                self.fields.len() - 1
            });
            if let Some(of) = self.fields.get_mut(of) {
                of.tests.insert(at);
            }
        }
    }

    /// How many labels it was prepared for.
    pub(crate) fn count(&self) -> usize {
        self.labels.len()
    }

    /// A bit for each label that an event has, the first label's the lowest.
    pub(crate) fn labels(&self, context: &mut Context<'_, '_>) -> u64 {
        let mut known = Known::default();
        let mut remembered = std::mem::take(&mut context.scratch.remembered);
        let lasts = remembered.of(&self.own, self.fields.len());
        for (last, field) in lasts.iter_mut().zip(&self.fields) {
            let (event, hops) = (context.event, context.hops);
            let of_text = last.recall(|show| field.operand.resolve(event, hops, show));
            known.extend(&of_text);
        }
        let mut bit = 1_u64;
        let mut labels = 0;
        for label in &self.labels {
            if self.holds(label, &mut known, context) {
                labels |= bit;
            }
            bit = bit.wrapping_shl(1);
        }
        let lasts = remembered.of(&self.own, self.fields.len());
        for (last, field) in lasts.iter_mut().zip(&self.fields) {
            last.remember(known.of(&field.tests));
        }
        context.scratch.remembered = remembered;
        labels
    }

    fn node(&mut self, condition: &Condition) -> Node {
        let mut nodes = |parts: &[Condition]| parts.iter().map(|part| self.node(part)).collect();
        match condition {
            Condition::All(parts) => Node::All(nodes(parts)),
            Condition::Any(parts) => Node::Any(nodes(parts)),
            Condition::Some(least, parts) => Node::Some(*least, nodes(parts)),
            Condition::Not(part) => Node::Not(Box::new(self.node(part))),
            Condition::Test(test) => {
                let known = self.tests.iter().position(|other| Arc::ptr_eq(other, test));
                Node::Test(known.unwrap_or_else(|| {
                    self.tests.push(Arc::clone(test));
                    self.set_of.push(None);
                    self.tests.len() - 1
                }))
            }
        }
    }

    /// Joins the expressions over each field to sets.
    fn join(&mut self) {
        let mut fields: Vec<(&Operand, Vec<(usize, &str)>)> = Vec::new();
        for (at, test) in self.tests.iter().enumerate() {
            let Kind::OneOf {
                values,
                null: false,
            } = &test.wanted
            else {
                continue;
            };
            let Some(expressions) = values.expressions() else {
                continue;
            };
            let expressions = expressions.into_iter().map(|text| (at, text));
            match fields.iter_mut().find(|(field, _)| **field == test.operand) {
                Some((_, all)) => all.extend(expressions),
                None => fields.push((&test.operand, expressions.collect())),
            }
        }
        let sets = fields.into_iter().filter_map(|(operand, expressions)| {
            let texts = expressions.iter().map(|(_, text)| (*text).to_owned());
            let built = compiled::set(texts.collect());
            let tests: Vec<_> = expressions.iter().map(|(test, _)| *test).collect();
            let mut all = Bits::default();
            for test in &tests {
                all.insert(*test);
            }
            Some(Set {
                operand: operand.clone(),
                expressions: built.ok()?,
                tests,
                all,
            })
        });
        let sets: Vec<_> = sets.collect();
        for (at, set) in sets.iter().enumerate() {
            for test in &set.tests {
                if let Some(of) = self.set_of.get_mut(*test) {
                    *of = Some(at);
                }
            }
        }
        self.sets = sets;
    }

    fn holds(&self, node: &Node, known: &mut Known, context: &mut Context<'_, '_>) -> bool {
        match node {
            Node::All(parts) => parts.iter().all(|part| self.holds(part, known, context)),
            Node::Any(parts) => parts.iter().any(|part| self.holds(part, known, context)),
            Node::Some(least, parts) => {
                let mut parts = parts.iter().filter(|part| self.holds(part, known, context));
                *least == 0 || parts.nth(least - 1).is_some()
            }
            Node::Not(part) => !self.holds(part, known, context),
            Node::Test(at) => self.test(*at, known, context),
        }
    }

    fn test(&self, at: usize, known: &mut Known, context: &mut Context<'_, '_>) -> bool {
        if known.done.contains(at) {
            return known.held.contains(at);
        }
        let set = self.set_of.get(at).copied().flatten();
        if let Some(set) = set.and_then(|set| self.sets.get(set)) {
            set.decide(known, context);
            return known.held.contains(at);
        }
        let holds = self.tests.get(at).is_some_and(|test| test.holds(context));
        known.done.insert(at);
        if holds {
            known.held.insert(at);
        }
        holds
    }
}

impl Set {
    /// Decides all its tests.
    fn decide(&self, known: &mut Known, context: &mut Context<'_, '_>) {
        let Context {
            event,
            hops,
            scratch,
        } = context;
        known.done.extend(&self.all);
        self.operand.resolve(event, hops, &mut |field: Field<'_>| {
            let Some(text) = field.value() else { return };
            let text = scratch.beginning(text, MOST_BYTES);
            let text = text
                .get(..text.floor_char_boundary(MOST_BYTES))
                .unwrap_or(text);
            for expression in self.expressions.matches(text.as_bytes()) {
                if let Some(test) = self.tests.get(expression) {
                    known.held.insert(*test);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests;
