/* What is trained: which projections, their arrays one after the other, and the model as it is with them. Names and shapes are mlx-lm's. */
#include "model/trainable.h"

#include "base/random.h"
#include "files/safetensors.h"
#include "model/adapter.h"
#include "model/families/family.h"
#include "quant/quant_modes.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME_SIZE = 200, GAIN_ROWS = 32 /* of a weight a chunk */ };

/* A trainable with what its users need not see. */
struct owner {
    struct bb_trainable trainable; /* first, so that one is the other */
    const struct bb_model *base;
    struct bb_model view;          /* full fine-tuning */
    struct bb_adapter_set set;
    struct bb_adapter_use use;
    struct bb_low_rank *pairs;     /* [slot_count] */
    float *gains;                  /* DoRA: of all modules, one after the other */
    float *rows;                   /* scratch, [threads, widest row] */
    int64_t widest;
    struct bb_arena arena;
};

/* What is being made: first counted, then filled. A failure is sticky. */
struct maker {
    struct owner *owner;
    bool is_filling;
    size_t parameter_count, value_count, gain_count;
    int64_t widest;
    bombus_status status;
    bombus_error *error;
};

static bool has_failed(const struct maker *maker)
{
    return maker->status != BOMBUS_OK;
}

static const struct bb_recipe *recipe_of(const struct maker *maker)
{
    return &maker->owner->base->recipe;
}

static int32_t first_layer_of(const struct maker *maker)
{
    const int32_t layers = recipe_of(maker)->num_hidden_layers, count = maker->owner->trainable.options.num_layers;
    return count <= 0 || count >= layers ? 0 : layers - count;
}

/* Room for one array; NULL while counting. */
static struct bb_parameter *add_parameter(struct maker *maker, const char *path, const char *part, const int64_t shape[3], bool is_transposed)
{
    struct bb_trainable *trainable = &maker->owner->trainable;
    size_t count = 1;
    int32_t rank = 0;
    for (; rank < 3 && shape[rank] > 0; rank++)
        if (!bb_multiply_size(count, (size_t)shape[rank], &count))
            count = SIZE_MAX / 2;
    if (!maker->is_filling) {
        maker->parameter_count++;
        if (!bb_add_size(maker->value_count, count, &maker->value_count))
            maker->value_count = SIZE_MAX / 2;
        return NULL;
    }
    char name[NAME_SIZE];
    const int length = snprintf(name, sizeof name, "%s.%s", path, part);
    struct bb_parameter *parameter = &trainable->parameters[maker->parameter_count++];
    *parameter = (struct bb_parameter){.name = bb_arena_copy_text(&maker->owner->arena, name, (size_t)length),
                                       .value = trainable->values + maker->value_count,
                                       .gradient = trainable->gradients + maker->value_count,
                                       .count = count,
                                       .shape = {shape[0], shape[1], shape[2]},
                                       .rank = rank,
                                       .is_transposed = is_transposed};
    maker->value_count += count;
    if (parameter->name == NULL && !has_failed(maker))
        maker->status = bb_fail_memory(maker->error, (size_t)length, "the name of a parameter");
    return parameter;
}

static void fill_uniform(const struct maker *maker, struct bb_parameter *parameter, float size)
{
    struct bb_random random = {.seed = bb_random_at(maker->owner->trainable.options.seed, maker->parameter_count)};
    for (size_t i = 0; i < parameter->count; i++)
        parameter->value[i] = size * (float)(2.0 * bb_random_uniform(&random) - 1.0);
}

/* DoRA's magnitudes begin as the lengths of the weight's rows. */
static void fill_lengths(const struct maker *maker, const struct bb_weight *weight, float *lengths)
{
    float *row = maker->owner->rows;
    for (int64_t i = 0; i < weight->rows; i++) {
        double sum = 0.0;
        bb_quant_unpack_row(weight, i, row);
        for (int64_t k = 0; k < weight->cols; k++)
            sum += (double)row[k] * (double)row[k];
        lengths[i] = (float)sqrt(sum);
    }
}

