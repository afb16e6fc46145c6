//! The generated services of one node, over the shared store.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use registry_client::v1::cluster_service_server::{ClusterService, ClusterServiceServer};
use registry_client::v1::discovery_service_server::{DiscoveryService, DiscoveryServiceServer};
use registry_client::v1::registry_service_server::{RegistryService, RegistryServiceServer};
use registry_client::v1::{self, ErrorReason, EventCause, ResponseHeader, WatchResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};

use super::store::Outcome;
use super::{Fault, Node, Store, no_quorum, not_leader, refusal};
use crate::net::Net;

#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) node: Arc<Node>,
    pub(crate) nodes: Vec<Arc<Node>>,
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) net: Net,
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    pub(crate) fn routes(self) -> Routes {
        Routes::new(RegistryServiceServer::new(self.clone()))
            .add_service(DiscoveryServiceServer::new(self.clone()))
            .add_service(ClusterServiceServer::new(self))
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    pub(super) fn header(&self, store: &Store, revision: u64) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision,
            term: store.term,
            epoch: store.epoch,
            node_id: self.node.endpoint.clone(),
            leader_endpoint: store.leader.map(|leader| store.endpoints[leader].clone()).unwrap_or_default(),
            cluster_id: self.node.cluster_id.lock().unwrap().clone(),
            ..Default::default()
        })
    }

    /// What every call begins with; what is left of its fault is for its end.
    async fn begin(&self, method: &'static str, id: Option<v1::RequestId>) -> Result<Option<Fault>, Status> {
        self.node.calls.lock().unwrap().push((method, id));
        match self.node.fault(method) {
            Some(Fault::Refuse(status)) => Err(status),
            Some(Fault::Hang) => std::future::pending().await,
            fault => Ok(fault),
        }
    }

    async fn end<T>(&self, fault: Option<Fault>, answer: T) -> Answer<T> {
        match fault {
            Some(Fault::LoseAnswer) => {
                self.net.cut(&self.node.endpoint);
                std::future::pending().await
            }
            Some(Fault::AnswerInstead(status)) => Err(status),
            _ => Ok(Response::new(answer)),
        }
    }

    /// A write goes through whoever knows a leader.
    fn write(
        &self,
        id: Option<&v1::RequestId>,
        write: impl FnOnce(&mut Store) -> Result<Outcome, Status>,
    ) -> Result<(Outcome, Option<ResponseHeader>), Status> {
        let mut store = self.store();
        if store.leader.is_none() {
            return Err(no_quorum());
        }
        let outcome = store.once(id, write)?;
        let header = self.header(&store, outcome.revision);
        let header = header.map(|header| ResponseHeader { replayed: outcome.replayed, ..header });
        Ok((outcome, header))
    }
}

fn instance_id(instance_id: &str, host: &str, port: u32) -> String {
    if instance_id.is_empty() { format!("{host}:{port}") } else { instance_id.to_owned() }
}

#[tonic::async_trait]
impl RegistryService for Service {
    async fn register(
        &self,
        request: Request<v1::ServiceRegisterRequest>,
    ) -> Answer<v1::ServiceRegisterResponse> {
        let request = request.into_inner();
        let id = request.request_id.clone();
        let fault = self.begin("register", id.clone()).await?;
        let client = id.as_ref().map(|id| id.client.clone());
        let (outcome, header) = self.write(id.as_ref(), |store| store.register(&request, client))?;
        self.end(fault, v1::ServiceRegisterResponse { header, ..outcome.register }).await
    }

    async fn batch_register(
        &self,
        _: Request<v1::BatchRegisterRequest>,
    ) -> Answer<v1::BatchRegisterResponse> {
        Err(Status::unimplemented("not in the mock"))
    }

