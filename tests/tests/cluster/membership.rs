//! Members come and go while the cluster works: growing, shrinking, the leader's own removal, half a change,
//! and who may ask for it.

use std::collections::BTreeSet;
use std::time::Duration;

use registry_client::Client;
use registry_proto::internal::{
    LogId, MemberPlace, MembershipOwner, PromoteMemberRequest, RemoveMemberRequest,
};
use registry_proto::v1::ServiceDiscoveryRequest;
use registry_tests::admin::{id_of, name_of};
use registry_tests::api::{Api, reason};
use registry_tests::cluster::{Cluster, Options};
use registry_tests::node::CRASH_POINT;
use registry_tests::wait;
use registry_tests::workload::{Writer, written};
use rustix::process::Signal;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

/// Long enough for a change with a fault in it on a busy machine.
const LONG: Duration = Duration::from_secs(100);

fn quick(owner: &str) -> serde_json::Value {
    json!({ "membership_owner": owner, "promote_after": "500ms", "dead_member_after": "20s" })
}

/// Waits until exactly these nodes vote, whoever else is there.
async fn wait_for_votes(cluster: &Cluster, names: &BTreeSet<String>) {
    wait::until(&format!("{names:?} to vote"), LONG, || async {
        let members = cluster.members().await;
        let voters = members.iter().filter(|member| member.place() == MemberPlace::Voter);
        let voters: BTreeSet<String> = voters.map(|member| name_of(member).to_owned()).collect();
        if voters == *names { Ok(()) } else { Err(format!("{members:?}")) }
    })
    .await;
}

fn names(cluster: &Cluster, indexes: &[usize]) -> BTreeSet<String> {
    indexes.iter().map(|index| cluster.nodes[*index].name.clone()).collect()
}

/// The Raft ids under which these nodes vote now.
async fn voting_ids(cluster: &Cluster, indexes: &[usize]) -> Vec<u64> {
    let names = names(cluster, indexes);
    let members = cluster.members().await;
    let voters = members.iter().filter(|member| member.place() == MemberPlace::Voter);
    voters.filter(|member| names.contains(name_of(member))).map(id_of).collect()
}

/// kill -9, and at once a new start.
fn crash(cluster: &mut Cluster, index: usize) {
    cluster.nodes[index].kill();
    cluster.start_node(index);
}

/// Stops a node from running on for a while, as a long pause of its machine does.
async fn freeze(cluster: &Cluster, index: usize, length: Duration) {
    cluster.nodes[index].signal(Signal::STOP);
    sleep(length).await;
    cluster.nodes[index].signal(Signal::CONT);
}

/// All that a writer wrote, as a node sees it.
async fn read(api: Api, service: &str) -> Result<BTreeSet<u32>, Status> {
    let (mut present, mut page_token) = (BTreeSet::new(), String::new());
    loop {
        let request = ServiceDiscoveryRequest {
            service_name: service.into(),
            page_size: 5_000,
            page_token,
            ..ServiceDiscoveryRequest::default()
        };
        let page = api.discover(request).await?;
        present.extend(written(&page.instances));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(present);
        }
    }
}

