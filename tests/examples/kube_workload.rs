//! A program as users write them, for a pod: `kube_workload ENDPOINT SERVICE`.
//!
//! It registers, renews, discovers and watches through the client library until it is asked for its report:
//! `GET /` on port 7000 tells how far it is, `GET /finish` ends the load, compares what is registered with what
//! was acknowledged, and tells all as JSON.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use registry_client::{Client, Registration, RegistrationStatus, WatchEvent};
use registry_proto::v1::{EventCause, EventKind, ServiceDiscoveryRequest, WatchRequest};
use registry_tests::api::leased;
use registry_tests::workload::{Writer, written};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Registrations per second of the writer.
const WRITES_PER_SECOND: u32 = 20;
/// Leases held, and how long each lives without renewal.
const LEASES: u32 = 5;
const TTL: Duration = Duration::from_secs(10);
/// Between two lookups of the discoverer.
const LOOKUP_INTERVAL: Duration = Duration::from_millis(100);

/// What has been seen so far.
#[derive(Debug, Default)]
struct Seen {
    /// Lookups that succeeded, and the errors of those that did not after all retries of the library.
    lookups: u64,
    failed_lookups: Vec<String>,
    /// Most leases that a lookup missed.
    missing: u32,
    /// Leases that the watch saw expire, and those that their owner had to make again.
    expired: u32,
    reregistered: u32,
    /// Longest time without an acknowledged write.
    longest_pause: Duration,
    /// Why a watch ended for good.
    watch_ended: Option<String>,
}

type Shared = Arc<Mutex<Seen>>;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(endpoint), Some(service)) = (args.next(), args.next()) else {
        panic!("usage: kube_workload ENDPOINT SERVICE");
    };
    let client = Client::connect([endpoint]).await.expect("a registry is there");
    let seen = Shared::default();
    let leases = hold_leases(&client, &service, &seen).await;
    tokio::spawn(watch(client.clone(), service.clone(), seen.clone()));
    tokio::spawn(look_up(client.clone(), service.clone(), seen.clone()));
    let writer = Arc::new(Writer::start(client.clone(), &format!("{service}-writes"), WRITES_PER_SECOND));
    let pauses = tokio::spawn(measure_pauses(writer.clone(), seen.clone()));

    let listener = TcpListener::bind("0.0.0.0:7000").await.expect("port 7000 is free");
    loop {
        let Ok((mut peer, _)) = listener.accept().await else { continue };
        let mut request = [0; 1024];
        let length = peer.read(&mut request).await.unwrap_or(0);
        if !request[..length].starts_with(b"GET /finish") {
            answer(&mut peer, &report(&writer, &seen)).await;
            continue;
        }
        pauses.abort();
        let _ = pauses.await;
        let progress = report(&writer, &seen);
        let writer = Arc::into_inner(writer).expect("the measurement has ended");
        answer(&mut peer, &finish(&client, writer, progress).await).await;
        drop(leases);
        return;
    }
}

async fn answer(peer: &mut tokio::net::TcpStream, body: &Value) {
    let body = body.to_string();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = peer.write_all(format!("{head}{body}").as_bytes()).await;
    let _ = peer.shutdown().await;
}

fn report(writer: &Writer, seen: &Shared) -> Value {
    let seen = seen.lock().expect("no panic inside");
    json!({
        "acknowledged": writer.acknowledged(),
        "lookups": seen.lookups,
        "failedLookups": seen.failed_lookups,
        "missingLeases": seen.missing,
        "expiredLeases": seen.expired,
        "reregistered": seen.reregistered,
        "longestPauseMillis": u64::try_from(seen.longest_pause.as_millis()).expect("not that long"),
        "watchEnded": seen.watch_ended,
    })
}

/// Ends the load and looks for every acknowledged write.
async fn finish(client: &Client, writer: Writer, mut report: Value) -> Value {
    let service = writer.service().to_owned();
    let record = writer.finish().await;
    let mut present = BTreeSet::new();
    let mut request = ServiceDiscoveryRequest { service_name: service, ..Default::default() };
    loop {
        let page = client.discover(request.clone()).await.expect("the registry answers at the end");
        present.extend(written(&page.instances));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let lost: Vec<_> = record.acknowledged.difference(&present).collect();
    report["acknowledged"] = record.acknowledged.len().into();
    report["failedWrites"] = json!(record.failed);
    report["lostWrites"] = json!(lost);
    report
}

async fn hold_leases(client: &Client, service: &str, seen: &Shared) -> Vec<Registration> {
    let mut leases = Vec::new();
    for port in 1..=LEASES {
        let seen = seen.clone();
        let held = client.registration(leased(service, "127.0.0.1", port, TTL)).on_status(move |status| {
            if matches!(status, RegistrationStatus::Reregistering) {
                seen.lock().expect("no panic inside").reregistered += 1;
            }
        });
        leases.push(held.start().await.expect("registered"));
    }
    leases
}

async fn watch(client: Client, service: String, seen: Shared) {
    let mut watch = client.watch(WatchRequest { service_name: service, ..Default::default() });
    loop {
        match watch.next().await {
            Ok(WatchEvent::Changes { changes, .. }) => {
                let expired = changes.events.iter().filter(|event| {
                    event.kind() == EventKind::Removed && event.cause() == EventCause::Expired
                });
                seen.lock().expect("no panic inside").expired += u32::try_from(expired.count()).expect("few");
            }
            Ok(_) => {}
            Err(error) => {
                seen.lock().expect("no panic inside").watch_ended = Some(error.to_string());
                return;
            }
        }
    }
}

async fn look_up(client: Client, service: String, seen: Shared) {
    let request = ServiceDiscoveryRequest { service_name: service, ..Default::default() };
    loop {
        let answer = client.discover(request.clone()).await;
        {
            let mut seen = seen.lock().expect("no panic inside");
            match answer {
                Ok(answer) => {
                    seen.lookups += 1;
                    let found = u32::try_from(answer.instances.len()).expect("few");
                    seen.missing = seen.missing.max(LEASES.saturating_sub(found));
                }
                Err(error) => seen.failed_lookups.push(error.to_string()),
            }
        }
        tokio::time::sleep(LOOKUP_INTERVAL).await;
    }
}

/// The longest time in which the number of acknowledged writes stood still.
async fn measure_pauses(writer: Arc<Writer>, seen: Shared) {
    let (mut count, mut since) = (writer.acknowledged(), Instant::now());
    loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let mut seen = seen.lock().expect("no panic inside");
        seen.longest_pause = seen.longest_pause.max(since.elapsed());
        if writer.acknowledged() != count {
            (count, since) = (writer.acknowledged(), Instant::now());
        }
    }
}
