//! The rules of the spec once more, in the operator: the API server lets an object stay that breaks a rule
//! which is newer than it.

use super::RegistryClusterSpec;

impl RegistryClusterSpec {
    /// Why nothing may be done for this spec, for people; `None` if it is sound. Only what could cost the
    /// quorum or would keep nodes from starting.
    pub fn violation(&self) -> Option<String> {
        let raft = &self.raft;
        let heartbeat = raft.heartbeat_interval.millis();
        let (min, max) = (raft.election_timeout_min.millis(), raft.election_timeout_max.millis());
        let quotas = &self.registry.quotas;
        if !matches!(self.replicas, 1 | 3 | 5 | 7) {
            Some(format!("spec.replicas is {}: must be 1, 3, 5 or 7", self.replicas))
        } else if min < heartbeat.saturating_mul(2) {
            Some("spec.raft.electionTimeoutMin must be at least twice heartbeatInterval".into())
        } else if max <= min {
            Some("spec.raft.electionTimeoutMax must be more than electionTimeoutMin".into())
        } else if quotas.instances_per_service > quotas.instances {
            Some("spec.registry.quotas.instancesPerService must not be more than instances".into())
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::values::Span;
    use super::*;

    #[test]
    fn what_no_rule_of_the_api_server_caught_is_caught_here() {
        assert_eq!(RegistryClusterSpec::default().violation(), None);
        let breaks: [fn(&mut RegistryClusterSpec); 5] = [
            |spec| spec.replicas = 4,
            |spec| spec.replicas = -1,
            |spec| spec.raft.election_timeout_min = Span::from_millis(99),
            |spec| spec.raft.election_timeout_max = Span::from_millis(150),
            |spec| spec.registry.quotas.instances = 5,
        ];
        for change in breaks {
            let mut spec = RegistryClusterSpec::default();
            change(&mut spec);
            assert!(spec.violation().is_some(), "{spec:?}");
        }
    }
}
