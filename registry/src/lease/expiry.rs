//! What the leader does about leases by itself: it begins and ends its table of deadlines, keeps lease
//! time running, and ends leases that nobody renewed, unless the guard keeps them (P/L3, P/L4, P/L6).

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use registry_state::command::LeaseVersion;
use registry_state::{Expire, Operation, Reply};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info};

use super::agreement::Agreement;
use super::guard::Recent;
use super::guard::examine::Examiner;
use super::guard::tend;
use super::pass::{Duty, Pass};
use super::table::{Outcome, Overdue};
use super::{Leases, overrides};
use crate::raft::ProposeError;

/// How often lease time moves on. With the slots of the wheel (1 s), a round and a commit it stays within
/// the 2 s that a lease may be late (H2).
const TICK: Duration = Duration::from_millis(200);

/// An idle leader runs a quorum round if none succeeded for so long (P/L3): lease time stops after 1 s.
const IDLE_ROUND: Duration = Duration::from_millis(400);

/// Longest wait for a quorum round.
const ROUND_TIMEOUT: Duration = Duration::from_secs(1);

/// `Expire` entries of one pass: 64 of 256 leases, then lease time is looked at again.
const ENTRIES_PER_PASS: usize = 64;

/// Ticks for as long as the node lives.
pub async fn run(leases: Leases, agreement: Arc<dyn Agreement>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut duty: Option<Duty> = None;
    let mut under_way: Option<Pin<Box<dyn Future<Output = Duty> + Send>>> = None;
    loop {
        let under = async {
            match &mut under_way {
                Some(pass) => pass.await,
                None => pending().await,
            }
        };
        let due = tokio::select! {
            due = ticks.tick() => due,
            done = under => {
                (under_way, duty) = (None, Some(done));
                continue;
            }
        };
        let now = Instant::now();
        leases.ticked(due, now);
        let Some(leadership) = agreement.leadership() else {
            leases.depose();
            (under_way, duty) = (None, None);
            continue;
        };
        let ticked = leases.tick(leadership, now);
        if under_way.is_some() {
            continue;
        }
        let own = duty.take().filter(|duty| duty.leadership == leadership);
        let own = own.unwrap_or_else(|| Duty::new(leadership));
        let idle = ticked.is_none_or(|ticked| now.duration_since(ticked.quorum_at) >= IDLE_ROUND);
        let wanted = |ticked: super::Ticked| {
            ticked.overdue || own.is_due(&agreement.published().state, ticked.lease_now)
        };
        if idle || ticked.is_some_and(wanted) {
            let (leases, agreement) = (leases.clone(), agreement.clone());
            under_way = Some(Box::pin(run_pass(Pass { leases, agreement, leadership }, own)));
        } else {
            duty = Some(own);
        }
    }
}

/// A quorum round; then, if this reign has no table yet, its table, else what is due.
///
/// The round gives renewals that have been received but not decoded the time to be: a lease renewed
/// meanwhile is not taken. So the pass drains them first, as P/L4 wants.
async fn run_pass(pass: Pass, mut duty: Duty) -> Duty {
    let Pass { leases, agreement, leadership } = &pass;
    let began = Instant::now();
    match agreement.confirm(began + ROUND_TIMEOUT).await {
        Ok(confirmed) if confirmed.leadership == *leadership => {}
        Ok(_) => return duty,
        Err(error) => {
            debug!(%leadership, %error, "no quorum round: lease time will stand still");
            return duty;
        }
    }
    if leases.leadership() == Some(*leadership) {
        leases.quorum_seen(*leadership, began);
        tend::recover(&pass).await;
        expire_overdue(&pass, &mut duty.recent).await;
        tend::guards(&pass, &mut duty).await;
        overrides::tend(&pass, &mut duty.timers).await;
    } else {
        leases.establish(*leadership, began, || agreement.published()).await;
        info!(%leadership, "every lease has its full time to live from now on");
    }
    duty
}

async fn expire_overdue(pass: &Pass, recent: &mut Recent) {
    let Some(time) = pass.time() else { return };
    let mut examiner = Examiner::new(&pass.leases, pass.leadership, recent, time.now);
    for _ in 0..ENTRIES_PER_PASS {
        let published = pass.published();
        let state = &published.state;
        let overdue = pass.leases.take_overdue(pass.leadership, |id| Pass::instances(state, id));
        if overdue.is_empty() {
            return;
        }
        let mut sorted = examiner.sort(state, overdue).await;
        pass.leases.spare(pass.leadership, &sorted.spare);
        let expire = std::mem::take(&mut sorted.expire);
        if !expire.is_empty() {
            if !end(pass, &expire).await {
                return;
            }
            examiner.expired(state, &pass.published().state, &expire);
        }
        if !sorted.protect.is_empty() && !tend::protect(pass, sorted).await {
            return;
        }
    }
}

/// Ends leases. False if it could not be agreed on.
async fn end(pass: &Pass, leases: &[Overdue]) -> bool {
    let named = leases.iter().map(|lease| LeaseVersion {
        lease_id: lease.id,
        version: lease.version,
        silent_for_ms: 0,
    });
    let result = pass.propose(Operation::Expire(Expire { leases: named.collect() })).await;
    let metrics = pass.leases.metrics();
    let outcome = match &result {
        Ok(Reply::Expired { leases: ended, instances, .. }) => {
            metrics.expired((*ended).into(), (*instances).into());
            leases.iter().for_each(|lease| metrics.expiry_lateness(lease.late));
            info!(leases = ended, instances, "leases ran out");
            Outcome::Certain
        }
        // Surely not in the log (P/R4).
        Err(ProposeError::NotLeader { .. } | ProposeError::NoQuorum | ProposeError::Overloaded) | Ok(_) => {
            Outcome::Certain
        }
        Err(ProposeError::OutcomeUnknown | ProposeError::Stopped) => Outcome::Unknown,
    };
    pass.leases.settle(pass.leadership, leases, outcome);
    if let Err(error) = &result {
        debug!(leadership = %pass.leadership, %error, leases = leases.len(), "leases could not be ended now");
    }
    result.is_ok()
}
