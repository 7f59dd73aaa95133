/* Memory that is read soon: kernels ask for its lines bit by bit while they work on something else, so that it comes at no cost. */
#ifndef BB_KERNELS_AHEAD_H
#define BB_KERNELS_AHEAD_H

#include "base/compiler.h"

#include <stddef.h>
#include <stdint.h>

enum { BB_LINE_BYTES = 64 /* of the caches */ };

/* A piece of it. */
struct bb_ahead {
    const char *begin;
    size_t size;
};

/* Where a kernel stands in such pieces. */
struct bb_ahead_place {
    const struct bb_ahead *piece;
    int32_t count; /* of pieces left */
    size_t offset;
    int64_t lines; /* to ask for at a time */
};

/* At the beginning, for a kernel that asks `times` times; no piece is empty. */
static inline struct bb_ahead_place bb_ahead_begin(const struct bb_ahead *pieces, int32_t count, int64_t times)
{
    struct bb_ahead_place place = {.piece = pieces, .count = count};
    size_t bytes = 0;
    for (int32_t i = 0; i < count; i++)
        bytes += pieces[i].size;
    place.lines = (int64_t)(bytes / BB_LINE_BYTES) / (times > 0 ? times : 1) + 1;
    return place;
}

/* Into the second cache. */
BB_INLINE void bb_ahead_ask(struct bb_ahead_place *place)
{
    for (int64_t i = 0; i < place->lines && place->count > 0; i++) {
        __builtin_prefetch(place->piece->begin + place->offset, 0, 2);
        place->offset += BB_LINE_BYTES;
        if (place->offset < place->piece->size)
            continue;
        place->offset = 0;
        place->piece++;
        place->count--;
    }
}

#endif
