/* A model folder -> bb_model: each tensor that the recipe asks for, found by name, checked, and used where it lies in its mapped file. */
#include "model/weights.h"

#include "base/file.h"
#include "model/families/family.h"

#include <stdio.h>
#include <string.h>

enum { PATH_SIZE = 160, MAX_CONFIG_SIZE = 1 << 26, SAMPLED_TENSORS = 64 };

/* What is being loaded; the first failure is sticky, so that the lists of tensors below read as lists. */
struct loader {
    struct bb_model *model;
    struct bb_backend *backend;
    bombus_status status;
    bombus_error *error;
    int32_t slot_count;
    int32_t layer;
};

/* "model.layers.N.NAME" */
static void layer_path(const struct loader *loader, const char *name, char path[PATH_SIZE])
{
    snprintf(path, PATH_SIZE, "model.layers.%d.%s", loader->layer, name);
}

/* A vector of `count` floats; rank 2 counts as one vector (experts' biases [count, rows]). */
static const void *load_vector(struct loader *loader, const char *name, int64_t count, enum bb_dtype *dtype)
{
    if (loader->status != BOMBUS_OK)
        return NULL;
    const char *folder = loader->model->checkpoint.folder;
    const struct bb_safetensors_entry *entry = bb_checkpoint_find(&loader->model->checkpoint, name);
    if (entry == NULL) {
        loader->status = bb_fail(loader->error, BOMBUS_ERROR_FORMAT, "%s: tensor '%s' is missing", folder, name);
        return NULL;
    }
    int64_t found = 1;
    for (int32_t i = 0; i < entry->rank; i++)
        found *= entry->shape[i];
    bool is_float = bb_dtype_is_weight_float(entry->dtype);
    if (!is_float || found != count || entry->rank < 1 || entry->rank > 2) {
        loader->status = bb_fail(loader->error, BOMBUS_ERROR_FORMAT, "%s: tensor '%s' has %lld entries of %s, expected %lld of F32, F16 or BF16",
                                 folder, name, (long long)found, bb_dtype_name(entry->dtype), (long long)count);
        return NULL;
    }
    loader->model->parameter_count += count;
    *dtype = entry->dtype;
    return entry->data;
}

/* `active_share` of its bytes is read for one token. */
static void load_weight(struct loader *loader, const char *path, int64_t rows, int64_t cols, double active_share, struct bb_weight *weight)
{
    struct bb_model *model = loader->model;
    if (loader->status == BOMBUS_OK)
        loader->status = bb_checkpoint_weight(&model->checkpoint, path, rows, cols, weight, loader->error);
    if (loader->status != BOMBUS_OK)
        return;
    model->parameter_count += rows * cols;
    model->bytes_per_token += (size_t)((double)bb_weight_bytes(weight) * active_share);
    if (loader->backend->table->prepare_weight != NULL)
        loader->status = loader->backend->table->prepare_weight(loader->backend, weight, loader->error);
}

static void load_linear(struct loader *loader, const char *path, int64_t rows, int64_t cols, bool has_bias, double active_share,
                        struct bb_linear *linear)
{
    char name[PATH_SIZE + 8];
    *linear = (struct bb_linear){ .slot = loader->slot_count++ };
    load_weight(loader, path, rows, cols, active_share, &linear->weight);
    if (!has_bias)
        return;
    snprintf(name, sizeof name, "%s.bias", path);
    linear->bias = load_vector(loader, name, rows, &linear->bias_dtype);
}

/* The projection that rows [first, first + count) of `whole` make. */
static struct bb_linear view_rows(struct loader *loader, const struct bb_linear *whole, int64_t first, int64_t count)
{
    struct bb_linear view = { .slot = loader->slot_count++ };
    if (loader->status != BOMBUS_OK)
        return view;
    view.weight = bb_weight_rows(&whole->weight, first, count);
    view.bias_dtype = whole->bias_dtype;
    if (whole->bias != NULL)
        view.bias = (const char *)whole->bias + (size_t)first * (bb_dtype_bits(whole->bias_dtype) / 8);
    return view;
}

static void load_norm(struct loader *loader, const char *path, int32_t size, struct bb_norm *norm)
{
    const struct bb_recipe *recipe = &loader->model->recipe;
    char name[PATH_SIZE + 8];
    snprintf(name, sizeof name, "%s.weight", path);
    *norm = (struct bb_norm){ .size = size, .eps = recipe->rms_norm_eps, .is_plus_one = recipe->norm_is_plus_one };
    norm->weight = load_vector(loader, name, size, &norm->dtype);
}

