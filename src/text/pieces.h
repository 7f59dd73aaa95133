/* A text on its way to ids: cut into pieces, some of which are already ids. */
#ifndef BB_PIECES_H
#define BB_PIECES_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bb_piece {
    size_t begin, end; /* in the text */
    int32_t id;        /* an added token, or -1: text still to be encoded */
    bool is_at_start;  /* its first character comes from the first one of the input */
};

/* Zeroed struct = no pieces. */
struct bb_pieces {
    struct bb_piece *items;
    size_t count, capacity;
    bool is_failed; /* memory ran out: later calls do nothing; check once at the end */
};

/* Empty pieces of text are left out. */
void bb_pieces_add(struct bb_pieces *pieces, struct bb_piece piece);
void bb_pieces_clear(struct bb_pieces *pieces);

/* A growing list of ids. Zeroed struct = empty. */
struct bb_ids {
    int32_t *items; /* of bb_resize */
    size_t count, capacity;
    bool is_failed;
};

bool bb_ids_reserve(struct bb_ids *ids, size_t extra);
static inline void bb_ids_add(struct bb_ids *ids, int32_t id)
{
    if (ids->count < ids->capacity || bb_ids_reserve(ids, 1))
        ids->items[ids->count++] = id;
}
void bb_ids_clear(struct bb_ids *ids);

#endif
