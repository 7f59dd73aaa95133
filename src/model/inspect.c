/* What a model folder holds, as JSON. Stands on the same functions as loading, so that what it calls supported loads. */
#include "model/inspect.h"

#include "base/file.h"
#include "model/kv_cache.h"
#include "model/weights.h"
#include "ops/backends.h"
#include "quant/quant_modes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 1000, MAX_FORMATS = 64, NAME_SIZE = 512 };

/* Tensors packed alike. */
struct format {
    struct bb_scheme scheme;
    enum bb_dtype dtype;
    int64_t tensor_count, parameter_count, bytes;
};

struct inspection {
    struct bb_buffer *json;
    const char *folder;
    struct bb_config *config;
    struct bb_checkpoint checkpoint; /* closed where the folder's quantization is of another kind */
    struct bb_recipe recipe;
    bool has_recipe;
    struct bb_model *model; /* NULL: it cannot be run */
    struct bb_arena arena;
    struct bb_buffer problems; /* JSON texts with commas between */
    struct format formats[MAX_FORMATS];
    size_t format_count;
    int64_t parameter_count, tensor_bytes;
    size_t field_count; /* of the object being written: a comma before all but the first */
};

/* Bytes of the UTF-8 character at `text`, 0 if it is none. */
static size_t measure_character(const unsigned char *text)
{
    size_t length = text[0] < 0x80                      ? 1
                    : text[0] >= 0xC2 && text[0] < 0xE0 ? 2
                    : text[0] >= 0xE0 && text[0] < 0xF0 ? 3
                    : text[0] >= 0xF0 && text[0] < 0xF5 ? 4
                                                        : 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    bool is_overlong = (text[0] == 0xE0 && text[1] < 0xA0) || (text[0] == 0xF0 && text[1] < 0x90);
    bool is_surrogate = (text[0] == 0xED && text[1] >= 0xA0) || (text[0] == 0xF4 && text[1] >= 0x90);
    return is_overlong || is_surrogate ? 0 : length;
}

static void add_text(struct bb_buffer *json, const char *text)
{
    bb_buffer_add_byte(json, '"');
    while (*text != '\0') {
        size_t length = measure_character((const unsigned char *)text);
        if (length == 0)
            bb_buffer_add_text(json, "\\ufffd");
        else if (*text == '"' || *text == '\\')
            bb_buffer_format(json, "\\%c", *text);
        else if ((unsigned char)*text < ' ')
            bb_buffer_format(json, "\\u%04x", (unsigned)(unsigned char)*text);
        else
            bb_buffer_add(json, text, length);
        text += length > 0 ? length : 1;
    }
    bb_buffer_add_byte(json, '"');
}

static void add_key(struct inspection *inspection, const char *key)
{
    if (inspection->field_count++ > 0)
        bb_buffer_add_text(inspection->json, ", ");
    add_text(inspection->json, key);
    bb_buffer_add_text(inspection->json, ": ");
}

static void add_text_field(struct inspection *inspection, const char *key, const char *text)
{
    add_key(inspection, key);
    if (text != NULL)
        add_text(inspection->json, text);
    else
        bb_buffer_add_text(inspection->json, "null");
}

static void add_number_field(struct inspection *inspection, const char *key, int64_t value)
{
    add_key(inspection, key);
    bb_buffer_format(inspection->json, "%" PRId64, value);
}

static void add_boolean_field(struct inspection *inspection, const char *key, bool value)
{
    add_key(inspection, key);
    bb_buffer_add_text(inspection->json, value ? "true" : "false");
}

static void open_object(struct inspection *inspection, const char *key)
{
    add_key(inspection, key);
    bb_buffer_add_byte(inspection->json, '{');
    inspection->field_count = 0;
}

static void close_object(struct inspection *inspection)
{
    bb_buffer_add_byte(inspection->json, '}');
    inspection->field_count = 1;
}

static void note_problem(struct inspection *inspection, const char *message)
{
    if (inspection->problems.length > 0)
        bb_buffer_add_text(&inspection->problems, ", ");
    add_text(&inspection->problems, message);
}

