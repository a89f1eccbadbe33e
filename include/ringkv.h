/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * ringkv: a distributed hash table that lives inside your program. This header is the manual.
 * It is generated from src/ffi by `make header`: change it there.
 *
 * A complete program (cc program.c -lringkv):
 *
 *     #include <ringkv.h>
 *     #include <stdio.h>
 *
 *     static int failed(const char *what)
 *     {
 *         fprintf(stderr, "%s: %s\n", what, ringkv_last_error());
 *         return 1;
 *     }
 *
 *     int main(void)
 *     {
 *         ringkv_t *node = NULL;
 *         ringkv_buf value = RINGKV_BUF_INIT;
 *         if (ringkv_node_start(NULL, &node)) return failed("start");
 *         if (ringkv_put(node, "greeting", 8, "hello", 5, NULL)) return failed("put");
 *         if (ringkv_get(node, "greeting", 8, NULL, &value)) return failed("get");
 *         printf("%s\n", value.data);
 *         ringkv_buf_free(&value);
 *         ringkv_close(&node);
 *         return 0;
 *     }
 *
 * CONCEPTS. A *node* runs in your process, with threads of its own. Nodes form a *ring*. Every key
 * has one place on the ring and several *copies* on different nodes; one of them is the *primary*,
 * which executes the operations on the key. A write is acknowledged when every copy that is in
 * sync has it, so it survives the crash of a node. A single node holds one copy only: ringkv_health
 * says so. Nodes are added and dropped while reads and writes go on. A *standby* is a node that
 * waits to be added. A *client* (ringkv_connect) uses a ring without being part of it. Put, get,
 * delete, compare-and-swap and increment of one key are linearizable; there are no transactions over
 * several keys.
 *
 * HANDLES. A ringkv_t is a node or a client, and every operation takes either. Handles are
 * recognised, not followed: NULL, a closed one and a foreign one get a status, never a crash.
 *
 * OWNERSHIP. What you pass in is borrowed until the call returns. What you get by a pointer named
 * out_... is written only on success (the exceptions say so) and is yours: a ringkv_buf until
 * ringkv_buf_free, a report until its _free function, a handle until its _close function. Never
 * use free() on it. Views (ringkv_bytes from a scan) are valid until the next call on the scan. Keys
 * and values are bytes with a length; names and addresses are NUL-terminated UTF-8.
 *
 * OPTIONS. Each options struct begins with its size, so that programs built with an older or a
 * newer header work: start from its _INIT macro. NULL stands for the defaults, and so does each
 * field that is 0 or NULL.
 *
 * ERRORS. Functions that can fail return a ringkv_status: 0 (RINGKV_OK) or a negative number. An
 * absent key is RINGKV_NOT_FOUND. ringkv_last_error has the sentence for a person, for each thread
 * its own. ringkv_status_is_retryable tells whether the same call may succeed later, and
 * ringkv_status_maybe_applied whether a failed write may have taken effect: after RINGKV_TIMEOUT
 * nobody can say whether it did. What ringkv tries again by itself takes effect once. A bug inside ringkv does
 * not end your program: the call returns RINGKV_PANIC, and so does every later one on that handle,
 * except ringkv_close.
 *
 * THREADS.
 *     from any thread, side by side             every function that takes a ringkv_t, those that
 *                                               open and close, versions, statuses, log callback
 *     one thread at a time for each handle      ringkv_scan_next, ringkv_events_next (two at once:
 *                                               RINGKV_BUSY)
 *     one thread at a time for each object      the _free functions
 *     from inside a progress callback           every function
 *     from inside the log callback              none (RINGKV_UNSUPPORTED)
 * A handle may be closed while other threads are inside calls on it: those get RINGKV_CLOSED.
 * ringkv starts one thread for each event loop of a node (1 by default) and one control thread for
 * each node; their names begin with "ringkv". A client may start one thread.
 *
 * FORK. The threads of a node do not survive a fork. In the child every call on a handle of the
 * parent gets RINGKV_FORKED; the parent goes on undisturbed. Open new handles in a child only if no
 * other thread was inside ringkv_node_start, ringkv_connect or ringkv_close at the moment of the fork.
 *
 * SIGNALS AND PROCESS STATE. ringkv installs no signal handler, blocks all signals in its own threads,
 * does not touch SIGPIPE, reads no environment variable and writes nothing to standard output. Its
 * only global setting is the log callback. The shared library stays in memory after a dlclose.
 *
 * CRASHES. A node that dies is noticed within a second, and the other copies take over. A write that
 * was acknowledged survives that. If every copy of a key has died, the key answers RINGKV_DATA_LOST
 * until somebody gives it up (ringkv_reset_lost). ringkv_health says what is wrong, ringkv_events_open
 * tells when it happens.
 *
 * SHUTDOWN. Close the scans, then the handle; free buffers and reports at any time. To take a node
 * out of a ring without losing its copies, drop it first: ringkv_drop_node, then ringkv_close.
 */


#ifndef RINGKV_H
#define RINGKV_H

#include <stddef.h>
#include <stdint.h>

/** Version of this header. */
#define RINGKV_VERSION_MAJOR 0
#define RINGKV_VERSION_MINOR 1
#define RINGKV_VERSION_PATCH 0
#define RINGKV_VERSION_STRING "0.1.0"
/** Version of this header as one number, to compare with ringkv_version_number(). */
#define RINGKV_VERSION_NUMBER \
    ((uint32_t)(RINGKV_VERSION_MAJOR << 16 | RINGKV_VERSION_MINOR << 8 | RINGKV_VERSION_PATCH))
/** The binary interface of this header, to compare with ringkv_abi_version(). */
#define RINGKV_ABI_VERSION 0

#if defined(__GNUC__) || defined(__clang__)
#define RINGKV_API __attribute__((visibility("default")))
#define RINGKV_WARN_UNUSED __attribute__((warn_unused_result))
#else
#define RINGKV_API
#define RINGKV_WARN_UNUSED
#endif

/** Room that is enough for every address and its NUL, see ringkv_address. */
#define RINGKV_ADDRESS_BYTES_MAX 256
/** Longest key. */
#define RINGKV_KEY_BYTES_MAX 4096

