//! The clients of the job: each has a connection and keys of its own, knows what must be under
//! them, and checks every answer; it also reads loaded keys and compares them with their source.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::base::{Error, Rng, Status};
use crate::cli::bench::histogram;
use crate::cli::load::value_hash;
use crate::cli::output::{Failure, Outcome};
use crate::cli::signals::Interrupted;
use crate::cli::text::escaped;
use crate::{ClientConfig, ReadOptions, Ring, WriteOptions, with_interrupt};

/// Keys of each client. Few enough to be written again and again, and to meet many partitions.
const OWN_KEYS: u64 = 200;
const SLICE: Duration = Duration::from_millis(5);
/// A ring that fails so often is not worth waiting for: each failure may take a whole deadline.
const FAILED_MAX: u64 = 20;
/// A client without a single answer for so long hangs.
const STALLED: Duration = Duration::from_secs(60);

/// What the clients did and found.
pub struct Tally {
    /// Operations that were answered.
    pub operations: u64,
    /// Writes among them.
    pub writes: u64,
    /// Operations that ended with an error.
    pub failed: u64,
    /// Answers that were not what had been written or loaded.
    pub wrong: u64,
    /// The first failure or wrong answer.
    pub first: Option<String>,
    /// How long the operations took, in nanoseconds.
    pub latencies: Histogram<u64>,
}

impl Tally {
    fn new() -> Self {
        let latencies = histogram();
        Self { operations: 0, writes: 0, failed: 0, wrong: 0, first: None, latencies }
    }

    fn add(&mut self, other: Tally) {
        self.operations += other.operations;
        self.writes += other.writes;
        self.failed += other.failed;
        self.wrong += other.wrong;
        self.latencies += other.latencies;
        if self.first.is_none() {
            self.first = other.first;
        }
    }
}

/// The clients and what they share.
pub struct Clients<'a> {
    seed: u64,
    /// What each must have done before the next step of the job.
    operations: u64,
    loaded: &'a [(&'a [u8], u64)],
    done: Vec<AtomicU64>,
    failed: AtomicU64,
    stop: AtomicBool,
}

impl<'a> Clients<'a> {
    /// `loaded`: the loaded keys with the hashes of their values.
    pub fn new(count: u32, operations: u64, seed: u64, loaded: &'a [(&'a [u8], u64)]) -> Self {
        let done = (0..count).map(|_| AtomicU64::new(0)).collect();
        let (failed, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { seed, operations, loaded, done, failed, stop }
    }

    /// Lets the clients work while `job` runs, then reads back what they wrote.
    pub fn run<A, B>(
        &self,
        seeds: &str,
        interrupted: &Interrupted,
        job: impl FnOnce() -> Outcome<(A, B)>,
    ) -> Outcome<(Tally, A, B)> {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.done.len())
                .map(|number| {
                    let asked = interrupted.clone();
                    scope.spawn(move || {
                        with_interrupt(move || asked.is_set(), || self.work(number, seeds))
                    })
                })
                .collect();
            // Stops them however the job ends, also by a panic: the scope waits for them.
            let stop = StopOnDrop(&self.stop);
            let result = job();
            drop(stop);
            let mut all = Tally::new();
            for worker in workers {
                let tally = worker.join().map_err(|_| Failure::new("a client panicked"))?;
                all.add(tally.map_err(Failure::from)?);
            }
            let (a, b) = result?;
            Ok((all, a, b))
        })
    }

    /// Waits until every client has done its number of further operations.
    pub fn wait_for_work(&self, interrupted: &Interrupted) -> Outcome<()> {
        let goals: Vec<u64> =
            self.done.iter().map(|done| done.load(Ordering::Relaxed) + self.operations).collect();
        let mut progress: Vec<(u64, Instant)> = goals.iter().map(|_| (0, Instant::now())).collect();
        loop {
            let done: Vec<u64> = self.done.iter().map(|d| d.load(Ordering::Relaxed)).collect();
            if done.iter().zip(&goals).all(|(done, goal)| done >= goal) {
                return Ok(());
            }
            if interrupted.is_set() {
                return Err(Failure::new("the job was not finished"));
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(Failure::new("a client gave up"));
            }
            if self.failed.load(Ordering::Relaxed) >= FAILED_MAX {
                return Err(Failure::new("too many operations of the clients failed"));
            }
            // A client that never comes back must not leave us waiting for ever.
            for (done, last) in done.iter().zip(&mut progress) {
                if *done != last.0 {
                    *last = (*done, Instant::now());
                } else if last.1.elapsed() > STALLED {
                    return Err(Failure::new("a client has had no answer for a minute"));
                }
            }
            std::thread::sleep(SLICE);
        }
    }

    fn work(&self, number: usize, seeds: &str) -> Result<Tally, Error> {
        // A client that gives up, or panics, ends the job: the others cannot do its part.
        let _stop = StopOnDrop(&self.stop);
        let ring = Ring::connect(seeds, ClientConfig::default())?;
        let mut client = Client {
            ring,
            number,
            rng: Rng::new(self.seed ^ (number as u64 + 1).wrapping_mul(0x9E37_79B9)),
            own: vec![State::Absent; OWN_KEYS as usize],
            writes: 0,
            tally: Tally::new(),
        };
        while !self.stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            if let Err(error) = client.step(self.loaded) {
                if error.status() == Status::Aborted {
                    return Err(error);
                }
                log::warn!("client {number}: {error}");
                client.fail(&error);
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            client.tally.operations += 1;
            client.tally.latencies.saturating_record(started.elapsed().as_nanos() as u64);
            self.done[number].fetch_add(1, Ordering::Relaxed);
        }
        client.read_back();
        client.ring.close();
        Ok(client.tally)
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What must be under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    /// The value of this write.
    Written(u64),
    /// A write failed: it may have happened or not, and is no evidence any more.
    Unknown,
}

