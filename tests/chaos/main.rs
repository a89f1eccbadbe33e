//! Real processes under faults: a ring of `ringkv node`, clients in Rust, C and Python that log
//! what they asked and were answered, and a nemesis that kills, stops and cuts. At the end
//! everything is mended, everything is read, and the history of every key must be linearizable.
//!
//! - `cargo test --test chaos` runs the short form with a fixed seed.
//! - `make chaos MODE=storm MINUTES=5 SEED=7` runs one of the long ones: `storm` kills and stops
//!   processes, `cables` cuts cables between network namespaces (as root), `double` kills two nodes
//!   at once when all copies are in sync, `idle` keeps both cores busy and watches that nobody is
//!   declared dead. The same seed gives the same faults in the same order.
//!
//! The logs of the nodes stay in cargo's folder for the tests' files.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)] // as in every test

mod cluster;
mod copies;
mod executor;
mod history;
mod idle;
mod janitor;
mod nemesis;
mod network;
mod report;
mod schedule;
mod settings;
mod workload;

#[path = "../c_api/build.rs"]
mod build;
#[path = "../sim/linear.rs"]
mod linear;

use std::time::Duration;

use ringkv::{ReadOptions, Ring, WriteOptions};

use cluster::Cluster;
use executor::Contact;
use history::{History, Outcome, Record, Request};
use janitor::Janitor;
use nemesis::Deeds;
use network::Network;
use settings::{Mode, Settings};
use workload::Workload;

/// Whether this version survives crashes. If not, the short form kills nobody.
const SURVIVES_CRASHES: bool = true;
/// Whether this version survives the crash of its coordinator. If not, that one is left alone.
const COORDINATOR_IS_A_GROUP: bool = false;
/// Keys that are read or written together.
const BATCH: usize = 500;

#[test]
fn chaos() {
    let settings = Settings::from_environment();
    println!("{settings:?}");
    let mode = format!("{:?}", settings.mode).to_lowercase();
    let findings = run(&settings);
    let count = findings.len();
    for finding in &findings {
        println!("FOUND: {finding}");
    }
    assert!(count == 0, "{count} findings; make chaos MODE={mode} SEED={}", settings.seed);
}

/// Returns what should not have happened, one text each.
fn run(settings: &Settings) -> Vec<String> {
    let prefix = format!("rk{}", std::process::id());
    let janitor = Janitor::start(&prefix);
    let network = match settings.mode {
        Mode::Cables => Network::with_cables(&prefix, settings.nodes + 1),
        _ => Network::loopback(settings.nodes + 1),
    };
    network.left_out.iter().for_each(|what| println!("left out: {what}"));
    let mut cluster = Cluster::start(settings, network, &janitor);
    println!("logs of the nodes: {}", cluster.log().display());
    let contact = Contact { seeds: cluster.seeds(), timeout: settings.timeout };
    let ballast = put_ballast(&contact.ring(), settings.ballast);
    let params = cluster.admin.info().expect("the ring is whole").params;
    let workload = Workload::start(settings, &params, &contact, &janitor);
    println!("clients: {}", workload.kinds);

    let mut deeds = match settings.mode {
        Mode::Idle => {
            Deeds { findings: idle::wait_under_load(settings, &cluster), ..Deeds::default() }
        }
        _ => nemesis::rage(settings, &mut cluster, &workload.slots),
    };
    cluster.network.heal();
    let history = workload.finish();
    let mut findings = std::mem::take(&mut deeds.findings);
    findings.extend(cluster.settle().err());
    findings.append(&mut cluster.findings);
    findings.extend(report::print(&history, &deeds));
    findings.extend(judge(&history, &contact, &ballast));
    findings.extend(copies::compare(&cluster, &history));
    findings
}

/// Keys that are there the whole time, so that there is something to move.
fn put_ballast(ring: &Ring, count: usize) -> Vec<(String, String)> {
    let pair = |at| (format!("ballast-{at}"), format!("{at:0100}"));
    let pairs: Vec<(String, String)> = (0..count).map(pair).collect();
    for batch in pairs.chunks(BATCH) {
        let batch: Vec<(&[u8], &[u8])> =
            batch.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).collect();
        let results = ring.put_many(&batch, &WriteOptions::default()).expect("a ring at rest");
        results.into_iter().for_each(|result| result.expect("a ring at rest"));
    }
    pairs
}

/// Reads everything and checks all histories.
fn judge(history: &History, contact: &Contact, ballast: &[(String, String)]) -> Vec<String> {
    let mut findings = Vec::new();
    let ring = contact.ring();
    let keys: Vec<&str> = ballast.iter().map(|(key, _)| key.as_str()).collect();
    let wrong =
        |((_, value), read): &(&(String, String), Option<String>)| Some(value) != read.as_ref();
    let read = read_all(&ring, &keys, &mut findings);
    let lost = ballast.iter().zip(read).filter(wrong).count();
    if lost > 0 {
        findings.push(format!("{lost} of {} keys from the beginning are lost", ballast.len()));
    }
    let names: Vec<&str> = history.keys.values().map(|key| &**key).collect();
    let called = ringkv::net::sys::boottime().0;
    let values = read_all(&ring, &names, &mut findings);
    let answered = ringkv::net::sys::boottime().0;
    let last_reads: Vec<Record> = history
        .keys
        .keys()
        .zip(values)
        .map(|(key, value)| {
            let value = value.map(|value| value.parse().unwrap_or(u64::MAX));
            let (request, outcome) = (Request::Get, Outcome::Read(value));
            Record { key: *key, client: usize::MAX, request, called, answered, outcome }
        })
        .collect();
    let judgement = history.judge(&last_reads);
    println!(
        "{} keys with {} operations checked: {} violations, {} unresolved; {lost} of {} keys from \
         the beginning lost",
        judgement.keys,
        judgement.operations,
        judgement.violations.len(),
        judgement.unresolved,
        ballast.len(),
    );
    for violation in judgement.violations.iter().take(5) {
        println!("\n{}\n{}", violation.why, violation.history);
    }
    findings.extend(judgement.violations.into_iter().map(|violation| violation.why));
    if judgement.unresolved * 100 > judgement.keys {
        findings.push(format!("{} keys could not be checked", judgement.unresolved));
    }
    findings
}

/// The values of the keys. What cannot be read is a finding, and counts as absent.
fn read_all(ring: &Ring, keys: &[&str], findings: &mut Vec<String>) -> Vec<Option<String>> {
    let options = ReadOptions { timeout: Some(Duration::from_secs(20)), ..ReadOptions::default() };
    let mut values = Vec::with_capacity(keys.len());
    for batch in keys.chunks(BATCH) {
        let bytes: Vec<&[u8]> = batch.iter().map(|key| key.as_bytes()).collect();
        let results = ring.get_many(&bytes, &options).expect("the handle is open");
        for (key, result) in batch.iter().zip(results) {
            values.push(match result {
                Ok(value) => value.map(|value| String::from_utf8_lossy(&value).into_owned()),
                Err(error) => {
                    findings.push(format!("{key} cannot be read at the end: {error}"));
                    None
                }
            });
        }
    }
    values
}
