/* Sizes and offsets as Rust sees them, written by tests/c_api.rs (RINGKV_BLESS=1).
 * A change here breaks every program that was built before. */
#include <ringkv.h>

#ifdef __cplusplus
#define SAME(what, number) static_assert((what) == (number), #what)
#else
#define SAME(what, number) _Static_assert((what) == (number), #what)
#endif

SAME(sizeof(ringkv_bytes), 16);
SAME(offsetof(ringkv_bytes, data), 0);
SAME(offsetof(ringkv_bytes, len), 8);

SAME(sizeof(ringkv_pair), 32);
SAME(offsetof(ringkv_pair, key), 0);
SAME(offsetof(ringkv_pair, value), 16);

SAME(sizeof(ringkv_buf), 24);
SAME(offsetof(ringkv_buf, data), 0);
SAME(offsetof(ringkv_buf, len), 8);
SAME(offsetof(ringkv_buf, owner), 16);

SAME(sizeof(ringkv_node_options), 120);
SAME(offsetof(ringkv_node_options, size), 0);
SAME(offsetof(ringkv_node_options, flags), 4);
SAME(offsetof(ringkv_node_options, name), 8);
SAME(offsetof(ringkv_node_options, listen), 16);
SAME(offsetof(ringkv_node_options, also_listen), 24);
SAME(offsetof(ringkv_node_options, advertise), 32);
SAME(offsetof(ringkv_node_options, zone), 40);
SAME(offsetof(ringkv_node_options, join), 48);
SAME(offsetof(ringkv_node_options, position), 56);
SAME(offsetof(ringkv_node_options, memory_bytes_max), 64);
SAME(offsetof(ringkv_node_options, weight), 72);
SAME(offsetof(ringkv_node_options, partitions), 76);
SAME(offsetof(ringkv_node_options, hash), 80);
SAME(offsetof(ringkv_node_options, hash_seed), 84);
SAME(offsetof(ringkv_node_options, placement), 88);
SAME(offsetof(ringkv_node_options, copies), 92);
SAME(offsetof(ringkv_node_options, min_insync), 96);
SAME(offsetof(ringkv_node_options, value_bytes_max), 100);
SAME(offsetof(ringkv_node_options, workers), 104);
SAME(offsetof(ringkv_node_options, start_timeout_ms), 108);
SAME(offsetof(ringkv_node_options, timeout_ms), 112);
SAME(offsetof(ringkv_node_options, reserved), 116);

SAME(sizeof(ringkv_connect_options), 16);
SAME(offsetof(ringkv_connect_options, size), 0);
SAME(offsetof(ringkv_connect_options, flags), 4);
SAME(offsetof(ringkv_connect_options, timeout_ms), 8);
SAME(offsetof(ringkv_connect_options, reserved), 12);

SAME(sizeof(ringkv_read_options), 16);
SAME(offsetof(ringkv_read_options, size), 0);
SAME(offsetof(ringkv_read_options, flags), 4);
SAME(offsetof(ringkv_read_options, timeout_ms), 8);
SAME(offsetof(ringkv_read_options, lookup), 12);

SAME(sizeof(ringkv_write_options), 24);
SAME(offsetof(ringkv_write_options, size), 0);
SAME(offsetof(ringkv_write_options, flags), 4);
SAME(offsetof(ringkv_write_options, ttl_ms), 8);
SAME(offsetof(ringkv_write_options, timeout_ms), 16);
SAME(offsetof(ringkv_write_options, reserved), 20);

SAME(sizeof(ringkv_scan_options), 32);
SAME(offsetof(ringkv_scan_options, size), 0);
SAME(offsetof(ringkv_scan_options, flags), 4);
SAME(offsetof(ringkv_scan_options, prefix), 8);
SAME(offsetof(ringkv_scan_options, timeout_ms), 24);
SAME(offsetof(ringkv_scan_options, reserved), 28);

SAME(sizeof(ringkv_change_options), 32);
SAME(offsetof(ringkv_change_options, size), 0);
SAME(offsetof(ringkv_change_options, flags), 4);
SAME(offsetof(ringkv_change_options, timeout_ms), 8);
SAME(offsetof(ringkv_change_options, reserved), 12);
SAME(offsetof(ringkv_change_options, on_progress), 16);
SAME(offsetof(ringkv_change_options, user_data), 24);

SAME(sizeof(ringkv_progress), 16);
SAME(offsetof(ringkv_progress, copies_done), 0);
SAME(offsetof(ringkv_progress, copies_total), 8);

SAME(sizeof(ringkv_node_ref), 24);
SAME(offsetof(ringkv_node_ref, id), 0);
SAME(offsetof(ringkv_node_ref, name), 8);
SAME(offsetof(ringkv_node_ref, address), 16);

