//! How long guards hold: counted by the leader in lease time, logged again and again, inherited (P/L6).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use registry_state::command::{GuardAction, GuardDecision, ServiceName};
use registry_state::{GuardState, ServiceKey};

/// How often the time left is logged again (P/L6): a failover prolongs a guard by this at most, beside the
/// time without a leader.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// The guards that hold, with their ends in lease time. Belongs to one reign.
#[derive(Debug, Default)]
pub struct Holds {
    services: BTreeMap<Arc<ServiceKey>, Hold>,
    logged_at: Duration,
    begun: bool,
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    /// Time left as the log had it when `end` was counted from it.
    logged_ms: u64,
    end: Duration,
}

/// What is to be done about guards now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// What to put into the log.
    pub decisions: Vec<GuardDecision>,
    /// Guards that have ended since the last step, by their time or by an operator.
    pub ended: Vec<Arc<ServiceKey>>,
    /// Guards that do not hold and wait to be armed.
    pub disarmed: Vec<Arc<ServiceKey>>,
}

impl Holds {
    /// Looks at all guards that are not armed. `now` is lease time. `longest_ttl` tells the longest time to
    /// live of what the guard of a service keeps: a guard that is inherited holds for that at least, because
    /// the former leader may have acknowledged renewals that never reached the log (P/L3).
    pub fn step<'a>(
        &mut self,
        guards: impl Iterator<Item = (&'a Arc<ServiceKey>, GuardState)>,
        now: Duration,
        enabled: bool,
        longest_ttl: impl Fn(&ServiceKey) -> Duration,
    ) -> Step {
        let log = now >= self.logged_at + LOG_EVERY && self.begun;
        let mut step = Step::default();
        // What is left of it does not hold any more.
        let mut before = std::mem::take(&mut self.services);
        for (key, guard) in guards {
            let GuardState::Holding { remaining_ms } = guard else {
                step.disarmed.push(key.clone());
                continue;
            };
            let known = before.remove(key).filter(|hold| hold.logged_ms == remaining_ms);
            let hold = known.unwrap_or_else(|| {
                let left = Duration::from_millis(remaining_ms);
                let left = if self.begun { left } else { left.max(longest_ttl(key)) };
                Hold { logged_ms: remaining_ms, end: now + left }
            });
            let left = hold.end.saturating_sub(now);
            if left.is_zero() || !enabled {
                step.decisions.push(decision(key, GuardAction::End(true)));
            } else if log {
                step.decisions.push(decision(key, GuardAction::Hold(millis(left))));
            }
            self.services.insert(key.clone(), hold);
        }
        step.ended = before.into_keys().collect();
        if log || !self.begun {
            self.logged_at = now;
            self.begun = true;
        }
        step
    }

    /// These decisions are applied: what they say is in the log.
    pub fn applied(&mut self, decisions: &[GuardDecision]) {
        for decision in decisions {
            if let (Some(name), Some(GuardAction::Hold(left))) = (&decision.service, decision.action)
                && let Some(hold) =
                    self.services.get_mut(&ServiceKey::new(&name.namespace, &name.service_name))
            {
                hold.logged_ms = left;
            }
        }
    }

    /// Whether a step may have something to do although no guard is out of its armed state now.
    pub fn wants_step(&self) -> bool {
        !self.begun || !self.services.is_empty()
    }
}

/// What becomes of the guard of a service.
pub fn decision(key: &ServiceKey, action: GuardAction) -> GuardDecision {
    let service = ServiceName { namespace: key.namespace.to_string(), service_name: key.name.to_string() };
    GuardDecision { service: Some(service), action: Some(action) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Arc<ServiceKey> {
        Arc::new(ServiceKey::new("default", name))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn actions(step: &Step) -> Vec<GuardAction> {
        step.decisions.iter().filter_map(|decision| decision.action).collect()
    }

    fn step(holds: &mut Holds, remaining_ms: u64, now: u64) -> Vec<GuardAction> {
        let guard = (&key("a"), GuardState::Holding { remaining_ms });
        let step = holds.step([guard].into_iter(), seconds(now), true, |_| Duration::ZERO);
        holds.applied(&step.decisions);
        actions(&step)
    }

    #[test]
    fn a_guard_ends_after_its_time_and_tells_the_log_every_half_minute_what_is_left() {
        let mut holds = Holds::default();
        holds.step(std::iter::empty(), seconds(99), true, |_| Duration::ZERO);
        let mut remaining_ms = 300_000;
        let mut logged = Vec::new();
        for now in 100..400 {
            match step(&mut holds, remaining_ms, now).as_slice() {
                [] => {}
                [GuardAction::Hold(left)] => {
                    assert_eq!(*left, (400 - now) * 1_000);
                    remaining_ms = *left;
                    logged.push(now);
                }
                other => panic!("{other:?} at {now}"),
            }
        }
        assert_eq!(logged.len(), 10, "{logged:?}");
        assert_eq!(step(&mut holds, remaining_ms, 400), [GuardAction::End(true)]);
        assert_eq!(step(&mut holds, remaining_ms, 401), [GuardAction::End(true)], "until it is applied");
    }

    #[test]
    fn an_inherited_guard_goes_on_with_the_time_in_the_log_but_for_one_ttl_at_least() {
        for (longest, end) in [(0, 107), (5, 107), (15, 115)] {
            let mut holds = Holds::default();
            let mut at = |now| {
                let guard = (&key("a"), GuardState::Holding { remaining_ms: 7_000 });
                actions(&holds.step([guard].into_iter(), seconds(now), true, |_| seconds(longest)))
            };
            assert_eq!(at(100), []);
            assert_eq!(at(end - 1), []);
            assert_eq!(at(end), [GuardAction::End(true)]);
        }
    }

    #[test]
    fn a_guard_that_took_hold_again_has_its_whole_time() {
        let mut holds = Holds::default();
        assert_eq!(step(&mut holds, 5_000, 100), []);
        assert_eq!(step(&mut holds, 20_000, 104), []);
        assert_eq!(step(&mut holds, 20_000, 123), []);
        assert_eq!(step(&mut holds, 20_000, 124), [GuardAction::End(true)]);
    }

    #[test]
    fn a_guard_that_is_switched_off_ends_and_one_that_ended_is_told_once() {
        let mut holds = Holds::default();
        let guards = || [(key("a"), GuardState::Holding { remaining_ms: 5_000 })];
        let found = guards();
        let off = holds.step(found.iter().map(|(k, g)| (k, *g)), seconds(1), false, |_| seconds(9));
        assert_eq!(actions(&off), [GuardAction::End(true)]);
        let disarmed = [(key("a"), GuardState::Disarmed)];
        let next = holds.step(disarmed.iter().map(|(k, g)| (k, *g)), seconds(2), false, |_| seconds(9));
        let expected = Step { decisions: vec![], ended: vec![key("a")], disarmed: vec![key("a")] };
        assert_eq!(next, expected);
        let last = holds.step(disarmed.iter().map(|(k, g)| (k, *g)), seconds(3), false, |_| seconds(9));
        assert_eq!(last.ended, []);
    }
}
