/* The front door: ./server <count> <host:port>...
 *
 * The nodes form a ring of their own and move their keys themselves. The server is a client of that
 * ring: it finds it or founds it, and translates the old wire. So it holds no data, and can
 * be stopped and started again while the nodes go on.
 *
 * What a node holds when it is added, because it is an old one or served an old server, it is
 * asked to send here (DROP), and the pairs land in the ring. Old nodes stay in the list, empty. As
 * long as there are only such, this process itself hosts the one node of the ring.
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

enum { PORT = 3344, OLD_NODES_MAX = 100 };

static ringkv_t *ring, *host; /* A client of it, and the member in this process if there is one. */
static char own[32];          /* Our address, and the host's name. */
static int listener;

/* Everything here is under the lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t pairs_are_here = PTHREAD_COND_INITIALIZER;
static int unloading, waiting, old_count;
static char old_nodes[OLD_NODES_MAX][RINGKV_ADDRESS_BYTES_MAX];

static void answer_error(const struct conversation *with, const char *why)
{
    printf("SERVER: error: %s\n", why);
    reply_error(with, why);
}

/* While a node sends its pairs, what is not in the ring may be on its way to it, and what is put
 * may be overtaken by an older value. So one waits; not too many, for the pairs come by the same
 * door. */
static int await_pairs(const struct conversation *with)
{
    pthread_mutex_lock(&lock);
    int room = !unloading || waiting < CLIENTS_MAX / 2;
    waiting += room;
    while (room && unloading) pthread_cond_wait(&pairs_are_here, &lock);
    waiting -= room;
    pthread_mutex_unlock(&lock);
    if (!room) answer_error(with, "busy: nodes are being added, try again");
    return room;
}

/* Whether nodes send pairs now; `change` is added to their number. */
static int add_unloading(int change)
{
    pthread_mutex_lock(&lock);
    unloading += change;
    if (!unloading) pthread_cond_broadcast(&pairs_are_here);
    int any = unloading > 0;
    pthread_mutex_unlock(&lock);
    return any;
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
    ringkv_write_options options = RINGKV_WRITE_OPTIONS_INIT;
    /* Without the mark it may be a pair that a node sends, and an old one sends it only once. */
    if (!with->marked && add_unloading(0)) options.timeout_ms = 1000 * REQUEST_SECONDS;
    if (with->marked && !await_pairs(with)) return;
    printable(value, sizeof value, with->value, request->value_size);
    if (ringkv_put(ring, with->key, request->key_size, with->value, request->value_size,
                   &options) != RINGKV_OK) {
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
    reply_text(with, "successful");
}

static void get(const struct conversation *with, const char *key)
{
    char node[RINGKV_ADDRESS_BYTES_MAX];
    ringkv_buf value = RINGKV_BUF_INIT;
    size_t size = with->request.key_size;
    ringkv_status status = ringkv_get(ring, with->key, size, NULL, &value);
    if (status == RINGKV_NOT_FOUND) {
        if (!await_pairs(with)) return;
        status = ringkv_get(ring, with->key, size, NULL, &value);
    }
    if (status != RINGKV_OK && status != RINGKV_NOT_FOUND) {
        printf("SERVER: received GET %s\n", key);
        answer_error(with, ringkv_last_error());
        return;
    }
    locate(with, node, sizeof node);
    printf("SERVER: received GET %s; node: %s\n", key, node);
    if (status == RINGKV_NOT_FOUND)
        reply_text(with, "no result");
    else
        reply_to(with, REPLY_DONE, value.data, value.len);
    ringkv_buf_free(&value);
}

/* The nodes in the order of their places on the ring, then the old ones; `added` (or NULL) is
 * announced. */
static void list_nodes(const char *added)
{
    ringkv_info *info = NULL;
    int shown = 0;
    if (ringkv_ring_info(ring, &info) != RINGKV_OK) return;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; added != NULL && i < info->members_count; i++)
        if (strcmp(info->members[i]->node.name, added) == 0)
            printf("SERVER new node %s hash %llu\n", added,
                   (unsigned long long)info->members[i]->position);
    printf("---start---\n");
    for (size_t i = 0; i < info->members_count; i++)
        if (strcmp(info->members[i]->node.name, own) != 0)
            printf("node-%d at %s\n", shown++, info->members[i]->node.name);
    for (int i = 0; i < old_count; i++) printf("node-%d at %s\n", shown++, old_nodes[i]);
    printf("---end---\n");
    pthread_mutex_unlock(&lock);
    ringkv_info_free(&info);
}

