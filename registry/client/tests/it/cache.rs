//! The view of a service.

use std::collections::BTreeSet;
use std::time::Duration;

use registry_client::v1::{EventCause, Position};
use registry_client::{CacheEvent, CacheEvents, CacheOptions, Client, ServiceCache};

use crate::mock::{Mock, instance, until};
use crate::net::Reach;

fn ids(cache: &ServiceCache) -> BTreeSet<String> {
    cache.view().instances().map(|instance| instance.instance_id.clone()).collect()
}

/// A cache of a service without instances, and its events from now on.
async fn followed(client: &Client) -> (ServiceCache, CacheEvents) {
    let cache = client.cache("orders");
    cache.synced().await.unwrap();
    let mut events = cache.events();
    assert!(matches!(events.next().await, Some(CacheEvent::Reset(view)) if view.is_empty()));
    (cache, events)
}

#[tokio::test]
async fn a_cache_follows_and_reads_its_clients_writes() {
    let mock = Mock::new(3);
    let client = mock.client().await;
    let cache = client.cache("orders");
    assert!(!cache.is_synced() && cache.age().is_none() && cache.pick().is_none());
    cache.synced().await.unwrap();
    for port in 1..=20 {
        let header = client.register(instance(port)).await.unwrap().header.unwrap();
        let position = Position { epoch: header.epoch, revision: header.revision };
        let view = cache.at_least(position, Duration::from_secs(60)).await.unwrap();
        assert_eq!(view.len(), port as usize);
    }
    assert!(cache.pick().is_some() && cache.age().is_some());
    let far = Position { epoch: 1, revision: 1 };
    assert!(cache.at_least(far, Duration::from_millis(20)).await.is_err());
}

#[tokio::test]
async fn a_cache_serves_its_last_view_while_the_registry_is_away_and_heals_by_itself() {
    let mock = Mock::new(3);
    let client = mock.client().await;
    client.register(instance(1)).await.unwrap();
    let cache = client.cache("orders");
    cache.synced().await.unwrap();
    mock.endpoints().iter().for_each(|endpoint| mock.net.kill(endpoint));
    until("the cache knows", || !cache.is_connected()).await;
    let age = cache.age().unwrap();
    until("it grows older", || cache.age().unwrap() > age).await;
    assert_eq!(cache.view().len(), 1);

    mock.store().remove(&BTreeSet::from(["10.0.0.1:1".to_owned()]), EventCause::Expired);
    let changed = cache.changed();
    mock.endpoints().iter().for_each(|endpoint| mock.net.set(endpoint, Reach::Up));
    assert!(changed.await.unwrap().is_empty());
}

#[tokio::test]
async fn events_tell_each_revision_once_whatever_happens_to_the_nodes() {
    let mock = Mock::new(3);
    let client = mock.client().await;
    let (_cache, mut events) = followed(&client).await;
    for revision in 1..=40_u64 {
        client.register(instance(u32::try_from(revision).unwrap())).await.unwrap();
        if revision % 7 == 0 {
            let victim = &mock.endpoints()[usize::try_from(revision).unwrap() % 3];
            mock.net.cut(victim);
        }
        let event = tokio::time::timeout(Duration::from_secs(60), events.next()).await.unwrap();
        let Some(CacheEvent::Changes { changes, view }) = event else { panic!("{event:?}") };
        assert_eq!((changes.revision, view.len() as u64), (revision, revision));
    }
}

#[tokio::test]
async fn a_reader_that_is_too_far_behind_gets_the_whole_view() {
    let mock = Mock::new(1);
    let client = mock.client().await;
    let (cache, mut events) = followed(&client).await;
    for port in 1..=1100 {
        mock.store().register(&instance(port), None).unwrap();
    }
    until("the cache has followed", || cache.view().len() == 1100).await;
    let Some(CacheEvent::Reset(view)) = events.next().await else { panic!("a view instead of events") };
    assert_eq!(view.len(), 1100);
}

#[tokio::test]
async fn a_prompt_reader_gets_every_event_of_a_long_backlog() {
    let mock = Mock::new(1);
    let client = mock.client().await;
    let (cache, mut events) = followed(&client).await;
    let endpoint = mock.endpoints()[0].clone();
    mock.net.kill(&endpoint);
    until("the cache knows", || !cache.is_connected()).await;
    for port in 1..=3000 {
        mock.store().register(&instance(port), None).unwrap();
    }
    mock.net.set(&endpoint, Reach::Up);
    for revision in 1..=3000 {
        let event = tokio::time::timeout(Duration::from_secs(60), events.next()).await.unwrap();
        let Some(CacheEvent::Changes { changes, .. }) = event else { panic!("{event:?} at {revision}") };
        assert_eq!(changes.revision, revision);
    }
}

#[tokio::test]
async fn a_cut_off_node_is_left_for_one_with_fresh_data() {
    let mock = Mock::new(2);
    mock.nodes.iter().for_each(|node| *node.staleness_ms.lock().unwrap() = 0);
    let client = mock.client().await;
    let cache = client.cache_with(CacheOptions::new("orders").max_age(Duration::from_secs(10)));
    cache.synced().await.unwrap();
    let watching = mock.nodes.iter().position(|node| node.count("watch") > 0).unwrap();
    *mock.nodes[watching].staleness_ms.lock().unwrap() = 11_000;
    until("the other node is asked", || mock.nodes[1 - watching].count("watch") > 0).await;
    client.register(instance(1)).await.unwrap();
    until("it follows there", || ids(&cache).len() == 1).await;
    assert!(cache.age().unwrap() < Duration::from_secs(10));
}
