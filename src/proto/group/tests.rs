//! What a single voter does. What several of them do together is shown in `tests/group`.

use proptest::prelude::*;

use super::*;
use crate::base::limits::{GROUP_LOG_ENTRIES_MAX, GROUP_WINDOW_BYTES_MAX};

fn mid(number: u64) -> MemberId {
    MemberId(number)
}

/// Voters 1, 2, ..., who have said nothing yet but that the first one campaigns.
fn voters(count: u64) -> Vec<Group> {
    let members: Vec<MemberId> = (1..=count).map(MemberId).collect();
    members.iter().map(|me| Group::new(Ver(1), *me, &members).unwrap()).collect()
}

/// Delivers everything between those who are `up` until nothing more is said; the rest is lost.
fn exchange(groups: &mut [Group], up: &[u64]) {
    loop {
        let mut quiet = true;
        for at in 0..groups.len() {
            let from = mid(at as u64 + 1);
            for (to, msg) in groups[at].take_messages() {
                if up.contains(&from.0) && up.contains(&to.0) {
                    groups[to.0 as usize - 1].receive(from, &msg);
                    quiet = false;
                }
            }
        }
        if quiet {
            return groups.iter().for_each(Group::check_invariants);
        }
    }
}

/// The first one leads and all know it.
fn led(count: u64) -> Vec<Group> {
    let mut groups = voters(count);
    exchange(&mut groups, &(1..=count).collect::<Vec<_>>());
    assert!(groups[0].is_ready() && groups[1].leader() == Some(mid(1)));
    groups
}

fn ticks(group: &mut Group, count: u32) {
    (0..count).for_each(|_| group.tick());
}

fn payloads(group: &mut Group) -> Vec<Vec<u8>> {
    group.take_decided().iter().map(|decided| decided.payload.to_vec()).collect()
}

/// The entries that a leader sends to `peer` now.
fn entries_to(group: &mut Group, peer: MemberId) -> Vec<GroupEntry> {
    let entries = |(to, msg): (MemberId, GroupMsg)| match msg {
        GroupMsg::Append { entries, .. } if to == peer => entries,
        _ => Vec::new(),
    };
    group.take_messages().into_iter().flat_map(entries).collect()
}

#[test]
fn one_alone_decides_at_once() {
    let mut group = Group::new(Ver(7), mid(3), &[mid(3)]).unwrap();
    assert!(group.is_ready() && group.leader() == Some(mid(3)) && group.cfg() == Ver(7));
    assert!(group.propose(b"a".to_vec(), false) && group.propose(b"b".to_vec(), true));
    assert!(!group.propose(b"c".to_vec(), false) && group.is_sealed());
    let decided = group.take_decided();
    assert_eq!(
        decided.iter().map(|d| (&d.payload[..], d.seals)).collect::<Vec<_>>(),
        [(&b"a"[..], false), (&b"b"[..], true)]
    );
    assert!(group.take_decided().is_empty() && group.take_messages().is_empty());
    ticks(&mut group, 100);
    assert!(group.is_ready() && group.take_messages().is_empty());
}

#[test]
fn only_members_vote_and_none_twice() {
    assert!(Group::new(Ver(1), mid(4), &[mid(1), mid(2), mid(3)]).is_none());
    assert!(Group::new(Ver(1), mid(1), &[mid(1), mid(2), mid(2)]).is_none());
    assert!(Group::new(Ver(1), mid(1), &[]).is_none());
    let mut groups = led(3);
    let before = groups[1].clone();
    let vote =
        GroupMsg::Vote { term: Term(9), pre: false, last_term: Term(9), last_index: LogIndex(9) };
    groups[1].receive(mid(77), &vote);
    groups[1].receive(mid(2), &vote);
    assert_eq!(groups[1], before, "neither a stranger nor itself is listened to");
}

