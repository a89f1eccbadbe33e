//! One key-value pair, and how it lies in memory.
//!
//! ```text
//! offset  0      8               12            14      16              (16 or 24)
//!         ver    value length    key length    flags   [expiry, 8 B]   key  value  zeros to 8 B
//! ```

use crate::base::Seq;
use crate::base::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// A key-value pair of a table, borrowed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// Position in the partition's log of the write that made this entry what it is.
    pub ver: Seq,
    /// When the entry ends, in milliseconds since the Unix epoch; 0 is never.
    pub expires_at_ms: u64,
}

impl Entry<'_> {
    /// The bytes that the entry takes in an arena.
    pub(super) fn stored_bytes(&self) -> usize {
        Header::of(self).stored_bytes()
    }

    /// Hands the stored form, piece by piece, to `put`.
    #[inline]
    pub(super) fn encode(&self, mut put: impl FnMut(&[u8])) {
        let header = Header::of(self);
        put(&header.encode());
        if header.has_expiry() {
            put(&self.expires_at_ms.to_le_bytes());
        }
        put(self.key);
        put(self.value);
        put(&[0; ALIGN][..header.stored_bytes() - header.used_bytes()]);
    }
}

/// Entries begin at multiples of this many bytes.
pub(super) const ALIGN: usize = 8;
const EXPIRY_BYTES: usize = 8;
const HAS_EXPIRY: u16 = 1;
const DEAD: u16 = 2;

const _: () = assert!(KEY_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(
    Header::BYTES + EXPIRY_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX + ALIGN < u32::MAX as usize
);

/// The first 16 bytes of a stored entry.
#[derive(Clone, Copy)]
pub(super) struct Header {
    ver: Seq,
    value_bytes: u32,
    key_bytes: u16,
    flags: u16,
}

impl Header {
    pub(super) const BYTES: usize = 16;

    /// Whether the entry was deleted or written anew elsewhere.
    pub(super) fn is_dead(&self) -> bool {
        self.flags & DEAD != 0
    }

    pub(super) fn has_expiry(&self) -> bool {
        self.flags & HAS_EXPIRY != 0
    }

    /// Bytes of the whole entry with the padding to the next one.
    #[inline]
    pub(super) fn stored_bytes(&self) -> usize {
        self.used_bytes().next_multiple_of(ALIGN)
    }

    /// The header at the beginning of `stored`.
    #[inline]
    pub(super) fn decode(stored: &[u8]) -> Self {
        let (words, _) = stored[..Self::BYTES].as_chunks::<8>();
        let lengths = u64::from_le_bytes(words[1]);
        Self {
            ver: Seq(u64::from_le_bytes(words[0])),
            value_bytes: lengths as u32,
            key_bytes: (lengths >> 32) as u16,
            flags: (lengths >> 48) as u16,
        }
    }

    fn encode(&self) -> [u8; Self::BYTES] {
        let lengths = u64::from(self.value_bytes)
            | (u64::from(self.key_bytes) << 32)
            | (u64::from(self.flags) << 48);
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.ver.0.to_le_bytes());
        bytes[8..].copy_from_slice(&lengths.to_le_bytes());
        bytes
    }

    fn of(entry: &Entry<'_>) -> Self {
        Self {
            ver: entry.ver,
            value_bytes: u32::try_from(entry.value.len()).expect("doors bound the value"),
            key_bytes: u16::try_from(entry.key.len()).expect("doors bound the key"),
            flags: if entry.expires_at_ms == 0 { 0 } else { HAS_EXPIRY },
        }
    }

    #[inline]
    fn key_offset(&self) -> usize {
        Self::BYTES + usize::from(self.flags & HAS_EXPIRY) * EXPIRY_BYTES
    }

    #[inline]
    fn used_bytes(&self) -> usize {
        self.key_offset() + usize::from(self.key_bytes) + self.value_bytes as usize
    }
}

/// The entry at the beginning of `stored`.
#[inline]
pub(super) fn decode(stored: &[u8]) -> Entry<'_> {
    let header = Header::decode(stored);
    let (head, rest) = stored.split_at(header.key_offset());
    let (key, rest) = rest.split_at(usize::from(header.key_bytes));
    let value = &rest[..header.value_bytes as usize];
    let expires_at_ms = match head[Header::BYTES..].as_chunks::<8>().0 {
        [expiry] => u64::from_le_bytes(*expiry),
        _ => 0,
    };
    Entry { key, value, ver: header.ver, expires_at_ms }
}

/// The key of the entry at the beginning of `stored`.
#[inline]
pub(super) fn decode_key(stored: &[u8]) -> &[u8] {
    let header = Header::decode(stored);
    &stored[header.key_offset()..][..usize::from(header.key_bytes)]
}

/// Marks the entry at the beginning of `stored` dead. Its lengths stay, for walking past it.
pub(super) fn mark_dead(stored: &mut [u8]) {
    let mut header = Header::decode(stored);
    debug_assert!(!header.is_dead(), "an entry dies once");
    header.flags |= DEAD;
    stored[..Header::BYTES].copy_from_slice(&header.encode());
}
