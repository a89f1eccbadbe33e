/* The front door: ./server <count> <host:port>...
 *
 * The nodes form a ring of their own and move their keys themselves. The server is a client of that
 * ring: it finds it or founds it, and translates the old wire. So it holds no data, and can
 * be stopped and started again while the nodes go on.
 */
#include "kvstore.h"

#include <ringkv.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PORT = 3344, THREADS = 64, SILENCE_SECONDS = 5, SHOWN_BYTES = 80 };

static ringkv_t *ring;

struct conversation {
    int fd;
    struct request request;
    char *key, *value;
};

static void answer_text(const struct conversation *with, const char *text)
{
    reply_to(with->fd, &with->request, REPLY_DONE, text, strlen(text));
}

static void answer_error(const struct conversation *with, const char *why)
{
    char text[1024];
    snprintf(text, sizeof text, "error: %s", why);
    printf("SERVER: %s\n", text);
    reply_to(with->fd, &with->request, REPLY_ERROR, text, strlen(text));
}

/* The name of the node that has served the key. */
static void locate(const struct conversation *with, char *out, size_t room)
{
    ringkv_location *at = NULL;
    ringkv_status status = ringkv_locate(ring, with->key, with->request.key_size, NULL, &at);
    snprintf(out, room, "%s", status == RINGKV_OK ? at->holders[0].name : "unknown");
    ringkv_location_free(&at);
}

static void put(const struct conversation *with, const char *key)
{
    char value[SHOWN_BYTES], node[RINGKV_ADDRESS_BYTES_MAX];
    const struct request *request = &with->request;
    printable(value, sizeof value, with->value, request->value_size);
    if (ringkv_put(ring, with->key, request->key_size, with->value, request->value_size, NULL)) {
        printf("SERVER: received PUT %s %s\n", key, value);
        answer_error(with, ringkv_last_error());
        return;
    }
    locate(with, node, sizeof node);
    const char *colon = strrchr(node, ':');
    printf("SERVER: received PUT %s %s; node: %s\n"
           "SERVER: send PUT %s %s to node: %s\n"
           "SERVER: send PUT to node: %s success.\n",
           key, value, node, key, value, node, colon ? colon + 1 : node);
    answer_text(with, "successful");
}

static void get(const struct conversation *with, const char *key)
{
    char node[RINGKV_ADDRESS_BYTES_MAX];
    ringkv_buf value = RINGKV_BUF_INIT;
    ringkv_status status = ringkv_get(ring, with->key, with->request.key_size, NULL, &value);
    if (status != RINGKV_OK && status != RINGKV_NOT_FOUND) {
        printf("SERVER: received GET %s\n", key);
        answer_error(with, ringkv_last_error());
        return;
    }
    locate(with, node, sizeof node);
    printf("SERVER: received GET %s; node: %s\n", key, node);
    if (status == RINGKV_NOT_FOUND)
        answer_text(with, "no result");
    else
        reply_to(with->fd, &with->request, REPLY_DONE, value.data, value.len);
    ringkv_buf_free(&value);
}

/* The nodes in the order of their places on the ring; `added` (or NULL) is announced. */
static void list_nodes(const char *added)
{
    ringkv_info *info = NULL;
    if (ringkv_ring_info(ring, &info) != RINGKV_OK) return;
    for (size_t i = 0; added != NULL && i < info->members_count; i++) {
        const ringkv_member *member = info->members[i];
        if (strcmp(member->node.name, added) == 0 || strcmp(member->node.address, added) == 0)
            printf("SERVER new node %s hash %llu\n", added, (unsigned long long)member->position);
    }
    flockfile(stdout);
    printf("---start---\n");
    for (size_t i = 0; i < info->members_count; i++)
        printf("node-%zu at %s\n", i, info->members[i]->node.name);
    printf("---end---\n");
    funlockfile(stdout);
    ringkv_info_free(&info);
}

static void change(const struct conversation *with, const char *key)
{
    int adds = with->request.method == ADD;
    printf("SERVER: received %s %s\n", adds ? "ADD" : "DROP", key);
    ringkv_change_options options = RINGKV_CHANGE_OPTIONS_INIT;
    options.timeout_ms = 1000 * REQUEST_SECONDS;
    /* Whoever says drop means it, as ever: also where one copy of each key remains. */
    if (!adds) options.flags = RINGKV_CHANGE_FORCE;
    ringkv_status status = adds ? ringkv_add_node(ring, with->key, &options)
                                : ringkv_drop_node(ring, with->key, &options);
    if (status != RINGKV_OK) {
        answer_error(with, ringkv_last_error());
        return;
    }
    list_nodes(adds ? with->key : NULL);
    if (!adds) printf("sorting completed\n");
    answer_text(with, "");
}

