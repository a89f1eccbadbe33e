//! Directed attackers: they know the protocol and wait for the worst moment. Random faults meet
//! these moments once in ten thousand seeds; some rules show their worth nowhere else.

use std::time::Duration;

use ringkv::base::{MemberId, PartitionId, StreamId};
use ringkv::ring::Part;
use ringkv::wire::{Command, PeerMsg};

use crate::crashes::Danger;
use crate::net::{Endpoint, Kind, Link};
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
            attacks.heirs_in_a_row,
            attacks.late_farewell,
        ];
        let first = self.rng.below(kinds.len() as u64) as usize;
        let order = (0..kinds.len()).map(|at| (first + at) % kinds.len());
        let Some(kind) = order.into_iter().find(|at| kinds[*at]) else { return };
        self.coverage.attacks += 1;
        match kind {
            0 => self.isolate_and_down(part.primary),
            1 => self.restart_and_promote(pid, &part),
            2 => self.handover_at_once(pid, &part),
            3 => self.resume_into_stream(part.primary),
            4 => self.heirs_in_a_row(pid, part.primary),
            _ => self.late_farewell(pid, part.primary),
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
            let cfg = c.draft().map_or(cfg, |map| map.parts[pid.0 as usize].cfg);
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

    /// {replace the primary, and its heir while the leases of the first still run}
    fn heirs_in_a_row(&mut self, pid: PartitionId, primary: MemberId) {
        self.note(|_| format!("attack: two heirs of {primary:?} in {pid:?}"));
        let length = Duration::from_millis(self.rng.range(300, 1_500));
        self.isolate(primary, length);
        self.decide(&Command::Down { mid: primary });
        let heir = self.planned(pid).primary;
        let span = Duration::from_micros(self.rng.range(1_000, 300_000));
        let pass_on = Danger::PassOn { pid, but: [primary, heir] };
        self.after(span, Event::Danger(pass_on));
    }

    /// The primary of a partition passes its role on at once, serving or not.
    pub fn pass_on(&mut self, pid: PartitionId, but: [MemberId; 2]) {
        let part = self.planned(pid);
        if let Some(mid) = part.isr.iter().find(|mid| !but.contains(mid) && *mid != part.primary) {
            self.propose_as_primary(&Command::Handover { pid, cfg: part.cfg, mid });
        }
    }

    /// {a primary is replaced and does not hear of it; its heir serves, and is replaced in turn:
    /// the first one hears of that and says goodbye, although the heir may still be read from}
    fn late_farewell(&mut self, pid: PartitionId, primary: MemberId) {
        if self.decider() == Some(primary) {
            return;
        }
        self.note(|_| format!("attack: a late farewell of {primary:?} in {pid:?}"));
        self.deafen(primary, self.now + Duration::from_secs(2));
        self.decide(&Command::Down { mid: primary });
        let span = Duration::from_millis(self.rng.range(480, 900));
        self.after(span, Event::Danger(Danger::ReplaceHeir { pid, of: primary }));
    }

    pub fn replace_heir(&mut self, pid: PartitionId, of: MemberId) {
        let heir = self.truth.parts[pid.0 as usize].primary;
        if heir == of || self.decider() == Some(heir) {
            return;
        }
        self.note(|_| format!("attack: {heir:?} is replaced, and {of:?} hears of it"));
        let length = Duration::from_millis(self.rng.range(300, 1_000));
        self.isolate(heir, length);
        self.decide(&Command::Down { mid: heir });
        if let Some(node) = self.nodes.get_mut(&of) {
            node.deaf_until = self.now;
        }
    }

    /// {an acknowledgement is on its way for long; meanwhile another becomes primary, has the
    /// acknowledged entry cut, and passes the role back to the first, who knows nothing of it}
    pub fn watch_for_acks(&mut self, from: MemberId, to: MemberId, bytes: &[u8]) {
        if !self.settings.attacks.late_ack || !self.rng.chance(60) {
            return;
        }
        let Ok(PeerMsg::Append { pid, cfg, strm: StreamId::ZERO, entries, .. }) =
            PeerMsg::decode(bytes)
        else {
            return;
        };
        let part = self.truth.parts[pid.0 as usize].clone();
        let heir = part.isr.iter().find(|mid| ![from, to].contains(mid));
        let Some(heir) = heir.filter(|_| !entries.is_empty() && part.cfg == cfg) else { return };
        if part.primary != from || self.decider().is_none_or(|mid| mid == from) {
            return;
        }
        self.note(|_| format!("attack: a late ack of {to:?} to {from:?} in {pid:?}"));
        self.coverage.attacks += 1;
        let away = Duration::from_micros(self.rng.range(1_000, 40_000));
        self.deafen(from, self.now + away);
        for (a, b) in [(from, heir), (heir, from)] {
            self.cut(a, b, away);
        }
        let late = away + Duration::from_micros(self.rng.range(1_000, 40_000));
        self.cut(to, from, late);
        let later = late + Duration::from_millis(30);
        let cut = Danger::Cut { from, to, length: later };
        self.after(Duration::from_micros(1), Event::Danger(cut));
        self.after(Duration::from_micros(2), Event::Danger(Danger::GiveTo { pid, mid: heir }));
        self.after(away, Event::Danger(Danger::GiveTo { pid, mid: from }));
    }

    /// The role goes to that member, wherever it is.
    pub fn give_to(&mut self, pid: PartitionId, mid: MemberId) {
        let cfg = self.planned(pid).cfg;
        self.propose_as_primary(&Command::Handover { pid, cfg, mid });
    }

    /// {a message is late, its connection breaks, the next one is used, and then it arrives}
    pub fn haunt(&mut self, from: MemberId, to: MemberId, bytes: &[u8]) {
        if !self.settings.attacks.haunt {
            return;
        }
        let is_sync = matches!(PeerMsg::decode(bytes), Ok(PeerMsg::Append { sync: true, .. }));
        if !self.rng.chance(if is_sync { 150 } else { 2 }) {
            return;
        }
        self.coverage.attacks += 1;
        let link = Link::new(Endpoint::Node(from), Endpoint::Node(to), Kind::Data);
        let again = Duration::from_millis(self.rng.below(2 * self.settings.reconnect_ms + 20));
        self.network.hold_back(link, Endpoint::Node(from), self.now + again);
        let span = Duration::from_micros(self.rng.below(1_000));
        self.after(span, Event::Danger(Danger::Haunt(link)));
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
