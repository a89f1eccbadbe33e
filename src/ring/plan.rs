//! What a change of the members would move, before anyone makes it.
//!
//! [`goals`] is what the coordinator asks for after every change of the members; [`plan`] asks the
//! same for a change that has not happened and compares the answer with what is there. The
//! figures count from the in-sync copies that exist now, so a plan made while an earlier change is
//! still under way includes what is left of it; with [`Change::None`] that is all it has.

use super::map::{Member, MemberState, ReplicaSet, RingMap};
use super::placement::{Candidate, assign, copies_due};
use crate::base::MemberId;

/// A change of the members that someone considers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new member joins.
    Add {
        /// Its name.
        name: String,
        /// Where it will listen, which says on which host it is.
        addr: String,
        /// Its failure domain, or empty.
        zone: String,
        /// Its share in relation to the others.
        weight: u32,
        /// Its place on the circle.
        position: u64,
    },
    /// A member leaves in good order. Nothing changes if there is no such member.
    Drop(MemberId),
    /// Nothing: what is still under way.
    None,
}

/// What one partition holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionSize {
    /// Number of keys.
    pub keys: u64,
    /// Bytes of keys, values and headers.
    pub bytes: u64,
}

/// What one member holds of the ring.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// Who.
    pub mid: MemberId,
    /// Its name.
    pub name: String,
    /// Its share that is due, in relation to the others.
    pub weight: u32,
    /// Copies of partitions that it holds.
    pub copies: usize,
    /// Partitions that it leads.
    pub primaries: usize,
    /// Its part of all copies, 0 to 1.
    pub share: f64,
}

/// What a change would move.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Copies of partitions that would have to be made.
    pub partitions_moved: usize,
    /// Partitions that another member would lead.
    pub primaries_moved: usize,
    /// Keys in the copies to be made.
    pub keys: u64,
    /// Bytes in the copies to be made.
    pub bytes: u64,
    /// The least bytes that an even load would cost, taking each partition for an average one.
    pub ideal_bytes: u64,
    /// What the members hold now.
    pub shares_before: Vec<Share>,
    /// What they would hold.
    pub shares_after: Vec<Share>,
}

/// The wanted holders of each partition for the members that the map has, wanted primary first.
pub fn goals(map: &RingMap) -> Vec<ReplicaSet> {
    assign(&map.params, &candidates(map), &current(map))
}

/// What `change` would move. `stats` has the size of each partition; a missing one counts as
/// empty.
pub fn plan(map: &RingMap, stats: &[PartitionSize], change: &Change) -> Plan {
    let after = changed(map, change);
    let goals = goals(&after);
    let mut plan = Plan {
        partitions_moved: 0,
        primaries_moved: 0,
        keys: 0,
        bytes: 0,
        ideal_bytes: ideal_bytes(&after, stats),
        shares_before: shares(map),
        shares_after: shares_of(&after, goals.iter().map(|goal| (goal.first(), *goal))),
    };
    for (pid, (part, goal)) in map.parts.iter().zip(&goals).enumerate() {
        let size = stats.get(pid).copied().unwrap_or_default();
        let made = goal.iter().filter(|mid| !part.isr.contains(*mid)).count();
        plan.partitions_moved += made;
        plan.keys += size.keys * made as u64;
        plan.bytes += size.bytes * made as u64;
        plan.primaries_moved += usize::from(goal.first() != Some(part.primary));
    }
    plan
}

/// What each member holds now, in the order of their ids. Members that are declared dead are
/// left out; routers are listed and hold nothing.
pub fn shares(map: &RingMap) -> Vec<Share> {
    shares_of(map, map.parts.iter().map(|part| (Some(part.primary), part.isr)))
}

/// The heaviest load per unit of weight in relation to the mean: 1 is perfectly even, and 0 is
/// the answer if nobody holds anything.
pub fn max_over_mean(shares: &[Share]) -> f64 {
    let weighty = || shares.iter().filter(|share| share.weight > 0);
    let weight: f64 = weighty().map(|share| f64::from(share.weight)).sum();
    let copies: usize = weighty().map(|share| share.copies).sum();
    if copies == 0 {
        return 0.0;
    }
    let loads = weighty().map(|share| share.copies as f64 / f64::from(share.weight));
    loads.fold(0.0, f64::max) / (copies as f64 / weight)
}

fn candidates(map: &RingMap) -> Vec<Candidate> {
    let targets = map.targets().into_iter().filter_map(|mid| Some((mid, map.members.get(&mid)?)));
    targets
        .map(|(mid, member)| Candidate {
            mid,
            weight: member.weight,
            host: member.host().to_owned(),
            zone: member.zone.clone(),
            position: member.position,
        })
        .collect()
}

