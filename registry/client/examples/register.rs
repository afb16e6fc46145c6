//! Registers an instance, holds it until Ctrl-C, then leaves politely.
//!
//! `cargo run -p registry-client --example register -- orders 7001`

#![allow(clippy::print_stdout, reason = "an example talks")]

use std::error::Error;
use std::time::Duration;

use registry_client::{Client, v1};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let service_name = arguments.next().unwrap_or_else(|| "orders".into());
    let port = arguments.next().map_or(Ok(7001), |port| port.parse())?;
    let seeds = std::env::var("REGISTRY_ENDPOINTS")
        .unwrap_or_else(|_| "127.0.0.1:8080,127.0.0.1:8081,127.0.0.1:8082".into());

    let client = Client::connect(seeds.split(',')).await?;
    let request =
        v1::ServiceRegisterRequest { service_name, host: "127.0.0.1".into(), port, ..Default::default() };
    let held = client.registration(request).on_status(|status| println!("{status}")).start().await?;
    println!("incarnation {}, lease {:x}; Ctrl-C to leave", held.incarnation(), held.lease_id());

    let mut status = held.watch_status();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        // Replaced by another owner, or refused for good: there is nothing left to hold.
        _ = status.wait_for(|status| status.is_final()) => return Ok(()),
    }
    let drained = held.drain(Duration::from_secs(2)).await?;
    println!(
        "drained: {}",
        if drained.complete { "all watchers know" } else { "some watchers may not know" }
    );
    held.deregister().await?;
    Ok(())
}
