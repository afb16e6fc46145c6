use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Members by id: `v` voter, `l` learner, `a` admitted, `b` buried learner; then `!` dead, `?` silent,
/// `x` lost its disk, `~` not caught up; after `=` the name, which is that of the id otherwise.
fn view(members: &[(u64, &str)]) -> View {
    let mut voters = BTreeSet::new();
    let mut views = BTreeMap::new();
    for (id, text) in members {
        let (marks, name) = text.split_once('=').unwrap_or((text, ""));
        if marks.contains('v') {
            voters.insert(*id);
        }
        let silent = marks.contains(['!', '?', 'x']);
        let member = MemberView {
            name: if name.is_empty() { format!("n{id}") } else { name.to_owned() },
            is_admitted: !marks.contains('b'),
            is_in_raft: !marks.contains('a'),
            is_heard: !silent,
            is_dead: marks.contains('!'),
            has_lost_disk: marks.contains('x'),
            caught_up_for: (!silent && !marks.contains('~')).then_some(10 * SECOND),
            ..MemberView::default()
        };
        views.insert(*id, member);
    }
    View {
        own: *voters.first().unwrap(),
        is_autopilot: true,
        voters_target: 3,
        promote_after: 10 * SECOND,
        admission_timeout: 600 * SECOND,
        configs: vec![voters],
        is_committed: true,
        members: views,
    }
}

fn ids(list: &[u64]) -> BTreeSet<u64> {
    list.iter().copied().collect()
}

fn vote(voters: &[u64], leaving: &[u64], why: Why) -> Option<Step> {
    Some(Step::Vote { voters: ids(voters), leaving: ids(leaving), why })
}

#[test]
fn a_healthy_cluster_is_left_alone() {
    assert_eq!(plan(&view(&[(1, "v"), (2, "v"), (3, "v")])), None);
}

#[test]
fn nothing_is_begun_while_a_change_is_not_committed() {
    let mut view = view(&[(1, "v"), (2, "v"), (3, "v"), (4, "a")]);
    view.is_committed = false;
    assert_eq!(plan(&view), None);
}

#[test]
fn a_joint_configuration_is_left_first_under_every_owner() {
    let mut view = view(&[(1, "v"), (2, "v"), (3, "v"), (4, "a")]);
    view.configs.push(ids(&[1, 2, 4]));
    assert_eq!(plan(&view), Some(Step::Flatten));
    view.is_autopilot = false;
    assert_eq!(plan(&view), Some(Step::Flatten));
}

#[test]
fn a_leader_without_a_vote_lets_a_voter_lead_under_every_owner() {
    let mut view = view(&[(1, "v"), (2, "v"), (3, "v"), (4, "l")]);
    view.own = 4;
    assert_eq!(plan(&view), Some(Step::HandOver));
    view.is_autopilot = false;
    assert_eq!(plan(&view), Some(Step::HandOver));
    view.configs.push(ids(&[1, 2, 4]));
    assert_eq!(plan(&view), Some(Step::Flatten), "what was begun goes first");
}

#[test]
fn what_was_begun_goes_on_under_every_owner_and_votes_are_for_the_autopilot() {
    let mut admitted = view(&[(1, "v"), (2, "v"), (3, "v"), (4, "a")]);
    admitted.is_autopilot = false;
    assert_eq!(plan(&admitted), Some(Step::TakeUp { raft_id: 4 }));
    admitted.members.get_mut(&4).unwrap().waiting_for = 600 * SECOND;
    assert_eq!(plan(&admitted), Some(Step::Bury { raft_ids: ids(&[4]), why: Why::NeverCame }));

    let mut buried = view(&[(1, "v"), (2, "v"), (3, "v"), (4, "b!")]);
    buried.is_autopilot = false;
    assert_eq!(plan(&buried), Some(Step::Drop { raft_ids: ids(&[4]) }));

    let mut learner = view(&[(1, "v"), (2, "v"), (3, "v!"), (4, "l=n3")]);
    assert!(plan(&learner).is_some());
    learner.is_autopilot = false;
    assert_eq!(plan(&learner), None);
}

#[test]
fn a_node_that_could_not_be_taken_up_lets_others_pass() {
    let mut view = view(&[(1, "v"), (2, "v"), (3, "v"), (4, "a"), (5, "a")]);
    view.members.get_mut(&4).unwrap().is_resting = true;
    assert_eq!(plan(&view), Some(Step::TakeUp { raft_id: 5 }));
}

