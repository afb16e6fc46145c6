//! Owners of instances that renew as the client library does, each in its own phase, until they die.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use registry_proto::v1;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;

use crate::api::{Api, leased};

/// Registrations under way at once.
const AT_ONCE: usize = 16;

/// Owners of one instance each.
#[derive(Debug)]
pub struct Owners {
    /// Lease and port of each, in the order of renewal.
    pub leases: Vec<(u64, u32)>,
    heard: Arc<Mutex<HashMap<u32, Instant>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Owners {
    /// Registers an instance for each port and keeps them alive: one renewal per third of the time to live
    /// each, spread evenly, over one stream per node.
    pub async fn start(apis: &[Api], service: &str, ports: std::ops::Range<u32>, ttl: Duration) -> Self {
        let heard = Arc::new(Mutex::new(HashMap::new()));
        let mut calls = JoinSet::new();
        let mut leases = Vec::new();
        for (port, api) in ports.zip(apis.iter().cycle()) {
            let request = leased(service, "127.0.0.1", port, ttl);
            let (api, heard) = (api.clone(), heard.clone());
            calls.spawn(async move {
                let sent = Instant::now();
                let answer = api.register(request).await.expect("registered");
                heard.lock().expect("no panic inside").insert(port, sent);
                (answer.lease_id, port)
            });
            if calls.len() >= AT_ONCE {
                leases.push(calls.join_next().await.expect("one is open").expect("no panic"));
            }
        }
        leases.extend(calls.join_all().await);
        let mut owners = Self { leases, heard, tasks: Vec::new() };
        owners.renew(apis, ttl);
        owners
    }

    fn renew(&mut self, apis: &[Api], ttl: Duration) {
        for (part, api) in apis.iter().enumerate() {
            let mine: Vec<(u64, u32)> = self.leases.iter().copied().skip(part).step_by(apis.len()).collect();
            if mine.is_empty() {
                continue;
            }
            let pause = ttl / 3 / u32::try_from(mine.len()).expect("few");
            let (api, heard) = (api.clone(), self.heard.clone());
            self.tasks.push(tokio::spawn(keep(api, mine, pause, heard)));
        }
    }

    /// All die at once. Returns when each was heard last, by port: when its last renewal was sent.
    pub fn die(self) -> HashMap<u32, Instant> {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.heard.lock().expect("no panic inside").clone()
    }
}

impl Drop for Owners {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn keep(api: Api, leases: Vec<(u64, u32)>, pause: Duration, heard: Arc<Mutex<HashMap<u32, Instant>>>) {
    let (send, requests) = mpsc::channel(64);
    let mut client = api.registry.clone();
    let mut answers = client.keep_alive(ReceiverStream::new(requests)).await.expect("a stream").into_inner();
    let send_all = async {
        for (sequence, (lease, port)) in leases.iter().cycle().enumerate() {
            heard.lock().expect("no panic inside").insert(*port, Instant::now());
            let request = v1::KeepAliveRequest { sequence: sequence as u64, lease_ids: vec![*lease] };
            if send.send(request).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    };
    let read_all = async { while let Ok(Some(_)) = answers.message().await {} };
    // Both end with the node.
    tokio::join!(send_all, read_all);
}
