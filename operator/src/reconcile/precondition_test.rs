//! Steps that were decided from what is not so any more change nothing.

use serde_json::{Value, json};

use super::scenario_test::World;
use super::subject::Subject;
use super::*;
use crate::crd::RegistryCluster;
use crate::error::Weight;
use crate::observed::{LogId, Role};
use crate::plan::{SetShape, Step};

/// Carries the step out as if a plan had just decided it.
async fn act_on(world: &World, step: &Step) -> Result<(), Error> {
    let cluster: RegistryCluster = serde_json::from_value(world.cluster()).unwrap();
    let subject = Subject::new(&cluster, &world.context).unwrap();
    let view = observe::observe(&subject).await.unwrap();
    act::act(&subject, &view, step).await
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[tokio::test]
async fn an_object_that_is_another_by_now_is_left_alone() {
    let world = World::new(json!({})).await;
    world.settle().await;
    let all = |world: &World| -> Vec<Vec<Value>> {
        ["pods", "persistentvolumeclaims", "statefulsets"].map(|kind| world.api.all(kind)).into()
    };
    let before = all(&world);
    let uid = || text("of an earlier one");
    let shape = SetShape { replicas: 3, volume_size: text("20Gi"), restarted_at: None };
    for step in [
        Step::DeletePod { name: text("demo-1"), uid: uid() },
        Step::DeleteClaim { name: text("data-demo-1"), uid: uid() },
        Step::RelabelPod { name: text("demo-1"), uid: uid(), role: Role::Learner },
        Step::GrowClaim { name: text("data-demo-1"), uid: uid(), size: text("20Gi") },
        Step::RecreateSet { uid: uid(), set: shape },
    ] {
        let error = act_on(&world, &step).await.unwrap_err();
        assert_eq!((error.reason(), error.weight()), ("kube_conflict", Weight::Passing), "{step}");
        assert_eq!(all(&world), before, "{step}");
    }
}

#[tokio::test]
async fn a_membership_or_settings_that_are_others_by_now_are_left_alone() {
    let world = World::new(json!({})).await;
    world.settle().await;
    let voters = world.nodes.voters();
    let leader = || text("demo-0");
    let expected = LogId { term: 1, raft_id: 1, index: 7777 };
    for step in [
        Step::Admit { leader: leader(), pod: text("demo-1"), expected },
        Step::Promote { leader: leader(), raft_ids: vec![2], replaced: vec![3], expected },
        Step::Remove { leader: leader(), raft_ids: vec![2, 3], expected },
        Step::Transfer { leader: leader(), to: 2, expected },
    ] {
        let error = act_on(&world, &step).await.unwrap_err();
        assert_eq!((error.reason(), error.weight()), ("MEMBERSHIP_CHANGED", Weight::Passing), "{step}");
    }
    let step = Step::UpdateSettings { leader: leader(), expected_version: 7777, settings: Box::default() };
    let error = act_on(&world, &step).await.unwrap_err();
    assert_eq!((error.reason(), error.weight()), ("SETTINGS_CHANGED", Weight::Passing));
    assert_eq!(world.nodes.voters(), voters);
    world.settle().await;
    assert_eq!(world.cluster()["status"]["leader"], "demo-0");
}
