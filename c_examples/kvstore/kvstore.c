#include "kvstore.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

const char REPLY_MARK[8] = {'r', 'i', 'n', 'g', 'k', 'v', '\0', '1'};

int dial(const char *address)
{
    char host[256];
    const char *colon = strrchr(address, ':');
    if (colon == NULL || colon == address || (size_t)(colon - address) >= sizeof host) {
        fprintf(stderr, "client: '%s' is not of the form host:port\n", address);
        return -1;
    }
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    struct addrinfo hints = {0}, *found = NULL;
    hints.ai_socktype = SOCK_STREAM;
    int problem = getaddrinfo(host, colon + 1, &hints, &found);
    if (problem != 0) {
        fprintf(stderr, "client: %s: %s\n", address, gai_strerror(problem));
        return -1;
    }
    int fd = -1;
    for (struct addrinfo *to = found; to != NULL && fd < 0; to = to->ai_next) {
        fd = socket(to->ai_family, to->ai_socktype, to->ai_protocol);
        if (fd >= 0 && connect(fd, to->ai_addr, to->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    if (fd < 0) fprintf(stderr, "client: cannot connect to %s: %s\n", address, strerror(errno));
    freeaddrinfo(found);
    return fd;
}

int open_door(unsigned short port)
{
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {0};
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 128) == 0)
        return fd;
    fprintf(stderr, "server: cannot listen on port %d: %s\n", port, strerror(errno));
    if (fd >= 0) close(fd);
    return -1;
}

void limit_silence(int fd, int seconds)
{
    struct timeval limit = {0};
    limit.tv_sec = seconds;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

static time_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec;
}

size_t receive(int fd, void *data, size_t size)
{
    size_t done = 0;
    for (time_t until = now() + REQUEST_SECONDS; done < size && now() <= until;) {
        ssize_t got = recv(fd, (char *)data + done, size - done, 0);
        if (got <= 0) break;
        done += (size_t)got;
    }
    return done;
}

int transmit(int fd, const void *data, size_t size)
{
    size_t done = 0;
    for (time_t until = now() + REQUEST_SECONDS; done < size && now() <= until;) {
        ssize_t put = send(fd, (const char *)data + done, size - done, MSG_NOSIGNAL);
        if (put <= 0) break;
        done += (size_t)put;
    }
    return done == size;
}

void reply_to(int fd, const struct request *request, unsigned kind, const void *data, size_t size)
{
    if (request->dialect == DIALECT) {
        struct reply reply = {{0}, kind, 0, size};
        memcpy(reply.mark, REPLY_MARK, sizeof reply.mark);
        if (transmit(fd, &reply, sizeof reply)) transmit(fd, data, size);
        return;
    }
    char text[OLD_REPLY_BYTES] = {0};
    if (size < sizeof text)
        memcpy(text, data, size);
    else
        snprintf(text, sizeof text, "error: %zu bytes are too many for a client of the old kind",
                 size);
    transmit(fd, text, sizeof text);
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
