/* Conversion keeps every element as it is. A merge puts the ranks of the adapters one behind the other: sum of w s B A = [w1 s1 B1, w2 s2 B2] [A1; A2]. */
#include "convert/adapter_convert.h"

#include "convert/expert_path.h"

#include <math.h>
#include <string.h>

enum { ADAPTER_LIMIT = 64 };

/* Parts and their numbers, released together. */
struct parts {
    struct bb_arena arena;
    struct bb_adapter_part *list;
    size_t count;
};

/* An adapter is never written over another, nor over what it is read from. */
static bombus_status check_target(const char *out_folder, bombus_error *error)
{
    static const char *const names[] = {"adapter_config.json", "adapters.safetensors", "adapter_model.safetensors"};
    for (size_t i = 0; i < BB_COUNT(names); i++) {
        char *path = bb_path_join(out_folder, names[i]);
        bool is_there = path != NULL && bb_file_exists(path);
        bb_release(path);
        if (path == NULL)
            return bb_fail_memory(error, strlen(out_folder), out_folder);
        if (is_there)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: there is an adapter already (%s)", out_folder, names[i]);
    }
    return BOMBUS_OK;
}

/* What mlx-lm's format cannot say. */
static bombus_status check_mlx(const struct bb_adapter_file *file, const struct bb_adapter_module *module,
                               bombus_error *error)
{
    if (module->kind == BB_MODULE_EMBEDDING && !file->ties_head)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "%s: module '%.300s' is an embedding, with which mlx-lm adapts a tied head too: set "
                       "ensure_weight_tying to true in %s where that is meant, or where the head is not tied",
                       file->path, module->path, bb_config_path(file->config));
    if (file->is_dora && bb_expert_path_is_alone(module->path))
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "%s: module '%.300s' is an expert with DoRA, which mlx-lm does not have", file->path,
                       module->path);
    return BOMBUS_OK;
}

static bombus_status check_peft(const struct bb_adapter_file *file, const struct bb_adapter_module *module,
                                bombus_error *error)
{
    if (module->kind == BB_MODULE_EMBEDDING && file->is_dora)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "%s: module '%.300s' is an embedding with DoRA: PEFT's magnitudes are of its columns, mlx-lm's "
                       "of its rows",
                       file->path, module->path);
    if (module->kind == BB_MODULE_EXPERTS && !bb_expert_path_is_stack(module->path))
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "%s: module '%.300s' is of experts that are no modules of their own in transformers: expected "
                       "PARENT.switch_mlp.NAME",
                       file->path, module->path);
    return BOMBUS_OK;
}

static bombus_status check_module(const struct bb_adapter_file *file, const struct bb_adapter_module *module,
                                  enum bb_adapter_format format, bombus_error *error)
{
    if (module->scale != file->modules[0].scale)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "%s: module '%.300s' has scale %g and '%.300s' %g: one config cannot say both; merge it instead",
                       file->path, module->path, (double)module->scale, file->modules[0].path,
                       (double)file->modules[0].scale);
    return format == BB_ADAPTER_MLX ? check_mlx(file, module, error) : check_peft(file, module, error);
}

/* A part of the module's sizes, without a path; its arrays are zeros. */
static bombus_status make_part(struct parts *parts, const struct bb_adapter_module *module, int32_t expert_count,
                               int32_t rank, struct bb_adapter_part *part, bombus_error *error)
{
    const size_t ranks = (size_t)(expert_count > 0 ? expert_count : 1) * (size_t)rank;
    *part = (struct bb_adapter_part){
        .kind = expert_count > 0 ? BB_MODULE_EXPERTS : module->kind,
        .expert_count = expert_count,
        .rows = module->rows,
        .cols = module->cols,
        .a_dtype = module->a->dtype,
        .b_dtype = module->b->dtype,
        .magnitude_dtype = module->magnitude != NULL ? module->magnitude->dtype : BB_DTYPE_NONE,
        .a = bb_arena_allocate(&parts->arena, ranks * (size_t)module->cols, bb_dtype_bits(module->a->dtype) / 8),
        .b = bb_arena_allocate(&parts->arena, ranks * (size_t)module->rows, bb_dtype_bits(module->b->dtype) / 8),
        .magnitude = module->magnitude != NULL ? module->magnitude->data : NULL};
    return part->a != NULL && part->b != NULL
               ? BOMBUS_OK
               : bb_fail_memory(error, ranks * (size_t)(module->cols + module->rows), module->path);
}

