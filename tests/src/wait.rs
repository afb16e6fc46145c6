//! Waiting for a condition with a deadline.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// Long enough for anything that happens at all on a busy machine; running into it is a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `probe` gives `Ok`, and panics with its last error when `limit` is over.
pub async fn until<T, E: Debug, F: Future<Output = Result<T, E>>>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(error) if Instant::now() > deadline => {
                panic!("waited {limit:?} for {what}; at the end: {error:?}")
            }
            Err(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
}

/// Waits until `probe` is true, and panics when `limit` is over.
pub async fn until_true<F: Future<Output = bool>>(what: &str, limit: Duration, mut probe: impl FnMut() -> F) {
    until(what, limit, || {
        let holds = probe();
        async move { if holds.await { Ok(()) } else { Err("it does not hold") } }
    })
    .await;
}
