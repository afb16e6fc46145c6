//! The operator's layer: overrides are set, cleared, ended, and their remaining times logged (P/L7).

use std::sync::Arc;

use smol_str::SmolStr;

use super::effects::Step;
use crate::command::{ClearOverride, EndOverrides, OverrideVersion, SetOverride, Target, TickOverrides};
use crate::digest;
use crate::event::EventCause;
use crate::ids::{InstanceKey, ServiceKey};
use crate::instance::{InstanceRecord, InstanceState};
use crate::overrides::{Override, OverrideEntry};
use crate::reply::{Quota, Reason, Rejection, Reply};
use crate::state::State;

/// An override as somebody wants it.
pub(super) struct Wanted<'a> {
    pub(super) state: Option<InstanceState>,
    pub(super) weight: Option<u16>,
    pub(super) comment: &'a str,
    pub(super) actor: &'a str,
    pub(super) ttl_ms: Option<u64>,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(command: &'a SetOverride) -> Self {
        let state = InstanceState::try_from(command.state).ok();
        Self {
            state: state.filter(|state| *state != InstanceState::Unspecified),
            weight: command.weight.map(|weight| u16::try_from(weight).unwrap_or(u16::MAX)),
            comment: &command.comment,
            actor: &command.actor,
            ttl_ms: command.ttl_ms,
        }
    }

    /// True if setting it would change nothing. With a time to live it always does: the time starts anew.
    fn is(&self, present: &Override) -> bool {
        self.ttl_ms.is_none()
            && present.expires_at_unix_ms.is_none()
            && self.state == present.state
            && self.weight == present.weight
            && self.comment == &*present.comment
            && self.actor == &*present.actor
    }

    pub(super) fn made(&self, revision: u64, now_unix_ms: u64) -> Override {
        Override {
            state: self.state,
            weight: self.weight,
            comment: self.comment.into(),
            actor: self.actor.into(),
            set_at_unix_ms: now_unix_ms,
            expires_at_unix_ms: self.ttl_ms.map(|ttl| now_unix_ms.saturating_add(ttl)),
            revision,
        }
    }
}

impl State {
    pub(super) fn set_override(
        &mut self,
        step: &mut Step,
        command: &SetOverride,
    ) -> Result<Reply, Rejection> {
        let key = self.override_key(command.target.as_ref());
        let registered = self.registered(&key).is_some();
        let (operator_override, _) = self.place_override(step, key, &Wanted::of(command))?;
        Ok(Reply::OverrideSet { operator_override, registered })
    }

    /// Sets an override unless it stands already; true if it did not.
    pub(super) fn place_override(
        &mut self,
        step: &mut Step,
        key: InstanceKey,
        wanted: &Wanted<'_>,
    ) -> Result<(Arc<Override>, bool), Rejection> {
        let present = self.overrides.get(&key);
        if let Some(entry) = present.filter(|entry| wanted.is(&entry.shared)) {
            return Ok((entry.shared.clone(), false));
        }
        let limit = self.settings.quotas.overrides;
        if present.is_none() && self.overrides.len() as u64 >= limit {
            return Err(Reason::QuotaExceeded { quota: Quota::Overrides, limit }.into());
        }
        let shared = Arc::new(wanted.made(step.revision, step.now_unix_ms));
        let entry = OverrideEntry { shared: shared.clone(), remaining_ms: wanted.ttl_ms };
        self.store_override(&key, Some(entry));
        self.show_override(step, &key, Some(shared.clone()), EventCause::OverrideSet);
        Ok((shared, true))
    }

    pub(super) fn clear_override(&mut self, step: &mut Step, command: &ClearOverride) -> Reply {
        let key = self.override_key(command.target.as_ref());
        let cleared = self.overrides.contains_key(&key);
        if cleared {
            self.store_override(&key, None);
            self.show_override(step, &key, None, EventCause::OverrideCleared);
        }
        Reply::OverrideCleared { cleared }
    }

    /// Takes over the times that the leader says are left. No reader sees them.
    pub(super) fn tick_overrides(&mut self, command: &TickOverrides) -> Reply {
        let mut updated = 0;
        for tick in &command.overrides {
            let Some((key, entry)) = tick.target.as_ref().and_then(|target| self.override_of_version(target))
            else {
                continue;
            };
            // One that never ends stays so, and a time never grows.
            let Some(remaining_ms) = entry.remaining_ms else { continue };
            let remaining_ms = Some(tick.remaining_ms.min(remaining_ms));
            self.store_override(&key, Some(OverrideEntry { remaining_ms, ..entry }));
            updated += 1;
        }
        Reply::OverridesTicked { updated }
    }

    pub(super) fn end_overrides(&mut self, step: &mut Step, command: &EndOverrides) -> Reply {
        let mut ended = 0;
        for target in &command.overrides {
            let Some((key, entry)) = self.override_of_version(target) else { continue };
            if entry.remaining_ms.is_some() {
                self.store_override(&key, None);
                self.show_override(step, &key, None, EventCause::OverrideExpired);
                ended += 1;
            }
        }
        Reply::OverridesEnded { ended }
    }

    fn override_of_version(&self, target: &OverrideVersion) -> Option<(InstanceKey, OverrideEntry)> {
        let key = InstanceKey::new(&target.namespace, &target.service_name, &target.instance_id);
        let entry = self.overrides.get(&key)?;
        (entry.shared.revision == target.version).then(|| (key, entry.clone()))
    }

    pub(super) fn override_key(&self, target: Option<&Target>) -> InstanceKey {
        let (namespace, service, id) =
            target.map_or(("", "", ""), |t| (&t.namespace, &t.service_name, &t.instance_id));
        InstanceKey {
            service: self.shared_key(ServiceKey::new(namespace, service)),
            instance_id: SmolStr::new(id),
        }
    }

    pub(crate) fn registered(&self, key: &InstanceKey) -> Option<&Arc<InstanceRecord>> {
        self.instance(&key.service.namespace, &key.service.name, &key.instance_id)
    }

    /// Keeps an override, or none, under a key. What readers see of the instance is the caller's business.
    pub(crate) fn store_override(&mut self, key: &InstanceKey, entry: Option<OverrideEntry>) {
        if let Some(present) = self.overrides.get(key) {
            self.digest.remove(digest::of_override(key, present));
            self.timed_overrides.remove(&(present.shared.revision, key.clone()));
        }
        match entry {
            Some(entry) => {
                self.digest.add(digest::of_override(key, &entry));
                if entry.remaining_ms.is_some() {
                    self.timed_overrides.insert((entry.shared.revision, key.clone()));
                }
                self.overrides.insert(key.clone(), entry);
            }
            None => {
                self.overrides.remove(key);
            }
        }
    }

    /// Shows an override, or none, on the instance if it is registered. The list of overrides is visible
    /// too, so this makes a revision in any case (P/R6).
    fn show_override(
        &mut self,
        step: &mut Step,
        key: &InstanceKey,
        operator_override: Option<Arc<Override>>,
        cause: EventCause,
    ) {
        step.changed();
        if let Some(record) = self.registered(key).cloned() {
            let shown = InstanceRecord { operator_override, ..(*record).clone() };
            self.revise(step, record, shown, cause);
        }
    }
}
