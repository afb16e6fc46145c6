//! Watch: finds where a watch begins, then leaves it to its [`Session`].

use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt, unfold};
use registry_proto::raw;
use registry_proto::v1;
use registry_state::HistoryGap;
use tonic::Status;

use super::abortable::this_stream;
use super::convert::{self, Consistency, Freshness, WatchQuery};
use crate::error::Error;
use crate::request::Caller;
use crate::request::read::Reader;
use crate::watch::session::Options;
use crate::watch::{Begin, Hub, Session, Source};

/// Messages of a watch.
pub type WatchStream = BoxStream<'static, Result<raw::WatchResponse, Status>>;

/// Opens watches.
#[derive(Clone)]
pub struct Watches {
    hub: Hub,
    reader: Reader,
    source: Arc<dyn Source>,
}

impl Watches {
    /// Watches that get their changes from `hub` and their first state from `reader`.
    pub fn new(hub: Hub, reader: Reader, source: Arc<dyn Source>) -> Self {
        Self { hub, reader, source }
    }

    /// Opens a watch.
    ///
    /// # Errors
    /// INVALID_FIELD, OVERLOADED, SHUTTING_DOWN, and what a read of that freshness gives; with
    /// `changes_only` REVISION_COMPACTED and EPOCH_CHANGED come as the first message's error.
    pub async fn open(&self, request: &v1::WatchRequest, caller: &Caller) -> Result<WatchStream, Error> {
        let query = convert::watch(request)?;
        // Before any state is looked at: what comes after that state is in the queue, or in its history.
        let subscription = self.hub.subscribe(query.scope.clone(), !query.omit_previous)?;
        if query.resume.is_none() {
            subscription.begins_anew();
        }
        if let Some(stream) = this_stream() {
            subscription.reset_with(stream);
        }
        let begin = self.begin(&query, caller).await?;
        let options =
            Options { changes_only: query.changes_only, bookmark_interval: query.bookmark_interval };
        let session = Session::new(subscription, self.source.clone(), options, begin);
        let messages = unfold(session, |mut session| async move {
            let message = session.next().await?;
            Some((message, session))
        });
        Ok(messages.boxed())
    }

    /// Where the watch begins (API/W4 to W7).
    async fn begin(&self, query: &WatchQuery, caller: &Caller) -> Result<Begin, Error> {
        let Some((epoch, revision)) = query.resume else {
            let published = self.reader.view(&query.freshness, caller).await?.published;
            return Ok(match query.changes_only {
                true => Begin::After { epoch: published.state.epoch(), revision: published.state.revision() },
                false => Begin::Snapshot(published),
            });
        };
        // The history says where a resume stands, however old this node's state is: what it lacks follows.
        let here = self.source.published();
        if here.state.cluster_id().is_some() && here.state.epoch() != epoch {
            let published = self.snapshot_state(query, caller).await?;
            return Ok(Begin::EpochChanged(published));
        }
        let ahead = match here.state.history_since(revision).err() {
            None => false,
            Some(HistoryGap::Future { .. }) => true,
            Some(HistoryGap::Compacted { oldest }) => {
                let published = self.snapshot_state(query, caller).await?;
                return Ok(Begin::Compacted { published, oldest });
            }
        };
        if ahead {
            // Ahead of this node only, or of the whole cluster (V4)?
            let reached = Freshness {
                consistency: Consistency::Stale,
                max_staleness: None,
                min_revision: revision,
                epoch,
            };
            self.reader.view(&reached, caller).await?;
        }
        Ok(Begin::After { epoch, revision })
    }

    /// The state of the snapshot that follows a position of no use. With `changes_only` none will be sent.
    async fn snapshot_state(
        &self,
        query: &WatchQuery,
        caller: &Caller,
    ) -> Result<Arc<crate::raft::Published>, Error> {
        if query.changes_only {
            return Ok(self.source.published());
        }
        Ok(self.reader.view(&query.freshness, caller).await?.published)
    }
}
