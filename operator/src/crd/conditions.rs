//! The conditions of a cluster as values, and how they get into the status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::reason::{Available, Degraded, Paused, Progressing, Reason, UpgradePending};

/// A reason with a sentence for people. It holds no number that changes by itself (lag, seconds): each change
/// of it is a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Because<R> {
    /// Why.
    pub reason: R,
    /// What exactly, for people.
    pub message: String,
}

impl<R> Because<R> {
    /// A reason with its sentence.
    pub fn new(reason: R, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// All conditions: each is always there, so that `kubectl wait` never waits for one that nobody sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// Whether clients can write.
    pub available: Because<Available>,
    /// Whether something is being changed.
    pub progressing: Because<Progressing>,
    /// Whether something is wrong.
    pub degraded: Because<Degraded>,
    /// Whether a roll would change more than the spec asks for.
    pub upgrade_pending: Because<UpgradePending>,
    /// Whether the operator leaves the cluster alone.
    pub paused: Because<Paused>,
}

impl Conditions {
    /// The conditions for the status, given those that stand there and the generation of the spec that was
    /// looked at. The time of the last transition is kept where the truth is the same.
    pub fn merge(&self, before: &[Condition], generation: i64, now: Timestamp) -> Vec<Condition> {
        let context = (before, generation, now);
        vec![
            condition(&self.available, context),
            condition(&self.progressing, context),
            condition(&self.degraded, context),
            condition(&self.upgrade_pending, context),
            condition(&self.paused, context),
        ]
    }
}

/// Longest message that the schema takes, in bytes.
pub const MESSAGE_MAX: usize = 4096;

fn condition<R: Reason>(
    because: &Because<R>,
    (before, generation, now): (&[Condition], i64, Timestamp),
) -> Condition {
    let status = because.reason.truth().as_str();
    let last = before.iter().find(|old| old.type_ == R::CONDITION && old.status == status);
    Condition {
        type_: R::CONDITION.into(),
        status: status.into(),
        reason: because.reason.as_str().into(),
        message: cut(&because.message, MESSAGE_MAX).to_owned(),
        observed_generation: Some(generation),
        last_transition_time: last.map_or(Time(now), |old| old.last_transition_time.clone()),
    }
}

/// At most `max` bytes of the text, cut between characters.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn conditions(available: Available, message: &str) -> Conditions {
        Conditions {
            available: Because::new(available, message),
            progressing: Because::new(Progressing::Idle, ""),
            degraded: Because::new(Degraded::AsExpected, ""),
            upgrade_pending: Because::new(UpgradePending::UpToDate, ""),
            paused: Because::new(Paused::Active, ""),
        }
    }

    fn available(list: &[Condition]) -> &Condition {
        list.iter().find(|condition| condition.type_ == "Available").unwrap()
    }

    #[test]
    fn all_five_are_given_with_their_generation() {
        let list = conditions(Available::QuorumHealthy, "").merge(&[], 7, at(1));
        let types: Vec<_> = list.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(types, ["Available", "Progressing", "Degraded", "UpgradePending", "Paused"]);
        assert!(list.iter().all(|condition| condition.observed_generation == Some(7)));
    }

    #[test]
    fn the_transition_time_moves_with_the_truth_and_not_with_reason_or_message() {
        let first = conditions(Available::QuorumHealthy, "").merge(&[], 1, at(1));
        let same = conditions(Available::QuorumAtRisk, "one is down").merge(&first, 2, at(2));
        assert_eq!(available(&same).last_transition_time, Time(at(1)));
        assert_eq!(available(&same).reason, "QuorumAtRisk");
        let lost = conditions(Available::QuorumLost, "").merge(&same, 2, at(3));
        assert_eq!(available(&lost).last_transition_time, Time(at(3)));
        let back = conditions(Available::QuorumHealthy, "").merge(&lost, 2, at(4));
        assert_eq!(available(&back).last_transition_time, Time(at(4)));
    }

    #[test]
    fn an_equal_look_gives_an_equal_status_so_that_nothing_is_written() {
        let first = conditions(Available::QuorumLost, "2 of 3 voters do not answer").merge(&[], 1, at(1));
        let again = conditions(Available::QuorumLost, "2 of 3 voters do not answer").merge(&first, 1, at(99));
        assert_eq!(first, again);
    }

    #[test]
    fn a_message_is_cut_at_a_character() {
        let long = "ä".repeat(3000);
        let list = conditions(Available::QuorumLost, &long).merge(&[], 1, at(1));
        assert_eq!(available(&list).message.len(), MESSAGE_MAX);
        assert_eq!(cut("aä", 2), "a");
    }

    #[test]
    fn words_of_reasons_are_what_kubernetes_takes_and_differ_within_a_condition() {
        fn check<R: Reason>() {
            let words: std::collections::BTreeSet<_> = R::ALL.iter().map(|reason| reason.as_str()).collect();
            assert_eq!(words.len(), R::ALL.len());
            assert!(words.iter().all(|word| word.chars().all(|c| c.is_ascii_alphanumeric())));
            assert!(words.iter().all(|word| word.starts_with(|c: char| c.is_ascii_uppercase())));
        }
        check::<Available>();
        check::<Progressing>();
        check::<Degraded>();
        check::<UpgradePending>();
        check::<Paused>();
    }
}
