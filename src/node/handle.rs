//! The public Rust API: one handle for a node of this process and for a client of others.
//!
//! Arguments are checked here, before anything is sent, so that a wrong one costs nothing and has
//! the same answer everywhere. What a handle does then is the same for both kinds; see
//! [`Source`] for where they differ.

use std::sync::Arc;
use std::time::Duration;

use super::config::{
    ChangeOptions, ClientConfig, Lookup, NodeConfig, ReadOptions, ScanOptions, WriteOptions,
};
use super::drive::refusal;
use super::local::Node;
use super::remote::Client;
use super::report::{Dropped, Health, Location, RingInfo};
use super::source::Source;
use super::{change, health, info};
use crate::base::limits::KEY_BYTES_MAX;
use crate::base::{Error, PartitionId, Result, Status};
use crate::ring::plan::Plan;
use crate::ring::{Hasher, RingMap};
use crate::wire::{Op, Reply};

pub use super::scan::Scan;
pub use super::subscribe::Events;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// A ring, seen through a node in this process or through a connection. Clones share it; any
/// thread may call it, and calls run side by side.
#[derive(Clone)]
pub struct Ring(Arc<Handle>);

/// What the clones share: the last one to go closes it.
struct Handle(Source);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Ring {
    /// Starts a node in this process.
    pub fn start(config: NodeConfig) -> Result<Ring> {
        Ok(Ring(Arc::new(Handle(Source::Node(Node::start(config)?)))))
    }

    /// Connects to a ring in other processes: `seeds` is one address or several with commas.
    pub fn connect(seeds: &str, config: ClientConfig) -> Result<Ring> {
        Ok(Ring(Arc::new(Handle(Source::Client(Client::connect(seeds, config)?)))))
    }

    /// Stops the node or closes the connections. Idempotent; every later call on any clone
    /// answers `Closed`. Blocked calls of other threads end with `Closed`.
    pub fn close(&self) {
        self.source().close();
    }

    /// The address this node listens on, or the first seed of a client.
    pub fn address(&self) -> String {
        self.source().address()
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
        options: &ReadOptions,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.source().check_open()?;
        check_length(key)?;
        // Of the two ways at most one calls `f`, and that once.
        let mut f = Some(f);
        let mut call = |value: &[u8]| f.take().map(|f| f(value));
        if let (Source::Node(node), Lookup::Direct) = (self.source(), options.lookup)
            && let Some(found) = node.read(key, &mut call)
        {
            return match found {
                Some(value) => Ok(value),
                // A key that the ring does not take is not simply absent.
                None => check_key(&*self.source().map()?, key).map(|()| None),
            };
        }
        check_key(&*self.source().map()?, key)?;
        let op = read_op(key, options.lookup);
        let until = self.source().deadline(options.timeout);
        let mut got = Ok(None);
        self.source().drive(options.lookup, until, &[op], &mut |_, result| {
            got = result.and_then(|reply| match reply {
                Reply::Value(value) => Ok(call(value)),
                Reply::Absent => Ok(None),
                other => Err(improper(other)),
            });
        })?;
        got
    }

    /// Stores `value` under `key`. `Err(Exists)` only with `if_absent`.
    pub fn put(&self, key: &[u8], value: &[u8], options: &WriteOptions) -> Result<()> {
        let map = self.source().map()?;
        check_pair(&map, key, value)?;
        self.one(&put_op(key, value, options), options.timeout, stored)
    }

    /// Removes `key`; whether it was there.
    pub fn delete(&self, key: &[u8], options: &WriteOptions) -> Result<bool> {
        let map = self.source().map()?;
        check_key(&map, key)?;
        self.one(&Op::Delete { key }, options.timeout, deleted)
    }

    /// Stores `value` under `key` if the key has the expected value (`None`: if it is absent).
    /// Whether it did. `if_absent` has no meaning here.
    pub fn cas(
        &self,
        key: &[u8],
        expected: Option<&[u8]>,
        value: &[u8],
        options: &WriteOptions,
    ) -> Result<bool> {
        let map = self.source().map()?;
        check_pair(&map, key, value)?;
        if expected.is_some_and(|expected| expected.len() > map.params.value_bytes_max as usize) {
            return Ok(false); // No key has such a value.
        }
        let op = Op::Cas { key, expected, value, ttl_ms: ttl_ms(options) };
        self.one(&op, options.timeout, swapped)
    }

    /// Adds `delta` to the value of `key`, which must be a whole number of 64 bits as decimal text;
    /// an absent key counts as 0. The sum. A time to live is that of a key that was absent; one
    /// that was there keeps its own. `if_absent` has no meaning here.
    pub fn incr(&self, key: &[u8], delta: i64, options: &WriteOptions) -> Result<i64> {
        let map = self.source().map()?;
        check_key(&map, key)?;
        let op = Op::Incr { key, delta, ttl_ms: ttl_ms(options) };
        self.one(&op, options.timeout, sum)
    }

