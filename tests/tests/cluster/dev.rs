//! `registry dev`: three nodes by one command, to play with failure; and the errors of a start by hand.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use registry_tests::binaries::binaries;
use registry_tests::cluster::{Cluster, Options};
use registry_tests::turn::{Share, Turn};
use registry_tests::wait;
use rustix::process::{Pid, Signal, kill_process};

/// A folder and an address of its own for one `dev` cluster; ends what it left behind.
struct Dev {
    folder: tempfile::TempDir,
    host: String,
    _turn: Turn,
}

impl Dev {
    async fn new(last: u8) -> Self {
        tokio::task::spawn_blocking(binaries).await.unwrap();
        let turn = Turn::take(Share::Half).await;
        let [.., low] = std::process::id().to_be_bytes();
        Self { folder: tempfile::tempdir().unwrap(), host: format!("127.251.{low}.{last}"), _turn: turn }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&binaries().registry);
        command
            .arg("dev")
            .args(arguments)
            .arg("--dir")
            .arg(self.folder.path().join("dev"))
            .stdin(Stdio::null());
        command
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
    }

    async fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&binaries().registry);
        let endpoints: Vec<String> = (8080..8083).map(|port| format!("{}:{port}", self.host)).collect();
        command.arg("ctl").env("REGISTRY_ENDPOINTS", endpoints.join(",")).args(arguments);
        command.env_remove("REGISTRY_ADMIN_TOKEN_FILE");
        command.output().unwrap()
    }

    fn log(&self, node: usize) -> std::path::PathBuf {
        self.folder.path().join(format!("dev/logs/registry_node_{node}.log"))
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.command(&["down"]).output();
    }
}

fn error_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_are_started_killed_started_and_ended_by_commands() {
    let dev = Dev::new(1).await;
    let text = dev.succeed(&["up", "--detach", "--host", &dev.host]).await;
    for part in ["registry-node-1", "registry-node-2", "registry-node-3", "leader", "ready"] {
        assert!(text.contains(part), "{part} in: {text}");
    }
    // What it prints works as printed.
    assert!(
        text.lines().filter(|line| line.trim_start().contains(" ctl ") || line.contains(" dev ")).count()
            >= 3
    );
    let registered = dev.ctl(&["register", "orders", "--host", "127.0.0.1", "--port", "7001", "--ttl", "0"]);
    assert!(registered.status.success(), "{}", error_line(&registered));
    for file in ["cluster.json", "admin.token", "dev.json"] {
        assert!(dev.folder.path().join("dev").join(file).exists(), "{file}");
    }
    assert!((1..=3).all(|node| dev.log(node).exists()));
    let token = dev.folder.path().join("dev/admin.token");
    assert!(text.contains(&format!("REGISTRY_ADMIN_TOKEN_FILE={}", token.display())), "{text}");
    let list = dev.ctl(&["member", "list", "-o", "name", "--admin-token-file", token.to_str().unwrap()]);
    assert_eq!(String::from_utf8_lossy(&list.stdout).lines().count(), 3, "{}", error_line(&list));
    let stranger = dev.ctl(&["member", "list"]);
    assert_eq!(stranger.status.code(), Some(5), "{}", error_line(&stranger));

    dev.succeed(&["kill", "2"]).await;
    assert!(dev.succeed(&["status"]).await.contains("not running"));
    dev.succeed(&["start", "2"]).await;
    wait::until("all to be ready", wait::PATIENCE, || async {
        let text = dev.succeed(&["status"]).await;
        if text.matches(" ready").count() == 3 { Ok(()) } else { Err(text) }
    })
    .await;

    // A second `up` while it runs is refused; after `down` it goes on with the data.
    let twice = dev.run(&["up", "--detach", "--host", &dev.host]).await;
    assert!(!twice.status.success() && error_line(&twice).lines().count() <= 2, "{}", error_line(&twice));
    dev.succeed(&["down"]).await;
    dev.succeed(&["up", "--detach", "--host", &dev.host]).await;
    let found = dev.ctl(&["discover", "orders", "-o", "name"]);
    assert!(String::from_utf8_lossy(&found.stdout).contains("127.0.0.1:7001"), "{found:?}");
    dev.succeed(&["down"]).await;
    dev.succeed(&["up", "--detach", "--fresh", "--host", &dev.host]).await;
    let found = dev.ctl(&["discover", "orders", "-o", "name"]);
    assert!(!String::from_utf8_lossy(&found.stdout).contains("127.0.0.1:7001"), "{found:?}");
    dev.succeed(&["down"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_all_nodes_also_those_started_later() {
    let dev = Dev::new(2).await;
    let mut up: Child = dev
        .command(&["up", "--host", &dev.host])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Until it has said how to stop it: a node that ends before that is a failed start.
    let output = BufReader::new(up.stdout.take().unwrap());
    let said = tokio::task::spawn_blocking(|| {
        output.lines().map_while(Result::ok).find(|line| line.contains("Stop:"))
    });
    assert!(said.await.unwrap().is_some(), "`dev up` says that the nodes are ready");
    dev.succeed(&["kill", "1"]).await;
    dev.succeed(&["start", "1"]).await;
    kill_process(Pid::from_raw(i32::try_from(up.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    wait::until("`dev up` to end", wait::PATIENCE, || {
        let ended = up.try_wait().unwrap();
        async move { ended.ok_or("it runs") }
    })
    .await;
    let text = String::from_utf8_lossy(&dev.run(&["status"]).await.stdout).into_owned();
    assert_eq!(text.matches("not running").count(), 3, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_work_is_explained_in_one_line() {
    let cluster = Cluster::start(Options { nodes: 1, ..Default::default() }).await;
    let start = |data: &Path| {
        let mut command = cluster.nodes[0].command();
        command.arg("--data-dir").arg(data).output().unwrap()
    };
    // The port is in use by the node that runs.
    let other = cluster.folder.path().join("other");
    let output = start(&other);
    let line = error_line(&output);
    assert!(!output.status.success() && line.lines().count() == 1, "{line}");
    assert!(line.contains("in use") && line.contains(&cluster.nodes[0].listen.to_string()), "{line}");

    // A folder that cannot be made.
    let output = start(Path::new("/dev/null/data"));
    let line = error_line(&output);
    assert!(
        !output.status.success() && line.lines().count() == 1 && line.contains("/dev/null/data"),
        "{line}"
    );

    // An unknown node.
    let output = Command::new(&binaries().registry)
        .args(["serve", "--node", "nobody", "--config"])
        .arg(&cluster.config)
        .output()
        .unwrap();
    let line = error_line(&output);
    assert_eq!(output.status.code(), Some(78), "{line}");
    assert!(line.contains("nobody") && line.contains("registry-node-1"), "{line}");
}
