/* Adapters to files, and what is in a file to JSON. */
#include "files/adapter_file.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t element_size(enum bb_dtype dtype)
{
    return bb_dtype_bits(dtype) / 8;
}

/* [rows, cols] to [cols, rows]. */
static void transpose(char *out, const char *in, int64_t rows, int64_t cols, size_t size)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            memcpy(out + (size_t)(j * rows + i) * size, in + (size_t)(i * cols + j) * size, size);
}

static void copy_experts(const struct bb_safetensors_entry *entry, bool is_transposed, int32_t expert_count,
                         int32_t rank, int64_t count, int32_t target_rank, char *out)
{
    size_t size = element_size(entry->dtype), matrix = (size_t)rank * (size_t)count * size;
    for (int32_t i = 0; i < (expert_count > 0 ? expert_count : 1); i++) {
        const char *in = (const char *)entry->data + (size_t)i * matrix;
        char *place = out + (size_t)i * (size_t)target_rank * (size_t)count * size;
        if (is_transposed)
            transpose(place, in, count, rank, size);
        else
            memcpy(place, in, matrix);
    }
}

void bb_adapter_module_copy(const struct bb_adapter_module *module, int32_t rank, void *a, void *b)
{
    copy_experts(module->a, module->a_is_transposed, module->expert_count, module->rank, module->cols, rank, a);
    copy_experts(module->b, module->b_is_transposed, module->expert_count, module->rank, module->rows, rank, b);
}

static const char *kind_name(enum bb_adapter_module_kind kind)
{
    return kind == BB_MODULE_EMBEDDING ? "embedding" : kind == BB_MODULE_EXPERTS ? "experts" : "linear";
}

static json_t *describe_module(const struct bb_adapter_module *module)
{
    return json_pack("{s:s, s:s, s:i, s:f, s:I, s:I, s:i, s:s}", "path", module->path, "kind", kind_name(module->kind),
                     "rank", (int)module->rank, "scale", (double)module->scale, "rows", (json_int_t)module->rows,
                     "cols", (json_int_t)module->cols, "experts", (int)module->expert_count, "dtype",
                     bb_dtype_name(module->a->dtype));
}

bombus_status bb_adapter_file_inspect(char **json, const struct bb_adapter_file *file, bombus_error *error)
{
    json_t *modules = json_array();
    size_t bytes = 0;
    bool is_good = modules != NULL;
    *json = NULL;
    for (size_t i = 0; i < file->module_count && is_good; i++)
        is_good = json_array_append_new(modules, describe_module(&file->modules[i])) == 0;
    for (size_t i = 0; i < file->tensors.count; i++)
        bytes += file->tensors.entries[i].size;
    json_t *object =
        json_pack("{s:s, s:s, s:i, s:f, s:f, s:I, s:I, s:o}", "format",
                  file->format == BB_ADAPTER_PEFT ? "peft" : "mlx", "type", file->is_dora ? "dora" : "lora", "rank",
                  (int)file->rank, "scale", (double)file->modules[0].scale, "dropout", (double)file->dropout, "parameters",
                  (json_int_t)file->parameter_count, "bytes", (json_int_t)bytes, "modules", modules);
    char *text = is_good && object != NULL ? json_dumps(object, JSON_INDENT(2)) : NULL;
    *json = text != NULL ? bb_copy_text(text, strlen(text)) : NULL;
    free(text);
    json_decref(object);
    return *json != NULL ? BOMBUS_OK : bb_fail_memory(error, file->module_count, "the description of an adapter");
}

/* What is written, released together. */
struct output {
    const struct bb_adapter_content *content;
    struct bb_arena arena;
    struct bb_safetensors_entry *entries;
    size_t count;
};

/* One tensor: of `expert_count` matrices [rows, cols] (cols 0: a vector), turned round if `is_transposed`. */
static bombus_status add_tensor(struct output *output, const struct bb_adapter_part *part, const char *suffix,
                                const void *data, enum bb_dtype dtype, int64_t rows, int64_t cols, bool is_transposed,
                                bombus_error *error)
{
    bool is_peft = output->content->format == BB_ADAPTER_PEFT, is_vector = cols == 0;
    size_t length = strlen(part->path) + strlen(suffix) + sizeof "base_model.model.", size = element_size(dtype);
    size_t matrix = (size_t)rows * (size_t)(is_vector ? 1 : cols) * size,
           experts = part->expert_count > 0 ? (size_t)part->expert_count : 1;
    char *name = bb_arena_allocate(&output->arena, 1, length),
         *copy = bb_arena_allocate(&output->arena, experts, matrix);
    if (name == NULL || copy == NULL)
        return bb_fail_memory(error, experts * matrix, "an adapter's tensor");
    snprintf(name, length, "%s%s%s", is_peft ? "base_model.model." : "", part->path, suffix);
    for (size_t i = 0; i < experts; i++) {
        if (is_transposed)
            transpose(copy + i * matrix, (const char *)data + i * matrix, rows, cols, size);
        else
            memcpy(copy + i * matrix, (const char *)data + i * matrix, matrix);
    }
    struct bb_safetensors_entry *entry = &output->entries[output->count++];
    *entry = (struct bb_safetensors_entry){.name = name, .dtype = dtype, .data = copy, .size = experts * matrix};
    if (part->expert_count > 0)
        entry->shape[entry->rank++] = part->expert_count;
    entry->shape[entry->rank++] = is_transposed ? cols : rows;
    if (!is_vector)
        entry->shape[entry->rank++] = is_transposed ? rows : cols;
    return BOMBUS_OK;
}

