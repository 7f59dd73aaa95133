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
    int32_t count;          /* of pieces left, that one included */
    const char *next, *end; /* of that one */
    int64_t lines;          /* to ask for at a time; 0 behind the last piece */
};

/* At the beginning, for a kernel that asks `times` times; no piece is empty. */
static inline struct bb_ahead_place bb_ahead_begin(const struct bb_ahead *pieces, int32_t count, int64_t times)
{
    struct bb_ahead_place place = {.piece = pieces, .count = count};
    size_t bytes = 0;
    for (int32_t i = 0; i < count; i++)
        bytes += pieces[i].size;
    if (count == 0)
        return place;
    place.next = pieces->begin;
    place.end = pieces->begin + pieces->size;
    place.lines = (int64_t)(bytes / BB_LINE_BYTES) / (times > 0 ? times : 1) + 1;
    return place;
}

/* Into the second cache. */
BB_INLINE void bb_ahead_ask(struct bb_ahead_place *place)
{
    for (int64_t i = 0; i < place->lines; i++) {
        __builtin_prefetch(place->next, 0, 2);
        place->next += BB_LINE_BYTES;
        if (place->next < place->end)
            continue;
        if (--place->count == 0) {
            place->lines = 0;
            return;
        }
        place->piece++;
        place->next = place->piece->begin;
        place->end = place->piece->begin + place->piece->size;
    }
}

#endif
