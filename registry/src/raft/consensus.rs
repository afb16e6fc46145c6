//! The handle through which the node agrees with the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{
    ClientWriteError, ForwardReason, ForwardToLeader, InitializeError as RaftInitializeError,
    LinearizableReadError, RaftError,
};
use openraft::impls::OneshotResponder;
use openraft::raft::ClientWriteResponse;
use openraft::{LinearizerOption, Raft, ReadPolicy};
use registry_state::{Applied, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::codec;
use super::contact::Contact;
use super::ending::Ending;
use super::error::{InitializeError, ProposeError, ReadIndexError, TransferError};
use super::log_store::LogStore;
use super::observe::Mapper;
use super::proposals::Proposals;
use super::published::{Elapsed, Published};
use super::room::{Room, Rooms};
use super::serve::InstallTurn;
use super::snapshot::SnapshotStore;
use super::snapshotting::Wish;
use super::state_machine::{Shared, StateMachine};
use super::status::{Leadership, LogPosition, Member, RaftStatus};
use super::successor::best_successor;
use super::types::{CommandBytes, TypeConfig as C};
use crate::metrics::Metrics;

pub(crate) type RaftHandle = Raft<C, StateMachine>;
type WriteError = RaftError<C, ClientWriteError<C>>;

/// A fresh leader refuses writes until its first quorum acknowledgement, which is a round trip away.
const FRESH_LEADER_RETRY: Duration = Duration::from_millis(2);
/// Longest time for Raft and log to end in order.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// A command that was applied.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What it did.
    pub applied: Arc<Applied>,
    /// Index of its entry.
    pub log_index: u64,
}

/// Proof that a majority followed this node at some moment after the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadIndex {
    /// Whoever has applied this entry has seen every write answered before the call. The node that
    /// made this has published it.
    pub position: LogPosition,
    /// The reign that was confirmed.
    pub leadership: Leadership,
    /// Revision of the leader's state, which includes `position`.
    pub revision: u64,
}

/// Agreement with the other nodes. A clone shares it.
#[derive(Clone)]
pub struct Consensus {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) raft: RaftHandle,
    pub(super) raft_id: u64,
    pub(super) election_timeout_max: Duration,
    pub(super) log: LogStore,
    pub(super) shared: Shared,
    pub(super) mapper: Arc<Mapper>,
    pub(super) metrics: Metrics,
    pub(super) status: watch::Receiver<RaftStatus>,
    pub(super) contact: Contact,
    pub(super) install_turn: InstallTurn,
    pub(super) proposals: Proposals,
    pub(super) ending: Ending,
    pub(super) rooms: Rooms,
    pub(super) wishes: mpsc::Sender<Wish>,
}

impl fmt::Debug for Consensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consensus").field("raft_id", &self.inner.raft_id).finish_non_exhaustive()
    }
}

/// What to do about a proposal that was refused.
enum Refused {
    /// Raft did not take it; try again when it may.
    Retry {
        leader: Option<u64>,
        soon: bool,
    },
    Final(ProposeError),
}

impl Consensus {
    /// Proposes a command and waits until it is applied here.
    ///
    /// Waits for a leader up to min(deadline, 2 × `election_timeout_max`) if none is known (P/R5).
    ///
    /// # Errors
    /// `NotLeader`, `NoQuorum` and `Overloaded` mean that it is not applied and never will be; all
    /// others mean that it may be (P/R4).
    pub async fn propose(&self, command: &Command, deadline: Instant) -> Result<Outcome, ProposeError> {
        let operation = &command.operation;
        let command = CommandBytes(Bytes::from(command.encode()));
        let _room = self.inner.proposals.enter(operation, command.0.len())?;
        let begun = Instant::now();
        let patience = deadline.min(begun + self.patience());
        loop {
            let write = self.inner.raft.client_write(command.clone());
            let result = match timeout_at(deadline, write).await {
                Ok(result) => result,
                Err(_) => return Err(ProposeError::OutcomeUnknown),
            };
            let (leader, soon) = match result.map_err(refused) {
                Ok(response) => {
                    self.inner.metrics.replication(begun.elapsed());
                    return outcome(response);
                }
                Err(Refused::Final(error)) => return Err(error),
                Err(Refused::Retry { leader, soon }) => (leader, soon),
            };
            // Named by Raft and heard of late: else it may be the dead one.
            let other = leader.filter(|leader| *leader != self.inner.raft_id);
            if other.is_some() && self.status().leader == other {
                return Err(ProposeError::NotLeader { leader: other });
            }
            if !self.wait_to_propose(soon, patience).await {
                return Err(ProposeError::NoQuorum);
            }
        }
    }

    /// Waits until a proposal has a chance here, or another node leads. False when patience is over.
    async fn wait_to_propose(&self, soon: bool, patience: Instant) -> bool {
        if Instant::now() >= patience || self.is_cut_off() {
            return false;
        }
        if soon {
            sleep(FRESH_LEADER_RETRY).await;
            return true;
        }
        self.known_leader(patience).await.is_some()
    }

