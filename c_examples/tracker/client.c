/* Asks the servers: ./client insert|search|delete|rm_server|range_insert|range_search ...
 *
 * For each key the main server names three servers. Of the old kind each has a copy of its own:
 * the client writes and reads all three, and they have to agree. Of the new kind each answers for
 * the whole ring: the client asks the first that it reaches, and many keys at once.
 */
#include "tracker.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SILENCE_SECONDS = 8 };
enum { DONE = 0, MISSED = 1, USAGE = 2 };

/* What came of a message that was sent to the servers. */
enum outcome { ANSWERED, UNANSWERED, CONTRADICTED };

static const char *const ROLES[COPIES] = {"primaryServer", "neighborServer1", "neighborServer2"};

static int connect_to(unsigned short port)
{
    int fd = port != 0 ? dial(port) : -1;
    if (fd >= 0) limit_silence(fd, SILENCE_SECONDS);
    return fd;
}

/* The servers for a key. Whoever is asked again on the same connection and answers is new; an old
 * main server has closed it. Ends the program if nobody answers at all, or there is no server. */
static int find_servers(int key, struct place servers[COPIES])
{
    size_t size = COPIES * sizeof *servers;
    unsigned short port = tracker_port();
    int fd = connect_to(port), is_new = 0;
    if (fd < 0 || !transmit(fd, &key, sizeof key) || receive(fd, servers, size) != size) {
        fprintf(stderr, "client: the main server does not answer on port %d\n", port);
        exit(MISSED);
    }
    struct place again[COPIES];
    if (transmit(fd, &key, sizeof key)) is_new = receive(fd, again, size) == size;
    close(fd);
    if (is_here(&servers[0])) return is_new;
    printf("NO SERVERS ACTIVE IN THE DHT\n");
    exit(MISSED);
}

/* Sends them all at once. How many answers came, in the same order. */
static size_t exchange(unsigned short port, const struct message *requests, size_t count,
                       struct message *answers)
{
    size_t size = sizeof *requests, came = 0;
    int fd = connect_to(port);
    if (fd < 0) return 0;
    if (transmit(fd, requests, count * size)) came = receive(fd, answers, count * size) / size;
    close(fd);
    return came;
}

static int is_answer(const struct message *answer, const struct message *request)
{
    return answer->action == request->action && answer->key == request->key;
}

/* Asks new servers: what the first one did not answer, the next one is asked. */
static void ask_one(const struct place servers[COPIES], struct message *messages,
                    enum outcome *outcomes, size_t count)
{
    struct message requests[BATCH], answers[BATCH];
    size_t which[BATCH];
    for (size_t i = 0; i < COPIES; i++) {
        size_t open = 0;
        for (size_t j = 0; j < count; j++) {
            if (outcomes[j] == ANSWERED) continue;
            which[open] = j;
            requests[open++] = messages[j];
        }
        size_t came = open > 0 ? exchange(servers[i].port, requests, open, answers) : 0;
        for (size_t j = 0; j < came; j++) {
            if (!is_answer(&answers[j], &requests[j])) continue;
            messages[which[j]] = answers[j];
            outcomes[which[j]] = ANSWERED;
        }
    }
}

/* Asks old servers: all that answer have to agree. */
static enum outcome ask_all(const struct place servers[COPIES], struct message *message)
{
    struct message answers[COPIES], request = *message;
    size_t came[COPIES];
    enum outcome outcome = UNANSWERED;
    for (size_t i = 0; i < COPIES; i++) {
        came[i] = exchange(servers[i].port, &request, 1, &answers[i]);
        if (came[i] == 0) continue;
        if (outcome == UNANSWERED) {
            *message = answers[i];
            outcome = ANSWERED;
        }
        if (memcmp(message, &answers[i], sizeof *message) != 0) outcome = CONTRADICTED;
    }
    if (outcome == ANSWERED && !is_answer(message, &request)) outcome = UNANSWERED;
    if (outcome == CONTRADICTED) printf("\nSERVER RESPONSES DO NOT MATCH:\n");
    for (size_t i = 0; i < COPIES && outcome == CONTRADICTED; i++)
        if (came[i] > 0)
            printf("%s: 127.0.0.1:%d  --  A: %d, K: %d, V: %d\n", ROLES[i], servers[i].port,
                   answers[i].action, answers[i].key, answers[i].value);
    if (outcome != ANSWERED) *message = request;
    return outcome;
}

