//! The coordinator's commands: what may be done to a ring map.

use super::codec::{DecodeError, Decoded, Reader, Writer};
use super::map::{decode_voters, encode_voters};
use crate::base::limits::NAME_BYTES_MAX;
use crate::base::{Cfg, LearnerId, MemberId, PartitionId};

/// What a node says of itself when it joins. Its texts have at most `NAME_BYTES_MAX` bytes each,
/// since every member's are part of the map that everyone holds: a longer one is malformed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinInfo {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub addr: String,
    /// Its failure domain, or empty.
    pub zone: String,
    /// Its share in relation to the others.
    pub weight: u32,
    /// Its place on the ring.
    pub position: u64,
    /// Count of its boots, if durable; otherwise a random number drawn at each start, so that a
    /// start that asks twice is admitted once.
    pub boot: u32,
    /// Whether it keeps its data across a restart.
    pub durable: bool,
}

/// A change of the ring map. Preconditions are checked when it is applied; each carries the ids
/// that make a second application do nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A node becomes a member.
    Join(JoinInfo),
    /// A member is dropped: everything it holds is to move elsewhere.
    Leave {
        /// Whom.
        mid: MemberId,
    },
    /// A member that is being dropped stays after all.
    Stay {
        /// Whom.
        mid: MemberId,
    },
    /// A member is taken for dead.
    Down {
        /// Whom.
        mid: MemberId,
    },
    /// A member that was taken for dead is there again, with nothing that counts.
    Up {
        /// Whom.
        mid: MemberId,
    },
    /// A member has been dead for long: its copies are made elsewhere.
    Away {
        /// Whom.
        mid: MemberId,
    },
    /// A member holds nothing any more and is forgotten.
    Gone {
        /// Whom.
        mid: MemberId,
    },
    /// A member begins to catch up.
    AddLearner {
        /// Which partition.
        pid: PartitionId,
        /// Whom.
        mid: MemberId,
    },
    /// A member no longer catches up.
    CancelLearner {
        /// Which partition.
        pid: PartitionId,
        /// The configuration it was seen in.
        cfg: Cfg,
        /// Whom.
        mid: MemberId,
        /// Which stay.
        lid: LearnerId,
    },
    /// A learner holds everything and counts from now on.
    AddInSync {
        /// Which partition.
        pid: PartitionId,
        /// The primary's configuration.
        cfg: Cfg,
        /// Whom.
        mid: MemberId,
        /// Which stay.
        lid: LearnerId,
    },
    /// An in-sync replica no longer counts.
    Remove {
        /// Which partition.
        pid: PartitionId,
        /// The primary's configuration.
        cfg: Cfg,
        /// Whom.
        mid: MemberId,
    },
    /// An in-sync replica takes over from a primary that does not answer.
    Promote {
        /// Which partition.
        pid: PartitionId,
        /// The configuration it was seen in.
        cfg: Cfg,
        /// Who takes over.
        mid: MemberId,
    },
    /// The primary passes its role to another in-sync replica.
    Handover {
        /// Which partition.
        pid: PartitionId,
        /// The primary's configuration.
        cfg: Cfg,
        /// Who takes over.
        mid: MemberId,
    },
    /// A lost partition starts again, empty.
    Reset {
        /// Which partition.
        pid: PartitionId,
    },
    /// The copies that a write needs.
    SetRequired {
        /// How many.
        copies: u8,
    },
    /// These members run the coordinator from now on.
    SetVoters {
        /// Who; the first begins as their leader.
        voters: Vec<MemberId>,
    },
}

/// What an applied command yielded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The map changed.
    Changed,
    /// A member was admitted under this id.
    Admitted(MemberId),
}

/// Why a command did nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Overtaken by another change: look at the map and decide again.
    #[error("the ring has changed meanwhile")]
    Stale,
    /// Not allowed; the sentence says why and what would be needed.
    #[error("{0}")]
    Refused(String),
}

