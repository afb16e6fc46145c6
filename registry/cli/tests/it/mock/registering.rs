//! What the mock does with registrations.

use std::pin::Pin;

use registry_proto::v1::registry_service_server::RegistryService;
use registry_proto::v1::{self, ErrorReason, InstanceState};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::{LEASE, Mock};

fn state_name(state: i32) -> String {
    let state = InstanceState::try_from(state).unwrap();
    state.as_str_name().trim_start_matches("INSTANCE_STATE_").to_owned()
}

/// The instance that a request names.
fn id(host: &str, port: u32, instance_id: &str) -> String {
    if instance_id.is_empty() { format!("{host}:{port}") } else { instance_id.to_owned() }
}

#[tonic::async_trait]
impl RegistryService for Mock {
    async fn register(
        &self,
        request: Request<v1::ServiceRegisterRequest>,
    ) -> Result<Response<v1::ServiceRegisterResponse>, Status> {
        let request = request.into_inner();
        let id = id(&request.host, request.port, &request.instance_id);
        let state = match request.state() {
            InstanceState::Unspecified => InstanceState::Up,
            state => state,
        };
        self.note(format!("register {}/{id} {}", request.service_name, state_name(state.into())));
        self.refusal()?;
        let instance = v1::Instance {
            instance_id: id.clone(),
            host: request.host,
            port: request.port,
            state: state.into(),
            weight: Some(100),
            namespace: "default".into(),
            service_name: request.service_name,
            revision: 5,
            incarnation: 5,
            ttl: Some(request.ttl.unwrap_or(prost_types::Duration { seconds: 15, nanos: 0 })),
            ..Default::default()
        };
        self.shared.instances.lock().unwrap().insert(id, instance.clone());
        Ok(Response::new(v1::ServiceRegisterResponse {
            header: self.header(),
            instance: Some(instance),
            lease_id: LEASE,
            incarnation: 5,
            outcome: v1::RegisterOutcome::Created.into(),
        }))
    }

    async fn batch_register(
        &self,
        _: Request<v1::BatchRegisterRequest>,
    ) -> Result<Response<v1::BatchRegisterResponse>, Status> {
        Err(Status::unimplemented("batch_register"))
    }

    async fn deregister(
        &self,
        request: Request<v1::ServiceDeregisterRequest>,
    ) -> Result<Response<v1::ServiceDeregisterResponse>, Status> {
        let request = request.into_inner();
        self.note("deregister".to_owned());
        self.refusal()?;
        let mut instances = self.shared.instances.lock().unwrap();
        let removed = if request.lease_id != 0 {
            std::mem::take(&mut *instances).len()
        } else {
            instances.remove(&id(&request.host, request.port, &request.instance_id)).iter().count()
        };
        Ok(Response::new(v1::ServiceDeregisterResponse { header: self.header(), removed: removed as u32 }))
    }

    async fn heartbeat(
        &self,
        _: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        self.refusal()?;
        let remaining_ttl = Some(prost_types::Duration { seconds: 15, nanos: 0 });
        Ok(Response::new(v1::HeartbeatResponse {
            header: self.header(),
            remaining_ttl,
            lease_id: LEASE,
            incarnation: 5,
            state: InstanceState::Up.into(),
        }))
    }

    type KeepAliveStream = Pin<Box<dyn Stream<Item = Result<v1::KeepAliveResponse, Status>> + Send>>;

