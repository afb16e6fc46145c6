//! The rules for whole operations: every bad field of an operation at once.

use super::fields;
use super::{Violation, Violations};
use crate::command::*;
use crate::instance::InstanceState;
use crate::limits::*;

impl Operation {
    /// Checks the shape of the operation, apart from any state. The server calls it before the log, so
    /// that all bad fields are named at once; `apply` calls it again.
    pub fn check(&self) -> Result<(), Vec<Violation>> {
        let mut found = Violations::new();
        match self {
            Operation::InitCluster(init) => init.check(&mut found),
            Operation::Register(register) => match &register.registration {
                Some(registration) => registration.check(&mut found),
                None => missing(&mut found, "registration"),
            },
            Operation::BatchRegister(batch) => batch.check(&mut found),
            Operation::Deregister(deregister) => {
                check_target(&mut found, deregister.target.as_ref(), true);
            }
            Operation::SetState(set) => {
                check_target(&mut found, set.target.as_ref(), true);
                fields::state(&mut found, "state", set.state);
            }
            Operation::Drain(drain) => check_target(&mut found, drain.target.as_ref(), !drain.by_operator),
            Operation::SetOverride(set) => set.check(&mut found),
            Operation::ClearOverride(clear) => check_override_target(&mut found, clear.target.as_ref()),
            Operation::TickOverrides(tick) => {
                fields::count(&mut found, "overrides", tick.overrides.len(), TICKS_PER_ENTRY_MAX);
            }
            Operation::EndOverrides(end) => {
                fields::count(&mut found, "overrides", end.overrides.len(), TICKS_PER_ENTRY_MAX);
            }
            Operation::Protect(protect) => {
                fields::count(&mut found, "leases", protect.leases.len(), LEASES_PER_ENTRY_MAX);
            }
            Operation::Unprotect(unprotect) => {
                fields::count(&mut found, "leases", unprotect.leases.len(), LEASES_PER_ENTRY_MAX);
            }
            Operation::EndProtection(end) => end.check(&mut found),
            Operation::GuardTick(tick) => {
                fields::count(&mut found, "services", tick.services.len(), TICKS_PER_ENTRY_MAX);
            }
            Operation::Expire(expire) => {
                fields::count(&mut found, "leases", expire.leases.len(), LEASES_PER_ENTRY_MAX);
            }
            Operation::AddMember(add) => match &add.member {
                Some(member) => member.check(&mut found),
                None => missing(&mut found, "member"),
            },
            Operation::RemoveMembers(remove) => {
                fields::count(&mut found, "raft_ids", remove.raft_ids.len(), MEMBERS_MAX);
            }
            Operation::UpdateSettings(update) => match &update.settings {
                Some(settings) => settings.check(&mut found),
                None => missing(&mut found, "settings"),
            },
        }
        found.into_result()
    }
}

impl Registration {
    /// Checks the registration; paths are those of `ServiceRegisterRequest`.
    pub fn check(&self, found: &mut Violations) {
        fields::name(found, "namespace", &self.namespace);
        fields::name(found, "service_name", &self.service_name);
        fields::instance_id(found, "instance_id", &self.instance_id);
        fields::host(found, "host", &self.host);
        fields::port(found, "port", self.port);
        fields::lease_ttl(found, "ttl", self.ttl_ms);
        fields::state_or_unspecified(found, "state", self.state);
        fields::weight(found, "weight", self.weight);
        fields::name_or_empty(found, "zone", &self.zone);
        self.check_metadata(found);
        self.check_tags(found);
        self.check_ports(found);
    }

