//! Random histories at the edge: nothing but elections, half-delivered messages and proposals.
//!
//! The simulator (`world`) has days that could happen; here every few steps somebody else is
//! elected by just a majority, and just a few messages arrive. That is the neighbourhood of the
//! paper's figure 8, which sensible networks reach once in a million runs.

use ringkv::base::Rng;
use ringkv::wire::GroupMsg;

use crate::lab::Lab;

const STEPS: u64 = 40;

/// A history; `Err` says what went wrong.
pub fn run(seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let voters = [3, 3, 5][rng.below(3) as usize];
    let batch = [1, 1, 2, 64][rng.below(4) as usize];
    let mut lab = Lab::new(voters, batch);
    if rng.chance(800) {
        lab.talk(&(0..voters as usize).collect::<Vec<_>>())?;
    }
    for step in 0..STEPS {
        let some = majority(&mut rng, voters as usize);
        let leads = |at: &&usize| lab.groups[**at].is_leader();
        let leader = some.iter().find(leads).copied();
        match rng.below(10) {
            0..3 => {
                // Whom they do not elect, they do not elect.
                let _ = lab.try_elect(some[0], &some[1..])?;
            }
            3..5 => {
                if let Some(at) = leader {
                    lab.propose(at, &[step as u8]);
                }
            }
            5..8 => {
                if let Some(at) = leader {
                    lab.tick(at, 3)?;
                }
                let count = rng.range(1, 8) as usize;
                lab.deliver(count, |from, to, msg| {
                    let is_append =
                        matches!(msg, GroupMsg::Append { .. } | GroupMsg::AppendReply { .. });
                    is_append && some.contains(&from) && some.contains(&to)
                })?;
            }
            8 => {
                lab.tick(some[0], 3)?;
                lab.talk(&some)?;
            }
            _ => lab.tick(some[0], rng.below(20) as u32)?,
        }
    }
    // In the end all of them agree, and still decide.
    let all: Vec<usize> = (0..voters as usize).collect();
    for _ in 0..200 {
        for at in &all {
            lab.tick(*at, 1)?;
            lab.talk(&all)?;
        }
        let ready = all.iter().find(|at| lab.groups[**at].is_ready()).copied();
        if ready.is_some_and(|at| lab.propose(at, b"end")) {
            lab.talk(&all)?;
        }
        if lab.decided.iter().all(|decided| decided.iter().any(|d| d == b"end")) {
            return Ok(());
        }
    }
    Err(format!("no end: {:?}", lab.groups))
}

/// Just a majority, in a random order.
fn majority(rng: &mut Rng, voters: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..voters).collect();
    let mut some = Vec::new();
    while some.len() < voters / 2 + 1 {
        some.push(all.remove(rng.below(all.len() as u64) as usize));
    }
    some
}
