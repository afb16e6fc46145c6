//! What the operator costs, and that it has nothing to complain about. `tests/kube/run` runs this last.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::support::command::kubectl;
use crate::support::operator::{RELEASE, SYSTEM};
use crate::support::stage::{Tier, on_test_cluster};

/// Requests of the operator at rest with one cluster, by the aim of the project.
const REQUESTS_PER_MINUTE: usize = 30;

/// The requests of the operator in the audit log: verb, resource, code. Without what nobody may write any more: the
/// operator cannot know that somebody deletes the namespace of a cluster.
fn requests(log: &str) -> Vec<(String, String, i64)> {
    let account = format!("system:serviceaccount:{SYSTEM}:{RELEASE}");
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|entry| entry["user"]["username"] == *account)
        .filter(|entry| !entry["responseStatus"]["message"].to_string().contains("is being terminated"))
        .map(|entry| {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let code = entry["responseStatus"]["code"].as_i64().unwrap_or_default();
            (word(&entry["verb"]), word(&entry["objectRef"]["resource"]), code)
        })
        .collect()
}

#[tokio::test]
async fn an_operator_at_rest_asks_little() {
    on_test_cluster("rest", Tier::All, async |kube, faults| {
        kube.found("orders", 3).await;
        let before = std::fs::metadata(faults.audit_log()).expect("the audit log").len();
        // What is counted is a time.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let log = std::fs::read(faults.audit_log()).expect("the audit log");
        let from = usize::try_from(before).expect("it fits");
        let mut counts = BTreeMap::<_, usize>::new();
        for (verb, resource, _) in requests(&String::from_utf8_lossy(&log[from..])) {
            *counts.entry(format!("{verb} {resource}")).or_default() += 1;
        }
        let total: usize = counts.values().sum();
        println!("requests in a minute at rest: {total}, {counts:?}");
        assert!(total <= REQUESTS_PER_MINUTE, "{total}: {counts:?}");
    })
    .await;
}

#[tokio::test]
async fn the_operator_was_never_refused_and_logged_no_error() {
    on_test_cluster("quiet", Tier::Quick, async |_, faults| {
        let log = std::fs::read_to_string(faults.audit_log()).expect("the audit log");
        let requests = requests(&log);
        // An operator whose release is uninstalled gives its lease back when its role is gone already.
        let refused = |(_, resource, code): &&(String, String, i64)| *code == 403 && resource != "leases";
        let forbidden: Vec<_> = requests.iter().filter(refused).collect();
        assert!(forbidden.is_empty(), "{forbidden:?}");
        let conflicts = requests.iter().filter(|(_, _, code)| *code == 409).count();
        println!("{} requests, {conflicts} of them conflicts", requests.len());
        // Two writers meet now and then; a loop meets itself each time.
        assert!(conflicts * 50 <= requests.len(), "{conflicts} conflicts of {} requests", requests.len());

        let words = ["logs", "--namespace", SYSTEM, "--selector=app.kubernetes.io/name=registry-operator"];
        let log = kubectl(&[&words[..], &["--tail=-1", "--prefix"]].concat()).await;
        let errors: Vec<_> = log.lines().filter(|line| line.contains(r#""level":"ERROR""#)).collect();
        assert!(errors.is_empty(), "{errors:#?}");
        println!("{} lines of log without an error", log.lines().count());
    })
    .await;
}
