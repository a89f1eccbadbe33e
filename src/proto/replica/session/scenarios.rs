//! Replicas that are sent the same mutation more than once, or one that depends on what is there.

use super::*;
use crate::base::{Cfg, MemberId, PartitionId, StreamId, Ver};
use crate::proto::{Disposition, Leases, MapRow};
use crate::ring::{Part, ReplicaSet};
use crate::wire::{Command, Op, PeerMsg};

const ME: MemberId = MemberId(1);
const PEER: MemberId = MemberId(2);
const PID: PartitionId = PartitionId(0);
const SID: u128 = 77;

/// What a replica answers: callers with replies.
#[derive(Default)]
struct Said(Vec<(u64, String)>);

impl Outbox for Said {
    fn send(&mut self, _: MemberId, _: &PeerMsg<'_>) {}
    fn reply(&mut self, to: Caller, reply: &Reply<'_>) {
        self.0.push((to.id, format!("{reply:?}")));
    }
    fn propose(&mut self, _: Command) {}
    fn bulk_room(&self, _: MemberId) -> Option<usize> {
        Some(1 << 20)
    }
    fn leases(&mut self, f: &mut dyn FnMut(&mut Leases)) {
        f(&mut Leases::default());
    }
}

/// One replica and what it said.
struct Scene {
    replica: Replica,
    said: Said,
    ver: u64,
    ms: u64,
}

impl Scene {
    /// A primary without backups.
    fn alone() -> Self {
        let mut replica = Replica::new(PID, ME, 1 << 20);
        replica.bootstrap();
        let mut scene = Self { replica, said: Said::default(), ver: 0, ms: 1 };
        scene.adopt(1, &[ME], 1);
        scene
    }

    /// A primary with a backup that holds everything.
    fn pair() -> Self {
        let mut scene = Self::alone();
        scene.adopt(2, &[ME, PEER], 2);
        scene.ack(0);
        scene
    }

    fn at(&self) -> Moment {
        Moment {
            now: Nanos::from_millis(self.ms),
            unix_ms: 1_000_000 + self.ms,
            memory_full: false,
            backlog_full: false,
        }
    }

    fn adopt(&mut self, cfg: u64, isr: &[MemberId], required: u8) {
        let isr: ReplicaSet = isr.iter().copied().collect();
        let (cfg, pcfg) = (Cfg(cfg), Cfg(cfg - 1));
        let part = Part { cfg, pcfg, primary: ME, isr, goal: isr, ..Part::default() };
        self.ver += 1;
        let row = MapRow { ver: Ver(self.ver), required, leases: true, part: &part };
        self.replica.adopt(self.at(), row, &mut self.said);
        self.flush();
    }

    fn flush(&mut self) {
        self.replica.flush(self.at(), &mut self.said);
        self.replica.check_invariants().unwrap();
    }

    fn ack(&mut self, matched: u64) {
        let (cfg, matched) = (self.replica.cfg(), Seq(matched));
        let strm = StreamId::ZERO;
        let msg = PeerMsg::Ack { pid: PID, cfg, strm, matched, snap_ok: false };
        self.replica.receive(self.at(), PEER, &msg, &mut self.said);
        self.flush();
    }

    /// A message by `caller` about operation `number`; attempt 0 of number 1 opens.
    fn send(&mut self, caller: u64, number: u64, attempt: u8, op: Op<'_>) {
        let session = Session { sid: SID, number, floor: 1 };
        self.ask(caller, session, attempt, op);
    }

    fn ask(&mut self, caller: u64, session: Session, attempt: u8, op: Op<'_>) {
        let opens = attempt == 0 && session.number == 1;
        let request = Request { session, attempt, opens, ..Request::new(Ver(1), op) };
        let caller = Caller { connection: 9, id: caller };
        let handed = self.replica.request(self.at(), caller, &request, &mut self.said);
        assert_eq!(handed, Disposition::Accepted);
        self.flush();
    }

    /// What was said since the last time.
    fn heard(&mut self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.said.0)
    }

    fn hears(&mut self, expected: &[(u64, &str)]) {
        let expected: Vec<(u64, String)> =
            expected.iter().map(|(caller, reply)| (*caller, (*reply).to_owned())).collect();
        assert_eq!(self.heard(), expected);
    }

    fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.replica.live(self.at(), key).map(|entry| entry.value.to_vec())
    }
}

fn put(value: &[u8]) -> Op<'_> {
    Op::Put { key: b"k", value, ttl_ms: 0, if_absent: false }
}

fn incr(delta: i64) -> Op<'static> {
    Op::Incr { key: b"n", delta, ttl_ms: 0 }
}

fn cas<'a>(expected: Option<&'a [u8]>, value: &'a [u8]) -> Op<'a> {
    Op::Cas { key: b"k", expected, value, ttl_ms: 0 }
}

