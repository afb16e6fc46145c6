//! Messages of the API as canonical proto3 JSON, and the same structure as YAML.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, ReflectMessage as _,
};
use serde::{Serialize, Serializer};
use serde_json::Value;

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

/// A message in canonical JSON whose keys have an order that never changes: fields by number, as in the
/// proto files, and keys of maps by name.
struct Ordered<'a> {
    value: &'a Value,
    /// Of which message the value is; `None` for scalars and well-known types.
    of: Option<MessageDescriptor>,
}

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.value, &self.of) {
            (Value::Array(items), of) => {
                serializer.collect_seq(items.iter().map(|value| Ordered { value, of: of.clone() }))
            }
            (Value::Object(members), Some(message)) if message.is_map_entry() => {
                let of = message_of(&message.map_entry_value_field());
                let mut members: Vec<_> = members.iter().collect();
                members.sort_unstable_by_key(|(key, _)| *key);
                let ordered = |(key, value)| (key, Ordered { value, of: of.clone() });
                serializer.collect_map(members.into_iter().map(ordered))
            }
            (Value::Object(members), Some(message)) => {
                let mut fields: Vec<_> = message.fields().collect();
                fields.sort_unstable_by_key(FieldDescriptor::number);
                let ordered = fields.into_iter().filter_map(|field| {
                    let value = members.get(field.json_name())?;
                    Some((field.json_name().to_owned(), Ordered { value, of: message_of(&field) }))
                });
                serializer.collect_map(ordered)
            }
            (value, _) => value.serialize(serializer),
        }
    }
}

/// The message that a field holds, unless JSON has a form of its own for it (Duration, Timestamp).
fn message_of(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    let message = field.kind().as_message()?.clone();
    (message.package_name() != "google.protobuf").then_some(message)
}

/// Hands the message, in order, to a writer.
fn written<T, E: ToString>(
    name: &str,
    message: &impl Message,
    write: impl FnOnce(&Ordered<'_>) -> Result<T, E>,
) -> Result<T, Error> {
    let dynamic = dynamic(name, message)?;
    let of = Some(dynamic.descriptor());
    let value = serde_json::to_value(&dynamic).map_err(failed)?;
    write(&Ordered { value: &value, of }).map_err(failed)
}

/// Canonical JSON over several lines.
pub(crate) fn json_pretty(name: &str, message: &impl Message) -> Result<String, Error> {
    written(name, message, |ordered| serde_json::to_string_pretty(ordered)).map(|text| text + "\n")
}

/// Canonical JSON on one line.
pub(crate) fn json_line(name: &str, message: &impl Message) -> Result<String, Error> {
    written(name, message, |ordered| serde_json::to_string(ordered)).map(|text| text + "\n")
}

/// The structure of canonical JSON as YAML.
pub(crate) fn yaml(name: &str, message: &impl Message) -> Result<String, Error> {
    let text = written(name, message, |ordered| serde_saphyr::to_string(ordered))?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}
