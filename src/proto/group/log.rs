//! What a voter must not forget: its term, its vote, its log.
//!
//! A voter keeps this in memory only, and is safe because a member that restarts comes back under
//! another id. It stands in one struct so that a durable voter can write it before it answers.

use crate::base::limits::{GROUP_LOG_BYTES_MAX, GROUP_LOG_ENTRIES_MAX};
use crate::base::{LogIndex, Term};
use crate::wire::{Content, GroupEntry};

/// The state of a voter that outlives its role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Kept {
    /// The newest term that it has seen.
    pub(super) term: Term,
    /// Whom it voted for in that term: a rank.
    pub(super) voted: Option<usize>,
    /// The entries.
    pub(super) log: Log,
}

/// The entries of one configuration, from the first one on: nothing is ever cut off in front, a
/// log ends with its configuration.
///
/// - Terms never decrease along the log, and none is zero.
/// - `ends` has, for each entry, the bytes up to and with it.
/// - `seal` is the first entry that seals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Log {
    entries: Vec<GroupEntry>,
    ends: Vec<usize>,
    seal: Option<LogIndex>,
}

impl Log {
    /// Position of the last entry; zero if there is none.
    pub(super) fn last(&self) -> LogIndex {
        LogIndex(self.entries.len() as u64)
    }

    /// Term of the last entry; zero if there is none.
    pub(super) fn last_term(&self) -> Term {
        self.entries.last().map_or(Term::ZERO, |entry| entry.term)
    }

    /// Term of the entry at `index`, zero in front of the first one; `None` behind the last one.
    pub(super) fn term_at(&self, index: LogIndex) -> Option<Term> {
        match index {
            LogIndex::ZERO => Some(Term::ZERO),
            _ => self.entry(index).map(|entry| entry.term),
        }
    }

    /// The entry at `index`.
    pub(super) fn entry(&self, index: LogIndex) -> Option<&GroupEntry> {
        self.entries.get(usize::try_from(index.0.checked_sub(1)?).ok()?)
    }

    /// The first entry that seals.
    pub(super) fn seal(&self) -> Option<LogIndex> {
        self.seal
    }

