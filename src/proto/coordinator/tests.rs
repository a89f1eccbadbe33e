use super::*;
use crate::base::{LearnerId, PartitionId};
use crate::ring::{MemberState, plan};

fn info(name: &str) -> JoinInfo {
    JoinInfo { name: name.into(), addr: format!("{name}:1"), weight: 1, ..JoinInfo::default() }
}

fn params() -> Params {
    Params { partitions: 16, ..Params::default() }
}

/// All members of a ring, the messages of whose voters arrive at once.
struct Ring {
    members: BTreeMap<MemberId, Coordinator>,
    map: Arc<RingMap>,
    cut_off: Vec<MemberId>,
}

impl Ring {
    fn create(name: &str) -> Self {
        let first = Coordinator::create(ClusterId(7), params(), info(name));
        let map = Arc::clone(first.map());
        Self { members: BTreeMap::from([(MemberId(1), first)]), map, cut_off: Vec::new() }
    }

    fn map(&self) -> &RingMap {
        &self.map
    }

    fn leader(&mut self) -> Option<&mut Coordinator> {
        let cut_off = &self.cut_off;
        let mut members = self.members.iter_mut().filter(|(mid, _)| !cut_off.contains(mid));
        members.find(|(_, c)| c.leads()).map(|(_, c)| c)
    }

    fn operate(&mut self, command: &Command) -> Result<Applied, Rejection> {
        let leader = self.leader().expect("a group that nobody disturbs has a leader");
        let receipt = leader.operate(command)?;
        self.settle();
        Ok(receipt.0)
    }

    fn submit(&mut self, from: MemberId, command: &Command) -> Result<Applied, Rejection> {
        let receipt = self.leader().expect("as above").submit(from, command)?;
        self.settle();
        Ok(receipt.0)
    }

    /// Lets the leader plan and everybody decide and adopt, until nothing is under way.
    fn settle(&mut self) {
        loop {
            if let Some(leader) = self.leader() {
                leader.propose(&|_| true);
            }
            let mut quiet = true;
            for mid in self.members.keys().copied().collect::<Vec<_>>() {
                quiet &= !self.exchange(mid);
            }
            if quiet {
                return;
            }
        }
    }

    /// Delivers what a member has to say. Whether it was something.
    fn exchange(&mut self, mid: MemberId) -> bool {
        let Some(member) = self.members.get_mut(&mid) else { return false };
        let news = member.take_news();
        let (cfg, messages) = member.take_messages();
        let said = !news.is_empty() || !messages.is_empty();
        for news in news {
            if news.map.ver > self.map.ver {
                self.map = Arc::clone(&news.map);
                self.adopt();
            }
        }
        for (to, msg) in messages {
            let arrives = ![mid, to].iter().any(|end| self.cut_off.contains(end));
            if let Some(to) = self.members.get_mut(&to).filter(|_| arrives) {
                to.receive(mid, cfg, &msg);
            }
        }
        said
    }

    fn adopt(&mut self) {
        let map = &self.map;
        self.members.retain(|mid, _| map.members.contains_key(mid));
        for mid in map.members.keys().filter(|mid| !self.cut_off.contains(mid)) {
            let member = self.members.entry(*mid);
            member.or_insert_with(|| Coordinator::join(*mid, Arc::clone(map))).adopt(map);
        }
    }

    fn tick(&mut self, times: usize) {
        for _ in 0..times {
            self.members.values_mut().for_each(Coordinator::tick);
            self.settle();
        }
    }
}

fn ring_of(names: &[&str]) -> Ring {
    let mut ring = Ring::create(names[0]);
    for name in &names[1..] {
        ring.operate(&Command::Join(info(name))).unwrap();
        settle(&mut ring);
    }
    ring
}

/// Plays the primaries: every partition is moved to its goal, one command at a time.
fn settle(ring: &mut Ring) {
    for _ in 0..10_000 {
        ring.settle();
        ring.map().check_invariants().unwrap();
        let Some((from, command)) = next_command(ring.map()) else { return };
        ring.submit(from, &command).unwrap();
    }
    panic!("the ring does not settle: {:?}", ring.map().parts[0]);
}

