/* Conversion keeps every element as it is. A merge puts the ranks of the adapters one behind the other: sum of w s B A = [w1 s1 B1, w2 s2 B2] [A1; A2]. */
#include "convert/adapter_convert.h"

#include <math.h>
#include <string.h>

enum { ADAPTER_LIMIT = 64 };

/* Parts and their numbers, released together. */
struct parts {
    struct bb_arena arena;
    struct bb_adapter_part *list;
    size_t count;
};

static bombus_status check_same_folder(const char *folder, const char *out_folder, bombus_error *error)
{
    if (strcmp(folder, out_folder) == 0)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: the adapter would be written over what it is read from",
                       out_folder);
    return BOMBUS_OK;
}

/* "model.layers.0.mlp.experts.3.gate_proj": an expert alone, as PEFT has them. */
static bool names_expert(const char *path)
{
    const char *experts = strstr(path, ".experts.");
    return experts != NULL && experts[9] >= '0' && experts[9] <= '9';
}

static bombus_status check_mlx(const struct bb_adapter_file *file, const struct bb_adapter_module *module,
                               bombus_error *error)
{
    if (file->format == BB_ADAPTER_PEFT && module->kind == BB_MODULE_EMBEDDING)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "%s: module '%.300s' is an embedding: mlx-lm would adapt a tied head with it, PEFT does not",
                       file->path, module->path);
    if (names_expert(module->path))
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "%s: module '%.300s' is one expert alone, where mlx-lm has all in a stack", file->path,
                       module->path);
    return BOMBUS_OK;
}

static bombus_status convert_module(struct parts *parts, const struct bb_adapter_module *module, int32_t rank,
                                    bombus_error *error)
{
    size_t experts = module->expert_count > 0 ? (size_t)module->expert_count : 1;
    void *a = bb_arena_allocate(&parts->arena, experts * (size_t)rank * (size_t)module->cols,
                                bb_dtype_bits(module->a->dtype) / 8);
    void *b = bb_arena_allocate(&parts->arena, experts * (size_t)rank * (size_t)module->rows,
                                bb_dtype_bits(module->b->dtype) / 8);
    if (a == NULL || b == NULL)
        return bb_fail_memory(error, experts * (size_t)rank * (size_t)(module->cols + module->rows), module->path);
    bb_adapter_module_copy(module, rank, a, b);
    parts->list[parts->count++] = (struct bb_adapter_part){
        .path = module->path,
        .kind = module->kind,
        .expert_count = module->expert_count,
        .rows = module->rows,
        .cols = module->cols,
        .a_dtype = module->a->dtype,
        .b_dtype = module->b->dtype,
        .magnitude_dtype = module->magnitude != NULL ? module->magnitude->dtype : BB_DTYPE_NONE,
        .a = a,
        .b = b,
        .magnitude = module->magnitude != NULL ? module->magnitude->data : NULL};
    return BOMBUS_OK;
}

bombus_status bb_adapter_convert(const char *folder, enum bb_adapter_format format, const char *out_folder,
                                 bombus_error *error)
{
    struct bb_adapter_file file;
    struct parts parts = {0};
    bombus_status status = check_same_folder(folder, out_folder, error);
    if (status != BOMBUS_OK)
        return status;
    status = bb_adapter_file_open(&file, folder, error);
    if (status != BOMBUS_OK)
        return status;
    parts.list = bb_arena_allocate(&parts.arena, file.module_count, sizeof *parts.list);
    if (parts.list == NULL)
        status = bb_fail_memory(error, file.module_count * sizeof *parts.list, folder);
    for (size_t i = 0; i < file.module_count && status == BOMBUS_OK; i++) {
        const struct bb_adapter_module *module = &file.modules[i];
        if (module->scale != file.modules[0].scale)
            status = bb_fail(
                error, BOMBUS_ERROR_UNSUPPORTED,
                "%s: module '%.300s' has scale %g and '%.300s' %g: one config cannot say both; merge it instead",
                file.path, module->path, (double)module->scale, file.modules[0].path, (double)file.modules[0].scale);
        else if (format == BB_ADAPTER_MLX)
            status = check_mlx(&file, module, error);
    }
    for (size_t i = 0; i < file.module_count && status == BOMBUS_OK; i++)
        status = convert_module(&parts, &file.modules[i], file.rank, error);
    if (status == BOMBUS_OK) {
        struct bb_adapter_content content = {.format = format,
                                             .is_dora = file.is_dora,
                                             .rank = file.rank,
                                             .num_layers = file.num_layers,
                                             .scale = (double)file.modules[0].scale,
                                             .dropout = file.dropout,
                                             .parts = parts.list,
                                             .part_count = parts.count};
        status = bb_adapter_file_write(out_folder, &content, error);
    }
    bb_arena_clear(&parts.arena);
    bb_adapter_file_close(&file);
    return status;
}

