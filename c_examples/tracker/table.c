#include "table.h"
#include "tracker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

unsigned short port_of(const char *name)
{
    char right_name[ADDRESS_BYTES];
    const char *colon = strrchr(name, ':');
    long port = 0;
    if (colon == NULL || !parse_number(colon + 1, 1, 65535, &port)) return 0;
    server_name((unsigned short)port, right_name);
    return strcmp(name, right_name) == 0 ? (unsigned short)port : 0;
}

static int in_order_of_joining(const void *a, const void *b)
{
    const ringkv_member *const *left = a, *const *right = b;
    return ((*left)->node.id > (*right)->node.id) - ((*left)->node.id < (*right)->node.id);
}

void read_table(const ringkv_info *info, unsigned short being_added, struct table *out)
{
    const ringkv_member *members[ROWS_MAX];
    size_t count = info->members_count < ROWS_MAX ? info->members_count : ROWS_MAX;
    memcpy(members, info->members, count * sizeof *members);
    qsort(members, count, sizeof *members, in_order_of_joining);
    out->count = 0;
    for (size_t i = 0; i < count; i++) {
        struct row row = {port_of(members[i]->node.name), SILENT};
        if (members[i]->state == RINGKV_MEMBER_LEAVING) row.state = LEAVING;
        if (members[i]->state == RINGKV_MEMBER_UP && members[i]->reachable) row.state = ACTIVE;
        if (row.port == being_added) row.state = SILENT;
        if (row.port != 0) out->rows[out->count++] = row;
    }
}

enum state state_in(const struct table *table, unsigned short port)
{
    for (size_t i = 0; i < table->count; i++)
        if (table->rows[i].port == port) return table->rows[i].state;
    return UNKNOWN;
}

size_t active_in(const struct table *table)
{
    size_t active = 0;
    for (size_t i = 0; i < table->count; i++)
        active += table->rows[i].state == ACTIVE;
    return active;
}

/* What is said of a server whose state has changed, or NULL. */
static const char *news(enum state before, enum state after)
{
    if (after == ACTIVE && (before == UNKNOWN || before == SILENT)) return "ADDED";
    if (after == SILENT && before == ACTIVE) return "DOES NOT ANSWER";
    return after == UNKNOWN && before != UNKNOWN ? "DELETED" : NULL;
}

static void print_table(const struct table *now)
{
    static const char RULE[] = "=============================";
    size_t row = 0, active = active_in(now);
    if (active == 0) {
        printf("NO ACTIVE SERVERS\n");
        return;
    }
    printf("ACTIVE SERVERS: (%zu active)\n%s\nServer\t|    Address\n", active, RULE);
    for (size_t i = 0; i < now->count; i++)
        if (now->rows[i].state == ACTIVE)
            printf("%4zu\t|    127.0.0.1:%d\n", row++, now->rows[i].port);
    printf("%s\n", RULE);
}

void print_changes(const struct table *before, const struct table *now)
{
    int is_first = 1;
    for (int pass = 0; pass < 2; pass++) { /* First who came or changed, then who is gone. */
        const struct table *of = pass == 0 ? now : before;
        for (size_t i = 0; i < of->count; i++) {
            unsigned short port = of->rows[i].port;
            enum state after = state_in(now, port);
            const char *what = news(state_in(before, port), after);
            if (what == NULL || (pass == 1 && after != UNKNOWN)) continue;
            if (is_first) print_table(now);
            is_first = 0;
            printf("SERVER <127.0.0.1:%d> %s\n", port, what);
        }
    }
}
