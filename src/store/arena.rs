//! Where the entries of a table lie: an append-only sequence of segments with holes.

use std::cmp::Reverse;

use super::entry::{self, ALIGN, Entry, Header};

/// Where an entry begins: 17 bits of segment slot, 15 bits of offset in units of 8 bytes. That is
/// 131,072 segments of 256 KiB, 32 GiB in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position(pub(super) u32);

impl Position {
    const OFFSET_BITS: u32 = 15;

    pub(super) fn new(slot: usize, offset: usize) -> Self {
        debug_assert!(slot < SLOTS_MAX && offset < SEGMENT_BYTES_MAX);
        debug_assert!(offset.is_multiple_of(ALIGN));
        Self(((slot as u32) << Self::OFFSET_BITS) | (offset / ALIGN) as u32)
    }

    #[inline]
    pub(super) fn slot(self) -> usize {
        (self.0 >> Self::OFFSET_BITS) as usize
    }

    #[inline]
    pub(super) fn offset(self) -> usize {
        (self.0 & ((1 << Self::OFFSET_BITS) - 1)) as usize * ALIGN
    }
}

/// A piece of memory that entries are appended to. `birth` 0 marks a vacant slot.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) bytes: Vec<u8>,
    pub(super) birth: u64,
    pub(super) dead: u32,
}

/// The segments of one table.
///
/// Only the youngest segment, the tail, is appended to. It grows by reallocation, in steps of a
/// sixteenth of the arena, up to a quarter of the arena: little slack in a small table, no
/// copying in a large one, and enough segments to compact them one by one.
///
/// Invariants:
/// - the occupied slots have distinct births from `1..=last_birth`; the tail's is the greatest;
/// - the bytes of a segment are whole entries, each beginning below `SEGMENT_BYTES_MAX`;
/// - no segment consists of dead entries alone;
/// - `live`, `dead` and `capacity` are the sums over all segments, `vacant` counts vacant slots;
/// - the last slot is occupied.
#[derive(Debug)]
pub(super) struct Arena {
    pub(super) segments: Vec<Segment>,
    last_birth: u64,
    /// Bytes of live entries, in their stored form.
    live: u64,
    /// Bytes of dead entries, in their stored form.
    dead: u64,
    /// Bytes of memory behind the segments.
    capacity: u64,
    tail: u32,
    vacant: u32,
}

/// A segment is full at this length. Just below a power of two, so that the allocator's own
/// header does not cost another page. An entry of this size or more gets its own segment.
pub(super) const SEGMENT_BYTES_MAX: usize = 256 * 1024 - 64;
/// The smallest length at which a segment is full.
const SEGMENT_BYTES_MIN: usize = 4096;
/// The least that the tail grows by.
const GROWTH_BYTES_MIN: usize = 256;
/// Below this many dead bytes compaction is not worth its while.
const DEAD_BYTES_MIN: u64 = 1024;
/// Slots that a position can name.
const SLOTS_MAX: usize = 1 << (32 - Position::OFFSET_BITS);
const NO_TAIL: u32 = u32::MAX;

const _: () = assert!(SEGMENT_BYTES_MAX <= ALIGN << Position::OFFSET_BITS);
const _: () = assert!(2 * SEGMENT_BYTES_MAX < u32::MAX as usize);

impl Arena {
    pub(super) const fn new() -> Self {
        Self {
            segments: Vec::new(),
            last_birth: 0,
            live: 0,
            dead: 0,
            capacity: 0,
            tail: NO_TAIL,
            vacant: 0,
        }
    }

