/* Operations as the model code calls them: shapes checked, outputs allocated in the run's scratch memory, the
 * device's table called. */
#include "ops/ops.h"

#include "ops/low_rank.h"
#include "ops/tape.h"

static bool has_failed(const struct bb_run *run)
{
    return run->status != BOMBUS_OK;
}

/* A sticky error unless x is f32 with `columns` columns. */
static bool check_columns(struct bb_run *run, const char *operation, struct bb_tensor x, int64_t columns)
{
    if (has_failed(run))
        return false;
    if (x.dtype != BB_F32 || x.shape[1] != columns || x.shape[2] != 1 || x.shape[3] != 1)
        bb_run_keep(run, bb_fail(&run->error, BOMBUS_ERROR_ARGUMENT,
                                 "%s: input is %s [%lld, %lld, %lld, %lld], expected F32 [rows, %lld]", operation,
                                 bb_dtype_name(x.dtype), (long long)x.shape[0], (long long)x.shape[1],
                                 (long long)x.shape[2], (long long)x.shape[3], (long long)columns));
    return !has_failed(run);
}

static bool check_rows(struct bb_run *run, const char *operation, struct bb_tensor x, int64_t rows)
{
    if (!has_failed(run) && x.shape[0] != rows)
        bb_run_keep(run, bb_fail(&run->error, BOMBUS_ERROR_ARGUMENT, "%s: input has %lld rows, expected %lld",
                                 operation, (long long)x.shape[0], (long long)rows));
    return !has_failed(run);
}

static bool check_same(struct bb_run *run, const char *operation, struct bb_tensor a, struct bb_tensor b)
{
    return check_columns(run, operation, b, a.shape[1]) && check_columns(run, operation, a, b.shape[1]) &&
           check_rows(run, operation, b, a.shape[0]);
}

/* Whether the operation's data is to be touched: it is not while measuring, nor after a failure (of allocating the
 * output). */
static bool is_live(const struct bb_run *run)
{
    return !has_failed(run) && !run->is_measuring;
}

static const struct bb_tensor no_tensor;

static bool is_trained(const struct bb_run *run, const void *value)
{
    return run->tape != NULL && bb_trained_gradient(&run->tape->trained, value) != NULL;
}

/* A copy, for what would else be overwritten while a tape needs it. */
static struct bb_tensor copy_of(struct bb_run *run, struct bb_tensor x)
{
    struct bb_tensor out = bb_run_allocate(run, x.shape[0], x.shape[1], BB_F32);
    if (is_live(run))
        bb_run_keep(run, run->backend->table->copy(run->backend, out.data, x.data,
                                                   (size_t)bb_tensor_count(x) * sizeof(float), &run->error));
    return out;
}

struct bb_tensor bb_op_embed(struct bb_run *run, const struct bb_weight *embedding, const struct bb_batch *batch,
                             float scale)
{
    struct bb_tensor out = bb_run_allocate(run, batch->row_count, embedding->cols, BB_F32);
    if (is_live(run))
        bb_run_keep(run, run->backend->table->embed(run->backend, embedding, batch, scale, out, &run->error));
    return out;
}

struct bb_tensor bb_op_norm(struct bb_run *run, const struct bb_norm *norm, struct bb_tensor x)
{
    struct bb_tensor out = bb_run_allocate(run, x.shape[0], x.shape[1], BB_F32);
    if (!has_failed(run) && (norm->size < 1 || x.shape[1] % norm->size != 0))
        bb_run_keep(run,
                    bb_fail(&run->error, BOMBUS_ERROR_ARGUMENT, "norm: rows of %lld are no multiple of its size %d",
                            (long long)x.shape[1], norm->size));
    if (is_live(run))
        bb_run_keep(run, run->backend->table->norm(run->backend, norm, x, out, &run->error));
    struct bb_record *record =
        bb_tape_add(run, BB_RECORD_NORM, x, no_tensor, no_tensor, out, is_trained(run, norm->weight));
    if (record != NULL)
        record->of.norm = norm;
    return out;
}