/* Runs a step of loading: its refusal is noted, only lack of memory stops the inspection. */
static bombus_status note_refusal(struct inspection *inspection, bombus_status status, const bombus_error *problem,
                                  bombus_error *error)
{
    if (status == BOMBUS_OK)
        return BOMBUS_OK;
    if (status == BOMBUS_ERROR_MEMORY)
        return bb_fail(error, status, "%s", problem->message);
    note_problem(inspection, problem->message);
    return BOMBUS_OK;
}

static bombus_status open_config(struct inspection *inspection, bombus_error *error)
{
    char *path = bb_path_join(inspection->folder, "config.json");
    if (path == NULL)
        return bb_fail_memory(error, strlen(inspection->folder), inspection->folder);
    bombus_status status = bb_config_open(&inspection->config, path, error);
    bb_release(path);
    return status;
}

static bombus_status load(struct inspection *inspection, bombus_error *error)
{
    const struct bb_backend_options options = {.thread_count = 1};
    struct bb_backend *backend;
    bombus_error problem;
    bombus_status status = bb_backend_open(&backend, "cpu", &options, error);
    if (status != BOMBUS_OK)
        return status;
    status = note_refusal(inspection, bb_model_open(&inspection->model, inspection->folder, backend, &problem),
                          &problem, error);
    bb_backend_close(backend);
    return status;
}

/* Goes as far towards a loaded model as it goes. */
static bombus_status examine(struct inspection *inspection, bombus_error *error)
{
    bombus_error problem;
    bombus_status status = open_config(inspection, error);
    if (status != BOMBUS_OK)
        return status;
    bombus_status opened = bb_checkpoint_open(&inspection->checkpoint, inspection->folder, error);
    if (opened == BOMBUS_ERROR_UNSUPPORTED && error != NULL)
        note_problem(inspection, error->message);
    else if (opened != BOMBUS_OK && opened != BOMBUS_ERROR_UNSUPPORTED)
        return opened;
    opened = opened == BOMBUS_OK ? BOMBUS_OK : BOMBUS_ERROR_UNSUPPORTED;
    bombus_status read = bb_recipe_read(&inspection->recipe, inspection->config, &inspection->arena, &problem);
    inspection->has_recipe = read == BOMBUS_OK;
    status = note_refusal(inspection, read, &problem, error);
    return status == BOMBUS_OK && read == BOMBUS_OK && opened == BOMBUS_OK ? load(inspection, error) : status;
}

/* Names of tensors with their numbers as numbers: layers.9 before layers.10. */
static int compare_names(const char *a, const char *b)
{
    while (*a != '\0' && *b != '\0') {
        size_t a_digits = strspn(a, "0123456789"), b_digits = strspn(b, "0123456789");
        if (a_digits > 0 && b_digits > 0 && a_digits != b_digits)
            return a_digits < b_digits ? -1 : 1;
        if (*a != *b)
            break;
        a++;
        b++;
    }
    return (unsigned char)*a - (unsigned char)*b;
}

static int compare_entries(const void *left, const void *right)
{
    const struct bb_safetensors_entry *a = *(const struct bb_safetensors_entry *const *)left;
    const struct bb_safetensors_entry *b = *(const struct bb_safetensors_entry *const *)right;
    return compare_names(a->name, b->name);
}

/* "a.b" of "a.b.PART" into `base`; false if the name does not end so. */
static bool find_base(const char *name, const char *part, char base[NAME_SIZE])
{
    size_t length = strlen(name), part_length = strlen(part);
    if (length <= part_length || length - part_length >= NAME_SIZE || strcmp(name + length - part_length, part) != 0)
        return false;
    memcpy(base, name, length - part_length);
    base[length - part_length] = '\0';
    return true;
}

static void count_format(struct inspection *inspection, struct bb_scheme scheme, enum bb_dtype dtype,
                         int64_t parameters, int64_t bytes)
{
    size_t i = 0;
    while (i < inspection->format_count && (memcmp(&inspection->formats[i].scheme, &scheme, sizeof scheme) != 0 ||
                                            inspection->formats[i].dtype != dtype))
        i++;
    if (i == MAX_FORMATS)
        return;
    if (i == inspection->format_count)
        inspection->formats[inspection->format_count++] = (struct format){.scheme = scheme, .dtype = dtype};
    inspection->formats[i].tensor_count++;
    inspection->formats[i].parameter_count += parameters;
    inspection->formats[i].bytes += bytes;
    inspection->parameter_count += parameters;
}

