//! The checker by witness and the search agree, on right histories and on spoiled ones.

use std::time::Duration;

use proptest::prelude::*;
use registry_proto::v1;

use super::example::{Example, deregister, discover, register, timeline};
use super::history::{Answer, Call, History, Operation, Outcome, Time};
use super::{linear, search};

const MILLISECOND: Duration = Duration::from_millis(1);

/// A call of a random run: what, by how long it is on its way, and how long back.
#[derive(Debug, Clone)]
struct Plan {
    call: u8,
    id: u8,
    begins: u16,
    there: u16,
    back: u16,
    /// What becomes of it: of 10, below 7 it is answered, below 9 its answer is lost, else it never arrives.
    fate: u8,
}

fn plan() -> impl Strategy<Value = Plan> {
    (0..6_u8, 0..2_u8, 0..60_u16, 1..20_u16, 1..20_u16, 0..10_u8)
        .prop_map(|(call, id, begins, there, back, fate)| Plan { call, id, begins, there, back, fate })
}

/// How one call is spoiled.
#[derive(Debug, Clone, Copy)]
enum Spoil {
    Nothing,
    Revision(i8),
    Earlier,
    Later,
    Content,
    Outcome,
    Forgotten,
    AnotherPlace,
}

fn spoil() -> impl Strategy<Value = Spoil> {
    prop_oneof![
        Just(Spoil::Nothing),
        prop_oneof![Just(-1), Just(1)].prop_map(Spoil::Revision),
        Just(Spoil::Earlier),
        Just(Spoil::Later),
        Just(Spoil::Content),
        Just(Spoil::Outcome),
        Just(Spoil::Forgotten),
        Just(Spoil::AnotherPlace),
    ]
}

/// Times apart from each other, so that none are the same.
fn at(plan: u16, number: usize, stage: u32) -> Time {
    MILLISECOND * u32::from(plan)
        + Duration::from_micros(number as u64 * 10)
        + Duration::from_nanos(stage.into())
}

/// Runs the plans against a registry that is always right.
fn run(plans: &[Plan]) -> History {
    let mut run = Example::default();
    let mut effects: Vec<(Time, usize)> = (0..plans.len())
        .map(|number| (at(plans[number].begins + plans[number].there, number, 1), number))
        .collect();
    effects.sort();
    let mut operations: Vec<Option<Operation>> = vec![None; plans.len()];
    for (now, number) in effects {
        let plan = &plans[number];
        run.now = now;
        let id = ["a", "b"][usize::from(plan.id)];
        let present = run.read().instances.into_iter().find(|instance| instance.instance_id == id);
        let call = match plan.call {
            0 | 1 => register(id, &number.to_string()),
            2 => register(id, "same"),
            3 => deregister(id, 0),
            4 => deregister(id, present.as_ref().map_or(0, |instance| instance.incarnation)),
            _ => discover(),
        };
        let outcome = match plan.fate {
            0..7 => Outcome::Answered(run.take(&call)),
            7..9 => {
                run.take(&call);
                Outcome::Unknown("lost".into())
            }
            _ => Outcome::Unknown("lost".into()),
        };
        if plan.fate == 0 && present.is_some() && run.read().instances.iter().any(|i| i.instance_id == id) {
            run.now += Duration::from_micros(1);
            run.expire(id);
        }
        let (client, session) = (format!("client-{number}"), None);
        let invoked = at(plan.begins, number, 0);
        let ended = Some(at(plan.begins + plan.there + plan.back, number, 2));
        operations[number] = Some(Operation { client, session, invoked, ended, call, outcome });
    }
    let history = run.history(0);
    let mut operations: Vec<Operation> = operations.into_iter().flatten().collect();
    operations.sort_by_key(|call| call.invoked);
    History { operations, watches: vec![history.watches[0].clone()], end: Duration::from_secs(9), ..history }
}

fn header(answer: &mut Answer) -> &mut v1::ResponseHeader {
    let header = match answer {
        Answer::Registered(answer) => &mut answer.header,
        Answer::Deregistered(answer) => &mut answer.header,
        Answer::Found(answer) => &mut answer.header,
        other => unreachable!("no example makes {other:?}"),
    };
    header.as_mut().expect("it has one")
}

fn apply(spoil: Spoil, call: &mut Operation) {
    let length = MILLISECOND * 15;
    match (spoil, &mut call.outcome) {
        (Spoil::Revision(by), Outcome::Answered(answer)) => {
            let revision = &mut header(answer).revision;
            *revision = revision.saturating_add_signed(by.into());
        }
        (Spoil::Earlier, _) => {
            call.invoked = call.invoked.saturating_sub(length);
            call.ended = call.ended.map(|ended| ended.saturating_sub(length).max(call.invoked));
        }
        (Spoil::Later, _) => {
            call.invoked += length;
            call.ended = call.ended.map(|ended| ended + length);
        }
        (Spoil::Content, Outcome::Answered(Answer::Found(answer))) if !answer.instances.is_empty() => {
            answer.instances[0].metadata.insert("mark".into(), "spoiled".into());
        }
        (Spoil::Content, Outcome::Answered(Answer::Registered(answer))) => answer.incarnation += 1,
        (Spoil::Outcome, Outcome::Answered(Answer::Deregistered(answer))) => answer.removed ^= 1,
        (Spoil::Outcome, outcome @ Outcome::Answered(_)) => *outcome = Outcome::Unknown("spoiled".into()),
        (Spoil::Forgotten, outcome) => *outcome = Outcome::Refused("NO_QUORUM".into()),
        (Spoil::AnotherPlace, _) => {
            if let Call::Register(request) = &mut call.call {
                request.metadata.insert("mark".into(), "elsewhere".into());
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_right_history_passes_both(plans in prop::collection::vec(plan(), 1..10)) {
        let history = run(&plans);
        let timeline = timeline(&history);
        prop_assert_eq!(linear::check(&history, &timeline), []);
        prop_assert!(search::is_linearizable(&history, &timeline));
    }

    #[test]
    fn both_say_the_same_of_a_spoiled_history(
        plans in prop::collection::vec(plan(), 1..10),
        which in any::<prop::sample::Index>(),
        spoil in spoil(),
    ) {
        let mut history = run(&plans);
        let timeline = timeline(&history);
        let which = which.index(history.operations.len());
        apply(spoil, &mut history.operations[which]);
        let witness = linear::check(&history, &timeline);
        let searched = search::is_linearizable(&history, &timeline);
        prop_assert_eq!(witness.is_empty(), searched, "the witness says {:#?}", witness);
    }
}
