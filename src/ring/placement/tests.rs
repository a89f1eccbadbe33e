//! The rules of the module above, as properties.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::base::{PartitionId, Rng};
use crate::ring::hash::arc_of;

fn params(partitions: u32, copies: u8) -> Params {
    Params { partitions, copies, ..Params::default() }
}

fn candidate(mid: u64, weight: u32, host: &str, zone: &str) -> Candidate {
    let position = Rng::new(mid).next_u64();
    Candidate { mid: MemberId(mid), weight, host: host.into(), zone: zone.into(), position }
}

/// `count` members of one weight, each on its own host.
fn plain(count: u64) -> Vec<Candidate> {
    (1..=count).map(|mid| candidate(mid, 1, &format!("h{mid}"), "")).collect()
}

fn held(sets: &[ReplicaSet]) -> BTreeMap<MemberId, usize> {
    let mut held = BTreeMap::new();
    for mid in sets.iter().flat_map(ReplicaSet::iter) {
        *held.entry(mid).or_default() += 1;
    }
    held
}

fn led(sets: &[ReplicaSet]) -> BTreeMap<MemberId, usize> {
    let mut led = BTreeMap::new();
    for mid in sets.iter().filter_map(ReplicaSet::first) {
        *led.entry(mid).or_default() += 1;
    }
    led
}

fn moved(before: &[ReplicaSet], after: &[ReplicaSet]) -> usize {
    let rows = before.iter().zip(after);
    rows.map(|(old, new)| new.iter().filter(|mid| !old.contains(*mid)).count()).sum()
}

/// The least number of copies that can move so that each member holds `after` of them.
fn ideal(before: &BTreeMap<MemberId, usize>, after: &BTreeMap<MemberId, usize>) -> usize {
    after.iter().map(|(mid, count)| count.saturating_sub(*before.get(mid).unwrap_or(&0))).sum()
}

/// With how many others each member shares a partition.
fn partners(sets: &[ReplicaSet]) -> Vec<usize> {
    let mut partners: BTreeMap<MemberId, BTreeSet<MemberId>> = BTreeMap::new();
    for set in sets {
        for mid in set.iter() {
            partners.entry(mid).or_default().extend(set.iter().filter(|other| *other != mid));
        }
    }
    partners.values().map(BTreeSet::len).collect()
}

/// Sizes, distinctness, quotas of copies and of leads.
fn check_shares(params: &Params, members: &[Candidate], sets: &[ReplicaSet]) {
    let members: Vec<&Candidate> = members.iter().filter(|c| c.weight > 0).collect();
    let copies = members.len().min(usize::from(params.copies));
    assert_eq!(sets.len(), params.partitions as usize);
    for set in sets {
        assert_eq!(set.len(), copies, "sizes");
        assert!(set.iter().all(|mid| members.iter().any(|c| c.mid == mid)), "only candidates");
    }
    let (held, led) = (held(sets), led(sets));
    let partitions = f64::from(params.partitions);
    let weight: f64 = members.iter().map(|c| f64::from(c.weight)).sum();
    for (member, share) in members.iter().zip(naive_shares(partitions, copies, &members)) {
        let held = *held.get(&member.mid).unwrap_or(&0) as f64;
        assert!((held - share).abs() < 1.0 - 1e-9, "{} holds {held}, due {share}", member.mid);
        let led = *led.get(&member.mid).unwrap_or(&0) as f64;
        let share = partitions * f64::from(member.weight) / weight;
        assert!((led - share).abs() < 1.0 - 1e-9, "{} leads {led}, due {share}", member.mid);
    }
}

/// Shares of the copies with the cap of one copy of each partition, by repeated spreading.
fn naive_shares(partitions: f64, copies: usize, members: &[&Candidate]) -> Vec<f64> {
    let mut capped = vec![false; members.len()];
    loop {
        let full = capped.iter().filter(|c| **c).count() as f64;
        let open = members.iter().zip(&capped).filter(|(_, capped)| !**capped);
        let weight: f64 = open.map(|(c, _)| f64::from(c.weight)).sum();
        let total = partitions * (copies as f64 - full);
        let share = |at: usize| total * f64::from(members[at].weight) / weight;
        let over = (0..members.len()).find(|at| !capped[*at] && share(*at) > partitions + 1e-9);
        let Some(over) = over else {
            return (0..members.len())
                .map(|at| if capped[at] { partitions } else { share(at) })
                .collect();
        };
        capped[over] = true;
    }
}

