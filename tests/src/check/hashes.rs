//! State hashes (I12): after the same log entries all nodes hold the same state.

use std::collections::BTreeMap;

use super::history::{History, StateHash};
use super::violation::Violation;

/// Checks them.
pub fn check(history: &History) -> Vec<Violation> {
    let mut first: BTreeMap<u64, &StateHash> = BTreeMap::new();
    let mut violations = Vec::new();
    for told in &history.hashes {
        let known = first.entry(told.index).or_insert(told);
        if known.hash != told.hash {
            let what = format!(
                "after entry {} {} has {:02x?} (at {:?}), {} has {:02x?} (at {:?})",
                told.index, told.node, told.hash, told.told, known.node, known.hash, known.told
            );
            violations.push(Violation::new("I12", what));
        }
    }
    violations
}
