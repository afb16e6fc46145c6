//! One active operator: a Lease that is taken and renewed by PUT with the resourceVersion that was read.
//!
//! Server-side apply would not do: two candidates with the same field manager overwrite each other without a
//! conflict. [`decide`] is pure; the rest reads, writes and waits. Whoever loses the lease ends the process:
//! nothing that it has begun may go on beside the next holder. Membership changes are safe even so, because
//! each names the membership that it starts from.
//!
//! Clocks of machines are never compared: a lease is over when it has not changed for its duration, as seen
//! from here.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{sleep, timeout_at};

/// Time without renewal after which another candidate takes the lease.
const DURATION: Duration = Duration::from_secs(20);

/// Time between renewals: nine requests a minute.
const RENEW_EVERY: Duration = Duration::from_secs(7);

/// Without a successful renewal for this long the holder gives up, before others can take over.
const GIVE_UP_AFTER: Duration = Duration::from_secs(15);

/// Time between looks of a candidate, and between tries after a failure.
const RETRY_EVERY: Duration = Duration::from_secs(3);

/// Longest time for one request: several fit before [`GIVE_UP_AFTER`].
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);

/// Where the lease is and who wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Name that no other running process has.
    pub identity: String,
}

/// The lease was lost: the process must end.
#[derive(Debug, thiserror::Error)]
#[error("the lease {name} is lost: {why}")]
pub struct Lost {
    name: String,
    why: String,
}

/// What a candidate does after a look at the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It does not exist: create it.
    Create,
    /// It is free, over, or ours from an earlier life: write our name into it.
    Take,
    /// Another holds it.
    Wait,
}

/// When the lease was first seen in the state in which it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    spec: LeaseSpec,
    since: Instant,
}

impl Seen {
    /// Takes a look into account: an unchanged lease keeps its first time.
    pub fn next(earlier: Option<Self>, spec: &LeaseSpec, now: Instant) -> Self {
        let same = |seen: &Self| {
            seen.spec.holder_identity == spec.holder_identity && seen.spec.renew_time == spec.renew_time
        };
        earlier.filter(same).unwrap_or_else(|| Self { spec: spec.clone(), since: now })
    }
}

/// What `identity` may do, with the lease as it was seen.
pub fn decide(seen: Option<&Seen>, identity: &str, now: Instant) -> Decision {
    let Some(seen) = seen else { return Decision::Create };
    let holder = seen.spec.holder_identity.as_deref().unwrap_or_default();
    let seconds = seen.spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let duration = seconds.map_or(DURATION, Duration::from_secs);
    if holder.is_empty() || holder == identity || now.duration_since(seen.since) >= duration {
        Decision::Take
    } else {
        Decision::Wait
    }
}

/// The lease in our hands.
#[derive(Debug)]
pub struct Held {
    api: Api<Lease>,
    candidate: Candidate,
    lease: Lease,
    renewed: Instant,
}

/// Waits until the lease is ours. Failures are logged and tried again; give it up by dropping the future.
pub async fn acquire(client: Client, candidate: Candidate) -> Held {
    let api: Api<Lease> = Api::namespaced(client, &candidate.namespace);
    let mut seen = None;
    let mut told = String::new();
    loop {
        match attempt(&api, &candidate, &mut seen).await {
            Ok(Some(lease)) => {
                tracing::info!(lease = candidate.name, identity = candidate.identity, "holding the lease");
                return Held { api, candidate, lease, renewed: Instant::now() };
            }
            Ok(None) => {
                let holder = holder(seen.as_ref());
                if told != holder {
                    tracing::info!(lease = candidate.name, holder, "waiting for the lease");
                    told = holder;
                }
            }
            Err(error) => {
                tracing::warn!(lease = candidate.name, %error, "cannot take the lease; trying again")
            }
        }
        sleep(RETRY_EVERY).await;
    }
}

fn holder(seen: Option<&Seen>) -> String {
    seen.and_then(|seen| seen.spec.holder_identity.clone()).unwrap_or_default()
}

