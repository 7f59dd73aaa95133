/* The two formats of adapters, told apart by the name of the tensors' file. */
#include "files/adapter_file.h"

#include "base/buffer.h"
#include "base/file.h"
#include "files/module_pattern.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXPERT_LIMIT = 1 << 16 };

static const char peft_prefix[] = "base_model.model.";
/* PEFT stores an adapted embedding's own weight beside the pair: nothing to apply. */
static const char base_suffix[] = ".base_layer.weight";

enum part { PART_A, PART_B, PART_MAGNITUDE, PART_EMBEDDING_A, PART_EMBEDDING_B };

struct suffix {
    const char *text;
    enum part part;
};

static const struct suffix mlx_suffixes[] = {
    {".lora_a", PART_A}, {".lora_b", PART_B}, {".m", PART_MAGNITUDE}, {NULL, PART_A}};
static const struct suffix peft_suffixes[] = {{".lora_A.weight", PART_A},
                                              {".lora_B.weight", PART_B},
                                              {".lora_embedding_A", PART_EMBEDDING_A},
                                              {".lora_embedding_B", PART_EMBEDDING_B},
                                              {".lora_magnitude_vector", PART_MAGNITUDE},
                                              {".lora_magnitude_vector.weight", PART_MAGNITUDE},
                                              {NULL, PART_A}};

/* What adapter_config.json says for all modules. */
struct defaults {
    int32_t rank;
    double scale; /* mlx */
    double alpha; /* peft, the next too */
    bool is_rank_stabilized;
};

static bombus_status refuse(const struct bb_adapter_file *file, const char *key, const char *what, bombus_error *error)
{
    return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "%s: %s: %s", bb_config_path(file->config), key, what);
}

static bombus_status read_rank(const struct bb_adapter_file *file, const char *key, int32_t fallback, int32_t *rank,
                               bombus_error *error)
{
    int64_t value;
    bombus_status status = bb_config_integer(file->config, key, fallback, 1, BB_ADAPTER_RANK_LIMIT, &value, error);
    if (status == BOMBUS_OK)
        *rank = (int32_t)value;
    return status;
}

/* A number that must be there and be finite. */
static bombus_status read_number(const struct bb_adapter_file *file, const char *key, double *value,
                                 bombus_error *error)
{
    bombus_status status = bb_config_number(file->config, key, (double)NAN, value, error);
    if (status == BOMBUS_OK && !isfinite(*value))
        status =
            bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: %s is missing or not finite", bb_config_path(file->config), key);
    return status;
}

/* Whole weights are no adapter: says what makes a model of them. */
static bombus_status refuse_full(const struct bb_adapter_file *file, const char *folder, bombus_error *error)
{
    const char *model = "";
    bombus_status status = BOMBUS_OK;
    if (bb_config_type(file->config, "model") == BB_CONFIG_TEXT)
        status = bb_config_text(file->config, "model", "", &model, error);
    if (status != BOMBUS_OK)
        return status;
    return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                   "%s: fine_tune_type: full: whole weights, which are no adapter; make a model of them first: "
                   "bombus fuse -m %.300s -a %.300s --save-path OUT",
                   bb_config_path(file->config), model[0] != '\0' ? model : "MODEL", folder);
}

static bombus_status read_mlx_config(struct bb_adapter_file *file, const char *folder, struct defaults *defaults,
                                     bombus_error *error)
{
    const struct bb_config *config = file->config;
    const char *type;
    int64_t num_layers = -1;
    double dropout = 0.0;
    bool is_old_dora = false;
    bombus_status status = bb_config_text(config, "fine_tune_type", "lora", &type, error);
    if (status == BOMBUS_OK)
        status = bb_config_boolean(config, "use_dora", false, &is_old_dora, error);
    if (status == BOMBUS_OK && strcmp(type, "full") == 0)
        status = refuse_full(file, folder, error);
    if (status == BOMBUS_OK && strcmp(type, "lora") != 0 && strcmp(type, "dora") != 0)
        status = bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: fine_tune_type is \"%.40s\", expected lora or dora",
                         bb_config_path(config), type);
    if (status == BOMBUS_OK)
        status = read_rank(file, "lora_parameters/rank", 0, &defaults->rank, error);
    if (status == BOMBUS_OK && defaults->rank == 0)
        status = bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: lora_parameters/rank is missing", bb_config_path(config));
    if (status == BOMBUS_OK)
        status = read_number(file, "lora_parameters/scale", &defaults->scale, error);
    if (status == BOMBUS_OK)
        status = bb_config_number(config, "lora_parameters/dropout", 0.0, &dropout, error);
    if (status == BOMBUS_OK)
        status = bb_config_integer(config, "num_layers", -1, -1, INT32_MAX, &num_layers, error);
    if (status != BOMBUS_OK)
        return status;
    file->is_dora = strcmp(type, "dora") == 0 || is_old_dora;
    file->dropout = (float)dropout;
    file->num_layers = (int32_t)num_layers;
    file->ties_head = true;
    return BOMBUS_OK;
}

