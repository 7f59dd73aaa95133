/* Whole weights: each tensor of the file is rounded to the dtype of the model's when the writer of its shard comes to it. */
#include "convert/fuse_full.h"

#include "files/checkpoint_write.h"
#include "tensor/dtype.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A tensor of the model and what stands for it. */
struct replacement {
    const struct bb_safetensors_entry *old, *from;
    size_t first; /* element of `from` where it begins: an expert's in a stack */
    struct bb_fuse_result *result;
};

struct full {
    const struct bb_model *model;
    const struct bb_fuse_options *options;
    struct bb_fuse_report *report;
    const char *path;
    struct bb_safetensors file;
    struct replacement *replacements;
    size_t count, limit, done;
    struct bb_map index; /* name in the model -> replacement */
    struct bb_arena arena;
    void *data; /* of the latest tensor */
};

static bombus_status fail_memory(size_t bytes, bombus_error *error)
{
    return bb_fail_memory(error, bytes, "a model of whole weights");
}

/* ---- which tensors there are ---- */

static const struct bb_safetensors_entry *find_old(const struct full *full, const char *name)
{
    const struct bb_checkpoint *checkpoint = &full->model->checkpoint;
    const uint64_t *number = bb_map_find(&checkpoint->index, name, strlen(name));
    return number != NULL ? checkpoint->entries[*number] : NULL;
}

/* Is the tensor one of the parts of a quantized matrix? */
static bool is_quantized(const struct full *full, const struct bb_safetensors_entry *old)
{
    static const char *const parts[] = {".weight", ".scales", ".biases"};
    char scales[300];
    for (size_t i = 0; i < BB_COUNT(parts); i++)
        if (bb_name_ends_with(old->name, parts[i])) {
            snprintf(scales, sizeof scales, "%.*s.scales", (int)(strlen(old->name) - strlen(parts[i])), old->name);
            return find_old(full, scales) != NULL;
        }
    return false;
}

/* The shapes are one; with a count of experts that of `from` has it before them. */
static bool is_of_shape(const struct bb_safetensors_entry *from, const struct bb_safetensors_entry *old,
                        int32_t experts)
{
    const int32_t more = experts > 0 ? 1 : 0;
    if (from->rank != old->rank + more || (more > 0 && from->shape[0] != experts))
        return false;
    for (int32_t i = 0; i < old->rank; i++)
        if (from->shape[i + more] != old->shape[i])
            return false;
    return true;
}

/* `old` becomes `from`, or expert `expert` of `experts` in it (experts 0: all of it). */
static bombus_status add_replacement(struct full *full, const struct bb_safetensors_entry *from,
                                     const struct bb_safetensors_entry *old, int32_t expert, int32_t experts,
                                     bombus_error *error)
{
    char expected[BB_SHAPE_TEXT_SIZE], found[BB_SHAPE_TEXT_SIZE];
    if (!bb_dtype_is_weight_float(from->dtype))
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: tensor '%.200s' is %s, expected F32, F16 or BF16", full->path,
                       from->name, bb_dtype_name(from->dtype));
    if (is_quantized(full, old) || !bb_dtype_is_weight_float(old->dtype))
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "%s: tensor '%.200s' is for an unquantized model, but '%.200s' is quantized in %s", full->path,
                       from->name, old->name, full->model->checkpoint.folder);
    if (!is_of_shape(from, old, experts)) {
        bb_shape_format(expected, old->shape, old->rank);
        bb_shape_format(found, from->shape, from->rank);
        return bb_fail(error, BOMBUS_ERROR_MISMATCH, "%s: tensor '%.200s' is %s, expected %s%s as '%.200s' is in %s",
                       full->path, from->name, found, experts > 0 ? "one for each expert of " : "", expected, old->name,
                       full->model->checkpoint.folder);
    }
    if (bb_map_find(&full->index, old->name, strlen(old->name)) != NULL)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: tensor '%.200s' is there twice, stacked and alone", full->path,
                       old->name);
    if (!bb_map_set(&full->index, old->name, strlen(old->name), full->count, NULL))
        return fail_memory(strlen(old->name), error);
    const size_t elements = old->size / (bb_dtype_bits(old->dtype) / 8);
    full->replacements[full->count++] =
        (struct replacement){.old = old, .from = from, .first = (size_t)expert * elements};
    return BOMBUS_OK;
}

/* The projection of experts whose stack the tensor is, in a model that holds them one by one; NULL: none. */
static const struct bb_projection *find_stack(const struct full *full, const char *name)
{
    for (int32_t i = 0; i < full->model->projection_count; i++) {
        const struct bb_projection *projection = &full->model->projections[i];
        const size_t length = strlen(projection->path);
        if (projection->expert_path != NULL && strncmp(name, projection->path, length) == 0 && name[length] == '.')
            return projection;
    }
    return NULL;
}

static bombus_status add_tensor(struct full *full, const struct bb_safetensors_entry *from, bombus_error *error)
{
    const struct bb_safetensors_entry *old = find_old(full, from->name);
    if (old != NULL)
        return add_replacement(full, from, old, 0, 0, error);
    const struct bb_projection *stack = find_stack(full, from->name);
    bombus_status status = BOMBUS_OK;
    int32_t count = stack != NULL ? stack->expert_count : 0;
    for (int32_t i = 0; i < count && status == BOMBUS_OK; i++) {
        char name[300];
        snprintf(name, sizeof name, "%s.%d.%s%s", stack->expert_path, i, stack->expert_name,
                 from->name + strlen(stack->path));
        old = find_old(full, name);
        if (old == NULL)
            break;
        status = add_replacement(full, from, old, i, count, error);
    }
    if (status == BOMBUS_OK && old == NULL)
        status = bb_fail(error, BOMBUS_ERROR_MISMATCH, "%s: tensor '%.200s', expected a name of a tensor in %s",
                         full->path, from->name, full->model->checkpoint.folder);
    return status;
}

