//! What a file holds: as programs read it, and as it would be after a crash.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Fate, PAGE_BYTES};

/// Bytes are shared until they differ, so that forks and crashes are cheap: exhaustive tests make thousands.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    pub(super) now: Arc<Vec<u8>>,
    pub(super) durable: Arc<Vec<u8>>,
    pub(super) dirty: BTreeSet<u64>,
}

impl Contents {
    pub(super) fn crash(&mut self, mut fate: impl FnMut(u64) -> Fate) {
        for page in std::mem::take(&mut self.dirty) {
            match fate(page) {
                Fate::Lost => {}
                Fate::Kept => self.keep(page, PAGE_BYTES),
                Fate::Torn(bytes) => self.keep(page, bytes.min(PAGE_BYTES)),
            }
        }
        self.now = Arc::clone(&self.durable);
    }

    pub(super) fn sync(&mut self) {
        let size = self.now.len();
        if self.durable.len() < size {
            Arc::make_mut(&mut self.durable).resize(size, 0);
        }
        for page in std::mem::take(&mut self.dirty) {
            self.keep(page, PAGE_BYTES);
        }
    }

    /// Makes the first bytes of a page durable.
    fn keep(&mut self, page: u64, bytes: usize) {
        let from = page as usize * PAGE_BYTES;
        let to = (from + bytes).min(self.now.len());
        if from < to {
            let durable = Arc::make_mut(&mut self.durable);
            durable.resize(durable.len().max(to), 0);
            durable[from..to].copy_from_slice(&self.now[from..to]);
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], from: usize) {
        let to = from + bytes.len();
        if to > self.now.len() {
            self.resize(to);
        }
        Arc::make_mut(&mut self.now)[from..to].copy_from_slice(bytes);
        self.dirty.extend((from / PAGE_BYTES) as u64..to.div_ceil(PAGE_BYTES) as u64);
    }

    pub(super) fn resize(&mut self, bytes: usize) {
        Arc::make_mut(&mut self.now).resize(bytes, 0);
        // Cutting a file is journalled; what it cut never comes back.
        if bytes < self.durable.len() {
            Arc::make_mut(&mut self.durable).truncate(bytes);
        }
    }
}
