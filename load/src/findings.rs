//! Whether what was measured has found what it should have: a program that drops records is quick.

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path};

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// Compares the findings in a file of the `file` exporter with what is expected: each address with its
/// number of requests.
pub(crate) fn check(file: &Path, expected: &BTreeMap<Ipv4Addr, u64>) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("no findings in {}", file.display()))?;
    let mut found: BTreeMap<Ipv4Addr, u64> = BTreeMap::new();
    for line in text.lines() {
        let finding: Value = serde_json::from_str(line)?;
        let address = finding
            .get("src_ip")
            .and_then(Value::as_str)
            .unwrap_or_default();
        // Derived findings are of networks and peers.
        let is_scan = finding
            .get("prefix")
            .and_then(Value::as_str)
            .is_none_or(str::is_empty);
        let count = finding
            .get("count")
            .and_then(Value::as_u64)
            .unwrap_or_default();
        if let (Ok(address), true) = (address.parse(), is_scan) {
            let of = found.entry(address).or_default();
            *of = count.max(*of);
        }
    }
    ensure!(
        found == *expected,
        "the findings are wrong: {} of {} addresses are as expected; found {found:?}, expected {expected:?}",
        expected
            .iter()
            .filter(|(address, count)| found.get(address) == Some(count))
            .count(),
        expected.len(),
    );
    Ok(())
}
