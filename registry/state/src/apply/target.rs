//! Whom a command means: one instance, or all instances of a lease.

use std::sync::Arc;

use crate::command::Target;
use crate::instance::InstanceRecord;
use crate::reply::Reason;
use crate::state::State;

impl State {
    /// The instances meant, empty if there are none. Only a wrong incarnation is refused.
    pub(super) fn resolve(&self, target: Option<&Target>) -> Result<Vec<Arc<InstanceRecord>>, Reason> {
        let Some(target) = target else { return Ok(Vec::new()) };
        if target.lease_id != 0 {
            return Ok(self.records_of(target.lease_id));
        }
        let found = self.instance(&target.namespace, &target.service_name, &target.instance_id);
        match found {
            Some(record) if target.incarnation != 0 && target.incarnation != record.incarnation => {
                Err(Reason::StaleIncarnation { current: record.incarnation })
            }
            Some(record) => Ok(vec![record.clone()]),
            None => Ok(Vec::new()),
        }
    }

    /// As [`resolve`](Self::resolve), but there must be at least one.
    pub(super) fn resolve_some(&self, target: Option<&Target>) -> Result<Vec<Arc<InstanceRecord>>, Reason> {
        let found = self.resolve(target)?;
        if !found.is_empty() {
            return Ok(found);
        }
        let by_lease = target.is_some_and(|target| target.lease_id != 0);
        Err(if by_lease { Reason::LeaseExpired } else { Reason::InstanceNotFound })
    }
}
