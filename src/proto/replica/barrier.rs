//! Reads at the primary: under leases, or after a round to everybody who could depose it.
//!
//! While every in-sync replica and every counted learner has given a lease, none of them serves in
//! my place, and a read is a look into the table (R1). Without that, the read waits until all of
//! them have said that I am still the primary they follow (R2): a *barrier*. It confirms only the
//! reads that came before it was sent. Its answers carry leases, so that the next reads need none.

use super::{Replica, Role};
use crate::base::limits::{HELD_BYTES_MAX, HELD_OPERATIONS_MAX};
use crate::base::{Cfg, MemberId, Nanos, Ver};
use crate::proto::mutants::{self, Mutant};
use crate::proto::{Caller, Moment, Outbox};
use crate::ring::ReplicaSet;
use crate::wire::codec::Reader;
use crate::wire::{PeerMsg, Reply, Request};

/// A barrier that is not confirmed after this long is sent again.
const AGAIN_MS: u64 = 100;

/// The reads of a primary that wait for a confirmation.
///
/// - `round` is there exactly while a barrier is under way; `confirmed` by nobody twice.
/// - `bytes` is the size of all reads that wait.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Reads are answered from the table until then. It is a lease of each replica that is needed,
    /// so it holds whatever happens, as long as no further replica is needed.
    pub(super) leased_until: Nanos,
    round: Option<Round>,
    rounds: u64,
    /// They came after the barrier that is under way was sent.
    waiting: Vec<(Caller, Vec<u8>)>,
    count: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Round {
    id: u64,
    sent_at: Nanos,
    tried_at: Nanos,
    unconfirmed: ReplicaSet,
    reads: Vec<(Caller, Vec<u8>)>,
}

impl Reads {
    /// Keeps a read for the next barrier, unless too many wait already.
    fn wait(&mut self, caller: Caller, request: &Request<'_>, out: &mut dyn Outbox) {
        if self.count >= HELD_OPERATIONS_MAX || self.bytes >= HELD_BYTES_MAX {
            return out.reply(caller, &Reply::Busy);
        }
        let mut bytes = Vec::with_capacity(64);
        request.encode(&mut bytes);
        self.bytes += bytes.len();
        self.count += 1;
        self.waiting.push((caller, bytes));
    }

    /// Another set of replicas is needed: leases and confirmations of the old one are not enough.
    pub(super) fn begin_again(&mut self) {
        self.leased_until = Nanos::ZERO;
        if let Some(round) = self.round.take() {
            self.waiting.splice(0..0, round.reads);
        }
    }

    /// Whether a barrier is under way or due.
    pub(super) fn is_busy(&self) -> bool {
        self.count > 0
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sends the next barrier if reads wait for one and none is under way.
    fn send(&mut self, ask: &Ask, needed: ReplicaSet, out: &mut dyn Outbox) {
        if self.round.is_some() || self.waiting.is_empty() {
            return;
        }
        self.rounds += 1;
        let round = Round {
            id: self.rounds,
            sent_at: ask.now,
            tried_at: ask.now,
            unconfirmed: needed,
            reads: std::mem::take(&mut self.waiting),
        };
        round.send(ask, out);
        self.round = Some(round);
    }

    /// Sends it again, after a while, to those who have not confirmed it.
    pub(super) fn retry(&mut self, ask: &Ask, out: &mut dyn Outbox) {
        let Some(round) = &mut self.round else { return };
        if (ask.now.since(round.tried_at).as_millis() as u64) >= AGAIN_MS {
            round.tried_at = ask.now;
            round.send(ask, out);
        }
    }

    /// What was under way on some connection is lost: the next `retry` does not wait.
    pub(super) fn resend(&mut self) {
        if let Some(round) = &mut self.round {
            round.tried_at = Nanos::ZERO;
        }
    }

    /// Notes a confirmation; when the barrier was sent, if it is the one under way.
    fn confirm(&mut self, from: MemberId, id: u64) -> Option<Nanos> {
        let fits = |id: u64, round: &Round| round.id == id || mutants::on(Mutant::OldConfirmation);
        let round = self.round.as_mut().filter(|round| fits(id, round))?;
        round.unconfirmed.remove(from);
        Some(round.sent_at)
    }

    /// The reads that may be answered now: those of a barrier that everybody who is still needed
    /// has confirmed, and with valid leases all.
    fn take_answerable(&mut self, needed: ReplicaSet, leased: bool) -> Vec<(Caller, Vec<u8>)> {
        let is_confirmed =
            |round: &mut Round| leased || !round.unconfirmed.iter().any(|m| needed.contains(m));
        let round = self.round.take_if(is_confirmed);
        let mut reads = round.map_or_else(Vec::new, |round| round.reads);
        if leased {
            reads.append(&mut self.waiting);
        }
        self.count -= reads.len();
        self.bytes -= reads.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        reads
    }

    /// Everybody who waits: nothing of theirs was answered.
    pub(super) fn dismiss(&mut self) -> impl Iterator<Item = Caller> + use<> {
        self.begin_again();
        (self.count, self.bytes) = (0, 0);
        std::mem::take(&mut self.waiting).into_iter().map(|(caller, _)| caller)
    }
}

/// What every message of one barrier has in common.
pub(super) struct Ask {
    pub(super) now: Nanos,
    pub(super) pid: crate::base::PartitionId,
    pub(super) cfg: Cfg,
}

impl Round {
    fn send(&self, ask: &Ask, out: &mut dyn Outbox) {
        for mid in self.unconfirmed.iter() {
            out.send(mid, &PeerMsg::Barrier { pid: ask.pid, cfg: ask.cfg, id: self.id });
        }
    }
}

impl Replica {
    /// R1: whether the table may be looked into for a read that was received before `at.now`.
    pub(super) fn may_read(&mut self, at: Moment, out: &mut dyn Outbox) -> bool {
        let leases_on = self.leases_on;
        let Some(lead) = &mut self.lead else { return false };
        if at.now < lead.reads.leased_until {
            return true;
        }
        let needed = match mutants::on(Mutant::ShadowLease) {
            true => lead.in_sync(),
            false => lead.needed(),
        };
        let mut until = if needed.is_empty() { Nanos::NEVER } else { Nanos::ZERO };
        if leases_on && !needed.is_empty() {
            out.leases(&mut |leases| until = leases.until(needed.as_slice(), at.now));
        }
        lead.reads.leased_until = until;
        at.now < until
    }

