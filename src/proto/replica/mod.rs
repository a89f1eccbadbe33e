//! One replica of one partition: the primary, a backup, or a learner.
//!
//! Primary-backup replication, write-all: the primary gives each mutation a position, sends it to
//! every in-sync replica, and answers when all of them hold it. Backups keep what they received in
//! a prepared list and apply it only when it is committed. Who is primary and who is in sync is
//! decided elsewhere and arrives as rows of the ring map ([`Replica::adopt`]); each row that
//! changes them has a new `cfg`, which fences everything that belongs to an older one.
//!
//! A new primary serves when what its member promised to those before it has run out
//! (`proto::lease`): then the old one, dead or only cut off, answers no reads any more. In a
//! planned move the old one says that it stopped (`Relinquish`), and nothing has to be waited for.
//!
//! Where things are: `mod.rs` the state and how it follows the map, `lead.rs` what only a primary
//! has, `write.rs` operations, `evaluate.rs` what they do, `session.rs` what keeps one that is sent
//! again from being executed again, `barrier.rs` when reads may be answered, `follow.rs` what a
//! backup or a learner does with what it receives, `goal.rs` how a primary moves its partition to
//! where the map wants it, `transfer.rs` snapshot streams, `log.rs` the entries.

mod barrier;
mod evaluate;
mod follow;
mod goal;
mod lead;
mod log;
mod session;
#[cfg(test)]
mod tests;
mod transfer;
mod write;

use barrier::Ask;
use lead::{Lead, Sending};
use log::Log;
use session::Sessions;
use transfer::Incoming;

use super::mutants::{self, Mutant};
use super::outbox::{Moment, Outbox};
use crate::base::limits::SESSIONS_PER_PARTITION_MAX;
use crate::base::{Cfg, LearnerId, MemberId, Nanos, PartitionId, Seq, Ver};
use crate::ring::Part;
use crate::store::Table;
use crate::wire::PeerMsg;

pub use write::Disposition;

/// What a replica is to its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Role {
    /// Holds nothing of it.
    None,
    /// Is being brought up to date.
    Learner,
    /// Holds every acknowledged write.
    Backup,
    /// Will be primary once all in-sync replicas share its list and the old one stopped.
    Recovering,
    /// Executes the operations.
    Primary,
}

/// A row of the ring map with what else a replica needs of that map.
#[derive(Clone, Copy, Debug)]
pub struct MapRow<'a> {
    /// The map's version.
    pub ver: Ver,
    /// Copies that a write needs.
    pub required: u8,
    /// Whether reads are answered under leases.
    pub leases: bool,
    /// The row.
    pub part: &'a Part,
}

/// Counts of one replica, for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaStats {
    /// Keys that it holds.
    pub keys: u64,
    /// Bytes of keys and values that it holds.
    pub bytes: u64,
    /// Whether it is the primary.
    pub primary: bool,
    /// Keys that came to it in snapshots.
    pub keys_moved_in: u64,
    /// Bytes that came to it in snapshots.
    pub bytes_moved_in: u64,
}

/// The state of one replica.
///
/// - `cfg` and `commit` never decrease while the role is not reset by the map (I4).
/// - `commit <= log.last()`; everything up to `commit` is in `table`, nothing after it is.
/// - `lead` is there exactly in the roles `Recovering` and `Primary`.
/// - `incoming` is there only in the role `Learner`, from `SnapBegin` on.
/// - `complete` is false only while a snapshot is missing; such a replica is never in sync (I8).
#[derive(Debug)]
pub struct Replica {
    pid: PartitionId,
    me: MemberId,
    value_bytes_max: u32,
    role: Role,
    /// Fences the data plane; may be ahead of the adopted row (A2).
    cfg: Cfg,
    map_ver: Ver,
    required: u8,
    leases_on: bool,
    part: Part,
    /// Until when those who were primary before may count on leases of this member (N1).
    predecessors_until: Nanos,
    table: Table,
    /// What clients may send again without its being executed again.
    sessions: Sessions,
    log: Log,
    commit: Seq,
    synced_cfg: Cfg,
    complete: bool,
    lid: LearnerId,
    /// How often the partition was reset before what I hold of it was written.
    resets: u32,
    incoming: Option<Box<Incoming>>,
    lead: Option<Box<Lead>>,
    /// The acknowledgements that the next `flush` sends.
    owed: Vec<follow::Owed>,
    /// What I told the new primary when I stopped serving, in case it has to be told again.
    stopped: Option<Stopped>,
    /// What an old primary told me before I adopted the row that makes me its successor.
    handed: Option<(Cfg, Cfg)>,
    moved_in: (u64, u64),
}

