/* NULL, wrong sizes, wrong numbers and wrong texts: each gets a status, and nothing is written. */
#include "check.h"

static void nothing_at_all(void)
{
    ringkv_t *ring = NULL;
    ringkv_scan_t *scan = NULL;
    ringkv_info *info = NULL;
    ringkv_location *location = NULL;
    ringkv_buf buf = RINGKV_BUF_INIT;
    ringkv_bytes bytes;
    size_t len = 0;
    char text[8];

    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_node_start(NULL, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_connect(NULL, NULL, &ring));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_connect("", NULL, &ring));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_connect("127.0.0.1:1", NULL, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_address(NULL, text, sizeof text, &len));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_put(NULL, "k", 1, "v", 1, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_get(NULL, "k", 1, NULL, &buf));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_get_into(NULL, "k", 1, NULL, text, sizeof text, &len));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_delete(NULL, "k", 1, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_put_many(NULL, NULL, 0, NULL, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_get_many(NULL, NULL, 0, NULL, NULL, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_delete_many(NULL, NULL, 0, NULL, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_scan_open(NULL, NULL, &scan));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_scan_next(NULL, &bytes, &bytes));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_add_node(NULL, "127.0.0.1:1", NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_drop_node(NULL, "x", NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_ring_info(NULL, &info));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_locate(NULL, "k", 1, NULL, &location));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_health(NULL, NULL, NULL, NULL));
    EXPECT(RINGKV_OK, ringkv_set_log_callback(NULL, NULL, 99));

    ringkv_close(NULL);
    ringkv_close(&ring);
    ringkv_scan_close(NULL);
    ringkv_scan_close(&scan);
    ringkv_info_free(NULL);
    ringkv_info_free(&info);
    ringkv_location_free(NULL);
    ringkv_location_free(&location);
    ringkv_buf_free(NULL);
    ringkv_buf_free(&buf);
}