#[test]
fn proposals_of_a_turn_travel_together_and_once() {
    let mut groups = led(3);
    for number in 0..300u16 {
        assert!(groups[0].propose(number.to_le_bytes().to_vec(), false));
    }
    let messages = groups[0].take_messages();
    // 64 at most in each.
    assert_eq!(messages.len(), 2 * 5);
    assert_eq!(entries_to(&mut groups[0], mid(2)).len(), 0);
    ticks(&mut groups[0], GROUP_ELECTION_TICKS - 1);
    assert_eq!(entries_to(&mut groups[0], mid(2)).len(), 0, "heartbeats carry nothing again");
    for (to, msg) in messages.into_iter().filter(|(to, _)| *to == mid(3)) {
        assert_eq!(to, mid(3));
        groups[2].receive(mid(1), &msg);
    }
    exchange(&mut groups, &[1, 3]);
    assert_eq!(payloads(&mut groups[0]).len(), 300);
    assert_eq!(payloads(&mut groups[2]).len(), 300);
}

#[test]
fn what_was_lost_is_sent_again_once_after_a_probe() {
    let mut groups = led(3);
    assert!(groups[0].propose(vec![1], false));
    exchange(&mut groups, &[1, 3]); // Lost on the way to 2.
    assert!(groups[0].propose(vec![2], false));
    let _ = groups[0].take_messages();
    groups[0].reconnected(mid(2));
    let messages = groups[0].take_messages();
    let [(to, GroupMsg::Append { entries, .. })] = &messages[..] else { panic!("{messages:?}") };
    assert!(*to == mid(2) && entries.is_empty(), "it asks before it sends");
    assert!(groups[0].propose(vec![3], false));
    groups[1].receive(mid(1), &messages[0].1);
    let mut sent = 0;
    for _ in 0..4 {
        for (to, msg) in groups[1].take_messages() {
            assert_eq!(to, mid(1));
            groups[0].receive(mid(2), &msg);
        }
        for (_, msg) in groups[0].take_messages().into_iter().filter(|(to, _)| *to == mid(2)) {
            let GroupMsg::Append { entries, .. } = &msg else { panic!("{msg:?}") };
            sent += entries.len();
            groups[1].receive(mid(1), &msg);
        }
    }
    assert_eq!(sent, 3, "each of what is missing once");
    assert_eq!(groups[1].log_entries(), groups[0].log_entries());
}

#[test]
fn a_peer_that_does_not_answer_gets_one_window() {
    let mut groups = led(3);
    let half = GROUP_APPEND_BYTES_MAX / 2;
    for _ in 0..40 {
        assert!(groups[0].propose(vec![0; half], false));
    }
    let bytes = |entries: Vec<GroupEntry>| -> usize {
        entries.iter().map(|entry| entry.content.payload().len()).sum()
    };
    let first = bytes(entries_to(&mut groups[0], mid(2)));
    assert!(
        (GROUP_WINDOW_BYTES_MAX..=GROUP_WINDOW_BYTES_MAX + GROUP_APPEND_BYTES_MAX).contains(&first)
    );
    ticks(&mut groups[0], GROUP_ELECTION_TICKS - 1);
    assert_eq!(bytes(entries_to(&mut groups[0], mid(2))), 0);
    // It was all lost; answers bring the rest, window by window.
    groups[0].reconnected(mid(2));
    groups[0].reconnected(mid(3));
    exchange(&mut groups, &[1, 2, 3]);
    assert_eq!(groups[2].log_bytes(), 40 * half);
}

#[test]
fn a_full_log_can_only_be_sealed() {
    let mut group = Group::new(Ver(1), mid(1), &[mid(1)]).unwrap();
    assert!(!group.propose(vec![0; GROUP_PAYLOAD_BYTES_MAX + 1], false), "too long");
    let taken = (0..2 * GROUP_LOG_ENTRIES_MAX).filter(|_| group.propose(vec![], false)).count();
    assert_eq!(taken, GROUP_LOG_ENTRIES_MAX - 1, "and the empty one of the term");
    assert!(group.propose(vec![], true));
    assert!(group.take_decided().last().unwrap().seals);
}

