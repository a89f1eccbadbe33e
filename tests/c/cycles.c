/* A thousand nodes started and stopped, one after the other, leave nothing behind. */
#include "check.h"

#include <dirent.h>
#include <unistd.h>

enum { WARM_UP = 50, CYCLES = 1000, PAGES_MAX = 1024 };

static long entries(const char *path)
{
    DIR *dir = opendir(path);
    long count = 0;
    if (!dir) return -1;
    while (readdir(dir)) count++;
    closedir(dir);
    return count;
}

static long resident_pages(void)
{
    long total = 0, resident = -1;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file) return -1;
    if (fscanf(file, "%ld %ld", &total, &resident) != 2) resident = -1;
    fclose(file);
    return resident;
}

static void cycle(int i)
{
    ringkv_t *ring = start();
    ringkv_scan_t *scan = NULL;
    ringkv_buf value = RINGKV_BUF_INIT;
    EXPECT(RINGKV_OK, ringkv_put(ring, &i, sizeof i, &i, sizeof i, NULL));
    EXPECT(RINGKV_OK, ringkv_get(ring, &i, sizeof i, NULL, &value));
    EXPECT(RINGKV_OK, ringkv_scan_open(ring, NULL, &scan));
    ringkv_buf_free(&value);
    ringkv_scan_close(&scan);
    ringkv_close(&ring);
}

int main(void)
{
    for (int i = 0; i < WARM_UP; i++) cycle(i);
    long fds = entries("/proc/self/fd"), threads = entries("/proc/self/task");
    long pages = resident_pages();
    for (int i = 0; i < CYCLES; i++) cycle(i);
    printf("fds %ld -> %ld, threads %ld -> %ld, pages %ld -> %ld\n", fds, entries("/proc/self/fd"),
           threads, entries("/proc/self/task"), pages, resident_pages());
    CHECK(entries("/proc/self/fd") <= fds);
    CHECK(entries("/proc/self/task") <= threads);
    CHECK(resident_pages() - pages < PAGES_MAX);
    return 0;
}