/* What would change more than the projections that the tensors name. */
static bombus_status check_peft_refusals(const struct bb_adapter_file *file, bombus_error *error)
{
    static const char *const lists[] = {"modules_to_save", "target_parameters", "layer_replication",
                                        "trainable_token_indices", "alora_invocation_tokens", "arrow_config"};
    static const char *const inits[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};
    const char *type, *bias, *init = "";
    bool has_bias = false, has_qalora = false;
    bombus_status status = bb_config_text(file->config, "peft_type", "LORA", &type, error);
    if (status == BOMBUS_OK)
        status = bb_config_text(file->config, "bias", "none", &bias, error);
    if (status == BOMBUS_OK)
        status = bb_config_boolean(file->config, "lora_bias", false, &has_bias, error);
    if (status == BOMBUS_OK)
        status = bb_config_boolean(file->config, "use_qalora", false, &has_qalora, error);
    if (status == BOMBUS_OK && bb_config_type(file->config, "init_lora_weights") == BB_CONFIG_TEXT)
        status = bb_config_text(file->config, "init_lora_weights", "", &init, error);
    if (status != BOMBUS_OK)
        return status;
    if (strcmp(type, "LORA") != 0)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "%s: peft_type is \"%.40s\", expected LORA",
                       bb_config_path(file->config), type);
    if (strcmp(bias, "none") != 0)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "%s: bias is \"%.40s\", expected none: trained biases are not applied",
                       bb_config_path(file->config), bias);
    if (has_bias)
        return refuse(file, "lora_bias", "biases in lora_B are not applied", error);
    if (has_qalora)
        return refuse(file, "use_qalora", "inputs pooled by groups are not supported", error);
    for (size_t i = 0; i < BB_COUNT(lists); i++)
        if (bb_config_array_length(file->config, lists[i]) > 0 ||
            bb_config_type(file->config, lists[i]) == BB_CONFIG_OBJECT)
            return refuse(file, lists[i], "not supported; the adapter would be applied in part only", error);
    for (size_t i = 0; i < BB_COUNT(inits); i++)
        if (strncmp(init, inits[i], strlen(inits[i])) == 0)
            return refuse(file, "init_lora_weights",
                          "a kind that changes the model's own weights: convert it to plain LoRA with PEFT first",
                          error);
    return BOMBUS_OK;
}

static bombus_status read_peft_config(struct bb_adapter_file *file, struct defaults *defaults, bombus_error *error)
{
    double dropout = 0.0;
    bombus_status status = check_peft_refusals(file, error);
    if (status == BOMBUS_OK)
        status = read_rank(file, "r", 8, &defaults->rank, error);
    defaults->alpha = 8.0;
    if (status == BOMBUS_OK && bb_config_type(file->config, "lora_alpha") != BB_CONFIG_ABSENT)
        status = read_number(file, "lora_alpha", &defaults->alpha, error);
    if (status == BOMBUS_OK)
        status = bb_config_boolean(file->config, "use_rslora", false, &defaults->is_rank_stabilized, error);
    if (status == BOMBUS_OK)
        status = bb_config_boolean(file->config, "use_dora", false, &file->is_dora, error);
    if (status == BOMBUS_OK)
        status = bb_config_number(file->config, "lora_dropout", 0.0, &dropout, error);
    if (status == BOMBUS_OK)
        status = bb_config_boolean(file->config, "ensure_weight_tying", false, &file->ties_head, error);
    file->dropout = (float)dropout;
    file->num_layers = -1;
    return status;
}

