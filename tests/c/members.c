/* A ring of three nodes in one process, and a client: add, drop, and what the ring tells. */
#include "check.h"

enum { KEYS = 200 };

static ringkv_t *standby(const char *name, char address[RINGKV_ADDRESS_BYTES_MAX])
{
    ringkv_t *node = NULL;
    ringkv_node_options options = RINGKV_NODE_OPTIONS_INIT;
    options.name = name;
    options.flags = RINGKV_NODE_STANDBY;
    EXPECT(RINGKV_OK, ringkv_node_start(&options, &node));
    EXPECT(RINGKV_OK, ringkv_address(node, address, RINGKV_ADDRESS_BYTES_MAX, NULL));
    return node;
}

/* It may use the ring that waits for it. */
static int32_t on_progress(void *user_data, const ringkv_progress *progress)
{
    const int key = 0;
    int value = -1;
    size_t len = 0;
    ringkv_info *info = NULL;
    CHECK(progress->copies_done <= progress->copies_total);
    EXPECT(RINGKV_OK,
           ringkv_get_into(user_data, &key, sizeof key, NULL, &value, sizeof value, &len));
    CHECK(value == 0);
    EXPECT(RINGKV_OK, ringkv_ring_info(user_data, &info));
    ringkv_info_free(&info);
    return 0;
}

static void all_keys_are_there(ringkv_t *ring)
{
    for (int i = 0; i < KEYS; i++) {
        int value = -1;
        size_t len = 0;
        EXPECT(RINGKV_OK, ringkv_get_into(ring, &i, sizeof i, NULL, &value, sizeof value, &len));
        CHECK(value == i && len == sizeof value);
    }
}

static void tells(ringkv_t *ring, size_t members, const char *second)
{
    ringkv_info *info = NULL;
    double shares = 0;
    int found = 0;
    EXPECT(RINGKV_OK, ringkv_ring_info(ring, &info));
    CHECK(strlen(info->ring_id) == 32 && info->partitions == 64 && info->copies == 3);
    CHECK(info->members_count == members && info->lost == 0 && info->keys == KEYS);
    for (size_t i = 0; i < members; i++) {
        const ringkv_member *member = info->members[i];
        CHECK(member->node.id > 0 && member->node.address[0] && member->state == RINGKV_MEMBER_UP);
        CHECK(i == 0 || member->position > info->members[i - 1]->position);
        found += strcmp(member->node.name, second) == 0;
        shares += member->share;
    }
    CHECK(found == 1 && shares > 0.999 && shares < 1.001);
    ringkv_info_free(&info);
    CHECK(info == NULL);
    ringkv_info_free(&info);
}

static void locates(ringkv_t *ring, size_t holders)
{
    ringkv_location *location = NULL;
    EXPECT(RINGKV_OK, ringkv_locate(ring, "key", 3, NULL, &location));
    CHECK(location->partition < 64 && location->holders_count == holders);
    CHECK(location->hops_count > 0 && location->holders[0].name[0]);
    CHECK(location->hops[location->hops_count - 1].id > 0);
    ringkv_location_free(&location);
    CHECK(location == NULL);
}

static void plans(ringkv_t *ring, const char *drop)
{
    ringkv_plan *plan = NULL;
    ringkv_node_options options = RINGKV_NODE_OPTIONS_INIT;
    options.name = "fourth";
    EXPECT(RINGKV_OK, ringkv_plan_add(ring, "127.0.0.1:9", &options, &plan));
    CHECK(plan->before_count == 3 && plan->after_count == 4 && plan->copies_moved > 0);
    double shares = 0;
    for (size_t i = 0; i < plan->after_count; i++) shares += plan->after[i]->share;
    CHECK(shares > 0.999 && shares < 1.001);
    ringkv_plan_free(&plan);
    CHECK(plan == NULL);
    EXPECT(RINGKV_OK, ringkv_plan_drop(ring, drop, &plan));
    CHECK(plan->before_count == 3 && plan->copies_moved == 0);
    for (size_t i = 0; i < plan->after_count; i++)
        CHECK(strcmp(plan->after[i]->name, drop) != 0 || plan->after[i]->copies == 0);
    ringkv_plan_free(&plan);
    ringkv_plan_free(&plan);
    ringkv_plan_free(NULL);
    EXPECT(RINGKV_NO_SUCH_MEMBER, ringkv_plan_drop(ring, "nobody", &plan));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_plan_add(ring, NULL, NULL, &plan));
    EXPECT(RINGKV_INVALID_ARGUMENT, ringkv_plan_add(ring, "127.0.0.1:9", NULL, NULL));
}

static void is_healthy(ringkv_t *ring, int healthy)
{
    int32_t ok = -1;
    uint32_t unwritable = 99;
    ringkv_buf reasons = RINGKV_BUF_INIT;
    EXPECT(RINGKV_OK, ringkv_health(ring, &ok, &unwritable, &reasons));
    CHECK(unwritable == 0 && reasons.data != NULL);
    CHECK(!healthy || (ok == 1 && reasons.len == 0));
    ringkv_buf_free(&reasons);
}

int main(void)
{
    char address[3][RINGKV_ADDRESS_BYTES_MAX];
    ringkv_node_options options = RINGKV_NODE_OPTIONS_INIT;
    ringkv_change_options change = RINGKV_CHANGE_OPTIONS_INIT;
    ringkv_t *first = NULL, *client = NULL;
    options.name = "first";
    options.partitions = 64;
    EXPECT(RINGKV_OK, ringkv_node_start(&options, &first));
    EXPECT(RINGKV_OK, ringkv_address(first, address[0], sizeof address[0], NULL));
    for (int i = 0; i < KEYS; i++)
        EXPECT(RINGKV_OK, ringkv_put(first, &i, sizeof i, &i, sizeof i, NULL));
    tells(first, 1, "first");
    is_healthy(first, 0);
    EXPECT(RINGKV_NO_SUCH_MEMBER, ringkv_drop_node(first, "nobody", NULL));
    EXPECT(RINGKV_REFUSED, ringkv_drop_node(first, "first", NULL));

    ringkv_t *second = standby("second", address[1]);
    ringkv_t *third = standby("third", address[2]);
    change.on_progress = on_progress;
    change.user_data = first;
    EXPECT(RINGKV_OK, ringkv_add_node(first, address[1], &change));
    EXPECT(RINGKV_OK, ringkv_add_node(second, address[2], &change));
    all_keys_are_there(third);
    tells(third, 3, "second");
    locates(second, 3);
    is_healthy(first, 1);
    plans(first, "second");

    EXPECT(RINGKV_OK, ringkv_connect(address[2], NULL, &client));
    all_keys_are_there(client);
    tells(client, 3, "second");
    EXPECT(RINGKV_OK, ringkv_drop_node(client, "second", &change));
    tells(client, 2, "third");
    all_keys_are_there(client);
    all_keys_are_there(first);

    ringkv_close(&client);
    ringkv_close(&second);
    ringkv_close(&third);
    ringkv_close(&first);
    return 0;
}
