/* Fusing: each matrix that an adapter changes is made anew from W + D, row by row, when the writer of its shard comes to it. */
#include "convert/fuse.h"

#include "files/checkpoint_write.h"
#include "quant/affine.h"
#include "quant/matrix.h"

#include <stdio.h>
#include <string.h>

enum { PATH_SIZE = 200 };

static const char *const part_names[] = {".biases", ".scales", ".weight"}; /* by name, as the writer takes them */

/* A matrix of the new folder: rows of the weights of consecutive slots (slot_count 0: of one that no adapter can change). */
struct matrix {
    const char *base;        /* "model.layers.0.self_attn.q_proj" */
    struct bb_weight weight; /* as it is */
    const struct bb_linear *const *slots;
    int32_t slot_count;
    bool is_changed;
    struct bb_scheme scheme;       /* of the new one; BB_QUANT_NONE: plain, in `dtype` */
    enum bb_dtype dtype;           /* of its elements if plain, else of its scales */
    struct bb_fuse_result *result; /* NULL: not changed */
    bool is_reported;              /* made before: parts of it may lie in several shards */
};

struct fuse {
    const struct bb_model *model;
    const struct bb_adapter_set *set;
    const struct bb_fuse_options *options;
    struct bb_fuse_report *report;
    struct bb_arena arena;
    struct matrix *matrices;
    size_t matrix_count, matrix_limit, done;
    struct bb_map index; /* names of tensors that are replaced -> matrix number */
    const struct matrix *current; /* whose parts are here */
    void *parts[3];
    size_t sizes[3];
};

/* ---- which matrices there are ---- */

static bool is_changed(const struct fuse *fuse, const struct bb_linear *const *slots, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        for (int32_t k = 0; k < fuse->set->count; k++)
            if (bb_adapter_use_pair(&fuse->set->uses[k], slots[i]->slot) != NULL)
                return true;
    return false;
}

static bombus_status fail_memory(size_t bytes, bombus_error *error)
{
    return bb_fail_memory(error, bytes, "a fused model");
}

/* Adds the matrix of tensors BASE.weight (.scales, .biases), if it is there. */
static bombus_status add_matrix(struct fuse *fuse, const char *base, const struct bb_linear *const *slots,
                                int32_t slot_count, bombus_error *error)
{
    const struct bb_checkpoint *checkpoint = &fuse->model->checkpoint;
    const struct bb_fuse_options *options = fuse->options;
    struct matrix *matrix = &fuse->matrices[fuse->matrix_count];
    char name[PATH_SIZE + 16];
    snprintf(name, sizeof name, "%s.weight", base);
    if (bb_map_find(&fuse->index, name, strlen(name)) != NULL || !bb_checkpoint_has(checkpoint, name))
        return BOMBUS_OK;
    *matrix = (struct matrix){
        .slots = slots, .slot_count = slot_count, .base = bb_arena_copy_text(&fuse->arena, base, strlen(base))};
    if (matrix->base == NULL)
        return fail_memory(strlen(base), error);
    bombus_status status = bb_checkpoint_describe(checkpoint, base, &matrix->weight, error);
    if (status != BOMBUS_OK)
        return status;
    matrix->is_changed = is_changed(fuse, slots, slot_count);
    bool is_quantized = matrix->weight.scheme.mode != BB_QUANT_NONE;
    if (!matrix->is_changed && !(is_quantized && options->is_dequantized))
        return BOMBUS_OK;
    if (is_quantized && options->is_dequantized) {
        matrix->dtype = matrix->weight.dtype == BB_F16 ? BB_F16 : BB_BF16;
    } else {
        matrix->scheme = matrix->weight.scheme;
        matrix->dtype = matrix->weight.dtype;
        if (is_quantized && options->bits > 0 && matrix->scheme.mode != BB_QUANT_AFFINE)
            return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "bits: '%s' is quantized as %s, whose bits are fixed", base,
                           bb_quant_mode_of(matrix->scheme.mode)->name);
        if (is_quantized && options->bits > 0)
            matrix->scheme.bits = options->bits;
    }
    for (size_t i = 0; i < BB_COUNT(part_names); i++) {
        snprintf(name, sizeof name, "%s%s", base, part_names[i]);
        const char *copy = bb_arena_copy_text(&fuse->arena, name, strlen(name));
        if (copy == NULL || !bb_map_set(&fuse->index, copy, strlen(copy), fuse->matrix_count, NULL))
            return fail_memory(strlen(name), error);
    }
    fuse->matrix_count++;
    return BOMBUS_OK;
}

