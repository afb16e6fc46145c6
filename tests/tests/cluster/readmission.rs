//! A node that lost its place comes back under a new id, whatever it lost and wherever it is killed, and no
//! second cluster ever begins (P/N1, N3, N4, N5).

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use registry_client::Client;
use registry_proto::internal::{MemberPlace, RemoveMemberRequest};
use registry_proto::v1::Consistency;
use registry_tests::admin::{id_of, name_of};
use registry_tests::api::registration;
use registry_tests::cluster::{Cluster, Options};
use registry_tests::node::{CRASH_POINT, Node};
use registry_tests::wait;
use registry_tests::workload::{Record, Writer, written};
use serde_json::{Value, json};

const NAMES: [&str; 3] = ["registry-node-1", "registry-node-2", "registry-node-3"];

/// Long enough for a life, an election and the times of the settings one after another, on a busy machine.
const LONG: Duration = Duration::from_secs(90);

fn settings() -> Value {
    json!({ "dead_member_after": "1s", "promote_after": "200ms" })
}

/// Calm timings: what these tests wait for is not an election.
fn file() -> Value {
    json!({
        "log": { "segment_bytes": 4 << 20 },
        "raft": { "heartbeat_interval": 100, "election_timeout_min": 500, "election_timeout_max": 1000 },
    })
}

fn options() -> Options {
    Options { settings: settings(), file: file(), ..Options::default() }
}

/// The ids of all members, also of those that do not vote.
async fn ids(cluster: &Cluster) -> BTreeSet<u64> {
    cluster.members().await.iter().map(id_of).collect()
}

async fn id_of_node(cluster: &Cluster, name: &str) -> u64 {
    let members = cluster.members().await;
    members.iter().filter(|member| name_of(member) == name).map(id_of).max().expect("it is a member")
}

async fn cluster_id(cluster: &Cluster) -> String {
    let leader = cluster.leader().await;
    cluster.api(leader).status(true).await.expect("the leader answers").cluster_id
}

/// Waits until the three nodes vote, all are ready, of this cluster, and have the same state.
async fn whole(cluster: &Cluster, cluster_id: &str) {
    wait::until("three voters and nobody else", LONG, || async {
        let members = cluster.members().await;
        let names: BTreeSet<&str> = members.iter().map(name_of).collect();
        let all_vote = members.iter().all(|member| member.place() == MemberPlace::Voter);
        let is_whole = members.len() == 3 && all_vote && names == BTreeSet::from(NAMES);
        if is_whole { Ok(()) } else { Err(format!("{members:?}")) }
    })
    .await;
    cluster.ready().await;
    for index in 0..3 {
        assert_eq!(cluster.api(index).status(true).await.unwrap().cluster_id, cluster_id, "node {index}");
    }
    same_state(cluster).await;
}

