//! The types and numbers of the header.

use std::ffi::{c_char, c_void};

use super::convert::Options;

/// A node in this process, or a client of a ring in other processes. Every operation takes
/// either. It is a number in the shape of a pointer: a closed or foreign one is recognised,
/// never followed.
pub struct ringkv_t {
    _private: [u8; 0],
}

/// A walk over the ring, see `ringkv_scan_open`.
pub struct ringkv_scan_t {
    _private: [u8; 0],
}

/// What happens to a ring, see `ringkv_events_open`.
pub struct ringkv_events_t {
    _private: [u8; 0],
}

/// Bytes that somebody else owns: a key or a value, binary, not NUL-terminated.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ringkv_bytes {
    /// May be NULL if `len` is 0.
    pub data: *const c_void,
    /// Length in bytes.
    pub len: usize,
}

/// A key and the value to store under it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ringkv_pair {
    /// 1 to 4096 bytes.
    pub key: ringkv_bytes,
    /// Up to the ring's limit, 16 MiB unless it was created with another one. May be empty.
    pub value: ringkv_bytes,
}

/// Bytes that you own: release them with `ringkv_buf_free`, never with `free`. After the last
/// byte stands a NUL that `len` does not count, so a value that is text can be printed as it
/// is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ringkv_buf {
    /// The bytes; NULL in an empty `RINGKV_BUF_INIT`.
    pub data: *mut c_char,
    /// Length in bytes, without the NUL.
    pub len: usize,
    /// Belongs to the library: leave it alone.
    pub owner: *mut c_void,
}

/// The node belongs to no ring and waits until one adds it, by `ringkv_add_node` with its
/// address.
pub const RINGKV_NODE_STANDBY: u32 = 1;
/// The node holds no keys: it forwards, and may coordinate. `weight` must be 0 then.
pub const RINGKV_NODE_ROUTER: u32 = 2;
/// `position` counts; otherwise the position is the hash of the name.
pub const RINGKV_NODE_HAS_POSITION: u32 = 4;
/// Listen on an address that is not loopback although there is no authentication yet.
pub const RINGKV_NODE_ACCEPT_PUBLIC: u32 = 8;
/// Of a created ring: reads do not rely on clocks. Each read waits for a round trip to the in-sync
/// copies; for machines whose clocks may stand still while they run on, such as virtual machines
/// that are snapshotted.
pub const RINGKV_NODE_NO_LEASES: u32 = 16;

/// Keys are hashed by murmur3 x64_128, low 64 bits. The default.
pub const RINGKV_HASH_MURMUR3: i32 = 0;
/// Keys are hashed like Redis Cluster does, with hash tags. The ring has 16384 partitions.
pub const RINGKV_HASH_CRC16: i32 = 1;
/// The key is read as a decimal integer, modulo the number of partitions.
pub const RINGKV_HASH_INTEGER: i32 = 2;

/// Exact shares by weight, minimal movement, copies on different hosts and zones. The default.
pub const RINGKV_PLACEMENT_BALANCED: i32 = 0;
/// Chord's rule: the first node at or after a key's position holds it, its successors the
/// copies.
pub const RINGKV_PLACEMENT_SUCCESSOR: i32 = 1;