    /// The values of several keys, pipelined. One result for each key, in order.
    pub fn get_many(
        &self,
        keys: &[&[u8]],
        options: &ReadOptions,
    ) -> Result<Vec<Result<Option<Vec<u8>>>>> {
        let map = self.source().map()?;
        let checked =
            keys.iter().map(|key| check_key(&map, key).map(|()| read_op(key, options.lookup)));
        self.many(checked, options.lookup, options.timeout, |reply| match reply {
            Reply::Value(value) => Ok(Some(value.to_vec())),
            Reply::Absent => Ok(None),
            other => Err(improper(other)),
        })
    }

    /// Stores several pairs, pipelined. One result for each pair, in order; not atomic.
    pub fn put_many(
        &self,
        pairs: &[(&[u8], &[u8])],
        options: &WriteOptions,
    ) -> Result<Vec<Result<()>>> {
        let map = self.source().map()?;
        let checked = pairs
            .iter()
            .map(|(key, value)| check_pair(&map, key, value).map(|()| put_op(key, value, options)));
        self.many(checked, Lookup::Direct, options.timeout, stored)
    }

    /// Removes several keys, pipelined. For each key whether it was there, in order; not atomic.
    pub fn delete_many(&self, keys: &[&[u8]], options: &WriteOptions) -> Result<Vec<Result<bool>>> {
        let map = self.source().map()?;
        let checked = keys.iter().map(|key| check_key(&map, key).map(|()| Op::Delete { key }));
        self.many(checked, Lookup::Direct, options.timeout, deleted)
    }

    /// Walks over the ring. Every key that is there during the whole walk is seen at least once;
    /// a key written meanwhile may be seen or not, and rarely twice. No order.
    pub fn scan(&self, options: ScanOptions) -> Result<Scan> {
        if options.prefix.len() > KEY_BYTES_MAX {
            return Err(Error::new(
                Status::KeyTooLarge,
                format!("a prefix has at most {KEY_BYTES_MAX} bytes, as keys have"),
            ));
        }
        Scan::new(self.clone(), options)
    }

    /// Adds the standby node at `address` to the ring and, unless told otherwise, waits until
    /// its share has moved to it; `Aborted` if it dies or leaves the ring before that.
    pub fn add_node(&self, address: &str, options: ChangeOptions<'_>) -> Result<()> {
        change::add_node(self.source(), address, options)
    }

    /// Drops the member of that name or address: moves its copies elsewhere, then lets it go (it
    /// stays as an empty standby). Refused, unless forced, if fewer living nodes than `min_insync`
    /// would remain; the sentence says what would be needed.
    pub fn drop_node(&self, name_or_address: &str, options: ChangeOptions<'_>) -> Result<Dropped> {
        change::drop_node(self.source(), name_or_address, options)
    }

    /// Takes back a drop that is under way: the member stays, and what has moved moves back.
    pub fn abort_drop(&self, name_or_address: &str, timeout: Duration) -> Result<()> {
        change::abort_drop(self.source(), name_or_address, timeout)
    }

    /// Lets every partition whose copies are all lost start again, empty; how many. Until then
    /// their keys answer `DataLost`. What they held is gone for good, so somebody has to decide
    /// it: the ring never does that by itself.
    pub fn reset_lost(&self, timeout: Duration) -> Result<u32> {
        change::reset_lost(self.source(), None, timeout)
    }

    /// The same for one partition.
    pub fn reset_partition(&self, partition: PartitionId, timeout: Duration) -> Result<()> {
        change::reset_lost(self.source(), Some(partition), timeout).map(|_| ())
    }

    /// The partitions whose copies are all lost, by the newest map that any member has.
    pub fn lost_partitions(&self) -> Result<Vec<PartitionId>> {
        info::lost_partitions(self.source())
    }

    /// The members, what each holds, and what is moving.
    pub fn info(&self) -> Result<RingInfo> {
        info::info(self.source())
    }

    /// Where `key` lives, and the nodes asked on the way there by the lookup of `options`.
    pub fn locate(&self, key: &[u8], options: &ReadOptions) -> Result<Location> {
        check_key(&*self.source().map()?, key)?;
        info::locate(self.source(), key, options)
    }

    /// Whether every partition can take a write now, and if not why.
    pub fn health(&self) -> Result<Health> {
        health::health(self.source())
    }

    /// What happens to the ring from now on: members that come, go and die, partitions that move,
    /// are lost or recover. A node tells at once what it hears; a client looks five times a
    /// second.
    pub fn events(&self) -> Result<Events> {
        Events::open(self.source())
    }

    /// Waits until nothing moves and every partition has the copies it should have.
    pub fn wait_settled(&self, timeout: Duration) -> Result<()> {
        change::wait_settled(self.source(), timeout)
    }

