//! The state behind a registration, and the task that makes it again when its lease was lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use registry_proto::v1::{
    ErrorReason, Instance, InstanceState, RetryClass, ServiceRegisterRequest, ServiceRegisterResponse,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::RegistrationStatus;
use crate::backoff::{Backoff, jittered};
use crate::client::Client;
use crate::error::Error;
use crate::keep_alive::HeldLease;
use crate::metrics::count;

/// Waits between tries to register again. The first is short: the instance is missing until then.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Shortest TTL that the registry grants.
const SHORTEST_TTL: Duration = Duration::from_secs(1);

pub(super) type Callback = Arc<dyn Fn(&RegistrationStatus) + Send + Sync>;

/// What is known of the registration.
#[derive(Default)]
pub(super) struct Facts {
    /// What is to be registered.
    pub(super) request: ServiceRegisterRequest,
    pub(super) lease_id: u64,
    pub(super) incarnation: u64,
    pub(super) instance: Option<Instance>,
    /// Keeps the lease alive; `None` for a permanent instance.
    pub(super) lease: Option<HeldLease>,
}

pub(super) struct Holder {
    pub(super) client: Client,
    pub(super) status: watch::Sender<RegistrationStatus>,
    /// Writes about the instance take turns, so that each knows the incarnation of the one before.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// The registration is being given up.
    pub(super) stop: CancellationToken,
    facts: Mutex<Facts>,
    /// Raised with every new lease.
    leases: watch::Sender<u64>,
    callback: Option<Callback>,
}

/// What the holding task found.
enum Found {
    /// The lease is not open any more.
    Lost,
    /// No renewal was answered for a full TTL.
    AtRisk,
    /// A renewal was answered again.
    Safe,
    /// Another lease is held now.
    Changed,
}

impl Holder {
    pub(super) fn new(
        client: Client,
        mut request: ServiceRegisterRequest,
        callback: Option<Callback>,
    ) -> Arc<Self> {
        // The library numbers its writes itself.
        request.request_id = None;
        let incarnation = request.incarnation;
        Arc::new(Self {
            client,
            status: watch::channel(RegistrationStatus::Registering).0,
            turn: tokio::sync::Mutex::default(),
            stop: CancellationToken::new(),
            facts: Mutex::new(Facts { request, incarnation, ..Facts::default() }),
            leases: watch::channel(0).0,
            callback,
        })
    }

    pub(super) fn facts(&self) -> MutexGuard<'_, Facts> {
        // Only fields are read and set under the lock.
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request, whose state is this one from now on.
    pub(super) fn request_with_state(&self, state: InstanceState) -> ServiceRegisterRequest {
        let mut facts = self.facts();
        facts.request.state = state.into();
        facts.request.clone()
    }

    pub(super) fn set_status(&self, status: RegistrationStatus) {
        let mut changed = false;
        self.status.send_if_modified(|old| {
            changed = !old.is_final() && std::mem::discriminant(old) != std::mem::discriminant(&status);
            if changed {
                old.clone_from(&status);
            }
            changed
        });
        if changed {
            tracing::info!(%status, instance = %self.name(), "registration");
            if let Some(callback) = &self.callback {
                callback(&status);
            }
        }
    }

    fn name(&self) -> String {
        let facts = self.facts();
        let request = &facts.request;
        let id = match (&facts.instance, request.instance_id.as_str()) {
            (Some(instance), _) => instance.instance_id.clone(),
            (None, "") => format!("{}:{}", request.host, request.port),
            (None, id) => id.to_owned(),
        };
        format!("{}/{id}", request.service_name)
    }

    /// Stops the renewals.
    pub(super) fn let_go(&self) {
        self.facts().lease = None;
    }

    /// Notes what a failed write says about the registration, and hands the error on.
    pub(super) fn judge(&self, error: Error) -> Error {
        if error.is(ErrorReason::StaleIncarnation) {
            self.let_go();
            self.set_status(RegistrationStatus::Replaced(error.clone()));
        }
        error
    }

