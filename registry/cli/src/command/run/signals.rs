//! The signals that ask us to end.

use rustix::process::Signal;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::error::Error;
use crate::exit::Exit;

/// SIGTERM, SIGINT and SIGHUP, caught from its creation on.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Stream,
    interrupt: Stream,
    hang_up: Stream,
}

impl Signals {
    /// Catches the signals from now on.
    pub(crate) fn new() -> Result<Self, Error> {
        let catch = |kind: SignalKind| {
            signal(kind).map_err(|error| Error::new(Exit::Failure, "catch signals", error.to_string(), ""))
        };
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hang_up: catch(SignalKind::hangup())?,
        })
    }

    /// The next one, as it should be passed on. A lost terminal ends programs that would only read their
    /// configuration anew at SIGHUP, so it is passed on as SIGTERM.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.hang_up.recv() => Signal::TERM,
        }
    }
}
