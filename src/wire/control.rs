//! Between two members on their control connection, and between a joiner and the coordinator.

use super::codec::{DecodeError, Decoded, Reader, Writer};
use super::command::Command;
use super::group::GroupMsg;
use super::map::{decode_delta, decode_map, encode_delta, encode_map};
use crate::base::limits::MEMBERS_MAX;
use crate::base::{MemberId, Nanos, Term, Ver};
use crate::ring::{MapDelta, RingMap};

/// A message of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlMsg {
    /// I am alive; my map is this new.
    Heartbeat {
        /// The sender's clock when it was sent.
        sent_at: Nanos,
        /// Version of the sender's map.
        map_ver: Ver,
        /// Asks for a lease.
        want: bool,
        /// The configuration and the term in which the sender leads the coordinator; zero if it
        /// does not.
        leads: (Ver, Term),
    },
    /// The answer to a heartbeat.
    HeartbeatAck {
        /// The heartbeat's `sent_at`.
        echo: Nanos,
        /// Newest epoch that the answerer adopted.
        epoch: Ver,
        /// Version of the answerer's map.
        map_ver: Ver,
        /// A lease was recorded before this was sent.
        grant: bool,
    },
    /// The map, if it is newer than `have`.
    MapWanted {
        /// Version that the sender has.
        have: Ver,
    },
    /// A whole map.
    MapFull(Box<RingMap>),
    /// What changed.
    MapDelta(Box<MapDelta>),
    /// A command for the coordinator.
    Submit {
        /// Chosen by the sender; zero asks for no answer.
        id: u64,
        /// The member that it comes from, which may have passed it on; zero of a joiner.
        origin: MemberId,
        /// The command.
        command: Command,
    },
    /// What became of a command.
    Submitted {
        /// The command's id.
        id: u64,
        /// The member that was admitted; zero if it was another command or was refused.
        admitted: MemberId,
        /// A status number.
        status: i32,
        /// The sentence that goes with it.
        text: String,
    },
    /// To the leader of the coordinator: the sender cannot hear these members.
    Suspect(Vec<MemberId>),
    /// Between two voters of the coordinator's group.
    Group {
        /// The configuration it is meant for; in another one it means nothing.
        cfg: Ver,
        /// The message.
        msg: GroupMsg,
    },
}

const HEARTBEAT: u8 = 0x40;
const HEARTBEAT_ACK: u8 = 0x41;
const MAP_WANTED: u8 = 0x42;
const MAP_FULL: u8 = 0x43;
const MAP_DELTA: u8 = 0x44;
const SUBMIT: u8 = 0x45;
const SUBMITTED: u8 = 0x46;
const SUSPECT: u8 = 0x47;
const GROUP: u8 = 0x48;

impl ControlMsg {
    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            ControlMsg::Heartbeat { sent_at, map_ver, want, leads } => {
                out.put_u8(HEARTBEAT);
                out.put_u64(sent_at.0);
                out.put_u64(map_ver.0);
                out.put_u8(u8::from(*want));
                out.put_u64(leads.0.0);
                out.put_u64(leads.1.0);
            }
            ControlMsg::HeartbeatAck { echo, epoch, map_ver, grant } => {
                out.put_u8(HEARTBEAT_ACK);
                out.put_u64(echo.0);
                out.put_u64(epoch.0);
                out.put_u64(map_ver.0);
                out.put_u8(u8::from(*grant));
            }
            ControlMsg::MapWanted { have } => {
                out.put_u8(MAP_WANTED);
                out.put_u64(have.0);
            }
            ControlMsg::MapFull(map) => Self::encode_map_full(map, out),
            ControlMsg::MapDelta(delta) => {
                out.put_u8(MAP_DELTA);
                encode_delta(delta, out);
            }
            ControlMsg::Submit { id, origin, command } => {
                out.put_u8(SUBMIT);
                out.put_u64(*id);
                out.put_u64(origin.0);
                command.encode(out);
            }
            ControlMsg::Submitted { id, admitted, status, text } => {
                out.put_u8(SUBMITTED);
                out.put_u64(*id);
                out.put_u64(admitted.0);
                out.put_u32(*status as u32);
                out.put_text(text);
            }
            ControlMsg::Suspect(members) => {
                out.put_u8(SUSPECT);
                out.put_count(members.len());
                members.iter().for_each(|mid| out.put_u64(mid.0));
            }
            ControlMsg::Group { cfg, msg } => {
                out.put_u8(GROUP);
                out.put_u64(cfg.0);
                msg.encode(out);
            }
        }
    }

    /// Appends the payload of a `MapFull`, without taking the map.
    pub fn encode_map_full(map: &RingMap, out: &mut Vec<u8>) {
        out.put_u8(MAP_FULL);
        encode_map(map, out);
    }

    /// Reads a whole payload.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut r = Reader::new(bytes);
        let msg = match r.u8("control message type")? {
            HEARTBEAT => ControlMsg::Heartbeat {
                sent_at: Nanos(r.u64("sent_at")?),
                map_ver: Ver(r.u64("map_ver")?),
                want: r.bool("want")?,
                leads: (Ver(r.u64("leads")?), Term(r.u64("term")?)),
            },
            HEARTBEAT_ACK => ControlMsg::HeartbeatAck {
                echo: Nanos(r.u64("echo")?),
                epoch: Ver(r.u64("epoch")?),
                map_ver: Ver(r.u64("map_ver")?),
                grant: r.bool("grant")?,
            },
            MAP_WANTED => ControlMsg::MapWanted { have: Ver(r.u64("have")?) },
            MAP_FULL => ControlMsg::MapFull(Box::new(decode_map(&mut r)?)),
            MAP_DELTA => ControlMsg::MapDelta(Box::new(decode_delta(&mut r)?)),
            SUBMIT => ControlMsg::Submit {
                id: r.u64("id")?,
                origin: MemberId(r.u64("origin")?),
                command: Command::decode(&mut r)?,
            },
            SUBMITTED => ControlMsg::Submitted {
                id: r.u64("id")?,
                admitted: MemberId(r.u64("admitted")?),
                status: r.u32("status")? as i32,
                text: r.text("text")?.to_owned(),
            },
            SUSPECT => {
                let count = r.bounded_count(8, MEMBERS_MAX, "suspects")?;
                let mut members = Vec::with_capacity(count);
                for _ in 0..count {
                    members.push(MemberId(r.u64("suspect")?));
                }
                ControlMsg::Suspect(members)
            }
            GROUP => ControlMsg::Group { cfg: Ver(r.u64("cfg")?), msg: GroupMsg::decode(&mut r)? },
            _ => return Err(DecodeError("control message type")),
        };
        r.finish()?;
        Ok(msg)
    }
}
