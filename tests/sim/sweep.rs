//! Many seeds on all cores, and what the simulators are asked in the environment. They share it.

#![allow(dead_code, reason = "each simulator uses a part of it")]

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[cfg(feature = "mutants")]
use ringkv::proto::mutants::Mutant;

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Those of `mutants` that `MUTANTS` asks for: a part of their names, or nothing for all of them.
#[cfg(feature = "mutants")]
pub fn chosen(mutants: &[Mutant]) -> Vec<Mutant> {
    let part = std::env::var("MUTANTS").unwrap_or_default();
    let is_meant = |mutant: &&Mutant| mutant.name().contains(&part);
    let is_known = Mutant::REPLICA.iter().chain(&Mutant::GROUP).any(|mutant| is_meant(&mutant));
    assert!(is_known, "no mutant has the name {part}");
    mutants.iter().filter(is_meant).copied().collect()
}

/// Runs that many seeds from `first` on, in their order, until one of them breaks it off. Those
/// that have begun by then are brought to their end.
pub fn each(first: u64, count: u64, run: impl Fn(u64) -> ControlFlow<()> + Sync) {
    let (begun, broken_off) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        while !broken_off.load(Ordering::Relaxed) {
            let at = begun.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return;
            }
            if run(first.wrapping_add(at)).is_break() {
                broken_off.store(true, Ordering::Relaxed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
}

/// The lowest of that many seeds from `first` on in which something is found, and what.
pub fn lowest<T: Send>(
    first: u64,
    count: u64,
    find: impl Fn(u64) -> Option<T> + Sync,
) -> Option<(u64, T)> {
    let found = Mutex::new(None::<(u64, T)>);
    each(first, count, |seed| {
        let Some(what) = find(seed) else { return ControlFlow::Continue(()) };
        let mut found = found.lock().expect("no seed panics");
        if found.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
            *found = Some((seed, what));
        }
        ControlFlow::Break(())
    });
    found.into_inner().expect("no seed panics")
}

/// If there is a violation: shows the end of the trace, says how to replay it, and fails.
pub fn report<'t>(
    simulator: &str,
    seed: u64,
    violation: Option<&str>,
    trace: impl IntoIterator<Item = &'t String>,
) {
    let Some(why) = violation else { return };
    trace.into_iter().for_each(|line| println!("{line}"));
    panic!(
        "seed {seed}: {why}\n\
         replay: SEED={seed} cargo test --profile sim --no-default-features --test {simulator} \
         -- --nocapture one_seed"
    );
}
