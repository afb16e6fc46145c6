//! Members that die, freeze or flap: who is called DEAD, and who is removed (P/N6).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use registry_client::Client;
use registry_proto::v1::{self, MemberHealth};
use registry_tests::api::registration;
use registry_tests::cluster::{Cluster, Options};
use registry_tests::timing::assert_not_before;
use registry_tests::turn::Share;
use registry_tests::wait;
use rustix::process::Signal;
use serde_json::json;

/// The shortest time in which 30 probes fit.
const DEAD_AFTER: Duration = Duration::from_secs(3);

fn options(nodes: usize, dead_after: Duration) -> Options {
    let settings = json!({ "dead_member_after": format!("{}ms", dead_after.as_millis()) });
    let share = if nodes > 3 { Share::Half } else { Share::Quarter };
    Options { nodes, settings, share, ..Options::default() }
}

/// How the leader sees the nodes, asked at this one.
async fn members(cluster: &Cluster, asked: usize) -> Result<Vec<v1::Member>, String> {
    let status = cluster.api(asked).status(false).await.map_err(|status| status.to_string())?;
    match status.source() {
        v1::StatusSource::Leader => Ok(status.members),
        _ => Err("there is no leader".to_owned()),
    }
}

/// Waits until the leader sees a node so, asked at another.
async fn seen(cluster: &Cluster, asked: usize, index: usize, health: MemberHealth) -> v1::Member {
    let name = cluster.nodes[index].name.clone();
    wait::until(&format!("{name} to be {health:?}"), wait::PATIENCE, || async {
        let all = members(cluster, asked).await?;
        let member = all.into_iter().find(|member| member.node_id == name).ok_or("it is no member")?;
        if member.health() == health { Ok(member) } else { Err(format!("{member:?}")) }
    })
    .await
}

async fn voters(cluster: &Cluster, asked: usize) -> Result<BTreeSet<u64>, String> {
    let status = cluster.api(asked).status(true).await.map_err(|status| status.to_string())?;
    match status.voter_sets.as_slice() {
        [set] => Ok(set.raft_ids.iter().copied().collect()),
        sets => Err(format!("{sets:?}")),
    }
}

