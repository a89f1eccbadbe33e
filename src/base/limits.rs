//! Every bound of the system in one place, with the relations that must hold between them.

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// Longest value that a ring accepts unless it is created with another limit, in bytes.
pub const VALUE_BYTES_DEFAULT_MAX: usize = 16 * 1024 * 1024;
/// Longest value that any ring may be configured for, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a frame may carry beside one value: headers, the key, batch framing.
pub const FRAME_OVERHEAD_MAX: usize = 64 * 1024;
/// Longest frame on a data connection, in bytes.
pub const FRAME_BYTES_MAX: usize = VALUE_BYTES_MAX + FRAME_OVERHEAD_MAX;
/// Longest frame on a control connection (a full ring map is the largest), in bytes.
pub const CONTROL_FRAME_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest frame before the handshake is done, in bytes.
pub const HELLO_FRAME_BYTES_MAX: usize = 1024;

/// Copies of a key, at most.
pub const COPIES_MAX: usize = 7;
/// Replicas of a partition while one more copy is being made: `COPIES_MAX` and a learner.
pub const REPLICAS_MAX: usize = COPIES_MAX + 1;
/// Partitions of a ring unless told otherwise.
pub const PARTITIONS_DEFAULT: u32 = 4096;
/// Partitions of a ring, at most.
pub const PARTITIONS_MAX: u32 = 65_536;
/// Members of a ring, at most.
pub const MEMBERS_MAX: usize = 1024;
/// Longest name of a node and longest address, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Uncommitted entries of one partition.
pub const WINDOW_ENTRIES_MAX: usize = 64 * 1024;
/// Uncommitted bytes of one partition.
pub const WINDOW_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Operations that one partition keeps waiting while its primary moves.
pub const HELD_OPERATIONS_MAX: usize = 16 * 1024;
/// Bytes of the operations that one partition keeps waiting while its primary moves.
pub const HELD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Operations of one session whose answers its client may wait for at the same time (S3).
pub const SESSION_WINDOW_MAX: u64 = 64;
/// Sessions that one partition remembers; then those that were used least recently are closed.
pub const SESSIONS_PER_PARTITION_MAX: usize = 1024;
/// A session that was not used for this long is closed.
pub const SESSION_IDLE_MS: u64 = 60 * 60 * 1000;

/// Bytes of operations that all partitions of a node together keep: entries that some replica may
/// still need, and what waits while primaries move.
pub const BACKLOG_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Largest piece of a snapshot stream, in bytes (one item may be larger and then stands alone).
pub const SNAPSHOT_CHUNK_BYTES: usize = 64 * 1024;
/// Entries that one append message carries.
pub const APPEND_ENTRIES_MAX: usize = 4 * 1024;
/// Bytes that one append message carries (one entry may be larger and then stands alone).
pub const APPEND_BYTES_MAX: usize = 1024 * 1024;
/// Bulk bytes (snapshots) that may wait in the outgoing buffer of one peer.
pub const BULK_BUDGET_BYTES: usize = 1024 * 1024;
/// Bytes that may wait in the outgoing buffer of one peer before its connection is reset.
pub const PEER_BUFFER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes that may wait for one client before its requests are no longer read.
pub const CLIENT_BUFFER_BYTES_HIGH: usize = 4 * 1024 * 1024;

/// Client connections of one node.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Connections of one node that have not finished their handshake.
pub const HALF_OPEN_MAX: usize = 128;
/// Operations that one connection may have under way.
pub const PIPELINE_MAX: usize = 16 * 1024;
/// Key-value pairs that one page of a scan returns, at most.
pub const SCAN_PAGE_ITEMS_MAX: usize = 4096;
/// Bytes of one page of a scan (one pair may be larger and then stands alone).
pub const SCAN_PAGE_BYTES: usize = 256 * 1024;
/// Snapshot streams that one node serves or receives at the same time.
pub const STREAMS_PER_NODE_MAX: usize = 64;
/// Commands that wait at the coordinator.
pub const COMMANDS_MAX: usize = 64 * 1024;

/// Period of a replica's and of the coordinator's tick.
pub const TICK_MS: u64 = 50;
/// Oldest unacknowledged entry before the laggard is asked to leave the in-sync set.
pub const SLOW_REPLICA_MS: u64 = 1000;
/// An operation's deadline unless told otherwise.
pub const OPERATION_TIMEOUT_MS: u64 = 5000;
/// A change of the ring (add, drop) ends after this long unless told otherwise.
pub const CHANGE_TIMEOUT_MS: u64 = 10 * 60 * 1000;
/// A connection must have finished its handshake after this long.
pub const HANDSHAKE_TIMEOUT_MS: u64 = 2000;
/// A connection attempt ends after this long.
pub const CONNECT_TIMEOUT_MS: u64 = 1000;

const _: () = assert!(VALUE_BYTES_DEFAULT_MAX <= VALUE_BYTES_MAX);
const _: () = assert!(KEY_BYTES_MAX < FRAME_OVERHEAD_MAX);
const _: () = assert!(FRAME_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(APPEND_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(SNAPSHOT_CHUNK_BYTES < FRAME_BYTES_MAX);
const _: () = assert!(WINDOW_BYTES_MAX + HELD_BYTES_MAX <= BACKLOG_BYTES_MAX);
const _: () = assert!(WINDOW_BYTES_MAX < PEER_BUFFER_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX < PEER_BUFFER_BYTES_MAX);
const _: () = assert!(PARTITIONS_DEFAULT.is_power_of_two() && PARTITIONS_MAX.is_power_of_two());
const _: () = assert!(MEMBERS_MAX <= u16::MAX as usize);