    fn check_metadata(&self, found: &mut Violations) {
        fields::count(found, "metadata", self.metadata.len(), METADATA_PAIRS_MAX);
        let bytes: usize = self.metadata.iter().map(|pair| pair.key.len() + pair.value.len()).sum();
        found.require(bytes <= METADATA_BYTES_MAX, "metadata", || {
            format!("keys and values have {bytes} bytes, at most {METADATA_BYTES_MAX} are allowed")
        });
        let sorted = self.metadata.is_sorted_by(|a, b| a.key < b.key);
        found.require(sorted, "metadata", || "is not sorted by key".into());
        for pair in &self.metadata {
            // Paths are made only for bad pairs: this runs for every registration.
            let mut bad = Violations::new();
            fields::metadata_key(&mut bad, "", &pair.key);
            fields::text(&mut bad, "", &pair.value, METADATA_BYTES_MAX);
            found.adopt(bad, || format!("metadata[{}]", fields::shown(&pair.key)));
        }
    }

    fn check_tags(&self, found: &mut Violations) {
        fields::count(found, "tags", self.tags.len(), TAGS_MAX);
        found.require(self.tags.is_sorted_by(|a, b| a < b), "tags", || "are not sorted or not unique".into());
        for (index, tag) in self.tags.iter().enumerate() {
            let mut bad = Violations::new();
            bad.require(!tag.is_empty(), "", || "must not be empty".into());
            fields::text(&mut bad, "", tag, TAG_BYTES_MAX);
            found.adopt(bad, || format!("tags[{index}]"));
        }
    }

    fn check_ports(&self, found: &mut Violations) {
        fields::count(found, "ports", self.ports.len(), PORTS_MAX);
        found.require(self.ports.is_sorted_by(|a, b| a.name < b.name), "ports", || {
            "are not sorted by name".into()
        });
        for named in &self.ports {
            let mut bad = Violations::new();
            fields::name(&mut bad, "", &named.name);
            fields::port(&mut bad, ".port", named.port);
            found.adopt(bad, || format!("ports[{}]", fields::shown(&named.name)));
        }
    }
}

impl BatchRegister {
    fn check(&self, found: &mut Violations) {
        let count = self.registrations.len();
        found.require((1..=BATCH_MAX).contains(&count), "registrations", || {
            format!("has {count} elements, 1 to {BATCH_MAX} are allowed")
        });
        fields::lease_ttl(found, "ttl", self.ttl_ms);
        for (index, registration) in self.registrations.iter().take(BATCH_MAX).enumerate() {
            let mut bad = Violations::new();
            registration.check(&mut bad);
            bad.require(registration.lease_id == 0, "lease_id", || {
                "the batch gives it; leave it unset".into()
            });
            bad.require(registration.ttl_ms.is_none(), "ttl", || "the batch gives it; leave it unset".into());
            found.adopt(bad, || format!("registrations[{index}]."));
        }
        self.check_distinct(found);
    }

    /// Each instance at most once (API/B3).
    fn check_distinct(&self, found: &mut Violations) {
        let mut named: Vec<_> = self
            .registrations
            .iter()
            .take(BATCH_MAX)
            .enumerate()
            .map(|(index, r)| (&r.namespace, &r.service_name, &r.instance_id, index))
            .collect();
        named.sort_unstable();
        for pair in named.windows(2) {
            if let [(namespace, service, id, first), (namespace_2, service_2, id_2, second)] = pair {
                let distinct = (namespace, service, id) != (namespace_2, service_2, id_2);
                let field =
                    if distinct { String::new() } else { format!("registrations[{second}].instance_id") };
                found.require(distinct, &field, || format!("is the same instance as registrations[{first}]"));
            }
        }
    }
}

impl SetOverride {
    fn check(&self, found: &mut Violations) {
        check_override_target(found, self.target.as_ref());
        let state = fields::state_or_unspecified(found, "operator_override.state", self.state);
        fields::weight(found, "operator_override.weight", self.weight);
        let says_something = state != InstanceState::Unspecified || self.weight.is_some() || self.state != 0;
        found.require(says_something, "operator_override", || "must have a state or a weight".into());
        fields::text(found, "operator_override.comment", &self.comment, COMMENT_BYTES_MAX);
        fields::text(found, "operator_override.actor", &self.actor, ACTOR_BYTES_MAX);
        fields::override_ttl(found, "ttl", self.ttl_ms);
    }
}

