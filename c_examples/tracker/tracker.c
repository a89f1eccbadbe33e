#include "tracker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { PORT = 3000, PORT_MAX = 65535, RING_DISTANCE = 10000 };
enum { THREADS = 64, DOORS_MAX = SERVERS_MAX };
enum { SILENCE_SECONDS = 5, LOOK_MS = 50, CLOSING_MS = 1000 };

int parse_number(const char *text, long min, long max, long *out)
{
    char *end = NULL;
    errno = 0;
    *out = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *out >= min && *out <= max;
}

unsigned short tracker_port(void)
{
    long port = PORT;
    const char *text = getenv("TRACKER_PORT");
    if (text != NULL && !parse_number(text, 1, PORT_MAX - 1 - SERVERS_MAX, &port)) {
        fprintf(stderr, "TRACKER_PORT: '%s' is not a port with room for the servers above it\n",
                text);
        exit(2);
    }
    return (unsigned short)port;
}

struct place place_of(unsigned short port)
{
    return (struct place){{127, 0, 0, 1}, port};
}

int is_here(const struct place *place)
{
    struct place here = place_of(place->port);
    return place->port != 0 && memcmp(place, &here, sizeof here) == 0;
}

void ring_address(unsigned short port, char out[ADDRESS_BYTES])
{
    int has_room = port + RING_DISTANCE <= PORT_MAX;
    snprintf(out, ADDRESS_BYTES, "127.0.0.1:%d", port + (has_room ? 1 : -1) * RING_DISTANCE);
}

void server_name(unsigned short port, char out[ADDRESS_BYTES])
{
    snprintf(out, ADDRESS_BYTES, "127.0.0.1:%d", port);
}

static struct sockaddr_in address_of(unsigned short port)
{
    struct sockaddr_in address = {0};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

int dial(unsigned short port)
{
    struct sockaddr_in to = address_of(port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) == 0) return fd;
    close(fd);
    return -1;
}

void limit_silence(int fd, int seconds)
{
    struct timeval limit = {0};
    limit.tv_sec = seconds;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

size_t receive(int fd, void *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t got = recv(fd, (char *)data + done, size - done, 0);
        if (got <= 0) break;
        done += (size_t)got;
    }
    return done;
}

size_t receive_records(int fd, void *data, size_t record, size_t max)
{
    ssize_t got = recv(fd, data, record * max, 0);
    if (got <= 0) return 0;
    size_t size = (size_t)got, begun = size % record;
    if (begun > 0) size += receive(fd, (char *)data + size, record - begun);
    return size / record;
}

int transmit(int fd, const void *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t put = send(fd, (const char *)data + done, size - done, MSG_NOSIGNAL);
        if (put <= 0) break;
        done += (size_t)put;
    }
    return done == size;
}

int open_door(struct door *door, unsigned short port)
{
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = address_of(port);
    /* Whoever knocks may be gone before the door is opened: that must not keep a thread. */
    if (fd >= 0) fcntl(fd, F_SETFL, O_NONBLOCK);
    if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 128) == 0) {
        door->listener = fd;
        return 1;
    }
    fprintf(stderr, "cannot listen on port %d: %s\n", port, strerror(errno));
    if (fd >= 0) close(fd);
    return 0;
}

void close_door(struct door *door)
{
    atomic_store(&door->is_closing, 1);
    for (int waited = 0; atomic_load(&door->is_closing) && waited < CLOSING_MS; waited += LOOK_MS)
        poll(NULL, 0, LOOK_MS);
}

static struct door *all_doors;
static size_t doors_count;

/* The next visitor of any door, or -1. The doors take turns, so that none waits for another. */
static int next_visitor(struct door **visited)
{
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    static size_t turn;
    struct pollfd listeners[DOORS_MAX];
    int fd = -1;
    pthread_mutex_lock(&one_at_a_time);
    for (size_t i = 0; i < doors_count; i++) {
        struct door *door = &all_doors[i];
        if (atomic_load(&door->is_closing)) {
            close(door->listener);
            door->listener = -1; /* poll leaves it out. */
            atomic_store(&door->is_closing, 0);
        }
        listeners[i] = (struct pollfd){door->listener, POLLIN, 0};
    }
    int knocks = poll(listeners, doors_count, LOOK_MS);
    for (size_t tried = 0; knocks > 0 && fd < 0 && tried < doors_count; tried++) {
        turn = (turn + 1) % doors_count;
        if (listeners[turn].revents == 0) continue;
        *visited = &all_doors[turn];
        fd = accept(listeners[turn].fd, NULL, NULL);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE)) poll(NULL, 0, LOOK_MS);
    }
    pthread_mutex_unlock(&one_at_a_time);
    return fd;
}

/* Each thread serves one visitor at a time; so nobody waits for another one's silence. */
static void *serve(void *unused)
{
    char rest[4096];
    struct door *door = NULL;
    for (;;) {
        int fd = next_visitor(&door);
        if (fd < 0) continue;
        limit_silence(fd, SILENCE_SECONDS);
        door->converse(fd, door->context);
        /* To close before everything is read could take the answer away from the visitor. */
        shutdown(fd, SHUT_WR);
        for (int i = 0; i < BATCH; i++)
            if (recv(fd, rest, sizeof rest, 0) <= 0) break;
        close(fd);
    }
    return unused;
}

int serve_doors(struct door *doors, size_t count)
{
    all_doors = doors;
    doors_count = count;
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, NULL) != 0) return 0;
        pthread_detach(thread);
    }
    return 1;
}