/// Options of `ringkv_node_start`. Start from `RINGKV_NODE_OPTIONS_INIT`; 0 and NULL are
/// defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ringkv_node_options {
    /// Set by `RINGKV_NODE_OPTIONS_INIT`.
    pub size: u32,
    /// `RINGKV_NODE_...`, or'ed.
    pub flags: u32,
    /// Unique in the ring; by default the address.
    pub name: *const c_char,
    /// `host:port`, port 0 picking a free one, or `unix:/path`. By default `127.0.0.1:0`.
    pub listen: *const c_char,
    /// Further addresses for clients, with commas between them.
    pub also_listen: *const c_char,
    /// The address that other nodes use, if it is not the one listened on.
    pub advertise: *const c_char,
    /// Failure domain: copies of a key avoid sharing one.
    pub zone: *const c_char,
    /// Addresses of members of the ring to join, with commas between them. By default the node
    /// creates a ring of its own.
    pub join: *const c_char,
    /// Place on the ring, with `RINGKV_NODE_HAS_POSITION`.
    pub position: u64,
    /// Bytes of stored data above which writes answer `RINGKV_OUT_OF_MEMORY`; 0 is no limit.
    pub memory_bytes_max: u64,
    /// Share of the ring in relation to the other nodes; 0 stands for 1.
    pub weight: u32,
    /// Of a created ring: the number of partitions, a power of two up to 65536; 0 stands for
    /// 4096.
    pub partitions: u32,
    /// Of a created ring: `RINGKV_HASH_...`.
    pub hash: i32,
    /// Of a created ring: seed of the hash.
    pub hash_seed: u32,
    /// Of a created ring: `RINGKV_PLACEMENT_...`.
    pub placement: i32,
    /// Of a created ring: wanted copies of each key, 1 to 7; 0 stands for 3.
    pub copies: u32,
    /// Of a created ring: copies that a write needs to be acknowledged, never more than there
    /// are nodes; 0 stands for 2, or 1 if `copies` is 1.
    pub min_insync: u32,
    /// Of a created ring: longest value, up to 64 MiB; 0 stands for 16 MiB.
    pub value_bytes_max: u32,
    /// Event loops, one thread each, 1 to 64; 0 stands for 1.
    pub workers: u32,
    /// How long joining may take; 0 stands for 30,000.
    pub start_timeout_ms: u32,
    /// Deadline of operations that do not name their own; 0 stands for 5000.
    pub timeout_ms: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// Options of `ringkv_connect`. Start from `RINGKV_CONNECT_OPTIONS_INIT`; 0 is the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ringkv_connect_options {
    /// Set by `RINGKV_CONNECT_OPTIONS_INIT`.
    pub size: u32,
    /// Must be 0.
    pub flags: u32,
    /// Deadline of connecting, and of operations that do not name their own; 0 stands for 5000.
    pub timeout_ms: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// Straight to the key's primary. Linearizable. The default.
pub const RINGKV_LOOKUP_DIRECT: i32 = 0;
/// This handle follows redirects from node to node. Linearizable.
pub const RINGKV_LOOKUP_ITERATIVE: i32 = 1;
/// The first node asked forwards to the primary. Linearizable.
pub const RINGKV_LOOKUP_RECURSIVE: i32 = 2;
/// Only what the asked node itself holds; may be stale.
pub const RINGKV_LOOKUP_LOCAL: i32 = 3;

/// Options of the calls that read. Start from `RINGKV_READ_OPTIONS_INIT`; 0 is the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ringkv_read_options {
    /// Set by `RINGKV_READ_OPTIONS_INIT`.
    pub size: u32,
    /// Must be 0.
    pub flags: u32,
    /// Deadline; 0 stands for the handle's.
    pub timeout_ms: u32,
    /// `RINGKV_LOOKUP_...`.
    pub lookup: i32,
}

/// Store only if the key is absent; otherwise `RINGKV_EXISTS`.
pub const RINGKV_WRITE_IF_ABSENT: u32 = 1;

/// Options of the calls that write. Start from `RINGKV_WRITE_OPTIONS_INIT`; 0 is the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ringkv_write_options {
    /// Set by `RINGKV_WRITE_OPTIONS_INIT`.
    pub size: u32,
    /// `RINGKV_WRITE_...`, or'ed.
    pub flags: u32,
    /// How long the value lives; 0 is until it is deleted. A delete ignores it.
    pub ttl_ms: u64,
    /// Deadline; 0 stands for the handle's.
    pub timeout_ms: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// Leave the values out.
pub const RINGKV_SCAN_KEYS_ONLY: u32 = 1;

/// Options of `ringkv_scan_open`. Start from `RINGKV_SCAN_OPTIONS_INIT`; 0 is the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ringkv_scan_options {
    /// Set by `RINGKV_SCAN_OPTIONS_INIT`.
    pub size: u32,
    /// `RINGKV_SCAN_...`, or'ed.
    pub flags: u32,
    /// Only keys that begin with these bytes.
    pub prefix: ringkv_bytes,
    /// Deadline of each `ringkv_scan_next`; 0 stands for the handle's.
    pub timeout_ms: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// How far a movement of keys between nodes has come.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ringkv_progress {
    /// Copies of partitions that are where they should be.
    pub copies_done: u64,
    /// Copies of partitions that had to move when the change was agreed, and those done.
    pub copies_total: u64,
}

/// Called about every 50 ms on the thread that waits in `ringkv_add_node` or
/// `ringkv_drop_node`. Return 0 to go on waiting; anything else ends the waiting with
/// `RINGKV_ABORTED`, while the ring goes on with the movement. It may call ringkv, but must not
/// throw or `longjmp` out.
pub type ringkv_progress_cb =
    Option<unsafe extern "C" fn(user_data: *mut c_void, progress: *const ringkv_progress) -> i32>;