    #[inline]
    pub(super) fn entry(&self, at: Position) -> Entry<'_> {
        entry::decode(self.stored(at))
    }

    #[inline]
    pub(super) fn key(&self, at: Position) -> &[u8] {
        entry::decode_key(self.stored(at))
    }

    /// Adds an entry behind all others.
    pub(super) fn append(&mut self, entry: &Entry<'_>) -> Position {
        let stored_bytes = entry.stored_bytes();
        let (at, bytes) = self.make_room(stored_bytes);
        entry.encode(|piece| bytes.extend_from_slice(piece));
        self.live += stored_bytes as u64;
        at
    }

    /// Adds an entry in its stored form behind all others.
    pub(super) fn append_stored(&mut self, stored: &[u8]) -> Position {
        let (at, bytes) = self.make_room(stored.len());
        bytes.extend_from_slice(stored);
        self.live += stored.len() as u64;
        at
    }

    /// Writes `entry` over the one at `at` if it takes exactly the same room.
    pub(super) fn overwrite(&mut self, at: Position, entry: &Entry<'_>) -> bool {
        let stored = &mut self.segments[at.slot()].bytes[at.offset()..];
        let stored_bytes = Header::decode(stored).stored_bytes();
        if stored_bytes != entry.stored_bytes() {
            return false;
        }
        let mut rest = &mut stored[..stored_bytes];
        entry.encode(|piece| {
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(piece.len());
            head.copy_from_slice(piece);
            rest = tail;
        });
        true
    }

    /// Turns the entry at `at` into a hole, and frees its segment if nothing else lives there.
    pub(super) fn kill(&mut self, at: Position) {
        let segment = &mut self.segments[at.slot()];
        let stored = &mut segment.bytes[at.offset()..];
        let stored_bytes = Header::decode(stored).stored_bytes();
        entry::mark_dead(stored);
        segment.dead += stored_bytes as u32;
        self.live -= stored_bytes as u64;
        self.dead += stored_bytes as u64;
        if segment.dead as usize == segment.bytes.len() {
            let bytes = self.detach(at.slot());
            drop(bytes);
            self.vacate(at.slot());
        }
    }

    /// The segment to empty next, if there is more dead than alive.
    ///
    /// It is the one with the greatest share of dead bytes. That share is above one half, since
    /// the share of the whole arena is: each byte copied sets more than one byte free.
    pub(super) fn victim(&self) -> Option<usize> {
        if self.dead <= self.live || self.dead < DEAD_BYTES_MIN {
            return None;
        }
        let share = |segment: &Segment| {
            let length = segment.bytes.len() as u64;
            (u64::from(segment.dead) << 16) / length.max(1)
        };
        let occupied = self.segments.iter().enumerate().filter(|(_, segment)| segment.birth != 0);
        occupied.max_by_key(|(_, segment)| (share(segment), Reverse(segment.birth))).map(|(s, _)| s)
    }

    /// Takes the bytes of a segment out of the arena, for moving its live entries to the tail.
    /// The slot stays occupied until [`Arena::vacate`], so that no new segment takes it and no
    /// new position equals an old one that has not moved yet.
    pub(super) fn detach(&mut self, slot: usize) -> Vec<u8> {
        if self.tail as usize == slot {
            self.tail = NO_TAIL;
        }
        let segment = &mut self.segments[slot];
        let bytes = std::mem::take(&mut segment.bytes);
        let dead = u64::from(std::mem::take(&mut segment.dead));
        self.capacity -= bytes.capacity() as u64;
        self.dead -= dead;
        self.live -= bytes.len() as u64 - dead;
        bytes
    }

    /// Makes the slot of a detached segment free for a new one.
    pub(super) fn vacate(&mut self, slot: usize) {
        let segment = &mut self.segments[slot];
        debug_assert!(segment.bytes.is_empty() && segment.birth != 0);
        segment.birth = 0;
        self.vacant += 1;
        while self.segments.last().is_some_and(|last| last.birth == 0) {
            self.segments.pop();
            self.vacant -= 1;
        }
        if self.segments.len() < self.segments.capacity() / 4 || self.segments.is_empty() {
            self.segments.shrink_to_fit();
        }
        self.trim_tail();
    }

    /// Drops everything but the memory of the last birth: old cursors stay in the past.
    pub(super) fn clear(&mut self) {
        *self = Self { last_birth: self.last_birth, ..Self::new() };
    }

    /// Bytes of memory that the arena holds.
    pub(super) fn bytes_allocated(&self) -> u64 {
        self.capacity + (self.segments.capacity() * size_of::<Segment>()) as u64
    }

    /// Segments that are in use.
    pub(super) fn segment_count(&self) -> usize {
        self.segments.len() - self.vacant as usize
    }

    /// Whether the arena is far from the end of its slots. Only half of them count: another
    /// replica with the same entries may have more holes, and it cannot refuse.
    pub(super) fn fits(&self, stored_bytes: usize) -> bool {
        let more = stored_bytes / SEGMENT_BYTES_MAX + 2;
        self.segment_count() + more <= SLOTS_MAX / 2
    }

    /// Panics if an invariant of the arena does not hold. For tests.
    pub(super) fn check_invariants(&self) {
        let (mut live, mut dead, mut capacity, mut births) = (0, 0, 0, Vec::new());
        for segment in self.segments.iter().filter(|segment| segment.birth != 0) {
            births.push(segment.birth);
            capacity += segment.bytes.capacity() as u64;
            let (mut offset, mut dead_here) = (0, 0);
            while offset < segment.bytes.len() {
                assert!(offset < SEGMENT_BYTES_MAX, "positions reach every entry");
                let header = Header::decode(&segment.bytes[offset..]);
                let stored_bytes = header.stored_bytes();
                *(if header.is_dead() { &mut dead_here } else { &mut live }) += stored_bytes as u64;
                offset += stored_bytes;
            }
            assert_eq!(offset, segment.bytes.len(), "segments hold whole entries");
            assert_eq!(dead_here, u64::from(segment.dead));
            assert!((dead_here as usize) < offset, "a dead segment is freed at once");
            dead += dead_here;
        }
        assert_eq!((live, dead, capacity), (self.live, self.dead, self.capacity));
        assert_eq!(births.len(), self.segment_count());
        assert!(self.segments.last().is_none_or(|last| last.birth != 0));
        births.sort_unstable();
        assert!(births.windows(2).all(|pair| pair[0] < pair[1]), "births are distinct");
        assert!(births.last().is_none_or(|&birth| birth <= self.last_birth));
        if self.tail != NO_TAIL {
            assert_eq!(Some(&self.segments[self.tail as usize].birth), births.last());
        }
    }

    #[inline]
    fn stored(&self, at: Position) -> &[u8] {
        &self.segments[at.slot()].bytes[at.offset()..]
    }

    /// The tail and the position of its end, with room for `more` bytes.
    fn make_room(&mut self, more: usize) -> (Position, &mut Vec<u8>) {
        if !self.grow_tail(more) {
            self.seal_tail();
            self.open_tail(more);
        }
        let slot = self.tail as usize;
        let bytes = &mut self.segments[slot].bytes;
        debug_assert!(bytes.capacity() - bytes.len() >= more);
        (Position::new(slot, bytes.len()), bytes)
    }

    /// Makes room for `more` bytes in the tail. False if they should begin a new segment.
    fn grow_tail(&mut self, more: usize) -> bool {
        let full = usize::try_from(self.capacity / 4)
            .unwrap_or(usize::MAX)
            .clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        let step = self.growth_step();
        let Some(segment) = self.segments.get_mut(self.tail as usize) else {
            return false;
        };
        let (length, old_capacity) = (segment.bytes.len(), segment.bytes.capacity());
        if more >= SEGMENT_BYTES_MAX || length >= SEGMENT_BYTES_MAX {
            return false;
        }
        if old_capacity - length >= more {
            return true;
        }
        // A medium entry may make the tail longer than full rather than leave a large gap: this
        // keeps gaps below an eighth, and segments at a size that makes their slots last.
        if length + more > full && length > full - full / 8 {
            return false;
        }
        let new_capacity = (length + more).max(full.min(old_capacity + step));
        segment.bytes.reserve_exact(new_capacity - length);
        self.capacity += (segment.bytes.capacity() - old_capacity) as u64;
        true
    }

    /// Gives back what the tail has reserved for the growth of a table that has shrunk since.
    fn trim_tail(&mut self) {
        let step = self.growth_step();
        let Some(segment) = self.segments.get_mut(self.tail as usize) else {
            return;
        };
        let old_capacity = segment.bytes.capacity();
        if old_capacity - segment.bytes.len() > 4 * step {
            segment.bytes.shrink_to(segment.bytes.len() + step);
            self.capacity -= (old_capacity - segment.bytes.capacity()) as u64;
        }
    }

    /// Gives back what the tail has reserved and will not need: it stops being the tail.
    fn seal_tail(&mut self) {
        let Some(segment) = self.segments.get_mut(self.tail as usize) else {
            return;
        };
        let old_capacity = segment.bytes.capacity();
        if old_capacity - segment.bytes.len() > old_capacity / 8 {
            segment.bytes.shrink_to_fit();
            self.capacity -= (old_capacity - segment.bytes.capacity()) as u64;
        }
        self.tail = NO_TAIL;
    }

    /// Begins a new tail with room for `more` bytes.
    fn open_tail(&mut self, more: usize) {
        let bytes = Vec::with_capacity(more.max(self.growth_step()));
        self.capacity += bytes.capacity() as u64;
        self.last_birth += 1;
        let segment = Segment { bytes, birth: self.last_birth, dead: 0 };
        let slot = if self.vacant > 0 {
            self.vacant -= 1;
            let vacant = self.segments.iter().position(|segment| segment.birth == 0);
            let slot = vacant.expect("`vacant` counts the vacant slots");
            self.segments[slot] = segment;
            slot
        } else {
            if self.segments.len() == self.segments.capacity() {
                self.segments.reserve_exact((self.segments.len() / 4).max(1));
            }
            self.segments.push(segment);
            self.segments.len() - 1
        };
        assert!(slot < SLOTS_MAX, "`Table::fits` refuses writes long before the slots run out");
        self.tail = slot as u32;
    }

    fn growth_step(&self) -> usize {
        usize::try_from(self.capacity / 16)
            .unwrap_or(usize::MAX)
            .clamp(GROWTH_BYTES_MIN, SEGMENT_BYTES_MAX)
            .next_multiple_of(ALIGN)
    }
}

/// The entries of a segment's bytes: their offsets, headers and stored forms, dead ones too.
pub(super) fn walk(bytes: &[u8]) -> impl Iterator<Item = (usize, Header, &[u8])> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(offset..).filter(|rest| !rest.is_empty())?;
        let header = Header::decode(rest);
        let here = offset;
        offset += header.stored_bytes();
        Some((here, header, &rest[..header.stored_bytes()]))
    })
}
