//! Whether two nodes made the same state of the same entries (P/O4, I12).

use std::collections::{BTreeMap, BTreeSet};

use super::MemberReport;
use crate::raft::HashMark;

/// A member whose state has begun to differ from that of this node, or does so no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// The member.
    pub raft_id: u64,
    /// Whether the states are the same now.
    pub agrees: bool,
    /// The entry after which both were looked at.
    pub index: u64,
}

/// Compares the newest mark of every member with those of this node and keeps `differing` up to date. A mark
/// without one of the same index to compare it with changes nothing.
pub(super) fn compare(
    reports: &BTreeMap<u64, MemberReport>,
    own: &[HashMark],
    differing: &mut BTreeSet<u64>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for (raft_id, report) in reports {
        let Some(mark) = report.answer.as_ref().and_then(|answer| answer.hash_mark) else { continue };
        let Some(agrees) = agrees(own, mark) else { continue };
        let is_new = if agrees { differing.remove(raft_id) } else { differing.insert(*raft_id) };
        if is_new {
            changes.push(Change { raft_id: *raft_id, agrees, index: mark.index });
        }
    }
    changes
}

/// Compares a mark of a member with those of this node. `None` while there is none of the same index.
fn agrees(own: &[HashMark], theirs: HashMark) -> Option<bool> {
    own.iter().find(|mark| mark.index == theirs.index).map(|mark| mark.hash == theirs.hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member_health::MemberAnswer;

    fn mark(index: u64, hash: u64) -> HashMark {
        HashMark { index, hash }
    }

    fn report(mark: Option<HashMark>) -> MemberReport {
        let answer = MemberAnswer { hash_mark: mark, ..MemberAnswer::default() };
        MemberReport { answer: Some(answer), ..MemberReport::default() }
    }

    #[test]
    fn only_marks_of_the_same_index_are_compared() {
        let own = [mark(1024, 7), mark(2048, 8)];
        assert_eq!(agrees(&own, mark(1024, 7)), Some(true));
        assert_eq!(agrees(&own, mark(2048, 7)), Some(false));
        assert_eq!(agrees(&own, mark(3072, 7)), None);
        assert_eq!(agrees(&[], mark(1024, 7)), None);
    }

    #[test]
    fn a_difference_is_told_once_and_stands_until_the_states_are_the_same_again() {
        let own = [mark(1024, 7), mark(2048, 8)];
        let mut differing = BTreeSet::new();
        let mut look = |two: HashMark| {
            let reports = BTreeMap::from([
                (1, report(None)),
                (2, report(Some(two))),
                (3, report(Some(mark(2048, 8)))),
                (4, MemberReport::default()),
            ]);
            let changes = compare(&reports, &own, &mut differing);
            (changes, differing.iter().copied().collect::<Vec<_>>())
        };
        let change = |agrees, index| vec![Change { raft_id: 2, agrees, index }];
        assert_eq!(look(mark(1024, 7)), (vec![], vec![]));
        assert_eq!(look(mark(1024, 9)), (change(false, 1024), vec![2]));
        assert_eq!(look(mark(2048, 9)), (vec![], vec![2]), "it is known");
        assert_eq!(look(mark(4096, 8)), (vec![], vec![2]), "nothing to compare with proves nothing");
        assert_eq!(look(mark(2048, 8)), (change(true, 2048), vec![]));
    }
}
