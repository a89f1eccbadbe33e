//! Operations on keys and their answers. A client sends them to a node, and a node passes them on.

use super::codec::{DecodeError, Decoded, Reader, Writer};
use super::replica::decode_key;
use crate::base::limits::SCAN_PAGE_ITEMS_MAX;
use crate::base::{MemberId, PartitionId, Ver};

/// Names one operation of one client, so that a retry is recognised (S1). All zero: no session, and
/// such an operation is never sent twice.
///
/// - `1 <= floor <= number` unless it is all zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// 128 random bits, drawn by the client for each partition; 0 is none.
    pub sid: u128,
    /// Number of the operation in its session, from 1.
    pub number: u64,
    /// Lowest number whose answer the client still waits for.
    pub floor: u64,
}

impl Session {
    /// Whether the operation belongs to no session.
    pub fn is_none(&self) -> bool {
        self.sid == 0
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u128(self.sid);
        out.put_u64(self.number);
        out.put_u64(self.floor);
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Decoded<Self> {
        let session =
            Self { sid: r.u128("sid")?, number: r.u64("number")?, floor: r.u64("floor")? };
        match session {
            Self { sid: 0, .. } => Err(DecodeError("sid")),
            Self { floor: 0, .. } => Err(DecodeError("floor")),
            _ if session.floor > session.number => Err(DecodeError("floor")),
            _ => Ok(session),
        }
    }
}

/// What is asked of a key or a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// The value of a key, linearizable.
    Get {
        /// The key.
        key: &'a [u8],
    },
    /// The value of a key as the asked node holds it; may be stale.
    GetLocal {
        /// The key.
        key: &'a [u8],
    },
    /// Who executes the operations of this key; answered by `Reply::Here`.
    Probe {
        /// The key.
        key: &'a [u8],
    },
    /// Stores a value.
    Put {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
        /// How long it lives, in milliseconds; 0 is until deleted.
        ttl_ms: u64,
        /// Only if the key is absent.
        if_absent: bool,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// Stores a value if the key has the expected one.
    Cas {
        /// The key.
        key: &'a [u8],
        /// What its value must be; `None`: the key must be absent.
        expected: Option<&'a [u8]>,
        /// Its new value.
        value: &'a [u8],
        /// How long that lives, in milliseconds; 0 is until deleted.
        ttl_ms: u64,
    },
    /// Adds to a value that is a whole number as decimal text. An absent key counts as 0.
    Incr {
        /// The key.
        key: &'a [u8],
        /// What to add.
        delta: i64,
        /// How long a key that was absent lives, in milliseconds; 0 is until deleted. One that was
        /// there keeps its time.
        ttl_ms: u64,
    },
    /// A page of a partition.
    Scan {
        /// Which partition.
        pid: PartitionId,
        /// Where the last page ended; zero at first.
        cursor: (u64, u32),
        /// At most so many pairs.
        limit: u32,
        /// Leave the values out.
        keys_only: bool,
        /// Only keys that begin with this.
        prefix: &'a [u8],
    },
}

impl<'a> Op<'a> {
    /// The key, unless it is about a partition.
    pub fn key(&self) -> Option<&'a [u8]> {
        match *self {
            Op::Get { key }
            | Op::GetLocal { key }
            | Op::Probe { key }
            | Op::Put { key, .. }
            | Op::Cas { key, .. }
            | Op::Incr { key, .. }
            | Op::Delete { key } => Some(key),
            Op::Scan { .. } => None,
        }
    }

    /// Whether it may change something.
    pub fn is_mutation(&self) -> bool {
        matches!(self, Op::Put { .. } | Op::Delete { .. } | Op::Cas { .. } | Op::Incr { .. })
    }

    /// Bytes of its key and value.
    pub fn bytes(&self) -> usize {
        match self {
            Op::Put { key, value, .. } | Op::Cas { key, value, .. } => key.len() + value.len(),
            _ => self.key().map_or(0, <[u8]>::len),
        }
    }
}

/// One operation on its way to the key's primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Version of the map that the sender routed by.
    pub map_ver: Ver,
    /// How often it was forwarded: 0 or 1.
    pub hop: u8,
    /// Answer "not mine, ask N" instead of forwarding.
    pub redirect: bool,
    /// Which attempt at the operation this is, from 0.
    pub attempt: u8,
    /// This message may open its session.
    pub opens: bool,
    /// Which operation of which session.
    pub session: Session,
    /// What is asked.
    pub op: Op<'a>,
}

impl<'a> Request<'a> {
    /// A first attempt without a session.
    pub fn new(map_ver: Ver, op: Op<'a>) -> Self {
        Self {
            map_ver,
            hop: 0,
            redirect: false,
            attempt: 0,
            opens: false,
            session: Session::default(),
            op,
        }
    }
}

const GET: u8 = 1;
const PUT: u8 = 2;
const DELETE: u8 = 3;
const CAS: u8 = 4;
const INCR: u8 = 5;
const SCAN: u8 = 6;
const GET_LOCAL: u8 = 7;
const PROBE: u8 = 8;

