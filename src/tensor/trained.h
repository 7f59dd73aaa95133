/* The parameters that are trained, all in one run of memory, and their gradients at the same places of another. */
#ifndef BB_TRAINED_H
#define BB_TRAINED_H

#include <stddef.h>

struct bb_trained {
    const float *values;
    float *gradients;
    size_t count; /* 0: nothing is trained */
};

/* The gradient of a parameter (an array that begins at `value`); NULL if it is not trained. */
static inline float *bb_trained_gradient(const struct bb_trained *trained, const void *value)
{
    const float *place = value;
    return place != NULL && place >= trained->values && place < trained->values + trained->count ? trained->gradients + (place - trained->values) : NULL;
}

#endif
