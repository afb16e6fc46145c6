use std::sync::Mutex;

use super::*;

#[derive(Default)]
struct Fake {
    calls: Mutex<Vec<&'static str>>,
    /// Results of the transfers, last first.
    transfers: Mutex<Vec<bool>>,
    hangs: &'static str,
}

impl Fake {
    fn note(&self, call: &'static str) {
        self.calls.lock().unwrap().push(call);
    }

    async fn step(&self, call: &'static str) {
        self.note(call);
        if self.hangs == call {
            std::future::pending::<()>().await;
        }
    }
}

impl Parts for Fake {
    async fn say_stopping(&self) {
        self.step("stopping").await;
    }

    async fn transfer_leadership(&self, deadline: Instant) -> bool {
        self.note("transfer");
        if self.hangs == "transfer" {
            tokio::time::sleep_until(deadline).await;
            return false;
        }
        self.transfers.lock().unwrap().pop().unwrap_or(true)
    }

    async fn close_clients(&self, _: Duration) {
        self.step("close clients").await;
    }

    async fn say_goodbye(&self) {
        self.step("goodbye").await;
    }

    async fn stop_raft(&self) {
        self.step("stop raft").await;
    }

    async fn close_peers(&self) {
        self.step("close peers").await;
    }
}

const TIMES: ShutdownConfig =
    ShutdownConfig { linger: Duration::from_secs(1), drain: Duration::from_secs(10) };

const ORDER: [&str; 6] = ["stopping", "transfer", "close clients", "goodbye", "stop raft", "close peers"];

#[tokio::test(start_paused = true)]
async fn everything_stops_in_its_order() {
    let fake = Fake::default();
    let begun = Instant::now();
    stop(&fake, TIMES).await;
    assert_eq!(*fake.calls.lock().unwrap(), ORDER);
    assert_eq!(begun.elapsed().as_secs(), 1, "only the linger takes time");
}

#[tokio::test(start_paused = true)]
async fn a_transfer_is_tried_twice_and_no_more() {
    let fake = Fake { transfers: Mutex::new(vec![false, false, false]), ..Fake::default() };
    stop(&fake, TIMES).await;
    let calls = fake.calls.lock().unwrap();
    assert_eq!(calls.iter().filter(|call| **call == "transfer").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_step_that_hangs_keeps_the_others_from_happening() {
    for hangs in ORDER {
        let fake = Fake { hangs, ..Fake::default() };
        let begun = Instant::now();
        stop(&fake, TIMES).await;
        let mut calls = fake.calls.lock().unwrap().clone();
        calls.dedup();
        assert_eq!(calls, ORDER, "{hangs} hangs");
        assert!(begun.elapsed() < Duration::from_secs(20), "within the grace period of 30 s");
    }
}
