/* Lists of pieces of text, and of ids. */
#include "text/pieces.h"

#include "base/memory.h"

void bb_pieces_add(struct bb_pieces *pieces, struct bb_piece piece)
{
    if (pieces->is_failed || (piece.id < 0 && piece.begin == piece.end))
        return;
    if (!bb_grow(&pieces->items, pieces->count, 1, &pieces->capacity, sizeof *pieces->items)) {
        pieces->is_failed = true;
        return;
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
    if (!ids->is_failed && !bb_grow(&ids->items, ids->count, extra, &ids->capacity, sizeof *ids->items))
        ids->is_failed = true;
    return !ids->is_failed;
}

void bb_ids_clear(struct bb_ids *ids)
{
    bb_release(ids->items);
    *ids = (struct bb_ids){0};
}