/* Where the matrices of expert `expert` of a part lie. */
static void *a_of(const struct bb_adapter_part *part, int32_t expert, int32_t rank)
{
    return (char *)(uintptr_t)part->a +
           (size_t)expert * (size_t)rank * (size_t)part->cols * (bb_dtype_bits(part->a_dtype) / 8);
}

static void *b_of(const struct bb_adapter_part *part, int32_t expert, int32_t rank)
{
    return (char *)(uintptr_t)part->b +
           (size_t)expert * (size_t)rank * (size_t)part->rows * (bb_dtype_bits(part->b_dtype) / 8);
}

/* A stack of experts as a part each. */
static bombus_status unstack(struct parts *parts, const struct bb_adapter_part *stack, const char *path, int32_t rank,
                             bombus_error *error)
{
    for (int32_t expert = 0; expert < stack->expert_count; expert++) {
        struct bb_adapter_part *part = &parts->list[parts->count++];
        *part = *stack;
        part->path = bb_expert_path_alone(&parts->arena, path, expert);
        part->kind = BB_MODULE_LINEAR;
        part->expert_count = 0;
        part->a = a_of(stack, expert, rank);
        part->b = b_of(stack, expert, rank);
        if (part->path == NULL)
            return bb_fail_memory(error, strlen(path), "the name of an expert");
    }
    return BOMBUS_OK;
}

static bombus_status convert_module(struct parts *parts, const struct bb_adapter_module *module, int32_t rank,
                                    enum bb_adapter_format format, bombus_error *error)
{
    struct bb_adapter_part part;
    bombus_status status = make_part(parts, module, module->expert_count, rank, &part, error);
    if (status != BOMBUS_OK)
        return status;
    bb_adapter_module_copy(module, rank, a_of(&part, 0, rank), b_of(&part, 0, rank));
    part.path = module->path;
    if (format == BB_ADAPTER_PEFT && part.expert_count > 0)
        return unstack(parts, &part, module->path, rank, error);
    parts->list[parts->count++] = part;
    return BOMBUS_OK;
}

/* PEFT loads experts into models that hold them fused only if its dropout, which is of training alone, is 0. */
static bool has_lone_experts(const struct parts *parts)
{
    for (size_t i = 0; i < parts->count; i++)
        if (bb_expert_path_is_alone(parts->list[i].path))
            return true;
    return false;
}

/* Experts that stand alone, as they are put into a stack. */
struct stack {
    struct bb_adapter_part part; /* its path is the stack's */
    const struct bb_adapter_module *first;
    bool *is_there; /* [part.expert_count] */
};

struct stacks {
    struct stack *list; /* one a module at most */
    size_t count;
};

/* The module's stack (made if it is new) and its place there; a stack is as high as its last expert. */
static bombus_status find_stack(struct parts *parts, struct stacks *stacks, const struct bb_adapter_module *module,
                                struct stack **found, int32_t *expert, bombus_error *error)
{
    const char *path = bb_expert_path_stack(&parts->arena, module->path, expert);
    if (path == NULL)
        return bb_fail_memory(error, strlen(module->path), "the name of a stack of experts");
    size_t i = 0;
    while (i < stacks->count && strcmp(stacks->list[i].part.path, path) != 0)
        i++;
    *found = &stacks->list[i];
    if (i == stacks->count) {
        stacks->list[stacks->count++].first = module;
        (*found)->part.path = path;
    }
    return BOMBUS_OK;
}

static bombus_status measure_stacks(struct parts *parts, struct stacks *stacks, const struct bb_adapter_file *file,
                                    bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    for (size_t i = 0; i < file->module_count && status == BOMBUS_OK; i++) {
        const struct bb_adapter_module *module = &file->modules[i], *first;
        struct stack *stack;
        int32_t expert;
        if (!bb_expert_path_is_alone(module->path))
            continue;
        status = find_stack(parts, stacks, module, &stack, &expert, error);
        if (status != BOMBUS_OK)
            return status;
        first = stack->first;
        if (stack->part.expert_count <= expert)
            stack->part.expert_count = expert + 1;
        if (module->rows != first->rows || module->cols != first->cols || module->a->dtype != first->a->dtype ||
            module->b->dtype != first->b->dtype)
            status =
                bb_fail(error, BOMBUS_ERROR_FORMAT,
                        "%s: module '%.300s' is not of the size and type of '%.300s', with which it would be stacked",
                        file->path, module->path, first->path);
    }
    return status;
}

static bombus_status fill_stack(struct parts *parts, struct stack *stack, int32_t rank, bombus_error *error)
{
    const char *path = stack->part.path;
    const int32_t experts = stack->part.expert_count;
    bombus_status status = make_part(parts, stack->first, experts, rank, &stack->part, error);
    stack->part.path = path;
    stack->is_there = bb_arena_allocate(&parts->arena, (size_t)experts, sizeof *stack->is_there);
    if (status == BOMBUS_OK && stack->is_there == NULL)
        status = bb_fail_memory(error, (size_t)experts, path);
    return status;
}

