//! `run`: a program that is registered while it lives.
//!
//! STARTING before the program is started, UP once it accepts connections. Asked to end: DRAINING first,
//! so that clients that balance go elsewhere while the program still serves, then the signal, and after
//! the end of the program deregistration. A program that ends by itself is deregistered at once. The
//! registry being away never stops the program: registration is tried until it succeeds.

use std::time::Duration;

use registry_client::{Drained, Registration, RegistrationStatus};
use registry_proto::v1::{self, InstanceState};
use rustix::process::Signal;
use tokio::time::{sleep, timeout};

use super::register::name;
use crate::args::instance::instance_id;
use crate::args::{Global, Run};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Screen;
use crate::output::text::{clean, count};
use crate::session::{self, Reach};

mod child;
mod ready;
pub(super) mod signals;

use child::Child;
use signals::Signals;

/// Time that readers of a watch get to act on DRAINING after it has been sent to them: the registry knows
/// what it has sent, not what has been read, and a call to this instance may be on its way. As long as the
/// library takes for the same (`Registration::end`).
const SETTLE: Duration = Duration::from_secs(1);

/// Time between two tries to report UP. Each try has the library's own repetitions and `--timeout`.
const BETWEEN_REPORTS: Duration = Duration::from_secs(1);

/// Runs the program and returns its exit code.
pub(super) async fn run(args: &Run, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let address = args.ready_address.clone().unwrap_or_else(|| instance_id(&args.host, args.port));
    if ready::accepts(&address).await {
        let message = format!("something accepts connections at {address} already");
        return Err(Error::new(
            Exit::Refused,
            "run the program",
            message,
            "end it, or choose another --port",
        ));
    }
    let mut signals = Signals::new()?;
    let client = session::client(global, Reach::Members)?;
    let request = v1::ServiceRegisterRequest {
        state: InstanceState::Starting.into(),
        ..args.content.request(&args.service, &args.host, args.port)
    };
    let name = name(&request);
    let registration = client.registration(request).start_in_background();
    first_answer(&registration, &name, global, screen).await?;

    let child = match Child::start(&args.command, args.port) {
        Ok(child) => child,
        Err(error) => {
            deregister(registration, &name, global, screen).await;
            return Err(error);
        }
    };
    let mut supervisor = Supervisor { args, name: &name, address: &address, child, screen };
    let ended = supervisor.supervise(&registration, &mut signals).await;
    // Whatever happened, the instance is gone with the program.
    deregister(registration, &name, global, screen).await;
    ended
}

/// Waits until the registry has taken or refused the registration. A refusal is an error; no answer within
/// `--timeout` is not, as the program can do its work before others know of it.
async fn first_answer(
    registration: &Registration,
    name: &str,
    global: &Global,
    screen: &Screen,
) -> Result<(), Error> {
    let progress = screen.progress(format!("registering {name}"));
    let mut status = registration.watch_status();
    let answered = status.wait_for(|status| !matches!(status, RegistrationStatus::Registering));
    let answer = timeout(global.timeout, answered).await.map(|status| status.map(|status| status.clone()));
    drop(progress);
    match answer {
        Ok(Ok(RegistrationStatus::Replaced(error) | RegistrationStatus::Failed(error))) => {
            Err(Error::of_call(format!("register {name}"), &error))
        }
        Ok(Ok(RegistrationStatus::Postponed(error))) => {
            screen.warn(&format!("{error}: starting the program, registering {name} later"));
            Ok(())
        }
        Ok(Ok(_)) => {
            screen
                .remark(&format!("registered {name}, incarnation {}, STARTING", registration.incarnation()));
            Ok(())
        }
        Ok(Err(_)) | Err(_) => {
            let nodes = global.endpoints.join(", ");
            screen.warn(&format!("no answer from {nodes}: starting the program, registering {name} later"));
            Ok(())
        }
    }
}

/// Deregisters, at most for `--timeout`. A failure is told, but changes nothing: the lease runs out.
async fn deregister(registration: Registration, name: &str, global: &Global, screen: &Screen) {
    let progress = screen.progress(format!("deregistering {name}"));
    let answer = timeout(global.timeout, registration.deregister()).await;
    drop(progress);
    match answer {
        Ok(Ok(())) => screen.remark(&format!("deregistered {name}")),
        Ok(Err(error)) => {
            screen.warn(&format!(
                "{}; it stays until its lease runs out",
                Error::of_call(format!("deregister {name}"), &error)
            ));
        }
        Err(_) => screen
            .warn(&format!("no answer to the deregistration of {name}; it stays until its lease runs out")),
    }
}

/// How far the program has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It does not accept connections yet.
    Starting,
    /// It does, and the registry is being told: perhaps it knows already.
    Accepting,
    /// The registry has taken it as UP.
    Up,
}

/// The program under way.
struct Supervisor<'a> {
    args: &'a Run,
    name: &'a str,
    address: &'a str,
    child: Child,
    screen: &'a Screen,
}

