//! Bad input is refused whole, with a clear error, and the node lives on.

use std::process::{Command, Stdio};
use std::time::Duration;

use prost::Message;
use registry_proto::v1;
use registry_tests::api::{Api, duration, reason, registration};
use registry_tests::binaries::binaries;
use registry_tests::cluster::{Cluster, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;
use tonic_types::StatusExt;

fn cases() -> Vec<(&'static str, &'static str, v1::ServiceRegisterRequest)> {
    let good = || registration("orders", "127.0.0.1", 7001);
    let with = |change: &dyn Fn(&mut v1::ServiceRegisterRequest)| {
        let mut request = good();
        change(&mut request);
        request
    };
    let ttl = |seconds, nanos| with(&|request| request.ttl = Some(prost_types::Duration { seconds, nanos }));
    let name = |name: &str| with(&|request| request.service_name = name.to_owned());
    vec![
        ("no name", "service_name", name("")),
        ("a name of 64 KiB", "service_name", name(&"a".repeat(64 << 10))),
        ("a name with NUL", "service_name", name("a\0b")),
        ("a name with control characters", "service_name", name("a\nb")),
        ("a right-to-left name", "service_name", name("\u{202e}a")),
        ("dots", "service_name", name("..")),
        ("a slash", "service_name", name("a/b")),
        ("a percent form", "service_name", name("a%2Fb")),
        ("no host", "host", with(&|request| request.host.clear())),
        ("port 0", "port", with(&|request| request.port = 0)),
        ("port 65536", "port", with(&|request| request.port = 65_536)),
        ("the largest port", "port", with(&|request| request.port = u32::MAX)),
        ("a negative ttl", "ttl", ttl(-1, 0)),
        ("the largest ttl", "ttl", ttl(i64::MAX, 0)),
        ("a ttl of 999 ms", "ttl", ttl(0, 999_000_000)),
        ("a ttl of odd nanoseconds", "ttl", ttl(5, 1)),
        ("a ttl above an hour", "ttl", ttl(3601, 0)),
        (
            "10,000 tags",
            "tags",
            with(&|request| {
                request.tags =
                    vec!["t".into(); 1].into_iter().chain((0..10_000).map(|n| format!("t{n}"))).collect()
            }),
        ),
        (
            "900 kB of metadata",
            "metadata",
            with(&|request| drop(request.metadata.insert("k".into(), "v".repeat(900_000)))),
        ),
        (
            "an empty metadata key",
            "metadata",
            with(&|request| drop(request.metadata.insert(String::new(), "v".into()))),
        ),
        (
            "a bad further port",
            "ports[grpc].port",
            with(&|request| request.ports = [("grpc".to_owned(), v1::Port { port: 0 })].into()),
        ),
        ("an unknown state", "state", with(&|request| request.state = 99)),
        ("a weight of 65536", "weight", with(&|request| request.weight = Some(65_536))),
        ("a bad instance id", "instance_id", with(&|request| request.instance_id = "a b".into())),
        (
            "a request id without client",
            "request_id.client",
            with(&|request| {
                request.request_id = Some(v1::RequestId { client: String::new(), serial: 1, done_below: 0 })
            }),
        ),
        (
            "a request id without serial",
            "request_id.serial",
            with(&|request| {
                request.request_id = Some(v1::RequestId { client: "c".into(), serial: 0, done_below: 0 })
            }),
        ),
    ]
}

async fn revision(api: &Api) -> u64 {
    api.discover_at("orders", v1::Consistency::Linearizable)
        .await
        .expect("the node is alive")
        .header
        .unwrap()
        .revision
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_registrations_name_their_field_and_change_nothing() {
    let cluster = Cluster::start(Options::waiting()).await;
    for node in 0..3 {
        let api = cluster.api(node);
        let before = revision(&api).await;
        for (what, field, request) in cases() {
            let status = api.register(request).await.expect_err(what);
            assert_eq!(
                (status.code(), reason(&status).as_str()),
                (Code::InvalidArgument, "INVALID_FIELD"),
                "{what}: {status}"
            );
            let named = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
            assert!(named.iter().any(|violation| violation.field.starts_with(field)), "{what}: {named:?}");
        }
        // All at once.
        let request = v1::ServiceRegisterRequest {
            ttl: Some(duration(Duration::from_millis(1))),
            ..Default::default()
        };
        let status = api.register(request).await.unwrap_err();
        let named = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
        for field in ["service_name", "host", "port", "ttl"] {
            assert!(named.iter().any(|violation| violation.field == field), "{field} in {named:?}");
        }
        assert_eq!(revision(&api).await, before, "nothing changed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bad_requests_are_refused_too() {
    let cluster = Cluster::start(Options::waiting()).await;
    let api = cluster.api(0);
    let before = revision(&api).await;

    let request = v1::ServiceDiscoveryRequest {
        service_name: "orders".into(),
        consistency: v1::Consistency::Linearizable.into(),
        max_staleness: Some(duration(Duration::from_secs(1))),
        ..Default::default()
    };
    assert_eq!(reason(&api.discover(request).await.unwrap_err()), "INVALID_FIELD");

    let request = v1::HeartbeatRequest { service_name: "orders".into(), lease_id: 7, ..Default::default() };
    assert_eq!(
        reason(&api.heartbeat(request).await.unwrap_err()),
        "INVALID_FIELD",
        "lease or instance, not both"
    );
    let request = v1::HeartbeatRequest { lease_id: 7, ..Default::default() };
    assert_eq!(reason(&api.heartbeat(request).await.unwrap_err()), "LEASE_EXPIRED", "a stranger's lease");

    let twice = vec![registration("orders", "127.0.0.1", 1); 2];
    let request = v1::BatchRegisterRequest { registrations: twice, ..Default::default() };
    let status = api.registry.clone().batch_register(request).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
    let request = v1::BatchRegisterRequest::default();
    assert_eq!(reason(&api.registry.clone().batch_register(request).await.unwrap_err()), "INVALID_FIELD");

    let request =
        v1::WatchRequest { service_name: "orders".into(), all_namespaces: true, ..Default::default() };
    let refused = match api.watch(request).await {
        Ok(mut stream) => stream.message().await.expect_err("a bad watch fails"),
        Err(status) => status,
    };
    assert_eq!(reason(&refused), "INVALID_FIELD");

    let request = v1::ServiceRegisterRequest {
        metadata: [("k".to_owned(), "v".repeat(2 << 20))].into(),
        ..registration("orders", "h", 1)
    };
    let status = api.register(request).await.unwrap_err();
    assert!(
        matches!(status.code(), Code::OutOfRange | Code::InvalidArgument | Code::ResourceExhausted),
        "2 MiB: {status}"
    );
    assert_eq!(revision(&api).await, before, "nothing changed");
}

/// Sends one gRPC frame with this content to Register and gives the status code that comes back.
async fn raw_frame(cluster: &Cluster, content: &[u8]) -> Option<tonic::Status> {
    use http_body_util::{BodyExt, Full};
    use registry_client::transport::{Channel, ConnectionOptions, TcpDial};
    use tower::Service;

    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(content.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(content);
    let mut channel = Channel::new(
        std::sync::Arc::new(TcpDial::default()),
        cluster.nodes[0].endpoint(),
        ConnectionOptions::default(),
    );
    let request = http::Request::post("/registry.v1.RegistryService/Register")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(Full::new(bytes::Bytes::from(frame))))
        .unwrap();
    let response = channel.call(request).await.unwrap();
    let (head, body) = response.into_parts();
    if let Some(status) = tonic::Status::from_header_map(&head.headers) {
        return Some(status);
    }
    tonic::Status::from_header_map(body.collect().await.ok()?.trailers()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_are_the_callers_fault_and_the_node_lives_on() {
    let cluster = Cluster::start(Options::waiting()).await;
    let good = registration("orders", "127.0.0.1", 1).encode_to_vec();
    let mut wrong_wire_type = good.clone();
    wrong_wire_type[0] = 0x08;
    let invalid_utf8 = [0x0a, 2, 0xff, 0xfe];
    for content in [&good[..good.len() - 1], &wrong_wire_type, &invalid_utf8, &[0xff; 64]] {
        let status = raw_frame(&cluster, content).await.expect("a gRPC status");
        assert_eq!(status.code(), Code::InvalidArgument, "{content:?}: {status}");
    }
    // HTTP/1 and noise on the port.
    for noise in [&b"GET / HTTP/1.1\r\nHost: registry\r\n\r\n"[..], &[0; 512], &[0xff; 3]] {
        let mut stream = tokio::net::TcpStream::connect(cluster.nodes[0].endpoint()).await.unwrap();
        stream.write_all(noise).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(1), stream.read_to_end(&mut answer)).await;
    }
    assert!(
        cluster.api(0).register(registration("orders", "127.0.0.1", 1)).await.is_ok(),
        "the node is alive"
    );
}

fn serve(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(&binaries().registry)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_bad_configuration_is_refused_with_every_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.json");
    let path = file.to_str().unwrap();
    std::fs::write(
        &file,
        r#"{"cluster":{"nodes":[{"node_id":"a","host":"127.0.0.1","client_port":0,"raft_port":9080},
            {"node_id":"a","host":"","client_port":8081,"raft_port":9081}]},
            "raft":{"election_timeout_min":300,"election_timeout_max":150,"heartbeat_interval":400}}"#,
    )
    .unwrap();
    let (code, text) = serve(&["serve", "--config", path, "--node", "a"]);
    assert_eq!(code, Some(78), "{text}");
    for part in ["client_port", "node_id", "host", "election_timeout_min", "heartbeat_interval"] {
        assert!(text.contains(part), "{part} is named in: {text}");
    }

    std::fs::write(&file, r#"{"cluster":{"nodes":[]},"clutser":1}"#).unwrap();
    let (code, text) = serve(&["serve", "--config", path, "--node", "a"]);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("clutser") && text.contains(path), "{text}");

    let (code, text) = serve(&["serve", "--config", "/does/not/exist.json", "--node", "a"]);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("/does/not/exist.json"), "{text}");
}