const FLAG_REDIRECT: u8 = 1;
const FLAG_OPENS: u8 = 2;
const FLAG_SESSION: u8 = 4;
const FLAG_OPTION: u8 = 8; // put, cas: the key must be absent; scan: keys only
const FLAGS_KNOWN: u8 = 15;

impl<'a> Request<'a> {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (code, option) = match self.op {
            Op::Get { .. } => (GET, false),
            Op::GetLocal { .. } => (GET_LOCAL, false),
            Op::Probe { .. } => (PROBE, false),
            Op::Put { if_absent, .. } => (PUT, if_absent),
            Op::Delete { .. } => (DELETE, false),
            Op::Cas { expected, .. } => (CAS, expected.is_none()),
            Op::Incr { .. } => (INCR, false),
            Op::Scan { keys_only, .. } => (SCAN, keys_only),
        };
        let flags = (FLAG_REDIRECT * u8::from(self.redirect))
            | (FLAG_OPENS * u8::from(self.opens))
            | (FLAG_SESSION * u8::from(!self.session.is_none()))
            | (FLAG_OPTION * u8::from(option));
        out.put_u8(code);
        out.put_u8(flags);
        out.put_u8(self.hop);
        out.put_u8(self.attempt);
        out.put_u64(self.map_ver.0);
        if !self.session.is_none() {
            self.session.encode(out);
        }
        match self.op {
            Op::Get { key } | Op::GetLocal { key } | Op::Probe { key } | Op::Delete { key } => {
                out.put_short_bytes(key);
            }
            Op::Put { key, value, ttl_ms, .. } => {
                out.put_u64(ttl_ms);
                out.put_short_bytes(key);
                out.put_bytes(value);
            }
            Op::Cas { key, expected, value, ttl_ms } => {
                out.put_u64(ttl_ms);
                out.put_short_bytes(key);
                out.put_bytes(value);
                if let Some(expected) = expected {
                    out.put_bytes(expected);
                }
            }
            Op::Incr { key, delta, ttl_ms } => {
                out.put_u64(ttl_ms);
                out.put_u64(delta as u64);
                out.put_short_bytes(key);
            }
            Op::Scan { pid, cursor, limit, prefix, .. } => {
                out.put_u32(pid.0);
                out.put_u64(cursor.0);
                out.put_u32(cursor.1);
                out.put_u32(limit);
                out.put_short_bytes(prefix);
            }
        }
    }

    /// Reads one.
    pub fn decode(r: &mut Reader<'a>) -> Decoded<Self> {
        let code = r.u8("op")?;
        let flags = r.u8("flags")?;
        let hop = r.u8("hop")?;
        let attempt = r.u8("attempt")?;
        let map_ver = Ver(r.u64("map_ver")?);
        if flags & !FLAGS_KNOWN != 0 || hop > 1 {
            return Err(DecodeError("flags"));
        }
        let session =
            if flags & FLAG_SESSION != 0 { Session::decode(r)? } else { Session::default() };
        let option = flags & FLAG_OPTION != 0;
        if option && !matches!(code, PUT | CAS | SCAN) {
            return Err(DecodeError("flags"));
        }
        let op = match code {
            GET => Op::Get { key: decode_key(r)? },
            GET_LOCAL => Op::GetLocal { key: decode_key(r)? },
            PROBE => Op::Probe { key: decode_key(r)? },
            DELETE => Op::Delete { key: decode_key(r)? },
            PUT => Op::Put {
                ttl_ms: r.u64("ttl")?,
                key: decode_key(r)?,
                value: r.bytes("value")?,
                if_absent: option,
            },
            CAS => Op::Cas {
                ttl_ms: r.u64("ttl")?,
                key: decode_key(r)?,
                value: r.bytes("value")?,
                expected: if option { None } else { Some(r.bytes("expected")?) },
            },
            INCR => Op::Incr {
                ttl_ms: r.u64("ttl")?,
                delta: r.u64("delta")? as i64,
                key: decode_key(r)?,
            },
            SCAN => Op::Scan {
                pid: PartitionId(r.u32("pid")?),
                cursor: (r.u64("cursor")?, r.u32("cursor")?),
                limit: r.u32("limit")?,
                prefix: r.short_bytes("prefix")?,
                keys_only: option,
            },
            _ => return Err(DecodeError("op")),
        };
        Ok(Self {
            map_ver,
            hop,
            redirect: flags & FLAG_REDIRECT != 0,
            attempt,
            opens: flags & FLAG_OPENS != 0,
            session,
            op,
        })
    }
}

/// A page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page<'a> {
    /// Where the next page begins; `None` at the partition's end.
    pub next: Option<(u64, u32)>,
    /// Keys with their values (empty if only keys were asked for).
    pub items: Vec<(&'a [u8], &'a [u8])>,
}

