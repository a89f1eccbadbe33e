//! The handles that C holds: numbers in the shape of pointers, looked up in a table.
//!
//! A handle is `generation | index | tag`. The slot of that index remembers its generation, so
//! a closed handle is told from the one that took its slot afterwards, and nothing that C
//! passes is ever dereferenced. A lookup clones what the slot holds; closing takes it out, so
//! threads that are inside a call keep their clone alive until they leave.
//!
//! Invariants:
//! - a slot's generation only grows, and is one more after each closing;
//! - an index is either in the free list or its slot holds a value, never both.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::guard::forks;
use crate::base::{Error, Result, Status};

const TAG_BITS: u32 = 2;
const INDEX_BITS: u32 = 16;
const CHUNK_SLOTS: usize = 64;
const CHUNKS: usize = (1 << INDEX_BITS) / CHUNK_SLOTS;

const _: () = assert!(usize::BITS == 64, "handles need 46 bits of generation");

/// All handles of one kind.
pub(super) struct Table<T> {
    /// Distinguishes the kinds; not 0, so that no handle is NULL.
    tag: usize,
    /// What a handle of this kind is called in messages.
    noun: &'static str,
    chunks: [OnceLock<Box<[Slot<T>]>>; CHUNKS],
    free: Mutex<FreeList>,
}

struct FreeList {
    indexes: Vec<usize>,
    next: usize,
}

struct Slot<T> {
    /// Count of forks when the slot was filled. Outside the lock: in a forked child the lock
    /// may be held for ever by a thread that does not exist there.
    forks: AtomicU64,
    content: RwLock<Content<T>>,
}

struct Content<T> {
    generation: usize,
    value: Option<T>,
    poisoned: bool,
}

impl<T: Clone> Table<T> {
    /// An empty table. Two tables need two tags, 1 to 3.
    pub(super) const fn new(tag: usize, noun: &'static str) -> Self {
        assert!(tag > 0 && tag < 1 << TAG_BITS);
        let free = Mutex::new(FreeList { indexes: Vec::new(), next: 0 });
        Self { tag, noun, chunks: [const { OnceLock::new() }; CHUNKS], free }
    }

    /// A new handle for `value`.
    pub(super) fn insert(&self, value: T) -> Result<usize> {
        let index = self.free_index()?;
        let slot = &self.chunks[index / CHUNK_SLOTS].get_or_init(new_chunk)[index % CHUNK_SLOTS];
        slot.forks.store(forks(), Ordering::Release);
        let mut content = slot.content.write();
        debug_assert!(content.value.is_none(), "a free slot holds nothing");
        content.value = Some(value);
        content.poisoned = false;
        Ok(((content.generation << INDEX_BITS | index) << TAG_BITS) | self.tag)
    }

    /// A clone of what `handle` stands for.
    pub(super) fn lookup(&self, handle: usize) -> Result<T> {
        let (slot, generation) = self.slot(handle)?;
        let content = slot.content.read();
        match &content.value {
            _ if generation > content.generation => Err(self.foreign()),
            Some(_) if generation < content.generation => Err(self.closed()),
            Some(_) if content.poisoned => {
                let message = format!("an earlier call on this {} panicked", self.noun);
                Err(Error::new(Status::Panic, message))
            }
            Some(value) => Ok(value.clone()),
            None => Err(self.closed()),
        }
    }

    /// Closes `handle` and returns what it stood for.
    pub(super) fn remove(&self, handle: usize) -> Result<T> {
        let (slot, generation) = self.slot(handle)?;
        let mut content = slot.content.write();
        if generation != content.generation {
            return Err(self.closed());
        }
        let value = content.value.take().ok_or_else(|| self.closed())?;
        content.generation += 1;
        drop(content);
        self.free.lock().indexes.push(handle >> TAG_BITS & ((1 << INDEX_BITS) - 1));
        Ok(value)
    }

    /// From now on every call on `handle` answers `Panic`; it can still be closed.
    pub(super) fn poison(&self, handle: usize) {
        if let Ok((slot, generation)) = self.slot(handle) {
            let mut content = slot.content.write();
            content.poisoned |= content.generation == generation;
        }
    }

    fn slot(&self, handle: usize) -> Result<(&Slot<T>, usize)> {
        if handle == 0 {
            return Err(Error::new(Status::InvalidArgument, format!("the {} is NULL", self.noun)));
        }
        let index = handle >> TAG_BITS & ((1 << INDEX_BITS) - 1);
        let chunk = self.chunks[index / CHUNK_SLOTS].get();
        let Some(chunk) = chunk.filter(|_| handle & ((1 << TAG_BITS) - 1) == self.tag) else {
            return Err(self.foreign());
        };
        let slot = &chunk[index % CHUNK_SLOTS];
        if slot.forks.load(Ordering::Acquire) != forks() {
            let message = format!("this {} was opened by the parent process", self.noun);
            return Err(Error::new(Status::Forked, message));
        }
        Ok((slot, handle >> (TAG_BITS + INDEX_BITS)))
    }

