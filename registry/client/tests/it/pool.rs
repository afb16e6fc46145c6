//! Whom the client asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use registry_client::v1::MemberHealth;
use registry_client::{CallOptions, Client};

use crate::mock::{Mock, instance, orders, until};
use crate::net::Reach;

#[tokio::test]
async fn a_dead_and_a_silent_seed_fail_no_call_of_a_thousand() {
    let mock = Mock::new(3);
    mock.net.kill("node-1:8080");
    mock.net.set("node-3:8080", Reach::Silent);
    mock.lead(1);
    let client = mock.builder().connect().await.unwrap();
    for call in 0..1000 {
        if call % 10 == 0 {
            client.register(instance(call + 1)).await.unwrap();
        } else {
            client.discover(orders()).await.unwrap();
        }
    }
    assert_eq!(client.metrics().calls_failed, 0);
    assert_eq!(client.connected_endpoints(), ["node-2:8080"]);
}

#[tokio::test]
async fn nodes_that_die_and_return_while_calls_run_fail_none_of_them() {
    let mock = Arc::new(Mock::new(3));
    let client = mock.client().await;
    let done = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let (client, done) = (client.clone(), done.clone());
            tokio::spawn(async move {
                for call in 0..100 {
                    client.discover(orders()).await.unwrap();
                    if call % 5 == 0 {
                        client.register(instance(1 + caller * 1000 + call)).await.unwrap();
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        })
        .collect();
    for round in 0..6 {
        let target = (round + 1) * 100;
        until("calls go on", || done.load(Ordering::Relaxed) >= target).await;
        let victim = &mock.endpoints()[round % 3];
        mock.lead((round + 1) % 3);
        if round % 2 == 0 {
            mock.net.kill(victim)
        } else {
            mock.net.cut(victim)
        }
        mock.net.set(victim, Reach::Up);
    }
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(client.metrics().calls_failed, 0);
    assert_eq!(mock.store().violations, Vec::<String>::new());
    assert_eq!(mock.store().instances.len(), 8 * 20);
}

#[tokio::test]
async fn members_are_found_from_one_seed_and_dead_ones_left_out() {
    let mock = Mock::new(4);
    *mock.nodes[2].health.lock().unwrap() = MemberHealth::Dead;
    *mock.nodes[3].health.lock().unwrap() = MemberHealth::Unreachable;
    let client = Client::builder()
        .seed("node-2:8080")
        .dial(mock.net.clone())
        .refresh_interval(Duration::from_millis(20))
        .connect()
        .await
        .unwrap();
    until("the members are connected", || client.connected_endpoints().len() == 3).await;
    assert_eq!(client.connected_endpoints(), ["node-1:8080", "node-2:8080", "node-4:8080"]);
    assert_eq!(client.leader_endpoint().as_deref(), Some("node-1:8080"));
    for _ in 0..50 {
        client.discover(orders()).await.unwrap();
    }
    assert_eq!(mock.nodes[3].count("discover"), 0, "a node that the leader does not hear is asked last");
    assert!(mock.nodes[0].count("discover") > 0 && mock.nodes[1].count("discover") > 0);

    *mock.nodes[1].health.lock().unwrap() = MemberHealth::Quarantined;
    until("the quarantined seed is left out", || client.connected_endpoints().len() == 2).await;
}

#[tokio::test]
async fn a_seed_that_is_no_member_is_left_when_members_are_connected_and_found_again_without_them() {
    let mock = Mock::new(2);
    // A name in front of the cluster, as a Service of Kubernetes is.
    mock.net.add("registry:8080", tonic::service::Routes::default());
    mock.net.alias("registry:8080", "node-2:8080");
    let client = Client::builder().seed("registry:8080").dial(mock.net.clone()).connect().await.unwrap();
    until("the members are connected", || client.connected_endpoints() == ["node-1:8080", "node-2:8080"])
        .await;
    mock.net.kill("node-1:8080");
    mock.net.kill("node-2:8080");
    until("the seed is tried again", || client.connected_endpoints() == ["registry:8080"]).await;
}

#[tokio::test]
async fn connect_says_why_no_seed_can_be_reached() {
    let mock = Mock::new(2);
    mock.net.kill("node-1:8080");
    mock.net.kill("node-2:8080");
    let error = mock.builder().connect().await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("node-1:8080") && text.contains("node-2:8080") && text.contains("refused"),
        "{text}"
    );
    assert!(error.is_unreachable() && !error.is_outcome_unknown());
    for seeds in [vec![], vec!["no-port"], vec!["host:0"], vec![":8080"], vec!["a b:1"]] {
        assert!(Client::connect(seeds).await.is_err());
    }
}

#[tokio::test]
async fn a_client_that_starts_before_the_registry_works_when_it_comes() {
    let mock = Mock::new(1);
    mock.net.kill("node-1:8080");
    let client = mock.builder().build().unwrap();
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.discover(orders()).await }
    });
    until("the seed was tried", || client.metrics().connects_failed > 0).await;
    mock.net.set("node-1:8080", Reach::Up);
    call.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_call_at_one_node_asks_only_that_node() {
    let mock = Mock::new(3);
    let client = mock.client().await;
    let there = client.with(CallOptions::new().at("node-3:8080"));
    for _ in 0..10 {
        there.discover(orders()).await.unwrap();
    }
    assert_eq!(mock.nodes[2].count("discover"), 10);
    mock.net.kill("node-3:8080");
    let error = there.discover(orders()).await.unwrap_err();
    assert!(error.is_unreachable() && error.endpoint() == Some("node-3:8080"), "{error}");
}