async fn write(cluster: &Cluster, asked: usize, port: u32) {
    wait::until("a write", wait::PATIENCE, || async {
        let answer = cluster.api(asked).register(registration("orders", "127.0.0.1", port)).await;
        answer.map(|_| ()).map_err(|status| status.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_dead_nodes_of_five_are_removed_and_one_more_may_die() {
    let mut cluster = Cluster::start(options(5, DEAD_AFTER)).await;
    let dead: Vec<usize> = cluster.followers().await.into_iter().take(2).collect();
    let killed = Instant::now();
    for index in &dead {
        cluster.nodes[*index].kill();
    }
    let alive: Vec<usize> = (0..5).filter(|index| !dead.contains(index)).collect();
    for index in &alive {
        wait::until("the dead to be removed", wait::PATIENCE, || async {
            let left = voters(&cluster, *index).await?;
            let is_alive = |id: &u64| usize::try_from(*id).is_ok_and(|id| alive.contains(&(id - 1)));
            if left.len() == 3 && left.iter().all(is_alive) { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
    }
    assert_not_before("the removal", killed.elapsed(), DEAD_AFTER);
    println!("removed {} ms after the kill", killed.elapsed().as_millis());
    write(&cluster, alive[0], 1).await;

    // Three voters bear the loss of one, the leader; five with two dead would not have.
    let leader = cluster.leader().await;
    cluster.nodes[leader].kill();
    let rest: Vec<usize> = alive.into_iter().filter(|index| *index != leader).collect();
    write(&cluster, rest[0], 2).await;
    let kept = voters(&cluster, rest[0]).await.expect("it is a member");
    assert_eq!(kept.len(), 3, "two of three are never made a cluster of two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_voter_of_three_leaves_the_hints_stays_a_voter_and_goes_on_when_it_returns() {
    let cluster = Cluster::start(options(3, DEAD_AFTER)).await;
    let followers = cluster.followers().await;
    let (lost, other) = (followers[0], followers[1]);
    let endpoint = cluster.nodes[lost].endpoint();
    let client = Client::builder().seeds(cluster.endpoints()).build().expect("endpoints");
    let is_asked = || client.connected_endpoints().contains(&endpoint);
    wait::until_true("the client to know all nodes", wait::PATIENCE, || async {
        client.connected_endpoints().len() == 3
    })
    .await;
    let before = seen(&cluster, other, lost, MemberHealth::Healthy).await;
    let ids = voters(&cluster, other).await.expect("one set of voters");

    cluster.nodes[lost].signal(Signal::STOP);
    let silent = Instant::now();
    let dead = seen(&cluster, other, lost, MemberHealth::Dead).await;
    assert_not_before("the verdict", silent.elapsed(), DEAD_AFTER);
    assert!(dead.detail.contains("no answer"), "{dead:?}");
    assert_eq!(dead.kind(), v1::MemberKind::Voter);
    wait::until("the metrics of the leader to tell", wait::PATIENCE, || async {
        let leader = &cluster.nodes[cluster.leader().await];
        let dead = leader.metric("registry_member_dead").await;
        let failures = leader.metric("registry_member_probe_failures_total").await;
        let differing = leader.metric("registry_state_divergence").await;
        match (dead, failures, differing) {
            (Some(1.0), Some(30.0..), Some(0.0)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    wait::until_true("the client to leave it out", wait::PATIENCE, || async { !is_asked() }).await;

    // It is not removed, however long it takes: three times the verdict is looked at.
    let until = Instant::now() + 3 * DEAD_AFTER;
    while Instant::now() < until {
        assert_eq!(voters(&cluster, other).await.expect("one set of voters"), ids);
        write(&cluster, other, 7).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    cluster.nodes[lost].signal(Signal::CONT);
    let back = seen(&cluster, other, lost, MemberHealth::Healthy).await;
    assert_eq!(back.raft_id, before.raft_id, "it goes on under its id");
    wait::until_true("the client to ask it again", wait::PATIENCE, || async { is_asked() }).await;
    cluster.caught_up(lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_dead_because_all_nodes_were_frozen_for_a_minute() {
    // Five, because of five the plan would remove two; the freeze is six times the verdict.
    let dead_after = Duration::from_secs(10);
    let cluster = Cluster::start(options(5, dead_after)).await;
    let leader = cluster.leader().await;
    let ids = voters(&cluster, leader).await.expect("one set of voters");
    for index in 0..5 {
        seen(&cluster, leader, index, MemberHealth::Healthy).await;
    }
    cluster.freeze();
    tokio::time::sleep(Duration::from_secs(60)).await;
    // The leader wakes first, and again: it meets four silent members for longer than the verdict takes in
    // sum, but never for so long without a break of its own.
    for _ in 0..2 {
        cluster.nodes[leader].signal(Signal::STOP);
        tokio::time::sleep(Duration::from_secs(2)).await;
        cluster.nodes[leader].signal(Signal::CONT);
        tokio::time::sleep(dead_after * 6 / 10).await;
    }
    cluster.thaw();

    for index in 0..5 {
        seen(&cluster, leader, index, MemberHealth::Healthy).await;
    }
    write(&cluster, leader, 1).await;
    let until = Instant::now() + dead_after;
    while Instant::now() < until {
        assert_eq!(voters(&cluster, leader).await.expect("one set of voters"), ids);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for node in &cluster.nodes {
        assert!(!node.log_text().contains("a member is DEAD"), "{} gave somebody up", node.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_flaps_is_neither_removed_nor_admitted_again() {
    let cluster = Cluster::start(options(5, DEAD_AFTER)).await;
    let flapping = cluster.followers().await[0];
    let asked = cluster.leader().await;
    let ids = voters(&cluster, asked).await.expect("one set of voters");
    let own = seen(&cluster, asked, flapping, MemberHealth::Healthy).await.raft_id;
    // Short breaks: never silent for long enough.
    for _ in 0..5 {
        cluster.nodes[flapping].signal(Signal::STOP);
        tokio::time::sleep(DEAD_AFTER / 3).await;
        cluster.nodes[flapping].signal(Signal::CONT);
        seen(&cluster, asked, flapping, MemberHealth::Healthy).await;
    }
    let text: String = cluster.nodes.iter().map(|node| node.log_text()).collect();
    assert!(!text.contains("a member is DEAD"), "a short break made it dead");
    // Long ones: dead each time, and back under the same id each time.
    for _ in 0..3 {
        cluster.nodes[flapping].signal(Signal::STOP);
        seen(&cluster, asked, flapping, MemberHealth::Dead).await;
        cluster.nodes[flapping].signal(Signal::CONT);
        let back = seen(&cluster, asked, flapping, MemberHealth::Healthy).await;
        assert_eq!(back.raft_id, own);
    }
    assert_eq!(voters(&cluster, asked).await.expect("one set of voters"), ids, "the members are the same");
    let all = members(&cluster, asked).await.expect("there is a leader");
    assert_eq!(all.len(), 5, "no id was given out meanwhile: {all:?}");
}
