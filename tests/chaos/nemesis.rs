//! Makes the faults, one at a time, and remembers whom they hit.
//!
//! The promise covers one crash at a time, so the next fault waits until the ring is whole again;
//! in `Double` mode two nodes go at once, from a ring whose copies are all in sync.

use std::time::{Duration, Instant};

use ringkv::net::sys::boottime;

use crate::cluster::{Cluster, Place};
use crate::network::Network;
use crate::schedule::{Fault, Schedule, Step, Target};
use crate::settings::Settings;
use crate::workload::Slots;

/// What kind of fault an event was, for the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Killed,
    /// Ended in order, without having left.
    Terminated,
    /// Stopped for that long.
    Stopped(Duration),
    /// Cut off from the other members, for that long.
    CutOff(Duration),
    /// Something smaller: one direction, loss, a slow link.
    Disturbed,
    /// Left by `drop_node`, undisturbed.
    Dropped,
    /// Came by `add_node`, undisturbed.
    Added,
}

/// Something that happened to one node.
#[derive(Clone, Debug)]
pub struct Event {
    pub kind: Kind,
    /// The step that it was part of.
    pub step: usize,
    /// When it had happened, and when the next step did something.
    pub at: u64,
    pub until: u64,
    /// The slots that the node was primary of, and backup of.
    pub primary_of: Vec<usize>,
    pub backup_of: Vec<usize>,
}

/// What was done to the ring.
#[derive(Default)]
pub struct Deeds {
    pub events: Vec<Event>,
    pub steps: usize,
    /// From the end of a fault until the ring was whole again.
    pub settling: Vec<Duration>,
    /// From when the ring was whole until the next fault: nothing may fail then.
    pub quiet: Vec<(u64, u64)>,
    /// What went wrong.
    pub findings: Vec<String>,
}

/// Makes faults until the settings say that it is enough, or the ring does not become whole.
pub fn rage(settings: &Settings, cluster: &mut Cluster, slots: &Slots) -> Deeds {
    let mut nemesis = Nemesis { cluster, slots, deeds: Deeds::default(), begun: Instant::now() };
    for step in Schedule::new(settings).take(settings.steps) {
        let killed = nemesis.deeds.kills();
        if nemesis.begun.elapsed() >= settings.time || killed >= settings.kills {
            break;
        }
        if let Err(why) = nemesis.step(step) {
            let fault = step.fault;
            nemesis.deeds.findings.push(format!("after {fault}: {why}"));
            break;
        }
    }
    let mut deeds = nemesis.deeds;
    deeds.close_before(usize::MAX, boottime().0);
    deeds
}

impl Deeds {
    pub fn kills(&self) -> usize {
        self.events.iter().filter(|event| event.kind == Kind::Killed).count()
    }

    /// The events of earlier steps have had their time.
    fn close_before(&mut self, step: usize, until: u64) {
        let open = |event: &&mut Event| event.until == u64::MAX && event.step < step;
        self.events.iter_mut().filter(open).for_each(|event| event.until = until);
    }
}

struct Nemesis<'a> {
    cluster: &'a mut Cluster,
    slots: &'a Slots,
    deeds: Deeds,
    begun: Instant,
}

