//! What owners of instances write.

use prost::Message;

use crate::ids::LeaseId;

/// One registration, with the instance id made and the namespace filled in.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Registration {
    /// Namespace, not empty.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Service.
    #[prost(string, tag = "2")]
    pub service_name: String,
    /// Instance, not empty; see [`instance_id_of`].
    #[prost(string, tag = "3")]
    pub instance_id: String,
    /// Where it listens, without port and brackets.
    #[prost(string, tag = "4")]
    pub host: String,
    /// Main port.
    #[prost(uint32, tag = "5")]
    pub port: u32,
    /// The incarnation that the owner held before; 0 = none.
    #[prost(uint64, tag = "6")]
    pub incarnation: u64,
    /// An open lease to join; 0 = its own, else a new one.
    #[prost(fixed64, tag = "7")]
    pub lease_id: LeaseId,
    /// Time to live in milliseconds; 0 = permanent, unset = that of its lease, else the default.
    #[prost(uint64, optional, tag = "8")]
    pub ttl_ms: Option<u64>,
    /// Reported state; `Unspecified` = UP for a new owner, else unchanged.
    #[prost(enumeration = "crate::instance::InstanceState", tag = "9")]
    pub state: i32,
    /// Share of the traffic; unset = 100.
    #[prost(uint32, optional, tag = "10")]
    pub weight: Option<u32>,
    /// Zone; may be empty.
    #[prost(string, tag = "11")]
    pub zone: String,
    /// The owner's data, sorted by key, keys unique.
    #[prost(message, repeated, tag = "12")]
    pub metadata: Vec<Pair>,
    /// Labels, sorted, unique.
    #[prost(string, repeated, tag = "13")]
    pub tags: Vec<String>,
    /// Further ports, sorted by name, names unique.
    #[prost(message, repeated, tag = "14")]
    pub ports: Vec<NamedPort>,
}

/// A metadata pair.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
pub struct Pair {
    /// Key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A further port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
pub struct NamedPort {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Port.
    #[prost(uint32, tag = "2")]
    pub port: u32,
}

/// Registers an instance.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Register {
    /// What to register.
    #[prost(message, optional, tag = "1")]
    pub registration: Option<Registration>,
    /// Random id for the lease, should a new one be needed (P/L5).
    #[prost(fixed64, tag = "2")]
    pub new_lease_id: LeaseId,
}

/// Registers instances at one revision under one lease, all or none.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct BatchRegister {
    /// What to register; their `lease_id` and `ttl_ms` are unset.
    #[prost(message, repeated, tag = "1")]
    pub registrations: Vec<Registration>,
    /// An open lease that all join; 0 = a new one.
    #[prost(fixed64, tag = "2")]
    pub lease_id: LeaseId,
    /// Time to live of the new lease in milliseconds; as in [`Registration`].
    #[prost(uint64, optional, tag = "3")]
    pub ttl_ms: Option<u64>,
    /// Random id for the lease, should a new one be needed.
    #[prost(fixed64, tag = "4")]
    pub new_lease_id: LeaseId,
}

/// Names one instance, or by `lease_id` all instances of a lease; then the other fields are empty.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Target {
    /// Namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Service.
    #[prost(string, tag = "2")]
    pub service_name: String,
    /// Instance.
    #[prost(string, tag = "3")]
    pub instance_id: String,
    /// Only this incarnation; 0 = whichever is there.
    #[prost(uint64, tag = "4")]
    pub incarnation: u64,
    /// The lease.
    #[prost(fixed64, tag = "5")]
    pub lease_id: LeaseId,
}

/// Removes an instance or all of a lease.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Deregister {
    /// What to remove.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
    /// True if an operator removes it.
    #[prost(bool, tag = "2")]
    pub by_operator: bool,
}

/// Sets the state that the owner reports.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SetState {
    /// What to change.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
    /// The state.
    #[prost(enumeration = "crate::instance::InstanceState", tag = "2")]
    pub state: i32,
}

/// Sets DRAINING, as the owner or by an override.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Drain {
    /// What to drain.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
    /// True = by an override. Not with a lease.
    #[prost(bool, tag = "2")]
    pub by_operator: bool,
}

impl Registration {
    /// Brings the lists into the order that [`State::apply`](crate::State::apply) demands. Of pairs or
    /// ports with one name the last one stays, as in a protobuf map.
    pub fn canonicalize(&mut self) {
        self.metadata.sort_by(|a, b| a.key.cmp(&b.key));
        keep_last(&mut self.metadata, |a, b| a.key == b.key);
        self.ports.sort_by(|a, b| a.name.cmp(&b.name));
        keep_last(&mut self.ports, |a, b| a.name == b.name);
        self.tags.sort();
        self.tags.dedup();
    }
}

/// Keeps the last of each run of equal neighbours.
fn keep_last<T>(items: &mut Vec<T>, same: impl Fn(&T, &T) -> bool) {
    items.reverse();
    items.dedup_by(|a, b| same(a, b));
    items.reverse();
}

/// The instance id of a registration that gives none: `HOST:PORT`, or `[HOST]:PORT` for IPv6.
pub fn instance_id_of(host: &str, port: u32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Operation;

    fn pair(key: &str, value: &str) -> Pair {
        Pair { key: key.into(), value: value.into() }
    }

    #[test]
    fn canonical_lists_are_sorted_and_the_last_of_one_name_stays() {
        let mut registration = Registration {
            metadata: vec![pair("b", "1"), pair("a", "2"), pair("b", "3")],
            tags: vec!["y".into(), "x".into(), "y".into()],
            ports: vec![NamedPort { name: "p".into(), port: 1 }, NamedPort { name: "p".into(), port: 2 }],
            ..Registration::default()
        };
        registration.canonicalize();
        assert_eq!(registration.metadata, [pair("a", "2"), pair("b", "3")]);
        assert_eq!(registration.tags, ["x", "y"]);
        assert_eq!(registration.ports, [NamedPort { name: "p".into(), port: 2 }]);
    }

    #[test]
    fn an_id_is_made_of_host_and_port() {
        assert_eq!(instance_id_of("example.org", 80), "example.org:80");
        assert_eq!(instance_id_of("2001:db8::1", 80), "[2001:db8::1]:80");
    }

    #[test]
    fn the_hash_of_a_request_leaves_out_what_the_proposer_adds_and_nothing_else() {
        let hash = |zone: &str, new_lease_id: u64| {
            let registration = Some(Registration { zone: zone.into(), ..Registration::default() });
            Operation::Register(Register { registration, new_lease_id }).request_hash()
        };
        assert_eq!(hash("a", 0), hash("a", 17));
        assert_ne!(hash("a", 0), hash("b", 0));
        let target = Some(Target { lease_id: 7, ..Target::default() });
        let deregister = Operation::Deregister(Deregister { target: target.clone(), by_operator: false });
        let drain = Operation::Drain(Drain { target, by_operator: false });
        assert_ne!(deregister.request_hash(), drain.request_hash(), "the same content of another operation");
    }
}
