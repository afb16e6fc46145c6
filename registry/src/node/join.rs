//! Asks for a place in a running cluster, as `joining.rs` decides (P/N4, P/N5).

use std::sync::Mutex;
use std::time::Duration;

use registry_proto::internal::{JoinRequest, PeerErrorReason};
use tokio::time::timeout;
use tonic::Response;

use super::hello::Introductions;
use crate::config::ValidConfig;
use crate::environment::Environment;
use crate::error::peer::PeerError;
use crate::joining::{Answer, Asking, Next};
use crate::standing::Standing;

/// Longest wait for one answer: the leader writes the wish into the log before it answers.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Asks the members that this node knows of, one after another.
#[derive(Debug)]
pub(super) struct Joiner {
    environment: Environment,
    introductions: Introductions,
    standing: Standing,
    asking: Mutex<Asking>,
}

impl Joiner {
    pub(super) fn new(
        config: &ValidConfig,
        environment: &Environment,
        introductions: &Introductions,
        standing: &Standing,
    ) -> Self {
        let own = config.node.peer_endpoint();
        let mut targets = config.join.clone();
        targets.extend(config.nodes.iter().map(crate::config::Node::peer_endpoint));
        targets.retain(|target| *target != own);
        let mut known = std::collections::BTreeSet::new();
        targets.retain(|target| known.insert(target.clone()));
        let identity = standing.identity();
        let bound = identity.member.filter(|_| identity.joined).map(|member| member.cluster_id);
        let asking = Asking::new(targets, bound, environment.random.nonzero_u64());
        Self {
            environment: environment.clone(),
            introductions: introductions.clone(),
            standing: standing.clone(),
            asking: Mutex::new(asking),
        }
    }

    /// Asks until there is something to wait for, or the word to start anew; never [`Next::AskOn`].
    pub(super) async fn ask(&self) -> Next {
        loop {
            let Some(target) = self.asking().target().map(str::to_owned) else {
                let nobody = "there is nobody to ask for a place: give --join HOST:PORT of a member";
                return Next::Pause(Duration::from_secs(10), nobody.to_owned());
            };
            let answer = self.ask_one(&target).await;
            tracing::debug!(target, ?answer, "asked for a place");
            let chance = self.environment.random.nonzero_u64();
            match self.asking().note(answer, chance) {
                Next::AskOn => {}
                next => return next,
            }
        }
    }

    async fn ask_one(&self, target: &str) -> Answer {
        let request = JoinRequest {
            header: Some(self.introductions.header()),
            identity: Some(self.introductions.service.identity()),
            compatibility: Some(self.introductions.compatibility()),
            state: self.introductions.service.state().into(),
        };
        let mut client = self.introductions.client(target);
        match timeout(ANSWER_WAIT, client.join(request)).await {
            Err(_) => Answer::None { why: "no answer".to_owned() },
            Ok(Ok(response)) => Answer::Heard(Response::into_inner(response)),
            Ok(Err(status)) => {
                use PeerErrorReason as R;
                let message = status.message().to_owned();
                match PeerError::reason_of(&status) {
                    Some(R::NotLeader) => Answer::NotLeader { leader: PeerError::leader_in(&status) },
                    Some(R::NotReady | R::Quarantined | R::DiskLost | R::Removed | R::NotInitialized)
                    | None => Answer::None { why: message },
                    Some(reason) => Answer::Refused { reason, message },
                }
            }
        }
    }

    /// Until the word to start anew: from a leader that is asked, or from one that calls (P/N5).
    pub(super) async fn wait_to_start_anew(&self) {
        let why = self.standing.quarantined().map(|quarantine| quarantine.reason).unwrap_or_default();
        let asking = async {
            loop {
                match self.ask().await {
                    Next::StartAnew => return,
                    Next::Pause(pause, what) => {
                        self.standing.explain(&format!("{why}; {what}"));
                        tokio::time::sleep(pause).await;
                    }
                    Next::AskOn => {}
                }
            }
        };
        tokio::select! {
            () = asking => {}
            () = self.standing.renewed() => {}
        }
    }

    fn asking(&self) -> std::sync::MutexGuard<'_, Asking> {
        // Nothing panics while it holds the lock.
        self.asking.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
