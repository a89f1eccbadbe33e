//! More dies than the promise covers: all holders of a key at once. What is gone is gone, but the
//! ring has to say so; nobody may be told that there is no such key.

use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::nemesis::Deeds;
use crate::settings::Settings;
use crate::verify::Ballast;
use crate::workload::Slots;

/// How long the clients work before and after.
const WORK: Duration = Duration::from_secs(2);
/// How long the ring may take to notice what it has lost.
const NOTICE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Kills all holders of one slot's key, starts them again and waits until the ring has understood.
pub fn kill_all_holders(settings: &Settings, cluster: &mut Cluster, slots: &Slots) -> Deeds {
    std::thread::sleep(WORK);
    let mut deeds = Deeds::default();
    let voters = cluster.voters();
    let first = settings.rng(3).below(slots.count() as u64) as usize;
    let found = (0..slots.count()).map(|at| (first + at) % slots.count()).find_map(|slot| {
        let holders = cluster.holders(&slots.key(slot));
        // The majority of five has to stay, or nobody can say what is lost.
        let survives = holders.iter().filter(|node| voters.contains(node)).count() <= 2;
        (survives && holders.len() == 3).then_some((slot, holders))
    });
    let Some((slot, holders)) = found else {
        deeds.findings.push("no key whose holders may all die: another seed".into());
        return deeds;
    };
    println!("killed: all holders of slot {slot}, nodes {holders:?}");
    for node in &holders {
        cluster.kill(*node);
    }
    holders.iter().for_each(|node| cluster.launch(*node));
    let begun = Instant::now();
    let noticed = || cluster.admin.info().is_ok_and(|info| info.lost > 0 && info.moving.is_none());
    while !noticed() {
        if begun.elapsed() > NOTICE {
            deeds.findings.push(format!("nothing is lost after {NOTICE:?}"));
            break;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    println!("noticed after {:.1} s", begun.elapsed().as_secs_f64());
    std::thread::sleep(WORK);
    deeds
}

/// An operator gives up what is lost: those partitions begin again, empty; all others are as they
/// were.
pub fn reset(cluster: &mut Cluster, ballast: &Ballast) -> Vec<String> {
    let lost = match cluster.admin.lost_partitions() {
        Ok(lost) if !lost.is_empty() => lost,
        other => return vec![format!("nothing to reset: {other:?}")],
    };
    let reset = cluster.admin.reset_lost(NOTICE);
    println!("reset: {reset:?} of {} lost partitions", lost.len());
    let mut findings: Vec<String> = cluster.settle().err().into_iter().collect();
    if reset.is_err() {
        findings.push(format!("reset: {reset:?}"));
    }
    findings.extend(ballast.after_reset(&cluster.admin, &lost));
    findings
}
