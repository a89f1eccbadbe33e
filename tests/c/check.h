/* What the C tests share: a check that tells where it failed, and a ring to work with. */
#ifndef CHECK_H
#define CHECK_H

#include <ringkv.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: not true: %s (last error: %s)\n", __FILE__, __LINE__,  \
                    #condition, ringkv_last_error());                                        \
            exit(1);                                                                       \
        }                                                                                  \
    } while (0)

/* The call must end with this status, and a failure must have a sentence. */
#define EXPECT(expected, call)                                                             \
    do {                                                                                   \
        ringkv_status got = (call);                                                          \
        if (got != (expected)) {                                                           \
            fprintf(stderr, "%s:%d: %s: %s instead of %s (last error: %s)\n", __FILE__,    \
                    __LINE__, #call, ringkv_status_str(got), ringkv_status_str(expected),      \
                    ringkv_last_error());                                                    \
            exit(1);                                                                       \
        }                                                                                  \
        CHECK(got == RINGKV_OK || ringkv_last_error()[0] != '\0');                             \
    } while (0)

static inline ringkv_t *start(void)
{
    ringkv_t *node = NULL;
    EXPECT(RINGKV_OK, ringkv_node_start(NULL, &node));
    CHECK(node != NULL);
    return node;
}

#endif