/* Whether it was in the list of old nodes. */
static int forget_old(const char *node)
{
    int at = 0;
    pthread_mutex_lock(&lock);
    while (at < old_count && strcmp(old_nodes[at], node) != 0) at++;
    int found = at < old_count;
    if (found && at < --old_count) memcpy(old_nodes[at], old_nodes[old_count], sizeof *old_nodes);
    pthread_mutex_unlock(&lock);
    return found;
}

static void remember_old(const char *node)
{
    forget_old(node);
    pthread_mutex_lock(&lock);
    if (old_count < OLD_NODES_MAX)
        snprintf(old_nodes[old_count++], sizeof *old_nodes, "%s", node);
    pthread_mutex_unlock(&lock);
    printf("SERVER new node %s is of the old kind: its pairs are in the ring now\n", node);
}

static int start_serving(char why[WHY_BYTES]);

/* Founds the ring that the nodes will be added to, with a member in this process. */
static int found_ring(char why[WHY_BYTES])
{
    char address[WHY_BYTES];
    ringkv_node_options options = RINGKV_NODE_OPTIONS_INIT;
    options.name = own;
    options.listen = ring_address(own, address, why);
    if (ringkv_node_start(&options, &host) == RINGKV_OK &&
        ringkv_connect(address, NULL, &ring) == RINGKV_OK)
        return start_serving(why);
    snprintf(why, WHY_BYTES, "%s", ringkv_last_error());
    ringkv_close(&host);
    return 0;
}

/* Once there are nodes in the ring, none is needed here: its pairs move to them. */
static void leave_to_nodes(void)
{
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    ringkv_change_options options = RINGKV_CHANGE_OPTIONS_INIT;
    options.flags = RINGKV_CHANGE_FORCE;
    pthread_mutex_lock(&one_at_a_time);
    if (host != NULL) {
        ringkv_status status = ringkv_drop_node(ring, own, &options);
        if (status == RINGKV_OK || status == RINGKV_NO_SUCH_MEMBER) ringkv_close(&host);
    }
    pthread_mutex_unlock(&one_at_a_time);
}

/* Asks the node on the other side for its pairs. Returns 1 if it is a new one, 0 if it is an old
 * one, and otherwise -1 and the reason. */
static int unload(int node, char why[WHY_BYTES])
{
    struct request drop = {DROP, TO_NODE, 0, 0}, catch_up = {CATCH_UP, TO_SERVER, 0, 0};
    struct answer answer, caught_up;
    int answered = ask(node, &drop, "", "", &answer), problem = errno;
    if (!answered && problem != 0) {
        snprintf(why, WHY_BYTES, "it does not send its pairs: %s", strerror(problem));
        return -1;
    }
    int kind = answered && answer.marked;
    /* An error without the mark is another server's. */
    if (answered && (answer.kind == REPLY_ERROR || strncmp(answer.text, "error: ", 7) == 0)) {
        snprintf(why, WHY_BYTES, "it does not send its pairs: %s", answer.text);
        kind = -1;
    }
    free(answer.text);
    if (kind != 0) return kind;
    /* An old node does not wait until its pairs have been read here. */
    int here = dial(own, CATCH_UP, why);
    if (here < 0) return -1;
    snprintf(why, WHY_BYTES, "its pairs take too long");
    if (!ask(here, &catch_up, "", "", &caught_up)) return -1;
    free(caught_up.text);
    return 0;
}

