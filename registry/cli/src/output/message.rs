//! Messages of the API as canonical proto3 JSON, and the same structure as YAML.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};

use crate::error::Error;
use crate::exit::Exit;

/// The descriptors of the API, decoded once. Constant, so it is no state that anybody could change.
static DESCRIPTORS: LazyLock<Result<DescriptorPool, String>> = LazyLock::new(|| {
    DescriptorPool::decode(registry_proto::ALL_DESCRIPTORS).map_err(|error| error.to_string())
});

fn failed(error: impl ToString) -> Error {
    Error::new(Exit::Failure, "print the answer", error.to_string(), "please report it")
}

/// The message with its descriptor. `name` is its full name, such as `registry.v1.Instance`.
fn dynamic(name: &str, message: &impl Message) -> Result<DynamicMessage, Error> {
    let pool = DESCRIPTORS.as_ref().map_err(failed)?;
    let descriptor = pool.get_message_by_name(name).ok_or_else(|| failed(format!("{name} is not known")))?;
    DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).map_err(failed)
}

/// Canonical JSON over several lines.
pub(crate) fn json_pretty(name: &str, message: &impl Message) -> Result<String, Error> {
    let mut text = serde_json::to_string_pretty(&dynamic(name, message)?).map_err(failed)?;
    text.push('\n');
    Ok(text)
}

/// Canonical JSON on one line.
pub(crate) fn json_line(name: &str, message: &impl Message) -> Result<String, Error> {
    let mut text = serde_json::to_string(&dynamic(name, message)?).map_err(failed)?;
    text.push('\n');
    Ok(text)
}

/// The structure of canonical JSON as YAML.
pub(crate) fn yaml(name: &str, message: &impl Message) -> Result<String, Error> {
    let mut text = serde_saphyr::to_string(&dynamic(name, message)?).map_err(failed)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}
