//! What goes wrong: random faults, the operator's changes of the ring, and directed attackers that
//! wait for the worst moment.

use std::time::Duration;

use ringkv::base::{MemberId, PartitionId, StreamId};
use ringkv::proto::replica::Role;
use ringkv::ring::{MemberState, Part};
use ringkv::wire::{Command, PeerMsg};

use crate::net::{Endpoint, Kind, Link};
use crate::world::{Event, Phase, World, join_info};

/// Members that one run may add, so that its history stays small.
const JOINS_MAX: u64 = 12;

impl World {
    /// A random fault, if the seed has that kind.
    pub fn random_fault(&mut self) {
        if self.phase != Phase::Load {
            return;
        }
        let weights = self.settings.fault_weights;
        let total: u64 = weights.iter().sum();
        let mut left = self.rng.below(total);
        let kind = weights.iter().position(|weight| {
            let found = left < *weight;
            left = left.saturating_sub(*weight);
            found
        });
        match kind.filter(|_| total > 0) {
            Some(0) => self.reset_any(),
            Some(1) => self.cut_one_way(),
            Some(2) => self.cut_pair(),
            Some(3) => {
                if let Some(mid) = self.any_node() {
                    self.pause(mid);
                }
            }
            Some(_) => {
                if let Some(mid) = self.any_node() {
                    let until = self.now + self.fault_length();
                    self.deafen(mid, until);
                }
            }
            None => {}
        }
        self.after_ms(self.settings.fault_ms, Event::Fault);
    }

    fn fault_length(&mut self) -> Duration {
        Duration::from_micros(self.rng.below(self.settings.fault_length_ms * 1000))
    }

    pub fn any_node(&mut self) -> Option<MemberId> {
        let at = self.rng.below(self.nodes.len() as u64) as usize;
        self.nodes.keys().nth(at).copied()
    }

    fn reset_any(&mut self) {
        let links = self.network.links();
        let at = self.rng.below(links.len() as u64) as usize;
        if let Some(link) = links.get(at) {
            self.counters.resets += 1;
            self.reset(*link);
        }
    }

    fn cut_one_way(&mut self) {
        let (Some(from), Some(to)) = (self.any_node(), self.any_node()) else { return };
        if from != to {
            let length = self.fault_length();
            self.cut(from, to, length);
        }
    }

    fn cut_pair(&mut self) {
        let (Some(a), Some(b)) = (self.any_node(), self.any_node()) else { return };
        if a != b {
            let length = self.fault_length();
            self.cut(a, b, length);
            self.cut(b, a, length);
            if self.rng.chance(500) {
                self.reset(Link::new(Endpoint::Node(a), Endpoint::Node(b), Kind::Data));
            }
        }
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: MemberId, to: MemberId, length: Duration) {
        self.counters.cuts += 1;
        self.note(|_| format!("cut {from:?} -> {to:?} for {length:?}"));
        let until = self.now + length;
        self.on_cut(length);
        self.network.cut(Endpoint::Node(from), Endpoint::Node(to), until);
    }

    /// Cuts a member off from all others, but not from the clients.
    pub fn isolate(&mut self, mid: MemberId, length: Duration) {
        for other in self.nodes.keys().copied().filter(|m| *m != mid).collect::<Vec<_>>() {
            self.cut(mid, other, length);
            self.cut(other, mid, length);
        }
    }

    /// Pauses are often about as long as a lease, where it matters most.
    fn pause(&mut self, mid: MemberId) {
        let length = match self.rng.chance(500) {
            true => Duration::from_micros(self.rng.range(280_000, 700_000)),
            false => self.fault_length(),
        };
        self.pause_for(mid, length);
    }

    /// Stops a member for a while: its clock goes on.
    pub fn pause_for(&mut self, mid: MemberId, length: Duration) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&mid).filter(|node| !node.paused) else { return };
        node.paused = true;
        node.slept_at = Some(now);
        self.counters.pauses += 1;
        self.note(|_| format!("{mid:?} is paused for {length:?}"));
        self.after(length, Event::Resume(mid));
    }
}

/// The operator.
impl World {
    /// Adds or drops a member.
    pub fn operate(&mut self) {
        if self.phase != Phase::Load {
            return;
        }
        let members = self.truth.members.len();
        if members < self.settings.members_max && self.rng.chance(550) {
            self.add_member();
        } else if self.settings.attacks.drop_coordinator && self.rng.chance(500) {
            let voter = self.truth.voters.first().copied();
            voter.into_iter().for_each(|mid| self.drop_member(mid));
        } else {
            let at = self.rng.below(members as u64) as usize;
            let mid = self.truth.members.keys().nth(at).copied();
            mid.into_iter().for_each(|mid| self.drop_member(mid));
        }
        self.after_ms(self.settings.operator_ms, Event::Operator);
    }

    /// A new node joins. What a joiner and the coordinator say to each other is the runtime's; here
    /// it begins to run when it is admitted, and hears of the map when the network brings it.
    pub fn add_member(&mut self) {
        let Some(decider) = self.decider().filter(|_| self.names_issued < JOINS_MAX) else {
            return;
        };
        self.names_issued += 1;
        let info = join_info(&mut self.rng, self.names_issued);
        let admitted = self.coordinate(decider, |c| c.operate(&Command::Join(info)));
        self.note(|_| format!("join: {admitted:?}"));
        self.counters.joins += u64::from(matches!(admitted, Some(Ok(_))));
    }

