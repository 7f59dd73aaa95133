/* The Unigram model: the cut of a text into tokens with the highest sum of scores. */
#ifndef BB_UNIGRAM_H
#define BB_UNIGRAM_H

#include "text/pieces.h"
#include "text/trie.h"
#include "text/vocabulary.h"

struct bb_unigram {
    const struct bb_vocabulary *vocabulary; /* borrowed */
    struct bb_trie trie;                    /* of all tokens; values are ids */
    double unk_score;
    int32_t unk_id; /* -1: not set */
    int32_t byte_ids[256];
    bool byte_fallback;
};

/* Room for work, for one thread. Zeroed struct = none taken yet. */
struct bb_unigram_scratch {
    struct bb_unigram_step *steps;
    size_t capacity;
};

/* Fills trie and scores from vocabulary and the options above. */
BB_RESULT bombus_status bb_unigram_prepare(struct bb_unigram *unigram, bombus_error *error);
void bb_unigram_clear(struct bb_unigram *unigram);

/* Appends the ids of valid UTF-8 text. */
BB_RESULT bombus_status bb_unigram_encode(const struct bb_unigram *unigram, struct bb_unigram_scratch *scratch,
                                          const char *text, size_t length, struct bb_ids *ids, bombus_error *error);
void bb_unigram_scratch_clear(struct bb_unigram_scratch *scratch);

#endif
