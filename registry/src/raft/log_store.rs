//! The log as openraft sees it, over the write-ahead log, which knows bytes only.
//!
//! When `append` returns the entries are readable; when its callback fires they are durable. Votes,
//! entries, truncations and purges reach the disk in the order of the calls, because the log has one
//! queue (P/W5): a vote that overtakes entries can lose committed data.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use registry_wal::{Callback, Purged, Wal};
use tokio::sync::oneshot;

use super::codec;
use super::types::{Entry, LogId, RaftVote, TypeConfig as C};

/// Payload of one replication request, in bytes; a single larger entry still goes alone. Twice this
/// fits into a message between nodes with room to spare.
const MAX_REQUEST_BYTES: u64 = 1 << 20;
/// What is read at once where everything must be returned.
const MAX_READ_BYTES: u64 = 8 << 20;
/// Bytes that may wait for the disk before `append` waits too. Proposals are bounded below that, so only
/// a follower far behind its leader meets it.
const MAX_QUEUED_BYTES: u64 = 32 << 20;

/// The log. A clone is also a reader.
#[derive(Debug, Clone)]
pub(crate) struct LogStore {
    wal: Wal,
}

/// Waits until everything queued so far is durable.
#[derive(Debug, Clone)]
pub(crate) struct Barrier {
    wal: Wal,
}

impl Barrier {
    pub(crate) async fn wait(&self) -> io::Result<()> {
        let (done, durable) = signal();
        self.wal.barrier(done)?;
        answered(durable).await
    }
}

impl LogStore {
    pub(crate) fn new(wal: Wal) -> Self {
        Self { wal }
    }

    pub(crate) fn barrier(&self) -> Barrier {
        Barrier { wal: self.wal.clone() }
    }

    pub(crate) fn wal(&self) -> &Wal {
        &self.wal
    }

    /// True if the log holds neither vote nor entries, and never did.
    pub(crate) fn is_pristine(&self) -> bool {
        let state = self.wal.state();
        state.vote.is_none() && state.last.is_none() && state.purged.is_none()
    }

    fn read(&self, start: u64, end: u64, max_bytes: u64) -> io::Result<Vec<Entry>> {
        if start >= end {
            return Ok(Vec::new());
        }
        let entries = self.wal.read(start..end, max_bytes)?;
        entries.into_iter().map(|entry| Ok(codec::entry_from_bytes(entry.bytes)?)).collect()
    }

    fn log_id(&self, index: u64) -> io::Result<Option<LogId>> {
        Ok(self.read(index, index + 1, 1)?.first().map(|entry| entry.log_id))
    }

    fn purged(&self) -> io::Result<Option<LogId>> {
        let purged = self.wal.state().purged;
        Ok(purged.map(|purged| codec::log_id_from_bytes(purged.mark)).transpose()?)
    }
}

fn signal() -> (Callback, oneshot::Receiver<io::Result<()>>) {
    let (sender, receiver) = oneshot::channel();
    // Nobody waits any more if the receiver is gone; the outcome is then found in the log itself.
    let callback = move |result| drop(sender.send(result));
    (Box::new(callback), receiver)
}

async fn answered(durable: oneshot::Receiver<io::Result<()>>) -> io::Result<()> {
    durable.await.map_err(|_| io::Error::other("the log has ended"))?
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(index) => index.saturating_add(1),
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<C> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (mut start, end) = bounds(&range);
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let more = self.read(start, end, MAX_READ_BYTES)?;
            let Some(last) = more.last() else { return Ok(entries) };
            start = last.log_id.index + 1;
            entries.extend(more);
        }
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, MAX_REQUEST_BYTES)
    }

    async fn read_vote(&mut self) -> Result<Option<RaftVote>, io::Error> {
        let vote = self.wal.state().vote;
        Ok(vote.map(codec::vote_from_bytes).transpose()?)
    }
}

impl RaftLogStorage<C> for LogStore {
    type LogReader = Self;

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn get_log_state(&mut self) -> Result<LogState<C>, io::Error> {
        let purged = self.purged()?;
        let last = match self.wal.state().last {
            Some(last) => self.log_id(last)?,
            None => None,
        };
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.or(purged) })
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> Result<(), io::Error> {
        let (done, durable) = signal();
        self.wal.set_vote(Bytes::from(codec::vote_to_bytes(vote)), done)?;
        answered(durable).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<C>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        if self.wal.queued_bytes() > MAX_QUEUED_BYTES {
            self.barrier().wait().await?;
        }
        let encode = |entry: Entry| registry_wal::Entry {
            index: entry.log_id.index,
            bytes: Bytes::from(codec::entry_to_bytes(&entry)),
        };
        let entries = entries.into_iter().map(encode).collect();
        self.wal.append(entries, Box::new(move |result| callback.io_completed(result)))?;
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        Ok(self.wal.truncate_after(last.map(|id| id.index))?)
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let mark = Bytes::from(codec::log_id_to_bytes(&upto));
        Ok(self.wal.purge(Purged { index: upto.index, mark })?)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        Ok(self.wal.set_committed(committed.map(|id| id.index))?)
    }

    /// Clamped to what the log has: the rest of a tail that was cut is learnt from the leader again.
    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let state = self.wal.state();
        let (Some(committed), Some(last)) = (state.committed, state.last) else { return Ok(None) };
        match self.log_id(committed.min(last))? {
            Some(id) => Ok(Some(id)),
            // Purged: a snapshot covers it.
            None => self.purged(),
        }
    }
}