/* The pairs of a projection's slots. */
static void place_pairs(struct maker *maker, const struct bb_projection *projection, float *a, float *b, float *magnitudes)
{
    struct owner *owner = maker->owner;
    const struct bb_trainable_options *options = &owner->trainable.options;
    int64_t first = 0;
    for (int32_t i = 0; i < projection->slot_count; i++) {
        const struct bb_weight *weight = &owner->base->slots[projection->first_slot + i]->weight;
        struct bb_low_rank *pair = &owner->pairs[projection->first_slot + i];
        *pair = (struct bb_low_rank){.a = a, .b = b + first, .b_stride = projection->rows, .rank = options->rank, .scale = options->scale};
        if (projection->expert_count > 0) { /* each has a pair of its own */
            pair->a = a + i * options->rank * projection->cols;
            pair->b = b + i * options->rank * projection->rows;
            continue;
        }
        if (magnitudes != NULL) {
            fill_lengths(maker, weight, magnitudes + first);
            pair->gains = owner->gains + maker->gain_count + first;
            pair->magnitudes = magnitudes + first;
        }
        first += weight->rows;
    }
    /* As mlx-lm's tied models do: the adapted embedding is the head. */
    if (projection->is_embedding && owner->base->recipe.tie_word_embeddings)
        owner->pairs[owner->base->head.slot] = owner->pairs[owner->base->embedding_slot];
}

static void add_pair(struct maker *maker, const struct bb_projection *projection)
{
    const struct bb_trainable_options *options = &maker->owner->trainable.options;
    const int64_t rows = projection->rows, cols = projection->cols, rank = options->rank, experts = projection->expert_count;
    const bool is_dora = options->type == BOMBUS_FINE_TUNE_DORA;
    struct bb_parameter *a, *b, *magnitudes = NULL;
    if (is_dora && experts > 0 && !has_failed(maker))
        maker->status = bb_fail(maker->error, BOMBUS_ERROR_UNSUPPORTED,
                                "'%s': mlx-lm's format has no DoRA of experts, use LoRA or leave them out",
                                projection->path);
    if (experts > 0) {
        a = add_parameter(maker, projection->path, "lora_a", (const int64_t[3]){experts, rank, cols}, false);
        b = add_parameter(maker, projection->path, "lora_b", (const int64_t[3]){experts, rows, rank}, true);
    } else if (projection->is_embedding) { /* lora_a is looked up by token: what stands before the weight elsewhere stands behind it here */
        b = add_parameter(maker, projection->path, "lora_a", (const int64_t[3]){rows, rank}, true);
        a = add_parameter(maker, projection->path, "lora_b", (const int64_t[3]){rank, cols}, false);
    } else {
        a = add_parameter(maker, projection->path, "lora_a", (const int64_t[3]){cols, rank}, true);
        b = add_parameter(maker, projection->path, "lora_b", (const int64_t[3]){rank, rows}, false);
    }
    if (is_dora)
        magnitudes = add_parameter(maker, projection->path, "m", (const int64_t[3]){rows}, false);
    if (maker->is_filling && !has_failed(maker)) {
        if (projection->is_embedding)
            fill_uniform(maker, b, 1.0f / sqrtf((float)rows));
        else
            fill_uniform(maker, a, 1.0f / sqrtf((float)cols));
        place_pairs(maker, projection, a->value, b->value, magnitudes != NULL ? magnitudes->value : NULL);
    }
    maker->gain_count += is_dora ? (size_t)rows : 0;
    maker->widest = cols > maker->widest ? cols : maker->widest;
}

/* "model.layers.3.self_attn.q_proj" -> "self_attn.q_proj" */
static const char *name_in_block(const struct bb_projection *projection)
{
    const char *name = projection->path + strlen("model.layers.");
    while (*name != '.' && *name != '\0')
        name++;
    return *name == '.' ? name + 1 : name;
}

static bool is_named(const struct bb_projection *projection, const char *key)
{
    return strcmp(projection->path, key) == 0 || (projection->layer >= 0 && strcmp(name_in_block(projection), key) == 0);
}

static bool is_listed(const struct bb_trainable_options *options, const struct bb_projection *projection)
{
    for (size_t i = 0; i < options->key_count; i++)
        if (is_named(projection, options->keys[i]))
            return true;
    return false;
}

static bool is_chosen(const struct maker *maker, const struct bb_projection *projection)
{
    const struct bb_trainable_options *options = &maker->owner->trainable.options;
    const bool is_in_range = projection->layer >= first_layer_of(maker);
    if (options->keys == NULL)
        return is_in_range;
    for (size_t i = 0; i < options->key_count; i++)
        if (is_named(projection, options->keys[i]) && (is_in_range || strcmp(projection->path, options->keys[i]) == 0))
            return projection != &maker->owner->base->projections[1] || !maker->owner->base->recipe.tie_word_embeddings;
    return false;
}

