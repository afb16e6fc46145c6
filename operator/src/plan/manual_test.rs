//! Every word that people read has its line in the manual.

use crate::crd::status::{Available, Degraded, Paused, Progressing, Reason, UpgradePending};

const MANUAL: &str = include_str!("../../../docs/operations-kubernetes.md");
const EVENTS: &str = include_str!("events.rs");

fn missing<R: Reason>() -> Vec<&'static str> {
    let words = R::ALL.iter().map(|reason| reason.as_str());
    words.filter(|word| !MANUAL.contains(&format!("`{word}`"))).collect()
}

#[test]
fn every_reason_of_a_condition_is_explained() {
    let missing = [
        missing::<Available>(),
        missing::<Progressing>(),
        missing::<Degraded>(),
        missing::<UpgradePending>(),
        missing::<Paused>(),
    ];
    assert_eq!(missing.concat(), Vec::<&str>::new());
}

#[test]
fn every_event_of_a_step_is_explained() {
    let (_, steps) = EVENTS.split_once("fn of_step").unwrap();
    // Words in quotes without a space: reasons, not sentences.
    let quoted = steps.split('"').skip(1).step_by(2);
    let words: Vec<&str> =
        quoted.filter(|word| word.len() > 3 && word.chars().all(|c| c.is_ascii_alphabetic())).collect();
    assert!(words.len() >= 10, "{words:?}");
    for word in words {
        assert!(MANUAL.contains(&format!("`{word}`")), "{word}");
    }
}
