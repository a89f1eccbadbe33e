//! Brings every member to its quota: fills the holes, then lets those with too much give.
//!
//! Nearly always a copy goes straight from who has too much to who has too little, and the
//! cheapest such step is taken. Where none is left (every partition of the giver is also held by
//! the taker) the copy goes through others, along a shortest path in the graph of legal
//! replacements. This is augmentation of a flow, so a path exists as long as a quota is not met.
//! Paths that move one copy in all are tried first: they undo and redo gifts that were already
//! decided, but send no data through a third member.

use std::collections::VecDeque;

use super::layout::{HOST_COST, Layout};
use crate::base::Rng;

/// Steps that are compared before the best of them is taken. Covers every choice of a ring of
/// 100 members and bounds the time of the largest rings.
const COMPARED_MAX: usize = 1024;

/// Weighs more than partners and less than a shared host.
const CROWD_COST: i64 = HOST_COST / 64;

/// Moves copies until each member holds what is due to it.
pub(super) fn settle(layout: &mut Layout, due: &[usize]) {
    let mut exchange = Exchange::new(layout, due);
    exchange.fill_holes();
    exchange.shed_excess();
}

struct Exchange<'a> {
    layout: &'a mut Layout,
    due: &'a [usize],
    /// Members below their quota.
    takers: Vec<u32>,
    /// Whether two copies share a zone or host somewhere, so that a step may improve matters.
    thorough: bool,
}

/// Where a path of replacements starts: at a hole, or at a member with too much.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Hole(u32),
    Giver(u32),
}

/// One step of a path: `from` gives its copy of `pid` to `to`; a hole has no giver.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Step {
    from: Option<u32>,
    pid: u32,
    to: u32,
}

/// A copy that could go straight from who has too much to who has too little.
struct Gift {
    cost: i64,
    pid: u32,
    slot: usize,
    taker: u32,
}

impl<'a> Exchange<'a> {
    fn new(layout: &'a mut Layout, due: &'a [usize]) -> Self {
        let takers =
            (0..due.len() as u32).filter(|m| layout.held[*m as usize].len() < due[*m as usize]);
        let takers = takers.collect();
        let thorough = layout.has_neighbours();
        Self { layout, due, takers, thorough }
    }

    fn lacks(&self, member: u32) -> bool {
        self.layout.held[member as usize].len() < self.due[member as usize]
    }

    fn exceeds(&self, member: u32) -> bool {
        self.layout.held[member as usize].len() > self.due[member as usize]
    }

    fn fill_holes(&mut self) {
        for pid in 0..self.layout.rows.len() as u32 {
            while self.layout.rows[pid as usize].members().len() < self.layout.copies {
                match self.best_taker_of_hole(pid) {
                    Some(member) => {
                        self.layout.add(pid, member);
                        self.refresh_takers(member);
                    }
                    None => {
                        if !self.move_along_path(Start::Hole(pid)) {
                            break;
                        }
                    }
                }
            }
        }
    }

    fn shed_excess(&mut self) {
        // First come the gifts that take copies apart, then the neutral ones: else a giver that
        // has a choice would use up the places of one that has none.
        if self.thorough {
            self.give_below(-HOST_COST / 2);
            self.give_below(HOST_COST / 2);
        }
        self.give_below(i64::MAX);
        for giver in 0..self.due.len() as u32 {
            while self.exceeds(giver) && self.move_along_path(Start::Giver(giver)) {}
        }
    }

    /// The members with too much make gifts in turns, each as long as it has one that costs less
    /// than `limit`.
    fn give_below(&mut self, limit: i64) {
        let mut givers: Vec<u32> = (0..self.due.len() as u32).collect();
        while !givers.is_empty() {
            givers.retain(|giver| {
                if !self.exceeds(*giver) {
                    return false;
                }
                let Some(gift) = self.best_gift_of(*giver).filter(|gift| gift.cost < limit) else {
                    return false;
                };
                self.layout.replace(gift.pid, gift.slot, gift.taker);
                self.refresh_takers(gift.taker);
                true
            });
        }
    }

    /// The cheapest member to fill a hole of `pid`; of equal ones the one that lacks most.
    fn best_taker_of_hole(&self, pid: u32) -> Option<u32> {
        let row = &self.layout.rows[pid as usize];
        let legal = self.takers.iter().copied().filter(|member| !row.contains(*member));
        legal.min_by_key(|member| {
            let lack = self.due[*member as usize] - self.layout.held[*member as usize].len();
            (self.layout.cost(pid, None, *member), std::cmp::Reverse(lack), *member)
        })
    }

    /// The cheapest copy of `giver` to pass on.
    fn best_gift_of(&self, giver: u32) -> Option<Gift> {
        let held = &self.layout.held[giver as usize];
        // Starts elsewhere each time, so that the copies given are spread over the ring.
        let first = Rng::new(held.len() as u64).below(held.len() as u64) as usize;
        let mut best: Option<((i64, i64), Gift)> = None;
        let mut compared = 0;
        for pid in held[first..].iter().chain(&held[..first]).copied() {
            let row = &self.layout.rows[pid as usize];
            let Some(slot) = row.slot_of(giver) else { continue };
            // Copies that will still share a zone are better left for a gift that parts them.
            let crowd = if self.thorough { self.layout.neighbours_without(pid, slot) } else { 0 };
            for taker in self.takers.iter().copied().filter(|taker| !row.contains(*taker)) {
                let cost = self.layout.cost(pid, Some(slot), taker);
                let key = (self.layout.moves(pid, giver, taker), cost + crowd * CROWD_COST);
                if best.as_ref().is_none_or(|(least, _)| key < *least) {
                    best = Some((key, Gift { cost, pid, slot, taker }));
                }
                compared += 1;
            }
            let good = best.as_ref().is_some_and(|(_, gift)| gift.cost <= 0);
            if good && !self.thorough || compared >= COMPARED_MAX && best.is_some() {
                break;
            }
        }
        best.map(|(_, gift)| gift)
    }