impl EndProtection {
    fn check(&self, found: &mut Violations) {
        if self.all_namespaces {
            let alone = "must be empty with all_namespaces";
            found.require(self.namespace.is_empty(), "namespace", || alone.into());
            found.require(self.service_name.is_empty(), "service_name", || alone.into());
        } else {
            fields::name(found, "namespace", &self.namespace);
            fields::name_or_empty(found, "service_name", &self.service_name);
        }
    }
}

impl InitCluster {
    fn check(&self, found: &mut Violations) {
        let is_uuid = self.cluster_id.len() == CLUSTER_ID_BYTES
            && self.cluster_id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        found.require(is_uuid, "cluster_id", || "must be a UUID".into());
        found.require(self.epoch != 0, "epoch", || "must not be 0".into());
        if let Some(settings) = &self.settings {
            settings.check(found);
        }
        fields::count(found, "members", self.members.len(), MEMBERS_MAX);
        for (index, member) in self.members.iter().take(MEMBERS_MAX).enumerate() {
            let mut bad = Violations::new();
            member.check(&mut bad);
            let free = (1..self.next_raft_id).contains(&member.raft_id);
            bad.require(free, "raft_id", || format!("must be in 1..{} (next_raft_id)", self.next_raft_id));
            let earlier = self.members.iter().take(index);
            let distinct = earlier.clone().all(|other| other.raft_id != member.raft_id);
            bad.require(distinct, "raft_id", || "is given twice".into());
            let distinct = earlier.clone().all(|other| other.disk_id != member.disk_id);
            bad.require(distinct, "disk_id", || "is given twice".into());
            found.adopt(bad, || format!("members[{index}]."));
        }
        found.require((1..=FIRST_RAFT_ID_MAX).contains(&self.next_raft_id), "next_raft_id", || {
            format!("{} is not in 1..={FIRST_RAFT_ID_MAX}", self.next_raft_id)
        });
    }
}

impl MemberSpec {
    fn check(&self, found: &mut Violations) {
        let mut bounded = |field: &str, value: &str, max: usize| {
            found.require(!value.is_empty(), field, || "must be given".into());
            fields::text(found, field, value, max);
        };
        bounded("node_id", &self.node_id, MEMBER_NAME_BYTES_MAX);
        bounded("disk_id", &self.disk_id, MEMBER_NAME_BYTES_MAX);
        bounded("peer_endpoint", &self.peer_endpoint, ENDPOINT_BYTES_MAX);
        bounded("client_endpoint", &self.client_endpoint, ENDPOINT_BYTES_MAX);
    }
}

fn missing(found: &mut Violations, field: &str) {
    found.require(false, field, || "must be given".into());
}

/// A target: either an instance or, where that is allowed, a lease and nothing else.
fn check_target(found: &mut Violations, target: Option<&Target>, lease_allowed: bool) {
    let Some(target) = target else { return missing(found, "service_name") };
    if target.lease_id == 0 {
        fields::name(found, "namespace", &target.namespace);
        fields::name(found, "service_name", &target.service_name);
        fields::instance_id(found, "instance_id", &target.instance_id);
        return;
    }
    found.require(lease_allowed, "lease_id", || "must be unset here: name an instance".into());
    let alone = || "must be empty with lease_id".to_string();
    found.require(target.namespace.is_empty(), "namespace", alone);
    found.require(target.service_name.is_empty(), "service_name", alone);
    found.require(target.instance_id.is_empty(), "instance_id", alone);
    found.require(target.incarnation == 0, "incarnation", alone);
}

fn check_override_target(found: &mut Violations, target: Option<&Target>) {
    check_target(found, target, false);
    let incarnation = target.map_or(0, |target| target.incarnation);
    found.require(incarnation == 0, "incarnation", || "an override is for the id, whoever owns it".into());
}
