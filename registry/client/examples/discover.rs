//! Prints the instances of a service, at every consistency.
//!
//! `cargo run -p registry-client --example discover -- orders`

#![allow(clippy::print_stdout, reason = "an example talks")]

use std::error::Error;

use registry_client::v1::{Consistency, ServiceDiscoveryRequest};
use registry_client::{CallOptions, Client};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let service_name = std::env::args().nth(1).unwrap_or_else(|| "orders".into());
    let seeds = std::env::var("REGISTRY_ENDPOINTS")
        .unwrap_or_else(|_| "127.0.0.1:8080,127.0.0.1:8081,127.0.0.1:8082".into());
    let client = Client::connect(seeds.split(',')).await?;

    for consistency in [Consistency::Linearizable, Consistency::Stale, Consistency::LinearizableOrStale] {
        let request = ServiceDiscoveryRequest { service_name: service_name.clone(), ..Default::default() };
        let answer = client.with(CallOptions::new().consistency(consistency)).discover(request).await?;
        let header = answer.header.clone().unwrap_or_default();
        println!(
            "{consistency:?}: {:?}, revision {}, told by {}",
            answer.status(),
            header.revision,
            header.node_id
        );
        for instance in &answer.instances {
            println!("  {} {}:{} {:?}", instance.instance_id, instance.host, instance.port, instance.state());
        }
    }
    Ok(())
}
