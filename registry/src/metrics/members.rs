//! How the leader finds the other members. Empty at all other nodes.

use std::collections::BTreeMap;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::MemberLabel;
use crate::member_health::MemberReport;

/// Gauges and counters by Raft id: few, because the members of a cluster are.
#[derive(Debug, Default)]
pub struct MemberMetrics {
    up: Family<MemberLabel, Gauge>,
    dead: Family<MemberLabel, Gauge>,
    quarantined: Family<MemberLabel, Gauge>,
    probe_failures: Family<MemberLabel, Counter>,
}

impl MemberMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "At the leader: 1 if the member answered the last probe, by Raft id";
        registry.register("member_up", help, self.up.clone());
        let help = "At the leader: 1 if the member is DEAD: silent for dead_member_after, by Raft id";
        registry.register("member_dead", help, self.dead.clone());
        let help = "At the leader: 1 if the member is alive but out of Raft until someone acts, by Raft id";
        registry.register("member_quarantined", help, self.quarantined.clone());
        let help = "At the leader, in its present reign: probes that the member did not answer, by Raft id";
        registry.register("member_probe_failures", help, self.probe_failures.clone());
    }

    /// A probe was not answered by the member that it was for.
    pub fn probe_failed(&self, raft_id: u64) {
        self.probe_failures.get_or_create(&MemberLabel { raft_id }).inc();
    }

    /// Shows what the last round found. Members that are gone leave the page.
    pub fn show(&self, reports: &BTreeMap<u64, MemberReport>) {
        for family in [&self.up, &self.dead, &self.quarantined] {
            family.clear();
        }
        for (raft_id, report) in reports {
            let set = |family: &Family<MemberLabel, Gauge>, value: bool| {
                family.get_or_create(&MemberLabel { raft_id: *raft_id }).set(value.into());
            };
            set(&self.up, report.failures_in_row == 0);
            set(&self.dead, report.is_dead);
            set(&self.quarantined, report.quarantine().is_some());
        }
    }

    /// Shows nothing: this node does not lead.
    pub fn clear(&self) {
        for family in [&self.up, &self.dead, &self.quarantined] {
            family.clear();
        }
        self.probe_failures.clear();
    }
}
