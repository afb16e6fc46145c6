use super::*;
use crate::dev::process::Process;

fn shape(nodes: usize) -> Shape {
    Shape { nodes: Some(nodes), ..Shape::default() }
}

#[test]
fn a_folder_is_made_once_and_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cluster");
    let made = Folder::create(&path, &Shape::default(), false).unwrap();
    assert_eq!(made.nodes.len(), 3);
    assert_eq!(made.nodes[2].client, "127.0.0.1:8082");
    assert_eq!(made.nodes[2].peer, "127.0.0.1:9082");
    assert_eq!(made.nodes[2].http, "127.0.0.1:9182");
    let token = std::fs::read_to_string(path.join("admin.token")).unwrap();
    Folder::create(&path, &Shape::default(), false).unwrap();
    assert_eq!(std::fs::read_to_string(path.join("admin.token")).unwrap(), token);

    let error = Folder::create(&path, &shape(5), false).unwrap_err();
    assert!(error.contains("has 3 nodes") && error.contains("--fresh"), "{error}");
    assert_eq!(Folder::create(&path, &shape(5), true).unwrap().nodes.len(), 5);
}

#[test]
fn other_ports_move_all_three() {
    let dir = tempfile::tempdir().unwrap();
    let shape = Shape { base_port: Some(20_000), host: Some("127.0.0.7".into()), ..shape(1) };
    let folder = Folder::create(dir.path(), &shape, false).unwrap();
    let node = folder.node(1).unwrap();
    let ports = [node.client, node.peer, node.http];
    assert_eq!(ports, ["127.0.0.7:20000", "127.0.0.7:21000", "127.0.0.7:21100"]);
    assert!(folder.node(2).unwrap_err().contains("there is no node 2"));
}

#[test]
fn fresh_removes_nothing_that_is_not_ours() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    Folder::create(dir.path(), &Shape::default(), false).unwrap();
    std::fs::write(dir.path().join("data/old"), "x").unwrap();
    Folder::create(dir.path(), &Shape::default(), true).unwrap();
    assert!(dir.path().join("notes.txt").exists());
    assert!(!dir.path().join("data/old").exists());
}

#[test]
fn the_token_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    Folder::create(dir.path(), &Shape::default(), false).unwrap();
    let mode = std::fs::metadata(dir.path().join("admin.token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_folder_without_a_cluster_and_one_that_cannot_be_made_are_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Folder::open(dir.path()).unwrap_err().contains("dev up"));
    std::fs::write(dir.path().join("file"), "").unwrap();
    let error = Folder::create(&dir.path().join("file/x"), &Shape::default(), false).unwrap_err();
    assert!(error.contains("file/x") && !error.contains('\n'), "{error}");
}

/// The own pid, noted with another start time or word: a process that took over the pid of a node.
#[test]
fn a_process_that_only_has_the_pid_is_not_taken_for_the_node() {
    let noted = |start_time: &str, nonce: &str| -> Process {
        let text = serde_json::json!({ "pid": std::process::id(), "start_time": start_time, "nonce": nonce });
        serde_json::from_value(text).unwrap()
    };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let start_time = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().to_owned();
    let program = std::env::args().next().unwrap();
    assert!(noted(&start_time, &program).is_alive(), "all three fit");
    assert!(!noted("1", &program).is_alive());
    assert!(!noted(&start_time, "a word that nobody has").is_alive());
    assert!(!noted("", &program).is_alive());
}

#[test]
fn commands_are_printed_as_they_must_be_typed() {
    let screen = Screen::new("target/release/registry", std::path::Path::new("./.registry-dev"));
    assert_eq!(screen.dev("kill 1"), "target/release/registry dev kill 1");
    let screen = Screen::new("registry", std::path::Path::new("/tmp/x"));
    assert_eq!(screen.dev("kill 1"), "registry dev --dir /tmp/x kill 1");
}
