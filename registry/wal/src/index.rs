//! Where each durable entry stands on disk.

use std::collections::VecDeque;

/// Place of an entry's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    /// Number of the segment.
    pub(crate) segment: u64,
    /// Offset in the segment file; segments are at most 1 GiB.
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// Locations of consecutive entries: 16 bytes each.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Index of the first location; of the next one if there are none. `None`: nothing is known yet.
    first: Option<u64>,
    locations: VecDeque<Location>,
}

impl Index {
    /// An index whose first entry will be `first`.
    pub(crate) fn starting_at(first: Option<u64>) -> Index {
        Index { first, locations: VecDeque::new() }
    }

    pub(crate) fn first(&self) -> Option<u64> {
        self.first
    }

    /// One more than the last index; 0 if nothing is known.
    pub(crate) fn end(&self) -> u64 {
        self.first.map_or(0, |first| first + self.locations.len() as u64)
    }

    pub(crate) fn get(&self, index: u64) -> Option<Location> {
        let position = index.checked_sub(self.first?)?;
        self.locations.get(usize::try_from(position).ok()?).copied()
    }

    /// Location of the first entry.
    pub(crate) fn front(&self) -> Option<Location> {
        self.locations.front().copied()
    }

    /// Adds the entry `index`, which is the next.
    pub(crate) fn push(&mut self, index: u64, location: Location) {
        let first = *self.first.get_or_insert(index);
        debug_assert_eq!(first + self.locations.len() as u64, index, "entries are added in order");
        self.locations.push_back(location);
    }

    /// Removes all entries after `after`.
    pub(crate) fn truncate_after(&mut self, after: Option<u64>) {
        let Some(first) = self.first else { return };
        let Some(after) = after else {
            *self = Index::default();
            return;
        };
        let end = after.saturating_add(1);
        let keep = end.saturating_sub(first);
        self.locations.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        self.first = Some(first.min(end));
    }

    /// Removes all entries up to `upto`, inclusive.
    pub(crate) fn purge(&mut self, upto: u64) {
        let next = upto.saturating_add(1);
        let first = self.first.unwrap_or(0);
        if next > first || self.first.is_none() {
            let gone = usize::try_from(next.saturating_sub(first)).unwrap_or(usize::MAX);
            self.locations.drain(..gone.min(self.locations.len()));
            self.first = Some(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(first: u64, count: u64) -> Index {
        let mut index = Index::default();
        for number in first..first + count {
            index.push(number, Location { segment: 1, offset: number as u32, length: 1 });
        }
        index
    }

    #[test]
    fn entries_are_found_between_purge_and_truncation() {
        let mut index = filled(5, 10);
        index.purge(7);
        index.truncate_after(Some(11));
        assert_eq!((index.first(), index.end()), (Some(8), 12));
        assert_eq!(index.get(7), None);
        assert_eq!(index.get(8).map(|location| location.offset), Some(8));
        assert_eq!(index.get(11).map(|location| location.offset), Some(11));
        assert_eq!(index.get(12), None);
    }

    #[test]
    fn a_purge_beyond_the_end_moves_the_log_there() {
        let mut index = filled(5, 3);
        index.purge(100);
        assert_eq!((index.first(), index.end(), index.front()), (Some(101), 101, None));
        index.purge(50);
        assert_eq!(index.first(), Some(101));
    }

    #[test]
    fn a_truncation_below_the_first_entry_moves_the_log_back() {
        let mut index = filled(5, 3);
        index.truncate_after(Some(2));
        assert_eq!((index.first(), index.end()), (Some(3), 3));
        index.truncate_after(None);
        assert_eq!((index.first(), index.end()), (None, 0));
    }
}
