//! RegistryClusters as users write and read them: JSON, by server-side apply.

use std::time::{Duration, Instant};

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Api, Error};
use registry_tests::wait::until;
use serde_json::{Value, json};

use super::pods::is_ready;
use super::stage::Kube;

/// The field manager of the tests.
pub const MANAGER: &str = "registry-tests";

/// Longest time for a change of a whole cluster, on a machine that does other things, too.
pub const SETTLING: Duration = Duration::from_secs(300);

impl Kube {
    /// The RegistryClusters of the namespace.
    pub fn clusters(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("registry.dev", "v1alpha1", "RegistryCluster");
        let resource = ApiResource::from_gvk_with_plural(&kind, "registryclusters");
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Applies a cluster with this `spec`, as a new object or over the old one.
    pub async fn try_apply(&self, name: &str, spec: &Value) -> Result<DynamicObject, Error> {
        let object = json!({
            "apiVersion": "registry.dev/v1alpha1",
            "kind": "RegistryCluster",
            "metadata": {"name": name},
            "spec": spec,
        });
        self.clusters().patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await
    }

    /// As [`Self::try_apply`], for what must be accepted.
    pub async fn apply(&self, name: &str, spec: &Value) -> DynamicObject {
        self.try_apply(name, spec).await.unwrap_or_else(|error| panic!("{name} is not accepted: {error}"))
    }

    /// Changes some fields of a cluster by a merge patch.
    pub async fn patch(&self, name: &str, patch: &Value) -> DynamicObject {
        self.clusters()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap_or_else(|error| panic!("{name} cannot be changed: {error}"))
    }

    /// The `status` of a cluster, null before there is one.
    pub async fn status(&self, name: &str) -> Result<Value, Error> {
        Ok(self.clusters().get(name).await?.data["status"].clone())
    }

    /// Waits until a condition has this status for the present generation; tells how long it took.
    pub async fn wait_for_condition(
        &self,
        name: &str,
        kind: &str,
        status: &str,
        limit: Duration,
    ) -> Duration {
        let begun = Instant::now();
        until(&format!("{name} to have {kind}={status}"), limit, || async {
            let object = self.clusters().get(name).await.map_err(|error| error.to_string())?;
            let condition = condition(&object.data["status"], kind);
            let present = condition["observedGeneration"].as_i64() >= object.metadata.generation;
            let holds = present && condition["status"] == status;
            if holds { Ok(()) } else { Err(object.data["status"].to_string()) }
        })
        .await;
        begun.elapsed()
    }

    /// Waits until the cluster has exactly `members` healthy voters, nothing is wrong and nothing is left to do;
    /// prints how long it took since `begun`, and gives its status.
    pub async fn wait_until_settled(&self, name: &str, members: usize, what: &str, begun: Instant) -> Value {
        let status = until(&format!("{name} to settle with {members} members"), SETTLING, || async {
            let object = self.clusters().get(name).await.map_err(|error| error.to_string())?;
            let status = &object.data["status"];
            let voters = status["members"].as_array().is_some_and(|all| {
                let healthy = |member: &&Value| member["role"] == "Voter" && member["healthy"] == true;
                all.len() == members && all.iter().filter(healthy).count() == members
            });
            let settled =
                [("Available", "QuorumHealthy"), ("Progressing", "Idle"), ("Degraded", "AsExpected")]
                    .iter()
                    .all(|(kind, reason)| {
                        let condition = condition(status, kind);
                        let present = condition["observedGeneration"].as_i64() >= object.metadata.generation;
                        present && condition["reason"] == *reason
                    });
            let pods = self.pods(name).await;
            let ready = pods.len() == members && pods.iter().all(is_ready);
            if voters && settled && ready { Ok(status.clone()) } else { Err(status.to_string()) }
        })
        .await;
        println!("TIME {what}: {:.1} s", begun.elapsed().as_secs_f64());
        status
    }

    /// A new cluster of so many members with small disks, founded and at rest.
    pub async fn found(&self, name: &str, members: usize) -> Value {
        let begun = Instant::now();
        self.apply(name, &json!({"replicas": members, "storage": {"size": "1Gi"}})).await;
        self.wait_until_settled(name, members, &format!("founding of {members}"), begun).await
    }

    /// Waits until a condition has this reason; gives the condition.
    pub async fn wait_for_reason(&self, name: &str, kind: &str, reason: &str, limit: Duration) -> Value {
        until(&format!("{name} to have {kind} with reason {reason}"), limit, || async {
            let status = self.status(name).await.map_err(|error| error.to_string())?;
            let condition = condition(&status, kind);
            if condition["reason"] == reason { Ok(condition) } else { Err(status.to_string()) }
        })
        .await
    }
}

/// The condition of this type, or null.
pub fn condition(status: &Value, kind: &str) -> Value {
    let conditions = status["conditions"].as_array();
    conditions
        .and_then(|all| all.iter().find(|condition| condition["type"] == kind))
        .cloned()
        .unwrap_or_default()
}

/// What the status says of a member, or null.
pub fn member(status: &Value, name: &str) -> Value {
    let members = status["members"].as_array();
    members.and_then(|all| all.iter().find(|member| member["name"] == name)).cloned().unwrap_or_default()
}

/// The pod that leads, by the status.
pub fn leader(status: &Value) -> &str {
    status["leader"].as_str().expect("a cluster at rest has a leader")
}