/// Return as soon as the ring has agreed to the change, and let it move the keys afterwards.
pub const RINGKV_CHANGE_NO_WAIT: u32 = 1;
/// `ringkv_drop_node`: also where fewer copies remain than `min_insync`, and a dead member at once.
pub const RINGKV_CHANGE_FORCE: u32 = 2;
/// `ringkv_drop_node`: take back a drop that is under way.
pub const RINGKV_CHANGE_ABORT: u32 = 4;

/// Options of `ringkv_add_node` and `ringkv_drop_node`. Start from
/// `RINGKV_CHANGE_OPTIONS_INIT`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ringkv_change_options {
    /// Set by `RINGKV_CHANGE_OPTIONS_INIT`.
    pub size: u32,
    /// `RINGKV_CHANGE_...`, or'ed.
    pub flags: u32,
    /// How long to wait for the movement; 0 stands for ten minutes.
    pub timeout_ms: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Called while waiting; NULL is nobody.
    pub on_progress: ringkv_progress_cb,
    /// Handed to `on_progress`.
    pub user_data: *mut c_void,
}

/// A member as others refer to it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ringkv_node_ref {
    /// One boot of one node; never used twice in a ring.
    pub id: u64,
    /// Unique in the ring.
    pub name: *const c_char,
    /// Where it listens.
    pub address: *const c_char,
}

/// The member takes part.
pub const RINGKV_MEMBER_UP: i32 = 0;
/// The ring has declared it dead.
pub const RINGKV_MEMBER_DOWN: i32 = 1;
/// It is being dropped: its copies move elsewhere.
pub const RINGKV_MEMBER_LEAVING: i32 = 2;
/// It has been dead for long: its copies are made elsewhere.
pub const RINGKV_MEMBER_AWAY: i32 = 3;

/// One member of the ring and what it holds. Later versions may append fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ringkv_member {
    /// Id, name, address.
    pub node: ringkv_node_ref,
    /// Failure domain; empty if none was given.
    pub zone: *const c_char,
    /// Place on the ring.
    pub position: u64,
    /// Share it should have in relation to the others.
    pub weight: u32,
    /// `RINGKV_MEMBER_...`.
    pub state: i32,
    /// 1 if it answered just now; otherwise 0, and the counts below are 0.
    pub reachable: i32,
    /// 1 if it runs the coordinator.
    pub coordinator: i32,
    /// Partitions whose operations it executes.
    pub primaries: u32,
    /// Copies of partitions that it holds in sync.
    pub copies: u32,
    /// Its part of all in-sync copies, 0 to 1.
    pub share: f64,
    /// Keys of the partitions that it is primary of.
    pub keys: u64,
    /// Bytes of those keys and their values.
    pub bytes: u64,
    /// Keys that it holds in all copies.
    pub keys_held: u64,
    /// Bytes of those keys and their values.
    pub bytes_held: u64,
    /// Memory that its tables take.
    pub memory_bytes: u64,
    /// Keys received in movements since it started.
    pub keys_moved_in: u64,
    /// Bytes received in movements since it started.
    pub bytes_moved_in: u64,
}

/// The ring as a whole. Everything in it lives until `ringkv_info_free`. Later versions may
/// append fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ringkv_info {
    /// Identity of the ring, 32 hexadecimal digits.
    pub ring_id: *const c_char,
    /// Version of the ring map; grows with every change.
    pub version: u64,
    /// Number of partitions.
    pub partitions: u32,
    /// `RINGKV_HASH_...`.
    pub hash: i32,
    /// Seed of the hash.
    pub hash_seed: u32,
    /// `RINGKV_PLACEMENT_...`.
    pub placement: i32,
    /// Wanted copies of each key.
    pub copies: u32,
    /// Copies that a write should need.
    pub min_insync: u32,
    /// Copies that a write needs now, with as many members as there are.
    pub required: u32,
    /// Longest value.
    pub value_bytes_max: u32,
    /// Keys in the ring, each counted once.
    pub keys: u64,
    /// Bytes of keys and values, each counted once.
    pub bytes: u64,
    /// Partitions with fewer in-sync copies than wanted and possible.
    pub under_replicated: u32,
    /// Partitions whose copies are all lost.
    pub lost: u32,
    /// The movement under way; both 0 if nothing moves.
    pub moving: ringkv_progress,
    /// Number of members.
    pub members_count: usize,
    /// The members in the order of their positions: the next one is the successor, and the
    /// first that of the last.
    pub members: *const *const ringkv_member,
    /// 1 if reads are answered under leases, 0 with `RINGKV_NODE_NO_LEASES`.
    pub leases: i32,
    /// Always 0.
    pub reserved: u32,
}

