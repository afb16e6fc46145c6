//! Load from the client library, remembering what was acknowledged.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use registry_client::Client;
use registry_proto::v1;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::api::registration;

/// Calls of one writer that may be open at once. Twice what a client sends at a time, so that its queue is
/// never empty; on a machine that carries less than the rate, the rate falls instead of the queue growing
/// until calls run out of time in it.
const MAX_OPEN: usize = 32;

/// Permanent registrations at a steady rate, or at that which the machine carries if it is lower.
#[derive(Debug)]
pub struct Writer {
    service: String,
    stop: Arc<AtomicBool>,
    record: Arc<Mutex<Record>>,
    task: JoinHandle<()>,
}

/// What a writer knows.
#[derive(Debug, Default, Clone)]
pub struct Record {
    /// Ports whose registration was acknowledged.
    pub acknowledged: BTreeSet<u32>,
    /// Calls that the library gave up, as text.
    pub failed: Vec<String>,
}

impl Writer {
    /// Writes up to `per_second` registrations, each in a task of its own so that a slow one delays no other.
    pub fn start(client: Client, service: &str, per_second: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let record = Arc::new(Mutex::new(Record::default()));
        let task = tokio::spawn(write(client, service.to_owned(), per_second, stop.clone(), record.clone()));
        Self { service: service.to_owned(), stop, record, task }
    }

    /// Number of writes acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.record.lock().expect("no panic inside").acknowledged.len()
    }

    /// Ends the load, waits for the calls that are open, and tells what happened.
    pub async fn finish(self) -> Record {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the writer does not panic");
        self.record.lock().expect("no panic inside").clone()
    }

    /// The service that it writes to.
    pub fn service(&self) -> &str {
        &self.service
    }
}

async fn write(
    client: Client,
    service: String,
    per_second: u32,
    stop: Arc<AtomicBool>,
    record: Arc<Mutex<Record>>,
) {
    let mut calls = tokio::task::JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
    // After a stall go on at the same rate instead of catching up in a burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        ticks.tick().await;
        if calls.len() >= MAX_OPEN {
            calls.join_next().await;
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (client, record) = (client.clone(), record.clone());
        let port = number % 65_535 + 1;
        let request = v1::ServiceRegisterRequest {
            instance_id: format!("write-{number}"),
            ttl: Some(prost_types::Duration::default()),
            ..registration(&service, "127.0.0.1", port)
        };
        calls.spawn(async move {
            let answer = client.register(request).await;
            let mut record = record.lock().expect("no panic inside");
            match answer {
                Ok(_) => {
                    record.acknowledged.insert(number);
                }
                Err(error) => record.failed.push(error.to_string()),
            }
        });
        while calls.try_join_next().is_some() {}
    }
    while calls.join_next().await.is_some() {}
}

/// The numbers that a [`Writer`] gave the instances of this answer.
pub fn written(instances: &[v1::Instance]) -> BTreeSet<u32> {
    let number = |instance: &v1::Instance| instance.instance_id.strip_prefix("write-")?.parse().ok();
    instances.iter().filter_map(number).collect()
}
