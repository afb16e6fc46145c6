//! Whether two nodes made the same state of the same entries (P/O4, I12).

use crate::raft::HashMark;

/// Compares a mark of a member with those of this node. `None` while there is none of the same index.
pub(super) fn agrees(own: &[HashMark], theirs: HashMark) -> Option<bool> {
    own.iter().find(|mark| mark.index == theirs.index).map(|mark| mark.hash == theirs.hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marks_of_the_same_index_are_compared() {
        let mark = |index, hash| HashMark { index, hash };
        let own = [mark(1024, 7), mark(2048, 8)];
        assert_eq!(agrees(&own, mark(1024, 7)), Some(true));
        assert_eq!(agrees(&own, mark(2048, 7)), Some(false));
        assert_eq!(agrees(&own, mark(3072, 7)), None);
        assert_eq!(agrees(&[], mark(1024, 7)), None);
    }
}
