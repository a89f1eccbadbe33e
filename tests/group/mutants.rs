//! The tests under test: each rule is switched off, and somebody must notice.
//!
//! `cargo test --release --features mutants --test group -- mutants --nocapture` prints which
//! directed test noticed, and after how many seeds of each simulator somebody did. `SEEDS` is how
//! many are tried for each rule, `MUTANT` the name of the only one to be tried.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicU64, Ordering};

use ringkv::proto::mutants::{Mutant, activate};

use crate::world::World;
use crate::{directed, number, storm};

/// Seeds of each simulator, after which a rule counts as unguarded by it.
const SEEDS_DEFAULT: u64 = 20_000;

#[test]
fn mutants_are_noticed() {
    let only = std::env::var("MUTANT").ok();
    let seeds = number("SEEDS", SEEDS_DEFAULT);
    println!(
        "| mutant | rule taken out | directed test | days | storms | what the first day saw |"
    );
    println!("|---|---|---|---|---|---|");
    let mut survivors = Vec::new();
    for mutant in Mutant::GROUP {
        if only.as_ref().is_some_and(|only| only != mutant.name()) {
            continue;
        }
        let hook = take_hook();
        set_hook(Box::new(|_| ())); // What a mutant makes panic is expected.
        activate(Some(mutant));
        let directed = directed::ALL.iter().find(|(_, test)| !passes(test));
        let day = first_seed(seeds, |seed| World::run(seed, false).violation.is_none());
        let storm = first_seed(seeds, |seed| passes(|| storm::run(seed)));
        let why = day.and_then(|seed| World::run(seed, false).violation);
        activate(None);
        set_hook(hook);
        let shown = |seed: Option<u64>| seed.map_or(format!("> {seeds}"), |seed| seed.to_string());
        let why = why.unwrap_or("-".into());
        // The state of the group, which may follow, is long.
        let why = why.lines().next().and_then(|line| line.split(": Group").next()).unwrap_or("-");
        let why: String = why.chars().take(90).collect();
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            mutant.name(),
            mutant.rule(),
            directed.map_or("-", |(name, _)| *name),
            shown(day),
            shown(storm),
            why
        );
        if day.is_none() && storm.is_none() {
            survivors.push(mutant.name());
        }
    }
    assert!(survivors.is_empty(), "no seed notices without: {survivors:?}");
}

fn passes(test: impl Fn() -> Result<(), String>) -> bool {
    catch_unwind(AssertUnwindSafe(test)).is_ok_and(|result| result.is_ok())
}

/// The lowest seed that does not pass.
fn first_seed(seeds: u64, passes: impl Fn(u64) -> bool + Sync) -> Option<u64> {
    let (next, found) = (AtomicU64::new(1), AtomicU64::new(u64::MAX));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > seeds || seed > found.load(Ordering::Relaxed) {
                return;
            }
            if !passes(seed) {
                found.fetch_min(seed, Ordering::Relaxed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let seed = found.into_inner();
    (seed <= seeds).then_some(seed)
}
