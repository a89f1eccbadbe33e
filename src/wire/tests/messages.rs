//! Generators of every message, and the codec seen as functions on bytes.
//!
//! Texts, keys and values are pieces of two fixed pools: so messages, which borrow, can be
//! generated without owned twins, and they shrink well.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::ringkv::base::{
    Cfg, ClusterId, LearnerId, LogIndex, MemberId, Nanos, PartitionId, Seq, StreamId, Term, Ver,
};
use super::ringkv::ring::{
    HashKind, MapDelta, Member, MemberState, Params, Part, PartState, PlacementKind, ReplicaSet,
    RingMap,
};
use super::ringkv::wire::client::NodeStats;
use super::ringkv::wire::{
    ClientMsg, Command, Content, ControlMsg, Effect, EntryRef, GroupEntry, GroupMsg, Hello, Item,
    JoinInfo, Op, Outcome, Page, PeerMsg, Reply, Request, Role, ServerMsg, Session, SessionRecord,
    Welcome,
};

/// What a payload can be taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Hello,
    Welcome,
    Client,
    Server,
    Control,
    Peer,
}

pub const KINDS: [Kind; 6] =
    [Kind::Hello, Kind::Welcome, Kind::Client, Kind::Server, Kind::Control, Kind::Peer];

/// A message of any kind, owned by nobody.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'a> {
    Hello(Hello),
    Welcome(Welcome),
    Client(ClientMsg<'a>),
    Server(ServerMsg<'a>),
    Control(ControlMsg),
    Peer(PeerMsg<'a>),
}

impl<'a> Message<'a> {
    pub fn kind(&self) -> Kind {
        match self {
            Message::Hello(_) => Kind::Hello,
            Message::Welcome(_) => Kind::Welcome,
            Message::Client(_) => Kind::Client,
            Message::Server(_) => Kind::Server,
            Message::Control(_) => Kind::Control,
            Message::Peer(_) => Kind::Peer,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Message::Hello(msg) => msg.encode(&mut out),
            Message::Welcome(msg) => msg.encode(&mut out),
            Message::Client(msg) => msg.encode(&mut out),
            Message::Server(msg) => msg.encode(&mut out),
            Message::Control(msg) => msg.encode(&mut out),
            Message::Peer(msg) => msg.encode(&mut out),
        }
        out
    }

    pub fn decode(kind: Kind, bytes: &'a [u8]) -> Option<Self> {
        match kind {
            Kind::Hello => Hello::decode(bytes).ok().map(Message::Hello),
            Kind::Welcome => Welcome::decode(bytes).ok().map(Message::Welcome),
            Kind::Client => ClientMsg::decode(bytes).ok().map(Message::Client),
            Kind::Server => ServerMsg::decode(bytes).ok().map(Message::Server),
            Kind::Control => ControlMsg::decode(bytes).ok().map(Message::Control),
            Kind::Peer => PeerMsg::decode(bytes).ok().map(Message::Peer),
        }
    }
}

const POOL: [u8; 16 * 1024] = {
    let mut pool = [0; 16 * 1024];
    let (mut at, mut state) = (0, 1u32);
    while at < pool.len() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        pool[at] = (state >> 24) as u8;
        at += 1;
    }
    pool
};
static BYTES: [u8; POOL.len()] = POOL;
static TEXT: &str =
    "node-1 127.0.0.1:7000 unix:/run/ringkv é 節点 🦀 the ring refuses this, because";

fn bytes(len: impl Strategy<Value = usize>) -> impl Strategy<Value = &'static [u8]> {
    (len, any::<Index>()).prop_map(|(len, at)| {
        let at = at.index(BYTES.len() - len);
        &BYTES[at..at + len]
    })
}

fn key() -> impl Strategy<Value = &'static [u8]> {
    bytes(prop_oneof![20 => 1usize..=40, 1 => 4000usize..=4096])
}

fn value() -> impl Strategy<Value = &'static [u8]> {
    bytes(prop_oneof![20 => 0usize..=80, 1 => 8000usize..=9000])
}

