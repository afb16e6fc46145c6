//! Founding: once, with the full set of voters, and never while any disk has been a member's.

use crate::crd::status::Progressing;
use crate::observed::{NodeState, PodSeen};

use super::Step;
use super::flow::{Doing, Flow};
use super::objects::scale;
use super::view::{Identity, View, told};

/// Founds the cluster if it is not; then nothing else is to be done.
pub(super) fn found(view: &View<'_>) -> Flow {
    let seen = view.seen;
    let offered = match &view.identity {
        Identity::Founded(_) => return Flow::Nothing,
        Identity::Unclear(ids) => {
            let message = format!(
                "the disks belong to several registry clusters ({}), and none of them runs: delete the claims \
                 of those that are not meant",
                ids.join(", ")
            );
            return Flow::Hold(Doing::new(Progressing::Blocked, message));
        }
        Identity::Unfounded(offered) => offered,
    };
    let Some(set) = seen.own_set() else { return Flow::Nothing };
    let wait = |pod: &str, message: String| Flow::Hold(Doing::on(Progressing::Bootstrapping, pod, message));
    if set.replicas < seen.spec.replicas {
        return scale(view, seen.spec.replicas, Progressing::Bootstrapping);
    }
    let surplus = || seen.pods.iter().filter(|pod| pod.ordinal >= seen.spec.replicas);
    if let Some(pod) = surplus().find(|pod| !is_empty_disk(pod) && !pod.deleting) {
        return wait(&pod.name, format!("pod {} is not expected; its disk has to be looked at", pod.name));
    }
    if set.replicas > seen.spec.replicas {
        return scale(view, seen.spec.replicas, Progressing::Bootstrapping);
    }
    if let Some(pod) = surplus().next() {
        return wait(&pod.name, format!("pod {} is not expected, and on its way out", pod.name));
    }
    for ordinal in 0..seen.spec.replicas {
        let name = seen.pod_name(ordinal);
        match seen.pod(ordinal).filter(|pod| !pod.deleting) {
            None => return wait(&name, format!("waiting for pod {name}")),
            Some(pod) if view.is_foreign(pod) => {
                let message = format!("the disk of {name} belongs to another registry cluster");
                return Flow::Hold(Doing::on(Progressing::Blocked, &name, message));
            }
            Some(pod) => match told(pod).map(|node| node.state) {
                Some(NodeState::Pristine | NodeState::Prepared | NodeState::Adopted) => {}
                _ => return wait(&name, format!("waiting for the node in pod {name} to answer")),
            },
        }
    }
    let pods = (0..seen.spec.replicas).map(|ordinal| seen.pod_name(ordinal)).collect();
    let step = match &seen.before.cluster_id {
        None => {
            let cluster_id = offered.clone().unwrap_or_else(|| seen.new_cluster_id.clone());
            Step::RecordBootstrap { cluster_id, pods }
        }
        Some(cluster_id) => Step::Initialize { cluster_id: cluster_id.clone(), pods },
    };
    Flow::step(step, Progressing::Bootstrapping, None)
}

fn is_empty_disk(pod: &PodSeen) -> bool {
    told(pod).is_some_and(|node| node.state == NodeState::Pristine)
}
