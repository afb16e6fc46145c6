//! Writes: admitted here, proposed by the leader, passed on by everybody else (P/R, O1).

mod calls;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use registry_proto::internal::WriteMethod;
use registry_proto::v1;
use registry_state::command::{Operation, Register};
use registry_state::{Command, Reply};
use tokio::time::Instant;

use super::Caller;
use super::admit::{Admission, Class};
use super::forward::{Forwarded, Forwarder};
use super::pending::Pending;
use crate::environment::Environment;
use crate::error::Error;
use crate::metrics::{ForwardOutcome, Metrics};
use crate::raft::{Consensus, Leadership, ProposeError, Room};
use crate::read_index::ReadIndexer;
use crate::server::convert::{self, Checked};
use crate::server::limits;

/// A writing call of the interface.
pub trait Write: Message + Default + Sized {
    /// Its answer.
    type Response: Message + Default;
    /// Which call it is, between nodes.
    const METHOD: WriteMethod;
    /// Whom it stands behind when there is too much to do.
    const CLASS: Class;
    /// Checks its shape.
    ///
    /// # Errors
    /// INVALID_FIELD with every bad field.
    fn check(self) -> Result<Checked, Error>;
    /// Its answer without header.
    ///
    /// # Errors
    /// INTERNAL if the reply is of another operation.
    fn answer(reply: &Reply) -> Result<Self::Response, Error>;
    /// Puts the header into its answer.
    fn head(response: &mut Self::Response, header: v1::ResponseHeader);
}

/// An answered write.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<R> {
    /// The response without header.
    pub response: R,
    /// Revision for the header.
    pub revision: u64,
    /// True if the outcome was remembered.
    pub replayed: bool,
    /// True if another node took the write.
    pub forwarded: bool,
}

/// Takes writes at any node. A clone shares its bounds.
#[derive(Debug, Clone)]
pub struct Writer {
    parts: Arc<WriterParts>,
}

/// The deadlines of leases in the reign of this node, as writes see them.
pub trait Deadlines: fmt::Debug + Send + Sync + 'static {
    /// The reign whose deadlines are kept.
    fn leadership(&self) -> Option<Leadership>;
    /// Moves the deadline of a lease whose unchanged registration came at `arrived`. False if it did not
    /// move: the lease is ending, or not known.
    fn renewed_by_write(&self, lease_id: u64, arrived: Instant) -> bool;
}

/// What writes go through.
#[derive(Debug)]
pub struct WriterParts {
    /// Clock of labels and source of lease ids.
    pub environment: Environment,
    /// Agreement.
    pub consensus: Consensus,
    /// Rounds, for registrations that change nothing.
    pub rounds: ReadIndexer,
    /// The leader's deadlines.
    pub leases: Arc<dyn Deadlines>,
    /// The way to the leader.
    pub forwarder: Forwarder,
    /// Bounds.
    pub admission: Admission,
    /// Proposals that are not applied yet.
    pub pending: Pending,
    /// What is counted.
    pub metrics: Metrics,
}

/// Who takes a write.
enum Place {
    Here(Leadership),
    At(u64),
}

