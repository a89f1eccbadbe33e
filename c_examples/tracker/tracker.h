/* What mainServer, server and client share: the old wire, sockets with a time limit, and doors.
 *
 * All messages are structs as they lie in memory. The main server has two ports: to the first, a
 * client sends a key (an int) and gets the places of three servers for it; to the next, servers and
 * clients send a `struct change` that has no answer. A server gets a `struct message` and answers
 * with another one.
 *
 * The first programs closed the connection after one answer. These answer as many requests as come
 * on one, and so many can be under way at once: a client that asks a second time and is answered
 * knows that it talks to the new ones.
 */
#ifndef TRACKER_H
#define TRACKER_H

#include <stdatomic.h>
#include <stddef.h>

enum { INSERT = 0, SEARCH = 1, DELETE = 2, REHASH = 3, TERMINATE = 4 };
enum { JOIN = 0, LEAVE = 1 };
enum { COPIES = 3, SERVERS_MAX = 50, BATCH = 256 };

/* The value of a key that is absent; so it cannot be stored. */
enum { ABSENT = -1 };
/* Stands in all three fields of an answer that says only that it could not be done. */
enum { FAILED = -1 };

struct place {
    unsigned char ip[4];
    unsigned short port; /* In the byte order of the machine; 0 if there is no server. */
};

struct change {
    short action; /* JOIN or LEAVE */
    struct place server;
};

struct message {
    int action, key, value;
};

_Static_assert(sizeof(struct place) == 6 && sizeof(struct change) == 8, "no padding");
_Static_assert(sizeof(struct message) == 12, "an int has four bytes");

/* The main server's first port: 3000, or TRACKER_PORT; ends the program if that is none. */
unsigned short tracker_port(void);

/* A whole number in decimal between the two, or 0. */
int parse_number(const char *text, long min, long max, long *out);

struct place place_of(unsigned short port);
int is_here(const struct place *place);

/* Where the ring's node that belongs to a port listens. */
enum { ADDRESS_BYTES = 32 };
void ring_address(unsigned short port, char out[ADDRESS_BYTES]);

/* The address of a server as it is printed; also the name of its node in the ring. */
void server_name(unsigned short port, char out[ADDRESS_BYTES]);

/* A socket connected to that port of this machine, or -1. */
int dial(unsigned short port);

/* Lets every later receive and send give up after so many seconds without a byte. */
void limit_silence(int fd, int seconds);

/* Up to `size` bytes; fewer if the other side closed or was silent. */
size_t receive(int fd, void *data, size_t size);

/* Waits for one record and takes those that are there already, up to `max`. How many came. */
size_t receive_records(int fd, void *data, size_t record, size_t max);

/* Whether all bytes could be sent. */
int transmit(int fd, const void *data, size_t size);

/* A port with somebody behind it, who talks to each visitor; then the connection is closed. */
struct door {
    void (*converse)(int fd, void *context);
    void *context;
    int listener;
    atomic_int is_closing;
};

/* Listens on that port of this machine; 0 after a line on stderr. */
int open_door(struct door *door, unsigned short port);

/* Lets nobody in any more: the port is free again, at the latest when the doors are not busy. */
void close_door(struct door *door);

/* Starts the threads that serve the doors until the program ends; 0 if that is not possible. */
int serve_doors(struct door *doors, size_t count);

#endif
