/* The servers: ./server [N], or ./server add_server PORT
 *
 * Each server is a node of the ring. It stands by until the main server, to which it announces
 * itself, adds it; and it ends when it was dropped. Every server answers for every key, wherever
 * the ring keeps it. In the ring, key and value are decimal text.
 */
#include "tracker.h"

#include <ringkv.h>

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DEFAULT_SERVERS = 10, TICK_MS = 100, ANNOUNCE_TICKS = 5 };
enum { ANNOUNCE_SECONDS = 10, DROP_MS = 1000, LEAVING_TICKS = 150 };

/* A number and its text in the ring. */
enum { TEXT_BYTES = 16 };

struct server {
    unsigned short port;
    char name[ADDRESS_BYTES];
    ringkv_t *node;
    ringkv_events_t *events;
    int was_member, is_over;
};

static const struct message FAILURE = {FAILED, FAILED, FAILED};

static struct server servers[SERVERS_MAX];
static struct door doors[SERVERS_MAX];
static size_t servers_count;
static char process_zone[ADDRESS_BYTES];

static ringkv_bytes text_of(int number, char out[TEXT_BYTES])
{
    int length = snprintf(out, TEXT_BYTES, "%d", number);
    return (ringkv_bytes){out, (size_t)length};
}

/* What the ring says of one key: the value, ABSENT, or a failure. */
static void take_value(struct message *message, ringkv_status status, const ringkv_buf *value)
{
    /* Another program may have stored a value that does not fit the wire. */
    long number = ABSENT;
    int fits = status == RINGKV_OK && strlen(value->data) == value->len &&
               parse_number(value->data, INT_MIN, INT_MAX, &number) && number != ABSENT;
    message->value = (int)number;
    if (!fits && status != RINGKV_NOT_FOUND) *message = FAILURE;
}

/* Executes messages of one kind together and turns them into their answers. */
static void execute(ringkv_t *node, struct message *messages, size_t count)
{
    char key_texts[BATCH][TEXT_BYTES], value_texts[BATCH][TEXT_BYTES];
    ringkv_bytes keys[BATCH];
    ringkv_pair pairs[BATCH];
    ringkv_buf values[BATCH];
    ringkv_status statuses[BATCH];
    int action = messages[0].action;
    for (size_t i = 0; i < count; i++) {
        keys[i] = text_of(messages[i].key, key_texts[i]);
        pairs[i] = (ringkv_pair){keys[i], text_of(messages[i].value, value_texts[i])};
    }
    /* What happened to each key stands in `statuses`, also if the call as a whole fails. */
    if (action == INSERT) (void)!ringkv_put_many(node, pairs, count, NULL, statuses);
    if (action == SEARCH) (void)!ringkv_get_many(node, keys, count, NULL, values, statuses);
    if (action == DELETE) (void)!ringkv_delete_many(node, keys, count, NULL, statuses);
    for (size_t i = 0; i < count; i++) {
        int is_done = statuses[i] == RINGKV_OK || statuses[i] == RINGKV_NOT_FOUND;
        if (action == SEARCH) {
            take_value(&messages[i], statuses[i], &values[i]);
            ringkv_buf_free(&values[i]);
        } else if (!is_done) {
            messages[i] = FAILURE;
        } else if (action == DELETE) {
            messages[i].value = 0; /* As ever, whether the key was there or not. */
        }
    }
}

static int is_executable(const struct message *message)
{
    return message->action == SEARCH || message->action == DELETE ||
           (message->action == INSERT && message->value >= 0);
}

/* Answers the first messages, as many as can be executed together; returns how many. */
static size_t answer(const struct server *server, struct message *messages, size_t count)
{
    size_t run = 1;
    while (run < count && messages[run].action == messages[0].action &&
           is_executable(&messages[run]))
        run++;
    if (is_executable(&messages[0])) {
        execute(server->node, messages, run);
        return run;
    }
    /* The ring moves keys itself, and tells a server that it was dropped: what anybody may send
     * to this port must not do either. */
    if (messages[0].action == REHASH || messages[0].action == TERMINATE)
        printf("SERVER <%s>: THE RING REHASHES AND TERMINATES, NO MESSAGE DOES: IGNORED\n",
               server->name);
    messages[0] = FAILURE;
    return 1;
}