/* The input of a projection's low-rank pairs while they are trained. */
static struct bb_tensor drop_out(struct bb_run *run, const struct bb_linear *linear, struct bb_tensor x)
{
    const struct bb_tape *tape = run->tape;
    if (tape->dropout <= 0.0f || (!run->is_measuring && bb_op_terms(run, linear, 0).count == 0))
        return x;
    struct bb_tensor out = bb_run_allocate(run, x.shape[0], x.shape[1], BB_F32);
    if (is_live(run))
        bb_run_keep(run, run->backend->table->dropout(run->backend, x, tape->dropout, tape->seed, linear->slot, false,
                                                      out, &run->error));
    struct bb_record *record = bb_tape_add(run, BB_RECORD_DROPOUT, x, no_tensor, no_tensor, out, false);
    if (record != NULL)
        record->of.linear = linear;
    return out;
}

/* linear(x) with what adapters add, into memory that is there. */
static void linear_into(struct bb_run *run, const struct bb_linear *linear, struct bb_tensor x, struct bb_tensor out)
{
    if (is_live(run)) {
        struct bb_linear_call call = {.linear = linear, .x = x, .out = out, .is_exact = run->is_exact};
        bb_run_keep(run, run->backend->table->linear(run->backend, &call, &run->error));
    }
    struct bb_record *record = bb_tape_add(run, BB_RECORD_LINEAR, x, no_tensor, no_tensor, out,
                                           is_trained(run, linear->weight.data) || is_trained(run, linear->bias));
    if (record != NULL)
        record->of.linear = linear;
    bb_op_low_rank(run, linear, run->tape != NULL ? drop_out(run, linear, x) : x, out);
}

struct bb_tensor bb_op_linear(struct bb_run *run, const struct bb_linear *linear, struct bb_tensor x)
{
    struct bb_tensor out = bb_run_allocate(run, x.shape[0], linear->weight.rows, BB_F32);
    if (check_columns(run, "linear", x, linear->weight.cols))
        linear_into(run, linear, x, out);
    return out;
}

struct bb_tensor bb_op_linear_add(struct bb_run *run, const struct bb_linear *linear, struct bb_tensor x,
                                  struct bb_tensor residual, float scale)
{
    const struct bb_backend_table *table = run->backend->table;
    if (!check_columns(run, "linear_add", x, linear->weight.cols) ||
        !check_columns(run, "linear_add residual", residual, linear->weight.rows) ||
        !check_rows(run, "linear_add", residual, x.shape[0]))
        return residual;
    struct bb_low_rank_terms terms = bb_op_terms(run, linear, 0);
    /* Measuring counts the expansion too, for a batch with gains may come. */
    if (table->linear_add != NULL && run->tape == NULL && !run->is_measuring) {
        if (bb_op_has_gains(terms)) {
            bb_op_linear_add_gains(run, linear, x, residual, scale, terms);
        } else {
            struct bb_linear_add_call call = {.linear = linear,
                                              .x = x,
                                              .residual = residual,
                                              .out = residual,
                                              .scale = scale,
                                              .is_exact = run->is_exact,
                                              .low_rank = terms};
            bb_run_keep(run, table->linear_add(run->backend, &call, &run->error));
        }
        return residual;
    }
    size_t mark = bb_run_mark(run);
    struct bb_tensor out = bb_op_add(run, residual, bb_op_linear(run, linear, x), scale);
    bb_run_release(run, mark);
    return out;
}

/* q or k of an expanded attention_input: normalized and turned, in place unless a tape needs what was there. */
static struct bb_tensor finish_heads(struct bb_run *run, const struct bb_attention_input_call *call,
                                     const struct bb_norm *norm, int32_t heads, struct bb_tensor x)
{
    const struct bb_backend_table *table = run->backend->table;
    if (norm != NULL && run->tape != NULL)
        x = bb_op_norm(run, norm, x);
    else if (norm != NULL && is_live(run))
        bb_run_keep(run, table->norm(run->backend, norm, x, x, &run->error));
    if (call->rope == NULL)
        return x;
    struct bb_tensor out = run->tape != NULL ? copy_of(run, x) : x;
    if (is_live(run))
        bb_run_keep(run, table->rope(run->backend, call->rope, heads, out, call->batch, &run->error));
    struct bb_record *record = bb_tape_add(run, BB_RECORD_ROPE, x, no_tensor, no_tensor, out, false);
    if (record != NULL) {
        record->of.rope.rope = call->rope;
        record->of.rope.heads = heads;
    }
    return out;
}

