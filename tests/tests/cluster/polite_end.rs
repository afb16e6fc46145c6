//! A program that leaves in order is not missed: whoever balances over a cache sees no failed call.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use registry_client::{CacheEvent, Client, ServiceCache};
use registry_proto::v1::{EventKind, InstanceState};
use registry_tests::binaries::binaries;
use registry_tests::cluster::{Cluster, Options};
use registry_tests::{timing, wait};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const SERVICE: &str = "hello";

/// Callers at once: the moment between the end of the program and its deregistration would not be missed.
const CALLERS: usize = 8;

/// `registryctl run`, asked to end when the test ends: the server goes with it.
struct Running(Child);

impl Running {
    fn terminate(&self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).expect("a pid")).expect("not 0");
        let _ = kill_process(pid, Signal::TERM);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.terminate();
            let _ = self.0.wait();
        }
    }
}

/// A web server under `registryctl run`. It ends at once when it is signalled, in the middle of whatever
/// it answers.
fn run_server(endpoints: &[String], folder: &Path, port: u16) -> Running {
    let port = port.to_string();
    let child = Command::new(&binaries().registryctl)
        .args(["--endpoints", &endpoints.join(","), "run", "--service", SERVICE, "--port", &port, "--"])
        .args(["python3", "-m", "http.server", "--bind", "127.0.0.1", &port])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.join(format!("{port}.log"))).expect("the folder is ours"))
        .spawn()
        .expect("registryctl starts");
    Running(child)
}

/// What callers of the service saw.
#[derive(Default)]
struct Seen {
    answered: Vec<u32>,
    failed: Vec<String>,
}

/// Calls one instance after the other, as the cache balances.
async fn call(cache: ServiceCache, seen: Arc<Mutex<Seen>>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let Some(instance) = cache.pick() else {
            seen.lock().unwrap().failed.push("nobody is UP".to_owned());
            return;
        };
        let result = get(u16::try_from(instance.port).expect("a port")).await;
        match result {
            Ok(()) => seen.lock().unwrap().answered.push(instance.port),
            Err(error) => seen.lock().unwrap().failed.push(format!("port {}: {error}", instance.port)),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn get(port: u16) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    stream.write_all(b"GET /greeting.txt HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer.ends_with("hello\n") { Ok(()) } else { Err(std::io::Error::other("the answer is cut off")) }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

/// What the cache tells of a port: each state once, then `None` when it is removed.
async fn states_of(port: u32, cache: ServiceCache) -> Vec<Option<InstanceState>> {
    let mut states = Vec::new();
    let mut events = cache.events();
    while let Some(event) = events.next().await {
        let CacheEvent::Changes { changes, .. } = event else { continue };
        for event in &changes.events {
            let Some(instance) = event.instance.as_ref().filter(|one| one.port == port) else { continue };
            if event.kind() == EventKind::Removed {
                states.push(None);
                return states;
            }
            states.push(Some(instance.state()));
        }
    }
    states
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_under_run_is_stopped_and_no_call_over_a_cache_fails() {
    let cluster = Cluster::start(Options::default()).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("greeting.txt"), "hello\n").unwrap();
    let [leaving, staying] = [free_port(), free_port()];
    let mut left = run_server(&cluster.endpoints(), folder.path(), leaving);
    let _stays = run_server(&cluster.endpoints(), folder.path(), staying);

    let client = Client::connect(cluster.endpoints()).await.unwrap();
    let cache = client.cache(SERVICE);
    wait::until_true("both to be UP", wait::PATIENCE, || async { cache.view().up().count() == 2 }).await;
    let states = tokio::spawn(states_of(leaving.into(), cache.clone()));
    let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(call(cache.clone(), seen.clone(), stop.clone()));
    }
    let answers =
        |port: u16| seen.lock().unwrap().answered.iter().filter(|at| **at == u32::from(port)).count();
    wait::until_true("calls to both", wait::PATIENCE, || async {
        answers(leaving) > 100 && answers(staying) > 100
    })
    .await;

    let asked = Instant::now();
    left.terminate();
    let ended = wait::until("the polite end", wait::PATIENCE, || {
        let ended = left.0.try_wait().expect("it is ours");
        async move { ended.ok_or("it runs") }
    })
    .await;
    timing::assert_within("the end under run", asked.elapsed(), Duration::from_secs(3));
    let goal = answers(staying) + 100;
    wait::until_true("calls after it", wait::PATIENCE, || async { answers(staying) > goal }).await;
    stop.store(true, Ordering::Relaxed);
    callers.join_all().await;

    // The server writes a line of its own for each call.
    let log = std::fs::read_to_string(folder.path().join(format!("{leaving}.log"))).unwrap();
    let said: Vec<_> = log.lines().filter(|line| !line.contains(" - - [")).collect();
    let states = tokio::time::timeout(wait::PATIENCE, states).await.expect("in time").unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.failed, [""; 0], "of {} calls; run said {said:#?}", seen.answered.len());
    // The program knows no other end than by the signal.
    assert_eq!(ended.code(), Some(128 + 15), "{said:#?}");
    let name = format!("hello/127.0.0.1:{leaving}");
    assert_eq!(said[said.len() - 2..], [format!("draining {name}"), format!("deregistered {name}")]);
    assert_eq!(states, [Some(InstanceState::Draining), None], "drained, then deregistered");
    println!("{} calls, none failed", seen.answered.len());
}