/* The first key of the object `object` that fits the module, as OBJECT/KEY in `key`; "" if none does. */
static bombus_status find_pattern(const struct bb_adapter_file *file, const char *object, const char *path,
                                  struct bb_buffer *key, bombus_error *error)
{
    const char *pattern;
    bool is_match = false;
    key->length = 0;
    if (bb_config_type(file->config, object) != BB_CONFIG_OBJECT)
        return BOMBUS_OK;
    for (size_t i = 0; !is_match && (pattern = bb_config_object_key(file->config, object, i)) != NULL; i++) {
        if (strchr(pattern, '/') != NULL)
            return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "%s: %s: the pattern '%.200s' has a '/'",
                           bb_config_path(file->config), object, pattern);
        bombus_status status = bb_module_pattern_match(pattern, path, &is_match, error);
        if (status != BOMBUS_OK)
            return bb_fail(error, status, "%s: %s: the pattern '%.200s' is not one that can be looked up here",
                           bb_config_path(file->config), object, pattern);
        if (is_match)
            bb_buffer_format(key, "%s/%s", object, pattern);
    }
    return key->is_failed ? bb_fail_memory(error, 1, "a pattern") : BOMBUS_OK;
}

/* Rank and scale that the config gives one module. */
static bombus_status read_peft_module(struct bb_adapter_file *file, const struct defaults *defaults,
                                      struct bb_adapter_module *module, bombus_error *error)
{
    struct bb_buffer key = {0};
    double alpha = defaults->alpha;
    module->rank = defaults->rank;
    bombus_status status = find_pattern(file, "rank_pattern", module->path, &key, error);
    if (status == BOMBUS_OK && key.length > 0)
        status = read_rank(file, key.data, defaults->rank, &module->rank, error);
    if (status == BOMBUS_OK)
        status = find_pattern(file, "alpha_pattern", module->path, &key, error);
    if (status == BOMBUS_OK && key.length > 0)
        status = read_number(file, key.data, &alpha, error);
    bb_buffer_clear(&key);
    module->scale = (float)(alpha / (defaults->is_rank_stabilized ? sqrt(module->rank) : module->rank));
    return status;
}

static bombus_status fail_tensor(const struct bb_adapter_file *file, const struct bb_safetensors_entry *entry,
                                 const char *expected, bombus_error *error)
{
    char shape[BB_SHAPE_TEXT_SIZE];
    bb_shape_format(shape, entry->shape, entry->rank);
    return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: tensor '%.300s' is %s %s, expected %s", file->path, entry->name,
                   bb_dtype_name(entry->dtype), shape, expected);
}

/* The module that a tensor belongs to, made if it is new, and which part of it the tensor is. */
static bombus_status place_tensor(struct bb_adapter_file *file, struct bb_map *index,
                                  const struct bb_safetensors_entry *entry, bombus_error *error)
{
    bool is_peft = file->format == BB_ADAPTER_PEFT;
    size_t length = strlen(entry->name), prefix = is_peft ? sizeof peft_prefix - 1 : 0, size = 0;
    const struct suffix *suffix = is_peft ? peft_suffixes : mlx_suffixes;
    for (; suffix->text != NULL; suffix++) {
        size = strlen(suffix->text);
        if (length > prefix + size && strcmp(entry->name + length - size, suffix->text) == 0)
            break;
    }
    if (suffix->text == NULL || (is_peft && strncmp(entry->name, peft_prefix, prefix) != 0))
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: tensor '%.300s' is no part of a LoRA or DoRA adapter%s",
                       file->path, entry->name, is_peft ? " of PEFT" : "");
    if (!bb_dtype_is_weight_float(entry->dtype))
        return fail_tensor(file, entry, "F32, F16 or BF16", error);
    const char *path = bb_arena_copy_text(&file->arena, entry->name + prefix, length - prefix - size);
    uint64_t *found = path != NULL ? bb_map_find(index, path, strlen(path)) : NULL;
    if (path == NULL || (found == NULL && !bb_map_set(index, path, strlen(path), file->module_count, NULL)))
        return bb_fail_memory(error, length, "the modules of an adapter");
    struct bb_adapter_module *module = &file->modules[found != NULL ? *found : file->module_count];
    if (found == NULL) {
        module->path = path;
        file->module_count++;
    }
    bool is_embedding_part = suffix->part == PART_EMBEDDING_A || suffix->part == PART_EMBEDDING_B;
    const struct bb_safetensors_entry **place = suffix->part == PART_A || suffix->part == PART_EMBEDDING_A ? &module->a
                                                : suffix->part == PART_B || suffix->part == PART_EMBEDDING_B
                                                    ? &module->b
                                                    : &module->magnitude;
    if (*place != NULL ||
        (is_embedding_part && module->kind != BB_MODULE_EMBEDDING && (module->a != NULL || module->b != NULL)))
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: tensor '%.300s' is one too many for its module", file->path,
                       entry->name);
    if (is_embedding_part)
        module->kind = BB_MODULE_EMBEDDING;
    *place = entry;
    file->parameter_count += (int64_t)(entry->size / (bb_dtype_bits(entry->dtype) / 8));
    return BOMBUS_OK;
}