static void add_pairs(struct maker *maker)
{
    struct bb_trainable *trainable = &maker->owner->trainable;
    const struct bb_model *model = maker->owner->base;
    for (int32_t i = 0; i < model->projection_count && !has_failed(maker); i++) {
        const struct bb_projection *projection = &model->projections[i];
        if (!is_chosen(maker, projection))
            continue;
        add_pair(maker, projection);
        if (projection->is_embedding)
            trainable->trains_embedding = true;
        else if (projection->layer >= 0 && projection->layer < trainable->first_layer)
            trainable->first_layer = projection->layer;
    }
}

/* ---- full fine-tuning ---- */

static void add_vector(struct maker *maker, const char *path, const char *part, const int64_t shape[3], const void **data, enum bb_dtype *dtype)
{
    struct bb_parameter *parameter = add_parameter(maker, path, part, shape, false);
    if (parameter == NULL || has_failed(maker))
        return;
    bb_dtype_load_row(parameter->value, *data, *dtype, 0, parameter->count);
    *data = parameter->value;
    *dtype = BB_F32;
}

static void add_norm(struct maker *maker, int32_t layer, const char *name, struct bb_norm *norm)
{
    char path[NAME_SIZE];
    if (norm->size == 0 || norm->weight == NULL)
        return;
    snprintf(path, sizeof path, "model.layers.%d.%s", layer, name);
    add_vector(maker, path, "weight", (const int64_t[3]){norm->size}, &norm->weight, &norm->dtype);
}

/* Visits the view's linears of a block: `visit` for each whose slot is `slot`. */
static struct bb_linear *find_linear(const struct bb_recipe *recipe, struct bb_block *block, int32_t slot, int32_t layer)
{
    struct bb_linear *const linears[] = {&block->q, &block->k, &block->v, &block->o, &block->gate, &block->up, &block->down, &block->router};
    for (size_t i = 0; i < BB_COUNT(linears); i++)
        if (linears[i]->weight.data != NULL && linears[i]->slot == slot)
            return linears[i];
    const struct bb_linear *const parts[] = {block->experts.gate, block->experts.up, block->experts.down};
    for (int32_t i = 0; recipe->layers[layer].has_experts && i < 3 * block->experts.count; i++)
        if (parts[i / block->experts.count][i % block->experts.count].slot == slot)
            return (struct bb_linear *)&parts[i / block->experts.count][i % block->experts.count]; /* the view's own copy */
    return NULL;
}

static void load_part(const struct bb_linear *linear, float *values)
{
    for (int64_t i = 0; i < linear->weight.rows; i++)
        bb_quant_unpack_row(&linear->weight, i, values + i * linear->weight.cols);
}

/* A projection of a block, with its bias. */
static void add_weight(struct maker *maker, const struct bb_projection *projection, struct bb_block *block)
{
    const struct bb_linear *first = maker->owner->base->slots[projection->first_slot];
    if (first->weight.scheme.mode != BB_QUANT_NONE && !has_failed(maker))
        maker->status = bb_fail(maker->error, BOMBUS_ERROR_UNSUPPORTED,
                                "'%s' is quantized: only the blocks of an unquantized model can be trained in full, use lora", projection->path);
    const int64_t experts = projection->expert_count, rows = projection->rows, cols = projection->cols;
    const bool has_experts = experts > 0;
    struct bb_parameter *weight = add_parameter(maker, projection->path, "weight",
                                                has_experts ? (const int64_t[3]){experts, rows, cols} : (const int64_t[3]){rows, cols}, false);
    struct bb_parameter *bias = first->bias == NULL
                                    ? NULL
                                    : add_parameter(maker, projection->path, "bias",
                                                    has_experts ? (const int64_t[3]){experts, rows} : (const int64_t[3]){rows}, false);
    int64_t row = 0;
    for (int32_t i = 0; i < projection->slot_count && maker->is_filling && !has_failed(maker); i++) {
        const struct bb_linear *from = maker->owner->base->slots[projection->first_slot + i];
        struct bb_linear *to = find_linear(recipe_of(maker), block, from->slot, projection->layer);
        load_part(from, weight->value + row * cols);
        to->weight.data = weight->value + row * cols;
        to->weight.dtype = BB_F32;
        if (bias != NULL) {
            bb_dtype_load_row(bias->value + row, from->bias, from->bias_dtype, 0, (size_t)from->weight.rows);
            to->bias = bias->value + row;
            to->bias_dtype = BB_F32;
        }
        row += from->weight.rows;
    }
}

