/* The log callback: levels, replacing it, clearing it, and that it must not call ringkv. */
#include "check.h"

#include <pthread.h>

struct seen {
    pthread_mutex_t lock;
    int messages;
    int worst;
    ringkv_status inside;
};

static void on_log(void *user_data, int32_t level, const char *target, const char *message)
{
    struct seen *seen = user_data;
    pthread_mutex_lock(&seen->lock);
    if (target[0] && message[0]) seen->messages++;
    if (level > seen->worst) seen->worst = level;
    seen->inside = ringkv_set_log_callback(NULL, NULL, 0);
    pthread_mutex_unlock(&seen->lock);
}

static void one_node(void)
{
    ringkv_t *ring = start();
    EXPECT(RINGKV_OK, ringkv_put(ring, "k", 1, "v", 1, NULL));
    ringkv_close(&ring);
}

int main(void)
{
    struct seen first = {PTHREAD_MUTEX_INITIALIZER, 0, 0, 0};
    struct seen second = {PTHREAD_MUTEX_INITIALIZER, 0, 0, 0};
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_set_log_callback(on_log, &first, 6));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_set_log_callback(on_log, &first, -1));
    one_node();
    CHECK(first.messages == 0);

    EXPECT(RINGKV_OK, ringkv_set_log_callback(on_log, &first, RINGKV_LOG_TRACE));
    one_node();
    CHECK(first.messages > 0 && first.inside == RINGKV_UNSUPPORTED);

    EXPECT(RINGKV_OK, ringkv_set_log_callback(on_log, &second, RINGKV_LOG_INFO));
    int before = first.messages;
    one_node();
    CHECK(first.messages == before && second.worst <= RINGKV_LOG_INFO);

    EXPECT(RINGKV_OK, ringkv_set_log_callback(NULL, NULL, RINGKV_LOG_TRACE));
    before = second.messages;
    one_node();
    CHECK(second.messages == before);
    return 0;
}