#[test]
fn a_leader_that_hears_nobody_stops() {
    let mut groups = led(3);
    assert!(groups[0].propose(vec![1], false));
    ticks(&mut groups[0], GROUP_ELECTION_TICKS - 1);
    assert!(groups[0].is_leader());
    ticks(&mut groups[0], 1);
    assert!(!groups[0].is_leader() && groups[0].leader().is_none());
    assert!(!groups[0].propose(vec![2], false));
}

#[test]
fn a_voter_that_was_cut_off_overthrows_nobody() {
    let mut groups = led(3);
    for _ in 0..50 {
        ticks(&mut groups[2], 10);
        ticks(&mut groups[0], 10);
        exchange(&mut groups, &[1, 2]);
    }
    assert_eq!(groups[2].term(), groups[0].term(), "it asked, and nobody said yes");
    ticks(&mut groups[2], 30);
    exchange(&mut groups, &[1, 2, 3]);
    assert!(groups[0].is_leader() && groups[0].propose(vec![1], false));
    exchange(&mut groups, &[1, 2, 3]);
    ticks(&mut groups[0], 3);
    exchange(&mut groups, &[1, 2, 3]);
    assert_eq!(groups[2].leader(), Some(mid(1)));
    assert_eq!(payloads(&mut groups[2]), [[1]]);
}

#[test]
fn a_broken_connection_is_as_good_as_silence() {
    let mut groups = led(3);
    groups[1].lost(mid(3));
    ticks(&mut groups[1], 1);
    assert!(groups[1].take_messages().is_empty(), "the leader is not lost");
    groups[1].lost(mid(1));
    groups[2].lost(mid(1));
    assert_eq!(groups[1].ticks_left(), 1);
    ticks(&mut groups[1], 1);
    exchange(&mut groups, &[2, 3]);
    assert!(groups[1].is_ready() && groups[2].leader() == Some(mid(2)));
    groups[1].lost(mid(1));
    groups[1].lost(mid(3));
    ticks(&mut groups[1], 1);
    assert!(!groups[1].is_leader(), "nor does a leader wait when its majority is gone");
}

#[test]
fn the_first_of_a_new_configuration_is_not_waited_for_when_it_is_gone() {
    let mut groups = voters(3);
    for group in &mut groups[1..] {
        group.lost(mid(1));
    }
    assert_eq!([1, 2].map(|at| groups[at].ticks_left()), [1, 1 + GROUP_RANK_TICKS]);
    ticks(&mut groups[1], 1);
    let campaigning = groups[1].clone();
    groups[1].lost(mid(1));
    assert_eq!(groups[1], campaigning, "it is not waited for any more");
    exchange(&mut groups, &[2, 3]);
    assert!(groups[1].is_ready() && groups[2].leader() == Some(mid(2)));
}

#[test]
fn a_rival_is_not_listened_to_and_counted() {
    let mut groups = led(3);
    let before = groups[1].clone();
    let rival = GroupMsg::Append {
        term: groups[1].term(),
        prev: LogIndex(0),
        prev_term: Term(0),
        commit: LogIndex(5),
        entries: vec![],
    };
    groups[1].receive(mid(3), &rival);
    assert_eq!(groups[1].contradictions(), 1);
    groups[1].contradictions = 0;
    assert_eq!(groups[1], before);
    groups[0].receive(mid(3), &rival);
    assert!(groups[0].is_leader() && groups[0].contradictions() == 1);
}

