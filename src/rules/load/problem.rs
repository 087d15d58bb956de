//! Errors and warnings of rules.

use std::fmt;

use crate::visible;

/// An error or a warning of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file as it was named, or that of a shipped rule.
    pub file: String,
    /// Counted from 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What failed, why, and what to write instead.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = visible::escaped(&self.file);
        let text = visible::escaped(&self.text);
        match self.line {
            0 => write!(f, "{file}: {text}"),
            line => write!(f, "{file}:{line}:{}: {text}", self.column),
        }
    }
}

/// All errors of rules, a line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut end = "";
        for problem in &self.0 {
            write!(f, "{end}{problem}")?;
            end = "\n";
        }
        Ok(())
    }
}
