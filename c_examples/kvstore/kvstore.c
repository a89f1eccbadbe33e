#include "kvstore.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const char REPLY_MARK[8] = {'r', 'i', 'n', 'g', 'k', 'v', '\0', '1'};

/* Lets every later connect, receive and send give up after so many seconds without a byte. */
static void limit_silence(int fd, int seconds)
{
    struct timeval limit = {0};
    limit.tv_sec = seconds;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

static const char *split(const char *address, char host[WHY_BYTES], char why[WHY_BYTES])
{
    const char *colon = strrchr(address, ':');
    if (colon == NULL || colon == address || colon - address >= WHY_BYTES) {
        snprintf(why, WHY_BYTES, "'%.80s' is not of the form host:port", address);
        return NULL;
    }
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    return colon + 1;
}

int dial(const char *address, int method, char why[WHY_BYTES])
{
    char host[WHY_BYTES];
    const char *port = split(address, host, why);
    struct addrinfo hints = {0}, *found = NULL;
    hints.ai_socktype = SOCK_STREAM;
    int fd = -1, problem = port == NULL ? 0 : getaddrinfo(host, port, &hints, &found);
    if (problem != 0) snprintf(why, WHY_BYTES, "%.256s: %s", address, gai_strerror(problem));
    if (port == NULL || problem != 0) return -1;
    for (struct addrinfo *to = found; to != NULL && fd < 0; to = to->ai_next) {
        fd = socket(to->ai_family, to->ai_socktype, to->ai_protocol);
        /* Whoever moves data may take its time, and says so himself if it takes too long. */
        if (fd >= 0) limit_silence(fd, 10 + (method < ADD ? REQUEST_SECONDS : CHANGE_SECONDS));
        if (fd >= 0 && connect(fd, to->ai_addr, to->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    if (fd < 0) snprintf(why, WHY_BYTES, "cannot connect to %.256s: %s", address, strerror(errno));
    freeaddrinfo(found);
    return fd;
}

int open_door(unsigned short port, char why[WHY_BYTES])
{
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {0};
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    /* Old nodes come back with their pairs faster than these can be stored. */
    if (fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 4096) == 0)
        return fd;
    snprintf(why, WHY_BYTES, "cannot listen on port %d: %s", port, strerror(errno));
    if (fd >= 0) close(fd);
    return -1;
}

static time_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec;
}

/* Up to `size` bytes; fewer if the other side closed (errno 0), was silent, or took too long. */
static size_t receive(int fd, void *data, size_t size)
{
    size_t done = 0;
    errno = ETIMEDOUT;
    for (time_t until = now() + REQUEST_SECONDS; done < size && (done == 0 || now() <= until);) {
        ssize_t got = recv(fd, (char *)data + done, size - done, 0);
        if (got <= 0) {
            errno = got == 0 ? 0 : errno == EAGAIN ? ETIMEDOUT : errno;
            break;
        }
        done += (size_t)got;
    }
    return done;
}

static int transmit(int fd, const void *data, size_t size)
{
    size_t done = 0;
    for (time_t until = now() + REQUEST_SECONDS; done < size && now() <= until;) {
        ssize_t put = send(fd, (const char *)data + done, size - done, MSG_NOSIGNAL);
        if (put <= 0) break;
        done += (size_t)put;
    }
    return done == size;
}

static struct {
    int listener;
    unsigned mark;
    size_t old_bytes;
    void (*handler)(const struct conversation *);
    pthread_mutex_t door, lock;
    pthread_cond_t done;
    unsigned long last_turn, turns[CLIENTS_MAX]; /* 0 is nobody's. */
} desk = {.door = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

/* The bytes of a request, given to each thread by its door. */
static void receive_request(struct conversation *with)
{
    struct request *request = &with->request;
    if (receive(with->fd, request, sizeof *request) != sizeof *request) return;
    with->marked = request->mark == desk.mark;
    if (request->key_size > 4096 || request->value_size > VALUE_BYTES_MAX) {
        with->problem = "a key has at most 4096 bytes, and a value 16 MiB";
        return;
    }
    with->key = malloc(request->key_size + request->value_size + 2);
    if (with->key == NULL) {
        with->problem = "out of memory";
        return;
    }
    with->value = with->key + request->key_size + 1;
    if (receive(with->fd, with->key, request->key_size) != request->key_size ||
        receive(with->fd, with->value, request->value_size) != request->value_size) {
        free(with->key);
        with->key = NULL;
        return;
    }
    with->value[-1] = with->value[request->value_size] = '\0';
}

/* The next client and its turn; one thread at a time, so that turns are in order. */
static int next_client(unsigned long *turn)
{
    pthread_mutex_lock(&desk.door);
    int fd = accept(desk.listener, NULL, NULL);
    pthread_mutex_lock(&desk.lock);
    *turn = ++desk.last_turn;
    pthread_mutex_unlock(&desk.lock);
    pthread_mutex_unlock(&desk.door);
    return fd;
}

void give_up_turn(const struct conversation *with)
{
    pthread_mutex_lock(&desk.lock);
    *with->turn = 0;
    pthread_cond_broadcast(&desk.done);
    pthread_mutex_unlock(&desk.lock);
}

void await_turns(const struct conversation *with)
{
    pthread_mutex_lock(&desk.lock);
    for (int i = 0; i < CLIENTS_MAX; i++)
        while (desk.turns[i] != 0 && desk.turns[i] < *with->turn)
            pthread_cond_wait(&desk.done, &desk.lock);
    pthread_mutex_unlock(&desk.lock);
}

static void *serve_clients(void *turn)
{
    char rest[4096];
    for (;;) {
        struct conversation with = {0};
        with.turn = turn;
        with.fd = next_client(turn);
        if (with.fd < 0) {
            int full = errno == EMFILE || errno == ENFILE, closed = errno == EINVAL;
            give_up_turn(&with);
            if (closed) return NULL;
            if (full) sleep(1);
            continue;
        }
        limit_silence(with.fd, SILENCE_SECONDS);
        receive_request(&with);
        if (with.key != NULL || with.problem != NULL) desk.handler(&with);
        give_up_turn(&with);
        free(with.key);
        /* To close before everything is read could take the answer away from the client. */
        shutdown(with.fd, SHUT_WR);
        for (int i = 0; i < VALUE_BYTES_MAX / (int)sizeof rest; i++)
            if (recv(with.fd, rest, sizeof rest, 0) <= 0) break;
        close(with.fd);
    }
    return NULL;
}

int serve(int listener, unsigned mark, size_t old_bytes,
          void (*handler)(const struct conversation *))
{
    desk.listener = listener;
    desk.mark = mark;
    desk.old_bytes = old_bytes;
    desk.handler = handler;
    for (int i = 0; i < CLIENTS_MAX; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve_clients, &desk.turns[i]) != 0) return 0;
    }
    return 1;
}

void reply_to(const struct conversation *with, unsigned kind, const void *data, size_t size)
{
    if (with->marked) {
        struct reply reply = {{0}, kind, 0, size};
        memcpy(reply.mark, REPLY_MARK, sizeof reply.mark);
        if (transmit(with->fd, &reply, sizeof reply)) transmit(with->fd, data, size);
        return;
    }
    char text[OLD_CLIENT_BYTES] = {0};
    if (size < desk.old_bytes)
        memcpy(text, data, size);
    else
        snprintf(text, sizeof text, "error: %zu bytes are too many for a program of the old kind",
                 size);
    transmit(with->fd, text, desk.old_bytes);
}

void reply_text(const struct conversation *with, const char *text)
{
    reply_to(with, REPLY_DONE, text, strlen(text));
}

void reply_error(const struct conversation *with, const char *why)
{
    char text[WHY_BYTES + 16];
    size_t size = (size_t)snprintf(text, sizeof text, "error: %.*s", WHY_BYTES, why);
    if (!with->marked && size >= desk.old_bytes) size = desk.old_bytes - 1;
    reply_to(with, REPLY_ERROR, text, size);
}

/* The bytes of the answer. An old program sends no mark: its text ends at the first NUL. */
static int receive_answer(int fd, struct answer *answer)
{
    struct reply reply;
    size_t got = receive(fd, &reply, sizeof reply);
    answer->marked = got == sizeof reply && memcmp(reply.mark, REPLY_MARK, sizeof reply.mark) == 0;
    size_t size = answer->marked ? reply.size : OLD_CLIENT_BYTES;
    answer->text = got > 0 && size <= VALUE_BYTES_MAX ? malloc(size + 1) : NULL;
    if (answer->text == NULL) return 0;
    answer->kind = answer->marked ? reply.kind : REPLY_DONE;
    if (answer->marked)
        got = 0;
    else
        memcpy(answer->text, &reply, got);
    got += receive(fd, answer->text + got, size - got);
    answer->text[got] = '\0';
    answer->size = answer->marked ? reply.size : strlen(answer->text);
    if (got >= answer->size) return 1;
    free(answer->text);
    answer->text = NULL;
    return 0;
}

int ask(int fd, const struct request *request, const void *key, const void *value,
        struct answer *answer)
{
    /* In one piece, because old programs take what is there at once for the whole of it. */
    size_t size = sizeof *request + request->key_size + request->value_size;
    char *bytes = malloc(size);
    memset(answer, 0, sizeof *answer);
    if (bytes != NULL) {
        memcpy(bytes, request, sizeof *request);
        memcpy(bytes + sizeof *request, key, request->key_size);
        memcpy(bytes + sizeof *request + request->key_size, value, request->value_size);
        /* An answer that comes before everything was sent says why the rest is not wanted. */
        (void)transmit(fd, bytes, size);
    }
    int answered = bytes != NULL && receive_answer(fd, answer), problem = errno;
    free(bytes);
    close(fd);
    errno = problem;
    return answered;
}

const char *ring_address(const char *node, char out[WHY_BYTES], char why[WHY_BYTES])
{
    char host[WHY_BYTES];
    const char *text = split(node, host, why);
    if (text == NULL) return NULL;
    long port = number(text, 65535);
    if (port == 0) {
        snprintf(why, WHY_BYTES, "'%.80s' is not of the form host:port", node);
        return NULL;
    }
    snprintf(out, WHY_BYTES, "%.256s:%ld", host, port > 55535 ? port - 10000 : port + 10000);
    return out;
}

long number(const char *text, long most)
{
    char *end;
    long value = strtol(text, &end, 10);
    return *text != '\0' && *end == '\0' && value >= 1 && value <= most ? value : 0;
}

const char *printable(char *out, size_t room, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    size_t done = 0;
    for (size_t i = 0; i < size; i++) {
        if (done + 8 > room) { /* Room for one more escape, the dots and the NUL. */
            strcpy(out + done, "...");
            return out;
        }
        if (bytes[i] < ' ' || bytes[i] == 0x7f)
            done += (size_t)snprintf(out + done, room - done, "\\x%02x", bytes[i]);
        else
            out[done++] = (char)bytes[i];
    }
    out[done] = '\0';
    return out;
}