/// Today's holders as placement sees them: where a partition is on its way to a goal, the goal, so
/// that a second change does not undo the first half-way; else the in-sync copies.
fn current(map: &RingMap) -> Vec<ReplicaSet> {
    let holders = map.parts.iter().map(|part| {
        if part.goal.is_empty() { primary_first(part.primary, part.isr) } else { part.goal }
    });
    holders.collect()
}

fn primary_first(primary: MemberId, isr: ReplicaSet) -> ReplicaSet {
    let primary = isr.contains(primary).then_some(primary);
    primary.into_iter().chain(isr.iter()).collect()
}

/// The map as it would be after the change, with the partitions as they are.
fn changed(map: &RingMap, change: &Change) -> RingMap {
    let mut map = map.clone();
    match change {
        Change::Add { name, addr, zone, weight, position } => {
            let member = Member {
                name: name.clone(),
                addr: addr.clone(),
                zone: zone.clone(),
                weight: *weight,
                position: *position,
                boot: 0,
                durable: false,
                state: MemberState::Up,
            };
            map.members.insert(map.next_mid, member);
        }
        Change::Drop(mid) => match map.members.get_mut(mid) {
            // It has left in all but name: it is not among those before, so not among those after.
            Some(member) if member.is_dead() => drop(map.members.remove(mid)),
            Some(member) => member.state = MemberState::Leaving,
            None => {}
        },
        Change::None => {}
    }
    map
}

fn shares_of(
    map: &RingMap,
    parts: impl Iterator<Item = (Option<MemberId>, ReplicaSet)>,
) -> Vec<Share> {
    let alive = map.members.iter().filter(|(_, member)| !member.is_dead());
    let mut shares: Vec<Share> = alive
        .map(|(mid, member)| Share {
            mid: *mid,
            name: member.name.clone(),
            weight: member.weight,
            copies: 0,
            primaries: 0,
            share: 0.0,
        })
        .collect();
    let mut total = 0;
    for (primary, holders) in parts {
        for mid in holders.iter() {
            total += 1;
            if let Ok(at) = shares.binary_search_by_key(&mid, |share| share.mid) {
                shares[at].copies += 1;
                shares[at].primaries += usize::from(primary == Some(mid));
            }
        }
    }
    for share in &mut shares {
        share.share = share.copies as f64 / f64::max(f64::from(total), 1.0);
    }
    shares
}

