//! Between a client and a node: operations, pipelined, answered by request id in any order.

use super::codec::{DecodeError, Decoded, Reader, Writer};
use super::map::{decode_map, encode_map};
use super::operation::{Reply, Request};
use crate::base::limits::{MEMBERS_MAX, NAME_BYTES_MAX, PARTITIONS_MAX};
use crate::base::{ClusterId, MemberId, PartitionId, Ver};
use crate::ring::RingMap;

/// What one node holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// Keys in all its copies.
    pub keys_held: u64,
    /// Bytes of keys and values in all its copies.
    pub bytes_held: u64,
    /// Memory of its tables.
    pub memory_bytes: u64,
    /// Keys received in movements since it started.
    pub keys_moved_in: u64,
    /// Bytes of keys and values received in movements since it started.
    pub bytes_moved_in: u64,
    /// Who leads the coordinator, as far as it knows; zero if nobody does.
    pub leader: MemberId,
    /// Keys and bytes of each partition it is primary of and that is not empty.
    pub partitions: Vec<(PartitionId, u64, u64)>,
}

/// Client to node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMsg<'a> {
    /// An operation.
    Request {
        /// Chosen by the client, comes back with the answer.
        id: u64,
        /// The operation.
        request: Request<'a>,
    },
    /// The ring map, if it is newer than `have`.
    MapWanted {
        /// Chosen by the client.
        id: u64,
        /// Version that the client has; zero if none.
        have: Ver,
    },
    /// What this node holds.
    StatsWanted {
        /// Chosen by the client.
        id: u64,
    },
    /// To a standby: join the ring that these addresses belong to.
    Invite {
        /// Chosen by the client.
        id: u64,
        /// Which ring.
        cluster: ClusterId,
        /// Addresses of its members.
        seeds: Vec<&'a str>,
    },
    /// To the coordinator: drop this member.
    DropMember {
        /// Chosen by the client.
        id: u64,
        /// Whom.
        mid: MemberId,
        /// Also where copies get fewer than they should be; one that is dead is forgotten at once.
        force: bool,
    },
    /// To the coordinator: a member that is being dropped stays after all.
    KeepMember {
        /// Chosen by the client.
        id: u64,
        /// Whom.
        mid: MemberId,
    },
    /// To the coordinator: these lost partitions start again, empty.
    ResetLost {
        /// Chosen by the client.
        id: u64,
        /// Which; those of them that are not lost stay as they are.
        pids: Vec<PartitionId>,
    },
}

/// Node to client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerMsg<'a> {
    /// Answer to `Request`.
    Reply {
        /// The request's id.
        id: u64,
        /// The answer.
        reply: Reply<'a>,
    },
    /// Answer to `MapWanted`: `None` if the client's is as new.
    Map {
        /// The request's id.
        id: u64,
        /// The whole map.
        map: Option<Box<RingMap>>,
    },
    /// Answer to `StatsWanted`.
    Stats {
        /// The request's id.
        id: u64,
        /// What the node holds.
        stats: NodeStats,
    },
    /// Answer to `Invite`, `DropMember`, `KeepMember` and `ResetLost`.
    Outcome {
        /// The request's id.
        id: u64,
        /// A status number.
        status: i32,
        /// The sentence that goes with it.
        text: &'a str,
    },
    /// The node has left its ring. What it has not answered on this connection was not executed,
    /// and nothing that comes over it any more will be.
    Goodbye,
}

const REQUEST: u8 = 0x10;
const MAP_WANTED: u8 = 0x11;
const STATS_WANTED: u8 = 0x12;
const INVITE: u8 = 0x13;
const DROP_MEMBER: u8 = 0x14;
const KEEP_MEMBER: u8 = 0x15;
const RESET_LOST: u8 = 0x16;
const REPLY: u8 = 0x18;
const MAP: u8 = 0x19;
const STATS: u8 = 0x1A;
const OUTCOME: u8 = 0x1B;
const GOODBYE: u8 = 0x1C;

