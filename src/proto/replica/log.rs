//! The entries of one partition that are not yet applied everywhere.

use std::collections::VecDeque;

use hashbrown::HashTable;

use crate::base::{Cfg, Seq};
use crate::wire::{Effect, EntryRef, Outcome, Session};

/// An entry that owns its bytes.
#[derive(Clone, Debug)]
struct Entry {
    ecfg: Cfg,
    session: Session,
    outcome: Outcome,
    kind: Kind,
    expires_at_ms: u64,
    key_len: u16,
    /// Key and value in one piece.
    data: Box<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    None,
    Put,
    Delete,
    Close,
}

impl Entry {
    fn new(entry: &EntryRef<'_>) -> Self {
        let closed;
        let (kind, key, value, expires_at_ms): (_, &[u8], &[u8], _) = match entry.effect {
            Effect::None => (Kind::None, &[], &[], 0),
            Effect::Put { key, value, expires_at_ms } => (Kind::Put, key, value, expires_at_ms),
            Effect::Delete { key } => (Kind::Delete, key, &[], 0),
            Effect::Close { sid } => {
                closed = sid.to_le_bytes();
                (Kind::Close, &closed, &[], 0)
            }
        };
        let mut data = Vec::with_capacity(key.len() + value.len());
        data.extend_from_slice(key);
        data.extend_from_slice(value);
        Self {
            ecfg: entry.ecfg,
            session: entry.session,
            outcome: entry.outcome,
            kind,
            expires_at_ms,
            key_len: key.len() as u16,
            data: data.into_boxed_slice(),
        }
    }

    fn view(&self, seq: Seq) -> EntryRef<'_> {
        let (key, value) = self.data.split_at(usize::from(self.key_len));
        EntryRef {
            ecfg: self.ecfg,
            seq,
            session: self.session,
            effect: match self.kind {
                Kind::None => Effect::None,
                Kind::Put => Effect::Put { key, value, expires_at_ms: self.expires_at_ms },
                Kind::Delete => Effect::Delete { key },
                Kind::Close => Effect::Close { sid: number(key) },
            },
            outcome: self.outcome,
        }
    }
}

/// Entries `base + 1 ..= last` of one partition.
///
/// - Positions are contiguous.
/// - The configurations of the entries never decrease along the log.
/// - Everything up to `base` is applied here and needed by nobody.
#[derive(Debug, Default)]
pub(super) struct Log {
    base: Seq,
    base_ecfg: Cfg,
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Log {
    /// An empty log that goes on after `base`.
    pub(super) fn starting_at(base: Seq) -> Self {
        Self { base, ..Self::default() }
    }

    pub(super) fn base(&self) -> Seq {
        self.base
    }

    pub(super) fn last(&self) -> Seq {
        Seq(self.base.0 + self.entries.len() as u64)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of keys and values in the log.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn entry(&self, seq: Seq) -> Option<EntryRef<'_>> {
        let at = seq.0.checked_sub(self.base.0 + 1)?;
        self.entries.get(at as usize).map(|entry| entry.view(seq))
    }

    /// The configuration of the entry at `seq`; zero if it is no longer known.
    pub(super) fn ecfg(&self, seq: Seq) -> Cfg {
        match seq == self.base {
            true => self.base_ecfg,
            false => self.entry(seq).map_or(Cfg::ZERO, |entry| entry.ecfg),
        }
    }

    /// Appends a copy of `entry`, whose position must be the next one.
    pub(super) fn push(&mut self, entry: &EntryRef<'_>) {
        debug_assert_eq!(entry.seq.0, self.last().0 + 1, "positions are contiguous");
        debug_assert!(self.ecfg(self.last()) <= entry.ecfg, "configurations never decrease");
        let entry = Entry::new(entry);
        self.bytes += entry.data.len();
        self.entries.push_back(entry);
    }

    /// Moves an empty log on by one entry that was applied without being kept.
    pub(super) fn skip(&mut self, ecfg: Cfg) {
        debug_assert!(self.entries.is_empty(), "only an empty log may skip");
        self.base = Seq(self.base.0 + 1);
        self.base_ecfg = ecfg;
    }

    /// Removes every entry after `seq`.
    pub(super) fn truncate_after(&mut self, seq: Seq) {
        debug_assert!(seq >= self.base, "what is applied everywhere is never cut");
        while self.last() > seq {
            match self.entries.pop_back() {
                Some(entry) => self.bytes -= entry.data.len(),
                None => return,
            }
        }
    }

    /// Forgets every entry up to and including `seq`.
    pub(super) fn drop_through(&mut self, seq: Seq) {
        while self.base < seq {
            let Some(entry) = self.entries.pop_front() else { return };
            self.base = Seq(self.base.0 + 1);
            self.base_ecfg = entry.ecfg;
            self.bytes -= entry.data.len();
        }
        // A burst must not keep its memory for ever: an idle partition is one of thousands.
        if self.entries.is_empty() && self.entries.capacity() > 64 {
            self.entries = VecDeque::new();
        }
    }

    /// Entries after `from`, in order.
    pub(super) fn after(&self, from: Seq) -> impl Iterator<Item = EntryRef<'_>> {
        let skip = from.0.saturating_sub(self.base.0) as usize;
        let first = self.base.0 + 1;
        (skip..self.entries.len())
            .filter_map(move |i| self.entries.get(i).map(|e| e.view(Seq(first + i as u64))))
    }
}