#[derive(Clone, Copy, Debug)]
struct Stopped {
    cfg: Cfg,
    was_active_at: Cfg,
}

impl Replica {
    /// A replica that holds nothing yet, of a member called `me`.
    pub fn new(pid: PartitionId, me: MemberId, value_bytes_max: u32) -> Self {
        Self {
            pid,
            me,
            value_bytes_max,
            role: Role::None,
            cfg: Cfg::ZERO,
            map_ver: Ver::ZERO,
            required: 1,
            leases_on: true,
            part: Part::default(),
            predecessors_until: Nanos::ZERO,
            table: Table::new(),
            sessions: Sessions::default(),
            log: Log::default(),
            commit: Seq::ZERO,
            synced_cfg: Cfg::ZERO,
            complete: false,
            lid: LearnerId::ZERO,
            resets: 0,
            incoming: None,
            lead: None,
            owed: Vec::new(),
            stopped: None,
            handed: None,
            moved_in: (0, 0),
        }
    }

    /// Makes it hold the empty partition completely: the first member of a new ring does so
    /// before it adopts the ring's first map.
    pub fn bootstrap(&mut self) {
        debug_assert!(self.cfg == Cfg::ZERO && self.table.is_empty(), "only at creation");
        self.complete = true;
    }

    /// Follows a newer version of its row of the map (A1, A3 to A5, L6, L7).
    pub fn adopt(&mut self, at: Moment, row: MapRow<'_>, out: &mut dyn Outbox) {
        if row.ver <= self.map_ver {
            return;
        }
        self.map_ver = row.ver;
        self.required = row.required;
        self.leases_on = row.leases;
        let part = row.part;
        let my_lid = part.learner(self.me);
        // A4: a map from before I was made a learner knows nothing of that.
        let is_newer_learner =
            self.role == Role::Learner && self.lid.0 > row.ver.0 && !mutants::on(Mutant::StaleMap);
        let restarted_primary =
            part.cfg == self.cfg && part.primary == self.me && self.lead.is_none();
        if part.cfg > self.cfg || restarted_primary {
            self.follow_cfg(at, &row, my_lid, is_newer_learner, out);
        } else if !is_newer_learner {
            self.follow_row(part, my_lid, out);
        }
        if let Some(lead) = &mut self.lead {
            lead.keep_listed_streams(&self.part);
        }
        self.advance(at, out);
    }

    /// The row has a newer cfg: the role may change.
    fn follow_cfg(
        &mut self,
        at: Moment,
        row: &MapRow<'_>,
        my_lid: Option<LearnerId>,
        is_newer_learner: bool,
        out: &mut dyn Outbox,
    ) {
        let part = row.part;
        let old_cfg = self.cfg;
        let was_active = self.role == Role::Primary
            || (mutants::on(Mutant::RecoveringRelinquish) && self.role == Role::Recovering);
        self.cfg = part.cfg;
        self.take_part(part, out);
        if part.resets > self.resets {
            self.begin_anew(old_cfg, out);
        }
        if part.primary == self.me && self.complete {
            self.take_lead(at, row.leases);
            return;
        }
        self.step_down(old_cfg, out);
        if was_active {
            // A5: also when I no longer count, since the new primary waits for it.
            self.relinquish(out);
        }
        if part.isr.contains(self.me) && self.complete {
            self.role = Role::Backup;
            self.incoming = None;
        } else if part.isr.contains(self.me) {
            // Cannot be while the rules are kept (I8). Empty, it must not serve or be copied from.
            ::log::error!("{:?}: the map counts on a replica that is not complete", self.pid);
        } else if is_newer_learner {
            // A4: my stay as learner is newer than this map.
        } else if let Some(lid) = my_lid {
            self.become_learner(lid);
        } else {
            self.forget();
        }
    }

