//! `registry.v1.RegistryService`: what owners of instances and operators write.

use futures::stream::BoxStream;
use registry_proto::v1;
use registry_state::{InstanceKey, OverrideView};
use tonic::{Request, Response, Status, Streaming};

use super::convert::{self, OverridesQuery, Scope};
use super::front::Front;
use crate::request::page::PageToken;
use crate::request::read::View;
use crate::request::write::Write;
use crate::request::{Caller, time_allowed};

type Answer<T> = Result<Response<T>, Status>;

/// Answers by what is behind the door.
#[derive(Clone)]
pub struct RegistryService {
    front: Front,
}

impl RegistryService {
    /// A service behind this door.
    pub fn new(front: Front) -> Self {
        Self { front }
    }

    async fn write<W: Write>(&self, request: Request<W>) -> Answer<W::Response> {
        let core = self.front.core()?;
        let caller = Caller::of(request.metadata()).map_err(|error| core.head.status(error))?;
        let answer = core.writer.submit(request.into_inner(), &caller).await;
        let answer = answer.map_err(|error| core.head.status(error))?;
        let mut header = core.head.at(answer.revision);
        header.forwarded = answer.forwarded;
        header.replayed = answer.replayed;
        let mut response = answer.response;
        W::head(&mut response, header);
        Ok(Response::new(response))
    }
}

#[tonic::async_trait]
impl v1::registry_service_server::RegistryService for RegistryService {
    type KeepAliveStream = BoxStream<'static, Result<v1::KeepAliveResponse, Status>>;

    async fn register(
        &self,
        request: Request<v1::ServiceRegisterRequest>,
    ) -> Answer<v1::ServiceRegisterResponse> {
        self.write(request).await
    }

    async fn batch_register(
        &self,
        request: Request<v1::BatchRegisterRequest>,
    ) -> Answer<v1::BatchRegisterResponse> {
        self.write(request).await
    }

    async fn deregister(
        &self,
        request: Request<v1::ServiceDeregisterRequest>,
    ) -> Answer<v1::ServiceDeregisterResponse> {
        self.write(request).await
    }

    async fn set_instance_state(
        &self,
        request: Request<v1::SetInstanceStateRequest>,
    ) -> Answer<v1::SetInstanceStateResponse> {
        self.write(request).await
    }

    async fn heartbeat(&self, request: Request<v1::HeartbeatRequest>) -> Answer<v1::HeartbeatResponse> {
        let core = self.front.core()?;
        let caller = Caller::of(request.metadata()).map_err(|error| core.head.status(error))?;
        let _permit = core.admission.heartbeat().map_err(|error| core.head.status(error))?;
        let answer = core.keep_alive.heartbeat(request.into_inner(), &caller).await;
        answer.map(Response::new).map_err(|error| core.head.status(error))
    }

    async fn keep_alive(
        &self,
        request: Request<Streaming<v1::KeepAliveRequest>>,
    ) -> Answer<Self::KeepAliveStream> {
        let core = self.front.core()?;
        Ok(Response::new(core.keep_alive.keep_alive(request.into_inner())))
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Answer<v1::DrainResponse> {
        let core = self.front.core()?;
        let drain = async {
            let caller = Caller::of(request.metadata())?;
            let allowed = time_allowed(request.metadata())?;
            core.drains.drain(request.into_inner(), &caller, allowed).await
        };
        let answer = drain.await.map_err(|error| core.head.status(error))?;
        let mut header = core.head.at(answer.revision);
        header.forwarded = answer.forwarded;
        header.replayed = answer.replayed;
        Ok(Response::new(v1::DrainResponse { header: Some(header), ..answer.response }))
    }

    async fn set_instance_override(
        &self,
        request: Request<v1::SetInstanceOverrideRequest>,
    ) -> Answer<v1::SetInstanceOverrideResponse> {
        self.write(request).await
    }

    async fn clear_instance_override(
        &self,
        request: Request<v1::ClearInstanceOverrideRequest>,
    ) -> Answer<v1::ClearInstanceOverrideResponse> {
        self.write(request).await
    }

    async fn list_instance_overrides(
        &self,
        request: Request<v1::ListInstanceOverridesRequest>,
    ) -> Answer<v1::ListInstanceOverridesResponse> {
        let core = self.front.core()?;
        let list = async {
            let caller = Caller::of(request.metadata())?;
            let query = convert::list_overrides(request.into_inner())?;
            let view = core.reader.view(&query.freshness, &caller).await?;
            Ok(list_overrides(&query, &view, core.head.of(&view)))
        };
        list.await.map(Response::new).map_err(|error| core.head.status(error))
    }

    async fn end_protection(
        &self,
        request: Request<v1::EndProtectionRequest>,
    ) -> Answer<v1::EndProtectionResponse> {
        self.write(request).await
    }
}

/// One page of overrides.
fn list_overrides(
    query: &OverridesQuery,
    view: &View,
    header: v1::ResponseHeader,
) -> v1::ListInstanceOverridesResponse {
    let state = &view.published.state;
    let (from, skip) = match (&query.after, &query.scope) {
        (Some(PageToken { last, .. }), _) => (key_of(last), true),
        (None, Scope::All) => (None, false),
        (None, Scope::Namespace(namespace)) => (Some(InstanceKey::new(namespace, "", "")), false),
        (None, Scope::Service { namespace, service_name }) => {
            (Some(InstanceKey::new(namespace, service_name, "")), false)
        }
    };
    let mut rest = state
        .overrides_from(from.as_ref())
        .skip_while(|entry| skip && from.as_ref() == Some(entry.key))
        .take_while(|entry| covers(&query.scope, entry));
    let overrides: Vec<_> = rest.by_ref().take(query.page_size).map(|entry| override_entry(&entry)).collect();
    let more = rest.next().is_some();
    let next_page_token = match overrides.last() {
        Some(last) if more => PageToken {
            question: query.question,
            epoch: header.epoch,
            revision: header.revision,
            last: vec![last.namespace.clone(), last.service_name.clone(), last.instance_id.clone()],
        }
        .to_string(),
        _ => String::new(),
    };
    v1::ListInstanceOverridesResponse { header: Some(header), overrides, next_page_token }
}

fn key_of(parts: &[String]) -> Option<InstanceKey> {
    let [namespace, service, instance_id] = parts else { return None };
    Some(InstanceKey::new(namespace, service, instance_id))
}

fn covers(scope: &Scope, entry: &OverrideView<'_>) -> bool {
    let service = &entry.key.service;
    match scope {
        Scope::All => true,
        Scope::Namespace(namespace) => service.namespace == *namespace,
        Scope::Service { namespace, service_name } => {
            service.namespace == *namespace && service.name == *service_name
        }
    }
}

fn override_entry(entry: &OverrideView<'_>) -> v1::OverrideEntry {
    v1::OverrideEntry {
        namespace: entry.key.service.namespace.to_string(),
        service_name: entry.key.service.name.to_string(),
        instance_id: entry.key.instance_id.to_string(),
        operator_override: Some(convert::operator_override(entry.operator_override)),
        registered: entry.registered,
    }
}
