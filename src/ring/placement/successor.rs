//! Chord's rule.

use super::Candidate;
use crate::base::PartitionId;
use crate::ring::hash::arc_of;
use crate::ring::map::ReplicaSet;

/// Each partition goes to the first member whose arc is its own or a later one, around the
/// circle; the next members clockwise hold the copies. Equal positions are ordered by member id.
pub(super) fn assign(partitions: u32, copies: usize, members: &[&Candidate]) -> Vec<ReplicaSet> {
    let mut circle: Vec<&Candidate> = members.to_vec();
    circle.sort_unstable_by_key(|c| (c.position, c.mid));
    (0..partitions)
        .map(|index| {
            let pid = PartitionId(index);
            let first = circle.partition_point(|c| arc_of(c.position, partitions) < pid);
            (0..copies).map(|step| circle[(first + step) % circle.len()].mid).collect()
        })
        .collect()
}
