//! `register --keep`: holds a registration until told to end.

use registry_client::{Registration, RegistrationStatus};
use registry_proto::v1;
use tokio::sync::watch;

use super::register::{name, request};
use super::run::signals::Signals;
use crate::args::{Global, Register};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Screen;
use crate::session::{self, Reach};

/// Registers, renews until SIGINT or SIGTERM, deregisters.
pub(super) async fn keep(args: &Register, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let request = request(args);
    let name = name(&request);
    let client = session::connected(global, Reach::Members, screen).await?;
    let mut signals = Signals::new()?;
    let progress = screen.progress("registering");
    let started = client.registration(request).start().await;
    drop(progress);
    let registration = started.map_err(|error| Error::of_call(format!("register {name}"), &error))?;
    screen.show(&answer(&registration))?;
    screen.remark("held until Ctrl-C");

    tokio::select! {
        _ = signals.next() => {}
        error = lost(registration.watch_status(), &name, screen) => return Err(error),
    }
    let progress = screen.progress("deregistering");
    let ended = registration.deregister().await;
    drop(progress);
    ended.map_err(|error| Error::of_call(format!("deregister {name}"), &error))?;
    screen.remark(&format!("deregistered {name}"));
    Ok(Exit::Success)
}

/// What a registration would say as the answer to a call.
fn answer(registration: &Registration) -> v1::ServiceRegisterResponse {
    v1::ServiceRegisterResponse {
        header: None,
        instance: registration.instance(),
        lease_id: registration.lease_id(),
        incarnation: registration.incarnation(),
        outcome: v1::RegisterOutcome::Unspecified.into(),
    }
}

/// Tells how a registration fares; returns when it is over although nobody ended it.
pub(super) async fn lost(
    mut status: watch::Receiver<RegistrationStatus>,
    name: &str,
    screen: &Screen,
) -> Error {
    let mut troubled = false;
    loop {
        let now = status.borrow_and_update().clone();
        match now {
            RegistrationStatus::Replaced(error) | RegistrationStatus::Failed(error) => {
                return Error::of_call(format!("keep {name} registered"), &error);
            }
            RegistrationStatus::AtRisk => {
                troubled = true;
                screen.warn(&format!("the registry does not answer, {name} may have expired; trying on"));
            }
            RegistrationStatus::Reregistering => {
                troubled = true;
                screen.warn(&format!("the lease of {name} was lost; registering again"));
            }
            RegistrationStatus::Postponed(error) => {
                troubled = true;
                screen.warn(&format!("{name} is not registered: {error}; trying on"));
            }
            RegistrationStatus::Registered if troubled => {
                troubled = false;
                screen.warn(&format!("{name} is registered again"));
            }
            _ => {}
        }
        if status.changed().await.is_err() {
            // The registration was ended by us.
            std::future::pending::<()>().await;
        }
    }
}
