//! What the leader does about leases by itself: it begins and ends its table of deadlines, keeps lease
//! time running, and ends leases that nobody renewed (P/L3, P/L4).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info};

use super::Leases;
use super::agreement::Agreement;
use super::table::Outcome;
use crate::raft::{Leadership, ProposeError};

/// How often lease time moves on. With the slots of the wheel (1 s), a round and a commit it stays within
/// the 2 s that a lease may be late (H2).
const TICK: Duration = Duration::from_millis(200);

/// An idle leader runs a quorum round if none succeeded for so long (P/L3): lease time stops after 1 s.
const IDLE_ROUND: Duration = Duration::from_millis(400);

/// Longest wait for a quorum round.
const ROUND_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest wait for an `Expire`. Its leases stay held back if it is not known by then.
const EXPIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// `Expire` entries of one pass: 64 of 256 leases, then lease time is looked at again.
const ENTRIES_PER_PASS: usize = 64;

/// Ticks for as long as the node lives.
pub async fn run(leases: Leases, agreement: Arc<dyn Agreement>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = None;
    loop {
        let due = tokio::select! {
            due = ticks.tick() => due,
            () = async { if let Some(pass) = &mut under_way { pass.await } }, if under_way.is_some() => {
                under_way = None;
                continue;
            }
        };
        let now = Instant::now();
        leases.ticked(due, now);
        let Some(leadership) = agreement.leadership() else {
            leases.depose();
            under_way = None;
            continue;
        };
        let ticked = leases.tick(leadership, now);
        if under_way.is_some() {
            continue;
        }
        let idle = ticked.is_none_or(|ticked| now.duration_since(ticked.quorum_at) >= IDLE_ROUND);
        if idle || ticked.is_some_and(|ticked| ticked.overdue) {
            under_way = Some(Box::pin(pass(leases.clone(), agreement.clone(), leadership)));
        }
    }
}

/// A quorum round; then, if this reign has no table yet, its table, else the end of overdue leases.
///
/// The round gives renewals that have been received but not decoded the time to be: a lease renewed
/// meanwhile is not taken. So the pass drains them first, as P/L4 wants.
async fn pass(leases: Leases, agreement: Arc<dyn Agreement>, leadership: Leadership) {
    let began = Instant::now();
    match agreement.confirm(began + ROUND_TIMEOUT).await {
        Ok(confirmed) if confirmed.leadership == leadership => {}
        Ok(_) => return,
        Err(error) => {
            debug!(%leadership, %error, "no quorum round: lease time will stand still");
            return;
        }
    }
    if leases.leadership() == Some(leadership) {
        leases.quorum_seen(leadership, began);
        expire_overdue(&leases, agreement.as_ref(), leadership).await;
    } else {
        leases.establish(leadership, began, || agreement.published()).await;
        info!(%leadership, "every lease has its full time to live from now on");
    }
}

async fn expire_overdue(leases: &Leases, agreement: &dyn Agreement, leadership: Leadership) {
    for _ in 0..ENTRIES_PER_PASS {
        let state = &agreement.published().state;
        let instances = |id| {
            let instances = state.lease(id).map_or(0, |lease| lease.instances);
            usize::try_from(instances).unwrap_or(usize::MAX)
        };
        let overdue = leases.take_overdue(leadership, instances);
        if overdue.is_empty() {
            return;
        }
        let began = Instant::now();
        let result = agreement.expire(leadership, &overdue, began + EXPIRE_TIMEOUT).await;
        let outcome = match &result {
            Ok(expired) => {
                leases.quorum_seen(leadership, began);
                leases.metrics().expired(expired.leases.into(), expired.instances.into());
                overdue.iter().for_each(|lease| leases.metrics().expiry_lateness(lease.late));
                info!(leases = expired.leases, instances = expired.instances, "leases ran out");
                Outcome::Certain
            }
            // Surely not in the log (P/R4).
            Err(ProposeError::NotLeader { .. } | ProposeError::NoQuorum | ProposeError::Overloaded) => {
                Outcome::Certain
            }
            Err(ProposeError::OutcomeUnknown | ProposeError::Stopped) => Outcome::Unknown,
        };
        leases.settle(leadership, &overdue, outcome);
        if let Err(error) = result {
            debug!(%leadership, %error, leases = overdue.len(), "leases could not be ended now");
            return;
        }
    }
}
