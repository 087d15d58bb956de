//! The filter: an expression in CEL over a finding that says whether it leaves.
//!
//! It is what the filter macro of an ESCU search is in Splunk. A filter is checked when it is
//! loaded (`check`), so that a name that is misspelled is an error at the start. It never decides
//! by accident: where it cannot be evaluated, the finding leaves. Its time has a bound: a finding
//! for which it would take too long leaves unasked, as an error.

mod check;
mod error;
mod schema;

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
    thread,
};

use cel::{Context, Env, Program, Value, extractors::This};
use regex::Regex;
use serde_json::Value as Json;

pub use error::FilterError;

use self::{
    check::{Checked, Cost, VARIABLE, check},
    schema::{FINDING, SCHEMA},
};
use crate::{detection::Finding, visible};

/// Bytes of an expression.
const MOST_BYTES: usize = 4096;
/// Brackets, and conditions with `?`, within each other.
const MOST_NESTED: usize = 32;
/// Letters beside those of words, numbers and texts.
const MOST_SIGNS: usize = 1000;
/// Stack of the parser. It takes some 64 KiB for each bracket in a debug build.
const PARSER_STACK: usize = 64 << 20;
/// What evaluating may cost, in visits of expressions.
const MOST_COST: u64 = 250_000;
/// Bytes of text that cost as much as visiting one more expression.
const BYTES_PER_VISIT: usize = 512;
/// Letters of an error that are shown.
const SHOWN: usize = 200;

/// The functions of CEL itself.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A filter that was checked.
#[derive(Clone)]
pub struct Filter {
    source: Arc<str>,
    program: Arc<Program>,
    cost: Arc<Cost>,
    /// The patterns of `matches`, compiled, by their text.
    patterns: Arc<BTreeMap<String, Regex>>,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.source).finish()
    }
}

/// Why a filter said nothing about a finding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// The finding is too large for it.
    #[error(
        "it would take too long for this finding, whose longest list has {longest} values: use \
         fewer loops"
    )]
    TooCostly {
        /// Elements of its longest list.
        longest: usize,
    },
    /// A value is not what it needs.
    #[error("{0}")]
    Value(String),
    /// It is neither true nor false.
    #[error("it is neither true nor false")]
    NoTruth,
}

impl Filter {
    /// A filter of this text.
    ///
    /// # Errors
    /// With the place, when it is no CEL, names what a finding does not have, compares what is never
    /// equal, or could take too long.
    pub fn new(source: &str) -> Result<Self, FilterError> {
        limit(source)?;
        let parsed = thread::scope(|scope| {
            // The parser needs more stack than a thread may have left. It is waited for.
            let parser = thread::Builder::new()
                .name("filter".to_owned())
                .stack_size(PARSER_STACK)
                .spawn_scoped(scope, || parse(source));
            match parser.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(parsed)) => parsed,
                Ok(Err(_)) => Err(FilterError::at(
                    source,
                    0,
                    "the parser failed: simplify the expression".to_owned(),
                )),
                Err(error) => Err(FilterError::at(
                    source,
                    0,
                    format!("the parser cannot be started: {error}"),
                )),
            }
        });
        let (program, Checked { cost, patterns }) = parsed?;
        Ok(Self {
            source: source.into(),
            program: Arc::new(program),
            cost: Arc::new(cost),
            patterns,
        })
    }

    /// Its text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether a finding leaves.
    ///
    /// # Errors
    /// When it says nothing about this finding.
    pub fn keeps(&self, finding: &Finding) -> Result<bool, EvaluationError> {
        let json = serde_json::to_value(finding)
            .map_err(|error| EvaluationError::Value(shown(&error.to_string())))?;
        let size = Size::of(&json);
        let each = 1 + u64::try_from(size.text / BYTES_PER_VISIT).unwrap_or(u64::MAX);
        if self.cost.visits(size.list).saturating_mul(each) > MOST_COST {
            return Err(EvaluationError::TooCostly { longest: size.list });
        }
        let empty = serde_json::Map::new();
        let fields = json.as_object().unwrap_or(&empty);
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.add_variable_from_value(VARIABLE, SCHEMA.message(FINDING, fields));
        let patterns = Arc::clone(&self.patterns);
        let matches = move |This(text): This<Arc<String>>, pattern: Arc<String>| -> bool {
            // All patterns are there: the check has seen them.
            patterns
                .get(pattern.as_str())
                .is_some_and(|regex| regex.is_match(&text))
        };
        context
            .add_function("matches", matches)
            .map_err(|error| EvaluationError::Value(shown(&error.to_string())))?;
        // A fault of the library must not end the service.
        let result = catch_unwind(AssertUnwindSafe(|| self.program.execute(&context)));
        match result {
            Ok(Ok(Value::Bool(keeps))) => Ok(keeps),
            Ok(Ok(_)) => Err(EvaluationError::NoTruth),
            Ok(Err(error)) => Err(EvaluationError::Value(shown(&error.to_string()))),
            Err(_panic) => Err(EvaluationError::Value("evaluating it failed".to_owned())),
        }
    }
}

