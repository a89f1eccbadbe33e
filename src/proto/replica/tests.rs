//! Single replicas, driven by hand: one scenario per test. Whole rings are the simulator's.

use super::*;
use crate::base::{Nanos, StreamId};
use crate::proto::Caller;
use crate::ring::{PartState, ReplicaSet};
use crate::wire::{Command, EntryRef, Op, Reply, Request};

const ME: MemberId = MemberId(1);
const PEER: MemberId = MemberId(2);
const OTHER: MemberId = MemberId(3);
const PID: PartitionId = PartitionId(0);

/// Collects what a replica says, as bytes where it travels.
#[derive(Default)]
struct Said {
    sent: Vec<(MemberId, Vec<u8>)>,
    replies: Vec<(u64, String)>,
    proposed: Vec<Command>,
    no_room: bool,
    leases: crate::proto::Leases,
}

impl Outbox for Said {
    fn send(&mut self, to: MemberId, msg: &PeerMsg<'_>) {
        let mut bytes = Vec::new();
        msg.encode(&mut bytes);
        self.sent.push((to, bytes));
    }
    fn reply(&mut self, to: Caller, reply: &Reply<'_>) {
        self.replies.push((to.id, format!("{reply:?}")));
    }
    fn propose(&mut self, command: Command) {
        self.proposed.push(command);
    }
    fn bulk_room(&self, _: MemberId) -> Option<usize> {
        Some(if self.no_room { 0 } else { 1 << 20 })
    }
    fn leases(&mut self, f: &mut dyn FnMut(&mut crate::proto::Leases)) {
        f(&mut self.leases);
    }
}

fn at_ms(ms: u64) -> Moment {
    Moment {
        now: Nanos::from_millis(ms),
        unix_ms: 1_000_000 + ms,
        memory_full: false,
        backlog_full: false,
    }
}

fn set(members: &[MemberId]) -> ReplicaSet {
    members.iter().copied().collect()
}

fn part(cfg: u64, isr: &[MemberId], learners: &[(MemberId, u64)], goal: &[MemberId]) -> Part {
    Part {
        cfg: Cfg(cfg),
        pcfg: Cfg(cfg.saturating_sub(1)),
        primary: ME,
        isr: set(isr),
        learners: learners.iter().map(|(mid, lid)| (*mid, LearnerId(*lid))).collect(),
        goal: set(goal),
        ..Part::default()
    }
}

fn row(ver: u64, required: u8, part: &Part) -> MapRow<'_> {
    MapRow { ver: Ver(ver), required, leases: true, part }
}

fn adopt(replica: &mut Replica, ver: u64, required: u8, part: &Part, said: &mut Said) {
    replica.adopt(at_ms(0), row(ver, required, part), said);
    replica.flush(at_ms(0), said);
    replica.check_invariants().unwrap();
}

/// A primary that is alone, and then has the given row.
fn primary(row: &Part, required: u8, said: &mut Said) -> Replica {
    let mut replica = Replica::new(PID, ME, 1 << 20);
    replica.bootstrap();
    adopt(&mut replica, 1, 1, &part(1, &[ME], &[], &[ME]), said);
    assert_eq!(replica.role(), Role::Primary);
    adopt(&mut replica, 2, required, row, said);
    replica
}

/// What a caller in the same process sees, by a clock that stands still.
fn committed<'r>(replica: &'r Replica, key: &[u8]) -> Option<Option<&'r [u8]>> {
    replica.read(key, || Nanos::ZERO, || 0)
}

fn put(replica: &mut Replica, ms: u64, id: u64, key: &[u8], said: &mut Said) {
    let op = Op::Put { key, value: b"v", ttl_ms: 0, if_absent: false };
    let caller = Caller { connection: 9, id };
    let handed = replica.request(at_ms(ms), caller, &Request::new(Ver(1), op), said);
    assert_eq!(handed, Disposition::Accepted);
    replica.flush(at_ms(ms), said);
}