fn next_command(map: &RingMap) -> Option<(MemberId, Command)> {
    map.parts.iter().enumerate().find_map(|(at, part)| {
        if part.state == PartState::Lost {
            return None; // Its primary is dead.
        }
        let (pid, cfg) = (PartitionId(at as u32), part.cfg);
        let command = if let Some((mid, lid)) = part.learners.first().copied() {
            Command::AddInSync { pid, cfg, mid, lid }
        } else if !part.goal.is_subset_of(&part.isr) {
            let surplus = part.isr.len() > part.goal.len();
            let can_go = |mid: &MemberId| *mid != part.primary && !part.goal.contains(*mid);
            let mid = part.isr.iter().find(can_go).filter(|_| surplus)?;
            Command::Remove { pid, cfg, mid }
        } else if part.goal.first() != Some(part.primary) {
            Command::Handover { pid, cfg, mid: part.goal.first()? }
        } else {
            let mid = part.isr.iter().find(|mid| !part.goal.contains(*mid))?;
            Command::Remove { pid, cfg, mid }
        };
        Some((part.primary, command))
    })
}

#[test]
fn a_ring_grows_to_its_copies_and_shrinks_again() {
    let mut ring = ring_of(&["a", "b", "c", "d"]);
    assert!(ring.map().is_settled());
    assert_eq!(ring.map().required, 2);
    assert!(ring.map().parts.iter().all(|part| part.isr.len() == 3));
    for mid in [2, 3, 4] {
        ring.operate(&Command::Leave { mid: MemberId(mid) }).unwrap();
        settle(&mut ring);
        assert!(!ring.map().members.contains_key(&MemberId(mid)));
    }
    assert_eq!(ring.map().required, 1);
    assert!(ring.map().parts.iter().all(|part| part.isr.as_slice() == [MemberId(1)]));
}

#[test]
fn joins_at_once_settle_although_goals_change_under_way() {
    let mut ring = ring_of(&["a", "b", "c"]);
    for name in ["d", "e", "f"] {
        ring.operate(&Command::Join(info(name))).unwrap();
        ring.settle();
    }
    settle(&mut ring);
    assert!(ring.map().is_settled());
}

#[test]
fn the_last_holder_cannot_be_dropped() {
    let mut ring = ring_of(&["a"]);
    let before = ring.map().clone();
    let refusal = ring.operate(&Command::Leave { mid: MemberId(1) }).unwrap_err();
    assert!(refusal.to_string().contains("add another node first"), "{refusal}");
    assert_eq!(*ring.map(), before);
    // The dead are no heirs.
    let mut ring = ring_of(&["a", "b"]);
    ring.operate(&Command::Down { mid: MemberId(2) }).unwrap();
    assert!(ring.operate(&Command::Leave { mid: MemberId(1) }).is_err());
}

#[test]
fn a_name_or_an_address_is_admitted_once() {
    let mut ring = ring_of(&["a", "b"]);
    // The same start that asks again is given the same id; another start is not.
    let again = ring.operate(&Command::Join(info("b")));
    assert_eq!(again, Ok(Applied::Admitted(MemberId(2))));
    let other_start = JoinInfo { boot: 9, ..info("b") };
    assert!(matches!(ring.operate(&Command::Join(other_start)), Err(Rejection::Refused(_))));
    let other_name = JoinInfo { name: "x".into(), ..info("b") };
    assert!(matches!(ring.operate(&Command::Join(other_name)), Err(Rejection::Refused(_))));
}