/* Only old nodes can keep the pairs when this process ends. They get all of them, so that an old
 * server finds each wherever it looks, and the next new one collects them again. */
static void give_back(void)
{
    ringkv_scan_t *scan = NULL;
    ringkv_bytes key, value;
    char why[WHY_BYTES];
    long kept = 0, lost = 0;
    ringkv_status status = ringkv_scan_open(ring, NULL, &scan);
    while (status == RINGKV_OK && (status = ringkv_scan_next(scan, &key, &value)) == RINGKV_OK) {
        struct request request = {PUT, 0, key.len, value.len};
        struct answer answer;
        int taken = 0;
        for (int i = 0; i < old_count; i++) {
            int small = key.len < OLD_SERVER_BYTES && value.len < OLD_SERVER_BYTES;
            int fd = small ? dial(old_nodes[i], PUT, why) : -1;
            if (fd < 0 || !ask(fd, &request, key.data, value.data, &answer)) continue;
            free(answer.text);
            taken = 1;
        }
        *(taken ? &kept : &lost) += 1;
    }
    ringkv_scan_close(&scan);
    if (kept > 0) printf("SERVER: gave %ld pairs back to the old nodes\n", kept);
    if (lost > 0) fprintf(stderr, "server: %ld pairs are lost: no old node can take them\n", lost);
    if (status != RINGKV_NOT_FOUND) fprintf(stderr, "server: %s\n", ringkv_last_error());
}

enum outcome { ADDED, MEMBER, LATER, NEVER };

/* Lets the node send what it holds, and adds it to the ring or to the list of old ones. */
static enum outcome add(const char *node, char why[WHY_BYTES])
{
    char address[WHY_BYTES];
    if (ring_address(node, address, why) == NULL) return NEVER;
    int fd = dial(node, DROP, why);
    if (fd < 0) return LATER;
    if (ring == NULL && !found_ring(why)) {
        close(fd);
        return LATER;
    }
    add_unloading(1);
    int kind = unload(fd, why);
    add_unloading(-1);
    if (kind < 0) return NEVER;
    if (kind == 0) {
        remember_old(node);
        return ADDED;
    }
    ringkv_change_options options = RINGKV_CHANGE_OPTIONS_INIT;
    options.timeout_ms = 1000 * CHANGE_SECONDS;
    ringkv_status status = ringkv_add_node(ring, address, &options);
    snprintf(why, WHY_BYTES, "%s", status == RINGKV_OK ? "" : ringkv_last_error());
    if (status == RINGKV_OK || status == RINGKV_REFUSED) forget_old(node);
    if (status == RINGKV_OK) return ADDED;
    if (status == RINGKV_REFUSED) return MEMBER;
    /* A change that takes long or is disturbed goes on in the ring: it is looked at again. */
    int goes_on = status == RINGKV_TIMEOUT || status == RINGKV_ABORTED || status == RINGKV_CONNECT;
    return goes_on || ringkv_status_is_retryable(status) ? LATER : NEVER;
}

static void change(const struct conversation *with)
{
    char key[SHOWN_BYTES], why[WHY_BYTES];
    int adds = with->request.method == ADD, done;
    printf("SERVER: received %s %s\n", adds ? "ADD" : "DROP",
           printable(key, sizeof key, with->key, with->request.key_size));
    if (adds) {
        done = add(with->key, why) == ADDED;
        if (done) leave_to_nodes();
    } else {
        /* Whoever says drop means it, as ever: also where one copy of each key remains. */
        ringkv_change_options options = RINGKV_CHANGE_OPTIONS_INIT;
        options.timeout_ms = 1000 * CHANGE_SECONDS;
        options.flags = RINGKV_CHANGE_FORCE;
        done = forget_old(with->key) || ringkv_drop_node(ring, with->key, &options) == RINGKV_OK;
        if (!done) snprintf(why, sizeof why, "%s", ringkv_last_error());
    }
    if (!done) {
        answer_error(with, why);
        return;
    }
    list_nodes(adds ? with->key : NULL);
    if (!adds) printf("sorting completed\n");
    reply_text(with, "");
}

