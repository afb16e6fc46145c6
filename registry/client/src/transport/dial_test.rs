//! Dials over loopback, with names that the test gives addresses.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::*;

/// Answers what the test says at the moment, and counts how often it is asked.
#[derive(Debug, Default)]
struct Names {
    addresses: Mutex<Vec<SocketAddr>>,
    asked: AtomicUsize,
    /// A lookup waits for it, if there is one.
    gate: Option<Notify>,
}

impl Names {
    fn set(&self, addresses: &[SocketAddr]) {
        *self.addresses.lock().unwrap() = addresses.to_vec();
    }
}

/// [`Names`] behind a reference that the test keeps.
#[derive(Debug, Clone)]
struct Known(Arc<Names>);

impl Resolve for Known {
    fn resolve(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let names = self.0.clone();
        Box::pin(async move {
            names.asked.fetch_add(1, Ordering::Relaxed);
            if let Some(gate) = &names.gate {
                gate.notified().await;
            }
            let addresses = names.addresses.lock().unwrap().clone();
            if addresses.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "no such name"));
            }
            Ok(addresses)
        })
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address at which nobody listens.
async fn refusing() -> SocketAddr {
    listener().await.1
}

#[tokio::test]
async fn every_dial_asks_for_the_addresses_anew() {
    let names = Arc::new(Names::default());
    let dial = TcpDial::new(Arc::new(Known(names.clone())));
    let error = dial.dial("pod:1").await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "a failure is told, and not kept");
    let (first, address) = listener().await;
    names.set(&[address]);
    let (_, accepted) = tokio::join!(dial.dial("pod:1"), first.accept());
    accepted.unwrap();
    let (second, address) = listener().await;
    names.set(&[address]);
    let (dialled, accepted) = tokio::join!(dial.dial("pod:1"), second.accept());
    dialled.unwrap();
    accepted.unwrap();
    assert_eq!(names.asked.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn all_addresses_of_a_name_are_tried() {
    let names = Arc::new(Names::default());
    let dial = TcpDial::new(Arc::new(Known(names.clone())));
    let (_good, address) = listener().await;
    // 192.0.2.0/24 is for documentation: nobody answers, if it can be reached at all.
    let silent = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9));
    for _ in 0..4 {
        names.set(&[refusing().await, silent, address]);
        let begun = Instant::now();
        dial.dial("pod:1").await.unwrap();
        assert!(begun.elapsed() < 4 * NEXT_ADDRESS_AFTER, "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn dials_that_give_up_leave_one_lookup_behind_whose_answer_the_next_one_gets() {
    let names = Arc::new(Names { gate: Some(Notify::new()), ..Names::default() });
    let dial = TcpDial::new(Arc::new(Known(names.clone())));
    let (_listener, address) = listener().await;
    names.set(&[address]);
    for _ in 0..20 {
        assert!(timeout(Duration::from_millis(5), dial.dial("pod:1")).await.is_err());
    }
    assert_eq!(names.asked.load(Ordering::Relaxed), 1, "a silent DNS costs one thread, not twenty");
    names.gate.as_ref().unwrap().notify_one();
    dial.dial("pod:1").await.unwrap();
    assert_eq!(names.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn names_do_not_wait_for_each_other() {
    let names = Arc::new(Names { gate: Some(Notify::new()), ..Names::default() });
    let dial = TcpDial::new(Arc::new(Known(names.clone())));
    for name in ["a:1", "b:1"] {
        assert!(timeout(Duration::from_millis(5), dial.dial(name)).await.is_err());
    }
    assert_eq!(names.asked.load(Ordering::Relaxed), 2);
}
