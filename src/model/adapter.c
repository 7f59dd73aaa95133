/* An adapter's modules matched with a model's projections. */
#include "model/adapter.h"

#include "quant/quant_modes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USE_LIMIT = 64, LANES = 16, LINE_BYTES = 64 };

struct loader {
    struct bb_adapter *adapter;
    const struct bb_model *model;
    const struct bb_adapter_file *file;
    const struct bb_adapter_options *options;
    bool *has_layer;
    float *scratch; /* one module's numbers in f32 */
    size_t scratch_size;
    bombus_error *error;
};

static bombus_status fail_place(const struct loader *loader, const struct bb_adapter_module *module, const char *why)
{
    return bb_fail(loader->error, BOMBUS_ERROR_MISMATCH,
                   "%s: module '%.300s' (tensor '%.300s') fits nothing in the model: %s", loader->file->path,
                   module->path, module->a->name, why);
}

/* "PREFIX.layers.3.mlp.experts.7.gate_proj" -> expert 7 of its projection; NULL if the path names none. */
static const struct bb_projection *find_expert(const struct bb_model *model, const char *path, int32_t *expert)
{
    for (int32_t i = 0; i < model->projection_count; i++) {
        const struct bb_projection *projection = &model->projections[i];
        size_t length = projection->expert_path != NULL ? strlen(projection->expert_path) : 0;
        if (length == 0 || strncmp(path, projection->expert_path, length) != 0 || path[length] != '.')
            continue;
        char *end;
        const char *number = path + length + 1;
        long value = *number >= '0' && *number <= '9' ? strtol(number, &end, 10) : -1;
        if (value >= 0 && value < projection->expert_count && *end == '.' &&
            strcmp(end + 1, projection->expert_name) == 0) {
            *expert = (int32_t)value;
            return projection;
        }
    }
    return NULL;
}

static bombus_status fail_memory(const struct loader *loader, size_t bytes)
{
    return bb_fail_memory(loader->error, bytes, "an adapter");
}

static bombus_status grow_scratch(struct loader *loader, size_t count)
{
    if (count <= loader->scratch_size)
        return BOMBUS_OK;
    float *grown = bb_resize(loader->scratch, count, sizeof *grown);
    if (grown == NULL)
        return fail_memory(loader, count * sizeof *grown);
    loader->scratch = grown;
    loader->scratch_size = count;
    return BOMBUS_OK;
}

/* Packs matrix [rank, count] at `stride` into memory of the adapter, from the beginning of a line of the caches on. */
static bombus_status pack(struct loader *loader, struct bb_packed *packed, const float *matrix, int64_t stride,
                          int32_t rank, int64_t count)
{
    const size_t size = bb_packed_size(rank, count), line = LINE_BYTES / sizeof(uint16_t);
    uint16_t *memory = bb_arena_allocate(&loader->adapter->arena, 2 * size + line, sizeof *memory);
    if (memory == NULL)
        return fail_memory(loader, 2 * size * sizeof *memory);
    memory += (line - (uintptr_t)memory / sizeof *memory % line) % line;
    *packed = bb_pack(memory, matrix, stride, rank, count);
    return BOMBUS_OK;
}

/* By the bits of the exponent, so that a compiler may use vectors. */
static bool are_numbers(const float *values, size_t count)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        bad |= (bits & UINT32_C(0x7F800000)) == UINT32_C(0x7F800000);
    }
    return bad == 0;
}

/* Sum of squares in lanes, so that a compiler may use vectors. */
static double row_length(const float *row, int64_t count)
{
    float sums[LANES] = {0};
    double sum = 0.0;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            sums[lane] += row[i + lane] * row[i + lane];
    for (; i < count; i++)
        sum += (double)row[i] * (double)row[i];
    for (int lane = 0; lane < LANES; lane++)
        sum += (double)sums[lane];
    return sqrt(sum);
}

void bb_adapter_gains(const struct bb_weight *weight, const struct bb_low_rank *pair, const float *magnitude,
                      int64_t first, int64_t end, float *gains, float *row)
{
    for (int64_t i = first; i < end; i++) {
        bb_quant_unpack_row(weight, i, row);
        bb_low_rank_add_row(row, pair, weight->cols, i);
        double length = row_length(row, weight->cols);
        gains[i] = length > 0.0 ? (float)((double)magnitude[i] / length) : 1.0f;
    }
}