fn text() -> impl Strategy<Value = &'static str> {
    let cuts = || {
        let ends: Vec<usize> = TEXT.char_indices().map(|(at, _)| at).collect();
        prop::sample::select(ends)
    };
    (cuts(), cuts()).prop_map(|(a, b)| &TEXT[a.min(b)..a.max(b)])
}

fn owned_text() -> impl Strategy<Value = String> {
    text().prop_map(str::to_owned)
}

/// Small, extreme and arbitrary numbers.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0u64..16, 1 => Just(u64::MAX), 3 => any::<u64>()]
}

fn pid() -> impl Strategy<Value = PartitionId> {
    prop_oneof![0u32..64, any::<u32>()].prop_map(PartitionId)
}

fn mid() -> impl Strategy<Value = MemberId> {
    number().prop_map(MemberId)
}

fn cfg() -> impl Strategy<Value = Cfg> {
    number().prop_map(Cfg)
}

fn lid() -> impl Strategy<Value = LearnerId> {
    number().prop_map(LearnerId)
}

fn seq() -> impl Strategy<Value = Seq> {
    number().prop_map(Seq)
}

fn strm() -> impl Strategy<Value = StreamId> {
    number().prop_map(StreamId)
}

fn ver() -> impl Strategy<Value = Ver> {
    number().prop_map(Ver)
}

fn session() -> impl Strategy<Value = Session> {
    let some = (1u128.., number(), number());
    prop_oneof![
        Just(Session::default()),
        some.prop_map(|(sid, a, b)| Session {
            sid,
            number: a.max(b).max(1),
            floor: a.min(b).max(1)
        }),
    ]
}

fn op() -> impl Strategy<Value = Op<'static>> {
    prop_oneof![
        key().prop_map(|key| Op::Get { key }),
        key().prop_map(|key| Op::GetLocal { key }),
        key().prop_map(|key| Op::Probe { key }),
        key().prop_map(|key| Op::Delete { key }),
        (key(), value(), number(), any::<bool>())
            .prop_map(|(key, value, ttl_ms, if_absent)| Op::Put { key, value, ttl_ms, if_absent }),
        (key(), proptest::option::of(value()), value(), number())
            .prop_map(|(key, expected, value, ttl_ms)| Op::Cas { key, expected, value, ttl_ms }),
        (key(), any::<i64>(), number()).prop_map(|(key, delta, ttl_ms)| Op::Incr {
            key,
            delta,
            ttl_ms
        }),
        (pid(), any::<(u64, u32)>(), any::<u32>(), any::<bool>(), bytes(0usize..50)).prop_map(
            |(pid, cursor, limit, keys_only, prefix)| {
                Op::Scan { pid, cursor, limit, keys_only, prefix }
            }
        ),
    ]
}

fn request() -> impl Strategy<Value = Request<'static>> {
    let flags = any::<(bool, bool, u8)>();
    (ver(), 0u8..=1, flags, session(), op()).prop_map(
        |(map_ver, hop, (redirect, opens, attempt), session, op)| Request {
            map_ver,
            hop,
            redirect,
            attempt,
            opens,
            session,
            op,
        },
    )
}

fn page() -> impl Strategy<Value = Page<'static>> {
    (any::<Option<(u64, u32)>>(), vec((key(), value()), 0..5))
        .prop_map(|(next, items)| Page { next, items })
}

fn reply() -> impl Strategy<Value = Reply<'static>> {
    prop_oneof![
        value().prop_map(Reply::Value),
        Just(Reply::Absent),
        Just(Reply::Done),
        Just(Reply::Exists),
        page().prop_map(Reply::Page),
        mid().prop_map(Reply::Here),
        (mid(), ver()).prop_map(|(primary, map_ver)| Reply::Retry { primary, map_ver }),
        Just(Reply::Unknown),
        Just(Reply::Busy),
        any::<(u8, u8)>().prop_map(|(have, need)| Reply::NotEnoughReplicas { have, need }),
        any::<u32>().prop_map(|resets| Reply::DataLost { resets }),
        any::<u32>().prop_map(|limit| Reply::ValueTooLarge { limit }),
        Just(Reply::OutOfMemory),
        Just(Reply::NoRing),
        Just(Reply::Mismatch),
        any::<i64>().prop_map(Reply::Number),
        Just(Reply::NotANumber),
        Just(Reply::Overflow),
        Just(Reply::SessionUnknown),
    ]
}

