//! The tests under test: each rule is switched off, and somebody must notice.
//!
//! `make mutants` prints which directed test noticed, and after how many seeds of each simulator
//! somebody did. `LIMIT` is how many are tried for each rule, `MUTANTS` a part of the names of
//! those to be tried.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use ringkv::proto::mutants::{Mutant, activate};

use crate::sweep::{self, number};
use crate::world::World;
use crate::{directed, storm};

/// Seeds of each simulator, after which a rule counts as unguarded by it.
const LIMIT_DEFAULT: u64 = 10_000;
/// Rules of the owner, and of seals: storms have neither.
const NOT_IN_STORMS: [Mutant; 5] = [
    Mutant::GroupFirstSeal,
    Mutant::GroupBaseAtSeal,
    Mutant::GroupCfgTag,
    Mutant::GroupDraft,
    Mutant::GroupSkip,
];

#[test]
fn mutants_are_noticed() {
    let seeds = number("LIMIT", LIMIT_DEFAULT);
    println!(
        "| mutant | rule taken out | directed test | days | storms | what the first day saw |"
    );
    println!("|---|---|---|---|---|---|");
    let mut survivors = Vec::new();
    for mutant in sweep::chosen(&Mutant::GROUP) {
        let hook = take_hook();
        set_hook(Box::new(|_| ())); // What a mutant makes panic is expected.
        activate(Some(mutant));
        let directed = directed::ALL.iter().find(|(_, test)| !passes(test));
        let day = first_seed(seeds, |seed| World::run(seed, false).violation.is_none());
        let storm = (!NOT_IN_STORMS.contains(&mutant))
            .then(|| first_seed(seeds, |seed| passes(|| storm::run(seed))));
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
            storm.map_or("-".into(), shown),
            why
        );
        if day.or(storm.flatten()).is_none() {
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
    let found = sweep::lowest(1, seeds, |seed| (!passes(seed)).then_some(()));
    found.map(|(seed, ())| seed)
}
