//! Whether the program accepts connections.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Time between two tries: short against any start, long against the cost of a refused connection.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// Longest time for one try. On one machine a connection is accepted or refused at once.
const ONE_TRY: Duration = Duration::from_secs(1);

/// True if a connection to `HOST:PORT` is accepted.
pub(super) async fn accepts(address: &str) -> bool {
    matches!(timeout(ONE_TRY, TcpStream::connect(address)).await, Ok(Ok(_)))
}

/// Returns once a connection to `HOST:PORT` is accepted, however long that takes.
pub(super) async fn accepting(address: &str) {
    while !accepts(address).await {
        sleep(BETWEEN_TRIES).await;
    }
}
