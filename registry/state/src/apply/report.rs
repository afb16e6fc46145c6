//! SetState and Drain: what the owner reports, or for a drain by an operator, what he overrides.

use std::sync::Arc;

use super::effects::Step;
use super::overrides::Wanted;
use crate::command::{Drain, SetState};
use crate::event::EventCause;
use crate::ids::InstanceKey;
use crate::instance::{InstanceRecord, InstanceState};
use crate::reply::{Reason, Rejection, Reply};
use crate::state::State;

impl State {
    pub(super) fn set_state(&mut self, step: &mut Step, command: &SetState) -> Result<Reply, Rejection> {
        let state = InstanceState::try_from(command.state).map_err(|_| Reason::InstanceNotFound)?;
        let records = self.resolve_some(command.target.as_ref())?;
        let hidden = |record: &Arc<InstanceRecord>| {
            record.operator_override.as_ref().is_some_and(|o| o.state.is_some())
        };
        let overridden = records.iter().filter(|record| hidden(record)).count() as u32;
        let changed = self.report(step, records, state);
        Ok(Reply::StateSet { changed, overridden })
    }

    /// Sets DRAINING. Without a request id a repetition finds it set and answers with the revision of the
    /// last change of the instances, which is not before that of the drain (API/N4).
    pub(super) fn drain(&mut self, step: &mut Step, command: &Drain) -> Result<Reply, Rejection> {
        let records = self.resolve_some(command.target.as_ref())?;
        let services = services_of(&records);
        let before = records.iter().map(|record| record.revision).max().unwrap_or(self.revision);
        let changed = if command.by_operator {
            self.drain_by_override(step, records)?
        } else {
            self.report(step, records, InstanceState::Draining) > 0
        };
        let revision = if changed { step.revision } else { before };
        Ok(Reply::Drained { revision, services })
    }

    /// Sets the reported state and returns how many differed.
    fn report(&mut self, step: &mut Step, records: Vec<Arc<InstanceRecord>>, state: InstanceState) -> u32 {
        let mut changed = 0;
        for record in records.into_iter().filter(|record| record.reported_state != state) {
            let reported = InstanceRecord { reported_state: state, ..(*record).clone() };
            self.revise(step, record, reported, EventCause::StateReported);
            changed += 1;
        }
        changed
    }

    /// Overrides the state with DRAINING until it is cleared, and leaves an overridden weight as it is.
    fn drain_by_override(
        &mut self,
        step: &mut Step,
        records: Vec<Arc<InstanceRecord>>,
    ) -> Result<bool, Rejection> {
        let mut changed = false;
        for record in records {
            let key =
                InstanceKey { service: record.service.clone(), instance_id: record.instance_id.clone() };
            let present = record.operator_override.as_deref();
            let wanted = Wanted {
                state: Some(InstanceState::Draining),
                weight: present.and_then(|o| o.weight),
                comment: present.map_or("", |o| &o.comment),
                actor: present.map_or("", |o| &o.actor),
                ttl_ms: None,
            };
            changed |= self.place_override(step, key, &wanted)?.1;
        }
        Ok(changed)
    }
}

/// The services of instances, sorted, each once.
pub(super) fn services_of(records: &[Arc<InstanceRecord>]) -> Vec<Arc<crate::ids::ServiceKey>> {
    let mut services: Vec<_> = records.iter().map(|record| record.service.clone()).collect();
    services.sort();
    services.dedup();
    services
}