fn ack(replica: &mut Replica, ms: u64, strm: u64, matched: u64, snap_ok: bool, said: &mut Said) {
    let (cfg, strm, matched) = (replica.cfg(), StreamId(strm), Seq(matched));
    let msg = PeerMsg::Ack { pid: PID, cfg, strm, matched, snap_ok };
    replica.receive(at_ms(ms), PEER, &msg, said);
    replica.flush(at_ms(ms), said);
}

/// Asks for the value of `k`.
fn get(replica: &mut Replica, ms: u64, id: u64, said: &mut Said) {
    let caller = Caller { connection: 9, id };
    replica.request(at_ms(ms), caller, &Request::new(Ver(1), Op::Get { key: b"k" }), said);
    replica.flush(at_ms(ms), said);
}

/// The peer confirms a barrier, or says so of an older one.
fn confirm(replica: &mut Replica, ms: u64, barrier: u64, grant: bool, said: &mut Said) {
    let cfg = replica.cfg();
    let msg = PeerMsg::BarrierAck { pid: PID, cfg, id: barrier, epoch: Ver(0), grant };
    replica.receive(at_ms(ms), PEER, &msg, said);
    replica.flush(at_ms(ms), said);
}

#[test]
fn a_write_is_answered_when_every_in_sync_replica_holds_it() {
    let mut said = Said::default();
    let mut replica = primary(&part(2, &[ME, PEER], &[], &[ME, PEER]), 2, &mut said);
    ack(&mut replica, 1, 0, 0, false, &mut said);
    get(&mut replica, 2, 7, &mut said);
    confirm(&mut replica, 2, 1, true, &mut said);
    put(&mut replica, 2, 1, b"k", &mut said);
    assert_eq!(said.replies, [(7, "Absent".to_owned())]);
    assert_eq!(committed(&replica, b"k"), Some(None), "what is not committed is not seen");
    ack(&mut replica, 3, 0, 1, false, &mut said);
    assert_eq!(said.replies[1], (1, "Done".to_owned()));
    assert_eq!(committed(&replica, b"k"), Some(Some(b"v".as_slice())));
}

/// R1, R2, E2: the first read asks, those after it do not, until the lease has run out.
#[test]
fn a_read_is_answered_under_a_lease_or_after_a_barrier() {
    let mut said = Said::default();
    let mut replica = primary(&part(2, &[ME, PEER], &[], &[ME, PEER]), 2, &mut said);
    ack(&mut replica, 1, 0, 0, false, &mut said);
    get(&mut replica, 10, 1, &mut said);
    get(&mut replica, 11, 2, &mut said);
    assert!(said.replies.is_empty(), "nobody has confirmed anything");
    confirm(&mut replica, 12, 1, false, &mut said);
    assert_eq!(said.replies.len(), 1, "the second read came after the barrier was sent");
    confirm(&mut replica, 13, 1, true, &mut said);
    assert_eq!(said.replies.len(), 1, "an answer to an earlier barrier says nothing");
    confirm(&mut replica, 14, 2, true, &mut said);
    assert_eq!(said.replies.len(), 2);
    // The second barrier was sent at 12.
    get(&mut replica, 361, 3, &mut said);
    assert_eq!(said.replies.len(), 3);
    get(&mut replica, 362, 4, &mut said);
    assert_eq!(said.replies.len(), 3, "the lease has run out");
    // Whoever waits is answered when nobody has to be asked any more.
    adopt(&mut replica, 3, 1, &part(3, &[ME], &[], &[ME]), &mut said);
    assert_eq!(said.replies.len(), 4);
    assert_eq!(replica.reads_until(), Nanos::NEVER);
}

/// A learner that is counted could be promoted next: its lease is needed, too.
#[test]
fn a_counted_learner_ends_the_leases_that_lack_its_own() {
    let mut said = Said::default();
    let mut replica = primary(&part(2, &[ME], &[(PEER, 2)], &[ME, PEER]), 1, &mut said);
    get(&mut replica, 1, 1, &mut said);
    assert_eq!(said.replies.len(), 1);
    ack(&mut replica, 2, 2 << 20 | 1, 0, true, &mut said);
    assert!(matches!(said.proposed[..], [Command::AddInSync { .. }]));
    get(&mut replica, 3, 2, &mut said);
    assert_eq!(said.replies.len(), 1);
    confirm(&mut replica, 4, 1, true, &mut said);
    assert_eq!(said.replies.len(), 2);
}