static const struct bb_linear *copy_experts(struct maker *maker, const struct bb_linear *experts, int32_t count)
{
    struct bb_linear *copy = bb_arena_allocate(&maker->owner->arena, (size_t)count, sizeof *copy);
    if (copy == NULL && !has_failed(maker))
        maker->status = bb_fail_memory(maker->error, (size_t)count * sizeof *copy, "the experts of a layer");
    if (copy != NULL)
        memcpy(copy, experts, (size_t)count * sizeof *copy);
    return copy;
}

/* The view begins as the model with blocks of its own. */
static void make_view(struct maker *maker)
{
    struct owner *owner = maker->owner;
    const size_t layers = (size_t)recipe_of(maker)->num_hidden_layers;
    owner->view = *owner->base;
    owner->view.blocks = bb_arena_allocate(&owner->arena, layers, sizeof *owner->view.blocks);
    if (owner->view.blocks == NULL) {
        maker->status = bb_fail_memory(maker->error, layers * sizeof *owner->view.blocks, "the model's blocks");
        return;
    }
    memcpy(owner->view.blocks, owner->base->blocks, layers * sizeof *owner->view.blocks);
    for (size_t i = 0; i < layers; i++) {
        struct bb_experts *experts = &owner->view.blocks[i].experts;
        if (!owner->base->recipe.layers[i].has_experts)
            continue;
        experts->gate = copy_experts(maker, experts->gate, experts->count);
        experts->up = copy_experts(maker, experts->up, experts->count);
        experts->down = copy_experts(maker, experts->down, experts->count);
    }
}

static void add_blocks(struct maker *maker)
{
    const struct bb_model *model = maker->owner->base;
    const struct bb_names *names = model->recipe.names;
    maker->owner->trainable.first_layer = first_layer_of(maker);
    for (int32_t i = 0; i < model->projection_count && !has_failed(maker); i++)
        if (model->projections[i].layer >= first_layer_of(maker))
            add_weight(maker, &model->projections[i], &maker->owner->view.blocks[model->projections[i].layer]);
    for (int32_t layer = first_layer_of(maker); layer < model->recipe.num_hidden_layers && !has_failed(maker); layer++) {
        struct bb_block *block = &maker->owner->view.blocks[layer];
        add_norm(maker, layer, names->input_norm, &block->input_norm);
        add_norm(maker, layer, names->post_attention_norm, &block->post_attention_norm);
        add_norm(maker, layer, names->pre_feed_forward_norm, &block->pre_feed_forward_norm);
        add_norm(maker, layer, names->post_feed_forward_norm, &block->post_feed_forward_norm);
        add_norm(maker, layer, "self_attn.q_norm", &block->q_norm);
        add_norm(maker, layer, "self_attn.k_norm", &block->k_norm);
    }
}

/* ---- making ---- */

static bombus_status check_options(const struct maker *maker)
{
    const struct bb_trainable_options *options = &maker->owner->trainable.options;
    const struct bb_model *model = maker->owner->base;
    if (options->type == BOMBUS_FINE_TUNE_FULL)
        return BOMBUS_OK;
    if (options->rank < 1 || options->rank > (1 << 16))
        return bb_fail(maker->error, BOMBUS_ERROR_ARGUMENT, "rank %d, expected at least 1", options->rank);
    if (!isfinite(options->scale) || !(options->dropout >= 0.0f && options->dropout < 1.0f))
        return bb_fail(maker->error, BOMBUS_ERROR_ARGUMENT, "scale %g and dropout %g, expected a finite number and one in [0, 1)", (double)options->scale,
                       (double)options->dropout);
    for (size_t k = 0; k < options->key_count && options->keys != NULL; k++) {
        bool is_found = false;
        for (int32_t i = 0; i < model->projection_count && !is_found; i++)
            is_found = is_named(&model->projections[i], options->keys[k]);
        if (!is_found)
            return bb_fail(maker->error, BOMBUS_ERROR_ARGUMENT, "key '%s' is no projection of the model", options->keys[k]);
        if (model->recipe.tie_word_embeddings && is_named(&model->projections[1], options->keys[k]) &&
            !is_listed(options, &model->projections[0]))
            return bb_fail(maker->error, BOMBUS_ERROR_ARGUMENT,
                           "key '%s': the head of this model is its embedding, name '%s'", options->keys[k],
                           model->projections[0].path);
    }
    return BOMBUS_OK;
}