impl Nemesis<'_> {
    fn step(&mut self, step: Step) -> Result<(), String> {
        let whole = boottime().0;
        std::thread::sleep(step.rest);
        self.deeds.quiet.push((whole, boottime().0));
        self.deeds.steps += 1;
        let (number, seconds) = (self.deeds.steps, self.begun.elapsed().as_secs_f64());
        println!("{seconds:8.2} s  #{number} {}", step.fault);
        self.make(step.fault)?;
        self.cluster.network.heal();
        let took = self.cluster.settle()?;
        self.deeds.settling.push(took);
        Ok(())
    }

    fn make(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::Kill { target, down } => {
                let node = self.find(target);
                self.kill(node);
                std::thread::sleep(down);
                self.cluster.launch(node);
            }
            Fault::Two { targets, stop_first, apart, down } => {
                let [first, second] = targets.map(|target| self.find(target));
                // Asked before, because nobody knows the roles in between.
                let later = self.event(second, Kind::Killed);
                if stop_first {
                    self.stop(first, apart + down)
                } else {
                    self.kill(first)
                }
                std::thread::sleep(apart);
                let at = self.cluster.kill(second);
                self.happened(Event { at, ..later });
                std::thread::sleep(down);
                self.cluster.pause(first, false);
                self.cluster.launch(first);
                self.cluster.launch(second);
            }
            Fault::Pause { target, time } => {
                let node = self.find(target);
                self.stop(node, time);
                std::thread::sleep(time);
                self.cluster.pause(node, false);
            }
            Fault::Rolling => self.roll()?,
            Fault::AddAndDrop { kill } => {
                let spare = self.cluster.spare();
                self.change(spare, true, kill)?;
                self.change(spare, false, None)?;
            }
            Fault::DropAndAdd { target, kill } => {
                let node = self.find(target);
                self.change(node, false, kill)?;
                self.change(node, true, None)?;
            }
            Fault::Cut { target, clients_too, time } => {
                self.disturb(target, Kind::CutOff(time), time, |network, node| match clients_too {
                    true => network.cut(node),
                    false => network.cut_from_peers(node),
                });
            }
            Fault::CutOneWay { from, to, time } => {
                let (from_node, to) = (self.find(from), self.find(to));
                // Nobody is cut off from itself: then it is the next one.
                let to = if from_node == to { (to + 1) % self.cluster.spare() } else { to };
                self.disturb(from, Kind::Disturbed, time, |network, node| {
                    network.cut_one_way(node, to)
                });
            }
            Fault::Lossy { target, percent, time } => {
                let harm = |network: &Network, node| network.lose(node, percent);
                self.disturb(target, Kind::Disturbed, time, harm);
            }
            Fault::Slow { target, kbit, time } => {
                let harm = |network: &Network, node| network.slow(node, kbit);
                self.disturb(target, Kind::Disturbed, time, harm);
            }
        }
        Ok(())
    }

    /// Who that is now.
    fn find(&mut self, target: Target) -> usize {
        let members = self.cluster.members();
        let holders = |slot: usize| self.cluster.holders(&self.slots.key(slot));
        let found = match target {
            Target::Member(at) => members.get(at % members.len()).copied(),
            Target::PrimaryOf(slot) => holders(slot).first().copied(),
            Target::BackupOf(slot) => holders(slot).last().copied(),
            Target::Leader => self.cluster.leader(),
        };
        found.unwrap_or(members[0])
    }

    /// An event of which only the time is missing.
    fn event(&self, node: usize, kind: Kind) -> Event {
        let (step, primary_of, backup_of) = (self.deeds.steps, Vec::new(), Vec::new());
        let mut event = Event { kind, step, at: 0, until: u64::MAX, primary_of, backup_of };
        for slot in 0..self.slots.count() {
            match self.cluster.holders(&self.slots.key(slot)).iter().position(|n| *n == node) {
                Some(0) => event.primary_of.push(slot),
                Some(_) => event.backup_of.push(slot),
                None => {}
            }
        }
        event
    }

    fn happened(&mut self, event: Event) {
        self.deeds.close_before(event.step, event.at);
        self.deeds.events.push(event);
    }

    fn kill(&mut self, node: usize) {
        let event = self.event(node, Kind::Killed);
        let at = self.cluster.kill(node);
        self.happened(Event { at, ..event });
    }

    /// For how long is the caller's business.
    fn stop(&mut self, node: usize, time: Duration) {
        let event = self.event(node, Kind::Stopped(time));
        let at = self.cluster.pause(node, true);
        self.happened(Event { at, ..event });
    }

    fn roll(&mut self) -> Result<(), String> {
        for node in self.cluster.members() {
            let event = self.event(node, Kind::Terminated);
            let at = self.cluster.terminate(node);
            self.happened(Event { at, ..event });
            self.cluster.settle()?;
        }
        Ok(())
    }

    /// Adds or drops a node. Undisturbed it must succeed. If somebody is killed meanwhile it may
    /// fail, but then it can be done again once the ring is whole.
    fn change(
        &mut self,
        node: usize,
        add: bool,
        kill: Option<(Target, Duration)>,
    ) -> Result<(), String> {
        let victim = kill.map(|(target, after)| (self.find(target), after));
        self.cluster.expect(node, if victim.is_some() { Place::Either } else { Place::of(!add) });
        let event = self.event(node, if add { Kind::Added } else { Kind::Dropped });
        let at = boottime().0;
        let change = if add { self.cluster.add(node) } else { self.cluster.drop_member(node) };
        if let Some((victim, after)) = victim {
            std::thread::sleep(after);
            self.kill(victim);
            std::thread::sleep(after);
            self.cluster.launch(victim);
        }
        let result = change.join().expect("a change does not panic");
        if victim.is_none() {
            self.happened(Event { at, until: boottime().0, ..event });
        }
        match result {
            Ok(()) => {}
            Err(error) if victim.is_some() => {
                println!("             the change ended with: {error}");
            }
            Err(error) => return Err(format!("an undisturbed change failed: {error}")),
        }
        // A change that failed may have been made all the same, and one that was made may be undone
        // by a crash: who dies while he is being dropped comes back by joining.
        let expected = if victim.is_some() { Place::Either } else { Place::of(add) };
        self.cluster.expect(node, expected);
        self.cluster.settle()?;
        let is_member = self.cluster.is_member(node);
        self.cluster.expect(node, Place::of(is_member));
        if is_member == add { Ok(()) } else { self.change(node, add, None) }
    }

    /// Harms the network of a node for a while. `harm` says whether this machine can.
    fn disturb(
        &mut self,
        target: Target,
        kind: Kind,
        time: Duration,
        harm: impl FnOnce(&Network, usize) -> bool,
    ) {
        let node = self.find(target);
        let event = self.event(node, kind);
        if !harm(&self.cluster.network, node) {
            return println!("             left out: this machine cannot");
        }
        self.happened(Event { at: boottime().0, ..event });
        std::thread::sleep(time);
    }
}
