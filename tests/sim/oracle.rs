//! What must hold at every moment, whatever the network and the operator do. The names are those
//! of the protocol page: I1 to I14; the
//! ones that need the clocks of members are in `pulse.rs`.

use std::collections::{BTreeMap, BTreeSet};

use ringkv::base::{Cfg, MemberId, PartitionId, Seq};
use ringkv::proto::replica::Role;
use ringkv::proto::{Caller, Replica};
use ringkv::ring::RingMap;
use ringkv::wire::{Effect, EntryRef, PeerMsg, Session};

/// The identity of an entry, and a digest of what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EntryId {
    ecfg: Cfg,
    content: u64,
    /// The operation that it executed, if that has a session.
    operation: Option<(u128, u64)>,
}

/// What was seen of one replica after its last input.
#[derive(Clone, Debug)]
pub struct View {
    pub role: Role,
    pub cfg: Cfg,
    pub commit: Seq,
    pub last: Seq,
    complete: bool,
    /// Entries after `commit`.
    log: Vec<EntryId>,
    /// Below this its table may be ahead of its commit position, because of a snapshot.
    horizon: Seq,
}

impl Default for View {
    fn default() -> Self {
        Self {
            role: Role::None,
            cfg: Cfg::ZERO,
            commit: Seq::ZERO,
            last: Seq::ZERO,
            complete: false,
            log: Vec::new(),
            horizon: Seq::ZERO,
        }
    }
}

impl View {
    fn entry(&self, seq: Seq) -> Option<EntryId> {
        let at = seq.0.checked_sub(self.commit.0 + 1)?;
        self.log.get(at as usize).copied()
    }
}

#[derive(Debug, Default)]
struct Partition {
    views: BTreeMap<MemberId, View>,
    /// The first commit of each position that was seen (I2).
    committed: BTreeMap<Seq, EntryId>,
    /// Every entry that was ever seen (I6).
    entries: BTreeMap<(Cfg, Seq), u64>,
    /// Where each operation of a session was committed (I10).
    executed: BTreeMap<(u128, u64), Seq>,
    /// Digest of the table at each commit position (I11).
    digests: BTreeMap<Seq, u64>,
    /// The highest commit position of anybody.
    top: Seq,
}

/// The memory of the checks.
#[derive(Debug, Default)]
pub struct Oracle {
    partitions: Vec<Partition>,
    /// Operations that a member accepted and has not answered.
    waiting: BTreeSet<(MemberId, Caller)>,
    /// Members whose process died.
    dead: BTreeSet<MemberId>,
    /// Digests are compared at every so many positions only, because tables are large.
    digest_stride: u64,
}

/// Why a check failed.
pub type Check = Result<(), String>;

impl Oracle {
    /// For a ring of that many partitions.
    pub fn new(partitions: u32, digest_stride: u64) -> Self {
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        Self { partitions, waiting: BTreeSet::new(), dead: BTreeSet::new(), digest_stride }
    }

    /// The member is gone with everything it held.
    pub fn forget(&mut self, mid: MemberId) {
        self.partitions.iter_mut().for_each(|p| drop(p.views.remove(&mid)));
        self.waiting.retain(|(at, _)| *at != mid);
    }

    /// The member's process died.
    pub fn die(&mut self, mid: MemberId) {
        self.dead.insert(mid);
        self.forget(mid);
    }

    /// A process takes itself for that member.
    pub fn revive(&mut self, mid: MemberId) {
        self.dead.remove(&mid);
    }

    /// Replicas that take themselves for the primary of a partition.
    pub fn primaries(&self, pid: PartitionId) -> usize {
        let views = self.partitions[pid.0 as usize].views.values();
        views.filter(|view| view.role == Role::Primary).count()
    }

    /// An operation was handed to a replica.
    pub fn asked(&mut self, mid: MemberId, caller: Caller) -> Check {
        match self.waiting.insert((mid, caller)) {
            true => Ok(()),
            false => Err(format!("{mid:?} was asked twice by {caller:?}")),
        }
    }

    /// An operation was answered, or refused as belonging elsewhere.
    pub fn answered(&mut self, mid: MemberId, caller: Caller) -> Check {
        match self.waiting.remove(&(mid, caller)) {
            true => Ok(()),
            false => Err(format!("{mid:?} answered {caller:?}, which did not wait")),
        }
    }

    /// Operations that wait for an answer.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Looks at a replica after an input, which was `msg` if it was a message.
    pub fn observe(
        &mut self,
        pid: PartitionId,
        mid: MemberId,
        replica: &Replica,
        msg: Option<&PeerMsg<'_>>,
    ) -> Check {
        replica.check_invariants()?;
        let stride = self.digest_stride;
        let partition = &mut self.partitions[pid.0 as usize];
        let old = partition.views.remove(&mid).unwrap_or_default();
        let mut new = look_at(replica, &old, msg);
        // A piece of a snapshot shows the primary's table as of a later commit, deletions too.
        let is_piece = matches!(msg, Some(PeerMsg::SnapChunk { .. } | PeerMsg::SnapEnd { .. }));
        new.horizon = if is_piece { partition.top } else { old.horizon };
        let moved = (old.commit, old.role) != (new.commit, new.role);
        let checked = partition.check_steps(&old, &new, msg);
        let digest_due = moved && new.commit.0.is_multiple_of(stride);
        if new.complete && new.commit >= new.horizon && digest_due {
            partition.check_digest(new.commit, replica.digest())?;
        }
        partition.views.insert(mid, new);
        checked.map_err(|why| format!("{pid:?} {mid:?}: {why}; was {old:?}"))
    }

