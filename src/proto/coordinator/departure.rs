//! What an operator may do to members and partitions, and what is refused with which words.
//!
//! The commands themselves (`machine.rs`) refuse only what would break the ring. An operator is
//! kept from more: a ring was created to have `min_insync` copies of each key at least, and nobody
//! should fall below that, or lose keys, without having said so (`force`).

use crate::base::{MemberId, PartitionId};
use crate::ring::{MemberState, PartState, RingMap};
use crate::wire::{Command, Rejection};

/// The command that drops `mid`. With `force` copies may get fewer than `min_insync`, and a member
/// that is dead, or that `is_silent` to the leader, is forgotten at once with all it had.
pub fn order_to_drop(
    map: &RingMap,
    mid: MemberId,
    force: bool,
    is_silent: bool,
) -> Result<Command, Rejection> {
    let member = map.members.get(&mid).ok_or(Rejection::Stale)?;
    if force && (member.is_dead() || is_silent) {
        return Ok(Command::Gone { mid });
    }
    if force || member.state == MemberState::Leaving {
        return Ok(Command::Leave { mid });
    }
    let refused = |why: String| Err(Rejection::Refused(why));
    let last_copies = only_copies(map, mid);
    if member.is_dead() && last_copies > 0 {
        return refused(format!(
            "{} is dead and has the only copy of {}: start it again, or drop it with force and \
             lose their keys",
            member.name,
            counted(last_copies, "partition"),
        ));
    }
    let heirs = map.members.iter().filter(|(other, m)| **other != mid && m.is_heir()).count();
    let needed = usize::from(map.params.min_insync);
    if member.weight > 0 && heirs == 0 {
        return refused(format!(
            "{} is the last living node that holds data; dropping it would lose every key: add \
             another node first",
            member.name
        ));
    }
    if member.weight > 0 && heirs < needed {
        return refused(format!(
            "the ring asks for {} of each key (min_insync), and without {} only {} would remain: \
             add a node first, or drop it with force",
            counted(needed, "copy"),
            member.name,
            counted(heirs, "living node"),
        ));
    }
    Ok(Command::Leave { mid })
}

/// Those of `pids` that are lost, and may be reset.
pub fn lost_among(map: &RingMap, pids: &[PartitionId]) -> Vec<PartitionId> {
    let is_lost = |pid: &PartitionId| map.part(*pid).is_some_and(|p| p.state == PartState::Lost);
    pids.iter().copied().filter(is_lost).collect()
}

/// Partitions that nobody but `mid` has.
fn only_copies(map: &RingMap, mid: MemberId) -> usize {
    let is_only =
        |part: &&crate::ring::Part| part.state != PartState::Lost && part.isr.as_slice() == [mid];
    map.parts.iter().filter(is_only).count()
}

fn counted(number: usize, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Coordinator;
    use super::*;
    use crate::base::ClusterId;
    use crate::ring::{Params, ReplicaSet};
    use crate::wire::JoinInfo;

    fn info(name: &str) -> JoinInfo {
        JoinInfo { name: name.into(), addr: format!("{name}:1"), weight: 1, ..JoinInfo::default() }
    }

    /// A ring of so many members, every one of which has every partition.
    fn ring(members: u64) -> RingMap {
        let params = Params { partitions: 16, ..Params::default() };
        let mut first = Coordinator::create(ClusterId(7), params, info("n1"));
        for number in 2..=members {
            first.operate(&Command::Join(info(&format!("n{number}")))).expect("a new name");
        }
        let mut map = first.draft().expect("a single voter leads").clone();
        let all: ReplicaSet = (1..=members).map(MemberId).collect();
        map.parts.iter_mut().for_each(|part| part.isr = all);
        map
    }

    fn set(map: &mut RingMap, mid: u64, state: MemberState) {
        map.members.get_mut(&MemberId(mid)).expect("a member").state = state;
    }

    fn sentence(map: &RingMap, mid: u64) -> String {
        match order_to_drop(map, MemberId(mid), false, false) {
            Err(Rejection::Refused(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn fewer_copies_than_were_asked_for_need_force() {
        let mut map = ring(3);
        let leave = Command::Leave { mid: MemberId(2) };
        assert_eq!(order_to_drop(&map, MemberId(2), false, false), Ok(leave.clone()));
        set(&mut map, 3, MemberState::Down);
        let why = sentence(&map, 2);
        assert!(why.contains("2 copies") && why.contains("1 living node would"), "{why}");
        assert!(why.contains("add a node first, or drop it with force"), "{why}");
        assert_eq!(order_to_drop(&map, MemberId(2), true, false), Ok(leave));
        assert_eq!(order_to_drop(&map, MemberId(9), true, false), Err(Rejection::Stale));
    }

    #[test]
    fn members_that_leave_already_do_not_count() {
        let mut map = ring(4);
        set(&mut map, 1, MemberState::Leaving);
        set(&mut map, 2, MemberState::Leaving);
        assert!(sentence(&map, 3).contains("1 living node"));
        let again = order_to_drop(&map, MemberId(2), false, false);
        assert_eq!(again, Ok(Command::Leave { mid: MemberId(2) }));
    }

    #[test]
    fn the_last_node_is_told_what_is_needed() {
        assert!(sentence(&ring(1), 1).contains("last living node that holds data"));
    }

    #[test]
    fn a_router_leaves_whenever_it_likes() {
        let mut map = ring(2);
        map.members.get_mut(&MemberId(2)).expect("a member").weight = 0;
        assert!(order_to_drop(&map, MemberId(2), false, false).is_ok());
    }

    #[test]
    fn the_dead_are_forgotten_by_force_only_if_they_had_the_last_copy() {
        let mut map = ring(4);
        set(&mut map, 4, MemberState::Away);
        let gone = Command::Gone { mid: MemberId(4) };
        map.parts[3].isr = [MemberId(4)].into_iter().collect();
        map.parts[3].state = PartState::Stalled;
        assert!(sentence(&map, 4).contains("the only copy of 1 partition:"));
        assert_eq!(order_to_drop(&map, MemberId(4), true, false), Ok(gone));
        map.parts[3].isr = [MemberId(1)].into_iter().collect();
        let leave = Command::Leave { mid: MemberId(4) };
        assert_eq!(order_to_drop(&map, MemberId(4), false, false), Ok(leave));
        // Silent, but not declared dead yet.
        let silent = order_to_drop(&map, MemberId(3), true, true);
        assert_eq!(silent, Ok(Command::Gone { mid: MemberId(3) }));
    }

    #[test]
    fn only_what_is_lost_is_reset() {
        let mut map = ring(2);
        map.parts[5].state = PartState::Lost;
        let pids = [4, 5, 6, 99].map(PartitionId);
        assert_eq!(lost_among(&map, &pids), [PartitionId(5)]);
    }
}
