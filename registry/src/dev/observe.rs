//! How the nodes of a development cluster are, asked over their own ports.

use std::sync::Arc;
use std::time::Duration;

use registry_client::transport::{Channel, ConnectionOptions, TcpDial};
use registry_proto::v1::cluster_service_client::ClusterServiceClient;
use registry_proto::v1::{ClusterStatusRequest, ClusterStatusResponse, NodeRole};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::folder::{DevNode, Folder};
use super::process::Process;

/// Longest wait for one answer of a node on this machine.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// One line of `dev status`.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) node: DevNode,
    pub(super) pid: Option<u32>,
    /// `leader`, `follower`, or what it is instead.
    pub(super) role: String,
    pub(super) revision: Option<u64>,
    /// `ready`, or why not.
    pub(super) state: String,
}

/// All nodes.
pub(super) async fn all(folder: &Folder) -> Result<Vec<Row>, String> {
    let running = folder.running()?;
    let rows = folder.nodes.iter().map(|node| {
        let process =
            running.iter().find(|(other, _)| other.node_id == node.node_id).map(|(_, process)| process);
        row(node, process)
    });
    Ok(futures::future::join_all(rows).await)
}

async fn row(node: &DevNode, process: Option<&Process>) -> Row {
    let Some(process) = process else {
        return Row {
            node: node.clone(),
            pid: None,
            role: "-".into(),
            revision: None,
            state: "not running".into(),
        };
    };
    let state = match readiness(node).await {
        Ok(()) => "ready".to_owned(),
        Err(reason) => reason,
    };
    let status = status(node).await;
    let role =
        status.as_ref().and_then(|status| status.header.as_ref()).map_or("-", |header| match header.role() {
            NodeRole::Leader => "leader",
            NodeRole::Follower => "follower",
            NodeRole::Candidate => "candidate",
            _ => "-",
        });
    Row {
        node: node.clone(),
        pid: Some(process.pid),
        role: role.to_owned(),
        revision: status.map(|status| status.revision),
        state,
    }
}

async fn status(node: &DevNode) -> Option<ClusterStatusResponse> {
    let channel = Channel::new(Arc::new(TcpDial::default()), &node.client, ConnectionOptions::default());
    let mut client = ClusterServiceClient::new(channel);
    let answer = timeout(ANSWER_WAIT, client.cluster_status(ClusterStatusRequest { local: true })).await;
    answer.ok()?.ok().map(tonic::Response::into_inner)
}

/// What `/readyz` says: `Err` has the reason.
pub(super) async fn readiness(node: &DevNode) -> Result<(), String> {
    let ask = async {
        let mut stream = TcpStream::connect(&node.http).await?;
        let request = format!("GET /readyz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", node.http);
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.take(64 << 10).read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = match timeout(ANSWER_WAIT, ask).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => return Err("starting".to_owned()),
        Err(_) => return Err("no answer".to_owned()),
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(body.trim().to_owned()) }
}
