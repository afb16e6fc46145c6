//! Overrides: an operator's word about an instance, kept apart from what the owner writes.

use std::sync::Arc;

use crate::ids::{InstanceKey, Revision};
use crate::instance::InstanceState;

/// An override as readers see it. Has a state or a weight, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// State to show instead of the reported one.
    pub state: Option<InstanceState>,
    /// Weight to show instead of the registered one.
    pub weight: Option<u16>,
    /// Why, for people.
    pub comment: Box<str>,
    /// Who, for people.
    pub actor: Box<str>,
    /// When it was set, in milliseconds since 1970; a label.
    pub set_at_unix_ms: u64,
    /// When it ends by itself, in milliseconds since 1970; a label, see [`OverrideView::remaining_ms`].
    pub expires_at_unix_ms: Option<u64>,
    /// Revision at which it was set. Unique, so it is also the version by which it is ended (P/L7).
    pub revision: Revision,
}

/// An override where it stands in the state.
#[derive(Clone, Debug)]
pub struct OverrideView<'a> {
    /// The instance, registered or not.
    pub key: &'a InstanceKey,
    /// The override.
    pub operator_override: &'a Arc<Override>,
    /// Time left when the leader last wrote it to the log, in milliseconds; unset = it does not end by
    /// itself. A new leader counts from here (P/L7).
    pub remaining_ms: Option<u64>,
    /// True if the instance is registered.
    pub registered: bool,
}

/// What the state keeps of an override. The time left is outside the shared part, because it is logged
/// again and again and no reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OverrideEntry {
    pub(crate) shared: Arc<Override>,
    pub(crate) remaining_ms: Option<u64>,
}