static void load_layer_norm(struct loader *loader, const char *name, int32_t size, struct bb_norm *norm)
{
    char path[PATH_SIZE];
    if (name == NULL)
        return;
    layer_path(loader, name, path);
    load_norm(loader, path, size, norm);
}

static void load_layer_linear(struct loader *loader, const char *name, int64_t rows, int64_t cols, bool has_bias, struct bb_linear *linear)
{
    char path[PATH_SIZE];
    layer_path(loader, name, path);
    load_linear(loader, path, rows, cols, has_bias, 1.0, linear);
}

static void load_attention(struct loader *loader, struct bb_block *block)
{
    const struct bb_recipe *recipe = &loader->model->recipe;
    const struct bb_names *names = recipe->names;
    int64_t hidden = recipe->hidden_size, head_dim = recipe->head_dim;
    int64_t q_rows = recipe->num_attention_heads * head_dim, kv_rows = recipe->num_key_value_heads * head_dim;
    if (names->qkv != NULL) {
        struct bb_linear whole;
        load_layer_linear(loader, names->qkv, q_rows + 2 * kv_rows, hidden, recipe->has_qkv_bias, &whole);
        block->q = view_rows(loader, &whole, 0, q_rows);
        block->k = view_rows(loader, &whole, q_rows, kv_rows);
        block->v = view_rows(loader, &whole, q_rows + kv_rows, kv_rows);
    } else {
        load_layer_linear(loader, "self_attn.q_proj", q_rows, hidden, recipe->has_qkv_bias, &block->q);
        load_layer_linear(loader, "self_attn.k_proj", kv_rows, hidden, recipe->has_qkv_bias, &block->k);
        load_layer_linear(loader, "self_attn.v_proj", kv_rows, hidden, recipe->has_qkv_bias, &block->v);
    }
    load_layer_linear(loader, "self_attn.o_proj", hidden, q_rows, recipe->has_o_bias, &block->o);
    if (recipe->has_q_norm) {
        load_layer_norm(loader, "self_attn.q_norm", recipe->q_norm_is_whole ? (int32_t)q_rows : recipe->head_dim, &block->q_norm);
        load_layer_norm(loader, "self_attn.k_norm", recipe->q_norm_is_whole ? (int32_t)kv_rows : recipe->head_dim, &block->k_norm);
    }
    block->attention = (struct bb_attention_shape){ .heads = recipe->num_attention_heads,
                                                    .kv_heads = recipe->num_key_value_heads,
                                                    .head_dim = recipe->head_dim,
                                                    .scale = recipe->attention_scale,
                                                    .softcap = recipe->attention_softcap };
    if (recipe->has_sinks) {
        char name[PATH_SIZE];
        layer_path(loader, "self_attn.sinks", name);
        block->attention.sinks = load_vector(loader, name, recipe->num_attention_heads, &block->attention.sinks_dtype);
    }
}

static void load_dense(struct loader *loader, struct bb_block *block)
{
    const struct bb_recipe *recipe = &loader->model->recipe;
    int64_t hidden = recipe->hidden_size, inner = recipe->intermediate_size;
    if (recipe->names->gate_up != NULL) {
        struct bb_linear whole;
        load_layer_linear(loader, recipe->names->gate_up, 2 * inner, hidden, recipe->has_mlp_bias, &whole);
        block->gate = view_rows(loader, &whole, 0, inner);
        block->up = view_rows(loader, &whole, inner, inner);
    } else {
        load_layer_linear(loader, "mlp.gate_proj", inner, hidden, recipe->has_mlp_bias, &block->gate);
        load_layer_linear(loader, "mlp.up_proj", inner, hidden, recipe->has_mlp_bias, &block->up);
    }
    load_layer_linear(loader, "mlp.down_proj", hidden, inner, recipe->has_mlp_bias, &block->down);
}

