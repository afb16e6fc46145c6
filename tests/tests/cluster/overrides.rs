//! Overrides: the operator's word stands whatever happens to the instance, and ends in its time (P/L7).

use std::time::{Duration, Instant};

use registry_proto::v1::{self, Consistency, EventCause, InstanceState};
use registry_tests::api::{Api, duration, leased, request_id};
use registry_tests::cluster::{Cluster, Options};
use registry_tests::follow::Follower;
use registry_tests::timing::{assert_not_before, assert_within};
use registry_tests::wait;

const TTL: Duration = Duration::from_secs(3);

fn overriding(ttl: Option<Duration>) -> v1::SetInstanceOverrideRequest {
    v1::SetInstanceOverrideRequest {
        service_name: "orders".into(),
        host: "127.0.0.1".into(),
        port: 1,
        operator_override: Some(v1::InstanceOverride {
            state: InstanceState::Down.into(),
            weight: Some(7),
            comment: "bad disk".into(),
            actor: "ada".into(),
            ..Default::default()
        }),
        ttl: ttl.map(duration),
        ..Default::default()
    }
}

fn owned_by(client: &str) -> v1::ServiceRegisterRequest {
    v1::ServiceRegisterRequest { request_id: request_id(client, 1), ..leased("orders", "127.0.0.1", 1, TTL) }
}

/// The override as the list has it, and whether its instance is registered.
async fn listed(api: &Api) -> Option<(v1::InstanceOverride, bool)> {
    let request = v1::ListInstanceOverridesRequest { all_namespaces: true, ..Default::default() };
    let overrides =
        wait::until("the list", wait::PATIENCE, || api.overrides(request.clone())).await.overrides;
    assert!(overrides.len() <= 1, "{overrides:?}");
    let entry = overrides.into_iter().next()?;
    Some((entry.operator_override.expect("it has one"), entry.registered))
}

/// Registers as another program and finds the operator's state and weight, and the owner's own beside it.
async fn registers_and_is_overridden(api: &Api, client: &str) {
    wait::until("a registration", wait::PATIENCE, || api.register(owned_by(client))).await;
    let answer = api.discover_at("orders", Consistency::Linearizable).await.unwrap();
    let [instance] = answer.instances.as_slice() else { panic!("{:?}", answer.instances) };
    assert_eq!((instance.state(), instance.weight), (InstanceState::Down, Some(7)));
    let reported = instance.reported.expect("the owner's word is shown beside it");
    assert_eq!((reported.state(), reported.weight), (InstanceState::Up, Some(100)));
    assert_eq!(instance.operator_override.as_ref().expect("it is shown").actor, "ada");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_outlives_owner_instance_restart_and_leader() {
    let mut cluster = Cluster::start(Options::waiting()).await;
    let follower = cluster.followers().await[0];
    let set = cluster.api(follower).set_override(overriding(None)).await.unwrap();
    assert!(!set.registered && set.header.unwrap().forwarded, "it waits for its instance");
    let stands = set.operator_override.unwrap();

    registers_and_is_overridden(&cluster.api(0), "one").await;
    registers_and_is_overridden(&cluster.api(1), "another").await;
    wait::until("its expiry", wait::PATIENCE, || async {
        let answer = cluster.api(0).discover_at("orders", Consistency::Linearizable).await;
        let count = answer.map(|answer| answer.instances.len()).map_err(|status| status.to_string())?;
        if count == 0 { Ok(()) } else { Err(format!("{count} are there")) }
    })
    .await;
    assert_eq!(listed(&cluster.api(2)).await, Some((stands.clone(), false)));

    cluster.kill_all();
    cluster.start_all();
    cluster.ready().await;
    assert_eq!(listed(&cluster.api(1)).await, Some((stands.clone(), false)));
    registers_and_is_overridden(&cluster.api(2), "after-the-restart").await;

    let leader = cluster.leader().await;
    cluster.nodes[leader].kill();
    let next = cluster.leader().await;
    registers_and_is_overridden(&cluster.api(next), "after-the-failover").await;
    assert_eq!(listed(&cluster.api(next)).await, Some((stands, true)));

    let watch = Follower::start(cluster.api(next), "orders").await;
    let clear = v1::ClearInstanceOverrideRequest {
        service_name: "orders".into(),
        instance_id: "127.0.0.1:1".into(),
        ..Default::default()
    };
    assert!(cluster.api(next).clear_override(clear.clone()).await.unwrap().cleared);
    watch.until(EventCause::OverrideCleared, 1, wait::PATIENCE).await;
    assert!(!cluster.api(next).clear_override(clear).await.unwrap().cleared, "there is none any more");
    assert_eq!(listed(&cluster.api(next)).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_ends_in_its_time_also_under_another_leader() {
    let mut cluster = Cluster::start(Options::waiting()).await;
    let permanent = v1::ServiceRegisterRequest { ttl: Some(duration(Duration::ZERO)), ..owned_by("one") };
    cluster.api(0).register(permanent).await.unwrap();
    let mut watches = Vec::new();
    for index in 0..3 {
        watches.push(Follower::start(cluster.api(index), "orders").await);
    }
    let ttl = Duration::from_secs(5);
    let asked = Instant::now();
    cluster.api(1).set_override(overriding(Some(ttl))).await.unwrap();
    for watch in &watches {
        let ended = watch.until(EventCause::OverrideExpired, 1, wait::PATIENCE).await;
        assert_not_before("the end of the override", ended - asked, ttl);
        assert_within("the end of the override", ended - asked, ttl + Duration::from_secs(2));
    }

    let ttl = Duration::from_secs(12);
    let asked = Instant::now();
    cluster.api(1).set_override(overriding(Some(ttl))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let leader = cluster.leader().await;
    cluster.nodes[leader].kill();
    let next = cluster.leader().await;
    let ended = watches[next].until(EventCause::OverrideExpired, 2, wait::PATIENCE * 2).await;
    assert_not_before("the end of the override, over a failover", ended - asked, ttl);
    // The time left is logged each minute: a failover costs that at most.
    let promise = ttl + Duration::from_secs(60 + 2);
    assert!(ended - asked <= promise, "it ended after {:?}, the bound is {promise:?}", ended - asked);
    assert_eq!(listed(&cluster.api(next)).await, None);
    assert_eq!(cluster.nodes[next].metric("registry_overrides").await, Some(0.0));
}
