//! One call: attempts, repetitions, what is learnt from answers.

use std::sync::Arc;

use futures::Stream;
use registry_proto::v1::{self, Position};
use tonic::Streaming;

use crate::builder::ClientBuilder;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::options::CallOptions;
use crate::rpc::Unary;

/// What all handles of a client share.
pub(crate) struct Core {
    pub(crate) pool: Pool,
    pub(crate) serials: Serials,
    pub(crate) session: Session,
    pub(crate) metrics: Arc<Metrics>,
}

#[derive(Debug)]
pub(crate) struct Pool;
pub(crate) struct Serials;
pub(crate) struct Session;

impl Pool {
    pub(crate) fn connected_endpoints(&self) -> Vec<String> {
        todo!()
    }
    pub(crate) fn leader(&self) -> Option<String> {
        todo!()
    }
}
impl Serials {
    pub(crate) fn client_id(&self) -> String {
        todo!()
    }
}
impl Session {
    pub(crate) fn position(&self) -> Option<Position> {
        todo!()
    }
}

impl Core {
    pub(crate) fn start(_builder: ClientBuilder) -> Result<Arc<Self>, Error> {
        todo!()
    }

    pub(crate) async fn connected(&self, _options: &CallOptions) -> Result<(), Error> {
        todo!()
    }

    pub(crate) async fn call<R: Unary>(
        &self,
        _options: &CallOptions,
        _request: R,
    ) -> Result<R::Answer, Error> {
        todo!()
    }

    pub(crate) async fn open_watch(
        &self,
        _options: &CallOptions,
        _request: v1::WatchRequest,
    ) -> Result<(Streaming<v1::WatchResponse>, String), Error> {
        todo!()
    }

    pub(crate) async fn open_keep_alive(
        &self,
        _options: &CallOptions,
        _requests: impl Stream<Item = v1::KeepAliveRequest> + Send + 'static,
    ) -> Result<(Streaming<v1::KeepAliveResponse>, String), Error> {
        todo!()
    }
}
