/* A child of fork gets a status for its parent's handles, and the parent goes on. */
#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

static void child(ringkv_t *ring, ringkv_scan_t *scan)
{
    ringkv_buf value = RINGKV_BUF_INIT;
    ringkv_bytes key;
    ringkv_info *info = NULL;
    alarm(20); /* instead of hanging for ever */
    EXPECT(RINGKV_FORKED, ringkv_put(ring, "k", 1, "child", 5, NULL));
    EXPECT(RINGKV_FORKED, ringkv_get(ring, "k", 1, NULL, &value));
    EXPECT(RINGKV_FORKED, ringkv_ring_info(ring, &info));
    EXPECT(RINGKV_FORKED, ringkv_scan_next(scan, &key, NULL));
    ringkv_scan_close(&scan);
    ringkv_close(&ring);
    CHECK(ring == NULL && scan == NULL);

    /* A node of its own works. */
    ring = start();
    EXPECT(RINGKV_OK, ringkv_put(ring, "k", 1, "own", 3, NULL));
    ringkv_close(&ring);
    _exit(0);
}

int main(void)
{
    ringkv_t *ring = start();
    ringkv_scan_t *scan = NULL;
    ringkv_buf value = RINGKV_BUF_INIT;
    int status = 0;
    EXPECT(RINGKV_OK, ringkv_put(ring, "k", 1, "parent", 6, NULL));
    EXPECT(RINGKV_OK, ringkv_scan_open(ring, NULL, &scan));
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) child(ring, scan);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    EXPECT(RINGKV_OK, ringkv_get(ring, "k", 1, NULL, &value));
    CHECK(strcmp(value.data, "parent") == 0);
    ringkv_buf_free(&value);
    ringkv_scan_close(&scan);
    ringkv_close(&ring);
    return 0;
}
