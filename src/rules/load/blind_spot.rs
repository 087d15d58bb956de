//! `custom: blind_spot`: a rule about what arrives of a cluster, instead of about single events.

use super::reader::{Reader, quoted};
use crate::{
    rules::blind_spot::{BlindSpot, BlindSpotKind},
    yaml::{Mark, Node},
};

/// What is under the key, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub(super) rule: BlindSpot,
    /// A finding needs more than this many.
    pub(super) above: u64,
    pub(super) mark: Mark,
}

impl<'d> Reader<'d> {
    /// Reads `blind_spot: {kind: ..., above: ..., percent: ...}`.
    pub(super) fn blind_spot(&self, node: &'d Node) -> Option<Spot> {
        let map = self.map(node, "blind_spot", &["kind", "above", "percent"])?;
        let Some(kind) = map.get("kind") else {
            self.fail(map.mark, "blind_spot: kind is missing: write silence");
            return None;
        };
        let name = self.text(kind, "kind")?;
        let kind: BlindSpotKind = match name.parse() {
            Ok(kind) => kind,
            Err(error) => {
                self.fail(kind.mark, format!("kind: {error}, found {}", quoted(&name)));
                return None;
            }
        };
        let number = |key| self.whole(&map, key).map_or(0, |(number, _)| number);
        let percent = number("percent");
        if percent > 100 {
            self.fail(map.mark, "percent: expected a whole number from 0 to 100");
            return None;
        }
        Some(Spot {
            rule: BlindSpot { kind, percent },
            above: number("above"),
            mark: map.mark,
        })
    }
}
