//! The watches of one node of the mock.

use std::time::Duration;

use registry_client::v1::{self, ResponseHeader, WatchKind, WatchResponse};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Status;

use super::Fault;
use super::service::Service;

impl Service {
    /// Sends a watch: what was missed or a snapshot, then changes and bookmarks, until CLOSING is scripted.
    pub(super) async fn tell(
        self,
        request: v1::WatchRequest,
        out: mpsc::Sender<Result<WatchResponse, Status>>,
    ) {
        let mut changed = self.store().changed.subscribe();
        let message = |kind: WatchKind, revision| WatchResponse {
            kind: kind.into(),
            revision,
            ..WatchResponse::default()
        };
        let mut told = {
            let (messages, told) = self.first_messages(&request);
            for message in messages {
                if out.send(Ok(message)).await.is_err() {
                    return;
                }
            }
            told
        };
        loop {
            match self.node.fault("watching") {
                Some(Fault::Refuse(status)) => {
                    let _ = out.send(Ok(message(WatchKind::Closing, told))).await;
                    let _ = out.send(Err(status)).await;
                    return;
                }
                Some(Fault::LoseAnswer) => {
                    self.net.cut(&self.node.endpoint);
                    return;
                }
                _ => {}
            }
            // As a node does: whatever waits goes in one message.
            let changes: Vec<_> = {
                let store = self.store();
                store.history.iter().filter(|changes| changes.revision > told).cloned().collect()
            };
            let answer = if let Some(last) = changes.last() {
                told = last.revision;
                WatchResponse { changes, ..message(WatchKind::Changes, told) }
            } else {
                // A short interval: bookmarks are what moves a watch off a stale node.
                if timeout(Duration::from_millis(50), changed.changed()).await.is_ok() {
                    continue;
                }
                let header = self.aged_header();
                WatchResponse { header, ..message(WatchKind::Bookmark, told) }
            };
            if out.send(Ok(answer)).await.is_err() {
                return;
            }
        }
    }

    fn aged_header(&self) -> Option<ResponseHeader> {
        let store = self.store();
        let age = Duration::from_millis(*self.node.staleness_ms.lock().unwrap());
        let header = self.header(&store, store.revision)?;
        Some(ResponseHeader { staleness: age.try_into().ok(), ..header })
    }

    fn first_messages(&self, request: &v1::WatchRequest) -> (Vec<WatchResponse>, u64) {
        let header = self.aged_header();
        let store = self.store();
        let message = |kind: WatchKind, revision| WatchResponse {
            header: header.clone(),
            kind: kind.into(),
            revision,
            ..WatchResponse::default()
        };
        let mut messages = Vec::new();
        match request.resume {
            Some(position) if position.epoch == store.epoch && position.revision >= store.compacted => {
                // The changes themselves follow as live ones.
                return (vec![message(WatchKind::Synced, position.revision)], position.revision);
            }
            Some(position) if position.epoch != store.epoch => {
                messages.push(message(WatchKind::EpochChanged, 0));
            }
            Some(_) => messages
                .push(WatchResponse { oldest_revision: store.compacted, ..message(WatchKind::Compacted, 0) }),
            None => {}
        }
        let instances: Vec<_> = store.instances.values().map(|record| record.instance.clone()).collect();
        messages.extend(
            instances.into_iter().map(|instance| WatchResponse {
                instances: vec![instance],
                ..message(WatchKind::Snapshot, 0)
            }),
        );
        messages.push(message(WatchKind::Synced, store.revision));
        (messages, store.revision)
    }
}
