//! When a member is dead: a pure verdict over the outcomes of probes.

use std::time::Duration;

use registry_proto::internal::{NodeState, ProbeResponse};
use tokio::time::Instant;

use crate::raft::HashMark;

/// Probes that must fail in a row before a member counts as dead (P/N6).
pub(super) const FAILURES: u32 = 30;
/// Shortest time between two probes of a member: a shorter one finds nothing sooner and is a load.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// Longest: status and the comparison of states stay fresh however long a member may be silent.
const LONGEST_INTERVAL: Duration = Duration::from_secs(2);

/// Time between two probes of a member.
pub(super) fn interval(dead_after: Duration) -> Duration {
    (dead_after / FAILURES).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
}

/// What the leader knows of a member from its own probes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemberReport {
    /// Its last answer under its id and disk; unset = none in this reign.
    pub answer: Option<MemberAnswer>,
    /// When that answer came.
    pub last_answer: Option<Instant>,
    /// Probes that it has not answered since.
    pub failures_in_row: u32,
    /// When the first of them was sent.
    pub failing_since: Option<Instant>,
    /// True once it has failed 30 probes in a row over `dead_member_after`; false with the next answer.
    pub is_dead: bool,
    /// Who answers at its address instead: another disk, or the same one that is no member any more
    /// (PRISTINE, DISK_LOST, REMOVED). Counts as a failure of the member.
    pub occupant: Option<MemberAnswer>,
}

impl MemberReport {
    /// Why the member, or what is left of it, is out of Raft until someone acts; for people.
    pub fn quarantine(&self) -> Option<&str> {
        let lost = self.occupant.as_ref().filter(|occupant| occupant.state == NodeState::DiskLost);
        let member = self.answer.as_ref().filter(|_| self.failures_in_row == 0);
        let is_out =
            |answer: &&MemberAnswer| matches!(answer.state, NodeState::Quarantined | NodeState::DiskLost);
        lost.or(member).filter(is_out).map(|answer| answer.quarantine.as_str())
    }
}

/// What a node said to a probe.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemberAnswer {
    /// How far it has come.
    pub state: NodeState,
    /// Its Raft id; 0 = it has none.
    pub raft_id: u64,
    /// UUID of its data folder.
    pub disk_id: String,
    /// Configured name.
    pub node_id: String,
    /// Version of its program.
    pub version: String,
    /// Random id of its process.
    pub process_nonce: u64,
    /// True if it is stopping on purpose.
    pub stopping: bool,
    /// Why it is out of Raft, for people; empty if it is not.
    pub quarantine: String,
    /// Index of the last entry that it has applied; 0 = none.
    pub applied_index: u64,
    /// Hash of its state at a multiple of 1,024 entries.
    pub hash_mark: Option<HashMark>,
}

/// What became of one probe.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    /// The member answered.
    Answered(MemberAnswer),
    /// Another node answered, or the same disk without its place.
    Occupied(MemberAnswer),
    /// Nobody did in time.
    Silent,
}

impl Outcome {
    /// What an answer means for the member `raft_id` with this disk (P/N4, R4; P/N6).
    pub(super) fn of(answer: ProbeResponse, raft_id: u64, disk_id: &str) -> Self {
        let answer = MemberAnswer::from(answer);
        let takes_part = match answer.state {
            NodeState::Adopted | NodeState::Learner | NodeState::Voter | NodeState::Prepared => true,
            // Out of Raft, but with its disk: it goes on when somebody has helped it.
            NodeState::Quarantined => true,
            NodeState::Pristine | NodeState::Removed | NodeState::DiskLost | NodeState::Unspecified => false,
        };
        let is_itself = answer.raft_id == raft_id && (disk_id.is_empty() || answer.disk_id == disk_id);
        if takes_part && is_itself { Self::Answered(answer) } else { Self::Occupied(answer) }
    }
}

impl From<ProbeResponse> for MemberAnswer {
    fn from(answer: ProbeResponse) -> Self {
        let state = answer.state();
        let identity = answer.identity.unwrap_or_default();
        let hash = <[u8; 8]>::try_from(answer.state_hash.as_ref()).ok().map(u64::from_be_bytes);
        Self {
            state,
            raft_id: identity.raft_id,
            disk_id: identity.disk_id,
            node_id: identity.node_id,
            version: answer.version,
            process_nonce: answer.process_nonce,
            stopping: answer.stopping,
            quarantine: answer.quarantine,
            applied_index: answer.applied_index,
            hash_mark: hash.map(|hash| HashMark { index: answer.state_hash_index, hash }),
        }
    }
}

impl MemberReport {
    /// Takes note of a probe that was sent at `sent` and ended at `ended`.
    pub(super) fn note(&mut self, outcome: Outcome, sent: Instant, ended: Instant, dead_after: Duration) {
        match outcome {
            Outcome::Answered(answer) => {
                *self = Self { answer: Some(answer), last_answer: Some(ended), ..Self::default() };
                return;
            }
            Outcome::Occupied(occupant) => self.occupant = Some(occupant),
            // Whoever was there may be gone as well.
            Outcome::Silent => self.occupant = None,
        }
        self.failures_in_row = self.failures_in_row.saturating_add(1);
        let since = *self.failing_since.get_or_insert(sent);
        let silent = sent.saturating_duration_since(since);
        self.is_dead = self.failures_in_row >= FAILURES && silent >= dead_after;
    }

