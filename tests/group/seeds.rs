//! Seeds: many, one, and the same one twice.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::time::Instant;

use crate::sweep::{self, number};
use crate::world::{Counters, Outcome, World};
use crate::{directed, storm};

/// Seeds of a plain `cargo test`.
const SEEDS_DEFAULT: u64 = 200;
/// The same of storms.
const STORMS_DEFAULT: u64 = 1000;

/// Seeds that failed once: 18630 a late answer to a message of an older term.
const REGRESSIONS: [u64; 1] = [18_630];

fn report(seed: u64, outcome: &Outcome) {
    sweep::report("group", seed, outcome.violation.as_deref(), &outcome.tail);
}

#[test]
fn many_seeds() {
    let (first, count) = (number("SEED_START", 1), number("SEEDS", SEEDS_DEFAULT));
    let keep_going = number("KEEP_GOING", 0) > 0;
    let begun = Instant::now();
    let total = Mutex::new((Counters::default(), Vec::new()));
    sweep::each(first, count, |seed| {
        let outcome = World::run(seed, false);
        if outcome.counters.recovery_ms_max > number("SLOW_MS", u64::MAX) {
            println!("seed {seed}: recovered after {} ms", outcome.counters.recovery_ms_max);
        }
        let mut total = total.lock().unwrap();
        total.0.add(&outcome.counters);
        let Some(why) = outcome.violation else { return ControlFlow::Continue(()) };
        println!("seed {seed}: {}", why.lines().next().unwrap_or_default());
        total.1.push(seed);
        if keep_going { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
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
    assert_eq!(sweep::lowest(first, count, |seed| storm::run(seed).err()), None);
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
fn seeds_that_failed_once() {
    for seed in REGRESSIONS {
        report(seed, &World::run(seed, false));
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