#[test]
fn a_successor_takes_the_place_of_the_dead_voter_of_its_name_in_one_change() {
    let replaced = vote(&[1, 2, 4], &[3], Why::Replaced);
    assert_eq!(plan(&view(&[(1, "v"), (2, "v"), (3, "v!"), (4, "l=n3")])), replaced);
    assert_eq!(plan(&view(&[(1, "v"), (2, "v"), (3, "vx"), (4, "l=n3")])), replaced);
    // Not before it is dead, not before the heir is caught up, not by another name.
    assert_eq!(plan(&view(&[(1, "v"), (2, "v"), (3, "v?"), (4, "l=n3")])), None);
    assert_eq!(plan(&view(&[(1, "v"), (2, "v"), (3, "v!"), (4, "l~=n3")])), None);
    assert_eq!(plan(&view(&[(1, "v"), (2, "v"), (3, "v!"), (4, "l")])), None);
}

#[test]
fn three_voters_never_become_two() {
    assert_eq!(plan(&view(&[(1, "v"), (2, "v"), (3, "v!")])), None);
}

#[test]
fn of_five_two_dead_leave_together_and_one_stays() {
    let two = [(1, "v"), (2, "v"), (3, "v"), (4, "v!"), (5, "v!")];
    let mut two = view(&two);
    two.voters_target = 5;
    assert_eq!(plan(&two), vote(&[1, 2, 3], &[4, 5], Why::Gone));
    let mut one = view(&[(1, "v"), (2, "v"), (3, "v"), (4, "v"), (5, "v!")]);
    one.voters_target = 5;
    assert_eq!(plan(&one), None, "four voters need three answers, as five do");
    let mut three = view(&[(1, "v"), (2, "v"), (3, "v!"), (4, "v!"), (5, "v!")]);
    three.voters_target = 5;
    assert_eq!(plan(&three), None, "no majority is left to decide it");
}

#[test]
fn votes_are_given_odd_to_odd() {
    let mut view = view(&[(1, "v"), (2, "v"), (3, "v"), (4, "l")]);
    view.voters_target = 5;
    assert_eq!(plan(&view), None);
    let fifth = MemberView { name: "n5".into(), ..view.members[&4].clone() };
    view.members.insert(5, fifth);
    assert_eq!(plan(&view), vote(&[1, 2, 3, 4, 5], &[], Why::TooFew));
    view.voters_target = 3;
    assert_eq!(plan(&view), None);
}

#[test]
fn a_name_never_has_two_votes() {
    let mut view = view(&[(1, "v"), (2, "v"), (3, "v"), (4, "l=n3"), (5, "l=n6"), (6, "l")]);
    view.voters_target = 5;
    assert_eq!(plan(&view), None);
}

#[test]
fn a_lower_target_takes_votes_of_the_newest_but_not_of_the_leader() {
    let mut view = view(&[(1, "v"), (2, "v"), (3, "v"), (4, "v"), (5, "v")]);
    assert_eq!(plan(&view), vote(&[1, 2, 3], &[], Why::TooMany));
    view.own = 5;
    assert_eq!(plan(&view), vote(&[1, 2, 5], &[], Why::TooMany));
    view.members.get_mut(&1).unwrap().is_heard = false;
    assert_eq!(plan(&view), vote(&[2, 3, 5], &[], Why::TooMany));
}

#[test]
fn who_was_given_up_before_must_prove_itself_for_longer() {
    let mut view = view(&[(1, "v"), (2, "v"), (3, "v!"), (4, "l=n3")]);
    view.members.get_mut(&4).unwrap().setbacks = 1;
    assert_eq!(plan(&view), None);
    view.members.get_mut(&4).unwrap().caught_up_for = Some(20 * SECOND);
    assert!(plan(&view).is_some());
}

#[test]
fn a_dead_learner_makes_room_for_its_successor_only() {
    assert_eq!(plan(&view(&[(1, "v"), (2, "v"), (3, "v"), (4, "l!")])), None);
    let superseded = Some(Step::Bury { raft_ids: ids(&[4]), why: Why::Superseded });
    assert_eq!(plan(&view(&[(1, "v"), (2, "v"), (3, "v"), (4, "l!=n"), (5, "l=n")])), superseded);
    let mut away = view(&[(1, "v"), (2, "v"), (3, "v"), (4, "l!")]);
    away.members.get_mut(&4).unwrap().silent_for = 600 * SECOND;
    assert_eq!(plan(&away), superseded);
}

