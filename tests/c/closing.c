/* Closing a handle while other threads are inside calls on it, again and again. */
#include "check.h"

#include <pthread.h>

enum { THREADS = 4, ROUNDS = 20 };

struct shared {
    ringkv_t *ring;
    pthread_barrier_t begin;
};

static void *worker(void *argument)
{
    struct shared *shared = argument;
    ringkv_t *ring = shared->ring;
    ringkv_status status = RINGKV_OK;
    pthread_barrier_wait(&shared->begin);
    for (unsigned i = 0; status == RINGKV_OK; i++) {
        ringkv_buf value = RINGKV_BUF_INIT;
        ringkv_scan_t *scan = NULL;
        ringkv_bytes key;
        status = ringkv_put(ring, &i, sizeof i, &i, sizeof i, NULL);
        if (status == RINGKV_OK) status = ringkv_get(ring, &i, sizeof i, NULL, &value);
        ringkv_buf_free(&value);
        if (status == RINGKV_OK && i % 16 == 0) {
            status = ringkv_scan_open(ring, NULL, &scan);
            if (status == RINGKV_OK) status = ringkv_scan_next(scan, &key, NULL);
            ringkv_scan_close(&scan);
        }
    }
    EXPECT(RINGKV_CLOSED, status);
    return NULL;
}

static void *closer(void *argument)
{
    ringkv_t *copy = *(ringkv_t **)argument;
    ringkv_close(&copy);
    return NULL;
}

int main(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct shared shared;
        pthread_t threads[THREADS], closers[2];
        shared.ring = start();
        CHECK(pthread_barrier_init(&shared.begin, NULL, THREADS + 1) == 0);
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_create(&threads[i], NULL, worker, &shared) == 0);
        pthread_barrier_wait(&shared.begin);
        for (unsigned i = 0; i < 50; i++)
            EXPECT(RINGKV_OK, ringkv_put(shared.ring, "main", 4, &i, sizeof i, NULL));
        for (int i = 0; i < 2; i++)
            CHECK(pthread_create(&closers[i], NULL, closer, &shared.ring) == 0);
        for (int i = 0; i < 2; i++)
            CHECK(pthread_join(closers[i], NULL) == 0);
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
        pthread_barrier_destroy(&shared.begin);
    }
    return 0;
}
