/* numpy's legacy generator (np.random.seed, np.random.permutation), by which mlx-lm orders its batches. */
#ifndef BB_NUMPY_RANDOM_H
#define BB_NUMPY_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct bb_numpy_random {
    uint32_t state[624]; /* MT19937 */
    int32_t next;        /* of state; 624: all are used */
    uint32_t seed;
    uint64_t draws; /* numbers taken since the seed: with it, the whole state */
};

void bb_numpy_random_seed(struct bb_numpy_random *random, uint32_t seed);
/* As it was after `draws` numbers; takes about a second for 10^8 of them. */
void bb_numpy_random_restore(struct bb_numpy_random *random, uint32_t seed, uint64_t draws);
uint32_t bb_numpy_random_next(struct bb_numpy_random *random);
/* np.random.permutation(count) into order [count]. */
void bb_numpy_random_permutation(struct bb_numpy_random *random, uint32_t *order, size_t count);

#endif
