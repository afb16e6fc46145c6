//! Every bound of the API and of the state, with its unit in the name or type. The comments of
//! `proto/registry/v1` state them for clients; the bounds that an operator can change are in
//! [`ClusterSettings`](crate::ClusterSettings).

/// Namespace of requests that give none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Longest name (namespace, service, zone, port), in bytes.
pub const NAME_BYTES_MAX: usize = 253;
/// Longest instance id, in bytes: `[HOST]:PORT` of the longest host fits.
pub const INSTANCE_ID_BYTES_MAX: usize = 260;
/// Longest host, in bytes: the longest DNS name.
pub const HOST_BYTES_MAX: usize = 253;
/// Highest port.
pub const PORT_MAX: u32 = 65_535;
/// Highest weight.
pub const WEIGHT_MAX: u32 = 65_535;
/// Weight of registrations that give none.
pub const WEIGHT_DEFAULT: u32 = 100;
/// Most metadata pairs of an instance.
pub const METADATA_PAIRS_MAX: usize = 64;
/// Longest metadata key, in bytes.
pub const METADATA_KEY_BYTES_MAX: usize = 128;
/// All metadata keys and values of an instance together, in bytes.
pub const METADATA_BYTES_MAX: usize = 8 * 1024;
/// Most tags of an instance.
pub const TAGS_MAX: usize = 64;
/// Longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 128;
/// Most further ports of an instance.
pub const PORTS_MAX: usize = 32;

/// Shortest time to live of a lease that ends, in milliseconds.
pub const TTL_MS_MIN: u64 = 1_000;
/// Longest time to live of a lease that ends, in milliseconds. 0 means permanent (P/L5).
pub const TTL_MS_MAX: u64 = 3_600_000;
/// Most instances of one lease (P/L5), so that one expiry is one bounded entry.
pub const LEASE_INSTANCES_MAX: u32 = 1_024;
/// Most leases named in one Heartbeat stream request.
pub const KEEP_ALIVE_LEASES_MAX: usize = 4_096;
/// Most registrations in one batch.
pub const BATCH_MAX: usize = 1_024;

/// Longest client name of a request id, in bytes.
pub const CLIENT_BYTES_MAX: usize = 64;
/// Writes of one client that may be open at once and are remembered (P/R3).
pub const REQUEST_WINDOW: u64 = 16;
/// Clients without instances that are remembered (P/R3).
pub const IDLE_CLIENTS_MAX: usize = 65_536;

/// Longest comment of an override, in bytes.
pub const COMMENT_BYTES_MAX: usize = 256;
/// Longest actor of an override, in bytes.
pub const ACTOR_BYTES_MAX: usize = 128;
/// Shortest time to live of an override, in milliseconds.
pub const OVERRIDE_TTL_MS_MIN: u64 = 1_000;
/// Longest time to live of an override, in milliseconds: 90 days.
pub const OVERRIDE_TTL_MS_MAX: u64 = 90 * 24 * 3_600_000;
/// Longest wait of Drain, in milliseconds.
pub const DRAIN_TIMEOUT_MS_MAX: u64 = 300_000;
/// Wait of Drain if none is given, in milliseconds.
pub const DRAIN_TIMEOUT_MS_DEFAULT: u64 = 10_000;

/// Most leases in one Expire, Protect or Unprotect (P/L4).
pub const LEASES_PER_ENTRY_MAX: usize = 256;
/// Most instances that one Expire, Protect or Unprotect changes (P/L4): bounds the time of one `apply`
/// and the size of one revision. The first lease is always taken whole.
pub const INSTANCES_PER_ENTRY_MAX: usize = 1_024;
/// Most overrides or services in one TickOverrides, EndOverrides or GuardTick; the leader sends several.
pub const TICKS_PER_ENTRY_MAX: usize = 1_024;

/// Longest node name and disk id, in bytes.
pub const MEMBER_NAME_BYTES_MAX: usize = 253;
/// Longest HOST:PORT of a member, in bytes.
pub const ENDPOINT_BYTES_MAX: usize = 260;
/// Most members, those being admitted or replaced included: seven voters, their successors, learners.
pub const MEMBERS_MAX: usize = 64;
/// Removed members whose disk ids are remembered. Removed *ids* need no memory: an id below the next one
/// that no member has was removed.
pub const TOMBSTONES_MAX: usize = 1_024;
/// Highest `next_raft_id` at founding: leaves room to go on counting for ever.
pub const FIRST_RAFT_ID_MAX: u64 = 1 << 32;
/// Length of a cluster id: a UUID in text.
pub const CLUSTER_ID_BYTES: usize = 36;

/// Conditions of one kind in an instance filter: zones, tags, metadata pairs, rules.
pub const FILTER_TERMS_MAX: usize = 16;
/// States in an instance filter.
pub const FILTER_STATES_MAX: usize = 4;
/// Instance ids in an instance filter.
pub const FILTER_INSTANCE_IDS_MAX: usize = 1_024;
/// Values of one metadata rule.
pub const FILTER_VALUES_MAX: usize = 16;
/// Largest page of Discover.
pub const DISCOVER_PAGE_MAX: u32 = 10_000;
/// Bytes of instances after which an unlimited Discover begins a new page.
pub const DISCOVER_PAGE_BYTES: usize = 3 * 1024 * 1024;
/// Largest page of ListServices and ListInstanceOverrides.
pub const LIST_PAGE_MAX: u32 = 1_000;
/// Page of ListServices and ListInstanceOverrides if none is asked for.
pub const LIST_PAGE_DEFAULT: u32 = 100;
/// Longest page token, in bytes.
pub const PAGE_TOKEN_BYTES_MAX: usize = 1_024;
/// Smallest `max_staleness`, in milliseconds.
pub const MAX_STALENESS_MS_MIN: u64 = 1;
/// Largest `max_staleness`, in milliseconds.
pub const MAX_STALENESS_MS_MAX: u64 = 24 * 3_600_000;
/// Shortest time between bookmarks, in milliseconds.
pub const BOOKMARK_INTERVAL_MS_MIN: u64 = 1_000;
/// Longest time between bookmarks, in milliseconds.
pub const BOOKMARK_INTERVAL_MS_MAX: u64 = 300_000;
/// Time between bookmarks if none is asked for, in milliseconds.
pub const BOOKMARK_INTERVAL_MS_DEFAULT: u64 = 10_000;

/// Most violations named in one rejection: error details stay below 1 KiB.
pub const VIOLATIONS_MAX: usize = 16;

/// Largest snapshot record, in bytes: holds the largest item, an event with two instances of at most
/// 26 KiB each.
pub const SNAPSHOT_RECORD_BYTES: usize = 64 * 1024;

const _: () = assert!(LEASE_INSTANCES_MAX as usize <= INSTANCES_PER_ENTRY_MAX);
const _: () = assert!(BATCH_MAX <= LEASE_INSTANCES_MAX as usize);
const _: () = assert!(HOST_BYTES_MAX + "[]:65535".len() <= INSTANCE_ID_BYTES_MAX + 1);