/// Every zone has its share of each partition rounded down or up, and so has every host of it.
fn check_separation(members: &[Candidate], sets: &[ReplicaSet]) {
    let zone = |c: &Candidate| {
        (c.zone.is_empty(), if c.zone.is_empty() { &c.host } else { &c.zone }.clone())
    };
    let mut domains: BTreeMap<_, BTreeSet<MemberId>> = BTreeMap::new();
    for member in members {
        domains.entry((zone(member), None)).or_default().insert(member.mid);
        domains.entry((zone(member), Some(member.host.clone()))).or_default().insert(member.mid);
    }
    for (domain, mids) in domains {
        let counts = sets.iter().map(|set| set.iter().filter(|mid| mids.contains(mid)).count());
        let (least, most) = counts.fold((usize::MAX, 0), |(l, m), c| (l.min(c), m.max(c)));
        assert!(most <= least + 1, "{domain:?} has {least} to {most} copies of a partition");
    }
}

fn check_stable(params: &Params, members: &[Candidate], sets: &[ReplicaSet]) {
    assert_eq!(assign(params, members, sets), sets, "a second time nothing changes");
}

fn check_all(params: &Params, members: &[Candidate], sets: &[ReplicaSet]) {
    check_shares(params, members, sets);
    check_separation(members, sets);
    check_stable(params, members, sets);
}

#[test]
fn nobody_holds_an_empty_ring() {
    let sets = assign(&params(8, 3), &[candidate(1, 0, "a", "")], &[]);
    assert_eq!(sets, vec![ReplicaSet::new(); 8]);
    assert_eq!(assign(&params(8, 3), &[], &[]), sets);
}

#[test]
fn a_ring_that_grows_and_shrinks_moves_the_least() {
    let params = params(1024, 3);
    let mut sets = Vec::new();
    for count in (1..=24).chain((1..24).rev()) {
        let members = plain(count);
        let next = assign(&params, &members, &sets);
        check_all(&params, &members, &next);
        if count > 1 || !sets.is_empty() {
            assert_eq!(moved(&sets, &next), ideal(&held(&sets), &held(&next)), "{count} members");
        }
        sets = next;
    }
}

#[test]
fn members_leave_the_middle_and_weights_change() {
    let params = params(4096, 3);
    let mut members = plain(30);
    let first = assign(&params, &members, &[]);
    check_all(&params, &members, &first);
    members.retain(|c| c.mid.0 % 10 != 3);
    let second = assign(&params, &members, &first);
    check_all(&params, &members, &second);
    assert_eq!(moved(&first, &second), ideal(&held(&first), &held(&second)));
    let mut sets = second;
    for (at, weight) in [(4, 3), (9, 0), (4, 2), (9, 1), (7, 40)] {
        members[at].weight = weight;
        let next = assign(&params, &members, &sets);
        check_all(&params, &with_weight(&members), &next);
        assert_eq!(moved(&sets, &next), ideal(&held(&sets), &held(&next)), "{at} to {weight}");
        sets = next;
    }
}

#[test]
fn three_zones_stay_apart_while_members_come_and_go() {
    let params = params(1024, 3);
    let member = |mid: u64| candidate(mid, 1, &format!("h{}", mid / 6), &format!("z{}", mid % 3));
    let mut members: Vec<Candidate> = (1..=12).map(member).collect();
    let mut sets = assign(&params, &members, &[]);
    check_all(&params, &members, &sets);
    let apart = |sets: &[ReplicaSet]| {
        sets.iter().all(|set| set.iter().map(|mid| mid.0 % 3).collect::<BTreeSet<_>>().len() == 3)
    };
    assert!(apart(&sets));
    for mid in 13..=18 {
        // Zones of different weight force some partitions to have two copies in one; to part them
        // again costs more than the ideal.
        members.push(member(mid));
        let next = assign(&params, &members, &sets);
        check_all(&params, &members, &next);
        assert_eq!(apart(&next), mid % 3 == 0, "apart exactly when the zones weigh the same");
        let ideal = ideal(&held(&sets), &held(&next));
        assert!(
            moved(&sets, &next) as f64 <= ideal as f64 * 1.5,
            "{mid}: {} of {ideal}",
            moved(&sets, &next)
        );
        sets = next;
    }
}

#[test]
fn copies_spread_when_a_second_host_appears() {
    let params = params(256, 2);
    let mut members: Vec<Candidate> = (1..=2).map(|mid| candidate(mid, 1, "a", "")).collect();
    let sets = assign(&params, &members, &[]);
    members.extend((3..=4).map(|mid| candidate(mid, 1, "b", "")));
    let next = assign(&params, &members, &sets);
    check_all(&params, &members, &next);
    assert!(next.iter().all(|set| set.iter().filter(|mid| mid.0 <= 2).count() == 1));
    assert_eq!(moved(&sets, &next), 256);
}

#[test]
fn loads_differ_by_one_up_to_a_hundred_members() {
    for count in [10, 37, 100] {
        let members = plain(count);
        let sets = assign(&params(4096, 3), &members, &[]);
        check_all(&params(4096, 3), &members, &sets);
        let most = held(&sets).into_values().max().expect("members hold copies");
        assert!(most as f64 <= 1.01 * 4096.0 * 3.0 / count as f64);
    }
}

