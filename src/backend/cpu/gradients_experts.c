/* Gradients of mixtures of experts: through the router's weights, and expert by expert through those that the forward pass chose. Each expert's products
 * are made again for its rows, and walked back as a dense feed-forward would be. */
#include "backend/cpu/cpu.h"

#include "backend/cpu/kernels/kernel.h"

#include <string.h>

/* ---- route ---- */

struct route_job {
    enum bb_routing routing;
    const float *logits, *weights, *d_weights;
    const int32_t *indices;
    float *d_logits;
    int32_t count, chosen; /* experts */
    const struct bb_gradient_kernels *kernels;
};

/* weights = softmax of the chosen (over all: p, where unchosen ones have a share too): d_logit[j] = p[j] * (d_weight[j] - sum of d_weight * weight). */
static void route_row(void *context, int32_t row, int32_t worker)
{
    const struct route_job *job = context;
    const float *weights = job->weights + (int64_t)row * job->chosen, *d_weights = job->d_weights + (int64_t)row * job->chosen;
    const int32_t *indices = job->indices + (int64_t)row * job->chosen;
    float *d_logits = job->d_logits + (int64_t)row * job->count, sum = 0.0f;
    (void)worker;
    for (int32_t i = 0; i < job->chosen; i++)
        sum += weights[i] * d_weights[i];
    memset(d_logits, 0, (size_t)job->count * sizeof(float));
    if (job->routing == BB_ROUTE_SOFTMAX_TOP) {
        memcpy(d_logits, job->logits + (int64_t)row * job->count, (size_t)job->count * sizeof(float));
        const float total = job->kernels->exponentials(d_logits, job->kernels->largest(d_logits, job->count), job->count);
        for (int32_t i = 0; i < job->count; i++)
            d_logits[i] *= -sum / total;
        for (int32_t i = 0; i < job->chosen; i++)
            d_logits[indices[i]] += weights[i] * d_weights[i];
        return;
    }
    for (int32_t i = 0; i < job->chosen; i++)
        d_logits[indices[i]] = weights[i] * (d_weights[i] - sum);
}

static bombus_status route_grad(struct bb_backend *backend, enum bb_routing routing, struct bb_tensor logits, struct bb_tensor indices,
                                struct bb_tensor weights, struct bb_tensor d_weights, struct bb_tensor d_logits, bombus_error *error)
{
    struct bb_cpu *cpu = (struct bb_cpu *)backend;
    struct route_job job = {.routing = routing,
                            .logits = logits.data,
                            .weights = weights.data,
                            .d_weights = d_weights.data,
                            .indices = indices.data,
                            .d_logits = d_logits.data,
                            .count = (int32_t)logits.shape[1],
                            .chosen = (int32_t)indices.shape[1],
                            .kernels = &cpu->kernels->gradients};
    (void)error;
    for (int32_t i = 0; i < logits.shape[0]; i++) /* too little work for threads */
        route_row(&job, i, 0);
    return BOMBUS_OK;
}

/* ---- experts ---- */

/* One expert at work: its rows are gathered; row i is pair `pairs[i]`, row pairs[i] / per_token of x. */
struct mixture {
    const struct bb_experts_grad_call *call;
    const struct bb_kernels *kernels;
    int32_t *pairs;
    int32_t count;
    int64_t hidden, width;
    float *x, *d_x, *result, *d_result;          /* [rows, hidden] */
    float *gate, *up, *inner, *d_gate, *d_inner; /* [rows, width] */
    float *dropped, *d_dropped;                  /* with dropout: what low-rank pairs take, [rows, wider of both] */
    int32_t *rows;                               /* row pairs[i] / per_token of each, whose mask it takes */
    struct bb_low_rank_term *terms;              /* [rows * use_limit] */
};

static bool drops_out(const struct mixture *mixture)
{
    return mixture->call->forward.dropout > 0.0f && mixture->call->forward.adapters != NULL;
}

