//! `registry.v1.DiscoveryService`: what consumers read.

mod pages;

use std::sync::Arc;

use registry_proto::raw;
use registry_proto::v1;
use tonic::{Request, Response, Status};

use self::pages::EncodedPages;
use super::convert;
use super::front::Front;
use super::watch::WatchStream;
use crate::request::Caller;

type Answer<T> = Result<Response<T>, Status>;

/// Answers by what is behind the door.
#[derive(Clone)]
pub struct DiscoveryService {
    front: Front,
    encoded: Arc<EncodedPages>,
}

impl DiscoveryService {
    /// A service behind this door.
    pub fn new(front: Front) -> Self {
        Self { front, encoded: Arc::default() }
    }
}

#[tonic::async_trait]
impl raw::DiscoveryService for DiscoveryService {
    type WatchStream = WatchStream;

    async fn discover(
        &self,
        request: Request<v1::ServiceDiscoveryRequest>,
    ) -> Answer<raw::ServiceDiscoveryResponse> {
        let core = self.front.core()?;
        let discover = async {
            let caller = Caller::of(request.metadata())?;
            let query = convert::discover(request.into_inner())?;
            let view = core.reader.view(&query.freshness, &caller).await?;
            let header = core.head.of(&view);
            let held_for = |service: &_| core.leases.held_for(service);
            Ok(pages::discover(&query, &view.published.state, header, &self.encoded, held_for))
        };
        discover.await.map(Response::new).map_err(|error| core.head.status(error))
    }

    async fn list_services(
        &self,
        request: Request<v1::ListServicesRequest>,
    ) -> Answer<v1::ListServicesResponse> {
        let core = self.front.core()?;
        let list = async {
            let caller = Caller::of(request.metadata())?;
            let query = convert::list_services(request.into_inner())?;
            let view = core.reader.view(&query.freshness, &caller).await?;
            let header = core.head.of(&view);
            Ok(pages::list_services(&query, &view.published.state, header))
        };
        list.await.map(Response::new).map_err(|error| core.head.status(error))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        let core = self.front.core()?;
        let open = async {
            // The deadline of a stream is that of the whole stream; only its beginning waits for something.
            let caller = Caller::within(super::limits::UNARY_DEADLINE);
            core.watches.open(request.get_ref(), &caller).await
        };
        open.await.map(Response::new).map_err(|error| core.head.status(error))
    }
}