static void converse(struct conversation *with)
{
    struct request *request = &with->request;
    char key[SHOWN_BYTES];
    if (receive(with->fd, request, sizeof *request) != sizeof *request) return;
    if (request->key_size > RINGKV_KEY_BYTES_MAX || request->value_size > VALUE_BYTES_MAX) {
        answer_error(with, "a key has at most 4096 bytes, and a value 16 MiB");
        return;
    }
    with->key = malloc(request->key_size + request->value_size + 2); /* A NUL after each. */
    if (with->key == NULL) {
        answer_error(with, "out of memory");
        return;
    }
    with->value = with->key + request->key_size + 1;
    if (receive(with->fd, with->key, request->key_size) != request->key_size ||
        receive(with->fd, with->value, request->value_size) != request->value_size)
        return;
    with->value[-1] = with->value[request->value_size] = '\0';
    printable(key, sizeof key, with->key, request->key_size);
    switch (request->method) {
    case GET: get(with, key); break;
    case PUT: put(with, key); break;
    case ADD:
    case DROP: change(with, key); break;
    default:
        printf("method is: %d\n", request->method);
        answer_error(with, "unknown method");
    }
}

/* Each thread serves one client at a time; so nobody waits for another client's silence. */
static void *serve(void *listener)
{
    char rest[4096];
    for (;;) {
        struct conversation with = {0};
        with.fd = accept(*(int *)listener, NULL, NULL);
        if (with.fd < 0) {
            if (errno == EMFILE || errno == ENFILE) sleep(1);
            continue;
        }
        limit_silence(with.fd, SILENCE_SECONDS);
        converse(&with);
        /* To close before everything is read could take the answer away from the client. */
        shutdown(with.fd, SHUT_WR);
        for (int i = 0; i < VALUE_BYTES_MAX / (int)sizeof rest; i++)
            if (recv(with.fd, rest, sizeof rest, 0) <= 0) break;
        close(with.fd);
        free(with.key);
    }
    return NULL;
}

/* Finds the ring that one of the nodes belongs to already, or lets the first node that answers
 * begin one. A ring is founded by a member: one here, which leaves once the first node is in. */
static int find_or_found_ring(char **nodes, int count, int first_try)
{
    char own[RINGKV_ADDRESS_BYTES_MAX];
    ringkv_change_options to_one_node = RINGKV_CHANGE_OPTIONS_INIT;
    to_one_node.flags = RINGKV_CHANGE_FORCE;
    for (int i = 0; i < count; i++)
        if (ringkv_connect(nodes[i], NULL, &ring) == RINGKV_OK) return 1;
    for (int i = 0; i < count && ring == NULL; i++) {
        ringkv_t *founder = NULL;
        if (ringkv_node_start(NULL, &founder) == RINGKV_OK &&
            ringkv_add_node(founder, nodes[i], NULL) == RINGKV_OK &&
            ringkv_address(founder, own, sizeof own, NULL) == RINGKV_OK &&
            ringkv_drop_node(founder, own, &to_one_node) == RINGKV_OK)
            (void)!ringkv_connect(nodes[i], NULL, &ring);
        else if (first_try)
            fprintf(stderr, "server: node %s: %s\n", nodes[i], ringkv_last_error());
        ringkv_close(&founder);
    }
    return ring != NULL;
}

/* Whether every node of the list has been added, or cannot be for good. */
static int add_missing(char **nodes, int count)
{
    int missing = 0;
    for (int i = 0; i < count; i++) {
        if (nodes[i] == NULL) continue;
        ringkv_status status = ringkv_add_node(ring, nodes[i], NULL);
        int later = status == RINGKV_CONNECT || ringkv_status_is_retryable(status);
        missing += later;
        if (status == RINGKV_OK)
            list_nodes(nodes[i]);
        else if (status != RINGKV_REFUSED && !later) /* Refused are members. */
            fprintf(stderr, "server: node %s: %s\n", nodes[i], ringkv_last_error());
        if (!later) nodes[i] = NULL;
    }
    return missing == 0;
}

int main(int argc, char **argv)
{
    int count = argc > 2 ? atoi(argv[1]) : 0;
    if (count < 1 || count > argc - 2) {
        fprintf(stderr, "usage: ./server <count> <host:port>...\n");
        return 2;
    }
    char **nodes = argv + 2;
    const char *port = getenv("KVSTORE_PORT");
    setvbuf(stdout, NULL, _IOLBF, 0);
    int listener = open_door((unsigned short)(port ? atoi(port) : PORT));
    if (listener < 0) return 1;
    sigset_t signals; /* Blocked before threads start, so that only sigtimedwait sees them. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    const struct timespec second = {1, 0};
    for (int try = 0; !find_or_found_ring(nodes, count, try == 0); try++)
        if (sigtimedwait(&signals, NULL, &second) > 0) return 0;
    int complete = add_missing(nodes, count);
    printf("server: waiting for connections...\n");
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, &listener) != 0) return 1;
    }
    while (sigtimedwait(&signals, NULL, &second) < 0)
        if (!complete) complete = add_missing(nodes, count);
    ringkv_close(&ring);
    return 0;
}
