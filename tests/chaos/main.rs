//! Real processes under faults: a ring of `ringkv node`, clients in Rust, C and Python that log
//! what they asked and were answered, and a nemesis that kills, stops and cuts. At the end
//! everything is mended, everything is read, and the history of every key must be linearizable.
//!
//! - `cargo test --test chaos` runs the short form with a fixed seed.
//! - `make chaos MODE=storm MINUTES=5 SEED=7` runs one of the long ones: `storm` kills and stops
//!   processes, `cables` cuts cables between network namespaces (as root), `double` kills two nodes
//!   at once when all copies are in sync, `loss` kills all holders of a key and wants to be told,
//!   `idle` keeps both cores busy and watches that nobody is declared dead. The same seed gives the
//!   same faults in the same order.
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
mod loss;
mod nemesis;
mod network;
mod report;
mod schedule;
mod settings;
mod verify;
mod workload;

#[path = "../c_api/build.rs"]
mod build;
#[path = "../sim/linear.rs"]
mod linear;

use cluster::Cluster;
use executor::Contact;
use janitor::Janitor;
use nemesis::Deeds;
use network::Network;
use settings::{Mode, Settings};
use verify::Ballast;
use workload::Workload;

#[test]
fn chaos() {
    let settings = Settings::from_environment();
    println!("{settings:?}");
    let mode = format!("{:?}", settings.mode).to_lowercase();
    let findings = run(&settings);
    let count = findings.len();
    for finding in findings.iter().take(30) {
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
    let ballast = Ballast::put(&contact.ring(), settings.ballast);
    let params = cluster.admin.info().expect("the ring is whole").params;
    let workload = Workload::start(settings, &params, &contact, &janitor);
    println!("clients: {}", workload.kinds);

    let mut deeds = match settings.mode {
        Mode::Idle => {
            Deeds { findings: idle::wait_under_load(settings, &cluster), ..Deeds::default() }
        }
        Mode::Loss => loss::kill_all_holders(settings, &mut cluster, &workload.slots),
        _ => nemesis::rage(settings, &mut cluster, &workload.slots),
    };
    cluster.network.heal();
    let history = workload.finish();
    let mut findings = std::mem::take(&mut deeds.findings);
    let may_be_lost = settings.mode == Mode::Loss;
    if !may_be_lost {
        findings.extend(cluster.settle().err());
    }
    findings.append(&mut cluster.findings);
    findings.extend(report::print(&history, &deeds, may_be_lost));
    findings.extend(verify::judge(&history, &contact.ring(), &ballast, may_be_lost));
    if may_be_lost {
        findings.extend(loss::reset(&mut cluster, &ballast));
    }
    findings.extend(copies::compare(&cluster, &history));
    findings
}
