//! `ringkv bench`: throughput and latency, in this process and against a ring.
//!
//! Closed loop: each thread calls, waits for the answer, and calls again; so the latencies are what
//! one caller sees, not what an overloaded queue would add. Pipelined lines send batches and give
//! the time of a whole batch.

use std::io::Write;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::args::BenchArgs;
use super::facts::Facts;
use super::output::{Done, Failure, Outcome};
use super::signals::Interrupted;
use super::text::{count, duration, rate};
use super::{Session, text};
use crate::base::{Error, Rng};
use crate::{ClientConfig, ReadOptions, Ring, WriteOptions, with_interrupt};

/// Latencies above this are counted as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Pairs that are sent together when the keys are prepared and removed.
const PREPARE_BATCH: usize = 1000;

/// `ringkv bench`
pub(super) fn run(args: &BenchArgs, session: &mut Session) -> Outcome {
    let value_bytes = usize::try_from(args.value)
        .ok()
        .filter(|bytes| *bytes <= crate::base::limits::VALUE_BYTES_DEFAULT_MAX)
        .ok_or_else(|| Failure::new("--value is at most 16 MiB"))?;
    let keys = Keys::new(args.keys, value_bytes);
    let mut results = Vec::new();

    let (node, facts) = Facts::measure(&keys.all, value_bytes, |ring| keys.write(ring))?;
    let place = "in this process, one node";
    let outcome = measure(&node, place, args, &keys, session, &mut results);
    node.close();
    if !session.out.json {
        session.out.line(facts.text())?;
    }
    outcome?;
    if let Some(seeds) = &args.ring {
        let ring = Ring::connect(seeds, ClientConfig::default())?;
        let place = format!("the ring at {seeds}");
        let outcome = measure(&ring, &place, args, &keys, session, &mut results);
        // What was written for the measurement goes also when the measurement failed.
        let removed = keys.remove(&ring);
        outcome.and(removed)?;
    }
    if session.out.json {
        session.out.json_line(&json!({"facts": facts.json(), "lines": results}))?;
    }
    Ok(Done::Yes)
}

/// Keys of a ring that others use as well must not meet theirs, nor those of a bench beside us.
fn prefix() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = now.map_or(0, |now| now.as_nanos() as u64);
    format!("bench-{:x}-", nanos ^ (u64::from(std::process::id()) << 40))
}

/// The keys are made before anything is timed.
struct Keys {
    all: Vec<Box<[u8]>>,
    value: Vec<u8>,
}

impl Keys {
    fn new(count: u32, value_bytes: usize) -> Self {
        let prefix = prefix();
        let key = |number| format!("{prefix}{number:08}").into_bytes().into_boxed_slice();
        Self { all: (0..count).map(key).collect(), value: vec![b'v'; value_bytes] }
    }

    fn random(&self, rng: &mut Rng) -> &[u8] {
        &self.all[rng.below(self.all.len() as u64) as usize]
    }

    fn random_many(&self, rng: &mut Rng, count: usize) -> Vec<&[u8]> {
        (0..count).map(|_| self.random(rng)).collect()
    }

    fn write(&self, ring: &Ring) -> Result<(), Error> {
        for batch in self.all.chunks(PREPARE_BATCH) {
            let pairs: Vec<(&[u8], &[u8])> =
                batch.iter().map(|key| (&**key, self.value.as_slice())).collect();
            for result in ring.put_many(&pairs, &WriteOptions::default())? {
                result?;
            }
        }
        Ok(())
    }

    fn remove(&self, ring: &Ring) -> Outcome<()> {
        for batch in self.all.chunks(PREPARE_BATCH) {
            let keys: Vec<&[u8]> = batch.iter().map(|key| &**key).collect();
            for result in ring.delete_many(&keys, &WriteOptions::default())? {
                result?;
            }
        }
        Ok(())
    }
}

/// What one line of the report measures: does it once and says how many operations that were.
type Call<'a> = dyn Fn(&Ring, &mut Rng) -> Result<u64, Error> + Sync + 'a;