/// Every acknowledged write is there, at every node that runs.
async fn assert_nothing_lost(cluster: &Cluster, writer: Writer, indexes: &[usize]) {
    let service = writer.service().to_owned();
    let record = writer.finish().await;
    assert!(record.acknowledged.len() > 100, "the load was no load: {}", record.acknowledged.len());
    for index in indexes {
        let present = wait::until(&format!("node {index} to answer"), LONG, || {
            read(cluster.nodes[*index].api(), &service)
        })
        .await;
        let lost: Vec<&u32> = record.acknowledged.difference(&present).collect();
        assert!(lost.is_empty(), "node {index} lost {} acknowledged writes: {lost:?}", lost.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_grow_to_five_and_shrink_to_three_under_load_with_a_fault_in_each_step() {
    let mut cluster = Cluster::start(Options { settings: quick("autopilot"), ..Options::default() }).await;
    let client = Client::connect(cluster.endpoints()).await.unwrap();
    let writer = Writer::start(client, "growth", 50);
    let begun = Instant::now();

    // Two come; the first is killed while it is taken up, then the leader.
    let newcomers = [cluster.add_joiner(), cluster.add_joiner()];
    for index in newcomers {
        cluster.start_node(index);
    }
    sleep(Duration::from_millis(300)).await;
    crash(&mut cluster, newcomers[0]);
    cluster.admit(newcomers[0]).await;
    let leader = cluster.leader().await;
    crash(&mut cluster, leader);
    assert_eq!(cluster.admit(newcomers[1]).await.voters_target, 5, "voters_target makes room for both");

    // Both get their votes together; a follower stands still meanwhile.
    let still = cluster.followers().await.into_iter().find(|index| *index < 3).unwrap();
    freeze(&cluster, still, Duration::from_secs(2)).await;
    let five = names(&cluster, &[0, 1, 2, 3, 4]);
    wait_for_votes(&cluster, &five).await;
    println!("three to five with three faults under load: {} ms", begun.elapsed().as_millis());
    cluster.ready().await;

    // The leader and another leave; whoever stays is killed once in between.
    let begun = Instant::now();
    let leader = cluster.leader().await;
    let other = (0..5).find(|index| *index != leader).unwrap();
    let leaving = voting_ids(&cluster, &[leader, other]).await;
    let stay: Vec<usize> = (0..5).filter(|index| *index != leader && *index != other).collect();
    crash(&mut cluster, stay[0]);
    wait::until("the two to be removed", LONG, || async {
        let removed = cluster.at_leader("a leader that removes", |admin| {
            let request = RemoveMemberRequest { raft_ids: leaving.clone(), ..RemoveMemberRequest::default() };
            async move { admin.remove(request).await }
        });
        match removed.await {
            Ok(answer) => {
                assert_eq!(answer.voters_target, 3);
                Ok(())
            }
            // The crashed one is on its way back.
            Err(status) if reason(&status) == "WOULD_LOSE_QUORUM" => Err(status),
            Err(status) if reason(&status) == "TRANSFER_FAILED" => Err(status),
            Err(status) => panic!("{status:?}"),
        }
    })
    .await;
    let three = names(&cluster, &stay);
    wait_for_votes(&cluster, &three).await;
    println!("five to three, the leader among those removed: {} ms", begun.elapsed().as_millis());

    // The removed are told, start anew by themselves, and find no room for a vote.
    wait::until("the removed to come back as learners", LONG, || async {
        let members = cluster.members().await;
        let back = members.iter().filter(|member| member.place() == MemberPlace::Learner);
        let back: Vec<u64> = back.map(id_of).collect();
        if back.len() != 2 {
            return Err(format!("{members:?}"));
        }
        assert!(back.iter().all(|id| *id > 5), "{back:?}");
        Ok(())
    })
    .await;
    wait_for_votes(&cluster, &three).await;
    assert_nothing_lost(&cluster, writer, &stay).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_in_the_middle_of_a_change_leaves_nothing_half_done() {
    let mut cluster = Cluster::start(Options { settings: quick("manual"), ..Options::default() }).await;
    let newcomers = [cluster.add_joiner(), cluster.add_joiner()];
    for index in newcomers {
        cluster.start_node(index);
    }
    for index in newcomers {
        cluster.admit(index).await;
    }
    let members = cluster.members().await;
    let learners: Vec<u64> =
        members.iter().filter(|member| member.place() == MemberPlace::Learner).map(id_of).collect();
    assert_eq!(learners.len(), 2, "{members:?}");
    let promote = PromoteMemberRequest { raft_ids: learners, ..PromoteMemberRequest::default() };
    wait::until("the learners to catch up", LONG, || async {
        // Far too short for an answer: the leader dies with the change begun, or not, or done.
        let leader = cluster.leader().await;
        let admin = cluster.admin(leader);
        match timeout(Duration::from_millis(4), admin.promote(promote.clone())).await {
            Ok(Err(status)) if reason(&status) == "NOT_CAUGHT_UP" => Err(status),
            _ => Ok(()),
        }
    })
    .await;
    let leader = cluster.leader().await;
    cluster.nodes[leader].kill();
    wait::until("a uniform membership", LONG, || async {
        let status =
            cluster.at_leader("a leader", |admin| async move { admin.status().await }).await.unwrap();
        let view = status.membership.unwrap();
        let sets = view.membership.unwrap().configs.len();
        if view.committed && sets == 1 { Ok(()) } else { Err(format!("{sets} sets")) }
    })
    .await;
    cluster.start_node(leader);
    cluster.ready().await;
    cluster.promote(&promote.raft_ids, &[]).await;
    wait_for_votes(&cluster, &names(&cluster, &[0, 1, 2, 3, 4])).await;
}

/// The voters in the newest membership in a node's log: two sets = in the middle of a change.
async fn sets_of_voters(cluster: &Cluster, index: usize) -> Result<usize, Status> {
    let view = cluster.admin(index).status().await?.membership.unwrap_or_default();
    Ok(view.membership.map_or(0, |membership| membership.configs.len()))
}

/// Where a node dies as the first entry with two sets of voters reaches it, before it is stored.
const HALF: &str = "two-sets-arrived";

/// Begins a change of voters that the nodes which are to die at [`HALF`] do not live through: the leader and one
/// other have it in their logs, and it is never committed.
async fn begin_half(cluster: &mut Cluster, request: PromoteMemberRequest, have: [usize; 2], die: &[usize]) {
    let admin = cluster.admin(have[0]);
    let call = tokio::spawn(async move {
        // Refused until all have caught up.
        wait::until("a change to be begun", LONG, || admin.promote(request.clone())).await
    });
    for index in die {
        cluster.nodes[*index].dies_at(HALF).await;
    }
    for index in have {
        wait::until("two sets of voters", LONG, || async {
            match sets_of_voters(cluster, index).await {
                Ok(2) => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }
    assert!(!call.is_finished(), "the new voters have no majority");
    call.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_stands_half_made_in_the_log_is_ended_by_the_next_leader() {
    let mut cluster = Cluster::start(Options { settings: quick("manual"), ..Options::default() }).await;
    let newcomers = [cluster.add_joiner(), cluster.add_joiner()];
    let mut raft_ids = Vec::new();
    for index in newcomers {
        cluster.nodes[index].set_env(CRASH_POINT, HALF);
        cluster.start_node(index);
        raft_ids.push(cluster.admit(index).await.identity.unwrap().raft_id);
        cluster.nodes[index].ready().await;
    }
    let other = cluster.followers().await[0];
    cluster.nodes[other].kill();
    cluster.nodes[other].set_env(CRASH_POINT, HALF);
    cluster.start_node(other);
    cluster.nodes[other].ready().await;
    let leader = cluster.leader().await;
    let heir = 3 - leader - other;
    let die = [other, newcomers[0], newcomers[1]];

    // With three of five dead the old voters have a majority, and the new ones have none.
    let request = PromoteMemberRequest { raft_ids, ..PromoteMemberRequest::default() };
    begin_half(&mut cluster, request, [leader, heir], &die).await;
    cluster.nodes[leader].kill();
    die.iter().for_each(|index| cluster.start_node(*index));

    // Only the heir has the entry: it must lead first, and end what it finds.
    wait_for_votes(&cluster, &names(&cluster, &[0, 1, 2, 3, 4])).await;
    for index in (0..5).filter(|index| *index != leader) {
        wait::until("one set of voters", LONG, || async {
            match sets_of_voters(&cluster, index).await {
                Ok(1) => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }
    cluster.start_node(leader);
    cluster.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_the_token_and_has_seen_the_membership_may_change_it() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "s3cret\n").unwrap();
    let file = json!({ "log": { "segment_bytes": 4 << 20 }, "admin_token_file": token.path() });
    let cluster = Cluster::start(Options { settings: quick("autopilot"), file, ..Options::waiting() }).await;
    let leader = cluster.leader().await;
    let stranger = cluster.admin(leader);
    let refused = stranger.status().await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (tonic::Code::Unauthenticated, "UNAUTHORIZED"));
    let guess = stranger.clone().with_token("s3cre");
    let remove = |raft_ids: &[u64]| RemoveMemberRequest { raft_ids: raft_ids.to_vec(), ..Default::default() };
    for call in [guess.remove(remove(&[1, 2])).await.unwrap_err(), guess.snapshot().await.unwrap_err()] {
        assert_eq!(reason(&call), "UNAUTHORIZED");
    }
    assert_eq!(reason(&guess.settings().await.unwrap_err()), "UNAUTHORIZED");

    let admin = stranger.with_token("s3cret");
    let status = admin.status().await.unwrap();
    let seen = status.membership.unwrap().log_id.unwrap();
    let stale = RemoveMemberRequest {
        expected_membership: Some(LogId { index: seen.index + 1, ..seen }),
        ..remove(&[1, 2])
    };
    assert_eq!(reason(&admin.remove(stale).await.unwrap_err()), "MEMBERSHIP_CHANGED");
    let foreign = RemoveMemberRequest { owner: MembershipOwner::Operator.into(), ..remove(&[1, 2]) };
    assert_eq!(reason(&admin.remove(foreign).await.unwrap_err()), "MEMBERSHIP_OWNED");
    assert_eq!(reason(&admin.remove(remove(&[9])).await.unwrap_err()), "MEMBER_UNKNOWN");
    assert_eq!(reason(&admin.remove(remove(&[])).await.unwrap_err()), "INVALID_FIELD");
    let follower = cluster.followers().await[0];
    let elsewhere = cluster.admin(follower).with_token("s3cret");
    let away = status.identity.unwrap().raft_id % 3 + 1;
    let two = admin.remove(remove(&[away])).await.unwrap_err();
    assert_eq!(reason(&two), "INVALID_FIELD", "two voters are worse than three: {two:?}");
    let hint = elsewhere.remove(remove(&[away])).await.unwrap_err();
    assert_eq!(reason(&hint), "NOT_LEADER");
    let after = admin.status().await.unwrap().membership.unwrap().log_id.unwrap();
    assert_eq!(after, seen, "nothing of all that changed anything");
    let snapshot = admin.snapshot().await.unwrap();
    assert!(snapshot.size_bytes > 0 && snapshot.last_log_id.is_some());

    // A token that is replaced counts without a restart, and the old one no more.
    std::fs::write(token.path(), "n3xt\n").unwrap();
    let next = cluster.admin(leader).with_token("n3xt");
    wait::until("the new token to count", wait::PATIENCE, || next.status()).await;
    assert_eq!(reason(&admin.status().await.unwrap_err()), "UNAUTHORIZED");
}
