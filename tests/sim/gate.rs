//! The gate of mutants: the simulator must notice each rule that is taken out of the protocols.
//!
//! `make mutants` runs it, with the cargo feature `mutants` and a build of its own. `MUTANTS=name`
//! tries one (a part of its name is enough), `LIMIT=n` gives up after n seeds, 100,000 if not said.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ringkv::proto::mutants::{self, Mutant};

use crate::number;
use crate::world::World;

const LIMIT_DEFAULT: u64 = 100_000;

/// The seed that killed a mutant, and how.
type Death = Option<(u64, String)>;

#[test]
fn every_mutant_is_killed() {
    let limit = number("LIMIT", LIMIT_DEFAULT);
    let wanted = std::env::var("MUTANTS").unwrap_or_default();
    std::panic::set_hook(Box::new(|_| {})); // An assertion of a core that fails is a death, too.
    let mut survivors = Vec::new();
    println!("{:<26} {:>7} {:>6}  killed by", "mutant", "seeds", "s");
    for mutant in Mutant::REPLICA.into_iter().filter(|m| m.name().contains(&wanted)) {
        mutants::activate(Some(mutant));
        let begun = Instant::now();
        let death = hunt(limit);
        mutants::activate(None);
        let seconds = begun.elapsed().as_secs();
        let (seeds, how) = match death {
            Some((seed, how)) => (seed, how),
            None => {
                survivors.push(mutant.name());
                (limit, "NOTHING".into())
            }
        };
        println!("{:<26} {seeds:>7} {seconds:>6}  {how}", mutant.name());
        println!("{:<26} {:>14}  ({})", "", "", mutant.rule());
    }
    let _ = std::panic::take_hook();
    assert!(survivors.is_empty(), "not noticed within {limit} seeds: {survivors:?}");
}

/// Runs seeds until one fails.
fn hunt(limit: u64) -> Death {
    let (next, found) = (AtomicU64::new(1), std::sync::Mutex::new(None::<(u64, String)>));
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed > limit {
            return;
        }
        if let Some(why) = World::run(seed, false).violation {
            next.store(limit + 1, Ordering::Relaxed);
            let how: String = why.lines().next().unwrap_or_default().chars().take(110).collect();
            found.lock().unwrap().get_or_insert((seed, how));
            return;
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    found.into_inner().unwrap()
}
