//! From a key to its place on the ring.
//!
//! The circle of 2^64 positions is cut in `Q` equal arcs, one for each partition: arc `i` covers
//! the positions from `i * 2^64 / Q` up to, not including, the start of the next one. A
//! [`HashKind`] says how a key becomes a position; the arc that the position falls in is its
//! partition. What a key hashes to never changes for the life of a ring, so the bytes are fixed by
//! tests: murmur3 against the published crate, CRC16 against its catalogue check value and Redis.
//!
//! None of these functions defends against keys that were chosen to collide. A partition's own
//! table uses a keyed hash for that.

use crate::base::{Error, PartitionId, Result, Status};

/// Slots of Redis Cluster, and so the number of partitions of a ring that hashes with CRC16.
pub const CRC16_PARTITIONS: u32 = 16_384;

/// Which function maps keys to ring positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashKind {
    /// murmur3 x64_128, low 64 bits.
    #[default]
    Murmur3,
    /// Redis Cluster's slot function with hash tags; forces 16384 partitions.
    Crc16,
    /// The key read as a decimal integer, modulo the number of partitions.
    Integer,
}

impl HashKind {
    /// Every kind, for help texts and tests.
    pub const ALL: [Self; 3] = [Self::Murmur3, Self::Crc16, Self::Integer];

    /// The kind of that name, as options and files spell it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its name: `murmur3`, `crc16` or `integer`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Murmur3 => "murmur3",
            Self::Crc16 => "crc16",
            Self::Integer => "integer",
        }
    }

    /// The number of partitions that a ring of this kind has whatever was asked for, if it
    /// leaves no choice.
    pub fn forced_partitions(self) -> Option<u32> {
        (self == Self::Crc16).then_some(CRC16_PARTITIONS)
    }
}

/// The configured function from keys to partitions.
#[derive(Clone, Copy, Debug)]
pub struct Hasher {
    kind: HashKind,
    seed: u32,
    partitions: u32,
}

impl Hasher {
    /// For a ring with these parameters. CRC16 always cuts the ring in 16384 arcs.
    pub fn new(kind: HashKind, seed: u32, partitions: u32) -> Self {
        let partitions = kind.forced_partitions().unwrap_or(partitions).max(1);
        Self { kind, seed, partitions }
    }

    /// In how many arcs it cuts the ring.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The key's partition. A key that [`Self::check_key`] refuses is placed by murmur3.
    pub fn partition(&self, key: &[u8]) -> PartitionId {
        match self.kind {
            HashKind::Murmur3 => arc_of(murmur3_low64(key, self.seed), self.partitions),
            HashKind::Crc16 => PartitionId(u32::from(crc16(tagged(key))) % self.partitions),
            HashKind::Integer => match integer_modulo(key, self.partitions) {
                Some(index) => PartitionId(index),
                None => arc_of(murmur3_low64(key, self.seed), self.partitions),
            },
        }
    }

    /// The key's place on the circle. Only murmur3 tells the keys of one arc apart; for the other
    /// kinds it is the start of the arc.
    pub fn position(&self, key: &[u8]) -> u64 {
        match self.kind {
            HashKind::Murmur3 => murmur3_low64(key, self.seed),
            HashKind::Crc16 | HashKind::Integer => arc_start(self.partition(key), self.partitions),
        }
    }

    /// Whether the ring takes this key. Only `integer` is choosy: a key is an optional `+` or `-`
    /// and then decimal digits, as many as one likes. A negative number counts backwards from
    /// `Q` (-1 is in the last partition). `7` and `007` are different keys of one partition.
    pub fn check_key(&self, key: &[u8]) -> Result<()> {
        if self.kind == HashKind::Integer && integer_modulo(key, self.partitions).is_none() {
            return Err(Error::new(
                Status::InvalidArgument,
                "this ring places keys by number: the key must be a decimal integer",
            ));
        }
        Ok(())
    }
}

/// The partition whose arc covers `position`, of `partitions` in all.
pub fn arc_of(position: u64, partitions: u32) -> PartitionId {
    PartitionId(((u128::from(position) * u128::from(partitions)) >> 64) as u32)
}

