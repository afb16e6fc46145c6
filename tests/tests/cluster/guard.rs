//! The mass-expiry guard (P/L6): when most owners fall silent at once, their instances are kept for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use registry_proto::v1::{self, Consistency, EventCause, ServiceStatus};
use registry_tests::api::{Api, from_duration};
use registry_tests::cluster::{Cluster, Options};
use registry_tests::follow::Follower;
use registry_tests::owners::Owners;
use registry_tests::timing::{assert_expired_within, assert_not_before, assert_within};
use registry_tests::wait;
use serde_json::json;

const TTL: Duration = Duration::from_secs(6);
const LATE: Duration = Duration::from_secs(2);

fn holding(hold: &str) -> Options {
    Options { settings: json!({ "guard": { "hold": hold } }), ..Options::waiting() }
}

fn apis(cluster: &Cluster) -> Vec<Api> {
    (0..cluster.nodes.len()).map(|index| cluster.api(index)).collect()
}

async fn watches(cluster: &Cluster, service: &str) -> Vec<Follower> {
    let mut followers = Vec::new();
    for api in apis(cluster) {
        followers.push(Follower::start(api, service).await);
    }
    followers
}

/// The node shows all of the service, so many of them protected.
async fn shows(api: &Api, service: &str, total: u32, protected: u32) -> v1::ServiceDiscoveryResponse {
    wait::until(&format!("{protected} of {total} protected"), wait::PATIENCE, || async {
        let answer = api.discover_at(service, Consistency::Stale).await.map_err(|s| s.to_string())?;
        let counts = answer.counts.unwrap_or_default();
        let right = counts.total == total && counts.protected == protected;
        if right { Ok(answer) } else { Err(format!("{counts:?}")) }
    })
    .await
}

