/* A hash map from byte strings to 64-bit values. Keys are borrowed. Zeroed struct = empty map. */
#ifndef BB_MAP_H
#define BB_MAP_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bb_map {
    struct bb_map_entry *entries; /* open addressing; capacity is a power of two */
    size_t count, capacity;
};

/* Room for `count` entries without growing; false if memory is out. */
bool bb_map_reserve(struct bb_map *map, size_t count) BB_RESULT;
/* Sets the value of a key; `key` must outlive the map. *was_new (may be NULL) tells if it was added; an existing value is
 * replaced. False if memory is out. */
bool bb_map_set(struct bb_map *map, const char *key, size_t length, uint64_t value, bool *was_new) BB_RESULT;
/* NULL if absent. Valid until the next set. */
uint64_t *bb_map_find(const struct bb_map *map, const char *key, size_t length);
void bb_map_clear(struct bb_map *map);

/* A 64-bit hash of bytes, good enough for tables whose keys come from files (seeded per process is not needed: sizes are
 * bounded by the file). */
uint64_t bb_hash(const void *bytes, size_t length, uint64_t seed);

#endif
