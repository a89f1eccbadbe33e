//! What a node and a client can be told when they start.

use std::time::Duration;

use crate::base::limits::{CHANGE_TIMEOUT_MS, OPERATION_TIMEOUT_MS};
use crate::ring::Params;

/// What a node does once it listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Creates a new ring with itself as the only member.
    #[default]
    Create,
    /// Joins the ring that one of these addresses belongs to; retries until the start-up timeout.
    /// Never creates a ring.
    Join(Vec<String>),
    /// Waits, belonging to no ring, until a ring adds it (`add_node` with its address).
    Standby,
}

/// How a node of this process is set up.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Name, unique in the ring; `None` takes the advertised address.
    pub name: Option<String>,
    /// Where it listens: `host:port` (port 0 picks a free one) or `unix:/path`.
    pub listen: String,
    /// Further addresses it listens on, for clients of the same host (such as `unix:/path`).
    pub also_listen: Vec<String>,
    /// The address that the others use, if it is not the one it listens on.
    pub advertise: Option<String>,
    /// Failure domain: copies of a key avoid sharing one.
    pub zone: String,
    /// Share of the ring in relation to the other nodes; 0 is a router that holds nothing.
    pub weight: u32,
    /// Place on the ring; `None` takes the hash of the name.
    pub position: Option<u64>,
    /// Create, join, or stand by.
    pub start: Start,
    /// What a created ring is fixed to. Ignored by a node that joins.
    pub params: Params,
    /// Event loops, one thread each: 1 to 64.
    pub workers: usize,
    /// Writes answer `OutOfMemory` above this many bytes of stored data; 0 is no limit.
    pub memory_bytes_max: u64,
    /// Listen on an address that is not loopback although no authentication exists yet.
    pub accept_public: bool,
    /// How long joining may take.
    pub start_timeout: Duration,
    /// Deadline of operations that do not name their own.
    pub timeout: Duration,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            name: None,
            listen: "127.0.0.1:0".into(),
            also_listen: Vec::new(),
            advertise: None,
            zone: String::new(),
            weight: 1,
            position: None,
            start: Start::Create,
            params: Params::default(),
            workers: 1,
            memory_bytes_max: 0,
            accept_public: false,
            start_timeout: Duration::from_secs(30),
            timeout: Duration::from_millis(OPERATION_TIMEOUT_MS),
        }
    }
}

/// How a client of a ring in other processes is set up.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Deadline of operations that do not name their own, and of connecting.
    pub timeout: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self { timeout: Duration::from_millis(OPERATION_TIMEOUT_MS) }
    }
}

/// How a key is looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lookup {
    /// Straight to the key's primary. Linearizable.
    #[default]
    Direct,
    /// The asker follows redirects from node to node. Linearizable.
    Iterative,
    /// The first node asked forwards to the primary. Linearizable.
    Recursive,
    /// Only what the asked node holds; may be stale.
    Local,
}

/// Options of `get` and `get_many`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOptions {
    /// Deadline; `None` takes the handle's.
    pub timeout: Option<Duration>,
    /// How the key is looked up.
    pub lookup: Lookup,
}

/// Options of `put`, `delete` and their batch forms.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions {
    /// Deadline; `None` takes the handle's.
    pub timeout: Option<Duration>,
    /// Time to live of the value, in whole milliseconds; `None` lives until it is deleted.
    pub ttl: Option<Duration>,
    /// Store only if the key is absent; otherwise `Status::Exists`.
    pub if_absent: bool,
}

/// Options of `scan`.
#[derive(Clone, Debug, Default)]
pub struct ScanOptions {
    /// Deadline of each page; `None` takes the handle's.
    pub timeout: Option<Duration>,
    /// Only keys that begin with this; empty is all. At most 4 KiB, as a key.
    pub prefix: Vec<u8>,
    /// Leave the values out.
    pub keys_only: bool,
}

/// What `add_node` and `drop_node` call while they wait. Returning false stops the waiting (the
/// movement goes on in the ring) with `Status::Aborted`; to take back a drop there is
/// [`abort_drop`](super::Ring::abort_drop).
pub type OnProgress<'a> = dyn FnMut(&Progress) -> bool + 'a;

/// Options of `add_node` and `drop_node`.
pub struct ChangeOptions<'a> {
    /// How long to wait for the movement to be complete.
    pub timeout: Duration,
    /// Return only when everything has moved; otherwise as soon as the ring has agreed to it.
    pub wait: bool,
    /// `drop_node` only: also where fewer copies remain than `min_insync`; and a member that is
    /// dead is forgotten at once, with the keys that it had the only copy of.
    pub force: bool,
    /// Called about every 50 ms while waiting, on the calling thread.
    pub on_progress: Option<&'a mut OnProgress<'a>>,
}

impl Default for ChangeOptions<'_> {
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(CHANGE_TIMEOUT_MS),
            wait: true,
            force: false,
            on_progress: None,
        }
    }
}

/// How far a movement has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Partition copies that are where they should be.
    pub copies_done: u64,
    /// Partition copies that had to move when the change was agreed, and the ones done.
    pub copies_total: u64,
}
