use super::*;

fn asking() -> Asking {
    Asking::new(vec!["a:1".into(), "b:1".into(), "c:1".into()], None, 0)
}

fn none() -> Answer {
    Answer::None { why: "no answer".into() }
}

fn heard(outcome: JoinOutcome) -> Answer {
    Answer::Heard(JoinResponse { outcome: outcome.into(), cluster_id: "x".into(), ..JoinResponse::default() })
}

fn pause(next: Next) -> (Duration, String) {
    match next {
        Next::Pause(pause, what) => (pause, what),
        other => panic!("{other:?}"),
    }
}

#[test]
fn everybody_is_asked_before_it_waits_and_each_wait_is_longer_up_to_a_bound() {
    let mut asking = asking();
    let mut last = Duration::ZERO;
    for round in 0..8 {
        let mut asked = Vec::new();
        let waited = loop {
            asked.push(asking.target().unwrap().to_owned());
            match asking.note(none(), 0) {
                Next::AskOn => {}
                other => break pause(other).0,
            }
        };
        assert_eq!(asked, ["a:1", "b:1", "c:1"], "round {round}");
        assert!(waited > last || waited == LONGEST_PAUSE * 3 / 4, "round {round}: {waited:?}");
        last = waited;
    }
}

#[test]
fn the_leader_that_a_member_names_is_asked_next_and_from_then_on_first() {
    let mut asking = asking();
    assert_eq!(asking.note(Answer::NotLeader { leader: Some("d:1".into()) }, 0), Next::AskOn);
    assert_eq!(asking.target(), Some("d:1"));
    pause(asking.note(heard(JoinOutcome::Accepted), 0));
    assert_eq!(asking.target(), Some("d:1"));
    // It died: back to the list.
    asking.note(none(), 0);
    assert_eq!(asking.target(), Some("a:1"));
}

#[test]
fn nodes_that_name_each_other_are_not_asked_in_a_circle() {
    let mut asking = asking();
    let mut asked = 0;
    loop {
        let other = if asking.target() == Some("x:1") { "y:1" } else { "x:1" };
        asked += 1;
        if let Next::Pause(..) = asking.note(Answer::NotLeader { leader: Some(other.into()) }, 0) {
            break;
        }
        assert!(asked < 20, "it pauses at some time");
    }
}

#[test]
fn a_name_that_is_taken_is_told_and_asked_for_slowly() {
    let message = "n1 is alive as member 3".to_owned();
    let refused = Answer::Refused { reason: PeerErrorReason::AlreadyMember, message };
    let (waited, what) = pause(asking().note(refused, 0));
    assert!(waited > Duration::from_secs(2), "{waited:?}");
    assert!(what.contains("n1 is alive"), "{what}");
}

#[test]
fn start_anew_is_obeyed_and_an_unknown_outcome_waits() {
    assert_eq!(asking().note(heard(JoinOutcome::StartAnew), 0), Next::StartAnew);
    let unknown = Answer::Heard(JoinResponse { outcome: 99, ..JoinResponse::default() });
    assert!(pause(asking().note(unknown, 0)).1.contains("waiting"));
}

#[test]
fn a_leader_sets_the_pause_within_bounds() {
    let after = |seconds| {
        let retry_after = Some(prost_types::Duration { seconds, nanos: 0 });
        Answer::Heard(JoinResponse { retry_after, ..JoinResponse::default() })
    };
    assert_eq!(pause(asking().note(after(8), 500)).0, Duration::from_secs(8));
    assert_eq!(pause(asking().note(after(1 << 40), 500)).0, PAUSE_LIMIT);
}

#[test]
fn pauses_of_nodes_started_together_differ() {
    let (one, other) = (spread(SLOW_PAUSE, 1), spread(SLOW_PAUSE, 999));
    assert!(one < other && one >= SLOW_PAUSE * 3 / 4 && other <= SLOW_PAUSE * 5 / 4);
}

#[test]
fn nodes_started_together_begin_with_different_members() {
    let first =
        |start| Asking::new(vec!["a:1".into(), "b:1".into()], None, start).target().unwrap().to_owned();
    assert_ne!(first(0), first(1));
    assert_eq!(Asking::new(Vec::new(), None, 7).target(), None);
}

#[test]
fn another_cluster_cannot_say_that_a_place_is_gone() {
    let asking = |own: &str| Asking::new(vec!["a:1".into()], Some(own.into()), 0);
    assert_eq!(asking("x").note(heard(JoinOutcome::StartAnew), 0), Next::StartAnew);
    assert!(pause(asking("y").note(heard(JoinOutcome::StartAnew), 0)).1.contains("--data-dir"));
}
