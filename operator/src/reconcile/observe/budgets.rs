//! Disruption budgets over the pods of a cluster: its own, and those that others have made. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use kube::core::{Selector, SelectorExt as _};

use super::super::subject::Subject;
use crate::crd::LEARNERS;
use crate::observed::BudgetSeen;

/// What budgets there are over these pods.
pub(super) fn of(subject: &Subject<'_>, pods: &[(u32, Arc<Pod>)]) -> BudgetSeen {
    let (namespace, name) = (&subject.owner.namespace, &subject.owner.name);
    let mut seen = BudgetSeen::default();
    for budget in subject.context.stores.budgets.filter(namespace, |_| true) {
        let ours = subject.owner.owns(&budget.metadata);
        if budget.name_any() == *name {
            seen.is_ours = ours;
            seen.is_foreign = !ours;
            if ours {
                seen.deleting = budget.metadata.deletion_timestamp.is_some();
                seen.min_available = min_available(&budget);
                seen.learners = budget.annotations().get(LEARNERS).cloned();
                continue;
            }
        }
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        if !ours && pods.iter().any(|(_, pod)| selects(selector, pod.labels())) {
            seen.others.push(budget.name_any());
        }
    }
    seen.others.sort_unstable();
    seen
}

fn min_available(budget: &PodDisruptionBudget) -> Option<u32> {
    match budget.spec.as_ref()?.min_available.as_ref()? {
        IntOrString::Int(number) => u32::try_from(*number).ok(),
        IntOrString::String(_) => None,
    }
}

/// In policy/v1 an empty selector takes all pods, and none takes none.
fn selects(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let selector = selector.and_then(|selector| Selector::try_from(selector.clone()).ok());
    selector.is_some_and(|selector| selector.matches(labels))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selector(value: serde_json::Value) -> LabelSelector {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_budget_selects_by_labels_and_expressions_all_or_none() {
        let labels = BTreeMap::from([("app".to_owned(), "a".to_owned())]);
        assert!(selects(Some(&selector(json!({ "matchLabels": { "app": "a" } }))), &labels));
        assert!(!selects(Some(&selector(json!({ "matchLabels": { "app": "b" } }))), &labels));
        let exists = json!({ "matchExpressions": [{ "key": "app", "operator": "Exists" }] });
        assert!(selects(Some(&selector(exists)), &labels));
        assert!(selects(Some(&selector(json!({}))), &labels));
        assert!(!selects(None, &labels));
    }
}
