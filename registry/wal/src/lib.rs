//! A segmented write-ahead log. It knows bytes, not Raft: an entry is an index and bytes, a vote and the mark of a
//! purge are bytes. Rules P/W1 to P/W5 of `docs/PROTOCOLS.md` are kept here.
//!
//! ```text
//!  Wal (any thread)                    Writer (one thread, or a task in a simulation)
//!  append, set_vote, truncate_after,   take_batch → one frame → one write → one fdatasync
//!  purge, barrier ──── queue ────────▶ → entries get their place on disk → callbacks in order
//!     │
//!     └▶ memory: entries are readable as soon as `append` returns
//! ```
//!
//! To be read in this order: [`open`] recovers a folder and gives a [`Wal`] and its [`Writer`]; `frame` is the
//! unit on disk, `record` what frames hold, `segment` the files, `space` their allocation and recycling, `recover`
//! the reading of all that after a crash, `memory` what the two sides share.

mod bounds;
mod cache;
mod disk;
mod error;
mod frame;
mod index;
mod memory;
mod options;
mod queue;
mod reader;
mod record;
mod recover;
mod segment;
pub mod sim_disk;
mod space;
mod status;
mod wal;
mod writer;

pub use disk::{DirectoryDisk, Disk, DiskFile};
pub use error::{Error, Result};
pub use options::{Identity, NoObserver, Observer, Options};
pub use record::{Entry, Purged};
pub use recover::{Cut, Recovered};
pub use status::{Headroom, LogState, Statistics};
pub use wal::{Callback, Opened, Wal, open};
pub use writer::{Batch, Writer};
