//! What the mock shows: its instances, and itself as a cluster.

use registry_proto::v1;
use registry_proto::v1::cluster_service_server::ClusterService;
use registry_proto::v1::discovery_service_server::DiscoveryService;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{EPOCH, Mock};

#[tonic::async_trait]
impl DiscoveryService for Mock {
    async fn discover(
        &self,
        request: Request<v1::ServiceDiscoveryRequest>,
    ) -> Result<Response<v1::ServiceDiscoveryResponse>, Status> {
        self.refusal()?;
        if self.shared.manners.lock().unwrap().silent {
            std::future::pending::<()>().await;
        }
        let request = request.into_inner();
        let all: Vec<_> = self.shared.instances.lock().unwrap().values().cloned().collect();
        let status = if all.is_empty() { v1::ServiceStatus::Unknown } else { v1::ServiceStatus::Available };
        let begin = request.page_token.parse().unwrap_or(0);
        let size = self.shared.manners.lock().unwrap().page.unwrap_or(all.len().max(1));
        let end = all.len().min(begin + size);
        Ok(Response::new(v1::ServiceDiscoveryResponse {
            header: self.header(),
            instances: all[begin..end].to_vec(),
            status: status.into(),
            next_page_token: if end < all.len() { end.to_string() } else { String::new() },
            ..Default::default()
        }))
    }

    async fn list_services(
        &self,
        _: Request<v1::ListServicesRequest>,
    ) -> Result<Response<v1::ListServicesResponse>, Status> {
        self.refusal()?;
        Ok(Response::new(v1::ListServicesResponse { header: self.header(), ..Default::default() }))
    }

    type WatchStream = ReceiverStream<Result<v1::WatchResponse, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.refusal()?;
        let request = request.into_inner();
        let from = request.resume.map(|at| format!("{}:{}", at.epoch, at.revision));
        self.note(format!("watch {} from {}", request.service_name, from.as_deref().unwrap_or("the start")));
        let (sender, stream) = tokio::sync::mpsc::channel(64);
        let (messages, last) = {
            let watches = &mut self.shared.manners.lock().unwrap().watches;
            (watches.pop_front().unwrap_or_default(), watches.is_empty())
        };
        for mut message in messages {
            let staleness = Some(prost_types::Duration::default());
            message.header.get_or_insert_with(|| v1::ResponseHeader { staleness, ..self.header().unwrap() });
            sender.try_send(Ok(message)).unwrap();
        }
        if last {
            // Open until the test ends.
            self.shared.open.lock().unwrap().push(sender);
        }
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[tonic::async_trait]
impl ClusterService for Mock {
    async fn cluster_status(
        &self,
        _: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatusResponse>, Status> {
        let peers = self.shared.manners.lock().unwrap().peer_endpoint.clone();
        let members = peers.split(',').enumerate().map(|(index, peer)| v1::Member {
            node_id: if index == 0 { "mock".into() } else { format!("mock-{}", index + 1) },
            raft_id: index as u64 + 1,
            client_endpoint: self.shared.endpoint.clone(),
            peer_endpoint: peer.into(),
            role: if index == 0 { v1::NodeRole::Leader.into() } else { v1::NodeRole::Follower.into() },
            kind: v1::MemberKind::Voter.into(),
            health: v1::MemberHealth::Healthy.into(),
            ..Default::default()
        });
        Ok(Response::new(v1::ClusterStatusResponse {
            header: self.header(),
            source: v1::StatusSource::Leader.into(),
            cluster_id: "6ba7b810-9dad-11d1-80b4-00c04fd430c8".into(),
            leader_id: "mock".into(),
            term: 1,
            members: members.collect(),
            quorum: Some(v1::QuorumStatus { available: true, voters: 1, needed: 1, reachable: 1 }),
            epoch: EPOCH,
            ..Default::default()
        }))
    }
}
