/* The short names. */
#define RINGKV_SHORT_NAMES
#include "check.h"

int main(void)
{
    ringkv_t *ring = NULL;
    ringkv_buf value = RINGKV_BUF_INIT;
    EXPECT(RINGKV_OK, node_start(NULL, &ring));
    EXPECT(RINGKV_OK, put(ring, "k", 1, "v", 1));
    EXPECT(RINGKV_OK, get(ring, "k", 1, &value));
    CHECK(strcmp(value.data, "v") == 0);
    ringkv_buf_free(&value);
    EXPECT(RINGKV_OK, del(ring, "k", 1));
    EXPECT(RINGKV_INVALID_ARGUMENT, add_node(ring, NULL));
    EXPECT(RINGKV_NO_SUCH_MEMBER, drop_node(ring, "nobody"));
    ringkv_close(&ring);
    return 0;
}
