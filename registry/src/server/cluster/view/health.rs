//! How one member is, in a word and a sentence that says what to do.

use std::time::Duration;

use registry_proto::internal::NodeState;
use registry_proto::v1::MemberHealth;
use tokio::time::Instant;

use crate::member_health::MemberReport;

/// Entries behind the leader from which a member counts as lagging.
const LAGGING_ENTRIES: u64 = 10_000;

/// What the leader knows of another member.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Evidence<'a> {
    /// Whether Raft has it: otherwise it is being admitted.
    pub(super) in_raft: bool,
    /// Time since it last answered a heartbeat.
    pub(super) silent: Option<Duration>,
    /// Entries that it is behind.
    pub(super) lag: Option<u64>,
    /// How much of a snapshot it has stored.
    pub(super) snapshot_percent: Option<u8>,
    /// What the probes found.
    pub(super) report: Option<&'a MemberReport>,
    /// Whether its state differs after the same entries.
    pub(super) differs: bool,
}

impl Evidence<'_> {
    /// The word and the sentence. `lease` is `election_timeout_max`.
    pub(super) fn judge(&self, lease: Duration, now: Instant) -> (MemberHealth, String) {
        let (health, detail) = self.by_silence(lease, now);
        if !self.differs {
            return (health, detail);
        }
        let alert =
            "its state differs from the leader's after the same log: report this, and replace its disk";
        let detail = if detail.is_empty() { alert.to_owned() } else { format!("{alert}; {detail}") };
        (health, detail)
    }

    fn by_silence(&self, lease: Duration, now: Instant) -> (MemberHealth, String) {
        if let Some(reason) = self.report.and_then(MemberReport::quarantine) {
            return (MemberHealth::Quarantined, reason.to_owned());
        }
        if let Some(report) = self.report.filter(|report| report.is_dead) {
            return (MemberHealth::Dead, dead(report, now));
        }
        if !self.in_raft {
            return match self.report.map(|report| (report.last_answer, report.failures_in_row)) {
                Some((Some(_), 0)) => (MemberHealth::Lagging, "it is being admitted".to_owned()),
                _ => (
                    MemberHealth::Unreachable,
                    "it is being admitted, but does not answer: see whether it runs".to_owned(),
                ),
            };
        }
        match (self.silent, self.lag) {
            (None, _) => (
                MemberHealth::Unreachable,
                "not heard since this node leads: see whether it runs and can be reached".to_owned(),
            ),
            (Some(silent), _) if silent > lease => {
                let seconds = silent.as_secs_f64();
                let detail = format!("not heard for {seconds:.1} s: see whether it runs and can be reached");
                (MemberHealth::Unreachable, detail)
            }
            (Some(_), lag) => self.by_progress(lag),
        }
    }

    fn by_progress(&self, lag: Option<u64>) -> (MemberHealth, String) {
        let stopping =
            self.report.and_then(|report| report.answer.as_ref()).is_some_and(|answer| answer.stopping);
        match (self.snapshot_percent, lag) {
            (Some(percent), _) => {
                (MemberHealth::Lagging, format!("it receives a snapshot: {percent} % are there"))
            }
            (None, Some(lag)) if lag > LAGGING_ENTRIES => {
                (MemberHealth::Lagging, format!("{lag} log entries behind: it is catching up"))
            }
            _ if stopping => (MemberHealth::Healthy, "it is stopping on purpose".to_owned()),
            _ => (MemberHealth::Healthy, String::new()),
        }
    }
}

fn dead(report: &MemberReport, now: Instant) -> String {
    let since = report.failing_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
    let seconds = since.as_secs();
    match report.occupant.as_ref() {
        Some(other) => {
            let state = match other.state {
                NodeState::Pristine => "an empty node",
                NodeState::Removed => "a removed node",
                _ => "another node",
            };
            format!("no answer of this member for {seconds} s; {state} answers at its address")
        }
        None => format!(
            "no answer for {seconds} s: start it again with its disk, or replace it; it is left out meanwhile"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member_health::MemberAnswer;

    const LEASE: Duration = Duration::from_millis(300);

    fn judged(evidence: Evidence<'_>) -> (MemberHealth, String) {
        let now = Instant::now() + Duration::from_secs(100);
        evidence.judge(LEASE, now)
    }

    fn heard() -> Evidence<'static> {
        Evidence { in_raft: true, silent: Some(Duration::ZERO), lag: Some(0), ..Evidence::default() }
    }

    fn answer(state: NodeState, quarantine: &str) -> MemberAnswer {
        MemberAnswer { state, quarantine: quarantine.into(), ..MemberAnswer::default() }
    }

    #[test]
    fn a_dead_member_is_told_from_one_that_is_only_not_heard() {
        let report =
            MemberReport { is_dead: true, failing_since: Some(Instant::now()), ..MemberReport::default() };
        let silent = Evidence { silent: Some(Duration::from_secs(70)), ..heard() };
        assert_eq!(judged(silent).0, MemberHealth::Unreachable);
        let (health, detail) = judged(Evidence { report: Some(&report), ..silent });
        assert_eq!(health, MemberHealth::Dead);
        assert!(detail.contains("for 100 s") || detail.contains("for 99 s"), "{detail}");
    }

    #[test]
    fn a_quarantined_node_tells_why_also_when_its_id_is_dead() {
        let member = MemberReport {
            answer: Some(answer(NodeState::Quarantined, "the log is damaged")),
            ..MemberReport::default()
        };
        let seen = judged(Evidence { report: Some(&member), ..heard() });
        assert_eq!(seen, (MemberHealth::Quarantined, "the log is damaged".to_owned()));
        let lost = MemberReport {
            is_dead: true,
            failures_in_row: 40,
            occupant: Some(answer(NodeState::DiskLost, "the log is gone")),
            ..MemberReport::default()
        };
        let seen = judged(Evidence { report: Some(&lost), ..heard() });
        assert_eq!(seen, (MemberHealth::Quarantined, "the log is gone".to_owned()));
    }

    #[test]
    fn a_member_that_is_being_admitted_is_no_good_member_yet() {
        let answered = MemberReport { last_answer: Some(Instant::now()), ..MemberReport::default() };
        let joining = Evidence { report: Some(&answered), ..Evidence::default() };
        assert_eq!(judged(joining).0, MemberHealth::Lagging);
        assert_eq!(judged(Evidence::default()).0, MemberHealth::Unreachable);
    }

    #[test]
    fn progress_of_a_snapshot_is_told() {
        let (health, detail) = judged(Evidence { snapshot_percent: Some(40), lag: None, ..heard() });
        assert_eq!(health, MemberHealth::Lagging);
        assert!(detail.contains("40 %"), "{detail}");
    }

    #[test]
    fn another_state_is_an_alert_whatever_else_is_so() {
        let (health, detail) = judged(Evidence { differs: true, ..heard() });
        assert_eq!(health, MemberHealth::Healthy);
        assert!(detail.contains("differs"), "{detail}");
    }
}
