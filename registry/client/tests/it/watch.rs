//! Watches across nodes.

use std::time::Duration;

use registry_client::v1::{ErrorReason, Position, WatchRequest};
use registry_client::{Client, Watch, WatchEvent};
use tonic::Code;

use crate::mock::{Fault, Mock, instance, refusal, shutting_down};

fn watch(client: &Client) -> Watch {
    client.watch(WatchRequest { service_name: "orders".into(), ..Default::default() })
}

/// The next event that is not about connections or bookmarks.
async fn news(watch: &mut Watch) -> WatchEvent {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(60), watch.next()).await.unwrap().unwrap();
        match event {
            WatchEvent::Connected { .. } | WatchEvent::Disconnected { .. } | WatchEvent::Bookmark { .. } => {}
            WatchEvent::Resumed { .. } => {}
            event => return event,
        }
    }
}

#[tokio::test]
async fn a_watch_resumes_elsewhere_without_gap_or_duplicate() {
    let mock = Mock::new(3);
    let client = mock.client().await;
    let mut watch = watch(&client);
    let WatchEvent::Snapshot { instances, .. } = news(&mut watch).await else { panic!("a snapshot first") };
    assert!(instances.is_empty());
    for revision in 1..=60_u64 {
        client.register(instance(u32::try_from(revision).unwrap())).await.unwrap();
        let endpoint = watch.endpoint().map(str::to_owned);
        match (revision % 4, endpoint) {
            (0, Some(endpoint)) => mock.net.cut(&endpoint),
            (1, Some(endpoint)) => {
                let node = mock.nodes.iter().find(|node| node.endpoint == endpoint).unwrap();
                node.fail("watching", Fault::Refuse(shutting_down()));
            }
            _ => {}
        }
        let WatchEvent::Changes { changes, position } = news(&mut watch).await else {
            panic!("nothing but changes")
        };
        assert_eq!((changes.revision, position.revision, changes.events.len()), (revision, revision, 1));
    }
    assert!(client.metrics().watches_resumed > 10);
    assert_eq!(mock.store().violations, Vec::<String>::new());
}

#[tokio::test]
async fn a_compacted_position_and_another_epoch_heal_by_a_snapshot() {
    let mock = Mock::new(1);
    let client = mock.client().await;
    client.register(instance(1)).await.unwrap();
    let mut watch = watch(&client);
    assert!(matches!(news(&mut watch).await, WatchEvent::Snapshot { .. }));

    mock.net.kill("node-1:8080");
    {
        let mut store = mock.store();
        store.register(&instance(2), None).unwrap();
        store.compact();
    }
    mock.net.set("node-1:8080", crate::net::Reach::Up);
    assert!(matches!(news(&mut watch).await, WatchEvent::Compacted { oldest_revision: 2 }));
    let WatchEvent::Snapshot { instances, position, .. } = news(&mut watch).await else { panic!() };
    assert_eq!((instances.len(), position.revision), (2, 2));

    mock.net.kill("node-1:8080");
    mock.store().epoch = 9;
    mock.net.set("node-1:8080", crate::net::Reach::Up);
    assert!(matches!(news(&mut watch).await, WatchEvent::EpochChanged));
    let WatchEvent::Snapshot { position, .. } = news(&mut watch).await else { panic!() };
    assert_eq!(position, Position { epoch: 9, revision: 2 });
}

#[tokio::test]
async fn a_future_position_is_dropped_and_a_wrong_request_ends_the_watch() {
    let mock = Mock::new(1);
    let client = mock.client().await;
    let future = refusal(Code::OutOfRange, ErrorReason::FutureRevision, "NEVER", &[]);
    mock.nodes[0].fail("watch", Fault::Refuse(future));
    let resume = Some(Position { epoch: 4711, revision: 900 });
    let mut watch = client.watch(WatchRequest { resume, ..Default::default() });
    assert!(matches!(news(&mut watch).await, WatchEvent::EpochChanged));
    assert!(matches!(news(&mut watch).await, WatchEvent::Snapshot { .. }));

    let invalid = refusal(Code::InvalidArgument, ErrorReason::InvalidField, "NEVER", &[]);
    mock.nodes[0].fail("watch", Fault::Refuse(invalid));
    let mut watch = client.watch(WatchRequest::default());
    for _ in 0..2 {
        assert!(watch.next().await.unwrap_err().is(ErrorReason::InvalidField));
    }
}
