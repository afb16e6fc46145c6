//! Room on the disks (P/W5): who has none, and what the leader does about it.
//!
//! Every answer of a follower to the leader says whether its disk is full. The leader refuses what grows
//! unless a majority has room, itself included: what it commits then always fits on a majority, and the
//! reserves are left to what shrinks the state. A leader whose own disk is full hands over, if a majority
//! goes on without it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::consensus::Consensus;
use super::status::RaftStatus;

/// How often it is looked who has room.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often the log tries again what its full disk refused.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// A voter silent for longer holds nothing for the majority.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// Longest wait for a hand-over, and pauses before the next: when it succeeded, so that leadership does not
/// wander between disks that come and go, and when it failed.
const HANDOVER: Duration = Duration::from_secs(1);
const PAUSE_AFTER_SUCCESS: Duration = Duration::from_secs(30);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Whether the disks have room for what grows, as the leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Room {
    /// On a majority, the leader among it.
    Enough = 0,
    /// Not on the leader's own disk, but on a majority: another one leads in a moment.
    Elsewhere = 1,
    /// On no majority.
    Nowhere = 2,
}

/// What is known of room on disks. A clone shares it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rooms {
    full: Arc<Mutex<BTreeSet<u64>>>,
    room: Arc<AtomicU8>,
}

impl Rooms {
    /// A member has said whether its disk is full.
    pub(crate) fn note(&self, member: u64, is_full: bool) {
        let mut full = self.lock();
        if is_full {
            full.insert(member);
        } else {
            full.remove(&member);
        }
    }

    /// Members whose disks are full, as they last said.
    pub(crate) fn full(&self) -> BTreeSet<u64> {
        self.lock().clone()
    }

    /// Whether what grows may be proposed.
    pub(crate) fn room(&self) -> Room {
        match self.room.load(Ordering::Relaxed) {
            0 => Room::Enough,
            1 => Room::Elsewhere,
            _ => Room::Nowhere,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps looking at the disks until Raft ends.
pub(super) async fn watch(consensus: Consensus) {
    let mut retried = Instant::now();
    let mut may_hand_over = Instant::now();
    while consensus.status().failed.is_none() {
        sleep(LOOK_EVERY).await;
        let rooms = consensus.rooms();
        let is_full = consensus.wal().is_full();
        rooms.note(consensus.raft_id(), is_full);
        let status = consensus.status();
        let room = judge(&status, &rooms.full());
        rooms.room.store(room as u8, Ordering::Relaxed);
        if is_full && retried.elapsed() >= RETRY_EVERY {
            retried = Instant::now();
            if let Err(error) = consensus.wal().retry_allocation() {
                tracing::debug!(%error, "the log has ended");
            }
        }
        let due = Instant::now() >= may_hand_over;
        if room == Room::Elsewhere && due && status.leadership().is_some() {
            may_hand_over = Instant::now() + hand_over(&consensus, &rooms.full()).await;
        }
    }
}

/// Gives leadership to a voter with room. Returns the pause before it may be tried again.
async fn hand_over(consensus: &Consensus, full: &BTreeSet<u64>) -> Duration {
    match consensus.transfer_leadership(None, full, Instant::now() + HANDOVER).await {
        Ok(leadership) => {
            tracing::warn!(%leadership, "disk full: leadership is handed over");
            PAUSE_AFTER_SUCCESS
        }
        Err(error) => {
            tracing::warn!(%error, "disk full: leadership is not handed over");
            PAUSE_AFTER_FAILURE
        }
    }
}

/// Where there is room, by the disks known to be full.
fn judge(status: &RaftStatus, full: &BTreeSet<u64>) -> Room {
    if full.is_empty() {
        return Room::Enough;
    }
    let heard = |member: &u64| {
        let contact = status.followers.get(member).and_then(|follower| follower.last_contact);
        *member == status.raft_id || contact.is_some_and(|at| at.elapsed() < HEARD_WITHIN)
    };
    let majority = status.membership.configs.iter().all(|voters| {
        let with_room = voters.iter().filter(|voter| !full.contains(voter) && heard(voter));
        with_room.count() > voters.len() / 2
    });
    match (majority, full.contains(&status.raft_id)) {
        (true, false) => Room::Enough,
        (true, true) => Room::Elsewhere,
        (false, _) => Room::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::raft::{Follower, Membership, Role, Vote};

    /// Node 1 leads; of the others it has heard these.
    fn status(voters: &[u64], heard: &[u64]) -> RaftStatus {
        let contact = Follower { last_contact: Some(Instant::now()), ..Follower::default() };
        let membership =
            Membership { configs: vec![voters.iter().copied().collect()], ..Membership::default() };
        RaftStatus {
            raft_id: 1,
            role: Role::Leader,
            term: 1,
            vote: Vote::default(),
            leader: Some(1),
            leader_contact: None,
            membership: Arc::new(membership),
            last_log_index: None,
            committed: None,
            applied: None,
            snapshot: None,
            purged: None,
            last_quorum_acked: None,
            followers: Arc::new(heard.iter().map(|id| (*id, contact)).collect::<BTreeMap<_, _>>()),
            failed: None,
        }
    }

    fn with_full(voters: &[u64], heard: &[u64], full: &[u64]) -> Room {
        judge(&status(voters, heard), &full.iter().copied().collect())
    }

    #[tokio::test]
    async fn what_grows_needs_a_majority_with_room() {
        let three = [1, 2, 3];
        assert_eq!(with_full(&three, &[2, 3], &[]), Room::Enough);
        assert_eq!(with_full(&three, &[2, 3], &[3]), Room::Enough);
        assert_eq!(with_full(&three, &[2, 3], &[1]), Room::Elsewhere);
        assert_eq!(with_full(&three, &[2, 3], &[2, 3]), Room::Nowhere);
        assert_eq!(with_full(&three, &[2, 3], &[1, 2, 3]), Room::Nowhere);
        assert_eq!(with_full(&[1], &[], &[1]), Room::Nowhere);
    }

    #[tokio::test]
    async fn a_silent_voter_has_no_room() {
        let three = [1, 2, 3];
        assert_eq!(with_full(&three, &[2], &[2]), Room::Nowhere, "3 is dead, 2 is full");
        assert_eq!(with_full(&three, &[2], &[3]), Room::Enough, "3 is dead and full, the others go on");
        assert_eq!(with_full(&three, &[], &[]), Room::Enough, "without a full disk it is no matter of room");
    }

    #[tokio::test]
    async fn a_joint_configuration_needs_both_majorities() {
        let mut joint = status(&[1, 2, 3], &[2, 3, 4, 5]);
        let configs = vec![[1, 2, 3].into(), [1, 4, 5].into()];
        joint.membership = Arc::new(Membership { configs, ..Membership::default() });
        assert_eq!(judge(&joint, &[2].into()), Room::Enough);
        assert_eq!(judge(&joint, &[4, 5].into()), Room::Nowhere);
    }

    #[test]
    fn a_member_takes_back_what_it_said() {
        let rooms = Rooms::default();
        rooms.note(2, true);
        rooms.note(3, false);
        assert_eq!(rooms.full(), [2].into());
        rooms.note(2, false);
        assert!(rooms.full().is_empty());
    }
}
