//! Whole reconciles against an API server and nodes in memory.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Resource, ResourceExt as _};
use serde_json::{Value, json};

use super::*;
use crate::context::Memory;
use crate::crash_point::CrashPoint;
use crate::desired::Defaults;
use crate::error::Weight;
use crate::health::Health;
use crate::members::Members;
use crate::metrics::Metrics;
use crate::stores::{Reporting, Scope, Seen, Stores};
use crate::testing::fake_api::FakeApi;
use crate::testing::fake_nodes::FakeNodes;
use crate::testing::fake_sets;

/// Reconciles that a flow may take: many times what any does.
const TURNS_MAX: usize = 200;

pub(super) struct World {
    pub(super) api: FakeApi,
    pub(super) nodes: FakeNodes,
    pub(super) context: Context,
}

impl World {
    /// A namespace with one cluster that wants this, and an operator.
    pub(super) async fn new(spec: Value) -> Self {
        let api = FakeApi::new();
        api.put(
            "registryclusters",
            json!({
                "apiVersion": "registry.dev/v1alpha1",
                "kind": "RegistryCluster",
                "metadata": { "name": "demo", "namespace": "default" },
                "spec": spec,
            }),
        );
        let nodes = FakeNodes::new(api.clone());
        let context = operator(&api, &nodes).await;
        Self { api, nodes, context }
    }

    pub(super) fn cluster(&self) -> Value {
        self.api.get("registryclusters", "demo").unwrap()
    }

    fn reason(&self, condition: &str) -> String {
        let cluster = self.cluster();
        let conditions = cluster["status"]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|it| it["type"] == condition).unwrap();
        found["reason"].as_str().unwrap().to_owned()
    }

    /// One reconcile, after Kubernetes has done its part and the watches have told of it.
    async fn turn(&self) -> Result<Action, Error> {
        fake_sets::settle(&self.api);
        self.watches_told().await;
        let cluster: Guarded = serde_json::from_value(self.cluster()).unwrap();
        reconcile(&cluster, &self.context).await
    }

    /// Reconciles until one changes nothing.
    pub(super) async fn settle(&self) {
        for _ in 0..TURNS_MAX {
            self.api.take_requests();
            self.turn().await.unwrap();
            if self.api.take_requests().iter().all(|request| request.starts_with("GET ")) {
                return;
            }
        }
        panic!("it never comes to rest: {:?}", self.cluster()["status"]);
    }

    /// Waits until the watches show all that carries our label as it is.
    async fn watches_told(&self) {
        let stores = &self.context.stores;
        self.told("pods", &stores.pods).await;
        self.told("persistentvolumeclaims", &stores.claims).await;
        self.told("statefulsets", &stores.sets).await;
        self.told("configmaps", &stores.config_maps).await;
    }

    async fn told<K: Resource<DynamicType = ()> + Clone>(&self, resource: &str, seen: &Seen<K>) {
        let objects = self.api.all(resource);
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
        let removed = seen.filter("default", |seen| objects.iter().all(|it| name(it) != seen.name_any()));
        let ours =
            objects.iter().filter(|it| it["metadata"]["labels"].get(crate::crd::CLUSTER_LABEL).is_some());
        let shown = ours.map(|it| (name(it), it["metadata"]["resourceVersion"].as_str()));
        for (name, version) in shown.chain(removed.iter().map(|it| (it.name_any(), None))) {
            let told =
                |object: Option<&K>| object.and_then(|it| it.meta().resource_version.as_deref()) == version;
            assert!(
                seen.wait_for("default", &name, Duration::from_secs(10), told).await,
                "{resource} {name}"
            );
        }
    }
}

/// An operator with empty hands. Its watches run until the test ends.
async fn operator(api: &FakeApi, nodes: &FakeNodes) -> Context {
    let client = api.client();
    let reporting = Reporting { health: Health::default(), metrics: Metrics::default() };
    let (stores, watches) = Stores::open(&client, &Scope::All, false, &reporting);
    let (_, clusters) = watches.clusters;
    let all = futures::stream::select(clusters.map(|_| ()), watches.touched.map(|_| ()));
    tokio::spawn(all.for_each(|()| async {}));
    assert!(stores.synced(Duration::from_secs(10)).await);
    let reporter = Reporter { controller: "registry-operator".into(), instance: None };
    Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        stores,
        members: Members::new(Arc::new(nodes.clone())),
        metrics: reporting.metrics,
        crash: CrashPoint::default(),
        memory: Memory::default(),
        defaults: Defaults {
            cluster_domain: "cluster.local".into(),
            node_image: "registry:1".into(),
            operator_namespace: "operators".into(),
        },
    }
}

