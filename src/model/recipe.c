/* config.json -> recipe: what is common to all families, and the checks that no size from outside escapes. */
#include "model/recipe.h"

#include "model/families/families.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    MAX_VOCAB = 1 << 24,
    MAX_HIDDEN = 1 << 20,
    MAX_INTERMEDIATE = 1 << 22,
    MAX_HEADS = 1 << 12,
    MAX_HEAD_DIM = BB_KV_HEAD_DIM_LIMIT,
    MAX_EXPERTS = 1 << 12,
    MAX_POSITIONS = 1 << 28
};

int32_t bb_read_integer(struct bb_reader *reader, const char *key, int32_t fallback, int32_t minimum, int32_t maximum)
{
    int64_t value = fallback;
    if (reader->status == BOMBUS_OK)
        reader->status = bb_config_integer(reader->config, key, fallback, minimum, maximum, &value, reader->error);
    return reader->status == BOMBUS_OK ? (int32_t)value : fallback;
}

float bb_read_number(struct bb_reader *reader, const char *key, double fallback)
{
    double value = fallback;
    if (reader->status == BOMBUS_OK)
        reader->status = bb_config_number(reader->config, key, fallback, &value, reader->error);
    if (reader->status == BOMBUS_OK && !(fabs(value) < 1e30))
        bb_read_reject(reader, "%s is not a number that can be used", key);
    return reader->status == BOMBUS_OK ? (float)value : (float)fallback;
}

bool bb_read_boolean(struct bb_reader *reader, const char *key, bool fallback)
{
    bool value = fallback;
    if (reader->status == BOMBUS_OK)
        reader->status = bb_config_boolean(reader->config, key, fallback, &value, reader->error);
    return reader->status == BOMBUS_OK ? value : fallback;
}

const char *bb_read_text(struct bb_reader *reader, const char *key, const char *fallback)
{
    const char *value = fallback;
    if (reader->status == BOMBUS_OK)
        reader->status = bb_config_text(reader->config, key, fallback, &value, reader->error);
    return reader->status == BOMBUS_OK ? value : fallback;
}

bool bb_read_has(const struct bb_reader *reader, const char *key)
{
    enum bb_config_type type = bb_config_type(reader->config, key);
    return type != BB_CONFIG_ABSENT && type != BB_CONFIG_NULL;
}

static void fail(struct bb_reader *reader, bombus_status status, const char *format, va_list arguments)
{
    if (reader->status != BOMBUS_OK)
        return;
    char text[600];
    vsnprintf(text, sizeof text, format, arguments);
    reader->status = bb_fail(reader->error, status, "%s: %s", bb_config_path(reader->config), text);
}

void bb_read_refuse(struct bb_reader *reader, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fail(reader, BOMBUS_ERROR_UNSUPPORTED, format, arguments);
    va_end(arguments);
}

void bb_read_reject(struct bb_reader *reader, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fail(reader, BOMBUS_ERROR_FORMAT, format, arguments);
    va_end(arguments);
}

/* A key that must be there. */
static int32_t read_size(struct bb_reader *reader, const char *key, int32_t maximum)
{
    if (!bb_read_has(reader, key))
        bb_read_reject(reader, "%s is missing", key);
    return bb_read_integer(reader, key, 1, 1, maximum);
}

static enum bb_activation read_activation(struct bb_reader *reader)
{
    /* Gemma's hidden_act is an old mistake that hidden_activation corrects. */
    const char *key = bb_read_has(reader, "hidden_activation") ? "hidden_activation" : "hidden_act";
    const char *name = bb_read_text(reader, key, "silu");
    static const struct {
        const char *name;
        enum bb_activation activation;
    } activations[] = {
        { "silu", BB_SILU },       { "swish", BB_SILU },          { "gelu_pytorch_tanh", BB_GELU_TANH },
        { "gelu_new", BB_GELU_TANH }, { "gelu_fast", BB_GELU_TANH }, { "gelu", BB_GELU_ERF },
    };
    for (size_t i = 0; i < BB_COUNT(activations); i++)
        if (strcmp(activations[i].name, name) == 0)
            return activations[i].activation;
    bb_read_refuse(reader, "%s \"%s\" is not supported (silu, gelu, gelu_pytorch_tanh)", key, name);
    return BB_SILU;
}