/// A node became a member.
pub const RINGKV_EVENT_JOINED: i32 = 1;
/// A member is being dropped: its copies move elsewhere.
pub const RINGKV_EVENT_LEAVING: i32 = 2;
/// A member is not one any more.
pub const RINGKV_EVENT_LEFT: i32 = 3;
/// A member is back, or is heard again, or is not dropped after all.
pub const RINGKV_EVENT_UP: i32 = 4;
/// This node does not hear from a member. Told by nodes, not by clients.
pub const RINGKV_EVENT_SUSPECT: i32 = 5;
/// A member was declared dead; its place is kept for a while.
pub const RINGKV_EVENT_DOWN: i32 = 6;
/// A member has been dead for long: its copies are made elsewhere.
pub const RINGKV_EVENT_AWAY: i32 = 7;
/// So many partitions have another primary.
pub const RINGKV_EVENT_PRIMARIES_MOVED: i32 = 8;
/// So many partitions have fewer copies than wanted and possible.
pub const RINGKV_EVENT_UNDER_REPLICATED: i32 = 9;
/// Every partition has its copies again.
pub const RINGKV_EVENT_RECOVERED: i32 = 10;
/// The only copy of so many partitions is at a member that is dead: they wait for it.
pub const RINGKV_EVENT_STALLED: i32 = 11;
/// So many partitions have lost all their copies: their keys answer `RINGKV_DATA_LOST`.
pub const RINGKV_EVENT_LOST: i32 = 12;
/// So many lost partitions started again, empty.
pub const RINGKV_EVENT_RESET: i32 = 13;
/// Another member leads the coordinator. Told by nodes, not by clients.
pub const RINGKV_EVENT_LEADER: i32 = 14;
/// Other members vote in the coordinator.
pub const RINGKV_EVENT_VOTERS: i32 = 15;
/// A movement goes on: `done` of `total` copies of partitions.
pub const RINGKV_EVENT_MOVING: i32 = 16;
/// A movement is complete.
pub const RINGKV_EVENT_SETTLED: i32 = 17;
/// This program was too slow: so many events (`partitions`) were left out.
pub const RINGKV_EVENT_LAGGED: i32 = 18;

/// Something that happened to a ring. Start from `RINGKV_EVENT_INIT`. The texts are views: valid
/// until the next call on the `ringkv_events_t`. New kinds may be added.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ringkv_event {
    /// Set by `RINGKV_EVENT_INIT`: how much of the struct is written.
    pub size: u32,
    /// `RINGKV_EVENT_...`.
    pub kind: i32,
    /// When it was noticed, in milliseconds since 1970.
    pub time_ms: u64,
    /// The member that it is about; id 0 and empty texts if it is about none.
    pub member: ringkv_node_ref,
    /// How many partitions it is about.
    pub partitions: u64,
    /// Of a movement: copies of partitions that have moved.
    pub done: u64,
    /// Of a movement: copies that had to move since it began.
    pub total: u64,
    /// The event as a sentence for a person.
    pub text: *const c_char,
}

/// Options of `ringkv_events_open`. Start from `RINGKV_EVENTS_OPTIONS_INIT`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ringkv_events_options {
    /// Set by `RINGKV_EVENTS_OPTIONS_INIT`.
    pub size: u32,
    /// Must be 0.
    pub flags: u32,
}

/// What one member would hold. Later versions may append fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ringkv_share {
    /// The member; 0 for a node that is not one yet.
    pub id: u64,
    /// Its name.
    pub name: *const c_char,
    /// Its part of all copies, 0 to 1.
    pub share: f64,
    /// Share it should have in relation to the others.
    pub weight: u32,
    /// Partitions whose operations it executes.
    pub primaries: u32,
    /// Copies of partitions.
    pub copies: u32,
    /// Always 0.
    pub reserved: u32,
}

