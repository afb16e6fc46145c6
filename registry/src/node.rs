//! placeholder
mod found;
mod fsync;
mod gate;
mod greet;
mod hello;
mod initialize;

/// x
#[derive(Debug)]
pub struct Spawners {
    /// x
    pub clients: tokio::runtime::Handle,
    /// x
    pub raft: tokio::runtime::Handle,
}
/// x
pub async fn run(
    _: crate::config::ValidConfig,
    _: crate::environment::Environment,
    _: Spawners,
    _: tokio::sync::watch::Receiver<u32>,
) -> Result<(), crate::exit::Fatal> {
    Ok(())
}
