//! The two hashes of the store: a seeded one for its indexes, a fixed one for comparing replicas.

use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

use hashbrown::DefaultHashBuilder;

use super::entry::Entry;

/// One seed for all tables of the process: thousands of empty tables should not carry one each.
static SEED: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);

/// The hash of a key in an index. Differs from process to process and must not leave this one.
#[inline]
pub(super) fn index_hash(key: &[u8]) -> u64 {
    let mut hasher = SEED.build_hasher();
    hasher.write(key);
    hasher.finish()
}

/// The hash of everything that two replicas must agree on about an entry. The same in every
/// process and every version of the library; not meant to resist an attacker.
pub(super) fn content_hash(entry: &Entry<'_>) -> u64 {
    // The lengths come first, so that bytes cannot wander from the key to the value unnoticed.
    let lengths = ((entry.key.len() as u64) << 32) ^ entry.value.len() as u64;
    let mut state = mix(0x7269_6e67_6b76_3031, lengths);
    state = mix(state, entry.ver.0);
    state = mix(state, entry.expires_at_ms);
    state = mix_bytes(state, entry.key);
    mix_bytes(state, entry.value)
}

fn mix_bytes(mut state: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = mix(state, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(state, u64::from_le_bytes(last))
}

/// One step of SplitMix64 over the old state and one more word.
fn mix(state: u64, word: u64) -> u64 {
    let mut z = (state ^ word).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
