//! What members say on their control connections: maps, commands, and the coordinator's group.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ringkv::base::{MemberId, PartitionId};
use ringkv::proto::{Coordinator, MapRow};
use ringkv::ring::{MapDelta, RingMap};
use ringkv::wire::{Command, ControlMsg};

use crate::net::{Endpoint, Kind, Link};
use crate::world::{Event, World};

impl World {
    /// Sends a message of the control plane.
    pub fn control(&mut self, from: MemberId, to: MemberId, msg: &ControlMsg) {
        let mut bytes = Vec::new();
        msg.encode(&mut bytes);
        self.send(Endpoint::Node(from), Endpoint::Node(to), Kind::Control, bytes);
    }

    /// Whoever was deaf hears what other voters said, in its order.
    pub fn hear_the_unheard(&mut self, mid: MemberId) {
        let Some(node) = self.nodes.get_mut(&mid).filter(|n| n.deaf_until <= self.now) else {
            return;
        };
        for (from, bytes) in std::mem::take(&mut node.unheard) {
            self.on_control(mid, from, &bytes);
        }
    }

    pub fn on_control(&mut self, mid: MemberId, from: MemberId, bytes: &[u8]) {
        let msg = match ControlMsg::decode(bytes) {
            Ok(msg) => msg,
            Err(error) => return self.require(Err(format!("{error:?} from {from:?}: {bytes:?}"))),
        };
        let Some(node) = self.nodes.get(&mid) else { return };
        let deaf = self.now < node.deaf_until;
        let waits = !node.unheard.is_empty();
        let map = node.map.clone();
        let heard_at = self.clock(mid);
        if let Some(node) = self.nodes.get_mut(&mid) {
            node.watch.heard(from, heard_at);
        }
        match msg {
            ControlMsg::Heartbeat { sent_at, map_ver, want, leads } => {
                self.on_leadership(mid, from, leads);
                self.on_heartbeat(mid, from, (sent_at, map_ver, want));
            }
            ControlMsg::HeartbeatAck { echo, epoch, map_ver, grant } => {
                self.on_heartbeat_ack(mid, from, (echo, epoch, map_ver, grant));
            }
            ControlMsg::Suspect(suspects) => self.on_suspect(mid, from, &suspects),
            ControlMsg::MapWanted { have } => {
                if let Some(map) = map.filter(|map| map.ver > have) {
                    let map = Box::new(RingMap::clone(&map));
                    self.control(mid, from, &ControlMsg::MapFull(map));
                }
            }
            ControlMsg::MapFull(map) if !deaf => self.adopt(mid, Arc::from(map)),
            ControlMsg::MapDelta(delta) if !deaf => {
                let have = self.map_ver(mid);
                match map.and_then(|map| delta.apply(&map)) {
                    Some(map) => self.adopt(mid, Arc::new(map)),
                    None if delta.ver > have => {
                        self.control(mid, from, &ControlMsg::MapWanted { have });
                    }
                    None => {}
                }
            }
            ControlMsg::Submit { origin, command, .. } => {
                self.note(|_| format!("{from:?} proposes to {mid:?} {command:?}"));
                self.on_submit(mid, from, origin, &command);
            }
            ControlMsg::Group { .. } if deaf || waits => {
                if let Some(node) = self.nodes.get_mut(&mid) {
                    node.unheard.push_back((from, bytes.to_vec()));
                }
            }
            ControlMsg::Group { cfg, msg } => {
                let current =
                    self.coordinate(mid, |coordinator| coordinator.receive(from, cfg, &msg));
                if let Some(map) = map.filter(|_| current != Some(true)) {
                    let map = Box::new(RingMap::clone(&map));
                    self.control(mid, from, &ControlMsg::MapFull(map));
                }
            }
            _ => {}
        }
    }

