//! Changes as bytes: each event is encoded once, each revision once per scope, for all watches (V5).

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use prost::encoding::encoded_len_varint;
use registry_proto::v1;
use registry_state::{Event, RevisionEvents};
use tokio::time::Instant;

use crate::server::convert;

/// Largest encoded part of a revision, and largest sum of parts in one message, in bytes (P/V5). Below
/// 1 MiB by more than a header and the framing of a part take, so that the message stays below it too.
pub const PART_BYTES: usize = (1 << 20) - (8 << 10);

/// `v1::RevisionChanges` with encoded events; the same bytes on the wire.
#[derive(Clone, PartialEq, prost::Message)]
struct RawChanges {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    events: Vec<Bytes>,
    #[prost(bool, tag = "3")]
    more: bool,
}

/// The changes of one revision in one scope, encoded.
#[derive(Debug)]
pub struct Encoded {
    /// The revision.
    pub revision: u64,
    /// Number of events.
    pub events: usize,
    /// Encoded `v1::RevisionChanges`, each at most [`PART_BYTES`]; all but the last with `more`.
    pub parts: Vec<Bytes>,
    /// Sum of the parts.
    pub bytes: usize,
    /// When this node published the revision; `None` for history that is read again.
    pub published_at: Option<Instant>,
}

impl Encoded {
    /// Joins encoded events to a revision.
    pub fn new(revision: u64, events: &[Bytes], published_at: Option<Instant>) -> Self {
        let mut parts = Vec::new();
        let mut part = RawChanges { revision, events: Vec::new(), more: false };
        let mut size = 0;
        for event in events {
            let cost = framed(event.len());
            if size + cost > PART_BYTES && !part.events.is_empty() {
                part.more = true;
                parts.push(part.encode_to_vec().into());
                part = RawChanges { revision, events: Vec::new(), more: false };
                size = 0;
            }
            size += cost;
            part.events.push(event.clone());
        }
        parts.push(Bytes::from(part.encode_to_vec()));
        let bytes = parts.iter().map(Bytes::len).sum();
        Self { revision, events: events.len(), parts, bytes, published_at }
    }
}

/// Bytes of a length-delimited field with a one-byte tag.
pub fn framed(len: usize) -> usize {
    1 + encoded_len_varint(u64::try_from(len).unwrap_or(u64::MAX)) + len
}

/// Encodes the events of one revision on demand, each at most once per form.
#[derive(Debug)]
pub struct Encoder<'a> {
    source: &'a RevisionEvents,
    published_at: Option<Instant>,
    /// By position: without and with `previous`.
    events: Vec<[Option<Bytes>; 2]>,
}

impl<'a> Encoder<'a> {
    /// Nothing is encoded yet.
    pub fn new(source: &'a RevisionEvents, published_at: Option<Instant>) -> Self {
        Self { source, published_at, events: vec![[None, None]; source.events.len()] }
    }

    /// The revision with the events at these positions.
    pub fn revision(
        &mut self,
        positions: impl IntoIterator<Item = usize>,
        with_previous: bool,
    ) -> Arc<Encoded> {
        let events: Vec<Bytes> =
            positions.into_iter().filter_map(|position| self.event(position, with_previous)).collect();
        Arc::new(Encoded::new(self.source.revision, &events, self.published_at))
    }

    fn event(&mut self, position: usize, with_previous: bool) -> Option<Bytes> {
        let event = self.source.events.get(position)?;
        let forms = self.events.get_mut(position)?;
        // Most events have no previous value: then both forms are one.
        let with_previous = with_previous && event.previous.is_some();
        let form = forms.get_mut(usize::from(with_previous))?;
        Some(form.get_or_insert_with(|| encode_event(event, with_previous)).clone())
    }
}

fn encode_event(event: &Event, with_previous: bool) -> Bytes {
    let mut message: v1::InstanceEvent = convert::event(event);
    if !with_previous {
        message.previous = None;
    }
    message.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_byte_for_byte_the_public_message() {
        let event = v1::InstanceEvent { kind: 1, cause: 1, ..Default::default() };
        let encoded = Encoded::new(7, &[event.encode_to_vec().into()], None);
        let public = v1::RevisionChanges { revision: 7, events: vec![event], more: false };
        assert_eq!(encoded.parts, [Bytes::from(public.encode_to_vec())]);
        assert_eq!((encoded.events, encoded.bytes), (1, public.encoded_len()));
    }

    #[test]
    fn a_large_revision_is_cut_into_parts_of_which_only_the_last_is_complete() {
        let events: Vec<Bytes> = (0..100).map(|i| Bytes::from(vec![i; 40 << 10])).collect();
        let encoded = Encoded::new(9, &events, None);
        assert_eq!(encoded.parts.len(), 4);
        let mut seen = Vec::new();
        for (i, part) in encoded.parts.iter().enumerate() {
            assert!(part.len() <= PART_BYTES + 16, "{}", part.len());
            let part = RawChanges::decode(part.clone()).unwrap();
            assert_eq!((part.revision, part.more), (9, i < 3));
            seen.extend(part.events);
        }
        assert_eq!(seen, events);
    }
}