/// Bytes of the smallest pair of a page: key length, a key of one byte, value length.
const PAGE_ITEM_BYTES_MIN: usize = 7;

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The key's value.
    Value(&'a [u8]),
    /// No such key.
    Absent,
    /// Stored, or deleted.
    Done,
    /// Not stored: the key is there already.
    Exists,
    /// A page of a partition.
    Page(Page<'a>),
    /// That member executes the operations of this key.
    Here(MemberId),
    /// Not executed and never will be by this message: ask that member, by a map at least as new.
    Retry {
        /// The primary as far as the answerer knows; zero if it knows none.
        primary: MemberId,
        /// Version of the answerer's map.
        map_ver: Ver,
    },
    /// It was logged, or passed on, but its fate is not known here: it may or may not take effect.
    Unknown,
    /// A bounded queue is full; not executed.
    Busy,
    /// Too few in-sync copies; not executed.
    NotEnoughReplicas {
        /// In-sync copies now.
        have: u8,
        /// Copies that a write needs.
        need: u8,
    },
    /// Every copy of the partition died.
    DataLost {
        /// How often it was reset.
        resets: u32,
    },
    /// The value is longer than the ring's limit, which is named; not executed.
    ValueTooLarge {
        /// The limit in bytes.
        limit: u32,
    },
    /// The node's memory limit is reached; not executed.
    OutOfMemory,
    /// The node belongs to no ring.
    NoRing,
    /// Not stored: the key's value is not the expected one.
    Mismatch,
    /// Added: this is the new value.
    Number(i64),
    /// Not added: the value is not a whole number of 64 bits in decimal.
    NotANumber,
    /// Not added: the result would not be a number of 64 bits.
    Overflow,
    /// This message was not executed and never will be: its session does not exist, or not any
    /// more, and the message may not open it (S1c).
    SessionUnknown,
}

impl<'a> Reply<'a> {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Reply::Value(value) => {
                out.put_u8(0);
                out.put_bytes(value);
            }
            Reply::Absent => out.put_u8(1),
            Reply::Done => out.put_u8(2),
            Reply::Exists => out.put_u8(3),
            Reply::Page(page) => {
                out.put_u8(4);
                out.put_u8(u8::from(page.next.is_some()));
                let (birth, offset) = page.next.unwrap_or_default();
                out.put_u64(birth);
                out.put_u32(offset);
                out.put_count(page.items.len());
                for (key, value) in &page.items {
                    out.put_short_bytes(key);
                    out.put_bytes(value);
                }
            }
            Reply::Here(mid) => {
                out.put_u8(5);
                out.put_u64(mid.0);
            }
            Reply::Retry { primary, map_ver } => {
                out.put_u8(6);
                out.put_u64(primary.0);
                out.put_u64(map_ver.0);
            }
            Reply::Unknown => out.put_u8(7),
            Reply::Busy => out.put_u8(8),
            Reply::NotEnoughReplicas { have, need } => {
                out.put_u8(9);
                out.put_u8(*have);
                out.put_u8(*need);
            }
            Reply::DataLost { resets } => {
                out.put_u8(10);
                out.put_u32(*resets);
            }
            Reply::ValueTooLarge { limit } => {
                out.put_u8(11);
                out.put_u32(*limit);
            }
            Reply::OutOfMemory => out.put_u8(12),
            Reply::NoRing => out.put_u8(13),
            Reply::Mismatch => out.put_u8(14),
            Reply::Number(number) => {
                out.put_u8(15);
                out.put_u64(*number as u64);
            }
            Reply::NotANumber => out.put_u8(16),
            Reply::Overflow => out.put_u8(17),
            Reply::SessionUnknown => out.put_u8(18),
        }
    }

    /// Reads one.
    pub fn decode(r: &mut Reader<'a>) -> Decoded<Self> {
        Ok(match r.u8("reply")? {
            0 => Reply::Value(r.bytes("value")?),
            1 => Reply::Absent,
            2 => Reply::Done,
            3 => Reply::Exists,
            4 => Reply::Page(Self::decode_page(r)?),
            5 => Reply::Here(MemberId(r.u64("mid")?)),
            6 => Reply::Retry {
                primary: MemberId(r.u64("primary")?),
                map_ver: Ver(r.u64("map_ver")?),
            },
            7 => Reply::Unknown,
            8 => Reply::Busy,
            9 => Reply::NotEnoughReplicas { have: r.u8("have")?, need: r.u8("need")? },
            10 => Reply::DataLost { resets: r.u32("resets")? },
            11 => Reply::ValueTooLarge { limit: r.u32("limit")? },
            12 => Reply::OutOfMemory,
            13 => Reply::NoRing,
            14 => Reply::Mismatch,
            15 => Reply::Number(r.u64("number")? as i64),
            16 => Reply::NotANumber,
            17 => Reply::Overflow,
            18 => Reply::SessionUnknown,
            _ => return Err(DecodeError("reply")),
        })
    }

    fn decode_page(r: &mut Reader<'a>) -> Decoded<Page<'a>> {
        let more = r.bool("more")?;
        let cursor = (r.u64("cursor")?, r.u32("cursor")?);
        if !more && cursor != (0, 0) {
            return Err(DecodeError("cursor"));
        }
        let count = r.bounded_count(PAGE_ITEM_BYTES_MIN, SCAN_PAGE_ITEMS_MAX, "items")?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push((decode_key(r)?, r.bytes("value")?));
        }
        Ok(Page { next: more.then_some(cursor), items })
    }
}