/* By the masks of the rows at work; or back. */
static void drop_out(struct bb_cpu *cpu, const struct mixture *mixture, const struct bb_linear *linear, const float *x,
                     bool adds, float *out)
{
    const struct bb_cpu_dropout dropout = {.rate = mixture->call->forward.dropout,
                                           .seed = mixture->call->forward.seed,
                                           .slot = linear->slot,
                                           .rows = mixture->rows,
                                           .row_count = mixture->count,
                                           .width = linear->weight.cols,
                                           .adds = adds};
    bb_cpu_drop_out(cpu, &dropout, x, out);
}

static struct bb_tensor matrix(float *data, int64_t rows, int64_t cols)
{
    return (struct bb_tensor){.data = data, .shape = {rows, cols, 1, 1}, .dtype = BB_F32};
}

/* Terms of the gathered rows at a projection, as experts.c has them. */
static struct bb_low_rank_terms find_terms(const struct mixture *mixture, const struct bb_linear *linear)
{
    const struct bb_experts_call *forward = &mixture->call->forward;
    const int32_t per_token = forward->experts->per_token;
    struct bb_low_rank_terms found = {.terms = mixture->terms};
    for (int32_t i = 0, rows; i < mixture->count && forward->adapters != NULL; i += rows) {
        const struct bb_adapter_set *set = forward->adapters[mixture->pairs[i] / per_token];
        for (rows = 1; i + rows < mixture->count && forward->adapters[mixture->pairs[i + rows] / per_token] == set;)
            rows++;
        for (int32_t k = 0; set != NULL && k < set->count; k++) {
            const struct bb_low_rank *pair = bb_adapter_use_pair(&set->uses[k], linear->slot);
            if (pair != NULL)
                mixture->terms[found.count++] =
                    (struct bb_low_rank_term){.pair = pair, .weight = set->uses[k].weight, .first_row = i, .row_count = rows};
        }
    }
    return found;
}

static bombus_status multiply(struct bb_cpu *cpu, const struct mixture *mixture, const struct bb_linear *linear, const float *x, float *out,
                              bombus_error *error)
{
    const struct bb_low_rank_terms terms = find_terms(mixture, linear);
    const bool has_own_input = drops_out(mixture) && terms.count > 0;
    struct bb_cpu_product product = {.linear = linear, .out = out, .out_stride = linear->weight.rows, .scale = 1.0f};
    if (!has_own_input)
        product.low_rank = terms;
    bombus_status status = bb_cpu_multiply(cpu, &product, 1, x, mixture->count, mixture->call->forward.is_exact, error);
    if (status != BOMBUS_OK || !has_own_input)
        return status;
    product.low_rank = terms;
    drop_out(cpu, mixture, linear, x, false, mixture->dropped);
    return bb_cpu_low_rank_apply(cpu, &product, mixture->dropped, mixture->count,
                                       mixture->call->forward.is_exact, error);
}

