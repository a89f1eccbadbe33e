//! Nobody dies of being kept waiting: both cores are busy with other work, nothing else happens,
//! and no member may be declared dead.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringkv::ring::MemberState;

use crate::cluster::Cluster;
use crate::settings::Settings;

const LOOK_EVERY: Duration = Duration::from_millis(200);
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Keeps two threads for each core busy for as long as the settings say. Returns what should not
/// have happened.
pub fn wait_under_load(settings: &Settings, cluster: &Cluster) -> Vec<String> {
    let done = AtomicBool::new(false);
    let threads = 2 * std::thread::available_parallelism().map_or(1, |cores| cores.get());
    println!("{threads} threads compute for {:?}", settings.time);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut number = 1u64;
                while !done.load(Ordering::Relaxed) {
                    number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005));
                }
            });
        }
        let findings = watch(settings, cluster);
        done.store(true, Ordering::Relaxed);
        findings
    })
}

fn watch(settings: &Settings, cluster: &Cluster) -> Vec<String> {
    let begun = Instant::now();
    let before = cluster.admin.info().expect("the ring is whole").version;
    let (mut version, mut down, mut said) = (before, 0, Duration::ZERO);
    while begun.elapsed() < settings.time {
        std::thread::sleep(LOOK_EVERY);
        let Ok(info) = cluster.admin.info() else { continue };
        if info.version != version {
            println!("{:8.2} s  map {version} -> {}", begun.elapsed().as_secs_f64(), info.version);
            version = info.version;
        }
        down += info.members.iter().filter(|member| member.state != MemberState::Up).count();
        if begun.elapsed() > said + SAY_EVERY {
            said = begun.elapsed();
            println!("{:8.2} s  map {version}", said.as_secs_f64());
        }
    }
    println!("{} changes of the map, {down} times a member was not up", version - before);
    // A member that is declared dead or taken out of an in-sync set changes the map.
    let changed = (version != before || down > 0).then(|| {
        format!("the map changed from {before} to {version}, and {down} times a member was not up")
    });
    changed.into_iter().collect()
}
