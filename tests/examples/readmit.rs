//! Measures how long a node takes to come back after it lost its disk, with 100,000 instances:
//!
//! ```console
//! cargo run --release -p registry-tests --example readmit
//! ```
//!
//! From the start of the process on an empty folder to ready, and to the vote in the place of its old id.

use std::time::Instant;

use futures::StreamExt;
use registry_proto::internal::MemberPlace;
use registry_proto::v1;
use registry_tests::admin::{id_of, name_of};
use registry_tests::api::registration;
use registry_tests::cluster::{Cluster, Options};
use registry_tests::wait;
use serde_json::json;

const INSTANCES: u32 = 100_000;
const AT_A_TIME: usize = 64;

fn request(number: u32) -> v1::ServiceRegisterRequest {
    v1::ServiceRegisterRequest {
        instance_id: format!("instance-{number}"),
        ttl: Some(prost_types::Duration::default()),
        ..registration(&format!("service-{}", number / 100), "10.0.0.1", number % 65_535 + 1)
    }
}

#[tokio::main]
async fn main() {
    let settings = json!({ "dead_member_after": "1s", "promote_after": "0ms" });
    let file = json!({
        "log": { "segment_bytes": 64 << 20 },
        "raft": { "heartbeat_interval": 100, "election_timeout_min": 500, "election_timeout_max": 1000 },
    });
    let mut cluster = Cluster::start(Options { settings, file, ..Default::default() }).await;
    let leader = cluster.leader().await;
    let api = cluster.api(leader);
    let begun = Instant::now();
    futures::stream::iter(0..INSTANCES)
        .for_each_concurrent(AT_A_TIME, |number| {
            let api = api.clone();
            async move { drop(api.register(request(number)).await.expect("a healthy cluster registers")) }
        })
        .await;
    println!("{INSTANCES} instances registered in {:?}", begun.elapsed());

    let lost = (leader + 1) % 3;
    let name = cluster.nodes[lost].name.clone();
    let members = cluster.members().await;
    let old = members.iter().find(|member| name_of(member) == name).map(id_of).expect("it is a member");
    cluster.nodes[lost].kill();
    std::fs::remove_dir_all(&cluster.nodes[lost].data).expect("the folder is there");
    let begun = Instant::now();
    cluster.start_node(lost);
    cluster.nodes[lost].ready().await;
    println!("ready after {:?}", begun.elapsed());
    wait::until("the new id to vote alone", wait::PATIENCE, || async {
        let members = cluster.members().await;
        let votes = members.iter().all(|member| member.place() == MemberPlace::Voter);
        if votes && members.iter().all(|member| id_of(member) != old) { Ok(()) } else { Err("not yet") }
    })
    .await;
    println!("votes in the place of its old id after {:?}", begun.elapsed());
}