#[tokio::test]
async fn one_object_becomes_a_cluster_of_three_voters_that_is_available() {
    let world = World::new(json!({})).await;
    world.settle().await;
    assert_eq!(world.nodes.voters(), ["demo-0", "demo-1", "demo-2"]);
    assert_eq!(world.reason("Available"), "QuorumHealthy");
    assert_eq!(world.reason("Progressing"), "Idle");
    let status = &world.cluster()["status"];
    assert_eq!((&status["bootstrapped"], &status["readyReplicas"]), (&json!(true), &json!(3)));
    assert_eq!(status["leader"], "demo-0");
    let founded: Vec<_> = world.nodes.take_calls();
    let id = status["clusterID"].as_str().unwrap();
    assert_eq!(founded.iter().filter(|call| call.contains("initialize")).count(), 1, "{founded:?}");
    assert_eq!(founded[0], format!("demo-0: initialize {id}"));
    assert_eq!(world.api.get("poddisruptionbudgets", "demo").unwrap()["spec"]["minAvailable"], 2);
    let events: Vec<_> = world.api.all("events").iter().map(|event| event["reason"].clone()).collect();
    assert!(!events.is_empty());
}

#[tokio::test]
async fn at_rest_a_look_asks_the_api_server_for_nothing() {
    let world = World::new(json!({})).await;
    world.settle().await;
    for _ in 0..3 {
        world.turn().await.unwrap();
    }
    assert_eq!(world.api.take_requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_second_operator_changes_nothing() {
    let mut world = World::new(json!({})).await;
    world.settle().await;
    let kinds = ["statefulsets", "pods", "configmaps", "services", "registryclusters", "events"];
    let shown = |world: &World| kinds.map(|kind| world.api.all(kind));
    let before = shown(&world);
    world.nodes.take_calls();
    world.context = operator(&world.api, &world.nodes).await;
    world.api.take_requests();
    for _ in 0..3 {
        world.turn().await.unwrap();
    }
    // It reads, and asks once what applying would change.
    let requests = world.api.take_requests();
    let writes =
        requests.iter().filter(|request| !request.starts_with("GET ") && !request.starts_with("TRY "));
    assert_eq!(writes.collect::<Vec<_>>(), Vec::<&String>::new());
    let asked = requests.iter().filter(|request| request.starts_with("TRY statefulsets")).count();
    assert_eq!(asked, 1, "{requests:?}");
    assert_eq!(before, shown(&world), "not even a version has moved");
    assert_eq!(world.nodes.take_calls(), Vec::<String>::new());
}

#[tokio::test]
async fn an_api_server_that_does_not_say_what_applying_would_do_is_applied_to_once() {
    let mut world = World::new(json!({})).await;
    world.settle().await;
    world.context = operator(&world.api, &world.nodes).await;
    world.api.refuse_next("TRY configmaps", 400);
    world.api.refuse_next("TRY configmaps", 400);
    world.settle().await;
    assert_eq!(world.reason("Progressing"), "Idle");
    world.turn().await.unwrap();
    assert_eq!(world.api.take_requests(), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_is_made_anew_for_a_cluster_that_is_being_deleted() {
    let world = World::new(json!({})).await;
    world.settle().await;
    world.nodes.take_calls();
    world.api.modify("registryclusters", "demo", |cluster| {
        cluster["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        cluster["spec"]["replicas"] = json!(5);
    });
    // What garbage collection takes in the foreground, one after the other.
    for (kind, name) in [("configmaps", "demo-config"), ("services", "demo-peers"), ("statefulsets", "demo")]
    {
        world.api.remove(kind, name);
        world.settle().await;
        assert!(world.api.get(kind, name).is_none(), "{name}");
    }
    assert_eq!(world.reason("Progressing"), "Deleting");
    assert_eq!(world.nodes.take_calls(), Vec::<String>::new());
}

#[tokio::test]
async fn an_object_of_a_needed_name_that_is_not_ours_is_never_touched() {
    let world = World::new(json!({})).await;
    let foreign = json!({
        "metadata": { "name": "demo-config", "namespace": "default" },
        "data": { "theirs": "yes" },
    });
    let foreign = world.api.put("configmaps", foreign);
    world.settle().await;
    assert_eq!(world.reason("Progressing"), "NameConflict");
    assert_eq!(world.api.get("configmaps", "demo-config").unwrap(), foreign);
    assert!(world.api.all("statefulsets").is_empty());
    world.api.remove("configmaps", "demo-config");
    world.settle().await;
    assert_eq!(world.reason("Available"), "QuorumHealthy");
}

#[tokio::test]
async fn a_wiped_status_is_written_anew_from_what_the_members_say() {
    let world = World::new(json!({})).await;
    world.settle().await;
    let before = world.cluster()["status"].clone();
    world.nodes.take_calls();
    world.api.modify("registryclusters", "demo", |cluster| {
        cluster.as_object_mut().unwrap().remove("status");
    });
    world.settle().await;
    let after = world.cluster()["status"].clone();
    for field in ["clusterID", "bootstrapped", "leader", "members", "quorum", "replicas", "readyReplicas"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    assert_eq!(world.nodes.take_calls(), Vec::<String>::new());
}

#[tokio::test]
async fn a_paused_cluster_is_reported_and_not_touched() {
    let world = World::new(json!({})).await;
    world.settle().await;
    world.nodes.take_calls();
    world.api.modify("registryclusters", "demo", |cluster| {
        cluster["spec"] = json!({ "paused": true, "replicas": 5, "image": "registry:2" });
    });
    world.api.modify("configmaps", "demo-config", |map| map["data"] = json!({}));
    world.api.take_requests();
    for _ in 0..5 {
        world.turn().await.unwrap();
    }
    let writes: Vec<_> = world.api.take_requests();
    let others: Vec<_> =
        writes.iter().filter(|it| !it.contains("events") && !it.contains("/status")).collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(world.reason("Paused"), "PausedBySpec");
    assert_eq!(world.nodes.take_calls(), Vec::<String>::new());
}

#[tokio::test]
async fn what_somebody_changes_is_put_right() {
    let world = World::new(json!({})).await;
    world.settle().await;
    world.api.modify("configmaps", "demo-config", |map| map["data"]["registry.yaml"] = json!("broken"));
    world.settle().await;
    let text = world.api.get("configmaps", "demo-config").unwrap()["data"]["registry.yaml"].clone();
    assert!(text.as_str().unwrap().contains("demo-2.demo-peers.default.svc.cluster.local"), "{text}");
}

#[tokio::test]
async fn a_conflict_is_looked_at_again_and_is_no_error_line() {
    let world = World::new(json!({})).await;
    world.api.refuse_next("PATCH configmaps", 409);
    let mut weights = Vec::new();
    for _ in 0..10 {
        if let Err(error) = world.turn().await {
            weights.push(error.weight());
        }
    }
    assert_eq!(weights, [Weight::Passing]);
    world.settle().await;
    assert_eq!(world.reason("Available"), "QuorumHealthy");
}

#[tokio::test]
async fn a_cluster_grows_and_shrinks_through_learners() {
    let world = World::new(json!({})).await;
    world.settle().await;
    world.nodes.take_calls();
    world.api.modify("registryclusters", "demo", |cluster| cluster["spec"]["replicas"] = json!(5));
    world.settle().await;
    assert_eq!(world.nodes.voters().len(), 5);
    let calls = world.nodes.take_calls().join("\n");
    let endpoint = "admit demo-4 at demo-4.demo-peers.default.svc.cluster.local:9080";
    assert!(calls.contains(endpoint), "{calls}");
    assert_eq!(world.api.get("poddisruptionbudgets", "demo").unwrap()["spec"]["minAvailable"], 4);
    // The leader is among those that go.
    world.nodes.elect("demo-4");
    world.api.modify("registryclusters", "demo", |cluster| cluster["spec"]["replicas"] = json!(3));
    world.settle().await;
    assert_eq!(world.nodes.voters(), ["demo-0", "demo-1", "demo-2"]);
    assert_eq!(world.api.all("pods").len(), 3);
    assert_eq!(world.api.get("poddisruptionbudgets", "demo").unwrap()["spec"]["minAvailable"], 2);
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_told_about_and_left_alone() {
    let world = World::new(json!({ "replicas": "many" })).await;
    let error = world.turn().await.unwrap_err();
    assert_eq!(error.reason(), "invalid_object");
    let event = &world.api.all("events")[0];
    assert_eq!((&event["reason"], &event["type"]), (&json!("InvalidObject"), &json!("Warning")));
    assert!(world.api.all("statefulsets").is_empty());
}
