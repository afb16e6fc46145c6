//! What one watch sees of the hub.

use std::sync::Arc;

use futures::future::AbortHandle;
use tokio::sync::watch;

use super::hub::{Hub, Mailbox};
use super::queue::{Batch, Mode};
use crate::raft::Published;
use crate::server::convert::Scope;

/// The place of one watch in the hub; dropping it ends the watch.
#[derive(Debug)]
pub struct Subscription {
    hub: Hub,
    closing: watch::Receiver<bool>,
    scope: Scope,
    id: u64,
    mailbox: Arc<Mailbox>,
}

impl Subscription {
    pub(super) fn new(hub: Hub, scope: Scope, id: u64, mailbox: Arc<Mailbox>) -> Self {
        Self { closing: hub.closing(), hub, scope, id, mailbox }
    }

    /// What the watch covers.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// True if events are to have the previous value.
    pub fn with_previous(&self) -> bool {
        self.mailbox.with_previous
    }

    /// Where the watch stands.
    pub fn mode(&self) -> Mode {
        self.mailbox.state().queue.mode()
    }

    /// Enters a mode; see [`Queue::enter`](super::queue::Queue::enter).
    pub fn enter(&self, mode: Mode) {
        self.hub.update(&self.mailbox, |state| state.queue.enter(mode));
    }

    /// Goes from joining to live; false if the watch was reset or cut meanwhile.
    pub fn go_live(&self) -> bool {
        self.hub.update(&self.mailbox, |state| {
            let joining = state.queue.mode() == Mode::Joining;
            if joining {
                state.queue.enter(Mode::Live);
            }
            joining
        })
    }

    /// Its reader knows nothing yet, and every state that will be loaded for it has what is published by
    /// now: nothing up to there is owed to it (P/V7). Call it before a state is loaded.
    pub fn begins_anew(&self) {
        self.mark_sent(self.hub.published());
    }

    /// Everything up to `revision` has been handed over.
    pub fn mark_sent(&self, revision: u64) {
        self.mailbox.state().queue.mark_sent(revision);
        self.hub.wake_awaiting();
    }

    /// Takes what fits into one message, of revisions above `after`.
    pub fn take(&self, after: u64) -> Option<Batch> {
        let batch = self.hub.update(&self.mailbox, |state| state.queue.take(after))?;
        if let Some(at) = batch.published_at {
            self.hub.metrics().watch_lag(at.elapsed());
        }
        self.hub.wake_awaiting();
        Some(batch)
    }

    /// Keeps a state for a snapshot, until [`Subscription::unpin`] or until it is taken away.
    pub fn pin(&self, published: Arc<Published>) {
        self.mailbox.state().pinned = Some(published);
    }

    /// The state kept; `None` if it was taken away, and the watch cut.
    pub fn pinned(&self) -> Option<Arc<Published>> {
        self.mailbox.state().pinned.clone()
    }

    /// Lets go of the state.
    pub fn unpin(&self) {
        self.mailbox.state().pinned = None;
    }

    /// What to abort when the reader stands still for too long after it was cut: the task of its stream.
    pub fn reset_with(&self, reset: AbortHandle) {
        self.mailbox.state().reset = Some(reset);
    }

    /// True once the node closes its watches.
    pub fn closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Waits until there may be something to do: a revision, another mode, the end of the node.
    pub async fn changed(&mut self) {
        tokio::select! {
            () = self.mailbox.wake.notified() => {}
            // The sender lives in the hub, which this keeps alive.
            _ = self.closing.wait_for(|closing| *closing) => {}
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(&self.scope, self.id);
        self.hub.update(&self.mailbox, |state| state.queue.enter(Mode::CatchingUp));
        self.mailbox.state().pinned = None;
        self.hub.wake_awaiting();
    }
}
