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

/// Ends the stream that the present task serves; `None` outside of one. Ask in the future that makes the
/// answer: the call of the service itself still runs on the task of the connection.
pub fn this_stream() -> Option<AbortHandle> {
    STREAM.try_with(Clone::clone).ok()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::{BodyExt, Empty};
    use hyper::body::Frame;
    use hyper::server::conn::http2;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    /// A body that is never short of data.
    struct Endless(#[allow(dead_code, reason = "dropped with the stream")] Option<oneshot::Sender<()>>);

    impl hyper::body::Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 16 << 10])))))
        }
    }

    #[tokio::test]
    async fn ending_a_stream_whose_reader_stands_still_resets_it_and_leaves_the_connection_alone() {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (tell, told) = oneshot::channel();
        let (alive, ended) = oneshot::channel();
        let first = std::sync::Mutex::new(Some((tell, alive)));
        let service = hyper::service::service_fn(move |_| {
            let first = first.lock().unwrap().take();
            // Asked while the answer is made, which is on the task of the stream; the call itself is not.
            async move {
                let alive = first.map(|(tell, alive)| {
                    let _ = tell.send(this_stream());
                    alive
                });
                Ok::<_, Infallible>(http::Response::new(Endless(alive)))
            }
        });
        tokio::spawn(http2::Builder::new(AbortableExecutor).serve_connection(TokioIo::new(far), service));
        let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let (mut sender, connection) =
            builder.handshake::<_, Empty<Bytes>>(TokioIo::new(near)).await.unwrap();
        tokio::spawn(connection);
        let call = || http::Request::get("http://node/").body(Empty::new()).unwrap();

        let mut answer = sender.send_request(call()).await.unwrap();
        let stream = told.await.unwrap().expect("a stream knows its own end");
        stream.abort();
        let ended = timeout(Duration::from_secs(10), ended).await.expect("what it held is freed");
        assert!(ended.is_err());
        let mut read = async || while answer.frame().await.expect("no proper end").is_ok() {};
        timeout(Duration::from_secs(10), read()).await.expect("the stream is reset");
        let answer = sender.send_request(call()).await.expect("the connection lives");
        assert!(answer.status().is_success());
    }

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
