//! A registration that is held: kept alive, made again when its lease was lost, ended politely.

mod holder;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use registry_proto::v1::{
    DrainRequest, ErrorReason, Instance, InstanceState, ServiceDeregisterRequest, ServiceRegisterRequest,
    SetInstanceStateRequest,
};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::client::Client;
use crate::error::Error;
use holder::{Callback, Holder};

/// Wait of [`Registration::drain`] where the registry cannot tell whether watchers have heard: a change
/// reaches a healthy watcher within milliseconds.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// Time that readers of a watch get to act on DRAINING after it was sent to them: the registry knows what
/// it has sent, not what has been read. A call that picked the instance before has begun by then: 200 ms
/// were too short where two cores carried ten times their load.
const SETTLE: Duration = Duration::from_secs(1);

/// Longest wait that the registry accepts for a drain.
const LONGEST_DRAIN: Duration = Duration::from_secs(300);

/// How a held registration is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RegistrationStatus {
    /// The first registration is being made.
    Registering,
    /// Registered, and the lease cannot have run out.
    Registered,
    /// The lease may have run out: no renewal was answered for a full TTL, counted from sending. The
    /// registry could not be reached or has no majority. Renewals go on.
    AtRisk,
    /// The lease is lost; the instance is being registered again.
    Reregistering,
    /// The registry has no room for the instance at present: a full disk, most likely. It is tried again
    /// when the registry has said, every 30 s mostly.
    Postponed(Error),
    /// DRAINING is set; the lease is kept until [`Registration::deregister`].
    Draining,
    /// Another owner holds the instance: this program has been replaced and must stop acting for it.
    /// Final.
    Replaced(Error),
    /// The registry refuses the registration for a reason that waiting does not heal. Final.
    Failed(Error),
    /// Deregistered. Final.
    Deregistered,
}

impl RegistrationStatus {
    /// True if it will never change again.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Replaced(_) | Self::Failed(_) | Self::Deregistered)
    }

    /// True while the instance is certainly registered.
    pub fn is_registered(&self) -> bool {
        matches!(self, Self::Registered | Self::Draining)
    }
}

impl fmt::Display for RegistrationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registering => f.write_str("registering"),
            Self::Registered => f.write_str("registered"),
            Self::AtRisk => f.write_str("at risk: no renewal was answered for a full TTL"),
            Self::Reregistering => f.write_str("registering again"),
            Self::Postponed(error) => write!(f, "postponed: {error}"),
            Self::Draining => f.write_str("draining"),
            Self::Replaced(error) => write!(f, "replaced by another owner: {error}"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Deregistered => f.write_str("deregistered"),
        }
    }
}

/// What [`Registration::drain`] achieved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// True if every open watch on every node has been sent the change. False also where the registry
    /// does not offer Drain and a fixed time was waited instead.
    pub complete: bool,
    /// Watches that had not been sent the change when the time was up.
    pub pending_watches: u32,
    /// Nodes that could not be asked.
    pub silent_nodes: Vec<String>,
}

/// A registration to be held. Made by [`Client::registration`].
#[must_use = "nothing is registered before start()"]
pub struct RegistrationBuilder {
    client: Client,
    request: ServiceRegisterRequest,
    callback: Option<Callback>,
}

impl fmt::Debug for RegistrationBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrationBuilder").field("request", &self.request).finish()
    }
}

impl RegistrationBuilder {
    pub(crate) fn new(client: Client, request: ServiceRegisterRequest) -> Self {
        Self { client, request, callback: None }
    }

    /// Is told each change of the status. Called from the client's tasks: do not block.
    pub fn on_status(mut self, callback: impl Fn(&RegistrationStatus) + Send + Sync + 'static) -> Self {
        self.callback = Some(Arc::new(callback));
        self
    }

    /// Registers, then holds the registration.
    ///
    /// # Errors
    /// As [`Client::register`]. If the outcome is unknown the instance may be registered until its lease
    /// runs out.
    pub async fn start(self) -> Result<Registration, Error> {
        let holder = Holder::new(self.client, self.request, self.callback);
        holder.register().await?;
        Ok(Registration::hold(holder))
    }

    /// Holds the registration without waiting for it: tries until the registry takes it, however long it
    /// is away. The status tells. Must be called inside a tokio runtime.
    pub fn start_in_background(self) -> Registration {
        Registration::hold(Holder::new(self.client, self.request, self.callback))
    }
}

/// A registration that is held until [`end`](Self::end) or [`deregister`](Self::deregister).
///
/// Dropping it only stops the renewals: nothing is sent, and the instance expires when its lease runs
/// out, as if the program had died. Whoever drops it has no time to wait in, so an orderly end has to be
/// asked for.
pub struct Registration {
    holder: Arc<Holder>,
    task: AbortHandle,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("lease_id", &self.lease_id())
            .field("status", &self.status())
            .finish()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.task.abort();
        self.holder.let_go();
    }
}

impl Registration {
    fn hold(holder: Arc<Holder>) -> Self {
        let task = tokio::spawn(holder.clone().hold()).abort_handle();
        Self { holder, task }
    }

    /// How it is.
    pub fn status(&self) -> RegistrationStatus {
        self.holder.status.borrow().clone()
    }

    /// Tells each change of the status.
    pub fn watch_status(&self) -> watch::Receiver<RegistrationStatus> {
        self.holder.status.subscribe()
    }

    /// The instance as the registry last described it; `None` before the first registration.
    pub fn instance(&self) -> Option<Instance> {
        self.holder.facts().instance.clone()
    }

    /// The lease that keeps it; 0 before the first registration. It changes when the instance is
    /// registered again.
    pub fn lease_id(&self) -> u64 {
        self.holder.facts().lease_id
    }

