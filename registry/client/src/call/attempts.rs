//! The attempts of one call: whom it asks next, how long it waits, what it learns from a failure.

use std::future::Future;
use std::time::Duration;

use registry_proto::v1::{ErrorReason, ResponseHeader};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Response, Status, Streaming};

use super::Core;
use crate::backoff::{Backoff, jittered};
use crate::error::Error;
use crate::options::CallOptions;
use crate::pool::Picked;
use crate::retry::{Attempted, Step, next_step};
use crate::rpc::Kind;

/// Waits between two passes over all nodes. Short, since a failover takes half a second.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// Time left below which another attempt is pointless.
const TOO_LATE: Duration = Duration::from_millis(1);
/// Sessions begun anew within one call; a second one means that the registry forgets at once.
const MAX_NEW_SESSIONS: u32 = 2;

/// What is to be changed before the next attempt.
pub(super) enum Retry {
    Same,
    NewSession,
    WithoutFloor,
}

/// The attempts of one call: whom it asked, what it knows, how long it may go on.
pub(super) struct Attempts<'a> {
    core: &'a Core,
    pub(super) options: &'a CallOptions,
    kind: Kind,
    pub(super) deadline: Instant,
    timeout: Duration,
    pub(super) no_retry: bool,
    pub(super) own_id: bool,
    pub(super) own_floor: bool,
    /// A write may have taken effect.
    pub(super) uncertain: bool,
    /// The leader is wanted.
    leader: bool,
    /// Nodes asked in this pass.
    tried: Vec<String>,
    backoff: Backoff,
    pub(super) made: u32,
    new_sessions: u32,
    last: Option<Error>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(core: &'a Core, options: &'a CallOptions, kind: Kind, waits: Duration) -> Self {
        Self {
            core,
            options,
            kind,
            deadline: Instant::now() + options.deadline.unwrap_or(core.deadline) + waits,
            timeout: options.attempt_timeout.unwrap_or(core.attempt_timeout) + waits,
            no_retry: options.no_retry,
            own_id: false,
            own_floor: false,
            uncertain: false,
            leader: kind == Kind::Write,
            tried: Vec::new(),
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            made: 0,
            new_sessions: 0,
            last: None,
        }
    }

    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    pub(super) fn attempt_timeout(&self) -> Duration {
        self.timeout.min(self.remaining()).max(TOO_LATE)
    }

    /// The node to ask next. Begins another pass over the nodes when all were asked.
    pub(super) async fn node(&mut self) -> Result<Picked, Error> {
        if let Some(endpoint) = &self.options.endpoint {
            return match self.core.pinned(endpoint).connection().await {
                Ok(connection) => Ok(Picked::outside(endpoint.clone(), connection)),
                Err(status) => {
                    let error = Error::from_status(&status).at(endpoint);
                    Err(error.with_outcome_unknown(self.uncertain))
                }
            };
        }
        loop {
            if let Some(picked) = self.core.pool.ready(self.leader, &self.tried, self.deadline).await {
                return Ok(picked);
            }
            if self.tried.is_empty() || !self.rest(Duration::ZERO).await {
                let last = self.last.take();
                let error = last.unwrap_or_else(|| Error::unreachable(self.core.pool.why_unreachable()));
                return Err(error.with_outcome_unknown(self.uncertain));
            }
            self.tried.clear();
        }
    }

    /// Waits before another pass. False if the time does not allow one.
    async fn rest(&mut self, at_least: Duration) -> bool {
        let wait = self.backoff.next().max(at_least + jittered(at_least / 2));
        if wait + TOO_LATE >= self.remaining() {
            return false;
        }
        sleep(wait).await;
        true
    }

    pub(super) async fn send<T>(
        &mut self,
        node: &Picked,
        limit: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Response<T>, Error> {
        self.made += 1;
        match timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(status)) => Err(Error::from_status(&status).at(&node.endpoint)),
            Err(_) => Err(Error::no_answer(limit).at(&node.endpoint)),
        }
    }

    /// Learns from the header of an answer. False if it is another cluster's.
    pub(super) fn learn(&self, node: &Picked, header: Option<&ResponseHeader>) -> bool {
        let Some(header) = header else { return true };
        if self.options.endpoint.is_none() && !self.core.pool.observe(&node.endpoint, header) {
            return false;
        }
        self.core.session.observe(header);
        true
    }

    /// Decides after a failed attempt.
    pub(super) async fn failed(&mut self, node: &Picked, error: Error) -> Result<Retry, Error> {
        self.note(node, &error);
        let attempted = Attempted {
            kind: self.kind,
            uncertain: self.uncertain,
            own_id: self.own_id,
            own_floor: self.own_floor,
        };
        let (step, uncertain) = next_step(attempted, &error);
        self.uncertain = uncertain;
        let error = error.with_outcome_unknown(uncertain);
        let late = self.remaining() <= TOO_LATE;
        if step == Step::Return || self.no_retry || late {
            return Err(error);
        }
        match step {
            Step::Return => Err(error),
            Step::NewSession => {
                self.new_sessions += 1;
                if self.new_sessions > MAX_NEW_SESSIONS {
                    return Err(error);
                }
                Ok(Retry::NewSession)
            }
            Step::ForgetPosition => {
                self.own_floor = false;
                Ok(Retry::WithoutFloor)
            }
            Step::Elsewhere if self.options.endpoint.is_none() => {
                self.tried.push(node.endpoint.clone());
                self.last = Some(error);
                Ok(Retry::Same)
            }
            Step::Elsewhere | Step::Later(_) => {
                let wait = if let Step::Later(wait) = step { wait } else { Duration::ZERO };
                if !self.rest(wait).await {
                    return Err(error);
                }
                self.tried.clear();
                self.last = Some(error);
                Ok(Retry::Same)
            }
        }
    }

    /// Tells the pool what the error says about the node.
    fn note(&mut self, node: &Picked, error: &Error) {
        let pool = &self.core.pool;
        if self.options.endpoint.is_some() {
            return;
        }
        if error.is_not_sent() {
            pool.lost(node);
            return;
        }
        match error.reason() {
            Some(ErrorReason::NotLeader) => {
                self.leader = true;
                let term = error.detail("term").and_then(|term| term.parse().ok());
                pool.not_leader(&node.endpoint, error.leader_endpoint(), term);
            }
            Some(ErrorReason::TooStale) => self.leader = true,
            Some(ErrorReason::ShuttingDown | ErrorReason::NotReady | ErrorReason::NoQuorum) => {
                pool.penalize(&node.endpoint);
            }
            None if error.is_lost() => pool.penalize(&node.endpoint),
            _ => {}
        }
    }

    /// Opens a stream.
    pub(super) async fn open<T, F>(
        &mut self,
        avoid: &[String],
        mut open: impl FnMut(&Picked) -> F,
    ) -> Result<(Streaming<T>, String), Error>
    where
        F: Future<Output = Result<Response<Streaming<T>>, Status>>,
    {
        let other = self.core.pool.pick(self.leader, avoid).is_some();
        if other && self.options.endpoint.is_none() {
            self.tried = avoid.to_vec();
        }
        loop {
            let node = self.node().await?;
            let limit = self.attempt_timeout();
            let opening = open(&node);
            match self.send(&node, limit, opening).await {
                Ok(response) => return Ok((response.into_inner(), node.endpoint)),
                Err(error) => {
                    self.failed(&node, error).await?;
                }
            }
        }
    }
}
