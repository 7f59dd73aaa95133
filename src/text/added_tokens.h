/* Added tokens: found in the text as they stand, before the model sees it. */
#ifndef BB_ADDED_TOKENS_H
#define BB_ADDED_TOKENS_H

#include "base/map.h"
#include "base/memory.h"
#include "text/component.h"
#include "text/normalizer.h"
#include "text/pieces.h"
#include "text/trie.h"
#include "text/vocabulary.h"

struct bb_added_token {
    const char *content;            /* of the arena, as the next */
    const char *normalized_content; /* `content` itself where normalizing changes nothing */
    size_t length, normalized_length;
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
    bool is_skipped; /* left out when decoding without special tokens */
};

/* Zeroed struct = none. */
struct bb_added_tokens {
    struct bb_added_token *items; /* by content each once */
    size_t count;
    int32_t *by_id; /* [id_count]: the item that owns an id, -1: none */
    int32_t id_count;
    struct bb_map by_content;  /* to items */
    struct bb_trie plain;      /* what is looked for in the text as given; to items */
    struct bb_trie normalized; /* ... in the normalized text */
    struct bb_arena arena;
};

/* Reads the list `added_tokens`. Ids are given as the reference does, whatever the list says: that of the vocabulary,
 * else the next one from the vocabulary's count of tokens on, also where that is taken. */
BB_RESULT bombus_status bb_added_tokens_create(struct bb_added_tokens *added, const struct bb_component *component,
                                               const struct bb_vocabulary *vocabulary,
                                               const struct bb_normalizer *normalizer);
void bb_added_tokens_clear(struct bb_added_tokens *added);

/* The added token of an id, NULL if there is none. */
const struct bb_added_token *bb_added_tokens_by_id(const struct bb_added_tokens *added, int32_t id);

/* Cuts valid UTF-8 into added tokens (of one of the two tries) and text between them; appends the pieces, with
 * `offset` added to their places. */
void bb_added_tokens_split(const struct bb_added_tokens *added, const struct bb_trie *trie, const char *text,
                           size_t length, size_t offset, bool is_at_start, struct bb_pieces *pieces);

#endif
