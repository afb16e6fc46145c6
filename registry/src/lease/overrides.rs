//! When overrides end: timers of the leader, logged again each minute so that the next leader goes on from
//! there (P/L7). They count in lease time, which stands still without a quorum: never early.
//!
//! Setting or clearing costs nothing here; a look without anything due costs two comparisons, however many
//! overrides there are.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use registry_state::command::{OverrideTick, OverrideVersion};
use registry_state::limits::TICKS_PER_ENTRY_MAX;
use registry_state::{EndOverrides, Operation, OverrideView, Reply, State, TickOverrides};
use tracing::{debug, info};

use super::pass::Pass;

/// How often the time left is logged (P/L7): what a failover may prolong an override by, beside the time
/// without a leader.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Pause before an end that could not be agreed on is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// New overrides taken in at once; a new leader of 100,000 needs a few passes.
const LEARNED_AT_ONCE: usize = 16_384;

/// Entries of one pass, for each of ending and logging: 100,000 are logged again within 13 passes.
const ENTRIES_PER_PASS: usize = 8;

/// The ends of overrides in lease time. Belongs to one reign.
#[derive(Debug, Default)]
pub struct Timers {
    /// Overrides up to this version are known.
    seen: u64,
    /// End and version.
    ends: BTreeSet<(Duration, u64)>,
    /// When to log, version and end; in the order of time, since each waits equally long.
    logs: VecDeque<(Duration, u64, Duration)>,
}

impl Timers {
    /// Whether there is anything to do.
    pub fn is_due(&self, state: &State, now: Duration) -> bool {
        self.ends.first().is_some_and(|(end, _)| *end <= now)
            || self.logs.front().is_some_and(|(at, ..)| *at <= now)
            || state.timed_overrides_after(self.seen).next().is_some()
    }

    /// Takes in overrides that were set since the last call, `latest` being lease time that has surely not
    /// passed yet when they were set.
    pub fn learn(&mut self, state: &State, latest: Duration) {
        for view in state.timed_overrides_after(self.seen).take(LEARNED_AT_ONCE) {
            let version = view.operator_override.revision;
            let end = latest + Duration::from_millis(view.remaining_ms.unwrap_or(0));
            self.seen = self.seen.max(version);
            self.ends.insert((end, version));
            self.logs.push_back((latest + LOG_EVERY, version, end));
        }
    }

    /// Versions of some that are over by `now`.
    pub fn take_ended(&mut self, now: Duration) -> Vec<u64> {
        let mut ended = Vec::new();
        while let Some(&(end, version)) = self.ends.first()
            && end <= now
            && ended.len() < TICKS_PER_ENTRY_MAX
        {
            self.ends.pop_first();
            ended.push(version);
        }
        ended
    }

    /// These could not be ended now.
    pub fn retry(&mut self, versions: &[u64], now: Duration) {
        self.ends.extend(versions.iter().map(|version| (now + RETRY, *version)));
    }

    /// Some of which the time left has to be logged, and those that have gone are forgotten.
    pub fn take_logs(&mut self, state: &State, now: Duration) -> Vec<OverrideTick> {
        let mut ticks = Vec::new();
        while let Some(&(at, version, end)) = self.logs.front()
            && at <= now
            && ticks.len() < TICKS_PER_ENTRY_MAX
        {
            self.logs.pop_front();
            let Some(view) = state.timed_override_of(version) else {
                self.ends.remove(&(end, version));
                continue;
            };
            self.logs.push_back((now + LOG_EVERY, version, end));
            if let Some(left) = end.checked_sub(now) {
                let remaining_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
                ticks.push(OverrideTick { target: Some(name(&view)), remaining_ms });
            }
        }
        ticks
    }
}

/// Ends what is over, and logs what is left of the others.
pub(crate) async fn tend(pass: &Pass, timers: &mut Timers) {
    let Some(time) = pass.time() else { return };
    timers.learn(&pass.published().state, time.latest);
    for _ in 0..ENTRIES_PER_PASS {
        let versions = timers.take_ended(time.now);
        if versions.is_empty() {
            break;
        }
        let published = pass.published();
        let standing = versions.iter().filter_map(|version| published.state.timed_override_of(*version));
        let overrides: Vec<_> = standing.map(|view| name(&view)).collect();
        if overrides.is_empty() {
            continue;
        }
        match pass.propose(Operation::EndOverrides(EndOverrides { overrides })).await {
            Ok(Reply::OverridesEnded { ended }) => {
                pass.leases.metrics().overrides_ended(ended.into());
                info!(ended, "overrides ended because their time was over");
            }
            Ok(_) => {}
            Err(error) => {
                debug!(%error, overrides = versions.len(), "overrides could not be ended now");
                timers.retry(&versions, time.now);
                return;
            }
        }
    }
    for _ in 0..ENTRIES_PER_PASS {
        let overrides = timers.take_logs(&pass.published().state, time.now);
        if overrides.is_empty() {
            return;
        }
        if let Err(error) = pass.propose(Operation::TickOverrides(TickOverrides { overrides })).await {
            debug!(%error, "the time that overrides have left could not be logged now");
            return;
        }
    }
}

fn name(view: &OverrideView<'_>) -> OverrideVersion {
    OverrideVersion {
        namespace: view.key.service.namespace.to_string(),
        service_name: view.key.service.name.to_string(),
        instance_id: view.key.instance_id.to_string(),
        version: view.operator_override.revision,
    }
}

#[cfg(test)]
#[path = "overrides/overrides_test.rs"]
mod tests;