    async fn deregister(
        &self,
        request: Request<v1::ServiceDeregisterRequest>,
    ) -> Answer<v1::ServiceDeregisterResponse> {
        let request = request.into_inner();
        let fault = self.begin("deregister", request.request_id.clone()).await?;
        let instance = instance_id(&request.instance_id, &request.host, request.port);
        let (outcome, header) = self.write(request.request_id.as_ref(), |store| {
            let present = store.instances.get(&instance).map(|record| record.instance.incarnation);
            if request.incarnation != 0 && present.is_some_and(|present| present != request.incarnation) {
                return Err(refusal(Code::FailedPrecondition, ErrorReason::StaleIncarnation, "NEVER", &[]));
            }
            Ok(store.remove(&BTreeSet::from([instance.clone()]), EventCause::Deregistered))
        })?;
        self.end(fault, v1::ServiceDeregisterResponse { header, removed: outcome.count }).await
    }

    async fn heartbeat(&self, _: Request<v1::HeartbeatRequest>) -> Answer<v1::HeartbeatResponse> {
        Err(Status::unimplemented("not in the mock"))
    }

    type KeepAliveStream = ReceiverStream<Result<v1::KeepAliveResponse, Status>>;

    async fn keep_alive(
        &self,
        request: Request<Streaming<v1::KeepAliveRequest>>,
    ) -> Answer<Self::KeepAliveStream> {
        self.begin("keep_alive", None).await?;
        let mut requests = request.into_inner();
        let (answers, receiver) = mpsc::channel(64);
        let service = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let fault = match service.begin("renew", None).await {
                    Ok(fault) => fault,
                    Err(status) => {
                        let _ = answers.send(Err(status)).await;
                        return;
                    }
                };
                let answer = service.renew(&request);
                if let Some(Fault::LoseAnswer) = fault {
                    service.net.cut(&service.node.endpoint);
                    return;
                }
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn set_instance_state(
        &self,
        request: Request<v1::SetInstanceStateRequest>,
    ) -> Answer<v1::SetInstanceStateResponse> {
        let request = request.into_inner();
        let fault = self.begin("set_instance_state", request.request_id.clone()).await?;
        let instance = instance_id(&request.instance_id, &request.host, request.port);
        let (outcome, header) = self.write(request.request_id.as_ref(), |store| {
            store.set_state(&instance, request.incarnation, request.state)
        })?;
        let answer = v1::SetInstanceStateResponse { header, changed: outcome.count, overridden: 0 };
        self.end(fault, answer).await
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Answer<v1::DrainResponse> {
        let request = request.into_inner();
        let fault = self.begin("drain", request.request_id.clone()).await?;
        if self.store().drain_unimplemented {
            return Err(Status::unimplemented("Drain is not offered"));
        }
        let instance = instance_id(&request.instance_id, &request.host, request.port);
        let draining = v1::InstanceState::Draining.into();
        let (outcome, header) = self.write(request.request_id.as_ref(), |store| {
            store.set_state(&instance, request.incarnation, draining)
        })?;
        let answer =
            v1::DrainResponse { header, complete: true, revision: outcome.revision, ..Default::default() };
        self.end(fault, answer).await
    }

    async fn set_instance_override(
        &self,
        _: Request<v1::SetInstanceOverrideRequest>,
    ) -> Answer<v1::SetInstanceOverrideResponse> {
        Err(Status::unimplemented("not in the mock"))
    }

    async fn clear_instance_override(
        &self,
        _: Request<v1::ClearInstanceOverrideRequest>,
    ) -> Answer<v1::ClearInstanceOverrideResponse> {
        Err(Status::unimplemented("not in the mock"))
    }

    async fn list_instance_overrides(
        &self,
        _: Request<v1::ListInstanceOverridesRequest>,
    ) -> Answer<v1::ListInstanceOverridesResponse> {
        Err(Status::unimplemented("not in the mock"))
    }

    async fn end_protection(
        &self,
        _: Request<v1::EndProtectionRequest>,
    ) -> Answer<v1::EndProtectionResponse> {
        Err(Status::unimplemented("not in the mock"))
    }
}

impl Service {
    fn renew(&self, request: &v1::KeepAliveRequest) -> v1::KeepAliveResponse {
        let mut store = self.store();
        let header = self.header(&store, store.revision);
        let sequence = request.sequence;
        if store.leader.is_none() {
            let error = ErrorReason::NoQuorum.into();
            return v1::KeepAliveResponse { header, sequence, error, ..Default::default() };
        }
        let mut answer = v1::KeepAliveResponse { header, sequence, ..Default::default() };
        for &lease_id in &request.lease_ids {
            if store.has_lease(lease_id) {
                store.renewals.push((lease_id, self.node.index));
                answer.renewed += 1;
            } else {
                let reason = ErrorReason::LeaseExpired.into();
                answer.failures.push(v1::KeepAliveFailure { lease_id, reason });
            }
        }
        answer
    }
}

#[tonic::async_trait]
impl DiscoveryService for Service {
    async fn discover(
        &self,
        request: Request<v1::ServiceDiscoveryRequest>,
    ) -> Answer<v1::ServiceDiscoveryResponse> {
        let request = request.into_inner();
        let fault = self.begin("discover", None).await?;
        let answer = {
            let store = self.store();
            let stale = request.consistency() == v1::Consistency::Stale;
            if store.leader.is_none() && !stale {
                return Err(no_quorum());
            }
            let shown = self.node.lag_at.lock().unwrap().filter(|_| stale).unwrap_or(store.revision);
            if request.min_revision > 0 && request.min_revision_epoch != store.epoch {
                return Err(refusal(Code::OutOfRange, ErrorReason::EpochChanged, "RESTART", &[]));
            }
            if request.min_revision > shown {
                return Err(refusal(Code::Unavailable, ErrorReason::TooStale, "ELSEWHERE", &[]));
            }
            let instances = store.instances.values().map(|record| record.instance.clone()).collect();
            v1::ServiceDiscoveryResponse {
                header: self.header(&store, shown),
                instances,
                ..Default::default()
            }
        };
        self.end(fault, answer).await
    }

    async fn list_services(&self, _: Request<v1::ListServicesRequest>) -> Answer<v1::ListServicesResponse> {
        let fault = self.begin("list_services", None).await?;
        let header = {
            let store = self.store();
            match store.leader {
                // A node of the old kind: it does not pass anything on.
                Some(leader) if leader != self.node.index => {
                    return Err(not_leader(&store.endpoints[leader]));
                }
                _ => self.header(&store, store.revision),
            }
        };
        self.end(fault, v1::ListServicesResponse { header, ..Default::default() }).await
    }

    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        self.begin("watch", None).await?;
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(self.clone().tell(request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

#[tonic::async_trait]
impl ClusterService for Service {
    async fn cluster_status(
        &self,
        _: Request<v1::ClusterStatusRequest>,
    ) -> Answer<v1::ClusterStatusResponse> {
        let fault = self.begin("cluster_status", None).await?;
        let answer = {
            let store = self.store();
            let member = |node: &Arc<Node>| v1::Member {
                node_id: node.endpoint.clone(),
                client_endpoint: node.endpoint.clone(),
                health: (*node.health.lock().unwrap()).into(),
                ..Default::default()
            };
            let available = store.leader.is_some();
            let source = if available { v1::StatusSource::Leader } else { v1::StatusSource::Node };
            v1::ClusterStatusResponse {
                header: self.header(&store, store.revision),
                source: source.into(),
                leader_id: store.leader.map(|leader| store.endpoints[leader].clone()).unwrap_or_default(),
                term: store.term,
                members: self.nodes.iter().map(member).collect(),
                quorum: Some(v1::QuorumStatus { available, ..Default::default() }),
                ..Default::default()
            }
        };
        self.end(fault, answer).await
    }
}
