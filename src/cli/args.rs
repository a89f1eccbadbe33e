//! What can be typed: every command, its options, and the units they are written in.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use super::text::{parse_bytes, parse_duration, parse_level, parse_position};

/// A distributed hash table that lives inside your program, and its command line.
#[derive(Parser, Debug)]
#[command(
    name = "ringkv",
    version,
    about = "A distributed hash table: nodes form a ring, every key has several copies.",
    after_help = "Exit status: 0 found or done, 1 not found (or health not ok, or verification \
                  failed), 2 error, 130 interrupted, 141 the reader of the output went away.",
    disable_help_subcommand = true,
    arg_required_else_help = false,
    subcommand_required = true
)]
pub struct Cli {
    /// Print one JSON object (or one for each line) instead of text
    #[arg(long, global = true)]
    pub json: bool,

    /// Messages of the library on stderr, from this level: off, error, warn, info, debug, trace
    #[arg(long, global = true, env = "RINGKV_LOG", value_name = "LEVEL", default_value = "warn",
          value_parser = parse_level)]
    pub log: log::LevelFilter,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a node until it is told to stop (Ctrl-C or SIGTERM: closes in order, exit status 0)
    Node(NodeArgs),
    /// Store a value
    Put(PutArgs),
    /// Print a value: its bytes as they are, with a line end only on a terminal
    Get(GetArgs),
    /// Remove keys
    Del(DelArgs),
    /// Add to a number (an absent key counts as 0) and print the sum
    Incr(IncrArgs),
    /// Store a value only if the key has the expected one; exit status 1 if it has not
    Cas(CasArgs),
    /// List the keys of the ring with their values, in no order
    Scan(ScanArgs),
    /// Store the rows of a CSV file, the lines of a JSON-lines file, or the files of a directory
    Load(LoadArgs),
    /// Write every key and value to a file of JSON lines or to a directory
    Dump(DumpArgs),
    /// Draw the ring: who holds what, copies, shares, and the progress of a movement
    Ring(RingArgs),
    /// Print what happens to the ring, one line for each event, until Ctrl-C
    Watch(WatchArgs),
    /// Show where a key lives and which nodes were asked on the way
    Locate(LocateArgs),
    /// Add a node that stands by (`ringkv node --standby`) to the ring
    Add(AddArgs),
    /// Move everything away from a member and let it go
    Drop(DropArgs),
    /// Tell what adding or dropping a node would move, without doing it
    Plan(PlanArgs),
    /// Let partitions whose copies are all lost start again, empty
    Reset(ResetArgs),
    /// Tell whether every key can be read and written now with all its copies
    Health(HealthArgs),
    /// Show it all in one process: three nodes, writes, a fourth node, one dropped
    Demo(DemoArgs),
    /// Measure throughput and latency, in this process and against a ring
    Bench(BenchArgs),
    /// The main job: three node processes, real data, a node added and one dropped under load
    Run(RunArgs),
}

/// Which ring, and how patiently.
#[derive(Args, Debug, Clone)]
pub struct Target {
    /// One or more members of the ring
    #[arg(
        long,
        global = true,
        env = "RINGKV_RING",
        value_name = "ADDR[,ADDR]",
        default_value = "127.0.0.1:7000"
    )]
    pub ring: String,

    /// Milliseconds until an operation is given up
    #[arg(long, global = true, value_name = "MS", default_value_t = 5000,
          value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub timeout: u64,
}

impl Target {
    /// The time until an operation is given up.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout)
    }
}

/// How keys are written on the command line and printed.
#[derive(Args, Debug, Clone, Copy)]
pub struct KeyForm {
    /// Keys are written and printed as hexadecimal digits
    #[arg(long)]
    pub hex: bool,
}

