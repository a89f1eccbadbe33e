//! Making a copy: the snapshot stream that a primary sends, and what a learner keeps of it.
//!
//! A stream is `SnapBegin`, the sessions, numbered chunks read from the live table, `SnapEnd`, and,
//! on the same connection, the live entries from the stream's start on. The sessions are those of
//! the start; chunks are *fuzzy* (read at different times), and versions and tombstones make the
//! result exact (L3). When the learner has confirmed the end and holds everything committed, it
//! becomes a *shadow*: from then on each commit needs it too, and only then the primary asks for it
//! to be counted (L5).

use std::ops::ControlFlow;

use super::session::Sessions;
use crate::base::limits::SNAPSHOT_CHUNK_BYTES;
use crate::base::{LearnerId, MemberId, Nanos, PartitionId, Seq, StreamId};
use crate::proto::Outbox;
use crate::proto::mutants::{self, Mutant};
use crate::store::{Cursor, Table, Tombstones};
use crate::wire::{Item, PeerMsg, SessionRecord};

/// A stream that its learner does not confirm for this long after its end starts again.
const RESTART_MS: u64 = 3000;
/// One that its learner says it does not have starts again after this long: time for the two to
/// get the same map.
const LOST_RESTART_MS: u64 = 50;

/// The primary's side of one stream.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) mid: MemberId,
    pub(super) lid: LearnerId,
    pub(super) strm: StreamId,
    /// Where the next chunk begins; `None` once `SnapEnd` was sent.
    cursor: Option<Cursor>,
    chunks: u32,
    pub(super) snap_ok: bool,
    /// Each commit needs it. Without that a learner under steady writes would stay a round trip
    /// behind for ever; until it is a shadow the stream may still end.
    pub(super) counted: bool,
    /// It was counted when it held everything committed: it may be in sync for the coordinator
    /// any time now (L5). Never taken back but by the map (L7).
    pub(super) shadow: bool,
    /// The learner says that it does not have it.
    pub(super) is_lost: bool,
    /// When a piece of the snapshot last moved, or had no room to.
    moved_at: Nanos,
}

impl Outgoing {
    pub(super) fn new(mid: MemberId, lid: LearnerId, strm: StreamId, now: Nanos) -> Self {
        Self {
            mid,
            lid,
            strm,
            cursor: Some(Cursor::default()),
            chunks: 0,
            snap_ok: false,
            counted: false,
            shadow: false,
            is_lost: false,
            moved_at: now,
        }
    }

    /// Whether there are chunks left to send.
    pub(super) fn is_sending(&self) -> bool {
        self.cursor.is_some()
    }

    /// Whether a piece of the snapshot was lost, so that it has to start again (L4).
    pub(super) fn is_stuck(&self, now: Nanos) -> bool {
        let patience_ms = if self.is_lost { LOST_RESTART_MS } else { RESTART_MS };
        !self.snap_ok && now.since(self.moved_at).as_millis() as u64 > patience_ms
    }

    /// Sends the sessions, all at once and before everything else, so that entries of the live log
    /// find them there. They are few and small, unlike the keys.
    pub(super) fn send_sessions(
        &mut self,
        pid: PartitionId,
        sessions: &Sessions,
        out: &mut dyn Outbox,
    ) {
        let strm = self.strm;
        for sessions in sessions.pieces() {
            let index = self.chunks;
            out.send(self.mid, &PeerMsg::SnapSessions { pid, strm, index, sessions });
            self.chunks += 1;
        }
    }

    /// Sends as many chunks as the connection takes now, and the end after the last one.
    pub(super) fn pump(
        &mut self,
        pid: PartitionId,
        table: &Table,
        now: Nanos,
        out: &mut dyn Outbox,
    ) {
        while let Some(cursor) = self.cursor {
            match out.bulk_room(self.mid) {
                None => return,
                Some(0) => {
                    self.moved_at = now;
                    return;
                }
                Some(_) => {}
            }
            let (items, next) = chunk(table, cursor);
            if !items.is_empty() {
                let index = self.chunks;
                out.send(self.mid, &PeerMsg::SnapChunk { pid, strm: self.strm, index, items });
                self.chunks += 1;
            }
            self.cursor = next;
            self.moved_at = now;
            if next.is_none() {
                let end = PeerMsg::SnapEnd { pid, strm: self.strm, count: self.chunks };
                out.send(self.mid, &end);
            }
        }
    }
}

fn chunk(table: &Table, from: Cursor) -> (Vec<Item<'_>>, Option<Cursor>) {
    let mut items = Vec::new();
    let mut bytes = 0;
    let next = table.scan(from, &mut |entry| {
        let size = entry.key.len() + entry.value.len();
        if !items.is_empty() && bytes + size > SNAPSHOT_CHUNK_BYTES {
            return ControlFlow::Break(());
        }
        bytes += size;
        items.push(Item {
            key: entry.key,
            value: entry.value,
            ver: entry.ver,
            expires_at_ms: entry.expires_at_ms,
        });
        ControlFlow::Continue(())
    });
    (items, next)
}

/// The learner's side of one stream.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) strm: StreamId,
    chunks: u32,
    pub(super) tombs: Tombstones,
}

impl Incoming {
    pub(super) fn new(strm: StreamId) -> Self {
        Self { strm, ..Self::default() }
    }

    /// Takes a chunk if it is the next one; the keys and bytes that it brought.
    pub(super) fn chunk(
        &mut self,
        index: u32,
        items: &[Item<'_>],
        table: &mut Table,
    ) -> (u64, u64) {
        if !self.is_next(index) {
            return (0, 0);
        }
        let mut brought = (0, 0);
        for item in items {
            if self.is_newer(table, item.key, item.ver) {
                table.upsert(item.key, item.value, item.ver, item.expires_at_ms);
            }
            brought.0 += 1;
            brought.1 += (item.key.len() + item.value.len()) as u64;
        }
        brought
    }

    /// Takes a piece with sessions if it is the next one.
    pub(super) fn sessions(
        &mut self,
        index: u32,
        records: &[SessionRecord],
        sessions: &mut Sessions,
    ) {
        if self.is_next(index) {
            records.iter().for_each(|record| sessions.install(record));
        }
    }

    /// Counts a piece. False if another one was lost: the count at the end will not fit (L4).
    fn is_next(&mut self, index: u32) -> bool {
        let next = index == self.chunks || mutants::on(Mutant::LostChunk);
        self.chunks += u32::from(next);
        next
    }

    /// Whether all `count` chunks have arrived.
    pub(super) fn is_whole(&self, count: u32) -> bool {
        self.chunks == count || mutants::on(Mutant::LostChunk)
    }

    /// L3: a write counts only if nothing newer is known of its key.
    pub(super) fn is_newer(&self, table: &Table, key: &[u8], ver: Seq) -> bool {
        let known = table.find(key).map_or(Seq::ZERO, |entry| entry.ver);
        ver > known.max(self.tombs.find(key).unwrap_or(Seq::ZERO))
    }
}
