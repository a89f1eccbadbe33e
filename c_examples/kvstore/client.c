/* Asks a kvstore server: ./client <server host:port> <method> <key> [<value>] */
#include "kvstore.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int method_called(const char *name)
{
    static const char *const NAMES[] = {"get", "put", "add", "drop"};
    for (int i = 0; i < 4; i++)
        if (strcmp(name, NAMES[i]) == 0) return GET + i;
    return 0;
}

int main(int argc, char **argv)
{
    int method = argc > 2 ? method_called(argv[2]) : 0;
    if (argc < 4 || argc > 5 || method == 0) {
        fprintf(stderr, "usage: ./client <server host:port> get|put|add|drop <key> [<value>]\n");
        return 2;
    }
    char why[WHY_BYTES];
    int fd = dial(argv[1], method, why);
    if (fd < 0) {
        fprintf(stderr, "client: %s\n", why);
        return 1;
    }
    const char *value = argc > 4 ? argv[4] : "null";
    struct request request = {method, TO_SERVER, strlen(argv[3]), strlen(value)};
    struct answer answer;
    /* An old server has no answer to add and drop. */
    if (!ask(fd, &request, argv[3], value, &answer) && (method < ADD || errno != 0)) {
        fprintf(stderr, "client: %s did not answer\n", argv[1]);
        return 1;
    }
    size_t room = 4 * answer.size + 8;
    char *line = malloc(room);
    if (line != NULL)
        printf("client: received '%s' \n", printable(line, room, answer.text, answer.size));
    free(line);
    free(answer.text);
    return answer.kind == REPLY_ERROR;
}