    /// Forgets the failures: this node has been away, so they prove nothing (P/N6).
    pub(super) fn forgive(&mut self) {
        self.failures_in_row = 0;
        self.failing_since = None;
        self.is_dead = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use registry_proto::internal::NodeIdentity;

    use super::*;

    const DEAD_AFTER: Duration = Duration::from_secs(60);

    fn response(state: NodeState, raft_id: u64, disk_id: &str) -> ProbeResponse {
        let identity = NodeIdentity { raft_id, disk_id: disk_id.into(), ..NodeIdentity::default() };
        ProbeResponse { identity: Some(identity), state: state.into(), ..ProbeResponse::default() }
    }

    fn answered() -> Outcome {
        Outcome::of(response(NodeState::Voter, 2, "disk"), 2, "disk")
    }

    /// Sends probes at these times after the election; each ends a second later.
    fn report(probes: impl IntoIterator<Item = (Duration, Outcome)>) -> MemberReport {
        let begin = Instant::now();
        let mut report = MemberReport::default();
        for (after, outcome) in probes {
            report.note(outcome, begin + after, begin + after + Duration::from_secs(1), DEAD_AFTER);
        }
        report
    }

    fn silent_every(interval: Duration, count: u32) -> impl Iterator<Item = (Duration, Outcome)> {
        (0..count).map(move |number| (interval * number, Outcome::Silent))
    }

    #[test]
    fn thirty_failures_over_the_whole_time_make_a_member_dead() {
        let every = interval(DEAD_AFTER);
        assert_eq!(every, Duration::from_secs(2));
        assert!(!report(silent_every(every, 30)).is_dead, "that is 58 s only");
        assert!(report(silent_every(every, 31)).is_dead);
    }

    #[test]
    fn a_hundred_failures_in_a_short_time_do_not() {
        assert!(!report(silent_every(Duration::from_millis(100), 100)).is_dead);
    }

    #[test]
    fn few_failures_over_a_long_time_do_not() {
        assert!(!report(silent_every(Duration::from_secs(10), 29)).is_dead);
        assert!(report(silent_every(Duration::from_secs(10), 30)).is_dead);
    }

    #[test]
    fn one_answer_brings_a_dead_member_back_and_the_count_begins_again() {
        let every = interval(DEAD_AFTER);
        let probes = silent_every(every, 31).chain([(every * 31, answered())]);
        let back = report(probes);
        assert!(!back.is_dead && back.failures_in_row == 0 && back.last_answer.is_some());
        let again = silent_every(every, 30).map(|(after, outcome)| (after + every * 32, outcome));
        let probes = silent_every(every, 31).chain([(every * 31, answered())]).chain(again);
        assert!(!report(probes).is_dead);
    }

    #[test]
    fn what_was_found_before_a_stall_does_not_count() {
        let every = interval(DEAD_AFTER);
        let mut report = report(silent_every(every, 31));
        report.forgive();
        assert!(!report.is_dead);
        report.note(Outcome::Silent, Instant::now(), Instant::now(), DEAD_AFTER);
        assert!(!report.is_dead);
    }

    #[test]
    fn another_disk_or_a_node_without_its_place_is_no_answer_of_the_member() {
        let of = |state, raft_id, disk| Outcome::of(response(state, raft_id, disk), 2, "disk");
        for state in [NodeState::Adopted, NodeState::Learner, NodeState::Voter, NodeState::Quarantined] {
            assert!(matches!(of(state, 2, "disk"), Outcome::Answered(_)), "{state:?}");
            assert!(matches!(of(state, 2, "other"), Outcome::Occupied(_)), "{state:?}");
            assert!(matches!(of(state, 4, "disk"), Outcome::Occupied(_)), "{state:?}");
        }
        for state in [NodeState::Pristine, NodeState::Removed, NodeState::DiskLost] {
            assert!(matches!(of(state, 2, "disk"), Outcome::Occupied(_)), "{state:?}");
        }
    }

    #[test]
    fn an_interval_has_bounds_on_both_sides() {
        assert_eq!(interval(Duration::from_secs(1)), SHORTEST_INTERVAL);
        assert_eq!(interval(Duration::from_secs(6)), Duration::from_millis(200));
        assert_eq!(interval(Duration::from_secs(86_400)), LONGEST_INTERVAL);
    }

    proptest! {
        /// Whatever happens before: dead means that the last 30 probes and the whole of `dead_member_after`
        /// were silent, and nothing else does.
        #[test]
        fn dead_is_exactly_a_long_row_of_failures(
            probes in prop::collection::vec((1_u64..5_000, prop::bool::weighted(0.02)), 1..200),
        ) {
            let mut after = Duration::ZERO;
            let mut row: Vec<Duration> = Vec::new();
            let mut list = Vec::new();
            for (pause_ms, answers) in probes {
                after += Duration::from_millis(pause_ms);
                if answers { row.clear() } else { row.push(after) }
                list.push((after, if answers { answered() } else { Outcome::Silent }));
            }
            let silent = row.last().zip(row.first()).map_or(Duration::ZERO, |(last, first)| *last - *first);
            prop_assert_eq!(report(list).is_dead, row.len() >= 30 && silent >= DEAD_AFTER);
        }
    }
}
