use registry_proto::internal::NodeIdentity;

use super::*;

const DIGEST: [u8; 32] = [7; 32];

fn own(node_id: &str, cluster_id: Option<&str>) -> Own {
    Own { node_id: node_id.into(), cluster_id: cluster_id.map(Into::into) }
}

fn empty(offered: Option<&str>) -> Answer {
    Answer::Empty { disk_id: "d".into(), offered: offered.map(Into::into) }
}

fn settled(cluster_id: &str) -> Answer {
    Answer::Settled { cluster_id: cluster_id.into() }
}

fn answers(list: [(&str, Answer); 2]) -> BTreeMap<String, Answer> {
    list.into_iter().map(|(name, answer)| (name.to_owned(), answer)).collect()
}

#[test]
fn the_smallest_node_offers_places_once_all_others_are_empty() {
    let others = answers([("b", empty(None)), ("c", empty(None))]);
    assert_eq!(decide(&own("a", None), &others), Step::Offer { cluster_id: None });
}

#[test]
fn a_single_node_founds_alone() {
    assert_eq!(decide(&own("a", None), &BTreeMap::new()), Step::Offer { cluster_id: None });
}

#[test]
fn names_are_compared_as_bytes() {
    let others = answers([("B", empty(None)), ("c", empty(None))]);
    assert!(matches!(decide(&own("a", None), &others), Step::Wait(_)));
    let others = answers([("n-2", empty(None)), ("n-9", empty(None))]);
    assert!(matches!(decide(&own("n-10", None), &others), Step::Offer { .. }));
}

#[test]
fn the_founder_names_those_it_waits_for() {
    let others = answers([("b", Answer::Silent), ("c", empty(None))]);
    assert_eq!(decide(&own("a", None), &others), Step::Wait("founding the cluster; waiting for b".into()));
}

#[test]
fn nobody_but_the_smallest_founds_whatever_the_others_say() {
    for founder in [Answer::Silent, empty(None), empty(Some("x")), Answer::OtherList] {
        for third in [Answer::Silent, empty(None), empty(Some("x"))] {
            for cluster in [None, Some("x")] {
                let others = answers([("a", founder.clone()), ("c", third.clone())]);
                assert!(matches!(decide(&own("b", cluster), &others), Step::Wait(_)));
            }
        }
    }
}

#[test]
fn a_wiped_node_stands_aside_the_founder_too() {
    for name in ["a", "d"] {
        let others = answers([("b", settled("x")), ("c", Answer::Silent)]);
        let aside = Step::StandAside { node_id: "b".into(), cluster_id: "x".into() };
        assert_eq!(decide(&own(name, None), &others), aside);
        // Also if it had begun to found another cluster.
        assert_eq!(decide(&own(name, Some("y")), &others), aside);
    }
}

#[test]
fn a_wiped_founder_waits_while_nobody_else_is_there() {
    let others = answers([("b", Answer::Silent), ("c", Answer::Silent)]);
    assert!(matches!(decide(&own("a", None), &others), Step::Wait(_)));
}

#[test]
fn another_list_or_another_node_at_an_address_stops_founding_and_says_what_to_do() {
    let others = answers([("b", Answer::OtherList), ("c", Answer::OtherNode { node_id: "z".into() })]);
    let Step::Wait(reason) = decide(&own("a", None), &others) else { panic!("no wait") };
    assert!(reason.contains("list of nodes of b") && reason.contains("z answers at the address of c"));
}

/// The founder crashes after each step of N3; the next start sees what was durable by then.
#[test]
fn a_founder_that_crashed_at_any_step_finishes_or_starts_again() {
    // Before any offer: nothing is durable.
    let others = answers([("b", empty(None)), ("c", empty(None))]);
    assert_eq!(decide(&own("a", None), &others), Step::Offer { cluster_id: None });
    // After the first offer, or all of them, but before its own place: a new id replaces the old offers.
    for c in [None, Some("old")] {
        let others = answers([("b", empty(Some("old"))), ("c", empty(c))]);
        assert_eq!(decide(&own("a", None), &others), Step::Offer { cluster_id: None });
    }
    // After its own place: the same cluster id again.
    let others = answers([("b", empty(Some("x"))), ("c", empty(Some("x")))]);
    let again = Step::Offer { cluster_id: Some("x".into()) };
    assert_eq!(decide(&own("a", Some("x")), &others), again);
    // After the others were called, but before any vote: they joined, with empty logs.
    let adopted = Answer::Adopted { disk_id: "d".into(), cluster_id: "x".into() };
    let others = answers([("b", adopted.clone()), ("c", empty(Some("x")))]);
    assert_eq!(decide(&own("a", Some("x")), &others), again);
    // The same, but the founder lost its disk since: it founds nothing beside them.
    assert!(matches!(decide(&own("a", None), &others), Step::StandAside { .. }));
    // A node whose folder was replaced meanwhile is offered its place anew.
    let others = answers([("b", empty(Some("x"))), ("c", empty(None))]);
    assert_eq!(decide(&own("a", Some("x")), &others), again);
}

#[test]
fn a_founder_whose_log_is_gone_while_its_cluster_runs_has_lost_its_disk() {
    let others = answers([("b", settled("x")), ("c", empty(Some("x")))]);
    assert_eq!(decide(&own("a", Some("x")), &others), Step::DiskLost { node_id: "b".into() });
}

#[test]
fn an_offer_is_taken_only_by_an_empty_node_with_the_same_list_and_disk() {
    for bits in 0..32u8 {
        let [same_list, same_disk, is_empty, same_place, joined] =
            std::array::from_fn(|bit| bits & (1 << bit) != 0);
        let verdict = judge_offer(same_list, same_disk, is_empty, same_place, joined);
        let accepted = matches!(verdict, Offer::Take | Offer::Known);
        assert_eq!(accepted, same_list && same_disk && is_empty && (same_place || !joined), "{bits:05b}");
        assert_eq!(verdict == Offer::Known, accepted && same_place);
    }
}

#[test]
fn answers_are_read_from_hello() {
    let hello = |state: NodeState, cluster_id: &str, digest: [u8; 32]| HelloResponse {
        identity: Some(NodeIdentity {
            node_id: "b".into(),
            disk_id: "d".into(),
            cluster_id: cluster_id.into(),
            ..NodeIdentity::default()
        }),
        state: state.into(),
        nodes_digest: digest.to_vec().into(),
        ..HelloResponse::default()
    };
    let of = |response: &HelloResponse| Answer::of(response, "b", &DIGEST);
    assert_eq!(of(&hello(NodeState::Pristine, "", DIGEST)), empty(None));
    assert_eq!(of(&hello(NodeState::Prepared, "x", DIGEST)), empty(Some("x")));
    assert_eq!(of(&hello(NodeState::Pristine, "", [8; 32])), Answer::OtherList);
    for state in [
        NodeState::Voter,
        NodeState::Learner,
        NodeState::DiskLost,
        NodeState::Quarantined,
        NodeState::Removed,
    ] {
        assert_eq!(of(&hello(state, "x", [8; 32])), settled("x"), "its list may have changed since");
    }
    assert_eq!(
        Answer::of(&hello(NodeState::Voter, "x", DIGEST), "c", &DIGEST),
        Answer::OtherNode { node_id: "b".into() }
    );
}
