/* A storage node: ./node <port> <server host:port>
 *
 * It stands by until a server adds it to a ring, whichever server that is, and then answers for the
 * whole ring at its port. While it belongs to no ring, an old server can use it all the same: what
 * that puts here is kept in a private ring of this process, until DROP sends it back through the
 * server of the command line.
 */
#include "kvstore.h"

#include <ringkv.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long port;
static const char *server;
static ringkv_t *node;

/* The private ring, and the one whose pairs are on their way to the server. */
static ringkv_t *store, *leaving;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, one_drop = PTHREAD_MUTEX_INITIALIZER;

static int stands_by(void)
{
    ringkv_info *info = NULL;
    ringkv_status status = ringkv_ring_info(node, &info);
    ringkv_info_free(&info);
    return status == RINGKV_UNAVAILABLE;
}

/* Handles are looked up by ringkv, so one that is closed meanwhile does no harm. */
static ringkv_t *current(ringkv_t *const *which)
{
    pthread_mutex_lock(&lock);
    ringkv_t *ring = *which;
    pthread_mutex_unlock(&lock);
    return ring;
}

static ringkv_status put_privately(const void *key, size_t key_size, const void *value,
                                   size_t value_size, const ringkv_write_options *how)
{
    ringkv_node_options options = RINGKV_NODE_OPTIONS_INIT;
    options.copies = 1;
    pthread_mutex_lock(&lock); /* Held, so that no pair comes into a store that is leaving. */
    ringkv_status status = store == NULL ? ringkv_node_start(&options, &store) : RINGKV_OK;
    if (status == RINGKV_OK) status = ringkv_put(store, key, key_size, value, value_size, how);
    pthread_mutex_unlock(&lock);
    return status;
}

static void put(const struct conversation *with)
{
    size_t key_size = with->request.key_size, value_size = with->request.value_size;
    ringkv_status status = ringkv_put(node, with->key, key_size, with->value, value_size, NULL);
    if (status == RINGKV_UNAVAILABLE && stands_by())
        status = put_privately(with->key, key_size, with->value, value_size, NULL);
    const char *result = status == RINGKV_OK ? "successful!" : ringkv_last_error();
    printf("NODE-%ld send PUT result: %s\n", port, result);
    if (status == RINGKV_OK)
        reply_text(with, "successful"); /* As ever without the exclamation mark. */
    else
        reply_error(with, result);
}

static void get(const struct conversation *with)
{
    char shown[SHOWN_BYTES];
    ringkv_buf value = RINGKV_BUF_INIT;
    size_t key_size = with->request.key_size;
    ringkv_status status = ringkv_get(node, with->key, key_size, NULL, &value);
    if (status == RINGKV_UNAVAILABLE && stands_by()) {
        status = RINGKV_NOT_FOUND;
        ringkv_t *const *const places[] = {&store, &leaving};
        for (int i = 0; i < 2 && status != RINGKV_OK; i++) {
            ringkv_t *place = current(places[i]);
            if (place != NULL) status = ringkv_get(place, with->key, key_size, NULL, &value);
        }
        if (status == RINGKV_CLOSED) status = RINGKV_NOT_FOUND; /* All pairs have left. */
    }
    if (status == RINGKV_OK) {
        printf("NODE-%ld send GET result: %s\n", port,
               printable(shown, sizeof shown, value.data, value.len));
        printf("length of str is %zu\n", value.len);
        reply_to(with, REPLY_DONE, value.data, value.len);
    } else if (status == RINGKV_NOT_FOUND) {
        printf("NODE-%ld send GET result: no result\n", port);
        reply_text(with, "no result");
    } else {
        printf("NODE-%ld send GET result: %s\n", port, ringkv_last_error());
        reply_error(with, ringkv_last_error());
    }
    ringkv_buf_free(&value);
}

/* Whether the server has taken the pair. */
static int send_back(ringkv_bytes key, ringkv_bytes value, char why[WHY_BYTES])
{
    char shown_key[SHOWN_BYTES], shown[SHOWN_BYTES];
    printf("NODE-%ld send PUT request: %s %s\n", port,
           printable(shown_key, sizeof shown_key, key.data, key.len),
           printable(shown, sizeof shown, value.data, value.len));
    int fd = dial(server, PUT, why);
    if (fd < 0) return 0;
    struct request request = {PUT, 0, key.len, value.len};
    struct answer answer;
    snprintf(why, WHY_BYTES, "%.256s did not answer", server);
    if (!ask(fd, &request, key.data, value.data, &answer)) return 0;
    snprintf(why, WHY_BYTES, "%s", answer.text);
    /* An old server sends these letters and what it has behind them. */
    int taken = strncmp(answer.text, "successful", strlen("successful")) == 0;
    free(answer.text);
    return taken;
}