    /// How many entries it has.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all payloads.
    pub(super) fn bytes(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Bytes of the payloads behind `from`, up to and with `to`.
    pub(super) fn bytes_between(&self, from: LogIndex, to: LogIndex) -> usize {
        let end = |index: LogIndex| match index.0 {
            0 => 0,
            n => self.ends.get(n as usize - 1).copied().unwrap_or(self.bytes()),
        };
        end(to).saturating_sub(end(from))
    }

    /// Whether a leader may propose this. A seal may always be: it is how a full log is emptied.
    pub(super) fn has_room(&self, bytes: usize, seals: bool) -> bool {
        seals || self.len() < GROUP_LOG_ENTRIES_MAX && self.bytes() + bytes <= GROUP_LOG_BYTES_MAX
    }

    /// Whether a voter takes one more entry from a leader: twice what a leader proposes, because
    /// each new leader adds an empty entry, and the last one is a seal.
    pub(super) fn can_hold(&self, bytes: usize) -> bool {
        self.len() < 2 * GROUP_LOG_ENTRIES_MAX && self.bytes() + bytes <= 2 * GROUP_LOG_BYTES_MAX
    }

    /// Appends an entry.
    pub(super) fn push(&mut self, entry: GroupEntry) {
        debug_assert!(entry.term >= self.last_term(), "terms never decrease along a log");
        self.ends.push(self.bytes() + entry.content.payload().len());
        if matches!(entry.content, Content::Seal(_)) && self.seal.is_none() {
            self.seal = Some(LogIndex(self.entries.len() as u64 + 1));
        }
        self.entries.push(entry);
    }

    /// Drops everything behind `index`.
    pub(super) fn truncate(&mut self, index: LogIndex) {
        self.entries.truncate(index.0 as usize);
        self.ends.truncate(index.0 as usize);
        self.seal = self.seal.filter(|seal| *seal <= index);
    }

    /// The entries behind `prev`: at most `entries_max`, and no more after the first one with
    /// which they would have more than `bytes_max`, unless that is the only one.
    pub(super) fn batch(
        &self,
        prev: LogIndex,
        entries_max: usize,
        bytes_max: usize,
    ) -> Vec<GroupEntry> {
        let mut bytes = 0;
        let rest = self.entries.get(prev.0 as usize..).unwrap_or_default();
        let fits = |(at, entry): &(usize, &GroupEntry)| {
            bytes += entry.content.payload().len();
            *at == 0 || bytes <= bytes_max
        };
        let batch = rest.iter().take(entries_max.max(1)).enumerate().take_while(fits);
        batch.map(|(_, entry)| entry.clone()).collect()
    }

    /// Where this log may agree with that of a leader which has other entries from `prev` on: in
    /// front of the whole term that stands there, because all of it is likely to differ.
    pub(super) fn retreat(&self, prev: LogIndex) -> LogIndex {
        if prev > self.last() {
            return self.last();
        }
        let wrong = self.term_at(prev);
        let mut at = prev;
        while at > LogIndex::ZERO && self.term_at(at) == wrong {
            at = LogIndex(at.0 - 1);
        }
        at
    }

    /// Panics if the bullets above do not hold.
    pub(super) fn check_invariants(&self) {
        assert!(self.entries.is_sorted_by_key(|entry| entry.term), "terms never decrease");
        assert!(self.entries.iter().all(|entry| entry.term > Term::ZERO), "no term is zero");
        let seals = |entry: &GroupEntry| matches!(entry.content, Content::Seal(_));
        let seal = self.entries.iter().position(seals).map(|at| LogIndex(at as u64 + 1));
        assert_eq!(self.seal, seal, "the first seal is known");
        let lengths = self.entries.iter().map(|entry| entry.content.payload().len());
        assert_eq!(self.bytes(), lengths.sum::<usize>(), "bytes are counted");
        assert_eq!(self.ends.len(), self.entries.len(), "of each entry");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(terms: &[u64], bytes: usize) -> Log {
        let mut log = Log::default();
        for term in terms {
            let content = Content::Change(vec![0; bytes].into());
            log.push(GroupEntry { term: Term(*term), content });
        }
        log
    }

    #[test]
    fn batches_end_at_either_bound_but_have_one_entry() {
        let log = log(&[1, 1, 2, 2], 10);
        assert_eq!(log.batch(LogIndex(0), 3, 100).len(), 3);
        assert_eq!(log.batch(LogIndex(1), 64, 20).len(), 2);
        assert_eq!(log.batch(LogIndex(1), 64, 5).len(), 1);
        assert_eq!(log.batch(LogIndex(4), 64, 5).len(), 0);
        assert_eq!(log.batch(LogIndex(9), 64, 5).len(), 0);
    }

    #[test]
    fn a_retreat_skips_the_term_that_differs() {
        let log = log(&[1, 1, 2, 2, 2], 0);
        assert_eq!(log.retreat(LogIndex(9)), LogIndex(5));
        assert_eq!(log.retreat(LogIndex(5)), LogIndex(2));
        assert_eq!(log.retreat(LogIndex(2)), LogIndex(0));
    }

    #[test]
    fn a_seal_that_is_cut_off_seals_no_more() {
        let mut log = log(&[1], 3);
        log.push(GroupEntry { term: Term(1), content: Content::Seal(vec![1, 2].into()) });
        log.push(GroupEntry { term: Term(2), content: Content::Empty });
        assert_eq!((log.seal(), log.bytes()), (Some(LogIndex(2)), 5));
        assert_eq!(log.bytes_between(LogIndex(1), LogIndex(3)), 2);
        log.truncate(LogIndex(2));
        assert_eq!(log.seal(), Some(LogIndex(2)));
        log.truncate(LogIndex(1));
        assert_eq!((log.seal(), log.bytes()), (None, 3));
        log.check_invariants();
    }

    #[test]
    fn a_full_log_takes_a_seal_only() {
        let log = log(&vec![1; GROUP_LOG_ENTRIES_MAX], 0);
        assert!(!log.has_room(0, false));
        assert!(log.has_room(0, true) && log.can_hold(0));
        let large = self::log(&[1, 1], GROUP_LOG_BYTES_MAX / 2);
        assert!(!large.has_room(1, false));
        assert!(large.has_room(1, true) && large.can_hold(1));
    }
}
