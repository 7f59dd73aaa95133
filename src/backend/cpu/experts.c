/* Mixtures of experts: which experts a row takes, and the sum of their outputs. The rows are sorted by expert, so
 * that a step reads each expert's weights once. A row's sum runs over its experts in ascending order, whatever the
 * rows beside it. */
#include "backend/cpu/cpu.h"

#include "backend/cpu/kernels/kernel.h"

#include <math.h>
#include <string.h>

struct route_job {
    enum bb_routing routing;
    const float *logits;
    int32_t *indices;
    float *weights;
    int64_t row_count, chunk;
    int32_t expert_count, chosen_count;
};

/* The k largest, ties to the lower index, as mlx's partition is free to choose. */
static void choose_largest(const float *logits, int32_t count, int32_t chosen_count, int32_t *indices)
{
    for (int32_t rank = 0; rank < chosen_count; rank++) {
        int32_t best = -1;
        for (int32_t expert = 0; expert < count; expert++) {
            bool is_taken = false;
            for (int32_t i = 0; i < rank && !is_taken; i++)
                is_taken = indices[i] == expert;
            if (!is_taken && (best < 0 || logits[expert] > logits[best]))
                best = expert;
        }
        indices[rank] = best;
    }
}

static void route_row(const struct route_job *job, const float *logits, int32_t *indices, float *weights)
{
    choose_largest(logits, job->expert_count, job->chosen_count, indices);
    float largest = logits[indices[0]], sum = 0.0f, chosen_sum = 0.0f;
    for (int32_t i = 0; i < job->chosen_count; i++)
        chosen_sum += weights[i] = expf(logits[indices[i]] - largest);
    if (job->routing == BB_ROUTE_SOFTMAX_TOP)
        for (int32_t expert = 0; expert < job->expert_count; expert++)
            sum += expf(logits[expert] - largest);
    else
        sum = chosen_sum; /* the softmax over all, divided by the sum of the chosen, is the softmax over the chosen */
    for (int32_t i = 0; i < job->chosen_count; i++)
        weights[i] /= sum;
}

static void route_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct route_job *job = context;
    int64_t end = (chunk + 1) * job->chunk < job->row_count ? (chunk + 1) * job->chunk : job->row_count;
    (void)worker;
    for (int64_t row = chunk * job->chunk; row < end; row++)
        route_row(job, job->logits + row * job->expert_count, job->indices + row * job->chosen_count,
                  job->weights + row * job->chosen_count);
}

static bombus_status route(struct bb_backend *backend, enum bb_routing routing, struct bb_tensor logits,
                           struct bb_tensor indices, struct bb_tensor weights, bombus_error *error)
{
    struct route_job job = {
        .routing = routing, .logits = logits.data, .indices = indices.data, .weights = weights.data};
    (void)error;
    job.row_count = logits.shape[0];
    job.expert_count = (int32_t)logits.shape[1];
    job.chosen_count = (int32_t)indices.shape[1];
    job.chunk = BB_CPU_CHUNK / (job.expert_count * job.chosen_count) + 1;
    bb_cpu_run((struct bb_cpu *)backend, (int32_t)((job.row_count + job.chunk - 1) / job.chunk), route_chunk, &job);
    return BOMBUS_OK;
}

/* A row that an expert works on, and the weight of what it gives. */
struct pair {
    int32_t row;
    float weight;
};

/* Memory of one call, in the backend's scratch. */
struct mixture {
    const struct bb_experts_call *call;
    const struct bb_row_kernels *kernels;
    int32_t *ends;                   /* [experts + 1]: pairs of expert e are ends[e] .. ends[e + 1] - 1 */
    struct pair *pairs;              /* [rows * per_token], by expert, then by row */
    struct bb_cpu_product *products; /* [2 * per_token] */
    float *input, *gate, *up, *result;
    int64_t hidden, width;
    int32_t first, count; /* the pairs at work */
    struct bb_low_rank_term *terms; /* [2 * pairs at once * use_limit]: those of the products at work */
    int32_t term_count;
    float *dropped; /* with dropout: what a product's low-rank pairs take, [pairs at once, wider of hidden and width] */
    int32_t *rows; /* and the rows of x whose masks they take */
};