/* Sets the gains of a slot's pair, of which `plain` has the numbers in f32; the magnitudes are of its rows. */
static bombus_status load_gains(struct loader *loader, struct bb_low_rank *pair, const struct bb_weight *weight,
                                const struct bb_low_rank *plain, const float *magnitude, float *row)
{
    float *gains = bb_arena_allocate(&loader->adapter->arena, (size_t)weight->rows, sizeof *gains);
    if (gains == NULL)
        return fail_memory(loader, (size_t)weight->rows * sizeof *gains);
    bb_adapter_gains(weight, plain, magnitude, 0, weight->rows, gains, row);
    pair->gains = gains;
    return BOMBUS_OK;
}

/* The pair of one expert, or of a whole projection, cut into its parts' rows. */
static bombus_status load_pair(struct loader *loader, const struct bb_adapter_module *module,
                               const struct bb_projection *projection, int32_t expert, int32_t slot, int32_t part_count)
{
    const size_t rank = (size_t)module->rank, rows = (size_t)module->rows, cols = (size_t)module->cols;
    bombus_status status = grow_scratch(loader, rank * cols + rank * rows + rows + cols);
    if (status != BOMBUS_OK)
        return status;
    float *a = loader->scratch, *b = a + rank * cols, *magnitude = b + rank * rows, *row = magnitude + rows;
    struct bb_packed packed_a;
    bb_adapter_module_read(module, expert, a, b, module->magnitude != NULL ? magnitude : NULL);
    if (!are_numbers(a, rank * (cols + rows) + (module->magnitude != NULL ? rows : 0)))
        return bb_fail(loader->error, BOMBUS_ERROR_FORMAT,
                       "%s: module '%.300s' holds infinite values or NaN: the file is damaged, or its training diverged",
                       loader->file->path, module->path);
    status = pack(loader, &packed_a, a, module->cols, module->rank, module->cols);
    int64_t first = 0;
    for (int32_t i = 0; i < part_count && status == BOMBUS_OK; i++) {
        const struct bb_weight *weight = &loader->model->slots[slot + i]->weight;
        struct bb_low_rank *pair = &loader->adapter->pairs[slot + i];
        if (pair->rank > 0)
            return fail_place(loader, module, "another module has its place already");
        *pair = (struct bb_low_rank){.packed_a = packed_a,
                                     .rank = module->rank,
                                     .scale = loader->options->has_scale ? loader->options->scale : module->scale};
        status = pack(loader, &pair->packed_b, b + first, module->rows, module->rank, weight->rows);
        if (status == BOMBUS_OK && module->magnitude != NULL) {
            const struct bb_low_rank plain = {
                .a = a, .b = b + first, .b_stride = module->rows, .rank = module->rank, .scale = pair->scale};
            status = load_gains(loader, pair, weight, &plain, magnitude + first, row);
        }
        first += weight->rows;
    }
    if (projection->layer >= 0)
        loader->has_layer[projection->layer] = true;
    return status;
}

static bombus_status fail_shape(const struct loader *loader, const struct bb_adapter_module *module,
                                const struct bb_projection *projection)
{
    char found[48] = "", expected[48] = "";
    if (module->expert_count > 0)
        snprintf(found, sizeof found, " of each of %d experts", module->expert_count);
    if (projection->expert_count > 0)
        snprintf(expected, sizeof expected, " of each of %d experts", projection->expert_count);
    return bb_fail(
        loader->error, BOMBUS_ERROR_MISMATCH,
        "%s: module '%.300s' (tensor '%.300s') is for a matrix [%lld, %lld]%s, expected [%lld, %lld]%s: an adapter of another model",
        loader->file->path, module->path, module->a->name, (long long)module->rows, (long long)module->cols, found,
        (long long)projection->rows, (long long)projection->cols, expected);
}

/* Whether two packed matrices [rank, count] hold the same numbers. */
static bool is_same(const struct bb_packed *one, const struct bb_packed *other, int32_t rank, int64_t count)
{
    const size_t size = bb_packed_size(rank, count);
    return memcmp(one->high, other->high, size * sizeof *one->high) == 0 &&
           memcmp(one->low, other->low, size * sizeof *one->low) == 0;
}

/* The adapted embedding is the head too. A file of PEFT that ties them may hold the head's pair as well. */
static bombus_status tie_head(const struct loader *loader, const struct bb_adapter_module *module)
{
    const struct bb_low_rank *pair = &loader->adapter->pairs[loader->model->embedding_slot];
    struct bb_low_rank *head = &loader->adapter->pairs[loader->model->head.slot];
    if (head->rank != 0 && (head->rank != pair->rank || head->scale != pair->scale || head->gains != NULL ||
                            pair->gains != NULL || !is_same(&head->packed_a, &pair->packed_a, pair->rank, module->cols) ||
                            !is_same(&head->packed_b, &pair->packed_b, pair->rank, module->rows)))
        return fail_place(loader, module, "the head, which is tied to it, has another pair");
    *head = *pair;
    return BOMBUS_OK;
}