#[test]
fn a_refusal_of_an_old_term_says_nothing_about_this_one() {
    let mut groups = led(3);
    for number in 0..5 {
        assert!(groups[0].propose(vec![number], false));
    }
    let late = groups[0].take_messages().pop().unwrap().1; // Behind entries that get lost.
    let GroupMsg::Append { prev, entries, .. } = &late else { panic!("{late:?}") };
    assert!(*prev == LogIndex(1) && entries.len() == 5);
    ticks(&mut groups[0], 3);
    let late = groups[0].take_messages().pop().unwrap().1;
    // 2 leads the next term, in which 1's entries are cut off; then 1 leads again.
    for (leader, follower) in [(1, 2), (0, 2)] {
        groups.iter_mut().for_each(|group| ticks(group, GROUP_ELECTION_TICKS));
        groups.iter_mut().for_each(|group| drop(group.take_messages()));
        while !groups[leader].is_ready() {
            ticks(&mut groups[leader], 1);
            exchange(&mut groups, &[leader as u64 + 1, follower as u64 + 1]);
        }
        exchange(&mut groups, &[1, 2, 3]);
        ticks(&mut groups[leader], 3);
        exchange(&mut groups, &[1, 2, 3]);
    }
    assert!(groups[0].log_entries() < 6, "1's log was longer when it sent that");
    groups[2].receive(mid(1), &late);
    let before = groups[0].clone();
    for (_, reply) in groups[2].take_messages() {
        groups[0].receive(mid(3), &reply);
    }
    assert_eq!(groups[0], before);
    assert_eq!(groups[0].contradictions(), 0);
}

#[test]
fn what_is_committed_is_never_cut_off() {
    let mut groups = led(3);
    assert!(groups[0].propose(vec![1], false));
    exchange(&mut groups, &[1, 2, 3]);
    let entry = GroupEntry { term: Term(8), content: Content::Empty };
    let liar = GroupMsg::Append {
        term: Term(8),
        prev: LogIndex(0),
        prev_term: Term(0),
        commit: LogIndex(9),
        entries: vec![entry],
    };
    groups[1].receive(mid(3), &liar);
    assert_eq!(groups[1].contradictions(), 1);
    assert_eq!(payloads(&mut groups[1]), [[1]]);
}

/// Small numbers, where they may hit something, and the largest.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0u64..5, 1 => Just(u64::MAX), 1 => Just(u64::MAX / 2 - 1), 1 => any::<u64>()]
}

fn message() -> impl Strategy<Value = GroupMsg> {
    let term = || number().prop_map(Term);
    let index = || number().prop_map(LogIndex);
    let content = prop_oneof![
        Just(Content::Empty),
        Just(Content::Change([1].into())),
        Just(Content::Seal([2].into()))
    ];
    let entry = (term(), content).prop_map(|(term, content)| GroupEntry { term, content });
    prop_oneof![
        (term(), any::<bool>(), term(), index()).prop_map(|(term, pre, last_term, last_index)| {
            GroupMsg::Vote { term, pre, last_term, last_index }
        }),
        (term(), any::<bool>(), any::<bool>())
            .prop_map(|(term, pre, granted)| GroupMsg::VoteReply { term, pre, granted }),
        (term(), index(), term(), index(), proptest::collection::vec(entry, 0..4)).prop_map(
            |(term, prev, prev_term, commit, entries)| GroupMsg::Append {
                term,
                prev,
                prev_term,
                commit,
                entries
            }
        ),
        (term(), any::<bool>(), index(), index()).prop_map(|(term, accepted, prev, index)| {
            GroupMsg::AppendReply { term, accepted, prev, index }
        }),
    ]
}

proptest! {
    #[test]
    fn whatever_arrives_it_neither_panics_nor_contradicts_itself(
        leads in any::<bool>(),
        inputs in proptest::collection::vec((0u32..20, 1u64..5, message()), 1..60),
    ) {
        let mut groups = led(3);
        let group = &mut groups[usize::from(!leads)];
        for (count, from, msg) in inputs {
            let (term, before) = (group.term(), group.commit);
            ticks(group, count);
            group.receive(mid(from), &msg);
            group.propose(vec![7], false);
            group.reconnected(mid(from));
            group.check_invariants();
            prop_assert!(group.term() >= term && group.commit >= before);
            prop_assert!(group.take_messages().len() < 100);
            group.take_decided();
        }
    }
}
