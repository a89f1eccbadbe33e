//! Which holder of each partition should lead it.
//!
//! Today's primaries stay where the shares allow. The rest is dealt to the holder with the least
//! to do, and what then is still out of bounds is shifted along shortest paths: a member passes
//! the lead of a partition to another holder of it. That is a flow, so it ends within the bounds
//! wherever the holders allow it. They always do when all weights are alike: then giving each
//! holder its even part of a partition's lead would be within the bounds too.

use std::collections::VecDeque;

use super::layout::Layout;

/// The member that leads each partition. `today` has the holder that leads it now, if any;
/// `bounds` the fewest and the most partitions that each member should lead.
pub(super) fn choose(
    layout: &Layout,
    today: &[Option<u32>],
    bounds: &[(usize, usize)],
) -> Vec<u32> {
    let mut leads = Leads::new(layout, bounds);
    leads.keep(today);
    leads.deal();
    for member in 0..bounds.len() as u32 {
        while leads.led(member) < bounds[member as usize].0 && leads.pull(member) {}
    }
    for member in 0..bounds.len() as u32 {
        while leads.led(member) > bounds[member as usize].1 && leads.push(member) {}
    }
    leads.leader
}

const NOBODY: u32 = u32::MAX;

/// Invariants: `led[m]` lists exactly the partitions whose `leader` is `m`, and `at` is where a
/// partition stands in it; a leader is a holder.
struct Leads<'a> {
    layout: &'a Layout,
    bounds: &'a [(usize, usize)],
    leader: Vec<u32>,
    led: Vec<Vec<u32>>,
    at: Vec<u32>,
}

impl<'a> Leads<'a> {
    fn new(layout: &'a Layout, bounds: &'a [(usize, usize)]) -> Self {
        let partitions = layout.rows.len();
        Self {
            layout,
            bounds,
            leader: vec![NOBODY; partitions],
            led: vec![Vec::new(); bounds.len()],
            at: vec![0; partitions],
        }
    }

    fn led(&self, member: u32) -> usize {
        self.led[member as usize].len()
    }

    /// Keeps today's leaders, each up to its bound.
    fn keep(&mut self, today: &[Option<u32>]) {
        for (pid, leader) in today.iter().enumerate() {
            let Some(leader) = *leader else { continue };
            let holds = self.layout.rows[pid].contains(leader);
            if holds && self.led(leader) < self.bounds[leader as usize].1 {
                self.hand(pid as u32, leader);
            }
        }
    }

    /// Gives each partition without a leader to the holder that leads the least of its share.
    fn deal(&mut self) {
        for pid in 0..self.leader.len() {
            if self.leader[pid] != NOBODY {
                continue;
            }
            let load = |member: u32| {
                let most = self.bounds[member as usize].1.max(1) as u64;
                (((self.led(member) as u64) << 20) / most, member)
            };
            let holders = self.layout.rows[pid].members().iter().copied();
            if let Some(leader) = holders.min_by_key(|member| load(*member)) {
                self.hand(pid as u32, leader);
            }
        }
    }

    /// Makes `member` lead one partition more, at the cost of someone who can spare one. False if
    /// nobody can.
    fn pull(&mut self, member: u32) -> bool {
        // `steps[m]` is the partition that `m` would pass on, and to whom.
        let mut steps = vec![None; self.bounds.len()];
        let mut queue = VecDeque::from([member]);
        while let Some(taker) = queue.pop_front() {
            let held = &self.layout.held[taker as usize];
            // Starts where the last search for this member is likely to have ended.
            let first = self.led(taker) * self.layout.copies % held.len().max(1);
            for pid in held[first..].iter().chain(&held[..first]).copied() {
                let leader = self.leader[pid as usize];
                if leader == member || steps[leader as usize].is_some() {
                    continue;
                }
                steps[leader as usize] = Some((pid, taker));
                if self.led(leader) > self.bounds[leader as usize].0 {
                    self.follow(leader, &steps);
                    return true;
                }
                queue.push_back(leader);
            }
        }
        false
    }

    /// Makes `member` lead one partition less; someone with room takes one. False if nobody can.
    fn push(&mut self, member: u32) -> bool {
        let mut steps = vec![None; self.bounds.len()];
        let mut queue = VecDeque::from([member]);
        while let Some(giver) = queue.pop_front() {
            for pid in self.led[giver as usize].iter().copied() {
                for taker in self.layout.rows[pid as usize].members().iter().copied() {
                    if taker == member || steps[taker as usize].is_some() {
                        continue;
                    }
                    steps[taker as usize] = Some((pid, giver));
                    if self.led(taker) < self.bounds[taker as usize].1 {
                        self.follow_back(taker, &steps);
                        return true;
                    }
                    queue.push_back(taker);
                }
            }
        }
        false
    }

    /// Each member on the way from `giver` passes its partition on to the next.
    fn follow(&mut self, mut giver: u32, steps: &[Option<(u32, u32)>]) {
        while let Some((pid, taker)) = steps[giver as usize] {
            self.hand(pid, taker);
            giver = taker;
        }
    }

    /// Each member on the way back from `taker` takes its partition from the one before.
    fn follow_back(&mut self, mut taker: u32, steps: &[Option<(u32, u32)>]) {
        while let Some((pid, giver)) = steps[taker as usize] {
            self.hand(pid, taker);
            taker = giver;
        }
    }

    fn hand(&mut self, pid: u32, leader: u32) {
        debug_assert!(self.layout.rows[pid as usize].contains(leader));
        let before = self.leader[pid as usize];
        if before != NOBODY {
            let at = self.at[pid as usize];
            let led = &mut self.led[before as usize];
            led.swap_remove(at as usize);
            if let Some(moved) = led.get(at as usize) {
                self.at[*moved as usize] = at;
            }
        }
        self.leader[pid as usize] = leader;
        self.at[pid as usize] = self.led[leader as usize].len() as u32;
        self.led[leader as usize].push(pid);
    }
}