/// One look, and one write if it may be ours. `None` = another holds it or was faster.
async fn attempt(
    api: &Api<Lease>,
    candidate: &Candidate,
    seen: &mut Option<Seen>,
) -> Result<Option<Lease>, kube::Error> {
    let found = within(api.get_opt(&candidate.name)).await?;
    let now = Instant::now();
    let spec = found.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
    *seen = spec.as_ref().map(|spec| Seen::next(seen.take(), spec, now));
    let written = match (decide(seen.as_ref(), &candidate.identity, now), found) {
        (Decision::Wait, _) => return Ok(None),
        (Decision::Create, _) | (Decision::Take, None) => {
            let metadata = ObjectMeta { name: Some(candidate.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(taken(None, &candidate.identity, Timestamp::now())) };
            within(api.create(&PostParams::default(), &lease)).await
        }
        (Decision::Take, Some(mut lease)) => {
            lease.spec = Some(taken(spec.as_ref(), &candidate.identity, Timestamp::now()));
            within(api.replace(&candidate.name, &PostParams::default(), &lease)).await
        }
    };
    match written {
        Ok(lease) => Ok(Some(lease)),
        // Another candidate was faster.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

/// The lease with `identity` as its holder from `now` on.
fn taken(before: Option<&LeaseSpec>, identity: &str, now: Timestamp) -> LeaseSpec {
    let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or_default();
    let changes_hands =
        before.is_some_and(|spec| spec.holder_identity.as_deref().is_some_and(|holder| holder != identity));
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: Some(micro_time(now)),
        renew_time: Some(micro_time(now)),
        lease_transitions: Some(if changes_hands { transitions.saturating_add(1) } else { transitions }),
        ..LeaseSpec::default()
    }
}

/// The API server takes exactly six fractional digits: `MicroTime` writes six, and what is finer is cut here.
fn micro_time(time: Timestamp) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time))
}

impl Held {
    /// Renews until it fails: whoever waits for this ends the process when it returns.
    pub async fn keep(&mut self) -> Lost {
        loop {
            sleep(RENEW_EVERY).await;
            let deadline = self.renewed + GIVE_UP_AFTER;
            let why = match timeout_at(deadline.into(), self.renew_at_last()).await {
                Ok(Ok(())) => continue,
                Ok(Err(holder)) => format!("held by {holder}"),
                Err(_) => format!("not renewed for {} s", GIVE_UP_AFTER.as_secs()),
            };
            return Lost { name: self.candidate.name.clone(), why };
        }
    }

    /// Tries until it is renewed, or another holds it.
    async fn renew_at_last(&mut self) -> Result<(), String> {
        loop {
            match self.renew().await {
                Ok(()) => return Ok(()),
                Err(RenewError::Taken(holder)) => return Err(holder),
                Err(RenewError::Changed) => continue,
                Err(RenewError::Api(error)) => {
                    tracing::warn!(lease = self.candidate.name, %error, "cannot renew the lease; trying again");
                }
            }
            sleep(RETRY_EVERY).await;
        }
    }

    async fn renew(&mut self) -> Result<(), RenewError> {
        let sent = Instant::now();
        let mut lease = self.lease.clone();
        lease.spec.get_or_insert_default().renew_time = Some(micro_time(Timestamp::now()));
        match within(self.api.replace(&self.candidate.name, &PostParams::default(), &lease)).await {
            Ok(lease) => {
                self.lease = lease;
                self.renewed = sent;
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {
                self.look_again().await
            }
            Err(error) => Err(RenewError::Api(error)),
        }
    }

    /// The lease is not as we left it. If our name stands in it, only an answer of ours was lost.
    async fn look_again(&mut self) -> Result<(), RenewError> {
        let found = within(self.api.get_opt(&self.candidate.name)).await.map_err(RenewError::Api)?;
        let Some(lease) = found else { return Err(RenewError::Taken("nobody: it was deleted".to_owned())) };
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        if holder != self.candidate.identity {
            return Err(RenewError::Taken(holder));
        }
        self.lease = lease;
        Err(RenewError::Changed)
    }

    /// Gives the lease back, so that the next operator need not wait until it is over. Best effort.
    pub async fn release(mut self) {
        if let Some(spec) = &mut self.lease.spec {
            spec.holder_identity = None;
            spec.renew_time = Some(micro_time(Timestamp::now()));
        }
        let params = PostParams::default();
        match within(self.api.replace(&self.candidate.name, &params, &self.lease)).await {
            Ok(_) => tracing::info!(lease = self.candidate.name, "released the lease"),
            Err(error) => tracing::warn!(lease = self.candidate.name, %error, "cannot release the lease"),
        }
    }
}

/// Why one renewal did not succeed.
#[derive(Debug)]
enum RenewError {
    /// Another holds the lease.
    Taken(String),
    /// Ours, but not as we left it: try again from what is there now.
    Changed,
    /// No answer, or a refusal.
    Api(kube::Error),
}

async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(result) => result,
        Err(_) => Err(kube::Error::Service(
            format!("no answer of the API server within {} s", REQUEST_TIMEOUT.as_secs()).into(),
        )),
    }
}

#[cfg(test)]
#[path = "lease/lease_test.rs"]
mod lease_test;
