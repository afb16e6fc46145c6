//! How each answer of the API looks.

use prost::Message;
use registry_proto::v1;

use super::Rendering;
use super::human::{self, Round};

mod admin;
mod cluster;
mod discovery;
mod operate;
mod registration;

pub(crate) use admin::{Joined, Leads, SettingsChange, SettingsView};
pub(crate) use cluster::Members;
pub(crate) use discovery::{instance_row, name_of};

/// An answer that can be shown.
pub(crate) trait View {
    /// The message of the API.
    type Message: Message;

    /// Full name of the message.
    const NAME: &'static str;

    /// The answer as it came.
    fn message(&self) -> &Self::Message;

    /// For people; `wide` = with everything.
    fn table(&self, rendering: Rendering, wide: bool) -> String;

    /// Names alone.
    fn names(&self) -> Vec<String>;

    /// What is not part of the result, but should be known.
    fn remarks(&self, _rendering: Rendering) -> Vec<String> {
        Vec::new()
    }
}

/// A remark about the age of the data, if it may miss acknowledged writes.
pub(crate) fn staleness(header: Option<&v1::ResponseHeader>) -> Option<String> {
    let header = header?;
    let age = human::proto_duration(header.staleness.as_ref()?, Round::Fine);
    let node = super::text::clean(&header.node_id);
    Some(if header.staleness_unknown {
        format!("stale: {node} has not heard a leader since its start {age} ago")
    } else {
        format!("stale: as {node} knew it at most {age} ago")
    })
}