    fn refresh_takers(&mut self, member: u32) {
        if !self.lacks(member) {
            self.takers.retain(|taker| *taker != member);
        }
    }

    /// Moves one copy along a shortest path from `start` to a member below its quota. False if
    /// there is none, which the quotas rule out.
    fn move_along_path(&mut self, start: Start) -> bool {
        let thrifty = Search::new(self.layout, self.due, start, Budget::OneMove).run();
        let found = thrifty
            .filter(|steps| is_applicable(steps))
            .or_else(|| Search::new(self.layout, self.due, start, Budget::Any).run());
        debug_assert!(found.is_some(), "quotas can always be met");
        let Some(steps) = found else {
            return false;
        };
        for step in &steps {
            match step.from {
                None => self.layout.add(step.pid, step.to),
                Some(from) => {
                    if let Some(slot) = self.layout.rows[step.pid as usize].slot_of(from) {
                        self.layout.replace(step.pid, slot, step.to);
                    }
                }
            }
        }
        let layout = &self.layout;
        self.takers.retain(|m| layout.held[*m as usize].len() < self.due[*m as usize]);
        true
    }
}

/// Whether no two steps want the same copy or the same place. All steps are legal on their own,
/// so then they are legal together.
fn is_applicable(steps: &[Step]) -> bool {
    steps.iter().enumerate().all(|(at, step)| {
        steps[..at]
            .iter()
            .all(|other| other.pid != step.pid || (other.from != step.from && other.to != step.to))
    })
}

/// What a path may cost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Budget {
    /// One copy moves in all. A step that brings a copy back to where it came from earns a move.
    OneMove,
    /// As many as there are steps.
    Any,
}

/// Breadth-first search over states: a member that has one copy too many for the moment, and
/// whether a move is left to spend (the second half of the states) or not (the first half).
struct Search<'a> {
    layout: &'a Layout,
    due: &'a [usize],
    start: Start,
    budget: Budget,
    /// How each visited state was reached: the state before, and the step from there.
    reached: Vec<Option<(Option<usize>, Step)>>,
    /// Members that are not visited yet, without and with a move left.
    unvisited: [Vec<u32>; 2],
    queue: VecDeque<usize>,
}

impl<'a> Search<'a> {
    fn new(layout: &'a Layout, due: &'a [usize], start: Start, budget: Budget) -> Self {
        let members: Vec<u32> =
            (0..due.len() as u32).filter(|member| start != Start::Giver(*member)).collect();
        Self {
            layout,
            due,
            start,
            budget,
            reached: vec![None; 2 * due.len()],
            unvisited: [members.clone(), members],
            queue: VecDeque::new(),
        }
    }

    fn run(mut self) -> Option<Vec<Step>> {
        match self.start {
            Start::Hole(pid) => self.visit(None, None, pid, 1),
            Start::Giver(giver) => self.queue.push_back(self.due.len() + giver as usize),
        }
        while let Some(state) = self.queue.pop_front() {
            let member = (state % self.due.len()) as u32;
            if self.layout.held[member as usize].len() < self.due[member as usize] {
                return Some(self.steps_to(state));
            }
            let layout = self.layout;
            for pid in layout.held[member as usize].iter().copied() {
                self.visit(Some(state), Some(member), pid, state / self.due.len());
                if self.unvisited.iter().all(Vec::is_empty) {
                    break;
                }
            }
        }
        None
    }

    /// Queues every state that the copy of `pid` can be passed on to.
    fn visit(&mut self, before: Option<usize>, from: Option<u32>, pid: u32, moves_left: usize) {
        let Self { layout, due, budget, reached, unvisited, queue, .. } = self;
        let row = &layout.rows[pid as usize];
        // A hole has to be filled by a move unless someone has the data, like a giver that had it.
        let gone = from.is_none_or(|from| layout.had(pid, from));
        for (left_after, unvisited) in unvisited.iter_mut().enumerate() {
            unvisited.retain(|to| {
                let moves = i64::from(gone) - i64::from(layout.had(pid, *to));
                let left = match budget {
                    Budget::OneMove => (moves_left as i64 - moves).min(1),
                    Budget::Any => 1,
                };
                let legal = !row.contains(*to) && left == left_after as i64;
                if legal {
                    let state = left_after * due.len() + *to as usize;
                    reached[state] = Some((before, Step { from, pid, to: *to }));
                    queue.push_back(state);
                }
                !legal
            });
        }
    }

    fn steps_to(&self, end: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut state = Some(end);
        while let Some((before, step)) = state.and_then(|state| self.reached[state]) {
            steps.push(step);
            state = before;
        }
        steps
    }
}