/// A text of the library, which may hold values of a log.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(SHOWN).collect();
    visible::escaped(&short).to_string()
}

/// Refuses what the parser could not take.
fn limit(source: &str) -> Result<(), FilterError> {
    if source.len() > MOST_BYTES {
        let text = format!("an expression has at most {MOST_BYTES} bytes, shorten it");
        return Err(FilterError::at(source, 0, text));
    }
    let (mut nested, mut conditions, mut signs) = (0_usize, 0_usize, 0_usize);
    let mut quote = None;
    let mut is_escaped = false;
    for (offset, letter) in source.char_indices() {
        if let Some(end) = quote {
            if letter == end && !is_escaped {
                quote = None;
            }
            is_escaped = letter == '\\' && !is_escaped;
            continue;
        }
        match letter {
            '"' | '\'' => quote = Some(letter),
            '(' | '[' | '{' => nested += 1,
            ')' | ']' | '}' => nested = nested.saturating_sub(1),
            '?' => conditions += 1,
            _ => {}
        }
        signs += usize::from(!letter.is_alphanumeric() && !letter.is_whitespace());
        if nested > MOST_NESTED || conditions > MOST_NESTED || signs > MOST_SIGNS {
            let text = "the expression is too complex from here on, simplify it".to_owned();
            return Err(FilterError::at(source, offset, text));
        }
    }
    Ok(())
}

fn parse(source: &str) -> Result<(Program, Checked), FilterError> {
    let program = ENV.compile(source).map_err(|errors| {
        let Some(first) = errors.errors.first() else {
            return FilterError::at(source, 0, "is no CEL expression".to_owned());
        };
        let (line, column) = first.pos;
        let number = |one: isize| usize::try_from(one - 1).unwrap_or_default();
        let text = first.msg.lines().next().unwrap_or_default();
        FilterError::of(source, number(line), number(column), text.to_owned())
    })?;
    let checked = check(program.expression(), program.source_info())?;
    Ok((program, checked))
}

/// How large a finding is for a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    /// Elements of its longest list or map within.
    list: usize,
    /// Bytes of its longest text.
    text: usize,
}

impl Size {
    fn of(finding: &Json) -> Self {
        let mut size = Self::default();
        if let Json::Object(fields) = finding {
            for value in fields.values() {
                size.add(value);
            }
        }
        size
    }

    fn add(&mut self, value: &Json) {
        match value {
            Json::String(text) => self.text = self.text.max(text.len()),
            Json::Array(items) => {
                self.list = self.list.max(items.len());
                for item in items {
                    self.add(item);
                }
            }
            Json::Object(members) => {
                self.list = self.list.max(members.len());
                for member in members.values() {
                    self.add(member);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
