//! Reports as dictionaries. `python/ringkv/reports.py` makes its dataclasses of them; the names of
//! the fields are the same on both sides.

use pyo3::prelude::*;
use ringkv::ring::{HashKind, MemberState, Params, PlacementKind};

#[derive(IntoPyObject)]
pub(crate) struct NodeRef {
    member: u64,
    name: String,
    address: String,
}

impl From<ringkv::NodeRef> for NodeRef {
    fn from(node: ringkv::NodeRef) -> Self {
        Self { member: node.mid.0, name: node.name, address: node.addr }
    }
}

#[derive(IntoPyObject)]
pub(crate) struct Progress {
    copies_done: u64,
    copies_total: u64,
}

impl From<ringkv::Progress> for Progress {
    fn from(progress: ringkv::Progress) -> Self {
        Self { copies_done: progress.copies_done, copies_total: progress.copies_total }
    }
}

#[derive(IntoPyObject)]
pub(crate) struct RingParams {
    partitions: u32,
    hash: &'static str,
    seed: u32,
    placement: &'static str,
    copies: u8,
    min_insync: u8,
    value_bytes_max: u32,
    leases: bool,
}

impl From<Params> for RingParams {
    fn from(params: Params) -> Self {
        Self {
            partitions: params.partitions,
            hash: match params.hash {
                HashKind::Murmur3 => "murmur3",
                HashKind::Crc16 => "crc16",
                HashKind::Integer => "integer",
            },
            seed: params.seed,
            placement: match params.placement {
                PlacementKind::Balanced => "balanced",
                PlacementKind::Successor => "successor",
            },
            copies: params.copies,
            min_insync: params.min_insync,
            value_bytes_max: params.value_bytes_max,
            leases: params.leases,
        }
    }
}

#[derive(IntoPyObject)]
pub(crate) struct MemberInfo {
    node: NodeRef,
    zone: String,
    weight: u32,
    position: u64,
    state: &'static str,
    reachable: bool,
    coordinator: bool,
    primaries: u32,
    copies: u32,
    share: f64,
    keys: u64,
    bytes: u64,
    keys_held: u64,
    bytes_held: u64,
    memory_bytes: u64,
    keys_moved_in: u64,
    bytes_moved_in: u64,
}

impl From<ringkv::MemberInfo> for MemberInfo {
    fn from(member: ringkv::MemberInfo) -> Self {
        Self {
            node: member.node.into(),
            zone: member.zone,
            weight: member.weight,
            position: member.position,
            state: match member.state {
                MemberState::Up => "up",
                MemberState::Down => "down",
                MemberState::Leaving => "leaving",
                MemberState::Away => "away",
            },
            reachable: member.reachable,
            coordinator: member.coordinator,
            primaries: member.primaries,
            copies: member.copies,
            share: member.share,
            keys: member.keys,
            bytes: member.bytes,
            keys_held: member.keys_held,
            bytes_held: member.bytes_held,
            memory_bytes: member.memory_bytes,
            keys_moved_in: member.keys_moved_in,
            bytes_moved_in: member.bytes_moved_in,
        }
    }
}

#[derive(IntoPyObject)]
pub(crate) struct RingInfo {
    cluster: String,
    version: u64,
    params: RingParams,
    required: u8,
    members: Vec<MemberInfo>,
    keys: u64,
    bytes: u64,
    under_replicated: u32,
    lost: u32,
    moving: Option<Progress>,
}

impl From<ringkv::RingInfo> for RingInfo {
    fn from(info: ringkv::RingInfo) -> Self {
        Self {
            cluster: info.cluster.to_string(),
            version: info.version,
            params: info.params.into(),
            required: info.required,
            members: info.members.into_iter().map(Into::into).collect(),
            keys: info.keys,
            bytes: info.bytes,
            under_replicated: info.under_replicated,
            lost: info.lost,
            moving: info.moving.map(Into::into),
        }
    }
}

#[derive(IntoPyObject)]
pub(crate) struct Location {
    partition: u32,
    position: u64,
    holders: Vec<NodeRef>,
    hops: Vec<NodeRef>,
}

impl From<ringkv::Location> for Location {
    fn from(location: ringkv::Location) -> Self {
        Self {
            partition: location.partition.0,
            position: location.position,
            holders: location.holders.into_iter().map(Into::into).collect(),
            hops: location.hops.into_iter().map(Into::into).collect(),
        }
    }
}

#[derive(IntoPyObject)]
pub(crate) struct Health {
    ok: bool,
    unwritable: u32,
    reasons: Vec<String>,
}

impl From<ringkv::Health> for Health {
    fn from(health: ringkv::Health) -> Self {
        Self { ok: health.ok, unwritable: health.unwritable, reasons: health.reasons }
    }
}

#[derive(IntoPyObject)]
pub(crate) struct Share {
    member: u64,
    name: String,
    weight: u32,
    copies: usize,
    primaries: usize,
    share: f64,
}

impl From<ringkv::ring::Share> for Share {
    fn from(share: ringkv::ring::Share) -> Self {
        Self {
            member: share.mid.0,
            name: share.name,
            weight: share.weight,
            copies: share.copies,
            primaries: share.primaries,
            share: share.share,
        }
    }
}

#[derive(IntoPyObject)]
pub(crate) struct Plan {
    partitions_moved: usize,
    primaries_moved: usize,
    keys: u64,
    bytes: u64,
    ideal_bytes: u64,
    shares_before: Vec<Share>,
    shares_after: Vec<Share>,
}

impl From<ringkv::ring::Plan> for Plan {
    fn from(plan: ringkv::ring::Plan) -> Self {
        Self {
            partitions_moved: plan.partitions_moved,
            primaries_moved: plan.primaries_moved,
            keys: plan.keys,
            bytes: plan.bytes,
            ideal_bytes: plan.ideal_bytes,
            shares_before: plan.shares_before.into_iter().map(Into::into).collect(),
            shares_after: plan.shares_after.into_iter().map(Into::into).collect(),
        }
    }
}

#[derive(IntoPyObject)]
pub(crate) struct Event {
    kind: &'static str,
    time_ms: u64,
    member: Option<NodeRef>,
    partitions: u64,
    done: u64,
    total: u64,
    text: String,
}

impl From<ringkv::Event> for Event {
    fn from(event: ringkv::Event) -> Self {
        Self {
            kind: event.kind.name(),
            time_ms: event.time_ms,
            partitions: event.partitions,
            done: event.done,
            total: event.total,
            text: event.text(),
            member: event.member.map(Into::into),
        }
    }
}