static void add_scheme_fields(struct inspection *inspection, struct bb_scheme scheme, enum bb_dtype dtype)
{
    if (scheme.mode == BB_QUANT_NONE) {
        add_text_field(inspection, "dtype", bb_dtype_name(dtype));
        return;
    }
    add_text_field(inspection, "mode", bb_quant_mode_of(scheme.mode)->name);
    add_number_field(inspection, "bits", scheme.bits);
    add_number_field(inspection, "group_size", scheme.group_size);
    add_text_field(inspection, "scale_dtype", bb_dtype_name(dtype));
}

/* One row of "tensors"; scales and biases are told with their matrix. */
static void add_tensor(struct inspection *inspection, const struct bb_safetensors_entry *entry)
{
    const struct bb_checkpoint *checkpoint = &inspection->checkpoint;
    struct bb_weight weight = {0};
    char base[NAME_SIZE], other[NAME_SIZE + 8];
    bool is_part = find_base(entry->name, ".scales", base) || find_base(entry->name, ".biases", base);
    snprintf(other, sizeof other, "%s.weight", is_part ? base : "");
    if (is_part && bb_checkpoint_has(checkpoint, other))
        return;
    int64_t count = 1, bytes = (int64_t)entry->size, last = entry->rank > 0 ? entry->shape[entry->rank - 1] : 1;
    bool is_packed = find_base(entry->name, ".weight", base) && entry->dtype == BB_U32 &&
                     bb_checkpoint_describe(checkpoint, base, &weight, NULL) == BOMBUS_OK;
    if (is_packed) {
        bytes = (int64_t)bb_weight_bytes(&weight);
        last = weight.cols;
    }
    char shape[BB_SHAPE_TEXT_SIZE];
    struct bb_safetensors_entry told = *entry;
    if (told.rank > 0)
        told.shape[told.rank - 1] = last;
    for (int32_t i = 0; i < told.rank; i++)
        count *= told.shape[i];
    bb_shape_format(shape, told.shape, told.rank);
    enum bb_dtype dtype = is_packed ? weight.dtype : entry->dtype;
    count_format(inspection, weight.scheme, dtype, count, bytes);
    bb_buffer_add_text(inspection->json, inspection->field_count > 0 ? ", {" : "{");
    inspection->field_count = 0;
    add_text_field(inspection, "name", is_packed ? base : entry->name);
    add_key(inspection, "shape");
    bb_buffer_add_text(inspection->json, shape);
    add_scheme_fields(inspection, weight.scheme, dtype);
    add_number_field(inspection, "bytes", bytes);
    close_object(inspection);
}

static bombus_status add_tensors(struct inspection *inspection, bombus_error *error)
{
    const struct bb_checkpoint *checkpoint = &inspection->checkpoint;
    size_t count = checkpoint->tensor_count;
    const struct bb_safetensors_entry **entries = bb_allocate(count, sizeof *entries);
    if (entries == NULL)
        return bb_fail_memory(error, count * sizeof *entries, inspection->folder);
    for (size_t i = 0; i < count; i++) {
        entries[i] = checkpoint->entries[i];
        inspection->tensor_bytes += (int64_t)entries[i]->size;
    }
    if (count > 0)
        qsort(entries, count, sizeof *entries, compare_entries);
    add_key(inspection, "tensors");
    bb_buffer_add_byte(inspection->json, '[');
    inspection->field_count = 0;
    for (size_t i = 0; i < count; i++)
        add_tensor(inspection, entries[i]);
    bb_buffer_add_byte(inspection->json, ']');
    inspection->field_count = 1;
    bb_release(entries);
    return BOMBUS_OK;
}

static void add_formats(struct inspection *inspection)
{
    int64_t bytes = 0;
    add_key(inspection, "formats");
    bb_buffer_add_byte(inspection->json, '[');
    inspection->field_count = 0;
    for (size_t i = 0; i < inspection->format_count; i++) {
        const struct format *format = &inspection->formats[i];
        bb_buffer_add_text(inspection->json, i > 0 ? ", {" : "{");
        inspection->field_count = 0;
        add_scheme_fields(inspection, format->scheme, format->dtype);
        add_number_field(inspection, "tensor_count", format->tensor_count);
        add_number_field(inspection, "parameter_count", format->parameter_count);
        add_number_field(inspection, "bytes", format->bytes);
        close_object(inspection);
        bytes += format->bytes;
    }
    bb_buffer_add_byte(inspection->json, ']');
    inspection->field_count = 1;
    if (inspection->parameter_count > 0) {
        add_key(inspection, "bits_per_parameter");
        bb_buffer_format(inspection->json, "%.3f", 8.0 * (double)bytes / (double)inspection->parameter_count);
    }
}

