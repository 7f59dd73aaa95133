/* Random numbers that can be reached by index: the same seed and counter give the same number on any thread or batch. */
#ifndef BB_RANDOM_H
#define BB_RANDOM_H

#include <stdint.h>

struct bb_random {
    uint64_t seed, counter;
};

/* splitmix64 of seed and counter: uniform over 64 bits. */
static inline uint64_t bb_random_at(uint64_t seed, uint64_t counter)
{
    uint64_t z = seed + (counter + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static inline uint64_t bb_random_next(struct bb_random *random)
{
    return bb_random_at(random->seed, random->counter++);
}

/* In [0, 1), 53 bits. */
static inline double bb_random_uniform(struct bb_random *random)
{
    return (double)(bb_random_next(random) >> 11) * 0x1p-53;
}

#endif