/* Sends every pair to the server, and back into the store what that does not take. */
static int relocate(ringkv_t *from, char why[WHY_BYTES])
{
    ringkv_scan_t *scan = NULL;
    ringkv_bytes key, value;
    ringkv_write_options if_absent = RINGKV_WRITE_OPTIONS_INIT;
    if_absent.flags = RINGKV_WRITE_IF_ABSENT;
    int all_taken = 1;
    ringkv_status status = ringkv_scan_open(from, NULL, &scan);
    while (status == RINGKV_OK && (status = ringkv_scan_next(scan, &key, &value)) == RINGKV_OK) {
        if (all_taken) all_taken = send_back(key, value, why);
        if (all_taken) continue;
        ringkv_status kept = put_privately(key.data, key.len, value.data, value.len, &if_absent);
        if (kept != RINGKV_EXISTS) status = kept;
    }
    if (status != RINGKV_NOT_FOUND) {
        all_taken = 0;
        snprintf(why, WHY_BYTES, "%s", ringkv_last_error());
    }
    ringkv_scan_close(&scan);
    return all_taken;
}

static void drop(const struct conversation *with)
{
    char why[WHY_BYTES];
    ringkv_info *info = NULL;
    int all_taken = 1;
    pthread_mutex_lock(&one_drop);
    pthread_mutex_lock(&lock);
    leaving = store;
    store = NULL;
    pthread_mutex_unlock(&lock);
    unsigned long long pairs = 0;
    if (leaving != NULL && ringkv_ring_info(leaving, &info) == RINGKV_OK) pairs = info->keys;
    ringkv_info_free(&info);
    printf("NODE-%ld: try to relocate %llu kv pairs\n", port, pairs);
    if (leaving != NULL) all_taken = relocate(leaving, why);
    pthread_mutex_lock(&lock);
    ringkv_t *empty = leaving;
    leaving = NULL;
    pthread_mutex_unlock(&lock);
    ringkv_close(&empty);
    if (all_taken)
        printf("NODE-%ld: finish relocate.\n", port);
    else
        printf("NODE-%ld: what could not be relocated stays here: %s\n", port, why);
    pthread_mutex_unlock(&one_drop);
    if (all_taken)
        reply_text(with, "");
    else
        reply_error(with, why);
}

static void handle(const struct conversation *with)
{
    static const char *const NAMES[] = {"GET", "PUT", "ADD", "DROP"};
    char key[SHOWN_BYTES], value[SHOWN_BYTES];
    int method = with->request.method;
    if (with->problem != NULL) {
        reply_error(with, with->problem);
        return;
    }
    printf("NODE-%ld receive: %s %s %s\n", port,
           method >= GET && method <= DROP ? NAMES[method - GET] : "unknown method",
           printable(key, sizeof key, with->key, with->request.key_size),
           printable(value, sizeof value, with->value, with->request.value_size));
    switch (method) {
    case GET: get(with); break;
    case PUT: put(with); break;
    case DROP: drop(with); break;
    default: reply_error(with, "unknown method");
    }
}

static void on_message(void *unused, int32_t level, const char *target, const char *message)
{
    (void)unused, (void)level, (void)target;
    printf("NODE-%ld: %s\n", port, message);
}

int main(int argc, char **argv)
{
    port = argc == 3 ? number(argv[1], 65535) : 0;
    if (port == 0) {
        fprintf(stderr, "usage: ./node <port> <server host:port>\n");
        return 2;
    }
    server = argv[2];
    setvbuf(stdout, NULL, _IOLBF, 0);
    sigset_t signals; /* Blocked before threads start, so that only sigwait below sees them. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);

    char name[32], address[WHY_BYTES], why[WHY_BYTES];
    snprintf(name, sizeof name, "localhost:%ld", port);
    ringkv_node_options options = RINGKV_NODE_OPTIONS_INIT;
    options.flags = RINGKV_NODE_STANDBY;
    options.name = name;
    options.listen = ring_address(name, address, why);
    if (ringkv_set_log_callback(on_message, NULL, RINGKV_LOG_INFO) != RINGKV_OK ||
        ringkv_node_start(&options, &node) != RINGKV_OK) {
        fprintf(stderr, "NODE-%ld: %s\n", port, ringkv_last_error());
        return 1;
    }
    int listener = open_door((unsigned short)port, why);
    if (listener < 0 || !serve(listener, TO_NODE, OLD_SERVER_BYTES, handle)) {
        fprintf(stderr, "NODE-%ld: %s\n", port, listener < 0 ? why : "cannot start threads");
        return 1;
    }
    printf("NODE-%ld listening\n", port);
    int signal = 0;
    sigwait(&signals, &signal);
    ringkv_close(&node);
    ringkv_close(&store);
    return 0;
}
