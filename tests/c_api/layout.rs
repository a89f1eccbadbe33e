//! The layout of each struct as Rust sees it, written as assertions for C.

use std::fmt::Write as _;
use std::mem::{offset_of, size_of};

use ringkv::ffi::types::*;

struct Struct {
    name: &'static str,
    size: usize,
    fields: Vec<(&'static str, usize)>,
}

macro_rules! layout {
    ($($name:ident { $($field:ident),* $(,)? })*) => {
        vec![$({
            // Names every field, so that one that is added must be added here too.
            #[allow(dead_code, unused_variables)]
            fn is_complete(value: &$name) {
                let $name { $($field),* } = value;
            }
            Struct {
                name: stringify!($name),
                size: size_of::<$name>(),
                fields: vec![$((stringify!($field), offset_of!($name, $field))),*],
            }
        }),*]
    };
}

/// A C file that compiles only if C sees the same sizes and offsets.
pub fn as_c() -> String {
    let mut text = String::from(
        "/* Sizes and offsets as Rust sees them, written by tests/c_api.rs (RINGKV_BLESS=1).\n \
         * A change here breaks every program that was built before. */\n\
         #include <ringkv.h>\n\n\
         #ifdef __cplusplus\n#define SAME(what, number) static_assert((what) == (number), #what)\n\
         #else\n#define SAME(what, number) _Static_assert((what) == (number), #what)\n#endif\n",
    );
    for Struct { name, size, fields } in structs() {
        let _ = write!(text, "\nSAME(sizeof({name}), {size});\n");
        for (field, offset) in fields {
            let _ = writeln!(text, "SAME(offsetof({name}, {field}), {offset});");
        }
    }
    text + "\nint main(void) { return 0; }\n"
}

fn structs() -> Vec<Struct> {
    layout! {
        ringkv_bytes { data, len }
        ringkv_pair { key, value }
        ringkv_buf { data, len, owner }
        ringkv_node_options {
            size, flags, name, listen, also_listen, advertise, zone, join, position,
            memory_bytes_max, weight, partitions, hash, hash_seed, placement, copies, min_insync,
            value_bytes_max, workers, start_timeout_ms, timeout_ms, reserved,
        }
        ringkv_connect_options { size, flags, timeout_ms, reserved }
        ringkv_read_options { size, flags, timeout_ms, lookup }
        ringkv_write_options { size, flags, ttl_ms, timeout_ms, reserved }
        ringkv_scan_options { size, flags, prefix, timeout_ms, reserved }
        ringkv_change_options { size, flags, timeout_ms, reserved, on_progress, user_data }
        ringkv_progress { copies_done, copies_total }
        ringkv_node_ref { id, name, address }
        ringkv_member {
            node, zone, position, weight, state, reachable, coordinator, primaries, copies, share,
            keys, bytes, keys_held, bytes_held, memory_bytes, keys_moved_in, bytes_moved_in,
        }
        ringkv_info {
            ring_id, version, partitions, hash, hash_seed, placement, copies, min_insync, required,
            value_bytes_max, keys, bytes, under_replicated, lost, moving, members_count, members,
            leases, reserved,
        }
        ringkv_event { size, kind, time_ms, member, partitions, done, total, text }
        ringkv_events_options { size, flags }
        ringkv_share { id, name, share, weight, primaries, copies, reserved }
        ringkv_plan {
            copies_moved, primaries_moved, keys, bytes, ideal_bytes, before_count, before,
            after_count, after,
        }
        ringkv_location {
            position, partition, reserved, holders_count, holders, hops_count, hops,
        }
    }
}