fn stats() -> impl Strategy<Value = NodeStats> {
    let numbers = (number(), number(), number(), number(), number(), mid());
    (numbers, vec((pid(), number(), number()), 0..5)).prop_map(|(numbers, partitions)| {
        let (keys_held, bytes_held, memory_bytes, keys_moved_in, bytes_moved_in, leader) = numbers;
        NodeStats {
            keys_held,
            bytes_held,
            memory_bytes,
            keys_moved_in,
            bytes_moved_in,
            leader,
            partitions,
        }
    })
}

pub fn hello() -> impl Strategy<Value = Hello> {
    let role =
        prop::sample::select(vec![Role::Client, Role::PeerData, Role::PeerControl, Role::Joiner]);
    (role, any::<u128>(), any::<u32>(), mid(), mid()).prop_map(
        |(role, cluster, generation, from, to)| Hello {
            role,
            cluster: ClusterId(cluster),
            generation,
            from,
            to,
        },
    )
}

pub fn welcome() -> impl Strategy<Value = Welcome> {
    prop_oneof![
        (any::<u128>(), mid(), ver()).prop_map(|(cluster, mid, map_ver)| Welcome::Accepted {
            cluster: ClusterId(cluster),
            mid,
            map_ver
        }),
        (any::<i32>(), any::<bool>(), owned_text()).prop_map(|(status, not_a_member, text)| {
            Welcome::Refused { status, not_a_member, text }
        }),
    ]
}

pub fn client_message() -> impl Strategy<Value = ClientMsg<'static>> {
    prop_oneof![
        4 => (number(), request()).prop_map(|(id, request)| ClientMsg::Request { id, request }),
        1 => (number(), ver()).prop_map(|(id, have)| ClientMsg::MapWanted { id, have }),
        1 => number().prop_map(|id| ClientMsg::StatsWanted { id }),
        1 => (number(), any::<u128>(), vec(text(), 0..4)).prop_map(|(id, cluster, seeds)| {
            ClientMsg::Invite { id, cluster: ClusterId(cluster), seeds }
        }),
        1 => (number(), mid(), any::<bool>())
            .prop_map(|(id, mid, force)| ClientMsg::DropMember { id, mid, force }),
        1 => (number(), mid()).prop_map(|(id, mid)| ClientMsg::KeepMember { id, mid }),
        1 => (number(), vec(pid(), 0..5)).prop_map(|(id, pids)| ClientMsg::ResetLost { id, pids }),
    ]
}

pub fn server_message() -> impl Strategy<Value = ServerMsg<'static>> {
    let some_map = proptest::option::of(ring_map().prop_map(Box::new));
    prop_oneof![
        4 => (number(), reply()).prop_map(|(id, reply)| ServerMsg::Reply { id, reply }),
        1 => (number(), some_map).prop_map(|(id, map)| ServerMsg::Map { id, map }),
        1 => (number(), stats()).prop_map(|(id, stats)| ServerMsg::Stats { id, stats }),
        1 => (number(), any::<i32>(), text())
            .prop_map(|(id, status, text)| ServerMsg::Outcome { id, status, text }),
        1 => Just(ServerMsg::Goodbye),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let part = || (pid(), cfg(), mid());
    let join = (owned_text(), owned_text(), owned_text(), any::<(u32, u64, u32, bool)>());
    prop_oneof![
        join.prop_map(|(name, addr, zone, (weight, position, boot, durable))| {
            Command::Join(JoinInfo { name, addr, zone, weight, position, boot, durable })
        }),
        mid().prop_map(|mid| Command::Leave { mid }),
        mid().prop_map(|mid| Command::Down { mid }),
        mid().prop_map(|mid| Command::Gone { mid }),
        (pid(), mid()).prop_map(|(pid, mid)| Command::AddLearner { pid, mid }),
        (part(), lid()).prop_map(|((pid, cfg, mid), lid)| Command::CancelLearner {
            pid,
            cfg,
            mid,
            lid
        }),
        (part(), lid()).prop_map(|((pid, cfg, mid), lid)| Command::AddInSync {
            pid,
            cfg,
            mid,
            lid
        }),
        part().prop_map(|(pid, cfg, mid)| Command::Remove { pid, cfg, mid }),
        part().prop_map(|(pid, cfg, mid)| Command::Promote { pid, cfg, mid }),
        part().prop_map(|(pid, cfg, mid)| Command::Handover { pid, cfg, mid }),
        pid().prop_map(|pid| Command::Reset { pid }),
        any::<u8>().prop_map(|copies| Command::SetRequired { copies }),
        vec(mid(), 0..6).prop_map(|voters| Command::SetVoters { voters }),
        mid().prop_map(|mid| Command::Up { mid }),
        mid().prop_map(|mid| Command::Away { mid }),
        mid().prop_map(|mid| Command::Stay { mid }),
    ]
}

