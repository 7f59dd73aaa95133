/* The tables of a tokenizer's model: tokens, ids, merges or scores. Flat arrays of fixed-size records, so that a
 * compiled copy can be mapped from a cache file and used in place. */
#ifndef BB_VOCABULARY_H
#define BB_VOCABULARY_H

#include "base/error.h"
#include "base/file.h"

#include <stddef.h>
#include <stdint.h>

enum { BB_MAX_TOKEN_ID = (1 << 24) - 1 }; /* a damaged file must not make us allocate by its largest id */

struct bb_token {
    uint32_t offset, length; /* in the text of the vocabulary */
    int32_t id;              /* -1: a duplicate that a later entry replaced */
    uint32_t hash;
};

/* A place in the hash table of merges: tokens `left` and `right` become `merged`; lower ranks first. */
struct bb_merge {
    uint32_t left, right, rank, merged; /* rank UINT32_MAX: a free place */
};

struct bb_vocabulary {
    const char *text;
    const struct bb_token *tokens; /* [token_count], as in the file */
    const int32_t *by_id;          /* [id_count]: index into tokens, -1 where no token has that id */
    const uint32_t *slots;         /* [slot_count], hash table: index into tokens + 1, 0 for a free place */
    const struct bb_merge *merges; /* [merge_slot_count], hash table; BPE only */
    const double *scores;          /* [token_count]; Unigram only */
    uint64_t text_size;
    uint32_t token_count, unique_count, id_count, slot_count, merge_slot_count;
    void *owned[6];         /* what the pointers above point at, or */
    struct bb_file_map map; /* the file that they point into */
};

void bb_vocabulary_close(struct bb_vocabulary *vocabulary);

/* Id of a token, -1 if absent. */
int32_t bb_vocabulary_find(const struct bb_vocabulary *vocabulary, const char *token, size_t length);
/* The token of an id, NULL if there is none. */
const struct bb_token *bb_vocabulary_token(const struct bb_vocabulary *vocabulary, int32_t id);

static inline uint32_t bb_merge_hash(uint32_t left, uint32_t right)
{
    uint64_t pair = ((uint64_t)left << 32 | right) * UINT64_C(0x9E3779B97F4A7C15);
    return (uint32_t)(pair >> 32) ^ (uint32_t)(pair >> 17);
}

/* The merge of two tokens, NULL if there is none. */
static inline const struct bb_merge *bb_vocabulary_merge(const struct bb_vocabulary *vocabulary, uint32_t left,
                                                         uint32_t right)
{
    uint32_t mask = vocabulary->merge_slot_count - 1;
    if (vocabulary->merge_slot_count == 0)
        return NULL;
    for (uint32_t i = bb_merge_hash(left, right) & mask;; i = (i + 1) & mask) {
        const struct bb_merge *merge = &vocabulary->merges[i];
        if (merge->rank == UINT32_MAX)
            return NULL;
        if (merge->left == left && merge->right == right)
            return merge;
    }
}

/* Reads the `vocab` and `merges` values of tokenizer.json's model out of their JSON texts. vocab is an object
 * {token: id} or, for Unigram, an array [[token, score]]; merges (NULL for none) an array of "a b" or ["a", "b"].
 * `prefix` is the continuing_subword_prefix, left out when two tokens are put together. */
struct bb_json_text {
    const char *text; /* valid UTF-8 */
    size_t length;
};
BB_RESULT bombus_status bb_vocabulary_read(struct bb_vocabulary *vocabulary, struct bb_json_text vocab,
                                           struct bb_json_text merges, const char *prefix, const char *path,
                                           bombus_error *error);

#endif