static bool drops_out(const struct mixture *mixture)
{
    return mixture->call->dropout > 0.0f && mixture->call->adapters != NULL;
}

/* Terms of the pairs at work (compact row i is pair first + i) at one expert's projection; consecutive rows of one set are one term. */
static struct bb_low_rank_terms find_terms(struct mixture *mixture, const struct bb_linear *linear)
{
    const struct bb_adapter_set *const *adapters = mixture->call->adapters;
    const struct pair *pairs = mixture->pairs + mixture->first;
    struct bb_low_rank_terms found = {.terms = mixture->terms + mixture->term_count};
    for (int32_t i = 0, rows; i < mixture->count && adapters != NULL; i += rows) {
        const struct bb_adapter_set *set = adapters[pairs[i].row];
        for (rows = 1; i + rows < mixture->count && adapters[pairs[i + rows].row] == set;)
            rows++;
        for (int32_t k = 0; set != NULL && k < set->count; k++) {
            const struct bb_low_rank *pair = bb_adapter_use_pair(&set->uses[k], linear->slot);
            if (pair != NULL)
                mixture->terms[mixture->term_count++] =
                    (struct bb_low_rank_term){.pair = pair, .weight = set->uses[k].weight, .first_row = i, .row_count = rows};
        }
    }
    found.count = (int32_t)(mixture->terms + mixture->term_count - found.terms);
    return found;
}

/* With the terms of the pairs at work, unless these have an input of their own: see add_dropped. */
static struct bb_cpu_product make_product(struct mixture *mixture, const struct bb_linear *linear, float *out)
{
    struct bb_cpu_product product = {.linear = linear, .out = out, .out_stride = linear->weight.rows, .scale = 1.0f};
    if (!drops_out(mixture))
        product.low_rank = find_terms(mixture, linear);
    return product;
}

/* With dropout: over products of the compact rows x, what the terms make of x dropped out. */
static bombus_status add_dropped(struct bb_cpu *cpu, struct mixture *mixture, const struct bb_cpu_product *products,
                                 int32_t count, const float *x, bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    for (int32_t i = 0; i < count && status == BOMBUS_OK && drops_out(mixture); i++) {
        struct bb_cpu_product product = products[i];
        const struct bb_cpu_dropout dropout = {.rate = mixture->call->dropout,
                                               .seed = mixture->call->seed,
                                               .slot = product.linear->slot,
                                               .rows = mixture->rows,
                                               .row_count = mixture->count,
                                               .width = product.linear->weight.cols};
        mixture->term_count = 0;
        product.low_rank = find_terms(mixture, product.linear);
        if (product.low_rank.count == 0)
            continue;
        bb_cpu_drop_out(cpu, &dropout, x, mixture->dropped);
        status = bb_cpu_low_rank_apply(cpu, &product, mixture->dropped, mixture->count, mixture->call->is_exact,
                                       error);
    }
    return status;
}

static void sort_pairs(struct mixture *mixture)
{
    const struct bb_experts_call *call = mixture->call;
    const int32_t *indices = call->indices.data;
    const float *weights = call->weights.data;
    int32_t per_token = call->experts->per_token, count = (int32_t)call->x.shape[0] * per_token, *ends = mixture->ends;
    memset(ends, 0, (size_t)(call->experts->count + 1) * sizeof *ends);
    for (int32_t i = 0; i < count; i++)
        ends[indices[i] + 1]++;
    for (int32_t expert = 0; expert < call->experts->count; expert++)
        ends[expert + 1] += ends[expert];
    /* Filling advances each expert's beginning to its end, which is the next one's beginning: put back below. */
    for (int32_t i = 0; i < count; i++)
        mixture->pairs[ends[indices[i]]++] = (struct pair){.row = i / per_token, .weight = weights[i]};
    for (int32_t expert = call->experts->count; expert > 0; expert--)
        ends[expert] = ends[expert - 1];
    ends[0] = 0;
}

