/* The main server: ./mainServer
 *
 * It knows which servers there are: it adds those that announce themselves to the ring, drops
 * those that a client names, sees which have died, and tells clients whom to ask for a key. It is a
 * node of the ring itself, one that holds no keys; so it can be stopped and started again.
 */
#include "table.h"
#include "tracker.h"

#include <ringkv.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { PARTITIONS = 1024, TICK_MS = 100, LOOK_TICKS = 10, FIRST_WAIT_MS = 1000 };
enum { CLIENT_WAIT_MS = 3000, LOCATE_MS = 250, JOIN_MS = 3000 };
enum { CHANGE_MS = 60000, END_MS = 2000 };

static const char *const NAME = "mainServer";

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* Of the next five. */
static ringkv_t *ring;
static ringkv_events_t *events;
static uint64_t version;
static struct table table;
static unsigned short being_added;

static long started_ms;
static atomic_int joining;

static long now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void nap(void)
{
    const struct timespec little = {0, 20 * 1000000};
    nanosleep(&little, NULL);
}

static ringkv_t *current_ring(void)
{
    pthread_mutex_lock(&lock);
    ringkv_t *current = ring;
    pthread_mutex_unlock(&lock);
    return current;
}

static struct table current_table(void)
{
    pthread_mutex_lock(&lock);
    struct table current = table;
    pthread_mutex_unlock(&lock);
    return current;
}

static enum state state_of(unsigned short port)
{
    struct table now = current_table();
    return state_in(&now, port);
}

static size_t active_servers(void)
{
    struct table now = current_table();
    return active_in(&now);
}

/* Brings the table up to date and tells what has changed. */
static void refresh(void)
{
    static struct table now; /* Under the lock. */
    ringkv_t *of = current_ring();
    ringkv_info *info = NULL;
    if (of == NULL || ringkv_ring_info(of, &info) != RINGKV_OK) return;
    pthread_mutex_lock(&lock);
    if (of == ring && info->version >= version) { /* Another thread may have been faster. */
        version = info->version;
        read_table(info, being_added, &now);
        print_changes(&table, &now);
        table = now;
    }
    pthread_mutex_unlock(&lock);
    ringkv_info_free(&info);
}

static void use_ring(ringkv_t *new_ring)
{
    ringkv_events_t *new_events = NULL;
    if (new_ring != NULL) (void)!ringkv_events_open(new_ring, NULL, &new_events);
    pthread_mutex_lock(&lock);
    ringkv_t *old_ring = ring;
    ringkv_events_t *old_events = events;
    ring = new_ring;
    events = new_events;
    version = 0;
    pthread_mutex_unlock(&lock);
    ringkv_events_close(&old_events);
    ringkv_close(&old_ring);
}

static void complain(unsigned short port)
{
    static char last[512]; /* The server tries again every half second; that is said once. */
    char line[sizeof last];
    snprintf(line, sizeof line, "SERVER <127.0.0.1:%d> CANNOT BE ADDED: %s", port,
             ringkv_last_error());
    pthread_mutex_lock(&lock);
    if (strcmp(line, last) != 0) printf("%s\n", strcpy(last, line));
    pthread_mutex_unlock(&lock);
}

static int belongs_to_ring(const char *address)
{
    ringkv_t *client = NULL;
    int belongs = ringkv_connect(address, NULL, &client) == RINGKV_OK;
    ringkv_close(&client);
    return belongs;
}

/* Makes a ring of the server at `address`. A ring is founded by a node that holds keys: one here,
 * which leaves once the server is in. */
static int found_ring(const char *address)
{
    char own[RINGKV_ADDRESS_BYTES_MAX];
    ringkv_t *founder = NULL;
    ringkv_node_options options = RINGKV_NODE_OPTIONS_INIT;
    ringkv_change_options soon = RINGKV_CHANGE_OPTIONS_INIT;
    options.partitions = PARTITIONS;
    options.min_insync = 1; /* One server suffices, as ever; there are three copies if possible. */
    soon.timeout_ms = CHANGE_MS;
    int is_done = ringkv_node_start(&options, &founder) == RINGKV_OK &&
                  ringkv_add_node(founder, address, &soon) == RINGKV_OK &&
                  ringkv_address(founder, own, sizeof own, NULL) == RINGKV_OK &&
                  ringkv_drop_node(founder, own, &soon) == RINGKV_OK;
    ringkv_close(&founder);
    return is_done;
}

