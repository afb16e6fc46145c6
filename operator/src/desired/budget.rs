//! The disruption budget: how many voters must stay when hosts are drained.

use std::collections::BTreeMap;

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::Owner;
use crate::crd::{CLUSTER_LABEL, LEARNERS, ROLE_LABEL, VOTER};

/// The budget. `learners` is [`learners`] of the pods that are labelled so now.
pub fn budget(owner: &Owner, min_available: u32, learners: &str) -> PodDisruptionBudget {
    let selector = [(CLUSTER_LABEL, owner.name.as_str()), (ROLE_LABEL, VOTER)];
    let mut metadata = owner.metadata(&owner.name);
    metadata.annotations = Some(BTreeMap::from([(LEARNERS.to_owned(), learners.to_owned())]));
    PodDisruptionBudget {
        metadata,
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(i32::try_from(min_available).unwrap_or(i32::MAX))),
            selector: Some(LabelSelector {
                match_labels: Some(selector.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                ..LabelSelector::default()
            }),
            // AlwaysAllow would let two voters go that are both still catching up.
            unhealthy_pod_eviction_policy: Some("IfHealthyBudget".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}

/// Voters that must stay: one goes at a time, and never below the majority. `None`: there must be no budget,
/// because a single node could then never be drained. Absolute, because `maxUnavailable` is re-based when the
/// set shrinks.
pub fn min_available(voters: u32) -> Option<u32> {
    let majority = voters / 2 + 1;
    (voters > 1).then(|| majority.max(voters - 1))
}

/// Value of the annotation [`LEARNERS`]: another one whenever other pods are labelled as learners.
pub fn learners<'a>(uids: impl IntoIterator<Item = &'a str>) -> String {
    let mut uids: Vec<_> = uids.into_iter().collect();
    uids.sort_unstable();
    uids.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::testing::owner;

    #[test]
    fn evictions_go_one_at_a_time_and_leave_a_majority() {
        assert_eq!((min_available(0), min_available(1)), (None, None));
        for (voters, least) in [(2, 2), (3, 2), (5, 4), (7, 6)] {
            assert_eq!(min_available(voters), Some(least), "{voters}");
            assert!(least > voters / 2);
        }
    }

    #[test]
    fn it_counts_voters_of_this_cluster_only() {
        let budget = budget(&owner(), 2, "").spec.unwrap();
        let labels = budget.selector.unwrap().match_labels.unwrap();
        assert_eq!(labels[ROLE_LABEL], "voter");
        assert_eq!(labels[CLUSTER_LABEL], "orders");
        assert_eq!(budget.unhealthy_pod_eviction_policy.as_deref(), Some("IfHealthyBudget"));
        assert_eq!(budget.max_unavailable, None);
    }

    #[test]
    fn it_is_written_when_other_pods_are_learners_and_only_then() {
        assert_eq!(learners(["a", "b"]), learners(["b", "a"]));
        assert_ne!(learners(["a", "b"]), learners(["a"]));
        // The same pod made anew has another UID.
        assert_ne!(learners(["a"]), learners(["c"]));
    }
}