/// Every target must at least be given what its quota lacks.
fn ideal_bytes(map: &RingMap, stats: &[PartitionSize]) -> u64 {
    let candidates = candidates(map);
    let mut held = vec![0; candidates.len()];
    for mid in map.parts.iter().flat_map(|part| part.isr.iter()) {
        if let Ok(at) = candidates.binary_search_by_key(&mid, |candidate| candidate.mid) {
            held[at] += 1;
        }
    }
    let due = copies_due(&map.params, &candidates, &held);
    let lacking = due.iter().zip(&held).map(|(due, held)| due.saturating_sub(*held) as u128);
    let total: u128 = stats.iter().map(|size| u128::from(size.bytes)).sum();
    (lacking.sum::<u128>() * total / map.parts.len().max(1) as u128) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Cfg, ClusterId, Ver};
    use crate::ring::map::{Params, Part};

    /// A settled ring of `count` members, each on its own host.
    fn ring(count: u64) -> RingMap {
        let member = |mid: u64| Member {
            name: format!("n{mid}"),
            addr: format!("h{mid}:4000"),
            zone: String::new(),
            weight: 1,
            position: mid << 56,
            boot: 0,
            durable: false,
            state: MemberState::Up,
        };
        let params = Params { partitions: 1024, ..Params::default() };
        let mut map = RingMap {
            cluster: ClusterId(1),
            generation: 0,
            ver: Ver(1),
            epoch: Ver(1),
            params,
            required: 1,
            next_mid: MemberId(count + 1),
            members: (1..=count).map(|mid| (MemberId(mid), member(mid))).collect(),
            parts: vec![Part::default(); 1024],
            voters: Vec::new(),
            voters_since: Ver::ZERO,
        };
        for (pid, goal) in goals(&map).into_iter().enumerate() {
            let primary = goal.first().expect("the ring has members");
            let part = &mut map.parts[pid];
            (part.cfg, part.primary, part.isr, part.goal) = (Cfg(1), primary, goal, goal);
        }
        map
    }

    const STATS: [PartitionSize; 1024] = [PartitionSize { keys: 10, bytes: 1000 }; 1024];

    fn add(name: &str) -> Change {
        let (name, addr) = (name.to_owned(), format!("{name}:4000"));
        Change::Add { name, addr, zone: String::new(), weight: 1, position: 7 }
    }

    #[test]
    fn nothing_moves_in_a_settled_ring() {
        let map = ring(5);
        let plan = plan(&map, &STATS, &Change::None);
        assert_eq!((plan.partitions_moved, plan.primaries_moved), (0, 0));
        assert_eq!((plan.keys, plan.bytes, plan.ideal_bytes), (0, 0, 0));
        assert_eq!(plan.shares_before, plan.shares_after);
        assert!(max_over_mean(&plan.shares_after) < 1.01);
    }

    #[test]
    fn whoever_leaves_holds_on_while_there_is_nobody_else() {
        let mut map = ring(3);
        let mut set = |mid, state| map.members.get_mut(&MemberId(mid)).expect("one").state = state;
        set(1, MemberState::Leaving);
        set(2, MemberState::Away);
        set(3, MemberState::Leaving);
        let last = goals(&map);
        assert!(last.iter().all(|goal| goal.len() == 2 && !goal.contains(MemberId(2))));
        map.members.get_mut(&MemberId(2)).expect("one").state = MemberState::Up;
        assert!(goals(&map).iter().all(|goal| goal.as_slice() == [MemberId(2)]));
    }

    #[test]
    fn an_add_moves_one_share() {
        let plan = plan(&ring(5), &STATS, &add("new"));
        let new = plan.shares_after.last().expect("the newcomer is listed");
        assert_eq!((new.mid, new.name.as_str(), new.copies), (MemberId(6), "new", 512));
        assert_eq!(plan.partitions_moved, 512);
        assert_eq!((plan.keys, plan.bytes, plan.ideal_bytes), (5120, 512_000, 512_000));
        assert!((170..=171).contains(&new.primaries) && plan.primaries_moved >= new.primaries);
        assert_eq!(plan.shares_before.len(), 5);
        assert!((plan.shares_after.iter().map(|s| s.share).sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_drop_moves_what_the_member_had() {
        let map = ring(6);
        let plan = plan(&map, &STATS, &Change::Drop(MemberId(2)));
        assert_eq!(plan.shares_before[1].copies, 512);
        assert_eq!((plan.shares_after[1].copies, plan.shares_after[1].primaries), (0, 0));
        assert_eq!((plan.partitions_moved, plan.bytes), (512, plan.ideal_bytes));
        assert_eq!(plan.bytes, 512_000);
        let unknown = super::plan(&map, &STATS, &Change::Drop(MemberId(99)));
        assert_eq!(unknown.partitions_moved, 0);
    }

    #[test]
    fn a_drop_of_the_dead_makes_its_copies_anew_elsewhere() {
        let mut map = ring(6);
        map.members.get_mut(&MemberId(2)).expect("a member").state = MemberState::Down;
        let held = map.parts.iter().filter(|part| part.isr.contains(MemberId(2))).count();
        for part in &mut map.parts {
            part.isr.remove(MemberId(2));
            part.primary = part.isr.first().expect("two others have it");
        }
        let plan = plan(&map, &STATS, &Change::Drop(MemberId(2)));
        let names = |shares: &[Share]| shares.iter().map(|s| s.mid.0).collect::<Vec<_>>();
        assert_eq!(names(&plan.shares_before), [1, 3, 4, 5, 6]);
        assert_eq!(names(&plan.shares_after), [1, 3, 4, 5, 6]);
        assert_eq!((plan.partitions_moved, plan.bytes), (held, held as u64 * 1000));
        assert!(max_over_mean(&plan.shares_after) < 1.01);
    }

    #[test]
    fn a_change_under_way_is_counted_to_its_end() {
        let mut map = ring(2);
        assert!(map.parts.iter().all(|part| part.goal.len() == 2));
        map = changed(&map, &add("third"));
        let goals = goals(&map);
        assert!(goals.iter().all(|goal| goal.len() == 3));
        for (part, goal) in map.parts.iter_mut().zip(goals) {
            part.goal = goal;
        }
        let plan = plan(&map, &STATS, &Change::None);
        assert_eq!((plan.partitions_moved, plan.bytes), (1024, plan.ideal_bytes));
    }

    #[test]
    fn the_in_sync_copies_count_where_no_goal_is_set() {
        let mut map = ring(4);
        let wanted: Vec<ReplicaSet> = map.parts.iter().map(|part| part.goal).collect();
        for part in &mut map.parts {
            part.goal = ReplicaSet::new();
        }
        assert_eq!(goals(&map), wanted);
    }

    #[test]
    fn an_empty_map_has_an_even_load_of_nothing() {
        let mut map = ring(1);
        map.members.clear();
        assert_eq!(max_over_mean(&shares(&map)), 0.0);
        assert!(goals(&map).iter().all(ReplicaSet::is_empty));
        assert_eq!(plan(&map, &[], &Change::None).ideal_bytes, 0);
    }
}
