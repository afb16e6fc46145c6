//! The same nodes in a simulation that owns time and network.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use registry::environment::{Bind, Environment, Listener};
use registry::raft::{Consensus, LogDisk, ProposeError, seed_raft};
use registry_client::transport::{ByteStream, Dial};
use registry_wal::sim_disk::SimDisk;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::cluster::{Spec, found, instances, members_at, propose, register, run_node, wait_for};

const PORT: u16 = 9080;

#[derive(Debug)]
struct SimulatedDial;

impl Dial for SimulatedDial {
    fn dial(&self, endpoint: &str) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        let endpoint = endpoint.to_owned();
        Box::pin(async move {
            let stream = turmoil::net::TcpStream::connect(endpoint).await?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}

#[derive(Debug)]
struct SimulatedBind;

impl Bind for SimulatedBind {
    fn bind(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let address = address.to_owned();
        Box::pin(async move {
            let listener = turmoil::net::TcpListener::bind(address).await?;
            Ok(Box::new(Accept(listener)) as Box<dyn Listener>)
        })
    }
}

struct Accept(turmoil::net::TcpListener);

impl Listener for Accept {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn ByteStream>, SocketAddr)>> {
        Box::pin(async {
            let (stream, from) = self.0.accept().await?;
            Ok((Box::new(stream) as Box<dyn ByteStream>, from))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn environment() -> Environment {
    Environment { dial: Arc::new(SimulatedDial), bind: Arc::new(SimulatedBind), ..Environment::system() }
}

type Running = Arc<Mutex<BTreeMap<u64, Consensus>>>;

fn host(id: u64) -> String {
    format!("node-{id}")
}

fn add_node(sim: &mut turmoil::Sim<'_>, id: u64, running: &Running) {
    let folder = Arc::new(TempDir::new().unwrap());
    let disk = SimDisk::new();
    let running = running.clone();
    sim.host(host(id), move || {
        let (folder, disk, running) = (folder.clone(), disk.clone(), running.clone());
        async move {
            let spec = Spec {
                id,
                environment: environment(),
                address: format!("0.0.0.0:{PORT}"),
                directory: folder.path().to_owned(),
                disk: LogDisk::Simulated { disk: Arc::new(disk), sync_time: Duration::from_micros(500) },
                tune: |_| {},
            };
            let node = run_node(spec).await;
            running.lock().unwrap().insert(id, node.consensus.clone());
            // The node lives as long as its host.
            std::future::pending::<()>().await;
            drop(node);
            Ok(())
        }
    });
}

/// Waits until one of these nodes leads with a quorum behind it.
async fn leader_of(running: &Running, among: &[u64]) -> (u64, Consensus) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let candidates: Vec<(u64, Consensus)> = {
            let running = running.lock().unwrap();
            among.iter().filter_map(|id| Some((*id, running.get(id)?.clone()))).collect()
        };
        for (id, consensus) in candidates {
            if consensus.read_index(Instant::now() + Duration::from_millis(500)).await.is_ok() {
                return (id, consensus);
            }
        }
        assert!(Instant::now() < deadline, "no leader among {among:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn cut(one: u64, others: &[u64], heal: bool) {
    for other in others {
        match heal {
            true => turmoil::repair(host(one), host(*other)),
            false => turmoil::partition(host(one), host(*other)),
        }
    }
}

async fn scenario(running: Running) {
    wait_for("three nodes", || (running.lock().unwrap().len() == 3).then_some(())).await;
    let all: Vec<u64> = vec![1, 2, 3];
    let first = running.lock().unwrap()[&1].clone();
    let members = members_at(&all.iter().map(|id| (*id, format!("{}:{PORT}", host(*id)))).collect());
    first.initialize(members).await.unwrap();
    let (old, lonely) = leader_of(&running, &all).await;
    propose(&lonely, &found()).await;
    for n in 0..20 {
        propose(&lonely, &register(n, 50)).await;
    }

    let others: Vec<u64> = all.iter().copied().filter(|id| *id != old).collect();
    cut(old, &others, false);
    let (_, successor) = leader_of(&running, &others).await;
    for n in 20..30 {
        propose(&successor, &register(n, 50)).await;
    }
    let deadline = Instant::now() + Duration::from_secs(3);
    let refused = lonely.propose(&register(99, 50), deadline).await.unwrap_err();
    assert!(matches!(refused, ProposeError::NoQuorum | ProposeError::OutcomeUnknown), "{refused:?}");
    assert_eq!(instances(&lonely), 20, "it still serves what it has");

    cut(old, &others, true);
    let index = successor.published().applied_index();
    let nodes: Vec<Consensus> = running.lock().unwrap().values().cloned().collect();
    for node in &nodes {
        node.wait_applied(index, Instant::now() + Duration::from_secs(20)).await.unwrap();
        // The entry of the lonely node was never acknowledged: it may be there or not.
        assert!(instances(node) >= 30, "{} instances", instances(node));
    }
}

#[test]
fn a_leader_that_is_cut_off_is_replaced_and_catches_up() {
    seed_raft(7);
    let mut sim = turmoil::Builder::new()
        .rng_seed(7)
        .simulation_duration(Duration::from_secs(120))
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(3))
        .build();
    let running = Running::default();
    for id in 1..=3 {
        add_node(&mut sim, id, &running);
    }
    sim.client("test", {
        let running = running.clone();
        async move {
            scenario(running).await;
            Ok(())
        }
    });
    sim.run().unwrap();
}