struct Client {
    ring: Ring,
    number: usize,
    rng: Rng,
    own: Vec<State>,
    writes: u64,
    tally: Tally,
}

impl Client {
    /// One operation.
    fn step(&mut self, loaded: &[(&[u8], u64)]) -> Result<(), Error> {
        let index = self.rng.below(OWN_KEYS) as usize;
        match self.rng.below(100) {
            0..35 => self.put(index),
            35..40 => self.delete(index),
            40..70 => self.get(index),
            _ => self.get_loaded(loaded),
        }
    }

    fn put(&mut self, index: usize) -> Result<(), Error> {
        self.writes += 1;
        self.tally.writes += 1;
        let (key, value) = (self.key(index), self.value(index, self.writes));
        // Until it is answered nothing is known of the key.
        self.own[index] = State::Unknown;
        self.ring.put(&key, &value, &WriteOptions::default())?;
        self.own[index] = State::Written(self.writes);
        Ok(())
    }

    fn delete(&mut self, index: usize) -> Result<(), Error> {
        self.tally.writes += 1;
        let key = self.key(index);
        let before = std::mem::replace(&mut self.own[index], State::Unknown);
        let was_there = self.ring.delete(&key, &WriteOptions::default())?;
        self.own[index] = State::Absent;
        let expected = match before {
            State::Unknown => was_there,
            State::Absent => false,
            State::Written(_) => true,
        };
        if was_there != expected {
            self.wrong(&key, &format!("delete found it: {was_there}, expected: {expected}"));
        }
        Ok(())
    }

    fn get(&mut self, index: usize) -> Result<(), Error> {
        let key = self.key(index);
        let got = self.ring.get(&key, &ReadOptions::default())?;
        let expected = match self.own[index] {
            State::Unknown => return Ok(()),
            State::Absent => None,
            State::Written(write) => Some(self.value(index, write)),
        };
        if got != expected {
            let shown = |value: &Option<Vec<u8>>| match value {
                Some(value) => escaped(value),
                None => "nothing".into(),
            };
            self.wrong(&key, &format!("{}, expected {}", shown(&got), shown(&expected)));
        }
        Ok(())
    }

    fn get_loaded(&mut self, loaded: &[(&[u8], u64)]) -> Result<(), Error> {
        let at = self.rng.below(loaded.len() as u64) as usize;
        let Some((key, hash)) = loaded.get(at) else {
            return self.get(0);
        };
        let got = self.ring.get(key, &ReadOptions::default())?;
        match got {
            Some(value) if value_hash(&value) == *hash => {}
            Some(value) => self.wrong(key, &format!("another value of {} bytes", value.len())),
            None => self.wrong(key, "nothing, expected what was loaded"),
        }
        Ok(())
    }

    /// After the work: everything it wrote, once more.
    fn read_back(&mut self) {
        for index in 0..self.own.len() {
            if let Err(error) = self.get(index) {
                // One is too many; a ring that is gone would take a deadline for each key.
                self.fail(&error);
                return;
            }
        }
    }

    fn key(&self, index: usize) -> Vec<u8> {
        // The tab keeps it apart from any file name or column that was loaded.
        format!("\trun/{}/{index}", self.number).into_bytes()
    }

    /// Tells key, writer and write, so that a mixed-up answer shows where it came from.
    fn value(&self, index: usize, write: u64) -> Vec<u8> {
        format!("client {} key {index} write {write}", self.number).into_bytes()
    }

    fn fail(&mut self, error: &Error) {
        self.tally.failed += 1;
        let number = self.number;
        self.tally.first.get_or_insert_with(|| format!("client {number}: {error}"));
    }

    fn wrong(&mut self, key: &[u8], what: &str) {
        self.tally.wrong += 1;
        let number = self.number;
        let key = escaped(key);
        self.tally.first.get_or_insert_with(|| format!("client {number} read {key}: {what}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeConfig;

    fn tally(loaded: &[(&[u8], u64)], meddle: impl FnOnce(&Ring)) -> Tally {
        let node = Ring::start(NodeConfig::default()).expect("a ring of one");
        let value: &[u8] = b"as loaded";
        node.put(b"k", value, &WriteOptions::default()).expect("puts");
        let clients = Clients::new(2, 300, 7, loaded);
        let interrupted = Interrupted::default();
        let job = || {
            clients.wait_for_work(&interrupted)?;
            meddle(&node);
            clients.wait_for_work(&interrupted)?;
            Ok(((), ()))
        };
        let (tally, ..) = clients.run(&node.address(), &interrupted, job).expect("clients work");
        node.close();
        tally
    }

    #[test]
    fn right_answers_are_not_called_wrong() {
        let loaded = [(&b"k"[..], value_hash(b"as loaded"))];
        let tally = tally(&loaded, |_| {});
        assert_eq!((tally.failed, tally.wrong, tally.first), (0, 0, None));
        assert!(tally.operations >= 1200 && tally.writes > 0);
    }

    #[test]
    fn lost_and_changed_values_are_noticed() {
        let loaded = [(&b"k"[..], value_hash(b"as loaded"))];
        let changed = tally(&loaded, |node| {
            node.put(b"k", b"other", &WriteOptions::default()).expect("puts");
        });
        assert!(changed.wrong > 0 && changed.failed == 0);
        let lost = tally(&loaded, |node| {
            for client in 0..2 {
                for index in 0..OWN_KEYS {
                    let key = format!("\trun/{client}/{index}");
                    node.delete(key.as_bytes(), &WriteOptions::default()).expect("deletes");
                }
            }
        });
        assert!(lost.wrong > 0 && lost.failed == 0);
    }
}
