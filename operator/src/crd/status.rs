//! What the operator reports. Never a source of truth: wiped, it is written anew from what the members say.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub use super::conditions::{Because, Conditions, MESSAGE_MAX};
pub use super::reason::{Available, Degraded, Paused, Progressing, Reason, Truth, UpgradePending};

/// What the operator observed.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.clusterID) || (has(self.clusterID) && self.clusterID == oldSelf.clusterID)").message("clusterID is set once"))]
pub struct RegistryClusterStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Number of pods.
    #[serde(default)]
    pub replicas: i32,
    /// Number of voters that are caught up and serve clients.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Selector of the pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
    /// True once the cluster has been founded; never false again.
    #[serde(default)]
    #[x_kube(validation = Rule::new("!oldSelf || self").message("a bootstrapped cluster stays bootstrapped"))]
    pub bootstrapped: bool,
    /// Identity of the cluster (a UUID), which every disk carries. Written before the cluster is founded.
    #[serde(default, rename = "clusterID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub cluster_id: Option<String>,
    /// Pods that the cluster is founded with. Written before it is founded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), inner(length(min = 1, max = 253)))]
    pub founding_members: Vec<String>,
    /// Pod that leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub leader: Option<String>,
    /// Raft term of that leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<i64>,
    /// Voters and how many of them live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<Quorum>,
    /// What is being done now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// Version that all members run; the oldest one while they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub current_version: Option<String>,
    /// Image that the pods are to run: spec.image, or the operator's default at the time of creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub image: Option<String>,
    /// One entry per member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub members: Vec<Member>,
    /// Available, Progressing, Degraded, UpgradePending and Paused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// Voters and how many of them live.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Quorum {
    /// Members with a vote.
    pub voters: i32,
    /// Those that answer and follow the leader.
    pub live: i32,
    /// Votes that a decision takes.
    pub needed: i32,
    /// Live and all voters, such as `3/3`, for the printer column.
    #[schemars(length(max = 16))]
    pub summary: String,
}

impl Quorum {
    /// The quorum of so many voters, of which so many live.
    pub fn new(voters: i32, live: i32) -> Self {
        Self { voters, live, needed: voters / 2 + 1, summary: format!("{live}/{voters}") }
    }
}

/// What is being done now, one step of it at a time.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// The reason of condition Progressing that it has.
    #[schemars(length(min = 1, max = 64))]
    pub kind: String,
    /// Pod that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub target: Option<String>,
    /// The step, such as `PromoteMember`.
    #[schemars(length(max = 64))]
    pub step: String,
    /// Since when it is this step; the deadline counts from here.
    #[schemars(schema_with = "time_schema")]
    pub started_at: Time,
}

/// What a member is in the membership.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum Role {
    /// It votes.
    Voter,
    /// It receives the log and serves reads, without a vote.
    Learner,
}

/// One member.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Pod.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Raft id; a new one for every new disk. Unset: not admitted yet.
    #[serde(default, rename = "raftID", skip_serializing_if = "Option::is_none")]
    pub raft_id: Option<i64>,
    /// What it is in the membership. Unset: not admitted yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// True if it leads.
    #[serde(default)]
    pub leader: bool,
    /// True if it answers, follows the leader and serves clients.
    #[serde(default)]
    pub healthy: bool,
    /// Why it is not healthy, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
    /// Log entries behind the leader, rounded to a power of ten so that it does not change at each look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// Version that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
}

impl Member {
    /// The lag as it is shown: 0 within what is on its way at any moment, else the power of ten not above it.
    pub fn rounded_lag(entries: u64) -> i64 {
        /// A busy leader is so far ahead of a follower that keeps up.
        const ON_ITS_WAY: u64 = 1_000;
        match entries {
            0..ON_ITS_WAY => 0,
            _ => 10_i64.saturating_pow(entries.ilog10()),
        }
    }
}

/// A time as Kubernetes writes it.
fn time_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// `Condition` without the long descriptions; a list-map by type, so that managers can own single conditions.
fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": { "type": "string", "maxLength": 316 },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "reason": { "type": "string", "minLength": 1, "maxLength": 128 },
                "message": { "type": "string", "maxLength": MESSAGE_MAX },
                "lastTransitionTime": { "type": "string", "format": "date-time" },
                "observedGeneration": { "type": "integer", "format": "int64", "minimum": 0 },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_more_than_half_of_the_voters() {
        for (voters, needed) in [(1, 1), (3, 2), (5, 3), (7, 4)] {
            assert_eq!(Quorum::new(voters, 1).needed, needed);
        }
        assert_eq!(Quorum::new(3, 2).summary, "2/3");
    }

    #[test]
    fn a_lag_is_shown_so_coarsely_that_a_busy_cluster_does_not_rewrite_its_status() {
        for (entries, shown) in [(0, 0), (999, 0), (1_000, 1_000), (9_999, 1_000), (10_000, 10_000)] {
            assert_eq!(Member::rounded_lag(entries), shown, "{entries}");
        }
        assert!(Member::rounded_lag(u64::MAX) > 0);
    }
}
