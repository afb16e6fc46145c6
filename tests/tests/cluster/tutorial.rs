//! The tour of `docs/tutorial.md` on real input: HTTP servers kept by `registryctl run`, found through
//! another node and reached at the addresses found; and a client made by another language's toolkit.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use registry_proto::v1::{self, Consistency};
use registry_tests::api::Api;
use registry_tests::binaries::binaries;
use registry_tests::cluster::{Cluster, Options};
use registry_tests::{python, timing, wait};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SERVICE: &str = "hello";

/// `registryctl run` around a web server on this port.
fn run_server(endpoints: &str, folder: &Path, port: u16, ttl: &str) -> Child {
    Command::new(&binaries().registryctl)
        .args(["--endpoints", endpoints, "run", "--service", SERVICE, "--host", "127.0.0.1", "--port"])
        .args([
            port.to_string().as_str(),
            "--ttl",
            ttl,
            "--",
            "python3",
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
        ])
        .arg(port.to_string())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("registryctl starts")
}

async fn up(api: &Api) -> BTreeSet<u16> {
    let Ok(answer) = api.discover_at(SERVICE, Consistency::Linearizable).await else {
        return BTreeSet::new();
    };
    answer
        .instances
        .iter()
        .filter(|instance| instance.state == v1::InstanceState::Up as i32)
        .map(|instance| u16::try_from(instance.port).expect("a port"))
        .collect()
}

async fn get(port: u16) -> String {
    let mut stream =
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("the server found accepts");
    stream.write_all(b"GET /greeting.txt HTTP/1.0\r\n\r\n").await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    answer
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("not 0");
    kill_process(pid, signal).expect("it runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_web_servers_are_found_reached_and_forgotten() {
    let cluster = Cluster::start(Options::default()).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("greeting.txt"), "hello from a registered server\n").unwrap();
    let ports: [u16; 3] = free_ports();
    let ttl = Duration::from_secs(3);
    let mut servers: Vec<Child> = ports
        .iter()
        .zip(cluster.endpoints())
        .map(|(port, endpoint)| run_server(&endpoint, folder.path(), *port, "3s"))
        .collect();
    let api = cluster.api(cluster.followers().await[0]);
    wait::until_true("three servers to be up", wait::PATIENCE, || async { up(&api).await == ports.into() })
        .await;
    for port in ports {
        assert!(get(port).await.ends_with("hello from a registered server\n"));
    }

    // SIGTERM under `run`: gone at once, long before the lease ends.
    let polite = Instant::now();
    signal(&servers[0], Signal::TERM);
    wait::until_true("the polite one to leave", wait::PATIENCE, || async {
        !up(&api).await.contains(&ports[0])
    })
    .await;
    timing::assert_within("leaving after SIGTERM", polite.elapsed(), Duration::from_secs(2));
    servers[0].wait().unwrap();

    // A dead child deregisters at once: kill the web server, not registryctl.
    let child = child_of(servers[1].id());
    let died = Instant::now();
    kill_process(Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
    wait::until_true("the dead one to leave", wait::PATIENCE, || async {
        !up(&api).await.contains(&ports[1])
    })
    .await;
    timing::assert_within("leaving after the child died", died.elapsed(), Duration::from_secs(2));
    assert!(!servers[1].wait().unwrap().success(), "the exit code of the child is passed on");

    // kill -9 of the owner: gone within its TTL and 2 s.
    let orphan = child_of(servers[2].id());
    let killed = Instant::now();
    servers[2].kill().unwrap();
    servers[2].wait().unwrap();
    wait::until_true("the killed one to expire", wait::PATIENCE, || async { up(&api).await.is_empty() })
        .await;
    let (took, lateness) = (killed.elapsed(), cluster.lateness().await);
    timing::assert_expired_within("expiry after kill -9", took, ttl + Duration::from_secs(2), lateness);
    kill_process(Pid::from_raw(orphan).unwrap(), Signal::KILL).unwrap();
}

/// The process that `parent` started.
fn child_of(parent: u32) -> i32 {
    let children =
        std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    if let Some(child) = children.split_whitespace().next() {
        return child.parse().expect("a pid");
    }
    // Started from another thread of it.
    std::fs::read_dir(format!("/proc/{parent}/task"))
        .expect("it runs")
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .find_map(|children| children.split_whitespace().next()?.parse().ok())
        .expect("it has a child")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_made_from_the_proto_files_does_the_whole_tour() {
    let Some(python) = tokio::task::spawn_blocking(python::python).await.unwrap() else { return };
    let cluster = Cluster::start(Options::default()).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let generated = tempfile::tempdir().unwrap();
    python::run(&python, |command| {
        let out = generated.path().display();
        command.current_dir(root).args(["-m", "grpc_tools.protoc", "-I", "proto"]);
        command.arg(format!("--python_out={out}")).arg(format!("--grpc_python_out={out}"));
        command.args(
            ["types", "registry", "discovery", "cluster"].map(|name| format!("registry/v1/{name}.proto")),
        );
    });
    let leader = cluster.nodes[cluster.leader().await].name.clone();
    for endpoint in cluster.endpoints() {
        let output = python::run(&python, |command| {
            command.current_dir(root).arg("docs/tutorial/client.py").arg(&endpoint);
            command.env("PYTHONPATH", generated.path());
        });
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                format!("status: 3 members, {leader} leads").as_str(),
                "registered: 127.0.0.1:5000",
                "heartbeat: 15 s left",
                "discovered: 127.0.0.1:5000",
                "watched: ADDED 127.0.0.1:5000",
                "watched: REMOVED 127.0.0.1:5000",
                "refused: INVALID_ARGUMENT",
            ],
            "at {endpoint}"
        );
    }
}