    fn free_index(&self) -> Result<usize> {
        let mut free = self.free.lock();
        if let Some(index) = free.indexes.pop() {
            return Ok(index);
        }
        if free.next == 1 << INDEX_BITS {
            return Err(Error::new(Status::Busy, format!("too many {}s are open", self.noun)));
        }
        free.next += 1;
        Ok(free.next - 1)
    }

    fn foreign(&self) -> Error {
        Error::new(Status::InvalidArgument, format!("this is not a {} of ringkv", self.noun))
    }

    fn closed(&self) -> Error {
        Error::new(Status::Closed, format!("the {} is closed", self.noun))
    }
}

fn new_chunk<T>() -> Box<[Slot<T>]> {
    let slot = |_| Slot {
        forks: AtomicU64::new(0),
        content: RwLock::new(Content { generation: 1, value: None, poisoned: false }),
    };
    (0..CHUNK_SLOTS).map(slot).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn status_of<T: std::fmt::Debug>(result: Result<T>) -> Status {
        result.expect_err("must fail").status()
    }

    #[test]
    fn a_closed_handle_is_told_from_its_successor_in_the_same_slot() {
        static TABLE: Table<u32> = Table::new(1, "thing");
        let first = TABLE.insert(1).expect("room");
        assert_eq!(TABLE.lookup(first), Ok(1));
        assert_eq!(TABLE.remove(first), Ok(1));
        let second = TABLE.insert(2).expect("room");
        assert_ne!(first, second);
        assert_eq!(status_of(TABLE.lookup(first)), Status::Closed);
        assert_eq!(status_of(TABLE.remove(first)), Status::Closed);
        assert_eq!(TABLE.lookup(second), Ok(2));
    }

    #[test]
    fn what_was_never_a_handle_is_refused() {
        static TABLE: Table<u32> = Table::new(2, "thing");
        assert_eq!(status_of(TABLE.lookup(0)), Status::InvalidArgument);
        assert_eq!(status_of(TABLE.lookup(0xdead_beef_0000_0002)), Status::InvalidArgument);
        let handle = TABLE.insert(7).expect("room");
        for bit in 0..usize::BITS {
            assert!(TABLE.lookup(handle ^ (1 << bit)).is_err(), "bit {bit}");
        }
        let local = 5u8;
        assert!(TABLE.lookup(&raw const local as usize).is_err());
    }

    #[test]
    fn a_poisoned_handle_can_only_be_closed() {
        static TABLE: Table<u32> = Table::new(3, "thing");
        let handle = TABLE.insert(1).expect("room");
        TABLE.poison(handle);
        assert_eq!(status_of(TABLE.lookup(handle)), Status::Panic);
        assert_eq!(TABLE.remove(handle), Ok(1));
        let next = TABLE.insert(2).expect("room");
        TABLE.poison(handle);
        assert_eq!(TABLE.lookup(next), Ok(2), "poisoning a closed handle harms nobody");
    }

    #[test]
    fn the_table_is_bounded_and_reuses_its_slots() {
        static TABLE: Table<u32> = Table::new(1, "thing");
        let handles: Vec<usize> =
            (0..1 << INDEX_BITS).map_while(|i| TABLE.insert(i).ok()).collect();
        assert_eq!(handles.len(), 1 << INDEX_BITS);
        assert_eq!(status_of(TABLE.insert(0)), Status::Busy);
        for (i, handle) in handles.iter().enumerate() {
            assert_eq!(TABLE.remove(*handle), Ok(i as u32));
        }
        assert!(TABLE.insert(0).is_ok());
    }

    proptest! {
        #[test]
        fn any_sequence_of_calls_ends_as_in_a_map(
            calls in proptest::collection::vec((0..3u8, any::<prop::sample::Index>()), 1..200),
        ) {
            let table: Box<Table<usize>> = Box::new(Table::new(1, "thing"));
            let mut handles = vec![0, 1];
            let mut open = BTreeMap::new();
            for (at, (call, which)) in calls.into_iter().enumerate() {
                let handle = handles[which.index(handles.len())];
                match call {
                    0 => {
                        let new = table.insert(at).expect("room");
                        prop_assert!(!handles.contains(&new), "a handle is never issued twice");
                        handles.push(new);
                        open.insert(new, at);
                    }
                    1 => prop_assert_eq!(table.remove(handle).ok(), open.remove(&handle)),
                    _ => prop_assert_eq!(table.lookup(handle).ok(), open.get(&handle).copied()),
                }
            }
        }
    }
}
