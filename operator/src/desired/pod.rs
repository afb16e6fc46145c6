//! The pod of a node: Pod Security `restricted`, no shell, no token of Kubernetes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapProjection, Container, ContainerPort, EnvVar, EnvVarSource,
    HTTPGetAction, KeyToPath, LocalObjectReference, ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity,
    PodSecurityContext, PodSpec, Probe, ProjectedVolumeSource, ResourceRequirements, SeccompProfile,
    SecretProjection, SecurityContext, TopologySpreadConstraint, Volume, VolumeMount, VolumeProjection,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::access::TOKEN_KEY;
use super::config_map::{CONFIG_DIR, DATA_DIR, FILE};
use super::names::{CLIENT_PORT, CONTAINER, DATA, HTTP_PORT, Owner, PEER_PORT};
use crate::crd::pod::{Amounts, Resources};
use crate::crd::{RegistryClusterSpec, Strictness};

/// User and group of the process, as in the image: nobody special.
const USER: i64 = 65_532;
/// More than a stop takes (P/N9): 1 s for leadership, 1 s of lingering, 10 s of draining.
const GRACE_SECONDS: i64 = 30;
/// What a node is given that asks for nothing: enough for its heartbeats, and for its memory while it is nearly empty.
const LEAST_CPU: &str = "100m";
const LEAST_MEMORY: &str = "128Mi";

pub(super) fn pod_spec(owner: &Owner, spec: &RegistryClusterSpec, image: &str) -> PodSpec {
    let template = &spec.pod_template;
    let secrets = spec.image_pull_secrets.iter();
    PodSpec {
        service_account_name: Some(owner.name.clone()),
        automount_service_account_token: Some(false),
        // Variables such as REGISTRY_PORT=tcp://… beside a service named registry.
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        image_pull_secrets: present(
            secrets.map(|secret| LocalObjectReference { name: secret.name.clone() }).collect(),
        ),
        node_selector: (!template.node_selector.is_empty()).then(|| template.node_selector.clone()),
        tolerations: present(template.tolerations.clone()),
        priority_class_name: template.priority_class_name.clone(),
        affinity: Some(anti_affinity(owner, spec.anti_affinity)),
        topology_spread_constraints: Some(vec![zone_spread(owner, spec.zone_spread)]),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            // A change of owner file by file would delay the start of a node with a large disk.
            fs_group_change_policy: Some("OnRootMismatch".into()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(spec, image)],
        volumes: Some(vec![configuration(owner)]),
        ..PodSpec::default()
    }
}

fn container(spec: &RegistryClusterSpec, image: &str) -> Container {
    Container {
        name: CONTAINER.into(),
        image: Some(image.into()),
        image_pull_policy: Some(spec.image_pull_policy.as_str().into()),
        command: Some(vec!["/bin/registry".into()]),
        args: Some(vec!["serve".into(), "--config".into(), format!("{CONFIG_DIR}/{FILE}")]),
        env: Some(environment(spec)),
        ports: Some(vec![port("grpc", CLIENT_PORT), port("peer", PEER_PORT), port("http", HTTP_PORT)]),
        resources: Some(resources(&spec.resources)),
        // Ten minutes for reading a large snapshot and log; every second, so that a small one is soon ready.
        startup_probe: Some(probe("/livez", 1, 600)),
        // A minute: a process that is merely slow must not be killed, and a death costs an election.
        liveness_probe: Some(probe("/livez", 10, 6)),
        readiness_probe: Some(probe("/readyz", 2, 3)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), ..Capabilities::default() }),
            ..SecurityContext::default()
        }),
        // The reason of an exit then stands in `kubectl describe pod`.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        volume_mounts: Some(vec![mount("config", CONFIG_DIR, Some(true)), mount(DATA, DATA_DIR, None)]),
        ..Container::default()
    }
}

