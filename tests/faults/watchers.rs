//! Watchers that resume wherever they are, and record everything that they are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use registry_proto::v1::{self, WatchKind};
use registry_tests::api::{Api, duration};
use registry_tests::check::{OpenWatch, Recorder};
use registry_tests::wait;
use tokio::task::JoinSet;
use tonic::Streaming;

/// Time between bookmarks.
const BOOKMARKS: Duration = Duration::from_secs(1);
/// After so long without a word another node is tried.
const SILENCE: Duration = Duration::from_secs(3);
/// A stream is left after this time at the latest, so that resuming is a habit.
const LIFE: Duration = Duration::from_secs(8);

/// Watchers at work.
pub struct Watchers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Watchers {
    /// Starts two watchers of everything, one of a namespace, and one of each of these services. Returns when
    /// each has seen the beginning.
    pub async fn start(recorder: &Recorder, nodes: &[(String, Api)], services: &[&str], seed: u64) -> Self {
        let everything = v1::WatchRequest { all_namespaces: true, ..Default::default() };
        let mut requests = vec![everything.clone(), everything, v1::WatchRequest::default()];
        requests.extend(services.iter().map(|service| v1::WatchRequest {
            service_name: (*service).to_owned(),
            omit_previous: true,
            ..Default::default()
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let begun = Arc::new(AtomicUsize::new(0));
        let count = requests.len();
        let mut tasks = JoinSet::new();
        for (number, request) in requests.into_iter().enumerate() {
            let bookmark_interval = Some(duration(BOOKMARKS));
            let watcher = Watcher {
                name: format!("watcher-{number}"),
                recorder: recorder.clone(),
                nodes: nodes.to_vec(),
                request: v1::WatchRequest { bookmark_interval, ..request },
                dice: StdRng::seed_from_u64(seed.wrapping_add(number as u64)),
                stop: stop.clone(),
                begun: begun.clone(),
            };
            tasks.spawn(watcher.run());
        }
        wait::until_true("all watches to begin", wait::PATIENCE, || async {
            begun.load(Ordering::Relaxed) == count
        })
        .await;
        Self { stop, tasks }
    }

    /// Ends them.
    pub async fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no watcher panics");
        }
    }
}

struct Watcher {
    name: String,
    recorder: Recorder,
    nodes: Vec<(String, Api)>,
    /// What to ask next time: with the position reached, once there is one.
    request: v1::WatchRequest,
    dice: StdRng,
    stop: Arc<AtomicBool>,
    /// Watchers that have seen the beginning.
    begun: Arc<AtomicUsize>,
}

impl Watcher {
    async fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            let at = self.dice.random_range(0..self.nodes.len());
            let (node, api) = self.nodes[at].clone();
            let open = self.recorder.open_watch(&self.name, &node, self.request.clone());
            if let Ok(Ok(stream)) = tokio::time::timeout(SILENCE, api.watch(self.request.clone())).await {
                self.read(stream, open).await;
            }
            self.recorder.closed(open);
            // A node that is down refuses at once.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn read(&mut self, mut stream: Streaming<v1::WatchResponse>, open: OpenWatch) {
        let left = tokio::time::Instant::now() + self.dice.random_range(LIFE / 8..LIFE);
        while !self.stop.load(Ordering::Relaxed) && tokio::time::Instant::now() < left {
            let Ok(Ok(Some(message))) = tokio::time::timeout(SILENCE, stream.message()).await else { return };
            self.recorder.told(open, message.clone());
            let epoch = message.header.as_ref().map(|header| header.epoch);
            let known = self.request.resume.as_ref().map(|position| position.epoch);
            // Resumed from: everything up to it has been told. A view in parts is begun anew.
            if let Some(epoch) = epoch.or(known)
                && (message.revision > 0 || message.kind() == WatchKind::Synced)
            {
                if self.request.resume.is_none() {
                    self.begun.fetch_add(1, Ordering::Relaxed);
                }
                self.request.resume = Some(v1::Position { epoch, revision: message.revision });
            }
        }
    }
}
