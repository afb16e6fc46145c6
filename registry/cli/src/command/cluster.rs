//! `status`, `members`

use registry_proto::v1;

use crate::args::{Global, Status};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Screen;
use crate::output::view::Members;
use crate::session::{self, Reach};

/// Shows leader, quorum, counts and members.
pub(super) async fn status(args: &Status, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    screen.show(&ask(args, global, screen).await?)?;
    Ok(Exit::Success)
}

/// Shows the members.
pub(super) async fn members(args: &Status, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    screen.show(&Members(ask(args, global, screen).await?))?;
    Ok(Exit::Success)
}

async fn ask(args: &Status, global: &Global, screen: &Screen) -> Result<v1::ClusterStatusResponse, Error> {
    let client = session::connected(global, Reach::Named, screen).await?;
    let _progress = screen.progress("asking");
    client
        .cluster_status(v1::ClusterStatusRequest { local: args.local })
        .await
        .map_err(|error| Error::of_call("ask for the status", &error))
}