    /// N1: notes with each new configuration how long whoever was primary before it may count on
    /// leases of this member. Those that are given from now on do not help them: their stamp is
    /// newer than what they follow.
    fn take_part(&mut self, part: &Part, out: &mut dyn Outbox) {
        if part.cfg > self.part.cfg {
            let previous = self.part.primary;
            // Who was primary in configurations that were skipped is not known.
            let none_skipped = part.pcfg == self.part.cfg || mutants::on(Mutant::NoneSkipped);
            let mut until = Nanos::ZERO;
            out.leases(&mut |leases| {
                until = match none_skipped {
                    true => leases.promised_to(previous),
                    false => leases.promised_until(),
                }
            });
            let earlier = self.predecessors_until;
            self.predecessors_until = match mutants::on(Mutant::PreviousOnly) {
                true => until,
                false => until.max(earlier),
            };
        }
        self.part = part.clone();
    }

    /// G3: all copies were lost, and an operator has the partition start again. Its first in-sync
    /// replicas hold nothing, completely.
    fn begin_anew(&mut self, old_cfg: Cfg, out: &mut dyn Outbox) {
        self.step_down(old_cfg, out);
        self.stopped = None;
        self.forget();
        self.resets = self.part.resets;
        self.complete = self.part.isr.contains(self.me);
    }

    /// The row has the same cfg or an older one: only learners, goal and state count.
    fn follow_row(&mut self, part: &Part, my_lid: Option<LearnerId>, out: &mut dyn Outbox) {
        if part.cfg == self.cfg {
            self.take_part(part, out);
        }
        let in_sync = part.isr.contains(self.me);
        match (self.role, my_lid) {
            (Role::None, None) if in_sync && self.complete && part.cfg == self.cfg => {
                self.role = Role::Backup;
            }
            (Role::None | Role::Learner, Some(lid)) => self.become_learner(lid),
            (Role::Learner, None) if !in_sync => self.forget(),
            _ => {}
        }
    }

    /// L6: a stay that goes on keeps what it has.
    fn become_learner(&mut self, lid: LearnerId) {
        let is_another = self.role != Role::Learner || self.lid != lid;
        if is_another || mutants::on(Mutant::LearnerWiped) {
            self.wipe();
            self.role = Role::Learner;
            self.lid = lid;
        }
    }

    fn forget(&mut self) {
        self.wipe();
        self.role = Role::None;
    }

    fn wipe(&mut self) {
        debug_assert!(self.lead.is_none(), "a primary steps down before it forgets");
        self.table.clear();
        self.sessions.clear();
        self.log = Log::default();
        self.commit = Seq::ZERO;
        self.complete = false;
        self.incoming = None;
        self.owed.clear();
    }

    /// A2, A5: whatever I was, I am not primary in this configuration.
    fn step_down(&mut self, old_cfg: Cfg, out: &mut dyn Outbox) {
        let Some(lead) = self.lead.take() else { return };
        if self.role == Role::Primary || mutants::on(Mutant::RecoveringRelinquish) {
            self.stopped = Some(Stopped { cfg: self.cfg, was_active_at: old_cfg });
        }
        self.role = Role::Backup;
        let hint = if self.part.cfg == self.cfg { self.part.primary } else { MemberId::ZERO };
        lead.dismiss(hint, self.map_ver, out);
    }

