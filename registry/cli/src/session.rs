//! The client that a command uses, made from the global flags.

use registry_client::{CallOptions, Client};

use crate::args::Global;
use crate::error::Error;
use crate::output::Screen;

/// Which nodes a command talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Those named by `--endpoints`: whoever names a node wants its answer.
    Named,
    /// All members of the cluster: what lasts should outlive the node named.
    Members,
}

/// A client that is not connected yet. Connects when a call needs it.
pub(crate) fn client(global: &Global, reach: Reach) -> Result<Client, Error> {
    Client::builder()
        .seeds(&global.endpoints)
        .discover_members(reach == Reach::Members)
        .deadline(global.timeout)
        // Stale reads show what the node knows, not what an earlier answer made the client wait for.
        .call_options(CallOptions::new().any_revision())
        .build()
        .map_err(|error| Error::of_call("ask the registry", &error))
}

/// A client that is connected to one node. Tells at once when nobody is there.
pub(crate) async fn connected(global: &Global, reach: Reach, screen: &Screen) -> Result<Client, Error> {
    let client = client(global, reach)?;
    let _progress = screen.progress(format!("connecting to {}", global.endpoints.join(", ")));
    client.connected().await.map_err(|error| Error::of_call("ask the registry", &error))?;
    Ok(client)
}
