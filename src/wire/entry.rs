//! The entries of a partition's log, and the sessions that they leave behind.

use super::codec::{DecodeError, Decoded, Reader, Writer};
use super::operation::Session;
use super::replica::decode_key;
use crate::base::limits::SESSION_WINDOW_MAX;
use crate::base::{Cfg, Seq};

/// What an entry does to the table. Physical: a backup never evaluates a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect<'a> {
    /// Nothing: a condition that failed, or the entry that closes a reconciliation.
    None,
    /// The key has this value from now on.
    Put {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
        /// When it expires, in milliseconds since 1970; 0 is never.
        expires_at_ms: u64,
    },
    /// The key is gone from now on.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// The session is gone from now on (S1e).
    Close {
        /// Which session.
        sid: u128,
    },
}

/// What the client of an entry is told. Part of the replicated entry, so that a retry after a
/// failover gets the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored, or deleted.
    Done,
    /// Not stored: the key is there already.
    Exists,
    /// Not deleted: no such key.
    Absent,
    /// Not stored: the key's value is not the expected one.
    Mismatch,
    /// Added: the new value.
    Number(i64),
    /// Not added: the value is no number.
    NotANumber,
    /// Not added: the result would be too large.
    Overflow,
}

/// What a replica remembers of one session: part of a snapshot (S3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Which session.
    pub sid: u128,
    /// Its client has the answers of all lower numbers.
    pub floor: u64,
    /// Position of its last entry.
    pub last: Seq,
    /// Numbers with what their client is told, in any order.
    pub results: Vec<(u64, Outcome)>,
}

/// One entry of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// Configuration of the primary that created it; with `seq` its identity.
    pub ecfg: Cfg,
    /// Its position.
    pub seq: Seq,
    /// Which operation of which session it executed.
    pub session: Session,
    /// What it does.
    pub effect: Effect<'a>,
    /// What its client is told.
    pub outcome: Outcome,
}

/// Bytes of the smallest entry: tag, outcome, cfg.
pub(super) const ENTRY_BYTES_MIN: usize = 10;
/// Bytes of a session without results: sid, floor, last, count.
pub(super) const SESSION_BYTES_MIN: usize = 36;
/// Bytes of the smallest result: number, outcome.
const RESULT_BYTES_MIN: usize = 9;

impl SessionRecord {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u128(self.sid);
        out.put_u64(self.floor);
        out.put_u64(self.last.0);
        out.put_count(self.results.len());
        for (number, outcome) in &self.results {
            out.put_u64(*number);
            encode_outcome(*outcome, out);
        }
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Decoded<Self> {
        let sid = match r.u128("sid")? {
            0 => return Err(DecodeError("sid")),
            sid => sid,
        };
        let floor = r.u64("floor")?;
        let last = Seq(r.u64("last")?);
        let count = r.bounded_count(RESULT_BYTES_MIN, SESSION_WINDOW_MAX as usize, "results")?;
        let mut results = Vec::with_capacity(count);
        for _ in 0..count {
            results.push((r.u64("number")?, decode_outcome(r)?));
        }
        Ok(Self { sid, floor, last, results })
    }
}

const EFFECT_NONE: u8 = 0;
const EFFECT_PUT: u8 = 1;
const EFFECT_PUT_EXPIRING: u8 = 2;
const EFFECT_DELETE: u8 = 3;
const EFFECT_CLOSE: u8 = 4;
const HAS_SESSION: u8 = 0x80;

pub(super) fn encode_entry(entry: &EntryRef<'_>, out: &mut Vec<u8>) {
    let session_bit = if entry.session.is_none() { 0 } else { HAS_SESSION };
    let tag = match entry.effect {
        Effect::None => EFFECT_NONE,
        Effect::Put { expires_at_ms: 0, .. } => EFFECT_PUT,
        Effect::Put { .. } => EFFECT_PUT_EXPIRING,
        Effect::Delete { .. } => EFFECT_DELETE,
        Effect::Close { .. } => EFFECT_CLOSE,
    };
    out.put_u8(tag | session_bit);
    encode_outcome(entry.outcome, out);
    out.put_u64(entry.ecfg.0);
    if session_bit != 0 {
        entry.session.encode(out);
    }
    match entry.effect {
        Effect::None => {}
        Effect::Put { key, value, expires_at_ms } => {
            if expires_at_ms != 0 {
                out.put_u64(expires_at_ms);
            }
            out.put_short_bytes(key);
            out.put_bytes(value);
        }
        Effect::Delete { key } => out.put_short_bytes(key),
        Effect::Close { sid } => out.put_u128(sid),
    }
}

fn encode_outcome(outcome: Outcome, out: &mut Vec<u8>) {
    match outcome {
        Outcome::Done => out.put_u8(0),
        Outcome::Exists => out.put_u8(1),
        Outcome::Absent => out.put_u8(2),
        Outcome::Mismatch => out.put_u8(3),
        Outcome::Number(number) => {
            out.put_u8(4);
            out.put_u64(number as u64);
        }
        Outcome::NotANumber => out.put_u8(5),
        Outcome::Overflow => out.put_u8(6),
    }
}

fn decode_outcome(r: &mut Reader<'_>) -> Decoded<Outcome> {
    Ok(match r.u8("outcome")? {
        0 => Outcome::Done,
        1 => Outcome::Exists,
        2 => Outcome::Absent,
        3 => Outcome::Mismatch,
        4 => Outcome::Number(r.u64("number")? as i64),
        5 => Outcome::NotANumber,
        6 => Outcome::Overflow,
        _ => return Err(DecodeError("outcome")),
    })
}

pub(super) fn decode_entry<'a>(seq: Seq, r: &mut Reader<'a>) -> Decoded<EntryRef<'a>> {
    let tag = r.u8("entry tag")?;
    let outcome = decode_outcome(r)?;
    let ecfg = Cfg(r.u64("ecfg")?);
    let session = if tag & HAS_SESSION != 0 { Session::decode(r)? } else { Session::default() };
    let effect = match tag & !HAS_SESSION {
        EFFECT_NONE => Effect::None,
        EFFECT_PUT => {
            Effect::Put { expires_at_ms: 0, key: decode_key(r)?, value: r.bytes("value")? }
        }
        EFFECT_PUT_EXPIRING => Effect::Put {
            expires_at_ms: decode_expiry(r)?,
            key: decode_key(r)?,
            value: r.bytes("value")?,
        },
        EFFECT_DELETE => Effect::Delete { key: decode_key(r)? },
        EFFECT_CLOSE => match r.u128("sid")? {
            0 => return Err(DecodeError("sid")),
            sid => Effect::Close { sid },
        },
        _ => return Err(DecodeError("entry tag")),
    };
    Ok(EntryRef { ecfg, seq, session, effect, outcome })
}

/// When an entry that expires does; never is another tag.
fn decode_expiry(r: &mut Reader<'_>) -> Decoded<u64> {
    match r.u64("expiry")? {
        0 => Err(DecodeError("expiry")),
        at_ms => Ok(at_ms),
    }
}
