/* Reads a safetensors file: eight bytes of header length (little-endian), a JSON header, the tensors' bytes. Everything
 * that the header says is checked once here, so that users of the entries need no checks of their own. The writer is
 * safetensors_write.c. */
#include "files/safetensors.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTH_SIZE = 8, MAX_HEADER_SIZE = 100000000 }; /* the reference refuses longer headers too */

void bb_shape_format(char text[BB_SHAPE_TEXT_SIZE], const int64_t *shape, int32_t rank)
{
    size_t length = 1;
    memcpy(text, "[", 2);
    for (int32_t i = 0; i < rank && i < BB_SAFETENSORS_MAX_RANK; i++)
        length +=
            (size_t)snprintf(text + length, BB_SHAPE_TEXT_SIZE - length, i > 0 ? ", %" PRId64 : "%" PRId64, shape[i]);
    snprintf(text + length, BB_SHAPE_TEXT_SIZE - length, "]");
}

static enum bb_dtype find_dtype(const char *name)
{
    for (int i = BB_DTYPE_NONE + 1; i < BB_DTYPE_COUNT; i++)
        if (strcmp(bb_dtype_name((enum bb_dtype)i), name) == 0)
            return (enum bb_dtype)i;
    return BB_DTYPE_NONE;
}

static bombus_status parse_shape(struct bb_safetensors_entry *entry, const json_t *shape, const char *path,
                                 bombus_error *error)
{
    size_t rank = json_array_size(shape);
    if (!json_is_array(shape))
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: tensor '%.200s': 'shape' must be an array of numbers", path,
                       entry->name);
    if (rank > BB_SAFETENSORS_MAX_RANK)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "%s: tensor '%.200s' has %zu dimensions, at most %d are supported", path, entry->name, rank,
                       BB_SAFETENSORS_MAX_RANK);
    for (size_t i = 0; i < rank; i++) {
        const json_t *extent = json_array_get(shape, i);
        if (!json_is_integer(extent) || json_integer_value(extent) < 0)
            return bb_fail(error, BOMBUS_ERROR_FORMAT,
                           "%s: tensor '%.200s': dimension %zu of its shape must be a number >= 0", path, entry->name,
                           i);
        entry->shape[i] = json_integer_value(extent);
    }
    entry->rank = (int32_t)rank;
    return BOMBUS_OK;
}

/* Bytes that shape and dtype ask for. */
static bombus_status measure(size_t *bytes, const struct bb_safetensors_entry *entry, const char *path,
                             bombus_error *error)
{
    size_t bits = bb_dtype_bits(entry->dtype);
    bool fits = true;
    for (int32_t i = 0; i < entry->rank && fits; i++)
        fits = bb_multiply_size(bits, (size_t)entry->shape[i], &bits);
    if (!fits) {
        char shape[BB_SHAPE_TEXT_SIZE];
        bb_shape_format(shape, entry->shape, entry->rank);
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: tensor '%.200s': shape %s overflows", path, entry->name, shape);
    }
    if (bits % 8 != 0)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: tensor '%.200s': %zu bits of %s do not fill whole bytes", path,
                       entry->name, bits, bb_dtype_name(entry->dtype));
    *bytes = bits / 8;
    return BOMBUS_OK;
}

/* "data_offsets": [begin, end] within the `available` bytes behind the header. */
static bombus_status parse_offsets(struct bb_safetensors_entry *entry, const json_t *offsets, const uint8_t *data,
                                   size_t available, const char *path, bombus_error *error)
{
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: tensor '%.200s': 'data_offsets' must be two numbers", path,
                       entry->name);
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || end < begin || (uint64_t)end > available)
        return bb_fail(error, BOMBUS_ERROR_FORMAT,
                       "%s: tensor '%.200s': bytes [%" JSON_INTEGER_FORMAT ", %" JSON_INTEGER_FORMAT
                       ") are not within the file's %zu bytes of data",
                       path, entry->name, begin, end, available);
    size_t needed = 0;
    bombus_status status = measure(&needed, entry, path, error);
    if (status != BOMBUS_OK)
        return status;
    entry->data = data + begin;
    entry->size = (size_t)(end - begin);
    if (entry->size != needed) {
        char shape[BB_SHAPE_TEXT_SIZE];
        bb_shape_format(shape, entry->shape, entry->rank);
        return bb_fail(error, BOMBUS_ERROR_FORMAT,
                       "%s: tensor '%.200s': %s %s needs %zu bytes, its data_offsets give %zu", path, entry->name,
                       bb_dtype_name(entry->dtype), shape, needed, entry->size);
    }
    return BOMBUS_OK;
}

