//! Histories that chance seldom makes.

use ringkv::base::limits::GROUP_ELECTION_TICKS;
use ringkv::base::{LogIndex, MemberId, Term};
use ringkv::wire::GroupMsg;

use crate::lab::Lab;
use crate::owner::Command;
use crate::settings::Settings;
use crate::world::World;

type Test = fn() -> Result<(), String>;

/// By name, so that the mutants can be shown to them as well.
pub const ALL: [(&str, Test); 7] = [
    ("figure 8", figure_8),
    ("figure 8, the good end", figure_8_decided),
    ("one vote", one_vote),
    ("diverged log", diverged_log),
    ("nothing after a seal", nothing_after_a_seal),
    ("leader dies in a replacement", leader_dies_in_a_replacement),
    ("lonely proposals", lonely_proposals),
];

/// Figure 8 of the paper up to its state (d): an entry of an old term that stands on a majority is
/// overwritten. That is right, as long as nobody has taken it for decided in between.
fn figure_8() -> Result<(), String> {
    let mut lab = figure_8_until_c()?;
    // (d) S5's entry is of a newer term than X, so S3 and S4 vote for it.
    lab.elect(4, &[2, 3])?;
    lab.tick(4, 3)?;
    lab.talk(&[0, 1, 2, 3, 4])?;
    ensure(lab.propose(4, b"Y"), "S5 is ready")?;
    lab.talk(&[0, 1, 2, 3, 4])?;
    lab.tick(4, 3)?;
    lab.talk(&[0, 1, 2, 3, 4])?;
    ensure(lab.decided.iter().all(|decided| *decided == [b"Y"]), "all decide Y alone")
}

/// The same up to its state (e): together with an entry of S1's own term, X is safe from S5.
fn figure_8_decided() -> Result<(), String> {
    let mut lab = figure_8_until_c()?;
    lab.tick(0, 3)?;
    lab.talk(&[0, 1, 2])?;
    ensure(lab.decided[0] == [b"X"], "the majority's X is decided with the new term's entry")?;
    match lab.elect(4, &[2, 3]) {
        Ok(()) => Err("S5 was elected and lacks what is decided".into()),
        Err(_) => Ok(()),
    }
}

/// S1 leads its second term, X of its first one stands on S1, S2, S3, and on S5 another entry.
fn figure_8_until_c() -> Result<Lab, String> {
    let mut lab = Lab::new(5, 1);
    lab.talk(&[0, 1, 2, 3, 4])?;
    ensure(lab.groups[0].is_ready(), "S1 leads at first")?;
    // (a) S1 sends X to S2 alone.
    ensure(lab.propose(0, b"X"), "S1 is ready")?;
    lab.deliver(1, |from, to, _| (from, to) == (0, 1))?;
    ensure(lab.groups[1].log_entries() == 2, "S2 has X")?;
    // (b) S5 leads a term in which only its own log gets an entry.
    lab.elect(4, &[2, 3])?;
    ensure(lab.groups[4].log_entries() == 2, "S5 has an entry where X is")?;
    // (c) S1 leads again, and gets X to S3; then everything is cut, before its next entry is.
    lab.elect(0, &[1, 2])?;
    lab.tick(0, 3)?;
    let has_x = |msg: &GroupMsg| {
        matches!(msg, GroupMsg::Append { entries, .. }
            if entries.iter().any(|entry| entry.content.payload() == b"X"))
    };
    for _ in 0..8 {
        // Probes and their answers; what carries an entry stops at X.
        lab.deliver(usize::MAX, |from, to, msg| {
            let is_pair = from == 0 && (to == 1 || to == 2) || to == 0 && (from == 1 || from == 2);
            let is_empty = matches!(msg, GroupMsg::Append { entries, .. } if entries.is_empty());
            is_pair && (is_empty || has_x(msg) || matches!(msg, GroupMsg::AppendReply { .. }))
        })?;
        if lab.groups[2].log_entries() == 2 {
            return Ok(lab);
        }
        lab.tick(0, 3)?;
    }
    Err(format!("X did not get to S3: {:?}", lab.groups))
}

/// Two candidates of one term ask the same voter, and one of them asks again.
fn one_vote() -> Result<(), String> {
    let mut lab = Lab::new(3, 64);
    lab.talk(&[0, 1, 2])?;
    lab.tick(2, GROUP_ELECTION_TICKS)?;
    let (last_term, last_index) = (Term(1), LogIndex(9));
    let ask = GroupMsg::Vote { term: Term(2), pre: false, last_term, last_index };
    let voter = &mut lab.groups[2];
    [1, 2, 1].into_iter().for_each(|from| voter.receive(MemberId(from), &ask));
    let yes = |(to, msg): &(MemberId, GroupMsg)| {
        matches!(msg, GroupMsg::VoteReply { granted: true, .. }).then_some(*to)
    };
    let granted: Vec<MemberId> = voter.take_messages().iter().filter_map(yes).collect();
    ensure(granted == [MemberId(1); 2], "the first one has the vote, however often it asks")
}

