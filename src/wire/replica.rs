//! Between two replicas, on the data connection of a pair of members.

use super::codec::{DecodeError, Decoded, Reader, Writer};
use super::operation::{Reply, Request, Session};
use crate::base::limits::{
    APPEND_ENTRIES_MAX, KEY_BYTES_MAX, SESSION_WINDOW_MAX, SESSIONS_PER_PARTITION_MAX,
};
use crate::base::{Cfg, LearnerId, PartitionId, Seq, StreamId};

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

/// One key of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// Position of the entry that wrote it.
    pub ver: Seq,
    /// When it expires, in milliseconds since 1970; 0 is never.
    pub expires_at_ms: u64,
}

/// A message between two members about one partition (or about a forwarded request).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMsg<'a> {
    /// Primary to in-sync replica (`strm` zero) or to learner: entries after `prev`.
    Append {
        /// Which partition.
        pid: PartitionId,
        /// The sender's configuration.
        cfg: Cfg,
        /// Zero, or the learner's snapshot stream.
        strm: StreamId,
        /// The sender is reconciling: its list is the truth.
        sync: bool,
        /// The entry before the first one here.
        prev: Seq,
        /// Its configuration, zero if the sender no longer has it (then it is committed).
        prev_ecfg: Cfg,
        /// Everything up to here is committed.
        commit: Seq,
        /// The sender's last entry.
        last: Seq,
        /// Entries `prev + 1`, `prev + 2`, ...
        entries: Vec<EntryRef<'a>>,
    },
    /// Replica to primary: I hold everything up to `matched`.
    Ack {
        /// Which partition.
        pid: PartitionId,
        /// The configuration in which this was said.
        cfg: Cfg,
        /// The stream that it is about.
        strm: StreamId,
        /// Everything up to here is held.
        matched: Seq,
        /// The snapshot of this stream is complete.
        snap_ok: bool,
    },
    /// Replica to primary: that does not fit what I hold.
    Nack {
        /// Which partition.
        pid: PartitionId,
        /// The replica's configuration.
        cfg: Cfg,
        /// The stream that it is about.
        strm: StreamId,
        /// Where to go on from.
        have: Seq,
    },
    /// A snapshot begins: forget what you hold, this is the state as of `start`, and later.
    SnapBegin {
        /// Which partition.
        pid: PartitionId,
        /// The sender's configuration.
        cfg: Cfg,
        /// Which stay as learner it is for.
        lid: LearnerId,
        /// The new stream.
        strm: StreamId,
        /// The sender's commit position when the stream began.
        start: Seq,
        /// How often the partition was reset.
        resets: u32,
    },
    /// A piece of a snapshot.
    SnapChunk {
        /// Which partition.
        pid: PartitionId,
        /// Which stream.
        strm: StreamId,
        /// Number of this piece, from 0.
        index: u32,
        /// Keys with their values.
        items: Vec<Item<'a>>,
    },
    /// A piece of a snapshot: sessions as they were at its start. They come before all keys.
    SnapSessions {
        /// Which partition.
        pid: PartitionId,
        /// Which stream.
        strm: StreamId,
        /// Number of this piece, counted together with the others.
        index: u32,
        /// Sessions.
        sessions: Vec<SessionRecord>,
    },
    /// The snapshot had this many pieces.
    SnapEnd {
        /// Which partition.
        pid: PartitionId,
        /// Which stream.
        strm: StreamId,
        /// How many pieces there were.
        count: u32,
    },
    /// Former primary to the new one: I stopped serving.
    Relinquish {
        /// Which partition.
        pid: PartitionId,
        /// The new configuration.
        cfg: Cfg,
        /// The configuration in which the sender was serving.
        was_active_at: Cfg,
    },
    /// A client's request, passed on once to the key's primary.
    Forward {
        /// The forwarder's number for the way back.
        route: u64,
        /// The request, unchanged but for its hop count.
        request: Request<'a>,
    },
    /// The answer, on its way back.
    ForwardReply {
        /// The forwarder's number.
        route: u64,
        /// The answer.
        reply: Reply<'a>,
    },
}

const APPEND: u8 = 0x20;
const ACK: u8 = 0x21;
const NACK: u8 = 0x22;
const SNAP_BEGIN: u8 = 0x23;
const SNAP_CHUNK: u8 = 0x24;
const SNAP_END: u8 = 0x25;
const RELINQUISH: u8 = 0x26;
const SNAP_SESSIONS: u8 = 0x27;
const FORWARD: u8 = 0x28;
const FORWARD_REPLY: u8 = 0x29;
// 0x2A and 0x2B: the read barrier and its answer, which come with the leases.

/// Bytes of the smallest entry: tag, outcome, cfg.
const ENTRY_BYTES_MIN: usize = 10;
/// Bytes of the smallest item: key length, a key of one byte, value length, version, expiry.
const ITEM_BYTES_MIN: usize = 23;
/// Bytes of a session without results: sid, floor, last, count.
const SESSION_BYTES_MIN: usize = 36;
/// Bytes of the smallest result: number, outcome.
const RESULT_BYTES_MIN: usize = 9;