/** Nothing; ready for ringkv_get and for ringkv_buf_free. */
#define RINGKV_BUF_INIT { NULL, 0, NULL }
/** The defaults of each options struct. */
#define RINGKV_NODE_OPTIONS_INIT \
    { (uint32_t)sizeof(ringkv_node_options), 0, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, \
      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
#define RINGKV_CONNECT_OPTIONS_INIT { (uint32_t)sizeof(ringkv_connect_options), 0, 0, 0 }
#define RINGKV_READ_OPTIONS_INIT { (uint32_t)sizeof(ringkv_read_options), 0, 0, 0 }
#define RINGKV_WRITE_OPTIONS_INIT { (uint32_t)sizeof(ringkv_write_options), 0, 0, 0, 0 }
#define RINGKV_EVENTS_OPTIONS_INIT { (uint32_t)sizeof(ringkv_events_options), 0 }
#define RINGKV_SCAN_OPTIONS_INIT { (uint32_t)sizeof(ringkv_scan_options), 0, { NULL, 0 }, 0, 0 }
#define RINGKV_CHANGE_OPTIONS_INIT \
    { (uint32_t)sizeof(ringkv_change_options), 0, 0, 0, NULL, NULL }
/** An event to be filled by ringkv_events_next. */
#define RINGKV_EVENT_INIT \
    { (uint32_t)sizeof(ringkv_event), 0, 0, { 0, NULL, NULL }, 0, 0, 0, NULL }


/**
 * The node belongs to no ring and waits until one adds it, by `ringkv_add_node` with its
 * address.
 */
#define RINGKV_NODE_STANDBY 1

/**
 * The node holds no keys: it forwards, and may coordinate. `weight` must be 0 then.
 */
#define RINGKV_NODE_ROUTER 2

/**
 * `position` counts; otherwise the position is the hash of the name.
 */
#define RINGKV_NODE_HAS_POSITION 4

/**
 * Listen on an address that is not loopback although there is no authentication yet.
 */
#define RINGKV_NODE_ACCEPT_PUBLIC 8

/**
 * Of a created ring: reads do not rely on clocks. Each read waits for a round trip to the in-sync
 * copies; for machines whose clocks may stand still while they run on, such as virtual machines
 * that are snapshotted.
 */
#define RINGKV_NODE_NO_LEASES 16

/**
 * Keys are hashed by murmur3 x64_128, low 64 bits. The default.
 */
#define RINGKV_HASH_MURMUR3 0

/**
 * Keys are hashed like Redis Cluster does, with hash tags. The ring has 16384 partitions.
 */
#define RINGKV_HASH_CRC16 1

/**
 * The key is read as a decimal integer, modulo the number of partitions.
 */
#define RINGKV_HASH_INTEGER 2

/**
 * Exact shares by weight, minimal movement, copies on different hosts and zones. The default.
 */
#define RINGKV_PLACEMENT_BALANCED 0

/**
 * Chord's rule: the first node at or after a key's position holds it, its successors the
 * copies.
 */
#define RINGKV_PLACEMENT_SUCCESSOR 1

/**
 * Straight to the key's primary. Linearizable. The default.
 */
#define RINGKV_LOOKUP_DIRECT 0

/**
 * This handle follows redirects from node to node. Linearizable.
 */
#define RINGKV_LOOKUP_ITERATIVE 1

/**
 * The first node asked forwards to the primary. Linearizable.
 */
#define RINGKV_LOOKUP_RECURSIVE 2

/**
 * Only what the asked node itself holds; may be stale.
 */
#define RINGKV_LOOKUP_LOCAL 3

/**
 * Store only if the key is absent; otherwise `RINGKV_EXISTS`.
 */
#define RINGKV_WRITE_IF_ABSENT 1

/**
 * Leave the values out.
 */
#define RINGKV_SCAN_KEYS_ONLY 1

/**
 * Return as soon as the ring has agreed to the change, and let it move the keys afterwards.
 */
#define RINGKV_CHANGE_NO_WAIT 1

/**
 * `ringkv_drop_node`: also where fewer copies remain than `min_insync`, and a dead member at once.
 */
#define RINGKV_CHANGE_FORCE 2

/**
 * `ringkv_drop_node`: take back a drop that is under way.
 */
#define RINGKV_CHANGE_ABORT 4

/**
 * The member takes part.
 */
#define RINGKV_MEMBER_UP 0

/**
 * The ring has declared it dead.
 */
#define RINGKV_MEMBER_DOWN 1

/**
 * It is being dropped: its copies move elsewhere.
 */
#define RINGKV_MEMBER_LEAVING 2

/**
 * It has been dead for long: its copies are made elsewhere.
 */
#define RINGKV_MEMBER_AWAY 3

/**
 * A node became a member.
 */
#define RINGKV_EVENT_JOINED 1

/**
 * A member is being dropped: its copies move elsewhere.
 */
#define RINGKV_EVENT_LEAVING 2

/**
 * A member is not one any more.
 */
#define RINGKV_EVENT_LEFT 3

/**
 * A member is back, or is heard again, or is not dropped after all.
 */
#define RINGKV_EVENT_UP 4

/**
 * This node does not hear from a member. Told by nodes, not by clients.
 */
#define RINGKV_EVENT_SUSPECT 5

/**
 * A member was declared dead; its place is kept for a while.
 */
#define RINGKV_EVENT_DOWN 6

/**
 * A member has been dead for long: its copies are made elsewhere.
 */
#define RINGKV_EVENT_AWAY 7

/**
 * So many partitions have another primary.
 */
#define RINGKV_EVENT_PRIMARIES_MOVED 8

/**
 * So many partitions have fewer copies than wanted and possible.
 */
#define RINGKV_EVENT_UNDER_REPLICATED 9

/**
 * Every partition has its copies again.
 */
#define RINGKV_EVENT_RECOVERED 10

/**
 * The only copy of so many partitions is at a member that is dead: they wait for it.
 */
#define RINGKV_EVENT_STALLED 11

/**
 * So many partitions have lost all their copies: their keys answer `RINGKV_DATA_LOST`.
 */
#define RINGKV_EVENT_LOST 12

/**
 * So many lost partitions started again, empty.
 */
#define RINGKV_EVENT_RESET 13

/**
 * Another member leads the coordinator. Told by nodes, not by clients.
 */
#define RINGKV_EVENT_LEADER 14

/**
 * Other members vote in the coordinator.
 */
#define RINGKV_EVENT_VOTERS 15

/**
 * A movement goes on: `done` of `total` copies of partitions.
 */
#define RINGKV_EVENT_MOVING 16

/**
 * A movement is complete.
 */
#define RINGKV_EVENT_SETTLED 17

/**
 * This program was too slow: so many events (`partitions`) were left out.
 */
#define RINGKV_EVENT_LAGGED 18

/**
 * No messages.
 */
#define RINGKV_LOG_OFF 0

/**
 * Something failed that should not have.
 */
#define RINGKV_LOG_ERROR 1

/**
 * Something is not as it should be, and ringkv copes with it.
 */
#define RINGKV_LOG_WARN 2

/**
 * What an operator wants to know: members that come and go.
 */
#define RINGKV_LOG_INFO 3

/**
 * What a developer of ringkv wants to know.
 */
#define RINGKV_LOG_DEBUG 4

/**
 * Everything.
 */
#define RINGKV_LOG_TRACE 5

/**
 * What happens to a ring, see `ringkv_events_open`.
 */
typedef struct ringkv_events_t ringkv_events_t;

/**
 * A walk over the ring, see `ringkv_scan_open`.
 */
typedef struct ringkv_scan_t ringkv_scan_t;

/**
 * A node in this process, or a client of a ring in other processes. Every operation takes
 * either. It is a number in the shape of a pointer: a closed or foreign one is recognised,
 * never followed.
 */
typedef struct ringkv_t ringkv_t;

/**
 * What happened to a call: `RINGKV_OK`, or a negative number. -1xx is about the arguments,
 * -2xx about the key or the handle, -3xx about the ring, -4xx about input and output, -9xx is
 * a bug of ringkv. A number never changes its meaning; new ones may be added, so treat an
 * unknown one as an error that `ringkv_status_str` and `ringkv_last_error` explain.
 */
typedef int32_t ringkv_status;

/**
 * Options of `ringkv_node_start`. Start from `RINGKV_NODE_OPTIONS_INIT`; 0 and NULL are
 * defaults.
 */
typedef struct {
    /**
     * Set by `RINGKV_NODE_OPTIONS_INIT`.
     */
    uint32_t size;
    /**
     * `RINGKV_NODE_...`, or'ed.
     */
    uint32_t flags;
    /**
     * Unique in the ring; by default the address.
     */
    const char *name;
    /**
     * `host:port`, port 0 picking a free one, or `unix:/path`. By default `127.0.0.1:0`.
     */
    const char *listen;
    /**
     * Further addresses for clients, with commas between them.
     */
    const char *also_listen;
    /**
     * The address that other nodes use, if it is not the one listened on.
     */
    const char *advertise;
    /**
     * Failure domain: copies of a key avoid sharing one.
     */
    const char *zone;
    /**
     * Addresses of members of the ring to join, with commas between them. By default the node
     * creates a ring of its own.
     */
    const char *join;
    /**
     * Place on the ring, with `RINGKV_NODE_HAS_POSITION`.
     */
    uint64_t position;
    /**
     * Bytes of stored data above which writes answer `RINGKV_OUT_OF_MEMORY`; 0 is no limit.
     */
    uint64_t memory_bytes_max;
    /**
     * Share of the ring in relation to the other nodes; 0 stands for 1.
     */
    uint32_t weight;
    /**
     * Of a created ring: the number of partitions, a power of two up to 65536; 0 stands for
     * 4096.
     */
    uint32_t partitions;
    /**
     * Of a created ring: `RINGKV_HASH_...`.
     */
    int32_t hash;
    /**
     * Of a created ring: seed of the hash.
     */
    uint32_t hash_seed;
    /**
     * Of a created ring: `RINGKV_PLACEMENT_...`.
     */
    int32_t placement;
    /**
     * Of a created ring: wanted copies of each key, 1 to 7; 0 stands for 3.
     */
    uint32_t copies;
    /**
     * Of a created ring: copies that a write needs to be acknowledged, never more than there
     * are nodes; 0 stands for 2, or 1 if `copies` is 1.
     */
    uint32_t min_insync;
    /**
     * Of a created ring: longest value, up to 64 MiB; 0 stands for 16 MiB.
     */
    uint32_t value_bytes_max;
    /**
     * Event loops, one thread each, 1 to 64; 0 stands for 1.
     */
    uint32_t workers;
    /**
     * How long joining may take; 0 stands for 30,000.
     */
    uint32_t start_timeout_ms;
    /**
     * Deadline of operations that do not name their own; 0 stands for 5000.
     */
    uint32_t timeout_ms;
    /**
     * Must be 0.
     */
    uint32_t reserved;
} ringkv_node_options;

/**
 * Options of `ringkv_connect`. Start from `RINGKV_CONNECT_OPTIONS_INIT`; 0 is the default.
 */
typedef struct {
    /**
     * Set by `RINGKV_CONNECT_OPTIONS_INIT`.
     */
    uint32_t size;
    /**
     * Must be 0.
     */
    uint32_t flags;
    /**
     * Deadline of connecting, and of operations that do not name their own; 0 stands for 5000.
     */
    uint32_t timeout_ms;
    /**
     * Must be 0.
     */
    uint32_t reserved;
} ringkv_connect_options;

/**
 * Options of the calls that write. Start from `RINGKV_WRITE_OPTIONS_INIT`; 0 is the default.
 */
typedef struct {
    /**
     * Set by `RINGKV_WRITE_OPTIONS_INIT`.
     */
    uint32_t size;
    /**
     * `RINGKV_WRITE_...`, or'ed.
     */
    uint32_t flags;
    /**
     * How long the value lives; 0 is until it is deleted. A delete ignores it.
     */
    uint64_t ttl_ms;
    /**
     * Deadline; 0 stands for the handle's.
     */
    uint32_t timeout_ms;
    /**
     * Must be 0.
     */
    uint32_t reserved;
} ringkv_write_options;

/**
 * Options of the calls that read. Start from `RINGKV_READ_OPTIONS_INIT`; 0 is the default.
 */
typedef struct {
    /**
     * Set by `RINGKV_READ_OPTIONS_INIT`.
     */
    uint32_t size;
    /**
     * Must be 0.
     */
    uint32_t flags;
    /**
     * Deadline; 0 stands for the handle's.
     */
    uint32_t timeout_ms;
    /**
     * `RINGKV_LOOKUP_...`.
     */
    int32_t lookup;
} ringkv_read_options;

/**
 * Bytes that you own: release them with `ringkv_buf_free`, never with `free`. After the last
 * byte stands a NUL that `len` does not count, so a value that is text can be printed as it
 * is.
 */
typedef struct {
    /**
     * The bytes; NULL in an empty `RINGKV_BUF_INIT`.
     */
    char *data;
    /**
     * Length in bytes, without the NUL.
     */
    size_t len;
    /**
     * Belongs to the library: leave it alone.
     */
    void *owner;
} ringkv_buf;

/**
 * Bytes that somebody else owns: a key or a value, binary, not NUL-terminated.
 */
typedef struct {
    /**
     * May be NULL if `len` is 0.
     */
    const void *data;
    /**
     * Length in bytes.
     */
    size_t len;
} ringkv_bytes;

/**
 * A key and the value to store under it.
 */
typedef struct {
    /**
     * 1 to 4096 bytes.
     */
    ringkv_bytes key;
    /**
     * Up to the ring's limit, 16 MiB unless it was created with another one. May be empty.
     */
    ringkv_bytes value;
} ringkv_pair;

/**
 * Options of `ringkv_scan_open`. Start from `RINGKV_SCAN_OPTIONS_INIT`; 0 is the default.
 */
typedef struct {
    /**
     * Set by `RINGKV_SCAN_OPTIONS_INIT`.
     */
    uint32_t size;
    /**
     * `RINGKV_SCAN_...`, or'ed.
     */
    uint32_t flags;
    /**
     * Only keys that begin with these bytes.
     */
    ringkv_bytes prefix;
    /**
     * Deadline of each `ringkv_scan_next`; 0 stands for the handle's.
     */
    uint32_t timeout_ms;
    /**
     * Must be 0.
     */
    uint32_t reserved;
} ringkv_scan_options;

/**
 * How far a movement of keys between nodes has come.
 */
typedef struct {
    /**
     * Copies of partitions that are where they should be.
     */
    uint64_t copies_done;
    /**
     * Copies of partitions that had to move when the change was agreed, and those done.
     */
    uint64_t copies_total;
} ringkv_progress;

/**
 * Called about every 50 ms on the thread that waits in `ringkv_add_node` or
 * `ringkv_drop_node`. Return 0 to go on waiting; anything else ends the waiting with
 * `RINGKV_ABORTED`, while the ring goes on with the movement. It may call ringkv, but must not
 * throw or `longjmp` out.
 */
typedef int32_t (*ringkv_progress_cb)(void *user_data, const ringkv_progress *progress);

/**
 * Options of `ringkv_add_node` and `ringkv_drop_node`. Start from
 * `RINGKV_CHANGE_OPTIONS_INIT`.
 */
typedef struct {
    /**
     * Set by `RINGKV_CHANGE_OPTIONS_INIT`.
     */
    uint32_t size;
    /**
     * `RINGKV_CHANGE_...`, or'ed.
     */
    uint32_t flags;
    /**
     * How long to wait for the movement; 0 stands for ten minutes.
     */
    uint32_t timeout_ms;
    /**
     * Must be 0.
     */
    uint32_t reserved;
    /**
     * Called while waiting; NULL is nobody.
     */
    ringkv_progress_cb on_progress;
    /**
     * Handed to `on_progress`.
     */
    void *user_data;
} ringkv_change_options;

/**
 * Options of `ringkv_events_open`. Start from `RINGKV_EVENTS_OPTIONS_INIT`.
 */
typedef struct {
    /**
     * Set by `RINGKV_EVENTS_OPTIONS_INIT`.
     */
    uint32_t size;
    /**
     * Must be 0.
     */
    uint32_t flags;
} ringkv_events_options;

/**
 * A member as others refer to it.
 */
typedef struct {
    /**
     * One boot of one node; never used twice in a ring.
     */
    uint64_t id;
    /**
     * Unique in the ring.
     */
    const char *name;
    /**
     * Where it listens.
     */
    const char *address;
} ringkv_node_ref;

/**
 * Something that happened to a ring. Start from `RINGKV_EVENT_INIT`. The texts are views: valid
 * until the next call on the `ringkv_events_t`. New kinds may be added.
 */
typedef struct {
    /**
     * Set by `RINGKV_EVENT_INIT`: how much of the struct is written.
     */
    uint32_t size;
    /**
     * `RINGKV_EVENT_...`.
     */
    int32_t kind;
    /**
     * When it was noticed, in milliseconds since 1970.
     */
    uint64_t time_ms;
    /**
     * The member that it is about; id 0 and empty texts if it is about none.
     */
    ringkv_node_ref member;
    /**
     * How many partitions it is about.
     */
    uint64_t partitions;
    /**
     * Of a movement: copies of partitions that have moved.
     */
    uint64_t done;
    /**
     * Of a movement: copies that had to move since it began.
     */
    uint64_t total;
    /**
     * The event as a sentence for a person.
     */
    const char *text;
} ringkv_event;

/**
 * What one member would hold. Later versions may append fields.
 */
typedef struct {
    /**
     * The member; 0 for a node that is not one yet.
     */
    uint64_t id;
    /**
     * Its name.
     */
    const char *name;
    /**
     * Its part of all copies, 0 to 1.
     */
    double share;
    /**
     * Share it should have in relation to the others.
     */
    uint32_t weight;
    /**
     * Partitions whose operations it executes.
     */
    uint32_t primaries;
    /**
     * Copies of partitions.
     */
    uint32_t copies;
    /**
     * Always 0.
     */
    uint32_t reserved;
} ringkv_share;

/**
 * What a change of the members would move. Everything in it lives until `ringkv_plan_free`. Later
 * versions may append fields.
 */
typedef struct {
    /**
     * Copies of partitions that would have to be made.
     */
    uint64_t copies_moved;
    /**
     * Partitions whose operations another member would execute.
     */
    uint64_t primaries_moved;
    /**
     * Keys in the copies to be made.
     */
    uint64_t keys;
    /**
     * Bytes in the copies to be made.
     */
    uint64_t bytes;
    /**
     * The least bytes that an even load would cost.
     */
    uint64_t ideal_bytes;
    /**
     * Number of members now.
     */
    size_t before_count;
    /**
     * What they hold now.
     */
    const ringkv_share *const *before;
    /**
     * Number of entries in `after`.
     */
    size_t after_count;
    /**
     * What they would hold; a dropped member is left out or holds nothing.
     */
    const ringkv_share *const *after;
} ringkv_plan;

/**
 * One member of the ring and what it holds. Later versions may append fields.
 */
typedef struct {
    /**
     * Id, name, address.
     */
    ringkv_node_ref node;
    /**
     * Failure domain; empty if none was given.
     */
    const char *zone;
    /**
     * Place on the ring.
     */
    uint64_t position;
    /**
     * Share it should have in relation to the others.
     */
    uint32_t weight;
    /**
     * `RINGKV_MEMBER_...`.
     */
    int32_t state;
    /**
     * 1 if it answered just now; otherwise 0, and the counts below are 0.
     */
    int32_t reachable;
    /**
     * 1 if it runs the coordinator.
     */
    int32_t coordinator;
    /**
     * Partitions whose operations it executes.
     */
    uint32_t primaries;
    /**
     * Copies of partitions that it holds in sync.
     */
    uint32_t copies;
    /**
     * Its part of all in-sync copies, 0 to 1.
     */
    double share;
    /**
     * Keys of the partitions that it is primary of.
     */
    uint64_t keys;
    /**
     * Bytes of those keys and their values.
     */
    uint64_t bytes;
    /**
     * Keys that it holds in all copies.
     */
    uint64_t keys_held;
    /**
     * Bytes of those keys and their values.
     */
    uint64_t bytes_held;
    /**
     * Memory that its tables take.
     */
    uint64_t memory_bytes;
    /**
     * Keys received in movements since it started.
     */
    uint64_t keys_moved_in;
    /**
     * Bytes received in movements since it started.
     */
    uint64_t bytes_moved_in;
} ringkv_member;

/**
 * The ring as a whole. Everything in it lives until `ringkv_info_free`. Later versions may
 * append fields.
 */
typedef struct {
    /**
     * Identity of the ring, 32 hexadecimal digits.
     */
    const char *ring_id;
    /**
     * Version of the ring map; grows with every change.
     */
    uint64_t version;
    /**
     * Number of partitions.
     */
    uint32_t partitions;
    /**
     * `RINGKV_HASH_...`.
     */
    int32_t hash;
    /**
     * Seed of the hash.
     */
    uint32_t hash_seed;
    /**
     * `RINGKV_PLACEMENT_...`.
     */
    int32_t placement;
    /**
     * Wanted copies of each key.
     */
    uint32_t copies;
    /**
     * Copies that a write should need.
     */
    uint32_t min_insync;
    /**
     * Copies that a write needs now, with as many members as there are.
     */
    uint32_t required;
    /**
     * Longest value.
     */
    uint32_t value_bytes_max;
    /**
     * Keys in the ring, each counted once.
     */
    uint64_t keys;
    /**
     * Bytes of keys and values, each counted once.
     */
    uint64_t bytes;
    /**
     * Partitions with fewer in-sync copies than wanted and possible.
     */
    uint32_t under_replicated;
    /**
     * Partitions whose copies are all lost.
     */
    uint32_t lost;
    /**
     * The movement under way; both 0 if nothing moves.
     */
    ringkv_progress moving;
    /**
     * Number of members.
     */
    size_t members_count;
    /**
     * The members in the order of their positions: the next one is the successor, and the
     * first that of the last.
     */
    const ringkv_member *const *members;
    /**
     * 1 if reads are answered under leases, 0 with `RINGKV_NODE_NO_LEASES`.
     */
    int32_t leases;
    /**
     * Always 0.
     */
    uint32_t reserved;
} ringkv_info;

/**
 * Where a key lives. Everything in it lives until `ringkv_location_free`. Later versions may
 * append fields.
 */
typedef struct {
    /**
     * The key's place on the circle of 2^64 positions.
     */
    uint64_t position;
    /**
     * The key's partition.
     */
    uint32_t partition;
    /**
     * Always 0.
     */
    uint32_t reserved;
    /**
     * Number of holders.
     */
    size_t holders_count;
    /**
     * The nodes with an in-sync copy, the primary first.
     */
    const ringkv_node_ref *holders;
    /**
     * Number of hops.
     */
    size_t hops_count;
    /**
     * The nodes that were asked on the way, in order; the last one answered.
     */
    const ringkv_node_ref *hops;
} ringkv_location;

/**
 * Called with each message of at least the level asked for, on the thread that it happens on,
 * mostly one of ringkv's own: be quick, do not block, do not call ringkv (it answers
 * `RINGKV_UNSUPPORTED`), do not throw. The texts are UTF-8, NUL-terminated and yours until you
 * return.
 */
typedef void (*ringkv_log_cb)(void *user_data,
                              int32_t level,
                              const char *target,
                              const char *message);

/**
 * The operation took effect.
 */
#define RINGKV_OK 0

/**
 * An argument is not of the form that the function asks for.
 */
#define RINGKV_INVALID_ARGUMENT -101

/**
 * The key is longer than 4 KiB, or empty.
 */
#define RINGKV_KEY_TOO_LARGE -102

/**
 * The value is longer than the ring's limit.
 */
#define RINGKV_VALUE_TOO_LARGE -103

/**
 * The caller's buffer is too small; the needed length was returned.
 */
#define RINGKV_BUFFER_TOO_SMALL -104

/**
 * An option or a call that this version of the library does not know.
 */
#define RINGKV_UNSUPPORTED -105

/**
 * No such key.
 */
#define RINGKV_NOT_FOUND -201

/**
 * The key is there already and the write was conditional on its absence.
 */
#define RINGKV_EXISTS -202

/**
 * The handle is closed.
 */
#define RINGKV_CLOSED -203

/**
 * The handle was opened before a fork, by the parent process.
 */
#define RINGKV_FORKED -204

/**
 * The key's value is not the expected one. It was not changed.
 */
#define RINGKV_MISMATCH -205

/**
 * The key's value is not a whole number of 64 bits as decimal text. It was not changed.
 */
#define RINGKV_NOT_A_NUMBER -206

/**
 * The sum would not be a number of 64 bits. The value was not changed.
 */
#define RINGKV_OVERFLOW -207

/**
 * The deadline passed. A write may or may not have taken effect.
 */
#define RINGKV_TIMEOUT -301

/**
 * Nobody who could execute the operation can be reached. It was not executed.
 */
#define RINGKV_UNAVAILABLE -302

/**
 * Fewer in-sync copies than `min_insync`. The write was not executed.
 */
#define RINGKV_NOT_ENOUGH_REPLICAS -303

/**
 * A bounded queue is full. The operation was not executed: slow down and try again.
 */
#define RINGKV_BUSY -304

/**
 * Every copy of the key's partition died. Nothing is known about the key.
 */
#define RINGKV_DATA_LOST -305

/**
 * The ring refuses the change; the message says why and what would be needed.
 */
#define RINGKV_REFUSED -306

/**
 * The node belongs to another ring, or the ring is not the one that was meant.
 */
#define RINGKV_WRONG_RING -307

/**
 * The node's memory limit is reached. The write was not executed.
 */
#define RINGKV_OUT_OF_MEMORY -308

/**
 * No member of that name or address.
 */
#define RINGKV_NO_SUCH_MEMBER -309

/**
 * The change of the ring was aborted before it was complete.
 */
#define RINGKV_ABORTED -310

/**
 * The operating system refused an input or output operation.
 */
#define RINGKV_IO -401

/**
 * The address cannot be reached.
 */
#define RINGKV_CONNECT -402

/**
 * The address is in use by another program.
 */
#define RINGKV_ADDRESS_IN_USE -403

/**
 * The peer does not speak our protocol, or breaks it.
 */
#define RINGKV_PROTOCOL -404

/**
 * The host name cannot be resolved.
 */
#define RINGKV_UNKNOWN_HOST -405

/**
 * The connection broke after a write was sent. It may or may not have taken effect.
 */
#define RINGKV_CONNECTION_LOST -406

/**
 * A bug of the library: please report it with its message.
 */
#define RINGKV_INTERNAL -901

/**
 * A panic was caught inside the library. The handle is no longer usable.
 */
#define RINGKV_PANIC -902

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Starts a node in this process. Unless the options say otherwise it listens on a free port of
 * 127.0.0.1 and creates a ring of which it is the only member.
 *
 * `options` and the texts in it are borrowed for the call; NULL stands for the defaults. On
 * success `*out_node` is yours: end it with `ringkv_close`. Any thread. Blocks until the node
 * listens and, if it joins a ring, until the ring has admitted it.
 *
 * `RINGKV_INVALID_ARGUMENT`, `RINGKV_UNSUPPORTED`, `RINGKV_ADDRESS_IN_USE`,
 * `RINGKV_UNKNOWN_HOST`, `RINGKV_REFUSED`, `RINGKV_WRONG_RING`, `RINGKV_CONNECT`,
 * `RINGKV_TIMEOUT`, `RINGKV_IO`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_node_start(const ringkv_node_options *options,
                                ringkv_t **out_node);

/**
 * Connects to a ring whose nodes run in other processes (or in this one). `addresses` names
 * one member or several, with commas between them; the first that answers is enough, the
 * others are learnt from it.
 *
 * `addresses` and `options` are borrowed for the call; NULL options stand for the defaults. On
 * success `*out_client` is yours: end it with `ringkv_close`. Any thread. Blocks up to the
 * timeout.
 *
 * `RINGKV_INVALID_ARGUMENT`, `RINGKV_UNSUPPORTED`, `RINGKV_UNKNOWN_HOST`, `RINGKV_CONNECT`,
 * `RINGKV_PROTOCOL`, `RINGKV_TIMEOUT`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_connect(const char *addresses,
                             const ringkv_connect_options *options,
                             ringkv_t **out_client);

/**
 * Stops the node or closes the connections, and sets `*handle` to NULL. A node that stops
 * without being dropped first takes its copies with it.
 *
 * Other threads may be inside calls on the handle: those end with `RINGKV_CLOSED`, and so does
 * every later call with a copy of it, for ever. NULL, a pointer to NULL, and a handle that is
 * closed already are fine. In a forked child it sets the pointer to NULL and does nothing
 * else. Any thread. Blocks until the node's threads have ended. Since 0.1.
 */
RINGKV_API void ringkv_close(ringkv_t **handle);

/**
 * Writes the address that the node listens on, or the first address that the client was given,
 * and a NUL to `buf`, which has room for `cap` bytes; `RINGKV_ADDRESS_BYTES_MAX` is always
 * enough. `*out_len` becomes its length without the NUL, also with `RINGKV_BUFFER_TOO_SMALL`;
 * it may be NULL.
 *
 * Any thread, side by side. Does not block. `RINGKV_INVALID_ARGUMENT`,
 * `RINGKV_BUFFER_TOO_SMALL`, `RINGKV_CLOSED`, `RINGKV_FORKED`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_address(ringkv_t *ring,
                             char *buf,
                             size_t cap,
                             size_t *out_len);

/**
 * The version of the library that runs, such as "0.1.0". Any thread, never blocks. Since 0.1.
 */
RINGKV_API const char *ringkv_version(void);

/**
 * The version of the library that runs as a number to compare with `RINGKV_VERSION_NUMBER`,
 * which is the version of the header. Any thread, never blocks. Since 0.1.
 */
RINGKV_API uint32_t ringkv_version_number(void);

/**
 * The number of the binary interface of the library that runs: the one in its soname, and
 * `RINGKV_ABI_VERSION` of the header. Programs built for another number do not work with it.
 * Any thread, never blocks. Since 0.1.
 */
RINGKV_API uint32_t ringkv_abi_version(void);

/**
 * Stores `value` under `key`, replacing what was there.
 *
 * Everything is borrowed for the call; NULL options stand for the defaults. Any thread, side
 * by side. Blocks until every in-sync copy has the value, up to the deadline. After
 * `RINGKV_TIMEOUT` and `RINGKV_CONNECTION_LOST` the value may or may not be stored, or may yet
 * be (see `ringkv_status_maybe_applied`); after every other failure it is not.
 *
 * `RINGKV_INVALID_ARGUMENT`, `RINGKV_KEY_TOO_LARGE`, `RINGKV_VALUE_TOO_LARGE`, `RINGKV_EXISTS`
 * (with `RINGKV_WRITE_IF_ABSENT`), `RINGKV_OUT_OF_MEMORY`, `RINGKV_NOT_ENOUGH_REPLICAS`,
 * `RINGKV_UNAVAILABLE`, `RINGKV_BUSY`, `RINGKV_DATA_LOST`, `RINGKV_TIMEOUT`,
 * `RINGKV_CONNECTION_LOST`, `RINGKV_CLOSED`, `RINGKV_FORKED`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_put(ringkv_t *ring,
                         const void *key,
                         size_t key_len,
                         const void *value,
                         size_t value_len,
                         const ringkv_write_options *options);

/**
 * The value of `key`, in memory of its own.
 *
 * Everything passed in is borrowed for the call; NULL options stand for the defaults. On
 * success `*out_value` is yours: release it with `ringkv_buf_free`. It is overwritten without
 * being looked at, so release what it held before. Any thread, side by side. Blocks up to the
 * deadline, and not at all when this node holds the key.
 *
 * `RINGKV_NOT_FOUND`, `RINGKV_INVALID_ARGUMENT`, `RINGKV_KEY_TOO_LARGE`, `RINGKV_UNAVAILABLE`,
 * `RINGKV_BUSY`, `RINGKV_DATA_LOST`, `RINGKV_TIMEOUT`, `RINGKV_CONNECTION_LOST`,
 * `RINGKV_CLOSED`, `RINGKV_FORKED`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_get(ringkv_t *ring,
                         const void *key,
                         size_t key_len,
                         const ringkv_read_options *options,
                         ringkv_buf *out_value);

/**
 * The value of `key`, written to `buf`, which has room for `cap` bytes. `*out_len` becomes the
 * length of the value, also with `RINGKV_BUFFER_TOO_SMALL`: then nothing is written to `buf`.
 * No NUL is added. `buf` may be NULL if `cap` is 0. Otherwise as `ringkv_get`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_get_into(ringkv_t *ring,
                              const void *key,
                              size_t key_len,
                              const ringkv_read_options *options,
                              void *buf,
                              size_t cap,
                              size_t *out_len);

/**
 * Removes `key`. `RINGKV_OK` if it was there, `RINGKV_NOT_FOUND` if not.
 *
 * Otherwise as `ringkv_put`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_delete(ringkv_t *ring,
                            const void *key,
                            size_t key_len,
                            const ringkv_write_options *options);

/**
 * Stores `value` under `key` if the key has the `expected` value; if `expected` is NULL, if the
 * key is absent (an empty value is expected by a pointer that is not NULL and length 0).
 * `RINGKV_MISMATCH` if the key has another value, or one at all: then nothing was changed.
 *
 * A call that ringkv has to try again takes effect once. `RINGKV_WRITE_IF_ABSENT` has no meaning
 * here. Otherwise as `ringkv_put`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_cas(ringkv_t *ring,
                         const void *key,
                         size_t key_len,
                         const void *expected,
                         size_t expected_len,
                         const void *value,
                         size_t value_len,
                         const ringkv_write_options *options);

/**
 * Adds `delta` to the value of `key`, which must be a whole number as decimal text, in the range
 * of `int64_t`; an absent key counts as 0. `*out_sum`, which may be NULL, becomes the sum.
 *
 * A call that ringkv has to try again counts once. A time to live in the options is that of a key
 * that was absent; one that was there keeps its own. `RINGKV_NOT_A_NUMBER`, `RINGKV_OVERFLOW`, and
 * otherwise as `ringkv_put`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_incr(ringkv_t *ring,
                          const void *key,
                          size_t key_len,
                          int64_t delta,
                          const ringkv_write_options *options,
                          int64_t *out_sum);

/**
 * Releases the bytes and makes `*buf` empty. NULL and an empty one are fine. Any thread, never
 * blocks. Since 0.1.
 */
RINGKV_API void ringkv_buf_free(ringkv_buf *buf);

/**
 * Stores `count` pairs, pipelined: much faster than one at a time, not atomic.
 *
 * `out_statuses` (NULL, or room for `count`) tells for each pair what happened to it, also
 * when the whole call fails. The status returned is the first failure among them, `RINGKV_OK`
 * if there was none. Otherwise as `ringkv_put`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_put_many(ringkv_t *ring,
                              const ringkv_pair *pairs,
                              size_t count,
                              const ringkv_write_options *options,
                              ringkv_status *out_statuses);

/**
 * The values of `count` keys, pipelined: much faster than one at a time.
 *
 * `out_values` has room for `count`; each is written, with an empty `RINGKV_BUF_INIT` where
 * there is no value. Release each with `ringkv_buf_free`, which is harmless for the empty
 * ones. `out_statuses` (NULL, or room for `count`) tells for each key `RINGKV_OK`,
 * `RINGKV_NOT_FOUND` or what failed. The status returned is the first failure among them; that
 * a key is not there is none. Otherwise as `ringkv_get`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_get_many(ringkv_t *ring,
                              const ringkv_bytes *keys,
                              size_t count,
                              const ringkv_read_options *options,
                              ringkv_buf *out_values,
                              ringkv_status *out_statuses);

/**
 * Removes `count` keys, pipelined: much faster than one at a time, not atomic.
 *
 * `out_statuses` (NULL, or room for `count`) tells for each key `RINGKV_OK`,
 * `RINGKV_NOT_FOUND` or what failed. The status returned is the first failure among them; that
 * a key is not there is none. Otherwise as `ringkv_delete`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_delete_many(ringkv_t *ring,
                                 const ringkv_bytes *keys,
                                 size_t count,
                                 const ringkv_write_options *options,
                                 ringkv_status *out_statuses);

/**
 * Starts a walk over the ring. Every key that is there during the whole walk is seen at least
 * once; a key that is written meanwhile may be seen or not, and rarely twice. There is no
 * order.
 *
 * `options` and the prefix in it are borrowed for the call; NULL stands for the defaults. On
 * success `*out_scan` is yours: end it with `ringkv_scan_close`. Any thread. Does not block.
 *
 * `RINGKV_KEY_TOO_LARGE` for a prefix of more than 4 KiB, `RINGKV_INVALID_ARGUMENT`,
 * `RINGKV_UNSUPPORTED`, `RINGKV_CLOSED`, `RINGKV_FORKED`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_scan_open(ringkv_t *ring,
                               const ringkv_scan_options *options,
                               ringkv_scan_t **out_scan);

/**
 * The next key and its value; `RINGKV_NOT_FOUND` at the end, as often as you ask.
 *
 * `*out_key` and `*out_value` are views: they are valid until the next call on this scan, also
 * `ringkv_scan_close`. `out_value` may be NULL. After another failure the same item may be
 * asked for again. One thread at a time for each scan; two at once get `RINGKV_BUSY`. Blocks
 * up to the deadline, for one item in some hundreds.
 *
 * `RINGKV_NOT_FOUND`, `RINGKV_INVALID_ARGUMENT`, `RINGKV_UNAVAILABLE`, `RINGKV_BUSY`,
 * `RINGKV_DATA_LOST`, `RINGKV_TIMEOUT`, `RINGKV_CLOSED` (also when the ring handle is closed),
 * `RINGKV_FORKED`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_scan_next(ringkv_scan_t *scan,
                               ringkv_bytes *out_key,
                               ringkv_bytes *out_value);

/**
 * Ends a walk and sets `*scan` to NULL. NULL, a pointer to NULL, and a scan that is closed
 * already are fine. The scans of a ring handle must be closed too, before or after the handle.
 * Any thread, never blocks. Since 0.1.
 */
RINGKV_API void ringkv_scan_close(ringkv_scan_t **scan);

/**
 * Adds the standby node at `address` to the ring. Reads and writes go on meanwhile.
 *
 * `address` and `options` are borrowed for the call; NULL options stand for the defaults. Any
 * thread, side by side with everything. Blocks until the node's share has moved to it, unless
 * `RINGKV_CHANGE_NO_WAIT`. After `RINGKV_TIMEOUT`, and after
 * `RINGKV_ABORTED` by a callback, the change goes on in the ring; `RINGKV_ABORTED` is also the
 * answer if the node dies or leaves the ring before it has its share.
 *
 * `RINGKV_INVALID_ARGUMENT`, `RINGKV_CONNECT`, `RINGKV_UNKNOWN_HOST`, `RINGKV_REFUSED`,
 * `RINGKV_WRONG_RING` (it belongs to another ring), `RINGKV_UNAVAILABLE`, `RINGKV_TIMEOUT`,
 * `RINGKV_ABORTED`, `RINGKV_CLOSED`, `RINGKV_FORKED`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_add_node(ringkv_t *ring,
                              const char *address,
                              const ringkv_change_options *options);

/**
 * Drops a member, given by name or by address: moves its copies to the others, then lets it
 * go. Its process goes on as an empty standby. Reads and writes go on meanwhile.
 *
 * `RINGKV_REFUSED` if fewer living nodes than `min_insync` would remain, or if the member is
 * dead and has the only copy of something: the sentence says what would be needed.
 * `RINGKV_CHANGE_FORCE` drops it all the same, and forgets a member that is dead at once: what it
 * had the only copy of is lost then (`ringkv_reset_lost`). The last living node that holds data
 * stays in any case.
 *
 * With `RINGKV_CHANGE_ABORT` the call takes back a drop of that member that is under way: it
 * stays, and what has moved moves back. Whoever waits for the drop gets `RINGKV_ABORTED`.
 *
 * Otherwise as `ringkv_add_node`, and `RINGKV_NO_SUCH_MEMBER`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_drop_node(ringkv_t *ring,
                               const char *name_or_address,
                               const ringkv_change_options *options);

/**
 * Lets every partition whose copies are all lost start again, empty; `*out_count`, which may be
 * NULL, becomes how many. Until then the operations on their keys answer `RINGKV_DATA_LOST`.
 * What they held is gone for good: so the ring never does this by itself.
 *
 * `timeout_ms` 0 stands for ten minutes. Any thread, side by side with everything. Blocks until
 * the ring has agreed to it.
 *
 * `RINGKV_INVALID_ARGUMENT`, `RINGKV_REFUSED` (no node is up that could hold a partition),
 * `RINGKV_UNAVAILABLE`, `RINGKV_TIMEOUT`, `RINGKV_CLOSED`, `RINGKV_FORKED`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_reset_lost(ringkv_t *ring,
                                uint32_t timeout_ms,
                                uint32_t *out_count);

/**
 * Starts to collect what happens to the ring from now on: members that come, go and die,
 * partitions that move, are lost or recover. A node tells at once what it hears; a client looks
 * five times a second, while you wait in `ringkv_events_next`. What happens in swarms (4,096
 * primaries that move) is one event with a count. At most 1,024 events are kept for you; what does
 * not fit is counted by `RINGKV_EVENT_LAGGED`.
 *
 * `options` is borrowed for the call; NULL stands for the defaults. On success `*out_events` is
 * yours: end it with `ringkv_events_close`. Any thread. Does not block.
 *
 * `RINGKV_INVALID_ARGUMENT`, `RINGKV_UNSUPPORTED`, `RINGKV_BUSY` (too many are open),
 * `RINGKV_CLOSED`, `RINGKV_FORKED`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_events_open(ringkv_t *ring,
                                 const ringkv_events_options *options,
                                 ringkv_events_t **out_events);

/**
 * The next event; `RINGKV_TIMEOUT` if nothing happens for `timeout_ms`. With 0 it does not wait,
 * with `UINT32_MAX` for ever.
 *
 * `*out_event` has to begin with its size (`RINGKV_EVENT_INIT`); its texts are views, valid until
 * the next call on these events. One thread at a time for each handle; two at once get
 * `RINGKV_BUSY`.
 *
 * `RINGKV_TIMEOUT`, `RINGKV_INVALID_ARGUMENT`, `RINGKV_BUSY`, `RINGKV_CLOSED` (also when the ring
 * handle is closed), `RINGKV_FORKED`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_events_next(ringkv_events_t *events,
                                 ringkv_event *out_event,
                                 uint32_t timeout_ms);

/**
 * Ends it and sets `*events` to NULL. NULL, a pointer to NULL, and one that is closed already are
 * fine. A thread that waits in `ringkv_events_next` gets `RINGKV_CLOSED`. Any thread, never
 * blocks. Since 0.1.
 */
RINGKV_API void ringkv_events_close(ringkv_events_t **events);

/**
 * What adding a node would move. It need not run yet: `address` is where it will listen, and
 * `options` are those it will be started with (the name, the weight and `RINGKV_NODE_ROUTER`
 * count).
 *
 * Everything passed in is borrowed for the call; NULL options stand for the defaults. On
 * success `*out_plan` is yours: release it with `ringkv_plan_free`. Any thread, side by side.
 * Blocks as `ringkv_ring_info`. The ring may change meanwhile, so it is a forecast.
 *
 * `RINGKV_INVALID_ARGUMENT`, `RINGKV_UNSUPPORTED`, `RINGKV_UNAVAILABLE`, `RINGKV_TIMEOUT`,
 * `RINGKV_CLOSED`, `RINGKV_FORKED`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_plan_add(ringkv_t *ring,
                              const char *address,
                              const ringkv_node_options *options,
                              ringkv_plan **out_plan);

/**
 * What dropping a member, given by name or by address, would move. `RINGKV_NO_SUCH_MEMBER` and
 * otherwise as `ringkv_plan_add`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_plan_drop(ringkv_t *ring,
                               const char *name_or_address,
                               ringkv_plan **out_plan);

/**
 * Releases a plan and sets `*plan` to NULL. NULL and a pointer to NULL are fine. Any thread,
 * never blocks. Since 0.1.
 */
RINGKV_API void ringkv_plan_free(ringkv_plan **plan);

/**
 * The members, what each holds, and what is moving.
 *
 * On success `*out_info` is yours: release it with `ringkv_info_free`. Any thread, side by
 * side. Blocks for as long as it takes to ask the members, each of which has a second to
 * answer.
 *
 * `RINGKV_INVALID_ARGUMENT`, `RINGKV_UNAVAILABLE`, `RINGKV_TIMEOUT`, `RINGKV_CLOSED`,
 * `RINGKV_FORKED`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_ring_info(ringkv_t *ring,
                               ringkv_info **out_info);

/**
 * Releases a report and sets `*info` to NULL. NULL and a pointer to NULL are fine. Any thread,
 * never blocks. Since 0.1.
 */
RINGKV_API void ringkv_info_free(ringkv_info **info);

/**
 * Where `key` lives, and the nodes that were asked on the way there in the lookup mode of the
 * options. The key need not exist.
 *
 * `key` and `options` are borrowed for the call; NULL options stand for the defaults. On
 * success `*out_location` is yours: release it with `ringkv_location_free`. Any thread, side
 * by side. Blocks up to the deadline.
 *
 * `RINGKV_INVALID_ARGUMENT`, `RINGKV_KEY_TOO_LARGE`, `RINGKV_UNAVAILABLE`, `RINGKV_TIMEOUT`,
 * `RINGKV_CLOSED`, `RINGKV_FORKED`. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_locate(ringkv_t *ring,
                            const void *key,
                            size_t key_len,
                            const ringkv_read_options *options,
                            ringkv_location **out_location);

/**
 * Releases a location and sets `*location` to NULL. NULL and a pointer to NULL are fine. Any
 * thread, never blocks. Since 0.1.
 */
RINGKV_API void ringkv_location_free(ringkv_location **location);

/**
 * Whether the ring is as it should be. `*out_ok` becomes 1 if every partition can take a read
 * and a write now and has all wanted copies in sync, otherwise 0; `*out_unwritable` the number
 * of partitions that cannot take a write; `*out_reasons` one sentence for each thing that is
 * not as it should be, each ended by a newline. A ring of fewer nodes than wanted copies is
 * one of those things.
 *
 * Each of the three may be NULL. Release `*out_reasons` with `ringkv_buf_free`. Any thread,
 * side by side. Blocks as `ringkv_ring_info`. `RINGKV_UNAVAILABLE`, `RINGKV_TIMEOUT`,
 * `RINGKV_CLOSED`, `RINGKV_FORKED`: then nothing is written. Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_health(ringkv_t *ring,
                            int32_t *out_ok,
                            uint32_t *out_unwritable,
                            ringkv_buf *out_reasons);

/**
 * Sends the messages of this library to `callback`, up to `max_level` (`RINGKV_LOG_...`),
 * instead of nowhere. It holds for the whole process. Set it again to change it; NULL ends it.
 *
 * `user_data` is handed to the callback. Once this function has returned, the callback that
 * was set before is not running and will not be called again. Any thread. Blocks while a
 * callback runs.
 *
 * `RINGKV_INVALID_ARGUMENT`, `RINGKV_UNSUPPORTED` (from inside the callback), `RINGKV_REFUSED`
 * (the program is written in Rust and has a logger of its own). Since 0.1.
 */
RINGKV_API
RINGKV_WARN_UNUSED
ringkv_status ringkv_set_log_callback(ringkv_log_cb callback,
                                      void *user_data,
                                      int32_t max_level);

/**
 * A short text for a status, such as "not found"; never NULL, and never to be freed. Any
 * thread, never blocks. Since 0.1.
 */
RINGKV_API const char *ringkv_status_str(ringkv_status status);

/**
 * 1 if the same call may succeed later without any change by the caller, otherwise 0. Any
 * thread, never blocks. Since 0.1.
 */
RINGKV_API int32_t ringkv_status_is_retryable(ringkv_status status);

/**
 * 1 if a write that ended with this status may have taken effect, or may still do so; 0 if it
 * certainly did not (or, with `RINGKV_OK`, certainly did). Any thread, never blocks. Since
 * 0.1.
 */
RINGKV_API int32_t ringkv_status_maybe_applied(ringkv_status status);

/**
 * The sentence of the last call on this thread that did not return `RINGKV_OK`, such as
 * "cannot connect to 10.0.0.7:4700: connection refused"; empty if there was none, never NULL.
 * It is valid until the next call of ringkv on this thread. Any thread, never blocks. Since
 * 0.1.
 */
RINGKV_API const char *ringkv_last_error(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* RINGKV_H */

/* Short names, for programs that define RINGKV_SHORT_NAMES before they include this header. */
#if defined(RINGKV_SHORT_NAMES) && !defined(RINGKV_SHORT_NAMES_H)
#define RINGKV_SHORT_NAMES_H

RINGKV_WARN_UNUSED static inline ringkv_status
node_start(const ringkv_node_options *options, ringkv_t **out_node)
{
    return ringkv_node_start(options, out_node);
}

RINGKV_WARN_UNUSED static inline ringkv_status
put(ringkv_t *ring, const void *key, size_t key_len, const void *value, size_t value_len)
{
    return ringkv_put(ring, key, key_len, value, value_len, NULL);
}

RINGKV_WARN_UNUSED static inline ringkv_status
get(ringkv_t *ring, const void *key, size_t key_len, ringkv_buf *out_value)
{
    return ringkv_get(ring, key, key_len, NULL, out_value);
}

RINGKV_WARN_UNUSED static inline ringkv_status
del(ringkv_t *ring, const void *key, size_t key_len)
{
    return ringkv_delete(ring, key, key_len, NULL);
}

RINGKV_WARN_UNUSED static inline ringkv_status
add_node(ringkv_t *ring, const char *address)
{
    return ringkv_add_node(ring, address, NULL);
}

RINGKV_WARN_UNUSED static inline ringkv_status
drop_node(ringkv_t *ring, const char *name_or_address)
{
    return ringkv_drop_node(ring, name_or_address, NULL);
}

#endif /* RINGKV_SHORT_NAMES */