static void handle(const struct conversation *with)
{
    char key[SHOWN_BYTES];
    int method = with->request.method;
    /* Only the pairs that nodes send have to be waited for. */
    if (method != CATCH_UP && (method != PUT || with->marked)) give_up_turn(with);
    if (with->problem != NULL) {
        answer_error(with, with->problem);
        return;
    }
    printable(key, sizeof key, with->key, with->request.key_size);
    switch (method) {
    case GET: get(with, key); break;
    case PUT: put(with, key); break;
    case ADD:
    case DROP: change(with); break;
    case CATCH_UP:
        await_turns(with);
        reply_text(with, "");
        break;
    default:
        printf("method is: %d\n", method);
        answer_error(with, "unknown method");
    }
}

static int start_serving(char why[WHY_BYTES])
{
    snprintf(why, WHY_BYTES, "cannot start threads");
    return serve(listener, TO_SERVER, OLD_CLIENT_BYTES, handle);
}

/* Finds the ring that one of the nodes belongs to already. */
static void find_ring(char **nodes, int count)
{
    char address[WHY_BYTES], why[WHY_BYTES];
    for (int i = 0; i < count && ring == NULL; i++)
        if (ring_address(nodes[i], address, why) != NULL &&
            ringkv_connect(address, NULL, &ring) == RINGKV_OK)
            (void)start_serving(why);
}

/* Whether every node of the list has been added, or cannot be for good. */
static int add_missing(char **nodes, int count, int first_try)
{
    int missing = 0;
    char why[WHY_BYTES];
    for (int i = 0; i < count; i++) {
        if (nodes[i] == NULL) continue;
        enum outcome outcome = add(nodes[i], why);
        missing += outcome == LATER;
        if (outcome == ADDED) list_nodes(nodes[i]);
        if (outcome == NEVER || (outcome == LATER && first_try))
            fprintf(stderr, "server: node %s: %s\n", nodes[i], why);
        if (outcome != LATER) nodes[i] = NULL;
    }
    if (ring != NULL) leave_to_nodes();
    return missing == 0;
}

int main(int argc, char **argv)
{
    const char *text = getenv("KVSTORE_PORT");
    long count = argc > 2 ? number(argv[1], argc - 2) : 0, port = text ? number(text, 65535) : PORT;
    if (count == 0 || port == 0) {
        fprintf(stderr, port ? "usage: ./server <count> <host:port>...\n"
                             : "server: KVSTORE_PORT is not a port\n");
        return 2;
    }
    char why[WHY_BYTES], **nodes = argv + 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    snprintf(own, sizeof own, "localhost:%ld", port);
    listener = open_door((unsigned short)port, why);
    if (listener < 0) {
        fprintf(stderr, "server: %s\n", why);
        return 1;
    }
    sigset_t signals; /* Blocked before threads start, so that only sigtimedwait sees them. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    const struct timespec second = {1, 0};
    int complete = 0;
    add_unloading(1); /* What the nodes of the list hold is missing until each has been asked. */
    for (int try = 0; ring == NULL; try++) {
        if (try > 0 && sigtimedwait(&signals, NULL, &second) > 0) return 0;
        find_ring(nodes, (int)count);
        complete = add_missing(nodes, (int)count, try == 0);
    }
    add_unloading(-1);
    if (host != NULL) printf("SERVER: no new node is there yet, so this process keeps the pairs\n");
    printf("server: waiting for connections...\n");
    while (sigtimedwait(&signals, NULL, &second) < 0)
        if (!complete) complete = add_missing(nodes, (int)count, 0);
    shutdown(listener, SHUT_RDWR);
    if (host != NULL) give_back();
    ringkv_close(&ring);
    ringkv_close(&host);
    return 0;
}
