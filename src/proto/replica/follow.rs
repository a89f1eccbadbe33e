//! What a replica does with what other replicas send it.

use super::barrier::BarrierAck;
use super::transfer::Incoming;
use super::{Replica, Role};
use crate::base::{Cfg, LearnerId, MemberId, Nanos, Seq, StreamId, Ver};
use crate::proto::mutants::{self, Mutant};
use crate::proto::{Moment, Outbox};
use crate::wire::{EntryRef, PeerMsg};

/// What the next `flush` answers to one sender about one stream: once for all that came in a turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owed {
    to: MemberId,
    strm: StreamId,
    /// The configuration in which it was earned: never another one (W3).
    cfg: Cfg,
    matched: Seq,
    snap_ok: bool,
    is_nack: bool,
}

/// The fields of an acknowledgement.
pub(super) struct Ack {
    cfg: Cfg,
    pub(super) strm: StreamId,
    pub(super) matched: Seq,
    pub(super) snap_ok: bool,
}

/// The fields of an append that follow the identity of its stream.
struct Append<'m> {
    cfg: Cfg,
    strm: StreamId,
    sync: bool,
    prev: Seq,
    prev_ecfg: Cfg,
    commit: Seq,
    last: Seq,
    entries: &'m [EntryRef<'m>],
}

/// No log gets here in the life of the universe: a message that says so is not believed.
const POSITION_MAX: Seq = Seq(1 << 62);

/// What holds of every list of a primary: configurations never decrease along it and none is newer
/// than the primary's own.
fn is_sound(m: &Append<'_>) -> bool {
    let mut floor = m.prev_ecfg;
    let ordered = m.entries.iter().all(|entry| {
        let fits = entry.ecfg >= floor && entry.ecfg <= m.cfg;
        floor = entry.ecfg;
        fits
    });
    ordered && m.last <= POSITION_MAX && m.commit <= m.last
}

/// Leases that are given from now on say that this member knows of the configuration, though its
/// map does not (E1).
fn hear_of(cfg: Cfg, out: &mut dyn Outbox) {
    out.leases(&mut |leases| leases.hear_of(Ver(cfg.0)));
}

impl Replica {
    /// Handles a message of another member about this partition.
    pub fn receive(&mut self, at: Moment, from: MemberId, msg: &PeerMsg<'_>, out: &mut dyn Outbox) {
        match *msg {
            PeerMsg::Append {
                cfg, strm, sync, prev, prev_ecfg, commit, last, ref entries, ..
            } => {
                let append = Append { cfg, strm, sync, prev, prev_ecfg, commit, last, entries };
                self.on_append(from, &append, out);
            }
            PeerMsg::Ack { cfg, strm, matched, snap_ok, .. } => {
                self.on_ack(at, from, &Ack { cfg, strm, matched, snap_ok }, out);
            }
            PeerMsg::Nack { cfg, strm, have, .. } => {
                if let Some(lead) = self.lead.as_mut().filter(|_| cfg <= self.cfg) {
                    lead.on_nack(from, strm, have, &self.log);
                }
            }
            PeerMsg::SnapBegin { cfg, lid, strm, start, resets, .. } => {
                self.on_snap_begin(cfg, (lid, strm), start, resets, out);
            }
            PeerMsg::SnapChunk { strm, index, ref items, .. } => {
                if let Some(incoming) = self.incoming.as_mut().filter(|i| i.strm == strm) {
                    let (keys, bytes) = incoming.chunk(index, items, &mut self.table);
                    self.moved_in.0 += keys;
                    self.moved_in.1 += bytes;
                }
            }
            PeerMsg::SnapSessions { strm, index, ref sessions, .. } => {
                if let Some(incoming) = self.incoming.as_mut().filter(|i| i.strm == strm) {
                    incoming.sessions(index, sessions, &mut self.sessions);
                }
            }
            PeerMsg::SnapEnd { strm, count, .. } => self.on_snap_end(from, strm, count, out),
            PeerMsg::SnapLost { strm, .. } => {
                if let Some(lead) = &mut self.lead {
                    lead.on_snap_lost(from, strm);
                }
            }
            PeerMsg::Relinquish { cfg, was_active_at, .. } => {
                self.on_relinquish(at, cfg, was_active_at, out);
            }
            PeerMsg::Barrier { cfg, id, .. } => self.on_barrier(at, from, cfg, id, out),
            PeerMsg::BarrierAck { cfg, id, epoch, grant, .. } => {
                self.on_barrier_ack(at, from, &BarrierAck { cfg, id, epoch, grant }, out);
            }
            PeerMsg::Forward { .. } | PeerMsg::ForwardReply { .. } => {
                debug_assert!(false, "forwarded requests are no business of a replica");
            }
        }
    }

