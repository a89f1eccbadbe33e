/* What client and server share: the old wire, and sockets with a time limit.
 *
 * One request per connection. A request is the bytes of `struct request` as they lie in memory,
 * then the key, then the value. The first program answered with 4096 bytes, the text and whatever
 * lay behind it, and closed; here the rest is NUL, because an old client prints up to the first
 * NUL. A value that does not fit gives it an error.
 *
 * A client that writes DIALECT where the first program had padding asks for a better answer:
 * `struct reply`, then exactly `size` bytes. So values of every length and with every byte get
 * through, and an old server, which ignores padding, still answers a new client in the old way.
 */
#ifndef KVSTORE_H
#define KVSTORE_H

#include <stddef.h>

enum { GET = 1, PUT = 2, ADD = 3, DROP = 4 };
enum { DIALECT = 0x524b5631, OLD_REPLY_BYTES = 4096 };
enum { VALUE_BYTES_MAX = 16 << 20, REQUEST_SECONDS = 60 };

/* What a reply says beside its bytes. */
enum { REPLY_DONE = 0, REPLY_ERROR = 1 };

struct request {
    int method;
    unsigned dialect; /* DIALECT, or whatever an old client has there. */
    size_t key_size, value_size;
};

struct reply {
    char mark[8];
    unsigned kind, reserved; /* REPLY_..., 0 */
    size_t size;
};

extern const char REPLY_MARK[8];

/* A socket connected to "host:port", or -1 after a line on stderr. */
int dial(const char *address);

/* A socket that listens on this machine's own address only, or -1 after a line on stderr. */
int open_door(unsigned short port);

/* Lets every later receive and send give up after so many seconds without a byte. */
void limit_silence(int fd, int seconds);

/* Up to `size` bytes; fewer if the other side closed, was silent, or took too long in all. */
size_t receive(int fd, void *data, size_t size);

/* Whether all bytes could be sent. */
int transmit(int fd, const void *data, size_t size);

/* Answers in the way that the request asked for. */
void reply_to(int fd, const struct request *request, unsigned kind, const void *data, size_t size);

/* Writes the bytes to `out` as text on one line, control characters as \xNN, cut at the room. */
const char *printable(char *out, size_t room, const void *data, size_t size);

#endif