#[test]
fn overtaken_commands_change_nothing() {
    let mut ring = ring_of(&["a", "b", "c"]);
    let map = ring.map().clone();
    let part = &map.parts[0];
    let other = part.isr.iter().find(|mid| *mid != part.primary).unwrap();
    let (pid, cfg, stale) = (PartitionId(0), part.cfg, Cfg(part.cfg.0 - 1));
    for (from, command) in [
        (part.primary, Command::Remove { pid, cfg: stale, mid: other }),
        (part.primary, Command::Remove { pid, cfg, mid: part.primary }),
        (other, Command::Remove { pid, cfg, mid: other }),
        (other, Command::Handover { pid, cfg, mid: other }),
        (part.primary, Command::Handover { pid, cfg, mid: MemberId(99) }),
        (part.primary, Command::AddInSync { pid, cfg, mid: other, lid: LearnerId(1) }),
        (part.primary, Command::Remove { pid: PartitionId(999), cfg, mid: other }),
    ] {
        assert_eq!(ring.submit(from, &command), Err(Rejection::Stale), "{command:?}");
    }
    assert!(matches!(
        ring.submit(part.primary, &Command::Leave { mid: other }),
        Err(Rejection::Refused(_))
    ));
    assert_eq!(*ring.map(), map);
}

#[test]
fn a_dead_member_leaves_every_partition_and_its_last_copies_stall_then_are_lost() {
    let mut ring = ring_of(&["a", "b", "c"]);
    let cfg = ring.map().parts[0].cfg;
    // Partition 0 keeps one copy only, at member 1.
    ring.operate(&Command::Down { mid: MemberId(2) }).unwrap();
    assert!(ring.map().parts[0].cfg > cfg);
    assert!(ring.map().parts.iter().all(|p| !p.isr.contains(MemberId(2)) && p.isr.len() == 2));
    ring.operate(&Command::Down { mid: MemberId(3) }).unwrap();
    assert!(ring.map().parts.iter().all(|p| p.isr.as_slice() == [MemberId(1)]));
    assert!(ring.map().parts.iter().all(|p| p.primary == MemberId(1)));
    ring.operate(&Command::Down { mid: MemberId(1) }).unwrap();
    assert!(ring.map().parts.iter().all(|p| p.state == PartState::Stalled && p.isr.len() == 1));
    ring.operate(&Command::Gone { mid: MemberId(1) }).unwrap();
    assert!(ring.map().parts.iter().all(|p| p.state == PartState::Lost && p.isr.len() == 1));
    ring.map().check_invariants().unwrap();
}

/// One that leaves is not marked as dead, so that its return has to be told from what waits for it.
#[test]
fn what_waits_for_a_leaving_member_goes_on_when_it_is_heard_again() {
    let mut ring = Ring::create("a");
    ring.operate(&Command::Join(info("b"))).unwrap();
    ring.settle();
    let me = MemberId(1);
    ring.operate(&Command::Leave { mid: me }).unwrap();
    let cfg = ring.map().parts[0].cfg;
    let (mid, lid) = ring.map().parts[0].learners[0];
    ring.operate(&Command::Down { mid: me }).unwrap();
    assert!(ring.map().parts.iter().all(|part| part.state == PartState::Stalled));
    // A copy beside a primary that is taken for dead could not be given its place.
    let add = Command::AddInSync { pid: PartitionId(0), cfg, mid, lid };
    assert_eq!(ring.submit(me, &add), Err(Rejection::Stale));
    ring.operate(&Command::Up { mid: me }).unwrap();
    assert!(ring.map().parts.iter().all(|part| part.state == PartState::Ok));
    assert_eq!(ring.map().members[&me].state, MemberState::Leaving);
    settle(&mut ring);
    assert_eq!(ring.map().members.len(), 1);
}

/// A lost partition has one dead copy: the others ask for as many as they can have.
#[test]
fn what_is_lost_does_not_keep_the_rest_from_its_copies() {
    let mut ring = Ring::create("a");
    let copies = |ring: &Ring| ring.map().required;
    ring.operate(&Command::Join(info("b"))).unwrap();
    ring.settle();
    let pid = PartitionId(0);
    let part = ring.map().parts[0].clone();
    let (mid, lid) = part.learners[0];
    ring.submit(part.primary, &Command::AddInSync { pid, cfg: part.cfg, mid, lid }).unwrap();
    let cfg = ring.map().parts[0].cfg;
    ring.operate(&Command::Promote { pid, cfg, mid }).unwrap();
    ring.operate(&Command::Join(info("c"))).unwrap();
    ring.operate(&Command::Gone { mid }).unwrap();
    assert_eq!(ring.map().parts[0].state, PartState::Lost);
    assert_eq!(copies(&ring), 1);
    settle(&mut ring);
    assert_eq!(copies(&ring), 2);
}