/// A leader that is cut off goes on writing; what it wrote gives way, whatever its length.
fn diverged_log() -> Result<(), String> {
    for (lonely, decided) in [(1, 1), (5, 1), (1, 5), (9, 9)] {
        let mut lab = Lab::new(3, 2);
        lab.talk(&[0, 1, 2])?;
        for number in 0..lonely {
            ensure(lab.propose(0, &[100 + number]), "the old leader is ready")?;
        }
        lab.elect(1, &[2])?;
        lab.tick(1, 3)?;
        lab.talk(&[1, 2])?;
        for number in 0..decided {
            ensure(lab.propose(1, &[number]), "the new leader is ready")?;
            lab.talk(&[1, 2])?;
        }
        for _ in 0..3 {
            lab.tick(1, 3)?;
            lab.talk(&[0, 1, 2])?;
        }
        let wanted: Vec<Vec<u8>> = (0..decided).map(|number| vec![number]).collect();
        ensure(lab.decided.iter().all(|decided| *decided == wanted), "all decide the same")?;
        ensure(lab.groups[0].log_entries() == lab.groups[1].log_entries(), "and hold the same")?;
    }
    Ok(())
}

/// A seal that is under way ends the configuration, for the next leader as well.
fn nothing_after_a_seal() -> Result<(), String> {
    let mut lab = Lab::new(3, 64);
    lab.talk(&[0, 1, 2])?;
    ensure(lab.propose(0, b"before"), "a change")?;
    ensure(lab.groups[0].propose(b"seal".to_vec(), true), "a seal")?;
    ensure(!lab.propose(0, b"after"), "nothing is proposed behind a seal")?;
    ensure(!lab.groups[0].propose(b"seal2".to_vec(), true), "nor another seal")?;
    lab.deliver(1, |from, to, _| (from, to) == (0, 1))?;
    lab.elect(1, &[2])?;
    lab.tick(1, 3)?;
    ensure(!lab.propose(1, b"after"), "not by the next leader either")?;
    lab.talk(&[1, 2])?;
    lab.tick(1, 3)?;
    lab.talk(&[0, 1, 2])?;
    let wanted = vec![b"before".to_vec(), b"seal".to_vec()];
    ensure(lab.decided.iter().all(|decided| *decided == wanted), "the seal is the last")
}

/// Commands arrive at a ring of one that grows, and nobody loses any.
fn lonely_proposals() -> Result<(), String> {
    let mut world = World::new(1, Some(Settings::quiet()), false);
    for number in 1..=20 {
        world.command(MemberId(1), Command::Number(1_000_000 + number), 0)?;
    }
    world.run_until(2000)?;
    ensure(world.latest().1.len() == 3, "three vote")?;
    let all = |number: u64| world.oracle.check_answer(1_000_000 + number);
    (1..=20).try_for_each(all)
}

/// The leader replaces a voter, or itself, and dies at any moment of that.
fn leader_dies_in_a_replacement() -> Result<(), String> {
    for voters in [3, 5] {
        for case in 0..2 * 30 {
            replacement(voters, case / 30 == 1, case % 30)
                .map_err(|why| format!("{voters} voters, case {case}: {why}"))?;
        }
    }
    Ok(())
}

/// `after_ms` is how long the leader lives after it was asked; `itself`: to be replaced.
fn replacement(voters: usize, itself: bool, after_ms: u64) -> Result<(), String> {
    let mut world = World::grown(1 + after_ms, voters, Settings::quiet())?;
    world.spawn_after(1);
    world.has_operator = false;
    world.run_until(world.now + 5)?;
    let leader = world.leader().ok_or("nobody leads")?;
    let (cfg, old) = world.latest();
    let wanted = |mid: &&MemberId| (**mid == leader) == itself;
    let gone = *old.iter().find(wanted).ok_or("nobody to be replaced")?;
    let spare = *world.nodes.keys().find(|mid| !old.contains(mid)).ok_or("no spare")?;
    let new: Vec<MemberId> =
        old.iter().map(|mid| if *mid == gone { spare } else { *mid }).collect();
    world.command(leader, Command::Voters { cfg, voters: new }, 0)?;
    world.run_until(world.now + after_ms)?;
    world.kill(leader);
    world.has_operator = true;
    world.spawn_after(50);
    world.heal_to(voters);
    world.recover() // With living voters only.
}

pub fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("does not hold: {what}")) }
}
