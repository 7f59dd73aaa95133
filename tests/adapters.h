/* Compares the adapters of two folders. */
#ifndef ADAPTERS_H
#define ADAPTERS_H

#include "files/safetensors.h"
#include "test.h"

/* The same tensors, each entry within the tolerance. */
static inline void check_near_adapters(const char *one, const char *other, double tolerance)
{
    char paths[2][512];
    struct bb_safetensors files[2];
    bombus_error error;
    snprintf(paths[0], sizeof paths[0], "%s/adapters.safetensors", one);
    snprintf(paths[1], sizeof paths[1], "%s/adapters.safetensors", other);
    for (int i = 0; i < 2; i++)
        CHECK_OK(bb_safetensors_open(&files[i], paths[i], &error), error);
    assert_int_equal(files[0].count, files[1].count);
    for (size_t i = 0; i < files[0].count; i++) {
        const struct bb_safetensors_entry *entry = &files[0].entries[i];
        const struct bb_safetensors_entry *match = bb_safetensors_find(&files[1], entry->name);
        assert_non_null(match);
        assert_int_equal(entry->size, match->size);
        CHECK_NEAR((const float *)entry->data, (const float *)match->data, entry->size / sizeof(float), tolerance);
    }
    bb_safetensors_close(&files[0]);
    bb_safetensors_close(&files[1]);
}

#endif
