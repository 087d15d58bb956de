//! How long the property tests try.

use proptest::test_runner::Config;

/// This number of cases by default, and in proportion when `PROPTEST_CASES` asks for more or fewer than
/// proptest's own 256.
pub(crate) fn cases(default: u32) -> Config {
    let config = Config::default();
    let cases = (u64::from(config.cases) * u64::from(default) / 256).max(1);
    Config {
        cases: u32::try_from(cases).unwrap_or(u32::MAX),
        failure_persistence: None,
        ..config
    }
}
