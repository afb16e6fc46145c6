//! Requests of operators: overrides, and the end of the mass-expiry guard.

use registry_proto::v1;
use registry_state::command::{ClearOverride, EndProtection, Operation, SetOverride};
use registry_state::limits as bounds;

use super::check::Checker;
use super::read::{Scope, scope};
use super::target::{Checked, Named, instance_state, named, request_id};
use crate::error::Error;

/// Checks SetInstanceOverride.
///
/// # Errors
/// INVALID_FIELD with every bad field.
pub fn set_override(request: &v1::SetInstanceOverrideRequest) -> Result<Checked, Error> {
    let mut check = Checker::default();
    let target = named(
        &mut check,
        Named {
            service_name: &request.service_name,
            host: &request.host,
            port: request.port,
            namespace: &request.namespace,
            instance_id: &request.instance_id,
            ..Named::default()
        },
    );
    request_id(&mut check, request.request_id.as_ref());
    let wanted = request.operator_override.clone().unwrap_or_default();
    check.require(
        wanted.state != 0 || wanted.weight.is_some(),
        "operator_override",
        "is required, with a state or a weight",
    );
    check.within("operator_override.".to_owned(), |check| {
        instance_state(check, "state", wanted.state);
        if let Some(weight) = wanted.weight {
            let most = bounds::WEIGHT_MAX;
            check.require(weight <= most, "weight", format!("must be 0 to {most}, not {weight}"));
        }
        check.text("comment", &wanted.comment, 0, bounds::COMMENT_BYTES_MAX);
        check.text("actor", &wanted.actor, 0, bounds::ACTOR_BYTES_MAX);
    });
    let ttl_ms = request
        .ttl
        .map(|ttl| check.duration_ms("ttl", ttl, bounds::OVERRIDE_TTL_MS_MIN, bounds::OVERRIDE_TTL_MS_MAX));
    check.finish(())?;
    let operation = Operation::SetOverride(SetOverride {
        target: Some(target),
        state: wanted.state,
        weight: wanted.weight,
        comment: wanted.comment,
        actor: wanted.actor,
        ttl_ms,
    });
    Ok(Checked::new(request.request_id.as_ref(), operation))
}

/// Checks ClearInstanceOverride.
///
/// # Errors
/// INVALID_FIELD with every bad field.
pub fn clear_override(request: &v1::ClearInstanceOverrideRequest) -> Result<Checked, Error> {
    let mut check = Checker::default();
    let target = named(
        &mut check,
        Named {
            service_name: &request.service_name,
            host: &request.host,
            port: request.port,
            namespace: &request.namespace,
            instance_id: &request.instance_id,
            ..Named::default()
        },
    );
    request_id(&mut check, request.request_id.as_ref());
    check.finish(())?;
    let operation = Operation::ClearOverride(ClearOverride { target: Some(target) });
    Ok(Checked::new(request.request_id.as_ref(), operation))
}

/// Checks EndProtection.
///
/// # Errors
/// INVALID_FIELD with every bad field.
pub fn end_protection(request: &v1::EndProtectionRequest) -> Result<Checked, Error> {
    let mut check = Checker::default();
    request_id(&mut check, request.request_id.as_ref());
    let scope = scope(&mut check, &request.service_name, &request.namespace, request.all_namespaces);
    check.finish(())?;
    let operation = Operation::EndProtection(match scope {
        Scope::All => EndProtection { all_namespaces: true, ..EndProtection::default() },
        Scope::Namespace(namespace) => EndProtection { namespace, ..EndProtection::default() },
        Scope::Service { namespace, service_name } => {
            EndProtection { service_name, namespace, all_namespaces: false }
        }
    });
    Ok(Checked::new(request.request_id.as_ref(), operation))
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

    fn setting(operator_override: v1::InstanceOverride) -> v1::SetInstanceOverrideRequest {
        v1::SetInstanceOverrideRequest {
            service_name: "a".into(),
            instance_id: "i".into(),
            operator_override: Some(operator_override),
            ..Default::default()
        }
    }

    #[test]
    fn an_override_says_something_and_every_bad_field_is_named() {
        assert_eq!(paths(set_override(&setting(v1::InstanceOverride::default()))), ["operator_override"]);
        let bad = v1::InstanceOverride {
            state: 9,
            weight: Some(65_536),
            comment: "c".repeat(257),
            actor: "a\n".into(),
            ..Default::default()
        };
        let ttl = Some(prost_types::Duration { seconds: 0, nanos: 999_000_000 });
        let request = v1::SetInstanceOverrideRequest { ttl, ..setting(bad) };
        let expected = [
            "operator_override.state",
            "operator_override.weight",
            "operator_override.comment",
            "operator_override.actor",
            "ttl",
        ];
        assert_eq!(paths(set_override(&request)), expected);
    }

    #[test]
    fn a_weight_alone_is_an_override_and_zero_is_a_weight() {
        let request = setting(v1::InstanceOverride { weight: Some(0), ..Default::default() });
        let Operation::SetOverride(operation) = set_override(&request).unwrap().operation else { panic!() };
        assert_eq!((operation.state, operation.weight, operation.ttl_ms), (0, Some(0), None));
        assert_eq!(operation.target.unwrap().namespace, "default");
    }

    #[test]
    fn protection_is_ended_in_a_service_a_namespace_or_everywhere() {
        let ended = |request: &v1::EndProtectionRequest| {
            let Operation::EndProtection(operation) = end_protection(request).unwrap().operation else {
                panic!()
            };
            (operation.namespace, operation.service_name, operation.all_namespaces)
        };
        let request = v1::EndProtectionRequest { service_name: "a".into(), ..Default::default() };
        assert_eq!(ended(&request), ("default".into(), "a".into(), false));
        let request = v1::EndProtectionRequest { namespace: "n".into(), ..Default::default() };
        assert_eq!(ended(&request), ("n".into(), String::new(), false));
        let request = v1::EndProtectionRequest { all_namespaces: true, ..Default::default() };
        assert_eq!(ended(&request), (String::new(), String::new(), true));
        let request =
            v1::EndProtectionRequest { all_namespaces: true, namespace: "n".into(), ..Default::default() };
        assert_eq!(paths(end_protection(&request)), ["namespace"]);
    }
}
