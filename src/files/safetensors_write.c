/* Writes a safetensors file, in the same order and with the same header as the reference. */
#include "files/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* The reference sorts by its enumeration of types, which ascends in alignment: the same rank here gives the same bytes.
 */
static int rank_of(enum bb_dtype dtype)
{
    static const uint8_t ranks[BB_DTYPE_COUNT] = {
        [BB_BOOL] = 0,         [BB_F4] = 1,      [BB_F6_E2M3] = 2, [BB_F6_E3M2] = 3, [BB_U8] = 4,
        [BB_I8] = 5,           [BB_F8_E5M2] = 6, [BB_F8_E4M3] = 7, [BB_F8_E8M0] = 8, [BB_F8_E4M3FNUZ] = 9,
        [BB_F8_E5M2FNUZ] = 10, [BB_I16] = 11,    [BB_U16] = 12,    [BB_F16] = 13,    [BB_BF16] = 14,
        [BB_I32] = 15,         [BB_U32] = 16,    [BB_F32] = 17,    [BB_C64] = 18,    [BB_F64] = 19,
        [BB_I64] = 20,         [BB_U64] = 21,
    };
    return ranks[dtype];
}

static int compare_entries(const void *left, const void *right)
{
    const struct bb_safetensors_entry *a = *(const struct bb_safetensors_entry *const *)left;
    const struct bb_safetensors_entry *b = *(const struct bb_safetensors_entry *const *)right;
    int difference = rank_of(b->dtype) - rank_of(a->dtype);
    return difference != 0 ? difference : strcmp(a->name, b->name);
}

static int compare_entry_names(const void *left, const void *right)
{
    const struct bb_safetensors_entry *a = *(const struct bb_safetensors_entry *const *)left;
    const struct bb_safetensors_entry *b = *(const struct bb_safetensors_entry *const *)right;
    return strcmp(a->name, b->name);
}

/* Entries are our caller's, so a wrong one is a wrong call. */
static bombus_status check_entry(const struct bb_safetensors_entry *entry, bool is_made, const char *path, bombus_error *error)
{
    size_t bits = bb_dtype_bits(entry->dtype);
    bool fits = bits > 0 && entry->rank >= 0 && entry->rank <= BB_SAFETENSORS_MAX_RANK;
    for (int32_t i = 0; fits && i < entry->rank; i++)
        fits = entry->shape[i] >= 0 && bb_multiply_size(bits, (size_t)entry->shape[i], &bits);
    if (!fits || bits % 8 != 0 || bits / 8 != entry->size || (entry->size > 0 && entry->data == NULL && !is_made))
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT,
                       "%s: tensor '%.200s': type, shape and size (%zu bytes) do not fit together", path, entry->name,
                       entry->size);
    return BOMBUS_OK;
}

/* {"dtype": ..., "shape": [...], "data_offsets": [begin, end]}; NULL if memory is out. */
static json_t *describe(const struct bb_safetensors_entry *entry, size_t begin)
{
    json_t *shape = json_array();
    for (int32_t i = 0; i < entry->rank; i++)
        if (json_array_append_new(shape, json_integer(entry->shape[i])) != 0) {
            json_decref(shape);
            return NULL;
        }
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", bb_dtype_name(entry->dtype), "shape", shape, "data_offsets",
                     (json_int_t)begin, (json_int_t)(begin + entry->size));
}

static bombus_status add_metadata(json_t *header, const char *const *metadata, size_t count, const char *path,
                                  bombus_error *error)
{
    json_t *pairs = json_object();
    for (size_t i = 0; i < count; i++)
        if (json_object_set_new(pairs, metadata[2 * i], json_string(metadata[2 * i + 1])) != 0) {
            json_decref(pairs);
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: metadata '%.200s' is not valid UTF-8 text", path,
                           metadata[2 * i]);
        }
    if (json_object_set_new(header, "__metadata__", pairs) != 0)
        return bb_fail_memory(error, count, path);
    return BOMBUS_OK;
}

