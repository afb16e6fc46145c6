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

/// Writes of clients under way at once: with 128 for what the cluster itself has to write these are the
/// 4,096 proposals of P/O1 (`raft/proposals.rs`).
pub const WRITES: usize = 3_968;

/// Of those the ones that registrations may take: deregistrations and drains always find room.
pub const REGISTRATIONS: usize = 3_456;

/// Bytes of writes of clients under way at once; 1 of the 16 MiB of P/O1 is for the cluster itself.
pub const WRITE_BYTES: usize = 15 << 20;

/// Of those the ones that registrations may take.
pub const REGISTRATION_BYTES: usize = 13 << 20;

/// Heartbeats under way at once; each is as large as a read that waits. With more than a TTL of them
/// waiting, their owners would have to come again anyway.
pub const HEARTBEATS: usize = 16_384;

/// Questions for the status that are answered whatever the load (P/O1).
pub const STATUS_SLOTS: usize = 4;

/// Questions of administrators that are answered at once at the peer port; others wait for their turn. They are
/// apart from all other work, so that a busy node still tells its status (P/O1).
pub const ADMIN_QUESTIONS: usize = 4;

/// Longest wait of a question for its turn: each takes a millisecond, and the hash of a large state a second.
pub const ADMIN_QUESTION_WAIT: Duration = Duration::from_secs(5);

/// Changes by administrators under way or waiting for their turn. One is made at a time, and there are one
/// operator and a few people.
pub const ADMIN_CHANGES: usize = 4;

/// Reads under way at once; a linearizable read that waits costs about 1 KiB.
pub const READS: usize = 16_384;

/// Of those the ones that stale reads may take: they are shed first (P/O1).
pub const STALE_READS: usize = 12_288;

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

/// Renewals of streams that wait for a round at once, by the room for their leases
/// (`server/keep_alive.rs`).
pub const KEEP_ALIVES: usize = 16_384;

/// Renewals of other nodes that wait for a round at once: six of them, four messages each, of 1,024
/// heartbeats and one for all the leases.
pub const FORWARDED_RENEWALS: usize = 6 * 4 * 1_025;

/// Calls that wait for the next round. Each class has its bound before it, and the queue has room for all:
/// a renewal never finds it full of reads.
pub const ROUND_QUEUE: usize = READS + WRITES + HEARTBEATS + KEEP_ALIVES + FORWARDED_RENEWALS + 256;

const _: () = {
    assert!(PAGE_BYTES + (64 << 10) < ANSWER_BYTES, "a full page and its header fit into an answer");
    assert!(
        FORWARD_BATCH_BYTES + REQUEST_BYTES < PEER_MESSAGE_BYTES,
        "a forwarded batch fits into a message"
    );
    assert!(DRAINS < STREAMS_PER_CONNECTION as usize, "no drain waits for the stream of another");
    assert!(REGISTRATIONS < WRITES && STALE_READS < READS, "every class has room of its own");
    assert!(REGISTRATION_BYTES + REQUEST_BYTES < WRITE_BYTES, "a large deregistration finds room");
    assert!(FORWARD_QUEUE > WRITES, "what was let in finds room on the way to the leader");
};
