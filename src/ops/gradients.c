/* The way back over a tape: record by record from the last, each kind by its slot of the device's table. */
#include "ops/gradients.h"

#include "ops/low_rank.h"

struct walk {
    struct bb_run *run;
    struct bb_tape *tape;
    const struct bb_backend_table *table;
    struct bb_backend *backend;
};

static bool is_live(const struct walk *walk)
{
    return walk->run->status == BOMBUS_OK;
}

static bombus_error *error_of(const struct walk *walk)
{
    return &walk->run->error;
}

static struct bb_node *input_of(const struct walk *walk, const struct bb_record *record, int32_t index)
{
    return &walk->tape->nodes[record->inputs[index]];
}

static struct bb_tensor allocate_like(const struct walk *walk, struct bb_tensor tensor)
{
    return bb_run_allocate(walk->run, tensor.shape[0], tensor.shape[1], BB_F32);
}

/* Where the node's gradient is to be written, or, if `adds`, added to. */
static struct bb_tensor open_gradient(const struct walk *walk, struct bb_node *node, bool *adds)
{
    *adds = node->gradient.data != NULL;
    if (!*adds)
        node->gradient = allocate_like(walk, node->value);
    return node->gradient;
}

/* The same for slots that only add. */
static struct bb_tensor open_zeroed(const struct walk *walk, struct bb_node *node)
{
    bool adds;
    struct bb_tensor gradient = open_gradient(walk, node, &adds);
    if (!adds && is_live(walk))
        bb_run_keep(walk->run, walk->table->copy(walk->backend, gradient.data, NULL, (size_t)bb_tensor_count(gradient) * sizeof(float), error_of(walk)));
    return gradient;
}

/* Adds factor * gradient to the node's. With may_take, memory that nobody else needs any more becomes the node's own. */
static void give(const struct walk *walk, struct bb_node *node, struct bb_tensor gradient, float factor, bool may_take)
{
    if (!node->is_wanted || !is_live(walk))
        return;
    if (node->gradient.data != NULL) {
        bb_run_keep(walk->run, walk->table->add(walk->backend, node->gradient, gradient, factor, node->gradient, error_of(walk)));
        return;
    }
    if (may_take) {
        node->gradient = gradient;
    } else {
        node->gradient = allocate_like(walk, node->value);
        if (is_live(walk))
            bb_run_keep(walk->run, walk->table->copy(walk->backend, node->gradient.data, gradient.data, (size_t)bb_tensor_count(gradient) * sizeof(float),
                                         error_of(walk)));
    }
    if (is_live(walk) && factor != 1.0f)
        bb_run_keep(walk->run, walk->table->scale(walk->backend, factor, 0.0f, node->gradient, error_of(walk)));
}

static void walk_linear(const struct walk *walk, const struct bb_record *record, struct bb_tensor d_out)
{
    const struct bb_linear *linear = record->of.linear;
    struct bb_node *x = input_of(walk, record, 0);
    struct bb_linear_weight_grad_call parameters = {.x = x->value,
                                                    .d_out = d_out,
                                                    .d_weight = bb_trained_gradient(&walk->tape->trained, linear->weight.data),
                                                    .d_bias = bb_trained_gradient(&walk->tape->trained, linear->bias)};
    if ((parameters.d_weight != NULL || parameters.d_bias != NULL) && is_live(walk))
        bb_run_keep(walk->run, walk->table->linear_weight_grad(walk->backend, &parameters, error_of(walk)));
    if (!x->is_wanted)
        return;
    struct bb_linear_grad_call call = {.linear = linear, .d_out = d_out, .is_exact = record->is_exact};
    call.d_x = open_gradient(walk, x, &call.adds);
    if (is_live(walk))
        bb_run_keep(walk->run, walk->table->linear_grad(walk->backend, &call, error_of(walk)));
}

static void walk_dropout(const struct walk *walk, const struct bb_record *record, struct bb_tensor d_out)
{
    struct bb_node *x = input_of(walk, record, 0);
    bool adds;
    struct bb_tensor d_x = open_gradient(walk, x, &adds);
    if (is_live(walk))
        bb_run_keep(walk->run, walk->table->dropout(walk->backend, d_out, walk->tape->dropout, walk->tape->seed, record->of.linear->slot, adds, d_x, error_of(walk)));
}

