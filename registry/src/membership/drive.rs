//! Carries the plan out while this node leads: one loop, one step at a time.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::plan::{Step, plan};
use super::{Membership, Progress, locked};
use crate::error::peer::PeerError;
use crate::raft::Leadership;

/// Longest time without a look: times run out without any change of Raft.
const TICK: Duration = Duration::from_millis(500);
/// Between two looks: under load Raft changes all the time.
const PAUSE: Duration = Duration::from_millis(100);
/// After a step that failed: what kept it will mostly still be there.
const RETRY: Duration = Duration::from_secs(1);
/// Longest wait for the round that confirms a new reign.
const CONFIRM_WAIT: Duration = Duration::from_secs(2);

impl Membership {
    /// Works while this node lives.
    pub async fn run(self) {
        let mut status = self.shared.consensus.watch_status();
        let mut confirmed = None;
        loop {
            if matches!(timeout(TICK, status.changed()).await, Ok(Err(_))) {
                // Raft has ended, and the node ends with it.
                return;
            }
            let leadership = self.shared.consensus.leadership();
            if confirmed != leadership {
                confirmed = self.begin(leadership).await;
            }
            if let Some(leadership) = confirmed
                && let Err(error) = self.step(leadership).await
            {
                tracing::debug!(%error, "a step of the membership failed");
                sleep(RETRY).await;
            }
            self.shared.metrics.membership().show(confirmed.map(|leadership| self.look(leadership)).as_ref());
            sleep(PAUSE).await;
        }
    }

    /// A new reign acts only on state that includes what earlier leaders have begun (F7).
    async fn begin(&self, leadership: Option<Leadership>) -> Option<Leadership> {
        *locked(&self.shared.progress) = Progress::default();
        leadership?;
        let reign = self.reign(Instant::now() + CONFIRM_WAIT).await.ok()?;
        Some(reign.leadership)
    }

    /// Takes the next step of the plan, if there is one.
    async fn step(&self, leadership: Leadership) -> Result<(), PeerError> {
        // Somebody's change by hand goes first; the plan is made anew after it.
        let Ok(_turn) = self.shared.turn.try_lock() else { return Ok(()) };
        if self.shared.consensus.leadership() != Some(leadership) {
            return Ok(());
        }
        let Some(step) = plan(&self.look(leadership)) else { return Ok(()) };
        self.take(leadership, &step).await
    }

    /// Takes a step and tells of it. The caller has the turn.
    pub(super) async fn take(&self, leadership: Leadership, step: &Step) -> Result<(), PeerError> {
        locked(&self.shared.progress).step = step.to_string();
        let begun = Instant::now();
        let done = self.carry_out(leadership, step).await;
        locked(&self.shared.progress).step.clear();
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &done {
            Ok(()) => {
                self.shared.metrics.membership().step(step.kind(), "done");
                tracing::info!(%step, took_ms, "the membership was changed");
                locked(&self.shared.progress).trouble.clear();
            }
            Err(error) => {
                self.shared.metrics.membership().step(step.kind(), "failed");
                self.complain(format!("{step}: {error}"));
            }
        }
        done
    }

    /// Says once what does not work.
    fn complain(&self, trouble: String) {
        let mut progress = locked(&self.shared.progress);
        if progress.trouble != trouble {
            tracing::warn!("cannot {trouble}");
            progress.trouble = trouble;
        }
    }
}