static bombus_status parse_entry(struct bb_safetensors_entry *entry, const json_t *value, const uint8_t *data,
                                 size_t available, const char *path, bombus_error *error)
{
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    if (dtype == NULL)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: tensor '%.200s' has no 'dtype'", path, entry->name);
    entry->dtype = find_dtype(dtype);
    if (entry->dtype == BB_DTYPE_NONE)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "%s: tensor '%.200s': unknown dtype '%.40s'", path, entry->name,
                       dtype);
    bombus_status status = parse_shape(entry, json_object_get(value, "shape"), path, error);
    if (status != BOMBUS_OK)
        return status;
    return parse_offsets(entry, json_object_get(value, "data_offsets"), data, available, path, error);
}

static bombus_status parse_metadata(struct bb_safetensors *file, json_t *metadata, const char *path,
                                    bombus_error *error)
{
    const char *key;
    json_t *value;
    if (json_is_null(metadata))
        return BOMBUS_OK;
    if (!json_is_object(metadata))
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: '__metadata__' must be an object of texts", path);
    size_t count = json_object_size(metadata);
    file->metadata = bb_arena_allocate(&file->arena, count * 2, sizeof *file->metadata);
    if (file->metadata == NULL)
        return bb_fail_memory(error, count, path);
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value))
            return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: '__metadata__': the value of '%.200s' must be text", path,
                           key);
        const char *own_key = bb_arena_copy_text(&file->arena, key, strlen(key));
        const char *own_value = bb_arena_copy_text(&file->arena, json_string_value(value), json_string_length(value));
        if (own_key == NULL || own_value == NULL)
            return bb_fail_memory(error, json_string_length(value), path);
        file->metadata[2 * file->metadata_count] = own_key;
        file->metadata[2 * file->metadata_count++ + 1] = own_value;
    }
    return BOMBUS_OK;
}

static bombus_status parse_entries(struct bb_safetensors *file, json_t *header, const uint8_t *data, size_t available,
                                   const char *path, bombus_error *error)
{
    const char *key;
    json_t *value;
    file->entries = bb_arena_allocate(&file->arena, json_object_size(header), sizeof *file->entries);
    if (file->entries == NULL || !bb_map_reserve(&file->index, json_object_size(header)))
        return bb_fail_memory(error, json_object_size(header), path);
    json_object_foreach(header, key, value)
    {
        bombus_status status;
        if (strcmp(key, "__metadata__") == 0) {
            status = parse_metadata(file, value, path, error);
        } else {
            struct bb_safetensors_entry *entry = &file->entries[file->count];
            size_t length = strlen(key);
            entry->name = bb_arena_copy_text(&file->arena, key, length);
            if (entry->name == NULL || !bb_map_set(&file->index, entry->name, length, file->count, NULL))
                return bb_fail_memory(error, length, path);
            file->count++;
            status = parse_entry(entry, value, data, available, path, error);
        }
        if (status != BOMBUS_OK)
            return status;
    }
    return BOMBUS_OK;
}

static int compare_places(const void *left, const void *right)
{
    const struct bb_safetensors_entry *a = *(const struct bb_safetensors_entry *const *)left;
    const struct bb_safetensors_entry *b = *(const struct bb_safetensors_entry *const *)right;
    const char *a_data = a->data, *b_data = b->data;
    if (a_data != b_data)
        return a_data < b_data ? -1 : 1;
    return (a->size > b->size) - (a->size < b->size);
}