/* The merged module of a path, made where it is new. */
static bombus_status find_part(struct parts *parts, const struct bb_adapter_module *module, int32_t rank,
                               const char *file_path, struct bb_adapter_part **found, bombus_error *error)
{
    size_t experts = module->expert_count > 0 ? (size_t)module->expert_count : 1;
    for (size_t i = 0; i < parts->count; i++) {
        struct bb_adapter_part *part = &parts->list[i];
        if (strcmp(part->path, module->path) != 0)
            continue;
        *found = part;
        if (part->rows == module->rows && part->cols == module->cols && part->expert_count == module->expert_count &&
            part->kind == module->kind)
            return BOMBUS_OK;
        return bb_fail(error, BOMBUS_ERROR_MISMATCH,
                       "%s: module '%.300s' is for a matrix [%lld, %lld], another adapter's for [%lld, %lld]",
                       file_path, module->path, (long long)module->rows, (long long)module->cols, (long long)part->rows,
                       (long long)part->cols);
    }
    void *a = bb_arena_allocate(&parts->arena, experts * (size_t)rank * (size_t)module->cols, sizeof(float));
    void *b = bb_arena_allocate(&parts->arena, experts * (size_t)rank * (size_t)module->rows, sizeof(float));
    if (a == NULL || b == NULL)
        return bb_fail_memory(error, experts * (size_t)rank * (size_t)(module->cols + module->rows) * sizeof(float),
                              module->path);
    *found = &parts->list[parts->count++];
    **found = (struct bb_adapter_part){.path = module->path,
                                       .kind = module->kind,
                                       .expert_count = module->expert_count,
                                       .rows = module->rows,
                                       .cols = module->cols,
                                       .a_dtype = BB_F32,
                                       .b_dtype = BB_F32,
                                       .a = a,
                                       .b = b};
    return BOMBUS_OK;
}

/* Puts one adapter's pairs at ranks [first, first + its own) of all `rank`. */
static bombus_status merge_file(struct parts *parts, const struct bb_adapter_file *file, float weight, int32_t first,
                                int32_t rank, bombus_error *error)
{
    for (size_t i = 0; i < file->module_count; i++) {
        const struct bb_adapter_module *module = &file->modules[i];
        struct bb_adapter_part *part = NULL;
        bombus_status status = check_mlx(file, module, error);
        if (status == BOMBUS_OK)
            status = find_part(parts, module, rank, file->path, &part, error);
        if (status != BOMBUS_OK)
            return status;
        for (int32_t expert = 0; expert < (module->expert_count > 0 ? module->expert_count : 1); expert++) {
            int64_t place = (int64_t)expert * rank + first;
            float *a = (float *)(uintptr_t)part->a + place * module->cols,
                  *b = (float *)(uintptr_t)part->b + place * module->rows;
            bb_adapter_module_read(module, expert, a, b, NULL);
            for (int64_t k = 0; k < module->rank * module->rows; k++)
                b[k] *= weight * module->scale;
        }
    }
    return BOMBUS_OK;
}

static bombus_status merge_all(struct bb_adapter_file *files, const float *weights, size_t count, struct parts *parts,
                               int32_t *rank, bombus_error *error)
{
    size_t limit = 0;
    int32_t first = 0;
    *rank = 0;
    for (size_t i = 0; i < count; i++) {
        if (files[i].is_dora)
            return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                           "%s: DoRA does not add up to a low-rank matrix: it cannot be merged", files[i].path);
        if (!isfinite(weights[i]))
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "weights[%zu]: %g, expected a finite number", i,
                           (double)weights[i]);
        *rank += files[i].rank;
        limit += files[i].module_count;
    }
    if (*rank > BB_ADAPTER_RANK_LIMIT)
        return bb_fail(error, BOMBUS_ERROR_LIMIT, "the merged adapter would have rank %d, at most %d", *rank,
                       BB_ADAPTER_RANK_LIMIT);
    parts->list = bb_arena_allocate(&parts->arena, limit, sizeof *parts->list);
    if (parts->list == NULL)
        return bb_fail_memory(error, limit * sizeof *parts->list, "merged modules");
    for (size_t i = 0; i < count; first += files[i].rank, i++) {
        bombus_status status = merge_file(parts, &files[i], weights[i], first, *rank, error);
        if (status != BOMBUS_OK)
            return status;
    }
    return BOMBUS_OK;
}

bombus_status bb_adapter_merge(const char *const *folders, const float *weights, size_t count, const char *out_folder,
                               bombus_error *error)
{
    struct bb_adapter_file files[ADAPTER_LIMIT] = {0};
    struct parts parts = {0};
    int32_t rank = 0;
    bombus_status status = BOMBUS_OK;
    if (count < 1 || count > ADAPTER_LIMIT)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "count: %zu adapters, expected a number in [1, %d]", count,
                       ADAPTER_LIMIT);
    for (size_t i = 0; i < count && status == BOMBUS_OK; i++) {
        status = check_same_folder(folders[i], out_folder, error);
        if (status == BOMBUS_OK)
            status = bb_adapter_file_open(&files[i], folders[i], error);
    }
    if (status == BOMBUS_OK)
        status = merge_all(files, weights, count, &parts, &rank, error);
    if (status == BOMBUS_OK) {
        struct bb_adapter_content content = {.format = BB_ADAPTER_MLX,
                                             .rank = rank,
                                             .num_layers = -1,
                                             .scale = 1.0,
                                             .parts = parts.list,
                                             .part_count = parts.count};
        status = bb_adapter_file_write(out_folder, &content, error);
    }
    bb_arena_clear(&parts.arena);
    for (size_t i = 0; i < count; i++)
        bb_adapter_file_close(&files[i]);
    return status;
}
