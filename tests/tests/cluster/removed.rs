//! What a member that was removed is told, by everybody, whatever it asks, for good (P/N5).

use std::sync::Arc;

use registry_client::transport::{Channel, ConnectionOptions, TcpDial};
use registry_proto::internal::peer_service_client::PeerServiceClient;
use registry_proto::internal::{self as pb, MemberPlace, NodeState, PeerHeader, RemoveMemberRequest};
use registry_tests::admin::{id_of, name_of};
use registry_tests::api::reason;
use registry_tests::cluster::{Cluster, Options};
use registry_tests::wait;
use serde_json::json;
use tokio_stream::once;
use tonic::Status;
use tonic_types::StatusExt;

/// Calls of a node to another, with the header of the sender.
struct Peer {
    client: PeerServiceClient<Channel>,
    header: Option<PeerHeader>,
}

impl Peer {
    /// As member `from` calls the node that is member `to`.
    fn new(cluster: &Cluster, index: usize, cluster_id: &str, from: u64, to: u64) -> Self {
        let endpoint = cluster.nodes[index].peer_endpoint();
        let channel = Channel::new(Arc::new(TcpDial::default()), &endpoint, ConnectionOptions::default());
        let header = PeerHeader {
            cluster_id: cluster_id.to_owned(),
            from_raft_id: from,
            to_raft_id: to,
            process_nonce: 1,
        };
        Self { client: PeerServiceClient::new(channel), header: Some(header) }
    }

    async fn read_index(&self) -> Result<(), Status> {
        let request = pb::ReadIndexRequest { header: self.header.clone() };
        self.client.clone().read_index(request).await.map(drop)
    }

    /// Every kind of call that begins with a header, and what came of it.
    async fn everything(&self) -> Vec<(&'static str, Result<(), Status>)> {
        let header = self.header.clone();
        let mut client = self.client.clone();
        // A term that would end every reign, if it were heard.
        let vote = Some(pb::Vote { term: 1_000, raft_id: 4, committed: false });
        vec![
            ("vote", {
                let request = pb::VoteRequest { header: header.clone(), vote, ..Default::default() };
                client.vote(request).await.map(drop)
            }),
            ("pre-vote", {
                let request = pb::PreVoteRequest { header: header.clone(), vote, ..Default::default() };
                client.pre_vote(request).await.map(drop)
            }),
            ("append", {
                let request = pb::AppendRequest { header: header.clone(), vote, ..Default::default() };
                client.append(once(request)).await.map(drop)
            }),
            ("snapshot", {
                let request = pb::InstallSnapshotRequest { header: header.clone(), ..Default::default() };
                client.install_snapshot(once(request)).await.map(drop)
            }),
            ("timeout now", {
                let request = pb::TimeoutNowRequest { header: header.clone(), ..Default::default() };
                client.timeout_now(request).await.map(drop)
            }),
            ("read index", self.read_index().await),
            ("writes", {
                let request = pb::ForwardWritesRequest { header: header.clone(), ..Default::default() };
                client.forward_writes(once(request)).await.map(drop)
            }),
            ("renewals", {
                let request = pb::ForwardRenewalsRequest { header: header.clone(), ..Default::default() };
                client.forward_renewals(once(request)).await.map(drop)
            }),
            ("watches", {
                let request = pb::AwaitWatchesRequest { header: header.clone(), ..Default::default() };
                client.await_watches(request).await.map(drop)
            }),
            ("goodbye", {
                let request = pb::GoodbyeRequest { header: header.clone(), ..Default::default() };
                client.goodbye(request).await.map(drop)
            }),
            ("view", {
                let request = pb::ClusterViewRequest { header };
                client.cluster_view(request).await.map(drop)
            }),
        ]
    }
}

/// Every member tells member 4, whatever it asks; and its Hello says it beside the answer.
async fn all_tell(cluster: &Cluster, cluster_id: &str) {
    for index in 0..3 {
        let to = index as u64 + 1;
        let peer = Peer::new(cluster, index, cluster_id, 4, to);
        wait::until(&format!("member {to} to know of the removal"), wait::PATIENCE, || async {
            match peer.read_index().await {
                Err(status) if reason(&status) == "REMOVED" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        for (call, answer) in peer.everything().await {
            let status = answer.expect_err(call);
            assert_eq!(reason(&status), "REMOVED", "{call} at member {to}: {status:?}");
            let told: u64 = status.get_details_error_info().unwrap().metadata["index"].parse().unwrap();
            assert!(told > 0, "{call} at member {to}");
        }
        let hello = pb::HelloRequest { header: peer.header.clone(), ..Default::default() };
        let hello = peer.client.clone().hello(hello).await.unwrap().into_inner();
        assert!(hello.caller_removed_at > 0, "{hello:?}");
        // Others are not meant.
        let other = Peer::new(cluster, index, cluster_id, to % 3 + 1, to).read_index().await;
        assert_ne!(other.map_err(|status| reason(&status)), Err("REMOVED".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_tells_a_removed_one_so_whatever_it_asks_and_for_good() {
    let settings = json!({ "membership_owner": "manual", "dead_member_after": "1s" });
    let mut cluster = Cluster::start(Options { settings, ..Options::default() }).await;
    let joiner = cluster.add_joiner();
    cluster.start_node(joiner);
    let admitted = cluster.admit(joiner).await.identity.unwrap();
    assert_eq!((admitted.raft_id, admitted.cluster_id.is_empty()), (4, false));
    cluster.nodes[joiner].ready().await;
    let before = Peer::new(&cluster, 0, &admitted.cluster_id, 4, 1).read_index().await;
    assert_ne!(before.map_err(|status| reason(&status)), Err("REMOVED".to_owned()), "it is a member");
    cluster.nodes[joiner].kill();
    let removed = cluster.at_leader("a leader that removes", |admin| async move {
        admin.remove(RemoveMemberRequest { raft_ids: vec![4], ..Default::default() }).await
    });
    removed.await.unwrap();
    all_tell(&cluster, &admitted.cluster_id).await;

    // They know it after a restart.
    for index in 0..3 {
        cluster.nodes[index].kill();
        cluster.start_node(index);
    }
    cluster.ready().await;
    all_tell(&cluster, &admitted.cluster_id).await;

    // It hears of it when it is back, and says it from then on, also when nobody is left to ask.
    cluster.start_node(joiner);
    cluster.nodes[joiner].waits_for("was removed from the cluster").await;
    cluster.kill_all();
    cluster.start_node(joiner);
    cluster.nodes[joiner].waits_for("was removed from the cluster").await;
    let status = cluster.admin(joiner).status().await.unwrap();
    assert_eq!((status.state(), status.identity.unwrap()), (NodeState::Removed, admitted));
    assert!(status.raft.is_none(), "Raft is not started");
    for index in 0..3 {
        cluster.start_node(index);
    }
    wait::until("three members, and no fourth", wait::PATIENCE, || async {
        let members = cluster.members().await;
        let votes = members.iter().all(|member| member.place() == MemberPlace::Voter && id_of(member) < 4);
        let names: Vec<&str> = members.iter().map(name_of).collect();
        if votes && names.len() == 3 { Ok(()) } else { Err(format!("{members:?}")) }
    })
    .await;
}
