//! Seeds: many, one, and the same one twice.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::world::{Counters, Outcome, World};
use crate::{directed, number, storm};

/// Seeds of a plain `cargo test`.
const SEEDS_DEFAULT: u64 = 200;
/// The same of storms.
const STORMS_DEFAULT: u64 = 1000;

/// Says how to replay a violation, and fails.
fn report(seed: u64, outcome: &Outcome) {
    if let Some(why) = &outcome.violation {
        for line in &outcome.tail {
            println!("{line}");
        }
        panic!(
            "seed {seed}: {why}\n\
             replay: SEED={seed} cargo test --release --test group -- --nocapture one_seed"
        );
    }
}

#[test]
fn many_seeds() {
    let (first, count) = (number("SEED_START", 1), number("SEEDS", SEEDS_DEFAULT));
    let keep_going = number("KEEP_GOING", 0) > 0;
    let begun = Instant::now();
    let next = AtomicU64::new(first);
    let total = Mutex::new((Counters::default(), Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= first + count {
            return;
        }
        let outcome = World::run(seed, false);
        if outcome.counters.recovery_ms_max > number("SLOW_MS", u64::MAX) {
            println!("seed {seed}: recovered after {} ms", outcome.counters.recovery_ms_max);
        }
        let mut total = total.lock().unwrap();
        total.0.add(&outcome.counters);
        if let Some(why) = outcome.violation {
            println!("seed {seed}: {}", why.lines().next().unwrap_or_default());
            total.1.push(seed);
            if !keep_going {
                next.store(first + count, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let (counters, mut failed) = total.into_inner().unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    println!("{count} seeds from {first} in {seconds:.1} s: {:.0}/s", count as f64 / seconds);
    println!("{counters:#?}");
    failed.sort_unstable();
    println!("{} violations: {failed:?}", failed.len());
    if let Some(seed) = failed.first() {
        report(*seed, &World::run(*seed, true));
    }
}

#[test]
fn storms() {
    let (first, count) = (number("SEED_START", 1), number("SEEDS", STORMS_DEFAULT));
    let next = AtomicU64::new(first);
    let failed = Mutex::new(None);
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= first + count || failed.lock().unwrap().is_some() {
            return;
        }
        if let Err(why) = storm::run(seed) {
            *failed.lock().unwrap() = Some(format!("storm {seed}: {why}"));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    assert_eq!(failed.into_inner().unwrap(), None);
    println!("{count} storms from {first}");
}

#[test]
fn one_seed() {
    let seed = number("SEED", 1);
    report(seed, &World::run(seed, true));
}

#[test]
fn directed_histories() {
    for (name, test) in directed::ALL {
        test().unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 1..=5 {
        let (first, second) = (World::run(seed, false), World::run(seed, true));
        assert_eq!(first.hash, second.hash, "seed {seed} went two ways");
        assert_ne!(first.hash, World::run(seed + 1, false).hash, "two seeds are one");
    }
}