static bombus_status find_tensors(struct full *full, bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    full->limit = full->model->checkpoint.tensor_count;
    full->replacements = bb_arena_allocate(&full->arena, full->limit, sizeof *full->replacements);
    full->report->results = bb_arena_allocate(&full->report->arena, full->limit, sizeof *full->report->results);
    if (full->replacements == NULL || full->report->results == NULL)
        return fail_memory(full->limit * sizeof *full->replacements, error);
    if (full->file.count == 0)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: no tensor is in it", full->path);
    for (size_t i = 0; i < full->file.count && status == BOMBUS_OK; i++)
        status = add_tensor(full, &full->file.entries[i], error);
    for (size_t i = 0; i < full->count && status == BOMBUS_OK; i++) {
        const char *name = full->replacements[i].old->name;
        const size_t length = strlen(name) - (bb_name_ends_with(name, ".weight") ? sizeof ".weight" - 1 : 0);
        struct bb_fuse_result *result = &full->report->results[full->report->count++];
        result->path = bb_arena_copy_text(&full->report->arena, name, length);
        full->replacements[i].result = result;
        if (result->path == NULL)
            status = fail_memory(length, error);
    }
    return status;
}

/* ---- the folder ---- */

static bool describe(void *context, const struct bb_safetensors_entry *old, struct bb_safetensors_entry *entry)
{
    const struct full *full = context;
    *entry = *old;
    if (bb_map_find(&full->index, old->name, strlen(old->name)) != NULL)
        entry->data = NULL;
    return true;
}

static bombus_status make(void *context, const struct bb_safetensors_entry *entry, const void **data,
                          bombus_error *error)
{
    struct full *full = context;
    const struct bb_fuse_options *options = full->options;
    const struct replacement *replacement =
        &full->replacements[*bb_map_find(&full->index, entry->name, strlen(entry->name))];
    const struct bb_safetensors_entry *old = replacement->old, *from = replacement->from;
    struct bb_fuse_sums sums = {0};
    if (options->progress != NULL && !options->progress(options->context, full->done, full->count))
        return bb_fail(error, BOMBUS_ERROR_CANCELLED, "stopped by the caller after %zu of %zu tensors", full->done,
                       full->count);
    bb_release(full->data);
    full->data = bb_allocate(1, old->size);
    if (full->data == NULL)
        return fail_memory(old->size, error);
    const size_t count = old->size / (bb_dtype_bits(old->dtype) / 8);
    for (size_t i = 0; i < count; i++) {
        const float value = bb_dtype_load(from->data, from->dtype, replacement->first + i);
        const double plain = (double)bb_dtype_load(old->data, old->dtype, i);
        bb_dtype_store(full->data, old->dtype, i, value);
        const double made = (double)bb_dtype_load(full->data, old->dtype, i), delta = (double)value - plain;
        if (!isfinite(made))
            return bb_fail(error, BOMBUS_ERROR_FORMAT,
                           "%s: tensor '%.200s' holds %g, expected finite numbers of the model's dtype %s", full->path,
                           from->name, (double)value, bb_dtype_name(old->dtype));
        sums.weight += plain * plain;
        sums.delta += delta * delta;
        sums.error += (made - (double)value) * (made - (double)value);
        sums.product += (made - plain) * delta;
    }
    bb_fuse_report_add(full->report, replacement->result, &sums);
    full->done++;
    *data = full->data;
    return BOMBUS_OK;
}

static bombus_status check_options(const struct bb_fuse_options *options, const char *folder, bombus_error *error)
{
    if (options->bits == 0 && !options->is_dequantized)
        return BOMBUS_OK;
    return bb_fail(error, BOMBUS_ERROR_ARGUMENT,
                   "%s: %s is not for whole weights, which are written in the model's own dtype", folder,
                   options->bits != 0 ? "bits" : "dequantize");
}

bombus_status bb_fuse_full(const struct bb_model *model, const char *folder, const char *out_folder,
                           const struct bb_fuse_options *options, struct bb_fuse_report *report, bombus_error *error)
{
    struct full full = {.model = model, .options = options, .report = report};
    const struct bb_tensor_changes changes = {.describe = describe, .source = {.make = make, .context = &full}};
    char *path = NULL;
    *report = (struct bb_fuse_report){.survival = 1.0};
    bombus_status status = check_options(options, folder, error);
    if (status == BOMBUS_OK)
        status = bb_checkpoint_check_target(out_folder, error);
    if (status == BOMBUS_OK)
        status = bb_adapter_file_find_full(&path, folder, error);
    if (status == BOMBUS_OK && path == NULL)
        status = bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: an adapter, expected whole weights (fine_tune_type full)",
                         folder);
    full.path = path;
    if (status == BOMBUS_OK)
        status = bb_safetensors_open(&full.file, path, error);
    if (status == BOMBUS_OK)
        status = find_tensors(&full, error);
    if (status == BOMBUS_OK)
        status = bb_checkpoint_write_tensors(&model->checkpoint, out_folder, &changes, error);
    if (status == BOMBUS_OK)
        status = bb_checkpoint_copy_others(&model->checkpoint, out_folder, error);
    if (status == BOMBUS_OK)
        status = bb_checkpoint_write_config(&model->checkpoint, out_folder, false, NULL, 0, error);
    bb_release(full.data);
    bb_safetensors_close(&full.file);
    bb_map_clear(&full.index);
    bb_arena_clear(&full.arena);
    bb_release(path);
    return status;
}