#[test]
fn the_vote_is_not_left_to_those_who_are_not_heard() {
    let mut ring = ring_of(&["a", "b", "c"]);
    let leader = ring.leader().unwrap();
    leader.operate(&Command::Leave { mid: MemberId(1) }).unwrap();
    leader.operate(&Command::Leave { mid: MemberId(2) }).unwrap();
    // Only the third may stay, and it is silent.
    leader.propose(&|mid| mid != MemberId(3));
    assert_eq!(leader.draft().unwrap().voters.len(), 3);
    leader.reconnected(MemberId(3));
    leader.propose(&|_| true);
    assert_eq!(leader.draft().unwrap().voters, [MemberId(3)]);
}

#[test]
fn only_a_lost_partition_can_be_reset() {
    let mut ring = ring_of(&["a", "b"]);
    let reset = Command::Reset { pid: PartitionId(3) };
    assert!(matches!(ring.operate(&reset), Err(Rejection::Refused(_))));
}

#[test]
fn the_voters_follow_the_size_of_the_ring() {
    let mut ring = ring_of(&["a", "b"]);
    assert_eq!(ring.map().voters, [MemberId(1)], "two voters survive no more than one");
    for (name, voters) in [("c", 3), ("d", 3), ("e", 5), ("f", 5)] {
        ring.operate(&Command::Join(info(name))).unwrap();
        settle(&mut ring);
        assert_eq!(ring.map().voters.len(), voters, "with {name}");
    }
    for mid in [1, 6, 5, 4, 3] {
        ring.operate(&Command::Leave { mid: MemberId(mid) }).unwrap();
        settle(&mut ring);
        assert!(!ring.map().voters.contains(&MemberId(mid)));
    }
    assert_eq!(ring.map().members.len(), 1);
    assert_eq!(ring.map().voters, [MemberId(2)]);
}

#[test]
fn whoever_holds_data_votes_rather_than_a_router() {
    let mut ring = ring_of(&["a"]);
    ring.operate(&Command::Join(JoinInfo { weight: 0, ..info("router") })).unwrap();
    settle(&mut ring);
    ring.operate(&Command::Join(info("b"))).unwrap();
    settle(&mut ring);
    assert_eq!(ring.map().voters.len(), 3);
    ring.operate(&Command::Leave { mid: MemberId(1) }).unwrap();
    settle(&mut ring);
    assert_eq!(ring.map().voters, [MemberId(3)]);
}

#[test]
fn another_voter_leads_when_the_leader_is_gone_and_it_is_replaced_when_it_stays_away() {
    let mut ring = ring_of(&["a", "b", "c", "d"]);
    let before = ring.map().clone();
    ring.cut_off.push(MemberId(1));
    assert!(ring.leader().is_none());
    ring.tick(40);
    ring.operate(&Command::Down { mid: MemberId(1) }).unwrap();
    settle(&mut ring);
    assert_eq!(ring.map().members[&MemberId(1)].state, MemberState::Down);
    assert_eq!(ring.map().voters, before.voters, "it may come back");
    assert!(ring.map().parts.iter().all(|part| part.primary != MemberId(1)));
    let goals = ring.map().parts.iter().filter(|part| part.goal.contains(MemberId(1))).count();
    assert!(goals > 0, "its place is kept");
    ring.operate(&Command::Away { mid: MemberId(1) }).unwrap();
    settle(&mut ring);
    assert_eq!(ring.map().voters.len(), 3);
    assert!(!ring.map().voters.contains(&MemberId(1)));
    assert!(ring.map().parts.iter().all(|part| !part.goal.contains(MemberId(1))));
    // It wakes up, hears of all this, and is up again with nothing.
    ring.cut_off.clear();
    ring.adopt();
    ring.operate(&Command::Up { mid: MemberId(1) }).unwrap();
    settle(&mut ring);
    assert!(ring.map().is_settled());
    assert!(ring.map().parts.iter().any(|part| part.isr.contains(MemberId(1))));
}