    /// The fencing token; 0 before the first registration.
    pub fn incarnation(&self) -> u64 {
        self.holder.facts().incarnation
    }

    /// Until when the lease certainly holds: the sending of the last renewal that was answered, plus the
    /// TTL. `None` = permanent, or not registered.
    pub fn valid_until(&self) -> Option<Instant> {
        self.holder.facts().lease.as_ref().map(|lease| lease.state.borrow().valid_until)
    }

    /// Changes the content: `change` edits the request that was registered. Identity (service,
    /// namespace, host, port, id) must stay.
    ///
    /// # Errors
    /// As [`Client::register`]. The new content is kept for the next registration unless the registry
    /// refused it for good.
    pub async fn update(&self, change: impl FnOnce(&mut ServiceRegisterRequest)) -> Result<(), Error> {
        self.holder.update(change).await
    }

    /// Reports another state, and keeps reporting it if the instance must be registered again.
    ///
    /// # Errors
    /// As [`Client::set_instance_state`].
    pub async fn set_state(&self, state: InstanceState) -> Result<(), Error> {
        let _turn = self.holder.turn.lock().await;
        self.report(state).await
    }

    async fn report(&self, state: InstanceState) -> Result<(), Error> {
        let request = self.holder.request_with_state(state);
        let answer = self.holder.client.set_instance_state(SetInstanceStateRequest {
            service_name: request.service_name,
            host: request.host,
            port: request.port,
            namespace: request.namespace,
            instance_id: request.instance_id,
            incarnation: self.incarnation(),
            state: state.into(),
            ..Default::default()
        });
        match answer.await {
            Ok(_) => Ok(()),
            // It expired meanwhile: the registration made now has the new state.
            Err(error) if is_gone(&error) => self.holder.register_again().await,
            Err(error) => Err(self.holder.judge(error)),
        }
    }

    /// The orderly end, so that nobody who balances over a cache sees a failed call: drains, at most for
    /// `limit` (see [`drain`](Self::drain)), gives readers a second to act on it, waits for `finish`, in which
    /// the program completes what is open and stops serving, then deregisters.
    ///
    /// Whatever becomes of the drain, the program ends: a drain that failed is told as not complete.
    ///
    /// # Errors
    /// As [`deregister`](Self::deregister): the instance then expires with its lease.
    pub async fn end(self, limit: Duration, finish: impl Future<Output = ()>) -> Result<Drained, Error> {
        let drained = match self.drain(limit).await {
            Ok(drained) => {
                sleep(SETTLE).await;
                drained
            }
            Err(error) => {
                tracing::warn!(%error, "the instance is not drained before its end");
                Drained::default()
            }
        };
        finish.await;
        self.deregister().await?;
        Ok(drained)
    }

    /// Sets DRAINING and waits until all watches have been told, at most `timeout` (up to 5 min; the
    /// client's deadline comes on top if the registry cannot be reached). The lease is kept: finish what is
    /// open, then [`deregister`](Self::deregister). [`end`](Self::end) does both. Repeated, it waits on.
    ///
    /// A registry that does not offer Drain gets SetInstanceState, and a second (or `timeout`, if less)
    /// is waited for watchers to hear of it.
    ///
    /// # Errors
    /// As [`Client::drain`].
    pub async fn drain(&self, timeout: Duration) -> Result<Drained, Error> {
        let request = self.holder.request_with_state(InstanceState::Draining);
        let answer = self.holder.client.drain(DrainRequest {
            service_name: request.service_name,
            host: request.host,
            port: request.port,
            namespace: request.namespace,
            instance_id: request.instance_id,
            incarnation: self.incarnation(),
            timeout: whole_milliseconds(timeout.min(LONGEST_DRAIN)).try_into().ok(),
            ..Default::default()
        });
        let drained = match answer.await {
            Ok(answer) => Drained {
                complete: answer.complete,
                pending_watches: answer.pending_watches,
                silent_nodes: answer.silent_nodes,
            },
            Err(error) if error.code() == Code::Unimplemented || is_gone(&error) => {
                {
                    let _turn = self.holder.turn.lock().await;
                    self.report(InstanceState::Draining).await?;
                }
                sleep(timeout.min(DRAIN_GRACE)).await;
                Drained::default()
            }
            Err(error) => return Err(self.holder.judge(error)),
        };
        self.holder.set_status(RegistrationStatus::Draining);
        Ok(drained)
    }

    /// Removes the instance and ends the registration. The renewals stop in any case.
    ///
    /// # Errors
    /// As [`Client::deregister`]. The instance then expires with its lease.
    pub async fn deregister(self) -> Result<(), Error> {
        // A registration under way ends first: it must not arrive after the removal.
        self.holder.stop.cancel();
        let _turn = self.holder.turn.lock().await;
        if matches!(self.status(), RegistrationStatus::Replaced(_)) || self.holder.facts().lease_id == 0 {
            return Ok(());
        }
        let request = self.holder.facts().request.clone();
        let removed = self.holder.client.deregister(ServiceDeregisterRequest {
            service_name: request.service_name,
            host: request.host,
            port: request.port,
            namespace: request.namespace,
            instance_id: request.instance_id,
            incarnation: self.incarnation(),
            ..Default::default()
        });
        let result = removed.await.map(|_| ()).map_err(|error| self.holder.judge(error));
        self.holder.let_go();
        if result.is_ok() {
            self.holder.set_status(RegistrationStatus::Deregistered);
        }
        result
    }
}

/// The registry takes whole milliseconds only.
fn whole_milliseconds(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// True if the registry does not know the instance, or its lease, any more.
fn is_gone(error: &Error) -> bool {
    matches!(error.reason(), Some(ErrorReason::InstanceNotFound | ErrorReason::LeaseExpired))
}