/// The first position of a partition's arc.
pub fn arc_start(pid: PartitionId, partitions: u32) -> u64 {
    // Rounded up, so that the start of an arc is inside it also when the arcs are not a whole
    // number of positions wide.
    (u128::from(pid.0) << 64).div_ceil(u128::from(partitions.max(1))) as u64
}

/// The place of a node on the circle unless it is given one: the murmur3 position of its name.
pub fn node_position(name: &str, seed: u32) -> u64 {
    murmur3_low64(name.as_bytes(), seed)
}

/// The first 64-bit half of murmur3 x64_128 by Austin Appleby (public domain), over a slice.
///
/// The `murmur3` crate reads from a `Read`, which costs several times as much for the short keys
/// that we see; it stays the oracle of the tests.
pub fn murmur3_low64(key: &[u8], seed: u32) -> u64 {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    let mix1 = |k: u64| k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let mix2 = |k: u64| k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);

    let mut h1 = u64::from(seed);
    let mut h2 = u64::from(seed);
    let (blocks, tail) = key.as_chunks::<16>();
    for block in blocks {
        let both = u128::from_le_bytes(*block);
        h1 = (h1 ^ mix1(both as u64)).rotate_left(27).wrapping_add(h2);
        h1 = h1.wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 = (h2 ^ mix2((both >> 64) as u64)).rotate_left(31).wrapping_add(h1);
        h2 = h2.wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    // A missing tail reads as zeros, and zeros mix to zero: no case distinction is needed.
    let (k1, k2) = match tail.first_chunk::<8>() {
        Some(first) => (u64::from_le_bytes(*first), load_short(&tail[8..])),
        None => (load_short(tail), 0),
    };
    h1 ^= mix1(k1) ^ key.len() as u64;
    h2 ^= mix2(k2) ^ key.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    finish(h1).wrapping_add(finish(h2))
}

/// Murmur3's last step for one half: every input bit reaches every output bit.
fn finish(mut k: u64) -> u64 {
    k ^= k >> 33;
    k = k.wrapping_mul(0xff51_afd7_ed55_8ccd);
    k ^= k >> 33;
    k = k.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ (k >> 33)
}

/// Up to seven bytes as a little-endian number, without a loop: two loads that may overlap.
fn load_short(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    debug_assert!(len < 8);
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let low = u64::from(u32::from_le_bytes(*first));
        let high = u64::from(u32::from_le_bytes(*last));
        return low | high << (8 * (len - 4));
    }
    if len == 0 {
        return 0;
    }
    let at = |index: usize| u64::from(bytes[index]) << (8 * index);
    at(0) | at(len / 2) | at(len - 1)
}

/// The part of a key that Redis Cluster hashes: what stands between the first `{` and the next
/// `}`, if that is not empty; else the whole key. Lets users keep keys in one partition.
fn tagged(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else {
        return key;
    };
    let inside = &key[open + 1..];
    match inside.iter().position(|byte| *byte == b'}') {
        Some(close) if close > 0 => &inside[..close],
        _ => key,
    }
}