#[test]
fn a_leader_that_dies_while_the_voters_change_is_not_waited_for() {
    let mut ring = ring_of(&["a", "b", "c"]);
    let (voters, since) = (ring.map().voters.clone(), ring.map().voters_since);
    let leader = ring.leader().unwrap();
    leader.operate(&Command::SetVoters { voters }).unwrap();
    leader.propose(&|_| true);
    // The others have got the change, and are not told any more that it is decided.
    let (cfg, messages) = leader.take_messages();
    for (to, msg) in messages {
        ring.members.get_mut(&to).unwrap().receive(MemberId(1), cfg, &msg);
    }
    ring.cut_off.push(MemberId(1));
    for mid in [2, 3].map(MemberId) {
        ring.members.get_mut(&mid).unwrap().lost(MemberId(1));
    }
    ring.tick(5);
    assert!(ring.map().voters_since > since, "the old configuration has ended");
    assert!(ring.leader().is_some(), "and the new one is led");
}

#[test]
fn who_leads_without_a_majority_decides_nothing_and_forgets_it() {
    let mut ring = ring_of(&["a", "b", "c"]);
    let before = ring.map().ver;
    ring.cut_off.push(MemberId(1));
    let old = ring.members.get_mut(&MemberId(1)).unwrap();
    let (_, promised) = old.operate(&Command::Join(info("x"))).unwrap();
    old.propose(&|_| true);
    assert!(promised > before);
    ring.tick(40);
    assert_eq!(ring.map().ver, before);
    assert!(!ring.members[&MemberId(1)].leads(), "it heard of no majority");
    ring.operate(&Command::Join(info("y"))).unwrap();
    ring.cut_off.clear();
    ring.tick(40);
    settle(&mut ring);
    let names: Vec<&str> = ring.map().members.values().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "y"]);
    assert!(ring.members.values().all(|member| member.map().ver == ring.map.ver));
}

#[test]
fn a_name_of_the_dead_is_given_to_its_next_life() {
    let mut ring = ring_of(&["a", "b", "c"]);
    let again = JoinInfo { boot: 9, ..info("c") };
    let leader = ring.leader().unwrap();
    assert!(matches!(leader.admit(&again, |_| true), Err(Rejection::Refused(_))));
    let admitted = leader.admit(&again, |mid| mid != MemberId(3)).unwrap();
    assert_eq!(admitted.0, Applied::Admitted(MemberId(4)));
    settle(&mut ring);
    assert_eq!(ring.map().members.keys().map(|mid| mid.0).collect::<Vec<_>>(), [1, 2, 4]);
    assert!(ring.map().is_settled());
}

#[test]
fn a_long_log_ends_with_the_same_voters() {
    let mut ring = ring_of(&["a", "b", "c"]);
    let (voters, since) = (ring.map().voters.clone(), ring.map().voters_since);
    for _ in 0..GROUP_LOG_ENTRIES_MAX / 8 + 2 {
        ring.operate(&Command::Down { mid: MemberId(3) }).unwrap();
        ring.operate(&Command::Up { mid: MemberId(3) }).unwrap();
    }
    assert!(ring.map().voters_since > since);
    assert_eq!(ring.map().voters, voters);
}

#[test]
fn goals_are_where_the_placement_wants_them() {
    let mut ring = ring_of(&["a", "b"]);
    ring.operate(&Command::Join(info("c"))).unwrap();
    assert_eq!(plan::goals(ring.map()), goals_of(ring.map()));
}

fn goals_of(map: &RingMap) -> Vec<ReplicaSet> {
    map.parts.iter().map(|part| part.goal).collect()
}
