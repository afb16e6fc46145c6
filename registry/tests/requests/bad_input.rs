//! What is not well-formed gets a clear answer and changes nothing.

use bytes::{Bytes, BytesMut};
use prost::Message;
use registry_proto::v1::{self, ErrorReason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::nodes::{Nodes, discover, reason, registration};

/// Sends bytes as they are.
#[derive(Default)]
struct AnyBytes;

impl Codec for AnyBytes {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AnyBytes {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        use bytes::BufMut;
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for AnyBytes {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        use bytes::Buf;
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

async fn send(nodes: &Nodes, path: &'static str, body: Bytes) -> Result<Bytes, Status> {
    let mut client = tonic::client::Grpc::new(nodes.channel(0));
    client.ready().await?;
    let path = http::uri::PathAndQuery::from_static(path);
    client.unary(Request::new(body), path, AnyBytes).await.map(tonic::Response::into_inner)
}

const REGISTER: &str = "/registry.v1.RegistryService/Register";

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_and_the_node_goes_on() {
    let nodes = Nodes::start().await;
    malformed_messages(&nodes).await;
    messages_that_are_too_large(&nodes).await;
    bad_timeouts(&nodes).await;
    other_protocols(&nodes).await;
    all_bad_fields_at_once(&nodes).await;
    what_is_not_there_yet(&nodes).await;

    let found = nodes.discovery(0).discover(discover()).await.unwrap().into_inner();
    assert_eq!(found.status(), v1::ServiceStatus::Unknown, "nothing took effect");
    nodes.registry(0).register(registration(7_000)).await.unwrap();
}

async fn malformed_messages(nodes: &Nodes) {
    let invalid_text = v1::ServiceRegisterRequest { service_name: "xx".into(), ..Default::default() };
    let mut invalid_text = BytesMut::from(invalid_text.encode_to_vec().as_slice());
    invalid_text[2] = 0xff;
    let bodies: [&[u8]; 5] = [
        &[0xff; 16],
        // A length that leads beyond the end.
        &[0x0a, 0xff, 0xff, 0x03, b'x'],
        // A number where a text stands.
        &[0x08, 0x01],
        // A field with number 0.
        &[0x00, 0x01],
        &invalid_text,
    ];
    for body in bodies {
        let answer = send(nodes, REGISTER, Bytes::copy_from_slice(body)).await;
        assert_eq!(reason(answer), ErrorReason::InvalidField, "{body:?}");
    }
    // Fields of a newer client are ignored; what it leaves out is still missing.
    let newer = Bytes::from_static(&[0xfa, 0x3f, 0x02, b'h', b'i']);
    let status = send(nodes, REGISTER, newer).await.unwrap_err();
    let violations = status.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["service_name", "host", "port"]);
}

async fn messages_that_are_too_large(nodes: &Nodes) {
    let huge = v1::ServiceRegisterRequest { service_name: "x".repeat(1 << 20), ..registration(1) };
    let status = nodes.registry(0).register(huge).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(reason(Err::<(), _>(status)), ErrorReason::InvalidField);
    // One that just fits is refused for what it holds.
    let long = v1::ServiceRegisterRequest { service_name: "x".repeat(1_000_000), ..registration(1) };
    let status = nodes.registry(0).register(long).await.unwrap_err();
    assert!(status.message().contains("253"), "{status:?}");
    assert!(status.details().len() < 1_024);
}

async fn bad_timeouts(nodes: &Nodes) {
    let mut request = Request::new(registration(1));
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    assert_eq!(reason(nodes.registry(0).register(request).await), ErrorReason::InvalidField);
}

async fn other_protocols(nodes: &Nodes) {
    let mut stream = TcpStream::connect(nodes.endpoint(0)).await.unwrap();
    stream.write_all(b"GET /v1/services HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 505 ") && answer.contains("gRPC over HTTP/2"), "{answer}");

    let status = send(nodes, "/registry.v1.RegistryService/Invented", Bytes::new()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    let status = send(nodes, "/invented.v1.Service/Call", Bytes::new()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

async fn all_bad_fields_at_once(nodes: &Nodes) {
    let request = v1::ServiceRegisterRequest {
        service_name: "../orders".into(),
        host: "%2e".into(),
        port: 65_536,
        ports: [("grpc".to_owned(), v1::Port { port: 0 })].into(),
        ..Default::default()
    };
    let status = nodes.registry(0).register(request).await.unwrap_err();
    let violations = status.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["service_name", "host", "port", "ports[grpc].port"]);
}

async fn what_is_not_there_yet(nodes: &Nodes) {
    assert_eq!(reason(nodes.registry(0).drain(v1::DrainRequest::default()).await), ErrorReason::InvalidField);
    let request = v1::ListInstanceOverridesRequest::default();
    let listed = nodes.registry(0).list_instance_overrides(request).await.unwrap().into_inner();
    assert!(listed.overrides.is_empty());
}