/// A backup that was promoted after `earlier` primaries, and serves as soon as it may.
fn promoted(earlier: &[(u64, MemberId)], cfg: u64, said: &mut Said) -> Replica {
    let mut replica = Replica::new(PID, ME, 1 << 20);
    replica.bootstrap();
    for (cfg, primary) in earlier {
        let row = Part { primary: *primary, ..part(*cfg, &[ME, PEER, OTHER], &[], &[ME]) };
        adopt(&mut replica, *cfg, 1, &row, said);
        assert_eq!(replica.role(), Role::Backup);
    }
    adopt(&mut replica, cfg, 1, &part(cfg, &[ME], &[], &[ME]), said);
    replica
}

/// N1: without the old primary's word, the wait is as long as what it was promised.
#[test]
fn a_promoted_backup_serves_when_its_predecessor_cannot_any_more() {
    let mut said = Said::default();
    said.leases.give(PEER, Nanos::ZERO);
    said.leases.give(OTHER, Nanos::from_millis(100));
    let mut replica = promoted(&[(1, PEER)], 2, &mut said);
    put(&mut replica, 1, 1, b"k", &mut said);
    replica.tick(at_ms(432), &mut said);
    assert_eq!((replica.role(), said.replies.len()), (Role::Recovering, 0));
    replica.tick(at_ms(433), &mut said);
    assert_eq!(replica.role(), Role::Primary);
    assert_eq!(said.replies, [(1, "Done".to_owned())], "what was held is executed");
}

#[test]
fn a_promoted_backup_waits_for_all_its_predecessors() {
    let mut said = Said::default();
    said.leases.give(PEER, Nanos::from_millis(100));
    said.leases.give(OTHER, Nanos::ZERO);
    let replica = promoted(&[(1, PEER), (2, OTHER)], 3, &mut said);
    assert_eq!(replica.serves_at(), Some(Nanos::from_millis(533)), "the last one never served");
    let mut said = Said::default();
    let replica = promoted(&[(1, PEER), (2, OTHER)], 3, &mut said);
    assert_eq!(replica.role(), Role::Primary, "nobody was promised anything");
}

#[test]
fn whoever_was_primary_unseen_is_a_predecessor() {
    let mut said = Said::default();
    said.leases.give(OTHER, Nanos::from_millis(100));
    let replica = promoted(&[(1, PEER)], 3, &mut said);
    assert_eq!(replica.serves_at(), Some(Nanos::from_millis(533)), "in configuration 2");
}

#[test]
fn a_full_node_refuses_what_it_could_not_keep() {
    let mut said = Said::default();
    let mut replica = primary(&part(2, &[ME, PEER], &[], &[ME, PEER]), 2, &mut said);
    let caller = Caller { connection: 9, id: 1 };
    let op = Op::Put { key: b"k", value: b"v", ttl_ms: 0, if_absent: false };
    let full = Moment { backlog_full: true, ..at_ms(1) };
    // Reconciling first, then serving: neither keeps it.
    replica.request(full, caller, &Request::new(Ver(1), op), &mut said);
    ack(&mut replica, 1, 0, 0, false, &mut said);
    replica.request(full, caller, &Request::new(Ver(1), op), &mut said);
    assert_eq!(said.replies, [(1, "Busy".to_owned()), (1, "Busy".to_owned())]);
    assert_eq!((replica.last(), replica.backlog_bytes()), (Seq(0), 0));
    put(&mut replica, 2, 2, b"k", &mut said);
    assert_eq!(replica.backlog_bytes(), 2);
}

#[test]
fn an_acknowledgement_of_another_configuration_counts_for_nothing() {
    let mut said = Said::default();
    let mut replica = primary(&part(2, &[ME, PEER], &[], &[ME, PEER]), 2, &mut said);
    put(&mut replica, 1, 1, b"k", &mut said);
    let stale = PeerMsg::Ack {
        pid: PID,
        cfg: Cfg(1),
        strm: StreamId::ZERO,
        matched: Seq(1),
        snap_ok: false,
    };
    replica.receive(at_ms(2), PEER, &stale, &mut said);
    assert!(said.replies.is_empty());
    ack(&mut replica, 3, 0, 1, false, &mut said);
    assert_eq!(said.replies.len(), 1);
}

