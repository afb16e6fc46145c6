//! Changes of the membership of Raft: what is refused, what survives, and that no id comes twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use registry::error::peer::PeerError;
use registry::raft::{ChangeError, Consensus, Member};
use registry_client::transport::{Channel, ConnectionOptions, TcpDial};
use registry_proto::internal::peer_service_client::PeerServiceClient;
use registry_proto::internal::{self as pb, PeerErrorReason};
use registry_state::{AddMember, MemberSpec, MembershipOwner, Operation, RemoveMembers, Reply};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::cluster::{CLUSTER, Cluster, PATIENCE, command, propose, register, spec, wait_for};

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn ids(list: &[u64]) -> BTreeSet<u64> {
    list.iter().copied().collect()
}

/// A member where nobody listens.
fn nobody(id: u64) -> Member {
    Member { name: format!("node-{id}"), peer_endpoint: "127.0.0.1:1".into(), ..Member::default() }
}

async fn is_uniform(consensus: &Consensus, voters: &[u64]) {
    wait_for("the membership", || {
        let membership = consensus.status().membership;
        (membership.committed && membership.configs == [ids(voters)]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_do_harm_is_refused_and_what_is_done_already_is_no_change() {
    let cluster = Cluster::start(|_| {}).await;
    let leader = cluster.leader().await;
    let consensus = &cluster.nodes[&leader].consensus;
    let before = consensus.status().membership;

    let added = consensus.add_learner(4, nobody(4), before.position, soon()).await.unwrap();
    assert!(added.position > before.position && added.members.contains_key(&4) && added.voters().len() == 3);
    let again = consensus.add_learner(4, nobody(4), None, soon()).await.unwrap();
    assert_eq!(again.position, added.position, "nothing happened");
    let elsewhere = Member { peer_endpoint: "127.0.0.1:2".into(), ..nobody(4) };
    let refused = consensus.add_learner(4, elsewhere, None, soon()).await.unwrap_err();
    assert!(matches!(refused, ChangeError::Refused(_)), "{refused}");

    let changed = consensus.add_learner(5, nobody(5), before.position, soon()).await.unwrap_err();
    assert_eq!(changed, ChangeError::Changed { now: added.position });
    let unknown = consensus.change_voters(ids(&[1, 2, 9]), None, soon()).await.unwrap_err();
    assert_eq!(unknown, ChangeError::UnknownMember(9));
    let none = consensus.change_voters(BTreeSet::new(), None, soon()).await.unwrap_err();
    assert!(matches!(none, ChangeError::Refused(_)), "{none}");
    let voter = consensus.remove_learners(&ids(&[2]), None, soon()).await.unwrap_err();
    assert!(matches!(voter, ChangeError::Refused(_)), "{voter}");
    let absent = consensus.remove_learners(&ids(&[77]), None, soon()).await.unwrap();
    assert_eq!(absent.position, added.position);
    let same = consensus.change_voters(ids(&[1, 2, 3]), None, soon()).await.unwrap();
    assert_eq!(same.position, added.position);

    let follower = cluster.nodes.values().find(|node| node.id != leader).unwrap();
    let elsewhere = follower.consensus.flatten(soon()).await.unwrap_err();
    assert_eq!(elsewhere, ChangeError::NotLeader { leader: Some(leader) });

    let removed = consensus.remove_learners(&ids(&[4, 77]), added.position, soon()).await.unwrap();
    assert!(!removed.members.contains_key(&4));
    propose(consensus, &register(1, 10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joint_configuration_survives_its_leader_and_the_next_one_ends_it() {
    let mut cluster = Cluster::start(|_| {}).await;
    let newcomers = [(4, cluster.start_stranger(4).await), (5, cluster.start_stranger(5).await)];
    let leader = cluster.nodes.values().find(|node| node.consensus.leadership().is_some()).unwrap().id;
    let consensus = cluster.nodes[&leader].consensus.clone();
    for (id, member) in newcomers {
        consensus.add_learner(id, member, None, soon()).await.unwrap();
    }
    // Given up after its first entry, as if the leader had died then.
    let half = consensus.change_voters(ids(&[1, 2, 3, 4, 5]), None, Instant::now()).await.unwrap_err();
    assert_eq!(half, ChangeError::OutcomeUnknown);
    wait_for("the joint configuration", || {
        let membership = consensus.status().membership;
        (membership.committed && membership.configs.len() == 2).then_some(())
    })
    .await;
    cluster.stop_node(leader).await;

    let next = cluster.leader().await;
    let consensus = &cluster.nodes[&next].consensus;
    wait_for("it to be committed", || consensus.status().membership.committed.then_some(())).await;
    assert_eq!(consensus.status().membership.configs.len(), 2, "nobody has ended it yet");
    propose(consensus, &register(1, 10)).await;
    consensus.flatten(soon()).await.unwrap();
    is_uniform(consensus, &[1, 2, 3, 4, 5]).await;
    let again = consensus.flatten(soon()).await.unwrap();
    assert_eq!(again.configs.len(), 1);
    cluster.settle().await;
    cluster.assert_equal_states();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_has_lost_its_vote_can_hand_over_and_stays_a_learner() {
    let mut cluster = Cluster::start(|_| {}).await;
    let member = cluster.start_stranger(4).await;
    let leader = cluster.nodes.values().find(|node| node.consensus.leadership().is_some()).unwrap().id;
    let consensus = cluster.nodes[&leader].consensus.clone();
    consensus.add_learner(4, member, None, soon()).await.unwrap();
    let voters: Vec<u64> = (1..=4).filter(|id| *id != leader).collect();
    consensus.change_voters(ids(&voters), None, soon()).await.unwrap();
    // Raft lets it lead on: somebody has to say it.
    assert!(consensus.leadership().is_some());
    let next = consensus.transfer_leadership(None, &BTreeSet::new(), soon()).await.unwrap().node;
    assert!(voters.contains(&next));
    wait_for("it to know that it leads", || cluster.nodes[&next].consensus.leadership()).await;
    let status = cluster.nodes[&next].consensus.status();
    assert!(status.membership.members.contains_key(&leader), "it stays until it is removed");
    propose(&cluster.nodes[&next].consensus, &register(1, 10)).await;
    cluster.settle().await;
    cluster.assert_equal_states();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_id_comes_twice_over_fifty_changes_and_failovers() {
    let cluster = Cluster::start(|_| {}).await;
    let owner = MembershipOwner::Autopilot.into();
    let mut given = ids(&[1, 2, 3]);
    for round in 0..50_u64 {
        // A name and an address that come again and again, and a disk that does not.
        let member = MemberSpec { raft_id: 0, disk_id: spec(100 + round).disk_id, ..spec(4) };
        let add = command(Operation::AddMember(AddMember { member: Some(member), owner }));
        let raft_id = loop {
            // An answer that was lost is asked for again: the same disk has the same id.
            let leader = cluster.leader().await;
            let consensus = &cluster.nodes[&leader].consensus;
            let reply = propose(consensus, &add).await.applied.reply.clone();
            let Reply::MemberAdded { raft_id, .. } = reply else { panic!("{reply:?}") };
            if come_and_go(consensus, raft_id, owner).await.is_ok() {
                break raft_id;
            }
        };
        assert!(given.insert(raft_id), "id {raft_id} was given before");
        let leader = cluster.leader().await;
        let again = cluster.nodes[&leader].consensus.propose(&add, soon()).await;
        if let Ok(again) = again {
            let reply = &again.applied.reply;
            assert!(matches!(reply, Reply::Rejected(_)), "a buried disk came back: {reply:?}");
        }
        if round % 10 == 9 {
            // On a busy machine it may fail: then the same leader goes on.
            let _ =
                cluster.nodes[&leader].consensus.transfer_leadership(None, &BTreeSet::new(), soon()).await;
        }
    }
    assert_eq!(given.len(), 53);
    cluster.settle().await;
    cluster.assert_equal_states();
    let leader = cluster.leader().await;
    let membership = cluster.nodes[&leader].consensus.status().membership;
    assert_eq!(membership.voters(), ids(&[1, 2, 3]));
}

/// Every call of a removed member is refused, and a stream that it opened before ends, so that it opens
/// another one and is told (P/N5).
#[tokio::test(flavor = "multi_thread")]
async fn the_streams_of_a_member_end_when_it_is_removed() {
    let cluster = Cluster::start(|_| {}).await;
    let leader = cluster.leader().await;
    let consensus = &cluster.nodes[&leader].consensus;
    let owner = MembershipOwner::Autopilot.into();
    let add = AddMember { member: Some(MemberSpec { raft_id: 0, ..spec(4) }), owner };
    propose(consensus, &command(Operation::AddMember(add))).await;

    let channel =
        Channel::new(Arc::new(TcpDial::default()), cluster.endpoint(leader), ConnectionOptions::default());
    let mut client = PeerServiceClient::new(channel);
    let header =
        pb::PeerHeader { cluster_id: CLUSTER.into(), from_raft_id: 4, to_raft_id: leader, process_nonce: 1 };
    let first = pb::ForwardRenewalsRequest { header: Some(header), ..pb::ForwardRenewalsRequest::default() };
    let (requests, sent) = mpsc::channel(1);
    requests.send(first.clone()).await.unwrap();
    let mut answers = client.forward_renewals(ReceiverStream::new(sent)).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());

    let bury = RemoveMembers { raft_ids: vec![4], owner };
    propose(consensus, &command(Operation::RemoveMembers(bury))).await;
    requests.send(pb::ForwardRenewalsRequest::default()).await.unwrap();
    let ended = answers.message().await.unwrap_err();
    assert_eq!(PeerError::reason_of(&ended), Some(PeerErrorReason::Removed), "{ended}");
    let again = client.forward_renewals(futures::stream::iter([first])).await.unwrap_err();
    assert_eq!(PeerError::reason_of(&again), Some(PeerErrorReason::Removed), "{again}");
}

/// A member becomes a learner, is buried and leaves Raft. An error = leadership moved before it was buried.
async fn come_and_go(consensus: &Consensus, raft_id: u64, owner: i32) -> Result<(), ChangeError> {
    consensus.add_learner(raft_id, nobody(raft_id), None, soon()).await?;
    let bury = RemoveMembers { raft_ids: vec![raft_id], owner };
    if consensus.propose(&command(Operation::RemoveMembers(bury)), soon()).await.is_ok() {
        // Else the next leader finds it: buried, and still in Raft.
        let _ = consensus.remove_learners(&ids(&[raft_id]), None, soon()).await;
        return Ok(());
    }
    Err(ChangeError::OutcomeUnknown)
}
