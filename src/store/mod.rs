//! The data of one partition of one replica.
//!
//! A node holds one [`Table`] for each copy of a partition that it keeps: up to 4096 of them, many
//! tiny or empty. So an empty table allocates nothing, a table grows in small steps, and memory
//! goes back to the allocator when keys are deleted. Entries (header, key, value in one piece) are
//! appended to the segments of an arena; an index of 4-byte positions finds them. Keys are hashed
//! with a seed drawn once per process, so that nobody outside can choose keys that collide.
//!
//! [`Table::scan`] walks the arena in order of age. Its cursor is two numbers, stays valid while
//! the table changes, and never misses a key that is there all the time; a snapshot stream and a
//! client's scan need exactly that. [`Tombstones`] remember the deletions that a learner has seen
//! while a snapshot is still on its way to it.
//!
//! What this layer does not do: it has no lock (one partition, one lock, held by the caller), no
//! clock (an entry carries its expiry, the caller decides), no limit of its own on memory (the
//! caller asks [`Table::fits`] and [`Table::bytes_allocated`]), no order of keys, and no file.
//! Durability, a log and a snapshot on disk, will stand beside the table behind one trait.
//!
//! Caveats: the index doubles in one go, which rereads every key (a few milliseconds per 100,000
//! keys), and one compaction step moves up to one segment, 256 KiB; partitions are meant to be
//! small and many. How many bytes are allocated may differ between two runs with equal data,
//! since the index depends on the seed; nothing else does.

mod arena;
mod entry;
mod hash;
mod scan;
mod table;
mod tombstones;

pub use entry::Entry;
pub use scan::Cursor;
pub use table::Table;
pub use tombstones::Tombstones;

#[cfg(test)]
mod tests;