/// W5. A retry must not look like progress.
#[test]
fn a_backup_that_stays_silent_for_a_second_is_proposed_for_removal() {
    let third = MemberId(3);
    let mut said = Said::default();
    let row = part(2, &[ME, PEER, third], &[], &[ME, PEER, third]);
    let mut replica = primary(&row, 2, &mut said);
    ack(&mut replica, 1, 0, 0, false, &mut said);
    let msg = PeerMsg::Ack {
        pid: PID,
        cfg: Cfg(2),
        strm: StreamId::ZERO,
        matched: Seq(0),
        snap_ok: false,
    };
    replica.receive(at_ms(1), third, &msg, &mut said);
    // A long quiet time is no silence.
    put(&mut replica, 60_000, 1, b"k", &mut said);
    ack(&mut replica, 60_001, 0, 1, false, &mut said);
    let mut removed_at = None;
    for ms in (60_000..63_000).step_by(50) {
        replica.tick(at_ms(ms), &mut said);
        replica.flush(at_ms(ms), &mut said);
        if removed_at.is_none() && !said.proposed.is_empty() {
            removed_at = Some(ms);
        }
    }
    let expected = Command::Remove { pid: PID, cfg: Cfg(2), mid: third };
    assert_eq!(said.proposed.first(), Some(&expected));
    assert!((61_000..61_200).contains(&removed_at.unwrap()), "{removed_at:?}");
}

/// The streams that were begun.
fn begun(said: &Said) -> Vec<StreamId> {
    let begin = |(_, bytes): &(MemberId, Vec<u8>)| match PeerMsg::decode(bytes) {
        Ok(PeerMsg::SnapBegin { strm, .. }) => Some(strm),
        _ => None,
    };
    said.sent.iter().filter_map(begin).collect()
}

/// L4: the two need not wait until the stream must have been lost.
#[test]
fn a_stream_that_its_learner_does_not_have_begins_again_soon() {
    let mut said = Said::default();
    let mut replica = primary(&part(1, &[ME], &[(PEER, 2)], &[ME, PEER]), 1, &mut said);
    let first = begun(&said)[0];
    let lost = PeerMsg::SnapLost { pid: PID, strm: first };
    replica.receive(at_ms(1), PEER, &lost, &mut said);
    for ms in [20, 60] {
        replica.tick(at_ms(ms), &mut said);
        replica.flush(at_ms(ms), &mut said);
        assert_eq!(begun(&said).len(), if ms == 20 { 1 } else { 2 });
    }
    // A learner whose map was newer when it began has not taken it, and says so at its end.
    let mut said = Said::default();
    let mut replica = learner(&mut said);
    let end = PeerMsg::SnapEnd { pid: PID, strm: first, count: 0 };
    replica.receive(at_ms(1), ME, &end, &mut said);
    let mut answer = Vec::new();
    lost.encode(&mut answer);
    assert_eq!(said.sent, [(ME, answer)]);
}

/// L5. Each put arrives before the acknowledgement of the one before.
#[test]
fn a_learner_under_steady_writes_becomes_in_sync() {
    let mut said = Said::default();
    let mut replica = primary(&part(1, &[ME], &[(PEER, 2)], &[ME, PEER]), 1, &mut said);
    let strm = begun(&said)[0];
    let key = |n: u64| format!("k{n}").into_bytes();
    put(&mut replica, 1, 1, &key(1), &mut said);
    for n in 2..50 {
        put(&mut replica, n, n, &key(n), &mut said);
        ack(&mut replica, n, strm.0, n - 1, true, &mut said);
    }
    let wanted = Command::AddInSync { pid: PID, cfg: Cfg(1), mid: PEER, lid: LearnerId(2) };
    assert!(said.proposed.contains(&wanted), "{:?}", said.proposed);
}

