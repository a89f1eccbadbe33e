//! Who should hold which partition.
//!
//! [`assign`] is a pure function from today's holders and the members that may hold copies to the
//! wanted holders of each partition. Everyone who computes it from the same map gets the same
//! answer: there is no randomness, float or hash-map order in it.
//!
//! `Balanced`, the default, keeps these rules, the earlier ones first:
//! - A partition has as many holders as the ring has copies, or as there are members.
//! - A member holds its share of all copies by weight, rounded down or up, and never a partition
//!   twice. What a heavy member cannot take for that reason is spread over the others.
//! - Each zone, and within it each host, has its share of a partition's copies rounded down or
//!   up: so two copies share a zone or a host only where the quotas leave no other way. A member
//!   without a zone is in a zone of its host. Two zones count as two places even on one host, so a
//!   host that appears in several zones is kept apart within each of them only.
//! - Nothing moves that need not. Where separation is no issue, exactly the copies move that the
//!   quotas demand, unless a partition's holders already include everyone who lacks copies: then
//!   one travels in two hops, which takes few partitions or a very heavy member (or, rarely, two
//!   members that share most of what they hold; the tests allow a twentieth more for it).
//! - Each member leads its share of partitions by weight, rounded down or up. Which holder leads
//!   is chosen last and costs no data.
//! - A member shares partitions with few others: `PARTNERS_WANTED` where that is free.
//!
//! Separation costs movement in one common case: as many zones as copies, and one node added at a
//! time. While the zones differ in weight, some partitions have two copies in one zone, and to
//! part them again moves more than the quotas alone demand: up to 1.35 times as much was measured
//! with 3 zones, 3 copies and 12 to 102 members. Adding one node to each zone in turn costs that;
//! a drop, or an add to zones of equal weight, does not.
//!
//! The last rule is a preference, and a weak one once a ring grows node by node. Up to 24 members
//! it is not even tried, because a member whose few partners hold all that it holds could not
//! leave without copies travelling in two hops. A larger ring that is created at its full size
//! keeps it: 8 partners at 100 members and 3 copies. But when a member comes or goes, exact quotas
//! make every other member give or take a copy, and minimal movement forbids to shuffle others for
//! neatness. So a newcomer gets some 56 partners at 100 members (the others keep 8 or 9), and a
//! ring grown from 1 to 100 one by one has 30 on average.
//!
//! `Successor` is Chord's rule and a pure function of the positions. It knows neither weights
//! (except 0) nor hosts, and its load is as uneven as the positions are.

mod balanced;
mod exchange;
mod layout;
mod primaries;
mod quota;
mod seed;
mod separate;
mod successor;
#[cfg(test)]
mod tests;

use super::map::{Params, PlacementKind, ReplicaSet};
use crate::base::MemberId;
use crate::base::limits::COPIES_MAX;

/// With how many others a member should share partitions. Enough to rebuild a lost member from
/// many sources, few enough that three crashes at once seldom hit all copies of anything.
pub const PARTNERS_WANTED: usize = 8;

/// A member that may be given copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub mid: MemberId,
    /// Its share in relation to the others; with 0 it is given nothing.
    pub weight: u32,
    /// Copies avoid sharing a host.
    pub host: String,
    /// Copies avoid sharing a zone; empty if none was given.
    pub zone: String,
    /// Its place on the circle.
    pub position: u64,
}

/// The wanted holders of each partition, the wanted primary first.
///
/// `current` has today's holders by partition, primary first; what it lacks counts as not held.
/// Holders that are no candidates are replaced. Deterministic, and stable: applied to its own
/// result it changes nothing.
pub fn assign(
    params: &Params,
    candidates: &[Candidate],
    current: &[ReplicaSet],
) -> Vec<ReplicaSet> {
    let members = takers(candidates);
    let partitions = params.partitions as usize;
    let copies = copies_of(params, &members);
    if copies == 0 {
        return vec![ReplicaSet::new(); partitions];
    }
    match params.placement {
        PlacementKind::Balanced => balanced::assign(partitions, copies, &members, current),
        PlacementKind::Successor => successor::assign(params.partitions, copies, &members),
    }
}

/// The copies that an even load gives each candidate, if it holds `held` of them now.
pub fn copies_due(params: &Params, candidates: &[Candidate], held: &[usize]) -> Vec<usize> {
    debug_assert_eq!(candidates.len(), held.len());
    let copies = copies_of(params, &takers(candidates));
    let weights: Vec<u32> = candidates.iter().map(|candidate| candidate.weight).collect();
    quota::copies_due(params.partitions as usize, copies, &weights, held)
}

/// Those who may be given copies, by id.
fn takers(candidates: &[Candidate]) -> Vec<&Candidate> {
    let mut members: Vec<&Candidate> = candidates.iter().filter(|c| c.weight > 0).collect();
    members.sort_unstable_by_key(|candidate| candidate.mid);
    members.dedup_by_key(|candidate| candidate.mid);
    members
}

fn copies_of(params: &Params, members: &[&Candidate]) -> usize {
    usize::from(params.copies).min(COPIES_MAX).min(members.len())
}
