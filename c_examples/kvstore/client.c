/* Asks a kvstore server: ./client <server host:port> <method> <key> [<value>] */
#include "kvstore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int method_called(const char *name)
{
    static const char *const NAMES[] = {"get", "put", "add", "drop"};
    for (int i = 0; i < 4; i++)
        if (strcmp(name, NAMES[i]) == 0) return GET + i;
    return 0;
}

static int ask(int fd, int method, const char *key, const char *value)
{
    struct request request = {method, DIALECT, strlen(key), strlen(value)};
    return transmit(fd, &request, sizeof request) && transmit(fd, key, request.key_size) &&
           transmit(fd, value, request.value_size);
}

/* The bytes of the answer, or NULL. An old server sends no mark: its text ends at the first NUL. */
static char *answer(int fd, struct reply *reply)
{
    size_t got = receive(fd, reply, sizeof *reply);
    int marked = got == sizeof *reply && memcmp(reply->mark, REPLY_MARK, sizeof reply->mark) == 0;
    size_t size = marked ? reply->size : OLD_REPLY_BYTES;
    char *text = got > 0 && size <= VALUE_BYTES_MAX ? malloc(size + 1) : NULL;
    if (text == NULL) return NULL;
    if (marked) {
        got = 0;
    } else {
        memcpy(text, reply, got);
        reply->kind = REPLY_DONE;
    }
    got += receive(fd, text + got, size - got);
    text[got] = '\0';
    if (!marked) reply->size = strlen(text);
    if (got >= reply->size) return text;
    free(text);
    return NULL;
}

int main(int argc, char **argv)
{
    int method = argc > 2 ? method_called(argv[2]) : 0;
    if (argc < 4 || argc > 5 || method == 0) {
        fprintf(stderr, "usage: ./client <server host:port> get|put|add|drop <key> [<value>]\n");
        return 2;
    }
    int fd = dial(argv[1]);
    if (fd < 0) return 1;

    /* Adding and dropping nodes moves data; the server waits for that a minute and then says so.
     * An answer that came before everything was sent says why the rest was not wanted. */
    struct reply reply;
    limit_silence(fd, REQUEST_SECONDS + 10);
    int sent = ask(fd, method, argv[3], argc > 4 ? argv[4] : "null");
    char *text = answer(fd, &reply);
    close(fd);
    if (text == NULL) {
        fprintf(stderr, "client: %s %s\n", argv[1], sent ? "did not answer" : "hung up");
        return 1;
    }
    size_t room = 4 * reply.size + 8;
    char *line = malloc(room);
    if (line != NULL) printf("client: received '%s' \n", printable(line, room, text, reply.size));
    free(line);
    free(text);
    return reply.kind == REPLY_ERROR;
}