/* Gives q: call->out, or, under a tape, where the last step put it. */
static struct bb_tensor expand_attention_input(struct bb_run *run, const struct bb_attention_input_call *call)
{
    size_t mark = bb_run_mark(run);
    struct bb_tensor x = call->norm != NULL ? bb_op_norm(run, call->norm, call->x) : call->x;
    linear_into(run, call->q, x, call->out);
    struct bb_tensor k = bb_op_linear(run, call->k, x), v = bb_op_linear(run, call->v, x);
    struct bb_tensor q =
        finish_heads(run, call, call->q_norm, (int32_t)(call->out.shape[1] / call->cache->head_dim), call->out);
    k = finish_heads(run, call, call->k_norm, call->cache->kv_heads, k);
    if (is_live(run))
        bb_run_keep(run, run->backend->table->write_cache(run->backend, call->cache, k, v, call->batch, &run->error));
    if (run->tape != NULL && is_live(run)) {
        run->tape->keys = bb_tape_node(run, k, false);
        run->tape->values = bb_tape_node(run, v, false);
    }
    bb_run_release(run, mark);
    return q;
}

static bool check_cache(struct bb_run *run, const struct bb_kv_view *cache)
{
    if (has_failed(run))
        return false;
    if (cache->kv_heads < 1 || cache->head_dim < 1 || cache->head_dim > BB_KV_HEAD_DIM_LIMIT || cache->page_size < 1 ||
        cache->page_size % BB_KV_TILE != 0 || (64 % cache->page_size != 0 && cache->page_size % 64 != 0))
        bb_run_keep(run,
                    bb_fail(&run->error, BOMBUS_ERROR_ARGUMENT, "attention: a cache of %d heads of %d in pages of %d",
                            cache->kv_heads, cache->head_dim, cache->page_size));
    else if (bb_kv_is_quantized(cache->type) && (cache->group_size < BB_KV_GROUP || cache->head_dim % cache->group_size != 0 ||
                                                 cache->group_size % BB_KV_GROUP != 0))
        bb_run_keep(run, bb_fail(&run->error, BOMBUS_ERROR_UNSUPPORTED,
                                 "a quantized cache needs head_dim (%d) to be a multiple of its group size (%d), and that one of %d",
                                 cache->head_dim, cache->group_size, BB_KV_GROUP));
    return !has_failed(run);
}

static bool check_attention_input(struct bb_run *run, const struct bb_attention_input_call *call)
{
    const struct bb_kv_view *cache = call->cache;
    int64_t hidden = call->x.shape[1], kv_width = (int64_t)cache->kv_heads * cache->head_dim;
    if (!check_columns(run, "attention_input", call->x, call->q->weight.cols) ||
        !check_rows(run, "attention_input", call->x, call->batch->row_count) || !check_cache(run, cache))
        return false;
    bool fits = call->k->weight.cols == hidden && call->v->weight.cols == hidden && call->k->weight.rows == kv_width &&
                call->v->weight.rows == kv_width && call->q->weight.rows % cache->head_dim == 0 &&
                (call->norm == NULL || call->norm->size == hidden) &&
                (call->q_norm == NULL || (call->q_norm->size > 0 && call->q->weight.rows % call->q_norm->size == 0)) &&
                (call->k_norm == NULL || (call->k_norm->size > 0 && kv_width % call->k_norm->size == 0)) &&
                (call->rope == NULL || (call->rope->dims <= cache->head_dim && call->rope->dims % 2 == 0));
    if (!fits)
        bb_run_keep(
            run,
            bb_fail(&run->error, BOMBUS_ERROR_ARGUMENT,
                    "attention_input: q [%lld, %lld], k [%lld, %lld], v [%lld, %lld] do not fit %d heads of %d, or "
                    "their norms or rope",
                    (long long)call->q->weight.rows, (long long)call->q->weight.cols, (long long)call->k->weight.rows,
                    (long long)call->k->weight.cols, (long long)call->v->weight.rows, (long long)call->v->weight.cols,
                    cache->kv_heads, cache->head_dim));
    return fits;
}

