//! Walking a table page by page while it changes.
//!
//! Call the pair (birth of the segment, offset in it) the *place* of an entry, ordered by birth
//! first. A scan visits live entries in the order of their places, and a cursor is the place where
//! the next page begins.
//!
//! **Claim.** A key that is in the table from the first page to the last is visited at least once.
//!
//! **Proof.** We show that before each page every such key was either visited or has its entry
//! at or behind the cursor; the last page then visits all that are left. It holds for the first
//! page, whose cursor is before all places. A page that begins at the cursor `c` and ends at `d`
//! visits all live entries between the two, so it holds for `d` afterwards. Between two pages a
//! key's entry is overwritten in its place, or moves: by a write of another size or by compaction.
//! Either move is an append to the tail. Births only grow, the tail is the youngest segment, and
//! nothing is ever put before its end; so the new place is behind every place that was taken
//! before, and `d` was such a place. When the segment of the cursor is gone, its survivors are in
//! younger ones, and the page begins with the oldest of those. A slot used again does not matter,
//! for a birth is never used again, not even after [`Table::clear`](super::Table::clear). ∎
//!
//! A key whose entry moves behind the cursor after it was visited is visited twice.

use std::ops::ControlFlow;

use super::arena::{Arena, Position, walk};
use super::entry::{self, Entry, Header};

/// Where a scan goes on. `Cursor::default()` is the beginning.
///
/// The numbers may travel through the hands of a client: any other numbers are harmless, the
/// scan just begins somewhere else. A cursor means something only to the table that issued it:
/// another replica of the partition has its entries in other places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Birth number of the segment.
    pub birth: u64,
    /// Slot of the segment and offset in it.
    pub offset: u32,
}

impl Arena {
    /// Visits the live entries from the cursor on. See [`Table::scan`](super::Table::scan).
    ///
    /// `is_entry` tells whether a live entry with this key begins exactly at this position.
    pub(super) fn scan<'t>(
        &'t self,
        from: Cursor,
        is_entry: impl Fn(&[u8], Position) -> bool,
        visit: &mut dyn FnMut(Entry<'t>) -> ControlFlow<()>,
    ) -> Option<Cursor> {
        let (mut slot, mut start) = self.scan_start(from, is_entry)?;
        loop {
            let segment = &self.segments[slot];
            let rest = segment.bytes.get(start..).unwrap_or_default();
            for (offset, header, stored) in walk(rest) {
                if !header.is_dead() && visit(entry::decode(stored)).is_break() {
                    let at = Position::new(slot, start + offset);
                    return Some(Cursor { birth: segment.birth, offset: at.0 });
                }
            }
            (slot, start) = (self.oldest_since(segment.birth + 1)?, 0);
        }
    }

    /// The slot and the offset of the first entry at or behind the cursor.
    fn scan_start(
        &self,
        from: Cursor,
        is_entry: impl Fn(&[u8], Position) -> bool,
    ) -> Option<(usize, usize)> {
        let at = Position(from.offset);
        let segment = self.segments.get(at.slot()).filter(|s| s.birth == from.birth);
        let Some(segment) = segment.filter(|segment| segment.birth != 0) else {
            return Some((self.oldest_since(from.birth)?, 0));
        };
        let claimed = segment.bytes.get(at.offset()..).unwrap_or_default();
        if possible_key(claimed).is_some_and(|key| is_entry(key, at)) {
            return Some((at.slot(), at.offset()));
        }
        // The entry died since, or the cursor is not one of ours. Entries cannot be told from
        // arbitrary bytes except by walking to them from the beginning.
        let mut offsets = walk(&segment.bytes).map(|(offset, ..)| offset);
        let start = offsets.find(|&offset| offset >= at.offset());
        Some((at.slot(), start.unwrap_or(segment.bytes.len())))
    }

    /// The slot of the oldest segment that was born at `birth` or later.
    fn oldest_since(&self, birth: u64) -> Option<usize> {
        let births = self.segments.iter().map(|segment| segment.birth).enumerate();
        let since = births.filter(|&(_, b)| b >= birth.max(1));
        since.min_by_key(|&(_, b)| b).map(|(slot, _)| slot)
    }
}

/// The key of an entry at the beginning of these bytes, if they can be an entry at all.
fn possible_key(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..Header::BYTES)?;
    let header = Header::decode(bytes);
    (header.stored_bytes() <= bytes.len()).then(|| entry::decode_key(bytes))
}
