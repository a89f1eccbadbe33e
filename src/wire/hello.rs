//! The handshake: the first frame of every connection, and its answer.

use super::codec::{DecodeError, Decoded, Reader, Writer};
use crate::base::limits::HELLO_FRAME_BYTES_MAX;
use crate::base::{ClusterId, MemberId, Ver};

/// The first bytes of every connection.
pub const MAGIC: [u8; 4] = *b"RKV\x01";
/// Version of everything in this module's parent. Both sides must have the same.
pub const PROTOCOL_VERSION: u16 = 1;

/// Longest sentence of a refusal: the whole answer must fit in a frame of the handshake.
const REFUSAL_BYTES_MAX: usize = HELLO_FRAME_BYTES_MAX - (1 + 4 + 1 + 2);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Operations of a client.
    Client,
    /// Replication between two members.
    PeerData,
    /// Heartbeats, maps and commands between two members; never behind bulk data.
    PeerControl,
    /// Commands and maps for a node that wants to join.
    Joiner,
}

/// The dialler's first frame. Peers name both members, so that a delayed packet or a reused
/// address can never reach the wrong boot of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What the connection is for.
    pub role: Role,
    /// The ring that is meant; zero if any (a client's first contact).
    pub cluster: ClusterId,
    /// Its generation.
    pub generation: u32,
    /// Who dials; zero for a client.
    pub from: MemberId,
    /// Who is meant; zero if any.
    pub to: MemberId,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Welcome {
    /// Go on.
    Accepted {
        /// The ring that the node belongs to; zero if it stands by.
        cluster: ClusterId,
        /// Who answers.
        mid: MemberId,
        /// Version of its map.
        map_ver: Ver,
    },
    /// The connection is closed after this.
    Refused {
        /// A status number.
        status: i32,
        /// The dialler is no member of the answerer's newer map.
        not_a_member: bool,
        /// The sentence that says why; its end is cut off on the wire if the frame would be longer
        /// than a handshake allows.
        text: String,
    },
}

impl Hello {
    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.put_u16(PROTOCOL_VERSION);
        out.put_u8(match self.role {
            Role::Client => 0,
            Role::PeerData => 1,
            Role::PeerControl => 2,
            Role::Joiner => 3,
        });
        out.put_u128(self.cluster.0);
        out.put_u32(self.generation);
        out.put_u64(self.from.0);
        out.put_u64(self.to.0);
    }

    /// Reads a whole payload.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut r = Reader::new(bytes);
        if r.take(MAGIC.len(), "magic")? != MAGIC {
            return Err(DecodeError("magic"));
        }
        if r.u16("protocol version")? != PROTOCOL_VERSION {
            return Err(DecodeError("protocol version"));
        }
        let hello = Self {
            role: match r.u8("role")? {
                0 => Role::Client,
                1 => Role::PeerData,
                2 => Role::PeerControl,
                3 => Role::Joiner,
                _ => return Err(DecodeError("role")),
            },
            cluster: ClusterId(r.u128("cluster")?),
            generation: r.u32("generation")?,
            from: MemberId(r.u64("from")?),
            to: MemberId(r.u64("to")?),
        };
        r.finish()?;
        Ok(hello)
    }
}

impl Welcome {
    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Welcome::Accepted { cluster, mid, map_ver } => {
                out.put_u8(1);
                out.put_u128(cluster.0);
                out.put_u64(mid.0);
                out.put_u64(map_ver.0);
            }
            Welcome::Refused { status, not_a_member, text } => {
                out.put_u8(0);
                out.put_u32(*status as u32);
                out.put_u8(u8::from(*not_a_member));
                out.put_text_cut(text, REFUSAL_BYTES_MAX);
            }
        }
    }

    /// Reads a whole payload.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut r = Reader::new(bytes);
        let welcome = match r.u8("welcome")? {
            1 => Welcome::Accepted {
                cluster: ClusterId(r.u128("cluster")?),
                mid: MemberId(r.u64("mid")?),
                map_ver: Ver(r.u64("map_ver")?),
            },
            0 => Welcome::Refused {
                status: r.u32("status")? as i32,
                not_a_member: r.bool("not a member")?,
                text: r.bounded_text(REFUSAL_BYTES_MAX, "text")?.to_owned(),
            },
            _ => return Err(DecodeError("welcome")),
        };
        r.finish()?;
        Ok(welcome)
    }
}