static void gather_row(void *context, int32_t chunk, int32_t worker)
{
    const struct mixture *mixture = context;
    const float *x = mixture->call->x.data;
    (void)worker;
    memcpy(mixture->input + chunk * mixture->hidden, x + mixture->pairs[mixture->first + chunk].row * mixture->hidden,
           (size_t)mixture->hidden * sizeof(float));
}

static void add_row(void *context, int32_t chunk, int32_t worker)
{
    const struct mixture *mixture = context;
    struct pair pair = mixture->pairs[mixture->first + chunk];
    float *out = (float *)mixture->call->out.data + pair.row * mixture->hidden;
    (void)worker;
    mixture->kernels->add(out, out, mixture->result + chunk * mixture->hidden, pair.weight, mixture->hidden);
}

static bombus_status multiply_one(struct bb_cpu *cpu, struct mixture *mixture, const struct bb_linear *linear,
                                  const float *x, float *out, int64_t rows, bombus_error *error)
{
    mixture->term_count = 0;
    struct bb_cpu_product product = make_product(mixture, linear, out);
    bombus_status status = bb_cpu_multiply(cpu, &product, 1, x, rows, mixture->call->is_exact, error);
    return status == BOMBUS_OK ? add_dropped(cpu, mixture, &product, 1, x, error) : status;
}

/* One row: gate and up of all its experts in one job, for they share their input. */
static bombus_status run_single_row(struct bb_cpu *cpu, struct mixture *mixture, bombus_error *error)
{
    const struct bb_experts *experts = mixture->call->experts;
    int32_t chosen = 0;
    mixture->count = 1;
    mixture->term_count = 0;
    for (int32_t expert = 0; expert < experts->count; expert++)
        for (int32_t i = mixture->ends[expert]; i < mixture->ends[expert + 1]; i++, chosen++) {
            mixture->first = i;
            mixture->products[2 * chosen] = make_product(mixture, &experts->gate[expert], mixture->gate + chosen * mixture->width);
            mixture->products[2 * chosen + 1] = make_product(mixture, &experts->up[expert], mixture->up + chosen * mixture->width);
        }
    bombus_status status =
        bb_cpu_multiply(cpu, mixture->products, 2 * chosen, mixture->call->x.data, 1, mixture->call->is_exact, error);
    if (status != BOMBUS_OK)
        return status;
    bb_cpu_glu(cpu, experts->activation, mixture->gate, mixture->up, mixture->gate, chosen * mixture->width);
    for (int32_t expert = 0; expert < experts->count && status == BOMBUS_OK; expert++)
        for (int32_t i = mixture->ends[expert]; i < mixture->ends[expert + 1] && status == BOMBUS_OK; i++) {
            mixture->first = i;
            status = multiply_one(cpu, mixture, &experts->down[expert], mixture->gate + i * mixture->width,
                                  mixture->result, 1, error);
            add_row(mixture, 0, 0);
        }
    return status;
}

static bombus_status run_expert(struct bb_cpu *cpu, struct mixture *mixture, int32_t expert, bombus_error *error)
{
    const struct bb_experts *experts = mixture->call->experts;
    mixture->first = mixture->ends[expert];
    mixture->count = mixture->ends[expert + 1] - mixture->first;
    if (mixture->count == 0)
        return BOMBUS_OK;
    bb_cpu_run(cpu, mixture->count, gather_row, mixture);
    for (int32_t i = 0; i < mixture->count && drops_out(mixture); i++)
        mixture->rows[i] = mixture->pairs[mixture->first + i].row;
    mixture->term_count = 0;
    const struct bb_cpu_product products[] = {
        make_product(mixture, &experts->gate[expert], mixture->gate),
        make_product(mixture, &experts->up[expert], mixture->up),
    };
    bombus_status status =
        bb_cpu_multiply(cpu, products, 2, mixture->input, mixture->count, mixture->call->is_exact, error);
    if (status == BOMBUS_OK)
        status = add_dropped(cpu, mixture, products, 2, mixture->input, error);
    if (status != BOMBUS_OK)
        return status;
    bb_cpu_glu(cpu, experts->activation, mixture->gate, mixture->up, mixture->gate, mixture->count * mixture->width);
    status = multiply_one(cpu, mixture, &experts->down[expert], mixture->gate, mixture->result, mixture->count, error);
    if (status == BOMBUS_OK)
        bb_cpu_run(cpu, mixture->count, add_row, mixture);
    return status;
}

