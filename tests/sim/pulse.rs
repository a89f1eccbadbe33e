//! Heartbeats, leases by heartbeat, and the real detector: who suspects whom, and what the
//! coordinator makes of it. As `node/control/pulse.rs` does it, with everybody watching everybody.

use std::time::Duration;

use ringkv::base::{MemberId, Nanos, PartitionId, Term, Ver};
use ringkv::proto::Coordinator;
use ringkv::proto::mutants::{self, Mutant};
use ringkv::ring::Part;
use ringkv::wire::ControlMsg;

use crate::crashes::Danger;
use crate::node::Node;
use crate::world::{Event, World};

impl World {
    /// The heartbeats of a member are due.
    pub fn heartbeat(&mut self, mid: MemberId) {
        self.hear_the_unheard(mid);
        let now = self.clock(mid);
        let Some(node) = self.nodes.get_mut(&mid) else { return };
        node.leases.tidy(now);
        let others = node.map.iter().flat_map(|map| map.members.keys().copied());
        let others: Vec<MemberId> = others.filter(|other| *other != mid).collect();
        for other in others {
            let want = self.nodes.get(&mid).is_some_and(|node| node.leases.wants(other, now));
            // Whom nobody asks any more has to ask itself: it may have been dropped.
            if mid > other || want || self.rng.chance(50) {
                self.beat(mid, other, want);
            }
        }
        let Some(node) = self.nodes.get_mut(&mid) else { return };
        let suspects = node.watch.suspects(now);
        if !suspects.is_empty() {
            self.report(mid, suspects);
        }
        self.judge(mid);
        let period = Duration::from_micros(self.rng.range(45_000, 55_000));
        self.after(period, Event::Heartbeat(mid));
    }

    fn beat(&mut self, mid: MemberId, other: MemberId, want: bool) {
        let (sent_at, map_ver) = (self.clock(mid), self.map_ver(mid));
        let coordinator = self.nodes.get(&mid).and_then(|node| node.coordinator.as_ref());
        let leads = coordinator.and_then(Coordinator::leadership).unwrap_or_default();
        self.control(mid, other, &ControlMsg::Heartbeat { sent_at, map_ver, want, leads });
    }

    /// There is a new connection: the other side shall know at once how new the map is.
    pub fn greet(&mut self, mid: MemberId, peer: MemberId) {
        self.beat(mid, peer, false);
    }

    /// Later configurations and terms count more.
    pub fn on_leadership(&mut self, mid: MemberId, from: MemberId, leads: (Ver, Term)) {
        if let Some(node) = self.nodes.get_mut(&mid).filter(|node| leads > node.leader.0) {
            node.leader = (leads, from);
        }
    }

    fn report(&mut self, mid: MemberId, suspects: Vec<MemberId>) {
        let Some(node) = self.nodes.get(&mid) else { return };
        let first = node.map.as_ref().and_then(|map| map.voters.first().copied());
        let known = Some(node.leader.1).filter(|leader| *leader != MemberId::ZERO);
        if let Some(leader) = known.or(first).filter(|leader| *leader != mid) {
            self.control(mid, leader, &ControlMsg::Suspect(suspects));
        }
    }

    /// The leader of the coordinator decides who is dead and who is back.
    fn judge(&mut self, mid: MemberId) {
        let now = self.clock(mid);
        let Some(node) = self.nodes.get_mut(&mid) else { return };
        let Some(draft) = node.coordinator.as_ref().and_then(Coordinator::draft) else { return };
        let commands = node.jury.judge(mid, draft, &node.watch, now);
        for command in commands {
            match self.settings.dangers.decide_lag_ms {
                0 => self.decide(&command),
                lag => {
                    let span = Duration::from_micros(self.rng.below(lag * 1000));
                    self.after(span, Event::Danger(Danger::Decide(command)));
                }
            }
        }
    }

    /// The faults are over: a new judge, who has no prejudice, lets everybody return soon.
    pub fn forgive(&mut self) {
        self.nodes
            .values_mut()
            .for_each(|node| node.jury = ringkv::proto::detector::Jury::default());
    }

    pub fn on_suspect(&mut self, mid: MemberId, from: MemberId, suspects: &[MemberId]) {
        let now = self.clock(mid);
        let Some(node) = self.nodes.get_mut(&mid) else { return };
        node.jury.report(from, suspects.iter().copied(), now);
        self.coverage.suspicions += 1;
        self.judge(mid);
    }

    /// A control connection broke: is somebody still there?
    pub fn look_for(&mut self, mid: MemberId, peer: MemberId) {
        let Some(node) = self.nodes.get_mut(&mid) else { return };
        if node.watch.disconnected(peer) && !self.nodes.contains_key(&peer) {
            let span = self.settings.delay(&mut self.rng) * 2;
            self.after(span, Event::Danger(Danger::Refused { mid, dead: peer }));
        }
    }

