//! The default placement, step by step: quotas, copies, separation, leads.

use super::layout::Layout;
use super::{Candidate, exchange, primaries, quota, seed, separate};
use crate::base::MemberId;
use crate::ring::map::ReplicaSet;

/// See the module above for the rules. `members` is sorted by id, without weight 0.
pub(super) fn assign(
    partitions: usize,
    copies: usize,
    members: &[&Candidate],
    current: &[ReplicaSet],
) -> Vec<ReplicaSet> {
    let weights: Vec<u32> = members.iter().map(|member| member.weight).collect();
    let mut layout = Layout::new(partitions, copies, members);
    let today = keep_current(&mut layout, members, current);
    let held: Vec<usize> = layout.held.iter().map(Vec::len).collect();
    let due = quota::copies_due(partitions, copies, &weights, &held);
    if held.iter().all(|count| *count == 0) {
        seed::fill(&mut layout, &due, members);
    }
    exchange::settle(&mut layout, &due);
    separate::even_out(&mut layout);
    #[cfg(test)]
    layout.check_invariants();

    let leaders = primaries::choose(&layout, &today, &quota::leads_due(partitions, &weights));
    let rows = layout.rows.iter().zip(leaders);
    rows.map(|(row, leader)| {
        let others = row.members().iter().copied().filter(|member| *member != leader);
        std::iter::once(leader).chain(others).map(|m| members[m as usize].mid).collect()
    })
    .collect()
}

/// Enters today's holders as far as they may stay. The result is today's primaries among them.
fn keep_current(
    layout: &mut Layout,
    members: &[&Candidate],
    current: &[ReplicaSet],
) -> Vec<Option<u32>> {
    let index_of = |mid: MemberId| members.binary_search_by_key(&mid, |member| member.mid).ok();
    let mut today = vec![None; layout.rows.len()];
    for (pid, holders) in current.iter().enumerate().take(layout.rows.len()) {
        today[pid] = holders.first().and_then(index_of).map(|member| member as u32);
        let stay = holders.iter().filter_map(index_of).take(layout.copies);
        for member in stay {
            layout.add_original(pid as u32, member as u32);
        }
    }
    today
}