struct bb_tensor bb_op_attention_input(struct bb_run *run, const struct bb_attention_input_call *given)
{
    struct bb_attention_input_call call = *given;
    call.is_exact = run->is_exact;
    call.out = bb_run_allocate(run, call.x.shape[0], call.q->weight.rows, BB_F32);
    if (!check_attention_input(run, &call))
        return call.out;
    call.q_low_rank = bb_op_terms(run, call.q, 0);
    call.k_low_rank = bb_op_terms(run, call.k, 1);
    call.v_low_rank = bb_op_terms(run, call.v, 2);
    if (run->backend->table->attention_input == NULL || run->tape != NULL)
        return expand_attention_input(run, &call);
    if (is_live(run))
        bb_run_keep(run, run->backend->table->attention_input(run->backend, &call, &run->error));
    return call.out;
}

struct bb_tensor bb_op_attention(struct bb_run *run, const struct bb_attention_shape *shape,
                                 const struct bb_kv_view *cache, struct bb_tensor q, const struct bb_batch *batch)
{
    struct bb_tensor out = bb_run_allocate(run, q.shape[0], q.shape[1], BB_F32);
    if (!check_cache(run, cache) || !check_columns(run, "attention", q, (int64_t)shape->heads * shape->head_dim) ||
        !check_rows(run, "attention", q, batch->row_count))
        return out;
    if (shape->kv_heads != cache->kv_heads || shape->head_dim != cache->head_dim || shape->heads % shape->kv_heads != 0)
        bb_run_keep(run,
                    bb_fail(&run->error, BOMBUS_ERROR_ARGUMENT, "attention: %d query heads of %d on %d key heads of %d",
                            shape->heads, shape->head_dim, cache->kv_heads, cache->head_dim));
    if (is_live(run))
        bb_run_keep(run, run->backend->table->attention(run->backend, shape, cache, q, batch, out, &run->error));
    if (run->tape != NULL && is_live(run)) {
        const struct bb_node *nodes = run->tape->nodes;
        struct bb_record *record = bb_tape_add(run, BB_RECORD_ATTENTION, q, nodes[run->tape->keys].value,
                                               nodes[run->tape->values].value, out, false);
        if (record != NULL) {
            record->of.attention.shape = shape;
            record->of.attention.window = cache->window;
        }
    }
    return out;
}

struct bb_tensor bb_op_gated_input(struct bb_run *run, const struct bb_gated_input_call *given)
{
    const struct bb_backend_table *table = run->backend->table;
    struct bb_gated_input_call call = *given;
    call.is_exact = run->is_exact;
    call.out = bb_run_allocate(run, call.x.shape[0], call.gate->weight.rows, BB_F32);
    if (!check_columns(run, "gated_input gate", call.x, call.gate->weight.cols) ||
        !check_columns(run, "gated_input up", call.x, call.up->weight.cols))
        return call.out;
    if (call.gate->weight.rows != call.up->weight.rows || (call.norm != NULL && call.norm->size != call.x.shape[1])) {
        bb_run_keep(run, bb_fail(&run->error, BOMBUS_ERROR_ARGUMENT,
                                 "gated_input: gate has %lld rows, up %lld; or the norm's size differs",
                                 (long long)call.gate->weight.rows, (long long)call.up->weight.rows));
        return call.out;
    }
    if (table->gated_input != NULL && run->tape == NULL) {
        call.gate_low_rank = bb_op_terms(run, call.gate, 0);
        call.up_low_rank = bb_op_terms(run, call.up, 1);
        if (is_live(run))
            bb_run_keep(run, table->gated_input(run->backend, &call, &run->error));
        return call.out;
    }
    size_t mark = bb_run_mark(run);
    struct bb_tensor x = call.norm != NULL ? bb_op_norm(run, call.norm, call.x) : call.x;
    struct bb_tensor gate = bb_op_linear(run, call.gate, x), up = bb_op_linear(run, call.up, x);
    if (is_live(run))
        bb_run_keep(run, table->glu(run->backend, call.activation, gate, up, call.out, &run->error));
    struct bb_record *record = bb_tape_add(run, BB_RECORD_GLU, gate, up, no_tensor, call.out, false);
    if (record != NULL)
        record->of.activation = call.activation;
    bb_run_release(run, mark);
    return call.out;
}