static bombus_status check_halves(const struct bb_adapter_file *file, const struct bb_adapter_module *module,
                                  bombus_error *error)
{
    const char *missing = module->a == NULL ? "A" : module->b == NULL ? "B" : NULL;
    if (missing != NULL)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: module '%.300s' has no %s: half of its pair is missing",
                       file->path, module->path,
                       file->format == BB_ADAPTER_PEFT ? (missing[0] == 'A' ? "lora_A" : "lora_B")
                                                       : (missing[0] == 'A' ? "lora_a" : "lora_b"));
    if (file->is_dora && module->magnitude == NULL)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: module '%.300s' has no magnitude, but the adapter is DoRA",
                       file->path, module->path);
    if (!file->is_dora && module->magnitude != NULL)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: tensor '%.300s' is a magnitude, but %s does not say DoRA",
                       file->path, module->magnitude->name, bb_config_path(file->config));
    return BOMBUS_OK;
}

/* Reads rows, cols and experts off the shapes of the two, and checks all that can be without a model. */
static bombus_status take_shapes(const struct bb_adapter_file *file, struct bb_adapter_module *module,
                                 bombus_error *error)
{
    char expected[160];
    const struct bb_safetensors_entry *a = module->a, *b = module->b, *magnitude = module->magnitude;
    bool is_experts = module->kind == BB_MODULE_EXPERTS;
    int32_t first = is_experts ? 1 : 0;
    int64_t rank = module->rank, experts = is_experts ? a->shape[0] : 0;
    int64_t a_rank = a->shape[first + module->a_is_transposed], b_rank = b->shape[first + module->b_is_transposed];
    module->cols = a->shape[first + !module->a_is_transposed];
    module->rows = b->shape[first + !module->b_is_transposed];
    if (a->rank != 2 + first || a_rank != rank || module->cols < 1 ||
        (is_experts && (experts < 1 || experts > EXPERT_LIMIT))) {
        snprintf(expected, sizeof expected, "%s of rank %lld", is_experts ? "[experts, rank, columns]" : "a matrix",
                 (long long)rank);
        return fail_tensor(file, a, expected, error);
    }
    if (b->rank != 2 + first || b_rank != rank || module->rows < 1 || (is_experts && b->shape[0] != experts)) {
        snprintf(expected, sizeof expected, "%s of rank %lld", is_experts ? "[experts, rows, rank]" : "a matrix",
                 (long long)rank);
        return fail_tensor(file, b, expected, error);
    }
    if (magnitude != NULL && (is_experts || magnitude->rank != 1 || magnitude->shape[0] != module->rows)) {
        snprintf(expected, sizeof expected, "[%lld]%s", (long long)module->rows,
                 is_experts ? " of a module without experts" : "");
        return fail_tensor(file, magnitude, expected, error);
    }
    module->expert_count = (int32_t)experts;
    return BOMBUS_OK;
}

