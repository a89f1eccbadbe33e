//! The coordinator: the only one that changes the ring map.
//!
//! It is a group of members, its *voters* (`RingMap::voters`): one in a small ring, three, or five.
//! They agree on a sequence of changes by the consensus core (`proto::group`). Their leader
//! executes commands on its draft and proposes the difference; what is decided is applied by each
//! voter and published by the leader. So the log holds results, not commands, and whatever is
//! decided fits the map that was decided before.
//!
//! A change of the voters ends the group: the map that results is where the next one starts, with
//! an empty log, at each member that the map names, as soon as that member has it, from whomever.
//! So a new voter needs nothing but the map, and a long log is ended by naming the same voters
//! again (`docs/CONSENSUS.md`).
//!
//! Where things are: `mod.rs` one voter, `draft.rs` what its leader does by itself, `machine.rs`
//! the commands.

mod departure;
mod draft;
mod machine;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use departure::{lost_among, order_to_drop};

use draft::Draft;

use super::Group;
use crate::base::limits::{GROUP_LOG_BYTES_MAX, GROUP_LOG_ENTRIES_MAX};
use crate::base::{Cfg, ClusterId, MemberId, Term, Ver};
use crate::ring::{MapDelta, Params, Part, PartState, ReplicaSet, RingMap};
use crate::wire::map::{decode_delta, encode_delta};
use crate::wire::{Applied, Command, GroupMsg, JoinInfo, Reader, Rejection};

/// One member's part in the coordinator.
///
/// - `map` is decided, never a draft, and its version never decreases.
/// - `group` is that of the map's voters, and there exactly if this member is one of them.
/// - `draft` is there only while this member leads the group and knows all that was decided.
#[derive(Debug)]
pub struct Coordinator {
    me: MemberId,
    map: Arc<RingMap>,
    group: Option<Group>,
    draft: Option<Draft>,
    news: Vec<News>,
    /// Members that could not be reached last: a new group must not wait for one of them.
    lost: BTreeSet<MemberId>,
}

/// A decided change, and the map that it leads to.
#[derive(Clone, Debug)]
pub struct News {
    /// What changed.
    pub delta: MapDelta,
    /// The result.
    pub map: Arc<RingMap>,
    /// This member led when it was decided, so it is the one to tell everybody.
    pub is_mine: bool,
}

/// What became of a command: it is in the draft, and takes effect when the map has that version.
/// It may be lost if the leader is overthrown before.
pub type Receipt = (Applied, Ver);

impl Coordinator {
    /// Creates a ring whose only member is `first`; that member is given id 1.
    pub fn create(cluster: ClusterId, params: Params, first: JoinInfo) -> Self {
        let me = MemberId(1);
        let alone: ReplicaSet = [me].into_iter().collect();
        let part = Part {
            cfg: Cfg(1),
            pcfg: Cfg::ZERO,
            primary: me,
            isr: alone,
            learners: Vec::new(),
            goal: alone,
            state: PartState::Ok,
            resets: 0,
        };
        let map = RingMap {
            cluster,
            generation: 1,
            ver: Ver(1),
            epoch: Ver(1),
            params,
            required: 1,
            next_mid: MemberId(2),
            members: BTreeMap::from([(me, machine::member(first))]),
            parts: vec![part; params.partitions as usize],
            voters: vec![me],
            voters_since: Ver(1),
        };
        Self::join(me, Arc::new(map))
    }

    /// Takes part as the map says.
    pub fn join(me: MemberId, map: Arc<RingMap>) -> Self {
        let mut coordinator =
            Self { me, map, group: None, draft: None, news: Vec::new(), lost: BTreeSet::new() };
        coordinator.settle();
        coordinator
    }

    /// The newest decided map that this member knows.
    pub fn map(&self) -> &Arc<RingMap> {
        &self.map
    }

    /// The map as its leader sees it, with what is proposed and not yet decided.
    pub fn draft(&self) -> Option<&RingMap> {
        self.draft.as_ref().map(|draft| &draft.map)
    }

    /// Whether this member leads, and so decides about commands.
    pub fn leads(&self) -> bool {
        self.draft.is_some()
    }

    /// In which configuration and term it leads.
    pub fn leadership(&self) -> Option<(Ver, Term)> {
        let group = self.group.as_ref().filter(|_| self.leads())?;
        Some((group.cfg(), group.term()))
    }

    /// Who leads, as far as this member knows.
    pub fn leader(&self) -> Option<MemberId> {
        self.group.as_ref()?.leader()
    }

