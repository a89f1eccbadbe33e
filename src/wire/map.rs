//! The ring map and its deltas as bytes.

use std::collections::BTreeMap;

use super::codec::{DecodeError, Decoded, Reader, Writer};
use crate::base::limits::{COPIES_MAX, MEMBERS_MAX, PARTITIONS_MAX, REPLICAS_MAX, VALUE_BYTES_MAX};
use crate::base::{Cfg, ClusterId, LearnerId, MemberId, PartitionId, Ver};
use crate::ring::{
    HashKind, MapDelta, Member, MemberState, Params, Part, PartState, PlacementKind, ReplicaSet,
    RingMap,
};

/// Bytes of the smallest member and of the smallest row.
const MEMBER_BYTES_MIN: usize = 8 + 3 * 2 + 4 + 8 + 4 + 2;
const PART_BYTES_MIN: usize = 8 + 8 + 8 + 3 + 1 + 4;

/// Appends a whole map.
pub fn encode_map(map: &RingMap, out: &mut Vec<u8>) {
    out.put_u128(map.cluster.0);
    out.put_u32(map.generation);
    out.put_u64(map.ver.0);
    out.put_u64(map.epoch.0);
    encode_params(&map.params, out);
    out.put_u8(map.required);
    out.put_u64(map.next_mid.0);
    encode_voters(&map.voters, out);
    out.put_u64(map.voters_since.0);
    encode_members(&map.members, out);
    out.put_count(map.parts.len());
    map.parts.iter().for_each(|part| encode_part(part, out));
}

/// Reads a whole map; its invariants are checked.
///
/// Caveat: a row may name members that the map does not list. An honest map does so, too: the row
/// of a lost partition keeps its last holders after they are forgotten. So callers look members up
/// with `get` and take an unknown one for one that cannot be reached; nothing indexes by id.
pub fn decode_map(r: &mut Reader<'_>) -> Decoded<RingMap> {
    let mut map = RingMap {
        cluster: ClusterId(r.u128("cluster")?),
        generation: r.u32("generation")?,
        ver: Ver(r.u64("ver")?),
        epoch: Ver(r.u64("epoch")?),
        params: decode_params(r)?,
        required: r.u8("required")?,
        next_mid: MemberId(r.u64("next mid")?),
        voters: decode_voters(r)?,
        voters_since: Ver(r.u64("voters since")?),
        members: decode_members(r)?,
        parts: Vec::new(),
    };
    let count = r.count(PART_BYTES_MIN, "parts")?;
    if count != map.params.partitions as usize {
        return Err(DecodeError("number of parts"));
    }
    map.parts.reserve_exact(count);
    for _ in 0..count {
        map.parts.push(decode_part(r)?);
    }
    map.check_invariants().map_err(|_| DecodeError("map invariants"))?;
    Ok(map)
}

/// Appends a delta.
pub fn encode_delta(delta: &MapDelta, out: &mut Vec<u8>) {
    out.put_u128(delta.cluster.0);
    out.put_u32(delta.generation);
    out.put_u64(delta.from.0);
    out.put_u64(delta.ver.0);
    out.put_u64(delta.epoch.0);
    out.put_u8(delta.required);
    out.put_u64(delta.next_mid.0);
    encode_voters(&delta.voters, out);
    out.put_u64(delta.voters_since.0);
    out.put_u8(u8::from(delta.members.is_some()));
    if let Some(members) = &delta.members {
        encode_members(members, out);
    }
    out.put_count(delta.parts.len());
    for (pid, part) in &delta.parts {
        out.put_u32(pid.0);
        encode_part(part, out);
    }
}

/// Reads a delta; it is checked when it is applied.
pub fn decode_delta(r: &mut Reader<'_>) -> Decoded<MapDelta> {
    let mut delta = MapDelta {
        cluster: ClusterId(r.u128("cluster")?),
        generation: r.u32("generation")?,
        from: Ver(r.u64("from")?),
        ver: Ver(r.u64("ver")?),
        epoch: Ver(r.u64("epoch")?),
        required: r.u8("required")?,
        next_mid: MemberId(r.u64("next mid")?),
        voters: decode_voters(r)?,
        voters_since: Ver(r.u64("voters since")?),
        members: None,
        parts: Vec::new(),
    };
    if r.bool("some members")? {
        delta.members = Some(decode_members(r)?);
    }
    let count = r.bounded_count(4 + PART_BYTES_MIN, PARTITIONS_MAX as usize, "parts")?;
    delta.parts.reserve_exact(count);
    for _ in 0..count {
        let pid = PartitionId(r.u32("pid")?);
        if delta.parts.last().is_some_and(|(previous, _)| pid <= *previous) {
            return Err(DecodeError("order of parts"));
        }
        delta.parts.push((pid, decode_part(r)?));
    }
    Ok(delta)
}

fn encode_params(params: &Params, out: &mut Vec<u8>) {
    out.put_u32(params.partitions);
    out.put_u8(match params.hash {
        HashKind::Murmur3 => 0,
        HashKind::Crc16 => 1,
        HashKind::Integer => 2,
    });
    out.put_u32(params.seed);
    out.put_u8(match params.placement {
        PlacementKind::Balanced => 0,
        PlacementKind::Successor => 1,
    });
    out.put_u8(params.copies);
    out.put_u8(params.min_insync);
    out.put_u32(params.value_bytes_max);
    out.put_u8(u8::from(params.leases));
}