static size_t align(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* Cuts the scratch memory; false, and *error filled, if there is none. */
static bool lay_out(struct bb_cpu *cpu, struct mixture *mixture, bombus_error *error)
{
    const struct bb_experts *experts = mixture->call->experts;
    size_t rows = (size_t)mixture->call->x.shape[0], per_token = (size_t)experts->per_token;
    size_t work_rows =
        rows > 1 ? rows : per_token; /* an expert has at most all rows; a single row keeps all its experts' */
    size_t hidden = (size_t)mixture->hidden, width = (size_t)mixture->width;
    size_t ends = align((size_t)(experts->count + 1) * sizeof *mixture->ends),
           pairs = align(rows * per_token * sizeof *mixture->pairs);
    size_t products = align(2 * per_token * sizeof *mixture->products);
    size_t terms = mixture->call->adapters != NULL
                       ? align(2 * work_rows * (size_t)mixture->call->use_limit * sizeof *mixture->terms)
                       : 0;
    size_t floats = work_rows * 2 * (hidden + width);
    size_t dropped = drops_out(mixture) ? work_rows * (hidden > width ? hidden : width) : 0;
    char *memory = bb_cpu_scratch(
        cpu, BB_SCRATCH_EXPERTS,
        ends + pairs + products + terms + (floats + dropped) * sizeof(float) + work_rows * sizeof(int32_t), error);
    if (memory == NULL)
        return false;
    mixture->ends = (int32_t *)(void *)memory;
    mixture->pairs = (struct pair *)(void *)(memory + ends);
    mixture->products = (struct bb_cpu_product *)(void *)(memory + ends + pairs);
    mixture->terms = (struct bb_low_rank_term *)(void *)(memory + ends + pairs + products);
    mixture->input = (float *)(void *)(memory + ends + pairs + products + terms);
    mixture->result = mixture->input + work_rows * hidden;
    mixture->gate = mixture->result + work_rows * hidden;
    mixture->up = mixture->gate + work_rows * width;
    mixture->dropped = mixture->input + floats;
    mixture->rows = (int32_t *)(void *)(mixture->dropped + dropped);
    return true;
}

static bombus_status experts_locked(struct bb_cpu *cpu, const struct bb_experts_call *call, bombus_error *error)
{
    struct mixture mixture = {.call = call,
                              .kernels = &cpu->kernels->rows,
                              .hidden = call->x.shape[1],
                              .width = call->experts->gate[0].weight.rows};
    bombus_status status = BOMBUS_OK;
    if (!lay_out(cpu, &mixture, error))
        return BOMBUS_ERROR_MEMORY;
    sort_pairs(&mixture);
    memset(call->out.data, 0, (size_t)bb_tensor_count(call->out) * sizeof(float));
    if (call->x.shape[0] == 1 && !drops_out(&mixture))
        return run_single_row(cpu, &mixture, error);
    for (int32_t expert = 0; expert < call->experts->count && status == BOMBUS_OK; expert++)
        status = run_expert(cpu, &mixture, expert, error);
    return status;
}

static bombus_status experts(struct bb_backend *backend, const struct bb_experts_call *call, bombus_error *error)
{
    struct bb_cpu *cpu = (struct bb_cpu *)backend;
    bb_pool_lock(cpu->pool);
    bombus_status status = experts_locked(cpu, call, error);
    bb_pool_unlock(cpu->pool);
    return status;
}

void bb_cpu_fill_experts(struct bb_backend_table *table)
{
    table->route = route;
    table->experts = experts;
}