/* Whole numbers of config.json that describe any model's size, known family or not. */
static void add_sizes(struct inspection *inspection)
{
    static const char *const keys[] = {
        "vocab_size",           "hidden_size",         "intermediate_size", "num_hidden_layers",
        "num_attention_heads",  "num_key_value_heads", "head_dim",          "max_position_embeddings",
        "sliding_window",       "num_experts",         "num_local_experts", "num_experts_per_tok",
        "moe_intermediate_size"};
    const struct bb_recipe *recipe = &inspection->recipe;
    open_object(inspection, "sizes");
    for (size_t i = 0; i < BB_COUNT(keys); i++) {
        int64_t value;
        bool is_number =
            bb_config_type(inspection->config, keys[i]) == BB_CONFIG_NUMBER &&
            bb_config_integer(inspection->config, keys[i], 0, INT64_MIN, INT64_MAX, &value, NULL) == BOMBUS_OK;
        if (inspection->has_recipe && strcmp(keys[i], "head_dim") == 0)
            add_number_field(inspection, keys[i], recipe->head_dim);
        else if (is_number)
            add_number_field(inspection, keys[i], value);
    }
    if (inspection->model != NULL)
        add_boolean_field(inspection, "tie_word_embeddings", inspection->model->recipe.tie_word_embeddings);
    close_object(inspection);
}

/* Bytes that `tokens` positions of one sequence take; a layer with a window keeps no more than that, rounded up to
 * pages. -1: not possible. */
static int64_t measure_cache(const struct bb_recipe *recipe, enum bb_kv_type type, int64_t tokens)
{
    int32_t group_size = recipe->head_dim % 64 == 0 ? 64 : 32;
    int64_t bytes = 0;
    if (type != BB_KV_F16 && recipe->head_dim % group_size != 0)
        return -1;
    int64_t page =
        (int64_t)bb_kv_page_bytes(type, group_size, BB_KV_PAGE_SIZE, recipe->num_key_value_heads, recipe->head_dim);
    for (int32_t i = 0; i < recipe->num_hidden_layers; i++) {
        int64_t window = recipe->layers[i].sliding_window, kept = tokens;
        if (window > 0 && kept > window + 2 * BB_KV_PAGE_SIZE)
            kept = window + 2 * BB_KV_PAGE_SIZE;
        bytes += page * kept / BB_KV_PAGE_SIZE;
    }
    return bytes;
}

static void add_memory(struct inspection *inspection)
{
    const struct bb_recipe *recipe = &inspection->recipe;
    int64_t weights = inspection->model != NULL ? (int64_t)inspection->model->weight_bytes : inspection->tensor_bytes;
    open_object(inspection, "memory");
    add_number_field(inspection, "weight_bytes", weights);
    if (inspection->has_recipe) {
        int64_t kv8 = measure_cache(recipe, BB_KV_Q8, TOKENS), kv4 = measure_cache(recipe, BB_KV_Q4, TOKENS);
        int64_t full = measure_cache(recipe, BB_KV_F16, recipe->max_position_embeddings);
        add_number_field(inspection, "cache_bytes_per_1000_tokens", measure_cache(recipe, BB_KV_F16, TOKENS));
        if (kv8 >= 0) {
            add_number_field(inspection, "cache_bytes_per_1000_tokens_kv_bits_8", kv8);
            add_number_field(inspection, "cache_bytes_per_1000_tokens_kv_bits_4", kv4);
        }
        add_number_field(inspection, "cache_bytes_at_full_context", full);
        add_number_field(inspection, "total_bytes_at_full_context", weights + full);
    }
    close_object(inspection);
}

static bool has_file(const char *folder, const char *name)
{
    char *path = bb_path_join(folder, name);
    bool exists = path != NULL && bb_file_exists(path);
    bb_release(path);
    return exists;
}