impl<'a> ClientMsg<'a> {
    /// Appends the message's payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            ClientMsg::Request { id, request } => {
                out.put_u8(REQUEST);
                out.put_u64(*id);
                request.encode(out);
            }
            ClientMsg::MapWanted { id, have } => {
                out.put_u8(MAP_WANTED);
                out.put_u64(*id);
                out.put_u64(have.0);
            }
            ClientMsg::StatsWanted { id } => {
                out.put_u8(STATS_WANTED);
                out.put_u64(*id);
            }
            ClientMsg::Invite { id, cluster, seeds } => {
                out.put_u8(INVITE);
                out.put_u64(*id);
                out.put_u128(cluster.0);
                out.put_count(seeds.len());
                seeds.iter().for_each(|seed| out.put_text(seed));
            }
            ClientMsg::DropMember { id, mid, force } => {
                out.put_u8(DROP_MEMBER);
                out.put_u64(*id);
                out.put_u64(mid.0);
                out.put_u8(u8::from(*force));
            }
            ClientMsg::KeepMember { id, mid } => {
                out.put_u8(KEEP_MEMBER);
                out.put_u64(*id);
                out.put_u64(mid.0);
            }
            ClientMsg::ResetLost { id, pids } => {
                out.put_u8(RESET_LOST);
                out.put_u64(*id);
                out.put_count(pids.len());
                pids.iter().for_each(|pid| out.put_u32(pid.0));
            }
        }
    }

    /// Reads a whole payload.
    pub fn decode(bytes: &'a [u8]) -> Decoded<Self> {
        let mut r = Reader::new(bytes);
        let msg = match r.u8("client message type")? {
            REQUEST => ClientMsg::Request { id: r.u64("id")?, request: Request::decode(&mut r)? },
            MAP_WANTED => ClientMsg::MapWanted { id: r.u64("id")?, have: Ver(r.u64("have")?) },
            STATS_WANTED => ClientMsg::StatsWanted { id: r.u64("id")? },
            INVITE => {
                let id = r.u64("id")?;
                let cluster = ClusterId(r.u128("cluster")?);
                let count = r.bounded_count(2, MEMBERS_MAX, "seeds")?;
                let mut seeds = Vec::with_capacity(count);
                for _ in 0..count {
                    seeds.push(r.bounded_text(NAME_BYTES_MAX, "seed")?);
                }
                ClientMsg::Invite { id, cluster, seeds }
            }
            DROP_MEMBER => {
                let (id, mid) = (r.u64("id")?, MemberId(r.u64("mid")?));
                ClientMsg::DropMember { id, mid, force: r.bool("force")? }
            }
            KEEP_MEMBER => ClientMsg::KeepMember { id: r.u64("id")?, mid: MemberId(r.u64("mid")?) },
            RESET_LOST => {
                let id = r.u64("id")?;
                let count = r.bounded_count(4, PARTITIONS_MAX as usize, "partitions")?;
                let mut pids = Vec::with_capacity(count);
                for _ in 0..count {
                    pids.push(PartitionId(r.u32("pid")?));
                }
                ClientMsg::ResetLost { id, pids }
            }
            _ => return Err(DecodeError("client message type")),
        };
        r.finish()?;
        Ok(msg)
    }
}

impl<'a> ServerMsg<'a> {
    /// Appends the payload of a `Map`, without taking the map.
    pub fn encode_map(id: u64, map: Option<&RingMap>, out: &mut Vec<u8>) {
        out.put_u8(MAP);
        out.put_u64(id);
        out.put_u8(u8::from(map.is_some()));
        if let Some(map) = map {
            encode_map(map, out);
        }
    }

    /// Appends the payload of a `Reply`, without taking the answer.
    pub fn encode_reply(id: u64, reply: &Reply<'_>, out: &mut Vec<u8>) {
        out.put_u8(REPLY);
        out.put_u64(id);
        reply.encode(out);
    }

    /// Appends the message's payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            ServerMsg::Reply { id, reply } => Self::encode_reply(*id, reply, out),
            ServerMsg::Map { id, map } => Self::encode_map(*id, map.as_deref(), out),
            ServerMsg::Stats { id, stats } => {
                out.put_u8(STATS);
                out.put_u64(*id);
                out.put_u64(stats.keys_held);
                out.put_u64(stats.bytes_held);
                out.put_u64(stats.memory_bytes);
                out.put_u64(stats.keys_moved_in);
                out.put_u64(stats.bytes_moved_in);
                out.put_u64(stats.leader.0);
                out.put_count(stats.partitions.len());
                for (pid, keys, bytes) in &stats.partitions {
                    out.put_u32(pid.0);
                    out.put_u64(*keys);
                    out.put_u64(*bytes);
                }
            }
            ServerMsg::Outcome { id, status, text } => {
                out.put_u8(OUTCOME);
                out.put_u64(*id);
                out.put_u32(*status as u32);
                out.put_text(text);
            }
            ServerMsg::Goodbye => out.put_u8(GOODBYE),
        }
    }

    /// Reads a whole payload.
    pub fn decode(bytes: &'a [u8]) -> Decoded<Self> {
        let mut r = Reader::new(bytes);
        let msg = match r.u8("server message type")? {
            REPLY => ServerMsg::Reply { id: r.u64("id")?, reply: Reply::decode(&mut r)? },
            MAP => {
                let id = r.u64("id")?;
                let map = match r.bool("some map")? {
                    true => Some(Box::new(decode_map(&mut r)?)),
                    false => None,
                };
                ServerMsg::Map { id, map }
            }
            STATS => ServerMsg::Stats { id: r.u64("id")?, stats: decode_stats(&mut r)? },
            OUTCOME => ServerMsg::Outcome {
                id: r.u64("id")?,
                status: r.u32("status")? as i32,
                text: r.text("text")?,
            },
            GOODBYE => ServerMsg::Goodbye,
            _ => return Err(DecodeError("server message type")),
        };
        r.finish()?;
        Ok(msg)
    }
}

fn decode_stats(r: &mut Reader<'_>) -> Decoded<NodeStats> {
    let mut stats = NodeStats {
        keys_held: r.u64("keys held")?,
        bytes_held: r.u64("bytes held")?,
        memory_bytes: r.u64("memory")?,
        keys_moved_in: r.u64("keys moved in")?,
        bytes_moved_in: r.u64("bytes moved in")?,
        leader: MemberId(r.u64("leader")?),
        partitions: Vec::new(),
    };
    let count = r.bounded_count(20, PARTITIONS_MAX as usize, "partitions")?;
    stats.partitions.reserve_exact(count);
    for _ in 0..count {
        let row = (PartitionId(r.u32("pid")?), r.u64("keys")?, r.u64("bytes")?);
        stats.partitions.push(row);
    }
    Ok(stats)
}
