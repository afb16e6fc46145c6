//! Comparing the model with a state.

use registry_state::*;

use crate::naive::Model;

impl Model {
    /// Compares everything that can be asked of a state.
    pub(crate) fn compare(&self, state: &State) -> Result<(), String> {
        let same = |what: &str, equal: bool| if equal { Ok(()) } else { Err(format!("{what} differ")) };
        let instances: Vec<InstanceRecord> = state
            .services_from(None)
            .flat_map(|view| view.instances())
            .map(|record| (**record).clone())
            .collect();
        same("instances", self.instances.values().eq(&instances))?;
        let overrides = state.overrides_from(None).map(|view| {
            let InstanceKey { service, instance_id } = view.key;
            let key = (service.namespace.to_string(), service.name.to_string(), instance_id.to_string());
            assert_eq!(view.registered, self.instances.contains_key(&key));
            (key, ((**view.operator_override).clone(), view.remaining_ms))
        });
        same("overrides", self.overrides.clone().into_iter().eq(overrides))?;
        let services = state.services_from(None).map(|view| {
            let name = (view.key().namespace.to_string(), view.key().name.to_string());
            (name, (view.revision(), view.guard()))
        });
        same("services", self.services.clone().into_iter().eq(services))?;
        for (namespace, name) in self.services.keys() {
            self.compare_service(state, namespace, name)?;
        }
        same("members", self.members.keys().eq(state.members().map(|member| &member.raft_id)))?;
        same("removed", self.removed.iter().all(|(id, _)| state.is_removed(*id)))?;
        let floor = self.history.first().map_or(self.revision, |(first, _)| first - 1);
        same("floors", floor == state.history_floor())?;
        if floor > 0 {
            same(
                "gaps",
                state.history_since(floor - 1).err() == Some(HistoryGap::Compacted { oldest: floor }),
            )?;
        }
        for from in floor..=self.revision {
            let kept: Vec<u64> =
                self.history.iter().map(|(revision, _)| *revision).filter(|r| *r > from).collect();
            let given: Vec<u64> = state.history_since(from).unwrap().map(|made| made.revision).collect();
            same("histories", kept == given)?;
        }
        let newest = self.revision;
        same("futures", state.history_since(newest + 1).err() == Some(HistoryGap::Future { newest }))
    }

    pub(crate) fn compare_service(&self, state: &State, namespace: &str, name: &str) -> Result<(), String> {
        let view = state.service(namespace, name).ok_or("a service is unknown")?;
        let of: Vec<_> = self.instances.iter().filter(|(k, _)| k.0 == namespace && k.1 == name).collect();
        let count = |want: InstanceState| of.iter().filter(|(_, r)| r.state() == want).count() as u32;
        let protected = of.iter().filter(|(_, r)| r.protection.is_some()).count() as u32;
        let counts = Counts {
            total: of.len() as u32,
            starting: count(InstanceState::Starting),
            up: count(InstanceState::Up),
            draining: count(InstanceState::Draining),
            down: count(InstanceState::Down),
            protected,
        };
        let status = match () {
            () if counts.total == 0 => ServiceStatus::Empty,
            () if counts.protected > 0 => ServiceStatus::Protected,
            () if counts.up == 0 => ServiceStatus::NoneUp,
            () => ServiceStatus::Available,
        };
        if (*view.counts(), view.status()) != (counts, status) {
            return Err(format!("{namespace}/{name}: {counts:?} {status:?}, not {:?}", view.counts()));
        }
        Ok(())
    }
}
