/* Lists of pieces of text, and of ids. */
#include "text/pieces.h"

#include "base/memory.h"

/* Makes room for `extra` more items; false if memory is out. */
static bool grow(void **items, size_t *capacity, size_t count, size_t extra, size_t size)
{
    size_t needed, wanted = *capacity > SIZE_MAX / 2 ? SIZE_MAX : *capacity * 2;
    if (!bb_add_size(count, extra, &needed))
        return false;
    if (needed <= *capacity)
        return true;
    if (wanted < needed)
        wanted = needed;
    if (wanted < 64)
        wanted = 64;
    void *grown = bb_resize(*items, wanted, size);
    if (grown == NULL)
        return false;
    *items = grown;
    *capacity = wanted;
    return true;
}

void bb_pieces_add(struct bb_pieces *pieces, struct bb_piece piece)
{
    if (pieces->is_failed || (piece.id < 0 && piece.begin == piece.end))
        return;
    if (pieces->count == pieces->capacity) {
        void *items = pieces->items;
        if (!grow(&items, &pieces->capacity, pieces->count, 1, sizeof *pieces->items)) {
            pieces->is_failed = true;
            return;
        }
        pieces->items = items;
    }
    pieces->items[pieces->count++] = piece;
}

void bb_pieces_clear(struct bb_pieces *pieces)
{
    bb_release(pieces->items);
    *pieces = (struct bb_pieces){0};
}

bool bb_ids_reserve(struct bb_ids *ids, size_t extra)
{
    void *items = ids->items;
    if (ids->is_failed)
        return false;
    if (!grow(&items, &ids->capacity, ids->count, extra, sizeof *ids->items)) {
        ids->is_failed = true;
        return false;
    }
    ids->items = items;
    return true;
}

void bb_ids_clear(struct bb_ids *ids)
{
    bb_release(ids->items);
    *ids = (struct bb_ids){0};
}
