//! What must hold whatever happens, checked after every event.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringkv::base::{LogIndex, MemberId, Term, Ver};
use ringkv::proto::group::Decided;

use crate::owner::{Change, Owner, State};

/// Everything that anybody ever decided.
///
/// - There is one sequence of changes; each node's state is a beginning of it.
/// - At a position of a configuration's log everybody decides the same.
/// - A configuration has one list of voters, and in each of its terms at most one leader.
/// - What a client was told is in the sequence.
#[derive(Debug, Default)]
pub struct Oracle {
    pub truth: Vec<Change>,
    entries: BTreeMap<(Ver, LogIndex), Decided>,
    voters: BTreeMap<Ver, Vec<MemberId>>,
    leaders: BTreeMap<(Ver, Term), MemberId>,
    /// How far each node's state was compared, and which it was.
    compared: BTreeMap<MemberId, Arc<State>>,
}

impl Oracle {
    /// Looks at a node that has just done something.
    pub fn check(&mut self, me: MemberId, owner: &mut Owner) -> Result<(), String> {
        if let Some(why) = owner.violation.take() {
            return Err(format!("{me:?}: {why}"));
        }
        self.check_state(me, owner.state())?;
        for (cfg, decided) in owner.decided.drain(..) {
            let at = (cfg, decided.index);
            let known = self.entries.entry(at).or_insert_with(|| decided.clone());
            if *known != decided {
                return Err(format!("{me:?}: {cfg:?} has two entries at {:?}", decided.index));
            }
        }
        let Some(group) = owner.group() else { return Ok(()) };
        group.check_invariants();
        if group.contradictions() > 0 {
            return Err(format!("{me:?} was told what no correct voter says: {group:?}"));
        }
        let known = self.voters.entry(group.cfg()).or_insert_with(|| group.members().to_vec());
        if known != group.members() {
            return Err(format!("{me:?}: {:?} has two lists of voters", group.cfg()));
        }
        if group.is_leader() {
            let leader = *self.leaders.entry((group.cfg(), group.term())).or_insert(me);
            if leader != me {
                let term = group.term();
                return Err(format!("{leader:?} and {me:?} lead {term:?} of {:?}", group.cfg()));
            }
        }
        Ok(())
    }

    /// How many configurations were started.
    pub fn configurations(&self) -> u64 {
        self.voters.len() as u64
    }

    /// Who voted in the configuration before `cfg`.
    pub fn voters_before(&self, cfg: Ver) -> Option<&Vec<MemberId>> {
        self.voters.range(..cfg).next_back().map(|(_, voters)| voters)
    }

    /// What a client is told is decided.
    pub fn check_answer(&self, number: u64) -> Result<(), String> {
        match self.truth.contains(&Change::Done(number)) {
            true => Ok(()),
            false => Err(format!("command {number} was answered and is not decided")),
        }
    }

    fn check_state(&mut self, me: MemberId, state: &Arc<State>) -> Result<(), String> {
        let before = self.compared.insert(me, Arc::clone(state)).unwrap_or_default();
        if Arc::ptr_eq(&before, state) {
            return Ok(());
        }
        // The same value may have grown in place, or another one was adopted.
        for (at, change) in state.changes.iter().enumerate() {
            match self.truth.get(at) {
                Some(known) if known == change => {}
                Some(known) => {
                    return Err(format!("{me:?} has {change:?} as change {at}, not {known:?}"));
                }
                None => self.truth.push(change.clone()),
            }
        }
        match before.ver() > state.ver() {
            true => Err(format!("{me:?} went back from {:?} to {:?}", before.ver(), state.ver())),
            false => Ok(()),
        }
    }
}