static void converse(int fd, void *context)
{
    const struct server *server = context;
    struct message batch[BATCH];
    size_t count;
    while ((count = receive_records(fd, batch, sizeof *batch, BATCH)) > 0) {
        for (size_t i = 0; i < count; i++)
            printf("MESSAGE RECEIVED ON SERVER <%s>: A: %d, K: %d, V: %d\n", server->name,
                   batch[i].action, batch[i].key, batch[i].value);
        for (size_t done = 0; done < count;)
            done += answer(server, batch + done, count - done);
        if (!transmit(fd, batch, count * sizeof *batch)) break;
    }
}

static int start_server(unsigned short port)
{
    struct server *server = &servers[servers_count];
    struct door *door = &doors[servers_count];
    char listen[ADDRESS_BYTES];
    ringkv_node_options options = RINGKV_NODE_OPTIONS_INIT;
    server->port = port;
    server_name(port, server->name);
    ring_address(port, listen);
    options.flags = RINGKV_NODE_STANDBY;
    options.name = server->name;
    options.listen = listen;
    options.zone = process_zone; /* So a key's copies are in several processes, if there are. */
    if (!open_door(door, port)) return 0;
    if (ringkv_node_start(&options, &server->node) != RINGKV_OK ||
        ringkv_events_open(server->node, NULL, &server->events) != RINGKV_OK) {
        fprintf(stderr, "server: %s: %s\n", server->name, ringkv_last_error());
        return 0;
    }
    door->converse = converse;
    door->context = server;
    servers_count++;
    return 1;
}

/* Tells the main server, and returns when it has acted on it. Whether it listens at all. */
static int announce(struct server *server)
{
    const struct change join = {JOIN, place_of(server->port)};
    ringkv_info *info = NULL;
    char end;
    int fd = dial((unsigned short)(tracker_port() + 1));
    if (fd < 0) return 0;
    limit_silence(fd, ANNOUNCE_SECONDS);
    if (transmit(fd, &join, sizeof join)) (void)!receive(fd, &end, 1);
    close(fd);
    server->was_member = ringkv_ring_info(server->node, &info) == RINGKV_OK;
    ringkv_info_free(&info);
    return 1;
}

/* The ring as the first of the servers that belongs to it sees it, or NULL. */
static ringkv_info *ring_of_servers(struct server **member)
{
    ringkv_info *info = NULL;
    for (size_t i = 0; i < servers_count && info == NULL; i++) {
        *member = &servers[i];
        (void)!ringkv_ring_info(servers[i].node, &info);
    }
    return info;
}

static const ringkv_member *member_called(const ringkv_info *info, const char *name)
{
    for (size_t i = 0; info != NULL && i < info->members_count; i++)
        if (strcmp(info->members[i]->node.name, name) == 0) return info->members[i];
    return NULL;
}

/* Announces who stands by, and one member to a main server that does not know the ring yet. */
static void announce_where_needed(void)
{
    static int has_complained;
    struct server *member = NULL;
    ringkv_info *info = ring_of_servers(&member);
    const ringkv_member *tracker = member_called(info, "mainServer");
    int is_heard = 1;
    if (info != NULL && (tracker == NULL || !tracker->reachable)) is_heard = announce(member);
    for (size_t i = 0; i < servers_count && is_heard; i++) {
        struct server *server = &servers[i];
        if (member_called(info, server->name) != NULL) server->was_member = 1;
        /* Who was a member and is none has been dropped, and is about to hear of it. */
        if (!server->is_over && !server->was_member) is_heard = announce(server);
    }
    if (!is_heard && !has_complained)
        fprintf(stderr, "server: waiting for a main server on port %d\n", tracker_port() + 1);
    has_complained = !is_heard;
    ringkv_info_free(&info);
}