static bombus_status load_module(struct loader *loader, const struct bb_adapter_module *module)
{
    const struct bb_model *model = loader->model;
    int32_t expert = -1;
    bool is_mlx = loader->file->format == BB_ADAPTER_MLX, is_tied = model->recipe.tie_word_embeddings;
    const struct bb_projection *projection = bb_model_projection(model, module->path);
    if (projection == NULL && !is_mlx)
        projection = find_expert(model, module->path, &expert);
    if (projection == NULL)
        return fail_place(loader, module, "no projection has this name");
    if (is_mlx && is_tied && projection == &model->projections[1])
        return fail_place(loader, module, "the head is the embedding");
    bool has_kind = projection->is_embedding == (module->kind == BB_MODULE_EMBEDDING) &&
                    (projection->expert_count > 0) == (module->kind == BB_MODULE_EXPERTS || expert >= 0);
    if (!has_kind || module->rows != projection->rows || module->cols != projection->cols ||
        (expert < 0 && module->expert_count != projection->expert_count))
        return fail_shape(loader, module, projection);
    if (expert >= 0)
        return load_pair(loader, module, projection, 0, projection->first_slot + expert, 1);
    if (projection->expert_count == 0) {
        bombus_status status = load_pair(loader, module, projection, 0, projection->first_slot, projection->slot_count);
        if (status == BOMBUS_OK && projection->is_embedding && loader->file->ties_head && is_tied)
            status = tie_head(loader, module);
        return status;
    }
    for (int32_t i = 0; i < projection->expert_count; i++) {
        bombus_status status = load_pair(loader, module, projection, i, projection->first_slot + i, 1);
        if (status != BOMBUS_OK)
            return status;
    }
    return BOMBUS_OK;
}

static uint64_t hash_entry(const struct bb_safetensors_entry *entry, uint64_t hash)
{
    return entry != NULL ? bb_hash(entry->data, entry->size, hash) : hash;
}

static bombus_status load_all(struct loader *loader)
{
    struct bb_adapter *adapter = loader->adapter;
    const struct bb_adapter_file *file = loader->file;
    bombus_status status = BOMBUS_OK;
    uint64_t hash = 1;
    for (size_t i = 0; i < file->module_count && status == BOMBUS_OK; i++) {
        const struct bb_adapter_module *module = &file->modules[i];
        float scale = loader->options->has_scale ? loader->options->scale : module->scale;
        if (i == 0)
            adapter->scale = scale;
        hash = bb_hash(module->path, strlen(module->path), hash);
        hash = bb_hash(&scale, sizeof scale, hash + (uint64_t)module->kind);
        hash = hash_entry(module->magnitude, hash_entry(module->b, hash_entry(module->a, hash)));
        status = load_module(loader, module);
    }
    for (int32_t i = 0; i < loader->model->recipe.num_hidden_layers; i++)
        adapter->layer_count += loader->has_layer[i];
    adapter->fingerprint = hash;
    adapter->rank = file->rank;
    adapter->format = file->format;
    adapter->is_dora = file->is_dora;
    adapter->module_count = (int32_t)file->module_count;
    adapter->parameter_count = file->parameter_count;
    return status;
}

static void free_adapter(struct bb_adapter *adapter)
{
    bb_arena_clear(&adapter->arena);
    bb_release(adapter);
}

