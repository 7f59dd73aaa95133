/* A constraint: what a text must look like, compiled for a vocabulary. Shared by any number of requests and threads. */
#ifndef BB_CONSTRAINT_H
#define BB_CONSTRAINT_H

#include "generate/grammar/masks.h"

#include <stdatomic.h>

/* What a constraint was made of. */
struct bb_constraint_text {
    bombus_constraint_kind kind;
    const char *source;
    size_t length;
    uint64_t hash;
};
struct bb_constraint_text bb_constraint_text(bombus_constraint_kind kind, const char *source, size_t length);
bool bb_constraint_text_is_same(const struct bb_constraint_text *a, const struct bb_constraint_text *b);

/* The public handle itself: requests carry it in their options. */
struct bombus_constraint {
    atomic_size_t holders;
    struct bb_constraint_text text; /* its source is the constraint's own copy */
    struct bb_automaton automaton;
    const struct bb_token_trie *trie; /* borrowed from the tokenizer, as is: */
    const int32_t *eos_ids;
    size_t eos_count;
    struct bb_masks *masks;
};

/* See bombus_constraint_create. */
BB_RESULT bombus_status bb_constraint_create(struct bombus_constraint **constraint, bombus_constraint_kind kind,
                                             const char *source, size_t length, const struct bb_tokenizer *tokenizer,
                                             bombus_error *error);
void bb_constraint_hold(struct bombus_constraint *constraint); /* one more holder */
void bb_constraint_free(struct bombus_constraint *constraint); /* one less; the last one frees it. NULL is allowed */
size_t bb_constraint_bytes(const struct bombus_constraint *constraint); /* at this moment: masks are added as found */

/* Readers: each defines rule 0 of empty rules. The text is valid UTF-8. */
BB_RESULT bombus_status bb_gbnf_read(struct bb_rules *rules, const char *source, size_t length, bombus_error *error);
BB_RESULT bombus_status bb_pattern_read(struct bb_rules *rules, const char *source, size_t length, bombus_error *error);
BB_RESULT bombus_status bb_schema_read(struct bb_rules *rules, const char *source, size_t length, bombus_error *error);

/* What a regular expression describes: the whole text; a text in which it is found, anywhere unless it is anchored; or
 * such a text as it stands within a JSON string. */
enum bb_pattern_use { BB_PATTERN_WHOLE, BB_PATTERN_FOUND, BB_PATTERN_FOUND_IN_JSON };
/* A regular expression as a node. */
BB_RESULT bombus_status bb_pattern_add(struct bb_rules *rules, const char *source, size_t length,
                                       enum bb_pattern_use use, uint32_t *node, bombus_error *error);

#endif
