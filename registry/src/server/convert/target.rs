//! Requests that name an instance or a lease.

use registry_proto::v1;
use registry_state::command::{Deregister, Drain, Operation, RequestKey, SetState, Target, instance_id_of};
use registry_state::limits as bounds;

use super::check::Checker;
use crate::error::Error;

/// A write that is well-formed: what to propose, but for the lease id that the proposer draws.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Makes it safe to repeat.
    pub request: Option<RequestKey>,
    /// What to do.
    pub operation: Operation,
}

impl Checked {
    pub(super) fn new(request_id: Option<&v1::RequestId>, operation: Operation) -> Self {
        let request = request_id.map(|id| RequestKey {
            client: id.client.clone(),
            serial: id.serial,
            done_below: id.done_below.max(1),
            hash: operation.request_hash(),
        });
        Self { request, operation }
    }
}

/// The fields of a request that name what it is about (numbers 1 to 7 of every request).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Named<'a> {
    pub(super) service_name: &'a str,
    pub(super) host: &'a str,
    pub(super) port: u32,
    pub(super) namespace: &'a str,
    pub(super) instance_id: &'a str,
    pub(super) incarnation: u64,
    pub(super) lease_id: u64,
}

/// Checks Deregister.
///
/// # Errors
/// INVALID_FIELD with every bad field.
pub fn deregister(request: &v1::ServiceDeregisterRequest) -> Result<Checked, Error> {
    let mut check = Checker::default();
    let target = named(
        &mut check,
        Named {
            service_name: &request.service_name,
            host: &request.host,
            port: request.port,
            namespace: &request.namespace,
            instance_id: &request.instance_id,
            incarnation: request.incarnation,
            lease_id: request.lease_id,
        },
    );
    request_id(&mut check, request.request_id.as_ref());
    check.finish(())?;
    let operation =
        Operation::Deregister(Deregister { target: Some(target), by_operator: request.by_operator });
    Ok(Checked::new(request.request_id.as_ref(), operation))
}

/// Checks SetInstanceState.
///
/// # Errors
/// INVALID_FIELD with every bad field.
pub fn set_state(request: &v1::SetInstanceStateRequest) -> Result<Checked, Error> {
    let mut check = Checker::default();
    let target = named(
        &mut check,
        Named {
            service_name: &request.service_name,
            host: &request.host,
            port: request.port,
            namespace: &request.namespace,
            instance_id: &request.instance_id,
            incarnation: request.incarnation,
            lease_id: request.lease_id,
        },
    );
    request_id(&mut check, request.request_id.as_ref());
    check.require(request.state != 0, "state", "is required");
    instance_state(&mut check, "state", request.state);
    check.finish(())?;
    let operation = Operation::SetState(SetState { target: Some(target), state: request.state });
    Ok(Checked::new(request.request_id.as_ref(), operation))
}

/// Checks Drain. How long to wait is the business of the node asked, and no part of the operation.
///
/// # Errors
/// INVALID_FIELD with every bad field.
pub fn drain(request: &v1::DrainRequest) -> Result<Checked, Error> {
    let mut check = Checker::default();
    let target = named(
        &mut check,
        Named {
            service_name: &request.service_name,
            host: &request.host,
            port: request.port,
            namespace: &request.namespace,
            instance_id: &request.instance_id,
            incarnation: request.incarnation,
            lease_id: request.lease_id,
        },
    );
    request_id(&mut check, request.request_id.as_ref());
    check.require(
        !(request.by_operator && request.lease_id != 0),
        "by_operator",
        "must be false if lease_id is set: an override is of one instance",
    );
    if let Some(timeout) = request.timeout {
        check.duration_ms("timeout", timeout, 0, bounds::DRAIN_TIMEOUT_MS_MAX);
    }
    check.finish(())?;
    let operation = Operation::Drain(Drain { target: Some(target), by_operator: request.by_operator });
    Ok(Checked::new(request.request_id.as_ref(), operation))
}

/// Checks Heartbeat: what to renew.
///
/// # Errors
/// INVALID_FIELD with every bad field.
pub fn heartbeat(request: &v1::HeartbeatRequest) -> Result<Target, Error> {
    let mut check = Checker::default();
    let target = named(
        &mut check,
        Named {
            service_name: &request.service_name,
            host: &request.host,
            port: request.port,
            namespace: &request.namespace,
            instance_id: &request.instance_id,
            incarnation: request.incarnation,
            lease_id: request.lease_id,
        },
    );
    check.finish(target)
}

/// An instance by service and id or host and port, or a lease; never both.
pub(super) fn named(check: &mut Checker, from: Named<'_>) -> Target {
    if from.lease_id != 0 {
        const RULE: &str = "must be empty if lease_id is set";
        check.require(from.service_name.is_empty(), "service_name", RULE);
        check.require(from.host.is_empty(), "host", RULE);
        check.require(from.port == 0, "port", RULE);
        check.require(from.namespace.is_empty(), "namespace", RULE);
        check.require(from.instance_id.is_empty(), "instance_id", RULE);
        check.require(from.incarnation == 0, "incarnation", RULE);
        return Target { lease_id: from.lease_id, ..Target::default() };
    }
    check.name("service_name", from.service_name);
    let namespace = check.namespace(from.namespace);
    let instance_id = if from.instance_id.is_empty() {
        check.host(from.host);
        check.port("port", from.port);
        instance_id_of(from.host, from.port)
    } else {
        check.instance_id("instance_id", from.instance_id);
        const RULE: &str = "must be empty if instance_id is set";
        check.require(from.host.is_empty(), "host", RULE);
        check.require(from.port == 0, "port", RULE);
        from.instance_id.to_owned()
    };
    Target {
        namespace,
        service_name: from.service_name.to_owned(),
        instance_id,
        incarnation: from.incarnation,
        lease_id: 0,
    }
}