/* Tensors must tile the data: the reference refuses overlaps and gaps, and bytes that belong to none. */
static bombus_status check_places(const struct bb_safetensors *file, const uint8_t *data, size_t available,
                                  const char *path, bombus_error *error)
{
    const struct bb_safetensors_entry **places = bb_allocate(file->count, sizeof *places);
    bombus_status status = BOMBUS_OK;
    size_t end = 0;
    if (places == NULL)
        return bb_fail_memory(error, file->count * sizeof *places, path);
    for (size_t i = 0; i < file->count; i++)
        places[i] = &file->entries[i];
    qsort(places, file->count, sizeof *places, compare_places);
    for (size_t i = 0; i < file->count && status == BOMBUS_OK; i++) {
        size_t begin = (size_t)((const uint8_t *)places[i]->data - data);
        if (begin < end)
            status = bb_fail(error, BOMBUS_ERROR_FORMAT,
                             "%s: tensors '%.200s' and '%.200s' overlap: byte %zu belongs to both", path,
                             places[i - 1]->name, places[i]->name, begin);
        else if (begin > end)
            status = bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: bytes [%zu, %zu) before tensor '%.200s' belong to none",
                             path, end, begin, places[i]->name);
        end = begin + places[i]->size;
    }
    if (status == BOMBUS_OK && end != available)
        status =
            bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: %zu bytes of data, its tensors fill %zu", path, available, end);
    bb_release(places);
    return status;
}

static bombus_status parse_header(struct bb_safetensors *file, const char *path, bombus_error *error)
{
    const uint8_t *text = file->map.data + LENGTH_SIZE;
    uint64_t length = 0;
    for (int i = LENGTH_SIZE - 1; i >= 0; i--)
        length = length << 8 | file->map.data[i];
    if (file->map.size >= 24 && memcmp(file->map.data, "version https://git-lfs", 23) == 0)
        return bb_fail(error, BOMBUS_ERROR_FORMAT,
                       "%s: a Git LFS pointer, not the file itself (fetch it with git lfs pull)", path);
    if (length > MAX_HEADER_SIZE)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: header of %" PRIu64 " bytes, at most %d are allowed", path,
                       length, MAX_HEADER_SIZE);
    if (length > file->map.size - LENGTH_SIZE)
        return bb_fail(error, BOMBUS_ERROR_FORMAT,
                       "%s: header of %" PRIu64 " bytes, but the file has %zu (is it cut off?)", path, length,
                       file->map.size);
    if (length == 0 || text[0] != '{')
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: not a safetensors file: its header does not begin with '{'",
                       path);
    json_error_t place;
    json_t *header = json_loadb((const char *)text, (size_t)length, JSON_REJECT_DUPLICATES, &place);
    if (header == NULL && json_error_code(&place) == json_error_out_of_memory)
        return bb_fail_memory(error, (size_t)length, path);
    if (header == NULL)
        return bb_fail_at(error, BOMBUS_ERROR_FORMAT, place.line, place.column, "%s: header: %s", path, place.text);
    const uint8_t *data = text + length;
    size_t available = file->map.size - LENGTH_SIZE - (size_t)length;
    bombus_status status = parse_entries(file, header, data, available, path, error);
    if (status == BOMBUS_OK)
        status = check_places(file, data, available, path, error);
    json_decref(header);
    return status;
}

bombus_status bb_safetensors_open(struct bb_safetensors *file, const char *path, bombus_error *error)
{
    *file = (struct bb_safetensors){0};
    bombus_status status = bb_file_map(&file->map, path, error);
    if (status != BOMBUS_OK)
        goto done;
    if (file->map.size < LENGTH_SIZE) {
        status = bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: %zu bytes, too short for a safetensors header", path,
                         file->map.size);
        goto done;
    }
    status = parse_header(file, path, error);
done:
    if (status != BOMBUS_OK)
        bb_safetensors_close(file);
    return status;
}

void bb_safetensors_close(struct bb_safetensors *file)
{
    bb_map_clear(&file->index);
    bb_arena_clear(&file->arena);
    bb_file_unmap(&file->map);
    *file = (struct bb_safetensors){0};
}

const struct bb_safetensors_entry *bb_safetensors_find(const struct bb_safetensors *file, const char *name)
{
    const uint64_t *place = bb_map_find(&file->index, name, strlen(name));
    return place != NULL ? &file->entries[*place] : NULL;
}

const char *bb_safetensors_metadata(const struct bb_safetensors *file, const char *key)
{
    for (size_t i = 0; i < file->metadata_count; i++)
        if (strcmp(file->metadata[2 * i], key) == 0)
            return file->metadata[2 * i + 1];
    return NULL;
}