impl Command {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Command::Join(info) => {
                out.put_u8(1);
                info.encode(out);
            }
            Command::Leave { mid } => one(2, *mid, out),
            Command::Down { mid } => one(3, *mid, out),
            Command::Gone { mid } => one(4, *mid, out),
            Command::AddLearner { pid, mid } => {
                out.put_u8(5);
                out.put_u32(pid.0);
                out.put_u64(mid.0);
            }
            Command::CancelLearner { pid, cfg, mid, lid } => {
                part(6, *pid, *cfg, *mid, out);
                out.put_u64(lid.0);
            }
            Command::AddInSync { pid, cfg, mid, lid } => {
                part(7, *pid, *cfg, *mid, out);
                out.put_u64(lid.0);
            }
            Command::Remove { pid, cfg, mid } => part(8, *pid, *cfg, *mid, out),
            Command::Promote { pid, cfg, mid } => part(9, *pid, *cfg, *mid, out),
            Command::Handover { pid, cfg, mid } => part(10, *pid, *cfg, *mid, out),
            Command::Reset { pid } => {
                out.put_u8(11);
                out.put_u32(pid.0);
            }
            Command::SetRequired { copies } => {
                out.put_u8(12);
                out.put_u8(*copies);
            }
            Command::SetVoters { voters } => {
                out.put_u8(13);
                encode_voters(voters, out);
            }
            Command::Up { mid } => one(14, *mid, out),
            Command::Away { mid } => one(15, *mid, out),
            Command::Stay { mid } => one(16, *mid, out),
        }
    }

    /// Reads one.
    pub fn decode(r: &mut Reader<'_>) -> Decoded<Self> {
        let code = r.u8("command")?;
        Ok(match code {
            1 => Command::Join(JoinInfo::decode(r)?),
            2 => Command::Leave { mid: MemberId(r.u64("mid")?) },
            3 => Command::Down { mid: MemberId(r.u64("mid")?) },
            4 => Command::Gone { mid: MemberId(r.u64("mid")?) },
            5 => Command::AddLearner {
                pid: PartitionId(r.u32("pid")?),
                mid: MemberId(r.u64("mid")?),
            },
            6..=10 => {
                let pid = PartitionId(r.u32("pid")?);
                let cfg = Cfg(r.u64("cfg")?);
                let mid = MemberId(r.u64("mid")?);
                match code {
                    6 => {
                        let lid = LearnerId(r.u64("lid")?);
                        Command::CancelLearner { pid, cfg, mid, lid }
                    }
                    7 => Command::AddInSync { pid, cfg, mid, lid: LearnerId(r.u64("lid")?) },
                    8 => Command::Remove { pid, cfg, mid },
                    9 => Command::Promote { pid, cfg, mid },
                    _ => Command::Handover { pid, cfg, mid },
                }
            }
            11 => Command::Reset { pid: PartitionId(r.u32("pid")?) },
            12 => Command::SetRequired { copies: r.u8("copies")? },
            13 => Command::SetVoters { voters: decode_voters(r)? },
            14 => Command::Up { mid: MemberId(r.u64("mid")?) },
            15 => Command::Away { mid: MemberId(r.u64("mid")?) },
            16 => Command::Stay { mid: MemberId(r.u64("mid")?) },
            _ => return Err(DecodeError("command")),
        })
    }
}

fn one(code: u8, mid: MemberId, out: &mut Vec<u8>) {
    out.put_u8(code);
    out.put_u64(mid.0);
}

fn part(code: u8, pid: PartitionId, cfg: Cfg, mid: MemberId, out: &mut Vec<u8>) {
    out.put_u8(code);
    out.put_u32(pid.0);
    out.put_u64(cfg.0);
    out.put_u64(mid.0);
}

impl JoinInfo {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_text(&self.name);
        out.put_text(&self.addr);
        out.put_text(&self.zone);
        out.put_u32(self.weight);
        out.put_u64(self.position);
        out.put_u32(self.boot);
        out.put_u8(u8::from(self.durable));
    }

    fn decode(r: &mut Reader<'_>) -> Decoded<Self> {
        Ok(Self {
            name: r.bounded_text(NAME_BYTES_MAX, "name")?.to_owned(),
            addr: r.bounded_text(NAME_BYTES_MAX, "addr")?.to_owned(),
            zone: r.bounded_text(NAME_BYTES_MAX, "zone")?.to_owned(),
            weight: r.u32("weight")?,
            position: r.u64("position")?,
            boot: r.u32("boot")?,
            durable: r.bool("durable")?,
        })
    }
}
