//! From a key to its place on the ring. (first cut; a helper completes it)
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

/// The configured function from keys to partitions.
#[derive(Clone, Copy, Debug)]
pub struct Hasher {
    kind: HashKind,
    seed: u32,
    partitions: u32,
}

impl Hasher {
    /// For a ring with these parameters.
    pub fn new(kind: HashKind, seed: u32, partitions: u32) -> Self {
        Self { kind, seed, partitions }
    }
    /// The key's partition.
    pub fn partition(&self, key: &[u8]) -> crate::base::PartitionId {
        let _ = self.kind;
        let h = murmur3::murmur3_x64_128(&mut &key[..], self.seed).unwrap_or(0) as u64;
        crate::base::PartitionId((h % u64::from(self.partitions)) as u32)
    }
}