    /// True while nobody has led here for longer than a proposal would wait: it need not wait again.
    fn is_cut_off(&self) -> bool {
        let status = self.status();
        let last = match (status.leadership(), status.last_quorum_acked) {
            // A reign that has just begun: its first acknowledgement is on its way.
            (Some(_), None) => return false,
            (Some(_), Some(acked)) => acked,
            (None, _) if status.leader.is_some() => return false,
            (None, _) => self.inner.contact.last_known(),
        };
        last.elapsed() > self.patience()
    }

    /// Proposes a command only while `leadership` holds.
    ///
    /// # Errors
    /// As [`propose`](Self::propose), without waiting for a leader.
    pub async fn propose_as(
        &self,
        leadership: Leadership,
        command: &Command,
        deadline: Instant,
    ) -> Result<Outcome, ProposeError> {
        let command = CommandBytes(Bytes::from(command.encode()));
        let (responder, answer) = OneshotResponder::new_pair();
        let write = self.inner.raft.write(command).with_leader(codec::leadership_to_raft(leadership));
        write.responder(responder).await.map_err(|_| ProposeError::Stopped)?;
        match timeout_at(deadline, answer).await {
            Err(_) => Err(ProposeError::OutcomeUnknown),
            Ok(Err(_)) => Err(ProposeError::Stopped),
            Ok(Ok(Ok(response))) => outcome(response),
            Ok(Ok(Err(error))) => Err(match refused(RaftError::APIError(error)) {
                Refused::Final(error) => error,
                Refused::Retry { soon: true, .. } => ProposeError::NoQuorum,
                Refused::Retry { leader, soon: false } => ProposeError::NotLeader { leader },
            }),
        }
    }

    /// The reign of this node, while it believes to lead.
    pub fn leadership(&self) -> Option<Leadership> {
        self.inner.mapper.leadership()
    }

