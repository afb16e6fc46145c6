//! Follows a service until Ctrl-C, through failures of nodes.
//!
//! `cargo run -p registry-client --example watch -- orders`

#![allow(clippy::print_stdout, reason = "an example talks")]

use std::error::Error;

use registry_client::{Client, WatchEvent, v1};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let service_name = std::env::args().nth(1).unwrap_or_else(|| "orders".into());
    let seeds = std::env::var("REGISTRY_ENDPOINTS")
        .unwrap_or_else(|_| "127.0.0.1:8080,127.0.0.1:8081,127.0.0.1:8082".into());
    let client = Client::connect(seeds.split(',')).await?;

    let mut watch = client.watch(v1::WatchRequest { service_name, ..Default::default() });
    loop {
        let event = tokio::select! {
            event = watch.next() => event?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        match event {
            WatchEvent::Connected { endpoint } => println!("connected to {endpoint}"),
            WatchEvent::Disconnected { error } => println!("disconnected: {error}"),
            WatchEvent::Snapshot { instances, position, .. } => {
                println!("{} instances at revision {}", instances.len(), position.revision);
            }
            WatchEvent::Changes { changes, .. } => {
                for event in &changes.events {
                    let id = event.instance.as_ref().map_or("", |instance| &instance.instance_id);
                    println!("revision {}: {:?} {id} ({:?})", changes.revision, event.kind(), event.cause());
                }
            }
            WatchEvent::Resumed { position, .. } => println!("resumed at revision {}", position.revision),
            WatchEvent::Bookmark { position, staleness } => {
                println!("nothing new at revision {}; data is {staleness:?} old", position.revision);
            }
            other => println!("{other:?}"),
        }
    }
}
