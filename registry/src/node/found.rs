//! Carries out what `founding.rs` decides for a node without a log: it founds a cluster with the others
//! (P/N3), or, when there is one, asks for a place in it (P/N4).

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use registry_proto::internal::PrepareRequest;
use registry_state::MembershipOwner;
use tokio::time::timeout;

use super::hello::Introductions;
use super::join::Joiner;
use crate::config::ValidConfig;
use crate::environment::Environment;
use crate::exit::Fatal;
use crate::founding::{Answer, Own, Step, decide};
use crate::identity::MemberId;
use crate::joining::Next;
use crate::raft::Member;
use crate::server::admin::Word;
use crate::standing::{Cause, Stage, Standing};

/// Between two rounds of asking: people who start the nodes one after another see no delay.
const PAUSE: Duration = Duration::from_millis(250);

/// How a node without a log gets to take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// It founds: all places are taken, and Raft is to be initialised with these voters.
    Found(BTreeMap<u64, Member>),
    /// A leader has called.
    Follow,
    /// It was put into quarantine.
    Never,
    /// The cluster wants it to start anew: its disk belonged to a member that was removed, or the founding that
    /// it has a place in was given up.
    Anew,
}

/// Waits until this node may take part in a cluster. Its log and vote are empty.
pub(super) async fn found(
    config: &ValidConfig,
    environment: &Environment,
    standing: &Standing,
    introductions: &Introductions,
    joiner: &Joiner,
    word: &Word,
) -> Result<Way, Fatal> {
    loop {
        match standing.stage() {
            Stage::Waiting { .. } => {}
            Stage::Called | Stage::Running => return Ok(Way::Follow),
            Stage::Quarantined(_) => return Ok(Way::Never),
        }
        let round = if may_found(config, standing) {
            founding_round(config, environment, standing, introductions, word).await?
        } else {
            Round::Join
        };
        let pause = match round {
            Round::Done(way) => return Ok(way),
            Round::Wait(what) => {
                standing.wait_for(&what, false);
                PAUSE
            }
            Round::Join => match joiner.ask().await {
                Next::StartAnew => return Ok(Way::Anew),
                Next::AskOn => Duration::ZERO,
                Next::Pause(pause, what) => {
                    standing.wait_for(&what, true);
                    pause
                }
            },
        };
        let mut stage = standing.watch_stage();
        tokio::select! {
            // Over early if a leader calls.
            _ = timeout(pause, stage.wait_for(|stage| !matches!(stage, Stage::Waiting { .. }))) => {}
            () = standing.renewed() => return Ok(Way::Anew),
        }
    }
}

/// A node that a leader has admitted never founds a cluster.
fn may_found(config: &ValidConfig, standing: &Standing) -> bool {
    config.founds() && !standing.identity().admitted
}

fn is_operated(config: &ValidConfig) -> bool {
    config.cluster_settings.owner() == MembershipOwner::Operator
}

/// What one round of founding came to.
enum Round {
    Done(Way),
    Wait(String),
    /// There is a cluster already.
    Join,
}

async fn founding_round(
    config: &ValidConfig,
    environment: &Environment,
    standing: &Standing,
    introductions: &Introductions,
    word: &Word,
) -> Result<Round, Fatal> {
    let hellos = introductions.others.iter().map(|(node, client)| async move {
        let answer = introductions.hello(client).await;
        let answer =
            answer.map_or(Answer::Silent, |answer| Answer::of(&answer, &node.node_id, &config.nodes_digest));
        (node.node_id.clone(), answer)
    });
    let answers: BTreeMap<String, Answer> = join_all(hellos).await.into_iter().collect();
    let own = Own {
        node_id: config.node.node_id.clone(),
        cluster_id: standing.member().map(|member| member.cluster_id),
    };
    Ok(match decide(&own, &answers) {
        Step::Wait(what) => Round::Wait(what),
        Step::StandAside { node_id, cluster_id } => {
            tracing::debug!(node_id, cluster_id, "there is a cluster already");
            word.refuse(&node_id, &cluster_id);
            Round::Join
        }
        Step::DiskLost { node_id } => {
            let reason = format!(
                "the log in {} is empty, but {node_id} takes part in the cluster that this node founded: \
                 the disk was lost",
                config.data_dir.display()
            );
            standing.quarantine(Cause::DiskLost, reason);
            Round::Done(Way::Never)
        }
        // Under the operator the first step is its word, given once (P/N3).
        Step::Offer { cluster_id: None } if is_operated(config) && !word.is_given() => {
            Round::Wait("waiting for the operator to found the cluster (Initialize)".to_owned())
        }
        Step::Offer { cluster_id } => {
            let cluster_id =
                cluster_id.or_else(|| word.cluster_id()).unwrap_or_else(|| environment.random.uuid());
            match offer_all(config, &cluster_id, standing, introductions, &answers).await {
                Ok(voters) => {
                    environment.crash.pass("places-offered");
                    // Durable before Raft starts: after a crash the same cluster is founded on.
                    let raft_id = rank(config, &config.node.node_id);
                    standing.prepare(MemberId { cluster_id, raft_id })?;
                    environment.crash.pass("founder-prepared");
                    Round::Done(Way::Found(voters))
                }
                Err(why) => Round::Wait(why),
            }
        }
    })
}

/// Rank in the list of names, from 1: the Raft id of a founding member.
fn rank(config: &ValidConfig, node_id: &str) -> u64 {
    config.nodes.iter().take_while(|node| node.node_id != node_id).count() as u64 + 1
}

async fn offer_all(
    config: &ValidConfig,
    cluster_id: &str,
    standing: &Standing,
    introductions: &Introductions,
    answers: &BTreeMap<String, Answer>,
) -> Result<BTreeMap<u64, Member>, String> {
    tracing::info!(cluster_id, "founding the cluster: offering places");
    let disk_of = |node_id: &str| match answers.get(node_id) {
        Some(Answer::Empty { disk_id, .. } | Answer::Adopted { disk_id, .. }) => disk_id.clone(),
        _ => standing.identity().disk_id,
    };
    let offers = introductions.others.iter().map(|(node, client)| {
        let offer = PrepareRequest {
            header: None,
            cluster_id: cluster_id.to_owned(),
            nodes_digest: config.nodes_digest.to_vec().into(),
            raft_id: rank(config, &node.node_id),
            disk_id: disk_of(&node.node_id),
        };
        async move {
            let taken = introductions.offer(client, offer).await;
            taken.map_err(|why| format!("{} does not take its place: {why}", node.node_id))
        }
    });
    join_all(offers).await.into_iter().collect::<Result<Vec<()>, String>>()?;
    let voters = config.nodes.iter().map(|node| {
        let member = Member {
            name: node.node_id.clone(),
            peer_endpoint: node.peer_endpoint(),
            client_endpoint: node.client_endpoint(),
            disk_id: disk_of(&node.node_id),
        };
        (rank(config, &node.node_id), member)
    });
    Ok(voters.collect())
}
