/* What becomes of a delimiter and its neighbours when a text is split. */
#include "text/splitter.h"

static void emit(struct bb_splitter *splitter, struct bb_piece piece)
{
    piece.is_at_start = splitter->whole.is_at_start && piece.begin == splitter->whole.begin;
    bb_pieces_add(splitter->result, piece);
}

static void wait_with(struct bb_splitter *splitter, struct bb_piece piece)
{
    if (splitter->has_waiting)
        emit(splitter, splitter->waiting);
    splitter->waiting = piece;
    splitter->has_waiting = true;
}

void bb_splitter_add(struct bb_splitter *splitter, size_t begin, size_t end, bool is_match)
{
    struct bb_piece piece = {.begin = begin, .end = end, .id = -1};
    switch (splitter->behavior) {
    case BB_REMOVED:
        if (!is_match)
            emit(splitter, piece);
        break;
    case BB_MERGED_WITH_PREVIOUS:
        if (is_match && !splitter->was_match && splitter->has_waiting)
            splitter->waiting.end = end;
        else
            wait_with(splitter, piece);
        break;
    case BB_MERGED_WITH_NEXT: /* only a match waits, for what is no match */
        if (is_match) {
            wait_with(splitter, piece);
        } else {
            if (splitter->has_waiting)
                piece.begin = splitter->waiting.begin;
            splitter->has_waiting = false;
            emit(splitter, piece);
        }
        break;
    case BB_CONTIGUOUS:
        if (is_match == splitter->was_match && splitter->has_waiting)
            splitter->waiting.end = end;
        else
            wait_with(splitter, piece);
        break;
    default: emit(splitter, piece);
    }
    splitter->was_match = is_match;
}

void bb_splitter_finish(struct bb_splitter *splitter)
{
    if (splitter->has_waiting)
        emit(splitter, splitter->waiting);
    splitter->has_waiting = false;
}
