//! Directed attackers: they know the protocol and wait for the worst moment. Random faults meet
//! these moments once in ten thousand seeds; some rules show their worth nowhere else.

use std::time::Duration;

use ringkv::base::{MemberId, PartitionId};
use ringkv::ring::Part;
use ringkv::wire::Command;

use crate::crashes::Danger;
use crate::world::{Event, Phase, World};

impl World {
    /// One of the attacks that the seed has, on a random partition.
    pub fn assault(&mut self) {
        if self.phase != Phase::Load {
            return;
        }
        let pid = PartitionId(self.rng.below(self.truth.parts.len() as u64) as u32);
        let part = self.truth.parts[pid.0 as usize].clone();
        if !self.nodes.contains_key(&part.primary) {
            return;
        }
        let attacks = self.settings.attacks;
        let kinds = [
            attacks.isolate_and_down,
            attacks.restart_and_promote,
            attacks.handover_at_once,
            attacks.resume_into_stream,
        ];
        let first = self.rng.below(kinds.len() as u64) as usize;
        let order = (0..kinds.len()).map(|at| (first + at) % kinds.len());
        let Some(kind) = order.into_iter().find(|at| kinds[*at]) else { return };
        self.coverage.attacks += 1;
        match kind {
            0 => self.isolate_and_down(part.primary),
            1 => self.restart_and_promote(pid, &part),
            2 => self.handover_at_once(pid, &part),
            _ => self.resume_into_stream(part.primary),
        }
    }

    fn decide_after_ms(&mut self, low: u64, high: u64, command: Command) {
        let span = Duration::from_micros(self.rng.range(low * 1000, high * 1000));
        self.after(span, Event::Danger(Danger::Decide(command)));
    }

    /// {isolate the primary from peers and coordinator but not from clients, then Down}
    fn isolate_and_down(&mut self, primary: MemberId) {
        let length = Duration::from_millis(self.rng.range(200, 2_500));
        self.note(|_| format!("attack: isolate {primary:?} for {length:?}, then Down"));
        self.isolate(primary, length);
        self.decide_after_ms(0, 400, Command::Down { mid: primary });
    }

    /// {after AddInSync is decided hide the map from the primary and Down the others}
    pub fn on_in_sync(&mut self, new: MemberId, part: &Part) {
        if !self.settings.attacks.hide_in_sync || !self.rng.chance(300) {
            return;
        }
        let primary = part.primary;
        self.note(|_| format!("attack: {primary:?} does not hear that {new:?} is in sync"));
        self.coverage.attacks += 1;
        self.deafen(primary, self.now + Duration::from_secs(10));
        for mid in part.isr.iter().filter(|mid| *mid != new) {
            self.decide_after_ms(0, 30, Command::Down { mid });
        }
    }

    /// {restart, promote within 60 ms}
    fn restart_and_promote(&mut self, pid: PartitionId, part: &Part) {
        let at = self.rng.below(part.isr.len() as u64) as usize;
        let victim = part.isr.as_slice()[at];
        self.note(|_| format!("attack: {victim:?} dies, comes back, and there is a promotion"));
        let kept = self.settings.dangers.heralded_restart(&mut self.rng);
        self.crash(victim);
        self.settings.dangers = kept;
        if victim == part.primary {
            self.decide_after_ms(0, 60, Command::Down { mid: victim });
        } else {
            let heir = part.isr.iter().find(|mid| ![victim, part.primary].contains(mid));
            if let Some(mid) = heir {
                self.decide_after_ms(0, 60, Command::Promote { pid, cfg: part.cfg, mid });
            }
        }
    }

    /// {handover twice in one tick}
    fn handover_at_once(&mut self, pid: PartitionId, part: &Part) {
        let Some(decider) = self.decider() else { return };
        let others: Vec<MemberId> = part.isr.iter().filter(|mid| *mid != part.primary).collect();
        let (Some(first), Some(last)) = (others.first().copied(), others.last().copied()) else {
            return;
        };
        let back = if self.rng.chance(500) { part.primary } else { last };
        self.note(|_| format!("attack: {pid:?} goes to {first:?} and at once to {back:?}"));
        let (primary, cfg) = (part.primary, part.cfg);
        self.coordinate(decider, |c| {
            let _ = c.submit(primary, &Command::Handover { pid, cfg, mid: first });
            let cfg = c.map().parts[pid.0 as usize].cfg;
            let _ = c.submit(first, &Command::Handover { pid, cfg, mid: back });
        });
    }

    /// {resume the paused old primary into a live stream}
    fn resume_into_stream(&mut self, primary: MemberId) {
        let length = Duration::from_millis(self.rng.range(250, 2_000));
        self.note(|_| format!("attack: {primary:?} sleeps while it is replaced and streamed to"));
        self.pause_for(primary, length);
        self.decide_after_ms(0, 300, Command::Down { mid: primary });
        self.decide_after_ms(300, 1_500, Command::Up { mid: primary });
    }

    /// {Down of the primary while reads are under way at it}
    pub fn on_read(&mut self, mid: MemberId) {
        if !self.settings.attacks.down_under_reads || !self.rng.chance(15) {
            return;
        }
        self.note(|_| format!("attack: {mid:?} is replaced while it is read from"));
        self.coverage.attacks += 1;
        let length = Duration::from_millis(self.rng.range(50, 1_000));
        if self.rng.chance(700) {
            self.isolate(mid, length);
        }
        self.decide_after_ms(0, 5, Command::Down { mid });
    }

    /// {reads right after the heal of a cut}
    pub fn on_cut(&mut self, length: Duration) {
        if self.settings.attacks.read_after_cut {
            let span = length + Duration::from_micros(self.rng.below(2_000));
            self.after(span, Event::Danger(Danger::Poke));
        }
    }

    /// Clients that have nothing to do ask at once.
    pub fn poke(&mut self) {
        for client in 0..self.clients.len() {
            if self.clients[client].is_idle() {
                self.client_wakes_in(client, Duration::ZERO);
            }
        }
    }
}