    pub(super) fn send_owed(&mut self, out: &mut dyn Outbox) {
        let pid = self.pid;
        for Owed { to, strm, cfg, matched, snap_ok, is_nack } in self.owed.drain(..) {
            let msg = match is_nack {
                true => PeerMsg::Nack { pid, cfg, strm, have: matched },
                false => PeerMsg::Ack { pid, cfg, strm, matched, snap_ok },
            };
            out.send(to, &msg);
        }
    }

    /// P1 to P4.
    fn on_append(&mut self, from: MemberId, m: &Append<'_>, out: &mut dyn Outbox) {
        if m.cfg < self.cfg && !mutants::on(Mutant::OldCfg) {
            return self.owe_nack(from, m.strm);
        }
        if !is_sound(m) {
            return log::error!("{:?}: {from:?} sent a list that no primary has", self.pid);
        }
        if m.strm != StreamId::ZERO {
            let mine = self.incoming.as_ref().is_some_and(|i| i.strm == m.strm);
            if self.role != Role::Learner || !mine {
                return;
            }
        } else if !self.follow_primary(from, m, out) {
            return;
        }
        let unknown = m.prev > self.log.last();
        let known_ecfg = m.prev_ecfg != Cfg::ZERO && m.prev > self.commit;
        if unknown || (known_ecfg && self.log.ecfg(m.prev) != m.prev_ecfg) {
            return self.owe_nack(from, m.strm);
        }
        self.take_entries(m);
        let matched = Seq(m.prev.0 + m.entries.len() as u64);
        self.apply_through(m.commit.min(matched));
        self.log.drop_through(self.commit);
        self.owe_ack(from, m.strm, matched);
    }

    /// P1 for the in-sync stream: whether the message may be taken. Adopts a newer cfg (A2).
    fn follow_primary(&mut self, from: MemberId, m: &Append<'_>, out: &mut dyn Outbox) -> bool {
        if !self.complete {
            return false;
        }
        if m.cfg > self.cfg {
            let old_cfg = self.cfg;
            self.cfg = m.cfg;
            hear_of(m.cfg, out);
            self.owed.clear();
            self.step_down(old_cfg, out);
        } else if self.lead.is_some() {
            log::error!("{:?}: {from:?} claims to be primary in my configuration", self.pid);
            return false;
        }
        self.role = Role::Backup;
        self.incoming = None;
        if m.sync
            && let Some(stopped) = self.stopped.filter(|stopped| stopped.cfg == m.cfg)
        {
            self.tell_stopped(from, stopped, out);
        }
        true
    }

    /// P2, P3.
    fn take_entries(&mut self, m: &Append<'_>) {
        for entry in m.entries.iter().filter(|entry| entry.seq > self.commit) {
            if entry.seq <= self.log.last() {
                if self.log.ecfg(entry.seq) == entry.ecfg {
                    continue;
                }
                self.log.truncate_after(Seq(entry.seq.0 - 1));
            }
            self.log.push(entry);
        }
        // Only the first reconciliation of a cfg may cut: a late double of it would cut entries
        // that were acknowledged since.
        if m.sync && (self.synced_cfg < m.cfg || mutants::on(Mutant::SyncTwice)) {
            self.log.truncate_after(m.last.max(self.commit));
            self.synced_cfg = m.cfg;
        }
    }

    fn on_ack(&mut self, at: Moment, from: MemberId, ack: &Ack, out: &mut dyn Outbox) {
        let Some(lead) = &mut self.lead else { return };
        // An acknowledgement of another configuration says nothing about this one (W3).
        let counts =
            ack.strm != StreamId::ZERO || ack.cfg == self.cfg || mutants::on(Mutant::StaleAck);
        if counts && ack.matched <= self.log.last() {
            lead.on_ack(from, ack, at.now);
            self.advance(at, out);
        }
    }

