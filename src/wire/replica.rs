//! Between two replicas, on the data connection of a pair of members.

use super::codec::{DecodeError, Decoded, Reader, Writer};
use super::entry::{
    ENTRY_BYTES_MIN, EntryRef, SESSION_BYTES_MIN, SessionRecord, decode_entry, encode_entry,
};
use super::operation::{Reply, Request};
use crate::base::limits::{APPEND_ENTRIES_MAX, KEY_BYTES_MAX, SESSIONS_PER_PARTITION_MAX};
use crate::base::{Cfg, LearnerId, PartitionId, Seq, StreamId, Ver};

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
    /// The answer to an end: the learner does not have that stream, or not all of it.
    SnapLost {
        /// Which partition.
        pid: PartitionId,
        /// Which stream.
        strm: StreamId,
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
    /// Primary to whoever might be promoted: do you still follow me in this configuration?
    Barrier {
        /// Which partition.
        pid: PartitionId,
        /// The primary's configuration.
        cfg: Cfg,
        /// The primary's number for it.
        id: u64,
    },
    /// The answer: yes.
    BarrierAck {
        /// Which partition.
        pid: PartitionId,
        /// The configuration.
        cfg: Cfg,
        /// The barrier's number.
        id: u64,
        /// With `grant`: the newest epoch that the answerer knows of.
        epoch: Ver,
        /// A lease was recorded before this was sent.
        grant: bool,
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
const BARRIER: u8 = 0x2A;
const BARRIER_ACK: u8 = 0x2B;
const SNAP_LOST: u8 = 0x2C;

/// Bytes of the smallest item: key length, a key of one byte, value length, version, expiry.
const ITEM_BYTES_MIN: usize = 23;

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
            | PeerMsg::SnapLost { pid, .. }
            | PeerMsg::Relinquish { pid, .. }
            | PeerMsg::Barrier { pid, .. }
            | PeerMsg::BarrierAck { pid, .. } => Some(*pid),
            PeerMsg::Forward { .. } | PeerMsg::ForwardReply { .. } => None,
        }
    }

    /// Appends the message's payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let head = |out: &mut Vec<u8>, code: u8, pid: &PartitionId, numbers: &[u64]| {
            out.put_u8(code);
            out.put_u32(pid.0);
            numbers.iter().for_each(|number| out.put_u64(*number));
        };
        match self {
            PeerMsg::Append { .. } => self.encode_append(out),
            PeerMsg::Ack { pid, cfg, strm, matched, snap_ok } => {
                head(out, ACK, pid, &[cfg.0, strm.0, matched.0]);
                out.put_u8(u8::from(*snap_ok));
            }
            PeerMsg::Nack { pid, cfg, strm, have } => {
                head(out, NACK, pid, &[cfg.0, strm.0, have.0]);
            }
            PeerMsg::SnapBegin { pid, cfg, lid, strm, start, resets } => {
                head(out, SNAP_BEGIN, pid, &[cfg.0, lid.0, strm.0, start.0]);
                out.put_u32(*resets);
            }
            PeerMsg::SnapChunk { pid, strm, index, items } => {
                head(out, SNAP_CHUNK, pid, &[strm.0]);
                out.put_u32(*index);
                out.put_count(items.len());
                items.iter().for_each(|item| encode_item(item, out));
            }
            PeerMsg::SnapSessions { pid, strm, index, sessions } => {
                head(out, SNAP_SESSIONS, pid, &[strm.0]);
                out.put_u32(*index);
                out.put_count(sessions.len());
                sessions.iter().for_each(|session| session.encode(out));
            }
            PeerMsg::SnapEnd { pid, strm, count } => {
                head(out, SNAP_END, pid, &[strm.0]);
                out.put_u32(*count);
            }
            PeerMsg::SnapLost { pid, strm } => head(out, SNAP_LOST, pid, &[strm.0]),
            PeerMsg::Relinquish { pid, cfg, was_active_at } => {
                head(out, RELINQUISH, pid, &[cfg.0, was_active_at.0]);
            }
            PeerMsg::Barrier { pid, cfg, id } => head(out, BARRIER, pid, &[cfg.0, *id]),
            PeerMsg::BarrierAck { pid, cfg, id, epoch, grant } => {
                head(out, BARRIER_ACK, pid, &[cfg.0, *id, epoch.0]);
                out.put_u8(u8::from(*grant));
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
            SNAP_LOST => PeerMsg::SnapLost {
                pid: PartitionId(r.u32("pid")?),
                strm: StreamId(r.u64("strm")?),
            },
            RELINQUISH => PeerMsg::Relinquish {
                pid: PartitionId(r.u32("pid")?),
                cfg: Cfg(r.u64("cfg")?),
                was_active_at: Cfg(r.u64("was_active_at")?),
            },
            BARRIER => PeerMsg::Barrier {
                pid: PartitionId(r.u32("pid")?),
                cfg: Cfg(r.u64("cfg")?),
                id: r.u64("id")?,
            },
            BARRIER_ACK => PeerMsg::BarrierAck {
                pid: PartitionId(r.u32("pid")?),
                cfg: Cfg(r.u64("cfg")?),
                id: r.u64("id")?,
                epoch: Ver(r.u64("epoch")?),
                grant: r.bool("grant")?,
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

fn encode_item(item: &Item<'_>, out: &mut Vec<u8>) {
    out.put_short_bytes(item.key);
    out.put_bytes(item.value);
    out.put_u64(item.ver.0);
    out.put_u64(item.expires_at_ms);
}

/// A key of a length that the store accepts.
pub(super) fn decode_key<'a>(r: &mut Reader<'a>) -> Decoded<&'a [u8]> {
    let key = r.short_bytes("key")?;
    match key.len() {
        1..=KEY_BYTES_MAX => Ok(key),
        _ => Err(DecodeError("key length")),
    }
}
