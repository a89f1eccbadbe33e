//! The tests under test: each rule is switched off, and somebody must notice.
//!
//! `cargo test --release --features mutants --test group -- mutants --nocapture` prints which
//! directed test and which seed noticed first. `SEEDS` is how many are tried for each rule,
//! `MUTANT` the name of the only one to be tried.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicU64, Ordering};

use ringkv::proto::mutants::{Mutant, activate};

use crate::world::World;
use crate::{directed, number, panic_text};

/// Seeds after which a rule counts as unguarded by chance.
const SEEDS_DEFAULT: u64 = 20_000;
/// What may be left to the directed tests alone, because chance is too rare.
const BY_DIRECTED_TESTS_ALONE: [Mutant; 0] = [];

#[test]
fn mutants_are_noticed() {
    let only = std::env::var("MUTANT").ok();
    let seeds = number("SEEDS", SEEDS_DEFAULT);
    println!("{:<18} | {:<62} | {:<30} | seeds", "mutant", "rule taken out", "directed test");
    let mut survivors = Vec::new();
    for mutant in Mutant::GROUP {
        if only.as_ref().is_some_and(|only| only != mutant.name()) {
            continue;
        }
        let hook = take_hook();
        set_hook(Box::new(|_| ())); // What a mutant makes panic is expected.
        activate(Some(mutant));
        let directed = directed_killer();
        let seed = first_seed(seeds);
        activate(None);
        set_hook(hook);
        let by_chance = match &seed {
            Some((seed, why)) => format!("{seed}: {}", why.lines().next().unwrap_or_default()),
            None => format!("none of {seeds}"),
        };
        let by_chance: String = by_chance.chars().take(110).collect();
        let (name, rule) = (mutant.name(), mutant.rule());
        println!("{name:<18} | {rule:<62} | {:<30} | {by_chance}", directed.unwrap_or("-"));
        let is_excused = BY_DIRECTED_TESTS_ALONE.contains(&mutant);
        if seed.is_none() && !(is_excused && directed.is_some()) {
            survivors.push(name);
        }
    }
    assert!(survivors.is_empty(), "nobody notices without: {survivors:?}");
}

/// The first directed test that fails.
fn directed_killer() -> Option<&'static str> {
    let passes = |test: fn() -> Result<(), String>| {
        let outcome = catch_unwind(AssertUnwindSafe(test));
        outcome.map_err(|panic| panic_text(panic.as_ref())).is_ok_and(|result| result.is_ok())
    };
    directed::ALL.iter().find(|(_, test)| !passes(*test)).map(|(name, _)| *name)
}

/// The lowest seed that fails, and why.
fn first_seed(seeds: u64) -> Option<(u64, String)> {
    let (next, found) = (AtomicU64::new(1), AtomicU64::new(u64::MAX));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > seeds || seed > found.load(Ordering::Relaxed) {
                return;
            }
            if World::run(seed, false).violation.is_some() {
                found.fetch_min(seed, Ordering::Relaxed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let seed = found.into_inner();
    (seed <= seeds).then(|| (seed, World::run(seed, false).violation.unwrap_or_default()))
}
