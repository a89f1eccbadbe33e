/* Handles that are closed, closed twice, stale, foreign or of the wrong kind. */
#include "check.h"

static void closed(ringkv_t *ring)
{
    ringkv_buf buf = RINGKV_BUF_INIT;
    ringkv_status statuses[2] = {0, 0};
    const ringkv_bytes keys[2] = {{"a", 1}, {"b", 1}};
    ringkv_buf values[2] = {RINGKV_BUF_INIT, RINGKV_BUF_INIT};
    ringkv_info *info = NULL;
    size_t len = 0;

    EXPECT(RINGKV_CLOSED, ringkv_put(ring, "k", 1, "v", 1, NULL));
    EXPECT(RINGKV_CLOSED, ringkv_get(ring, "k", 1, NULL, &buf));
    EXPECT(RINGKV_CLOSED, ringkv_get_into(ring, "k", 1, NULL, NULL, 0, &len));
    EXPECT(RINGKV_CLOSED, ringkv_delete(ring, "k", 1, NULL));
    EXPECT(RINGKV_CLOSED, ringkv_get_many(ring, keys, 2, NULL, values, statuses));
    CHECK(statuses[0] == RINGKV_CLOSED && statuses[1] == RINGKV_CLOSED && values[1].data == NULL);
    EXPECT(RINGKV_CLOSED, ringkv_ring_info(ring, &info));
    EXPECT(RINGKV_CLOSED, ringkv_health(ring, NULL, NULL, NULL));
    EXPECT(RINGKV_CLOSED, ringkv_add_node(ring, "127.0.0.1:1", NULL));
}

static void foreign(void)
{
    int local = 0;
    ringkv_t *ring = start();
    ringkv_scan_t *scan = NULL;
    ringkv_t *wrong = (ringkv_t *)(void *)&local;
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_put(wrong, "k", 1, "v", 1, NULL));
    ringkv_close(&wrong);
    CHECK(wrong == NULL && local == 0);
    for (int bit = 0; bit < 64; bit++) {
        ringkv_t *flipped = (ringkv_t *)((uintptr_t)ring ^ (uintptr_t)1 << bit);
        CHECK(ringkv_put(flipped, "k", 1, "v", 1, NULL) != RINGKV_OK);
        ringkv_close(&flipped);
    }
    EXPECT(RINGKV_OK, ringkv_scan_open(ring, NULL, &scan));
    wrong = (ringkv_t *)(void *)scan;
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_put(wrong, "k", 1, "v", 1, NULL));
    ringkv_scan_close(&scan);
    EXPECT(RINGKV_OK, ringkv_put(ring, "k", 1, "v", 1, NULL));
    ringkv_close(&ring);
}

static void scans(void)
{
    ringkv_t *ring = start();
    ringkv_scan_t *scan = NULL, *copy;
    ringkv_bytes key, value;
    EXPECT(RINGKV_OK, ringkv_put(ring, "k", 1, "v", 1, NULL));
    EXPECT(RINGKV_OK, ringkv_scan_open(ring, NULL, &scan));
    copy = scan;
    ringkv_close(&ring);
    EXPECT(RINGKV_CLOSED, ringkv_scan_next(scan, &key, &value));
    ringkv_scan_close(&scan);
    CHECK(scan == NULL);
    EXPECT(RINGKV_CLOSED, ringkv_scan_next(copy, &key, &value));
    ringkv_scan_close(&copy);
}

int main(void)
{
    ringkv_t *ring = start();
    ringkv_t *copy = ring;
    ringkv_close(&ring);
    CHECK(ring == NULL);
    ringkv_close(&ring);
    closed(copy);

    /* The next node takes the same slot; the stale copy must neither use nor close it. */
    ring = start();
    CHECK(ring != copy);
    closed(copy);
    ringkv_close(&copy);
    EXPECT(RINGKV_OK, ringkv_put(ring, "k", 1, "v", 1, NULL));
    ringkv_close(&ring);

    foreign();
    scans();
    return 0;
}
