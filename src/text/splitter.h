/* What becomes of a delimiter and its neighbours when a text is split. */
#ifndef BB_SPLITTER_H
#define BB_SPLITTER_H

#include "text/pieces.h"

/* In the order of the names in tokenizer.json: Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous. */
enum bb_split_behavior {
    BB_REMOVED,
    BB_ISOLATED,
    BB_MERGED_WITH_PREVIOUS,
    BB_MERGED_WITH_NEXT,
    BB_CONTIGUOUS,
    BB_BEHAVIOR_COUNT
};

/* Takes the stretches of one piece, left to right, each a match of the delimiter or not, and adds pieces. */
struct bb_splitter {
    enum bb_split_behavior behavior;
    struct bb_pieces *result;
    struct bb_piece whole;   /* the piece that is split */
    struct bb_piece waiting; /* may still grow */
    bool has_waiting, was_match;
};

void bb_splitter_add(struct bb_splitter *splitter, size_t begin, size_t end, bool is_match);
void bb_splitter_finish(struct bb_splitter *splitter);

#endif
