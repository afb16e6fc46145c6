//! Steps that the nodes carry out: each names what was seen, and is refused if that has changed.

use registry_proto::internal as api;

use super::super::observe::View;
use super::super::subject::Subject;
use crate::error::Error;
use crate::members::{CallError, Change, Token};
use crate::observed::{Answer, LogId};
use crate::plan::Step;

/// Entries that a learner may be behind when it gets a vote; 0 = the node's own bound.
const MAX_LAG_ENTRIES: u64 = 0;

/// Longest time that a leader waits for its successor.
const TRANSFER_TIMEOUT: prost_types::Duration = prost_types::Duration { seconds: 5, nanos: 0 };

/// Makes the call that the step stands for.
pub(super) async fn change(subject: &Subject<'_>, view: &View, step: &Step) -> Result<(), Error> {
    let Some(token) = &view.token else {
        return Err(Error::BrokenObject("there is no administrator's token yet".to_owned()));
    };
    let call = Call { subject, view, token };
    let made = match step {
        Step::Initialize { cluster_id, pods } => call.initialize(cluster_id, pods).await,
        Step::Admit { leader, pod, expected } => {
            let request = api::AdmitMemberRequest {
                peer_endpoint: call.peer_endpoint(pod),
                node_id: pod.clone(),
                expected_membership: Some(log_id(*expected)),
                owner: api::MembershipOwner::Operator as i32,
            };
            call.leader(leader, Change::Admit(request)).await
        }
        Step::Promote { leader, raft_ids, replaced, expected } => {
            let request = api::PromoteMemberRequest {
                raft_ids: raft_ids.clone(),
                expected_membership: Some(log_id(*expected)),
                max_lag_entries: MAX_LAG_ENTRIES,
                replaced_raft_ids: replaced.clone(),
                owner: api::MembershipOwner::Operator as i32,
            };
            call.leader(leader, Change::Promote(request)).await
        }
        Step::Remove { leader, raft_ids, expected } => {
            let request = api::RemoveMemberRequest {
                raft_ids: raft_ids.clone(),
                expected_membership: Some(log_id(*expected)),
                owner: api::MembershipOwner::Operator as i32,
            };
            call.leader(leader, Change::Remove(request)).await
        }
        Step::Transfer { leader, to, expected } => call.transfer(leader, *to, *expected).await,
        Step::UpdateSettings { leader, expected_version, settings } => {
            let request = api::UpdateSettingsRequest {
                expected_version: *expected_version,
                settings: Some(**settings),
            };
            call.leader(leader, Change::Settings(request)).await
        }
        _ => Ok(()),
    };
    made.map_err(Error::member(step.to_string()))
}

struct Call<'a> {
    subject: &'a Subject<'a>,
    view: &'a View,
    token: &'a Token,
}

impl Call<'_> {
    /// Asked of the first pod, whose name is the bytewise smallest: a cluster has at most seven founders.
    async fn initialize(&self, cluster_id: &str, pods: &[String]) -> Result<(), CallError> {
        let first = pods.first().ok_or_else(|| CallError::unexpected("there are no pods to found with"))?;
        let members = pods
            .iter()
            .map(|pod| api::InitialMember { node_id: pod.clone(), peer_endpoint: self.peer_endpoint(pod) });
        let request =
            api::InitializeRequest { cluster_id: cluster_id.to_owned(), members: members.collect() };
        let ip = self.address(first)?;
        self.subject.context.members.change(ip, self.token, Change::Found(request)).await
    }

    /// Whoever leads by now has been handed it: nobody else is asked.
    async fn transfer(&self, leader: &str, to: u64, expected: LogId) -> Result<(), CallError> {
        let request = api::TransferLeadershipRequest {
            raft_id: to,
            timeout: Some(TRANSFER_TIMEOUT),
            expected_membership: Some(log_id(expected)),
        };
        let ip = self.address(leader)?;
        self.subject.context.members.change(ip, self.token, Change::Transfer(request)).await
    }

    /// Asks the pod that leads. If it does not lead any more and says who does, that one is asked, once.
    async fn leader(&self, pod: &str, change: Change) -> Result<(), CallError> {
        let members = &self.subject.context.members;
        let refused = match members.change(self.address(pod)?, self.token, change.clone()).await {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        let leader =
            refused.leader().and_then(|raft_id| self.pod_of(raft_id)).filter(|leader| *leader != pod);
        match leader {
            Some(leader) => members.change(self.address(leader)?, self.token, change).await,
            None => Err(refused),
        }
    }

    fn address(&self, pod: &str) -> Result<&str, CallError> {
        let address = self.view.addresses.get(pod).map(String::as_str);
        address.ok_or_else(|| CallError::unexpected(&format!("pod {pod} has no address")))
    }

    /// The pod whose node told that it has this id.
    fn pod_of(&self, raft_id: u64) -> Option<&str> {
        let has_it = |answer: &Answer| matches!(answer, Answer::Told(report) if report.raft_id == raft_id);
        let pods = &self.view.observed.pods;
        pods.iter().find(|pod| has_it(&pod.answer)).map(|pod| pod.name.as_str())
    }

    /// The name of a pod stays for its whole life; its address does not.
    fn peer_endpoint(&self, pod: &str) -> String {
        let owner = &self.subject.owner;
        let domain = &self.subject.context.defaults.cluster_domain;
        owner.ordinal(pod).map(|ordinal| owner.peer_endpoint(ordinal, domain)).unwrap_or_default()
    }
}

fn log_id(id: LogId) -> api::LogId {
    api::LogId { term: id.term, raft_id: id.raft_id, index: id.index }
}