static void walk_low_rank(const struct walk *walk, const struct bb_record *record, struct bb_tensor d_out)
{
    const struct bb_trained *trained = &walk->tape->trained;
    struct bb_node *x = input_of(walk, record, 0);
    struct bb_low_rank_terms terms = bb_op_terms(walk->run, record->of.linear, 0);
    struct bb_low_rank_grad_call call = {
        .linear = record->of.linear, .x = x->value, .out = walk->tape->nodes[record->output].value, .d_out = d_out};
    if (x->is_wanted)
        call.d_x = open_zeroed(walk, x);
    for (int32_t i = 0; i < terms.count && is_live(walk); i++) {
        const struct bb_low_rank *pair = terms.terms[i].pair;
        call.term = terms.terms[i];
        call.d_a = bb_trained_gradient(trained, pair->a);
        call.d_b = bb_trained_gradient(trained, pair->b);
        call.d_magnitudes = bb_trained_gradient(trained, pair->magnitudes);
        bb_run_keep(walk->run, walk->table->low_rank_grad(walk->backend, &call, error_of(walk)));
    }
}

static void walk_embed(const struct walk *walk, const struct bb_record *record, struct bb_tensor d_out)
{
    const struct bb_trained *trained = &walk->tape->trained;
    const struct bb_linear lookup = {.slot = record->of.embed.slot};
    struct bb_low_rank_terms terms = bb_op_terms(walk->run, &lookup, 0);
    struct bb_embed_grad_call call = {.tokens = walk->tape->batch->tokens,
                                      .scale = record->of.embed.scale,
                                      .out = walk->tape->nodes[record->output].value,
                                      .d_out = d_out};
    if (walk->tape->dropout > 0.0f) {
        call.d_added = allocate_like(walk, d_out);
        if (is_live(walk))
            bb_run_keep(walk->run, walk->table->dropout(walk->backend, d_out, walk->tape->dropout, walk->tape->seed,
                                                        lookup.slot, false, call.d_added, error_of(walk)));
    }
    for (int32_t i = 0; i < terms.count && is_live(walk); i++) {
        const struct bb_low_rank *pair = terms.terms[i].pair;
        call.term = terms.terms[i];
        call.d_a = bb_trained_gradient(trained, pair->a);
        call.d_b = bb_trained_gradient(trained, pair->b);
        call.d_magnitudes = bb_trained_gradient(trained, pair->magnitudes);
        if (call.d_a != NULL)
            bb_run_keep(walk->run, walk->table->embed_grad(walk->backend, &call, error_of(walk)));
    }
}

static void walk_norm(const struct walk *walk, const struct bb_record *record, struct bb_tensor d_out)
{
    struct bb_node *x = input_of(walk, record, 0);
    struct bb_norm_grad_call call = {.norm = record->of.norm,
                                     .x = x->value,
                                     .d_out = d_out,
                                     .d_weight = bb_trained_gradient(&walk->tape->trained, record->of.norm->weight)};
    if (x->is_wanted)
        call.d_x = open_gradient(walk, x, &call.adds);
    if (is_live(walk))
        bb_run_keep(walk->run, walk->table->norm_grad(walk->backend, &call, error_of(walk)));
}

static void walk_rope(const struct walk *walk, const struct bb_record *record, struct bb_tensor d_out)
{
    if (is_live(walk))
        bb_run_keep(walk->run, walk->table->rope_grad(walk->backend, record->of.rope.rope, record->of.rope.heads, d_out, walk->tape->batch, error_of(walk)));
    give(walk, input_of(walk, record, 0), d_out, 1.0f, true);
}

static void walk_attention(const struct walk *walk, const struct bb_record *record, struct bb_tensor d_out)
{
    struct bb_node *q = input_of(walk, record, 0), *k = input_of(walk, record, 1), *v = input_of(walk, record, 2);
    struct bb_attention_grad_call call = {.shape = record->of.attention.shape,
                                          .window = record->of.attention.window,
                                          .batch = walk->tape->batch,
                                          .q = q->value,
                                          .k = k->value,
                                          .v = v->value,
                                          .out = walk->tape->nodes[record->output].value,
                                          .d_out = d_out};
    call.d_q = q->gradient = allocate_like(walk, q->value);
    call.d_k = k->gradient = allocate_like(walk, k->value);
    call.d_v = v->gradient = allocate_like(walk, v->value);
    if (is_live(walk))
        bb_run_keep(walk->run, walk->table->attention_grad(walk->backend, &call, error_of(walk)));
}

