//! Reads what a watch covers out of one state, message by message.

use bytes::Bytes;
use registry_state::{ServiceKey, ServiceView, State};

use super::encode::{PART_BYTES, framed};
use super::scope::covers;
use crate::server::convert::{self, Scope};

/// Services looked at for one message at most, so that many empty ones do not hold up others.
const SERVICES_PER_CHUNK: usize = 4_096;

/// How far a snapshot has been read.
#[derive(Debug)]
pub struct Cursor {
    /// The service that is read; services before it are done.
    service: Option<ServiceKey>,
    /// Its last instance that was read; empty if none was.
    instance: String,
}

/// A part of a snapshot.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Encoded `v1::Instance`s; may be empty before the end.
    pub instances: Vec<Bytes>,
    /// True if nothing follows.
    pub last: bool,
    size: usize,
}

impl Cursor {
    /// Before the first instance of a scope.
    pub fn new(scope: &Scope) -> Self {
        let service = match scope {
            Scope::All => None,
            Scope::Namespace(namespace) => Some(ServiceKey::new(namespace, "")),
            Scope::Service { namespace, service_name } => Some(ServiceKey::new(namespace, service_name)),
        };
        Self { service, instance: String::new() }
    }

    /// The next instances, at most a message of them. Always the same state has to be given.
    pub fn read(&mut self, scope: &Scope, state: &State) -> Chunk {
        let mut chunk = Chunk::default();
        let from = self.service.clone();
        for (count, service) in state.services_from(from.as_ref()).enumerate() {
            let key = service.key();
            if !covers(scope, &key.namespace, &key.name) {
                break;
            }
            if self.service.as_ref() != Some(key.as_ref()) {
                self.service = Some(key.as_ref().clone());
                self.instance.clear();
            }
            if count == SERVICES_PER_CHUNK || !self.read_service(service, &mut chunk) {
                return chunk;
            }
        }
        chunk.last = true;
        chunk
    }

    /// False if the chunk is full.
    fn read_service(&mut self, service: ServiceView<'_>, chunk: &mut Chunk) -> bool {
        let after = self.instance.clone();
        let mut read: Option<String> = None;
        for instance in service.instances_after(&after) {
            let bytes = convert::encode_instance(instance);
            let size = framed(bytes.len());
            if chunk.size + size > PART_BYTES && !chunk.instances.is_empty() {
                self.instance = read.unwrap_or_default();
                return false;
            }
            chunk.size += size;
            chunk.instances.push(bytes);
            read = Some(instance.instance_id.to_string());
        }
        if let Some(read) = read {
            self.instance = read;
        }
        true
    }
}