/* One projection of all experts: stacked in one tensor (`part` as mlx-lm names it), or a tensor each. */
static const struct bb_linear *load_expert_part(struct loader *loader, const char *part, const char *part_of_one, int64_t rows, int64_t cols)
{
    struct bb_model *model = loader->model;
    const struct bb_recipe *recipe = &model->recipe;
    int32_t count = recipe->num_experts;
    double active_share = (double)recipe->num_experts_per_tok / count;
    char name[PATH_SIZE], path[PATH_SIZE];
    struct bb_linear *linears = bb_arena_allocate(&model->arena, (size_t)count, sizeof *linears);
    if (linears == NULL) {
        if (loader->status == BOMBUS_OK)
            loader->status = bb_fail_memory(loader->error, (size_t)count * sizeof *linears, "the experts of a layer");
        return NULL;
    }
    if (recipe->names->expert != NULL) {
        snprintf(name, sizeof name, "model.layers.%d.%s.0.%s.weight", loader->layer, recipe->names->expert, part_of_one);
        for (int32_t i = 0; i < count && bb_checkpoint_has(&model->checkpoint, name); i++) {
            snprintf(path, sizeof path, "model.layers.%d.%s.%d.%s", loader->layer, recipe->names->expert, i, part_of_one);
            load_linear(loader, path, rows, cols, recipe->has_mlp_bias, active_share, &linears[i]);
        }
        if (linears[0].weight.data != NULL)
            return linears;
    }
    struct bb_linear whole;
    snprintf(path, sizeof path, "model.layers.%d.%s.%s", loader->layer, recipe->names->experts, part);
    load_linear(loader, path, count * rows, cols, recipe->has_mlp_bias, active_share, &whole);
    for (int32_t i = 0; i < count; i++)
        linears[i] = view_rows(loader, &whole, i * rows, rows);
    return linears;
}

static void load_experts(struct loader *loader, struct bb_block *block)
{
    const struct bb_recipe *recipe = &loader->model->recipe;
    const struct bb_names *names = recipe->names;
    int64_t hidden = recipe->hidden_size, inner = recipe->moe_intermediate_size;
    if (names->interleaved != NULL) {
        char path[PATH_SIZE], name[PATH_SIZE + 8];
        layer_path(loader, names->interleaved, path);
        snprintf(name, sizeof name, "%s_blocks", path);
        if (bb_checkpoint_has(&loader->model->checkpoint, path) || bb_checkpoint_has(&loader->model->checkpoint, name)) {
            if (loader->status == BOMBUS_OK)
                loader->status = bb_fail(loader->error, BOMBUS_ERROR_UNSUPPORTED,
                                         "%s: the rows of gate and up alternate in '%s': such a folder must be converted with mlx_lm.convert first",
                                         loader->model->checkpoint.folder, path);
            return;
        }
    }
    load_layer_linear(loader, names->router, recipe->num_experts, hidden, recipe->has_mlp_bias, &block->router);
    block->experts = (struct bb_experts){ .count = recipe->num_experts, .per_token = recipe->num_experts_per_tok, .activation = recipe->activation };
    block->experts.gate = load_expert_part(loader, "gate_proj", names->expert_gate, inner, hidden);
    block->experts.up = load_expert_part(loader, "up_proj", names->expert_up, inner, hidden);
    block->experts.down = load_expert_part(loader, "down_proj", names->expert_down, hidden, inner);
}

static void load_block(struct loader *loader, int32_t layer, struct bb_block *block)
{
    const struct bb_recipe *recipe = &loader->model->recipe;
    const struct bb_names *names = recipe->names;
    loader->layer = layer;
    load_layer_norm(loader, names->input_norm, recipe->hidden_size, &block->input_norm);
    load_layer_norm(loader, names->post_attention_norm, recipe->hidden_size, &block->post_attention_norm);
    load_layer_norm(loader, names->pre_feed_forward_norm, recipe->hidden_size, &block->pre_feed_forward_norm);
    load_layer_norm(loader, names->post_feed_forward_norm, recipe->hidden_size, &block->post_feed_forward_norm);
    load_attention(loader, block);
    if (recipe->layers[layer].has_experts)
        load_experts(loader, block);
    else
        load_dense(loader, block);
}