fn measure(
    ring: &Ring,
    place: &str,
    args: &BenchArgs,
    keys: &Keys,
    session: &mut Session,
    results: &mut Vec<Value>,
) -> Outcome<()> {
    let threads = args.threads as usize;
    let batch = args.batch as usize;
    session.out.progress_line(format_args!(
        "{place}: {} keys, values of {}, {}, {} for each line",
        count(keys.all.len() as u64),
        text::bytes(keys.value.len() as u64),
        text::counted(threads as u64, "thread"),
        duration(args.time),
    ))?;
    keys.write(ring)?;

    let get = |ring: &Ring, rng: &mut Rng| {
        found(ring.get_with(keys.random(rng), &ReadOptions::default(), <[u8]>::len)?)
    };
    let put = |ring: &Ring, rng: &mut Rng| {
        ring.put(keys.random(rng), &keys.value, &WriteOptions::default()).map(|()| 1)
    };
    let mixed = |ring: &Ring, rng: &mut Rng| match rng.chance(900) {
        true => get(ring, rng),
        false => put(ring, rng),
    };
    let get_many = |ring: &Ring, rng: &mut Rng| {
        let keys = keys.random_many(rng, batch);
        let mut done = 0;
        for result in ring.get_many(&keys, &ReadOptions::default())? {
            done += found(result?)?;
        }
        Ok(done)
    };
    let put_many = |ring: &Ring, rng: &mut Rng| {
        let names = keys.random_many(rng, batch);
        let pairs: Vec<(&[u8], &[u8])> =
            names.iter().map(|key| (*key, keys.value.as_slice())).collect();
        for result in ring.put_many(&pairs, &WriteOptions::default())? {
            result?;
        }
        Ok(batch as u64)
    };
    let (gets, puts) = (format!("get_many of {batch}"), format!("put_many of {batch}"));
    let lines: [(&str, usize, &Call<'_>); 6] = [
        ("get, one thread", 1, &get),
        ("get", threads, &get),
        ("put", threads, &put),
        ("90 % get, 10 % put", threads, &mixed),
        (&gets, threads, &get_many),
        (&puts, threads, &put_many),
    ];
    for (what, threads, call) in lines {
        let line = timed(ring, threads, args.time, call, &session.interrupted())?;
        results.push(line.json(place, what, threads));
        if !session.out.json {
            session.out.line(line.text(what))?;
            session.out.flush()?;
        }
    }
    Ok(())
}

/// A key that was written before must be there: a fast wrong answer is no measurement.
fn found<T>(value: Option<T>) -> Result<u64, Error> {
    match value {
        Some(_) => Ok(1),
        None => Err(Error::new(crate::Status::DataLost, "a key that was written is not found")),
    }
}

struct Line {
    operations: u64,
    took: Duration,
    latencies: Histogram<u64>,
}

impl Line {
    fn percentiles(&self) -> [u64; 4] {
        let at = |percent| self.latencies.value_at_percentile(percent);
        [at(50.0), at(99.0), at(99.9), self.latencies.max()]
    }

    fn text(&self, what: &str) -> String {
        let [half, p99, p999, most] =
            self.percentiles().map(|nanos| duration(Duration::from_nanos(nanos)));
        let speed = count(rate(self.operations, self.took));
        format!(
            "  {what:<20} {speed:>12}/s   p50 {half:>9}   p99 {p99:>9}   p99.9 {p999:>9}   \
             max {most:>9}"
        )
    }

    fn json(&self, place: &str, what: &str, threads: usize) -> Value {
        let [p50, p99, p999, max] = self.percentiles();
        json!({
            "place": place, "what": what, "threads": threads, "operations": self.operations,
            "seconds": self.took.as_secs_f64(), "per_second": rate(self.operations, self.took),
            "p50_ns": p50, "p99_ns": p99, "p999_ns": p999, "max_ns": max,
        })
    }
}

fn timed(
    ring: &Ring,
    threads: usize,
    time: Duration,
    call: &Call<'_>,
    interrupted: &Interrupted,
) -> Outcome<Line> {
    let started = Instant::now();
    let until = started + time;
    let parts: Vec<Result<(u64, Histogram<u64>), Error>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let interrupted = interrupted.clone();
                scope.spawn(move || {
                    let asked = interrupted.clone();
                    with_interrupt(
                        move || asked.is_set(),
                        || caller(ring, thread as u64, until, call, &interrupted),
                    )
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(panicked())))
            .collect()
    });
    let took = started.elapsed();
    let mut line = Line { operations: 0, took, latencies: histogram() };
    for part in parts {
        let (operations, latencies) = part?;
        line.operations += operations;
        line.latencies += latencies;
    }
    Ok(line)
}

fn caller(
    ring: &Ring,
    seed: u64,
    until: Instant,
    call: &Call<'_>,
    interrupted: &Interrupted,
) -> Result<(u64, Histogram<u64>), Error> {
    let mut rng = Rng::new(seed);
    let mut latencies = histogram();
    let mut operations = 0;
    let mut now = Instant::now();
    while now < until {
        if interrupted.is_set() {
            return Err(Error::new(crate::Status::Aborted, "the measurement was not finished"));
        }
        operations += call(ring, &mut rng)?;
        let after = Instant::now();
        latencies.saturating_record((after - now).as_nanos() as u64);
        now = after;
    }
    Ok((operations, latencies))
}

/// A histogram of nanoseconds with three digits, for `bench` and `run`.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are constants in order")
}

fn panicked() -> Error {
    Error::new(crate::Status::Panic, "a thread of the measurement panicked")
}