    fn drop_member(&mut self, mid: MemberId) {
        let Some(decider) = self.decider() else { return };
        // A refusal (the last member that holds data) is an answer like any other.
        let applied = self.coordinate(decider, |c| c.operate(&Command::Leave { mid }));
        self.note(|_| format!("drop of {mid:?}: {applied:?}"));
        self.counters.leaves += u64::from(matches!(applied, Some(Ok(_))));
    }
}

/// The attackers.
impl World {
    /// {isolate the old primary right when its handover is applied}
    pub fn on_handover(&mut self, old: MemberId, new: MemberId) {
        if self.settings.attacks.isolate_old_primary && self.rng.chance(400) {
            let victim = if self.rng.chance(700) { old } else { new };
            let length = Duration::from_millis(self.rng.range(5, 2_000));
            self.isolate(victim, length);
        }
    }

    /// {delay the map to the learner for 10 s}
    pub fn on_learner(&mut self, mid: MemberId) {
        if self.settings.attacks.delay_map_to_learner && self.rng.chance(200) {
            self.deafen(mid, self.now + Duration::from_secs(10));
        }
    }

    /// {reset the connection during each phase of a snapshot}, {drop the node that streams}
    pub fn watch_snapshot(&mut self, from: MemberId, to: MemberId, tag: u8) {
        const SNAP_BEGIN: u8 = 0x23;
        const SNAP_CHUNK: u8 = 0x24;
        const SNAP_END: u8 = 0x25;
        match tag {
            SNAP_BEGIN => self.counters.streams += 1,
            SNAP_CHUNK => self.counters.chunks += 1,
            SNAP_END => {}
            _ => return,
        }
        if self.settings.attacks.reset_in_snapshot && self.rng.chance(100) {
            let link = Link::new(Endpoint::Node(from), Endpoint::Node(to), Kind::Data);
            let span = self.settings.delay(&mut self.rng) * 2;
            self.counters.resets += 1;
            self.after(span, Event::Reset(link));
        }
        if self.settings.attacks.drop_streamer && self.rng.chance(30) {
            self.drop_member(from);
        }
    }

    /// {entries of an old configuration, or their acknowledgements, arrive in a newer one}
    pub fn watch_append(&mut self, from: MemberId, to: MemberId, bytes: &[u8]) {
        self.watch_for_acks(from, to, bytes);
        if !self.settings.attacks.late_append || !self.rng.chance(20) {
            return;
        }
        let Ok(PeerMsg::Append { pid, cfg, strm: StreamId::ZERO, entries, .. }) =
            PeerMsg::decode(bytes)
        else {
            return;
        };
        let isr = self.truth.parts[pid.0 as usize].isr;
        let Some(heir) = isr.iter().find(|mid| ![from, to].contains(mid)) else { return };
        // Only an active primary proposes a handover: its successor waits for its farewell.
        let replica = self.nodes.get(&from).and_then(|node| node.replicas.get(pid.0 as usize));
        let serves = replica.is_some_and(|r| r.role() == Role::Primary && r.cfg() == cfg);
        if entries.is_empty() || !serves {
            return;
        }
        for (a, b) in [(from, to), (to, from), (from, heir)] {
            if self.rng.chance(500) {
                let length = Duration::from_micros(self.rng.range(500, 1_000_000));
                self.cut(a, b, length);
            }
        }
        self.attack(from, Command::Handover { pid, cfg, mid: heir });
    }

    /// {handover twice in a row}, removals for no reason, false promotions.
    pub fn on_new_primary(&mut self, mid: MemberId, pid: PartitionId) {
        let Some(node) = self.nodes.get(&mid) else { return };
        let (cfg, part) = {
            let replica = &node.replicas[pid.0 as usize];
            (replica.cfg(), replica.part().clone())
        };
        let attacks = self.settings.attacks;
        let Some(other) = self.other_replica(mid, &part) else { return };
        if attacks.promote_falsely && self.rng.chance(300) {
            self.note(|_| format!("false promotion of {other:?} in {pid:?} {cfg:?}"));
            self.decide(&Command::Promote { pid, cfg, mid: other });
        } else if attacks.handover_twice && self.rng.chance(300) {
            self.attack(mid, Command::Handover { pid, cfg, mid: other });
        } else if attacks.remove_for_no_reason && self.rng.chance(300) {
            self.attack(mid, Command::Remove { pid, cfg, mid: other });
        }
    }

    fn other_replica(&mut self, mid: MemberId, part: &Part) -> Option<MemberId> {
        let others: Vec<MemberId> = part.isr.iter().filter(|other| *other != mid).collect();
        let at = self.rng.below(others.len() as u64) as usize;
        let other = others.get(at).copied()?;
        let up = |m: &ringkv::ring::Member| m.state == MemberState::Up;
        self.truth.members.get(&other).is_some_and(up).then_some(other)
    }

    fn attack(&mut self, mid: MemberId, command: Command) {
        self.note(|_| format!("attack on {mid:?}: {command:?}"));
        self.propose(mid, command);
    }
}
