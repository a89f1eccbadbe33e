//! The part of `ringkv bench` that is a figure rather than a distribution: what a start takes,
//! what a lookup takes, what a key takes beside its own bytes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ring::{Hasher, Params};
use crate::{Error, NodeConfig, ReadOptions, Ring};

/// Calls that are timed as one, so that reading the clock does not count.
const CALLS: usize = 2_000_000;

/// Figures of one node in this process.
pub(super) struct Facts {
    start: Duration,
    lookup_ns: f64,
    get_ns: f64,
    overhead_bytes: f64,
    keys: usize,
}

impl Facts {
    /// Starts a node, fills it by `write`, and measures. Returns the node, which holds the keys.
    pub(super) fn measure(
        keys: &[Box<[u8]>],
        value_bytes: usize,
        write: impl FnOnce(&Ring) -> Result<(), Error>,
    ) -> Result<(Ring, Self), Error> {
        let begin = Instant::now();
        let node = Ring::start(NodeConfig::default())?;
        let start = begin.elapsed();
        let before = resident_bytes();
        write(&node)?;
        let grown = resident_bytes().saturating_sub(before) as f64;
        let own: usize = keys.iter().map(|key| key.len() + value_bytes).sum();
        let facts = Self {
            start,
            lookup_ns: lookup_ns(keys),
            get_ns: get_ns(&node, keys)?,
            overhead_bytes: (grown - own as f64) / keys.len() as f64,
            keys: keys.len(),
        };
        Ok((node, facts))
    }

    pub(super) fn text(&self) -> String {
        format!(
            "  start {:.1} ms; ring lookup with hash {:.1} ns; get {:.0} ns (mean, one thread, \
             random keys); memory {:.1} bytes a key beside key and value ({} keys, resident)",
            self.start.as_secs_f64() * 1e3,
            self.lookup_ns,
            self.get_ns,
            self.overhead_bytes,
            self.keys,
        )
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "start_ms": self.start.as_secs_f64() * 1e3,
            "lookup_ns": self.lookup_ns,
            "get_ns": self.get_ns,
            "overhead_bytes_per_key": self.overhead_bytes,
            "keys": self.keys,
        })
    }
}

fn lookup_ns(keys: &[Box<[u8]>]) -> f64 {
    let params = Params::default();
    let hasher = Hasher::new(params.hash, params.seed, params.partitions);
    // Few enough keys to stay in the cache: the memory of the caller is not what is measured.
    let keys = &keys[..keys.len().min(1024)];
    let begin = Instant::now();
    for key in keys.iter().cycle().take(CALLS) {
        black_box(hasher.partition(black_box(key)));
    }
    nanos_each(begin)
}

fn get_ns(node: &Ring, keys: &[Box<[u8]>]) -> Result<f64, Error> {
    let options = ReadOptions::default();
    let mut rng = crate::base::Rng::new(7);
    let begin = Instant::now();
    for _ in 0..CALLS {
        let key = &keys[rng.below(keys.len() as u64) as usize];
        black_box(node.get_with(key, &options, <[u8]>::len)?);
    }
    Ok(nanos_each(begin))
}

fn nanos_each(begin: Instant) -> f64 {
    begin.elapsed().as_nanos() as f64 / CALLS as f64
}

/// Memory of this process that is in use, by the kernel's count; 0 where it does not tell.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