fn group_entry() -> impl Strategy<Value = GroupEntry> {
    let content = prop_oneof![
        Just(Content::Empty),
        value().prop_map(|payload| Content::Change(payload.into())),
        value().prop_map(|payload| Content::Seal(payload.into())),
    ];
    (number().prop_map(Term), content).prop_map(|(term, content)| GroupEntry { term, content })
}

fn group_message() -> impl Strategy<Value = GroupMsg> {
    let term = || number().prop_map(Term);
    let index = || number().prop_map(LogIndex);
    prop_oneof![
        (term(), any::<bool>(), term(), index()).prop_map(|(term, pre, last_term, last_index)| {
            GroupMsg::Vote { term, pre, last_term, last_index }
        }),
        (term(), any::<(bool, bool)>()).prop_map(|(term, (pre, granted))| GroupMsg::VoteReply {
            term,
            pre,
            granted
        }),
        (term(), index(), term(), index(), vec(group_entry(), 0..6)).prop_map(
            |(term, prev, prev_term, commit, entries)| GroupMsg::Append {
                term,
                prev,
                prev_term,
                commit,
                entries
            }
        ),
        (term(), any::<bool>(), index(), index()).prop_map(|(term, accepted, prev, index)| {
            GroupMsg::AppendReply { term, accepted, prev, index }
        }),
    ]
}

pub fn control_message() -> impl Strategy<Value = ControlMsg> {
    let nanos = || number().prop_map(Nanos);
    prop_oneof![
        (nanos(), ver(), any::<bool>()).prop_map(|(sent_at, map_ver, want)| {
            ControlMsg::Heartbeat { sent_at, map_ver, want, leads: (map_ver, Term(sent_at.0 / 3)) }
        }),
        prop::collection::vec(mid(), 0..4).prop_map(ControlMsg::Suspect),
        (nanos(), ver(), ver(), any::<bool>()).prop_map(|(echo, epoch, map_ver, grant)| {
            ControlMsg::HeartbeatAck { echo, epoch, map_ver, grant }
        }),
        ver().prop_map(|have| ControlMsg::MapWanted { have }),
        ring_map().prop_map(|map| ControlMsg::MapFull(Box::new(map))),
        successive_maps()
            .prop_map(|(old, new)| ControlMsg::MapDelta(Box::new(MapDelta::between(&old, &new)))),
        (number(), mid(), command()).prop_map(|(id, origin, command)| ControlMsg::Submit {
            id,
            origin,
            command
        }),
        (number(), mid(), any::<i32>(), owned_text()).prop_map(|(id, admitted, status, text)| {
            ControlMsg::Submitted { id, admitted, status, text }
        }),
        (ver(), group_message()).prop_map(|(cfg, msg)| ControlMsg::Group { cfg, msg }),
    ]
}

