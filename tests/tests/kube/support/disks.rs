//! Disks that break.

use std::time::Instant;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::DeleteParams;
use registry_tests::wait::until;
use serde_json::Value;

use super::objects::{SETTLING, member};
use super::pods::uid;
use super::stage::Kube;

impl Kube {
    /// Deletes the claim and the pod of a member, as a user does whose disk is broken, and waits until the member is
    /// whole again under another id than the one it had in the status `before`. Gives the status.
    pub async fn lose_disk(&self, cluster: &str, pod: &str, before: &Value) -> Value {
        let old = uid(&self.pod(pod).await).to_owned();
        let begun = Instant::now();
        let claims = self.api::<PersistentVolumeClaim>();
        claims.delete(&format!("data-{pod}"), &DeleteParams::default()).await.expect("the claim is there");
        self.api::<Pod>().delete(pod, &DeleteParams::default()).await.expect("the pod is there");
        until(&format!("{pod} to have a successor"), SETTLING, || async {
            let pods = self.pods(cluster).await;
            let successor = pods.iter().find(|one| one.metadata.name.as_deref() == Some(pod));
            if successor.is_some_and(|one| uid(one) != old) {
                Ok(())
            } else {
                Err(self.status(cluster).await)
            }
        })
        .await;
        let was = member(before, pod)["raftID"].as_i64().expect("an id");
        let status = until(&format!("{pod} to be a member with a new id"), SETTLING, || async {
            let status = self.status(cluster).await.expect("it is there");
            let id = member(&status, pod)["raftID"].as_i64();
            if id.is_some_and(|id| id > was) { Ok(status) } else { Err(status.to_string()) }
        })
        .await;
        println!("{pod}: raft id {was}, then {}", member(&status, pod)["raftID"]);
        let members = before["members"].as_array().expect("members").len();
        self.wait_until_settled(cluster, members, &format!("repair of the disk of {pod}"), begun).await
    }
}
