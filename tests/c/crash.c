/* A ring without spare copies loses a node: what its events, its health and its keys say, and how
 * it goes on. A node that is closed without being dropped has crashed for the others. */
#include "check.h"

enum { KEYS = 100, NODES = 3 };

static ringkv_t *start_node(const char *name, const char *join)
{
    ringkv_t *node = NULL;
    ringkv_node_options options = RINGKV_NODE_OPTIONS_INIT;
    options.name = name;
    options.join = join;
    if (join == NULL) {
        options.partitions = 64;
        options.copies = 1;
        options.flags = RINGKV_NODE_NO_LEASES;
    }
    EXPECT(RINGKV_OK, ringkv_node_start(&options, &node));
    return node;
}

/* Waits for that event; about `name` unless that is NULL. */
static ringkv_event until(ringkv_events_t *events, int32_t kind, const char *name)
{
    ringkv_event event = RINGKV_EVENT_INIT;
    do {
        EXPECT(RINGKV_OK, ringkv_events_next(events, &event, 60000));
        CHECK(event.size == sizeof event && event.text[0] && event.time_ms > 0);
    } while (event.kind != kind || (name != NULL && strcmp(event.member.name, name) != 0));
    CHECK(name == NULL || (event.member.id > 0 && event.member.address[0]));
    return event;
}

static void wrong_arguments(ringkv_t *ring)
{
    ringkv_events_t *events = NULL;
    ringkv_event event = RINGKV_EVENT_INIT;
    ringkv_events_options options = RINGKV_EVENTS_OPTIONS_INIT;
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_events_open(NULL, NULL, &events));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_events_open(ring, NULL, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_events_next(NULL, &event, 0));
    options.flags = 1;
    EXPECT(RINGKV_UNSUPPORTED, ringkv_events_open(ring, &options, &events));
    options.flags = 0;
    EXPECT(RINGKV_OK, ringkv_events_open(ring, &options, &events));
    ringkv_events_t *copy = events;
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_events_next(events, NULL, 0));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_events_next((ringkv_events_t *)ring, &event, 0));
    event.size = 3;
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_events_next(events, &event, 0));
    ringkv_events_close(&events);
    CHECK(events == NULL);
    ringkv_events_close(&events);
    ringkv_events_close(NULL);
    event.size = sizeof event;
    EXPECT(RINGKV_CLOSED, ringkv_events_next(copy, &event, 0));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_reset_lost(NULL, 0, NULL));
}

static void leases_are_off(ringkv_t *ring)
{
    ringkv_info *info = NULL;
    EXPECT(RINGKV_OK, ringkv_ring_info(ring, &info));
    CHECK(info->leases == 0 && info->members_count == NODES);
    ringkv_info_free(&info);
}

/* How many keys answer RINGKV_DATA_LOST; all others must be as written. */
static int lost_keys(ringkv_t *ring)
{
    int lost = 0;
    for (int i = 0; i < KEYS; i++) {
        int value = -1;
        size_t len = 0;
        ringkv_status status =
            ringkv_get_into(ring, &i, sizeof i, NULL, &value, sizeof value, &len);
        if (status == RINGKV_DATA_LOST) {
            CHECK(strstr(ringkv_last_error(), "ringkv reset") != NULL);
            EXPECT(RINGKV_DATA_LOST, ringkv_put(ring, &i, sizeof i, &i, sizeof i, NULL));
            lost++;
        } else {
            EXPECT(RINGKV_OK, status);
            CHECK(value == i);
        }
    }
    return lost;
}

static int missing_keys(ringkv_t *ring)
{
    int missing = 0;
    for (int i = 0; i < KEYS; i++) {
        int value = -1;
        size_t len = 0;
        ringkv_status status =
            ringkv_get_into(ring, &i, sizeof i, NULL, &value, sizeof value, &len);
        CHECK(status == RINGKV_OK || status == RINGKV_NOT_FOUND);
        missing += status == RINGKV_NOT_FOUND;
    }
    return missing;
}

