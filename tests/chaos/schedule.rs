//! The faults of a run, drawn from its seed: the same seed gives the same ones in the same order.
//! Whom a fault hits may depend on roles, so a replay hits whoever has the role then.

use std::fmt;
use std::time::Duration;

use ringkv::base::Rng;

use crate::settings::{Mode, Settings};

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The member at this place of the list of members, modulo its length.
    Member(usize),
    /// The primary of a slot's key.
    PrimaryOf(usize),
    /// A backup of a slot's key.
    BackupOf(usize),
    /// The leader of the coordinator's group.
    Leader,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and a new start after a while.
    Kill { target: Target, down: Duration },
    /// Two, one shortly after the other; the first may only be stopped. Both come back.
    Two { targets: [Target; 2], stop_first: bool, apart: Duration, down: Duration },
    /// SIGSTOP and, after a while, SIGCONT.
    Pause { target: Target, time: Duration },
    /// One member after the other is ended in order and started again.
    Rolling,
    /// The spare node is added and dropped again; somebody is killed after a while, if at all.
    AddAndDrop { kill: Option<(Target, Duration)> },
    /// A member is dropped and added again; somebody is killed after a while, if at all.
    DropAndAdd { target: Target, kill: Option<(Target, Duration)> },
    /// Nobody reaches the member, or only clients do.
    Cut { target: Target, clients_too: bool, time: Duration },
    /// One member does not hear another.
    CutOneWay { from: Target, to: Target, time: Duration },
    /// The member's cable loses so many packets in a hundred.
    Lossy { target: Target, percent: u64, time: Duration },
    /// The member's cable carries so many kilobits a second.
    Slow { target: Target, kbit: u64, time: Duration },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A fault and the quiet time before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub rest: Duration,
    pub fault: Fault,
}

/// Endless: the settings say when to stop.
pub struct Schedule {
    rng: Rng,
    mode: Mode,
    slots: u64,
    drawn: usize,
}

impl Schedule {
    pub fn new(settings: &Settings) -> Schedule {
        let slots = settings.slots as u64;
        Schedule { rng: settings.rng(2), mode: settings.mode, slots, drawn: 0 }
    }

    fn fault(&mut self) -> Fault {
        match self.mode {
            Mode::Short => self.short(),
            Mode::Storm => self.storm(),
            Mode::Cables => self.cable(),
            Mode::Double => {
                // Two holders of one key: what is lost then is what had no third copy.
                let slot = self.slot();
                let targets = [Target::PrimaryOf(slot), Target::BackupOf(slot)];
                let stop_first = self.rng.below(3) == 0;
                let apart = match self.rng.below(2) {
                    0 => Duration::ZERO,
                    _ => self.time(0, 1500),
                };
                Fault::Two { targets, stop_first, apart, down: self.time(0, 2000) }
            }
            Mode::Loss | Mode::Idle => unreachable!("no schedule in this mode"),
        }
    }

    /// One of each kind, in a fixed order.
    fn short(&mut self) -> Fault {
        let target = Target::PrimaryOf(self.slot());
        match self.drawn % 6 {
            0 => Fault::Kill { target, down: self.time(300, 600) },
            1 => Fault::Pause { target, time: self.time(700, 1500) },
            2 => Fault::AddAndDrop { kill: Some((Target::Member(1), self.time(10, 100))) },
            3 => Fault::Kill { target: Target::Leader, down: Duration::ZERO },
            4 => Fault::DropAndAdd { target, kill: None },
            _ => Fault::Kill { target: Target::BackupOf(self.slot()), down: self.time(0, 600) },
        }
    }

    fn storm(&mut self) -> Fault {
        match self.rng.below(100) {
            0..58 => self.kill(),
            58..76 => self.pause(),
            76..78 => Fault::Rolling,
            78..86 => Fault::AddAndDrop { kill: self.perhaps_kill() },
            86..94 => Fault::DropAndAdd { target: self.anyone(), kill: self.perhaps_kill() },
            _ => Fault::Kill { target: Target::Leader, down: self.time(0, 1500) },
        }
    }

    fn cable(&mut self) -> Fault {
        let target = self.target();
        match self.rng.below(100) {
            0..25 => Fault::Cut { target, clients_too: true, time: self.time(100, 5000) },
            25..45 => Fault::Cut { target, clients_too: false, time: self.time(100, 5000) },
            45..65 => Fault::CutOneWay { from: target, to: self.anyone(), time: self.outage() },
            65..75 => {
                let percent = self.rng.range(1, 30);
                Fault::Lossy { target, percent, time: self.time(1000, 5000) }
            }
            75..80 => {
                let kbit = self.rng.range(500, 5000);
                Fault::Slow { target, kbit, time: self.time(1000, 5000) }
            }
            80..90 => self.pause(),
            _ => self.kill(),
        }
    }

    fn kill(&mut self) -> Fault {
        // Some come back before anybody has noticed, some after their copies were made elsewhere.
        let down = match self.rng.below(4) {
            0 => Duration::ZERO,
            1 => self.time(0, 300),
            _ => self.time(300, 3000),
        };
        Fault::Kill { target: self.target(), down }
    }

    fn pause(&mut self) -> Fault {
        Fault::Pause { target: self.target(), time: self.outage() }
    }

    /// Often about as long as leases and suspicions last, else up to 5 s.
    fn outage(&mut self) -> Duration {
        match self.rng.below(2) {
            0 => self.time(100, 900),
            _ => self.time(900, 5000),
        }
    }

    fn perhaps_kill(&mut self) -> Option<(Target, Duration)> {
        let target = self.target();
        let after = self.time(0, 400);
        (self.rng.below(3) > 0).then_some((target, after))
    }

    fn target(&mut self) -> Target {
        match self.rng.below(10) {
            0..5 => Target::PrimaryOf(self.slot()),
            5..7 => Target::BackupOf(self.slot()),
            7 => Target::Leader,
            _ => self.anyone(),
        }
    }

    fn anyone(&mut self) -> Target {
        Target::Member(self.rng.below(64) as usize)
    }

    fn slot(&mut self) -> usize {
        self.rng.below(self.slots) as usize
    }

    fn time(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(self.rng.range(from_ms, to_ms))
    }
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let step = Step { rest: self.time(50, 500), fault: self.fault() };
        self.drawn += 1;
        Some(step)
    }
}

#[test]
fn a_seed_gives_the_same_faults_again() {
    for mode in [Mode::Short, Mode::Storm, Mode::Cables, Mode::Double] {
        let settings = Settings { seed: 7, ..Settings::of(mode) };
        let other = Settings { seed: 8, ..settings.clone() };
        let steps = |settings| Schedule::new(settings).take(50).collect::<Vec<_>>();
        assert_eq!(steps(&settings), steps(&settings), "{mode:?}");
        assert_ne!(steps(&settings), steps(&other), "{mode:?}");
    }
}
