//! Runs every stream of a connection as a task that can be ended from outside.
//!
//! An answer whose reader stands still is not asked for more: its code does not run, so it cannot end
//! itself. Ending its task resets the stream and frees all that it holds.

use std::future::Future;

use futures::future::{AbortHandle, Abortable};
use hyper::rt::Executor;

tokio::task_local! {
    static STREAM: AbortHandle;
}

/// Spawns the tasks of an HTTP/2 connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct AbortableExecutor;

impl<F> Executor<F> for AbortableExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let (handle, registration) = AbortHandle::new_pair();
        tokio::spawn(STREAM.scope(handle, async move {
            // Aborted or not, the stream is over.
            let _ = Abortable::new(stream, registration).await;
        }));
    }
}

/// Ends the stream that the present task serves; `None` outside of one.
pub fn this_stream() -> Option<AbortHandle> {
    STREAM.try_with(Clone::clone).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_stream_can_be_ended_while_nothing_asks_it_for_more() {
        let (tell, told) = oneshot::channel();
        let (alive, ended) = oneshot::channel::<()>();
        AbortableExecutor.execute(async move {
            let _ = tell.send(this_stream());
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        told.await.unwrap().expect("a stream knows its own end").abort();
        let ended = timeout(Duration::from_secs(10), ended).await.expect("the task ends");
        assert!(ended.is_err());
        assert!(this_stream().is_none());
    }
}
