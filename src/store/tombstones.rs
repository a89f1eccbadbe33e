//! The deletions that a learner has seen while its snapshot is not complete.

use hashbrown::HashTable;
use hashbrown::hash_table;

use super::hash::index_hash;
use crate::base::Seq;

/// Keys that were deleted, with the version of the deletion.
///
/// A snapshot is read from a table that goes on changing, and its items overtake log entries and
/// are overtaken by them. A learner therefore applies an item only if its version is greater than
/// that of the key in the table *and* that of the key here; without the second test an old item
/// would bring a deleted key back. When the snapshot is complete the tombstones are dropped.
///
/// There is no bound in here: whoever streams into a learner compares [`Tombstones::bytes`] with
/// its budget, and starts the stream anew if there were too many deletions.
#[derive(Debug, Default)]
pub struct Tombstones {
    deletions: HashTable<(Box<[u8]>, Seq)>,
    key_bytes: usize,
}

impl Tombstones {
    /// No deletions. Allocates nothing.
    pub const fn new() -> Self {
        Self { deletions: HashTable::new(), key_bytes: 0 }
    }

    /// Notes that `key` was deleted at `ver`. The latest deletion of a key counts.
    pub fn insert(&mut self, key: &[u8], ver: Seq) {
        let slot = self.deletions.entry(
            index_hash(key),
            |(other, _)| **other == *key,
            |(other, _)| index_hash(other),
        );
        match slot {
            hash_table::Entry::Vacant(slot) => {
                slot.insert((key.into(), ver));
                self.key_bytes += key.len();
            }
            hash_table::Entry::Occupied(mut slot) => {
                let (_, latest) = slot.get_mut();
                *latest = ver.max(*latest);
            }
        }
    }

    /// The version of the latest deletion of `key`.
    pub fn find(&self, key: &[u8]) -> Option<Seq> {
        self.deletions.find(index_hash(key), |(other, _)| **other == *key).map(|(_, ver)| *ver)
    }

    /// Forgets all deletions and gives the memory back.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.deletions.len()
    }

    /// Whether no deletion is known.
    pub fn is_empty(&self) -> bool {
        self.deletions.is_empty()
    }

    /// Bytes of memory that the tombstones hold.
    pub fn bytes(&self) -> u64 {
        (self.deletions.allocation_size() + self.key_bytes) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_deletion_counts_and_clear_forgets() {
        let mut tombstones = Tombstones::new();
        assert_eq!((tombstones.bytes(), tombstones.find(b"a")), (0, None));
        tombstones.insert(b"a", Seq(7));
        tombstones.insert(b"a", Seq(5));
        tombstones.insert(b"b", Seq(6));
        assert_eq!(tombstones.find(b"a"), Some(Seq(7)));
        assert_eq!(tombstones.find(b"b"), Some(Seq(6)));
        assert_eq!(tombstones.find(b"c"), None);
        assert_eq!(tombstones.len(), 2);
        assert!(tombstones.bytes() >= 2);
        tombstones.clear();
        assert!(tombstones.is_empty());
        assert_eq!((tombstones.bytes(), tombstones.find(b"a")), (0, None));
    }
}