fn effect() -> impl Strategy<Value = Effect<'static>> {
    prop_oneof![
        Just(Effect::None),
        (key(), value(), number())
            .prop_map(|(key, value, expires_at_ms)| { Effect::Put { key, value, expires_at_ms } }),
        key().prop_map(|key| Effect::Delete { key }),
        (1u128..).prop_map(|sid| Effect::Close { sid }),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Done),
        Just(Outcome::Exists),
        Just(Outcome::Absent),
        Just(Outcome::Mismatch),
        any::<i64>().prop_map(Outcome::Number),
        Just(Outcome::NotANumber),
        Just(Outcome::Overflow),
    ]
}

fn entry() -> impl Strategy<Value = EntryRef<'static>> {
    (cfg(), session(), effect(), outcome()).prop_map(|(ecfg, session, effect, outcome)| EntryRef {
        ecfg,
        seq: Seq::ZERO,
        session,
        effect,
        outcome,
    })
}

fn append() -> impl Strategy<Value = PeerMsg<'static>> {
    let head = (pid(), cfg(), strm(), any::<bool>());
    (head, 0u64..1 << 60, cfg(), seq(), 0u64..1 << 60, vec(entry(), 0..6)).prop_map(
        |((pid, cfg, strm, sync), prev, prev_ecfg, commit, beyond, mut entries)| {
            // The message carries no positions, so they must follow `prev`.
            for (entry, seq) in entries.iter_mut().zip(prev + 1..) {
                entry.seq = Seq(seq);
            }
            PeerMsg::Append {
                pid,
                cfg,
                strm,
                sync,
                prev: Seq(prev),
                prev_ecfg,
                commit,
                last: Seq(prev + entries.len() as u64 + beyond),
                entries,
            }
        },
    )
}

fn chunk() -> impl Strategy<Value = PeerMsg<'static>> {
    let item = (key(), value(), seq(), number())
        .prop_map(|(key, value, ver, expires_at_ms)| Item { key, value, ver, expires_at_ms });
    (pid(), strm(), any::<u32>(), vec(item, 0..5))
        .prop_map(|(pid, strm, index, items)| PeerMsg::SnapChunk { pid, strm, index, items })
}

fn sessions() -> impl Strategy<Value = PeerMsg<'static>> {
    let record = (1u128.., number(), seq(), vec((number(), outcome()), 0..4))
        .prop_map(|(sid, floor, last, results)| SessionRecord { sid, floor, last, results });
    (pid(), strm(), any::<u32>(), vec(record, 0..4)).prop_map(|(pid, strm, index, sessions)| {
        PeerMsg::SnapSessions { pid, strm, index, sessions }
    })
}

pub fn peer_message() -> impl Strategy<Value = PeerMsg<'static>> {
    prop_oneof![
        4 => append(),
        2 => chunk(),
        1 => sessions(),
        1 => (pid(), cfg(), strm(), seq(), any::<bool>()).prop_map(
            |(pid, cfg, strm, matched, snap_ok)| PeerMsg::Ack { pid, cfg, strm, matched, snap_ok }
        ),
        1 => (pid(), cfg(), strm(), seq())
            .prop_map(|(pid, cfg, strm, have)| PeerMsg::Nack { pid, cfg, strm, have }),
        1 => (pid(), cfg(), lid(), strm(), seq(), any::<u32>()).prop_map(
            |(pid, cfg, lid, strm, start, resets)| {
                PeerMsg::SnapBegin { pid, cfg, lid, strm, start, resets }
            }
        ),
        1 => (pid(), strm(), any::<u32>())
            .prop_map(|(pid, strm, count)| PeerMsg::SnapEnd { pid, strm, count }),
        1 => (pid(), strm()).prop_map(|(pid, strm)| PeerMsg::SnapLost { pid, strm }),
        1 => (pid(), cfg(), cfg()).prop_map(|(pid, cfg, was_active_at)| PeerMsg::Relinquish {
            pid,
            cfg,
            was_active_at
        }),
        1 => (pid(), cfg(), number())
            .prop_map(|(pid, cfg, id)| PeerMsg::Barrier { pid, cfg, id }),
        1 => (pid(), cfg(), number(), ver(), any::<bool>()).prop_map(
            |(pid, cfg, id, epoch, grant)| PeerMsg::BarrierAck { pid, cfg, id, epoch, grant },
        ),
        1 => (number(), request())
            .prop_map(|(route, request)| PeerMsg::Forward { route, request }),
        1 => (number(), reply()).prop_map(|(route, reply)| PeerMsg::ForwardReply { route, reply }),
    ]
}

