//! How long a group is without decisions after its leader is gone, or half gone.

use ringkv::base::MemberId;
use ringkv::base::limits::GROUP_TICK_MS;

use crate::owner::Command;
use crate::settings::Settings;
use crate::sweep::number;
use crate::world::World;

/// Runs of each case of a plain `cargo test`.
const RUNS_DEFAULT: u64 = 10;
/// Numbers of the commands by which the next decision is noticed.
const FIRST: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// The leader is killed, and its connections only fall silent.
    Power,
    /// The leader is killed, and its host resets the connections.
    Killed,
    /// The leader hears nobody.
    Deaf,
    /// Nobody hears the leader.
    Mute,
    /// All connections but those of one follower are cut.
    Hub,
    /// The connection between the leader and one follower is cut.
    Chain,
    /// One follower does not hear the leader.
    OneWay,
}

const TROUBLES: [Trouble; 7] = [
    Trouble::Power,
    Trouble::Killed,
    Trouble::Deaf,
    Trouble::Mute,
    Trouble::Hub,
    Trouble::Chain,
    Trouble::OneWay,
];

/// Ticks from the trouble to the next decision.
fn gap(seed: u64, voters: usize, trouble: Trouble) -> Result<u64, String> {
    let mut world = World::grown(seed, voters, Settings::quiet())?;
    world.has_clients = false;
    world.has_operator = false;
    let leader = world.leader().ok_or("nobody leads")?;
    let (_, all) = world.latest();
    let others: Vec<MemberId> = all.iter().copied().filter(|mid| *mid != leader).collect();
    let friend = others[seed as usize % others.len()];
    match trouble {
        Trouble::Power => world.kill(leader),
        Trouble::Killed => world.kill_noticed(leader),
        Trouble::Deaf => others.iter().for_each(|mid| world.cut(*mid, leader)),
        Trouble::Mute => others.iter().for_each(|mid| world.cut(leader, *mid)),
        Trouble::Hub => {
            let pairs = all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b)));
            let lost = pairs.filter(|(a, b)| a != b && *a != friend && *b != friend);
            lost.for_each(|(a, b)| world.cut(a, b));
        }
        Trouble::Chain => {
            [(leader, friend), (friend, leader)].into_iter().for_each(|(a, b)| world.cut(a, b))
        }
        Trouble::OneWay => world.cut(leader, friend),
    }
    // Whoever the trouble leaves behind must get its commands through as well.
    let asking = match trouble {
        Trouble::Chain | Trouble::OneWay => vec![friend],
        _ => others,
    };
    let begin = world.now;
    for attempt in 0..600 {
        for mid in &asking {
            world.command(*mid, Command::Number(FIRST + attempt), attempt)?;
        }
        world.run_until(world.now + GROUP_TICK_MS)?;
        if (FIRST..=FIRST + attempt).any(|number| world.oracle.check_answer(number).is_ok()) {
            return Ok((world.now - begin) / GROUP_TICK_MS);
        }
    }
    Err(format!("{trouble:?} with {voters} voters, seed {seed}: {}", world.why_stuck()))
}

/// `RUNS=200 cargo test --release --test group -- --nocapture failover` for percentiles.
#[test]
fn failover() {
    let runs = number("RUNS", RUNS_DEFAULT);
    for voters in [3, 5] {
        for trouble in TROUBLES {
            let run = |seed| gap(seed, voters, trouble).unwrap_or_else(|why| panic!("{why}"));
            let mut ticks: Vec<u64> = (1..=runs).map(run).collect();
            ticks.sort_unstable();
            let at = |percent: usize| ticks[(ticks.len() * percent / 100).min(ticks.len() - 1)];
            let (median, late, worst) = (at(50), at(99), at(100));
            println!("{voters} voters, {trouble:?}: p50 {median}, p99 {late}, max {worst} ticks");
            assert!(worst <= 100, "{trouble:?} with {voters} voters took {worst} ticks");
        }
    }
}