static bombus_status copy_keys(struct owner *owner, bombus_error *error)
{
    struct bb_trainable_options *options = &owner->trainable.options;
    if (options->keys == NULL)
        return BOMBUS_OK;
    const char **keys = bb_arena_allocate(&owner->arena, options->key_count, sizeof *keys);
    bool is_failed = keys == NULL;
    for (size_t i = 0; i < options->key_count && !is_failed; i++) {
        keys[i] = bb_arena_copy_text(&owner->arena, options->keys[i], strlen(options->keys[i]));
        is_failed = keys[i] == NULL;
    }
    options->keys = keys;
    return is_failed ? bb_fail_memory(error, options->key_count * sizeof *keys, "the keys of what is trained") : BOMBUS_OK;
}

static void add_all(struct maker *maker)
{
    maker->parameter_count = maker->value_count = maker->gain_count = 0;
    maker->owner->trainable.first_layer = recipe_of(maker)->num_hidden_layers;
    if (maker->owner->trainable.options.type == BOMBUS_FINE_TUNE_FULL)
        add_blocks(maker);
    else
        add_pairs(maker);
    if (maker->owner->trainable.trains_embedding)
        maker->owner->trainable.first_layer = 0;
}

static int32_t thread_count(const struct bb_trainable *trainable)
{
    return trainable->options.pool != NULL ? bb_pool_thread_count(trainable->options.pool) : 1;
}

/* Memory for what was counted. */
static void allocate(struct maker *maker)
{
    struct owner *owner = maker->owner;
    struct bb_trainable *trainable = &owner->trainable;
    size_t count;
    if (maker->parameter_count == 0) {
        maker->status = bb_fail(maker->error, BOMBUS_ERROR_ARGUMENT, "nothing is left to train: no key is of the last %d layers",
                                trainable->options.num_layers);
        return;
    }
    trainable->parameters = bb_arena_allocate(&owner->arena, maker->parameter_count, sizeof *trainable->parameters);
    owner->pairs = bb_arena_allocate(&owner->arena, (size_t)owner->base->slot_count, sizeof *owner->pairs);
    owner->widest = maker->widest;
    if (bb_multiply_size((size_t)maker->widest, (size_t)thread_count(trainable), &count))
        owner->rows = bb_arena_allocate(&owner->arena, count, sizeof *owner->rows);
    owner->gains = bb_allocate(maker->gain_count, sizeof *owner->gains);
    if (bb_multiply_size(maker->value_count, 2, &count))
        trainable->values = bb_allocate_aligned(64, count, sizeof(float));
    if (trainable->parameters == NULL || owner->pairs == NULL || owner->rows == NULL || owner->gains == NULL ||
        trainable->values == NULL) {
        maker->status = bb_fail_memory(maker->error, maker->value_count * 2 * sizeof(float), "what is trained");
        return;
    }
    trainable->parameter_count = maker->parameter_count;
    trainable->value_count = maker->value_count;
    trainable->gradients = trainable->values + maker->value_count;
}

