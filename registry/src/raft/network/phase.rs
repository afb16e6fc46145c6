//! When a leader without quorum may send entries (P/N8).
//!
//! Everything that a leader sends renews the lease that its followers grant it (F4). One that can send but
//! not hear would hold them for ever, so it keeps silent from time to time: openraft does it for
//! heartbeats, by `quorum_loss_probe_interval`, and this does it for the log, in the same phases.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::super::status::{Leadership, RaftStatus};

/// Lease and phase, in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Phases {
    /// `election_timeout_max`.
    pub(crate) lease: Duration,
}

impl Phases {
    /// R of P/N8: long enough for an election in one silent phase.
    pub(crate) fn interval(self) -> Duration {
        (2 * self.lease).max(Duration::from_secs(1))
    }

    /// Whether a log stream may be opened when the last quorum acknowledgement is so old: in the phases in
    /// which openraft sends heartbeats.
    fn may_open(self, age: Duration) -> bool {
        let Some(lost) = age.checked_sub(self.lease) else { return true };
        (lost.as_nanos() / self.interval().as_nanos()) % 2 == 1
    }

    /// Whether an open one may stay: a lease longer, because an acknowledgement may be on its way.
    fn may_stay(self, age: Duration) -> bool {
        age < 2 * self.lease || self.may_open(age)
    }

    /// The age at which an open stream should be looked at again: at the end of its second lease, or of
    /// the phase.
    fn next_look(self, age: Duration) -> Duration {
        let second = 2 * self.lease;
        if age < second {
            return second;
        }
        let interval = self.interval();
        let phase = (age - self.lease).as_nanos() / interval.as_nanos();
        let ended = u32::try_from(phase).unwrap_or(u32::MAX).saturating_add(1);
        self.lease + interval.saturating_mul(ended)
    }
}

/// When a quorum last followed this node, as openraft tells. A clone shares it.
#[derive(Debug, Clone)]
pub(crate) struct Quorum {
    phases: Phases,
    last: Arc<Mutex<Option<(Leadership, Instant)>>>,
}

impl Quorum {
    pub(crate) fn new(lease: Duration) -> Self {
        Self { phases: Phases { lease }, last: Arc::default() }
    }

    /// Takes over what Raft tells. Before its first acknowledgement a reign counts from its beginning; one
    /// that needs nobody else has no phases.
    pub(crate) fn note(&self, status: &RaftStatus, now: Instant) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let needs_others =
            status.membership.configs.iter().any(|set| set.len() > 1 || !set.contains(&status.raft_id));
        *last = status.leadership().filter(|_| needs_others).map(|leadership| {
            let begun = last.filter(|(known, _)| *known == leadership).map_or(now, |(_, at)| at);
            (leadership, status.last_quorum_acked.map_or(begun, |acked| acked.max(begun)))
        });
    }

    fn age(&self) -> Option<Duration> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.map(|(_, at)| at.elapsed())
    }

    /// Whether a log stream may be opened now.
    pub(crate) fn may_open(&self) -> bool {
        self.age().is_none_or(|age| self.phases.may_open(age))
    }

    /// Returns when an open log stream must be closed.
    pub(crate) async fn lost(self) {
        loop {
            let age = self.age().unwrap_or_default();
            if !self.phases.may_stay(age) {
                return;
            }
            sleep_until(Instant::now() + (self.phases.next_look(age) - age)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::raft::{Membership, Role, Vote};

    const PHASES: Phases = Phases { lease: Duration::from_millis(300) };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn streams_open_while_the_lease_lasts_and_then_in_every_second_phase() {
        assert_eq!(PHASES.interval(), ms(1_000));
        for (age, open) in [
            (0, true),
            (299, true),
            (300, false),
            (1_299, false),
            (1_300, true),
            (2_299, true),
            (2_300, false),
        ] {
            assert_eq!(PHASES.may_open(ms(age)), open, "{age} ms");
        }
    }

    #[test]
    fn an_open_stream_is_closed_after_two_leases() {
        assert!(PHASES.may_stay(ms(599)));
        assert!(!PHASES.may_stay(ms(600)));
        assert!(PHASES.may_stay(ms(1_300)));
        assert!(!PHASES.may_stay(ms(2_300)));
    }

    #[test]
    fn a_phase_is_two_long_leases() {
        assert_eq!(Phases { lease: ms(900) }.interval(), ms(1_800));
    }

    fn leader(term: u64, acked: Option<Instant>, voters: &[u64]) -> RaftStatus {
        let leadership = Leadership { term, node: 1 };
        RaftStatus {
            raft_id: 1,
            role: Role::Leader,
            term,
            vote: Vote { leadership, committed: true },
            leader: Some(1),
            leader_contact: None,
            membership: Arc::new(Membership {
                configs: vec![voters.iter().copied().collect()],
                ..Membership::default()
            }),
            last_log_index: None,
            committed: None,
            applied: None,
            snapshot: None,
            purged: None,
            last_quorum_acked: acked,
            followers: Arc::default(),
            failed: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reign_without_any_acknowledgement_counts_from_its_beginning() {
        let quorum = Quorum::new(ms(300));
        quorum.note(&leader(2, None, &[1, 2, 3]), Instant::now());
        assert!(quorum.may_open());
        tokio::time::advance(ms(400)).await;
        quorum.note(&leader(2, None, &[1, 2, 3]), Instant::now());
        assert!(!quorum.may_open());
        quorum.note(&leader(3, None, &[1, 2, 3]), Instant::now());
        assert!(quorum.may_open(), "another reign");
        tokio::time::advance(ms(400)).await;
        quorum.note(&leader(3, Some(Instant::now()), &[1, 2, 3]), Instant::now());
        assert!(quorum.may_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_voter_never_keeps_silent() {
        let quorum = Quorum::new(ms(300));
        quorum.note(&leader(2, None, &[1]), Instant::now());
        tokio::time::advance(ms(400)).await;
        assert!(quorum.may_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_told_to_close_two_leases_after_the_last_acknowledgement() {
        let quorum = Quorum::new(ms(300));
        let begun = Instant::now();
        quorum.note(&leader(2, Some(begun), &[1, 2, 3]), begun);
        let lost = tokio::spawn(quorum.clone().lost());
        tokio::time::sleep(ms(500)).await;
        quorum.note(&leader(2, Some(Instant::now()), &[1, 2, 3]), begun);
        lost.await.unwrap();
        assert_eq!(begun.elapsed(), ms(1_100));
    }

    proptest! {
        #[test]
        fn whoever_looks_as_told_never_misses_the_end_of_a_phase(
            age in 0_u64..20_000, later in 0_u64..20_000, lease in 50_u64..2_000,
        ) {
            let phases = Phases { lease: ms(lease) };
            let age = ms(age);
            let look = phases.next_look(age);
            prop_assert!(look > age);
            let between = age + ms(later);
            if phases.may_stay(age) && between < look {
                prop_assert!(phases.may_stay(between), "closed at {between:?}, looked at {look:?}");
            }
        }

        #[test]
        fn what_may_be_opened_may_stay(age in 0_u64..60_000, lease in 50_u64..2_000) {
            let phases = Phases { lease: ms(lease) };
            prop_assert!(!phases.may_open(ms(age)) || phases.may_stay(ms(age)));
        }
    }
}
