//! The purpose of loading rules.

/// What rules are loaded for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// To run together: each parameter has a value, and no two rules have one identifier.
    #[default]
    Run,
    /// To look at them, or to test them: an empty parameter is what `tests: parameters:` says, and
    /// variants of one rule may stand side by side.
    Look,
}