/* Tied models use the embedding as head; a head that lies in the folder all the same is passed over, as mlx-lm does. */
static void load_ends(struct loader *loader)
{
    struct bb_model *model = loader->model;
    struct bb_recipe *recipe = &model->recipe;
    if (recipe->ties_without_head)
        recipe->tie_word_embeddings = !bb_checkpoint_has(&model->checkpoint, "lm_head.weight");
    bool is_tied = recipe->tie_word_embeddings;
    load_weight(loader, "model.embed_tokens", recipe->vocab_size, recipe->hidden_size, is_tied ? 1.0 : 1.0 / recipe->vocab_size,
                &model->embedding);
    model->embedding_slot = loader->slot_count++;
    load_norm(loader, "model.norm", recipe->hidden_size, &model->final_norm);
    if (!is_tied) {
        load_linear(loader, "lm_head", recipe->vocab_size, recipe->hidden_size, false, 1.0, &model->head);
        return;
    }
    model->head = (struct bb_linear){ .weight = model->embedding, .slot = loader->slot_count++ };
    static const char *const unused[] = { "lm_head.weight", "lm_head.scales", "lm_head.biases" };
    for (size_t i = 0; i < BB_COUNT(unused); i++)
        (void)bb_checkpoint_find(&model->checkpoint, unused[i]);
}

/* Buffers that old checkpoints carry and nobody reads. */
static bool is_ignored(const char *name)
{
    return strstr(name, "rotary_emb.inv_freq") != NULL;
}

/* Independent of the order of tensors and of how they are spread over files. Only a few tensors' bytes are looked at: a page each. */
static bombus_status take_fingerprint(struct bb_model *model, bombus_error *error)
{
    char *text;
    size_t length, count = model->checkpoint.tensor_count;
    bombus_status status = bb_file_read(&text, &length, bb_config_path(model->checkpoint.config), MAX_CONFIG_SIZE, error);
    if (status != BOMBUS_OK)
        return status;
    uint64_t sum = bb_hash(text, length, 1);
    bb_release(text);
    for (size_t i = 0; i < count; i++) {
        const struct bb_safetensors_entry *entry = model->checkpoint.entries[i];
        uint64_t hash = bb_hash(entry->name, strlen(entry->name), 2);
        bool is_sampled = hash % (count / SAMPLED_TENSORS + 1) == 0;
        hash = bb_hash(entry->shape, sizeof entry->shape[0] * (size_t)entry->rank, hash + (uint64_t)entry->dtype);
        if (is_sampled)
            hash = bb_hash((const char *)entry->data + entry->size / 2, entry->size - entry->size / 2 < 32 ? entry->size - entry->size / 2 : 32, hash);
        sum += bb_hash(&hash, sizeof hash, 3);
        model->weight_bytes += model->checkpoint.is_used[i] ? entry->size : 0;
    }
    model->fingerprint = sum;
    return BOMBUS_OK;
}

static bombus_status load(struct bb_model *model, struct bb_backend *backend, bombus_error *error)
{
    size_t layer_count = (size_t)model->recipe.num_hidden_layers;
    struct loader loader = { .model = model, .backend = backend, .error = error };
    if (model->recipe.num_experts > 0 && backend->table->experts == NULL)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "device %s cannot run mixtures of experts", backend->table->name);
    model->blocks = bb_arena_allocate(&model->arena, layer_count, sizeof *model->blocks);
    if (model->blocks == NULL)
        return bb_fail_memory(error, layer_count * sizeof *model->blocks, "the model's blocks");
    load_ends(&loader);
    for (size_t i = 0; i < layer_count && loader.status == BOMBUS_OK; i++)
        load_block(&loader, (int32_t)i, &model->blocks[i]);
    model->slot_count = loader.slot_count;
    return loader.status == BOMBUS_OK ? bb_projections_list(model, error) : loader.status;
}

bombus_status bb_model_open(struct bb_model **model, const char *folder, struct bb_backend *backend, bombus_error *error)
{
    struct bb_model *opened = bb_allocate(1, sizeof *opened);
    *model = NULL;
    if (opened == NULL)
        return bb_fail_memory(error, sizeof *opened, "a model");
    bombus_status status = bb_checkpoint_open(&opened->checkpoint, folder, error);
    if (status == BOMBUS_OK)
        status = bb_recipe_read(&opened->recipe, opened->checkpoint.config, &opened->arena, error);
    if (status == BOMBUS_OK)
        status = load(opened, backend, error);
    if (status == BOMBUS_OK)
        status = bb_checkpoint_check_surplus(&opened->checkpoint, is_ignored, error);
    if (status == BOMBUS_OK)
        status = take_fingerprint(opened, error);
    if (status != BOMBUS_OK) {
        bb_model_close(opened);
        return status;
    }
    *model = opened;
    return BOMBUS_OK;
}

void bb_model_close(struct bb_model *model)
{
    if (model == NULL)
        return;
    bb_checkpoint_close(&model->checkpoint);
    bb_arena_clear(&model->arena);
    bb_release(model);
}
