//! Deltas of the map. Here and not in `ring`, because the generator of maps is here.

use proptest::prelude::*;

use super::messages::{ring_map, successive_maps};
use crate::base::{Cfg, ClusterId, LearnerId, MemberId, PartitionId, Ver};
use crate::ring::{MapDelta, Part, ReplicaSet, RingMap};

proptest! {
    #[test]
    fn what_lies_between_two_maps_leads_from_one_to_the_other((old, new) in successive_maps()) {
        let delta = MapDelta::between(&old, &new);
        prop_assert_eq!(delta.apply(&old), Some(new.clone()));
        // Applied a second time, or to anything else of this ring, it does nothing.
        prop_assert_eq!(delta.apply(&new), None);
        let unchanged = |(at, part): &(PartitionId, Part)| old.part(*at) == Some(part);
        prop_assert!(!delta.parts.iter().any(unchanged), "only changed rows travel");
    }

    #[test]
    fn a_delta_of_another_ring_or_version_is_refused(
        (old, new) in successive_maps(),
        other in 1u64..,
    ) {
        let delta = MapDelta::between(&old, &new);
        let cluster = ClusterId(old.cluster.0 ^ u128::from(other));
        prop_assert_eq!(delta.apply(&RingMap { cluster, ..old.clone() }), None);
        let generation = old.generation ^ (other as u32).max(1);
        prop_assert_eq!(delta.apply(&RingMap { generation, ..old.clone() }), None);
        let ver = Ver(old.ver.0 ^ other);
        prop_assert_eq!(delta.apply(&RingMap { ver, ..old.clone() }), None);
    }

    #[test]
    fn hostile_deltas_are_refused((old, new) in successive_maps(), lie in 0usize..LIES.len()) {
        let mut delta = MapDelta::between(&old, &new);
        // Whatever the delta changes, it also says this of the first partition.
        if delta.parts.first().is_none_or(|(pid, _)| pid.0 != 0) {
            delta.parts.insert(0, (PartitionId(0), old.parts[0].clone()));
        }
        prop_assert!(delta.apply(&old).is_some(), "sound before the lie");
        (LIES[lie])(&mut delta, &old);
        prop_assert_eq!(delta.apply(&old), None, "lie {}", lie);
    }

    #[test]
    fn a_map_never_leads_to_itself(map in ring_map()) {
        prop_assert_eq!(MapDelta::between(&map, &map).apply(&map), None);
    }
}

/// What a hostile or broken coordinator may say about partition 0 or the ring.
const LIES: [fn(&mut MapDelta, &RingMap); 13] = [
    |delta, map| delta.parts.push((PartitionId(map.parts.len() as u32), delta.parts[0].1.clone())),
    |delta, _| delta.parts.push((PartitionId(u32::MAX), delta.parts[0].1.clone())),
    |delta, _| delta.parts[0].1.isr = ReplicaSet::new(),
    |delta, _| delta.parts[0].1.primary = MemberId(77),
    |delta, _| {
        let primary = delta.parts[0].1.primary;
        delta.parts[0].1.learners.push((primary, LearnerId(1)));
    },
    |delta, _| {
        let crowd = (100..110).map(|mid| (MemberId(mid), LearnerId(1)));
        delta.parts[0].1.learners.extend(crowd);
    },
    |delta, _| delta.parts[0].1.goal = (1..=8).map(MemberId).collect(),
    |delta, _| delta.parts[0].1.cfg = Cfg(delta.epoch.0 + 1),
    |delta, _| delta.epoch = Ver(delta.ver.0 + 1),
    |delta, _| delta.ver = delta.from,
    |delta, map| delta.epoch = Ver(map.epoch.0 - 1),
    |delta, map| delta.next_mid = MemberId(map.next_mid.0 - 1),
    |delta, _| delta.cluster = ClusterId::default(),
];

#[test]
fn what_only_grows_is_never_turned_back() {
    let part = |cfg, resets| Part {
        cfg: Cfg(cfg),
        primary: MemberId(1),
        isr: [MemberId(1)].into_iter().collect(),
        resets,
        ..Part::default()
    };
    let map = |ver, part| RingMap {
        cluster: ClusterId(1),
        generation: 0,
        ver: Ver(ver),
        epoch: Ver(9),
        params: crate::ring::Params { partitions: 1, ..Default::default() },
        required: 1,
        next_mid: MemberId(2),
        members: Default::default(),
        parts: vec![part],
        voters: Vec::new(),
        voters_since: Ver::ZERO,
    };
    let old = map(9, part(9, 3));
    let lower_cfg = map(10, part(8, 3));
    assert_eq!(MapDelta::between(&old, &lower_cfg).apply(&old), None);
    let fewer_resets = map(10, part(9, 2));
    assert_eq!(MapDelta::between(&old, &fewer_resets).apply(&old), None);
    let both_grow = map(10, part(9, 4));
    assert_eq!(MapDelta::between(&old, &both_grow).apply(&old), Some(both_grow));
}
