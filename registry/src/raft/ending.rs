//! What must have ended before the data folder can be given to somebody else.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::serve::InstallTurn;

/// Longest wait for each part: a snapshot that is being written is finished first.
const LIMIT: Duration = Duration::from_secs(10);

/// The users of the data folder beside Raft's own task: the thread of the log, the maker of snapshots, and
/// a snapshot that is being received.
pub(super) struct Ending {
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    task: Mutex<Option<JoinHandle<()>>>,
    ended: watch::Sender<bool>,
}

impl Ending {
    pub(super) fn new(thread: Option<thread::JoinHandle<()>>) -> Self {
        Self { thread: Mutex::new(thread), task: Mutex::default(), ended: watch::Sender::new(false) }
    }

    /// Runs the maker of snapshots.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(tokio::spawn(task));
    }

    /// Tells the maker of snapshots when it is time.
    pub(super) fn signal(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    /// Waits until all have ended. Raft and the log have been told to before.
    pub(super) async fn wait(&self, installing: &InstallTurn) {
        self.ended.send_replace(true);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && timeout(LIMIT, task).await.is_err()
        {
            tracing::warn!("a snapshot is still being made");
        }
        match timeout(LIMIT, Arc::clone(installing).lock_owned()).await {
            // Never given back: no other is received from now on.
            Ok(turn) => std::mem::forget(turn),
            Err(_) => tracing::warn!("a snapshot is still being received"),
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        let joined = tokio::task::spawn_blocking(move || thread.join().is_ok());
        if timeout(LIMIT, joined).await.is_err() {
            tracing::warn!("the log is still being written");
        }
    }
}