    /// Confirms by a quorum round begun after this call that this node leads, and waits until the
    /// index is published here. Every call is a round of its own, joined with others by Raft.
    ///
    /// # Errors
    /// `NotLeader` at once; `NoQuorum` by the deadline.
    pub async fn read_index(&self, deadline: Instant) -> Result<ReadIndex, ReadIndexError> {
        let wait = deadline.saturating_duration_since(Instant::now());
        let option = LinearizerOption::from(ReadPolicy::ReadIndex).with_wait_timeout(wait);
        let confirmed = timeout_at(deadline, self.inner.raft.get_read_linearizer(option)).await;
        let linearizer = match confirmed {
            Ok(Ok(linearizer)) => linearizer,
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)))) => {
                return Err(ReadIndexError::NotLeader { leader: forward.leader_id });
            }
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) | Err(_) => {
                return Err(ReadIndexError::NoQuorum);
            }
            Ok(Err(RaftError::Fatal(_))) => return Err(ReadIndexError::Stopped),
        };
        // Never below the first entry of this reign (F7), so its leader id is the one confirmed.
        let position = codec::position_from_raft(linearizer.read_log_id().log_id());
        let published =
            self.wait_applied(position.index, deadline).await.map_err(|_| ReadIndexError::NoQuorum)?;
        let revision = published.state.revision();
        Ok(ReadIndex { position, leadership: position.leadership, revision })
    }

    /// Raft as it looks now.
    pub fn status(&self) -> RaftStatus {
        self.inner.mapper.status()
    }

    /// Raft as it changes. Never hold the borrow across an await.
    pub fn watch_status(&self) -> watch::Receiver<RaftStatus> {
        self.inner.status.clone()
    }

    /// The newest state.
    pub fn published(&self) -> Arc<Published> {
        self.inner.shared.board.load()
    }

    /// The published state once it includes this entry.
    ///
    /// # Errors
    /// [`Elapsed`] at the deadline.
    pub async fn wait_applied(&self, index: u64, deadline: Instant) -> Result<Arc<Published>, Elapsed> {
        self.inner.shared.board.wait_applied(index, deadline).await
    }

    /// The published state once it has this revision.
    ///
    /// # Errors
    /// [`Elapsed`] at the deadline.
    pub async fn wait_revision(&self, revision: u64, deadline: Instant) -> Result<Arc<Published>, Elapsed> {
        self.inner.shared.board.wait_revision(revision, deadline).await
    }

    /// The leader, waiting for one at most two longest election timeouts (P/R5). `None` at once if none
    /// has been known for longer than that already.
    pub async fn known_leader(&self, deadline: Instant) -> Option<u64> {
        if let Some(leader) = self.status().leader {
            return Some(leader);
        }
        if self.is_cut_off() {
            return None;
        }
        let mut status = self.watch_status();
        let deadline = deadline.min(Instant::now() + self.patience());
        let known = status.wait_for(|status| status.leader.is_some() || status.failed.is_some());
        timeout_at(deadline, known).await.ok()?.ok()?.leader
    }

    /// Hands leadership to `target`, or to the best caught-up voter not in `exclude`, and waits until
    /// it leads.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub async fn transfer_leadership(
        &self,
        target: Option<u64>,
        exclude: &BTreeSet<u64>,
        deadline: Instant,
    ) -> Result<Leadership, TransferError> {
        let before = self.status();
        let Some(own) = before.leadership() else {
            return Err(TransferError::NotLeader { leader: before.leader });
        };
        let target = target.or_else(|| best_successor(&before, exclude, self.lease()));
        let target = target.ok_or(TransferError::NoCandidate)?;
        let mut status = self.watch_status();
        self.inner.raft.trigger().transfer_leader(target).await.map_err(|_| TransferError::Stopped)?;
        let moved = status.wait_for(|status| {
            status.failed.is_some() || (status.vote.committed && status.vote.leadership > own)
        });
        match timeout_at(deadline, moved).await {
            Ok(Ok(status)) if status.failed.is_none() => Ok(status.vote.leadership),
            Ok(_) => Err(TransferError::Stopped),
            Err(_) => Err(TransferError::TimedOut { target }),
        }
    }

    /// Founds the cluster with all its voters (P/N3).
    ///
    /// # Errors
    /// See [`InitializeError`].
    pub async fn initialize(&self, voters: BTreeMap<u64, Member>) -> Result<(), InitializeError> {
        match self.inner.raft.initialize(voters).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(RaftInitializeError::NotAllowed(_))) => Err(InitializeError::NotEmpty),
            Err(RaftError::APIError(RaftInitializeError::NotInMembers(error))) => {
                Err(InitializeError::BadMembers(error.to_string()))
            }
            Err(RaftError::Fatal(_)) => Err(InitializeError::Stopped),
        }
    }

    /// True once the node has a vote, a log entry or a snapshot.
    pub fn is_initialized(&self) -> bool {
        !self.inner.log.is_pristine() || self.inner.shared.snapshots.current_bytes() > 0
    }

    /// The longest election timeout: the lease of a leader.
    pub fn lease(&self) -> Duration {
        self.inner.election_timeout_max
    }

    /// Whether the disk of a member is full, as it last said to this leader; or this node's own.
    pub fn has_full_disk(&self, raft_id: u64) -> bool {
        self.inner.rooms.full().contains(&raft_id)
    }

    /// Whether the leader may propose what makes the state grow (P/W5).
    pub fn room(&self) -> Room {
        self.inner.rooms.room()
    }

    /// Members whose disks are full: this node's own, and on the leader the others' as they last said.
    pub fn full_disks(&self) -> BTreeSet<u64> {
        self.inner.rooms.full()
    }

    /// What the log has on disk and ready for use.
    pub fn storage(&self) -> registry_wal::Statistics {
        self.inner.log.wal().statistics()
    }

    /// Free bytes of the log's file system; nothing if it does not say.
    pub fn free_bytes(&self) -> Option<u64> {
        self.inner.log.wal().free_bytes().ok()
    }

    /// Ends Raft on this node, then the log. Pending calls fail. When it returns, nothing of Raft uses the
    /// data folder any more.
    pub async fn shutdown(&self) {
        let end = async {
            if let Err(error) = self.inner.raft.shutdown().await {
                tracing::warn!(%error, "Raft did not end in order");
            }
            if let Err(error) = self.inner.log.barrier().wait().await {
                tracing::debug!(%error, "the log had ended before");
            }
        };
        // A log without room on its disk writes nothing, and Raft waits for it.
        if timeout(SHUTDOWN_LIMIT, end).await.is_err() {
            tracing::warn!("the log could not be written to its end");
        }
        self.inner.log.wal().close();
        self.inner.ending.wait(&self.inner.install_turn).await;
    }

    fn patience(&self) -> Duration {
        2 * self.inner.election_timeout_max
    }

    pub(crate) fn raft_id(&self) -> u64 {
        self.inner.raft_id
    }

    pub(crate) fn raft(&self) -> &RaftHandle {
        &self.inner.raft
    }

    pub(crate) fn snapshots(&self) -> &SnapshotStore {
        &self.inner.shared.snapshots
    }

    pub(crate) fn wal(&self) -> &registry_wal::Wal {
        self.inner.log.wal()
    }

    pub(crate) fn rooms(&self) -> Rooms {
        self.inner.rooms.clone()
    }

    pub(crate) fn contact(&self) -> Contact {
        self.inner.contact.clone()
    }

    pub(crate) fn install_turn(&self) -> InstallTurn {
        self.inner.install_turn.clone()
    }
}

fn outcome(response: ClientWriteResponse<C>) -> Result<Outcome, ProposeError> {
    let log_index = response.log_id.index;
    // Only entries without a command have no reply, and those are not proposed here.
    let applied = response.data.0.ok_or(ProposeError::OutcomeUnknown)?;
    Ok(Outcome { applied, log_index })
}

fn refused(error: WriteError) -> Refused {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(ForwardToLeader {
            leader_id, reason, ..
        })) => Refused::Retry { leader: leader_id, soon: reason != ForwardReason::NotLeader },
        RaftError::APIError(_) => Refused::Final(ProposeError::OutcomeUnknown),
        RaftError::Fatal(_) => Refused::Final(ProposeError::Stopped),
    }
}