/// S2, W1': `nodedup`, and its half for entries that are not committed yet.
#[test]
fn everybody_who_sends_a_mutation_is_answered_and_it_is_executed_once() {
    let mut scene = Scene::pair();
    scene.send(1, 1, 0, incr(5));
    scene.send(2, 1, 1, incr(5));
    assert_eq!(scene.replica.last(), Seq(1));
    scene.hears(&[]);
    scene.ack(1);
    scene.hears(&[(1, "Number(5)"), (2, "Number(5)")]);
    scene.send(3, 1, 2, incr(5));
    scene.hears(&[(3, "Number(5)")]);
    assert_eq!((scene.replica.last(), scene.value(b"n")), (Seq(1), Some(b"5".to_vec())));
    let full = Moment { memory_full: true, ..scene.at() };
    let session = Session { sid: SID, number: 1, floor: 1 };
    let request = Request { session, attempt: 3, ..Request::new(Ver(1), incr(5)) };
    scene.replica.request(full, Caller { connection: 9, id: 4 }, &request, &mut scene.said);
    scene.hears(&[(4, "Number(5)")]);
}

/// A primary without backups keeps no log, but it remembers.
#[test]
fn a_primary_alone_remembers_too() {
    let mut scene = Scene::alone();
    scene.send(1, 2, 0, incr(1));
    scene.send(2, 1, 1, incr(1));
    scene.send(3, 1, 0, incr(1));
    scene.send(4, 1, 1, incr(1));
    scene.send(5, 2, 1, incr(1));
    let unknown = "SessionUnknown";
    let numbers = [(3, "Number(1)"), (4, "Number(1)"), (5, "Number(2)")];
    scene.hears(&[&[(1, unknown), (2, unknown)], &numbers[..]].concat());
    assert_eq!(scene.replica.session_count(), 1);
    assert!(scene.replica.close_any_session(3));
    scene.send(6, 2, 2, incr(1));
    scene.hears(&[(6, unknown)]);
    assert_eq!(scene.replica.session_count(), 0);
}

/// S2', W4': `s2nohold`. What is told again needs as many copies as what is told first.
#[test]
fn a_record_is_not_told_while_there_are_too_few_copies() {
    let mut scene = Scene::pair();
    scene.send(1, 1, 0, put(b"v"));
    scene.adopt(3, &[ME], 2);
    assert_eq!(scene.replica.commit(), Seq(1), "committed, and held");
    scene.send(2, 1, 1, put(b"v"));
    scene.hears(&[]);
    scene.adopt(4, &[ME, PEER], 2);
    scene.ack(1);
    scene.hears(&[(1, "Done"), (2, "Done")]);
    // `minnohold`: what is not executed yet is not even begun.
    scene.adopt(5, &[ME], 2);
    scene.send(3, 2, 0, put(b"w"));
    scene.hears(&[(3, "NotEnoughReplicas { have: 1, need: 2 }")]);
    scene.adopt(6, &[ME], 1);
    scene.send(4, 2, 1, put(b"w"));
    scene.hears(&[(4, "Done")]);
}

/// S4: `casfail`. An older message of the same operation must not find the condition fulfilled.
#[test]
fn a_condition_that_failed_stays_failed() {
    let mut scene = Scene::alone();
    scene.send(1, 1, 0, cas(Some(b"a"), b"b"));
    scene.send(2, 2, 0, put(b"a"));
    scene.send(3, 1, 1, cas(Some(b"a"), b"b"));
    scene.hears(&[(1, "Mismatch"), (2, "Done"), (3, "Mismatch")]);
    assert_eq!(scene.value(b"k"), Some(b"a".to_vec()));
    scene.send(4, 3, 0, cas(Some(b"a"), b"b"));
    scene.send(5, 4, 0, cas(None, b"c"));
    scene.hears(&[(4, "Done"), (5, "Mismatch")]);
    assert_eq!(scene.value(b"k"), Some(b"b".to_vec()));
}

/// W2: conditions and sums see what is not committed, and are answered when it is.
#[test]
fn sums_add_up_before_they_are_committed() {
    let mut scene = Scene::pair();
    scene.send(1, 1, 0, incr(2));
    scene.send(2, 2, 0, incr(40));
    scene.send(3, 3, 0, cas(None, b"x"));
    scene.send(4, 4, 0, cas(Some(b"x"), b"y"));
    scene.ack(2);
    scene.hears(&[(1, "Number(2)"), (2, "Number(42)")]);
    scene.ack(4);
    scene.hears(&[(3, "Done"), (4, "Done")]);
    assert_eq!(scene.value(b"k"), Some(b"y".to_vec()));
}