/* Threads that still have a visitor get RINGKV_CLOSED from then on: the handle stays recognised. */
static void end_node(size_t index)
{
    ringkv_t *node = servers[index].node;
    ringkv_events_close(&servers[index].events);
    ringkv_close(&node);
    servers[index].is_over = 1;
}

static void end_server(size_t index)
{
    close_door(&doors[index]);
    end_node(index);
}

/* Ends the servers that were dropped from the ring; how many are left. */
static size_t end_dropped_servers(void)
{
    size_t left = 0;
    ringkv_event event = RINGKV_EVENT_INIT;
    for (size_t i = 0; i < servers_count; i++) {
        struct server *server = &servers[i];
        int was_dropped = 0;
        while (!server->is_over && ringkv_events_next(server->events, &event, 0) == RINGKV_OK)
            if (event.kind == RINGKV_EVENT_LEFT && strcmp(event.member.name, server->name) == 0)
                was_dropped = 1;
        if (was_dropped) {
            end_server(i);
            printf("SERVER <%s> TERMINATED\n", server->name);
        }
        left += !server->is_over;
    }
    return left;
}

/* Whether servers of other processes stay, to which keys can be left. */
static int others_stay(void)
{
    struct server *member = NULL;
    ringkv_info *info = ring_of_servers(&member);
    int others = 0;
    for (size_t i = 0; info != NULL && i < info->members_count; i++) {
        const ringkv_member *other = info->members[i];
        others += other->weight > 0 && other->reachable && other->state == RINGKV_MEMBER_UP &&
                  strcmp(other->zone, process_zone) != 0;
    }
    ringkv_info_free(&info);
    return others > 0;
}

/* Leaves the keys to other processes, unless a second signal comes. */
static void leave_ring(const sigset_t *signals, const struct timespec *tick)
{
    ringkv_change_options all_at_once = RINGKV_CHANGE_OPTIONS_INIT;
    all_at_once.flags = RINGKV_CHANGE_NO_WAIT;
    all_at_once.timeout_ms = DROP_MS;
    for (size_t i = 0; i < servers_count && others_stay(); i++)
        if (!servers[i].is_over &&
            ringkv_drop_node(servers[i].node, servers[i].name, &all_at_once) != RINGKV_OK)
            end_node(i);
    for (int ticks = 0; ticks < LEAVING_TICKS && end_dropped_servers() > 0; ticks++)
        if (!others_stay() || sigtimedwait(signals, NULL, tick) > 0) break;
}

static int usage(void)
{
    fprintf(stderr, "usage: ./server [<number of servers>], or ./server add_server <port>\n");
    return 2;
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? 0 : DEFAULT_SERVERS, first = tracker_port() + 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 3 && strcmp(argv[1], "add_server") == 0) {
        if (!parse_number(argv[2], 1, USHRT_MAX, &first)) return usage();
        count = 1;
    } else if (argc > 2 || (argc == 2 && !parse_number(argv[1], 1, LONG_MAX, &count))) {
        return usage();
    }
    if (count > SERVERS_MAX) {
        printf("Please try a fewer number of servers MAX %d.\n", SERVERS_MAX);
        return 1;
    }
    printf("Creating %ld servers%s\n", count, argc > 1 ? "" : " (default)");
    sigset_t signals; /* Blocked before threads start, so that only sigtimedwait sees them. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    snprintf(process_zone, sizeof process_zone, "process-%ld", (long)getpid());
    for (long port = first; port < first + count; port++)
        if (!start_server((unsigned short)port)) return 1;
    if (!serve_doors(doors, servers_count)) return 1;
    printf("Ports open on %ld through %ld.\n", first, first + count - 1);

    const struct timespec tick = {0, TICK_MS * 1000000};
    for (int ticks = 0; sigtimedwait(&signals, NULL, &tick) < 0; ticks++) {
        if (ticks % ANNOUNCE_TICKS == 0) announce_where_needed();
        if (end_dropped_servers() == 0) return 0;
    }
    leave_ring(&signals, &tick);
    for (size_t i = 0; i < servers_count; i++)
        end_node(i);
    return 0;
}
