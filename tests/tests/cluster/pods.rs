//! Nodes as pods: each with an address of its own and a long DNS name, a list of nodes that may be older than
//! the set, and an operator that decides about members.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use registry_proto::internal::{
    AdmitMemberRequest, InitialMember, InitializeRequest, MemberPlace, NodeState, PromoteMemberRequest,
    RemoveMemberRequest,
};
use registry_tests::admin::{Admin, id_of, name_of};
use registry_tests::api::reason;
use registry_tests::cluster::{Cluster, Options};
use registry_tests::timing::assert_within;
use registry_tests::wait;
use serde_json::{Value, json};
use tonic::Status;

const DOMAIN: &str = "registry-with-a-long-name-peers.a-namespace-with-a-long-name.svc.cluster.local";
const CLUSTER_ID: &str = "6f6b4cf0-6d0a-4a6e-9b0e-53d4b1a1f6a4";

fn host(cluster: &Cluster, index: usize) -> String {
    format!("{}.{DOMAIN}", cluster.nodes[index].name)
}

fn peer_endpoint(cluster: &Cluster, index: usize) -> String {
    format!("{}:{}", host(cluster, index), cluster.nodes[index].peer_port)
}

fn hosts_file(cluster: &Cluster, index: usize) -> PathBuf {
    cluster.folder.path().join(format!("hosts-{index}"))
}

/// What DNS tells one node: where all are now.
fn tell_names(cluster: &Cluster, index: usize) {
    let mut hosts = String::new();
    for other in 0..cluster.nodes.len() {
        writeln!(hosts, "{} {}", cluster.nodes[other].listen, host(cluster, other)).unwrap();
    }
    std::fs::write(hosts_file(cluster, index), hosts).unwrap();
}

/// Three ports that are free at 127.0.0.1, where a pod is to move: no fixed ones, others use this machine too.
fn ports() -> [u16; 3] {
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let kept = [free(), free(), free()];
    kept.map(|listener| listener.local_addr().unwrap().port())
}

/// Nodes that are configured as pods of one set; the list of nodes names the first ones only.
async fn pods(all: usize, listed: usize, settings: Value, file: Value) -> Cluster {
    let mut cluster = Cluster::prepare(Options { nodes: all, settings, file, ..Options::default() }).await;
    let [client_port, peer_port, http_port] = ports();
    let [a, b, c, _] = cluster.nodes[0].listen.octets();
    for (index, last) in (10_u8..).take(all).enumerate() {
        let node = &mut cluster.nodes[index];
        node.listen = Ipv4Addr::new(a, b, c, last);
        (node.client_port, node.peer_port, node.http_port) = (client_port, peer_port, http_port);
        node.set_env("REGISTRY_LISTEN", node.listen.to_string());
    }
    for index in 0..all {
        tell_names(&cluster, index);
        let hosts = hosts_file(&cluster, index).display().to_string();
        cluster.nodes[index].set_env("REGISTRY_HOSTS_FILE", hosts);
    }
    let nodes: Vec<Value> = (0..listed)
        .map(|index| {
            json!({ "node_id": cluster.nodes[index].name, "host": host(&cluster, index),
                    "client_port": client_port, "raft_port": peer_port, "http_port": http_port })
        })
        .collect();
    let text = std::fs::read_to_string(&cluster.config).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["cluster"]["nodes"] = nodes.into();
    config["host_pattern"] = format!("{{node_id}}.{DOMAIN}").into();
    std::fs::write(&cluster.config, config.to_string()).unwrap();
    cluster
}

/// The state that a node reports.
async fn state_is(cluster: &Cluster, token: &str, index: usize, state: NodeState) {
    wait::until(&format!("node {index} to be {state:?}"), wait::PATIENCE, || async {
        let told = cluster.admin(index).with_token(token).status().await;
        let told = told.map_err(|status| status.to_string())?;
        if told.state() == state {
            Ok(())
        } else {
            Err(format!("{:?}: {}", told.state(), told.not_ready_because))
        }
    })
    .await;
}

/// A call with the token at whoever leads, repeated while it is not taken.
async fn at_leader<T, F: Future<Output = Result<T, Status>>>(
    cluster: &Cluster,
    token: &str,
    call: impl Fn(Admin) -> F,
) -> T {
    let made = cluster.at_leader("a leader that makes a change", |admin| call(admin.with_token(token)));
    made.await.expect("the change is made")
}

async fn admit(cluster: &Cluster, token: &str, index: usize) -> u64 {
    let request = AdmitMemberRequest {
        peer_endpoint: peer_endpoint(cluster, index),
        node_id: cluster.nodes[index].name.clone(),
        ..AdmitMemberRequest::default()
    };
    let call = |admin: Admin| {
        let request = request.clone();
        async move { admin.admit(request).await }
    };
    at_leader(cluster, token, call).await.identity.expect("an identity").raft_id
}

async fn caught_up(cluster: &Cluster, token: &str, ids: &[u64]) {
    wait::until("the learners to catch up", wait::PATIENCE, || async {
        let status = at_leader(cluster, token, |admin| async move { admin.status().await }).await;
        let ready = status.members.iter().filter(|member| {
            ids.contains(&id_of(member))
                && member.place() != MemberPlace::Admitted
                && member.lag_entries == Some(0)
        });
        if ready.count() == ids.len() { Ok(()) } else { Err(format!("{:?}", status.members)) }
    })
    .await;
}

