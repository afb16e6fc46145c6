//! Between the messages of the interface and what the node works with.
//!
//! Into the node everything is checked, and everything that is wrong is named at once (API/G2). Out of
//! it each instance is encoded once and the bytes are shared by Discover and Watch.

mod check;
mod filter;
mod instance;
mod operator;
mod read;
mod register;
mod reply;
mod target;

pub use check::duration_ms;
pub use filter::Filter;
pub use instance::{
    counts, duration, encode_instance, event, instance, operator_override, protection, timestamp_ms,
};
pub use operator::{clear_override, end_protection, set_override};
pub use read::{
    Consistency, DiscoverQuery, Freshness, ListQuery, OverridesQuery, Scope, WatchQuery, discover,
    list_overrides, list_services, watch,
};
pub use register::{batch_register, register};
pub use reply::{
    batch_response, cleared_response, deregister_response, drained, override_response,
    protection_ended_response, refusal, register_response, state_response,
};
pub use target::{Checked, deregister, drain, heartbeat, set_state};