/// The user's variables and the node's name, which is the pod's.
fn environment(spec: &RegistryClusterSpec) -> Vec<EnvVar> {
    let name = EnvVar {
        name: "REGISTRY_NODE_ID".into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "metadata.name".into(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let given = spec.pod_template.env.iter().map(|variable| EnvVar {
        name: variable.name.clone(),
        value: Some(variable.value.clone()),
        ..EnvVar::default()
    });
    std::iter::once(name).chain(given).collect()
}

/// As the user says. Who says nothing gets a small share for sure: a pod without any request is the last to run on
/// a busy machine, and misses its heartbeats there.
fn resources(wanted: &Resources) -> ResourceRequirements {
    let share = || {
        let of = |name: &str, amount: &str| (name.to_owned(), Quantity(amount.to_owned()));
        BTreeMap::from([of("cpu", LEAST_CPU), of("memory", LEAST_MEMORY)])
    };
    let requests = match (&wanted.requests, &wanted.limits) {
        (None, None) => Some(share()),
        (requests, _) => requests.as_ref().and_then(quantities),
    };
    let limits = wanted.limits.as_ref().and_then(quantities);
    ResourceRequirements { requests, limits, ..ResourceRequirements::default() }
}

fn quantities(amounts: &Amounts) -> Option<BTreeMap<String, Quantity>> {
    let named = [
        ("cpu", &amounts.cpu),
        ("memory", &amounts.memory),
        ("ephemeral-storage", &amounts.ephemeral_storage),
    ];
    let given: BTreeMap<_, _> = named
        .into_iter()
        .filter_map(|(name, amount)| Some((name.to_owned(), Quantity(amount.as_ref()?.text()))))
        .collect();
    (!given.is_empty()).then_some(given)
}

fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.into()),
        container_port: number,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("http".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        // Long for an answer from memory, short enough that probes do not pile up for long.
        timeout_seconds: Some(3),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn mount(name: &str, path: &str, read_only: Option<bool>) -> VolumeMount {
    VolumeMount { name: name.into(), mount_path: path.into(), read_only, ..VolumeMount::default() }
}

/// Configuration and token in one folder, readable by the group of the pod.
fn configuration(owner: &Owner) -> Volume {
    let config = ConfigMapProjection {
        name: owner.config(),
        items: Some(vec![KeyToPath { key: FILE.into(), path: FILE.into(), mode: None }]),
        ..ConfigMapProjection::default()
    };
    let token = SecretProjection {
        name: owner.token(),
        items: Some(vec![KeyToPath { key: TOKEN_KEY.into(), path: "admin/token".into(), mode: None }]),
        ..SecretProjection::default()
    };
    Volume {
        name: "config".into(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(0o440),
            sources: Some(vec![
                VolumeProjection { config_map: Some(config), ..VolumeProjection::default() },
                VolumeProjection { secret: Some(token), ..VolumeProjection::default() },
            ]),
        }),
        ..Volume::default()
    }
}

fn anti_affinity(owner: &Owner, strictness: Strictness) -> Affinity {
    let term = PodAffinityTerm {
        label_selector: Some(owner.selector()),
        topology_key: "kubernetes.io/hostname".into(),
        ..PodAffinityTerm::default()
    };
    let rule = match strictness {
        Strictness::Required => PodAntiAffinity {
            required_during_scheduling_ignored_during_execution: Some(vec![term]),
            ..PodAntiAffinity::default()
        },
        Strictness::Preferred => PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                pod_affinity_term: term,
                weight: 100,
            }]),
            ..PodAntiAffinity::default()
        },
    };
    Affinity { pod_anti_affinity: Some(rule), ..Affinity::default() }
}

fn zone_spread(owner: &Owner, strictness: Strictness) -> TopologySpreadConstraint {
    let otherwise = match strictness {
        Strictness::Required => "DoNotSchedule",
        Strictness::Preferred => "ScheduleAnyway",
    };
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "topology.kubernetes.io/zone".into(),
        when_unsatisfiable: otherwise.into(),
        label_selector: Some(owner.selector()),
        ..TopologySpreadConstraint::default()
    }
}

/// `None` for an empty list, which Kubernetes does not store.
fn present<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
