/* Every way to write and to read, with what must come back. */
#include "check.h"

#include <time.h>

static void one_by_one(ringkv_t *ring)
{
    ringkv_buf value = RINGKV_BUF_INIT;
    char buf[16];
    size_t len = 99;
    const char binary[] = {0, 1, 0, (char)255};

    EXPECT(RINGKV_NOT_FOUND, ringkv_get(ring, "k", 1, NULL, &value));
    CHECK(value.data == NULL);
    EXPECT(RINGKV_NOT_FOUND, ringkv_get_into(ring, "k", 1, NULL, buf, sizeof buf, &len));
    CHECK(len == 99);
    EXPECT(RINGKV_NOT_FOUND, ringkv_delete(ring, "k", 1, NULL));
    ringkv_buf_free(&value); /* cleaning up keeps the sentence */
    ringkv_close(NULL);
    CHECK(strcmp(ringkv_last_error(), "no such key") == 0);

    EXPECT(RINGKV_OK, ringkv_put(ring, binary, sizeof binary, binary, sizeof binary, NULL));
    EXPECT(RINGKV_OK, ringkv_get(ring, binary, sizeof binary, NULL, &value));
    CHECK(value.len == sizeof binary && memcmp(value.data, binary, sizeof binary) == 0);
    CHECK(value.data[value.len] == '\0');
    ringkv_buf_free(&value);
    CHECK(value.data == NULL && value.len == 0);

    EXPECT(RINGKV_OK, ringkv_put(ring, "empty", 5, NULL, 0, NULL));
    EXPECT(RINGKV_OK, ringkv_get(ring, "empty", 5, NULL, &value));
    CHECK(value.data != NULL && value.data[0] == '\0' && value.len == 0);
    ringkv_buf_free(&value);
    EXPECT(RINGKV_OK, ringkv_get_into(ring, "empty", 5, NULL, NULL, 0, &len));
    CHECK(len == 0);

    EXPECT(RINGKV_OK, ringkv_delete(ring, "empty", 5, NULL));
    EXPECT(RINGKV_NOT_FOUND, ringkv_get(ring, "empty", 5, NULL, &value));
    EXPECT(RINGKV_OK, ringkv_delete(ring, binary, sizeof binary, NULL));
}

static void conditions(ringkv_t *ring)
{
    ringkv_write_options options = RINGKV_WRITE_OPTIONS_INIT;
    ringkv_buf value = RINGKV_BUF_INIT;
    options.flags = RINGKV_WRITE_IF_ABSENT;
    options.ttl_ms = 30;
    EXPECT(RINGKV_OK, ringkv_put(ring, "lock", 4, "me", 2, &options));
    if (ringkv_put(ring, "lock", 4, "you", 3, &options) == RINGKV_EXISTS) {
        /* The first one has expired when the second one gets through. */
        time_t began = time(NULL);
        while (ringkv_put(ring, "lock", 4, "you", 3, &options) == RINGKV_EXISTS)
            CHECK(time(NULL) - began < 20);
    }
    options.ttl_ms = 0;
    options.flags = 0;
    EXPECT(RINGKV_OK, ringkv_put(ring, "lock", 4, "they", 4, &options));
    options.flags = RINGKV_WRITE_IF_ABSENT;
    EXPECT(RINGKV_EXISTS, ringkv_put(ring, "lock", 4, "you", 3, &options));
    EXPECT(RINGKV_OK, ringkv_get(ring, "lock", 4, NULL, &value));
    CHECK(strcmp(value.data, "they") == 0);
    ringkv_buf_free(&value);
    EXPECT(RINGKV_OK, ringkv_delete(ring, "lock", 4, NULL));
}

enum { MANY = 300 };