/// 3 → 5 → 3 → 5 with the disks kept; nothing happens without the operator's word.
#[tokio::test(flavor = "multi_thread")]
async fn pods_that_the_list_does_not_name_wait_for_the_operator_and_come_and_go_on_its_word() {
    let token_folder = tempfile::tempdir().unwrap();
    let token_file = token_folder.path().join("token");
    std::fs::write(&token_file, "first").unwrap();
    let file = json!({ "log": { "segment_bytes": 4 << 20 }, "admin_token_file": token_file });
    let mut cluster = pods(5, 3, json!({ "membership_owner": "operator" }), file).await;
    cluster.start_all();
    for index in 0..5 {
        state_is(&cluster, "first", index, NodeState::Pristine).await;
    }
    let waiting = wait::until("node 0 to say what it waits for", wait::PATIENCE, || async {
        let told = cluster.nodes[0].http("/readyz").await.err().unwrap_or_default();
        if told.contains("waiting for the operator") { Ok(told) } else { Err(told) }
    });
    waiting.await;

    let members = (0..3).map(|index| InitialMember {
        node_id: cluster.nodes[index].name.clone(),
        peer_endpoint: peer_endpoint(&cluster, index),
    });
    let request = InitializeRequest { cluster_id: CLUSTER_ID.into(), members: members.collect() };
    let founded = cluster.admin(0).with_token("first").initialize(request, wait::PATIENCE).await.unwrap();
    assert_eq!(founded.cluster_id, CLUSTER_ID);
    for index in 0..3 {
        cluster.nodes[index].ready().await;
    }
    for index in 3..5 {
        wait::until("an added pod to say what it waits for", wait::PATIENCE, || async {
            let told = cluster.nodes[index].http("/readyz").await.err().unwrap_or_default();
            if told.contains("it has to admit this node") { Ok(()) } else { Err(told) }
        })
        .await;
        cluster.nodes[index].http("/livez").await.unwrap();
        state_is(&cluster, "first", index, NodeState::Pristine).await;
    }

    let near = cluster.admin(0).status().await.unwrap_err();
    assert_eq!(reason(&near), "UNAUTHORIZED", "loopback is not enough where there is a token");
    std::fs::write(token_folder.path().join("next"), "second").unwrap();
    std::fs::rename(token_folder.path().join("next"), &token_file).unwrap();
    for index in 0..5 {
        state_is(&cluster, "second", index, if index < 3 { NodeState::Voter } else { NodeState::Pristine })
            .await;
        let old = cluster.admin(index).with_token("first").status().await.unwrap_err();
        assert_eq!(reason(&old), "UNAUTHORIZED", "the old token is over at node {index}");
    }

    let mut ids = Vec::new();
    for round in 0..2 {
        ids = vec![admit(&cluster, "second", 3).await, admit(&cluster, "second", 4).await];
        assert!(ids.iter().all(|id| *id > 3 + 2 * round), "ids are never used again: {ids:?}");
        caught_up(&cluster, "second", &ids).await;
        let promote = PromoteMemberRequest { raft_ids: ids.clone(), ..PromoteMemberRequest::default() };
        at_leader(&cluster, "second", |admin| {
            let promote = promote.clone();
            async move { admin.promote(promote).await }
        })
        .await;
        cluster.ready().await;
        if round == 0 {
            let remove = RemoveMemberRequest { raft_ids: ids.clone(), ..RemoveMemberRequest::default() };
            at_leader(&cluster, "second", |admin| {
                let remove = remove.clone();
                async move { admin.remove(remove).await }
            })
            .await;
            // One is told while it runs, the other when its pod is made anew on its old disk.
            cluster.nodes[4].kill();
            cluster.start_node(4);
            for index in 3..5 {
                state_is(&cluster, "second", index, NodeState::Removed).await;
            }
        }
    }
    let status = at_leader(&cluster, "second", |admin| async move { admin.status().await }).await;
    let voters = status.members.iter().filter(|member| member.place() == MemberPlace::Voter);
    let mut names: Vec<&str> = voters.map(name_of).collect();
    names.sort_unstable();
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(ids.iter().all(|id| status.members.iter().any(|member| id_of(member) == *id)));
    for index in 3..5 {
        let kept = std::fs::read_dir(&cluster.nodes[index].data).unwrap().flatten();
        let aside = kept.filter(|entry| entry.file_name().to_string_lossy().starts_with("removed-")).count();
        assert_eq!(aside, 1, "what was left is kept aside");
    }
}

/// A DNS that caches gives the old address for up to 30 s; the pod that moved calls the others itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_comes_back_elsewhere_is_found_before_dns_knows_it() {
    let mut cluster = pods(3, 3, json!({}), json!({ "log": { "segment_bytes": 4 << 20 } })).await;
    cluster.start_all();
    cluster.ready().await;
    let moved = cluster.followers().await[0];
    cluster.nodes[moved].kill();
    // Calls over loopback come from here, whatever address they go to.
    cluster.nodes[moved].listen = Ipv4Addr::LOCALHOST;
    cluster.nodes[moved].set_env("REGISTRY_LISTEN", "127.0.0.1");
    tell_names(&cluster, moved);
    let begun = Instant::now();
    cluster.start_node(moved);
    cluster.nodes[moved].ready().await;
    assert_within("a pod with a new address is a member again", begun.elapsed(), Duration::from_secs(3));

    // Its vote counts: the others are one too few without it.
    let leader = cluster.leader().await;
    cluster.nodes[leader].kill();
    let begun = Instant::now();
    cluster.leader().await;
    assert_within("a leader by the vote of the pod that moved", begun.elapsed(), Duration::from_secs(3));
}