    /// Registers for the first time.
    pub(super) async fn register(&self) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        self.submit_present().await
    }

    async fn submit_present(&self) -> Result<(), Error> {
        let request = self.facts().request.clone();
        self.submit(request, self.incarnation()).await
    }

    fn incarnation(&self) -> u64 {
        self.facts().incarnation
    }

    /// Registers content that is there already, or was until its lease ran out.
    pub(super) async fn register_again(&self) -> Result<(), Error> {
        let mut request = self.facts().request.clone();
        // The old lease may have run out; a same owner gets it back without naming it.
        request.lease_id = 0;
        self.submit(request, self.incarnation()).await
    }

    async fn submit(&self, mut request: ServiceRegisterRequest, incarnation: u64) -> Result<(), Error> {
        request.incarnation = incarnation;
        let sent_at = Instant::now();
        let mut result = self.client.register(request.clone()).await;
        if matches!(&result, Err(error) if error.is(ErrorReason::RegistrationGone)) {
            // It was registered by an attempt whose answer was lost, and has gone since.
            result = self.client.register(request).await;
        }
        match result {
            Ok(answer) => {
                self.take(answer, sent_at);
                Ok(())
            }
            Err(error) => Err(self.judge(error)),
        }
    }

    /// Takes over what the registry granted for a request sent at `sent_at` or later.
    fn take(&self, answer: ServiceRegisterResponse, sent_at: Instant) {
        let ttl = answer.instance.as_ref().and_then(|instance| instance.ttl);
        // Always set in answers; renewing too often would be the lesser evil.
        let ttl = ttl.and_then(|ttl| Duration::try_from(ttl).ok()).unwrap_or(SHORTEST_TTL);
        // A permanent instance has a lease without end; renewing it would only cost.
        let lease = (!ttl.is_zero()).then(|| self.client.core.keeper.hold(answer.lease_id, ttl, sent_at));
        let draining = {
            let mut facts = self.facts();
            facts.lease_id = answer.lease_id;
            facts.incarnation = answer.incarnation;
            facts.instance = answer.instance;
            facts.lease = lease;
            facts.request.state() == InstanceState::Draining
        };
        self.leases.send_modify(|version| *version += 1);
        self.set_status(if draining { RegistrationStatus::Draining } else { RegistrationStatus::Registered });
    }

    pub(super) async fn update(&self, change: impl FnOnce(&mut ServiceRegisterRequest)) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let old = self.facts().request.clone();
        let mut new = old.clone();
        change(&mut new);
        new.request_id = None;
        let identity = |request: &ServiceRegisterRequest| {
            let names = (request.service_name.clone(), request.namespace.clone(), request.host.clone());
            (names, request.port, request.instance_id.clone())
        };
        if identity(&new) != identity(&old) {
            return Err(Error::usage(
                "an update cannot change which instance it is: make another registration",
            ));
        }
        self.facts().request = new;
        let result = self.register_again().await;
        if let Err(error) = &result
            && error.retry_class() == RetryClass::Never
            && !error.is_outcome_unknown()
        {
            self.facts().request = old;
        }
        result
    }

    /// Watches the lease and registers again when it is lost, until the end.
    pub(super) async fn hold(self: Arc<Self>) {
        let mut leases = self.leases.subscribe();
        loop {
            leases.borrow_and_update();
            let registered = self.facts().lease_id != 0;
            let found = if registered {
                tokio::select! {
                    found = self.look() => found,
                    _ = leases.changed() => Found::Changed,
                    () = self.stop.cancelled() => return,
                }
            } else {
                Found::Lost
            };
            match found {
                Found::Lost => {
                    if !self.regain(registered).await {
                        return;
                    }
                }
                Found::AtRisk => self.set_status(RegistrationStatus::AtRisk),
                Found::Safe => self.set_status(self.safe_status()),
                Found::Changed => {}
            }
        }
    }

    fn safe_status(&self) -> RegistrationStatus {
        match self.facts().request.state() {
            InstanceState::Draining => RegistrationStatus::Draining,
            _ => RegistrationStatus::Registered,
        }
    }

    /// Waits until something about the lease is to be told.
    async fn look(&self) -> Found {
        let state = self.facts().lease.as_ref().map(|lease| lease.state.clone());
        let Some(mut state) = state else { return std::future::pending().await };
        let at_risk = matches!(*self.status.borrow(), RegistrationStatus::AtRisk);
        loop {
            let now = *state.borrow_and_update();
            if now.expired {
                return Found::Lost;
            }
            let safe = now.valid_until > Instant::now();
            if at_risk && safe {
                return Found::Safe;
            }
            if !at_risk && !safe {
                return Found::AtRisk;
            }
            tokio::select! {
                changed = state.changed() => if changed.is_err() { return std::future::pending().await },
                () = sleep_until(now.valid_until), if safe => {}
            }
        }
    }

    /// Registers until the registry takes it. False if the registration has ended.
    async fn regain(&self, again: bool) -> bool {
        if again {
            self.set_status(RegistrationStatus::Reregistering);
            count(&self.client.core.metrics.reregistrations);
        }
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let error = self.regain_once(again).await;
            // The registry knows best when it may have room again.
            let wait =
                backoff.next().max(error.as_ref().and_then(Error::retry_after).map_or(Duration::ZERO, later));
            match error {
                Some(error) if is_hopeless(&error) => {
                    self.let_go();
                    self.set_status(RegistrationStatus::Failed(error));
                }
                Some(error) if error.is(ErrorReason::QuotaExceeded) => {
                    self.set_status(RegistrationStatus::Postponed(error));
                }
                _ => {}
            }
            if self.stop.is_cancelled() || self.status.borrow().is_final() {
                return false;
            }
            if !self.needs_registration(again) {
                return true;
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = self.stop.cancelled() => return false,
            }
        }
    }

    /// One try. Other writes get their turn between two tries.
    async fn regain_once(&self, again: bool) -> Option<Error> {
        let _turn = self.turn.lock().await;
        // Another write may have registered it meanwhile, or its owner given it up.
        if self.stop.is_cancelled() || !self.needs_registration(again) {
            return None;
        }
        match again {
            true => self.register_again().await.err(),
            false => self.submit_present().await.err(),
        }
    }

    fn needs_registration(&self, again: bool) -> bool {
        let facts = self.facts();
        match again {
            true => facts.lease.as_ref().is_some_and(|lease| lease.state.borrow().expired),
            false => facts.lease_id == 0,
        }
    }
}

/// A wait that the registry asked for, longer by chance, so that all who were told so do not come at once.
fn later(wait: Duration) -> Duration {
    wait + jittered(wait / 5)
}

/// True if waiting does not help: the request itself is wrong. A quota may be raised, a fault be mended.
fn is_hopeless(error: &Error) -> bool {
    match error.reason() {
        Some(reason) => matches!(reason, ErrorReason::InvalidField | ErrorReason::LeaseExpired),
        None => matches!(
            error.code(),
            Code::InvalidArgument | Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated
        ),
    }
}
