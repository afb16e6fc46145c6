//! `run`: the program, its registration, and who goes first.

use std::path::Path;
use std::process::Command;

use registry_proto::v1::ErrorReason;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::mock::{Manners, Mock};
use crate::program::{Ended, PATIENCE, Program, free_port};

/// A port for the program, and a folder where it leaves traces.
struct Scene {
    port: u16,
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        Self { port: free_port(), folder: TempDir::new().unwrap() }
    }

    /// The program: a shell script, with `$0` = the folder.
    fn run(&self, endpoint: &str, flags: &[&str], script: &str) -> Program {
        let port = self.port.to_string();
        let folder = self.folder.path().to_str().unwrap();
        let mut line = vec!["run", "--service", "orders", "--port", &port];
        line.extend(flags);
        line.extend(["--", "sh", "-c", script, folder]);
        Program::start(endpoint, &line)
    }

    fn trace(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Accepts connections in place of the program.
    async fn listen(&self) -> TcpListener {
        TcpListener::bind(("127.0.0.1", self.port)).await.unwrap()
    }

    fn register(&self) -> String {
        format!("register orders/127.0.0.1:{} STARTING", self.port)
    }
}

/// Waits for a file that the program writes.
async fn written(path: &Path) -> String {
    let read = async {
        loop {
            if let Ok(text) = std::fs::read_to_string(path)
                && text.ends_with('\n')
            {
                return text.trim().to_owned();
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .unwrap_or_else(|_| panic!("{} was not written", path.display()))
}

fn says(ended: &Ended, words: &str) -> bool {
    ended.err.contains(words)
}

/// Waits for SIGTERM, leaves a trace, exits with 3. The sleep goes with the group or in a minute.
const POLITE: &str =
    r#"trap 'echo yes > "$0/signalled"; exit 3' TERM; echo $PORT > "$0/started"; sleep 60 & wait"#;

/// Cannot be ended but by SIGKILL.
const STUBBORN: &str = r#"trap '' TERM; echo $$ > "$0/started"; sleep 60"#;

#[tokio::test]
async fn a_program_is_starting_until_its_port_accepts_and_drains_before_it_is_signalled() {
    let scene = Scene::new();
    let marker = Some(scene.trace("signalled"));
    let mock = Mock::with(Manners { marker, ..Manners::default() }).await;
    let program = scene.run(mock.endpoint(), &[], POLITE);
    assert_eq!(written(&scene.trace("started")).await, scene.port.to_string());
    assert_eq!(mock.calls(), [scene.register()]);

    let listener = scene.listen().await;
    mock.asked("set UP").await;
    program.signal(Signal::TERM);
    let ended = program.ended().await;
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(scene.trace("signalled").exists());
    assert_eq!(mock.calls(), [scene.register().as_str(), "set UP", "drain, signalled false", "deregister"]);
    drop(listener);
}

#[tokio::test]
async fn a_registry_without_drain_is_told_the_state_instead() {
    let scene = Scene::new();
    let mock = Mock::with(Manners { no_drain: true, ..Manners::default() }).await;
    let program = scene.run(mock.endpoint(), &[], POLITE);
    written(&scene.trace("started")).await;
    let _listener = scene.listen().await;
    mock.asked("set UP").await;
    program.signal(Signal::TERM);
    let ended = program.ended().await;
    assert_eq!(ended.code, 3, "{ended:?}");
    let calls = mock.calls();
    assert_eq!(calls[2..], ["drain, signalled false", "set DRAINING", "deregister"]);
}

#[tokio::test]
async fn a_program_that_dies_is_deregistered_and_its_code_passed_on() {
    let scene = Scene::new();
    let mock = Mock::start().await;
    let ended = scene.run(mock.endpoint(), &[], "exit 7").ended().await;
    assert_eq!(ended.code, 7, "{ended:?}");
    assert_eq!(mock.calls(), [scene.register().as_str(), "deregister"]);
}

#[tokio::test]
async fn a_program_that_is_killed_is_deregistered_while_up() {
    let scene = Scene::new();
    let mock = Mock::start().await;
    let program = scene.run(mock.endpoint(), &[], STUBBORN);
    let id = written(&scene.trace("started")).await;
    let _listener = scene.listen().await;
    mock.asked("set UP").await;
    assert!(Command::new("kill").args(["-9", &id]).status().unwrap().success());
    let ended = program.ended().await;
    assert_eq!(ended.code, 128 + 9, "{ended:?}");
    assert_eq!(mock.calls(), [scene.register().as_str(), "set UP", "deregister"]);
}

#[tokio::test]
async fn a_program_that_ignores_the_signal_is_killed_when_its_time_is_up() {
    let scene = Scene::new();
    let mock = Mock::start().await;
    let program = scene.run(mock.endpoint(), &["--stop-timeout", "300ms"], STUBBORN);
    written(&scene.trace("started")).await;
    program.signal(Signal::TERM);
    let ended = program.ended().await;
    assert_eq!(ended.code, 128 + 9, "{ended:?}");
    assert!(says(&ended, "has not ended within 0.3 s"), "{ended:?}");
    assert_eq!(mock.calls().last().unwrap(), "deregister");
}

#[tokio::test]
async fn a_second_signal_kills_at_once() {
    let scene = Scene::new();
    let mock = Mock::start().await;
    // Longer than the test's patience: only the second signal can end it in time.
    let program = scene.run(mock.endpoint(), &["--stop-timeout", "1h"], STUBBORN);
    written(&scene.trace("started")).await;
    let _listener = scene.listen().await;
    mock.asked("set UP").await;
    program.signal(Signal::INT);
    mock.asked("drain, signalled false").await;
    program.signal(Signal::INT);
    let ended = program.ended().await;
    assert_eq!(ended.code, 128 + 9, "{ended:?}");
    assert_eq!(mock.calls().last().unwrap(), "deregister");
}

#[tokio::test]
async fn a_program_that_never_opens_its_port_is_never_up_and_ended_in_time() {
    let scene = Scene::new();
    let mock = Mock::start().await;
    let ended = scene.run(mock.endpoint(), &["--start-timeout", "500ms"], POLITE).ended().await;
    assert_eq!(ended.code, 124, "{ended:?}");
    assert!(says(&ended, "did not accept connections"), "{ended:?}");
    assert!(scene.trace("signalled").exists());
    assert_eq!(mock.calls(), [scene.register().as_str(), "deregister"]);
}

#[tokio::test]
async fn a_program_that_is_not_up_needs_no_drain() {
    let scene = Scene::new();
    let mock = Mock::start().await;
    let program = scene.run(mock.endpoint(), &[], POLITE);
    written(&scene.trace("started")).await;
    program.signal(Signal::TERM);
    let ended = program.ended().await;
    assert_eq!(ended.code, 3, "{ended:?}");
    assert_eq!(mock.calls(), [scene.register().as_str(), "deregister"]);
}

#[tokio::test]
async fn a_program_that_is_not_there_leaves_nothing_registered() {
    let scene = Scene::new();
    let mock = Mock::start().await;
    let port = scene.port.to_string();
    let line = ["run", "--service", "orders", "--port", &port, "--", "/no/such/program"];
    let ended = Program::start(mock.endpoint(), &line).ended().await;
    assert_eq!(ended.code, 127, "{ended:?}");
    assert!(says(&ended, "/no/such/program"), "{ended:?}");
    assert_eq!(mock.calls().last().unwrap(), "deregister");
}

#[tokio::test]
async fn a_refused_registration_starts_nothing() {
    let scene = Scene::new();
    let mock = Mock::with(Manners { refuse: Some(ErrorReason::InvalidField), ..Manners::default() }).await;
    let ended = scene.run(mock.endpoint(), &[], POLITE).ended().await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(says(&ended, "INVALID_FIELD"), "{ended:?}");
    assert!(!scene.trace("started").exists());
}

#[tokio::test]
async fn a_port_in_use_starts_nothing() {
    let scene = Scene::new();
    let mock = Mock::start().await;
    let _listener = scene.listen().await;
    let ended = scene.run(mock.endpoint(), &[], POLITE).ended().await;
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(!scene.trace("started").exists());
    assert_eq!(mock.calls(), [""; 0]);
}

#[tokio::test]
async fn a_program_runs_without_the_registry_and_is_registered_when_it_comes() {
    let scene = Scene::new();
    let registry = free_port();
    let endpoint = format!("127.0.0.1:{registry}");
    let program = scene.run(&endpoint, &["--timeout", "300ms"], POLITE);
    written(&scene.trace("started")).await;
    let listener = TcpListener::bind(("127.0.0.1", registry)).await.unwrap();
    let mock = Mock::at(listener, Manners::default());
    mock.asked(&scene.register()).await;
    let _listener = scene.listen().await;
    mock.asked("set UP").await;
    program.signal(Signal::TERM);
    let ended = program.ended().await;
    assert_eq!(ended.code, 3, "{ended:?}");
    assert_eq!(mock.calls().last().unwrap(), "deregister");
}

#[tokio::test]
async fn a_program_ends_as_ever_when_the_registry_never_came() {
    let scene = Scene::new();
    let endpoint = format!("127.0.0.1:{}", free_port());
    let ended = scene.run(&endpoint, &["--timeout", "300ms"], "exit 7").ended().await;
    assert_eq!(ended.code, 7, "{ended:?}");
    assert!(says(&ended, "starting the program"), "{ended:?}");
}
