//! The values that a rule compares a field with: texts with wildcards, numbers, networks.

use ipnet::IpNet;

/// A piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Letter(char),
    /// `?`
    One,
    /// `*`
    Any,
}

/// A text of a rule, in which `*` and `?` are wildcards unless a backslash is before them.
pub(crate) fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        pieces.push(match letter {
            '\\' => match letters.next_if(|next| matches!(next, '*' | '?' | '\\')) {
                Some(escaped) => Piece::Letter(escaped),
                None => Piece::Letter('\\'),
            },
            '*' => Piece::Any,
            '?' => Piece::One,
            other => Piece::Letter(other),
        });
    }
    pieces
}

/// `lt`, `lte`, `gt`, `gte`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// One value of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wanted {
    Text(Vec<Piece>),
    Number(f64),
    Bool(bool),
    Expression {
        text: String,
        ignore_case: bool,
        multi_line: bool,
        dot_all: bool,
    },
    Network(IpNet),
    Compare(Comparison, f64),
}