/* Which file of the folder holds the chat template; NULL: none. */
static const char *find_template(const char *folder)
{
    static const char config_name[] = "tokenizer_config.json";
    struct bb_config *config = NULL;
    if (has_file(folder, "chat_template.jinja"))
        return "chat_template.jinja";
    if (has_file(folder, "chat_template.json"))
        return "chat_template.json";
    char *path = bb_path_join(folder, config_name);
    bool has_template = path != NULL && bb_config_open(&config, path, NULL) == BOMBUS_OK &&
                        bb_config_type(config, "chat_template") > BB_CONFIG_NULL;
    bb_config_close(config);
    bb_release(path);
    return has_template ? config_name : NULL;
}

static void add_quantization(struct inspection *inspection)
{
    struct bb_scheme scheme = inspection->checkpoint.scheme;
    add_key(inspection, "quantization");
    if (scheme.mode == BB_QUANT_NONE)
        bb_buffer_add_text(inspection->json, "null");
    else
        bb_buffer_format(inspection->json, "{\"mode\": \"%s\", \"bits\": %d, \"group_size\": %d}",
                         bb_quant_mode_of(scheme.mode)->name, scheme.bits, scheme.group_size);
}

static bombus_status write_all(struct inspection *inspection, bombus_error *error)
{
    const char *model_type = NULL, *architecture = NULL;
    const struct bb_model *model = inspection->model;
    bombus_status ignored = bb_config_text(inspection->config, "model_type", NULL, &model_type, NULL);
    ignored = bb_config_array_text(inspection->config, "architectures", 0, &architecture, NULL);
    (void)ignored; /* both stay NULL then */
    bb_buffer_add_byte(inspection->json, '{');
    inspection->field_count = 0;
    add_text_field(inspection, "folder", inspection->folder);
    add_text_field(inspection, "model_type", model_type);
    add_text_field(inspection, "architecture", architecture);
    add_boolean_field(inspection, "supported", inspection->problems.length == 0);
    add_key(inspection, "unsupported");
    bb_buffer_format(inspection->json, "[%s]", inspection->problems.length > 0 ? inspection->problems.data : "");
    add_sizes(inspection);
    add_quantization(inspection);
    struct bb_buffer *whole = inspection->json, tensors = {0};
    size_t fields = inspection->field_count;
    inspection->json = &tensors; /* their sums stand before them */
    bombus_status status = add_tensors(inspection, error);
    inspection->json = whole;
    inspection->field_count = fields;
    add_formats(inspection);
    add_number_field(inspection, "parameter_count",
                     model != NULL ? model->parameter_count : inspection->parameter_count);
    add_number_field(inspection, "file_bytes", inspection->tensor_bytes);
    if (model != NULL)
        add_number_field(inspection, "bytes_per_token", (int64_t)model->bytes_per_token);
    add_memory(inspection);
    open_object(inspection, "tokenizer");
    add_boolean_field(inspection, "present", has_file(inspection->folder, "tokenizer.json"));
    add_text_field(inspection, "chat_template", find_template(inspection->folder));
    close_object(inspection);
    bb_buffer_add(whole, tensors.data != NULL ? tensors.data : "", tensors.length);
    bb_buffer_add_byte(whole, '}');
    if (status == BOMBUS_OK && (whole->is_failed || tensors.is_failed || inspection->problems.is_failed))
        status = bb_fail_memory(error, whole->length, inspection->folder);
    bb_buffer_clear(&tensors);
    return status;
}

bombus_status bb_inspect(struct bb_buffer *json, const char *folder, const char *const *problems, size_t problem_count,
                         bombus_error *error)
{
    struct inspection *inspection = bb_allocate(1, sizeof *inspection);
    bombus_error own;
    if (error == NULL)
        error = &own;
    if (inspection == NULL)
        return bb_fail_memory(error, sizeof *inspection, folder);
    inspection->json = json;
    inspection->folder = folder;
    bombus_status status = examine(inspection, error);
    for (size_t i = 0; i < problem_count; i++)
        note_problem(inspection, problems[i]);
    if (status == BOMBUS_OK)
        status = write_all(inspection, error);
    bb_model_close(inspection->model);
    bb_checkpoint_close(&inspection->checkpoint);
    bb_config_close(inspection->config);
    bb_arena_clear(&inspection->arena);
    bb_buffer_clear(&inspection->problems);
    bb_release(inspection);
    return status;
}