bombus_status bb_trainable_create(struct bb_trainable **trainable, const struct bb_model *model, const struct bb_trainable_options *options,
                                  bombus_error *error)
{
    struct owner *owner = bb_allocate(1, sizeof *owner);
    *trainable = NULL;
    if (owner == NULL)
        return bb_fail_memory(error, sizeof *owner, "what is trained");
    owner->base = owner->trainable.model = model;
    owner->trainable.options = *options;
    struct maker maker = {.owner = owner, .error = error};
    maker.status = copy_keys(owner, error);
    if (!has_failed(&maker))
        maker.status = check_options(&maker);
    if (!has_failed(&maker) && options->type == BOMBUS_FINE_TUNE_FULL)
        make_view(&maker);
    if (!has_failed(&maker))
        add_all(&maker);
    if (!has_failed(&maker))
        allocate(&maker);
    maker.is_filling = true;
    if (!has_failed(&maker))
        add_all(&maker);
    if (options->type == BOMBUS_FINE_TUNE_FULL) {
        owner->trainable.model = &owner->view;
    } else {
        owner->use = (struct bb_adapter_use){.pairs = owner->pairs, .slot_count = model->slot_count, .weight = 1.0f};
        owner->set = (struct bb_adapter_set){.uses = &owner->use, .count = 1};
        owner->trainable.set = &owner->set;
    }
    if (!has_failed(&maker))
        maker.status = bb_trainable_refresh(&owner->trainable, error);
    if (has_failed(&maker)) {
        bb_trainable_free(&owner->trainable);
        return maker.status;
    }
    *trainable = &owner->trainable;
    return BOMBUS_OK;
}

void bb_trainable_free(struct bb_trainable *trainable)
{
    struct owner *owner = (struct owner *)trainable;
    if (owner == NULL)
        return;
    bb_release(trainable->values);
    bb_release(owner->gains);
    bb_arena_clear(&owner->arena);
    bb_release(owner);
}

struct gain_job {
    const struct owner *owner;
    const struct bb_weight *weight;
    const struct bb_low_rank *pair;
};

static void gain_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct gain_job *job = context;
    const struct owner *owner = job->owner;
    const int64_t first = (int64_t)chunk * GAIN_ROWS, rest = job->weight->rows - first;
    bb_adapter_gains(job->weight, job->pair, job->pair->magnitudes, first,
                     first + (rest < GAIN_ROWS ? rest : GAIN_ROWS), owner->gains + (job->pair->gains - owner->gains),
                     owner->rows + worker * owner->widest);
}

bombus_status bb_trainable_refresh(struct bb_trainable *trainable, bombus_error *error)
{
    struct owner *owner = (struct owner *)trainable;
    (void)error;
    for (int32_t i = 0; i < owner->base->slot_count && trainable->options.type == BOMBUS_FINE_TUNE_DORA; i++) {
        struct gain_job job = {.owner = owner, .pair = &owner->pairs[i]};
        if (job.pair->gains == NULL || (i == owner->base->head.slot && owner->base->recipe.tie_word_embeddings))
            continue;
        job.weight = &owner->base->slots[i]->weight;
        bb_pool_run(trainable->options.pool, (int32_t)((job.weight->rows + GAIN_ROWS - 1) / GAIN_ROWS), gain_chunk,
                    &job);
    }
    return BOMBUS_OK;
}

void bb_trainable_zero_gradients(struct bb_trainable *trainable)
{
    memset(trainable->gradients, 0, trainable->value_count * sizeof(float));
}

/* ---- files ---- */

/* out[i][c][r] = in[i][r][c] for matrices of `rows` by `cols`. */
static void transpose(float *out, const float *in, size_t count, size_t rows, size_t cols)
{
    for (size_t i = 0; i < count; i++)
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < cols; c++)
                out[(i * cols + c) * rows + r] = in[(i * rows + r) * cols + c];
}

static size_t matrices_of(const struct bb_parameter *parameter)
{
    return parameter->rank == 3 ? (size_t)parameter->shape[0] : 1;
}

/* The values as they lie, but for those that files hold the other way round. */
bombus_status bb_trainable_save(const struct bb_trainable *trainable, const char *path, bombus_error *error)
{
    const size_t count = trainable->parameter_count;
    size_t turned = 0;
    for (size_t i = 0; i < count; i++)
        turned += trainable->parameters[i].is_transposed ? trainable->parameters[i].count : 0;
    struct bb_safetensors_entry *entries = bb_allocate(count, sizeof *entries);
    float *memory = bb_allocate(turned, sizeof *memory), *free_memory = memory;
    bombus_status status = BOMBUS_OK;
    if (entries == NULL || (memory == NULL && turned > 0))
        status = bb_fail_memory(error, turned * sizeof *memory, "the arrays of an adapter");
    for (size_t i = 0; i < count && status == BOMBUS_OK; i++) {
        const struct bb_parameter *parameter = &trainable->parameters[i];
        const float *data = parameter->value;
        if (parameter->is_transposed) { /* memory: [cols, rows] */
            transpose(free_memory, data, matrices_of(parameter), (size_t)parameter->shape[parameter->rank - 1],
                      (size_t)parameter->shape[parameter->rank - 2]);
            data = free_memory;
            free_memory += parameter->count;
        }
        entries[i] = (struct bb_safetensors_entry){.name = parameter->name,
                                                   .dtype = BB_F32,
                                                   .rank = parameter->rank,
                                                   .data = data,
                                                   .size = parameter->count * sizeof *data};
        memcpy(entries[i].shape, parameter->shape, sizeof parameter->shape);
    }
    if (status == BOMBUS_OK)
        status = bb_safetensors_write(path, entries, count, NULL, 0, error);
    bb_release(memory);
    bb_release(entries);
    return status;
}

