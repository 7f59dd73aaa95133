/* Which tokens may follow, as sets of bits: found once for a place in an automaton, then kept and shared. */
#ifndef BB_MASKS_H
#define BB_MASKS_H

#include "generate/grammar/configurations.h"
#include "text/token_trie.h"

struct bb_masks; /* any number of threads */

/* Both are borrowed. */
BB_RESULT bombus_status bb_masks_create(struct bb_masks **masks, const struct bb_automaton *automaton,
                                        const struct bb_token_trie *trie, bombus_error *error);
void bb_masks_free(struct bb_masks *masks);          /* NULL is allowed */
size_t bb_masks_bytes(const struct bb_masks *masks); /* of all that is kept, as of the last find */

/* Sets the bits of the tokens that may follow the configurations (not closed; sorted here), and clears the others.
 * bits: [(trie->size + 63) / 64]. */
BB_RESULT bombus_status bb_masks_find(struct bb_masks *masks, struct bb_configurations *set,
                                      const struct bb_frames *frames, uint64_t *bits, bombus_error *error);

#endif
