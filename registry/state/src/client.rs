//! What is remembered of clients (P/R3).
/// Placeholder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clients;