static bombus_status add_projection(struct fuse *fuse, const struct bb_projection *projection, bombus_error *error)
{
    const struct bb_linear *const *slots = fuse->model->slots + projection->first_slot;
    bombus_status status = add_matrix(fuse, projection->path, slots, projection->slot_count, error);
    for (int32_t i = 0; i < projection->expert_count && projection->expert_path != NULL && status == BOMBUS_OK; i++) {
        char base[PATH_SIZE];
        snprintf(base, sizeof base, "%s.%d.%s", projection->expert_path, i, projection->expert_name);
        status = add_matrix(fuse, base, slots + i, 1, error);
    }
    return status;
}

/* Those that no adapter names; of interest where all are dequantized. */
static bombus_status add_others(struct fuse *fuse, bombus_error *error)
{
    const struct bb_checkpoint *checkpoint = &fuse->model->checkpoint;
    bombus_status status = BOMBUS_OK;
    for (size_t i = 0; i < checkpoint->tensor_count && status == BOMBUS_OK; i++) {
        const char *name = checkpoint->entries[i]->name;
        size_t length = strlen(name), end = sizeof ".scales" - 1;
        char base[PATH_SIZE];
        if (length <= end || length - end >= sizeof base || strcmp(name + length - end, ".scales") != 0)
            continue;
        snprintf(base, sizeof base, "%.*s", (int)(length - end), name);
        status = add_matrix(fuse, base, NULL, 0, error);
    }
    return status;
}

static bombus_status find_matrices(struct fuse *fuse, bombus_error *error)
{
    const struct bb_model *model = fuse->model;
    bombus_status status = BOMBUS_OK;
    fuse->matrix_limit = model->checkpoint.tensor_count + 1;
    fuse->matrices = bb_arena_allocate(&fuse->arena, fuse->matrix_limit, sizeof *fuse->matrices);
    fuse->report->results = bb_arena_allocate(&fuse->report->arena, fuse->matrix_limit, sizeof *fuse->report->results);
    if (fuse->matrices == NULL || fuse->report->results == NULL)
        return fail_memory(fuse->matrix_limit * sizeof *fuse->matrices, error);
    for (int32_t k = 0; k < fuse->set->count && model->recipe.tie_word_embeddings; k++) {
        const struct bb_low_rank *lookup = bb_adapter_use_pair(&fuse->set->uses[k], model->embedding_slot);
        const struct bb_low_rank *head = bb_adapter_use_pair(&fuse->set->uses[k], model->head.slot);
        if ((lookup == NULL) != (head == NULL) || (lookup != NULL && (lookup->packed_a.high != head->packed_a.high ||
                                                                      lookup->packed_b.high != head->packed_b.high)))
            return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                           "the adapter changes one of 'model.embed_tokens' and 'lm_head', which are one matrix here");
    }
    for (int32_t i = 0; i < model->projection_count && status == BOMBUS_OK; i++)
        status = add_projection(fuse, &model->projections[i], error);
    if (status == BOMBUS_OK && fuse->options->is_dequantized)
        status = add_others(fuse, error);
    for (size_t i = 0; i < fuse->matrix_count && status == BOMBUS_OK; i++) {
        struct matrix *matrix = &fuse->matrices[i];
        if (!matrix->is_changed)
            continue;
        matrix->result = &fuse->report->results[fuse->report->count++];
        *matrix->result = (struct bb_fuse_result){
            .path = bb_arena_copy_text(&fuse->report->arena, matrix->base, strlen(matrix->base)),
            .scheme = matrix->scheme};
        if (matrix->result->path == NULL)
            status = fail_memory(strlen(matrix->base), error);
    }
    return status;
}

/* ---- one matrix ---- */

/* delta = what the adapters add to row `row` (of the slot's own matrix), of which `plain` is what it is now. */
static void add_deltas(const struct fuse *fuse, int32_t slot, int64_t row, const float *plain, int64_t cols,
                       float *delta, float *one)
{
    for (int32_t k = 0; k < fuse->set->count; k++) {
        const struct bb_adapter_use *use = &fuse->set->uses[k];
        const struct bb_low_rank *pair = bb_adapter_use_pair(use, slot);
        if (pair == NULL)
            continue;
        memset(one, 0, (size_t)cols * sizeof *one);
        bb_low_rank_add_row(one, pair, cols, row);
        const float gain = pair->gains != NULL ? pair->gains[row] : 1.0f;
        for (int64_t i = 0; i < cols; i++)
            delta[i] += use->weight * (gain * (plain[i] + one[i]) - plain[i]);
    }
}