    /// A1: a member adopts a newer map; its partitions follow, at once or a little later.
    pub fn adopt(&mut self, mid: MemberId, map: Arc<RingMap>) {
        if map.ver <= self.map_ver(mid) {
            return;
        }
        let Some(node) = self.nodes.get_mut(&mid) else { return };
        if node.map.is_none() && !map.members.contains_key(&mid) {
            return; // It was told which member it is, and waits for the map that says so.
        }
        node.map = Some(map.clone());
        let members = map.members.keys().copied().filter(|other| *other != mid).collect();
        node.watch.set(&members, node.clock.read(self.now));
        node.leases.hear_of(map.epoch);
        node.following.insert(map.ver, (node.replicas.len(), map.epoch));
        self.note(|_| format!("{mid:?} adopts {:?}", map.ver));
        let node = self.nodes.get_mut(&mid).expect("it was there a moment ago");
        match &mut node.coordinator {
            _ if !map.voters.contains(&mid) => node.coordinator = None,
            Some(coordinator) => coordinator.adopt(&map),
            None => {
                node.coordinator = Some(Coordinator::join(mid, map.clone()));
                self.counters.coordinator_moves += 1;
            }
        }
        let gone = !map.members.contains_key(&mid);
        if gone && !std::mem::replace(&mut node.retired, true) {
            // A member that ends takes answers on their way with it: not while all must go well.
            let wait = if self.settings.quiet { self.settings.duration.0 } else { 0 };
            let span = Duration::from_nanos(wait + self.rng.below(2_000_000_000));
            self.after(span, Event::Retire(mid));
        }
        for pid in self.partitions() {
            match self.settings.adopt_lag_us {
                0 => self.adopt_row(mid, pid, &map),
                lag => {
                    let span = Duration::from_micros(self.rng.below(lag));
                    self.after(span, Event::Adopt { mid, pid, map: map.clone() });
                }
            }
        }
    }

    /// A partition of a member adopts its row of a map.
    pub fn adopt_row(&mut self, mid: MemberId, pid: PartitionId, map: &RingMap) {
        let Some(part) = map.part(pid) else { return };
        let row = MapRow { ver: map.ver, required: map.required, leases: map.params.leases, part };
        self.input(mid, pid, None, |replica, at, out| replica.adopt(at, row, out));
        let Some(node) = self.nodes.get_mut(&mid) else { return };
        if let Some((left, _)) = node.following.get_mut(&map.ver) {
            *left -= 1;
        }
        // T2: leases count by the maps that every partition follows, the earlier ones first.
        while let Some(first) = node.following.first_entry().filter(|first| first.get().0 == 0) {
            node.leases.follow(first.remove().1);
        }
    }

    /// Sends a command to a voter, who passes it on if it does not lead.
    pub fn propose(&mut self, mid: MemberId, command: Command) {
        let Some(node) = self.nodes.get(&mid) else { return };
        let voters = node.map.as_ref().map(|map| map.voters.clone()).unwrap_or_default();
        let at = self.rng.below(voters.len().max(1) as u64) as usize;
        match voters.get(at) {
            Some(to) if *to == mid => self.on_submit(mid, mid, mid, &command),
            Some(to) => {
                self.control(mid, *to, &ControlMsg::Submit { id: 0, origin: mid, command });
            }
            None => {}
        }
    }

    /// A command of `origin` arrives at `mid`, from `from`.
    fn on_submit(&mut self, mid: MemberId, from: MemberId, origin: MemberId, command: &Command) {
        let Some(coordinator) = self.nodes.get(&mid).and_then(|node| node.coordinator.as_ref())
        else {
            return;
        };
        if coordinator.leads() {
            // A command that was overtaken does nothing, and is made again if needed.
            self.coordinate(mid, |coordinator| drop(coordinator.submit(origin, command)));
        } else if let Some(leader) = coordinator.leader().filter(|_| from == origin) {
            let command = command.clone();
            self.control(mid, leader, &ControlMsg::Submit { id: 0, origin, command });
        }
    }