    async fn keep_alive(
        &self,
        request: Request<Streaming<v1::KeepAliveRequest>>,
    ) -> Result<Response<Self::KeepAliveStream>, Status> {
        let mock = self.clone();
        let answers = request.into_inner().map(move |request| {
            let request = request?;
            let refuse = mock.shared.manners.lock().unwrap().refuse;
            let failed = |lease_id: &u64| v1::KeepAliveFailure {
                lease_id: *lease_id,
                reason: ErrorReason::LeaseExpired.into(),
            };
            let failures: Vec<_> = match refuse {
                Some(_) => request.lease_ids.iter().map(failed).collect(),
                None => Vec::new(),
            };
            Ok(v1::KeepAliveResponse {
                header: mock.header(),
                sequence: request.sequence,
                renewed: (request.lease_ids.len() - failures.len()) as u32,
                failures,
                ..Default::default()
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn set_instance_state(
        &self,
        request: Request<v1::SetInstanceStateRequest>,
    ) -> Result<Response<v1::SetInstanceStateResponse>, Status> {
        let request = request.into_inner();
        self.note(format!("set {}", state_name(request.state)));
        self.refusal()?;
        self.set_state(&id(&request.host, request.port, &request.instance_id), request.state);
        Ok(Response::new(v1::SetInstanceStateResponse { header: self.header(), changed: 1, overridden: 0 }))
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Result<Response<v1::DrainResponse>, Status> {
        let request = request.into_inner();
        let marked = self.shared.manners.lock().unwrap().marker.as_ref().is_some_and(|path| path.exists());
        self.note(format!("drain, signalled {marked}"));
        self.refusal()?;
        if self.shared.manners.lock().unwrap().no_drain {
            return Err(Status::unimplemented("not offered yet"));
        }
        self.set_state(
            &id(&request.host, request.port, &request.instance_id),
            InstanceState::Draining.into(),
        );
        let silent = self.shared.manners.lock().unwrap().silent_node.clone();
        Ok(Response::new(v1::DrainResponse {
            header: self.header(),
            complete: silent.is_none(),
            revision: 6,
            silent_nodes: silent.into_iter().collect(),
            ..Default::default()
        }))
    }

    async fn set_instance_override(
        &self,
        request: Request<v1::SetInstanceOverrideRequest>,
    ) -> Result<Response<v1::SetInstanceOverrideResponse>, Status> {
        let request = request.into_inner();
        let set = request.operator_override.unwrap_or_default();
        let ttl = request.ttl.map_or(0, |ttl| ttl.seconds);
        let state = state_name(set.state);
        self.note(format!("override {} {state} {:?} for {ttl} s", request.instance_id, set.weight));
        self.refusal()?;
        let registered = self.shared.instances.lock().unwrap().contains_key(&request.instance_id);
        Ok(Response::new(v1::SetInstanceOverrideResponse {
            header: self.header(),
            operator_override: Some(set),
            registered,
        }))
    }

    async fn clear_instance_override(
        &self,
        request: Request<v1::ClearInstanceOverrideRequest>,
    ) -> Result<Response<v1::ClearInstanceOverrideResponse>, Status> {
        self.note(format!("clear the override of {}", request.into_inner().instance_id));
        self.refusal()?;
        Ok(Response::new(v1::ClearInstanceOverrideResponse { header: self.header(), cleared: true }))
    }

    async fn list_instance_overrides(
        &self,
        request: Request<v1::ListInstanceOverridesRequest>,
    ) -> Result<Response<v1::ListInstanceOverridesResponse>, Status> {
        self.refusal()?;
        // Two pages of one override each.
        let first = request.into_inner().page_token.is_empty();
        let entry = v1::OverrideEntry {
            namespace: "default".into(),
            service_name: "orders".into(),
            instance_id: if first { "a" } else { "b" }.into(),
            ..Default::default()
        };
        Ok(Response::new(v1::ListInstanceOverridesResponse {
            header: self.header(),
            overrides: vec![entry],
            next_page_token: if first { "more".into() } else { String::new() },
        }))
    }

    async fn end_protection(
        &self,
        request: Request<v1::EndProtectionRequest>,
    ) -> Result<Response<v1::EndProtectionResponse>, Status> {
        let request = request.into_inner();
        self.note(format!(
            "end protection of {:?} everywhere {}",
            request.service_name, request.all_namespaces
        ));
        self.refusal()?;
        Ok(Response::new(v1::EndProtectionResponse { header: self.header(), ended: 2 }))
    }
}
