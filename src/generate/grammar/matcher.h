/* Where one text stands in a constraint. One thread at a time. */
#ifndef BB_GRAMMAR_MATCHER_H
#define BB_GRAMMAR_MATCHER_H

#include "generate/grammar/constraint.h"

struct bb_grammar_matcher {
    const struct bombus_constraint *constraint; /* borrowed; NULL: none was made */
    struct bb_mover mover;
    struct bb_configurations now, closed, next;
    uint64_t *bits;   /* the tokens that may follow; valid after find_mask */
    bool may_end;     /* the text is complete as it stands */
    bool must_end;    /* and nothing can be added */
    const int32_t *eos_ids; /* ids that may follow where the text may end, and nowhere else: the constraint's, or what the
                             * owner puts there (borrowed) */
    size_t eos_count;
};

BB_RESULT bombus_status bb_grammar_matcher_init(struct bb_grammar_matcher *matcher,
                                                const struct bombus_constraint *constraint, bombus_error *error);
void bb_grammar_matcher_clear(struct bb_grammar_matcher *matcher); /* a zeroed one is allowed */
/* Back to the beginning. */
BB_RESULT bombus_status bb_grammar_matcher_reset(struct bb_grammar_matcher *matcher, bombus_error *error);
/* Makes `to`, a matcher of the same constraint, stand where `from` does: a snapshot is a matcher kept for this, and
 * copying it back undoes what was advanced since. */
BB_RESULT bombus_status bb_grammar_matcher_copy(struct bb_grammar_matcher *to, const struct bb_grammar_matcher *from,
                                                bombus_error *error);

/* Fills `bits`. *count is how many tokens may follow, ends of turn included. */
BB_RESULT bombus_status bb_grammar_matcher_find_mask(struct bb_grammar_matcher *matcher, size_t *count,
                                                     bombus_error *error);
static inline bool bb_grammar_matcher_allows(const struct bb_grammar_matcher *matcher, int32_t id)
{
    return id >= 0 && id < matcher->constraint->trie->size && (matcher->bits[id / 64] >> (id % 64) & 1) != 0;
}
/* out [vocab_size]: the logits of allowed tokens, -infinity for the others. */
void bb_grammar_matcher_mask(const struct bb_grammar_matcher *matcher, float *out, const float *logits,
                             int32_t vocab_size);

/* Goes past a token, or past bytes. BOMBUS_ERROR_MISMATCH if it may not stand here; the matcher is then as before. */
BB_RESULT bombus_status bb_grammar_matcher_advance(struct bb_grammar_matcher *matcher, int32_t id, bombus_error *error);
BB_RESULT bombus_status bb_grammar_matcher_advance_bytes(struct bb_grammar_matcher *matcher, const char *bytes,
                                                         size_t length, bombus_error *error);

#endif