static void many(ringkv_t *ring)
{
    static char names[MANY][8];
    static ringkv_pair pairs[MANY];
    static ringkv_bytes keys[MANY + 1];
    static ringkv_buf values[MANY + 1];
    static ringkv_status statuses[MANY + 1];
    for (int i = 0; i < MANY; i++) {
        int len = snprintf(names[i], sizeof names[i], "key%d", i);
        keys[i].data = pairs[i].key.data = pairs[i].value.data = names[i];
        keys[i].len = pairs[i].key.len = pairs[i].value.len = (size_t)len;
    }
    EXPECT(RINGKV_OK, ringkv_put_many(ring, pairs, MANY, NULL, statuses));
    EXPECT(RINGKV_OK, ringkv_put_many(ring, pairs, MANY, NULL, NULL));
    keys[MANY].data = "absent";
    keys[MANY].len = 6;
    EXPECT(RINGKV_OK, ringkv_get_many(ring, keys, MANY + 1, NULL, values, statuses));
    for (int i = 0; i < MANY; i++) {
        CHECK(statuses[i] == RINGKV_OK && strcmp(values[i].data, names[i]) == 0);
        ringkv_buf_free(&values[i]);
    }
    CHECK(statuses[MANY] == RINGKV_NOT_FOUND && values[MANY].data == NULL);

    keys[7].len = 0; /* one bad key fails alone, and the call tells of it */
    EXPECT(RINGKV_KEY_TOO_LARGE, ringkv_get_many(ring, keys, MANY + 1, NULL, values, statuses));
    CHECK(statuses[6] == RINGKV_OK && statuses[8] == RINGKV_OK);
    CHECK(statuses[7] == RINGKV_KEY_TOO_LARGE);
    for (int i = 0; i <= MANY; i++) ringkv_buf_free(&values[i]);
    keys[7].len = 4;
}

static int scan(ringkv_t *ring, const ringkv_scan_options *options)
{
    ringkv_scan_t *scan = NULL;
    ringkv_bytes key, value;
    ringkv_status status;
    int seen = 0;
    EXPECT(RINGKV_OK, ringkv_scan_open(ring, options, &scan));
    while ((status = ringkv_scan_next(scan, &key, &value)) == RINGKV_OK) {
        if (options && options->flags)
            CHECK(value.len == 0);
        else
            CHECK(key.len == value.len && memcmp(key.data, value.data, key.len) == 0);
        seen++;
    }
    CHECK(status == RINGKV_NOT_FOUND);
    EXPECT(RINGKV_NOT_FOUND, ringkv_scan_next(scan, &key, NULL));
    ringkv_scan_close(&scan);
    return seen;
}

static void scans(ringkv_t *ring)
{
    ringkv_scan_options options = RINGKV_SCAN_OPTIONS_INIT;
    CHECK(scan(ring, NULL) == MANY);
    options.prefix.data = "key1";
    options.prefix.len = 4;
    CHECK(scan(ring, &options) == 111);
    options.flags = RINGKV_SCAN_KEYS_ONLY;
    CHECK(scan(ring, &options) == 111);
    options.prefix.data = "none";
    CHECK(scan(ring, &options) == 0);
    options.prefix.len = 5000;
    ringkv_scan_t *refused = NULL;
    static char long_prefix[5000];
    options.prefix.data = long_prefix;
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_scan_open(ring, &options, &refused));
}

static void remove_many(ringkv_t *ring)
{
    const ringkv_bytes keys[3] = {{"key0", 4}, {"absent", 6}, {"key1", 4}};
    ringkv_status statuses[3];
    EXPECT(RINGKV_OK, ringkv_delete_many(ring, keys, 3, NULL, statuses));
    CHECK(statuses[0] == RINGKV_OK && statuses[1] == RINGKV_NOT_FOUND && statuses[2] == RINGKV_OK);
    CHECK(scan(ring, NULL) == MANY - 2);
}

int main(void)
{
    ringkv_t *ring = start();
    one_by_one(ring);
    conditions(ring);
    many(ring);
    scans(ring);
    remove_many(ring);
    ringkv_close(&ring);
    return 0;
}