    /// N3: tells the new primary that I stopped. Said again when it asks by reconciling again.
    fn relinquish(&mut self, out: &mut dyn Outbox) {
        let Some(stopped) = self.stopped.filter(|s| s.cfg == self.cfg) else { return };
        if self.part.cfg == self.cfg && self.part.primary != self.me {
            self.tell_stopped(self.part.primary, stopped, out);
        }
    }

    fn tell_stopped(&self, to: MemberId, stopped: Stopped, out: &mut dyn Outbox) {
        let Stopped { cfg, was_active_at } = stopped;
        out.send(to, &PeerMsg::Relinquish { pid: self.pid, cfg, was_active_at });
    }

    /// Sends what the inputs since the last call gave rise to. Call it once after a batch.
    pub fn flush(&mut self, at: Moment, out: &mut dyn Outbox) {
        self.send_owed(out);
        self.pursue_goal(at, out);
        if let Some(lead) = &mut self.lead {
            let (pid, cfg, commit, log) = (self.pid, self.cfg, self.commit, &self.log);
            let (resets, sessions) = (self.resets, &self.sessions);
            let sending = Sending { now: at.now, pid, cfg, resets, commit, log, sessions };
            lead.send(&sending, &self.table, out);
        }
        self.move_reads_on(at, out);
    }

    /// Sends again what seems lost, and moves streams on. Call it about every 50 ms while
    /// [`Replica::is_busy`], then `flush`.
    pub fn tick(&mut self, at: Moment, out: &mut dyn Outbox) {
        let (cfg, pid, slack) = (self.cfg, self.pid, self.can_spare_one());
        let Some(lead) = &mut self.lead else { return };
        lead.reads.retry(&Ask { now: at.now, pid, cfg }, out);
        let silent = lead.retry(at, &self.log, &self.part, out);
        if let Some(mid) = silent.filter(|_| slack) {
            lead.goal.propose(crate::wire::Command::Remove { pid, cfg, mid }, at.now, out);
        }
        self.advance(at, out);
    }

    /// A connection to `peer` is there again: what was under way on the old one is lost.
    pub fn peer_connected(&mut self, peer: MemberId) {
        if let Some(lead) = &mut self.lead {
            lead.resend_to(peer, &self.log, self.commit);
        }
    }

    /// Whether time alone may make it do something: then it wants `tick`.
    pub fn is_busy(&self) -> bool {
        let busy_lead = |lead: &Lead| lead.is_busy(&self.log, self.commit) || self.wants_change();
        self.role == Role::Recovering || self.lead.as_deref().is_some_and(busy_lead)
    }

    /// When it begins to serve, if nothing but the time is missing: then it wants `tick`.
    pub fn serves_at(&self) -> Option<Nanos> {
        let lead = self.lead.as_deref().filter(|_| self.role == Role::Recovering)?;
        lead.has_caught_up(self.commit).then_some(lead.active_from)
    }

    /// Whether a snapshot is waiting for room on a connection: then `flush` it again soon.
    pub fn is_streaming(&self) -> bool {
        self.lead.as_deref().is_some_and(Lead::is_streaming)
    }

    /// Whether keys of it may expire: then it wants `sweep`, about once per second.
    pub fn has_expiring(&self) -> bool {
        self.role == Role::Primary && self.table.expiring() > 0
    }

    /// What it is to its partition.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Until when it answers reads without asking anybody; zero if it is not the primary (I1).
    pub fn reads_until(&self) -> Nanos {
        let lead = self.lead.as_ref().filter(|_| self.role == Role::Primary);
        lead.map_or(Nanos::ZERO, |lead| lead.reads.leased_until)
    }