impl Writer {
    /// Writes go through these parts.
    pub fn new(parts: WriterParts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// Takes a write: here if this node leads, else by one hop to the leader.
    ///
    /// # Errors
    /// Any reason of the call; see API.md.
    pub async fn submit<W: Write>(&self, request: W, caller: &Caller) -> Result<Answer<W::Response>, Error> {
        let encoded = Bytes::from(request.encode_to_vec());
        // Checked here as well, so that what is malformed costs no hop.
        let checked = request.check()?;
        let permit = self.parts.admission.write(W::CLASS, encoded.len())?;
        let mut tried_here = false;
        let answer = loop {
            match self.place(caller.deadline, tried_here).await? {
                Place::Here(leadership) => match self.lead::<W>(&checked, leadership, caller).await {
                    // It lost the leadership before anything was proposed: the one hop is still open.
                    Err(Error::NotLeader) if !tried_here => tried_here = true,
                    answer => break answer?,
                },
                Place::At(leader) => break self.forward::<W>(leader, encoded, caller.deadline).await?,
            }
        };
        drop(permit);
        Ok(answer)
    }

    /// Takes a write that another node passed on. It is never passed on again.
    ///
    /// # Errors
    /// As [`Writer::submit`]; NOT_LEADER if this node does not lead.
    pub async fn take(&self, method: i32, request: Bytes, caller: &Caller) -> Result<Forwarded, Error> {
        match WriteMethod::try_from(method) {
            Ok(WriteMethod::Register) => self.take_as::<v1::ServiceRegisterRequest>(request, caller).await,
            Ok(WriteMethod::BatchRegister) => self.take_as::<v1::BatchRegisterRequest>(request, caller).await,
            Ok(WriteMethod::Deregister) => {
                self.take_as::<v1::ServiceDeregisterRequest>(request, caller).await
            }
            Ok(WriteMethod::SetInstanceState) => {
                self.take_as::<v1::SetInstanceStateRequest>(request, caller).await
            }
            Ok(WriteMethod::SetInstanceOverride) => {
                self.take_as::<v1::SetInstanceOverrideRequest>(request, caller).await
            }
            Ok(WriteMethod::ClearInstanceOverride) => {
                self.take_as::<v1::ClearInstanceOverrideRequest>(request, caller).await
            }
            Ok(WriteMethod::EndProtection) => self.take_as::<v1::EndProtectionRequest>(request, caller).await,
            Ok(WriteMethod::Drain) => self.take_as::<v1::DrainRequest>(request, caller).await,
            Ok(WriteMethod::Unspecified) | Err(_) => {
                Err(Error::Unimplemented("the leader does not know this call: upgrade it"))
            }
        }
    }

    async fn take_as<W: Write>(&self, request: Bytes, caller: &Caller) -> Result<Forwarded, Error> {
        let _permit = self.parts.admission.write(W::CLASS, request.len())?;
        let Some(leadership) = self.parts.consensus.leadership() else { return Err(Error::NotLeader) };
        let malformed = |error| Error::field("(request)", format!("is malformed: {error}"));
        let checked = W::decode(request).map_err(malformed)?.check()?;
        let answer = self.lead::<W>(&checked, leadership, caller).await?;
        Ok(Forwarded {
            response: answer.response.encode_to_vec().into(),
            revision: answer.revision,
            replayed: answer.replayed,
        })
    }

    /// Who leads, waiting for an election within the bounds of P/R5.
    async fn place(&self, deadline: Instant, not_here: bool) -> Result<Place, Error> {
        let consensus = &self.parts.consensus;
        if !not_here && let Some(leadership) = consensus.leadership() {
            return Ok(Place::Here(leadership));
        }
        let own = consensus.status().raft_id;
        match consensus.known_leader(deadline).await {
            Some(leader) if leader != own => Ok(Place::At(leader)),
            Some(_) if not_here => Err(Error::NotLeader),
            Some(_) => match consensus.leadership() {
                Some(leadership) => Ok(Place::Here(leadership)),
                None => Err(Error::NotLeader),
            },
            None => Err(Error::NoQuorum),
        }
    }

    async fn forward<W: Write>(
        &self,
        leader: u64,
        encoded: Bytes,
        deadline: Instant,
    ) -> Result<Answer<W::Response>, Error> {
        let answer = self.parts.forwarder.forward(leader, W::METHOD, encoded, deadline).await;
        self.parts.metrics.forwarded(
            "write",
            match &answer {
                Ok(_) | Err(Error::Answered(_)) => ForwardOutcome::Answered,
                Err(Error::OutcomeUnknown) => ForwardOutcome::Unknown,
                Err(_) => ForwardOutcome::NotSent,
            },
        );
        let answer = answer?;
        let unreadable = |error| Error::Internal(format!("the leader's answer cannot be read: {error}"));
        Ok(Answer {
            response: W::Response::decode(answer.response).map_err(unreadable)?,
            revision: answer.revision,
            replayed: answer.replayed,
            forwarded: true,
        })
    }

    /// Takes a write as leader.
    async fn lead<W: Write>(
        &self,
        checked: &Checked,
        leadership: Leadership,
        caller: &Caller,
    ) -> Result<Answer<W::Response>, Error> {
        if let Operation::Register(register) = &checked.operation
            && let Some((reply, revision)) =
                self.renew_unchanged(register, checked, leadership, caller).await?
        {
            let response = W::answer(&reply)?;
            return Ok(Answer { response, revision, replayed: false, forwarded: false });
        }
        if caller.left().is_zero() {
            return Err(Error::Overloaded { what: "the deadline passed", retry_after: limits::SHED_RETRY });
        }
        if W::CLASS == Class::Register {
            self.check_room()?;
        }
        let command = self.command(checked);
        let pending = self.parts.pending.begin(&self.parts.consensus, &command.operation);
        let outcome = self.parts.consensus.propose(&command, caller.deadline).await;
        pending.ended(&outcome);
        let applied = outcome.map_err(propose_error)?.applied;
        if let Reply::Rejected(rejection) = &applied.reply {
            return Err(convert::refusal(rejection, &checked.operation));
        }
        Ok(Answer {
            response: W::answer(&applied.reply)?,
            revision: applied.revision,
            replayed: applied.replayed,
            forwarded: false,
        })
    }

    /// What grows is refused while the disks have no room for it (P/W5).
    fn check_room(&self) -> Result<(), Error> {
        let (quota, retry_after) = match self.parts.consensus.room() {
            Room::Enough => return Ok(()),
            Room::Elsewhere => ("the disk of the leader", limits::HANDOVER_RETRY),
            Room::Nowhere => ("the disks of a majority", limits::DISK_RETRY),
        };
        Err(Error::QuotaExceeded { quota: quota.to_owned(), limit: None, retry_after: Some(retry_after) })
    }

    fn command(&self, checked: &Checked) -> Command {
        let mut operation = checked.operation.clone();
        match &mut operation {
            Operation::Register(register) => {
                register.new_lease_id = self.parts.environment.random.nonzero_u64();
            }
            Operation::BatchRegister(batch) => {
                batch.new_lease_id = self.parts.environment.random.nonzero_u64();
            }
            _ => {}
        }
        Command {
            proposed_at_unix_ms: self.parts.environment.clock.unix_ms(),
            request: checked.request.clone(),
            operation,
        }
    }

    /// Answers a registration that changes nothing without an entry of the log: it renews the lease
    /// (P/R2). Nothing if it has to go through the log after all.
    async fn renew_unchanged(
        &self,
        register: &Register,
        checked: &Checked,
        leadership: Leadership,
        caller: &Caller,
    ) -> Result<Option<(Reply, u64)>, Error> {
        let Some(registration) = &register.registration else { return Ok(None) };
        let parts = &self.parts;
        let request = checked.request.as_ref();
        if parts.consensus.published().state.would_renew(registration, request).is_none() {
            return Ok(None);
        }
        let confirmed = parts.rounds.confirm(caller.deadline).await.map_err(|error| match error {
            // Confirmed, but not applied here in time: nothing is known to be unchanged.
            Error::TooStale { .. } => Error::NoQuorum,
            error => error,
        })?;
        if confirmed.leadership != leadership || parts.pending.touches_instance(registration) {
            return Ok(None);
        }
        // Loaded after the look at what is pending: what was pending before is in this state.
        let published = parts.consensus.published();
        let state = &published.state;
        let Some(lease_id) = state.would_renew(registration, request) else { return Ok(None) };
        if parts.pending.touches_lease(lease_id) || parts.leases.leadership() != Some(leadership) {
            return Ok(None);
        }
        let permanent = state.lease(lease_id).is_some_and(|lease| lease.ttl_ms == 0);
        if !permanent && !parts.leases.renewed_by_write(lease_id, caller.arrived) {
            return Ok(None);
        }
        let (namespace, service) = (&registration.namespace, &registration.service_name);
        let Some(instance) = state.instance(namespace, service, &registration.instance_id) else {
            return Ok(None);
        };
        let reply = Reply::Registered {
            instance: instance.clone(),
            lease_id,
            incarnation: instance.incarnation,
            outcome: registry_state::RegisterOutcome::Renewed,
        };
        Ok(Some((reply, state.revision())))
    }
}

/// What a failed proposal means to a client (P/R4).
fn propose_error(error: ProposeError) -> Error {
    match error {
        ProposeError::NotLeader { .. } => Error::NotLeader,
        ProposeError::NoQuorum => Error::NoQuorum,
        ProposeError::Overloaded => Error::Overloaded { what: "proposals", retry_after: limits::SHED_RETRY },
        ProposeError::OutcomeUnknown | ProposeError::Stopped => Error::OutcomeUnknown,
    }
}