/// Every instance has its state, and says that it is protected and how old its last sign of life is.
fn check_ages(answer: &v1::ServiceDiscoveryResponse, heard: &HashMap<u32, Instant>) {
    let protection = answer.protection.expect("the service is protected");
    assert!(protection.instances > 0 && protection.held_for.is_some(), "{protection:?}");
    assert_eq!(answer.status(), ServiceStatus::Protected);
    let unix_now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    for instance in &answer.instances {
        assert_eq!(instance.state(), v1::InstanceState::Up, "the guard never touches the state");
        let protection = instance.protection.expect("the instance is protected");
        let silent_for = from_duration(protection.silent_for.expect("its silence"));
        assert!(silent_for * 3 > TTL * 2, "{silent_for:?} is not overdue");
        let since = Duration::try_from_secs_f64(
            protection.since.map_or(0.0, |at| at.seconds as f64 + f64::from(at.nanos) / 1e9),
        );
        let age = silent_for + unix_now.saturating_sub(since.expect("after 1970"));
        let truth = heard[&instance.port].elapsed();
        // Counted from its arrival, and lease time stands still when the leader is held up.
        assert!(age <= truth + Duration::from_millis(500), "{age:?} is more than {truth:?}");
        assert!(age + Duration::from_secs(10) >= truth, "{age:?} is far less than {truth:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_dead_owners_are_kept_over_a_failover_and_let_go_at_the_end() {
    let hold = Duration::from_secs(20);
    let mut cluster = Cluster::start(holding("20s")).await;
    let owners = Owners::start(&apis(&cluster), "orders", 1..201, TTL).await;
    let watches = watches(&cluster, "orders").await;
    // Every owner has renewed once at least, each in its phase.
    tokio::time::sleep(TTL / 2).await;
    let leases = owners.leases.clone();
    let heard = owners.die();
    let died = Instant::now();

    for watch in &watches {
        watch.until(EventCause::Protected, 200, wait::PATIENCE).await;
        assert_eq!(watch.removed().len(), 0, "one was removed before the guard held");
    }
    let firsts = watches.iter().map(|watch| watch.of(EventCause::Protected)[0].at);
    let first = firsts.min().expect("three watches");
    assert_within("the guard, after the death", first - died, TTL + LATE);
    for api in apis(&cluster) {
        check_ages(&shows(&api, "orders", 200, 200).await, &heard);
    }
    assert_eq!(cluster.nodes[0].metric("registry_protected_instances").await, Some(200.0));
    assert_eq!(cluster.nodes[0].metric("registry_protected_leases").await, Some(200.0));

    // The next leader gives them no deadline.
    let leader = cluster.leader().await;
    cluster.nodes[leader].kill();
    let next = cluster.leader().await;
    let reign = Instant::now();
    tokio::time::sleep(TTL + LATE).await;
    let survivors: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    for index in &survivors {
        assert_eq!(watches[*index].removed().len(), 0, "one was removed after the failover");
        check_ages(&shows(&cluster.api(*index), "orders", 200, 200).await, &heard);
    }

    // Three owners are back, and stay.
    let (api, back) = (cluster.api(next), &leases[..3]);
    let renew = || async {
        for (lease_id, _) in back {
            let request = v1::HeartbeatRequest { lease_id: *lease_id, ..Default::default() };
            api.heartbeat(request).await.expect("it is renewed");
        }
    };
    renew().await;
    watches[next].until(EventCause::Recovered, 3, wait::PATIENCE).await;
    cluster.start_node(leader);
    cluster.ready().await;
    let shown = shows(&cluster.api(leader), "orders", 200, 197).await;
    assert!(shown.protection.expect("it is protected").held_for.is_some());

    wait::until_true("the end of the guard", wait::PATIENCE, || async {
        renew().await;
        watches[next].of(EventCause::Expired).len() == 197
    })
    .await;
    let expired = watches[next].of(EventCause::Expired);
    assert_not_before("the end of the guard", expired[0].at - first, hold);
    // One hold at most from the failover on, since the time left is logged every 30 s.
    let took = expired[196].at - reign;
    assert_expired_within(
        "the end of the guard, after the failover",
        took,
        hold + LATE,
        cluster.lateness().await,
    );
    shows(&cluster.api(leader), "orders", 3, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_two_hundred_and_two_of_two_go_in_time() {
    let cluster = Cluster::start(Options::waiting()).await;
    let apis = apis(&cluster);
    let many = Owners::start(&apis, "orders", 3..201, TTL).await;
    let two = Owners::start(&apis, "orders", 1..3, TTL).await;
    let pair = Owners::start(&apis, "pair", 1..3, TTL).await;
    let (orders, pairs) = (watches(&cluster, "orders").await, watches(&cluster, "pair").await);
    tokio::time::sleep(TTL / 2).await;
    let (orders_heard, pair_heard) = (two.die(), pair.die());

    for (watches, heard) in [(&orders, &orders_heard), (&pairs, &pair_heard)] {
        for watch in watches {
            watch.until(EventCause::Expired, 2, wait::PATIENCE).await;
            assert_eq!(watch.of(EventCause::Protected).len(), 0, "two are no mass");
            for gone in watch.removed() {
                let took = gone.at - heard[&gone.instance.port];
                assert_not_before("the expiry", took, TTL);
                assert_expired_within("the expiry", took, TTL + LATE, cluster.lateness().await);
            }
        }
    }
    assert_eq!(apis[0].discover_at("orders", Consistency::Linearizable).await.unwrap().instances.len(), 198);
    drop(many);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_the_guard_also_after_and_during_a_failover() {
    let mut cluster = Cluster::start(Options::waiting()).await;
    let services = ["a", "b", "c"];
    let mut owners = Vec::new();
    for service in services {
        owners.push(Owners::start(&apis(&cluster), service, 1..21, TTL).await);
    }
    tokio::time::sleep(TTL / 2).await;
    owners.into_iter().for_each(|owners| drop(owners.die()));
    for service in services {
        shows(&cluster.api(0), service, 20, 20).await;
    }

    // At a follower.
    let follower = cluster.followers().await[0];
    let ended = cluster.api(follower).end_protection("a").await.unwrap();
    assert!(ended.ended == 20 && ended.header.unwrap().forwarded);
    let asked = Instant::now();
    shows(&cluster.api(follower), "a", 0, 0).await;
    assert_within("the end of what was protected", asked.elapsed(), LATE);

    // At a leader that has just inherited the guard.
    let leader = cluster.leader().await;
    cluster.nodes[leader].kill();
    let next = cluster.leader().await;
    assert_eq!(cluster.api(next).end_protection("b").await.unwrap().ended, 20);
    let asked = Instant::now();
    shows(&cluster.api(next), "b", 0, 0).await;
    assert_within("the end of what was protected, after a failover", asked.elapsed(), LATE);
    cluster.start_node(leader);
    cluster.ready().await;

    // At a leader that dies with the answer.
    let leader = cluster.leader().await;
    assert_eq!(cluster.api(leader).end_protection("c").await.unwrap().ended, 20);
    cluster.nodes[leader].kill();
    let next = cluster.leader().await;
    let reign = Instant::now();
    shows(&cluster.api(next), "c", 0, 0).await;
    assert_within("the end of what was protected, under the next leader", reign.elapsed(), LATE);
}