#[test]
fn what_is_no_number_is_not_added_to() {
    let mut scene = Scene::alone();
    let values: [(&[u8], &str); 8] = [
        (b"", "NotANumber"),
        (b"1x", "NotANumber"),
        (b"\xFF", "NotANumber"),
        (b"9223372036854775808", "NotANumber"),
        (b"9223372036854775807", "Overflow"),
        (b"-9223372036854775808", "Number(-9223372036854775807)"),
        (b"007", "Number(8)"),
        (b"-1", "Number(0)"),
    ];
    for (number, (value, expected)) in (1..).zip(values) {
        scene.send(1, 2 * number - 1, 0, put(value));
        scene.heard();
        scene.send(2, 2 * number, 0, Op::Incr { key: b"k", delta: 1, ttl_ms: 0 });
        scene.hears(&[(2, expected)]);
        let kept = !expected.starts_with("Number");
        assert_eq!(scene.value(b"k").unwrap() == value, kept);
    }
}

#[test]
fn a_sum_lives_as_long_as_what_it_began_with() {
    let mut scene = Scene::alone();
    let within = |ttl_ms| Op::Incr { key: b"n", delta: 1, ttl_ms };
    scene.send(1, 1, 0, within(100));
    scene.ms += 60;
    scene.send(2, 2, 0, within(100));
    scene.ms += 60;
    scene.send(3, 3, 0, within(0));
    scene.ms += 10_000;
    scene.send(4, 4, 0, within(100));
    let sums = [(1, "Number(1)"), (2, "Number(2)"), (3, "Number(1)"), (4, "Number(2)")];
    scene.hears(&sums);
}

/// `nodedup2`: the log of a new primary names operations that nobody waits for yet.
#[test]
fn a_new_primary_knows_what_its_log_says() {
    let mut scene = Scene::pair();
    scene.send(1, 1, 0, incr(5));
    // It steps down for a primary of a newer configuration, which sends nothing new.
    let sync = |cfg: u64| PeerMsg::Append {
        pid: PID,
        cfg: Cfg(cfg),
        strm: StreamId::ZERO,
        sync: true,
        prev: Seq(1),
        prev_ecfg: Cfg(2),
        commit: Seq::ZERO,
        last: Seq(1),
        entries: Vec::new(),
    };
    scene.replica.receive(scene.at(), PEER, &sync(3), &mut scene.said);
    scene.hears(&[(1, "Unknown")]);
    scene.adopt(4, &[ME, PEER], 2);
    let (cfg, was_active_at) = (Cfg(4), Cfg(3));
    let stopped = PeerMsg::Relinquish { pid: PID, cfg, was_active_at };
    scene.replica.receive(scene.at(), PEER, &stopped, &mut scene.said);
    scene.send(2, 1, 1, incr(5));
    scene.ack(1);
    scene.hears(&[(2, "Number(5)")]);
    assert_eq!((scene.replica.last(), scene.value(b"n")), (Seq(1), Some(b"5".to_vec())));
}

/// S1e: too many sessions close the ones that were used least recently.
#[test]
fn a_partition_remembers_so_many_sessions() {
    for backups in [false, true] {
        let mut scene = if backups { Scene::pair() } else { Scene::alone() };
        let of = |client: u64| Session { sid: 1000 + u128::from(client), number: 1, floor: 1 };
        for client in 0..1500 {
            scene.ask(client, of(client), 0, incr(1));
            if backups {
                scene.ack(scene.replica.last().0);
            }
        }
        assert_eq!(scene.heard().len(), 1500);
        assert!((960..=1024).contains(&scene.replica.session_count()));
        scene.ask(1, of(0), 1, incr(1));
        scene.ask(2, of(1499), 1, incr(1));
        scene.hears(&[(1, "SessionUnknown"), (2, "Number(1500)")]);
    }
    // Sessions that are only being opened cannot be closed.
    let mut scene = Scene::pair();
    for client in 0..1030 {
        let session = Session { sid: 1000 + client, number: 1, floor: 1 };
        scene.ask(7, session, 0, incr(1));
    }
    assert_eq!(scene.heard(), vec![(7, "Busy".to_owned()); 6]);
}

#[test]
fn a_session_that_was_not_used_for_an_hour_is_closed() {
    let mut scene = Scene::alone();
    scene.send(1, 1, 0, incr(1));
    assert!(scene.replica.has_sessions());
    for minute in 0..120 {
        scene.ms = minute * 60_000;
        let fresh = Session { sid: 5, number: 1 + minute, floor: 1 + minute };
        scene.ask(2, fresh, 0, incr(1));
        scene.replica.collect_sessions(scene.at());
        scene.flush();
        assert_eq!(scene.replica.session_count(), if minute < 60 { 2 } else { 1 }, "{minute}");
    }
}