/// `ringkv node`
#[derive(Args, Debug)]
pub struct NodeArgs {
    /// Address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7000")]
    pub listen: String,
    /// A further address for clients of this host, such as unix:/run/ringkv.sock
    #[arg(long, value_name = "ADDR")]
    pub also_listen: Vec<String>,
    /// The address that the others use, if it is not the one listened on
    #[arg(long, value_name = "ADDR")]
    pub advertise: Option<String>,
    /// Join the ring of one of these members
    #[arg(long, value_name = "ADDR[,ADDR]", value_delimiter = ',', conflicts_with = "standby")]
    pub join: Vec<String>,
    /// How long joining is tried
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub start_timeout: Duration,
    /// Belong to no ring until one adds this node
    #[arg(long)]
    pub standby: bool,
    /// Name, unique in the ring [default: the address]
    #[arg(long)]
    pub name: Option<String>,
    /// Failure domain: the copies of a key avoid sharing one
    #[arg(long, default_value = "", hide_default_value = true)]
    pub zone: String,
    /// Share of the ring in relation to the other nodes; 0 holds nothing
    #[arg(long, default_value_t = 1)]
    pub weight: u32,
    /// Place on the ring, decimal or 0x... [default: the hash of the name]
    #[arg(long, value_parser = parse_position)]
    pub position: Option<u64>,
    /// Partitions of a new ring, a power of two
    #[arg(long, value_name = "Q")]
    pub partitions: Option<u32>,
    /// Key hash of a new ring
    #[arg(long)]
    pub hash: Option<HashName>,
    /// Placement rule of a new ring
    #[arg(long)]
    pub placement: Option<PlacementName>,
    /// Copies of each key in a new ring
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=7))]
    pub copies: Option<u8>,
    /// In-sync copies that a write of a new ring needs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=7))]
    pub min_insync: Option<u8>,
    /// Longest value of a new ring, such as 16MiB
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub value_max: Option<u64>,
    /// Reads of a new ring do not rely on clocks, and wait for a round trip to the copies
    #[arg(long)]
    pub no_leases: bool,
    /// Event loops, one thread each [default: the cores but one]
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// Refuse writes above this much stored data, such as 2GiB; 0 is no limit
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = parse_bytes)]
    pub memory_max: u64,
    /// Listen on an address that is not loopback: anybody who reaches it can read and write
    #[arg(long)]
    pub accept_public: bool,
    /// Stop when standard input ends, so that no node outlives the program that started it
    #[arg(long)]
    pub until_stdin_ends: bool,
}

/// The hash functions by name.
#[derive(ValueEnum, Debug, Clone, Copy)]
pub enum HashName {
    /// murmur3 x64_128, low 64 bits
    Murmur3,
    /// Redis Cluster's slots, with hash tags; needs 16384 partitions
    Crc16,
    /// The key as a decimal integer, modulo the partitions
    Integer,
}

/// The placement rules by name.
#[derive(ValueEnum, Debug, Clone, Copy)]
pub enum PlacementName {
    /// Exact shares, little movement
    Balanced,
    /// Chord's rule: the first member at or after the arc, and its successors
    Successor,
}

/// `ringkv put`
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").required(true).args(["value", "file"]))]
pub struct PutArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub form: KeyForm,
    /// The key
    pub key: OsString,
    /// The value, or - for standard input
    #[arg(allow_negative_numbers = true)]
    pub value: Option<OsString>,
    /// Take the value from a file
    #[arg(long, value_name = "F")]
    pub file: Option<PathBuf>,
    /// Time to live, such as 500ms, 10s, 5m, 2h, 1d
    #[arg(long, value_parser = parse_duration)]
    pub ttl: Option<Duration>,
    /// Store only if the key is absent; exit status 1 if it is there
    #[arg(long)]
    pub if_absent: bool,
}

/// `ringkv get`
#[derive(Args, Debug)]
pub struct GetArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub form: KeyForm,
    /// The key
    pub key: OsString,
    /// How the key is looked up; only local may be stale
    #[arg(long, value_enum, default_value_t = ModeName::Direct)]
    pub mode: ModeName,
}