/// For each key with an uncommitted entry, the newest one: conditions are evaluated against it
/// (W2), and no answer ever shows it.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    newest: HashTable<(u64, Seq)>,
}

impl Overlay {
    /// The newest uncommitted entry of `key`, if any.
    pub(super) fn find<'l>(&self, key: &[u8], log: &'l Log) -> Option<EntryRef<'l>> {
        let hash = hash(key);
        let found = self.newest.find(hash, |(h, seq)| *h == hash && is_of(log, *seq, key))?;
        log.entry(found.1)
    }

    /// Notes that `seq`, already in the log, is the newest entry of `key`.
    pub(super) fn note(&mut self, key: &[u8], seq: Seq, log: &Log) {
        let hash = hash(key);
        let same = |(h, s): &(u64, Seq)| *h == hash && is_of(log, *s, key);
        match self.newest.find_mut(hash, same) {
            Some(slot) => slot.1 = seq,
            None => {
                self.newest.insert_unique(hash, (hash, seq), |(h, _)| *h);
            }
        }
    }

    /// Forgets `seq` of `key` when it is committed, unless a newer one took its place.
    pub(super) fn forget(&mut self, key: &[u8], seq: Seq) {
        let hash = hash(key);
        if let Ok(found) = self.newest.find_entry(hash, |(_, s)| *s == seq) {
            found.remove();
        }
        if self.newest.is_empty() && self.newest.capacity() > 64 {
            self.newest = HashTable::new();
        }
    }
}

fn number(bytes: &[u8]) -> u128 {
    bytes.first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes))
}

fn is_of(log: &Log, seq: Seq, key: &[u8]) -> bool {
    match log.entry(seq).map(|entry| entry.effect) {
        Some(Effect::Put { key: k, .. } | Effect::Delete { key: k }) => k == key,
        Some(Effect::None | Effect::Close { .. }) | None => false,
    }
}

/// FNV-1a: the overlay is small and bounded by the window, and its order shows nowhere.
fn hash(key: &[u8]) -> u64 {
    key.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(seq: u64, key: &'static [u8]) -> EntryRef<'static> {
        EntryRef {
            ecfg: Cfg(1),
            seq: Seq(seq),
            session: Session::default(),
            effect: Effect::Put { key, value: b"v", expires_at_ms: 0 },
            outcome: Outcome::Done,
        }
    }

    #[test]
    fn the_log_keeps_positions_through_cuts_at_both_ends() {
        let mut log = Log::starting_at(Seq(10));
        (11..=15).for_each(|seq| log.push(&put(seq, b"k")));
        log.drop_through(Seq(12));
        log.truncate_after(Seq(14));
        assert_eq!((log.base(), log.last(), log.len()), (Seq(12), Seq(14), 2));
        assert_eq!(log.entry(Seq(12)), None);
        assert_eq!(log.entry(Seq(13)).unwrap().seq, Seq(13));
        assert_eq!(log.after(Seq(13)).map(|e| e.seq).collect::<Vec<_>>(), [Seq(14)]);
        assert_eq!(log.bytes(), 4);
        assert_eq!(log.ecfg(Seq(12)), Cfg(1));
    }

    #[test]
    fn the_overlay_finds_the_newest_entry_of_a_key() {
        let mut log = Log::default();
        let mut overlay = Overlay::default();
        for (seq, key) in [(1, b"a"), (2, b"b"), (3, b"a")] {
            log.push(&put(seq, key));
            overlay.note(key, Seq(seq), &log);
        }
        assert_eq!(overlay.find(b"a", &log).unwrap().seq, Seq(3));
        overlay.forget(b"a", Seq(1));
        assert_eq!(overlay.find(b"a", &log).unwrap().seq, Seq(3));
        overlay.forget(b"a", Seq(3));
        assert_eq!(overlay.find(b"a", &log), None);
        assert_eq!(overlay.find(b"b", &log).unwrap().seq, Seq(2));
    }
}