    /// Whether it wants `tick`: a group of one does nothing by itself.
    pub fn is_ticking(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.members().len() > 1)
    }

    /// Follows a newer map that somebody else has published. Only decided maps are.
    pub fn adopt(&mut self, map: &Arc<RingMap>) {
        if map.ver > self.map.ver {
            self.map = Arc::clone(map);
            self.settle();
        }
    }

    /// Ten milliseconds have passed.
    pub fn tick(&mut self) {
        if let Some(group) = &mut self.group {
            group.tick();
            self.settle();
        }
    }

    /// A message of a voter. False if it is of an older configuration: its sender lacks a map.
    pub fn receive(&mut self, from: MemberId, cfg: Ver, msg: &GroupMsg) -> bool {
        if let Some(group) = self.group.as_mut().filter(|group| group.cfg() == cfg) {
            group.receive(from, msg);
            self.settle();
        }
        cfg >= self.map.voters_since
    }

    /// There is a new connection to `peer`: what was under way to it is lost.
    pub fn reconnected(&mut self, peer: MemberId) {
        self.lost.remove(&peer);
        if let Some(group) = &mut self.group {
            group.reconnected(peer);
        }
        if let Some(draft) = &mut self.draft {
            draft.replan();
        }
    }

    /// The connection to `peer` broke, and nobody listens at its address any more.
    pub fn lost(&mut self, peer: MemberId) {
        self.lost.insert(peer);
        self.lost.retain(|mid| self.map.members.contains_key(mid));
        if let Some(group) = &mut self.group {
            group.lost(peer);
            self.settle();
        }
    }

    /// Executes a command of a member about a partition it holds.
    pub fn submit(&mut self, from: MemberId, command: &Command) -> Result<Receipt, Rejection> {
        self.execute(|draft| draft.submit(from, command))
    }

    /// Executes a command of an operator or of the leader itself.
    pub fn operate(&mut self, command: &Command) -> Result<Receipt, Rejection> {
        self.execute(|draft| draft.operate(command))
    }

    /// Admits a node that wants to join. One that has the name or the address of a dead member is
    /// that member's next life: the old one, whose memory is gone, is forgotten first.
    pub fn admit(
        &mut self,
        info: &JoinInfo,
        is_alive: impl Fn(MemberId) -> bool,
    ) -> Result<Receipt, Rejection> {
        self.execute(|draft| draft.admit(info, is_alive))
    }

    fn execute(
        &mut self,
        work: impl FnOnce(&mut Draft) -> Result<Applied, Rejection>,
    ) -> Result<Receipt, Rejection> {
        let draft = self.draft.as_mut().ok_or(Rejection::Stale)?;
        let applied = work(draft)?;
        Ok((applied, draft.map.ver))
    }

    /// As the leader: takes the steps towards the goals that are the coordinator's own, and
    /// proposes everything that was not proposed yet. Cheap when there is nothing to do; call it
    /// after each batch of commands. Members that are not `reachable` get no new duties.
    pub fn propose(&mut self, reachable: &dyn Fn(MemberId) -> bool) {
        self.end_long_log();
        let (Some(draft), Some(group)) = (&mut self.draft, &mut self.group) else { return };
        draft.plan(reachable);
        let Some(delta) = draft.take_delta() else { return };
        let mut payload = Vec::new();
        encode_delta(&delta, &mut payload);
        if !group.propose(payload, !draft.is_open()) {
            // What was drafted is forgotten, and drafted again once the log has room.
            self.draft = None;
        }
        self.settle();
    }

    /// Ends a group whose log has become long: the same voters begin with an empty one.
    fn end_long_log(&mut self) {
        let is_long = |group: &Group| {
            group.log_entries() > GROUP_LOG_ENTRIES_MAX / 4
                || group.log_bytes() > GROUP_LOG_BYTES_MAX / 4
        };
        let (Some(draft), Some(group)) = (&mut self.draft, &self.group) else { return };
        if is_long(group) {
            let mut voters = self.map.voters.clone();
            // Whoever leads goes first, so that it leads again after one round trip.
            voters.sort_by_key(|mid| (*mid != self.me, *mid));
            let _ = draft.operate(&Command::SetVoters { voters });
        }
    }

    /// What was decided since the last call, in order.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// What is to be sent to other voters, with the configuration that it is of.
    pub fn take_messages(&mut self) -> (Ver, Vec<(MemberId, GroupMsg)>) {
        match &mut self.group {
            Some(group) => (group.cfg(), group.take_messages()),
            None => (Ver::ZERO, Vec::new()),
        }
    }

    /// What follows from an input: decided changes are applied, a new configuration begins, the
    /// draft comes and goes with the leadership.
    fn settle(&mut self) {
        self.apply_decided();
        if self.group.as_ref().map_or(Ver::ZERO, Group::cfg) < self.map.voters_since {
            self.draft = None;
            self.group = Group::new(self.map.voters_since, self.me, &self.map.voters);
            if let Some(group) = &mut self.group {
                self.lost.iter().for_each(|mid| group.lost(*mid));
            }
            // A single voter has decided its first entry already.
            self.apply_decided();
        }
        let Some(group) = &self.group else { return };
        match &self.draft {
            None if group.is_ready() && group.is_at_rest() => {
                self.draft = Some(Draft::new(self.me, RingMap::clone(&self.map)));
            }
            Some(_) if !group.is_ready() => self.draft = None,
            _ => {}
        }
    }

    fn apply_decided(&mut self) {
        let is_mine = self.group.as_ref().is_some_and(Group::is_leader);
        for decided in self.group.iter_mut().flat_map(Group::take_decided) {
            let delta = decode_delta(&mut Reader::new(&decided.payload));
            debug_assert!(delta.is_ok(), "encoded by a voter of this version");
            let Ok(delta) = delta else { continue };
            // What the map has already came with a published one.
            if let Some(map) = delta.apply(&self.map) {
                self.map = Arc::new(map);
                self.news.push(News { delta, map: Arc::clone(&self.map), is_mine });
            } else if delta.ver > self.map.ver {
                // It cannot be; the next map that is published mends it.
                log::error!("what was decided does not fit version {}", self.map.ver);
                debug_assert!(false, "a gap: {delta:?}");
            }
        }
    }
}