/// Any message; half of them are of the conversations that are not the handshake.
pub fn message() -> impl Strategy<Value = Message<'static>> {
    prop_oneof![
        1 => hello().prop_map(Message::Hello),
        1 => welcome().prop_map(Message::Welcome),
        4 => client_message().prop_map(Message::Client),
        4 => server_message().prop_map(Message::Server),
        4 => control_message().prop_map(Message::Control),
        4 => peer_message().prop_map(Message::Peer),
    ]
}

fn member() -> impl Strategy<Value = Member> {
    let state = prop::sample::select(vec![
        MemberState::Up,
        MemberState::Down,
        MemberState::Leaving,
        MemberState::Away,
    ]);
    let texts = (owned_text(), owned_text(), owned_text());
    (texts, any::<(u32, u64, u32, bool)>(), state).prop_map(
        |((name, addr, zone), (weight, position, boot, durable), state)| Member {
            name,
            addr,
            zone,
            weight,
            position,
            boot,
            durable,
            state,
        },
    )
}

fn members() -> impl Strategy<Value = BTreeMap<MemberId, Member>> {
    proptest::collection::btree_map((1u64..20).prop_map(MemberId), member(), 0..5)
}

/// A row whose configuration is at most `epoch`.
fn part(epoch: u64) -> impl Strategy<Value = Part> {
    let state = prop::sample::select(vec![PartState::Ok, PartState::Stalled, PartState::Lost]);
    let mids = vec(1u64..20, 1..8).prop_map(|mids| {
        let mut seen = BTreeSet::new();
        mids.into_iter().filter(|mid| seen.insert(*mid)).map(MemberId).collect::<Vec<_>>()
    });
    let goal = vec(1u64..20, 0..=7).prop_map(|mids| mids.into_iter().map(MemberId).collect());
    (0..=epoch, cfg(), mids, any::<(Index, Index)>(), lid(), goal, state, any::<u32>()).prop_map(
        |(cfg, pcfg, mids, (cut, primary), lid, goal, state, resets)| {
            // The first ones are in sync, at least one of them; the others are learners.
            let (isr, learners) = mids.split_at(cut.index(mids.len()) + 1);
            Part {
                cfg: Cfg(cfg),
                pcfg,
                primary: isr[primary.index(isr.len())],
                isr: isr.iter().copied().collect::<ReplicaSet>(),
                learners: learners.iter().map(|mid| (*mid, lid)).collect(),
                goal,
                state,
                resets,
            }
        },
    )
}

fn params() -> impl Strategy<Value = Params> {
    let hash = prop::sample::select(vec![HashKind::Murmur3, HashKind::Integer]);
    let placement = prop::sample::select(vec![PlacementKind::Balanced, PlacementKind::Successor]);
    (0u32..4, hash, any::<u32>(), placement, 1u8..=7, any::<Index>(), 0u32..=64 << 20).prop_map(
        |(log, hash, seed, placement, copies, min_insync, value_bytes_max)| Params {
            partitions: 1 << log,
            hash,
            seed,
            placement,
            copies,
            min_insync: 1 + min_insync.index(usize::from(copies)) as u8,
            value_bytes_max,
            leases: seed % 2 == 0,
        },
    )
}