static void read_common(struct bb_reader *reader, struct bb_recipe *recipe, const struct bb_family *family)
{
    recipe->vocab_size = read_size(reader, "vocab_size", MAX_VOCAB);
    recipe->hidden_size = read_size(reader, "hidden_size", MAX_HIDDEN);
    recipe->intermediate_size = read_size(reader, "intermediate_size", MAX_INTERMEDIATE);
    recipe->num_hidden_layers = read_size(reader, "num_hidden_layers", BB_MAX_LAYERS);
    recipe->num_attention_heads = read_size(reader, "num_attention_heads", MAX_HEADS);
    recipe->num_key_value_heads = bb_read_integer(reader, "num_key_value_heads", recipe->num_attention_heads, 1, MAX_HEADS);
    recipe->max_position_embeddings = bb_read_integer(
        reader, "max_position_embeddings", family->max_position_embeddings > 0 ? family->max_position_embeddings : 32768, 1, MAX_POSITIONS);

    bool has_head_dim = bb_read_has(reader, "head_dim") || family->head_dim > 0;
    if (!has_head_dim && recipe->hidden_size % recipe->num_attention_heads != 0)
        bb_read_reject(reader, "hidden_size %d is not a multiple of num_attention_heads %d, and there is no head_dim",
                       recipe->hidden_size, recipe->num_attention_heads);
    recipe->head_dim = bb_read_integer(reader, "head_dim", family->head_dim > 0 ? family->head_dim : recipe->hidden_size / recipe->num_attention_heads,
                                       1, MAX_HEAD_DIM);
    recipe->rms_norm_eps = bb_read_number(reader, "rms_norm_eps", family->rms_norm_eps > 0 ? family->rms_norm_eps : 1e-6);
    recipe->activation = read_activation(reader);
    recipe->ties_without_head = !bb_read_has(reader, "tie_word_embeddings");
    recipe->tie_word_embeddings = bb_read_boolean(reader, "tie_word_embeddings", false);
    bool has_bias = bb_read_boolean(reader, "attention_bias", false);
    recipe->has_qkv_bias = recipe->has_o_bias = has_bias;
    recipe->has_mlp_bias = bb_read_boolean(reader, "mlp_bias", false);
    recipe->has_pre_norm = true;
    recipe->embedding_scale = recipe->residual_scale = recipe->logit_scale = 1.0F;
    recipe->attention_scale = (float)(1.0 / sqrt((double)recipe->head_dim));
    if (bb_read_has(reader, "attention_chunk_size"))
        bb_read_refuse(reader, "chunked attention (attention_chunk_size) is not supported");
}

static void check(struct bb_reader *reader, const struct bb_recipe *recipe)
{
    if (recipe->num_attention_heads % recipe->num_key_value_heads != 0)
        bb_read_reject(reader, "num_attention_heads %d is not a multiple of num_key_value_heads %d", recipe->num_attention_heads,
                       recipe->num_key_value_heads);
    if (recipe->head_dim > MAX_HIDDEN / recipe->num_attention_heads)
        bb_read_reject(reader, "%d heads of head_dim %d are more than %d in all", recipe->num_attention_heads, recipe->head_dim, MAX_HIDDEN);
    if (!(recipe->rms_norm_eps >= 0.0F) || recipe->rms_norm_eps > 1.0F)
        bb_read_reject(reader, "rms_norm_eps %g is not in [0, 1]", (double)recipe->rms_norm_eps);
    if (recipe->attention_softcap < 0.0F || recipe->logit_softcap < 0.0F)
        bb_read_reject(reader, "a soft cap (attn_logit_softcapping, final_logit_softcapping) is negative");
    if (recipe->num_experts_per_tok > recipe->num_experts)
        bb_read_reject(reader, "num_experts_per_tok %d is more than the number of experts, %d", recipe->num_experts_per_tok,
                       recipe->num_experts);
}

void bb_read_layer_types(struct bb_reader *reader, struct bb_recipe *recipe, int32_t window, bool is_sliding_fallback)
{
    bool has_types = bb_read_has(reader, "layer_types");
    size_t count = bb_config_array_length(reader->config, "layer_types");
    if (has_types && count != (size_t)recipe->num_hidden_layers)
        bb_read_reject(reader, "layer_types has %zu entries for %d layers", count, recipe->num_hidden_layers);
    for (int32_t i = 0; i < recipe->num_hidden_layers && reader->status == BOMBUS_OK; i++) {
        bool is_sliding = is_sliding_fallback;
        const char *type = NULL;
        if (has_types) {
            reader->status = bb_config_array_text(reader->config, "layer_types", (size_t)i, &type, reader->error);
            if (reader->status != BOMBUS_OK)
                return;
            is_sliding = strcmp(type, "sliding_attention") == 0;
            if (!is_sliding && strcmp(type, "full_attention") != 0)
                bb_read_refuse(reader, "layer type \"%s\" is not supported (full_attention, sliding_attention)", type);
        }
        if (is_sliding && window <= 0)
            bb_read_reject(reader, "layer %d has sliding attention, but sliding_window is missing", i);
        recipe->layers[i].sliding_window = is_sliding ? window : 0;
    }
}

bombus_status bb_recipe_read(struct bb_recipe *recipe, const struct bb_config *config, struct bb_arena *arena, bombus_error *error)
{
    *recipe = (struct bb_recipe){0};
    struct bb_reader reader = { .config = config, .arena = arena, .error = error };
    const char *model_type = bb_read_text(&reader, "model_type", NULL);
    if (reader.status == BOMBUS_OK && model_type == NULL)
        bb_read_reject(&reader, "model_type is missing");
    if (reader.status != BOMBUS_OK)
        return reader.status;

    const struct bb_family *family = bb_family_find(model_type);
    if (family == NULL) {
        char known[512];
        bb_family_list(known, sizeof known);
        bb_read_refuse(&reader, "model_type \"%.100s\" is not supported; supported are %s", model_type, known);
        return reader.status;
    }
    recipe->names = family->names;
    recipe->model_type = bb_arena_copy_text(arena, model_type, strlen(model_type));
    if (recipe->model_type == NULL)
        return bb_fail_memory(error, strlen(model_type), "the model's recipe");
    read_common(&reader, recipe, family);
    if (reader.status == BOMBUS_OK)
        family->configure(&reader, recipe);
    if (reader.status == BOMBUS_OK)
        check(&reader, recipe);
    return reader.status;
}