    /// Nobody listens there, unless its node has come back meanwhile.
    pub fn on_refused(&mut self, mid: MemberId, dead: MemberId) {
        let name = |mid: &MemberId| self.truth.members.get(mid).map(|member| &member.name);
        let listens = |other: &MemberId| name(other).is_some() && name(other) == name(&dead);
        if self.nodes.keys().any(listens) {
            return;
        }
        let Some(node) = self.nodes.get_mut(&mid) else { return };
        node.watch.refused(dead);
        self.coverage.refused += 1;
        if node.watch.is_suspect(dead, node.clock.read(self.now)) {
            let voters = node.map.as_ref().map(|map| map.voters.clone()).unwrap_or_default();
            self.coordinate(mid, |coordinator| coordinator.lost(dead));
            for voter in voters.into_iter().filter(|voter| *voter != mid) {
                self.control(mid, voter, &ControlMsg::Suspect(vec![dead]));
            }
        }
        self.judge(mid);
    }

    /// E1, E5: the promise is recorded before the answer is sent, and the epoch read after that.
    pub fn on_heartbeat(&mut self, mid: MemberId, from: MemberId, beat: (Nanos, Ver, bool)) {
        let (echo, theirs, want) = beat;
        let (now, map_ver) = (self.clock(mid), self.map_ver(mid));
        if theirs > map_ver {
            self.control(mid, from, &ControlMsg::MapWanted { have: map_ver });
        }
        let Some(node) = self.nodes.get_mut(&mid) else { return };
        let knows = |node: &Node| {
            node.map.as_ref().is_some_and(|m| m.params.leases && m.members.contains_key(&from))
        };
        let grant = want && knows(node);
        let epoch = if grant { node.leases.give(from, now) } else { Ver::ZERO };
        self.coverage.leases += u64::from(grant);
        self.control(mid, from, &ControlMsg::HeartbeatAck { echo, epoch, map_ver, grant });
    }

    pub fn on_heartbeat_ack(
        &mut self,
        mid: MemberId,
        from: MemberId,
        ack: (Nanos, Ver, Ver, bool),
    ) {
        let (echo, epoch, theirs, grant) = ack;
        if grant && let Some(node) = self.nodes.get_mut(&mid) {
            let now = node.clock.read(self.now);
            let counts_from = if mutants::on(Mutant::LeaseFromReceipt) { now } else { echo };
            node.leases.receive(from, counts_from, epoch);
            self.check_leases(mid);
        }
        if theirs > self.map_ver(mid) {
            self.control(mid, from, &ControlMsg::MapWanted { have: self.map_ver(mid) });
        }
    }

    /// I9: in real time, no lease outlives its promise. I1: and nobody else serves meanwhile.
    pub fn check_leases(&mut self, mid: MemberId) {
        let Some(node) = self.nodes.get(&mid) else { return };
        let outlives = |(giver, other): (&MemberId, &Node)| {
            let held = node.clock.when(node.leases.held_until(*giver));
            let promised = other.clock.when(other.leases.promised_to(mid));
            (held > promised && held > self.now).then_some((*giver, held, promised))
        };
        let found = self.nodes.iter().filter(|(giver, _)| **giver != mid).find_map(outlives);
        if let Some((giver, held, promised)) = found {
            let why = format!("I9: {mid:?} counts on {giver:?} until {held:?}, not {promised:?}");
            self.require(Err(why));
        }
        for pid in self.partitions() {
            self.check_one_primary(pid);
        }
    }

    /// I1: at most one member can answer a read of a partition without asking.
    pub fn check_one_primary(&mut self, pid: PartitionId) {
        if self.oracle.primaries(pid) < 2 {
            return;
        }
        let could_read = |node: &Node| {
            let now = node.clock.read(self.now);
            let until = node.replicas[pid.0 as usize].could_read_until(&node.leases, now);
            until > now
        };
        let serving: Vec<MemberId> =
            self.nodes.values().filter(|node| could_read(node)).map(|node| node.mid).collect();
        if serving.len() > 1 {
            self.require(Err(format!("I1: {pid:?}: two could answer a read: {serving:?}")));
        }
    }

    /// Whether somebody else than `mid` could answer a read of that partition just now.
    pub fn is_served_elsewhere(&self, mid: MemberId, pid: PartitionId) -> bool {
        self.nodes.values().filter(|node| node.mid != mid).any(|node| {
            let now = node.clock.read(self.now);
            node.replicas[pid.0 as usize].could_read_until(&node.leases, now) > now
        })
    }

    /// A row as the leader will have it when all is decided that it has begun; of the decided map
    /// if nobody leads.
    pub fn planned(&self, pid: PartitionId) -> Part {
        let leader = self.decider().and_then(|mid| self.nodes.get(&mid));
        let draft = leader.and_then(|node| node.coordinator.as_ref()?.draft());
        draft.unwrap_or(&self.truth).parts[pid.0 as usize].clone()
    }

    /// A member that leads the coordinator, and is not paused: the newest leader, if an old one
    /// does not know of it.
    pub fn decider(&self) -> Option<MemberId> {
        let since = |node: &Node| {
            let coordinator = node.coordinator.as_ref().filter(|_| !node.paused)?;
            Some((coordinator.leadership()?, node.mid))
        };
        self.nodes.values().filter_map(since).max().map(|(_, mid)| mid)
    }
}
