//! Calls to a node that refuses them all, each for the same reason.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use registry_client::transport::TcpDial;
use registry_proto::internal as pb;
use tokio::net::TcpListener;
use tokio::time::{Duration, timeout};
use tonic::service::Routes;

use super::*;
use crate::environment::Environment;
use crate::peers::{Hints, PeerClient, Purpose};
use crate::server::listen::Server;
use crate::server::observe::Unobserved;

/// A node that refuses every call; its endpoint, and how many it had.
async fn refusing(refusal: PeerError) -> (String, Arc<AtomicUsize>, Server) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let answer = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let refusal = Status::from(refusal.clone());
        async move { refusal.into_http::<Body>() }
    };
    let listener = Environment::system().bind.bind("127.0.0.1:0").await.unwrap();
    let routes = Routes::from(axum::Router::new().fallback(answer));
    let server = Server::start(listener, routes, Arc::new(Unobserved)).unwrap();
    (server.address().to_string(), calls, server)
}

fn peers_with(endpoint: &str) -> Peers {
    let peers = Peers::new(Arc::new(TcpDial::default()), "c".into(), 1, 7, Hints::default());
    peers.set_endpoint(2, endpoint);
    peers
}

/// Makes one kind of call.
async fn call(mut client: PeerClient, kind: &str) {
    let refused = match kind {
        "append" => client.append(futures::stream::iter([pb::AppendRequest::default()])).await.is_err(),
        "snapshot" => {
            let parts = futures::stream::iter([pb::InstallSnapshotRequest::default()]);
            client.install_snapshot(parts).await.is_err()
        }
        "writes" => {
            let writes = futures::stream::iter([pb::ForwardWritesRequest::default()]);
            client.forward_writes(writes).await.is_err()
        }
        "renewals" => {
            let renewals = futures::stream::iter([pb::ForwardRenewalsRequest::default()]);
            client.forward_renewals(renewals).await.is_err()
        }
        "vote" => client.vote(pb::VoteRequest::default()).await.is_err(),
        "read index" => client.read_index(pb::ReadIndexRequest::default()).await.is_err(),
        _ => client.probe(pb::ProbeRequest::default()).await.is_err(),
    };
    assert!(refused, "{kind}");
}

#[tokio::test]
async fn whatever_a_removed_member_asks_it_learns_that_it_was_removed() {
    let removed = PeerError::new(PeerErrorReason::Removed, "removed").with("index", 41);
    let (endpoint, _, _server) = refusing(removed).await;
    for kind in ["append", "snapshot", "writes", "renewals", "vote", "read index", "probe"] {
        let peers = peers_with(&endpoint);
        call(peers.client(2, Purpose::Control).unwrap(), kind).await;
        let told = timeout(Duration::from_secs(5), peers.told_of_removal()).await;
        assert_eq!(told, Ok(41), "{kind}");
    }
}

#[tokio::test]
async fn other_refusals_say_nothing_about_the_own_place() {
    let (endpoint, _, _server) = refusing(PeerError::new(PeerErrorReason::NotLeader, "not me")).await;
    let peers = peers_with(&endpoint);
    call(peers.client(2, Purpose::Control).unwrap(), "vote").await;
    assert!(timeout(Duration::from_millis(20), peers.told_of_removal()).await.is_err());
}

/// The address of a pod was given to a pod of another cluster, and the member comes back elsewhere.
#[tokio::test]
async fn a_connection_to_somebody_else_is_given_up_and_the_member_found_where_it_was_heard() {
    // Both at one port, as pods are.
    let other = PeerError::new(PeerErrorReason::ClusterMismatch, "of another cluster");
    let (at_name, strangers, _stranger) = refusing(other).await;
    let port = at_name.rsplit_once(':').unwrap().1;
    let itself = TcpListener::bind((Ipv4Addr::new(127, 9, 9, 9), port.parse().unwrap())).await.unwrap();

    let hints = Hints::default();
    let peers = Peers::new(Arc::new(TcpDial::default()), "c".into(), 1, 7, hints.clone());
    peers.set_endpoint(2, &format!("localhost:{port}"));
    hints.heard(2, itself.local_addr().unwrap().ip());
    call(peers.client(2, Purpose::Control).unwrap(), "vote").await;
    assert_eq!(strangers.load(Ordering::Relaxed), 1);
    let again = tokio::spawn(call(peers.client(2, Purpose::Control).unwrap(), "vote"));
    timeout(Duration::from_secs(5), itself.accept()).await.expect("it is dialled there").unwrap();
    again.abort();
    assert_eq!(strangers.load(Ordering::Relaxed), 1, "the stranger is not asked again");
}