/* The new matrix over the parts that lie in memory. */
static struct bb_weight view_new(const struct fuse *fuse, const struct matrix *matrix)
{
    return (struct bb_weight){.data = fuse->parts[2],
                              .scales = fuse->parts[1],
                              .biases = fuse->parts[0],
                              .dtype = matrix->dtype,
                              .scheme = matrix->scheme,
                              .rows = matrix->weight.rows,
                              .cols = matrix->weight.cols};
}

static void pack(const struct matrix *matrix, const struct bb_weight *made, const float *row, int64_t index)
{
    const struct bb_scheme scheme = matrix->scheme;
    const int64_t cols = made->cols;
    const struct bb_packed_row out = bb_matrix_row(made, index);
    if (scheme.mode == BB_QUANT_NONE) {
        for (int64_t i = 0; i < cols; i++)
            bb_dtype_store(out.codes, matrix->dtype, (size_t)i, row[i]);
    } else if (scheme.mode == BB_QUANT_AFFINE) {
        bb_affine_pack_nearest(scheme, row, cols, scheme.bits == matrix->weight.scheme.bits ? &matrix->weight : NULL,
                               index, out);
    } else {
        bb_quant_mode_of(scheme.mode)->pack_row(scheme, row, cols, out);
    }
}

static void make_rows(const struct fuse *fuse, const struct matrix *matrix, struct bb_fuse_sums *sums, float *plain)
{
    const struct bb_weight made = view_new(fuse, matrix);
    const int64_t cols = made.cols;
    float *delta = plain + cols, *row = delta + cols, *one = row + cols;
    int32_t slot = 0;
    int64_t first = 0; /* row of the whole where the slot's begin */
    for (int64_t i = 0; i < made.rows; i++) {
        while (slot < matrix->slot_count && i - first >= matrix->slots[slot]->weight.rows)
            first += matrix->slots[slot++]->weight.rows;
        bb_quant_unpack_row(&matrix->weight, i, plain);
        memset(delta, 0, (size_t)cols * sizeof *delta);
        if (slot < matrix->slot_count)
            add_deltas(fuse, matrix->slots[slot]->slot, i - first, plain, cols, delta, one);
        for (int64_t k = 0; k < cols; k++)
            row[k] = plain[k] + delta[k];
        pack(matrix, &made, row, i);
        if (!matrix->is_changed)
            continue;
        bb_quant_unpack_row(&made, i, row);
        for (int64_t k = 0; k < cols; k++) {
            double d = (double)delta[k], change = (double)row[k] - (double)plain[k];
            sums->weight += (double)plain[k] * (double)plain[k];
            sums->delta += d * d;
            sums->error += (change - d) * (change - d);
            sums->product += change * d;
        }
    }
}

static bombus_status make_matrix(struct fuse *fuse, struct matrix *matrix, bombus_error *error)
{
    struct bb_fuse_sums sums = {0};
    const struct bb_fuse_options *options = fuse->options;
    if (options->progress != NULL && !options->progress(options->context, fuse->done, fuse->matrix_count))
        return bb_fail(error, BOMBUS_ERROR_CANCELLED, "stopped by the caller after %zu of %zu matrices", fuse->done,
                       fuse->matrix_count);
    for (size_t i = 0; i < BB_COUNT(fuse->parts); i++) {
        bb_release(fuse->parts[i]);
        fuse->parts[i] = fuse->sizes[i] > 0 ? bb_allocate(1, fuse->sizes[i]) : NULL;
        if (fuse->parts[i] == NULL && fuse->sizes[i] > 0)
            return fail_memory(fuse->sizes[i], error);
    }
    float *rows = bb_allocate((size_t)matrix->weight.cols, 4 * sizeof *rows);
    if (rows == NULL)
        return fail_memory((size_t)matrix->weight.cols * 4 * sizeof *rows, error);
    make_rows(fuse, matrix, &sums, rows);
    bb_release(rows);
    fuse->current = matrix;
    if (matrix->is_reported)
        return BOMBUS_OK;
    fuse->done++;
    matrix->is_reported = true;
    if (matrix->result != NULL)
        bb_fuse_report_add(fuse->report, matrix->result, &sums);
    return BOMBUS_OK;
}

/* Bytes of part i of the new matrix; 0 where it has none. */
static size_t part_size(const struct matrix *matrix, size_t i)
{
    const struct bb_weight made = {
        .dtype = matrix->dtype, .scheme = matrix->scheme, .rows = matrix->weight.rows, .cols = matrix->weight.cols};
    const struct bb_matrix_sizes sizes = bb_matrix_measure(&made);
    return i == 2 ? sizes.data : i == 1 ? sizes.scales : sizes.biases;
}

static size_t part_of(const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < BB_COUNT(part_names); i++)
        if (length > strlen(part_names[i]) && strcmp(name + length - strlen(part_names[i]), part_names[i]) == 0)
            return i;
    return 2;
}