static void walk_glu(const struct walk *walk, const struct bb_record *record, struct bb_tensor d_out)
{
    struct bb_node *gate = input_of(walk, record, 0), *up = input_of(walk, record, 1);
    gate->gradient = allocate_like(walk, gate->value);
    up->gradient = d_out;
    if (is_live(walk))
        bb_run_keep(walk->run, walk->table->glu_grad(walk->backend, record->of.activation, gate->value, up->value, d_out, gate->gradient, up->gradient,
                                         error_of(walk)));
}

static void walk_gather(const struct walk *walk, const struct bb_record *record, struct bb_tensor d_out)
{
    struct bb_node *x = input_of(walk, record, 0);
    struct bb_tensor d_x = allocate_like(walk, x->value);
    if (is_live(walk))
        bb_run_keep(walk->run, walk->table->gather_grad(walk->backend, d_out, record->of.gather.rows, record->of.gather.count, d_x, error_of(walk)));
    give(walk, x, d_x, 1.0f, true);
}

static void walk_experts(const struct walk *walk, const struct bb_record *record, struct bb_tensor d_out)
{
    struct bb_node *logits = input_of(walk, record, 0), *x = input_of(walk, record, 1);
    struct bb_experts_grad_call call = {
        .forward = {.experts = record->of.experts.experts,
                    .x = x->value,
                    .indices = record->of.experts.indices,
                    .weights = record->of.experts.weights,
                    .is_exact = record->is_exact,
                    .adapters = bb_op_row_adapters(walk->run),
                    .use_limit = walk->run->use_limit,
                    .dropout = walk->tape->dropout,
                    .seed = walk->tape->seed},
        .d_out = d_out,
        .d_weights = allocate_like(walk, record->of.experts.weights),
        .trained = walk->tape->trained,
    };
    call.d_x = open_gradient(walk, x, &call.adds);
    if (is_live(walk))
        bb_run_keep(walk->run, walk->table->experts_grad(walk->backend, &call, error_of(walk)));
    if (!logits->is_wanted)
        return;
    logits->gradient = allocate_like(walk, logits->value);
    if (is_live(walk))
        bb_run_keep(walk->run, walk->table->route_grad(walk->backend, record->of.experts.routing, logits->value, record->of.experts.indices,
                                           record->of.experts.weights, call.d_weights, logits->gradient, error_of(walk)));
}

static void walk_record(const struct walk *walk, const struct bb_record *record, struct bb_tensor d_out)
{
    switch (record->kind) {
    case BB_RECORD_EMBED: walk_embed(walk, record, d_out); break;
    case BB_RECORD_LINEAR: walk_linear(walk, record, d_out); break;
    case BB_RECORD_DROPOUT: walk_dropout(walk, record, d_out); break;
    case BB_RECORD_LOW_RANK: walk_low_rank(walk, record, d_out); break;
    case BB_RECORD_NORM: walk_norm(walk, record, d_out); break;
    case BB_RECORD_ROPE: walk_rope(walk, record, d_out); break;
    case BB_RECORD_ATTENTION: walk_attention(walk, record, d_out); break;
    case BB_RECORD_GLU: walk_glu(walk, record, d_out); break;
    case BB_RECORD_ADD:
        give(walk, input_of(walk, record, 1), d_out, record->of.scale, false);
        give(walk, input_of(walk, record, 0), d_out, 1.0f, true);
        break;
    case BB_RECORD_GATHER: walk_gather(walk, record, d_out); break;
    case BB_RECORD_EXPERTS: walk_experts(walk, record, d_out); break;
    }
}

static struct bb_node *find_node(struct bb_tape *tape, struct bb_tensor tensor)
{
    for (int32_t i = 0; i < tape->node_count; i++)
        if (tape->nodes[i].value.data == tensor.data)
            return &tape->nodes[i];
    return NULL;
}

struct bb_tensor bb_gradients_walk(struct bb_run *run, struct bb_tape *tape, struct bb_tensor output, struct bb_tensor d_output, struct bb_tensor input)
{
    const struct walk walk = {.run = run, .tape = tape, .table = run->backend->table, .backend = run->backend};
    struct bb_node *last = find_node(tape, output), *first = find_node(tape, input);
    if (last != NULL)
        last->gradient = d_output;
    for (int32_t i = tape->record_count - 1; i >= 0 && run->status == BOMBUS_OK; i--) {
        struct bb_tensor d_out = tape->nodes[tape->records[i].output].gradient;
        if (d_out.data != NULL)
            walk_record(&walk, &tape->records[i], d_out);
    }
    return first != NULL ? first->gradient : (struct bb_tensor){0};
}