    /// Until when it could answer a read at `now` by its own clock without asking anybody, with
    /// these leases of its member; zero if it could not. For the simulator (I1).
    pub fn could_read_until(&self, leases: &crate::proto::Leases, now: Nanos) -> Nanos {
        let lead = self.lead.as_ref().filter(|_| self.role == Role::Primary);
        let Some(lead) = lead else { return Nanos::ZERO };
        let needed = lead.needed();
        let fresh = match self.leases_on || needed.is_empty() {
            true => leases.valid_until(needed.as_slice(), now),
            false => Nanos::ZERO,
        };
        fresh.max(lead.reads.leased_until)
    }

    /// Whether it is to be primary and waits for nothing but the end of old promises (N1).
    pub fn is_waiting_out(&self) -> bool {
        self.role == Role::Recovering
            && self.lead.as_ref().is_some_and(|lead| lead.is_reconciled())
            && self.lead.as_ref().is_some_and(|lead| self.commit >= lead.reconciled_at)
    }

    /// Its configuration.
    pub fn cfg(&self) -> Cfg {
        self.cfg
    }

    /// Everything up to here is applied.
    pub fn commit(&self) -> Seq {
        self.commit
    }

    /// The last entry that it holds.
    pub fn last(&self) -> Seq {
        self.log.last()
    }

    /// Whether no snapshot is missing.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The adopted row of the map.
    pub fn part(&self) -> &Part {
        &self.part
    }

    /// Digest of the committed table and sessions, equal on replicas with equal contents (I11).
    pub fn digest(&self) -> u64 {
        self.table.digest() ^ self.sessions.digest()
    }

    /// An entry that it holds and that is not yet dropped from the log.
    pub fn entry(&self, seq: Seq) -> Option<crate::wire::EntryRef<'_>> {
        self.log.entry(seq)
    }

    /// Memory of its table and its sessions, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.table.bytes_allocated() + self.sessions.bytes() as u64
    }

    /// Bytes of the operations that it keeps because they are not done, or not done everywhere.
    pub fn backlog_bytes(&self) -> u64 {
        (self.log.bytes() + self.lead.as_deref().map_or(0, Lead::held_bytes)) as u64
    }

    /// Counts for reports. Keys that have expired are gone for every reader, swept or not, so they
    /// do not count; to tell them, all keys of a partition with expiring ones are looked at.
    pub fn stats(&self, at: Moment) -> ReplicaStats {
        let (expired, expired_bytes) = self.expired(at);
        ReplicaStats {
            keys: self.table.len() as u64 - expired,
            bytes: self.table.bytes_live() - expired_bytes,
            primary: self.role == Role::Primary,
            keys_moved_in: self.moved_in.0,
            bytes_moved_in: self.moved_in.1,
        }
    }

    /// I4, I8 and the list on the struct; for tests and the simulator.
    pub fn check_invariants(&self) -> Result<(), String> {
        let leads = matches!(self.role, Role::Primary | Role::Recovering);
        let checks = [
            (self.commit <= self.log.last(), "commit beyond the last entry"),
            (self.log.base() <= self.commit, "dropped an entry that is not committed"),
            (leads == self.lead.is_some(), "a lead without the role, or the role without a lead"),
            (self.complete || !leads, "an incomplete primary"),
            (self.complete || self.role != Role::Backup, "an incomplete backup"),
            (self.incoming.is_none() || self.role == Role::Learner, "a stream without a learner"),
            (self.sessions.len() <= SESSIONS_PER_PARTITION_MAX, "too many sessions"),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(format!("{what}: {self:?}")),
            None => Ok(()),
        }
    }

    /// W1, W4: whether an acknowledged write would have the copies it needs.
    pub fn is_writable(&self) -> bool {
        self.part.isr.len() >= usize::from(self.required)
    }

    /// W5: whether the in-sync set may lose a member.
    fn can_spare_one(&self) -> bool {
        self.part.isr.len() > usize::from(self.required)
    }
}