static bombus_status add_part(struct output *output, const struct bb_adapter_part *part, bombus_error *error)
{
    int64_t rank = output->content->rank;
    bool is_peft = output->content->format == BB_ADAPTER_PEFT, is_linear = part->kind == BB_MODULE_LINEAR;
    bombus_status status;
    if (part->kind == BB_MODULE_EMBEDDING) { /* the first factor is over tokens */
        status = add_tensor(output, part, is_peft ? ".lora_embedding_A" : ".lora_a", part->b, part->b_dtype, rank,
                            part->rows, !is_peft, error);
        if (status == BOMBUS_OK)
            status = add_tensor(output, part, is_peft ? ".lora_embedding_B" : ".lora_b", part->a, part->a_dtype, rank,
                                part->cols, is_peft, error);
    } else {
        status = add_tensor(output, part, is_peft ? ".lora_A.weight" : ".lora_a", part->a, part->a_dtype, rank,
                            part->cols, is_linear && !is_peft, error);
        if (status == BOMBUS_OK)
            status = add_tensor(output, part, is_peft ? ".lora_B.weight" : ".lora_b", part->b, part->b_dtype, rank,
                                part->rows, !is_linear || is_peft, error);
    }
    if (status == BOMBUS_OK && part->magnitude != NULL)
        status = add_tensor(output, part, is_peft ? ".lora_magnitude_vector" : ".m", part->magnitude,
                            part->magnitude_dtype, part->rows, 0, false, error);
    return status;
}

/* "self_attn.q_proj" of "model.layers.3.self_attn.q_proj"; a path outside of the blocks is its own key. */
static const char *key_of(const char *path)
{
    static const char blocks[] = "model.layers.";
    const char *at = strncmp(path, blocks, sizeof blocks - 1) == 0 ? path + sizeof blocks - 1 : NULL;
    if (at == NULL || strspn(at, "0123456789") == 0 || at[strspn(at, "0123456789")] != '.')
        return path;
    return at + strspn(at, "0123456789") + 1;
}

static json_t *list_keys(const struct bb_adapter_content *content)
{
    json_t *keys = json_array();
    for (size_t i = 0; i < content->part_count && keys != NULL; i++) {
        const char *key = content->format == BB_ADAPTER_PEFT ? content->parts[i].path : key_of(content->parts[i].path);
        bool is_new = true;
        for (size_t k = 0; k < json_array_size(keys) && is_new; k++)
            is_new = strcmp(json_string_value(json_array_get(keys, k)), key) != 0;
        if (is_new && json_array_append_new(keys, json_string(key)) != 0) {
            json_decref(keys);
            keys = NULL;
        }
    }
    return keys;
}

static bool has_embedding(const struct bb_adapter_content *content)
{
    for (size_t i = 0; i < content->part_count; i++)
        if (content->parts[i].kind == BB_MODULE_EMBEDDING)
            return true;
    return false;
}

/* PEFT's alpha / r gives the scale back to the bit, for it is an f32 and the product a double. */
static bombus_status write_config(const struct bb_adapter_content *content, const char *path, bombus_error *error)
{
    json_t *keys = list_keys(content);
    json_t *object =
        content->format == BB_ADAPTER_PEFT
            ? json_pack("{s:s, s:s, s:i, s:f, s:f, s:s, s:b, s:b, s:b, s:o, s:s, s:b}", "peft_type", "LORA",
                        "task_type", "CAUSAL_LM", "r", (int)content->rank, "lora_alpha", content->scale * content->rank,
                        "lora_dropout", (double)content->dropout, "bias", "none", "fan_in_fan_out", 0, "use_rslora", 0,
                        "use_dora", (int)content->is_dora, "target_modules", keys, "base_model_name_or_path", "",
                        "inference_mode", 1)
            : json_pack("{s:s, s:i, s:{s:i, s:f, s:f, s:o}}", "fine_tune_type", content->is_dora ? "dora" : "lora",
                        "num_layers", (int)content->num_layers, "lora_parameters", "rank", (int)content->rank, "scale",
                        content->scale, "dropout", (double)content->dropout, "keys", keys);
    bool is_good = object != NULL;
    if (is_good && content->format == BB_ADAPTER_PEFT && has_embedding(content))
        is_good = json_object_set_new(object, "ensure_weight_tying", json_true()) == 0;
    char *text = is_good ? json_dumps(object, JSON_INDENT(4)) : NULL;
    bombus_status status = text != NULL ? bb_file_write(path, text, strlen(text), error)
                                        : bb_fail_memory(error, content->part_count, path);
    free(text);
    json_decref(object);
    return status;
}

bombus_status bb_adapter_file_write(const char *folder, const struct bb_adapter_content *content, bombus_error *error)
{
    struct output output = {.content = content};
    static const char *const metadata[] = {"format", "pt"};
    bool is_peft = content->format == BB_ADAPTER_PEFT;
    char *tensors = bb_path_join(folder, is_peft ? "adapter_model.safetensors" : "adapters.safetensors");
    char *config = bb_path_join(folder, "adapter_config.json");
    bombus_status status = BOMBUS_OK;
    output.entries = bb_arena_allocate(&output.arena, 3 * content->part_count + 1, sizeof *output.entries);
    if (tensors == NULL || config == NULL || output.entries == NULL)
        status = bb_fail_memory(error, content->part_count * sizeof *output.entries, folder);
    for (size_t i = 0; i < content->part_count && status == BOMBUS_OK; i++)
        status = add_part(&output, &content->parts[i], error);
    if (status == BOMBUS_OK)
        status = bb_folder_create(folder, error);
    if (status == BOMBUS_OK)
        status = bb_safetensors_write(tensors, output.entries, output.count, metadata, is_peft ? 1 : 0, error);
    if (status == BOMBUS_OK)
        status = write_config(content, config, error);
    bb_arena_clear(&output.arena);
    bb_release(tensors);
    bb_release(config);
    return status;
}