/// A request id, if there is one (P/R3).
pub(super) fn request_id(check: &mut Checker, id: Option<&v1::RequestId>) {
    let Some(id) = id else { return };
    check.key("request_id.client", &id.client, bounds::CLIENT_BYTES_MAX);
    check.require(id.serial > 0, "request_id.serial", "is required: 1 for the first write");
    let window = id.done_below.max(1).saturating_add(bounds::REQUEST_WINDOW);
    check.require(
        id.serial < window,
        "request_id.serial",
        format!("must be below done_below + {}, {window}", bounds::REQUEST_WINDOW),
    );
}

/// A state, given or not.
pub(super) fn instance_state(check: &mut Checker, path: &str, state: i32) {
    check.require(v1::InstanceState::try_from(state).is_ok(), path, "must be STARTING, UP, DRAINING or DOWN");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths<T>(result: Result<T, Error>) -> Vec<String> {
        match result {
            Ok(_) => Vec::new(),
            Err(Error::InvalidField(bad)) => bad.into_iter().map(|field| field.path).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn host_and_port_stand_for_the_id_that_register_makes_of_them() {
        let request = v1::HeartbeatRequest {
            service_name: "a".into(),
            host: "::1".into(),
            port: 80,
            ..Default::default()
        };
        let target = heartbeat(&request).unwrap();
        assert_eq!(target.namespace, "default");
        assert_eq!(target.instance_id, "[::1]:80");
    }

    #[test]
    fn a_lease_is_named_alone() {
        let request = v1::ServiceDeregisterRequest { lease_id: 7, ..Default::default() };
        let Operation::Deregister(operation) = deregister(&request).unwrap().operation else { panic!() };
        assert_eq!(operation.target.unwrap().lease_id, 7);

        let request = v1::ServiceDeregisterRequest {
            service_name: "a".into(),
            host: "h".into(),
            port: 1,
            namespace: "n".into(),
            instance_id: "i".into(),
            incarnation: 9,
            lease_id: 7,
            ..Default::default()
        };
        let expected = ["service_name", "host", "port", "namespace", "instance_id", "incarnation"];
        assert_eq!(paths(deregister(&request)), expected);
    }

    #[test]
    fn an_instance_is_named_by_its_id_or_by_host_and_port() {
        let request = v1::SetInstanceStateRequest { state: 2, ..Default::default() };
        assert_eq!(paths(set_state(&request)), ["service_name", "host", "port"]);
        let request = v1::SetInstanceStateRequest {
            service_name: "a".into(),
            instance_id: "x y".into(),
            port: 3,
            state: 2,
            ..Default::default()
        };
        assert_eq!(paths(set_state(&request)), ["instance_id", "port"]);
    }

    #[test]
    fn a_state_has_to_be_given_and_known() {
        let request = |state| v1::SetInstanceStateRequest { lease_id: 1, state, ..Default::default() };
        assert_eq!(paths(set_state(&request(0))), ["state"]);
        assert_eq!(paths(set_state(&request(5))), ["state"]);
        assert_eq!(paths(set_state(&request(-1))), ["state"]);
        assert!(set_state(&request(3)).is_ok());
    }

    #[test]
    fn a_drain_waits_at_most_five_minutes_and_overrides_no_lease() {
        let timeout = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
        let request = |timeout| v1::DrainRequest { lease_id: 1, timeout, ..Default::default() };
        for good in [None, timeout(0, 0), timeout(300, 0), timeout(0, 1_000_000)] {
            assert!(drain(&request(good)).is_ok(), "{good:?}");
        }
        for bad in [timeout(300, 1_000_000), timeout(-1, 0), timeout(0, 1)] {
            assert_eq!(paths(drain(&request(bad))), ["timeout"], "{bad:?}");
        }
        let by_operator = v1::DrainRequest { by_operator: true, ..request(None) };
        assert_eq!(paths(drain(&by_operator)), ["by_operator"]);
    }

    #[test]
    fn serials_stay_within_the_window() {
        let request = |client: &str, serial, done_below| v1::ServiceDeregisterRequest {
            lease_id: 1,
            request_id: Some(v1::RequestId { client: client.into(), serial, done_below }),
            ..Default::default()
        };
        assert!(deregister(&request("c", 1, 0)).is_ok());
        assert!(deregister(&request("c", 16, 1)).is_ok());
        assert_eq!(paths(deregister(&request("c", 17, 1))), ["request_id.serial"]);
        assert_eq!(paths(deregister(&request("c", 0, 0))), ["request_id.serial"]);
        assert!(deregister(&request("c", u64::MAX, u64::MAX)).is_err());
        assert_eq!(paths(deregister(&request("", 1, 1))), ["request_id.client"]);
        assert_eq!(paths(deregister(&request("a b", 1, 1))), ["request_id.client"]);
        assert_eq!(paths(deregister(&request(&"c".repeat(65), 1, 1))), ["request_id.client"]);
    }

    #[test]
    fn the_hash_tells_contents_apart_and_nothing_else() {
        let hash = |service: &str, serial| {
            let request = v1::ServiceDeregisterRequest {
                service_name: service.into(),
                host: "h".into(),
                port: 1,
                request_id: Some(v1::RequestId { client: "c".into(), serial, done_below: 1 }),
                ..Default::default()
            };
            deregister(&request).unwrap().request.unwrap().hash
        };
        assert_eq!(hash("a", 1), hash("a", 2));
        assert_ne!(hash("a", 1), hash("b", 1));
    }
}
