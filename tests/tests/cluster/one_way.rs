//! Links that work in one direction only end in one leader that a majority follows (P/N8).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use registry_proto::v1::Consistency;
use registry_tests::api::{Api, registration};
use registry_tests::cluster::{Cluster, Options};
use registry_tests::timing::assert_within;
use registry_tests::wait;

/// Longest wait for one write: a call that met the old leader is not waited for.
const ONE_WRITE: Duration = Duration::from_millis(500);

/// Writes to one node, one after the other, whatever becomes of them: so that a leader has entries to send.
struct Pressure {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Pressure {
    fn on(api: Api) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut port = 1_000;
            while !stopped.load(Ordering::Relaxed) {
                port += 1;
                let _ = tokio::time::timeout(
                    ONE_WRITE / 10,
                    api.register(registration("load", "127.0.0.1", port)),
                )
                .await;
            }
        });
        Self { stop, task }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("it does not panic");
    }
}

async fn write(api: &Api, port: &AtomicU32) -> Result<u32, String> {
    let port = port.fetch_add(1, Ordering::Relaxed);
    let call = api.register(registration("orders", "127.0.0.1", port));
    match tokio::time::timeout(ONE_WRITE, call).await {
        Ok(answer) => answer.map(|_| port).map_err(|status| status.to_string()),
        Err(_) => Err("no answer".to_owned()),
    }
}

/// Cuts the links of the leader in one direction and sees the others go on, then heals.
async fn the_others_go_on(cut: impl Fn(&Cluster, usize, usize)) {
    let cluster = Cluster::start(Options { partition: true, ..Default::default() }).await;
    let leader = cluster.leader().await;
    let others = cluster.followers().await;
    let port = AtomicU32::new(1);
    let before = wait::until("a first write", wait::PATIENCE, || write_at(&cluster, others[0], &port)).await;
    let pressure = Pressure::on(cluster.api(leader));

    for other in &others {
        cut(&cluster, leader, *other);
    }
    let begun = Instant::now();
    let mut acknowledged = vec![before];
    for other in &others {
        let written =
            wait::until("a write at the majority", wait::PATIENCE, || write_at(&cluster, *other, &port));
        acknowledged.push(written.await);
    }
    assert_within("writes at both nodes after the cut", begun.elapsed(), Duration::from_secs(3));
    let new = wait::until("another leader", wait::PATIENCE, || async {
        let status = cluster.api(others[0]).status(true).await.map_err(|status| status.to_string())?;
        match cluster.index_of(&status.leader_id) {
            Some(new) if new != leader => Ok(new),
            _ => Err(status.leader_id),
        }
    })
    .await;
    assert!(others.contains(&new));

    // It stays so for several phases of the old leader: nothing that it sends makes the others follow it.
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        let written = wait::until("writes to go on", wait::PATIENCE, || write_at(&cluster, others[0], &port));
        acknowledged.push(written.await);
        let status = cluster.api(others[0]).status(true).await.expect("it answers");
        assert_ne!(cluster.index_of(&status.leader_id), Some(leader), "the old leader leads again");
    }

    cluster.partition.as_ref().expect("it is there").heal();
    let pressure_ends = pressure.end();
    wait::until("the old leader to serve again", wait::PATIENCE, || async {
        let api = cluster.api(leader);
        write(&api, &port).await?;
        let answer = api
            .discover_at("orders", Consistency::Linearizable)
            .await
            .map_err(|status| status.to_string())?;
        let shown: Vec<u32> = answer.instances.iter().map(|instance| instance.port).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|port| !shown.contains(*port)).collect();
        assert!(lost.is_empty(), "acknowledged, but lost: {lost:?}");
        Ok::<_, String>(())
    })
    .await;
    pressure_ends.await;
}

async fn write_at(cluster: &Cluster, index: usize, port: &AtomicU32) -> Result<u32, String> {
    write(&cluster.api(index), port).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_sends_but_does_not_hear_is_replaced() {
    the_others_go_on(|cluster, leader, other| cluster.partition.as_ref().unwrap().cut(other, leader)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hears_but_does_not_send_is_replaced() {
    the_others_go_on(|cluster, leader, other| cluster.partition.as_ref().unwrap().cut(leader, other)).await;
}
