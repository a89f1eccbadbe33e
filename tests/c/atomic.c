/* Compare and swap, and counters: seen through a node and through a client. */
#include "check.h"

static void swaps(ringkv_t *ring)
{
    ringkv_buf value = RINGKV_BUF_INIT;
    EXPECT(RINGKV_MISMATCH, ringkv_cas(ring, "c", 1, "old", 3, "new", 3, NULL));
    EXPECT(RINGKV_OK, ringkv_cas(ring, "c", 1, NULL, 0, "", 0, NULL));
    EXPECT(RINGKV_MISMATCH, ringkv_cas(ring, "c", 1, NULL, 0, "new", 3, NULL));
    CHECK(ringkv_last_error()[0] != '\0');
    EXPECT(RINGKV_OK, ringkv_cas(ring, "c", 1, "", 0, "one", 3, NULL));
    EXPECT(RINGKV_MISMATCH, ringkv_cas(ring, "c", 1, "", 0, "two", 3, NULL));
    EXPECT(RINGKV_OK, ringkv_cas(ring, "c", 1, "one", 3, "two", 3, NULL));
    EXPECT(RINGKV_OK, ringkv_get(ring, "c", 1, NULL, &value));
    CHECK(strcmp(value.data, "two") == 0);
    ringkv_buf_free(&value);
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_cas(ring, "c", 1, NULL, 1, "two", 3, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_cas(ring, "c", 1, "two", 3, NULL, 1, NULL));
    EXPECT(RINGKV_KEY_TOO_LARGE, ringkv_cas(ring, "", 0, NULL, 0, "two", 3, NULL));
    EXPECT(RINGKV_OK, ringkv_delete(ring, "c", 1, NULL));
}

static void counts(ringkv_t *ring)
{
    int64_t sum = -1;
    ringkv_buf value = RINGKV_BUF_INIT;
    EXPECT(RINGKV_OK, ringkv_incr(ring, "n", 1, 5, NULL, &sum));
    CHECK(sum == 5);
    EXPECT(RINGKV_OK, ringkv_incr(ring, "n", 1, -7, NULL, NULL));
    EXPECT(RINGKV_OK, ringkv_incr(ring, "n", 1, 0, NULL, &sum));
    CHECK(sum == -2);
    EXPECT(RINGKV_OK, ringkv_get(ring, "n", 1, NULL, &value));
    CHECK(strcmp(value.data, "-2") == 0);
    ringkv_buf_free(&value);
    EXPECT(RINGKV_OVERFLOW, ringkv_incr(ring, "n", 1, INT64_MIN, NULL, &sum));
    CHECK(sum == -2);
    EXPECT(RINGKV_OK, ringkv_put(ring, "n", 1, "seven", 5, NULL));
    EXPECT(RINGKV_NOT_A_NUMBER, ringkv_incr(ring, "n", 1, 1, NULL, &sum));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_incr(ring, NULL, 1, 1, NULL, &sum));
    EXPECT(RINGKV_OK, ringkv_delete(ring, "n", 1, NULL));
}

int main(void)
{
    char address[RINGKV_ADDRESS_BYTES_MAX];
    ringkv_t *node = NULL, *client = NULL;
    ringkv_node_options options = RINGKV_NODE_OPTIONS_INIT;
    ringkv_connect_options connection = RINGKV_CONNECT_OPTIONS_INIT;
    options.partitions = 64;
    options.timeout_ms = connection.timeout_ms = 60000; /* Valgrind is slow. */
    EXPECT(RINGKV_OK, ringkv_node_start(&options, &node));
    EXPECT(RINGKV_OK, ringkv_address(node, address, sizeof address, NULL));
    EXPECT(RINGKV_OK, ringkv_connect(address, &connection, &client));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_cas(NULL, "k", 1, NULL, 0, "v", 1, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_incr(NULL, "k", 1, 1, NULL, NULL));
    swaps(node);
    swaps(client);
    counts(node);
    counts(client);

    /* A deadline says nothing about what a write did. */
    CHECK(ringkv_status_maybe_applied(RINGKV_TIMEOUT) == 1);
    CHECK(ringkv_status_maybe_applied(RINGKV_CONNECTION_LOST) == 1);
    CHECK(ringkv_status_maybe_applied(RINGKV_MISMATCH) == 0);
    CHECK(ringkv_status_maybe_applied(RINGKV_BUSY) == 0);
    ringkv_close(&client);
    ringkv_close(&node);
    return 0;
}