#[test]
fn a_fresh_ring_has_few_partners() {
    for (count, copies) in [(25, 3), (100, 3), (100, 2), (100, 5)] {
        let sets = assign(&params(4096, copies), &plain(count), &[]);
        let partners = partners(&sets);
        let mean = partners.iter().sum::<usize>() as f64 / partners.len() as f64;
        let most = partners.iter().max();
        assert!(mean <= 9.0 && most <= Some(&12), "{count} {copies}: mean {mean}, most {most:?}");
    }
}

#[test]
fn successors_are_those_of_p2p() {
    // Peers of the legacy p2p program: identity is position, 256 places.
    let params = Params { placement: PlacementKind::Successor, ..params(256, 3) };
    let members: Vec<Candidate> = [2, 4, 5, 8, 9, 14, 19]
        .map(|mid| Candidate { position: mid << 56, ..candidate(mid, 1, "h", "") })
        .into();
    let sets = assign(&params, &members, &[]);
    assert_eq!(sets[7].as_slice(), [8, 9, 14].map(MemberId));
    assert_eq!(sets[19].as_slice(), [19, 2, 4].map(MemberId));
    assert_eq!(sets[220].as_slice(), [2, 4, 5].map(MemberId));
}

prop_compose! {
    fn any_members(max: u64)(
        members in proptest::collection::vec((0u32..6, 0u8..6, 0u8..4), 1..max as usize),
    ) -> Vec<Candidate> {
        let members = members.into_iter().enumerate();
        members.map(|(at, (weight, host, zone))| {
            let zone = if zone == 0 { String::new() } else { format!("z{zone}") };
            candidate(at as u64 + 1, weight, &format!("h{host}"), &zone)
        }).collect()
    }
}

fn with_weight(members: &[Candidate]) -> Vec<Candidate> {
    members.iter().filter(|c| c.weight > 0).cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_ring_changes_into_any_other(
        before in any_members(14), after in any_members(14), log in 0u32..9, copies in 1u8..8,
    ) {
        let params = params(1 << log, copies);
        let sets = assign(&params, &before, &[]);
        check_separation(&with_weight(&before), &sets);
        check_stable(&params, &before, &sets);
        let next = assign(&params, &after, &sets);
        check_separation(&with_weight(&after), &next);
        check_stable(&params, &after, &next);
        if log >= 5 && !with_weight(&before).is_empty() {
            check_shares(&params, &before, &sets);
            check_shares(&params, &after, &next);
        }
    }

    #[test]
    fn an_add_moves_only_what_the_newcomer_gets(
        weights in proptest::collection::vec(1u32..4, 2..20), weight in 1u32..6, copies in 1u8..5,
    ) {
        let params = params(1024, copies);
        let mut members = plain(weights.len() as u64);
        for (member, weight) in members.iter_mut().zip(weights) {
            member.weight = weight;
        }
        let sets = assign(&params, &members, &[]);
        members.push(candidate(99, weight, "new", ""));
        let next = assign(&params, &members, &sets);
        check_shares(&params, &members, &next);
        prop_assert_eq!(moved(&sets, &next), ideal(&held(&sets), &held(&next)));
    }

    #[test]
    fn one_change_moves_at_most_a_twentieth_more_than_ideal(
        count in 2u64..40, at: prop::sample::Index, weight in 0u32..4, copies in 1u8..5,
    ) {
        let params = params(1024, copies);
        let mut members = plain(count);
        let sets = assign(&params, &members, &[]);
        let index = at.index(members.len());
        members[index].weight = weight;
        let next = assign(&params, &members, &sets);
        check_shares(&params, &members, &next);
        let (moved, ideal) = (moved(&sets, &next), ideal(&held(&sets), &held(&next)));
        prop_assert!(moved as f64 <= ideal as f64 * 1.05, "moved {moved}, ideal {ideal}");
    }

    #[test]
    fn successor_follows_its_naive_definition(
        positions in proptest::collection::vec(any::<u64>(), 1..12), log in 0u32..9,
        copies in 1u8..8,
    ) {
        let params = Params { placement: PlacementKind::Successor, ..params(1 << log, copies) };
        let mut members = plain(positions.len() as u64);
        for (member, position) in members.iter_mut().zip(positions) {
            member.position = position;
        }
        for (index, set) in assign(&params, &members, &[]).into_iter().enumerate() {
            let pid = PartitionId(index as u32);
            let mut circle: Vec<(bool, u64, MemberId)> = members.iter()
                .map(|c| {
                    let passed = arc_of(c.position, params.partitions) < pid;
                    (passed, c.position, c.mid)
                })
                .collect();
            circle.sort_unstable();
            let wanted: Vec<MemberId> =
                circle.iter().map(|(_, _, mid)| *mid).take(usize::from(copies)).collect();
            prop_assert_eq!(set.as_slice(), wanted);
        }
    }
}
