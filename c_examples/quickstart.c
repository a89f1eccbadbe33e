/* A ring inside one program: start a node, put, get, add a second node, drop it again.
 *
 *     cc quickstart.c $(pkg-config --cflags --libs ringkv) && ./a.out
 */
#include <ringkv.h>

#include <stdio.h>
#include <stdlib.h>

static void check(ringkv_status status, const char *what)
{
    if (status != RINGKV_OK) {
        fprintf(stderr, "%s: %s\n", what, ringkv_last_error());
        exit(1);
    }
}

static void show(ringkv_t *ring)
{
    ringkv_info *info = NULL;
    check(ringkv_ring_info(ring, &info), "info");
    for (size_t i = 0; i < info->members_count; i++) {
        const ringkv_member *member = info->members[i];
        printf("  %s holds %.0f %% of the copies\n", member->node.name, 100 * member->share);
    }
    ringkv_info_free(&info);
}

int main(void)
{
    ringkv_t *ring = NULL, *second = NULL;
    check(ringkv_node_start(NULL, &ring), "start");
    check(ringkv_put(ring, "planet", 6, "Saturn", 6, NULL), "put");

    /* The second node stands by until the ring adds it; then it takes copies of what is there. */
    ringkv_node_options options = RINGKV_NODE_OPTIONS_INIT;
    options.flags = RINGKV_NODE_STANDBY;
    options.name = "second";
    check(ringkv_node_start(&options, &second), "start the second node");
    char address[RINGKV_ADDRESS_BYTES_MAX];
    check(ringkv_address(second, address, sizeof address, NULL), "address");
    check(ringkv_add_node(ring, address, NULL), "add");
    show(ring);

    ringkv_buf value = RINGKV_BUF_INIT;
    check(ringkv_get(second, "planet", 6, NULL, &value), "get");
    printf("the planet is %s\n", value.data);
    ringkv_buf_free(&value);

    /* Its copies move back first. One node holds one copy of each key, fewer than a ring should
     * have, hence the force. */
    ringkv_change_options change = RINGKV_CHANGE_OPTIONS_INIT;
    change.flags = RINGKV_CHANGE_FORCE;
    check(ringkv_drop_node(ring, "second", &change), "drop");
    show(ring);
    ringkv_close(&second);
    ringkv_close(&ring);
    return 0;
}
