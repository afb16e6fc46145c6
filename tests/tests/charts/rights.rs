//! What the operator may do.

use std::collections::BTreeSet;

use registry_tests::charts::helm;
use serde_json::Value;

use super::{OPERATOR, of_kind, only};

fn words(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|word| word.as_str().expect("a word")).collect()
}

/// `resource verb` for each right of a role, without those limited to names.
fn rights(role: &Value) -> BTreeSet<String> {
    let rules =
        role["rules"].as_array().expect("rules").iter().filter(|rule| rule["resourceNames"].is_null());
    rules
        .flat_map(|rule| {
            let verbs = words(&rule["verbs"]);
            words(&rule["resources"]).into_iter().flat_map(move |resource| {
                verbs.clone().into_iter().map(move |verb| format!("{resource} {verb}")).collect::<Vec<_>>()
            })
        })
        .collect()
}

fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    of_kind(objects, kind)
        .into_iter()
        .find(|object| object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn no_right_is_wider_than_it_says() {
    let Some(helm) = helm() else { return };
    let objects = helm.objects(OPERATOR, "");
    let roles = [of_kind(&objects, "ClusterRole"), of_kind(&objects, "Role")].concat();
    assert_eq!(roles.len(), 5);
    for role in roles {
        for rule in role["rules"].as_array().expect("rules") {
            for list in ["apiGroups", "resources", "verbs"] {
                assert!(!words(&rule[list]).contains(&"*"), "{rule}");
            }
            for verb in ["escalate", "bind", "impersonate"] {
                assert!(!words(&rule["verbs"]).contains(&verb), "{rule}");
            }
            for resource in ["pods/exec", "serviceaccounts/token", "roles", "rolebindings"] {
                assert!(!words(&rule["resources"]).contains(&resource), "{rule}");
            }
        }
    }
}

#[test]
fn tokens_are_never_listed_and_never_changed() {
    let Some(helm) = helm() else { return };
    let objects = helm.objects(OPERATOR, "");
    let rights = rights(named(&objects, "ClusterRole", OPERATOR));
    let secrets: Vec<&String> = rights.iter().filter(|right| right.starts_with("secrets ")).collect();
    assert_eq!(secrets, ["secrets create", "secrets get"]);
}

#[test]
fn what_is_created_by_server_side_apply_may_be_created_and_patched() {
    let Some(helm) = helm() else { return };
    let objects = helm.objects(OPERATOR, "");
    let rights = rights(named(&objects, "ClusterRole", OPERATOR));
    let applied = [
        "statefulsets",
        "services",
        "configmaps",
        "serviceaccounts",
        "poddisruptionbudgets",
        "networkpolicies",
    ];
    for resource in applied {
        for verb in ["get", "list", "watch", "create", "patch"] {
            assert!(rights.contains(&format!("{resource} {verb}")), "{resource} {verb}");
        }
    }
    assert!(rights.contains("registryclusters/status patch"));
    assert!(!rights.iter().any(|right| right.starts_with("registryclusters ") && right.ends_with("patch")));
}

#[test]
fn with_watched_namespaces_nothing_of_other_namespaces_is_seen() {
    let Some(helm) = helm() else { return };
    let everywhere = helm.objects(OPERATOR, "");
    let limited = helm.objects(OPERATOR, "watchNamespaces: [a, b]");
    let all = rights(named(&everywhere, "ClusterRole", OPERATOR));
    for namespace in ["a", "b"] {
        let within = |kind| -> Vec<&Value> {
            of_kind(&limited, kind).into_iter().filter(|o| o["metadata"]["namespace"] == namespace).collect()
        };
        assert_eq!(within("Role").len(), 1);
        assert_eq!(rights(within("Role")[0]), all);
        assert_eq!(within("RoleBinding")[0]["subjects"][0]["namespace"], "here");
    }
    let bound = only(&limited, "ClusterRoleBinding");
    let global = named(&limited, "ClusterRole", bound["roleRef"]["name"].as_str().expect("a name"));
    let resources: BTreeSet<&str> = global["rules"]
        .as_array()
        .expect("rules")
        .iter()
        .flat_map(|rule| words(&rule["resources"]))
        .collect();
    let without_namespace = ["nodes", "persistentvolumes", "storageclasses"];
    assert!(resources.iter().all(|resource| without_namespace.contains(resource)), "{resources:?}");
    let changes = ["create", "update", "patch", "delete"];
    assert!(!rights(global).iter().any(|right| changes.iter().any(|verb| right.ends_with(verb))));
}

#[test]
fn the_lease_is_changed_by_name_only() {
    let Some(helm) = helm() else { return };
    let objects = helm.objects(OPERATOR, "");
    let role = only(&objects, "Role");
    assert_eq!(role["metadata"]["namespace"], "here");
    assert_eq!(rights(role), BTreeSet::from(["leases create".to_owned()]));
    assert_eq!(words(&role["rules"][1]["resourceNames"]), ["registry-operator"]);
    assert_eq!(words(&role["rules"][1]["verbs"]), ["get", "update"]);
}

#[test]
fn users_get_their_rights_by_the_roles_of_kubernetes() {
    let Some(helm) = helm() else { return };
    let objects = helm.objects(OPERATOR, "");
    let label = |role: &str, to: &str| {
        let name = format!("{OPERATOR}-{role}");
        let labels = &named(&objects, "ClusterRole", &name)["metadata"]["labels"];
        labels[format!("rbac.authorization.k8s.io/aggregate-to-{to}")] == "true"
    };
    assert!(label("view", "view") && label("edit", "edit") && label("edit", "admin"));
    assert!(!label("edit", "view"));
    let edit = rights(named(&objects, "ClusterRole", &format!("{OPERATOR}-edit")));
    assert!(
        edit.contains("registryclusters/scale update") && !edit.iter().any(|right| right.contains("status"))
    );
    assert_eq!(of_kind(&helm.objects(OPERATOR, "rbac: {aggregate: false}"), "ClusterRole").len(), 2);
    let none = helm.objects(OPERATOR, "rbac: {create: false}");
    assert!(of_kind(&none, "ClusterRole").is_empty() && of_kind(&none, "Role").is_empty());
}
