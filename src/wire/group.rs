//! What the voters of the coordinator's group say to each other.
//!
//! The four messages are those of Raft (section 5 of the paper) and one flag for its pre-vote. They
//! name no configuration: the control message around them does, because what was sent in one
//! configuration means nothing in another.

use std::sync::Arc;

use super::codec::{DecodeError, Decoded, Reader, Writer};
use crate::base::limits::GROUP_APPEND_ENTRIES_MAX;
use crate::base::{LogIndex, Term};

/// A message between two voters of one configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupMsg {
    /// Asks for a vote.
    Vote {
        /// The term to be led; for a pre-vote, the one that would be campaigned for.
        term: Term,
        /// Only asks whether the vote would be given; changes nothing at the receiver.
        pre: bool,
        /// Term of the sender's last entry.
        last_term: Term,
        /// Position of the sender's last entry.
        last_index: LogIndex,
    },
    /// The answer.
    VoteReply {
        /// The term that was asked for if the pre-vote is granted, else the voter's own.
        term: Term,
        /// The question was a pre-vote.
        pre: bool,
        /// Yes.
        granted: bool,
    },
    /// The leader is alive, and these entries follow `prev`.
    Append {
        /// The leader's.
        term: Term,
        /// Position that the entries follow.
        prev: LogIndex,
        /// Term of the leader's entry there.
        prev_term: Term,
        /// Everything up to here is decided.
        commit: LogIndex,
        /// May be none: then it is a heartbeat, or a probe for where the logs agree.
        entries: Vec<GroupEntry>,
    },
    /// The answer.
    AppendReply {
        /// The follower's.
        term: Term,
        /// Whether the follower's log agrees at `prev`.
        accepted: bool,
        /// The question's `prev`, by which an overtaken answer is known; zero if the question was
        /// of an older term.
        prev: LogIndex,
        /// Accepted: the logs agree up to here. Refused: they may agree here.
        index: LogIndex,
    },
}

/// One entry of the group's log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupEntry {
    /// Term of the leader that appended it.
    pub term: Term,
    /// What it says.
    pub content: Content,
}

/// What an entry says. Payloads are the owner's: the group never looks into them. They are shared
/// because each is sent to every peer and kept in the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Content {
    /// Nothing: a new leader's first entry, with which it decides all older ones.
    Empty,
    /// A change.
    Change(Arc<[u8]>),
    /// A change that ends the configuration.
    Seal(Arc<[u8]>),
}

impl Content {
    /// The owner's bytes; none of an empty entry.
    pub fn payload(&self) -> &[u8] {
        match self {
            Content::Empty => &[],
            Content::Change(payload) | Content::Seal(payload) => payload,
        }
    }
}

/// Bytes of an entry without its payload.
const ENTRY_BYTES_MIN: usize = 9;

const VOTE: u8 = 1;
const VOTE_REPLY: u8 = 2;
const APPEND: u8 = 3;
const APPEND_REPLY: u8 = 4;

const EMPTY: u8 = 0;
const CHANGE: u8 = 1;
const SEAL: u8 = 2;

impl GroupMsg {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            GroupMsg::Vote { term, pre, last_term, last_index } => {
                out.put_u8(VOTE);
                out.put_u64(term.0);
                out.put_u8(u8::from(*pre));
                out.put_u64(last_term.0);
                out.put_u64(last_index.0);
            }
            GroupMsg::VoteReply { term, pre, granted } => {
                out.put_u8(VOTE_REPLY);
                out.put_u64(term.0);
                out.put_u8(u8::from(*pre));
                out.put_u8(u8::from(*granted));
            }
            GroupMsg::Append { term, prev, prev_term, commit, entries } => {
                out.put_u8(APPEND);
                out.put_u64(term.0);
                out.put_u64(prev.0);
                out.put_u64(prev_term.0);
                out.put_u64(commit.0);
                out.put_count(entries.len());
                entries.iter().for_each(|entry| entry.encode(out));
            }
            GroupMsg::AppendReply { term, accepted, prev, index } => {
                out.put_u8(APPEND_REPLY);
                out.put_u64(term.0);
                out.put_u8(u8::from(*accepted));
                out.put_u64(prev.0);
                out.put_u64(index.0);
            }
        }
    }

    /// Reads a message.
    pub fn decode(r: &mut Reader<'_>) -> Decoded<Self> {
        Ok(match r.u8("group message")? {
            VOTE => GroupMsg::Vote {
                term: Term(r.u64("term")?),
                pre: r.bool("pre")?,
                last_term: Term(r.u64("last_term")?),
                last_index: LogIndex(r.u64("last_index")?),
            },
            VOTE_REPLY => GroupMsg::VoteReply {
                term: Term(r.u64("term")?),
                pre: r.bool("pre")?,
                granted: r.bool("granted")?,
            },
            APPEND => GroupMsg::Append {
                term: Term(r.u64("term")?),
                prev: LogIndex(r.u64("prev")?),
                prev_term: Term(r.u64("prev_term")?),
                commit: LogIndex(r.u64("commit")?),
                entries: decode_entries(r)?,
            },
            APPEND_REPLY => GroupMsg::AppendReply {
                term: Term(r.u64("term")?),
                accepted: r.bool("accepted")?,
                prev: LogIndex(r.u64("prev")?),
                index: LogIndex(r.u64("index")?),
            },
            _ => return Err(DecodeError("group message")),
        })
    }
}

impl GroupEntry {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.term.0);
        out.put_u8(match self.content {
            Content::Empty => EMPTY,
            Content::Change(_) => CHANGE,
            Content::Seal(_) => SEAL,
        });
        if self.content != Content::Empty {
            out.put_bytes(self.content.payload());
        }
    }

    fn decode(r: &mut Reader<'_>) -> Decoded<Self> {
        let term = Term(r.u64("entry term")?);
        let content = match r.u8("entry content")? {
            EMPTY => Content::Empty,
            CHANGE => Content::Change(r.bytes("change")?.into()),
            SEAL => Content::Seal(r.bytes("seal")?.into()),
            _ => return Err(DecodeError("entry content")),
        };
        Ok(Self { term, content })
    }
}

fn decode_entries(r: &mut Reader<'_>) -> Decoded<Vec<GroupEntry>> {
    let count = r.bounded_count(ENTRY_BYTES_MIN, GROUP_APPEND_ENTRIES_MAX, "entries")?;
    (0..count).map(|_| GroupEntry::decode(r)).collect()
}
