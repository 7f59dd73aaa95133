/* numpy's legacy generator: MT19937 seeded by init_genrand, and shuffles by masked rejection from the last place down. */
#include "train/numpy_random.h"

enum { WORDS = 624, MIDDLE = 397 };

void bb_numpy_random_seed(struct bb_numpy_random *random, uint32_t seed)
{
    *random = (struct bb_numpy_random){.next = WORDS, .seed = seed};
    for (uint32_t i = 0; i < WORDS; i++) {
        random->state[i] = seed;
        seed = UINT32_C(1812433253) * (seed ^ (seed >> 30)) + i + 1;
    }
}

static void refill(struct bb_numpy_random *random)
{
    uint32_t *state = random->state;
    for (int i = 0; i < WORDS; i++) {
        uint32_t y = (state[i] & UINT32_C(0x80000000)) | (state[(i + 1) % WORDS] & UINT32_C(0x7FFFFFFF));
        state[i] = state[(i + MIDDLE) % WORDS] ^ (y >> 1) ^ ((y & 1) != 0 ? UINT32_C(0x9908B0DF) : 0);
    }
    random->next = 0;
}

void bb_numpy_random_restore(struct bb_numpy_random *random, uint32_t seed, uint64_t draws)
{
    bb_numpy_random_seed(random, seed);
    for (uint64_t left = draws; left > 0;) {
        refill(random);
        uint64_t taken = left < WORDS ? left : WORDS;
        random->next = (int32_t)taken;
        left -= taken;
    }
    random->draws = draws;
}

uint32_t bb_numpy_random_next(struct bb_numpy_random *random)
{
    if (random->next == WORDS)
        refill(random);
    uint32_t y = random->state[random->next++];
    random->draws++;
    y ^= y >> 11;
    y ^= (y << 7) & UINT32_C(0x9D2C5680);
    y ^= (y << 15) & UINT32_C(0xEFC60000);
    return y ^ (y >> 18);
}

/* 0 .. most, by drawing numbers under the next power of two until one fits. */
static uint32_t below_or_equal(struct bb_numpy_random *random, uint32_t most)
{
    uint32_t mask = most, value;
    for (int shift = 1; shift <= 16; shift *= 2)
        mask |= mask >> shift;
    while ((value = bb_numpy_random_next(random) & mask) > most) {
    }
    return value;
}

void bb_numpy_random_permutation(struct bb_numpy_random *random, uint32_t *order, size_t count)
{
    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    for (size_t i = count; i-- > 1;) {
        uint32_t j = below_or_equal(random, (uint32_t)i), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}
