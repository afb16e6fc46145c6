//! One look at one cluster, and at most one step: observe → plan → report → act.
//!
//! What will be done is reported before it is done, so that the status never lags behind what happens, and
//! the id of a cluster is recorded before anything is founded under it.

use kube::runtime::controller::Action;

use crate::context::Context;
use crate::error::Error;
use crate::plan::plan;
use crate::stores::Guarded;

mod act;
mod objects;
mod observe;
#[cfg(test)]
mod precondition_test;
mod report;
#[cfg(test)]
mod scenario_test;
mod subject;

use subject::Subject;

/// Looks at the cluster, does what is next, and says when to look again.
///
/// # Errors
/// Something could not be read or done. The next look begins anew.
pub(crate) async fn reconcile(guarded: &Guarded, context: &Context) -> Result<Action, Error> {
    let cluster = match &guarded.0 {
        Ok(cluster) => cluster,
        Err(invalid) => return Err(report::unreadable(guarded, invalid, context).await),
    };
    let subject = Subject::new(cluster, context)?;
    let view = observe::observe(&subject).await?;
    let plan = plan(&view.observed);
    Box::pin(report::report(&subject, &view, &plan)).await?;
    let Some(step) = &plan.step else { return Ok(Action::requeue(plan.requeue_after)) };
    tracing::info!(kind = step.kind(), "{step}");
    act::act(&subject, &view, step).await?;
    context.metrics.stepped(step.kind());
    context.crash.pass(step.kind());
    Ok(Action::requeue(plan.requeue_after))
}
