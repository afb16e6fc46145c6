//! A program of a user in a pod of another namespace: `tests/examples/kube_workload.rs`.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use registry_tests::wait::until;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::stage::Kube;

/// Longest time for the final report, which waits for the calls that are open.
const LIMIT: Duration = Duration::from_secs(60);

/// The running program.
pub struct Workload {
    namespaces: Api<Namespace>,
    namespace: String,
    address: String,
}

impl Kube {
    /// Starts it against the client service of a cluster, and waits until its first writes are acknowledged.
    /// One for each test.
    pub async fn start_workload(&self, cluster: &str) -> Workload {
        self.start_workload_by(cluster, None).await
    }

    /// The same on a node that will not be broken.
    pub async fn start_workload_on(&self, cluster: &str, node: &str) -> Workload {
        self.start_workload_by(cluster, Some(node)).await
    }

    async fn start_workload_by(&self, cluster: &str, node: Option<&str>) -> Workload {
        let namespace = format!("{}-client", self.namespace);
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}})).expect("a namespace");
        namespaces.create(&PostParams::default(), &object).await.expect("a new namespace");
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let endpoint = format!("{cluster}.{}.svc:8080", self.namespace);
        pods.create(&PostParams::default(), &pod(&endpoint, node)).await.expect("a new pod");
        let ip = until("the workload to have an address", LIMIT, || async {
            let pod = pods.get("workload").await.map_err(|error| error.to_string())?;
            pod.status.and_then(|status| status.pod_ip).ok_or("none yet".to_owned())
        })
        .await;
        let workload = Workload { namespaces, namespace, address: format!("{ip}:7000") };
        until("the workload's first writes", LIMIT, || async {
            let report = workload.ask("/").await?;
            if report["acknowledged"].as_u64() > Some(20) { Ok(()) } else { Err(report.to_string()) }
        })
        .await;
        workload
    }
}

impl Workload {
    /// How far it is.
    pub async fn progress(&self) -> Value {
        self.ask("/").await.expect("the workload answers")
    }

    /// Waits until so many more writes were acknowledged: the cluster serves.
    pub async fn wait_for_writes(&self, more: u64, limit: Duration) {
        let count = self.progress().await["acknowledged"].as_u64().expect("a number");
        until(&format!("{more} more writes"), limit, || async {
            let report = self.ask("/").await?;
            if report["acknowledged"].as_u64() >= Some(count + more) {
                Ok(())
            } else {
                Err(report.to_string())
            }
        })
        .await;
    }

    /// Ends it: no acknowledged write lost, no live lease expired, no call failed after the library's retries.
    /// Gives its report, with `longestPauseMillis` of the writes.
    pub async fn finish_unharmed(self) -> Value {
        let report = self.finish().await;
        for none in ["failedWrites", "lostWrites", "failedLookups"] {
            assert_eq!(report[none], json!([]), "{none}: {report}");
        }
        for zero in ["missingLeases", "expiredLeases", "reregistered"] {
            assert_eq!(report[zero], 0, "{zero}: {report}");
        }
        assert!(report["watchEnded"].is_null(), "{report}");
        assert!(report["acknowledged"].as_u64() > Some(0), "{report}");
        report
    }

    /// Ends it and gives its report, whatever it says.
    pub async fn finish(self) -> Value {
        let report = self.ask("/finish").await.expect("the workload answers");
        println!("workload: {report}");
        self.namespaces.delete(&self.namespace, &DeleteParams::default()).await.expect("it is there");
        report
    }

    async fn ask(&self, path: &str) -> Result<Value, String> {
        let exchange = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            stream.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = tokio::time::timeout(LIMIT, exchange).await.map_err(|_| "no answer".to_owned())?;
        let answer = answer.map_err(|error| error.to_string())?;
        let body = answer.split_once("\r\n\r\n").ok_or("no body")?.1;
        serde_json::from_str(body).map_err(|error| format!("{error}: {body}"))
    }
}

fn pod(endpoint: &str, node: Option<&str>) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "workload"},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "workload",
                "image": "registry.dev/kube-workload:test",
                "command": ["/bin/kube_workload", endpoint, "orders"],
            }],
        },
    }))
    .expect("a pod")
}