impl Supervisor<'_> {
    /// Waits for the end of the program, brought about by itself or by a signal to us.
    async fn supervise(&mut self, registration: &Registration, signals: &mut Signals) -> Result<Exit, Error> {
        let status = registration.watch_status();
        let (name, screen) = (self.name, self.screen);
        let report = tokio::spawn({
            // Told beside everything else: the program goes on whatever becomes of its registration.
            let (name, screen) = (name.to_owned(), screen.clone());
            async move {
                let error = super::keep::lost(status, &name, &screen).await;
                screen.warn(&format!("{error}; the program goes on unregistered"));
            }
        });
        let mut phase = Phase::Starting;
        let ended = loop {
            tokio::select! {
                ended = self.child.ended() => break ended,
                signal = signals.next() => break self.stop(registration, signals, signal, phase).await,
                accepts = accepts_within(self.args.start_timeout, self.address),
                    if phase == Phase::Starting =>
                {
                    if !accepts {
                        break self.give_up(signals).await;
                    }
                    phase = Phase::Accepting;
                }
                () = report_up(registration), if phase == Phase::Accepting => {
                    phase = Phase::Up;
                    screen.remark(&format!("{name} is UP"));
                }
            }
        };
        report.abort();
        ended
    }

    /// Drains, then signals the program and waits for its end.
    async fn stop(
        &mut self,
        registration: &Registration,
        signals: &mut Signals,
        signal: Signal,
        phase: Phase,
    ) -> Result<Exit, Error> {
        if phase != Phase::Starting && !self.args.drain_timeout.is_zero() {
            self.screen.remark(&format!("draining {}", self.name));
            tokio::select! {
                () = drain(registration, self.args.drain_timeout, self.name, self.screen) => {}
                ended = self.child.ended() => return ended,
                _ = signals.next() => return self.kill().await,
            }
        }
        self.end(signals, signal).await
    }

    /// Signals the program and waits for its end; kills it when the time is up or a second signal comes.
    async fn end(&mut self, signals: &mut Signals, signal: Signal) -> Result<Exit, Error> {
        self.child.signal(signal);
        tokio::select! {
            ended = self.child.ended() => return ended,
            () = sleep(self.args.stop_timeout) => {
                let limit = self.args.stop_timeout.as_secs_f32();
                self.screen.warn(&format!("the program has not ended within {limit} s: killing it"));
            }
            _ = signals.next() => {}
        }
        self.kill().await
    }

    async fn kill(&mut self) -> Result<Exit, Error> {
        self.child.signal(Signal::KILL);
        self.child.ended().await
    }

    /// Ends a program that does not accept connections in time.
    async fn give_up(&mut self, signals: &mut Signals) -> Result<Exit, Error> {
        self.end(signals, Signal::TERM).await?;
        let limit = self.args.start_timeout.unwrap_or_default().as_secs_f32();
        let message = format!("it did not accept connections at {} within {limit} s", self.address);
        let hint = "check its port (PORT in its environment), or allow more with --start-timeout";
        Err(Error::new(Exit::Timeout, "run the program", message, hint))
    }
}

/// True once the program accepts connections, false if it does not within `limit`.
async fn accepts_within(limit: Option<Duration>, address: &str) -> bool {
    match limit {
        Some(limit) => timeout(limit, ready::accepting(address)).await.is_ok(),
        None => {
            ready::accepting(address).await;
            true
        }
    }
}

/// Reports UP until the registry takes it.
async fn report_up(registration: &Registration) {
    while registration.set_state(InstanceState::Up).await.is_err() {
        sleep(BETWEEN_REPORTS).await;
    }
}

/// What to tell about a drain of which not everybody is known to have heard.
fn unheard(drained: &Drained) -> String {
    let pending = (drained.pending_watches > 0)
        .then(|| count(drained.pending_watches, "watcher that does not read", "watchers that do not read"));
    let silent = (!drained.silent_nodes.is_empty())
        .then(|| format!("those of {}, which cannot be asked", clean(&drained.silent_nodes.join(", "))));
    let who: Vec<_> = pending.into_iter().chain(silent).collect();
    format!("not every watcher is known to have heard of the drain: {}", who.join(", and "))
}

/// Drains, and tells if not everybody could be reached.
async fn drain(registration: &Registration, limit: Duration, name: &str, screen: &Screen) {
    // The registry ends its wait at `limit`; a second more for its answer to arrive.
    let answer = timeout(limit + Duration::from_secs(1), registration.drain(limit)).await;
    match answer {
        Ok(Ok(drained)) => {
            if drained.pending_watches > 0 || !drained.silent_nodes.is_empty() {
                screen.warn(&unheard(&drained));
            }
            sleep(SETTLE).await;
        }
        Ok(Err(error)) => screen.warn(&Error::of_call(format!("drain {name}"), &error).to_string()),
        Err(_) => screen.warn(&format!("no answer to the drain of {name}")),
    }
}
