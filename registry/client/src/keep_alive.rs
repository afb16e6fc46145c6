//! Keeps all leases of a client alive over one stream, which moves to another node when it ends.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use registry_proto::v1::{KeepAliveRequest, KeepAliveResponse};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::backoff::{Backoff, jittered};
use crate::call::Core;
use crate::error::Error;
use crate::lease_table::{LeaseState, LeaseTable};
use crate::metrics::add;
use crate::options::CallOptions;

/// Time to find a node and open a stream before the search begins anew.
const OPEN_WITHIN: Duration = Duration::from_secs(2);
/// Waits after a stream that ended without a single renewal.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Shortest wait before leases are sent again that a node could not renew for a common reason.
const REFUSED_WAIT: Duration = Duration::from_millis(50);
/// Time after which the next look is taken although nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// Owns the table of leases and the task that renews them.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    core: Weak<Core>,
    task: Mutex<Option<AbortHandle>>,
}

struct Shared {
    table: Mutex<LeaseTable>,
    changed: Notify,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, LeaseTable> {
        // The table's methods do not panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lease that is kept alive as long as this is held.
pub(crate) struct HeldLease {
    shared: Arc<Shared>,
    lease: u64,
    pub(crate) state: watch::Receiver<LeaseState>,
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.shared.table().remove(self.lease);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Keeper {
    pub(crate) fn new(core: Weak<Core>) -> Self {
        let shared = Arc::new(Shared { table: Mutex::default(), changed: Notify::new() });
        Self { shared, core, task: Mutex::default() }
    }

    /// Keeps a lease alive that was granted by a request sent at `sent_at`.
    pub(crate) fn hold(&self, lease: u64, ttl: Duration, sent_at: Instant) -> HeldLease {
        let state = self.shared.table().add(lease, ttl, sent_at);
        self.shared.changed.notify_one();
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        // The first lease starts the task; clients that hold none have none.
        task.get_or_insert_with(|| {
            tokio::spawn(keep_alive(self.core.clone(), self.shared.clone())).abort_handle()
        });
        HeldLease { shared: self.shared.clone(), lease, state }
    }
}

/// Why a stream is left.
struct Left {
    endpoint: String,
    renewed: bool,
    /// Nothing is wrong with the node.
    idle: bool,
}

async fn keep_alive(core: Weak<Core>, shared: Arc<Shared>) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut avoid: Vec<String> = Vec::new();
    loop {
        wait_until_due(&shared).await;
        let Some(strong) = core.upgrade() else { return };
        let opened = open(&strong, &shared, &avoid).await;
        drop(strong);
        match opened {
            Ok(stream) => {
                let Some(left) = stream.run(&core, &shared).await else { return };
                shared.table().put_back_all(Instant::now());
                avoid.clear();
                if left.renewed {
                    backoff.reset();
                }
                if !left.idle {
                    tracing::debug!(endpoint = left.endpoint, "keep-alive stream ended; going on elsewhere");
                    avoid.push(left.endpoint);
                }
                if !left.renewed {
                    sleep(backoff.next()).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "no node takes renewals");
                shared.table().put_back_all(Instant::now());
                avoid = error.endpoint().map(str::to_owned).into_iter().collect();
                sleep(backoff.next()).await;
            }
        }
    }
}

async fn wait_until_due(shared: &Shared) {
    loop {
        let next = shared.table().next_event();
        let now = Instant::now();
        if next.is_some_and(|next| next <= now) {
            return;
        }
        tokio::select! {
            () = sleep_until(next.unwrap_or(now + IDLE)) => {}
            () = shared.changed.notified() => {}
        }
    }
}

struct Stream {
    endpoint: String,
    requests: mpsc::Sender<KeepAliveRequest>,
    answers: Streaming<KeepAliveResponse>,
}

/// Opens a stream whose first message is what is due now: a node may not answer before it has one.
async fn open(core: &Arc<Core>, shared: &Shared, avoid: &[String]) -> Result<Stream, Error> {
    // As many as the table lets go unanswered.
    let (requests, receiver) = mpsc::channel(16);
    send_due(shared, &requests);
    let options = CallOptions::new().deadline(OPEN_WITHIN).attempt_timeout(OPEN_WITHIN);
    let (answers, endpoint) = core.open_keep_alive(&options, ReceiverStream::new(receiver), avoid).await?;
    Ok(Stream { endpoint, requests, answers })
}

/// Sends what is due. False if the stream takes no more.
fn send_due(shared: &Shared, requests: &mpsc::Sender<KeepAliveRequest>) -> bool {
    loop {
        let Ok(permit) = requests.try_reserve() else { return !requests.is_closed() };
        let Some((sequence, lease_ids)) = shared.table().take_due(Instant::now()) else { return true };
        permit.send(KeepAliveRequest { sequence, lease_ids });
    }
}

impl Stream {
    /// Renews until the stream ends or another node would do better. `None` when the client is gone.
    async fn run(mut self, core: &Weak<Core>, shared: &Shared) -> Option<Left> {
        let mut renewed = false;
        loop {
            let (next, empty) = {
                let table = shared.table();
                (table.next_event(), table.is_empty())
            };
            if empty {
                return Some(Left { endpoint: self.endpoint, renewed: true, idle: true });
            }
            tokio::select! {
                answer = self.answers.message() => {
                    let core = core.upgrade()?;
                    match answer {
                        Ok(Some(answer)) => {
                            if !self.take(&core, shared, &answer) {
                                return Some(self.left(renewed));
                            }
                            renewed = true;
                        }
                        Ok(None) => return Some(self.left(renewed)),
                        Err(status) => {
                            tracing::debug!(endpoint = self.endpoint, %status, "keep-alive stream failed");
                            return Some(self.left(renewed));
                        }
                    }
                }
                () = sleep_until(next.unwrap_or_else(|| Instant::now() + IDLE)) => {}
                () = shared.changed.notified() => {}
            }
            let overdue = shared.table().answer_by().is_some_and(|by| by <= Instant::now());
            if overdue {
                core.upgrade()?.pool.penalize(&self.endpoint);
                return Some(self.left(renewed));
            }
            if !send_due(shared, &self.requests) {
                return Some(self.left(renewed));
            }
        }
    }

    fn left(self, renewed: bool) -> Left {
        Left { endpoint: self.endpoint, renewed, idle: false }
    }

    /// Takes an answer. False if this node cannot renew at present.
    fn take(&self, core: &Core, shared: &Shared, answer: &KeepAliveResponse) -> bool {
        if let Some(header) = &answer.header
            && !core.pool.observe(&self.endpoint, header)
        {
            return false;
        }
        if answer.error != 0 {
            let asked = answer.retry_after.and_then(|wait| wait.try_into().ok()).unwrap_or(REFUSED_WAIT);
            let again = Instant::now() + jittered(asked.clamp(REFUSED_WAIT, LONGEST_WAIT) * 2);
            shared.table().put_back(answer.sequence, again);
            tracing::debug!(endpoint = self.endpoint, reason = ?answer.error(), "renewals refused");
            return false;
        }
        let failed: BTreeSet<u64> = answer.failures.iter().map(|failure| failure.lease_id).collect();
        let lost = failed.len();
        let renewed = shared.table().answered(answer.sequence, &failed);
        add(&core.metrics.renewals, renewed);
        add(&core.metrics.leases_lost, lost);
        core.hooks.leases_renewed(renewed);
        true
    }
}