bombus_status bb_adapter_open(struct bb_adapter **adapter, const struct bb_model *model, const char *folder,
                              const struct bb_adapter_options *options, bombus_error *error)
{
    static const struct bb_adapter_options defaults;
    struct bb_adapter_file file = {0};
    struct bb_adapter *made = bb_allocate(1, sizeof *made);
    *adapter = NULL;
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "an adapter");
    struct loader loader = {.adapter = made,
                            .model = model,
                            .file = &file,
                            .options = options != NULL ? options : &defaults,
                            .error = error};
    bombus_status status = BOMBUS_OK;
    atomic_init(&made->holders, 1);
    made->slot_count = model->slot_count;
    made->model_fingerprint = model->fingerprint;
    made->pairs = bb_arena_allocate(&made->arena, (size_t)model->slot_count, sizeof *made->pairs);
    loader.has_layer =
        bb_arena_allocate(&made->arena, (size_t)model->recipe.num_hidden_layers, sizeof *loader.has_layer);
    if (made->pairs == NULL || loader.has_layer == NULL)
        status = fail_memory(&loader, (size_t)model->slot_count * sizeof *made->pairs);
    if (status == BOMBUS_OK && loader.options->has_scale && !isfinite(loader.options->scale))
        status =
            bb_fail(error, BOMBUS_ERROR_ARGUMENT, "scale: %g, expected a finite number", (double)loader.options->scale);
    if (status == BOMBUS_OK)
        status = bb_adapter_file_open(&file, folder, error);
    if (status == BOMBUS_OK)
        status = load_all(&loader);
    bb_adapter_file_close(&file);
    bb_release(loader.scratch);
    if (status != BOMBUS_OK) {
        free_adapter(made);
        return status;
    }
    *adapter = made;
    return BOMBUS_OK;
}

void bb_adapter_hold(struct bb_adapter *adapter)
{
    atomic_fetch_add_explicit(&adapter->holders, 1, memory_order_relaxed); /* the caller has a hold while this runs */
}

void bb_adapter_close(struct bb_adapter *adapter)
{
    /* acquire and release: all that other holders did comes before the freeing */
    if (adapter != NULL && atomic_fetch_sub_explicit(&adapter->holders, 1, memory_order_acq_rel) == 1)
        free_adapter(adapter);
}

struct bb_adapter_choice {
    struct bb_adapter_set set;
    uint64_t fingerprint;
    struct bb_adapter_use uses[USE_LIMIT];
    struct bb_adapter *adapters[USE_LIMIT]; /* [set.count] */
};

static bombus_status check_choice(const struct bb_model *model, struct bb_adapter *const *adapters,
                                  const float *weights, size_t count, bombus_error *error)
{
    if (count > USE_LIMIT)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "count: %zu adapters at once, at most %d", count, USE_LIMIT);
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(weights[i]))
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "weights[%zu]: %g, expected a finite number", i,
                           (double)weights[i]);
        if (adapters[i]->model_fingerprint != model->fingerprint || adapters[i]->slot_count != model->slot_count)
            return bb_fail(error, BOMBUS_ERROR_MISMATCH, "adapters[%zu]: opened for another model", i);
    }
    return BOMBUS_OK;
}

bombus_status bb_adapter_choice_create(struct bb_adapter_choice **choice, const struct bb_model *model,
                                       struct bb_adapter *const *adapters, const float *weights, size_t count,
                                       bombus_error *error)
{
    *choice = NULL;
    bombus_status status = check_choice(model, adapters, weights, count, error);
    bool is_any = false;
    for (size_t i = 0; i < count && status == BOMBUS_OK; i++)
        is_any = is_any || weights[i] != 0.0f;
    if (status != BOMBUS_OK || !is_any)
        return status;
    struct bb_adapter_choice *made = bb_allocate(1, sizeof *made);
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "a set of adapters");
    made->set.uses = made->uses;
    made->fingerprint = 1;
    for (size_t i = 0; i < count; i++) {
        int32_t place = made->set.count;
        if (weights[i] == 0.0f)
            continue;
        bb_adapter_hold(adapters[i]);
        made->adapters[place] = adapters[i];
        made->uses[place] = (struct bb_adapter_use){
            .pairs = adapters[i]->pairs, .slot_count = adapters[i]->slot_count, .weight = weights[i]};
        made->set.count++;
        made->fingerprint = bb_hash(&adapters[i]->fingerprint, sizeof adapters[i]->fingerprint, made->fingerprint);
        made->fingerprint = bb_hash(&weights[i], sizeof weights[i], made->fingerprint);
    }
    made->fingerprint += made->fingerprint == 0;
    *choice = made;
    return BOMBUS_OK;
}

void bb_adapter_choice_free(struct bb_adapter_choice *choice)
{
    if (choice == NULL)
        return;
    for (int32_t i = 0; i < choice->set.count; i++)
        bb_adapter_close(choice->adapters[i]);
    bb_release(choice);
}

const struct bb_adapter_set *bb_adapter_choice_set(const struct bb_adapter_choice *choice)
{
    return choice != NULL ? &choice->set : NULL;
}

uint64_t bb_adapter_choice_fingerprint(const struct bb_adapter_choice *choice)
{
    return choice != NULL ? choice->fingerprint : 0;
}
