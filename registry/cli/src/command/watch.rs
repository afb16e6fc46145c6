//! `watch`: one endless list of changes, whatever happens to the nodes that tell them.

use std::time::Duration;

use registry_client::{CallOptions, Client, WatchEvent};
use registry_proto::v1::{self, Position};

use crate::args::instance::proto_duration;
use crate::args::value::Start;
use crate::args::{Global, Watch};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::text::clean;
use crate::output::{Screen, watch as lines};
use crate::session::{self, Reach};

/// Prints changes until interrupted, or until `--count` of them.
pub(super) async fn watch(args: &Watch, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let client = session::connected(global, Reach::Members, screen).await?;
    let action = || match &args.service {
        Some(service) => format!("watch {service}"),
        None => "watch".to_owned(),
    };
    let mut watch = client.watch(request(args, &client).await?);
    let mut left = args.count;
    let mut progress = Some(screen.progress("waiting for the first answer"));
    loop {
        let event = watch.next().await.map_err(|error| Error::of_call(action(), &error))?;
        progress = progress.filter(|_| matches!(event, WatchEvent::Connected { .. }));
        if let WatchEvent::Disconnected { error } = &event {
            let node = error.endpoint().unwrap_or("the node");
            screen.warn(&clean(&format!("the stream from {node} ended ({}); resuming", error.message())));
        }
        let complete = matches!(event, WatchEvent::Snapshot { .. } | WatchEvent::Resumed { .. });
        let told = messages(event);
        for message in &told {
            screen.write(&lines::render(message, screen.rendering())?)?;
        }
        if let Some(left) = &mut left {
            let changes: usize =
                told.iter().flat_map(|message| &message.changes).map(|c| c.events.len()).sum();
            *left = left.saturating_sub(changes as u64);
            if *left == 0 && (complete || changes > 0) {
                return Ok(Exit::Success);
            }
        }
    }
}

async fn request(args: &Watch, client: &Client) -> Result<v1::WatchRequest, Error> {
    let (min_revision, min_revision_epoch) = args.freshness.min_revision();
    let resume = match args.from {
        Some(start) => Some(position(start, client).await?),
        None => None,
    };
    Ok(v1::WatchRequest {
        service_name: args.service.clone().unwrap_or_default(),
        namespace: args.namespace.clone(),
        all_namespaces: args.all,
        consistency: args.freshness.level().into(),
        max_staleness: args.freshness.max_staleness(),
        min_revision,
        min_revision_epoch,
        resume,
        changes_only: args.changes_only,
        omit_previous: false,
        bookmark_interval: args.bookmarks.map(proto_duration),
    })
}

/// A position; without an epoch it is of the history that the cluster has now.
async fn position(start: Start, client: &Client) -> Result<Position, Error> {
    let epoch = match start.epoch {
        Some(epoch) => epoch,
        None => {
            let status = client
                .with(CallOptions::new())
                .cluster_status(v1::ClusterStatusRequest { local: true })
                .await
                .map_err(|error| Error::of_call("learn the epoch for --from", &error))?;
            status.header.map_or(status.epoch, |header| header.epoch)
        }
    };
    Ok(Position { epoch, revision: start.revision })
}

/// The messages of one uninterrupted stream that would have told the event.
fn messages(event: WatchEvent) -> Vec<v1::WatchResponse> {
    let plain = |kind: v1::WatchKind| v1::WatchResponse { kind: kind.into(), ..Default::default() };
    match event {
        WatchEvent::Snapshot { instances, position, staleness } => {
            let synced = placed(v1::WatchKind::Synced, position, staleness);
            let part = v1::WatchResponse { instances, ..plain(v1::WatchKind::Snapshot) };
            if part.instances.is_empty() { vec![synced] } else { vec![part, synced] }
        }
        WatchEvent::Resumed { position, staleness } => {
            vec![placed(v1::WatchKind::Synced, position, staleness)]
        }
        WatchEvent::Changes { changes, position } => vec![v1::WatchResponse {
            revision: position.revision,
            changes: vec![changes],
            ..plain(v1::WatchKind::Changes)
        }],
        WatchEvent::Bookmark { position, staleness } => {
            vec![placed(v1::WatchKind::Bookmark, position, staleness)]
        }
        WatchEvent::Compacted { oldest_revision } => {
            vec![v1::WatchResponse { oldest_revision, ..plain(v1::WatchKind::Compacted) }]
        }
        WatchEvent::EpochChanged => vec![plain(v1::WatchKind::EpochChanged)],
        // Connections are no part of what is watched.
        _ => Vec::new(),
    }
}

/// A message that tells where the view stands and how old the data is; no age = not known.
fn placed(kind: v1::WatchKind, position: Position, staleness: Option<Duration>) -> v1::WatchResponse {
    let header = v1::ResponseHeader {
        epoch: position.epoch,
        revision: position.revision,
        staleness: staleness.map(proto_duration),
        staleness_unknown: staleness.is_none(),
        ..Default::default()
    };
    v1::WatchResponse {
        header: Some(header),
        kind: kind.into(),
        revision: position.revision,
        ..Default::default()
    }
}
