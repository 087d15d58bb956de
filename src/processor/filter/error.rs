//! What is wrong with a filter, and where.

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("character {column}{of_line}: {text}")]
pub struct FilterError {
    /// Column, from 1.
    column: usize,
    /// ` of line 2`, if there are several lines.
    of_line: String,
    text: String,
}

impl FilterError {
    /// An error at this byte of a source.
    pub(super) fn at(source: &str, offset: usize, text: String) -> Self {
        let before = source.get(..offset).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        Self::of(
            source,
            before.matches('\n').count(),
            line.chars().count(),
            text,
        )
    }

    /// An error in this line and column, both from 0.
    pub(super) fn of(source: &str, line: usize, column: usize, text: String) -> Self {
        let of_line = if source.trim_end().contains('\n') {
            format!(" of line {}", line + 1)
        } else {
            String::new()
        };
        Self {
            column: column + 1,
            of_line,
            text,
        }
    }
}