/* Asks for up to BATCH keys and turns the messages into the answers. */
static void ask(struct message *messages, enum outcome *outcomes, size_t count)
{
    struct place servers[COPIES];
    for (size_t i = 0; i < count; i++)
        outcomes[i] = UNANSWERED;
    for (size_t i = 0; i < count; i++) {
        if (find_servers(messages[i].key, servers)) {
            ask_one(servers, messages + i, outcomes + i, count - i);
            return;
        }
        outcomes[i] = ask_all(servers, &messages[i]);
    }
}

/* Says what came of a message, if that is to be said; the exit status. */
static int report(const struct message *message, enum outcome outcome, int is_range)
{
    int is_found = outcome == ANSWERED && message->value != ABSENT;
    int key = message->key, value = message->value;
    if (message->action == INSERT) {
        if (!is_range || !is_found)
            printf("INSERT <%d, %d> %s\n", key, value, is_found ? "SUCCESSFUL" : "FAILED");
    } else if (outcome == UNANSWERED) {
        fprintf(stderr, "client: no server answers for the key %d\n", key);
    } else if (message->action == DELETE && is_found) {
        printf("DELETED: <%d, %d>\n", key, value);
    } else if (outcome == ANSWERED && !is_found) {
        if (is_range)
            printf("KEY <%d> DOES NOT EXIST IN DHT\n", key);
        else
            printf("KEY DOES NOT EXIST IN DHT\n");
    } else if (is_found && !is_range) {
        printf("SUCCESSFUL SEARCH -- KEY: <%d> RETRIEVED VALUE: <%d>\n", key, value);
    }
    return is_found ? DONE : MISSED;
}

static int ask_for_one(int action, int key, int value)
{
    struct message message = {action, key, value};
    enum outcome outcome;
    ask(&message, &outcome, 1);
    return report(&message, outcome, 0);
}

static int ask_for_range(int action, int max)
{
    int status = DONE;
    for (int first = 0, count; first < max; first += count) {
        struct message messages[BATCH];
        enum outcome outcomes[BATCH];
        int answered = 0;
        count = max - first < BATCH ? max - first : BATCH;
        for (int i = 0; i < count; i++)
            messages[i] = (struct message){action, first + i, action == INSERT ? first + i : 0};
        ask(messages, outcomes, (size_t)count);
        for (int i = 0; i < count; i++) {
            status |= report(&messages[i], outcomes[i], 1);
            answered += outcomes[i] != UNANSWERED;
        }
        if (answered == 0) return MISSED; /* Nor would the rest be answered. */
    }
    if (action == SEARCH) printf("RANGE SEARCH COMPLETE\n");
    return status;
}

static int remove_server(unsigned short server)
{
    const struct change leave = {LEAVE, place_of(server)};
    unsigned short port = (unsigned short)(tracker_port() + 1);
    int fd = connect_to(port);
    if (fd < 0 || !transmit(fd, &leave, sizeof leave)) {
        fprintf(stderr, "client: the main server does not answer on port %d\n", port);
        return MISSED;
    }
    close(fd);
    printf("REMOVE <127.0.0.1:%d> REQUESTED (see mainServer terminal for details)\n", server);
    return DONE;
}

static int is_command(char **argv, const char *name, const char *digit)
{
    return strcmp(argv[1], name) == 0 || (digit != NULL && strcmp(argv[1], digit) == 0);
}

int main(int argc, char **argv)
{
    long first = 0, second = 0;
    int is_int = argc >= 3 && parse_number(argv[2], INT_MIN, INT_MAX, &first);
    int key = (int)first;
    if (is_int && argc == 4 && parse_number(argv[3], INT_MIN, INT_MAX, &second)) {
        if (is_command(argv, "insert", "0") && second >= 0)
            return ask_for_one(INSERT, key, (int)second);
        if (is_command(argv, "insert", "0")) {
            printf("NEGATIVE VALUES ARE NOT ALLOWED\n");
            return MISSED;
        }
    } else if (is_int && argc == 3) {
        if (is_command(argv, "search", "1")) return ask_for_one(SEARCH, key, 0);
        if (is_command(argv, "delete", "2")) return ask_for_one(DELETE, key, 0);
        if (is_command(argv, "rm_server", "3") && first > 0 && first <= USHRT_MAX)
            return remove_server((unsigned short)first);
        if (is_command(argv, "range_insert", NULL) && first >= 0)
            return ask_for_range(INSERT, key);
        if (is_command(argv, "range_search", NULL) && first >= 0)
            return ask_for_range(SEARCH, key);
    }
    printf("ERROR: Incorrect CL arguments provided!\n");
    return USAGE;
}