/* Which way round the tensors lie, and what the config says of the module. */
static bombus_status finish_module(struct bb_adapter_file *file, const struct defaults *defaults,
                                   struct bb_adapter_module *module, bombus_error *error)
{
    bombus_status status = check_halves(file, module, error);
    if (status != BOMBUS_OK)
        return status;
    if (file->format == BB_ADAPTER_PEFT) {
        module->b_is_transposed = module->kind != BB_MODULE_EMBEDDING;
        module->a_is_transposed = !module->b_is_transposed;
        status = read_peft_module(file, defaults, module, error);
    } else {
        module->kind = module->a->rank == 3                      ? BB_MODULE_EXPERTS
                       : bb_name_ends_with(module->path, "embed_tokens") ? BB_MODULE_EMBEDDING
                                                                 : BB_MODULE_LINEAR;
        module->a_is_transposed = module->kind == BB_MODULE_LINEAR;
        module->b_is_transposed = !module->a_is_transposed;
        module->rank = defaults->rank;
        module->scale = (float)defaults->scale;
    }
    if (module->kind == BB_MODULE_EMBEDDING) { /* the first factor is over tokens, which are rows here */
        const struct bb_safetensors_entry *first = module->a;
        module->a = module->b;
        module->b = first;
        if (file->format == BB_ADAPTER_MLX) {
            module->a_is_transposed = false;
            module->b_is_transposed = true;
        }
    }
    if (status == BOMBUS_OK && !isfinite(module->scale))
        status = bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: the scale of module '%.300s' is too large for an f32",
                         bb_config_path(file->config), module->path);
    return status == BOMBUS_OK ? take_shapes(file, module, error) : status;
}

static int compare_modules(const void *left, const void *right)
{
    const struct bb_adapter_module *a = left, *b = right;
    return strcmp(a->path, b->path);
}

static bool is_base_weight(const struct bb_adapter_file *file, const struct bb_safetensors_entry *entry)
{
    return file->format == BB_ADAPTER_PEFT && bb_name_ends_with(entry->name, base_suffix);
}

/* A base weight must be of a module that is here, and of its size. */
static bombus_status check_base_weight(const struct bb_adapter_file *file, const struct bb_map *index,
                                       const struct bb_safetensors_entry *entry, bombus_error *error)
{
    const size_t prefix = sizeof peft_prefix - 1, length = strlen(entry->name), rest = prefix + sizeof base_suffix - 1;
    char expected[96];
    const uint64_t *found = length > rest && strncmp(entry->name, peft_prefix, prefix) == 0
                                ? bb_map_find(index, entry->name + prefix, length - rest)
                                : NULL;
    if (found == NULL)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: tensor '%.300s' is of a module without a pair", file->path,
                       entry->name);
    const struct bb_adapter_module *module = &file->modules[*found];
    if (entry->rank == 2 && entry->shape[0] == module->rows && entry->shape[1] == module->cols)
        return BOMBUS_OK;
    snprintf(expected, sizeof expected, "[%lld, %lld], as its pair is", (long long)module->rows,
             (long long)module->cols);
    return fail_tensor(file, entry, expected, error);
}

static bombus_status read_modules(struct bb_adapter_file *file, const struct defaults *defaults, bombus_error *error)
{
    struct bb_map index = {0};
    bombus_status status = BOMBUS_OK;
    file->modules = bb_arena_allocate(&file->arena, file->tensors.count + 1, sizeof *file->modules);
    if (file->modules == NULL)
        return bb_fail_memory(error, file->tensors.count * sizeof *file->modules, "the modules of an adapter");
    for (size_t i = 0; i < file->tensors.count && status == BOMBUS_OK; i++)
        if (!is_base_weight(file, &file->tensors.entries[i]))
            status = place_tensor(file, &index, &file->tensors.entries[i], error);
    for (size_t i = 0; i < file->module_count && status == BOMBUS_OK; i++) {
        status = finish_module(file, defaults, &file->modules[i], error);
        file->rank = file->modules[i].rank > file->rank ? file->modules[i].rank : file->rank;
    }
    for (size_t i = 0; i < file->tensors.count && status == BOMBUS_OK; i++)
        if (is_base_weight(file, &file->tensors.entries[i]))
            status = check_base_weight(file, &index, &file->tensors.entries[i], error);
    bb_map_clear(&index);
    if (status == BOMBUS_OK && file->module_count == 0)
        status = bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: no tensor of an adapter is in it", file->path);
    if (status == BOMBUS_OK)
        qsort(file->modules, file->module_count, sizeof *file->modules, compare_modules);
    return status;
}

