//! What the leader makes of the membership. Counts stay with the node; gauges are empty elsewhere.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::signed;
use crate::membership::View;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    step: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaceLabel {
    place: &'static str,
}

/// Gauges and counters of the membership.
#[derive(Debug, Default)]
pub struct MembershipMetrics {
    steps: Family<StepLabels, Counter>,
    members: Family<PlaceLabel, Gauge>,
    joint: Gauge,
    voters_target: Gauge,
}

impl MembershipMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Steps that this leader took about members, by kind and outcome";
        registry.register("membership_steps", help, self.steps.clone());
        let help = "At the leader: members by place (voter, learner, admitted)";
        registry.register("members", help, self.members.clone());
        let help = "At the leader: 1 while the membership is a joint configuration";
        registry.register("membership_joint", help, self.joint.clone());
        let help = "At the leader: voters that the cluster works towards";
        registry.register("membership_voters_target", help, self.voters_target.clone());
    }

    /// A step was taken; `outcome` is `done` or `failed`.
    pub fn step(&self, step: &'static str, outcome: &'static str) {
        self.steps.get_or_create(&StepLabels { step, outcome }).inc();
    }

    /// Shows what this leader sees; nothing at other nodes.
    pub fn show(&self, view: Option<&View>) {
        let Some(view) = view else {
            self.members.clear();
            self.joint.set(0);
            self.voters_target.set(0);
            return;
        };
        let voters: std::collections::BTreeSet<u64> = view.configs.iter().flatten().copied().collect();
        let in_raft = view.members.values().filter(|member| member.is_in_raft).count();
        let place = |place, count: usize| {
            self.members.get_or_create(&PlaceLabel { place }).set(signed(count as u64));
        };
        place("voter", voters.len());
        place("learner", in_raft.saturating_sub(voters.len()));
        place("admitted", view.members.len() - in_raft);
        self.joint.set(i64::from(view.configs.len() > 1));
        self.voters_target.set(signed(view.voters_target as u64));
    }
}
