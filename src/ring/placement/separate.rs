//! Spreads the copies of each partition over zones and hosts, without touching the quotas.
//!
//! Two partitions swap one holder each. If one partition has at least two more copies in a zone
//! than another has, then, as both have as many copies, there is a zone of which it has fewer; so
//! there are two holders to swap, and neither zone ends up less even than it was. When no swap is
//! left, every zone has its share of each partition rounded down or up, which is the best that the
//! quotas allow. The same holds for the hosts of a zone once the zones are even.

use super::layout::{Layout, Place};

/// Partitions that are compared before the cheapest partner of a swap is taken.
const COMPARED_MAX: usize = 256;

/// Swaps holders until every zone, and within it every host, is spread evenly.
pub(super) fn even_out(layout: &mut Layout) {
    if !layout.has_neighbours() {
        return;
    }
    for level in [Level::Zone, Level::Host] {
        let domains = layout.places.iter().map(|place| level.of(*place)).max().unwrap_or(0) + 1;
        let mut members = vec![Vec::new(); domains as usize];
        for (member, place) in layout.places.iter().enumerate() {
            members[level.of(*place) as usize].push(member as u32);
        }
        for (domain, members) in members.into_iter().enumerate() {
            even_out_domain(layout, level, domain as u32, &members);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Zone,
    /// Swaps stay within the zone, so that the zones stay even.
    Host,
}

impl Level {
    fn of(self, place: Place) -> u32 {
        match self {
            Level::Zone => place.zone,
            Level::Host => place.host,
        }
    }

    fn may_swap(self, one: Place, other: Place) -> bool {
        match self {
            Level::Zone => one.zone != other.zone,
            Level::Host => one.zone == other.zone && one.host != other.host,
        }
    }
}

/// A holder of one partition and a holder of another that should change places.
#[derive(Clone, Copy)]
struct Swap {
    slot: usize,
    other_pid: u32,
    other_slot: usize,
}

fn even_out_domain(layout: &mut Layout, level: Level, domain: u32, members: &[u32]) {
    let crowded = members.len() > 1
        && members
            .iter()
            .flat_map(|member| &layout.held[*member as usize])
            .any(|pid| count(layout, *pid, level, domain) > 1);
    if !crowded {
        return;
    }
    let mut by_count = vec![Vec::new(); layout.copies + 1];
    for pid in 0..layout.rows.len() as u32 {
        by_count[count(layout, pid, level, domain)].push(pid);
    }
    for pids in &mut by_count {
        // The last ones are taken first: they should be those where a swap moves no data.
        pids.sort_by_key(|pid| has_fresh_copy(layout, *pid));
    }
    loop {
        let most = by_count.iter().rposition(|pids| !pids.is_empty()).unwrap_or(0);
        let least = by_count.iter().position(|pids| !pids.is_empty()).unwrap_or(0);
        if most < least + 2 {
            return;
        }
        let Some(pid) = by_count[most].pop() else { return };
        let swap = best_swap(layout, level, domain, pid, &by_count[least]);
        debug_assert!(swap.is_some(), "an uneven zone or host has a swap");
        let Some((index, swap)) = swap else { return };
        by_count[least].remove(index);
        layout.swap(pid, swap.slot, swap.other_pid, swap.other_slot);
        by_count[most - 1].push(pid);
        by_count[least + 1].push(swap.other_pid);
    }
}

/// How many copies of `pid` are in that zone or on that host.
fn count(layout: &Layout, pid: u32, level: Level, domain: u32) -> usize {
    let members = layout.rows[pid as usize].members().iter();
    members.filter(|m| level.of(layout.places[**m as usize]) == domain).count()
}

fn has_fresh_copy(layout: &Layout, pid: u32) -> bool {
    let row = &layout.rows[pid as usize];
    row.members().iter().any(|member| !layout.had(pid, *member))
}

/// The cheapest swap of a holder of `pid` in `domain` against a holder of one of `others`, with
/// the index of that partition in `others`.
fn best_swap(
    layout: &Layout,
    level: Level,
    domain: u32,
    pid: u32,
    others: &[u32],
) -> Option<(usize, Swap)> {
    let mut best: Option<(i64, (usize, Swap))> = None;
    for (index, other_pid) in others.iter().copied().enumerate().rev() {
        if others.len() - index > COMPARED_MAX && best.is_some() {
            break;
        }
        for swap in swaps(layout, level, domain, pid, other_pid) {
            let cost = swap_cost(layout, pid, swap);
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, (index, swap)));
            }
        }
    }
    best.map(|(_, found)| found)
}

/// All swaps between two partitions that make `domain` more even and nothing less even.
fn swaps(layout: &Layout, level: Level, domain: u32, pid: u32, other_pid: u32) -> Vec<Swap> {
    let (row, other_row) = (&layout.rows[pid as usize], &layout.rows[other_pid as usize]);
    let mut swaps = Vec::new();
    for (slot, member) in row.members().iter().copied().enumerate() {
        let place = layout.places[member as usize];
        if level.of(place) != domain || other_row.contains(member) {
            continue;
        }
        for (other_slot, other) in other_row.members().iter().copied().enumerate() {
            let other_place = layout.places[other as usize];
            if row.contains(other) || !level.may_swap(place, other_place) {
                continue;
            }
            let other_domain = level.of(other_place);
            if count(layout, pid, level, other_domain)
                < count(layout, other_pid, level, other_domain)
            {
                swaps.push(Swap { slot, other_pid, other_slot });
            }
        }
    }
    swaps
}

/// First the data that has to move, then what the layout gets worse by.
fn swap_cost(layout: &Layout, pid: u32, swap: Swap) -> i64 {
    let (row, other_row) = (&layout.rows[pid as usize], &layout.rows[swap.other_pid as usize]);
    let (member, other) = (row.members()[swap.slot], other_row.members()[swap.other_slot]);
    let moves = layout.moves(pid, member, other) + layout.moves(swap.other_pid, other, member);
    (moves << 32)
        + layout.cost(pid, Some(swap.slot), other)
        + layout.cost(swap.other_pid, Some(swap.other_slot), member)
}