fn decode_params(r: &mut Reader<'_>) -> Decoded<Params> {
    let params = Params {
        partitions: r.u32("partitions")?,
        hash: match r.u8("hash")? {
            0 => HashKind::Murmur3,
            1 => HashKind::Crc16,
            2 => HashKind::Integer,
            _ => return Err(DecodeError("hash")),
        },
        seed: r.u32("seed")?,
        placement: match r.u8("placement")? {
            0 => PlacementKind::Balanced,
            1 => PlacementKind::Successor,
            _ => return Err(DecodeError("placement")),
        },
        copies: r.u8("copies")?,
        min_insync: r.u8("min_insync")?,
        value_bytes_max: r.u32("value_bytes_max")?,
        leases: r.bool("leases")?,
    };
    let sound = params.partitions.is_power_of_two()
        && params.partitions <= PARTITIONS_MAX
        && (1..=COPIES_MAX).contains(&usize::from(params.copies))
        && params.hash.forced_partitions().is_none_or(|forced| forced == params.partitions)
        && (1..=params.copies).contains(&params.min_insync)
        && params.value_bytes_max as usize <= VALUE_BYTES_MAX;
    if sound { Ok(params) } else { Err(DecodeError("params")) }
}

pub(super) fn encode_voters(voters: &[MemberId], out: &mut Vec<u8>) {
    out.put_count(voters.len());
    voters.iter().for_each(|mid| out.put_u64(mid.0));
}

pub(super) fn decode_voters(r: &mut Reader<'_>) -> Decoded<Vec<MemberId>> {
    let count = r.bounded_count(8, MEMBERS_MAX, "voters")?;
    let mut voters = Vec::with_capacity(count);
    for _ in 0..count {
        voters.push(MemberId(r.u64("voter")?));
    }
    Ok(voters)
}

fn encode_members(members: &BTreeMap<MemberId, Member>, out: &mut Vec<u8>) {
    out.put_count(members.len());
    for (mid, member) in members {
        out.put_u64(mid.0);
        out.put_text(&member.name);
        out.put_text(&member.addr);
        out.put_text(&member.zone);
        out.put_u32(member.weight);
        out.put_u64(member.position);
        out.put_u32(member.boot);
        out.put_u8(u8::from(member.durable));
        out.put_u8(match member.state {
            MemberState::Up => 0,
            MemberState::Down => 1,
            MemberState::Leaving => 2,
            MemberState::Away => 3,
        });
    }
}

fn decode_members(r: &mut Reader<'_>) -> Decoded<BTreeMap<MemberId, Member>> {
    let count = r.bounded_count(MEMBER_BYTES_MIN, MEMBERS_MAX, "members")?;
    let mut members = BTreeMap::new();
    let mut previous = MemberId::ZERO;
    for _ in 0..count {
        let mid = MemberId(r.u64("mid")?);
        // Zero is nobody, and a second row of a member would silently replace the first.
        if mid <= previous {
            return Err(DecodeError("order of members"));
        }
        previous = mid;
        let member = Member {
            name: r.text("name")?.to_owned(),
            addr: r.text("addr")?.to_owned(),
            zone: r.text("zone")?.to_owned(),
            weight: r.u32("weight")?,
            position: r.u64("position")?,
            boot: r.u32("boot")?,
            durable: r.bool("durable")?,
            state: match r.u8("state")? {
                0 => MemberState::Up,
                1 => MemberState::Down,
                2 => MemberState::Leaving,
                3 => MemberState::Away,
                _ => return Err(DecodeError("state")),
            },
        };
        members.insert(mid, member);
    }
    Ok(members)
}

fn encode_part(part: &Part, out: &mut Vec<u8>) {
    out.put_u64(part.cfg.0);
    out.put_u64(part.pcfg.0);
    out.put_u64(part.primary.0);
    encode_set(&part.isr, out);
    out.put_u8(part.learners.len() as u8);
    for (mid, lid) in &part.learners {
        out.put_u64(mid.0);
        out.put_u64(lid.0);
    }
    encode_set(&part.goal, out);
    out.put_u8(match part.state {
        PartState::Ok => 0,
        PartState::Stalled => 1,
        PartState::Lost => 2,
    });
    out.put_u32(part.resets);
}

fn decode_part(r: &mut Reader<'_>) -> Decoded<Part> {
    let cfg = Cfg(r.u64("cfg")?);
    let pcfg = Cfg(r.u64("pcfg")?);
    let primary = MemberId(r.u64("primary")?);
    let isr = decode_set(r)?;
    let count = usize::from(r.u8("learners")?);
    if count > REPLICAS_MAX {
        return Err(DecodeError("number of learners"));
    }
    let mut learners = Vec::with_capacity(count);
    for _ in 0..count {
        let learner = (MemberId(r.u64("learner")?), LearnerId(r.u64("lid")?));
        if learners.iter().any(|(mid, _)| *mid == learner.0) {
            return Err(DecodeError("learner"));
        }
        learners.push(learner);
    }
    Ok(Part {
        cfg,
        pcfg,
        primary,
        isr,
        learners,
        goal: decode_set(r)?,
        state: match r.u8("part state")? {
            0 => PartState::Ok,
            1 => PartState::Stalled,
            2 => PartState::Lost,
            _ => return Err(DecodeError("part state")),
        },
        resets: r.u32("resets")?,
    })
}

fn encode_set(set: &ReplicaSet, out: &mut Vec<u8>) {
    out.put_u8(set.len() as u8);
    set.iter().for_each(|mid| out.put_u64(mid.0));
}

fn decode_set(r: &mut Reader<'_>) -> Decoded<ReplicaSet> {
    let count = usize::from(r.u8("set")?);
    let mut set = ReplicaSet::new();
    for _ in 0..count {
        if !set.insert(MemberId(r.u64("set member")?)) {
            return Err(DecodeError("set member"));
        }
    }
    Ok(set)
}
