//! The evidence for the coordinator's consensus: `docs/CONSENSUS.md` says what each part shows.
//!
//! - `cargo test --test group` runs a few seeds of each simulator, the directed tests, a small
//!   exhaustive search, and a test of determinism.
//! - `SEEDS=20000 cargo test --profile sim --no-default-features --test group -- --nocapture
//!   many_seeds` runs many, from `SEED_START` on, and says what happened in them; `storms` in the
//!   place of `many_seeds` runs the other simulator.
//! - `SEED=7` and `one_seed` instead replays one and, if it fails, shows the end of its trace.
//! - `make mutants` tests the tests.
//!
//! The core's debug assertions are violations as well: the profile `sim` has them.
#![cfg_attr(feature = "mutants", allow(dead_code, reason = "only the mutants are run then"))]

mod directed;
#[cfg(not(feature = "mutants"))]
mod exhaustive;
#[cfg(not(feature = "mutants"))]
mod failover;
mod lab;
#[cfg(feature = "mutants")]
mod mutants;
mod oracle;
mod owner;
#[cfg(not(feature = "mutants"))]
mod seeds;
mod settings;
mod storm;
#[path = "../sim/sweep.rs"]
mod sweep;
mod world;

use std::any::Any;

/// What a panic said.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("without a text"))
}
