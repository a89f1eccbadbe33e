//! The first layout of a ring that holds nothing yet.
//!
//! All copies lie on one line, member after member, each as long as its quota; the line is cut in
//! `copies` pieces of one length, and the pieces are laid one below the other. A column is a
//! partition. (McNaughton's wrap-around rule, 1959, from machine scheduling.) No member meets
//! itself in a column because no quota is longer than a piece; for the same reason a zone whose
//! members lie side by side does not, as far as its quota allows; and a member meets only those
//! who lie right above and below it. To come to the wanted number of partners, the
//! partitions are dealt to several such tables, which differ in the order of the members.

use super::layout::Layout;
use super::{Candidate, PARTNERS_WANTED};
use crate::base::Rng;

/// Fills the empty layout close to the quotas. Rounding between the tables leaves a few holes
/// and a few members off by one; the exchange that follows repairs them.
pub(super) fn fill(layout: &mut Layout, due: &[usize], members: &[&Candidate]) {
    let partitions = layout.rows.len();
    let tables = table_count(layout.copies, members.len()).min(partitions);
    let stride = coprime_stride(partitions);
    let mut given = vec![0; members.len()];
    for table in 0..tables {
        let start = partitions * table / tables;
        let end = partitions * (table + 1) / tables;
        let until = quota_until(due, members, layout, table + 1, tables);
        let shift = shift_per_piece(end - start, layout.copies, members.len());
        let mut cell = 0;
        for member in order(layout, members, table as u64) {
            let wanted = until[member as usize].saturating_sub(given[member as usize]);
            given[member as usize] += wanted;
            for _ in 0..wanted {
                let piece = cell / (end - start);
                let column = start + (cell + piece * shift) % (end - start);
                // Neighbours on the line should not be neighbours on the ring: keys that are
                // numbered in sequence would all meet the same few members.
                let pid = column * stride % partitions;
                let row = &layout.rows[pid];
                if row.members().len() < layout.copies && !row.contains(member) {
                    layout.add(pid as u32, member);
                }
                cell += 1;
            }
        }
    }
}

/// How far each piece of the line is turned against the one above.
///
/// If the number of copies divides the number of members, equal members lie exactly above each
/// other and are alone together in all their partitions. Should one leave, the others could take
/// none of what it held. So the pieces are turned by a part of a member's length. The few members
/// that then meet themselves leave holes to repair.
fn shift_per_piece(columns: usize, copies: usize, members: usize) -> usize {
    let rest = members % copies;
    if gcd(rest, copies) == 1 {
        return 0;
    }
    (copies + 1 - rest) % copies * columns / members
}

/// A table gives a member up to two partners for each copy beside its own. In a small ring, where
/// few partners are saved, many tables mix the members well instead: whoever leaves then finds
/// takers that do not hold the same partitions already, and nothing has to travel in two hops.
fn table_count(copies: usize, members: usize) -> usize {
    const WELL_MIXED: usize = 64;
    if members <= 3 * PARTNERS_WANTED {
        return WELL_MIXED;
    }
    (PARTNERS_WANTED / (2 * copies.max(2) - 2)).max(1)
}

/// How many copies each member should have in the first `table` of `tables` tables. Rounded along
/// the line and not for each member, so that the zones come out even too.
fn quota_until(
    due: &[usize],
    members: &[&Candidate],
    layout: &Layout,
    table: usize,
    tables: usize,
) -> Vec<usize> {
    let mut until = vec![0; members.len()];
    let mut line = 0;
    for member in order(layout, members, 0) {
        let before = line * table / tables;
        line += due[member as usize];
        until[member as usize] = line * table / tables - before;
    }
    until
}

/// The members zone by zone and host by host, in an order that differs from table to table.
fn order(layout: &Layout, members: &[&Candidate], table: u64) -> Vec<u32> {
    let shuffled = |number: u64| Rng::new(number ^ table << 32).next_u64();
    let mut order: Vec<u32> = (0..members.len() as u32).collect();
    order.sort_by_key(|member| {
        let place = layout.places[*member as usize];
        let mid = members[*member as usize].mid;
        let (zone, host) = (u64::from(place.zone), u64::from(place.host));
        (shuffled(zone), zone, shuffled(host), host, shuffled(mid.0), mid)
    });
    order
}

/// A step near the golden section of `count` that visits every residue once.
fn coprime_stride(count: usize) -> usize {
    let golden = (count as u64 * 618 / 1000).max(1) as usize;
    (golden..).find(|stride| gcd(*stride, count) == 1).unwrap_or(1)
}

fn gcd(mut a: usize, mut b: usize) -> usize {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}
