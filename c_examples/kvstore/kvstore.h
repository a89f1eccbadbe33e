/* What server, node and client share: the old wire, and sockets with a time limit.
 *
 * One request per connection. A request is the bytes of `struct request` as they lie in memory,
 * then the key, then the value. The first programs answered with text and whatever lay behind it,
 * and closed; here the rest is NUL, because the old ones print up to the first NUL. A value that
 * does not fit gives them an error.
 *
 * Who writes a mark where the first programs had padding asks for a better answer: `struct reply`,
 * then exactly `size` bytes. So values of every length and with every byte get through. An old
 * program ignores the padding and answers in the old way. Servers and nodes have marks of their
 * own, because an old server hands a client's padding on to the node.
 *
 * An old node that gets DROP sends its pairs to the server as PUTs, does not wait for their
 * answers, and closes without one. A new node answers when its pairs have arrived.
 */
#ifndef KVSTORE_H
#define KVSTORE_H

#include <stddef.h>

enum { GET = 1, PUT = 2, ADD = 3, DROP = 4, CATCH_UP = 5 /* From the server to itself. */ };
enum { TO_SERVER = 0x524b5631, TO_NODE = 0x524b5632 };
/* What old programs have room for: a client for each answer, a server for one of a node. */
enum { OLD_CLIENT_BYTES = 4096, OLD_SERVER_BYTES = 256 };
enum { VALUE_BYTES_MAX = 16 << 20, CLIENTS_MAX = 64, WHY_BYTES = 512, SHOWN_BYTES = 80 };
/* How long a client may be silent, a request may take on the wire, and keys may move. */
enum { SILENCE_SECONDS = 5, REQUEST_SECONDS = 60, CHANGE_SECONDS = 600 };

/* What a reply says beside its bytes. */
enum { REPLY_DONE = 0, REPLY_ERROR = 1 };

struct request {
    int method;
    unsigned mark; /* TO_SERVER, TO_NODE, or whatever an old program has there. */
    size_t key_size, value_size;
};

struct reply {
    char mark[8];
    unsigned kind, reserved; /* REPLY_..., 0 */
    size_t size;
};

/* One client's request, as it is answered. */
struct conversation {
    int fd;
    struct request request;
    int marked;          /* Whether the request has the mark of this door. */
    char *key, *value;   /* A NUL follows each. */
    const char *problem; /* Why there is no request, or NULL. */
    unsigned long *turn;
};

struct answer {
    unsigned kind;
    int marked;
    size_t size;
    char *text; /* A NUL follows; to be freed. */
};

/* A socket connected to "host:port", for a request of that method; or -1 and the reason. */
int dial(const char *address, int method, char why[WHY_BYTES]);

/* A socket that listens on this machine's own address only, or -1 and the reason. */
int open_door(unsigned short port, char why[WHY_BYTES]);

/* Starts threads that give each request of the listener to the handler: CLIENTS_MAX side by side,
 * so nobody waits for another client's silence. Without the mark a request is an old program's,
 * which gets so many bytes. Returns whether the threads could be started. */
int serve(int listener, unsigned mark, size_t old_bytes,
          void (*handler)(const struct conversation *));

/* Requests have turns in the order of their connections. One that gives up its turn is not waited
 * for by await_turns, which returns when the earlier ones are done. */
void give_up_turn(const struct conversation *with);
void await_turns(const struct conversation *with);

/* Answers in the way that the request asked for. */
void reply_to(const struct conversation *with, unsigned kind, const void *data, size_t size);
void reply_text(const struct conversation *with, const char *text);
void reply_error(const struct conversation *with, const char *why);

/* Sends a request, waits for its answer and closes the socket. Returns 0 if there was none; then
 * errno is 0 if the other side closed in order. */
int ask(int fd, const struct request *request, const void *key, const void *value,
        struct answer *answer);

/* The address where a node of this address takes part in the ring: its port and 10000, or less
 * 10000 where that is too much. NULL, and the reason, if it is no address. */
const char *ring_address(const char *node, char out[WHY_BYTES], char why[WHY_BYTES]);

/* The whole number from 1 to `most` that the text is, or 0. */
long number(const char *text, long most);

/* Writes the bytes to `out` as text on one line, control characters as \xNN, cut at the room. */
const char *printable(char *out, size_t room, const void *data, size_t size);

#endif
