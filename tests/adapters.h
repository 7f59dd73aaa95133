/* Compares the adapters of two folders. */
#ifndef ADAPTERS_H
#define ADAPTERS_H

#include "files/safetensors.h"
#include "test.h"

/* The largest difference of any entry, infinite where one is no number; tensors, names and sizes must be the same. */
static inline double adapters_distance(const char *one, const char *other)
{
    char paths[2][512];
    struct bb_safetensors files[2];
    bombus_error error;
    double worst = 0.0;
    snprintf(paths[0], sizeof paths[0], "%s/adapters.safetensors", one);
    snprintf(paths[1], sizeof paths[1], "%s/adapters.safetensors", other);
    for (int i = 0; i < 2; i++)
        CHECK_OK(bb_safetensors_open(&files[i], paths[i], &error), error);
    assert_int_equal(files[0].count, files[1].count);
    assert_true(files[0].count > 0);
    for (size_t i = 0; i < files[0].count; i++) {
        const struct bb_safetensors_entry *entry = &files[0].entries[i];
        const struct bb_safetensors_entry *match = bb_safetensors_find(&files[1], entry->name);
        assert_non_null(match);
        assert_int_equal(entry->size, match->size);
        for (size_t at = 0; at < entry->size / sizeof(float); at++) {
            double difference = fabs((double)bb_dtype_load(entry->data, BB_F32, at) - (double)bb_dtype_load(match->data, BB_F32, at));
            if (!(difference <= worst))
                worst = difference == difference ? difference : (double)INFINITY;
        }
    }
    bb_safetensors_close(&files[0]);
    bb_safetensors_close(&files[1]);
    return worst;
}

/* The same tensors, each entry within the tolerance. */
static inline void check_near_adapters(const char *one, const char *other, double tolerance)
{
    double worst = adapters_distance(one, other);
    if (!(worst <= tolerance))
        fail_msg("%s and %s: worst difference %g (tolerance %g)", one, other, worst, tolerance);
}

#endif