/// CRC16-XMODEM: polynomial 0x1021, start 0, nothing reflected.
fn crc16(bytes: &[u8]) -> u16 {
    bytes
        .iter()
        .fold(0, |crc: u16, byte| (crc << 8) ^ CRC16_TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

const CRC16_TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// A decimal number of any length modulo `partitions`; none if the key is no such number.
fn integer_modulo(key: &[u8], partitions: u32) -> Option<u32> {
    // Nine digits and a remainder below 2^32 fit in 64 bits, so one division does for nine digits.
    const DIGITS: usize = 9;
    let (negative, digits) = match key.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, key),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let modulus = u64::from(partitions.max(1));
    let rest = digits.chunks(DIGITS).fold(0, |rest: u64, chunk| {
        chunk.iter().fold(rest, |value, digit| value * 10 + u64::from(digit - b'0')) % modulus
    });
    let index = if negative && rest > 0 { modulus - rest } else { rest };
    Some(index as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn oracle(key: &[u8], seed: u32) -> u64 {
        murmur3::murmur3_x64_128(&mut &key[..], seed).expect("a slice never fails to read") as u64
    }

    #[test]
    fn murmur3_equals_the_crate_for_every_length() {
        let mut rng = crate::base::Rng::new(1);
        let bytes: Vec<u8> = (0..300).map(|_| rng.next_u64() as u8).collect();
        for seed in [0, 1, 42, 0x9747_b28c, u32::MAX] {
            for len in 0..=bytes.len() {
                assert_eq!(murmur3_low64(&bytes[..len], seed), oracle(&bytes[..len], seed));
            }
        }
        assert_eq!(murmur3_low64(b"", 0), 0);
        assert_eq!(murmur3_low64(b"hello", 0), 0xcbd8_a7b3_41bd_9b02, "published value");
    }

    #[test]
    fn arcs_cover_the_circle_in_order() {
        for partitions in [1, 2, 3, 256, 1000, 4096, 65_536] {
            assert_eq!(arc_of(0, partitions), PartitionId(0));
            assert_eq!(arc_of(u64::MAX, partitions), PartitionId(partitions - 1));
            for pid in (0..partitions).map(PartitionId) {
                let start = arc_start(pid, partitions);
                assert_eq!(arc_of(start, partitions), pid);
                if pid.0 > 0 {
                    assert_eq!(arc_of(start - 1, partitions), PartitionId(pid.0 - 1));
                }
            }
        }
    }

    #[test]
    fn crc16_is_the_slot_of_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        let hasher = Hasher::new(HashKind::Crc16, 0, 7);
        assert_eq!(hasher.partitions(), CRC16_PARTITIONS);
        let slot = |key: &str| hasher.partition(key.as_bytes()).0;
        assert_eq!(slot("foo"), 12_182);
        assert_eq!(slot("123456789"), 12_739);
        assert_eq!(slot("{user1000}.following"), slot("{user1000}.followers"));
        assert_eq!(slot("{user1000}.following"), slot("user1000"));
        assert_eq!(slot("foo{bar}{zap}"), slot("bar"));
        assert_eq!(slot("foo{{bar}}zap"), slot("{bar"));
        assert_ne!(slot("foo{}{bar}"), slot("bar"), "an empty tag counts as none");
        assert_eq!(arc_of(hasher.position(b"foo"), CRC16_PARTITIONS).0, 12_182);
    }

    #[test]
    fn integers_are_placed_by_their_value() {
        let hasher = Hasher::new(HashKind::Integer, 0, 256);
        let index = |key: &str| hasher.partition(key.as_bytes()).0;
        for (key, wanted) in [
            ("4103", 7),
            ("2067", 19),
            ("2012", 220),
            ("007", 7),
            ("+7", 7),
            ("-1", 255),
            ("-0", 0),
        ] {
            assert_eq!(index(key), wanted, "{key}");
            assert!(hasher.check_key(key.as_bytes()).is_ok());
        }
        // 10^40 is a multiple of 256.
        assert_eq!(index("10000000000000000000000000000000000000007"), 7);
        assert_eq!(hasher.position(b"7"), 7 << 56);
        for key in ["", "-", "abc", "1.5", "12a", " 1", "--1"] {
            let error = hasher.check_key(key.as_bytes()).expect_err(key);
            assert_eq!(error.status(), Status::InvalidArgument);
            assert_eq!(hasher.partition(key.as_bytes()), arc_of(oracle(key.as_bytes(), 0), 256));
        }
        assert!(Hasher::new(HashKind::Murmur3, 0, 256).check_key(b"abc").is_ok());
    }

    #[test]
    fn names_lead_back_to_their_kinds() {
        for kind in HashKind::ALL {
            assert_eq!(HashKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(HashKind::from_name("md5"), None);
    }

    proptest! {
        #[test]
        fn partitions_stay_in_range_and_match_positions(
            key in proptest::collection::vec(any::<u8>(), 0..80), seed: u32, log in 0u32..17,
        ) {
            for kind in HashKind::ALL {
                let hasher = Hasher::new(kind, seed, 1 << log);
                let pid = hasher.partition(&key);
                prop_assert!(pid.0 < hasher.partitions());
                prop_assert_eq!(arc_of(hasher.position(&key), hasher.partitions()), pid);
            }
        }

        #[test]
        fn integers_agree_with_arithmetic(number: i128, partitions in 1u32..70_000) {
            let hasher = Hasher::new(HashKind::Integer, 0, partitions);
            let pid = hasher.partition(number.to_string().as_bytes());
            prop_assert_eq!(i128::from(pid.0), number.rem_euclid(i128::from(partitions)));
        }
    }
}