#[tokio::test]
async fn reads_spread_over_all_nodes_and_writes_go_to_the_leader() {
    let mock = Mock::new(3);
    mock.lead(2);
    let client = mock.client().await;
    until("the leader is known", || client.leader_endpoint().is_some()).await;
    for call in 0..60 {
        client.discover(orders()).await.unwrap();
        client.register(instance(call + 1)).await.unwrap();
    }
    assert_eq!(mock.nodes[2].count("register"), 60);
    assert!(mock.nodes.iter().all(|node| node.count("discover") > 0));
}

#[tokio::test]
async fn a_stranger_at_a_members_address_is_not_believed() {
    let mock = Mock::new(2);
    let client = mock.client().await;
    client.register(instance(1)).await.unwrap();
    *mock.nodes[1].cluster_id.lock().unwrap() = "another cluster".into();
    for _ in 0..20 {
        let header = client.discover(orders()).await.unwrap().header.unwrap();
        assert_eq!(header.cluster_id, "the-cluster");
    }
    assert!(mock.nodes[1].count("discover") <= 1);
}

#[tokio::test]
async fn hooks_are_told_of_calls_and_connections() {
    #[derive(Clone, Default)]
    struct Told(Arc<std::sync::Mutex<Vec<String>>>);

    impl registry_client::Hooks for Told {
        fn call_ended(
            &self,
            method: &'static str,
            _: Duration,
            attempts: u32,
            error: Option<&registry_client::Error>,
        ) {
            self.0.lock().unwrap().push(format!("{method} {attempts} {}", error.is_some()));
        }

        fn connection_changed(&self, endpoint: &str, up: bool) {
            self.0.lock().unwrap().push(format!("{endpoint} {up}"));
        }
    }

    let mock = Mock::new(1);
    let told = Told::default();
    let client = mock.builder().hooks(told.clone()).connect().await.unwrap();
    client.discover(orders()).await.unwrap();
    let one_try = client.with(CallOptions::new().no_retry());
    mock.nodes[0].fail("discover", crate::mock::Fault::Refuse(crate::mock::no_quorum()));
    one_try.discover(orders()).await.unwrap_err();
    assert_eq!(*told.0.lock().unwrap(), ["node-1:8080 true", "discover 1 false", "discover 1 true"]);
}

#[tokio::test]
async fn a_node_that_accepts_but_says_nothing_is_never_asked() {
    let mock = Mock::new(2);
    for _ in 0..1000 {
        mock.nodes[1].fail("cluster_status", crate::mock::Fault::Hang);
    }
    let client = mock.builder().connect().await.unwrap();
    until("the silent node was given up once", || client.metrics().connects_failed > 0).await;
    for _ in 0..20 {
        client.discover(orders()).await.unwrap();
    }
    assert_eq!(client.connected_endpoints(), ["node-1:8080"]);
    assert_eq!(mock.nodes[1].count("discover"), 0);
}
