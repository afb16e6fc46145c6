//! Asking for a place in a cluster that runs already (P/N4, P/N5).
//!
//! This is the decision alone: whom to ask next, how long to wait, and what the answer means.
//! `node/join.rs` asks and carries it out. Any member can be asked; the leader answers, others name it.

use std::time::Duration;

use registry_proto::internal::{JoinOutcome, JoinResponse, PeerErrorReason};

#[cfg(test)]
mod joining_test;

/// First pause after nobody could answer: an election takes less than a second.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause after nobody could answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// Pause when the leader has decided: what it does next takes longer, or it waits for somebody.
const DECIDED_PAUSE: Duration = Duration::from_secs(1);
/// Pause while the name is taken or an operator decides.
const SLOW_PAUSE: Duration = Duration::from_secs(3);
/// Longest pause that a leader can ask for.
const PAUSE_LIMIT: Duration = Duration::from_secs(60);
/// Hints followed in a row: nodes that name each other are not asked in a circle.
const MAX_HINTS: u32 = 2;

/// What came of one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// None: the node does not run, cannot be reached, or is no member.
    None {
        /// Why, for people.
        why: String,
    },
    /// Somebody else leads.
    NotLeader {
        /// Peer endpoint of the leader, if it is known there.
        leader: Option<String>,
    },
    /// The leader refuses.
    Refused {
        /// Why.
        reason: PeerErrorReason,
        /// In words.
        message: String,
    },
    /// The leader's word.
    Heard(JoinResponse),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Ask the next one at once.
    AskOn,
    /// Ask again after so long; what the node waits for, for people.
    Pause(Duration, String),
    /// The old place is gone for good: move the data aside, draw a new disk id, and begin again.
    StartAnew,
}

/// Whom this node asks, and how it went so far.
#[derive(Debug, Clone)]
pub struct Asking {
    targets: Vec<String>,
    /// The cluster that this node has been a member of: no other may tell it that its place is gone.
    cluster_id: Option<String>,
    turn: usize,
    leader: Option<String>,
    hints: u32,
    silent: u32,
    pause: Duration,
}

impl Asking {
    /// Asks these peer endpoints, one after another, beginning with number `start` of them: nodes that are
    /// started together do not all ask the same one. `cluster_id` = the cluster that the node has been a
    /// member of, if any.
    pub fn new(targets: Vec<String>, cluster_id: Option<String>, start: u64) -> Self {
        let turn = usize::try_from(start % targets.len().max(1) as u64).unwrap_or(0);
        Self { targets, cluster_id, turn, leader: None, hints: 0, silent: 0, pause: FIRST_PAUSE }
    }

    /// Whom to ask now; `None` if there is nobody to ask.
    pub fn target(&self) -> Option<&str> {
        let listed = || self.targets.get(self.turn).map(String::as_str);
        self.leader.as_deref().or_else(listed)
    }

    /// Takes the answer of [`target`](Self::target). `chance` spreads the pauses of nodes that were started
    /// together: any number.
    pub fn note(&mut self, answer: Answer, chance: u64) -> Next {
        let asked = self.target().unwrap_or_default().to_owned();
        match answer {
            Answer::None { why } => self.ask_another(&asked, &why, chance),
            Answer::NotLeader { leader: Some(leader) } if self.hints < MAX_HINTS && leader != asked => {
                self.hints += 1;
                self.leader = Some(leader);
                Next::AskOn
            }
            Answer::NotLeader { .. } => self.ask_another(&asked, "it knows no leader", chance),
            Answer::Refused { reason, message } => {
                let pause = match reason {
                    PeerErrorReason::AlreadyMember | PeerErrorReason::VersionUnsupported => SLOW_PAUSE,
                    _ => DECIDED_PAUSE,
                };
                self.decided();
                Next::Pause(spread(pause, chance), format!("not admitted: {message}"))
            }
            Answer::Heard(response) => self.heard(&response, chance),
        }
    }

    fn heard(&mut self, response: &JoinResponse, chance: u64) -> Next {
        self.decided();
        let asked = response.retry_after.and_then(|after| Duration::try_from(after).ok());
        let detail =
            if response.detail.is_empty() { String::new() } else { format!(": {}", response.detail) };
        let cluster = &response.cluster_id;
        if let Some(own) = self.cluster_id.as_ref().filter(|own| *own != cluster) {
            let what = format!(
                "the nodes asked are of cluster {cluster}, but the data folder of this node is of cluster {own}: \
                 give the right --data-dir, or move the folder away"
            );
            return Next::Pause(spread(SLOW_PAUSE, chance), what);
        }
        let (pause, what) = match response.outcome() {
            JoinOutcome::StartAnew => return Next::StartAnew,
            JoinOutcome::Accepted => (
                DECIDED_PAUSE,
                format!("cluster {cluster} has accepted this node; waiting for its place{detail}"),
            ),
            JoinOutcome::Waiting | JoinOutcome::Unspecified => (
                SLOW_PAUSE,
                format!(
                    "waiting to be admitted to cluster {cluster}, whose members somebody else decides about{detail}"
                ),
            ),
        };
        Next::Pause(spread(asked.unwrap_or(pause).min(PAUSE_LIMIT), chance), what)
    }

    /// The leader was found: it is asked first the next time.
    fn decided(&mut self) {
        self.hints = 0;
        self.silent = 0;
        self.pause = FIRST_PAUSE;
    }

    /// On to the next; after all were asked in vain, a pause.
    fn ask_another(&mut self, asked: &str, why: &str, chance: u64) -> Next {
        let was_hint = self.leader.take().is_some();
        self.hints = 0;
        if !was_hint {
            self.turn = (self.turn + 1) % self.targets.len().max(1);
        }
        self.silent += 1;
        if (self.silent as usize) < self.targets.len() {
            return Next::AskOn;
        }
        self.silent = 0;
        let pause = self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        let all = self.targets.join(", ");
        Next::Pause(
            spread(pause, chance),
            format!("waiting for a leader of the cluster; asking {all} ({asked}: {why})"),
        )
    }
}

/// Between three quarters and five quarters of a pause.
fn spread(pause: Duration, chance: u64) -> Duration {
    let part = u32::try_from(chance % 1_000).unwrap_or(0);
    pause * 3 / 4 + pause * part / 2_000
}
