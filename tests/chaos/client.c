/* A client of the chaos test: executes the operations that it reads from standard input, one line
 * each, and says on standard output when it began and what came of it.
 *
 *     ready, once it has found the ring
 *     get KEY | put KEY VALUE | new KEY VALUE | del KEY | cas KEY VALUE EXPECTED | add KEY DELTA
 *     invoke NS, then: ok NS [VALUE | - | 1 | 0]   fail NS STATUS   unknown NS STATUS
 *
 * "new" puts if there is no value; "-" is no value, also as the one that "cas" expects.
 *
 * Times are nanoseconds of CLOCK_BOOTTIME, which all processes of a machine share.
 */
#define _GNU_SOURCE
#include <ringkv.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_BOOTTIME, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void tell(ringkv_status status, uint64_t at, const char *answer)
{
    if (status == RINGKV_OK)
        printf("ok %" PRIu64 " %s\n", at, answer);
    else if (ringkv_status_maybe_applied(status))
        printf("unknown %" PRIu64 " %d\n", at, (int)status);
    else
        printf("fail %" PRIu64 " %d\n", at, (int)status);
    fflush(stdout);
}

static void get(ringkv_t *ring, const char *key)
{
    char value[64];
    size_t length = 0;
    ringkv_status status =
        ringkv_get_into(ring, key, strlen(key), NULL, value, sizeof value - 1, &length);
    uint64_t at = now();
    if (status == RINGKV_NOT_FOUND) {
        tell(RINGKV_OK, at, "-");
        return;
    }
    value[status == RINGKV_OK ? length : 0] = 0;
    tell(status, at, value);
}

static void put(ringkv_t *ring, const char *key, const char *value, uint32_t flags)
{
    ringkv_write_options options = RINGKV_WRITE_OPTIONS_INIT;
    options.flags = flags;
    ringkv_status status = ringkv_put(ring, key, strlen(key), value, strlen(value), &options);
    uint64_t at = now();
    if (status == RINGKV_EXISTS)
        tell(RINGKV_OK, at, "0");
    else
        tell(status, at, "1");
}

static void delete(ringkv_t *ring, const char *key)
{
    ringkv_status status = ringkv_delete(ring, key, strlen(key), NULL);
    uint64_t at = now();
    if (status == RINGKV_NOT_FOUND)
        tell(RINGKV_OK, at, "0");
    else
        tell(status, at, "1");
}

static void cas(ringkv_t *ring, const char *key, const char *value, const char *expected)
{
    int absent = !strcmp(expected, "-");
    ringkv_status status = ringkv_cas(ring, key, strlen(key), absent ? NULL : expected,
                                      absent ? 0 : strlen(expected), value, strlen(value), NULL);
    uint64_t at = now();
    if (status == RINGKV_MISMATCH)
        tell(RINGKV_OK, at, "0");
    else
        tell(status, at, "1");
}

static void add(ringkv_t *ring, const char *key, const char *delta)
{
    char answer[24];
    int64_t sum = 0;
    ringkv_status status =
        ringkv_incr(ring, key, strlen(key), strtoll(delta, NULL, 10), NULL, &sum);
    uint64_t at = now();
    snprintf(answer, sizeof answer, "%" PRId64, sum);
    tell(status, at, answer);
}

int main(int count, char **arguments)
{
    ringkv_t *ring = NULL;
    char line[256], what[8], key[128], value[64], expected[64];
    if (count != 3) {
        fprintf(stderr, "usage: client SEEDS TIMEOUT_MS\n");
        return 2;
    }
    ringkv_connect_options options = RINGKV_CONNECT_OPTIONS_INIT;
    options.timeout_ms = (uint32_t)strtoul(arguments[2], NULL, 10);
    if (ringkv_connect(arguments[1], &options, &ring)) {
        fprintf(stderr, "client: %s\n", ringkv_last_error());
        return 1;
    }
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        int fields = sscanf(line, "%7s %127s %63s %63s", what, key, value, expected);
        printf("invoke %" PRIu64 "\n", now());
        if (fields == 2 && !strcmp(what, "get"))
            get(ring, key);
        else if (fields == 2 && !strcmp(what, "del"))
            delete(ring, key);
        else if (fields == 3 && !strcmp(what, "put"))
            put(ring, key, value, 0);
        else if (fields == 3 && !strcmp(what, "new"))
            put(ring, key, value, RINGKV_WRITE_IF_ABSENT);
        else if (fields == 4 && !strcmp(what, "cas"))
            cas(ring, key, value, expected);
        else if (fields == 3 && !strcmp(what, "add"))
            add(ring, key, value);
        else
            return 2;
    }
    ringkv_close(&ring);
    return 0;
}