/// `ringkv del`
#[derive(Args, Debug)]
pub struct DelArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub form: KeyForm,
    /// The keys
    #[arg(required = true)]
    pub keys: Vec<OsString>,
}

/// `ringkv incr`
#[derive(Args, Debug)]
pub struct IncrArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub form: KeyForm,
    /// The key
    pub key: OsString,
    /// What to add
    #[arg(default_value_t = 1, allow_negative_numbers = true)]
    pub delta: i64,
    /// Time to live of a key that is absent
    #[arg(long, value_parser = parse_duration)]
    pub ttl: Option<Duration>,
}

/// `ringkv cas`
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("condition").required(true).args(["expect", "absent"]))]
pub struct CasArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub form: KeyForm,
    /// The key
    pub key: OsString,
    /// The value to store
    #[arg(allow_negative_numbers = true)]
    pub value: OsString,
    /// The value that the key must have
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true)]
    pub expect: Option<OsString>,
    /// The key must be absent
    #[arg(long)]
    pub absent: bool,
    /// Time to live, such as 500ms, 10s, 5m, 2h, 1d
    #[arg(long, value_parser = parse_duration)]
    pub ttl: Option<Duration>,
}

/// `ringkv watch`
#[derive(Args, Debug)]
pub struct WatchArgs {
    #[command(flatten)]
    pub target: Target,
}

/// `ringkv scan`
#[derive(Args, Debug)]
pub struct ScanArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub form: KeyForm,
    /// Only keys that begin with this
    #[arg(long)]
    pub prefix: Option<OsString>,
    /// Leave the values out
    #[arg(long)]
    pub keys: bool,
    /// Stop after so many keys
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

/// Where `load` and `run` take their data from.
#[derive(Args, Debug, Clone)]
pub struct SourceArgs {
    /// CSV: the column (JSON lines: the field) whose text is the key; the whole line is the value
    #[arg(long, value_name = "COLUMN")]
    pub key: Option<String>,
    /// What the file is [default: by its name]
    #[arg(long)]
    pub format: Option<FormatName>,
}

/// The formats that `load` reads.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatName {
    /// Rows with a header line; line ends LF, CR LF or CR
    Csv,
    /// One JSON object for each line, also what `dump` writes
    Jsonl,
    /// The files of a directory tree: key = relative path, value = content
    Dir,
}

/// `ringkv load`
#[derive(Args, Debug)]
pub struct LoadArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub source: SourceArgs,
    /// The file or directory
    pub path: PathBuf,
    /// Pairs that are sent together
    #[arg(long, value_name = "N", default_value_t = 2000,
          value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub batch: u32,
    /// Read everything back and compare it with the source
    #[arg(long)]
    pub verify: bool,
}

/// The formats that `dump` writes.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum DumpFormat {
    /// One JSON object for each key
    Jsonl,
    /// One file for each key
    Dir,
}

/// `ringkv dump`
#[derive(Args, Debug)]
pub struct DumpArgs {
    #[command(flatten)]
    pub target: Target,
    /// File or directory [default: standard output]
    #[arg(long, value_name = "FILE|DIR")]
    pub out: Option<PathBuf>,
    /// What to write
    #[arg(long, value_enum, default_value_t = DumpFormat::Jsonl)]
    pub format: DumpFormat,
    /// Only keys that begin with this
    #[arg(long)]
    pub prefix: Option<OsString>,
}

/// `ringkv ring`
#[derive(Args, Debug)]
pub struct RingArgs {
    #[command(flatten)]
    pub target: Target,
    /// Draw again every second until Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

/// The lookup modes by name.
#[derive(ValueEnum, Debug, Clone, Copy)]
pub enum ModeName {
    /// Straight to the key's primary
    Direct,
    /// The asker follows redirects from node to node
    Iterative,
    /// The first node asked forwards
    Recursive,
    /// Only what the asked node holds
    Local,
}

/// `ringkv locate`
#[derive(Args, Debug)]
pub struct LocateArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub form: KeyForm,
    /// The key
    pub key: OsString,
    /// How the key is looked up
    #[arg(long, value_enum, default_value_t = ModeName::Direct)]
    pub mode: ModeName,
}

