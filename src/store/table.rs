//! The table: an index over an arena.

use std::ops::ControlFlow;

use hashbrown::HashTable;
use hashbrown::hash_table;

use super::arena::{Arena, Position, walk};
use super::entry::Entry;
use super::hash::{content_hash, index_hash};
use super::scan::Cursor;
use crate::base::Seq;

/// The keys and values of one partition of one replica.
///
/// Invariants:
/// - the index holds the position of each live entry of the arena, and nothing else;
/// - no two live entries have the same key;
/// - `payload` is the sum of the lengths of the live keys and values;
/// - `expiring` counts the live entries with an expiry.
#[derive(Debug)]
pub struct Table {
    index: HashTable<Position>,
    arena: Arena,
    payload: u64,
    expiring: usize,
}

impl Table {
    /// An empty table. It allocates nothing until the first write.
    pub const fn new() -> Self {
        Self { index: HashTable::new(), arena: Arena::new(), payload: 0, expiring: 0 }
    }

    /// The entry of `key`. Also when its expiry has passed: time is the caller's business.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<Entry<'_>> {
        let arena = &self.arena;
        let at = self.index.find(index_hash(key), |&at| arena.key(at) == key)?;
        Some(arena.entry(*at))
    }

    /// Sets the value, version and expiry (0 = never) of `key`, whatever was there before.
    pub fn upsert(&mut self, key: &[u8], value: &[u8], ver: Seq, expires_at_ms: u64) {
        let entry = Entry { key, value, ver, expires_at_ms };
        let arena = &self.arena;
        let slot = self.index.entry(
            index_hash(key),
            |&at| arena.key(at) == key,
            |&at| index_hash(arena.key(at)),
        );
        self.payload += (key.len() + value.len()) as u64;
        self.expiring += usize::from(expires_at_ms != 0);
        match slot {
            hash_table::Entry::Vacant(slot) => {
                slot.insert(self.arena.append(&entry));
            }
            hash_table::Entry::Occupied(mut slot) => {
                let at = *slot.get();
                let old = self.arena.entry(at);
                self.payload -= (old.key.len() + old.value.len()) as u64;
                self.expiring -= usize::from(old.expires_at_ms != 0);
                if !self.arena.overwrite(at, &entry) {
                    *slot.get_mut() = self.arena.append(&entry);
                    self.arena.kill(at);
                    self.compact_one_segment();
                }
            }
        }
    }

    /// Removes `key`. True if it was there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let arena = &self.arena;
        let found = self.index.find_entry(index_hash(key), |&at| arena.key(at) == key);
        let Ok(found) = found else {
            return false;
        };
        let (at, _) = found.remove();
        let old = self.arena.entry(at);
        self.payload -= (old.key.len() + old.value.len()) as u64;
        self.expiring -= usize::from(old.expires_at_ms != 0);
        self.arena.kill(at);
        self.compact_one_segment();
        self.shrink_index();
        true
    }

    /// Visits the entries from `from` on, oldest place first, until `visit` breaks or the table
    /// ends. Returns where to go on, `None` at the end.
    ///
    /// The entry at which `visit` breaks counts as *not visited*: it is the first of the next
    /// page. So a page that is full breaks before taking the entry; it must take at least one, or
    /// the scan does not advance.
    ///
    /// The table may change between two pages. A key that is there all the time is visited at
    /// least once (it may be twice); one that comes or goes meanwhile may be visited or not.
    pub fn scan<'t>(
        &'t self,
        from: Cursor,
        visit: &mut dyn FnMut(Entry<'t>) -> ControlFlow<()>,
    ) -> Option<Cursor> {
        let is_entry = |key: &[u8], at| self.index.find(index_hash(key), |p| *p == at).is_some();
        self.arena.scan(from, is_entry, visit)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn bytes_live(&self) -> u64 {
        self.payload
    }

    /// Bytes of memory that the table holds, besides the `Table` itself.
    pub fn bytes_allocated(&self) -> u64 {
        self.arena.bytes_allocated() + self.index.allocation_size() as u64
    }

    /// Number of entries that have an expiry.
    pub fn expiring(&self) -> usize {
        self.expiring
    }

    /// Whether a pair of this size can still be added. False only beyond 8 to 16 GiB in this one
    /// partition. A primary asks before it replicates a write; `upsert` itself cannot refuse.
    pub fn fits(&self, key_bytes: usize, value_bytes: usize) -> bool {
        self.arena.fits(key_bytes + value_bytes)
    }

    /// Removes everything and gives the memory back. Cursors issued before stay valid.
    pub fn clear(&mut self) {
        self.index = HashTable::new();
        self.arena.clear();
        self.payload = 0;
        self.expiring = 0;
    }

    /// A number that is equal for tables with equal entries (keys, values, versions, expiries),
    /// however they came about, and almost surely different for others. Reads everything.
    pub fn digest(&self) -> u64 {
        let mut sum = 0u64;
        self.scan(Cursor::default(), &mut |entry| {
            // A sum, since it does not depend on the order and equal terms do not cancel out.
            sum = sum.wrapping_add(content_hash(&entry));
            ControlFlow::Continue(())
        });
        sum
    }

    /// Panics if an invariant of the table does not hold. For tests and simulations.
    pub fn check_invariants(&self) {
        self.arena.check_invariants();
        let (mut count, mut payload, mut expiring) = (0, 0, 0);
        for (slot, segment) in self.arena.segments.iter().enumerate() {
            for (offset, _, _) in walk(&segment.bytes).filter(|(_, header, _)| !header.is_dead()) {
                let at = Position::new(slot, offset);
                let entry = self.arena.entry(at);
                let found = self.index.find(index_hash(entry.key), |p| *p == at);
                assert!(found.is_some(), "the index knows every live entry");
                assert_eq!(self.find(entry.key), Some(entry), "keys are unique");
                count += 1;
                payload += (entry.key.len() + entry.value.len()) as u64;
                expiring += usize::from(entry.expires_at_ms != 0);
            }
        }
        assert_eq!((count, payload, expiring), (self.len(), self.payload, self.expiring));
    }

    /// Empties one segment if there are too many holes: bounded work for each write, and it keeps
    /// up, since a write makes holes in one segment only.
    fn compact_one_segment(&mut self) {
        let Some(slot) = self.arena.victim() else {
            return;
        };
        let bytes = self.arena.detach(slot);
        for (offset, _, stored) in walk(&bytes).filter(|(_, header, _)| !header.is_dead()) {
            let old = Position::new(slot, offset);
            let hash = index_hash(super::entry::decode_key(stored));
            let at = self.index.find_mut(hash, |at| *at == old);
            *at.expect("the index knows every live entry") = self.arena.append_stored(stored);
        }
        self.arena.vacate(slot);
    }

    /// Gives memory of the index back when it is less than an eighth full. It is about half full
    /// afterwards, so the next change of its size is far away in both directions.
    fn shrink_index(&mut self) {
        let length = self.index.len();
        if length < self.index.num_buckets() / 8 || length == 0 {
            let arena = &self.arena;
            self.index.shrink_to(length + length / 4, |&at| index_hash(arena.key(at)));
        }
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}
