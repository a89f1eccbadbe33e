//! What a ring tells about itself.

use std::ffi::c_void;

use super::convert::{Behind, buf_from, bytes, free_report};
use super::data::read_options;
use super::guard::{quietly, required, with_ring};
use super::status::ringkv_status;
use super::types::*;
use crate::node::{Location, MemberInfo, NodeRef, RingInfo};
use crate::ring::{HashKind, MemberState, PlacementKind};

/// The members, what each holds, and what is moving.
///
/// On success `*out_info` is yours: release it with `ringkv_info_free`. Any thread, side by
/// side. Blocks for as long as it takes to ask the members, each of which has a second to
/// answer.
///
/// `RINGKV_INVALID_ARGUMENT`, `RINGKV_UNAVAILABLE`, `RINGKV_TIMEOUT`, `RINGKV_CLOSED`,
/// `RINGKV_FORKED`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_ring_info(
    ring: *mut ringkv_t,
    out_info: *mut *mut ringkv_info,
) -> ringkv_status {
    with_ring(ring, |ring| {
        required(out_info, "out_info")?;
        let info = info_for_c(&ring.info()?);
        // SAFETY: `out_info` was checked above.
        unsafe { out_info.write(info) };
        Ok(())
    })
}

/// Releases a report and sets `*info` to NULL. NULL and a pointer to NULL are fine. Any thread,
/// never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_info_free(info: *mut *mut ringkv_info) {
    // SAFETY: the caller vouches that it came from `ringkv_ring_info`.
    quietly(|| unsafe { free_report(info) });
}

/// Where `key` lives, and the nodes that were asked on the way there in the lookup mode of the
/// options. The key need not exist.
///
/// `key` and `options` are borrowed for the call; NULL options stand for the defaults. On
/// success `*out_location` is yours: release it with `ringkv_location_free`. Any thread, side
/// by side. Blocks up to the deadline.
///
/// `RINGKV_INVALID_ARGUMENT`, `RINGKV_KEY_TOO_LARGE`, `RINGKV_UNAVAILABLE`, `RINGKV_TIMEOUT`,
/// `RINGKV_CLOSED`, `RINGKV_FORKED`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_locate(
    ring: *mut ringkv_t,
    key: *const c_void,
    key_len: usize,
    options: *const ringkv_read_options,
    out_location: *mut *mut ringkv_location,
) -> ringkv_status {
    with_ring(ring, |ring| {
        required(out_location, "out_location")?;
        // SAFETY: the caller vouches for the bytes and the options.
        let (key, options) = unsafe { (bytes(key, key_len, "key")?, read_options(options)?) };
        let location = location_for_c(&ring.locate(key, &options)?);
        // SAFETY: `out_location` was checked above.
        unsafe { out_location.write(location) };
        Ok(())
    })
}

/// Releases a location and sets `*location` to NULL. NULL and a pointer to NULL are fine. Any
/// thread, never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_location_free(location: *mut *mut ringkv_location) {
    // SAFETY: the caller vouches that it came from `ringkv_locate`.
    quietly(|| unsafe { free_report(location) });
}

/// Whether the ring is as it should be. `*out_ok` becomes 1 if every partition can take a read
/// and a write now and has all wanted copies in sync, otherwise 0; `*out_unwritable` the number
/// of partitions that cannot take a write; `*out_reasons` one sentence for each thing that is
/// not as it should be, each ended by a newline. A ring of fewer nodes than wanted copies is
/// one of those things.
///
/// Each of the three may be NULL. Release `*out_reasons` with `ringkv_buf_free`. Any thread,
/// side by side. Blocks as `ringkv_ring_info`. `RINGKV_UNAVAILABLE`, `RINGKV_TIMEOUT`,
/// `RINGKV_CLOSED`, `RINGKV_FORKED`: then nothing is written. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_health(
    ring: *mut ringkv_t,
    out_ok: *mut i32,
    out_unwritable: *mut u32,
    out_reasons: *mut ringkv_buf,
) -> ringkv_status {
    with_ring(ring, |ring| {
        let health = ring.health()?;
        // SAFETY: each is NULL or can be written.
        unsafe {
            if !out_ok.is_null() {
                out_ok.write(health.ok.into());
            }
            if !out_unwritable.is_null() {
                out_unwritable.write(health.unwritable);
            }
            if !out_reasons.is_null() {
                let lines: String = health.reasons.iter().map(|line| format!("{line}\n")).collect();
                out_reasons.write(buf_from(lines.into_bytes()));
            }
        }
        Ok(())
    })
}

fn info_for_c(info: &RingInfo) -> *mut ringkv_info {
    let mut behind = Behind::default();
    let ring_id = behind.text(&info.cluster.to_string());
    let members = info.members.iter().map(|member| member_for_c(member, &mut behind)).collect();
    let members = behind.pointers::<ringkv_member>(members);
    let params = &info.params;
    behind.hand_over(ringkv_info {
        ring_id,
        version: info.version,
        partitions: params.partitions,
        hash: match params.hash {
            HashKind::Murmur3 => RINGKV_HASH_MURMUR3,
            HashKind::Crc16 => RINGKV_HASH_CRC16,
            HashKind::Integer => RINGKV_HASH_INTEGER,
        },
        hash_seed: params.seed,
        placement: match params.placement {
            PlacementKind::Balanced => RINGKV_PLACEMENT_BALANCED,
            PlacementKind::Successor => RINGKV_PLACEMENT_SUCCESSOR,
        },
        copies: params.copies.into(),
        min_insync: params.min_insync.into(),
        required: info.required.into(),
        value_bytes_max: params.value_bytes_max,
        keys: info.keys,
        bytes: info.bytes,
        under_replicated: info.under_replicated,
        lost: info.lost,
        moving: (&info.moving.unwrap_or_default()).into(),
        members_count: info.members.len(),
        members,
        leases: params.leases.into(),
        reserved: 0,
    })
}

fn member_for_c(member: &MemberInfo, behind: &mut Behind) -> ringkv_member {
    ringkv_member {
        node: node_for_c(&member.node, behind),
        zone: behind.text(&member.zone),
        position: member.position,
        weight: member.weight,
        state: match member.state {
            MemberState::Up => RINGKV_MEMBER_UP,
            MemberState::Down => RINGKV_MEMBER_DOWN,
            MemberState::Leaving => RINGKV_MEMBER_LEAVING,
            MemberState::Away => RINGKV_MEMBER_AWAY,
        },
        reachable: member.reachable.into(),
        coordinator: member.coordinator.into(),
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

fn location_for_c(location: &Location) -> *mut ringkv_location {
    let mut behind = Behind::default();
    let mut nodes = |nodes: &[NodeRef]| {
        let nodes = nodes.iter().map(|node| node_for_c(node, &mut behind)).collect();
        behind.array::<ringkv_node_ref>(nodes)
    };
    let (holders, hops) = (nodes(&location.holders), nodes(&location.hops));
    behind.hand_over(ringkv_location {
        position: location.position,
        partition: location.partition.0,
        reserved: 0,
        holders_count: location.holders.len(),
        holders,
        hops_count: location.hops.len(),
        hops,
    })
}

fn node_for_c(node: &NodeRef, behind: &mut Behind) -> ringkv_node_ref {
    ringkv_node_ref {
        id: node.mid.0,
        name: behind.text(&node.name),
        address: behind.text(&node.addr),
    }
}
