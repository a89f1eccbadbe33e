//! What a change would move.

use super::{ReplicaSet, RingMap};

/// TEMP until the ring branch lands.
pub fn goals(map: &RingMap) -> Vec<ReplicaSet> {
    let targets: Vec<_> =
        map.members.iter().filter(|(_, m)| m.is_target()).map(|(m, _)| *m).collect();
    let copies = usize::from(map.params.copies).min(targets.len());
    (0..map.parts.len())
        .map(|i| (0..copies).map(|c| targets[(i + c) % targets.len()]).collect())
        .collect()
}