/// What a change of the members would move. Everything in it lives until `ringkv_plan_free`. Later
/// versions may append fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ringkv_plan {
    /// Copies of partitions that would have to be made.
    pub copies_moved: u64,
    /// Partitions whose operations another member would execute.
    pub primaries_moved: u64,
    /// Keys in the copies to be made.
    pub keys: u64,
    /// Bytes in the copies to be made.
    pub bytes: u64,
    /// The least bytes that an even load would cost.
    pub ideal_bytes: u64,
    /// Number of members now.
    pub before_count: usize,
    /// What they hold now.
    pub before: *const *const ringkv_share,
    /// Number of entries in `after`.
    pub after_count: usize,
    /// What they would hold; a dropped member is left out or holds nothing.
    pub after: *const *const ringkv_share,
}

/// Where a key lives. Everything in it lives until `ringkv_location_free`. Later versions may
/// append fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ringkv_location {
    /// The key's place on the circle of 2^64 positions.
    pub position: u64,
    /// The key's partition.
    pub partition: u32,
    /// Always 0.
    pub reserved: u32,
    /// Number of holders.
    pub holders_count: usize,
    /// The nodes with an in-sync copy, the primary first.
    pub holders: *const ringkv_node_ref,
    /// Number of hops.
    pub hops_count: usize,
    /// The nodes that were asked on the way, in order; the last one answered.
    pub hops: *const ringkv_node_ref,
}

/// No messages.
pub const RINGKV_LOG_OFF: i32 = 0;
/// Something failed that should not have.
pub const RINGKV_LOG_ERROR: i32 = 1;
/// Something is not as it should be, and ringkv copes with it.
pub const RINGKV_LOG_WARN: i32 = 2;
/// What an operator wants to know: members that come and go.
pub const RINGKV_LOG_INFO: i32 = 3;
/// What a developer of ringkv wants to know.
pub const RINGKV_LOG_DEBUG: i32 = 4;
/// Everything.
pub const RINGKV_LOG_TRACE: i32 = 5;

/// Called with each message of at least the level asked for, on the thread that it happens on,
/// mostly one of ringkv's own: be quick, do not block, do not call ringkv (it answers
/// `RINGKV_UNSUPPORTED`), do not throw. The texts are UTF-8, NUL-terminated and yours until you
/// return.
pub type ringkv_log_cb = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        level: i32,
        target: *const c_char,
        message: *const c_char,
    ),
>;

macro_rules! options {
    ($type:ident, $flags:expr, |$value:ident| $reserved:expr) => {
        // SAFETY: `repr(C)`, begins with `size` and `flags`, has no padding (asserted below),
        // and consists of integers, raw pointers and nullable function pointers set by C.
        unsafe impl Options for $type {
            const NAME: &'static str = stringify!($type);
            const FLAGS: u32 = $flags;
            fn reserved(&self) -> u32 {
                let $value = self;
                $reserved
            }
        }
    };
}

options!(
    ringkv_node_options,
    RINGKV_NODE_STANDBY
        | RINGKV_NODE_ROUTER
        | RINGKV_NODE_HAS_POSITION
        | RINGKV_NODE_ACCEPT_PUBLIC
        | RINGKV_NODE_NO_LEASES,
    |options| options.reserved
);
options!(ringkv_connect_options, 0, |options| options.reserved);
options!(ringkv_read_options, 0, |_options| 0);
options!(ringkv_write_options, RINGKV_WRITE_IF_ABSENT, |options| options.reserved);
options!(ringkv_events_options, 0, |_options| 0);
options!(ringkv_scan_options, RINGKV_SCAN_KEYS_ONLY, |options| options.reserved);
options!(
    ringkv_change_options,
    RINGKV_CHANGE_NO_WAIT | RINGKV_CHANGE_FORCE | RINGKV_CHANGE_ABORT,
    |options| options.reserved
);

// The sum of the fields: no padding, whose bytes would be undefined.
const _: () = assert!(size_of::<ringkv_node_options>() == 8 + 6 * 8 + 2 * 8 + 12 * 4);
const _: () = assert!(size_of::<ringkv_connect_options>() == 4 * 4);
const _: () = assert!(size_of::<ringkv_read_options>() == 4 * 4);
const _: () = assert!(size_of::<ringkv_write_options>() == 4 * 4 + 8);
const _: () = assert!(size_of::<ringkv_events_options>() == 2 * 4);
const _: () = assert!(size_of::<ringkv_scan_options>() == 4 * 4 + 2 * 8);
const _: () = assert!(size_of::<ringkv_change_options>() == 4 * 4 + 2 * 8);
