//! The gate of mutants: the simulator must notice each rule that is taken out of the protocols.
//!
//! `make mutants` runs it, with the cargo feature `mutants` and a build of its own. `MUTANTS=name`
//! tries one (a part of its name is enough), `LIMIT=n` gives up after n seeds, 100,000 if not said.

use std::time::Instant;

use ringkv::proto::mutants::{self, Mutant};

use crate::sweep::{self, number};
use crate::world::World;

const LIMIT_DEFAULT: u64 = 100_000;

/// The seed that killed a mutant, and how.
type Death = Option<(u64, String)>;

#[test]
fn every_mutant_is_killed() {
    let limit = number("LIMIT", LIMIT_DEFAULT);
    let chosen = sweep::chosen(&Mutant::REPLICA);
    std::panic::set_hook(Box::new(|_| {})); // An assertion of a core that fails is a death, too.
    let mut survivors = Vec::new();
    println!("{:<26} {:>7} {:>6}  killed by", "mutant", "seeds", "s");
    for mutant in chosen {
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
    sweep::lowest(1, limit, |seed| {
        let why = World::run(seed, false).violation?;
        Some(why.lines().next().unwrap_or_default().chars().take(110).collect())
    })
}