/* out = linear(x) walked back: d_x (+)=, and the trained parameters. */
static bombus_status walk_linear(struct bb_cpu *cpu, const struct mixture *mixture, const struct bb_linear *linear, float *x, float *out, float *d_out,
                                 float *d_x, bool adds, bombus_error *error)
{
    const struct bb_experts_grad_call *call = mixture->call;
    const int64_t rows = linear->weight.rows, cols = linear->weight.cols;
    const struct bb_low_rank_terms terms = find_terms(mixture, linear);
    const bool has_own_input = drops_out(mixture) && terms.count > 0;
    bombus_status status = BOMBUS_OK;
    if (!adds)
        memset(d_x, 0, (size_t)(mixture->count * cols) * sizeof(float));
    if (has_own_input) {
        drop_out(cpu, mixture, linear, x, false, mixture->dropped);
        memset(mixture->d_dropped, 0, (size_t)(mixture->count * cols) * sizeof(float));
    }
    for (int32_t i = 0; i < terms.count && status == BOMBUS_OK; i++)
        status = bb_cpu_low_rank_grad(
            cpu,
            &(struct bb_low_rank_grad_call){
                .linear = linear,
                .term = terms.terms[i],
                .x = matrix(has_own_input ? mixture->dropped : x, mixture->count, cols),
                .out = matrix(out, mixture->count, rows),
                .d_out = matrix(d_out, mixture->count, rows),
                .d_x = matrix(has_own_input ? mixture->d_dropped : d_x, mixture->count, cols),
                .d_a = bb_trained_gradient(&call->trained, terms.terms[i].pair->a),
                .d_b = bb_trained_gradient(&call->trained, terms.terms[i].pair->b),
                .d_magnitudes = bb_trained_gradient(&call->trained, terms.terms[i].pair->magnitudes)},
            error);
    if (status == BOMBUS_OK && has_own_input)
        drop_out(cpu, mixture, linear, mixture->d_dropped, true, d_x);
    const struct bb_linear_weight_grad_call parameters = {.x = matrix(x, mixture->count, cols),
                                                          .d_out = matrix(d_out, mixture->count, rows),
                                                          .d_weight = bb_trained_gradient(&call->trained, linear->weight.data),
                                                          .d_bias = bb_trained_gradient(&call->trained, linear->bias)};
    if (status == BOMBUS_OK && (parameters.d_weight != NULL || parameters.d_bias != NULL))
        status = cpu->table.linear_weight_grad(&cpu->backend, &parameters, error);
    if (status == BOMBUS_OK)
        status = bb_cpu_linear_grad(cpu, &linear->weight, d_out, rows, d_x, mixture->count, true, call->forward.is_exact, error);
    return status;
}

/* The expert's forward products again, for its rows. */
static bombus_status run_forward(struct bb_cpu *cpu, const struct mixture *mixture, int32_t expert, bombus_error *error)
{
    const struct bb_experts *experts = mixture->call->forward.experts;
    bombus_status status = multiply(cpu, mixture, &experts->gate[expert], mixture->x, mixture->gate, error);
    if (status == BOMBUS_OK)
        status = multiply(cpu, mixture, &experts->up[expert], mixture->x, mixture->up, error);
    if (status == BOMBUS_OK)
        bb_cpu_glu(cpu, experts->activation, mixture->gate, mixture->up, mixture->inner, mixture->count * mixture->width);
    if (status == BOMBUS_OK)
        status = multiply(cpu, mixture, &experts->down[expert], mixture->inner, mixture->result, error);
    return status;
}

static bombus_status run_expert(struct bb_cpu *cpu, struct mixture *mixture, int32_t expert, bombus_error *error)
{
    const struct bb_experts_grad_call *call = mixture->call;
    const struct bb_experts *experts = call->forward.experts;
    const int64_t hidden = mixture->hidden;
    const float *weights = call->forward.weights.data;
    for (int32_t i = 0; i < mixture->count; i++) {
        const int32_t row = mixture->pairs[i] / experts->per_token;
        mixture->rows[i] = row;
        memcpy(mixture->x + i * hidden, (const float *)call->forward.x.data + row * hidden, (size_t)hidden * sizeof(float));
        memcpy(mixture->d_result + i * hidden, (const float *)call->d_out.data + row * hidden, (size_t)hidden * sizeof(float));
    }
    bombus_status status = run_forward(cpu, mixture, expert, error);
    if (status != BOMBUS_OK)
        return status;
    for (int32_t i = 0; i < mixture->count; i++) {
        mixture->kernels->rows.low_rank_sums((float *)call->d_weights.data + mixture->pairs[i], mixture->result + i * hidden,
                                             mixture->d_result + i * hidden, 1, hidden);
        mixture->kernels->rows.scale(mixture->d_result + i * hidden, weights[mixture->pairs[i]], 0.0f, hidden);
    }
    status = walk_linear(cpu, mixture, &experts->down[expert], mixture->inner, mixture->result, mixture->d_result, mixture->d_inner, false, error);
    if (status != BOMBUS_OK)
        return status;
    mixture->kernels->gradients.glu_grad(mixture->d_gate, mixture->d_inner, mixture->gate, mixture->up, mixture->d_inner,
                                         mixture->count * mixture->width, experts->activation);
    status = walk_linear(cpu, mixture, &experts->gate[expert], mixture->x, mixture->gate, mixture->d_gate, mixture->d_x, false, error);
    if (status == BOMBUS_OK)
        status = walk_linear(cpu, mixture, &experts->up[expert], mixture->x, mixture->up, mixture->d_inner, mixture->d_x, true, error);
    for (int32_t i = 0; i < mixture->count && status == BOMBUS_OK; i++) {
        float *d_x = (float *)call->d_x.data + mixture->pairs[i] / experts->per_token * hidden;
        mixture->kernels->rows.add(d_x, d_x, mixture->d_x + i * hidden, 1.0f, hidden);
    }
    return status;
}