SAME(sizeof(ringkv_member), 128);
SAME(offsetof(ringkv_member, node), 0);
SAME(offsetof(ringkv_member, zone), 24);
SAME(offsetof(ringkv_member, position), 32);
SAME(offsetof(ringkv_member, weight), 40);
SAME(offsetof(ringkv_member, state), 44);
SAME(offsetof(ringkv_member, reachable), 48);
SAME(offsetof(ringkv_member, coordinator), 52);
SAME(offsetof(ringkv_member, primaries), 56);
SAME(offsetof(ringkv_member, copies), 60);
SAME(offsetof(ringkv_member, share), 64);
SAME(offsetof(ringkv_member, keys), 72);
SAME(offsetof(ringkv_member, bytes), 80);
SAME(offsetof(ringkv_member, keys_held), 88);
SAME(offsetof(ringkv_member, bytes_held), 96);
SAME(offsetof(ringkv_member, memory_bytes), 104);
SAME(offsetof(ringkv_member, keys_moved_in), 112);
SAME(offsetof(ringkv_member, bytes_moved_in), 120);

SAME(sizeof(ringkv_info), 112);
SAME(offsetof(ringkv_info, ring_id), 0);
SAME(offsetof(ringkv_info, version), 8);
SAME(offsetof(ringkv_info, partitions), 16);
SAME(offsetof(ringkv_info, hash), 20);
SAME(offsetof(ringkv_info, hash_seed), 24);
SAME(offsetof(ringkv_info, placement), 28);
SAME(offsetof(ringkv_info, copies), 32);
SAME(offsetof(ringkv_info, min_insync), 36);
SAME(offsetof(ringkv_info, required), 40);
SAME(offsetof(ringkv_info, value_bytes_max), 44);
SAME(offsetof(ringkv_info, keys), 48);
SAME(offsetof(ringkv_info, bytes), 56);
SAME(offsetof(ringkv_info, under_replicated), 64);
SAME(offsetof(ringkv_info, lost), 68);
SAME(offsetof(ringkv_info, moving), 72);
SAME(offsetof(ringkv_info, members_count), 88);
SAME(offsetof(ringkv_info, members), 96);
SAME(offsetof(ringkv_info, leases), 104);
SAME(offsetof(ringkv_info, reserved), 108);

SAME(sizeof(ringkv_event), 72);
SAME(offsetof(ringkv_event, size), 0);
SAME(offsetof(ringkv_event, kind), 4);
SAME(offsetof(ringkv_event, time_ms), 8);
SAME(offsetof(ringkv_event, member), 16);
SAME(offsetof(ringkv_event, partitions), 40);
SAME(offsetof(ringkv_event, done), 48);
SAME(offsetof(ringkv_event, total), 56);
SAME(offsetof(ringkv_event, text), 64);

SAME(sizeof(ringkv_events_options), 8);
SAME(offsetof(ringkv_events_options, size), 0);
SAME(offsetof(ringkv_events_options, flags), 4);

SAME(sizeof(ringkv_share), 40);
SAME(offsetof(ringkv_share, id), 0);
SAME(offsetof(ringkv_share, name), 8);
SAME(offsetof(ringkv_share, share), 16);
SAME(offsetof(ringkv_share, weight), 24);
SAME(offsetof(ringkv_share, primaries), 28);
SAME(offsetof(ringkv_share, copies), 32);
SAME(offsetof(ringkv_share, reserved), 36);

SAME(sizeof(ringkv_plan), 72);
SAME(offsetof(ringkv_plan, copies_moved), 0);
SAME(offsetof(ringkv_plan, primaries_moved), 8);
SAME(offsetof(ringkv_plan, keys), 16);
SAME(offsetof(ringkv_plan, bytes), 24);
SAME(offsetof(ringkv_plan, ideal_bytes), 32);
SAME(offsetof(ringkv_plan, before_count), 40);
SAME(offsetof(ringkv_plan, before), 48);
SAME(offsetof(ringkv_plan, after_count), 56);
SAME(offsetof(ringkv_plan, after), 64);

SAME(sizeof(ringkv_location), 48);
SAME(offsetof(ringkv_location, position), 0);
SAME(offsetof(ringkv_location, partition), 8);
SAME(offsetof(ringkv_location, reserved), 12);
SAME(offsetof(ringkv_location, holders_count), 16);
SAME(offsetof(ringkv_location, holders), 24);
SAME(offsetof(ringkv_location, hops_count), 32);
SAME(offsetof(ringkv_location, hops), 40);

int main(void) { return 0; }
