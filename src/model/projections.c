/* The projections of a model by the names that adapters use, and their slots. */
#include "model/weights.h"

#include "model/families/family.h"

#include <stdio.h>
#include <string.h>

enum { PATH_SIZE = 160, PROJECTIONS_A_BLOCK = 8 };

/* A failure to allocate is sticky: `is_failed`. */
struct list {
    struct bb_model *model;
    int32_t layer;
    bool is_failed;
};

static const char *copy_path(struct list *list, const char *name)
{
    char path[PATH_SIZE];
    int length = snprintf(path, sizeof path, "model.layers.%d.%s", list->layer, name);
    const char *copy = bb_arena_copy_text(&list->model->arena, path, (size_t)length);
    list->is_failed = list->is_failed || copy == NULL;
    return copy;
}

/* One of `slot_count` matrices with consecutive slots, the first of which is `first`. */
static struct bb_projection *add(struct list *list, const char *path, const struct bb_linear *first, int32_t slot_count)
{
    struct bb_projection *projection = &list->model->projections[list->model->projection_count++];
    *projection = (struct bb_projection){.path = path,
                                         .rows = first->weight.rows,
                                         .cols = first->weight.cols,
                                         .layer = list->layer,
                                         .first_slot = first->slot,
                                         .slot_count = slot_count};
    for (int32_t i = 0; i < slot_count; i++)
        list->model->slots[first->slot + i] = &first[i];
    return projection;
}

static void add_layer_linear(struct list *list, const char *name, const struct bb_linear *linear)
{
    add(list, copy_path(list, name), linear, 1);
}

/* Views of one matrix: slots in row order. */
static void add_fused(struct list *list, const char *name, const struct bb_linear *const *parts, int32_t count)
{
    struct bb_projection *projection = add(list, copy_path(list, name), parts[0], 1);
    for (int32_t i = 1; i < count; i++) {
        projection->rows += parts[i]->weight.rows;
        list->model->slots[parts[i]->slot] = parts[i];
    }
    projection->slot_count = count;
}

static void add_experts(struct list *list, const char *name, const char *name_of_one, const struct bb_linear *experts)
{
    const struct bb_recipe *recipe = &list->model->recipe;
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s.%s", recipe->names->experts, name);
    struct bb_projection *projection = add(list, copy_path(list, path), experts, recipe->num_experts);
    projection->expert_count = recipe->num_experts;
    if (recipe->names->expert == NULL)
        return;
    projection->expert_path = copy_path(list, recipe->names->expert);
    projection->expert_name = name_of_one;
}

static void add_block(struct list *list, const struct bb_block *block)
{
    const struct bb_recipe *recipe = &list->model->recipe;
    const struct bb_names *names = recipe->names;
    if (names->qkv != NULL) {
        add_fused(list, names->qkv, (const struct bb_linear *const[]){&block->q, &block->k, &block->v}, 3);
    } else {
        add_layer_linear(list, "self_attn.q_proj", &block->q);
        add_layer_linear(list, "self_attn.k_proj", &block->k);
        add_layer_linear(list, "self_attn.v_proj", &block->v);
    }
    add_layer_linear(list, "self_attn.o_proj", &block->o);
    if (recipe->layers[list->layer].has_experts) {
        add_layer_linear(list, names->router, &block->router);
        add_experts(list, "gate_proj", names->expert_gate, block->experts.gate);
        add_experts(list, "up_proj", names->expert_up, block->experts.up);
        add_experts(list, "down_proj", names->expert_down, block->experts.down);
        return;
    }
    if (names->gate_up != NULL) {
        add_fused(list, names->gate_up, (const struct bb_linear *const[]){&block->gate, &block->up}, 2);
    } else {
        add_layer_linear(list, "mlp.gate_proj", &block->gate);
        add_layer_linear(list, "mlp.up_proj", &block->up);
    }
    add_layer_linear(list, "mlp.down_proj", &block->down);
}

bombus_status bb_projections_list(struct bb_model *model, bombus_error *error)
{
    struct list list = {.model = model, .layer = -1};
    size_t limit = (size_t)model->recipe.num_hidden_layers * PROJECTIONS_A_BLOCK + 2;
    struct bb_linear *embedding = bb_arena_allocate(&model->arena, 1, sizeof *embedding);
    model->projections = bb_arena_allocate(&model->arena, limit, sizeof *model->projections);
    model->slots = bb_arena_allocate(&model->arena, (size_t)model->slot_count, sizeof(struct bb_linear *));
    if (embedding == NULL || model->projections == NULL || model->slots == NULL)
        return bb_fail_memory(error, limit * sizeof *model->projections, "the list of projections");
    *embedding = (struct bb_linear){.weight = model->embedding, .slot = model->embedding_slot};
    add(&list, "model.embed_tokens", embedding, 1)->is_embedding = true;
    add(&list, "lm_head", &model->head, 1);
    for (list.layer = 0; list.layer < model->recipe.num_hidden_layers; list.layer++)
        add_block(&list, &model->blocks[list.layer]);
    return list.is_failed ? bb_fail_memory(error, PATH_SIZE, "the names of projections") : BOMBUS_OK;
}

const struct bb_projection *bb_model_projection(const struct bb_model *model, const char *path)
{
    for (int32_t i = 0; i < model->projection_count; i++)
        if (strcmp(model->projections[i].path, path) == 0)
            return &model->projections[i];
    return NULL;
}