/// A sound map of one to eight partitions.
pub fn ring_map() -> impl Strategy<Value = RingMap> {
    let head = (any::<u128>(), any::<u32>(), params(), any::<u8>(), 20u64..1 << 40);
    let voters = vec(mid(), 0..4);
    (head, 1u64..1 << 40, 0u64..1 << 40, voters, members()).prop_flat_map(
        |((cluster, generation, params, required, next_mid), epoch, beyond, voters, members)| {
            vec(part(epoch), params.partitions as usize).prop_map(move |parts| RingMap {
                cluster: ClusterId(cluster),
                generation,
                ver: Ver(epoch + beyond),
                epoch: Ver(epoch),
                params,
                required,
                next_mid: MemberId(next_mid),
                members: members.clone(),
                parts,
                voters: voters.clone(),
                voters_since: Ver(epoch / 2),
            })
        },
    )
}

/// A map and a later one of the same ring: some rows differ, and perhaps the members.
pub fn successive_maps() -> impl Strategy<Value = (RingMap, RingMap)> {
    let changes = vec((any::<Index>(), part(1)), 0..4);
    (ring_map(), changes, proptest::option::of(members()), 1u64..9, any::<u8>()).prop_map(
        |(old, changes, members, steps, required)| {
            let mut new = old.clone();
            new.ver = Ver(old.ver.0 + steps);
            new.required = required;
            new.next_mid = MemberId(old.next_mid.0 + steps);
            if let Some(members) = members {
                new.members = members;
            }
            for (at, part) in changes {
                let row = &mut new.parts[at.index(old.parts.len())];
                let resets = row.resets;
                *row = Part { cfg: Cfg(new.ver.0), pcfg: row.cfg, resets, ..part };
                new.epoch = new.ver;
            }
            (old, new)
        },
    )
}

/// One way to spoil a payload.
#[derive(Clone, Debug)]
pub enum Damage {
    Flip(Index, u8),
    Set(Index, u8),
    /// Puts a small number in the head, where the types, flags and counts are.
    Head(usize, u8),
    /// Puts a number where perhaps a length or a count is.
    Number(Index, u32),
    Truncate(Index),
    Append(&'static [u8]),
    Remove(Index),
}

pub fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<Index>(), 0u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        any::<(Index, u8)>().prop_map(|(at, byte)| Damage::Set(at, byte)),
        (0usize..24, 0u8..16).prop_map(|(at, byte)| Damage::Head(at, byte)),
        (any::<Index>(), prop_oneof![Just(u32::MAX), 0u32..300, any::<u32>()])
            .prop_map(|(at, number)| Damage::Number(at, number)),
        any::<Index>().prop_map(Damage::Truncate),
        bytes(1usize..40).prop_map(Damage::Append),
        any::<Index>().prop_map(Damage::Remove),
    ]
}

impl Damage {
    pub fn apply(&self, payload: &mut Vec<u8>) {
        let len = payload.len();
        match self {
            Damage::Append(more) => payload.extend_from_slice(more),
            _ if len == 0 => {}
            Damage::Flip(at, bit) => payload[at.index(len)] ^= 1 << bit,
            Damage::Set(at, byte) => payload[at.index(len)] = *byte,
            Damage::Head(at, byte) => payload[at % len] = *byte,
            Damage::Number(at, number) => {
                let number = number.to_le_bytes();
                payload[at.index(len)..].iter_mut().zip(number).for_each(|(to, from)| *to = from);
            }
            Damage::Truncate(at) => payload.truncate(at.index(len)),
            Damage::Remove(at) => drop(payload.remove(at.index(len))),
        }
    }
}

/// A message after one to three damages, and what it was.
pub fn damaged() -> impl Strategy<Value = (Kind, Vec<u8>)> {
    (message(), vec(damage(), 1..4)).prop_map(|(message, damages)| {
        let mut payload = message.encode();
        damages.iter().for_each(|damage| damage.apply(&mut payload));
        (message.kind(), payload)
    })
}

/// Arbitrary bytes, mostly behind a type that exists.
pub fn noise() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![0x10u8..0x1C, 0x20u8..0x2A, 0x40u8..0x49, any::<u8>()];
    (first, vec(prop_oneof![Just(0u8), Just(1u8), any::<u8>()], 0..200)).prop_map(
        |(first, mut payload)| {
            payload.insert(0, first);
            payload
        },
    )
}
