/* A constraint: what a text must look like, compiled for a vocabulary. Shared by any number of requests and threads. */
#ifndef BB_CONSTRAINT_H
#define BB_CONSTRAINT_H

#include "generate/grammar/masks.h"

/* The public handle itself: requests carry it in their options. */
struct bombus_constraint {
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
void bb_constraint_free(struct bombus_constraint *constraint); /* NULL is allowed */

/* Readers: each defines rule 0 of empty rules. The text is valid UTF-8. */
BB_RESULT bombus_status bb_gbnf_read(struct bb_rules *rules, const char *source, size_t length, bombus_error *error);
BB_RESULT bombus_status bb_pattern_read(struct bb_rules *rules, const char *source, size_t length, bombus_error *error);
BB_RESULT bombus_status bb_schema_read(struct bb_rules *rules, const char *source, size_t length, bombus_error *error);

/* A regular expression as a node. `is_json`: as the content of a JSON string, found anywhere in it unless anchored. */
BB_RESULT bombus_status bb_pattern_add(struct bb_rules *rules, const char *source, size_t length, bool is_json,
                                       uint32_t *node, bombus_error *error);

#endif
