//! SCAFFOLD: one process, one map. Replaced by the real node; the signatures stay.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::config::*;
use super::report::*;
use crate::base::limits::KEY_BYTES_MAX;
use crate::base::{ClusterId, Error, MemberId, PartitionId, Result, Status};
use crate::ring::Hasher;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

struct Inner {
    config: NodeConfig,
    data: Mutex<BTreeMap<Vec<u8>, (Vec<u8>, Option<Instant>)>>,
    closed: AtomicBool,
}

/// A ring, seen through a node in this process or through a connection. Clones share it; any
/// thread may call it, and calls run side by side.
#[derive(Clone)]
pub struct Ring(Arc<Inner>);

impl Ring {
    /// Starts a node in this process.
    pub fn start(config: NodeConfig) -> Result<Ring> {
        Ok(Ring(Arc::new(Inner { config, data: Mutex::default(), closed: AtomicBool::new(false) })))
    }

    /// Connects to a ring in other processes: `seeds` is one address or several with commas.
    pub fn connect(seeds: &str, config: ClientConfig) -> Result<Ring> {
        let _ = (seeds, config);
        Err(Error::new(Status::Connect, "scaffold: connect is not there yet"))
    }

    /// Stops the node or closes the connections. Idempotent; every later call on any clone
    /// answers `Closed`. Blocked calls of other threads end with `Closed`.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
    }

    /// The address this node listens on, or the first seed of a client.
    pub fn address(&self) -> String {
        self.0.config.listen.clone()
    }

    fn open(&self) -> Result<()> {
        match self.0.closed.load(Ordering::SeqCst) {
            true => Err(Status::Closed.into()),
            false => Ok(()),
        }
    }

    fn check(&self, key: &[u8]) -> Result<()> {
        self.open()?;
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Status::KeyTooLarge.into());
        }
        Ok(())
    }

    /// The value of `key`, or `None`.
    pub fn get(&self, key: &[u8], options: &ReadOptions) -> Result<Option<Vec<u8>>> {
        self.get_with(key, options, |value| value.to_vec())
    }

    /// Calls `f` with the value of `key` (in place, while a lock is held: `f` must be short and
    /// must not call the ring) and returns what it returns, or `None` if there is no such key.
    pub fn get_with<R>(
        &self,
        key: &[u8],
        _options: &ReadOptions,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.check(key)?;
        let data = self.0.data.lock();
        Ok(data.get(key).filter(|v| v.1.is_none_or(|t| t > Instant::now())).map(|v| f(&v.0)))
    }

    /// Stores `value` under `key`. `Err(Exists)` only with `if_absent`.
    pub fn put(&self, key: &[u8], value: &[u8], options: &WriteOptions) -> Result<()> {
        self.check(key)?;
        if options.if_absent && self.get(key, &ReadOptions::default())?.is_some() {
            return Err(Status::Exists.into());
        }
        let expires = options.ttl.map(|ttl| Instant::now() + ttl);
        self.0.data.lock().insert(key.to_vec(), (value.to_vec(), expires));
        Ok(())
    }

    /// Removes `key`; whether it was there.
    pub fn delete(&self, key: &[u8], _options: &WriteOptions) -> Result<bool> {
        self.check(key)?;
        Ok(self.0.data.lock().remove(key).is_some())
    }

    /// The values of several keys, pipelined. One result for each key, in order.
    pub fn get_many(
        &self,
        keys: &[&[u8]],
        options: &ReadOptions,
    ) -> Result<Vec<Result<Option<Vec<u8>>>>> {
        self.open()?;
        Ok(keys.iter().map(|key| self.get(key, options)).collect())
    }

    /// Stores several pairs, pipelined. One result for each pair, in order; not atomic.
    pub fn put_many(
        &self,
        pairs: &[(&[u8], &[u8])],
        options: &WriteOptions,
    ) -> Result<Vec<Result<()>>> {
        self.open()?;
        Ok(pairs.iter().map(|(key, value)| self.put(key, value, options)).collect())
    }

    /// Removes several keys, pipelined. For each key whether it was there, in order; not atomic.
    pub fn delete_many(&self, keys: &[&[u8]], options: &WriteOptions) -> Result<Vec<Result<bool>>> {
        self.open()?;
        Ok(keys.iter().map(|key| self.delete(key, options)).collect())
    }

    /// Walks over the ring. Every key that is there during the whole walk is seen at least once;
    /// a key written meanwhile may be seen or not, and rarely twice. No order.
    pub fn scan(&self, options: ScanOptions) -> Result<Scan> {
        self.open()?;
        Ok(Scan { ring: self.clone(), options, done: false })
    }

    /// Adds the standby node at `address` to the ring and, unless told otherwise, waits until
    /// its share has moved to it.
    pub fn add_node(&self, address: &str, _options: ChangeOptions<'_>) -> Result<()> {
        Err(Error::new(Status::Connect, format!("cannot connect to {address}")))
    }

    /// Drops the member of that name or address: moves its copies elsewhere, then lets it go (it
    /// stays as an empty standby).
    pub fn drop_node(&self, name_or_address: &str, _options: ChangeOptions<'_>) -> Result<()> {
        Err(Error::new(Status::NoSuchMember, format!("no member called {name_or_address}")))
    }

    /// The members, what each holds, and what is moving.
    pub fn info(&self) -> Result<RingInfo> {
        self.open()?;
        Ok(RingInfo {
            cluster: ClusterId(1),
            version: 1,
            params: self.0.config.params,
            required: 1,
            members: vec![MemberInfo { node: self.node(), ..Default::default() }],
            keys: self.0.data.lock().len() as u64,
            bytes: 0,
            under_replicated: 0,
            lost: 0,
            moving: None,
        })
    }

    fn node(&self) -> NodeRef {
        NodeRef { mid: MemberId(1), name: "scaffold".into(), addr: self.address() }
    }

    /// Where `key` lives, and the nodes asked on the way there in the given mode.
    pub fn locate(&self, key: &[u8], _lookup: Lookup) -> Result<Location> {
        self.check(key)?;
        let p = self.0.config.params;
        let partition: PartitionId = Hasher::new(p.hash, p.seed, p.partitions).partition(key);
        let node = self.node();
        Ok(Location { partition, position: 0, holders: vec![node.clone()], hops: vec![node] })
    }

    /// Whether every partition can take a write now, and if not why.
    pub fn health(&self) -> Result<Health> {
        self.open()?;
        Ok(Health { ok: true, unwritable: 0, reasons: vec![] })
    }

    /// Waits until nothing moves and every partition has the copies it should have.
    pub fn wait_settled(&self, _timeout: Duration) -> Result<()> {
        self.open()
    }

    /// What adding the node at `address` (need not run yet) would move.
    pub fn plan_add(&self, name: &str, address: &str, weight: u32) -> Result<()> {
        let _ = (name, address, weight);
        self.open() // becomes Result<ring::plan::Plan>
    }

    /// What dropping that member would move.
    pub fn plan_drop(&self, name_or_address: &str) -> Result<()> {
        let _ = name_or_address;
        self.open() // becomes Result<ring::plan::Plan>
    }
}

/// A walk over the ring, page by page.
pub struct Scan {
    ring: Ring,
    options: ScanOptions,
    done: bool,
}

impl Scan {
    /// The next page (never empty), or `None` at the end. After an error the same page may be
    /// asked for again.
    pub fn next_page(&mut self) -> Result<Option<Vec<Pair>>> {
        self.ring.open()?;
        if std::mem::replace(&mut self.done, true) {
            return Ok(None);
        }
        let data = self.ring.0.data.lock();
        let page: Vec<Pair> = data
            .iter()
            .filter(|(k, _)| k.starts_with(&self.options.prefix))
            .map(|(k, v)| (k.clone(), if self.options.keys_only { vec![] } else { v.0.clone() }))
            .collect();
        Ok((!page.is_empty()).then_some(page))
    }
}