static bool lay_out(struct bb_cpu *cpu, struct mixture *mixture, bombus_error *error)
{
    const size_t rows = (size_t)mixture->call->forward.x.shape[0], hidden = (size_t)mixture->hidden, width = (size_t)mixture->width;
    const size_t terms = mixture->call->forward.adapters != NULL ? rows * (size_t)mixture->call->forward.use_limit : 0;
    const size_t wider = drops_out(mixture) ? (hidden > width ? hidden : width) : 0;
    char *memory =
        bb_cpu_scratch(cpu, BB_SCRATCH_GRADIENTS,
                       terms * sizeof *mixture->terms + rows * (4 * hidden + 5 * width + 2 * wider) * sizeof(float) +
                           2 * rows * sizeof *mixture->pairs,
                       error);
    if (memory == NULL)
        return false;
    mixture->terms = (struct bb_low_rank_term *)(void *)memory;
    mixture->x = (float *)(void *)(mixture->terms + terms);
    mixture->d_x = mixture->x + rows * hidden;
    mixture->result = mixture->d_x + rows * hidden;
    mixture->d_result = mixture->result + rows * hidden;
    mixture->gate = mixture->d_result + rows * hidden;
    mixture->up = mixture->gate + rows * width;
    mixture->inner = mixture->up + rows * width;
    mixture->d_gate = mixture->inner + rows * width;
    mixture->d_inner = mixture->d_gate + rows * width;
    mixture->dropped = mixture->d_inner + rows * width;
    mixture->d_dropped = mixture->dropped + rows * wider;
    mixture->pairs = (int32_t *)(void *)(mixture->d_dropped + rows * wider);
    mixture->rows = mixture->pairs + rows;
    return true;
}

static bombus_status experts_grad_locked(struct bb_cpu *cpu, const struct bb_experts_grad_call *call, bombus_error *error)
{
    const struct bb_experts *experts = call->forward.experts;
    const int32_t *indices = call->forward.indices.data, pair_count = (int32_t)call->forward.x.shape[0] * experts->per_token;
    struct mixture mixture = {
        .call = call, .kernels = cpu->kernels, .hidden = call->forward.x.shape[1], .width = experts->gate[0].weight.rows};
    bombus_status status = BOMBUS_OK;
    if (!lay_out(cpu, &mixture, error))
        return BOMBUS_ERROR_MEMORY;
    if (!call->adds)
        memset(call->d_x.data, 0, (size_t)bb_tensor_count(call->d_x) * sizeof(float));
    for (int32_t expert = 0; expert < experts->count && status == BOMBUS_OK; expert++) {
        mixture.count = 0;
        for (int32_t i = 0; i < pair_count; i++)
            if (indices[i] == expert)
                mixture.pairs[mixture.count++] = i;
        if (mixture.count > 0)
            status = run_expert(cpu, &mixture, expert, error);
    }
    return status;
}

static bombus_status experts_grad(struct bb_backend *backend, const struct bb_experts_grad_call *call, bombus_error *error)
{
    struct bb_cpu *cpu = (struct bb_cpu *)backend;
    bb_pool_lock(cpu->pool);
    bombus_status status = experts_grad_locked(cpu, call, error);
    bb_pool_unlock(cpu->pool);
    return status;
}

void bb_cpu_fill_expert_gradients(struct bb_backend_table *table)
{
    table->route_grad = route_grad;
    table->experts_grad = experts_grad;
}