    /// Lets the coordinator on `mid`, if there is one, do something, propose, and say what it has
    /// to say; adopts and publishes what was decided.
    pub fn coordinate<T>(
        &mut self,
        mid: MemberId,
        work: impl FnOnce(&mut Coordinator) -> T,
    ) -> Option<T> {
        // A majority of voters that have died unnoticed would be the end of the ring.
        let living: BTreeSet<MemberId> = self.nodes.keys().copied().collect();
        let node = self.nodes.get_mut(&mid)?;
        let coordinator = node.coordinator.as_mut()?;
        let result = work(coordinator);
        let network = &self.network;
        coordinator.propose(&|other| {
            let link = Link::new(Endpoint::Node(mid), Endpoint::Node(other), Kind::Control);
            let is_connected = network.in_flight(link, Endpoint::Node(mid)).is_some();
            other == mid || (is_connected && living.contains(&other))
        });
        let (cfg, messages) = coordinator.take_messages();
        let news = coordinator.take_news();
        self.note_voters(mid);
        for (to, msg) in messages {
            self.control(mid, to, &ControlMsg::Group { cfg, msg });
        }
        for news in news {
            if news.map.ver > self.truth.ver {
                self.new_truth(news.map.clone());
            }
            if news.is_mine {
                self.publish(mid, &news.map, news.delta);
            }
            self.adopt(mid, news.map);
        }
        Some(result)
    }

    /// Tells everybody of a change. Whom it does not reach hears of it by heartbeats.
    fn publish(&mut self, mid: MemberId, map: &RingMap, delta: MapDelta) {
        let everybody: Vec<MemberId> = self.nodes.keys().copied().filter(|m| *m != mid).collect();
        let delta = ControlMsg::MapDelta(Box::new(delta));
        let full = ControlMsg::MapFull(Box::new(map.clone()));
        for to in everybody {
            if self.rng.chance(self.settings.map_skip_permille) {
                continue;
            }
            let whole = self.rng.chance(self.settings.map_full_permille);
            self.control(mid, to, if whole { &full } else { &delta });
        }
    }

    /// The map changed: what the checks and the attackers make of it.
    fn new_truth(&mut self, map: Arc<RingMap>) {
        let old = std::mem::replace(&mut self.truth, map.clone());
        for mid in map.members.keys().filter(|mid| **mid >= old.next_mid) {
            self.insert_node(*mid);
        }
        self.note(|_| format!("{:?}: {:?}", map.ver, map.parts));
        self.require(map.check_invariants());
        if map.ver <= old.ver || map.epoch < old.epoch {
            self.require(Err(format!("the map went from {:?} to {:?}", old.ver, map.ver)));
        }
        for (pid, (before, after)) in self.partitions().zip(old.parts.iter().zip(&map.parts)) {
            if before == after {
                continue;
            }
            if after.cfg < before.cfg || after.pcfg < before.pcfg {
                self.require(Err(format!("{pid:?} went from {before:?} to {after:?}")));
            }
            let check = self.oracle.check_copies(pid, &map);
            self.require(check);
            self.counters.reconfigurations += u64::from(after.cfg > before.cfg);
            if after.primary != before.primary {
                self.counters.handovers += 1;
                self.on_handover(before.primary, after.primary);
            }
            if after.state != before.state {
                self.check_loss(pid, before.state, after);
            }
            let is_counted = |mid: &MemberId| !before.isr.contains(*mid);
            if let Some(mid) = after.isr.iter().find(is_counted) {
                self.on_in_sync(mid, after);
            }
            let is_new = |learner: &&(MemberId, _)| !before.learners.contains(learner);
            if let Some((mid, _)) = after.learners.iter().find(is_new) {
                self.on_learner(*mid);
            }
        }
        self.counters.departures += old.members.len().saturating_sub(map.members.len()) as u64;
    }
}
