//! Every bound of the two listeners and of the requests under way, with its reason (P/O1, P/O5).
//!
//! Bounds of the data itself (lengths, counts, times to live) are in `registry_state::limits`.

use std::time::Duration;

/// Largest request of a client, in bytes. A full batch of 1,024 small registrations is 64 KiB.
pub const REQUEST_BYTES: usize = 1 << 20;

/// Largest message of an answer, in bytes: what gRPC clients accept unless told otherwise.
pub const ANSWER_BYTES: usize = 4 << 20;

/// Instances of one Discover page, in bytes: leaves room below [`ANSWER_BYTES`] for the rest of it.
pub const PAGE_BYTES: usize = 3 << 20;

/// Largest message between nodes, in bytes: an append of 2 MiB with one entry over its limit.
pub const PEER_MESSAGE_BYTES: usize = 8 << 20;

/// Drains that wait at once at a node: each has a stream to every member, on one connection per member.
pub const DRAINS: usize = 512;

/// Streams open at once on one connection: a gateway has one per call under way.
pub const STREAMS_PER_CONNECTION: u32 = 1_024;

/// Connections from one address: a node of Kubernetes runs at most a few hundred programs.
pub const CONNECTIONS_PER_ADDRESS: usize = 1_024;

/// Connections of one node, below the usual limit of 16,384 descriptors and more.
pub const CONNECTIONS: usize = 10_000;

/// Headers of one request, in bytes; more is the mark of an attack.
pub const HEADER_LIST_BYTES: u32 = 8 << 10;

/// Streams that a peer has reset and that nobody has looked at yet (CVE-2023-44487).
pub const PENDING_RESETS: usize = 20;

/// Streams reset here because the peer broke the protocol, per connection.
pub const LOCAL_RESETS: usize = 256;

/// Time for a new connection to prove that it speaks HTTP/2.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Silence after which a connection is asked whether it lives.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// Time to answer that question before the connection is closed.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time for a unary call, whatever its caller allows.
pub const UNARY_DEADLINE: Duration = Duration::from_secs(5);

/// Longest wait for a read index or for `min_revision` (P/R5).
pub const READ_WAIT: Duration = Duration::from_secs(2);

/// Time after which LINEARIZABLE_OR_STALE stops waiting for a leader that is known (P/V2).
pub const STALE_FALLBACK: Duration = Duration::from_secs(1);

/// Time without a leader after which a node that has never caught up serves stale data of unknown
/// age (P/V2).
pub const UNKNOWN_AGE_AFTER: Duration = Duration::from_secs(2);

/// How often the age of the data is measured anew (P/V2).
pub const FRESHNESS_INTERVAL: Duration = Duration::from_secs(1);

/// Longest time for the leader's view in ClusterStatus.
pub const CLUSTER_VIEW_TIMEOUT: Duration = Duration::from_secs(1);

/// Proposals under way at once (P/O1): at 20,000 a second that is a fifth of a second of work.
pub const PROPOSALS: usize = 4_096;

/// Of those the ones that registrations may not take, so that deregistrations and drains find room.
pub const PROPOSALS_KEPT: usize = 256;

/// Bytes of proposals under way at once (P/O1).
pub const PROPOSAL_BYTES: usize = 16 << 20;

/// Reads under way at once; a linearizable read that waits costs about 1 KiB.
pub const READS: usize = 16_384;

/// Of those the ones that stale reads may not take: they are shed first (P/O1).
pub const READS_KEPT: usize = 4_096;

/// Time a shed caller is asked to wait, before its jitter.
pub const SHED_RETRY: Duration = Duration::from_millis(250);

/// Time a registration is asked to wait while the disks have no room (P/W5).
pub const DISK_RETRY: Duration = Duration::from_secs(30);

/// The same while a leader whose own disk is full hands over.
pub const HANDOVER_RETRY: Duration = Duration::from_secs(2);

/// Writes in one message to the leader.
pub const FORWARD_BATCH: usize = 256;

/// Bytes of writes in one message to the leader.
pub const FORWARD_BATCH_BYTES: usize = 2 << 20;

/// Writes that wait at a follower for room on the stream to the leader.
pub const FORWARD_QUEUE: usize = 4_096;

/// Calls that wait for the next round of linearizable reads.
pub const ROUND_QUEUE: usize = READS;

const _: () = {
    assert!(PAGE_BYTES + (64 << 10) < ANSWER_BYTES, "a full page and its header fit into an answer");
    assert!(
        FORWARD_BATCH_BYTES + REQUEST_BYTES < PEER_MESSAGE_BYTES,
        "a forwarded batch fits into a message"
    );
    assert!(DRAINS < STREAMS_PER_CONNECTION as usize, "no drain waits for the stream of another");
    assert!(PROPOSALS_KEPT < PROPOSALS && READS_KEPT < READS, "every class has room of its own");
};
