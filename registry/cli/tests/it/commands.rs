//! Commands that ask once and end.

use registry_proto::v1::ErrorReason;
use tokio::net::TcpListener;

use crate::mock::{Manners, Mock};
use crate::program::{free_port, registryctl};

#[tokio::test]
async fn register_says_what_it_did_and_when_the_lease_ends() {
    let mock = Mock::start().await;
    let ended =
        registryctl(mock.endpoint(), &["register", "orders", "--host", "127.0.0.1", "--port", "7001"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(
        ended.out,
        "registered orders/127.0.0.1:7001, incarnation 5, lease 0x1f2e3d4c5b6a7988, expires in 15 s\n"
    );
    assert_eq!(ended.err, "");
}

#[tokio::test]
async fn what_was_registered_is_found_renewed_and_removed() {
    let mock = Mock::start().await;
    let register = ["register", "orders", "--host", "127.0.0.1", "--port", "7001", "-o", "name"];
    assert_eq!(registryctl(mock.endpoint(), &register).await.out, "127.0.0.1:7001\n");

    let found = registryctl(mock.endpoint(), &["discover", "orders", "-o", "json"]).await;
    let answer: serde_json::Value = serde_json::from_str(&found.out).unwrap();
    assert_eq!(answer["instances"][0]["state"], "INSTANCE_STATE_UP");

    let renewed = registryctl(mock.endpoint(), &["heartbeat", "orders", "--id", "127.0.0.1:7001"]).await;
    assert_eq!(renewed.out, "renewed lease 0x1f2e3d4c5b6a7988, expires in 15 s, incarnation 5, state UP\n");

    let removed = registryctl(mock.endpoint(), &["deregister", "--lease", "0x1f2e3d4c5b6a7988"]).await;
    assert_eq!((removed.code, removed.out.as_str()), (0, "deregistered 1 instance\n"));
    let again = registryctl(mock.endpoint(), &["deregister", "orders", "--id", "127.0.0.1:7001"]).await;
    assert_eq!((again.code, again.out.as_str()), (0, "nothing was registered there, nothing changed\n"));
}

#[tokio::test]
async fn a_service_that_nobody_knows_is_not_found() {
    let mock = Mock::start().await;
    let ended = registryctl(mock.endpoint(), &["discover", "nobody"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (3, ""));
    assert_eq!(ended.err, "nobody has registered this service\n");
}

#[tokio::test]
async fn the_pages_of_an_answer_are_joined() {
    let mock = Mock::with(Manners { page: Some(2), ..Manners::default() }).await;
    for port in ["7001", "7002", "7003", "7004", "7005"] {
        registryctl(mock.endpoint(), &["register", "orders", "--host", "127.0.0.1", "--port", port]).await;
    }
    let ended = registryctl(mock.endpoint(), &["discover", "orders", "-o", "name"]).await;
    assert_eq!(ended.out, "127.0.0.1:7001\n127.0.0.1:7002\n127.0.0.1:7003\n127.0.0.1:7004\n127.0.0.1:7005\n");
}

#[tokio::test]
async fn status_and_members_show_the_leader() {
    let mock = Mock::start().await;
    let status = registryctl(mock.endpoint(), &["status"]).await;
    assert!(status.out.contains("Leader    mock (term 1)\n"), "{status:?}");
    assert_eq!(registryctl(mock.endpoint(), &["members", "-o", "name"]).await.out, "mock\n");
}

#[tokio::test]
async fn a_refusal_gives_its_reason_and_its_exit_code() {
    for (reason, code) in [
        (ErrorReason::InvalidField, 2),
        (ErrorReason::InstanceNotFound, 3),
        (ErrorReason::NoQuorum, 4),
        (ErrorReason::StaleIncarnation, 5),
        // A write that failed so may have taken effect.
        (ErrorReason::Internal, 6),
    ] {
        let mock = Mock::with(Manners { refuse: Some(reason), ..Manners::default() }).await;
        // NO_QUORUM is tried again until the time is up.
        let deregister = ["deregister", "orders", "--id", "x", "--timeout", "500ms"];
        let ended = registryctl(mock.endpoint(), &deregister).await;
        let name = reason.as_str_name().trim_start_matches("ERROR_REASON_");
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(
            ended.err.starts_with("registryctl: cannot deregister orders/x: refused by the mock"),
            "{ended:?}"
        );
        assert!(ended.err.contains(name) && ended.err.lines().count() == 1, "{ended:?}");
        assert_eq!(ended.out, "");
    }
}

#[tokio::test]
async fn a_fault_of_the_registry_in_a_read_is_a_plain_failure() {
    let mock = Mock::with(Manners { refuse: Some(ErrorReason::Internal), ..Manners::default() }).await;
    let ended = registryctl(mock.endpoint(), &["discover", "orders"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("(INTERNAL); please report it"), "{ended:?}");
}

#[tokio::test]
async fn with_json_an_error_is_an_object_too() {
    let mock = Mock::with(Manners { refuse: Some(ErrorReason::QuotaExceeded), ..Manners::default() }).await;
    let register = ["register", "orders", "--host", "127.0.0.1", "--port", "7001", "-o", "json"];
    let ended = registryctl(mock.endpoint(), &register).await;
    let object: serde_json::Value = serde_json::from_str(&ended.err).unwrap();
    assert_eq!(object["error"]["reason"], "QUOTA_EXCEEDED");
    assert_eq!(object["error"]["code"], "RESOURCE_EXHAUSTED");
    assert_eq!(object["error"]["exitCode"], 5);
    assert_eq!(ended.code, 5);
}

#[tokio::test]
async fn nobody_there_is_told_soon_and_names_the_endpoint() {
    let endpoint = format!("127.0.0.1:{}", free_port());
    let ended = registryctl(&endpoint, &["status"]).await;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.err.contains(&endpoint) && ended.err.contains("--endpoints"), "{ended:?}");
    assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
}

#[tokio::test]
async fn no_answer_in_time_has_a_code_of_its_own() {
    let mock = Mock::with(Manners { silent: true, ..Manners::default() }).await;
    let ended = registryctl(mock.endpoint(), &["discover", "orders", "--timeout", "300ms"]).await;
    assert_eq!(ended.code, 124, "{ended:?}");
    assert!(ended.err.contains("--timeout"), "{ended:?}");
}

#[tokio::test]
async fn a_port_that_speaks_something_else_is_no_registry() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let ended = registryctl(&endpoint, &["status", "--timeout", "500ms"]).await;
    assert!(matches!(ended.code, 4 | 124), "{ended:?}");
    assert!(ended.err.contains(&endpoint), "{ended:?}");
}

#[tokio::test]
async fn wrong_usage_is_told_apart_from_failure() {
    let ended = registryctl("127.0.0.1:1", &["register", "orders"]).await;
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("--host"), "{ended:?}");
    assert_eq!(registryctl("nowhere", &["status"]).await.code, 2);
    assert_eq!(registryctl("127.0.0.1:1", &["--help"]).await.code, 0);
}

#[tokio::test]
async fn completion_needs_no_registry() {
    let ended = registryctl("127.0.0.1:1", &["completion", "bash"]).await;
    assert_eq!(ended.code, 0);
    assert!(ended.out.contains("_registryctl"), "{}", ended.out);
}
