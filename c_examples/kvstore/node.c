/* A storage node: ./node <port> <server host:port>
 *
 * It stands by until a server adds it, whichever that is; so the second argument, which the first
 * program needed, is only looked at for its presence.
 */
#include <ringkv.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static void on_message(void *port, int32_t level, const char *target, const char *message)
{
    (void)level, (void)target;
    printf("NODE-%ld: %s\n", *(long *)port, message);
}

int main(int argc, char **argv)
{
    long port = argc == 3 ? strtol(argv[1], NULL, 10) : 0;
    if (port < 1 || port > 65535) {
        fprintf(stderr, "usage: ./node <port> <server host:port>\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    sigset_t signals; /* Blocked before threads start, so that only sigwait below sees them. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);

    char name[32];
    snprintf(name, sizeof name, "localhost:%ld", port);
    ringkv_t *node = NULL;
    ringkv_node_options options = RINGKV_NODE_OPTIONS_INIT;
    options.flags = RINGKV_NODE_STANDBY;
    options.name = options.listen = name;
    if (ringkv_set_log_callback(on_message, &port, RINGKV_LOG_INFO) != RINGKV_OK ||
        ringkv_node_start(&options, &node) != RINGKV_OK) {
        fprintf(stderr, "NODE-%ld: %s\n", port, ringkv_last_error());
        return 1;
    }
    printf("NODE-%ld listening\n", port);
    int signal = 0;
    sigwait(&signals, &signal);
    ringkv_close(&node);
    return 0;
}
