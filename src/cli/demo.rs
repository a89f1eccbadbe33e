//! `ringkv demo`: what a ring does, in one process and a few seconds.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::DemoArgs;
use super::change::{self, Change};
use super::output::{Done, Failure, Outcome};
use super::ring::info_json;
use super::text::{bytes, count, counted, duration, rate};
use super::{Session, draw};
use crate::{NodeConfig, ReadOptions, Ring, RingInfo, Start, WriteOptions};

/// How long the copies may take to get where they belong after a start.
const SETTLE: Duration = Duration::from_secs(30);
/// Pairs that are written or read together.
const BATCH: usize = 1000;

/// `ringkv demo`
pub(super) fn run(args: &DemoArgs, session: &mut Session) -> Outcome {
    let quiet = session.out.json;
    let interrupted = session.interrupted();
    let mut pictures: Vec<Value> = Vec::new();

    let first = Node::start("north", Start::Create)?;
    let seeds = vec![first.0.address()];
    let second = Node::start("east", Start::Join(seeds.clone()))?;
    let third = Node::start("south", Start::Join(seeds))?;
    let ring = &first.0;
    ring.wait_settled(SETTLE)?;
    say(session, "three nodes in this process, listening on")?;
    for node in [&first, &second, &third] {
        say(session, &format!("  {}", node.0.address()))?;
    }

    let pairs: Vec<(String, String)> = (0..args.keys).map(pair).collect();
    let started = Instant::now();
    write_all(ring, &pairs)?;
    let took = started.elapsed();
    let (written, speed) = (count(pairs.len() as u64), count(rate(pairs.len() as u64, took)));
    let took = duration(took);
    say(session, &format!("\nwrote {written} keys through the first node in {took}: {speed}/s\n"))?;
    picture(ring, session, &mut pictures)?;

    let fourth = Node::start("west", Start::Standby)?;
    let moved = change::make(ring, Change::Add(&fourth.0.address()), true, quiet, &interrupted)?;
    let (size, took) = (bytes(moved.bytes), duration(moved.took));
    say(session, &format!("\nadded west: {size} moved in {took}\n"))?;
    picture(ring, session, &mut pictures)?;

    let moved = change::make(ring, Change::Drop("south"), true, quiet, &interrupted)?;
    third.0.close();
    let (size, took) = (bytes(moved.bytes), duration(moved.took));
    say(session, &format!("\ndropped south: {size} moved in {took}\n"))?;
    picture(ring, session, &mut pictures)?;

    let wrong = read_all(&fourth.0, &pairs)?;
    let keys = counted(pairs.len() as u64, "key");
    say(session, &format!("\nread {keys} through the fourth node: {wrong} missing or wrong"))?;
    if session.out.json {
        session.out.json_line(&json!({
            "keys": pairs.len(), "wrong": wrong,
            "three": pictures[0], "four": pictures[1], "three_again": pictures[2],
        }))?;
    }
    Ok(if wrong == 0 { Done::Yes } else { Done::No })
}

/// A node that is closed however the demo ends.
struct Node(Ring);

impl Node {
    fn start(name: &str, start: Start) -> Outcome<Self> {
        let config = NodeConfig { name: Some(name.into()), start, ..NodeConfig::default() };
        Ok(Self(Ring::start(config)?))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn pair(number: u32) -> (String, String) {
    (format!("key-{number:06}"), format!("the value of key {number}"))
}

fn say(session: &mut Session, text: &str) -> Outcome<()> {
    Ok(session.out.progress_line(text)?)
}

fn picture(ring: &Ring, session: &mut Session, pictures: &mut Vec<Value>) -> Outcome<()> {
    let info = level_info(ring)?;
    pictures.push(info_json(&info));
    if !session.out.json {
        write!(session.out, "{}", draw::ring(&info))?;
        session.out.flush()?;
    }
    Ok(())
}

/// The ring's report once the copies are level: a backup applies a write when it hears, some 50 ms
/// later at most, that it is committed.
fn level_info(ring: &Ring) -> Outcome<RingInfo> {
    let begin = Instant::now();
    loop {
        let info = ring.info()?;
        let held: u64 = info.members.iter().map(|member| member.keys_held).sum();
        let copies = info.members.len().min(usize::from(info.params.copies)) as u64;
        if held >= info.keys * copies || begin.elapsed() > Duration::from_secs(1) {
            return Ok(info);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn write_all(ring: &Ring, pairs: &[(String, String)]) -> Outcome<()> {
    for batch in pairs.chunks(BATCH) {
        let batch: Vec<(&[u8], &[u8])> =
            batch.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).collect();
        for result in ring.put_many(&batch, &WriteOptions::default())? {
            result?;
        }
    }
    Ok(())
}

fn read_all(ring: &Ring, pairs: &[(String, String)]) -> Outcome<u64> {
    let mut wrong = 0;
    for batch in pairs.chunks(BATCH) {
        let keys: Vec<&[u8]> = batch.iter().map(|(key, _)| key.as_bytes()).collect();
        let results = ring.get_many(&keys, &ReadOptions::default())?;
        for ((_, expected), got) in batch.iter().zip(results) {
            let got = got.map_err(Failure::from)?;
            wrong += u64::from(got.as_deref() != Some(expected.as_bytes()));
        }
    }
    Ok(wrong)
}