fn learner(said: &mut Said) -> Replica {
    let mut replica = Replica::new(PID, PEER, 1 << 20);
    adopt(&mut replica, 2, 1, &part(1, &[ME], &[(PEER, 2)], &[ME, PEER]), said);
    assert_eq!(replica.role(), Role::Learner);
    replica
}

fn snapshot(replica: &mut Replica, strm: u64, items: &[(&[u8], u64)], said: &mut Said) {
    let begin = PeerMsg::SnapBegin {
        pid: PID,
        cfg: Cfg(1),
        lid: LearnerId(2),
        strm: StreamId(strm),
        start: Seq(9),
        resets: 0,
    };
    replica.receive(at_ms(1), ME, &begin, said);
    let item = |(key, ver): &(&'static [u8], u64)| crate::wire::Item {
        key,
        value: b"old",
        ver: Seq(*ver),
        expires_at_ms: 0,
    };
    let items: Vec<(&'static [u8], u64)> =
        items.iter().map(|(key, ver)| (&*key.to_vec().leak(), *ver)).collect();
    let items = items.iter().map(item).collect();
    let chunk = PeerMsg::SnapChunk { pid: PID, strm: StreamId(strm), index: 0, items };
    replica.receive(at_ms(1), ME, &chunk, said);
}

/// L1, L2: the first message of a stream that was replaced may be handled late.
#[test]
fn a_late_stream_does_not_wipe_a_newer_one() {
    let mut said = Said::default();
    let mut replica = learner(&mut said);
    snapshot(&mut replica, 8, &[(b"k", 3)], &mut said);
    let end = PeerMsg::SnapEnd { pid: PID, strm: StreamId(8), count: 1 };
    replica.receive(at_ms(2), ME, &end, &mut said);
    assert!(replica.is_complete());
    snapshot(&mut replica, 7, &[], &mut said);
    assert!(replica.is_complete());
    assert_eq!(replica.stats(at_ms(2)).keys, 1);
}

/// L3: a deletion that came with the live entries outlives an older value of the snapshot.
#[test]
fn a_snapshot_does_not_bring_back_what_was_deleted() {
    let mut said = Said::default();
    let mut replica = learner(&mut said);
    snapshot(&mut replica, 8, &[], &mut said);
    let delete = EntryRef {
        ecfg: Cfg(1),
        seq: Seq(10),
        session: crate::wire::Session::default(),
        effect: crate::wire::Effect::Delete { key: b"k" },
        outcome: crate::wire::Outcome::Done,
    };
    let append = PeerMsg::Append {
        pid: PID,
        cfg: Cfg(1),
        strm: StreamId(8),
        sync: false,
        prev: Seq(9),
        prev_ecfg: Cfg(1),
        commit: Seq(10),
        last: Seq(10),
        entries: vec![delete],
    };
    replica.receive(at_ms(2), ME, &append, &mut said);
    let item = crate::wire::Item { key: b"k", value: b"old", ver: Seq(4), expires_at_ms: 0 };
    let chunk = PeerMsg::SnapChunk { pid: PID, strm: StreamId(8), index: 1, items: vec![item] };
    replica.receive(at_ms(3), ME, &chunk, &mut said);
    assert_eq!(replica.stats(at_ms(3)).keys, 0);
}

/// A2, P3: fencing, and the one cut that a reconciliation may make.
#[test]
fn a_backup_refuses_an_old_primary_and_cuts_only_once() {
    let mut said = Said::default();
    let mut replica = learner(&mut said);
    snapshot(&mut replica, 8, &[], &mut said);
    let end = PeerMsg::SnapEnd { pid: PID, strm: StreamId(8), count: 1 };
    replica.receive(at_ms(2), ME, &end, &mut said);
    let entry = |seq: u64| EntryRef {
        ecfg: Cfg(3),
        seq: Seq(seq),
        session: crate::wire::Session::default(),
        effect: crate::wire::Effect::None,
        outcome: crate::wire::Outcome::Done,
    };
    let append =
        |cfg: u64, sync: bool, last: u64, entries: Vec<EntryRef<'static>>| PeerMsg::Append {
            pid: PID,
            cfg: Cfg(cfg),
            strm: StreamId::ZERO,
            sync,
            prev: Seq(9),
            prev_ecfg: Cfg::ZERO,
            commit: Seq(9),
            last: Seq(last),
            entries,
        };
    replica.receive(at_ms(3), ME, &append(3, true, 9, vec![]), &mut said);
    assert_eq!(replica.role(), Role::Backup);
    let entries = vec![entry(10), entry(11)];
    replica.receive(at_ms(4), ME, &append(3, false, 11, entries), &mut said);
    assert_eq!(replica.last(), Seq(11));
    replica.receive(at_ms(5), ME, &append(3, true, 9, vec![]), &mut said);
    assert_eq!(replica.last(), Seq(11), "a late double of the reconciliation cuts nothing");
    replica.flush(at_ms(5), &mut said);
    said.sent.clear();
    replica.receive(at_ms(6), MemberId(3), &append(2, true, 9, vec![]), &mut said);
    replica.flush(at_ms(6), &mut said);
    let answer = said.sent.iter().map(|(_, bytes)| PeerMsg::decode(bytes)).next_back();
    assert!(matches!(answer, Some(Ok(PeerMsg::Nack { cfg: Cfg(3), .. }))), "{answer:?}");
}

