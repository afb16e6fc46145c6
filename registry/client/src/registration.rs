//! A registration that is held: kept alive, made again when its lease was lost, ended politely.

use std::time::Duration;

use registry_proto::v1::{Instance, InstanceState, ServiceRegisterRequest};
use tokio::sync::watch;

use crate::client::Client;
use crate::error::Error;

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
}

impl std::fmt::Debug for RegistrationBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistrationBuilder").field("request", &self.request).finish()
    }
}

impl RegistrationBuilder {
    pub(crate) fn new(client: Client, request: ServiceRegisterRequest) -> Self {
        Self { client, request }
    }

    /// Is told each change of the status. Called from the client's tasks: do not block.
    pub fn on_status(self, callback: impl Fn(&RegistrationStatus) + Send + Sync + 'static) -> Self {
        let _ = callback;
        self
    }

    /// Registers, then holds the registration.
    ///
    /// # Errors
    /// As [`Client::register`].
    pub async fn start(self) -> Result<Registration, Error> {
        let _ = (&self.client, &self.request);
        todo!()
    }

    /// Holds the registration without waiting for it: tries until the registry takes it, however long it
    /// is away. The status tells.
    pub fn start_in_background(self) -> Registration {
        todo!()
    }
}

/// A registration that is held until [`deregister`](Self::deregister).
///
/// Dropping it only stops the renewals: nothing is sent, and the instance expires when its lease runs
/// out, as if the program had died.
#[derive(Debug)]
pub struct Registration {
    status: watch::Receiver<RegistrationStatus>,
}

impl Registration {
    /// How it is.
    pub fn status(&self) -> RegistrationStatus {
        self.status.borrow().clone()
    }

    /// Tells each change of the status.
    pub fn watch_status(&self) -> watch::Receiver<RegistrationStatus> {
        self.status.clone()
    }

    /// The instance as the registry last described it; `None` before the first registration.
    pub fn instance(&self) -> Option<Instance> {
        todo!()
    }

    /// The lease that keeps it; 0 before the first registration. It changes when the instance is
    /// registered again.
    pub fn lease_id(&self) -> u64 {
        todo!()
    }

    /// The fencing token; 0 before the first registration.
    pub fn incarnation(&self) -> u64 {
        todo!()
    }

    /// Until when the lease certainly holds: the sending of the last renewal that was answered, plus the
    /// TTL. `None` = permanent, or not registered.
    pub fn valid_until(&self) -> Option<tokio::time::Instant> {
        todo!()
    }

    /// Changes the content: `change` edits the request that was registered. Identity (service,
    /// namespace, host, port, id) must stay.
    ///
    /// # Errors
    /// As [`Client::register`]. The new content is kept and used when the instance must be registered
    /// again, unless the registry refused it.
    pub async fn update(&self, change: impl FnOnce(&mut ServiceRegisterRequest)) -> Result<(), Error> {
        let _ = change;
        todo!()
    }

    /// Reports another state, and keeps reporting it if the instance must be registered again.
    ///
    /// # Errors
    /// As [`Client::set_instance_state`].
    pub async fn set_state(&self, state: InstanceState) -> Result<(), Error> {
        let _ = state;
        todo!()
    }

    /// Sets DRAINING and waits until all watches have been told, at most `timeout`. The lease is kept.
    ///
    /// A registry that does not offer Drain gets SetInstanceState, and a second (or `timeout`, if less)
    /// is waited for watchers to hear of it.
    ///
    /// # Errors
    /// As [`Client::drain`].
    pub async fn drain(&self, timeout: Duration) -> Result<Drained, Error> {
        let _ = timeout;
        todo!()
    }

    /// Removes the instance and ends the registration. The renewals stop in any case.
    ///
    /// # Errors
    /// As [`Client::deregister`]. The instance then expires with its lease.
    pub async fn deregister(self) -> Result<(), Error> {
        todo!()
    }
}