static int join_ring(const char *address)
{
    char listen[ADDRESS_BYTES];
    ringkv_t *node = NULL;
    ringkv_node_options options = RINGKV_NODE_OPTIONS_INIT;
    ring_address(tracker_port(), listen);
    options.flags = RINGKV_NODE_ROUTER;
    options.name = NAME;
    options.listen = listen;
    options.join = address;
    options.start_timeout_ms = JOIN_MS;
    if (ringkv_node_start(&options, &node) != RINGKV_OK) return 0;
    use_ring(node);
    return 1;
}

/* Whether a server is still what it was. One that was killed and started again answers, too, but
 * it stands by. */
static int anyone_is_left(void)
{
    char address[ADDRESS_BYTES];
    struct table now = current_table();
    for (size_t i = 0; i < now.count; i++) {
        ring_address(now.rows[i].port, address);
        if (now.rows[i].state == ACTIVE && belongs_to_ring(address)) return 1;
    }
    return 0;
}

/* The first server of a new ring, or one of a ring that lost its main server. */
static void begin(unsigned short port, const char *address)
{
    if (current_ring() != NULL) { /* What its servers kept died with them. */
        printf("NO SERVER ANSWERS ANY MORE: THE NEXT ONE BEGINS A NEW, EMPTY RING\n");
        use_ring(NULL);
    }
    if ((!belongs_to_ring(address) && !found_ring(address)) || !join_ring(address))
        complain(port);
}

/* One more server. It is told of when its share of the keys has moved to it. */
static void add(unsigned short port, const char *address)
{
    ringkv_change_options options = RINGKV_CHANGE_OPTIONS_INIT;
    options.timeout_ms = CHANGE_MS;
    pthread_mutex_lock(&lock);
    being_added = port;
    pthread_mutex_unlock(&lock);
    if (ringkv_add_node(current_ring(), address, &options) != RINGKV_OK) complain(port);
    pthread_mutex_lock(&lock);
    being_added = 0;
    pthread_mutex_unlock(&lock);
}

static void join(unsigned short port)
{
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    char address[ADDRESS_BYTES];
    ring_address(port, address);
    /* The servers of a ring that lost its main server say so within a second: so that two rings
     * do not come about, none is founded earlier. */
    while (current_ring() == NULL && now_ms() < started_ms + FIRST_WAIT_MS &&
           !belongs_to_ring(address))
        nap();
    pthread_mutex_lock(&one_at_a_time);
    refresh();
    if (state_of(port) == ACTIVE && belongs_to_ring(address))
        printf("SERVER ALREADY IN DHT!\n");
    else if (anyone_is_left())
        add(port, address);
    else
        begin(port, address);
    refresh();
    pthread_mutex_unlock(&one_at_a_time);
}

static void leave(unsigned short port)
{
    char name[ADDRESS_BYTES];
    ringkv_change_options options = RINGKV_CHANGE_OPTIONS_INIT;
    options.timeout_ms = CHANGE_MS;
    server_name(port, name);
    refresh();
    if (state_of(port) == UNKNOWN) {
        printf("SERVER IS NOT ACTIVE AND THEREFORE CANNOT BE DELETED!\n");
        return;
    }
    if (ringkv_drop_node(current_ring(), name, &options) != RINGKV_OK)
        printf("SERVER <%s> CANNOT BE DELETED: %s\n", name, ringkv_last_error());
    refresh();
}