static bombus_status check_entry(const struct bb_parameter *parameter, const struct bb_safetensors_entry *entry, const char *path, bombus_error *error)
{
    if (entry == NULL)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: tensor '%s' is missing", path, parameter->name);
    bool fits = entry->rank == parameter->rank && bb_dtype_is_weight_float(entry->dtype);
    for (int32_t i = 0; i < entry->rank && fits; i++)
        fits = entry->shape[i] == parameter->shape[i];
    if (fits)
        return BOMBUS_OK;
    char found[BB_SHAPE_TEXT_SIZE], expected[BB_SHAPE_TEXT_SIZE];
    bb_shape_format(found, entry->shape, entry->rank);
    bb_shape_format(expected, parameter->shape, parameter->rank);
    return bb_fail(error, BOMBUS_ERROR_MISMATCH, "%s: tensor '%s' is %s %s, expected F32 %s", path, parameter->name, bb_dtype_name(entry->dtype), found,
                   expected);
}

static bombus_status check_file(const struct bb_trainable *trainable, const struct bb_safetensors *file, const char *path, bombus_error *error)
{
    for (size_t i = 0; i < trainable->parameter_count; i++) {
        const struct bb_parameter *parameter = &trainable->parameters[i];
        bombus_status status = check_entry(parameter, bb_safetensors_find(file, parameter->name), path, error);
        if (status != BOMBUS_OK)
            return status;
    }
    for (size_t i = 0; i < file->count && file->count != trainable->parameter_count; i++) {
        bool is_known = false;
        for (size_t k = 0; k < trainable->parameter_count && !is_known; k++)
            is_known = strcmp(trainable->parameters[k].name, file->entries[i].name) == 0;
        if (!is_known)
            return bb_fail(error, BOMBUS_ERROR_MISMATCH, "%s: tensor '%s' is none of what is trained", path, file->entries[i].name);
    }
    return BOMBUS_OK;
}

bombus_status bb_trainable_load(struct bb_trainable *trainable, const char *path, bombus_error *error)
{
    struct bb_safetensors file;
    bombus_status status = bb_safetensors_open(&file, path, error);
    if (status == BOMBUS_OK)
        status = check_file(trainable, &file, path, error);
    size_t largest = 0;
    for (size_t i = 0; i < trainable->parameter_count; i++)
        largest = trainable->parameters[i].count > largest ? trainable->parameters[i].count : largest;
    float *memory = status == BOMBUS_OK ? bb_allocate(largest, sizeof *memory) : NULL;
    if (memory == NULL && status == BOMBUS_OK)
        status = bb_fail_memory(error, largest * sizeof *memory, "the arrays of an adapter");
    for (size_t i = 0; i < trainable->parameter_count && status == BOMBUS_OK; i++) {
        struct bb_parameter *parameter = &trainable->parameters[i];
        const struct bb_safetensors_entry *entry = bb_safetensors_find(&file, parameter->name);
        const size_t rows = (size_t)parameter->shape[parameter->rank > 1 ? parameter->rank - 2 : 0],
                     cols = (size_t)parameter->shape[parameter->rank - 1];
        bb_dtype_load_row(memory, entry->data, entry->dtype, 0, parameter->count);
        if (parameter->is_transposed)
            transpose(parameter->value, memory, matrices_of(parameter), rows, cols);
        else
            memcpy(parameter->value, memory, parameter->count * sizeof *memory);
    }
    bb_release(memory);
    bb_safetensors_close(&file);
    return status == BOMBUS_OK ? bb_trainable_refresh(trainable, error) : status;
}