static void missing_outputs_and_inputs(ringkv_t *ring)
{
    size_t len = 7;
    char text[8];
    ringkv_buf buf = RINGKV_BUF_INIT;
    ringkv_status status = RINGKV_OK;

    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_put(ring, NULL, 1, "v", 1, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_put(ring, "k", 1, NULL, 1, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_put(ring, "k", SIZE_MAX, "v", 1, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_get(ring, "k", 1, NULL, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_get_into(ring, "k", 1, NULL, text, 8, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_get_into(ring, "k", 1, NULL, NULL, 8, &len));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_put_many(ring, NULL, 1, NULL, &status));
    CHECK(status == RINGKV_INVALID_ARGUMENT);
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_get_many(ring, NULL, 1, NULL, &buf, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_get_many(ring, NULL, 1, NULL, NULL, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_delete_many(ring, NULL, SIZE_MAX, NULL, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_scan_open(ring, NULL, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_add_node(ring, NULL, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_drop_node(ring, "", NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_ring_info(ring, NULL));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_locate(ring, "k", 1, NULL, NULL));
    EXPECT(RINGKV_OK, ringkv_health(ring, NULL, NULL, NULL));
    EXPECT(RINGKV_OK, ringkv_put_many(ring, NULL, 0, NULL, NULL));
    CHECK(len == 7 && buf.data == NULL);
}

static void sizes(ringkv_t *ring)
{
    static char long_key[RINGKV_KEY_BYTES_MAX + 1];
    const size_t longest = 16 * 1024 * 1024;
    char *long_value = calloc(1, longest + 1);
    char buf[4] = "...";
    size_t len = 0;
    memset(long_key, 'k', sizeof long_key);
    CHECK(long_value != NULL);

    EXPECT(RINGKV_KEY_TOO_LARGE, ringkv_put(ring, "", 0, "v", 1, NULL));
    EXPECT(RINGKV_KEY_TOO_LARGE, ringkv_put(ring, NULL, 0, "v", 1, NULL));
    EXPECT(RINGKV_KEY_TOO_LARGE, ringkv_put(ring, long_key, sizeof long_key, "v", 1, NULL));
    EXPECT(RINGKV_OK, ringkv_put(ring, long_key, RINGKV_KEY_BYTES_MAX, "v", 1, NULL));
    EXPECT(RINGKV_VALUE_TOO_LARGE, ringkv_put(ring, "k", 1, long_value, longest + 1, NULL));
    EXPECT(RINGKV_OK, ringkv_put(ring, "k", 1, long_value, longest, NULL));
    free(long_value);

    EXPECT(RINGKV_OK, ringkv_put(ring, "k", 1, "four", 4, NULL));
    EXPECT(RINGKV_BUFFER_TOO_SMALL, ringkv_get_into(ring, "k", 1, NULL, buf, 3, &len));
    CHECK(len == 4 && strcmp(buf, "...") == 0);
    len = 0;
    EXPECT(RINGKV_BUFFER_TOO_SMALL, ringkv_get_into(ring, "k", 1, NULL, NULL, 0, &len));
    CHECK(len == 4);
    EXPECT(RINGKV_OK, ringkv_get_into(ring, "k", 1, NULL, buf, 4, &len));
    CHECK(len == 4 && memcmp(buf, "four", 4) == 0);

    len = 0;
    buf[0] = 'x';
    EXPECT(RINGKV_BUFFER_TOO_SMALL, ringkv_address(ring, buf, 4, &len));
    CHECK(len > 4 && buf[0] == 'x');
    EXPECT(RINGKV_BUFFER_TOO_SMALL, ringkv_address(ring, NULL, 0, NULL));
    char address[RINGKV_ADDRESS_BYTES_MAX];
    EXPECT(RINGKV_BUFFER_TOO_SMALL, ringkv_address(ring, address, len, &len));
    EXPECT(RINGKV_OK, ringkv_address(ring, address, len + 1, &len));
    CHECK(strlen(address) == len);
}

static void options(ringkv_t *ring)
{
    struct { ringkv_write_options known; uint64_t unknown; } newer;
    ringkv_write_options write = RINGKV_WRITE_OPTIONS_INIT;
    ringkv_read_options read = RINGKV_READ_OPTIONS_INIT;
    ringkv_buf value = RINGKV_BUF_INIT;

    write.size = 0;
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_put(ring, "k", 1, "v", 1, &write));
    write.size = 13;
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_put(ring, "k", 1, "v", 1, &write));
    write.size = UINT32_MAX;
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_put(ring, "k", 1, "v", 1, &write));
    write.size = 8; /* an older caller, who knew the flags only */
    write.reserved = 1;
    EXPECT(RINGKV_OK, ringkv_put(ring, "k", 1, "v", 1, &write));
    write.size = sizeof write;
    EXPECT(RINGKV_UNSUPPORTED, ringkv_put(ring, "k", 1, "v", 1, &write));
    write.reserved = 0;
    write.flags = 1u << 31;
    EXPECT(RINGKV_UNSUPPORTED, ringkv_put(ring, "k", 1, "v", 1, &write));

    memset(&newer, 0, sizeof newer);
    newer.known.size = sizeof newer;
    EXPECT(RINGKV_OK, ringkv_put(ring, "k", 1, "v", 1, &newer.known));
    newer.unknown = 1;
    EXPECT(RINGKV_UNSUPPORTED, ringkv_put(ring, "k", 1, "v", 1, &newer.known));

    read.lookup = 4;
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_get(ring, "k", 1, &read, &value));
    read.lookup = RINGKV_LOOKUP_LOCAL;
    EXPECT(RINGKV_OK, ringkv_get(ring, "k", 1, &read, &value));
    ringkv_buf_free(&value);
    ringkv_buf_free(&value);
}

static void refused_node(ringkv_node_options *options)
{
    ringkv_t *const before = (ringkv_t *)options;
    ringkv_t *node = before;
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_node_start(options, &node));
    CHECK(node == before);
}

static void nodes(void)
{
    const ringkv_node_options init = RINGKV_NODE_OPTIONS_INIT;
    ringkv_node_options options = init;
    options.name = "\xff\xfe";
    refused_node(&options);
    options = init;
    options.hash = 3;
    refused_node(&options);
    options = init;
    options.placement = -1;
    refused_node(&options);
    options = init;
    options.copies = 300;
    refused_node(&options);
    options = init;
    options.flags = RINGKV_NODE_ROUTER;
    options.weight = 2;
    refused_node(&options);
    options = init;
    options.flags = RINGKV_NODE_STANDBY;
    options.join = "127.0.0.1:1";
    refused_node(&options);
    options = init;
    options.join = " , ";
    refused_node(&options);
}

static void statuses(void)
{
    CHECK(strcmp(ringkv_status_str(RINGKV_OK), "ok") == 0);
    CHECK(strcmp(ringkv_status_str(RINGKV_NOT_FOUND), "not found") == 0);
    CHECK(strcmp(ringkv_status_str(12345), "unknown status") == 0);
    CHECK(ringkv_status_is_retryable(RINGKV_BUSY) == 1);
    CHECK(ringkv_status_is_retryable(RINGKV_EXISTS) == 0);
    CHECK(ringkv_status_maybe_applied(RINGKV_TIMEOUT) == 1);
    CHECK(ringkv_status_maybe_applied(RINGKV_BUSY) == 0 && ringkv_status_maybe_applied(-1) == 0);
    CHECK(ringkv_abi_version() == RINGKV_ABI_VERSION);
    CHECK(ringkv_version_number() == RINGKV_VERSION_NUMBER);
    CHECK(strcmp(ringkv_version(), RINGKV_VERSION_STRING) == 0);
}

int main(void)
{
    CHECK(ringkv_last_error()[0] == '\0');
    nothing_at_all();
    statuses();
    nodes();
    ringkv_t *ring = start();
    missing_outputs_and_inputs(ring);
    sizes(ring);
    options(ring);
    ringkv_close(&ring);
    return 0;
}