    /// R2: has a read wait for the next barrier, which the next `flush` sends.
    pub(super) fn confirm_read(
        &mut self,
        caller: Caller,
        request: &Request<'_>,
        out: &mut dyn Outbox,
    ) {
        if let Some(lead) = &mut self.lead {
            lead.reads.wait(caller, request, out);
        }
    }

    /// A primary asks whether I still follow it. The promise is recorded before the epoch is read
    /// (E6): whoever adopts a map in between either waits for it or shows in the stamp.
    pub(super) fn on_barrier(
        &mut self,
        at: Moment,
        from: MemberId,
        cfg: Cfg,
        id: u64,
        out: &mut dyn Outbox,
    ) {
        let follows = matches!(self.role, Role::Backup | Role::Learner);
        if cfg != self.cfg || !follows {
            return; // Whoever waits for this finds out by the map.
        }
        let mut epoch = Ver::ZERO;
        if self.leases_on {
            out.leases(&mut |leases| epoch = leases.give(from, at.now));
        }
        let grant = self.leases_on;
        out.send(from, &PeerMsg::BarrierAck { pid: self.pid, cfg, id, epoch, grant });
    }

    pub(super) fn on_barrier_ack(
        &mut self,
        at: Moment,
        from: MemberId,
        ack: &BarrierAck,
        out: &mut dyn Outbox,
    ) {
        let Some(lead) = &mut self.lead else { return };
        if ack.cfg != self.cfg || self.role != Role::Primary {
            return;
        }
        if let Some(sent_at) = lead.reads.confirm(from, ack.id).filter(|_| ack.grant) {
            let counts_from = if mutants::on(Mutant::LeaseFromReceipt) { at.now } else { sent_at };
            out.leases(&mut |leases| leases.receive(from, counts_from, ack.epoch));
        }
    }

    /// Answers the reads that wait for nothing any more, and sends the next barrier for the others.
    pub(super) fn move_reads_on(&mut self, at: Moment, out: &mut dyn Outbox) {
        let is_waiting = |lead: &super::Lead| lead.reads.is_busy();
        if self.role != Role::Primary || !self.lead.as_deref().is_some_and(is_waiting) {
            return;
        }
        let leased = self.may_read(at, out);
        let Some(lead) = &mut self.lead else { return };
        let needed = match mutants::on(Mutant::ShadowBarrier) {
            true => lead.in_sync(),
            false => lead.needed(),
        };
        let answerable = lead.reads.take_answerable(needed, leased);
        lead.reads.send(&Ask { now: at.now, pid: self.pid, cfg: self.cfg }, needed, out);
        for (caller, bytes) in answerable {
            match Request::decode(&mut Reader::new(&bytes)) {
                Ok(request) => self.answer_read(at, caller, &request, out),
                Err(_) => debug_assert!(false, "a read that waits was encoded by us"),
            }
        }
    }
}

/// The fields of a confirmation.
pub(super) struct BarrierAck {
    pub(super) cfg: Cfg,
    pub(super) id: u64,
    pub(super) epoch: Ver,
    pub(super) grant: bool,
}
