//! The newest entries in memory: all that are not durable yet, and as many others as the budget holds.

use std::collections::VecDeque;

use bytes::Bytes;

/// What an entry costs besides its bytes: the slot and the allocation's own words.
const ENTRY_OVERHEAD_BYTES: u64 = 64;

/// Consecutive entries up to the last of the log.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Index of the first entry kept; of the next one if there are none.
    first: u64,
    entries: VecDeque<Bytes>,
    bytes: u64,
    budget_bytes: u64,
}

impl Cache {
    pub(crate) fn new(budget_bytes: u64) -> Cache {
        Cache { first: 0, entries: VecDeque::new(), bytes: 0, budget_bytes }
    }

    #[cfg(test)]
    fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn get(&self, index: u64) -> Option<&Bytes> {
        let position = index.checked_sub(self.first)?;
        self.entries.get(usize::try_from(position).ok()?)
    }

    pub(crate) fn push(&mut self, index: u64, bytes: Bytes) {
        if self.entries.is_empty() {
            self.first = index;
        }
        self.bytes += cost(&bytes);
        self.entries.push_back(bytes);
    }

    /// Removes all entries from `end` on.
    pub(crate) fn truncate(&mut self, end: u64) {
        while self.first + self.entries.len() as u64 > end {
            let Some(bytes) = self.entries.pop_back() else { break };
            self.bytes -= cost(&bytes);
        }
        if self.entries.is_empty() {
            self.first = end;
        }
    }

    /// Removes all entries before `first`.
    pub(crate) fn purge(&mut self, first: u64) {
        while self.first < first && self.pop_front() {}
        if self.entries.is_empty() {
            self.first = self.first.max(first);
        }
    }

    /// Removes the oldest entries while over budget, but only those before `durable_end`.
    pub(crate) fn evict(&mut self, durable_end: u64) {
        while self.bytes > self.budget_bytes && self.first < durable_end && self.pop_front() {}
    }

    fn pop_front(&mut self) -> bool {
        let Some(bytes) = self.entries.pop_front() else { return false };
        self.bytes -= cost(&bytes);
        self.first += 1;
        true
    }
}

fn cost(bytes: &Bytes) -> u64 {
    bytes.len() as u64 + ENTRY_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_durable_entries_leave_when_over_budget() {
        let mut cache = Cache::new(300);
        for index in 10..20 {
            cache.push(index, Bytes::from_static(&[0; 36]));
        }
        cache.evict(14);
        assert_eq!((cache.first(), cache.len(), cache.bytes()), (14, 6, 600));
        cache.evict(20);
        assert_eq!((cache.first(), cache.len(), cache.bytes()), (17, 3, 300));
        assert!(cache.get(16).is_none() && cache.get(17).is_some() && cache.get(20).is_none());
    }

    #[test]
    fn the_account_is_even_after_truncation_and_purge() {
        let mut cache = Cache::new(1 << 20);
        for index in 0..10 {
            cache.push(index, Bytes::from(vec![0; index as usize]));
        }
        cache.truncate(6);
        cache.purge(3);
        assert_eq!((cache.first(), cache.len(), cache.bytes()), (3, 3, 3 + 4 + 5 + 3 * 64));
        cache.truncate(1);
        assert_eq!((cache.first(), cache.len(), cache.bytes()), (1, 0, 0));
        cache.push(1, Bytes::new());
        cache.purge(9);
        assert_eq!((cache.first(), cache.len(), cache.bytes()), (9, 0, 0));
    }
}
