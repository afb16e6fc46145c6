//! What the state machine answered, as it is sent. Headers are added by the node asked.

use std::sync::Arc;

use registry_proto::internal::{Drained, WatchedService};
use registry_proto::v1;
use registry_state::command::{Operation, Target};
use registry_state::{Reason, Rejection, Reply, ServiceKey};

use super::instance::{instance, operator_override};
use crate::error::{BadField, Error};

/// The answer to Register.
///
/// # Errors
/// INTERNAL if the reply is of another operation.
pub fn register_response(reply: &Reply) -> Result<v1::ServiceRegisterResponse, Error> {
    match reply {
        Reply::Registered { instance: record, lease_id, incarnation, outcome } => {
            Ok(v1::ServiceRegisterResponse {
                header: None,
                instance: Some(instance(record)),
                lease_id: *lease_id,
                incarnation: *incarnation,
                outcome: *outcome as i32,
            })
        }
        other => Err(foreign(other)),
    }
}

/// The answer to BatchRegister.
///
/// # Errors
/// INTERNAL if the reply is of another operation.
pub fn batch_response(reply: &Reply) -> Result<v1::BatchRegisterResponse, Error> {
    match reply {
        Reply::BatchRegistered { results, lease_id } => Ok(v1::BatchRegisterResponse {
            header: None,
            results: results
                .iter()
                .map(|entry| v1::BatchRegisterResult {
                    instance_id: entry.instance_id.to_string(),
                    incarnation: entry.incarnation,
                    outcome: entry.outcome as i32,
                })
                .collect(),
            lease_id: *lease_id,
        }),
        other => Err(foreign(other)),
    }
}

/// The answer to Deregister.
///
/// # Errors
/// INTERNAL if the reply is of another operation.
pub fn deregister_response(reply: &Reply) -> Result<v1::ServiceDeregisterResponse, Error> {
    match reply {
        Reply::Deregistered { removed } => {
            Ok(v1::ServiceDeregisterResponse { header: None, removed: *removed })
        }
        other => Err(foreign(other)),
    }
}

/// The answer to SetInstanceState.
///
/// # Errors
/// INTERNAL if the reply is of another operation.
pub fn state_response(reply: &Reply) -> Result<v1::SetInstanceStateResponse, Error> {
    match reply {
        Reply::StateSet { changed, overridden } => {
            Ok(v1::SetInstanceStateResponse { header: None, changed: *changed, overridden: *overridden })
        }
        other => Err(foreign(other)),
    }
}

/// The answer to SetInstanceOverride.
///
/// # Errors
/// INTERNAL if the reply is of another operation.
pub fn override_response(reply: &Reply) -> Result<v1::SetInstanceOverrideResponse, Error> {
    match reply {
        Reply::OverrideSet { operator_override: set, registered } => Ok(v1::SetInstanceOverrideResponse {
            header: None,
            operator_override: Some(operator_override(set)),
            registered: *registered,
        }),
        other => Err(foreign(other)),
    }
}

/// The answer to ClearInstanceOverride.
///
/// # Errors
/// INTERNAL if the reply is of another operation.
pub fn cleared_response(reply: &Reply) -> Result<v1::ClearInstanceOverrideResponse, Error> {
    match reply {
        Reply::OverrideCleared { cleared } => {
            Ok(v1::ClearInstanceOverrideResponse { header: None, cleared: *cleared })
        }
        other => Err(foreign(other)),
    }
}

/// The answer to EndProtection.
///
/// # Errors
/// INTERNAL if the reply is of another operation.
pub fn protection_ended_response(reply: &Reply) -> Result<v1::EndProtectionResponse, Error> {
    match reply {
        Reply::ProtectionEnded { ended } => Ok(v1::EndProtectionResponse { header: None, ended: *ended }),
        other => Err(foreign(other)),
    }
}

/// What a Drain changed.
///
/// # Errors
/// INTERNAL if the reply is of another operation.
pub fn drained(reply: &Reply) -> Result<Drained, Error> {
    match reply {
        Reply::Drained { revision, services } => {
            let watched = |service: &Arc<ServiceKey>| WatchedService {
                namespace: service.namespace.to_string(),
                service_name: service.name.to_string(),
            };
            Ok(Drained { revision: *revision, services: services.iter().map(watched).collect() })
        }
        other => Err(foreign(other)),
    }
}

/// Why the state machine refused an operation, as a client is told.
pub fn refusal(rejection: &Rejection, operation: &Operation) -> Error {
    let error = match &rejection.reason {
        Reason::InvalidField(violations) => Error::InvalidField(
            violations
                .iter()
                .map(|violation| BadField::new(&violation.field, &violation.description))
                .collect(),
        ),
        Reason::RequestIdReused => Error::RequestIdReused,
        Reason::RequestSuperseded { floor } => Error::RequestSuperseded { lowest: *floor },
        Reason::SessionUnknown => Error::SessionUnknown,
        Reason::RegistrationGone => Error::RegistrationGone,
        Reason::InstanceNotFound => Error::InstanceNotFound(name(operation)),
        Reason::LeaseExpired => Error::LeaseExpired,
        Reason::StaleIncarnation { current } => Error::StaleIncarnation { current: *current },
        Reason::QuotaExceeded { quota, limit } => {
            Error::QuotaExceeded { quota: quota.name().to_owned(), limit: Some(*limit), retry_after: None }
        }
        Reason::NotInitialized => Error::NotInitialized,
        reason @ (Reason::AlreadyInitialized { .. }
        | Reason::SettingsChanged { .. }
        | Reason::MembershipOwned { .. }
        | Reason::MemberRemoved { .. }) => Error::Internal(format!("a client's write was refused: {reason}")),
    };
    match rejection.index.and_then(|index| usize::try_from(index).ok()) {
        Some(index) => Error::Entry { index, error: Box::new(error) },
        None => error,
    }
}

/// What an operation is about, for people.
fn name(operation: &Operation) -> String {
    let target = match operation {
        Operation::Deregister(operation) => operation.target.as_ref(),
        Operation::SetState(operation) => operation.target.as_ref(),
        Operation::Drain(operation) => operation.target.as_ref(),
        _ => None,
    };
    target.map_or_else(|| "the instance".to_owned(), target_name)
}

/// An instance, for people.
pub(super) fn target_name(target: &Target) -> String {
    format!("{}/{}/{}", target.namespace, target.service_name, target.instance_id)
}

fn foreign(reply: &Reply) -> Error {
    Error::Internal(format!("the state machine answered another operation: {reply:?}"))
}
