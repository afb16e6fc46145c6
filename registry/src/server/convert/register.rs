//! Registrations.

use std::collections::BTreeSet;

use registry_proto::v1;
use registry_state::command::{
    BatchRegister, NamedPort, Operation, Pair, Register, Registration, instance_id_of,
};
use registry_state::limits as bounds;

use super::check::{Checker, shown};
use super::target::{Checked, instance_state, request_id};
use crate::error::Error;

/// Checks Register.
///
/// # Errors
/// INVALID_FIELD with every bad field.
pub fn register(request: v1::ServiceRegisterRequest) -> Result<Checked, Error> {
    let mut check = Checker::default();
    let id = request.request_id.clone();
    request_id(&mut check, id.as_ref());
    let registration = registration(&mut check, request);
    check.finish(())?;
    let operation = Operation::Register(Register { registration: Some(registration), new_lease_id: 0 });
    Ok(Checked::new(id.as_ref(), operation))
}

/// Checks BatchRegister.
///
/// # Errors
/// INVALID_FIELD with every bad field of every entry.
pub fn batch_register(request: v1::BatchRegisterRequest) -> Result<Checked, Error> {
    let mut check = Checker::default();
    request_id(&mut check, request.request_id.as_ref());
    let ttl_ms = ttl(&mut check, request.ttl);
    let count = request.registrations.len();
    check.require(
        (1..=bounds::BATCH_MAX).contains(&count),
        "registrations",
        format!("must be 1 to {}, not {count}", bounds::BATCH_MAX),
    );
    let mut seen = BTreeSet::new();
    let mut registrations = Vec::with_capacity(count.min(bounds::BATCH_MAX));
    for (index, entry) in request.registrations.into_iter().take(bounds::BATCH_MAX).enumerate() {
        let registration = check.within(format!("registrations[{index}]."), |check| {
            const RULE: &str = "must be unset: the batch gives it";
            check.require(entry.lease_id == 0, "lease_id", RULE);
            check.require(entry.request_id.is_none(), "request_id", RULE);
            check.require(entry.ttl.is_none(), "ttl", RULE);
            let registration = registration(check, entry);
            let name = (
                registration.namespace.clone(),
                registration.service_name.clone(),
                registration.instance_id.clone(),
            );
            check.require(seen.insert(name), "instance_id", "is the same instance as an entry before it");
            registration
        });
        registrations.push(registration);
    }
    check.finish(())?;
    let operation = Operation::BatchRegister(BatchRegister {
        registrations,
        lease_id: request.lease_id,
        ttl_ms,
        new_lease_id: 0,
    });
    Ok(Checked::new(request.request_id.as_ref(), operation))
}

fn registration(check: &mut Checker, request: v1::ServiceRegisterRequest) -> Registration {
    check.name("service_name", &request.service_name);
    check.host(&request.host);
    check.port("port", request.port);
    let namespace = check.namespace(&request.namespace);
    check.instance_id("instance_id", &request.instance_id);
    instance_state(check, "state", request.state);
    if let Some(weight) = request.weight {
        let most = bounds::WEIGHT_MAX;
        check.require(weight <= most, "weight", format!("must be 0 to {most}, not {weight}"));
    }
    check.optional_name("zone", &request.zone);
    metadata(check, &request.metadata);
    tags(check, &request.tags);
    ports(check, &request.ports);
    let instance_id = if request.instance_id.is_empty() {
        instance_id_of(&request.host, request.port)
    } else {
        request.instance_id
    };
    let mut registration = Registration {
        namespace,
        service_name: request.service_name,
        instance_id,
        host: request.host,
        port: request.port,
        incarnation: request.incarnation,
        lease_id: request.lease_id,
        ttl_ms: ttl(check, request.ttl),
        state: request.state,
        weight: Some(request.weight.unwrap_or(bounds::WEIGHT_DEFAULT)),
        zone: request.zone,
        metadata: request.metadata.into_iter().map(|(key, value)| Pair { key, value }).collect(),
        tags: request.tags,
        ports: request.ports.into_iter().map(|(name, port)| NamedPort { name, port: port.port }).collect(),
    };
    registration.canonicalize();
    registration
}

/// A time to live: 0 is permanent.
fn ttl(check: &mut Checker, ttl: Option<prost_types::Duration>) -> Option<u64> {
    let ttl = ttl?;
    if ttl == prost_types::Duration::default() {
        return Some(0);
    }
    Some(check.duration_ms("ttl", ttl, bounds::TTL_MS_MIN, bounds::TTL_MS_MAX))
}

fn metadata(check: &mut Checker, pairs: &std::collections::BTreeMap<String, String>) {
    at_most(check, "metadata", pairs.len(), bounds::METADATA_PAIRS_MAX);
    let bytes: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
    check.require(
        bytes <= bounds::METADATA_BYTES_MAX,
        "metadata",
        format!("must be at most {} bytes in all, not {bytes}", bounds::METADATA_BYTES_MAX),
    );
    for (key, value) in pairs {
        let path = format!("metadata[{}]", shown(key));
        check.key(&path, key, bounds::METADATA_KEY_BYTES_MAX);
        check.text(&path, value, 0, bounds::METADATA_BYTES_MAX);
    }
}

fn tags(check: &mut Checker, tags: &[String]) {
    let distinct: BTreeSet<_> = tags.iter().collect();
    at_most(check, "tags", distinct.len(), bounds::TAGS_MAX);
    for (index, tag) in tags.iter().enumerate() {
        check.text(format_args!("tags[{index}]"), tag, 1, bounds::TAG_BYTES_MAX);
    }
}

fn ports(check: &mut Checker, ports: &std::collections::BTreeMap<String, v1::Port>) {
    at_most(check, "ports", ports.len(), bounds::PORTS_MAX);
    for (name, port) in ports {
        let path = format!("ports[{}]", shown(name));
        check.name(&path, name);
        check.port(format_args!("{path}.port"), port.port);
    }
}

fn at_most(check: &mut Checker, path: &str, count: usize, most: usize) {
    check.require(count <= most, path, format!("must be at most {most}, not {count}"));
}

#[cfg(test)]
#[path = "register_test.rs"]
mod tests;
