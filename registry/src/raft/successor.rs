//! Who should lead next, when this leader hands over.

use std::collections::BTreeSet;
use std::time::Duration;

use super::status::RaftStatus;

/// Entries that a successor may be behind: it gets them in the moment before it is told.
const MAX_LAG: u64 = 1000;

/// The voter whose log is furthest, among those heard within a lease. A voter far behind would stop
/// writes for seconds.
pub(super) fn best_successor(status: &RaftStatus, exclude: &BTreeSet<u64>, lease: Duration) -> Option<u64> {
    let voters = status.membership.voters();
    let candidates = voters.iter().filter(|id| **id != status.raft_id && !exclude.contains(*id));
    let alive = candidates.filter(|id| {
        let contact = status.followers.get(*id).and_then(|follower| follower.last_contact);
        contact.is_some_and(|at| at.elapsed() < 2 * lease)
    });
    let lags = alive.filter_map(|id| Some((status.lag(*id)?, *id)));
    lags.filter(|(lag, _)| *lag <= MAX_LAG).min().map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::*;
    use crate::raft::{Follower, Leadership, LogPosition, Membership, Role, Vote};

    const LEASE: Duration = Duration::from_millis(300);

    /// Node 1 leads at index 5,000; the others have these entries and were heard at these times.
    fn status(followers: &[(u64, u64, Option<Instant>)]) -> RaftStatus {
        let leadership = Leadership { term: 2, node: 1 };
        let follower = |index, last_contact| Follower {
            matched: Some(LogPosition { leadership, index }),
            last_contact,
            ..Follower::default()
        };
        let voters = followers.iter().map(|(id, _, _)| *id).chain([1]).collect();
        RaftStatus {
            raft_id: 1,
            role: Role::Leader,
            term: 2,
            vote: Vote { leadership, committed: true },
            leader: Some(1),
            leader_contact: None,
            membership: Arc::new(Membership { configs: vec![voters], ..Membership::default() }),
            last_log_index: Some(5_000),
            committed: None,
            applied: None,
            snapshot: None,
            purged: None,
            last_quorum_acked: None,
            followers: Arc::new(
                followers
                    .iter()
                    .map(|(id, index, at)| (*id, follower(*index, *at)))
                    .collect::<BTreeMap<_, _>>(),
            ),
            failed: None,
        }
    }

    fn best(followers: &[(u64, u64, Option<Instant>)], exclude: &[u64]) -> Option<u64> {
        best_successor(&status(followers), &exclude.iter().copied().collect(), LEASE)
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_log_succeeds() {
        let now = Some(Instant::now());
        assert_eq!(best(&[(2, 4_990, now), (3, 4_999, now)], &[]), Some(3));
        assert_eq!(best(&[(2, 4_990, now), (3, 4_999, now)], &[3]), Some(2), "unless it stops too");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_or_far_behind_does_not_succeed() {
        let old = Some(Instant::now());
        tokio::time::advance(3 * LEASE).await;
        let now = Some(Instant::now());
        assert_eq!(best(&[(2, 5_000, old), (3, 4_500, now)], &[]), Some(3));
        assert_eq!(best(&[(2, 5_000, None), (3, 3_999, now)], &[]), None);
    }
}