static bombus_status make(void *context, const struct bb_safetensors_entry *entry, const void **data,
                          bombus_error *error)
{
    struct fuse *fuse = context;
    struct matrix *matrix = &fuse->matrices[*bb_map_find(&fuse->index, entry->name, strlen(entry->name))];
    bombus_status status = BOMBUS_OK;
    if (fuse->current != matrix) {
        fuse->current = NULL;
        for (size_t i = 0; i < BB_COUNT(fuse->sizes); i++)
            fuse->sizes[i] = part_size(matrix, i);
        status = make_matrix(fuse, matrix, error);
    }
    *data = fuse->parts[part_of(entry->name)];
    return status;
}

/* ---- the folder ---- */

/* The entry of a tensor in the new folder; false where it has none there. */
static bool describe(void *context, const struct bb_safetensors_entry *old, struct bb_safetensors_entry *entry)
{
    const struct fuse *fuse = context;
    const uint64_t *number = bb_map_find(&fuse->index, old->name, strlen(old->name));
    *entry = *old;
    if (number == NULL)
        return true;
    const struct matrix *matrix = &fuse->matrices[*number];
    size_t part = part_of(old->name);
    entry->data = NULL;
    entry->size = part_size(matrix, part);
    if (part == 2) {
        bool is_plain = matrix->scheme.mode == BB_QUANT_NONE;
        entry->dtype = is_plain ? matrix->dtype : BB_U32;
        entry->shape[entry->rank - 1] = is_plain ? matrix->weight.cols : matrix->weight.cols * matrix->scheme.bits / 32;
    }
    return entry->size > 0;
}

static bombus_status write_config(const struct fuse *fuse, const char *out_folder, bombus_error *error)
{
    size_t count = 0;
    struct bb_scheme_entry *entries = bb_allocate(fuse->matrix_count, sizeof *entries);
    if (entries == NULL)
        return fail_memory(fuse->matrix_count * sizeof *entries, error);
    for (size_t i = 0; i < fuse->matrix_count; i++) {
        const struct matrix *matrix = &fuse->matrices[i];
        if (matrix->scheme.mode != BB_QUANT_NONE && matrix->scheme.bits != matrix->weight.scheme.bits)
            entries[count++] = (struct bb_scheme_entry){
                .path = matrix->base, .scheme = matrix->scheme, .mode = bb_quant_mode_of(matrix->scheme.mode)->name};
    }
    bombus_status status = bb_checkpoint_write_config(&fuse->model->checkpoint, out_folder,
                                                      fuse->options->is_dequantized, entries, count, error);
    bb_release(entries);
    return status;
}

static bombus_status write_folder(struct fuse *fuse, const char *out_folder, bombus_error *error)
{
    const struct bb_checkpoint *checkpoint = &fuse->model->checkpoint;
    const struct bb_tensor_changes changes = {.describe = describe, .source = {.make = make, .context = fuse}};
    bombus_status status = bb_checkpoint_write_tensors(checkpoint, out_folder, &changes, error);
    if (status == BOMBUS_OK)
        status = bb_checkpoint_copy_others(checkpoint, out_folder, error);
    if (status == BOMBUS_OK)
        status = write_config(fuse, out_folder, error);
    return status;
}

static bombus_status check(const struct fuse *fuse, const char *out_folder, bombus_error *error)
{
    int32_t bits = fuse->options->bits;
    if (fuse->set == NULL || fuse->set->count == 0)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "adapters: none to fuse");
    if (bits != 0 && (bits < 2 || bits > 8 || bits == 7))
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "bits: %d, expected 0 (as they are), 2, 3, 4, 5, 6 or 8", bits);
    if (bits != 0 && fuse->options->is_dequantized)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "bits: %d, but the model is to be dequantized", bits);
    return bb_checkpoint_check_target(out_folder, error);
}

bombus_status bb_fuse(const struct bb_model *model, const struct bb_adapter_set *set, const char *out_folder,
                      const struct bb_fuse_options *options, struct bb_fuse_report *report, bombus_error *error)
{
    struct fuse fuse = {.model = model, .set = set, .options = options, .report = report};
    *report = (struct bb_fuse_report){.survival = 1.0};
    bombus_status status = check(&fuse, out_folder, error);
    if (status == BOMBUS_OK)
        status = find_matrices(&fuse, error);
    if (status == BOMBUS_OK)
        status = write_folder(&fuse, out_folder, error);
    for (size_t i = 0; i < BB_COUNT(fuse.parts); i++)
        bb_release(fuse.parts[i]);
    bb_map_clear(&fuse.index);
    bb_arena_clear(&fuse.arena);
    return status;
}