static bombus_status describe_all(json_t *header, const struct bb_safetensors_entry *const *order, size_t count,
                                  bool is_made, const char *path, bombus_error *error)
{
    size_t begin = 0;
    for (size_t i = 0; i < count; i++) {
        bombus_status status = check_entry(order[i], is_made, path, error);
        if (status != BOMBUS_OK)
            return status;
        if (json_object_get(header, order[i]->name) != NULL || strcmp(order[i]->name, "__metadata__") == 0)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: two tensors are named '%.200s'", path, order[i]->name);
        if (json_object_set_new(header, order[i]->name, describe(order[i], begin)) != 0)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: tensor name '%.200s' is not valid UTF-8 text", path,
                           order[i]->name);
        begin += order[i]->size;
    }
    return BOMBUS_OK;
}

static bombus_status write_parts(const char *path, const char *text, const struct bb_safetensors_entry *const *order,
                                 size_t count, const struct bb_safetensors_source *source, bombus_error *error)
{
    static const char spaces[] = "       "; /* the header is padded so that data begins at a multiple of 8 */
    struct bb_file_writer writer;
    size_t text_length = strlen(text), padding = (8 - text_length % 8) % 8;
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)(text_length + padding) >> (8 * i));
    bombus_status status = bb_file_writer_open(&writer, path, error);
    if (status == BOMBUS_OK)
        status = bb_file_writer_add(&writer, length, sizeof length, error);
    if (status == BOMBUS_OK)
        status = bb_file_writer_add(&writer, text, text_length, error);
    if (status == BOMBUS_OK)
        status = bb_file_writer_add(&writer, spaces, padding, error);
    for (size_t i = 0; i < count && status == BOMBUS_OK; i++) {
        const void *data = order[i]->data;
        if (data == NULL && source != NULL)
            status = source->make(source->context, order[i], &data, error);
        if (status == BOMBUS_OK)
            status = bb_file_writer_add(&writer, data, order[i]->size, error);
    }
    if (status == BOMBUS_OK)
        status = bb_file_writer_finish(&writer, error);
    bb_file_writer_cancel(&writer);
    return status;
}

static bombus_status write_all(const char *path, const struct bb_safetensors_entry *entries, size_t count,
                               const char *const *metadata, size_t metadata_count, const struct bb_safetensors_source *source,
                               bombus_error *error)
{
    const struct bb_safetensors_entry **order = bb_allocate(count, sizeof *order);
    json_t *header = json_object();
    char *text = NULL;
    bombus_status status = BOMBUS_OK;
    if (order == NULL || header == NULL) {
        status = bb_fail_memory(error, count * sizeof *order, path);
        goto done;
    }
    for (size_t i = 0; i < count; i++)
        order[i] = &entries[i];
    qsort(order, count, sizeof *order, source != NULL ? compare_entry_names : compare_entries);
    if (metadata_count > 0)
        status = add_metadata(header, metadata, metadata_count, path, error);
    if (status == BOMBUS_OK)
        status = describe_all(header, order, count, source != NULL, path, error);
    if (status != BOMBUS_OK)
        goto done;
    text = json_dumps(header, JSON_COMPACT);
    if (text == NULL) {
        status = bb_fail_memory(error, count, path);
        goto done;
    }
    status = write_parts(path, text, order, count, source, error);
done:
    free(text);
    json_decref(header);
    bb_release(order);
    return status;
}

bombus_status bb_safetensors_write(const char *path, const struct bb_safetensors_entry *entries, size_t count,
                                   const char *const *metadata, size_t metadata_count, bombus_error *error)
{
    return write_all(path, entries, count, metadata, metadata_count, NULL, error);
}

bombus_status bb_safetensors_write_made(const char *path, const struct bb_safetensors_entry *entries, size_t count,
                                        const char *const *metadata, size_t metadata_count,
                                        const struct bb_safetensors_source *source, bombus_error *error)
{
    return write_all(path, entries, count, metadata, metadata_count, source, error);
}