/// The new primary reconciles in the same turn in which a last word of the old one arrives: if the
/// answer to the one took the place of the other, the new one would wait for a retry.
#[test]
fn each_sender_of_a_turn_is_answered() {
    let mut said = Said::default();
    let mut replica = learner(&mut said);
    snapshot(&mut replica, 8, &[], &mut said);
    let end = PeerMsg::SnapEnd { pid: PID, strm: StreamId(8), count: 1 };
    replica.receive(at_ms(2), ME, &end, &mut said);
    replica.flush(at_ms(2), &mut said);
    said.sent.clear();
    let append = |cfg: u64, sync: bool| PeerMsg::Append {
        pid: PID,
        cfg: Cfg(cfg),
        strm: StreamId::ZERO,
        sync,
        prev: Seq(9),
        prev_ecfg: Cfg::ZERO,
        commit: Seq(9),
        last: Seq(9),
        entries: vec![],
    };
    replica.receive(at_ms(3), MemberId(3), &append(3, true), &mut said);
    replica.receive(at_ms(3), ME, &append(2, false), &mut said);
    replica.flush(at_ms(3), &mut said);
    let answered: Vec<MemberId> = said.sent.iter().map(|(to, _)| *to).collect();
    assert_eq!(answered, [MemberId(3), ME]);
}

/// G3: a partition that was reset is empty and complete, at each of its new replicas, once.
#[test]
fn a_lost_partition_begins_again_empty() {
    let mut said = Said::default();
    let mut replica = Replica::new(PID, ME, 1 << 20);
    let lost = Part { primary: PEER, state: PartState::Lost, ..part(4, &[PEER], &[], &[ME]) };
    adopt(&mut replica, 5, 1, &lost, &mut said);
    get(&mut replica, 6, 1, &mut said);
    assert_eq!(said.replies, [(1, "DataLost { resets: 0 }".to_owned())]);
    let reset = Part { resets: 1, ..part(6, &[ME, PEER], &[], &[ME, PEER]) };
    adopt(&mut replica, 6, 1, &reset, &mut said);
    assert_eq!((replica.role(), replica.is_complete()), (Role::Recovering, true));
    ack(&mut replica, 7, 0, 0, false, &mut said);
    replica.tick(at_ms(500), &mut said);
    put(&mut replica, 501, 2, b"k", &mut said);
    ack(&mut replica, 502, 0, 1, false, &mut said);
    assert_eq!(said.replies[1], (2, "Done".to_owned()));
    // A later row of the same life wipes nothing.
    adopt(&mut replica, 7, 1, &Part { resets: 1, ..part(7, &[ME], &[], &[ME]) }, &mut said);
    assert_eq!(committed(&replica, b"k"), None, "it reconciles, or is not asked yet");
    get(&mut replica, 503, 3, &mut said);
    assert_eq!(said.replies[2], (3, "Value([118])".to_owned()));
}
