/* One safetensors file, mapped and used in place; and the writer of one. */
#ifndef BB_SAFETENSORS_H
#define BB_SAFETENSORS_H

#include "base/file.h"
#include "base/map.h"
#include "base/memory.h"
#include "tensor/tensor.h"

enum { BB_SAFETENSORS_MAX_RANK = 8 };

struct bb_safetensors_entry {
    const char *name; /* in the file's arena; any UTF-8 without NUL */
    enum bb_dtype dtype;
    int32_t rank; /* 0 for a scalar */
    int64_t shape[BB_SAFETENSORS_MAX_RANK];
    const void *data; /* in the map; not aligned in general, since a header may have any length */
    size_t size;      /* bytes */
};

struct bb_safetensors {
    struct bb_file_map map;
    struct bb_arena arena;
    struct bb_safetensors_entry *entries; /* in the header's order */
    size_t count;
    struct bb_map index;   /* name -> entry number */
    size_t metadata_count; /* "__metadata__": key, value, key, value ... (count of pairs) */
    const char **metadata;
};

/* Header sizes, dtypes, shapes against sizes, overlaps and gaps, duplicate names are all checked. Closing a zeroed or
 * half-open one is allowed. */
BB_RESULT bombus_status bb_safetensors_open(struct bb_safetensors *file, const char *path, bombus_error *error);
void bb_safetensors_close(struct bb_safetensors *file);
const struct bb_safetensors_entry *bb_safetensors_find(const struct bb_safetensors *file,
                                                       const char *name);                /* NULL if absent */
const char *bb_safetensors_metadata(const struct bb_safetensors *file, const char *key); /* NULL if absent */

/* Room for a shape as text; longer ones are cut. */
enum { BB_SHAPE_TEXT_SIZE = 8 * 22 };
/* "[2, 3]" */
void bb_shape_format(char text[BB_SHAPE_TEXT_SIZE], const int64_t *shape, int32_t rank);

/* The data of entries whose `data` is NULL, made when their turn comes: valid until the next call. */
struct bb_safetensors_source {
    bombus_status (*make)(void *context, const struct bb_safetensors_entry *entry, const void **data, bombus_error *error);
    void *context;
};

/* Writes entries as bb_safetensors_write does, but by name alone, so that what belongs together is made together. */
BB_RESULT bombus_status bb_safetensors_write_made(const char *path, const struct bb_safetensors_entry *entries, size_t count,
                                                  const char *const *metadata, size_t metadata_count,
                                                  const struct bb_safetensors_source *source, bombus_error *error);

/* Writes entries (name, dtype, rank, shape, data, size) and metadata pairs (key, value, ...; metadata_count counts
 * pairs) atomically, in the order of the reference: wide types first, so that all data is aligned, then by name. Data
 * goes from where it lies to the file. */
BB_RESULT bombus_status bb_safetensors_write(const char *path, const struct bb_safetensors_entry *entries, size_t count,
                                             const char *const *metadata, size_t metadata_count, bombus_error *error);

#endif