impl<'a> PeerMsg<'a> {
    /// The partition that it is about; `None` for forwarded requests.
    pub fn partition(&self) -> Option<PartitionId> {
        match self {
            PeerMsg::Append { pid, .. }
            | PeerMsg::Ack { pid, .. }
            | PeerMsg::Nack { pid, .. }
            | PeerMsg::SnapBegin { pid, .. }
            | PeerMsg::SnapChunk { pid, .. }
            | PeerMsg::SnapSessions { pid, .. }
            | PeerMsg::SnapEnd { pid, .. }
            | PeerMsg::Relinquish { pid, .. } => Some(*pid),
            PeerMsg::Forward { .. } | PeerMsg::ForwardReply { .. } => None,
        }
    }

    /// Appends the message's payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            PeerMsg::Append { .. } => self.encode_append(out),
            PeerMsg::Ack { pid, cfg, strm, matched, snap_ok } => {
                out.put_u8(ACK);
                out.put_u32(pid.0);
                out.put_u64(cfg.0);
                out.put_u64(strm.0);
                out.put_u64(matched.0);
                out.put_u8(u8::from(*snap_ok));
            }
            PeerMsg::Nack { pid, cfg, strm, have } => {
                out.put_u8(NACK);
                out.put_u32(pid.0);
                out.put_u64(cfg.0);
                out.put_u64(strm.0);
                out.put_u64(have.0);
            }
            PeerMsg::SnapBegin { pid, cfg, lid, strm, start, resets } => {
                out.put_u8(SNAP_BEGIN);
                out.put_u32(pid.0);
                out.put_u64(cfg.0);
                out.put_u64(lid.0);
                out.put_u64(strm.0);
                out.put_u64(start.0);
                out.put_u32(*resets);
            }
            PeerMsg::SnapChunk { pid, strm, index, items } => {
                out.put_u8(SNAP_CHUNK);
                out.put_u32(pid.0);
                out.put_u64(strm.0);
                out.put_u32(*index);
                out.put_count(items.len());
                items.iter().for_each(|item| encode_item(item, out));
            }
            PeerMsg::SnapSessions { pid, strm, index, sessions } => {
                out.put_u8(SNAP_SESSIONS);
                out.put_u32(pid.0);
                out.put_u64(strm.0);
                out.put_u32(*index);
                out.put_count(sessions.len());
                sessions.iter().for_each(|session| session.encode(out));
            }
            PeerMsg::SnapEnd { pid, strm, count } => {
                out.put_u8(SNAP_END);
                out.put_u32(pid.0);
                out.put_u64(strm.0);
                out.put_u32(*count);
            }
            PeerMsg::Relinquish { pid, cfg, was_active_at } => {
                out.put_u8(RELINQUISH);
                out.put_u32(pid.0);
                out.put_u64(cfg.0);
                out.put_u64(was_active_at.0);
            }
            PeerMsg::Forward { route, request } => {
                out.put_u8(FORWARD);
                out.put_u64(*route);
                request.encode(out);
            }
            PeerMsg::ForwardReply { route, reply } => {
                Self::encode_forward_reply(*route, reply, out);
            }
        }
    }

    fn encode_append(&self, out: &mut Vec<u8>) {
        let PeerMsg::Append { pid, cfg, strm, sync, prev, prev_ecfg, commit, last, entries } = self
        else {
            return;
        };
        out.put_u8(APPEND);
        out.put_u32(pid.0);
        out.put_u64(cfg.0);
        out.put_u64(strm.0);
        out.put_u8(u8::from(*sync));
        out.put_u64(prev.0);
        out.put_u64(prev_ecfg.0);
        out.put_u64(commit.0);
        out.put_u64(last.0);
        out.put_count(entries.len());
        entries.iter().for_each(|entry| encode_entry(entry, out));
    }

    /// Appends the payload of a `ForwardReply`, without taking the answer.
    pub fn encode_forward_reply(route: u64, reply: &Reply<'_>, out: &mut Vec<u8>) {
        out.put_u8(FORWARD_REPLY);
        out.put_u64(route);
        reply.encode(out);
    }

    /// Reads a whole payload.
    pub fn decode(bytes: &'a [u8]) -> Decoded<Self> {
        let mut r = Reader::new(bytes);
        let msg = match r.u8("peer message type")? {
            APPEND => Self::decode_append(&mut r)?,
            ACK => PeerMsg::Ack {
                pid: PartitionId(r.u32("pid")?),
                cfg: Cfg(r.u64("cfg")?),
                strm: StreamId(r.u64("strm")?),
                matched: Seq(r.u64("matched")?),
                snap_ok: r.bool("snap_ok")?,
            },
            NACK => PeerMsg::Nack {
                pid: PartitionId(r.u32("pid")?),
                cfg: Cfg(r.u64("cfg")?),
                strm: StreamId(r.u64("strm")?),
                have: Seq(r.u64("have")?),
            },
            SNAP_BEGIN => PeerMsg::SnapBegin {
                pid: PartitionId(r.u32("pid")?),
                cfg: Cfg(r.u64("cfg")?),
                lid: LearnerId(r.u64("lid")?),
                strm: StreamId(r.u64("strm")?),
                start: Seq(r.u64("start")?),
                resets: r.u32("resets")?,
            },
            SNAP_CHUNK => Self::decode_chunk(&mut r)?,
            SNAP_SESSIONS => Self::decode_sessions(&mut r)?,
            SNAP_END => PeerMsg::SnapEnd {
                pid: PartitionId(r.u32("pid")?),
                strm: StreamId(r.u64("strm")?),
                count: r.u32("count")?,
            },
            RELINQUISH => PeerMsg::Relinquish {
                pid: PartitionId(r.u32("pid")?),
                cfg: Cfg(r.u64("cfg")?),
                was_active_at: Cfg(r.u64("was_active_at")?),
            },
            FORWARD => {
                PeerMsg::Forward { route: r.u64("route")?, request: Request::decode(&mut r)? }
            }
            FORWARD_REPLY => {
                PeerMsg::ForwardReply { route: r.u64("route")?, reply: Reply::decode(&mut r)? }
            }
            _ => return Err(DecodeError("peer message type")),
        };
        r.finish()?;
        Ok(msg)
    }

    fn decode_append(r: &mut Reader<'a>) -> Decoded<Self> {
        let pid = PartitionId(r.u32("pid")?);
        let cfg = Cfg(r.u64("cfg")?);
        let strm = StreamId(r.u64("strm")?);
        let sync = r.bool("sync")?;
        let prev = Seq(r.u64("prev")?);
        let prev_ecfg = Cfg(r.u64("prev_ecfg")?);
        let commit = Seq(r.u64("commit")?);
        let last = Seq(r.u64("last")?);
        let count = r.bounded_count(ENTRY_BYTES_MIN, APPEND_ENTRIES_MAX, "entries")?;
        // Positions are not sent: entry i of the message is `prev + 1 + i`.
        if prev.0.checked_add(count as u64).is_none_or(|end| end > last.0) {
            return Err(DecodeError("entries beyond last"));
        }
        let mut entries = Vec::with_capacity(count);
        for i in 0..count as u64 {
            entries.push(decode_entry(Seq(prev.0 + 1 + i), r)?);
        }
        Ok(PeerMsg::Append { pid, cfg, strm, sync, prev, prev_ecfg, commit, last, entries })
    }

    fn decode_chunk(r: &mut Reader<'a>) -> Decoded<Self> {
        let pid = PartitionId(r.u32("pid")?);
        let strm = StreamId(r.u64("strm")?);
        let index = r.u32("index")?;
        let count = r.count(ITEM_BYTES_MIN, "items")?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(Item {
                key: decode_key(r)?,
                value: r.bytes("value")?,
                ver: Seq(r.u64("ver")?),
                expires_at_ms: r.u64("expiry")?,
            });
        }
        Ok(PeerMsg::SnapChunk { pid, strm, index, items })
    }

    fn decode_sessions(r: &mut Reader<'a>) -> Decoded<Self> {
        let pid = PartitionId(r.u32("pid")?);
        let strm = StreamId(r.u64("strm")?);
        let index = r.u32("index")?;
        let count = r.bounded_count(SESSION_BYTES_MIN, SESSIONS_PER_PARTITION_MAX, "sessions")?;
        let mut sessions = Vec::with_capacity(count);
        for _ in 0..count {
            sessions.push(SessionRecord::decode(r)?);
        }
        Ok(PeerMsg::SnapSessions { pid, strm, index, sessions })
    }
}

impl SessionRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u128(self.sid);
        out.put_u64(self.floor);
        out.put_u64(self.last.0);
        out.put_count(self.results.len());
        for (number, outcome) in &self.results {
            out.put_u64(*number);
            encode_outcome(*outcome, out);
        }
    }

    fn decode(r: &mut Reader<'_>) -> Decoded<Self> {
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

fn encode_item(item: &Item<'_>, out: &mut Vec<u8>) {
    out.put_short_bytes(item.key);
    out.put_bytes(item.value);
    out.put_u64(item.ver.0);
    out.put_u64(item.expires_at_ms);
}

fn encode_entry(entry: &EntryRef<'_>, out: &mut Vec<u8>) {
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

fn decode_entry<'a>(seq: Seq, r: &mut Reader<'a>) -> Decoded<EntryRef<'a>> {
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

/// A key of a length that the store accepts.
pub(super) fn decode_key<'a>(r: &mut Reader<'a>) -> Decoded<&'a [u8]> {
    let key = r.short_bytes("key")?;
    match key.len() {
        1..=KEY_BYTES_MAX => Ok(key),
        _ => Err(DecodeError("key length")),
    }
}