int main(void)
{
    char address[RINGKV_ADDRESS_BYTES_MAX];
    uint32_t unwritable = 0, count = 0;
    int32_t ok = -1;
    ringkv_buf reasons = RINGKV_BUF_INIT;
    ringkv_event event = RINGKV_EVENT_INIT;
    ringkv_events_t *told = NULL, *seen = NULL;
    ringkv_t *client = NULL;
    ringkv_t *first = start_node("first", NULL);
    EXPECT(RINGKV_OK, ringkv_address(first, address, sizeof address, NULL));
    wrong_arguments(first);
    EXPECT(RINGKV_OK, ringkv_connect(address, NULL, &client));
    EXPECT(RINGKV_OK, ringkv_events_open(first, NULL, &told));
    EXPECT(RINGKV_OK, ringkv_events_open(client, NULL, &seen));
    EXPECT(RINGKV_TIMEOUT, ringkv_events_next(told, &event, 0));
    EXPECT(RINGKV_TIMEOUT, ringkv_events_next(told, &event, 10));

    ringkv_t *second = start_node("second", address);
    ringkv_t *third = start_node("third", address);
    until(told, RINGKV_EVENT_JOINED, "second");
    until(told, RINGKV_EVENT_JOINED, "third");
    event = until(told, RINGKV_EVENT_SETTLED, NULL);
    CHECK(event.done == event.total && event.total > 0);
    until(seen, RINGKV_EVENT_JOINED, "third");
    until(seen, RINGKV_EVENT_SETTLED, NULL);
    leases_are_off(third);
    for (int i = 0; i < KEYS; i++)
        EXPECT(RINGKV_OK, ringkv_put(client, &i, sizeof i, &i, sizeof i, NULL));

    ringkv_close(&second);
    until(told, RINGKV_EVENT_DOWN, "second");
    event = until(told, RINGKV_EVENT_STALLED, NULL);
    CHECK(event.partitions > 0 && event.partitions < 64);
    until(seen, RINGKV_EVENT_DOWN, "second");
    EXPECT(RINGKV_REFUSED, ringkv_drop_node(client, "second", NULL));
    CHECK(strstr(ringkv_last_error(), "the only copy of") != NULL);
    ringkv_change_options change = RINGKV_CHANGE_OPTIONS_INIT;
    change.flags = RINGKV_CHANGE_ABORT;
    EXPECT(RINGKV_REFUSED, ringkv_drop_node(client, "third", &change));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_add_node(client, address, &change));
    change.flags = RINGKV_CHANGE_FORCE;
    EXPECT(RINGKV_OK, ringkv_drop_node(client, "second", &change));
    until(told, RINGKV_EVENT_LEFT, "second");
    uint64_t lost = until(told, RINGKV_EVENT_LOST, NULL).partitions;
    CHECK(lost == event.partitions);

    EXPECT(RINGKV_OK, ringkv_health(client, &ok, &unwritable, &reasons));
    CHECK(ok == 0 && unwritable == lost && strstr(reasons.data, "lost all copies") != NULL);
    ringkv_buf_free(&reasons);
    int keys = lost_keys(client);
    CHECK(keys > 0 && keys == lost_keys(third));
    EXPECT(RINGKV_OK, ringkv_reset_lost(first, 0, &count));
    CHECK(count == lost);
    CHECK(until(told, RINGKV_EVENT_RESET, NULL).partitions == lost);
    EXPECT(RINGKV_OK, ringkv_reset_lost(client, 0, NULL));
    CHECK(missing_keys(third) == keys && missing_keys(client) == keys);

    ringkv_close(&first);
    EXPECT(RINGKV_CLOSED, ringkv_events_next(told, &event, 60000));
    ringkv_events_close(&told);
    ringkv_events_close(&seen);
    ringkv_close(&client);
    ringkv_close(&third);
    return 0;
}