/// What a step does to the cluster, at its best.
fn apply(view: &mut View, step: &Step) {
    match step {
        Step::Flatten => drop(view.configs.drain(..view.configs.len() - 1)),
        Step::HandOver => view.own = *view.voters().first().unwrap(),
        Step::TakeUp { raft_id } => view.members.get_mut(raft_id).unwrap().is_in_raft = true,
        Step::Bury { raft_ids, .. } => bury(view, raft_ids),
        Step::Drop { raft_ids } => {
            view.members.retain(|id, _| !raft_ids.contains(id));
        }
        Step::Vote { voters, leaving, .. } => {
            view.configs = vec![voters.clone()];
            bury(view, leaving);
        }
    }
}

fn bury(view: &mut View, raft_ids: &BTreeSet<u64>) {
    for id in raft_ids {
        let member = view.members.get_mut(id).unwrap();
        member.is_admitted = false;
        if !member.is_in_raft {
            view.members.remove(id);
        }
    }
}

fn any_member() -> impl Strategy<Value = (MemberView, bool)> {
    let flags = (
        any::<bool>(),
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.1),
    );
    (flags, 0_u8..6, 0_u32..30, prop::option::of(0_u32..2000), 0_u32..900, 0_u32..3).prop_map(
        |(
            (votes, is_admitted, is_in_raft, is_dead, has_lost_disk),
            name,
            caught,
            silent,
            waiting,
            setbacks,
        )| {
            let is_heard = silent.is_none() && !is_dead && !has_lost_disk;
            let member = MemberView {
                name: format!("n{name}"),
                is_admitted: is_admitted || votes,
                is_in_raft: is_in_raft || votes,
                is_heard,
                is_dead,
                has_lost_disk,
                silent_for: SECOND * silent.unwrap_or(0),
                caught_up_for: is_heard.then_some(SECOND * caught),
                waiting_for: SECOND * waiting,
                is_resting: false,
                setbacks,
            };
            (member, votes)
        },
    )
}

fn any_view() -> impl Strategy<Value = View> {
    let members = prop::collection::btree_map(1_u64..20, any_member(), 1..12);
    (members, any::<bool>(), prop::sample::select(vec![1_usize, 3, 5, 7]), 0_u8..3).prop_filter_map(
        "a leader",
        |(members, is_autopilot, voters_target, is_joint)| {
            let voters: BTreeSet<u64> =
                members.iter().filter(|(_, (_, votes))| *votes).map(|(id, _)| *id).take(7).collect();
            let own = *voters.first()?;
            let mut members: BTreeMap<u64, MemberView> =
                members.into_iter().map(|(id, (member, _))| (id, member)).collect();
            let leader = members.get_mut(&own)?;
            (leader.is_heard, leader.is_dead, leader.has_lost_disk) = (true, false, false);
            let mut configs = vec![voters.clone()];
            if is_joint == 0 && voters.len() > 1 {
                configs.push(voters.iter().copied().take(voters.len() - 1).collect());
            }
            Some(View {
                own,
                is_autopilot,
                voters_target,
                promote_after: 10 * SECOND,
                admission_timeout: 600 * SECOND,
                configs,
                is_committed: true,
                members,
            })
        },
    )
}

proptest! {
    /// From any view the plan comes to rest, and on the way no voters are chosen without a majority that
    /// answers, before and after; the leader keeps its vote; three are never made two.
    #[test]
    fn every_plan_ends_and_never_costs_the_quorum(mut view in any_view()) {
        for taken in 0.. {
            prop_assert!(taken < 40, "the plan turns in circles: {view:?}");
            let before = view.voters();
            let Some(step) = plan(&view) else { break };
            if let Step::Vote { voters, leaving, .. } = &step {
                prop_assert!(view.is_autopilot && view.configs.len() == 1);
                prop_assert!(view.hears_majority(&before) && view.hears_majority(voters), "{step}");
                prop_assert!(voters.contains(&view.own) && voters != &before);
                prop_assert!(leaving.is_subset(&before) && leaving.is_disjoint(voters));
                prop_assert!(voters.len() != 2);
                prop_assert!(voters.iter().all(|id| view.members[id].is_in_raft));
            }
            if let Step::Bury { raft_ids, .. } | Step::Drop { raft_ids } = &step {
                prop_assert!(raft_ids.is_disjoint(&before) && !raft_ids.contains(&view.own));
            }
            apply(&mut view, &step);
        }
    }

    /// What only people may do, nothing else does: without autopilot no vote changes.
    #[test]
    fn without_the_autopilot_no_vote_changes(mut view in any_view()) {
        view.is_autopilot = false;
        let voters = view.voters();
        while let Some(step) = plan(&view) {
            apply(&mut view, &step);
            prop_assert_eq!(view.voters(), voters.clone());
        }
    }
}
