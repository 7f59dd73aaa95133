/* Compiled constraints by their text: what many requests ask for is compiled once. Any number of threads. */
#ifndef BB_CONSTRAINT_CACHE_H
#define BB_CONSTRAINT_CACHE_H

#include "generate/grammar/constraint.h"

struct bb_constraint_cache;

/* Constraints for a tokenizer (borrowed). Keeps at most `count` (1 or more) of them, and `bytes` with the masks that
 * they have found meanwhile; which one was asked for longest ago is let go first. Let go is not freed: who holds it
 * keeps it. */
BB_RESULT bombus_status bb_constraint_cache_create(struct bb_constraint_cache **cache,
                                                   const struct bb_tokenizer *tokenizer, size_t count, size_t bytes,
                                                   bombus_error *error);
void bb_constraint_cache_free(struct bb_constraint_cache *cache); /* NULL is allowed */

/* The constraint of a text, from the cache or compiled into it; the caller has a hold of it, which bb_constraint_free
 * lets go. Compiles outside the lock: of two threads that ask for the same new text at once, both compile it and get
 * the one that was there first. */
BB_RESULT bombus_status bb_constraint_cache_get(struct bb_constraint_cache *cache,
                                                struct bombus_constraint **constraint, bombus_constraint_kind kind,
                                                const char *source, size_t length, bombus_error *error);

#endif
