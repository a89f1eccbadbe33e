//! Every history of a small scope: the real `Group`, with every order, loss and delay of messages.
//!
//! Time is a choice, too: any voter may stand for leader at any moment, whatever a pre-vote would
//! say, and whoever is asked has just stopped hearing its leader. So nothing that is shown here
//! rests on time or on pre-votes. What is under way need never arrive, so loss is always among the
//! histories; and a leader may find out at any moment what the others have, and send again.
//!
//! `VOTERS=3 TERMS=2 PROPOSALS=2 SETTLED=1` and a release build look at a wider scope.

use std::collections::{BTreeMap, BTreeSet};

use ringkv::base::{LogIndex, MemberId, Term, Ver};
use ringkv::proto::Group;
use ringkv::wire::GroupMsg;
use stateright::{Checker, Model, Property};

use crate::sweep::number;

#[derive(Clone, Debug)]
struct Scope {
    voters: usize,
    terms: u64,
    proposals: u8,
    /// Begins where the first voter leads, everybody knows, and the first proposal is on its way;
    /// else where nobody has said anything.
    is_settled: bool,
    /// Histories of so many steps; zero for all.
    depth: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Bench {
    groups: Vec<Group>,
    /// The newest message of each pair that is under way.
    under_way: BTreeMap<(usize, usize), GroupMsg>,
    /// What each has decided.
    decided: Vec<Vec<(LogIndex, Vec<u8>)>>,
    proposed: u8,
    /// Who led each term.
    leaders: BTreeSet<(Term, usize)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// A message arrives.
    Deliver(usize, usize),
    /// A voter stands for leader, or a leader gives up.
    Campaign(usize),
    /// A leader finds out what the others have.
    Probe(usize),
    Propose(usize),
}

impl Bench {
    fn new(scope: &Scope) -> Self {
        let members: Vec<MemberId> = (1..=scope.voters as u64).map(MemberId).collect();
        let group = |me: &MemberId| {
            let mut group = Group::new(Ver(1), *me, &members).expect("one of them");
            group.limit_batches(1, usize::MAX);
            group
        };
        let groups = members.iter().map(group).collect();
        let mut bench = Self {
            groups,
            under_way: BTreeMap::new(),
            decided: vec![Vec::new(); scope.voters],
            proposed: 0,
            leaders: BTreeSet::new(),
        };
        (0..scope.voters).for_each(|at| bench.collect(at));
        while scope.is_settled
            && let Some(((from, to), msg)) = bench.under_way.pop_first()
        {
            bench.groups[to].receive(MemberId(from as u64 + 1), &msg);
            bench.collect(to);
        }
        if scope.is_settled && scope.proposals > 0 {
            bench.propose(0);
        }
        bench
    }

    /// What a voter says after a step, and what it decides.
    fn collect(&mut self, at: usize) {
        let group = &mut self.groups[at];
        group.check_invariants();
        let decided = group.take_decided().into_iter().map(|d| (d.index, d.payload.to_vec()));
        self.decided[at].extend(decided);
        if group.is_leader() {
            self.leaders.insert((group.term(), at));
        }
        for (to, msg) in group.take_messages() {
            self.under_way.insert((at, to.0 as usize - 1), msg);
        }
        // It would no longer take its leader for alive, if it were asked now.
        if let Some(leader) = group.leader().filter(|_| !group.is_leader()) {
            group.lost(leader);
        }
    }

    fn propose(&mut self, at: usize) -> bool {
        let is_taken = self.groups[at].propose(vec![at as u8, self.proposed], false);
        self.proposed += u8::from(is_taken);
        self.collect(at);
        is_taken
    }

    fn is_calm(&self) -> bool {
        self.groups.iter().all(|group| group.contradictions() == 0)
    }

    fn agrees(&self) -> bool {
        let agree = |(a, b): (&Vec<_>, &Vec<_>)| a.iter().zip(b).all(|(a, b)| a == b);
        let decided = &self.decided;
        let pairs = decided
            .iter()
            .enumerate()
            .flat_map(|(at, a)| decided[at + 1..].iter().map(move |b| (a, b)));
        let mut terms: Vec<Term> = self.leaders.iter().map(|(term, _)| *term).collect();
        terms.dedup();
        pairs.into_iter().all(agree) && terms.len() == self.leaders.len() && self.is_calm()
    }
}

impl Model for Scope {
    type State = Bench;
    type Action = Step;