/// Waits until all nodes have applied the same entries, and compares the hash of their states there.
async fn same_state(cluster: &Cluster) {
    wait::until("three nodes with one state", LONG, || async {
        let mut seen = Vec::new();
        for index in 0..3 {
            let status =
                cluster.admin(index).status_with_hash().await.map_err(|status| status.to_string())?;
            let applied = status.raft.and_then(|raft| raft.applied).map(|applied| applied.index);
            assert!(!status.state_hash.is_empty(), "the hash is told");
            seen.push((applied, status.revision, status.state_hash));
        }
        if seen.iter().all(|one| *one == seen[0]) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

async fn writer(cluster: &Cluster) -> Writer {
    let client = Client::connect(cluster.endpoints()).await.expect("the cluster answers");
    Writer::start(client, "orders", 50)
}

/// What was acknowledged is there, at every node.
async fn nothing_lost(cluster: &Cluster, record: &Record) {
    assert!(!record.acknowledged.is_empty(), "the writer did write: {:?}", record.failed);
    for index in 0..3 {
        let present = wait::until("a linearizable read", wait::PATIENCE, || async {
            let answer = cluster.api(index).discover_at("orders", Consistency::Linearizable).await;
            answer.map(|answer| written(&answer.instances)).map_err(|status| status.to_string())
        })
        .await;
        let lost: Vec<_> = record.acknowledged.difference(&present).collect();
        assert!(lost.is_empty(), "node {index}: acknowledged and lost: {lost:?}");
    }
}

/// Waits until a member is none any more. Only then is its successor one that the cluster relies on.
async fn gone(cluster: &Cluster, id: u64) {
    wait::until(&format!("member {id} to be replaced"), LONG, || async {
        let members = cluster.members().await;
        if members.iter().any(|member| id_of(member) == id) { Err(format!("{members:?}")) } else { Ok(()) }
    })
    .await;
}

/// Kills a node and takes something from its folder; gives the id that it had.
async fn lose(cluster: &mut Cluster, index: usize, what: impl Fn(&Path)) -> u64 {
    let id = id_of_node(cluster, &cluster.nodes[index].name).await;
    cluster.nodes[index].kill();
    what(&cluster.nodes[index].data);
    id
}

/// The same, then starts it again and waits for its new life.
async fn lose_and_return(cluster: &mut Cluster, index: usize, what: impl Fn(&Path)) {
    let before = ids(cluster).await;
    let known = cluster_id(cluster).await;
    let old = lose(cluster, index, what).await;
    cluster.start_node(index);
    gone(cluster, old).await;
    whole(cluster, &known).await;
    let after = ids(cluster).await;
    let new: Vec<_> = after.difference(&before).collect();
    assert_eq!(new.len(), 1, "one new id: {before:?} {after:?}");
    assert!(new[0] > before.iter().max().unwrap(), "ids are never used again: {before:?} {after:?}");
}

fn whole_folder(data: &Path) {
    std::fs::remove_dir_all(data).unwrap();
}

fn only_log(data: &Path) {
    std::fs::remove_dir_all(data.join("log")).unwrap();
}

fn only_identity(data: &Path) {
    std::fs::remove_file(data.join("identity.json")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_an_emptied_folder_comes_back_under_a_new_id_whichever_node_it_is() {
    let mut cluster = Cluster::start(options()).await;
    let writer = writer(&cluster).await;
    let founder = 0;
    lose_and_return(&mut cluster, founder, whole_folder).await;
    let leader = cluster.leader().await;
    lose_and_return(&mut cluster, leader, whole_folder).await;
    let follower = cluster.followers().await[0];
    lose_and_return(&mut cluster, follower, whole_folder).await;
    nothing_lost(&cluster, &writer.finish().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_only_its_log_or_only_its_identity_comes_back_under_a_new_id() {
    let mut cluster = Cluster::start(options()).await;
    let writer = writer(&cluster).await;
    let founder_id = id_of_node(&cluster, NAMES[0]).await;
    lose_and_return(&mut cluster, 0, only_log).await;
    let aside = cluster.nodes[0].data.join(format!("lost-{founder_id}"));
    assert!(aside.join("identity.json").exists(), "what was left is kept in {}", aside.display());
    let leader = cluster.leader().await;
    lose_and_return(&mut cluster, leader, only_identity).await;
    assert!(cluster.nodes[leader].data.join("lost-unknown/log").exists(), "the log is kept");
    let follower = cluster.followers().await[0];
    lose_and_return(&mut cluster, follower, only_log).await;
    nothing_lost(&cluster, &writer.finish().await).await;
}

/// Starts a node that dies at a place, waits until it has, and starts it again.
async fn start_and_die_at(cluster: &mut Cluster, index: usize, place: &str) {
    cluster.nodes[index].set_env(CRASH_POINT, place);
    cluster.start_node(index);
    died(cluster, index, place).await;
}

async fn died(cluster: &mut Cluster, index: usize, place: &str) {
    cluster.nodes[index].dies_at(place).await;
    cluster.start_node(index);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_at_each_step_of_its_admission_ends_as_a_healthy_member() {
    let mut cluster = Cluster::start(options()).await;
    let known = cluster_id(&cluster).await;
    let writer = writer(&cluster).await;
    let places = ["adopt-stored", "called", "raft-built", "first-entry", "joined-stored"];
    for (round, place) in places.into_iter().enumerate() {
        let index = round % 3;
        let old = lose(&mut cluster, index, whole_folder).await;
        start_and_die_at(&mut cluster, index, place).await;
        gone(&cluster, old).await;
        whole(&cluster, &known).await;
    }
    nothing_lost(&cluster, &writer.finish().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_while_it_moves_its_data_aside_ends_as_a_healthy_member() {
    let mut cluster = Cluster::start(options()).await;
    let known = cluster_id(&cluster).await;
    let places = ["aside-data-moved", "aside-log-moved", "aside-identity-kept", "anew-stored"];
    for (round, place) in places.into_iter().enumerate() {
        let index = round % 3;
        let what = if round % 2 == 0 { only_log } else { only_identity };
        let old = lose(&mut cluster, index, what).await;
        start_and_die_at(&mut cluster, index, place).await;
        gone(&cluster, old).await;
        whole(&cluster, &known).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_at_each_step_of_an_admission_is_followed_by_one_that_goes_on() {
    let mut cluster = Cluster::start(options()).await;
    let known = cluster_id(&cluster).await;
    let places = ["member-added", "node-adopted", "learner-added", "voters-changed", "member-buried"];
    for (round, place) in places.into_iter().enumerate() {
        let index = round % 3;
        cluster.nodes[index].stop().await;
        cluster.nodes[index].set_env(CRASH_POINT, place);
        cluster.start_node(index);
        cluster.nodes[index].ready().await;
        lead(&cluster, index).await;
        let lost = (index + 1) % 3;
        let old = lose(&mut cluster, lost, whole_folder).await;
        cluster.start_node(lost);
        died(&mut cluster, index, place).await;
        gone(&cluster, old).await;
        whole(&cluster, &known).await;
    }
}

/// Moves leadership to a node.
async fn lead(cluster: &Cluster, index: usize) {
    let id = id_of_node(cluster, NAMES[index]).await;
    wait::until("leadership to move", LONG, || async {
        let moved = cluster.at_leader("a leader", |admin| async move { admin.transfer(id).await }).await;
        let leader = cluster.leader().await;
        if leader == index { Ok(()) } else { Err(format!("{moved:?}; {leader} leads")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_killed_at_each_step_of_the_founding_found_one_cluster() {
    let mut cluster = Cluster::prepare(options()).await;
    let founder = ["places-offered", "founder-prepared", "raft-built", "initialized"].map(|place| (0, place));
    let other = ["offer-stored", "called", "first-entry", "joined-stored"].map(|place| (1, place));
    for (index, place) in founder.into_iter().chain(other) {
        cluster.nodes[index].set_env(CRASH_POINT, place);
        cluster.start_all();
        died(&mut cluster, index, place).await;
        cluster.ready().await;
        let known = cluster_id(&cluster).await;
        whole(&cluster, &known).await;
        assert_eq!(ids(&cluster).await, BTreeSet::from([1, 2, 3]), "{place}");
        cluster.kill_all();
        for node in &cluster.nodes {
            whole_folder(&node.data);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_were_removed_while_they_were_down_come_back_by_themselves_as_new_members() {
    let mut cluster = Cluster::start(Options { nodes: 5, ..options() }).await;
    let known = cluster_id(&cluster).await;
    let followers = cluster.followers().await;
    let gone = [followers[0], followers[1]];
    let mut old = Vec::new();
    for index in gone {
        old.push(id_of_node(&cluster, &cluster.nodes[index].name).await);
        cluster.nodes[index].kill();
    }
    wait::until("the dead to be removed", LONG, || async {
        let left = ids(&cluster).await;
        if old.iter().any(|id| left.contains(id)) { Err(format!("{left:?}")) } else { Ok(()) }
    })
    .await;
    // One dies once more when it has stored what it was told.
    cluster.start_node(gone[1]);
    start_and_die_at(&mut cluster, gone[0], "removal-stored").await;
    wait::until("five voters", LONG, || async {
        let members = cluster.members().await;
        let votes = members.iter().filter(|member| member.place() == MemberPlace::Voter).count();
        if members.len() == 5 && votes == 5 { Ok(()) } else { Err(format!("{members:?}")) }
    })
    .await;
    cluster.ready().await;
    for (index, old) in gone.into_iter().zip(old) {
        let node = &cluster.nodes[index];
        assert!(id_of_node(&cluster, &node.name).await > 5, "a new id");
        assert!(node.data.join(format!("removed-{old}/identity.json")).exists(), "the old data is kept");
        assert_eq!(cluster.api(index).status(true).await.unwrap().cluster_id, known);
    }
}

/// A node beside those of the cluster's file, with a file of its own, that is told to join.
fn beside(cluster: &Cluster, name: &str, number: u16) -> Node {
    let folder = cluster.folder.path().join(format!("beside-{number}"));
    std::fs::create_dir_all(&folder).unwrap();
    let listen = cluster.nodes[0].listen;
    let config = folder.join("cluster.json");
    let mut node = Node::new(&folder, &config, 0, listen);
    node.name = name.to_owned();
    (node.client_port, node.peer_port, node.http_port) = (8180 + number, 9280 + number, 9380 + number);
    let own = json!({ "node_id": name, "host": listen.to_string(), "client_port": node.client_port,
                      "raft_port": node.peer_port, "http_port": node.http_port });
    let file = json!({
        "cluster": { "nodes": [own] },
        "raft": file()["raft"],
        "log": { "segment_bytes": 4 << 20 },
    });
    std::fs::write(&config, file.to_string()).unwrap();
    let seeds: Vec<_> = cluster.nodes.iter().map(|node| format!("{listen}:{}", node.peer_port)).collect();
    node.set_env("REGISTRY_JOIN", seeds.join(","));
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_of_one_name_is_refused_and_follows_the_first_when_that_one_dies() {
    let mut cluster = Cluster::start(options()).await;
    let known = cluster_id(&cluster).await;
    let before = ids(&cluster).await;
    let mut second = beside(&cluster, NAMES[2], 1);
    second.start();
    second.waits_for("is alive as member 3").await;
    assert!(second.http("/livez").await.is_ok());
    assert_eq!(ids(&cluster).await, before, "nobody was admitted");
    cluster.api(2).register(registration("orders", "127.0.0.1", 1)).await.expect("the first goes on");

    cluster.nodes[2].kill();
    second.ready().await;
    wait::until("the second to vote in its place", LONG, || async {
        let members = cluster.members().await;
        let votes = members.iter().all(|member| member.place() == MemberPlace::Voter);
        let new = members.iter().filter(|member| name_of(member) == NAMES[2]).all(|one| id_of(one) > 3);
        if members.len() == 3 && votes && new { Ok(()) } else { Err(format!("{members:?}")) }
    })
    .await;
    assert_eq!(second.api().status(true).await.unwrap().cluster_id, known);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_told_to_join_founds_nothing_and_becomes_a_member_once_there_is_a_cluster() {
    let mut cluster = Cluster::prepare(options()).await;
    let mut joiner = beside(&cluster, "registry-node-4", 4);
    joiner.start();
    joiner.waits_for("waiting for a leader of the cluster").await;
    cluster.start_all();
    cluster.ready().await;
    joiner.ready().await;
    let known = cluster_id(&cluster).await;
    assert_eq!(joiner.api().status(true).await.unwrap().cluster_id, known);
    let place = |members: &[registry_proto::internal::MemberStatus]| {
        members.iter().find(|member| name_of(member) == "registry-node-4").map(|member| member.place())
    };
    assert_eq!(place(&cluster.members().await), Some(MemberPlace::Learner), "three vote, as the target says");

    // Removed by hand, it comes back as another member: the autopilot decides about members here.
    let id = id_of_node(&cluster, "registry-node-4").await;
    let removed = cluster.at_leader("a leader that removes", |admin| async move {
        admin.remove(RemoveMemberRequest { raft_ids: vec![id], ..Default::default() }).await
    });
    removed.await.expect("it is removed");
    wait::until("the node to come back under a new id", LONG, || async {
        let now = cluster.members().await;
        let new = now.iter().find(|member| name_of(member) == "registry-node-4").map(id_of);
        if new.is_some_and(|new| new > id) { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    joiner.ready().await;
}