    /// What adding the node at `address` (need not run yet) would move.
    pub fn plan_add(&self, name: &str, address: &str, weight: u32) -> Result<Plan> {
        info::plan_add(self.source(), name, address, weight)
    }

    /// What dropping that member would move.
    pub fn plan_drop(&self, name_or_address: &str) -> Result<Plan> {
        info::plan_drop(self.source(), name_or_address)
    }

    pub(super) fn source(&self) -> &Source {
        &self.0.0
    }

    fn one<T>(
        &self,
        op: &Op<'_>,
        timeout: Option<Duration>,
        read: impl Fn(&Reply<'_>) -> Result<T>,
    ) -> Result<T> {
        let until = self.source().deadline(timeout);
        let mut outcome = None;
        self.source().drive(Lookup::Direct, until, &[*op], &mut |_, result| {
            outcome = Some(result.and_then(&read));
        })?;
        outcome.unwrap_or_else(|| Err(Status::Internal.into()))
    }

    /// Drives those of the operations that passed their check; the others keep their error.
    fn many<'o, T>(
        &self,
        checked: impl Iterator<Item = Result<Op<'o>>>,
        lookup: Lookup,
        timeout: Option<Duration>,
        read: impl Fn(&Reply<'_>) -> Result<T>,
    ) -> Result<Vec<Result<T>>> {
        let mut ops = Vec::with_capacity(checked.size_hint().0);
        let mut places = Vec::with_capacity(checked.size_hint().0);
        let mut results: Vec<Result<T>> = Vec::with_capacity(checked.size_hint().0);
        for (place, op) in checked.enumerate() {
            match op {
                Ok(op) => {
                    ops.push(op);
                    places.push(place);
                    results.push(Err(Error::new(Status::Internal, String::new())));
                }
                Err(error) => results.push(Err(error)),
            }
        }
        let until = self.source().deadline(timeout);
        self.source().drive(lookup, until, &ops, &mut |at, result| {
            if let Some(slot) = places.get(at).and_then(|place| results.get_mut(*place)) {
                *slot = result.and_then(&read);
            }
        })?;
        Ok(results)
    }
}

fn read_op(key: &[u8], lookup: Lookup) -> Op<'_> {
    match lookup {
        Lookup::Local => Op::GetLocal { key },
        Lookup::Direct | Lookup::Iterative | Lookup::Recursive => Op::Get { key },
    }
}

fn put_op<'a>(key: &'a [u8], value: &'a [u8], options: &WriteOptions) -> Op<'a> {
    Op::Put { key, value, ttl_ms: ttl_ms(options), if_absent: options.if_absent }
}

fn ttl_ms(options: &WriteOptions) -> u64 {
    // A shorter life than a millisecond is not none, which 0 would mean.
    let whole_ms = |ttl: Duration| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
    options.ttl.map_or(0, whole_ms)
}

fn stored(reply: &Reply<'_>) -> Result<()> {
    match reply {
        Reply::Done => Ok(()),
        Reply::Exists => Err(Status::Exists.into()),
        other => Err(improper(other)),
    }
}

fn deleted(reply: &Reply<'_>) -> Result<bool> {
    match reply {
        Reply::Done => Ok(true),
        Reply::Absent => Ok(false),
        other => Err(improper(other)),
    }
}

fn swapped(reply: &Reply<'_>) -> Result<bool> {
    match reply {
        Reply::Done => Ok(true),
        Reply::Mismatch => Ok(false),
        other => Err(improper(other)),
    }
}

fn sum(reply: &Reply<'_>) -> Result<i64> {
    match reply {
        Reply::Number(sum) => Ok(*sum),
        Reply::NotANumber => Err(Status::NotANumber.into()),
        Reply::Overflow => Err(Status::Overflow.into()),
        other => Err(improper(other)),
    }
}

fn improper(reply: &Reply<'_>) -> Error {
    let no_answer = || Error::new(Status::Protocol, "the answer does not fit the question");
    refusal(reply).unwrap_or_else(no_answer)
}

fn check_length(key: &[u8]) -> Result<()> {
    match key.len() {
        0 => Err(Error::new(Status::KeyTooLarge, "the key is empty")),
        1..=KEY_BYTES_MAX => Ok(()),
        length => Err(Error::new(
            Status::KeyTooLarge,
            format!("the key has {length} bytes, {KEY_BYTES_MAX} are allowed"),
        )),
    }
}

fn check_key(map: &RingMap, key: &[u8]) -> Result<()> {
    check_length(key)?;
    Hasher::new(map.params.hash, map.params.seed, map.params.partitions).check_key(key)
}

fn check_pair(map: &RingMap, key: &[u8], value: &[u8]) -> Result<()> {
    check_key(map, key)?;
    let limit = map.params.value_bytes_max as usize;
    if value.len() > limit {
        let length = value.len();
        return Err(Error::new(
            Status::ValueTooLarge,
            format!("the value has {length} bytes, this ring allows {limit}"),
        ));
    }
    Ok(())
}
