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
/// Events that wait for one subscriber.
pub const EVENTS_MAX: usize = 1024;
/// Commands that wait at the coordinator.
pub const COMMANDS_MAX: usize = 64 * 1024;

/// Bytes of one entry of the coordinator's group: one must fit a control frame.
pub const GROUP_PAYLOAD_BYTES_MAX: usize = CONTROL_FRAME_BYTES_MAX - 64 * 1024;
/// Entries that one append message of the group carries.
pub const GROUP_APPEND_ENTRIES_MAX: usize = 64;
/// Bytes that one append message of the group carries (one entry may be larger and stands alone).
pub const GROUP_APPEND_BYTES_MAX: usize = 1024 * 1024;
/// Bytes on their way to one voter, beyond which the leader waits for its answer.
pub const GROUP_WINDOW_BYTES_MAX: usize = 4 * GROUP_APPEND_BYTES_MAX;
/// Entries of the group's log after which nothing but the end of its configuration is proposed.
pub const GROUP_LOG_ENTRIES_MAX: usize = 16 * 1024;
/// The same in bytes.
pub const GROUP_LOG_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Messages of the group that wait to be sent. More are dropped, and asked for again.
pub const GROUP_OUTBOX_MAX: usize = 4 * 1024;

/// Period of the group's tick.
pub const GROUP_TICK_MS: u64 = 10;
/// Ticks of silence after which a leader is no longer taken for alive, and after which a leader
/// that does not hear from a majority stops leading.
pub const GROUP_ELECTION_TICKS: u32 = 15;
/// How many ticks longer each voter waits than the one before it in the list. Slots instead of
/// random numbers: two voters then hardly ever campaign at once.
pub const GROUP_RANK_TICKS: u32 = 4;
/// Ticks between two heartbeats of a leader.
pub const GROUP_HEARTBEAT_TICKS: u32 = 3;

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
const _: () = assert!(GROUP_APPEND_BYTES_MAX <= GROUP_PAYLOAD_BYTES_MAX);
const _: () = assert!(GROUP_PAYLOAD_BYTES_MAX < CONTROL_FRAME_BYTES_MAX);
const _: () = assert!(GROUP_PAYLOAD_BYTES_MAX <= GROUP_LOG_BYTES_MAX);
// A leader's life is noticed although two heartbeats in a row were late or lost.
const _: () = assert!(4 * GROUP_HEARTBEAT_TICKS < GROUP_ELECTION_TICKS);
const _: () = assert!(PARTITIONS_DEFAULT.is_power_of_two() && PARTITIONS_MAX.is_power_of_two());
const _: () = assert!(MEMBERS_MAX <= u16::MAX as usize);