    /// L2: a snapshot may wipe me only if it belongs to my newest stay as learner.
    fn on_snap_begin(
        &mut self,
        cfg: Cfg,
        (lid, strm): (LearnerId, StreamId),
        start: Seq,
        resets: u32,
        out: &mut dyn Outbox,
    ) {
        let in_sync = self.part.cfg == self.cfg && self.part.isr.contains(self.me);
        let role_fits = matches!(self.role, Role::Learner | Role::None);
        // My map is new enough to know of that stay, and does not.
        let unlisted = lid.0 <= self.map_ver.0 && self.part.learner(self.me) != Some(lid);
        // Streams of a partition are numbered upwards: a late one must not wipe a newer one.
        let overtaken = self.incoming.as_ref().is_some_and(|incoming| incoming.strm >= strm);
        let is_other = lid < self.lid || overtaken || unlisted;
        let is_stale = match () {
            () if mutants::on(Mutant::NoLid) => cfg < self.cfg,
            () if mutants::on(Mutant::OlderStream) => lid < self.lid || unlisted,
            () => cfg < self.cfg || is_other || resets < self.resets,
        };
        if is_stale || in_sync || !role_fits || start > POSITION_MAX {
            return;
        }
        self.wipe();
        if !mutants::on(Mutant::OlderStream) {
            self.cfg = self.cfg.max(cfg);
        }
        hear_of(self.cfg, out);
        self.role = Role::Learner;
        self.lid = lid;
        self.resets = resets;
        self.commit = start;
        self.log = super::Log::starting_at(start);
        self.incoming = Some(Box::new(Incoming::new(strm)));
    }

    fn on_snap_end(&mut self, from: MemberId, strm: StreamId, count: u32, out: &mut dyn Outbox) {
        let mine = self.incoming.as_mut().filter(|incoming| incoming.strm == strm);
        let Some(incoming) = mine.filter(|incoming| incoming.is_whole(count)) else {
            // L4: it starts again. Mostly its beginning came with an older map than mine.
            return out.send(from, &PeerMsg::SnapLost { pid: self.pid, strm });
        };
        incoming.tombs.clear();
        self.complete = true;
        self.owe_ack(from, strm, self.log.last());
    }

    /// N3: the primary before me has stopped.
    fn on_relinquish(&mut self, at: Moment, cfg: Cfg, was_active_at: Cfg, out: &mut dyn Outbox) {
        if cfg > self.cfg {
            // It adopted the map before me.
            self.handed = Some((cfg, was_active_at));
            return;
        }
        let was_last = was_active_at == self.part.pcfg || mutants::on(Mutant::AnyRelinquish);
        let is_predecessor = cfg == self.part.cfg && was_last;
        if let Some(lead) = self.lead.as_mut().filter(|_| cfg == self.cfg && is_predecessor) {
            lead.active_from = Nanos::ZERO;
            self.advance(at, out);
        }
    }

    fn owe_ack(&mut self, to: MemberId, strm: StreamId, matched: Seq) {
        let snap_ok = strm != StreamId::ZERO && self.complete;
        self.owe(Owed { to, strm, cfg: self.cfg, matched, snap_ok, is_nack: false });
    }

    fn owe_nack(&mut self, to: MemberId, strm: StreamId) {
        let (cfg, matched) = (self.cfg, self.commit);
        self.owe(Owed { to, strm, cfg, matched, snap_ok: false, is_nack: true });
    }

    /// A newer answer to the same sender takes the place of the older one; two acknowledgements
    /// become one. Other senders keep theirs: a new primary and an old one may speak in one turn.
    fn owe(&mut self, new: Owed) {
        let same = |owed: &&mut Owed| owed.to == new.to && owed.strm == new.strm;
        match self.owed.iter_mut().find(same) {
            Some(owed) if owed.cfg == new.cfg && !owed.is_nack && !new.is_nack => {
                owed.matched = owed.matched.max(new.matched);
                owed.snap_ok |= new.snap_ok;
            }
            Some(owed) => *owed = new,
            None => self.owed.push(new),
        }
    }
}
