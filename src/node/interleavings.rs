//! Orders in which the threads of a node can meet while it follows a new map.
//!
//! The control thread follows the map (A1) while a worker answers peers and clients. What the two
//! share are the leases, the map and the replicas, each under its own lock; these tests are about
//! the steps between the locks. The node is real but for its connections, and so is what it does.

use std::sync::Arc;

use shuttle::thread;

use super::shared::Membership;
use super::sync::Mutex;
use crate::base::{Cfg, ClusterId, MemberId, Nanos, PartitionId, Ver};
use crate::proto::replica::Role;
use crate::proto::{Caller, Leases, Moment, Outbox};
use crate::ring::{Params, Part, ReplicaSet, RingMap};
use crate::wire::{Command, Op, PeerMsg, Reply, Request};

const OLD: MemberId = MemberId(1);
const NEW: MemberId = MemberId(2);
/// Two partitions: one is looked at while something happens in the other.
const PIDS: [PartitionId; 2] = [PartitionId(0), PartitionId(1)];
/// Orders that are tried at random; there are too many to try each.
const ORDERS: usize = 20_000;
/// A promise that is given now ends then, at the earliest.
const PROMISED: Nanos = Nanos::from_millis(1000 + 433);

fn now() -> Moment {
    Moment { now: Nanos::from_millis(1000), unix_ms: 1, memory_full: false, backlog_full: false }
}

/// Version `ver` of a ring of two, whose partitions have that primary and these replicas.
fn map(ver: u64, primary: MemberId, isr: &[MemberId]) -> Arc<RingMap> {
    let isr: ReplicaSet = isr.iter().copied().collect();
    let (cfg, pcfg) = (Cfg(ver), Cfg(ver - 1));
    let part = Part { cfg, pcfg, primary, isr, goal: isr, ..Part::default() };
    Arc::new(RingMap {
        cluster: ClusterId(1),
        generation: 0,
        ver: Ver(ver),
        epoch: Ver(ver),
        params: Params { partitions: 2, ..Params::default() },
        required: 1,
        next_mid: MemberId(3),
        members: Default::default(),
        parts: vec![part; 2],
        voters: Vec::new(),
        voters_since: Ver::ZERO,
    })
}

/// What a replica says: leases that it gave, and answers.
#[derive(Default)]
struct Said {
    given: Vec<Ver>,
    replies: Vec<String>,
}

struct Out<'a>(&'a Membership, &'a mut Said);

impl Outbox for Out<'_> {
    fn send(&mut self, _: MemberId, msg: &PeerMsg<'_>) {
        if let PeerMsg::BarrierAck { epoch, grant: true, .. } = msg {
            self.1.given.push(*epoch);
        }
    }
    fn reply(&mut self, _: Caller, reply: &Reply<'_>) {
        self.1.replies.push(format!("{reply:?}"));
    }
    fn propose(&mut self, _: Command) {}
    fn bulk_room(&self, _: MemberId) -> Option<usize> {
        None
    }
    fn leases(&mut self, f: &mut dyn FnMut(&mut Leases)) {
        f(&mut self.0.leases.lock());
    }
}

fn follow(member: &Membership, map: &Arc<RingMap>) {
    member.follow(map, PIDS, |pid, row| {
        let mut replica = member.replica(pid).expect("the ring has it").lock();
        replica.adopt(now(), row, &mut Out(member, &mut Said::default()));
    });
}

/// A member that has a complete copy, and follows the second map.
fn member(me: MemberId, second: &Arc<RingMap>) -> Arc<Membership> {
    let first = map(1, me, &[me]);
    let member = Arc::new(Membership::new(me, Arc::clone(&first)));
    for pid in PIDS {
        member.replica(pid).expect("the ring has it").lock().bootstrap();
    }
    follow(&member, &first);
    follow(&member, second);
    member
}

/// N1: whoever is promoted waits out every lease that the old primary may count, also one that
/// another partition's barrier gave it after the replica had looked at the promises.
#[test]
fn a_lease_that_counts_is_waited_out() {
    shuttle::check_random(
        || {
            let member = member(NEW, &map(2, OLD, &[OLD, NEW]));
            let promotion = map(3, NEW, &[NEW]);
            let said = Arc::new(Mutex::new(Said::default()));
            let worker = {
                let (member, said) = (Arc::clone(&member), Arc::clone(&said));
                thread::spawn(move || {
                    let barrier = PeerMsg::Barrier { pid: PIDS[1], cfg: Cfg(2), id: 1 };
                    let mut replica = member.replica(PIDS[1]).expect("the ring has it").lock();
                    let mut said = said.lock();
                    replica.receive(now(), OLD, &barrier, &mut Out(&member, &mut said));
                })
            };
            follow(&member, &promotion);
            worker.join().expect("the worker does not panic");
            let counted = said.lock().given.iter().any(|epoch| *epoch < promotion.epoch);
            let replica = member.replica(PIDS[0]).expect("the ring has it").lock();
            let waits = replica.role() == Role::Recovering
                && replica.serves_at().is_some_and(|at| at >= PROMISED);
            assert!(waits || !counted, "{:?} {:?}", replica.role(), replica.serves_at());
        },
        ORDERS,
    );
}

/// E1: a lease from somebody who knows of the promotion counts only once the replica does, too.
#[test]
fn the_deposed_do_not_read_under_a_newer_lease() {
    shuttle::check_random(
        || {
            let member = member(OLD, &map(2, OLD, &[OLD, NEW]));
            let deposition = map(3, NEW, &[NEW]);
            member.leases.lock().receive(NEW, now().now, deposition.epoch);
            let reader = {
                let member = Arc::clone(&member);
                thread::spawn(move || {
                    let mut said = Said::default();
                    let caller = Caller { connection: 1, id: 1 };
                    let request = Request::new(Ver(2), Op::Get { key: b"k" });
                    let mut replica = member.replica(PIDS[0]).expect("the ring has it").lock();
                    let _ = replica.request(now(), caller, &request, &mut Out(&member, &mut said));
                    said.replies
                })
            };
            follow(&member, &deposition);
            let replies = reader.join().expect("the reader does not panic");
            assert!(!replies.iter().any(|reply| reply == "Absent"), "{replies:?}");
        },
        ORDERS,
    );
}
