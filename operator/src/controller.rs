//! From changes to reconciles: one controller per scope, and what becomes of each outcome.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kube::ResourceExt as _;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config, Error as ControllerError};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::context::Context;
use crate::error::{Error, Weight};
use crate::reconcile;
use crate::stores::{Guarded, Watches};

/// Clusters that are worked on at the same time: each waits for its members most of the time.
const CONCURRENCY: u16 = 8;

/// Changes that come closer together cause one reconcile: a pod writes its status several times in a row.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Longest time for the first lists of all watches.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time for one reconcile. Each request and call in it has a bound of its own; together they are less
/// (founding takes 30 s at most, a change that a new leader is asked for again 40 s, and each of eight objects
/// waits 5 s for its watch), unless the API server answers ever so slowly. What is cut off is begun anew by the
/// next look, as after the end of the process.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(120);

/// First and longest wait after failures of one cluster in a row.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Runs until `stop`; reconciles under way end first.
pub async fn run(watches: Watches, context: Arc<Context>, stop: CancellationToken) {
    let (store, clusters) = watches.clusters;
    Controller::for_stream(clusters, store)
        .reconcile_on(watches.touched)
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconcile, retry, context)
        .for_each(|outcome| async { log(outcome) })
        .await;
}

async fn reconcile(cluster: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let span = tracing::info_span!(
        "reconcile",
        namespace = cluster.namespace().unwrap_or_default(),
        cluster = cluster.name_any()
    );
    let begun = Instant::now();
    let outcome = async {
        if !context.stores.synced(SYNC_TIMEOUT).await {
            return Err(Error::NotSynced);
        }
        reconcile::reconcile(&cluster, &context).await
    };
    let outcome = bounded(Box::pin(outcome)).instrument(span).await;
    context.metrics.reconciled(begun.elapsed(), outcome.as_ref().err().map(Error::reason));
    if outcome.is_ok() {
        context.memory.of(&*cluster).forget_failures();
    }
    outcome
}

async fn bounded<T>(outcome: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(RECONCILE_TIMEOUT, outcome).await.unwrap_or(Err(Error::Late(RECONCILE_TIMEOUT)))
}

/// When a cluster is tried again that failed: sooner or later by how often it did in a row.
fn retry(cluster: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    let failures = context.memory.of(&*cluster).count_failure();
    match error.weight() {
        Weight::Passing => Action::requeue(RETRY.0),
        Weight::Away | Weight::Wrong => Action::requeue(delay(failures)),
    }
}

fn delay(failures: u32) -> Duration {
    RETRY.0.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(RETRY.1)
}

/// Every outcome is looked at: an error that nobody logs has never happened.
fn log<T>(outcome: Result<T, ControllerError<Error, kube::runtime::watcher::Error>>) {
    match outcome {
        Ok(_) => {}
        // A pod of a cluster that was deleted, or a label that names none.
        Err(ControllerError::ObjectNotFound(cluster)) => {
            tracing::debug!(%cluster, "there is no such cluster")
        }
        Err(ControllerError::ReconcilerFailed(error, cluster)) => match error.weight() {
            Weight::Passing => tracing::info!(%cluster, reason = error.reason(), %error, "looking again"),
            Weight::Away => tracing::warn!(%cluster, reason = error.reason(), %error, "trying again"),
            Weight::Wrong => tracing::error!(%cluster, reason = error.reason(), %error, "cannot go on"),
        },
        Err(error) => tracing::error!(%error, "the controller failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reconcile_that_comes_to_no_end_is_cut_off_and_tried_again() {
        let error = bounded(std::future::pending::<Result<(), Error>>()).await.unwrap_err();
        assert_eq!((error.reason(), error.weight()), ("late", Weight::Away));
        assert_eq!(error.to_string(), "not done within 120 s");
    }

    #[test]
    fn failures_in_a_row_wait_longer_up_to_a_bound() {
        let seconds: Vec<u64> = [1, 2, 3, 4, 5, 6, 99].map(|failures| delay(failures).as_secs()).to_vec();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
    }
}