/// `ringkv add`
#[derive(Args, Debug)]
pub struct AddArgs {
    #[command(flatten)]
    pub target: Target,
    /// Address of the node that stands by
    pub address: String,
    /// Return as soon as the ring has agreed to it
    #[arg(long)]
    pub no_wait: bool,
}

/// `ringkv drop`
#[derive(Args, Debug)]
pub struct DropArgs {
    #[command(flatten)]
    pub target: Target,
    /// Name or address of the member
    pub member: String,
    /// Return as soon as the ring has agreed to it
    #[arg(long)]
    pub no_wait: bool,
    /// Also where fewer copies remain than min-insync; a dead member is forgotten at once
    #[arg(long)]
    pub force: bool,
    /// Take back a drop that is under way: the member stays
    #[arg(long, conflicts_with_all = ["force", "no_wait"])]
    pub abort: bool,
}

/// `ringkv reset`
#[derive(Args, Debug)]
pub struct ResetArgs {
    #[command(flatten)]
    pub target: Target,
    /// Only this partition
    #[arg(long, value_name = "P", conflicts_with = "all_lost")]
    pub partition: Option<u32>,
    /// Every partition that is lost (as without options)
    #[arg(long)]
    pub all_lost: bool,
    /// Do not ask: what the partitions held is gone for good
    #[arg(long)]
    pub yes: bool,
}

/// `ringkv plan`
#[derive(Args, Debug)]
pub struct PlanArgs {
    #[command(flatten)]
    pub target: Target,
    /// The change.
    #[command(subcommand)]
    pub change: PlanChange,
}

/// The changes that `ringkv plan` knows.
#[derive(Subcommand, Debug)]
pub enum PlanChange {
    /// What adding a node at this address would move; it need not run yet
    Add {
        /// Its address
        address: String,
        /// Its name [default: the address]
        #[arg(long)]
        name: Option<String>,
        /// Its share in relation to the others
        #[arg(long, default_value_t = 1)]
        weight: u32,
    },
    /// What dropping a member would move
    Drop {
        /// Its name or address
        member: String,
    },
}

/// `ringkv health`
#[derive(Args, Debug)]
pub struct HealthArgs {
    #[command(flatten)]
    pub target: Target,
}

/// `ringkv demo`
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Keys to write
    #[arg(long, value_name = "N", default_value_t = 3000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub keys: u32,
}

/// `ringkv bench`
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Also measure this ring over the network; the keys written there are removed afterwards
    #[arg(long, value_name = "ADDR[,ADDR]")]
    pub ring: Option<String>,
    /// Threads that call at the same time
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,
    /// Different keys
    #[arg(long, value_name = "N", default_value_t = 100_000,
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub keys: u32,
    /// Length of the values, such as 32 or 4KiB
    #[arg(long, value_name = "BYTES", default_value = "32", value_parser = parse_bytes)]
    pub value: u64,
    /// Length of each measurement
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub time: Duration,
    /// Operations that are sent together in the pipelined measurements
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub batch: u32,
}

/// `ringkv run`
#[derive(Args, Debug)]
pub struct RunArgs {
    /// CSV or JSON-lines file, or directory [default: /usr/include]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub source: SourceArgs,
    /// Which of the first three nodes is dropped; 1 created the ring [default: any]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3))]
    pub drop: Option<u32>,
    /// Clients that read and write meanwhile
    #[arg(long, value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u32).range(1..=256))]
    pub clients: u32,
    /// Operations of each client before, between and after the two changes, at least
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub operations: u64,
    /// Event loops of each node
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub workers: usize,
    /// Seed of what the clients do [default: another one each time, printed]
    #[arg(long)]
    pub seed: Option<u64>,
}