static void hear_server(int fd, void *unused)
{
    struct change change;
    (void)unused;
    if (receive(fd, &change, sizeof change) != sizeof change) return;
    if (!is_here(&change.server) || (change.action != JOIN && change.action != LEAVE)) {
        printf("A MESSAGE THAT MEANS NOTHING WAS IGNORED\n");
    } else if (change.action == LEAVE) {
        leave(change.server.port);
    } else {
        atomic_fetch_add(&joining, 1);
        join(change.server.port);
        atomic_fetch_sub(&joining, 1);
    }
}

static void choose(unsigned short port, struct place out[COPIES], size_t *chosen)
{
    for (size_t i = 0; i < *chosen; i++)
        if (out[i].port == port) return;
    if (*chosen < COPIES) out[(*chosen)++] = place_of(port);
}

/* Three servers for a key: those that hold it, the primary first, and then others, since each can
 * answer. With fewer than three servers they come again. */
static void find_places(int key, struct place out[COPIES])
{
    char text[16];
    size_t chosen = 0;
    struct table now = current_table();
    ringkv_location *at = NULL;
    ringkv_read_options soon = RINGKV_READ_OPTIONS_INIT;
    soon.timeout_ms = LOCATE_MS;
    int length = snprintf(text, sizeof text, "%d", key);
    if (ringkv_locate(current_ring(), text, (size_t)length, &soon, &at) == RINGKV_OK)
        for (size_t i = 0; i < at->holders_count; i++) {
            unsigned short port = port_of(at->holders[i].name);
            if (state_in(&now, port) == ACTIVE) choose(port, out, &chosen);
        }
    ringkv_location_free(&at);
    for (size_t i = 0; i < now.count; i++)
        if (now.rows[i].state == ACTIVE) choose(now.rows[i].port, out, &chosen);
    for (size_t i = chosen; i < COPIES; i++)
        out[i] = chosen > 0 ? out[i - chosen] : (struct place){{0}, 0};
}

static void hear_client(int fd, void *unused)
{
    int keys[BATCH];
    struct place places[BATCH][COPIES];
    size_t count;
    (void)unused;
    while ((count = receive_records(fd, keys, sizeof *keys, BATCH)) > 0) {
        /* Whoever comes while the first servers are being added is not sent away. */
        for (long until = now_ms() + CLIENT_WAIT_MS;
             active_servers() == 0 && atomic_load(&joining) > 0 && now_ms() < until;)
            nap();
        for (size_t i = 0; i < count; i++)
            find_places(keys[i], places[i]);
        if (!transmit(fd, places, count * sizeof *places)) break;
    }
}

/* Once a tick: looks whether something has happened to the ring. */
static void watch(int is_time_to_look)
{
    ringkv_event event = RINGKV_EVENT_INIT;
    pthread_mutex_lock(&lock); /* Nobody closes the events meanwhile. */
    while (events != NULL && ringkv_events_next(events, &event, 0) == RINGKV_OK)
        is_time_to_look = 1;
    pthread_mutex_unlock(&lock);
    if (is_time_to_look) refresh();
}

int main(int argc, char **argv)
{
    static struct door doors[] = {{.converse = hear_client}, {.converse = hear_server}};
    unsigned short port = tracker_port();
    (void)argv;
    if (argc != 1) {
        fprintf(stderr, "usage: ./mainServer\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    sigset_t signals; /* Blocked before threads start, so that only sigtimedwait sees them. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    started_ms = now_ms();
    if (!open_door(&doors[0], port) || !open_door(&doors[1], (unsigned short)(port + 1)) ||
        !serve_doors(doors, 2))
        return 1;
    const struct timespec tick = {0, TICK_MS * 1000000};
    for (int ticks = 0; sigtimedwait(&signals, NULL, &tick) < 0; ticks++)
        watch(ticks % LOOK_TICKS == 0);

    ringkv_change_options soon = RINGKV_CHANGE_OPTIONS_INIT;
    soon.timeout_ms = END_MS;
    if (current_ring() != NULL) (void)!ringkv_drop_node(current_ring(), NAME, &soon);
    use_ring(NULL);
    return 0;
}