struct bb_tensor bb_op_add(struct bb_run *run, struct bb_tensor a, struct bb_tensor b, float scale)
{
    struct bb_tensor out = run->tape != NULL ? bb_run_allocate(run, a.shape[0], a.shape[1], BB_F32) : a;
    if (check_same(run, "add", a, b) && is_live(run))
        bb_run_keep(run, run->backend->table->add(run->backend, a, b, scale, out, &run->error));
    struct bb_record *record = bb_tape_add(run, BB_RECORD_ADD, a, b, no_tensor, out, false);
    if (record != NULL)
        record->of.scale = scale;
    return out;
}

struct bb_tensor bb_op_gather(struct bb_run *run, struct bb_tensor x, const int32_t *rows, int32_t count)
{
    struct bb_tensor out = bb_run_allocate(run, count, x.shape[1], BB_F32);
    if (is_live(run))
        bb_run_keep(run, run->backend->table->gather(run->backend, x, rows, count, out, &run->error));
    struct bb_record *record = bb_tape_add(run, BB_RECORD_GATHER, x, no_tensor, no_tensor, out, false);
    if (record != NULL) {
        record->of.gather.rows = rows;
        record->of.gather.count = count;
    }
    return out;
}

struct bb_tensor bb_op_scale(struct bb_run *run, struct bb_tensor x, float scale, float softcap)
{
    if (is_live(run))
        bb_run_keep(run, run->backend->table->scale(run->backend, scale, softcap, x, &run->error));
    return x;
}

static bool has_trained_experts(struct bb_run *run, const struct bb_experts *experts)
{
    const struct bb_linear *parts[] = {experts->gate, experts->up, experts->down};
    bool is_found = false;
    for (int32_t i = 0; i < 3 * experts->count; i++) {
        const struct bb_linear *linear = &parts[i % 3][i / 3];
        is_found = is_found || is_trained(run, linear->weight.data) || bb_op_is_trained(run, linear);
    }
    return is_found;
}

static void record_experts(struct bb_run *run, const struct bb_experts_call *call, enum bb_routing routing,
                           struct bb_tensor logits)
{
    if (run->tape == NULL || !is_live(run))
        return;
    struct bb_record *record = bb_tape_add(run, BB_RECORD_EXPERTS, logits, call->x, no_tensor, call->out,
                                           has_trained_experts(run, call->experts));
    if (record == NULL)
        return;
    record->of.experts.experts = call->experts;
    record->of.experts.routing = routing;
    record->of.experts.indices = call->indices;
    record->of.experts.weights = call->weights;
}

struct bb_tensor bb_op_experts(struct bb_run *run, const struct bb_experts *experts, enum bb_routing routing,
                               struct bb_tensor logits, struct bb_tensor x)
{
    const struct bb_backend_table *table = run->backend->table;
    struct bb_tensor out = bb_run_allocate(run, x.shape[0], x.shape[1], BB_F32);
    if (!check_columns(run, "route", logits, experts->count) || !check_rows(run, "route", logits, x.shape[0]))
        return out;
    if (experts->per_token < 1 || experts->per_token > experts->count)
        bb_run_keep(run, bb_fail(&run->error, BOMBUS_ERROR_ARGUMENT, "route: %d of %d experts", experts->per_token,
                                 experts->count));
    if (!has_failed(run) && (table->route == NULL || table->experts == NULL))
        bb_run_keep(run, bb_fail(&run->error, BOMBUS_ERROR_UNSUPPORTED, "device %s: mixture models are not there",
                                 table->name));
    size_t mark = bb_run_mark(run);
    struct bb_experts_call call = {.experts = experts,
                                   .x = x,
                                   .indices = bb_run_allocate(run, x.shape[0], experts->per_token, BB_I32),
                                   .weights = bb_run_allocate(run, x.shape[0], experts->per_token, BB_F32),
                                   .out = out,
                                   .is_exact = run->is_exact,
                                   .adapters = bb_op_row_adapters(run),
                                   .use_limit = run->use_limit};
    if (run->tape != NULL) {
        call.dropout = run->tape->dropout;
        call.seed = run->tape->seed;
    }
    if (is_live(run))
        bb_run_keep(run, table->route(run->backend, routing, logits, call.indices, call.weights, &run->error));
    if (is_live(run))
        bb_run_keep(run, table->experts(run->backend, &call, &run->error));
    record_experts(run, &call, routing, logits);
    bb_run_release(run, mark);
    return out;
}
