//! A leader that goes: writes go on within an election, no lease is lost.

use std::time::{Duration, Instant};

use registry_tests::timing::assert_within;
use serde_json::Value;

use crate::support::objects::leader;
use crate::support::stage::{Tier, Turn, on_kubernetes, on_test_cluster};
use crate::support::workload::Workload;

/// Longest time without an acknowledged write while an election goes on: the election timeout, and one attempt
/// of the library that had been sent to the dead leader (3 s).
const PAUSE: Duration = Duration::from_secs(5);

async fn unharmed(workload: Workload) {
    let report = workload.finish_unharmed().await;
    let pause = report["longestPauseMillis"].as_u64().expect("a number");
    assert_within("longest pause of the writes", Duration::from_millis(pause), PAUSE);
}

fn other_leader(before: &Value, after: &Value) {
    assert_ne!(leader(before), leader(after), "another member leads");
}

#[tokio::test]
async fn a_leader_whose_process_is_killed_is_replaced_by_an_election() {
    on_test_cluster("leader-killed", Tier::Quick, async |kube, faults| {
        let before = kube.found("orders", 3).await;
        let workload = kube.start_workload("orders").await;
        let begun = Instant::now();
        faults.kill_process(&kube.pod(leader(&before)).await);
        workload.wait_for_writes(100, Duration::from_secs(60)).await;
        let after = kube.wait_until_settled("orders", 3, "leader killed until all is at rest", begun).await;
        other_leader(&before, &after);
        unharmed(workload).await;
    })
    .await;
}

#[tokio::test]
async fn a_leader_whose_pod_is_deleted_hands_over_first() {
    on_kubernetes("leader-deleted", Tier::All, Turn::Shared, async |kube| {
        let before = kube.found("orders", 3).await;
        let workload = kube.start_workload("orders").await;
        let begun = Instant::now();
        kube.delete_pod(leader(&before)).await;
        workload.wait_for_writes(100, Duration::from_secs(60)).await;
        let after =
            kube.wait_until_settled("orders", 3, "leader's pod deleted until all is at rest", begun).await;
        other_leader(&before, &after);
        unharmed(workload).await;
    })
    .await;
}