    fn init_states(&self) -> Vec<Bench> {
        vec![Bench::new(self)]
    }

    fn actions(&self, bench: &Bench, steps: &mut Vec<Step>) {
        steps.extend(bench.under_way.keys().map(|(from, to)| Step::Deliver(*from, *to)));
        for (at, group) in bench.groups.iter().enumerate() {
            if group.is_leader() {
                steps.push(Step::Probe(at));
            }
            if group.is_ready() && bench.proposed < self.proposals {
                steps.push(Step::Propose(at));
            }
            if group.term().0 < self.terms {
                steps.push(Step::Campaign(at));
            }
        }
    }

    fn next_state(&self, before: &Bench, step: Step) -> Option<Bench> {
        let mut bench = before.clone();
        let at = match step {
            Step::Deliver(from, to) => {
                let msg = bench.under_way.remove(&(from, to))?;
                bench.groups[to].receive(MemberId(from as u64 + 1), &msg);
                to
            }
            Step::Campaign(at) => {
                stand(&mut bench.groups[at]);
                at
            }
            Step::Probe(at) => {
                let peers = bench.groups[at].members().to_vec();
                peers.into_iter().for_each(|peer| bench.groups[at].reconnected(peer));
                at
            }
            Step::Propose(at) => {
                bench.propose(at).then_some(())?;
                at
            }
        };
        bench.collect(at);
        (bench != *before).then_some(bench)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![Property::always("agreement", |_, bench: &Bench| bench.agrees())];
        // The scope is wide enough for what is to be seen in it.
        if self.proposals > 0 {
            properties.push(Property::sometimes("all decide", |_, bench: &Bench| {
                bench.decided.iter().all(|decided| !decided.is_empty())
            }));
        }
        if self.terms > 1 {
            properties.push(Property::sometimes("a new leader", |scope: &Scope, bench: &Bench| {
                bench.leaders.iter().any(|(term, at)| term.0 == scope.terms && *at != 0)
            }));
        }
        properties
    }

    fn within_boundary(&self, bench: &Bench) -> bool {
        bench.groups.iter().all(|group| group.term().0 <= self.terms)
    }
}

/// Has a voter stand for leader of the next term, as if all pre-votes were granted.
fn stand(group: &mut Group) {
    while group.is_leader() {
        group.tick(); // It is not told that it is heard.
    }
    (0..group.ticks_left()).for_each(|_| group.tick());
    group.take_messages();
    let yes = GroupMsg::VoteReply { term: Term(group.term().0 + 1), pre: true, granted: true };
    let peers = group.members().to_vec();
    peers.into_iter().for_each(|peer| group.receive(peer, &yes));
}

fn explore(scope: Scope) {
    let begun = std::time::Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut checker = scope.clone().checker().threads(threads);
    if scope.depth > 0 {
        checker = checker.target_max_depth(scope.depth);
    }
    let checker = checker.spawn_bfs().join();
    println!(
        "{scope:?}: {} states, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

/// The scopes of a plain `cargo test`; `VOTERS` and the others choose another one.
#[test]
fn exhaustive() {
    if let Ok(voters) = std::env::var("VOTERS") {
        return explore(Scope {
            voters: voters.parse().expect("VOTERS is a number"),
            terms: number("TERMS", 2),
            proposals: number("PROPOSALS", 1) as u8,
            is_settled: number("SETTLED", 1) > 0,
            depth: number("DEPTH", 0) as usize,
        });
    }
    explore(Scope { voters: 2, terms: 3, proposals: 2, is_settled: false, depth: 0 });
    explore(Scope { voters: 3, terms: 1, proposals: 1, is_settled: false, depth: 0 });
    explore(Scope { voters: 3, terms: 2, proposals: 1, is_settled: true, depth: 14 });
}
