//! What a seed decides before anything happens: every seed is a different kind of bad day.

use ringkv::base::Rng;

use crate::owner::Tuning;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Messages of a pair keep their order, and are lost by resets and cuts only.
    pub is_ordered: bool,
    /// Longest delay of a message, milliseconds.
    pub delay_ms: u64,
    /// Of a thousand messages, how many are lost or doubled (unless in order).
    pub loss: u64,
    pub duplication: u64,
    /// Milliseconds of faults.
    pub chaos_ms: u64,
    /// Longest time between two faults.
    pub fault_every_ms: u64,
    /// Of a thousand faults, how many are aimed at the leader.
    pub leader_bias: u64,
    /// Which faults there are; a kind may be listed twice.
    pub faults: Vec<Fault>,
    pub command_every_ms: u64,
    /// Of a thousand looks, how often the operator replaces a voter that lives.
    pub wrong_death: u64,
    pub operator_every_ms: u64,
    pub tuning: Tuning,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Kill,
    CutOneWay,
    CutBothWays,
    Isolate,
    Heal,
    Reset,
    Pause,
    /// A node takes another one for dead.
    Suspect,
    Resize,
}

const FAULTS: [Fault; 9] = [
    Fault::Kill,
    Fault::CutOneWay,
    Fault::CutBothWays,
    Fault::Isolate,
    Fault::Heal,
    Fault::Reset,
    Fault::Pause,
    Fault::Suspect,
    Fault::Resize,
];

impl Settings {
    pub fn draw(rng: &mut Rng) -> Self {
        let pick = |rng: &mut Rng, of: &[u64]| of[rng.below(of.len() as u64) as usize];
        let mut faults: Vec<Fault> = FAULTS.into_iter().filter(|_| rng.chance(700)).collect();
        faults.extend((0..3).map(|_| FAULTS[rng.below(FAULTS.len() as u64) as usize]));
        faults.push(Fault::Heal);
        Self {
            is_ordered: rng.chance(500),
            delay_ms: pick(rng, &[1, 3, 10, 40, 80]),
            loss: pick(rng, &[0, 20, 100, 300]),
            duplication: pick(rng, &[0, 20, 200]),
            chaos_ms: rng.range(2000, 6000),
            fault_every_ms: pick(rng, &[40, 120, 300, 600]),
            leader_bias: pick(rng, &[200, 600]),
            faults,
            command_every_ms: pick(rng, &[5, 20, 50]),
            wrong_death: pick(rng, &[0, 50, 300]),
            operator_every_ms: pick(rng, &[20, 60, 300]),
            tuning: Tuning {
                batch: pick(rng, &[1, 1, 2, 64]) as usize,
                seal_after: pick(rng, &[5, 30, 100_000, 100_000]) as usize,
                gossip_ticks: pick(rng, &[2, 5, 30, 100]) as u32,
            },
        }
    }

    /// A quiet network, for scenarios that bring their own trouble.
    pub fn quiet() -> Self {
        Self {
            is_ordered: true,
            delay_ms: 3,
            loss: 0,
            duplication: 0,
            chaos_ms: 0,
            fault_every_ms: u64::MAX / 4,
            leader_bias: 0,
            faults: vec![Fault::Heal],
            command_every_ms: 30,
            wrong_death: 0,
            operator_every_ms: 60,
            tuning: Tuning::default(),
        }
    }
}
