//! `ringkv run`: the main job, from end to end, on real data.
//!
//! Three node processes on loopback; a data set loaded through one pipelining client; then, while
//! clients read and write and check every answer, a fourth process is added and one of the first
//! three is dropped and ended; at the end every key is read back and compared with its source.
//! Nothing here is retried on behalf of the clients: an operation that fails is counted, and one
//! is too many.

mod clients;
mod processes;
mod summary;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::clients::{Clients, Tally};
use self::processes::Processes;
use self::summary::{Movement, Settling, Summary};
use super::args::RunArgs;
use super::change::{self, Change};
use super::load::{Loaded, Verified, load, verify};
use super::output::{Done, Failure, Outcome};
use super::signals::Interrupted;
use super::source::Source;
use super::text::{counted, duration};
use super::{Session, draw};
use crate::base::{Rng, Status};
use crate::{ClientConfig, Ring, RingInfo};

/// How long copies may take to get where they belong, beside what `add` and `drop` wait for.
const SETTLE: Duration = Duration::from_secs(60);
/// Pairs that are loaded and read back together.
const BATCH: usize = 2000;
/// Real files that a machine with a C compiler has.
const DATA_DEFAULT: &str = "/usr/include";

/// `ringkv run`
pub(super) fn run(args: &RunArgs, session: &mut Session) -> Outcome {
    let interrupted = session.interrupted();
    let source = Source::open(&data(args)?, &args.source)?;
    let seed = args.seed.unwrap_or_else(fresh_seed);
    let dropped = args.drop.unwrap_or_else(|| 1 + Rng::new(seed).below(3) as u32) as usize;
    let quiet = session.out.json;

    let mut nodes = Processes::new(args.workers)?;
    for number in 1..=3 {
        nodes.start(number, &interrupted)?;
    }
    let seeds = nodes.addresses();
    session.out.progress_line(format_args!("nodes    {seeds}, each its own process"))?;
    let ring = Ring::connect(&seeds, ClientConfig::default())?;
    ring.wait_settled(SETTLE)?;

    let loaded = load(&ring, &source, BATCH, quiet)?;
    session.out.progress_line(format_args!(
        "load     {} of {}",
        loaded.sentence(),
        source.name()
    ))?;
    loaded.complete()?;
    let first_reading = verify(&ring, &source, &loaded, BATCH, quiet)?;
    session.out.progress_line(format_args!("check    {}", first_reading.sentence()))?;

    let mut job = Job { args, nodes, ring, seeds, quiet, interrupted: &interrupted, dropped };
    let (tally, added, gone) = job.change_under_load(&loaded, seed, session)?;

    let settling = job.settle(session)?;
    let info = job.ring.info()?;
    let second_reading = verify(&job.ring, &source, &loaded, BATCH, quiet)?;
    session.out.progress_line(format_args!("check    {}", second_reading.sentence()))?;
    let summary = Summary {
        source: source.name(),
        seed,
        dropped,
        loaded: &loaded,
        first_reading,
        tally,
        added,
        gone,
        settling,
        second_reading,
        info,
    };
    summary.print(session)?;
    job.ring.close();
    Ok(if summary.is_right() { Done::Yes } else { Done::No })
}

struct Job<'a> {
    args: &'a RunArgs,
    nodes: Processes,
    ring: Ring,
    seeds: String,
    quiet: bool,
    interrupted: &'a Interrupted,
    dropped: usize,
}

impl Job<'_> {
    /// The changes, with the clients at work before, between and after them.
    fn change_under_load(
        &mut self,
        loaded: &Loaded,
        seed: u64,
        session: &mut Session,
    ) -> Outcome<(Tally, Movement, Movement)> {
        let keys: Vec<(&[u8], u64)> =
            loaded.known.iter().map(|(key, known)| (&**key, known.hash)).collect();
        let clients = Clients::new(self.args.clients, self.args.operations, seed, &keys);
        let number = counted(self.args.clients.into(), "client");
        session
            .out
            .progress_line(format_args!("clients  {number} read and write (seed {seed})"))?;
        let seeds = self.seeds.clone();
        clients.run(&seeds, self.interrupted, || {
            clients.wait_for_work(self.interrupted)?;
            let address = self.nodes.start(4, self.interrupted)?;
            let added = self.change(Change::Add(&address), "added n4", session)?;
            clients.wait_for_work(self.interrupted)?;

            let name = format!("n{}", self.dropped);
            let creator = if self.dropped == 1 { ", the creator of the ring" } else { "" };
            let done = format!("dropped {name}{creator}");
            let gone = self.change(Change::Drop(&name), &done, session)?;
            // Nobody may need it any more: its process ends while the clients go on.
            self.nodes.stop(self.dropped)?;
            clients.wait_for_work(self.interrupted)?;
            Ok((added, gone))
        })
    }

    /// A drop returns once the member is gone; whether every copy is in place then is looked at
    /// apart and told, because until then a crash could cost more than it should.
    fn settle(&self, session: &mut Session) -> Outcome<Settling> {
        let info = self.ring.info()?;
        let copies_missing =
            info.moving.map_or(0, |p| p.copies_total.saturating_sub(p.copies_done));
        let started = Instant::now();
        let settled = self.ring.wait_settled(SETTLE);
        let took = match settled {
            Ok(()) => Some(started.elapsed()),
            Err(error) if error.status() == Status::Timeout => None,
            Err(error) => return Err(error.into()),
        };
        let settling = Settling { copies_missing, took };
        session.out.progress_line(format_args!("settle   {}", settling.sentence()))?;
        Ok(settling)
    }

    fn change(&self, change: Change<'_>, done: &str, session: &mut Session) -> Outcome<Movement> {
        let before = self.ring.info()?;
        let moved = change::make(&self.ring, change, true, self.quiet, self.interrupted)?;
        let movement = Movement { moved, ideal_bytes: ideal(&before, change) };
        session.out.progress_line(format_args!(
            "change   {done} in {}: {}",
            duration(moved.took),
            movement.sentence()
        ))?;
        Ok(movement)
    }
}

/// The bytes that any system would have to move: all that the leaving one holds, or the part of
/// the whole that is the coming one's by its weight (1, as every node of this job).
fn ideal(before: &RingInfo, change: Change<'_>) -> u64 {
    match change {
        Change::Drop(name) | Change::DropByForce(name) => {
            before.members.iter().filter(|m| m.node.name == name).map(|m| m.bytes_held).sum()
        }
        Change::Add(_) => {
            let held: u64 = before.members.iter().map(|m| m.bytes_held).sum();
            let weight: u64 = before.members.iter().map(|m| u64::from(m.weight)).sum();
            held / (weight + 1)
        }
    }
}

fn data(args: &RunArgs) -> Outcome<PathBuf> {
    match &args.data {
        Some(path) => Ok(path.clone()),
        None if Path::new(DATA_DEFAULT).is_dir() => Ok(DATA_DEFAULT.into()),
        None => Err(Failure::new(format!(
            "there is no {DATA_DEFAULT} on this machine: say which file or directory to load"
        ))),
    }
}

fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // Short enough to be typed again.
    now.map_or(1, |now| u64::from(now.subsec_nanos()) ^ u64::from(std::process::id()))
}
