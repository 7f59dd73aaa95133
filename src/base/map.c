/* A hash map from byte strings to 64-bit values. */
#include "base/map.h"

#include "base/memory.h"

#include <string.h>

struct bb_map_entry {
    const char *key; /* borrowed; NULL: free place */
    size_t length;
    uint64_t hash, value;
};

/* Eight bytes a step with a multiply-xorshift mix (the finalizer of splitmix64). */
uint64_t bb_hash(const void *bytes, size_t length, uint64_t seed)
{
    const uint8_t *p = bytes;
    uint64_t hash = seed ^ (length * UINT64_C(0x9E3779B97F4A7C15));
    while (length > 0) {
        uint64_t word = 0;
        size_t count = length < 8 ? length : 8;
        memcpy(&word, p, count);
        hash = (hash ^ word) * UINT64_C(0xBF58476D1CE4E5B9);
        hash ^= hash >> 29;
        p += count;
        length -= count;
    }
    hash *= UINT64_C(0x94D049BB133111EB);
    return hash ^ (hash >> 31);
}

static struct bb_map_entry *find_place(const struct bb_map *map, const char *key, size_t length, uint64_t hash)
{
    size_t mask = map->capacity - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        struct bb_map_entry *entry = &map->entries[i];
        if (entry->key == NULL ||
            (entry->hash == hash && entry->length == length && memcmp(entry->key, key, length) == 0))
            return entry;
    }
}

bool bb_map_reserve(struct bb_map *map, size_t count)
{
    size_t capacity = 16;
    while (capacity / 4 * 3 < count) {
        if (capacity > SIZE_MAX / 2)
            return false;
        capacity *= 2;
    }
    if (capacity <= map->capacity)
        return true;
    struct bb_map grown = {.entries = bb_allocate(capacity, sizeof *grown.entries), .count = map->count, .capacity = capacity};
    if (grown.entries == NULL)
        return false;
    for (size_t i = 0; i < map->capacity; i++) {
        const struct bb_map_entry *entry = &map->entries[i];
        if (entry->key != NULL)
            *find_place(&grown, entry->key, entry->length, entry->hash) = *entry;
    }
    bb_release(map->entries);
    *map = grown;
    return true;
}

bool bb_map_set(struct bb_map *map, const char *key, size_t length, uint64_t value, bool *was_new)
{
    if (!bb_map_reserve(map, map->count + 1))
        return false;
    uint64_t hash = bb_hash(key, length, 0);
    struct bb_map_entry *entry = find_place(map, key, length, hash);
    bool is_new = entry->key == NULL;
    if (is_new) {
        *entry = (struct bb_map_entry){.key = key, .length = length, .hash = hash};
        map->count++;
    }
    entry->value = value;
    if (was_new != NULL)
        *was_new = is_new;
    return true;
}

uint64_t *bb_map_find(const struct bb_map *map, const char *key, size_t length)
{
    if (map->count == 0)
        return NULL;
    struct bb_map_entry *entry = find_place(map, key, length, bb_hash(key, length, 0));
    return entry->key != NULL ? &entry->value : NULL;
}

void bb_map_clear(struct bb_map *map)
{
    bb_release(map->entries);
    *map = (struct bb_map){0};
}