static bombus_status find_files(struct bb_adapter_file *file, const char *folder, char **config_path,
                                bombus_error *error)
{
    char *mlx = bb_path_join(folder, "adapters.safetensors"), *peft = bb_path_join(folder, "adapter_model.safetensors");
    bombus_status status = BOMBUS_OK;
    *config_path = bb_path_join(folder, "adapter_config.json");
    if (mlx == NULL || peft == NULL || *config_path == NULL) {
        status = bb_fail_memory(error, strlen(folder), "an adapter's paths");
    } else if (!bb_folder_exists(folder)) {
        status = bb_fail(error, BOMBUS_ERROR_NOT_FOUND, "%s: no such folder", folder);
    } else if (bb_file_exists(mlx)) {
        file->path = mlx;
        file->format = BB_ADAPTER_MLX;
    } else if (bb_file_exists(peft)) {
        file->path = peft;
        file->format = BB_ADAPTER_PEFT;
    } else {
        status = bb_fail(
            error, BOMBUS_ERROR_NOT_FOUND,
            "%s: no adapter: neither adapters.safetensors (mlx-lm) nor adapter_model.safetensors (PEFT) is there",
            folder);
    }
    if (file->path != mlx)
        bb_release(mlx);
    if (file->path != peft)
        bb_release(peft);
    return status;
}

bombus_status bb_adapter_file_open(struct bb_adapter_file *file, const char *folder, bombus_error *error)
{
    char *config_path = NULL;
    struct defaults defaults = {0};
    *file = (struct bb_adapter_file){0};
    bombus_status status = find_files(file, folder, &config_path, error);
    if (status == BOMBUS_OK)
        status = bb_config_open(&file->config, config_path, error);
    if (status == BOMBUS_OK)
        status = file->format == BB_ADAPTER_MLX ? read_mlx_config(file, folder, &defaults, error)
                                                : read_peft_config(file, &defaults, error);
    if (status == BOMBUS_OK)
        status = bb_safetensors_open(&file->tensors, file->path, error);
    if (status == BOMBUS_OK)
        status = read_modules(file, &defaults, error);
    bb_release(config_path);
    if (status != BOMBUS_OK)
        bb_adapter_file_close(file);
    return status;
}

bombus_status bb_adapter_file_find_full(char **path, const char *folder, bombus_error *error)
{
    char *config_path = NULL;
    const char *type = "";
    struct bb_adapter_file file = {0};
    bombus_status status = find_files(&file, folder, &config_path, error);
    *path = NULL;
    if (status == BOMBUS_OK)
        status = bb_config_open(&file.config, config_path, error);
    if (status == BOMBUS_OK && file.format == BB_ADAPTER_MLX)
        status = bb_config_text(file.config, "fine_tune_type", "lora", &type, error);
    if (status == BOMBUS_OK && strcmp(type, "full") == 0) {
        *path = file.path;
        file.path = NULL;
    }
    bb_release(config_path);
    bb_adapter_file_close(&file);
    return status;
}

void bb_adapter_file_close(struct bb_adapter_file *file)
{
    bb_safetensors_close(&file->tensors);
    bb_config_close(file->config);
    bb_arena_clear(&file->arena);
    bb_release(file->path);
    *file = (struct bb_adapter_file){0};
}

/* A matrix of the file, [rank, count] or (transposed) [count, rank], as [rank, count]. */
static void read_matrix(const struct bb_safetensors_entry *entry, bool is_transposed, int32_t expert, int32_t rank,
                        int64_t count, float *out)
{
    size_t first = (size_t)expert * (size_t)rank * (size_t)count;
    if (!is_transposed) {
        bb_dtype_load_row(out, entry->data, entry->dtype, first, (size_t)rank * (size_t)count);
        return;
    }
    for (int64_t i = 0; i < count; i++)
        for (int32_t r = 0; r < rank; r++)
            out[r * count + i] = bb_dtype_load(entry->data, entry->dtype, first + (size_t)(i * rank + r));
}

void bb_adapter_module_read(const struct bb_adapter_module *module, int32_t expert, float *a, float *b,
                            float *magnitude)
{
    read_matrix(module->a, module->a_is_transposed, expert, module->rank, module->cols, a);
    read_matrix(module->b, module->b_is_transposed, expert, module->rank, module->rows, b);
    if (magnitude != NULL && module->magnitude != NULL)
        bb_dtype_load_row(magnitude, module->magnitude->data, module->magnitude->dtype, 0, (size_t)module->rows);
}
