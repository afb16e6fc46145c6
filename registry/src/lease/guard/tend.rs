//! Puts what the guard decides into the log: takes hold, lets recovered leases go, ends in time (P/L6).

use std::time::Duration;

use registry_state::command::{GuardAction, GuardDecision, LeaseVersion};
use registry_state::limits::{INSTANCES_PER_ENTRY_MAX, LEASES_PER_ENTRY_MAX, TICKS_PER_ENTRY_MAX};
use registry_state::{GuardTick, Operation, Protect, Reply, ServiceKey, State, Unprotect};
use tracing::{debug, info, warn};

use super::Vitals;
use super::examine::{Examiner, Sorted};
use super::hold::decision;
use crate::lease::pass::{Duty, Pass};

/// Protect or Unprotect entries of one pass: 64 of 256 leases. What is not reached in it is due, or
/// recovered, in the next.
const ENTRIES_PER_PASS: usize = 64;

/// Disarmed guards of one step that are looked at whether they may be armed: each costs a look at its service.
const ARMED_PER_STEP: usize = 64;

/// The guard takes leases. False if it could not be agreed on.
pub(crate) async fn protect(pass: &Pass, sorted: Sorted) -> bool {
    let published = pass.published();
    let state = &published.state;
    let hold_ms = state.settings().guard.hold_ms;
    let all: Vec<Vitals> = sorted.protect.into_values().collect();
    for (entry, leases) in entries(state, &all).into_iter().take(ENTRIES_PER_PASS).enumerate() {
        let protect = Protect { hold_ms, leases: leases.iter().map(version).collect() };
        match pass.propose(Operation::Protect(protect)).await {
            Ok(Reply::Protected { leases, .. }) => pass.leases.metrics().guard("protected", leases.into()),
            Ok(_) => {}
            Err(error) => {
                debug!(%error, leases = leases.len(), "the guard could not take leases now");
                return false;
            }
        }
        if entry > 0 {
            continue;
        }
        for (service, census) in &sorted.struck {
            pass.leases.metrics().guard("held", 1);
            warn!(
                %service,
                overdue = census.overdue,
                leases = census.leases,
                hold = ?Duration::from_millis(hold_ms),
                "the mass-expiry guard takes hold: most owners of the service fell silent at once, and their \
                 instances are kept as protected until they renew or the time is up. Look for what they have \
                 in common (a network, a deployment); if they are gone for good, end it with \
                 `registryctl protection end`"
            );
        }
    }
    true
}

/// The guard lets go whose owners are back.
pub(crate) async fn recover(pass: &Pass) {
    for _ in 0..ENTRIES_PER_PASS {
        let published = pass.published();
        let recovered =
            pass.leases.take_recovered(pass.leadership, |id| Pass::instances(&published.state, id));
        if recovered.is_empty() {
            return;
        }
        let leases = recovered.iter().map(|(lease_id, version)| LeaseVersion {
            lease_id: *lease_id,
            version: *version,
            silent_for_ms: 0,
        });
        let result = pass.propose(Operation::Unprotect(Unprotect { leases: leases.collect() })).await;
        pass.leases.unprotected(pass.leadership, &recovered);
        match result {
            Ok(Reply::Unprotected { leases, instances }) => {
                pass.leases.metrics().guard("recovered", leases.into());
                info!(leases, instances, "owners of protected leases are back");
            }
            Ok(_) => {}
            Err(error) => {
                debug!(%error, leases = recovered.len(), "recovered leases stay protected for now");
                return;
            }
        }
    }
}

/// Looks after the guards: logs what time they have left, ends them, arms them again.
pub(crate) async fn guards(pass: &Pass, duty: &mut Duty) {
    let Some(time) = pass.time() else { return };
    let published = pass.published();
    let state = &published.state;
    if !duty.guards_are_due(state, time.now) {
        return;
    }
    duty.guards_seen(time.now);
    let enabled = state.settings().guard.enabled;
    let step = duty.holds.step(state.guards(), time.now, enabled, |key| longest_ttl(state, key));
    for service in &step.ended {
        pass.leases.metrics().guard("ended", 1);
        info!(%service, "the mass-expiry guard has ended: instances whose owners are still silent expire now");
    }
    let mut decisions = step.decisions;
    let mut examiner = Examiner::new(&pass.leases, pass.leadership, &mut duty.recent, time.now);
    for key in step.disarmed.iter().take(ARMED_PER_STEP) {
        let Some(service) = state.service(&key.namespace, &key.name) else { continue };
        if examiner.is_calm(&service).await {
            decisions.push(decision(key, GuardAction::Arm(true)));
        }
    }
    let ends = decisions.iter().any(|decision| matches!(decision.action, Some(GuardAction::End(_))));
    if ends {
        // Whoever was answered without waiting must be let go before the guard ends.
        pass.leases.let_go(pass.leadership, true);
        recover(pass).await;
    }
    tick(pass, duty, &decisions).await;
    if ends {
        pass.leases.let_go(pass.leadership, false);
    }
}

async fn tick(pass: &Pass, duty: &mut Duty, decisions: &[GuardDecision]) {
    for services in decisions.chunks(TICKS_PER_ENTRY_MAX) {
        if let Err(error) =
            pass.propose(Operation::GuardTick(GuardTick { services: services.to_vec() })).await
        {
            debug!(%error, services = services.len(), "guards could not be tended now");
            return;
        }
        duty.holds.applied(services);
        let arms = |decision: &&GuardDecision| matches!(decision.action, Some(GuardAction::Arm(_)));
        for armed in services.iter().filter(arms) {
            pass.leases.metrics().guard("armed", 1);
            let name = armed.service.clone().unwrap_or_default();
            info!(service = %ServiceKey::new(&name.namespace, &name.service_name), "the mass-expiry guard is armed again");
        }
    }
}

/// The longest time to live of what the guard of a service keeps.
fn longest_ttl(state: &State, key: &ServiceKey) -> Duration {
    let service = state.service(&key.namespace, &key.name);
    let kept = service.iter().flat_map(|service| service.instances()).filter(|record| record.is_protected());
    Duration::from_millis(kept.map(|record| record.ttl_ms).max().unwrap_or(0).into())
}

fn version(vitals: &Vitals) -> LeaseVersion {
    LeaseVersion {
        lease_id: vitals.id,
        version: vitals.version,
        silent_for_ms: u64::try_from(vitals.silent.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Cuts leases into entries of bounded numbers of leases and instances.
fn entries<'a>(state: &State, leases: &'a [Vitals]) -> Vec<&'a [Vitals]> {
    let mut entries = Vec::new();
    let (mut start, mut room) = (0, INSTANCES_PER_ENTRY_MAX);
    for (at, lease) in leases.iter().enumerate() {
        let size = Pass::instances(state, lease.id).max(1);
        if at > start && (at - start == LEASES_PER_ENTRY_MAX || size > room) {
            entries.extend(leases.get(start..at));
            (start, room) = (at, INSTANCES_PER_ENTRY_MAX);
        }
        room = room.saturating_sub(size);
    }
    entries.extend(leases.get(start..).filter(|rest| !rest.is_empty()));
    entries
}
