//! Time that nobody lives through does not count (P/L3).

use std::time::{Duration, Instant};

use registry_proto::v1::{self, Consistency};
use registry_tests::api::leased;
use registry_tests::cluster::{Cluster, Options};
use registry_tests::timing::assert_not_before;
use registry_tests::wait;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_expires_because_all_nodes_were_frozen_for_a_minute() {
    // All owners fall silent here in the end, and the guard would rightly keep them.
    let settings = json!({ "guard": { "enabled": false } });
    let cluster = Cluster::start(Options { settings, ..Options::waiting() }).await;
    let ttl = Duration::from_secs(15);
    let api = cluster.api(0);
    let mut leases = Vec::new();
    for port in 1..=20 {
        leases.push(api.register(leased("orders", "127.0.0.1", port, ttl)).await.unwrap().lease_id);
    }
    let registered = Instant::now();
    cluster.freeze();
    let frozen = Duration::from_secs(60);
    tokio::time::sleep(frozen).await;
    cluster.thaw();

    // The first renewals after it: half of the owners are back at once.
    for lease_id in &leases[..10] {
        wait::until("a renewal", wait::PATIENCE, || async {
            api.heartbeat(v1::HeartbeatRequest { lease_id: *lease_id, ..Default::default() })
                .await
                .map(|_| ())
                .map_err(|status| status.to_string())
        })
        .await;
    }
    let count = || async {
        api.discover_at("orders", Consistency::Linearizable)
            .await
            .map(|answer| answer.instances.len())
            .unwrap_or(0)
    };
    assert_eq!(count().await, 20, "all instances are there after the thaw");

    // The silent half goes after one TTL of time that did run, the renewed half stays until then.
    wait::until_true("the silent owners to expire", wait::PATIENCE, || async { count().await <= 10 }).await;
    // A tick of the lease clock may take in up to 2 s of the frozen time.
    assert_not_before(
        "expiry of the silent owners, less the frozen time",
        registered.elapsed() - frozen,
        ttl - Duration::from_secs(2),
    );
}
