/* The servers as the ring has them, and as they are printed. */
#ifndef TABLE_H
#define TABLE_H

#include <ringkv.h>

#include <stddef.h>

enum { ROWS_MAX = 256 };

/* How things stand with a server. */
enum state { UNKNOWN, ACTIVE, LEAVING, SILENT };

struct row {
    unsigned short port;
    enum state state;
};

/* In the order in which they joined. */
struct table {
    size_t count;
    struct row rows[ROWS_MAX];
};

/* The port of a server by the name of its node; 0 for the nodes of other programs. */
unsigned short port_of(const char *name);

/* A server that is being added has not got its share of the keys yet, so it is not active. */
void read_table(const ringkv_info *info, unsigned short being_added, struct table *out);
enum state state_in(const struct table *table, unsigned short port);
size_t active_in(const struct table *table);

/* Prints what has changed, if anything: the new table, and a line for each server. */
void print_changes(const struct table *before, const struct table *now);

#endif
