use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::environment::Environment;

#[derive(Default)]
struct Fake(AtomicBool);

impl Health for Fake {
    fn readiness(&self) -> Result<(), String> {
        if self.0.load(Ordering::SeqCst) { Ok(()) } else { Err("waiting for b".to_owned()) }
    }

    fn metrics(&self) -> String {
        "# EOF\n".to_owned()
    }
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn alive_is_not_ready_and_ready_says_why_not() {
    let listener = Environment::system().bind.bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_address().unwrap();
    let health = Arc::new(Fake::default());
    let server = tokio::spawn(serve(listener, health.clone()));

    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
    let unready = get(address, "/readyz").await;
    assert!(unready.starts_with("HTTP/1.1 503") && unready.ends_with("waiting for b\n"), "{unready}");
    health.0.store(true, Ordering::SeqCst);
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = get(address, "/metrics").await;
    assert!(metrics.contains("application/openmetrics-text") && metrics.ends_with("# EOF\n"), "{metrics}");
    assert!(get(address, "/other").await.starts_with("HTTP/1.1 404"));
    server.abort();
}
