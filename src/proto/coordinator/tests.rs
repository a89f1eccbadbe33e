use super::*;
use crate::base::LearnerId;
use crate::ring::plan;

fn info(name: &str) -> JoinInfo {
    JoinInfo { name: name.into(), addr: format!("{name}:1"), weight: 1, ..JoinInfo::default() }
}

fn params() -> Params {
    Params { partitions: 16, ..Params::default() }
}

fn ring_of(names: &[&str]) -> Coordinator {
    let mut coordinator = Coordinator::create(ClusterId(7), params(), info(names[0]));
    for name in &names[1..] {
        coordinator.operate(&Command::Join(info(name))).unwrap();
        settle(&mut coordinator);
    }
    coordinator
}

/// Plays the primaries: every partition is moved to its goal, one command at a time.
fn settle(coordinator: &mut Coordinator) {
    for _ in 0..10_000 {
        coordinator.plan(&|_| true);
        coordinator.map().check_invariants().unwrap();
        let Some((from, command)) = next_command(coordinator.map()) else { return };
        coordinator.submit(from, &command).unwrap();
    }
    panic!("the ring does not settle: {:?}", coordinator.map().parts[0]);
}

fn next_command(map: &RingMap) -> Option<(MemberId, Command)> {
    map.parts.iter().enumerate().find_map(|(at, part)| {
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
        ring.plan(&|_| true);
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
    ring.apply(None, &Command::Down { mid: MemberId(2) }).unwrap();
    assert!(ring.map().parts[0].cfg > cfg);
    assert!(ring.map().parts.iter().all(|p| !p.isr.contains(MemberId(2)) && p.isr.len() == 2));
    ring.apply(None, &Command::Down { mid: MemberId(3) }).unwrap();
    assert!(ring.map().parts.iter().all(|p| p.isr.as_slice() == [MemberId(1)]));
    assert!(ring.map().parts.iter().all(|p| p.primary == MemberId(1)));
    ring.apply(None, &Command::Down { mid: MemberId(1) }).unwrap();
    assert!(ring.map().parts.iter().all(|p| p.state == PartState::Stalled && p.isr.len() == 1));
    ring.apply(None, &Command::Gone { mid: MemberId(1) }).unwrap();
    assert!(ring.map().parts.iter().all(|p| p.state == PartState::Lost && p.isr.len() == 1));
    ring.map().check_invariants().unwrap();
}

#[test]
fn only_a_lost_partition_can_be_reset() {
    let mut ring = ring_of(&["a", "b"]);
    let reset = Command::Reset { pid: PartitionId(3) };
    assert!(matches!(ring.operate(&reset), Err(Rejection::Refused(_))));
}

#[test]
fn dropping_the_coordinators_node_moves_the_coordinator_first() {
    let mut ring = ring_of(&["a", "b", "c"]);
    ring.operate(&Command::Leave { mid: MemberId(1) }).unwrap();
    ring.plan(&|_| true);
    assert_eq!(ring.map().voters, [MemberId(2)]);
    assert!(!ring.is_active());
    assert_eq!(ring.operate(&Command::Leave { mid: MemberId(2) }), Err(Rejection::Stale));
    let mut heir = Coordinator::resume(MemberId(2), ring.map().clone());
    settle(&mut heir);
    assert_eq!(heir.map().members.len(), 2);
    assert!(heir.map().is_settled());
}

#[test]
fn deltas_lead_from_map_to_map() {
    let mut ring = ring_of(&["a", "b"]);
    ring.take_delta();
    let before = ring.map().clone();
    assert_eq!(ring.take_delta(), None);
    ring.operate(&Command::Join(info("c"))).unwrap();
    ring.plan(&|_| true);
    let delta = ring.take_delta().unwrap();
    assert_eq!(delta.apply(&before).as_ref(), Some(ring.map()));
    assert_eq!(plan::goals(ring.map()), goals_of(ring.map()));
}

fn goals_of(map: &RingMap) -> Vec<ReplicaSet> {
    map.parts.iter().map(|part| part.goal).collect()
}
