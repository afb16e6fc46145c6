//! Every limit of the client port is kept (P/O5). The size of requests is in `bad_input`, the numbers of
//! connections are with the listener.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use prost::Message;
use registry_client::transport::{Channel, ConnectionOptions, TcpDial};
use registry_proto::v1;
use registry_tests::api::registration;
use registry_tests::cluster::{Cluster, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Code, Status};
use tower::Service;

/// What a node says in its first HTTP/2 frame: settings by their number (RFC 9113, 6.5.2).
async fn http2_settings(endpoint: &str) -> Vec<(u16, u32)> {
    let mut stream = TcpStream::connect(endpoint).await.expect("the node listens");
    let empty_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("it reads");
    stream.write_all(&empty_settings).await.expect("it reads");
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.expect("it answers");
    assert_eq!(head[3], 4, "SETTINGS come first");
    let mut settings = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    stream.read_exact(&mut settings).await.expect("it answers");
    let setting = |bytes: &[u8]| {
        let value = bytes[2..].try_into().expect("four bytes");
        (u16::from_be_bytes([bytes[0], bytes[1]]), u32::from_be_bytes(value))
    };
    settings.chunks_exact(6).map(setting).collect()
}

/// A Register with these headers; the flag of its only frame says whether it is compressed.
async fn call(endpoint: &str, headers: &[(&'static str, String)], compressed: bool) -> Result<(), Status> {
    let content = registration("orders", "127.0.0.1", 1).encode_to_vec();
    let mut frame = BytesMut::new();
    frame.put_u8(compressed.into());
    frame.put_u32(u32::try_from(content.len()).expect("a short message"));
    frame.put_slice(&content);
    let mut request = http::Request::post("/registry.v1.RegistryService/Register")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(tonic::body::Body::new(Full::new(Bytes::from(frame)))).expect("a request");
    let mut channel = Channel::new(Arc::new(TcpDial::default()), endpoint, ConnectionOptions::default());
    let response = channel.call(request).await.map_err(|error| Status::from_error(error.into()))?;
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        return Err(Status::unknown(format!("HTTP status {}", head.status)));
    }
    let status = match Status::from_header_map(&head.headers) {
        Some(status) => status,
        None => {
            let collected = body.collect().await.map_err(|error| Status::unknown(error.to_string()))?;
            let trailers = collected.trailers().and_then(Status::from_header_map);
            trailers.unwrap_or_else(|| Status::unknown("no trailers"))
        }
    };
    if status.code() == Code::Ok { Ok(()) } else { Err(status) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_port_keeps_its_limits_and_the_node_lives_on() {
    let cluster = Cluster::start(Options::waiting()).await;
    let endpoint = cluster.nodes[0].endpoint();

    let settings = http2_settings(&endpoint).await;
    let setting = |number| settings.iter().find(|(key, _)| *key == number).map(|(_, value)| *value);
    assert_eq!(setting(3), Some(1_024), "streams per connection");
    assert_eq!(setting(6), Some(8 << 10), "header list");

    assert!(call(&endpoint, &[], false).await.is_ok(), "the call is well-formed");
    let long = call(&endpoint, &[("x-long", "a".repeat(9 << 10))], false).await;
    assert!(long.is_err(), "9 KiB of headers");
    assert!(call(&endpoint, &[("x-short", "a".repeat(4 << 10))], false).await.is_ok());

    let gzip = [("grpc-encoding", "gzip".to_owned())];
    let refused = call(&endpoint, &gzip, true).await.expect_err("compressed requests are not taken");
    assert_eq!(refused.code(), Code::Unimplemented, "{refused}");

    // Whoever gives a call no time has given it up before its turn.
    let late = [("grpc-timeout", "1n".to_owned())];
    let dropped = call(&endpoint, &late, false).await.expect_err("dropped");
    assert_eq!(dropped.code(), Code::DeadlineExceeded, "{dropped}");
    let shed = cluster.nodes[0].http("/metrics").await.expect("the node lives");
    assert!(shed.contains("registry_calls_shed_total{class=\"late\"} 1"), "{shed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_unary_call_waits_longer_than_five_seconds() {
    let mut cluster = Cluster::start(Options::waiting()).await;
    let leader = cluster.leader().await;
    for node in (0..3).filter(|node| *node != leader) {
        cluster.nodes[node].kill();
    }
    let api = cluster.api(leader);
    let begun = std::time::Instant::now();
    let request: v1::ServiceRegisterRequest = registration("orders", "127.0.0.1", 1);
    let refused = api.register(request).await.expect_err("there is no majority");
    println!("without a majority after {:?}: {refused}", begun.elapsed());
    // Its limit, and time for a busy machine to say so.
    assert!(begun.elapsed() < Duration::from_secs(5 + 3), "{:?}", begun.elapsed());
}
