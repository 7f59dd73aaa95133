/* Gradients against differences: the slopes of a scalar, summed in double, along single entries of an input. */
#ifndef SLOPE_H
#define SLOPE_H

#include "test.h"

#include "backend/cpu/kernels/kernels.h"
#include "backend_fixture.h"

#include <stdlib.h>

/* The scalar of what `context` holds now. */
typedef double (*slope_function)(void *context);

/* One input and its gradient as a slot gives it. */
struct slope_input {
    const char *name;
    float *values;
    const float *gradient;
    size_t count;
};

/* By five points, whose error falls with the fourth power of the step. */
static inline double slope_at(slope_function function, void *context, float *entry, float step)
{
    static const float places[] = {1.0f, -1.0f, 2.0f, -2.0f};
    const float kept = *entry;
    double found[4];
    for (int i = 0; i < 4; i++) {
        *entry = kept + places[i] * step;
        found[i] = function(context);
    }
    *entry = kept;
    return (8.0 * (found[0] - found[1]) - (found[2] - found[3])) / (12.0 * (double)step);
}

/* Some `most` entries of the input; the tolerance is relative to the largest entry of the gradient. */
static inline void check_slopes(slope_function function, void *context, const struct slope_input *input, float step, double tolerance, size_t most)
{
    const size_t stride = input->count > most ? input->count / most : 1;
    double largest = 0.0;
    for (size_t i = 0; i < input->count; i++)
        largest = fmax(largest, fabs((double)input->gradient[i]));
    if (!(largest > 0.0))
        fail_msg("%s: the gradient is zero", input->name);
    for (size_t i = 0; i < input->count; i += stride) {
        const double slope = slope_at(function, context, &input->values[i], step);
        if (!(fabs(slope - (double)input->gradient[i]) <= tolerance * largest))
            fail_msg("%s[%zu]: slope %.7g, gradient %.7g, the largest %.7g", input->name, i, slope, (double)input->gradient[i], largest);
    }
}

static inline double dot(const float *a, const float *b, size_t count)
{
    double sum = 0.0;
    for (size_t i = 0; i < count; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Calls `check` with the reference level and each level at two threads. */
static inline void on_levels(void (*check)(struct bb_backend *reference, struct bb_backend *backend))
{
    struct bb_backend *reference = open_cpu("reference", 1);
    for (int32_t level = 0; bb_kernels_level_name(level) != NULL; level++) {
        struct bb_backend *backend = open_cpu(bb_kernels_level_name(level), 2);
        check(reference, backend);
        bb_backend_close(backend);
    }
    bb_backend_close(reference);
}

#endif