    /// I3, I5, I8: everything that anybody committed is held by everybody who counts and lives.
    /// When the last of them died the partition waits or is lost, and there is nobody to look at.
    pub fn check_copies(&self, pid: PartitionId, truth: &RingMap) -> Check {
        let partition = &self.partitions[pid.0 as usize];
        let Some(part) = truth.part(pid) else { return Ok(()) };
        let top = partition.top;
        let expected = partition.committed.get(&top);
        for mid in part.isr.iter().filter(|mid| !self.dead.contains(mid)) {
            let view = partition.views.get(&mid).cloned().unwrap_or_default();
            let is_first = part.isr.len() == 1 && view.cfg == Cfg::ZERO;
            let held = view.last >= top && (view.complete || is_first);
            let differs = view.entry(top).zip(expected).is_some_and(|(has, due)| has != *due);
            if !held || differs {
                return Err(format!(
                    "{pid:?}: {mid:?} counts as in sync but does not hold {top:?} ({expected:?}): \
                     {view:?}; {part:?}"
                ));
            }
        }
        Ok(())
    }

    /// At the end: every in-sync replica has the same table. `Err` names the one that differs.
    pub fn check_equal(&self, pid: PartitionId, replicas: &[(MemberId, &Replica)]) -> Check {
        let Some((first, a)) = replicas.first() else { return Ok(()) };
        for (mid, b) in replicas {
            if (a.commit(), a.digest()) != (b.commit(), b.digest()) {
                return Err(format!("{pid:?}: {first:?} and {mid:?} hold different data"));
            }
        }
        Ok(())
    }
}

impl Partition {
    /// I2, I4, I6: what may change from one look to the next.
    fn check_steps(&mut self, old: &View, new: &View, msg: Option<&PeerMsg<'_>>) -> Check {
        if new.cfg < old.cfg {
            return Err(format!("cfg went back: {new:?}"));
        }
        let was_reset = matches!(new.role, Role::None | Role::Learner);
        if new.commit < old.commit && !was_reset {
            return Err(format!("commit went back: {new:?}"));
        }
        if !was_reset {
            for seq in (old.commit.0 + 1..=new.commit.0).map(Seq) {
                let Some(id) = arrived(msg, seq).or_else(|| old.entry(seq)) else { continue };
                let first = self.committed.entry(seq).or_insert(id);
                if *first != id {
                    return Err(format!("{seq:?} was committed as {first:?}, now as {id:?}"));
                }
                let Some(operation) = id.operation else { continue };
                let executed = *self.executed.entry(operation).or_insert(seq);
                if executed != seq {
                    return Err(format!("I10: {operation:?} executed at {executed:?} and {seq:?}"));
                }
            }
            self.top = self.top.max(new.commit);
        }
        if new.log.windows(2).any(|pair| pair[0].ecfg > pair[1].ecfg) {
            return Err(format!("configurations go back along the log: {new:?}"));
        }
        for (id, seq) in new.log.iter().zip(new.commit.0 + 1..) {
            let known = self.entries.entry((id.ecfg, Seq(seq))).or_insert(id.content);
            if *known != id.content {
                return Err(format!("two different entries ({:?}, {seq})", id.ecfg));
            }
        }
        Ok(())
    }

    fn check_digest(&mut self, commit: Seq, digest: u64) -> Check {
        match *self.digests.entry(commit).or_insert(digest) == digest {
            true => Ok(()),
            false => Err(format!("two tables differ at {commit:?}")),
        }
    }
}

fn look_at(replica: &Replica, old: &View, msg: Option<&PeerMsg<'_>>) -> View {
    let (commit, last) = (replica.commit(), replica.last());
    let unchanged = msg.is_none() && commit == old.commit && last == old.last;
    let log = match unchanged && replica.cfg() == old.cfg {
        true => old.log.clone(),
        false => (commit.0 + 1..=last.0).filter_map(|s| replica.entry(Seq(s))).map(id_of).collect(),
    };
    View {
        role: replica.role(),
        cfg: replica.cfg(),
        commit,
        last,
        complete: replica.is_complete(),
        log,
        horizon: Seq::ZERO,
    }
}

/// The entry of that position in the message.
fn arrived(msg: Option<&PeerMsg<'_>>, seq: Seq) -> Option<EntryId> {
    let Some(PeerMsg::Append { entries, .. }) = msg else { return None };
    entries.iter().find(|entry| entry.seq == seq).map(|entry| id_of(*entry))
}

fn id_of(entry: EntryRef<'_>) -> EntryId {
    let mut content = 0xCBF2_9CE4_8422_2325u64;
    let mut mix = |bytes: &[u8]| content = fold(content, bytes);
    let Session { sid, number, floor } = entry.session;
    mix(&sid.to_le_bytes());
    mix(&number.to_le_bytes());
    mix(&floor.to_le_bytes());
    match entry.effect {
        Effect::None => mix(&[0]),
        Effect::Close { sid } => {
            mix(&[3]);
            mix(&sid.to_le_bytes());
        }
        Effect::Put { key, value, expires_at_ms } => {
            mix(&[1]);
            mix(key);
            // Values begin with their number, the rest is padding.
            mix(&value[..value.len().min(24)]);
            mix(&expires_at_ms.to_le_bytes());
        }
        Effect::Delete { key } => {
            mix(&[2]);
            mix(key);
        }
    }
    mix(format!("{:?}", entry.outcome).as_bytes());
    let operation = (!entry.session.is_none()).then_some((sid, number));
    EntryId { ecfg: entry.ecfg, content, operation }
}

/// FNV-1a, for digests that only have to be equal for equal runs.
pub fn fold(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |h, byte| (h ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}