/* All experts that stand alone, as stacks. */
static bombus_status stack_experts(struct parts *parts, const struct bb_adapter_file *file, bombus_error *error)
{
    struct stacks stacks = {.list = bb_arena_allocate(&parts->arena, file->module_count, sizeof *stacks.list)};
    if (stacks.list == NULL)
        return bb_fail_memory(error, file->module_count * sizeof *stacks.list, "stacks of experts");
    bombus_status status = measure_stacks(parts, &stacks, file, error);
    for (size_t i = 0; i < stacks.count && status == BOMBUS_OK; i++)
        status = fill_stack(parts, &stacks.list[i], file->rank, error);
    for (size_t i = 0; i < file->module_count && status == BOMBUS_OK; i++) {
        const struct bb_adapter_module *module = &file->modules[i];
        struct stack *stack;
        int32_t expert;
        if (!bb_expert_path_is_alone(module->path))
            continue;
        status = find_stack(parts, &stacks, module, &stack, &expert, error);
        if (status != BOMBUS_OK)
            return status;
        if (stack->is_there[expert])
            return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: module '%.300s' is there twice", file->path, module->path);
        stack->is_there[expert] = true;
        bb_adapter_module_copy(module, file->rank, a_of(&stack->part, expert, file->rank),
                               b_of(&stack->part, expert, file->rank));
    }
    for (size_t i = 0; i < stacks.count && status == BOMBUS_OK; i++) {
        for (int32_t expert = 0; expert < stacks.list[i].part.expert_count; expert++)
            if (!stacks.list[i].is_there[expert])
                return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                               "%s: expert %d is missing beside '%.300s': mlx-lm has all or none in a stack",
                               file->path, expert, stacks.list[i].first->path);
        parts->list[parts->count++] = stacks.list[i].part;
    }
    return status;
}

/* How many parts there may be: an expert each. */
static size_t count_parts(const struct bb_adapter_file *file)
{
    size_t count = 0;
    for (size_t i = 0; i < file->module_count; i++)
        count += file->modules[i].expert_count > 0 ? (size_t)file->modules[i].expert_count : 1;
    return count;
}

static bombus_status convert_modules(struct parts *parts, const struct bb_adapter_file *file,
                                     enum bb_adapter_format format, bombus_error *error)
{
    const size_t limit = count_parts(file);
    bombus_status status = BOMBUS_OK;
    parts->list = bb_arena_allocate(&parts->arena, limit, sizeof *parts->list);
    if (parts->list == NULL)
        return bb_fail_memory(error, limit * sizeof *parts->list, file->path);
    for (size_t i = 0; i < file->module_count && status == BOMBUS_OK; i++)
        status = check_module(file, &file->modules[i], format, error);
    for (size_t i = 0; i < file->module_count && status == BOMBUS_OK; i++)
        if (format == BB_ADAPTER_PEFT || !bb_expert_path_is_alone(file->modules[i].path))
            status = convert_module(parts, &file->modules[i], file->rank, format, error);
    return status == BOMBUS_OK && format == BB_ADAPTER_MLX ? stack_experts(parts, file, error) : status;
}

bombus_status bb_adapter_convert(const char *folder, enum bb_adapter_format format, const char *out_folder,
                                 bombus_error *error)
{
    struct bb_adapter_file file;
    struct parts parts = {0};
    bombus_status status = check_target(out_folder, error);
    if (status != BOMBUS_OK)
        return status;
    status = bb_adapter_file_open(&file, folder, error);
    if (status != BOMBUS_OK)
        return status;
    status = convert_modules(&parts, &file, format, error);
    if (status == BOMBUS_OK) {
        struct bb_adapter_content content = {.format = format,
                                             .is_dora = file.is_dora,
                                             .rank = file.rank,
                                             .num_layers = file.num_layers,
                                             .scale = (double)file.modules[0].scale,
                                             .dropout = has_lone_experts(&parts) ? 0.0f : file.dropout,
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
        if (status == BOMBUS_OK && bb_expert_path_is_alone(module->path))
            status = bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                             "%s: module '%.300s' is one expert alone: convert the adapter to mlx first", file->path,
                             module->path);
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
    status = check_target(out_folder, error);
    for (size_t i = 0; i < count && status == BOMBUS_OK; i++)
        status = bb_adapter_file_open(&files[i], folders[i], error);
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
