//! Faults, one after the other, each healed before the next.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use registry_tests::check::{Recorder, Time};
use registry_tests::cluster::Cluster;
use rustix::process::Signal;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// kill -9 of the leader.
    KillLeader,
    /// kill -9 of a follower.
    KillFollower,
    /// kill -9 of all nodes at once.
    KillAll,
    /// The leader is told to stop and does it politely.
    StopLeader,
    /// The leader does not run for 0.1 to 10 s, and does not know it.
    PauseLeader,
    /// The same of a follower.
    PauseFollower,
    /// The same of all at once.
    PauseAll,
    /// Nothing passes between the leader and the others.
    IsolateLeader,
    /// The same of a follower.
    IsolateFollower,
    /// What the leader sends does not arrive, but it hears the others.
    MuteLeader,
    /// What is sent to the leader does not arrive, but it is heard.
    DeafLeader,
    /// Two nodes do not reach each other; both reach the third.
    CutPair,
}

impl Fault {
    /// All of them; each is as likely as the others.
    const ALL: [Fault; 12] = [
        Fault::KillLeader,
        Fault::KillFollower,
        Fault::KillAll,
        Fault::StopLeader,
        Fault::PauseLeader,
        Fault::PauseFollower,
        Fault::PauseAll,
        Fault::IsolateLeader,
        Fault::IsolateFollower,
        Fault::MuteLeader,
        Fault::DeafLeader,
        Fault::CutPair,
    ];

    /// True if the others have to elect a new leader while it lasts.
    pub fn takes_the_leader(self, lasted: Duration) -> bool {
        match self {
            Fault::KillLeader | Fault::IsolateLeader | Fault::MuteLeader => true,
            Fault::PauseLeader => lasted > Duration::from_secs(1),
            _ => false,
        }
    }
}

/// A fault that was made.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    /// What.
    pub fault: Fault,
    /// When it began.
    pub from: Time,
    /// When it was healed.
    pub to: Time,
}

/// Makes faults for so long, in an order that is all of them shuffled, again and again.
pub async fn rage(
    cluster: &mut Cluster,
    recorder: &Recorder,
    time: Duration,
    dice: &mut StdRng,
) -> Vec<Made> {
    let end = recorder.now() + time;
    let mut made = Vec::new();
    let mut next: Vec<Fault> = Vec::new();
    while recorder.now() < end {
        if next.is_empty() {
            next = Fault::ALL.to_vec();
        }
        let fault = next.swap_remove(dice.random_range(0..next.len()));
        let leader = cluster.leader().await;
        let from = recorder.now();
        strike(cluster, fault, leader, dice).await;
        let to = recorder.now();
        heal(cluster, recorder).await;
        made.push(Made { fault, from, to });
        // Some faults come while the cluster is still busy with the last one.
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..800))).await;
    }
    made
}

/// Mostly short, at times up to ten seconds.
fn pause(dice: &mut StdRng) -> Duration {
    let most = if dice.random_bool(0.2) { 10_000 } else { 2_000 };
    Duration::from_millis(dice.random_range(100..most))
}

async fn strike(cluster: &mut Cluster, fault: Fault, leader: usize, dice: &mut StdRng) {
    let nodes = cluster.nodes.len();
    let follower = (leader + dice.random_range(1..nodes)) % nodes;
    let network = cluster.partition.as_ref().expect("the network can be cut");
    let others = (0..nodes).filter(|other| *other != leader);
    match fault {
        Fault::KillLeader => cluster.nodes[leader].kill(),
        Fault::KillFollower => cluster.nodes[follower].kill(),
        Fault::KillAll => return cluster.kill_all(),
        Fault::StopLeader => {
            cluster.nodes[leader].stop().await;
            return;
        }
        Fault::PauseLeader => cluster.nodes[leader].signal(Signal::STOP),
        Fault::PauseFollower => cluster.nodes[follower].signal(Signal::STOP),
        Fault::PauseAll => cluster.freeze(),
        Fault::IsolateLeader => network.isolate(leader),
        Fault::IsolateFollower => network.isolate(follower),
        Fault::MuteLeader => others.for_each(|other| network.cut(leader, other)),
        Fault::DeafLeader => others.for_each(|other| network.cut(other, leader)),
        Fault::CutPair => {
            network.cut(leader, follower);
            network.cut(follower, leader);
        }
    }
    tokio::time::sleep(pause(dice)).await;
}

/// Everything runs again and reaches each other.
async fn heal(cluster: &mut Cluster, recorder: &Recorder) {
    cluster.thaw();
    cluster.partition.as_ref().expect("the network can be cut").heal();
    for index in 0..cluster.nodes.len() {
        if !cluster.nodes[index].is_started() {
            recorder.starts(&cluster.nodes[index].name);
            cluster.start_node(index);
        }
    }
    cluster.ready().await;
}

/// How often each fault was made.
pub fn counts(made: &[Made]) -> BTreeMap<Fault, usize> {
    let mut counts = BTreeMap::new();
    for made in made {
        *counts.entry(made.fault).or_default() += 1;
    }
    counts
}
