/* Byte pair encoding of one piece of text. */
#ifndef BB_BPE_H
#define BB_BPE_H

#include "text/pieces.h"
#include "text/vocabulary.h"

struct bb_bpe {
    const struct bb_vocabulary *vocabulary;               /* borrowed */
    const char *unk_token, *subword_prefix, *word_suffix; /* borrowed; NULL where not set */
    bool fuse_unk, byte_fallback, ignore_merges;
    bool is_plain;                /* no prefix or suffix: a character's id depends on the character alone */
    int32_t unk_id;               /* -1: not set, or not in the vocabulary */
    int32_t byte_ids[256];        /* of "<0x00>" ..., -1 where absent */
    int32_t character_ids[0x300]; /* of the characters that byte-level text is made of */
};

/* Room for work, for one thread. Zeroed struct = none taken yet. */
struct bb_bpe_scratch {
    struct bb_bpe_symbol *symbols;
    uint64_t *heap;
    size_t capacity, heap_capacity;
    struct bb_buffer character;
};

/* Fills the tables from vocabulary and the options above. */
void bb_bpe_prepare(struct bb_bpe *bpe);
/* Appends the ids of valid UTF-8 text. */
BB_RESULT bombus_status bb_bpe_encode(const struct bb_bpe *bpe, struct bb_bpe_scratch *scratch, const char *text,
                                      size_t length, struct bb_ids *ids, bombus_error *error);
void bb_bpe_scratch_clear(struct bb_bpe_scratch *scratch);

#endif
