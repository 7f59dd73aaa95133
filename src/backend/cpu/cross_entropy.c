/* Cross entropy over the head, a chunk of the vocabulary at a time.
 *
 * Without low-rank pairs one pass does: as in attention with the vocabulary as keys and values (an online softmax, Milakov and Gimelshein 2018), a row
 * keeps its maximum m, s = sum of exp(y - m) and the sum of exp(y - m) * dy/dz * W row, scaled down where m grows; at the end
 *     nll = m + log s - y[target],   d_x = weight * (sum / s - dy/dz[target] * W row of the target).
 * The pairs' own gradients need the shares themselves, so with pairs a second pass makes the logits again once m and s are known. */
#include "backend/cpu/cpu.h"

#include "backend/cpu/kernels/kernel.h"

#include <math.h>
#include <string.h>

enum {
    CHUNK_LOGITS = 1 << 19, /* entries of a chunk's logits: 2 MB */
    LEAST_COLUMNS = 128,
    MOST_COLUMNS = 4096
};

struct job {
    const struct bb_cpu *cpu;
    const struct bb_cross_entropy_call *call;
    int64_t row_count, vocab, hidden;
    int64_t first, columns, stride; /* the chunk's tokens, and floats from one row of logits to the next */
    float *logits, *products;       /* products: the logits before scale and cap, where gains want them; else NULL */
    float *maxima, *sums, *targets, *target_slopes; /* [row_count] */
    struct bb_low_rank_term *terms; /* of the chunk */
    struct bb_low_rank *pairs;
};

/* y of one row in place; the target's y and slope are kept. */
static void cap_row(const struct job *job, int64_t row, float *logits)
{
    const struct bb_cross_entropy_call *call = job->call;
    const int64_t target = call->targets[row] - job->first;
    if (call->scale != 1.0f || call->softcap > 0.0f)
        job->cpu->kernels->rows.scale(logits, call->scale, call->softcap, job->columns);
    if (target < 0 || target >= job->columns)
        return;
    const float share = call->softcap > 0.0f ? logits[target] / call->softcap : 0.0f;
    job->targets[row] = logits[target];
    job->target_slopes[row] = call->scale * (1.0f - share * share);
}

static bool is_graded(const struct job *job, int64_t row)
{
    return job->call->weights != NULL && job->call->weights[row] != 0.0f;
}

/* First pass: the running softmax. With is_single, logits become exp(y - m) * dy/dz, and the row's d_x is scaled to the new maximum. */
static void softmax_row(void *context, int32_t row, int32_t worker)
{
    const struct job *job = context;
    const struct bb_cross_entropy_call *call = job->call;
    float *logits = job->logits + row * job->stride, *d_x = (float *)call->d_x.data + row * job->hidden;
    const bool is_single = call->low_rank.count == 0 && call->weights != NULL;
    (void)worker;
    cap_row(job, row, logits);
    const float most = fmaxf(job->maxima[row], job->cpu->kernels->gradients.largest(logits, job->columns));
    const float fading = expf(job->maxima[row] - most), cap = call->softcap;
    if (is_single && fading != 1.0f && job->first > 0)
        for (int64_t i = 0; i < job->hidden; i++)
            d_x[i] *= fading;
    job->maxima[row] = most;
    job->sums[row] *= fading;
    if (!is_single || cap <= 0.0f) {
        job->sums[row] += job->cpu->kernels->gradients.exponentials(logits, most, job->columns);
        if (is_single && call->scale != 1.0f)
            job->cpu->kernels->rows.scale(logits, call->scale, 0.0f, job->columns);
        return;
    }
    float sum = 0.0f;
    for (int64_t i = 0; i < job->columns; i++) {
        const float share = logits[i] / cap, power = expf(logits[i] - most);
        sum += power;
        logits[i] = power * call->scale * (1.0f - share * share);
    }
    job->sums[row] += sum;
}

/* Second pass: logits become weight * (share - [target]) * dy/dz. */
static void gradient_row(void *context, int32_t row, int32_t worker)
{
    const struct job *job = context;
    const struct bb_cross_entropy_call *call = job->call;
    float *logits = job->logits + row * job->stride;
    const int64_t target = call->targets[row] - job->first;
    const float weight = call->weights[row], total = job->maxima[row] + logf(job->sums[row]);
    (void)worker;
    if (job->products != NULL)
        memcpy(job->products + row * job->stride, logits, (size_t)job->columns * sizeof(float));
    cap_row(job, row, logits);
    for (int64_t i = 0; i < job->columns; i++) {
        const float share = call->softcap > 0.0f ? logits[i] / call->softcap : 0.0f;
        logits[i] = weight == 0.0f ? 0.0f : weight * call->scale * (1.0f - share * share) * (expf(logits[i] - total) - (i == target ? 1.0f : 0.0f));
    }
}

/* The end of the single pass. */
static void finish_row(void *context, int32_t row, int32_t worker)
{
    const struct job *job = context;
    const struct bb_cross_entropy_call *call = job->call;
    float *d_x = (float *)call->d_x.data + row * job->hidden, values[LEAST_COLUMNS];
    const float weight = call->weights[row], factor = weight / job->sums[row], slope = weight * job->target_slopes[row];
    (void)worker;
    if (!is_graded(job, row)) {
        memset(d_x, 0, (size_t)job->hidden * sizeof(float));
        return;
    }
    for (int64_t first = 0; first < job->hidden; first += LEAST_COLUMNS) {
        const int64_t count = job->hidden - first < LEAST_COLUMNS ? job->hidden - first : LEAST_COLUMNS;
        job->cpu->kernels->gradients.unpack(values, &call->head->weight, call->targets[row], first, count);
        for (int64_t i = 0; i < count; i++)
            d_x[first + i] = factor * d_x[first + i] - slope * values[i];
    }
}

/* The head's tokens of the chunk, with their part of the pairs. */
static struct bb_linear head_part(const struct job *job)
{
    const struct bb_linear *head = job->call->head;
    struct bb_linear part = {.weight = bb_weight_rows(&head->weight, job->first, job->columns), .bias_dtype = head->bias_dtype, .slot = head->slot};
    if (head->bias != NULL)
        part.bias = (const char *)head->bias + (size_t)job->first * (bb_dtype_bits(head->bias_dtype) / 8);
    for (int32_t i = 0; i < job->call->low_rank.count; i++) {
        const struct bb_low_rank_term *term = &job->call->low_rank.terms[i];
        job->pairs[i] = *term->pair;
        job->pairs[i].b += job->first;
        job->pairs[i].gains = term->pair->gains != NULL ? term->pair->gains + job->first : NULL;
        job->pairs[i].magnitudes = term->pair->magnitudes != NULL ? term->pair->magnitudes + job->first : NULL;
        job->terms[i] = *term;
        job->terms[i].pair = &job->pairs[i];
    }
    return part;
}

static bombus_status make_logits(struct bb_cpu *cpu, const struct job *job, const struct bb_linear *part, bombus_error *error)
{
    const struct bb_cross_entropy_call *call = job->call;
    struct bb_cpu_product product = {.linear = part, .out = job->logits, .out_stride = job->stride, .scale = 1.0f};
    const struct bb_low_rank_terms terms = {.terms = job->terms, .count = call->low_rank.count};
    if (call->pair_x.data == NULL)
        product.low_rank = terms;
    bombus_status status = bb_cpu_multiply(cpu, &product, 1, call->x.data, job->row_count, call->is_exact, error);
    product.low_rank = terms;
    if (status == BOMBUS_OK && call->pair_x.data != NULL)
        status = bb_cpu_low_rank_apply(cpu, &product, call->pair_x.data, job->row_count, call->is_exact, error);
    return status;
}

/* What the chunk's d logits give to x and to the pairs. */
static bombus_status grad_chunk(struct bb_cpu *cpu, const struct job *job, const struct bb_linear *part, bombus_error *error)
{
    const struct bb_cross_entropy_call *call = job->call;
    const struct bb_tensor logits = {.data = job->logits, .shape = {job->row_count, job->columns, 1, 1}, .dtype = BB_F32};
    struct bb_tensor products = logits;
    bombus_status status = BOMBUS_OK;
    products.data = job->products;
    for (int32_t i = 0; i < call->low_rank.count && status == BOMBUS_OK; i++)
        status =
            bb_cpu_low_rank_grad(cpu,
                                 &(struct bb_low_rank_grad_call){
                                     .linear = part,
                                     .term = job->terms[i],
                                     .x = call->pair_x.data != NULL ? call->pair_x : call->x,
                                     .out = products,
                                     .d_out = logits,
                                     .d_x = call->pair_x.data != NULL ? call->d_pair_x : call->d_x,
                                     .d_a = bb_trained_gradient(&call->trained, job->pairs[i].a),
                                     .d_b = bb_trained_gradient(&call->trained, job->pairs[i].b),
                                     .d_magnitudes = bb_trained_gradient(&call->trained, job->pairs[i].magnitudes)},
                                 error);
    if (status != BOMBUS_OK)
        return status;
    return bb_cpu_linear_grad(cpu, &part->weight, job->logits, job->stride, call->d_x.data, job->row_count, job->first > 0 || call->low_rank.count > 0,
                              call->is_exact, error);
}

/* All chunks: logits, `each_row` on them, and the gradients if they are wanted. */
static bombus_status run_pass(struct bb_cpu *cpu, struct job *job, bb_pool_work each_row, bool is_graded_pass, bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    const int64_t step = job->columns;
    for (job->first = 0; job->first < job->vocab && status == BOMBUS_OK; job->first += step) {
        job->columns = job->vocab - job->first < step ? job->vocab - job->first : step;
        job->stride = job->columns;
        const struct bb_linear part = head_part(job);
        status = make_logits(cpu, job, &part, error);
        if (status == BOMBUS_OK)
            bb_cpu_run(cpu, (int32_t)job->row_count, each_row, job);
        if (status == BOMBUS_OK && is_graded_pass)
            status = grad_chunk(cpu, job, &part, error);
    }
    job->columns = step;
    return status;
}

static bool lay_out(struct bb_cpu *cpu, struct job *job, bombus_error *error)
{
    const int32_t terms = job->call->low_rank.count;
    bool has_gains = false;
    for (int32_t i = 0; i < terms; i++)
        has_gains = has_gains || job->call->low_rank.terms[i].pair->gains != NULL;
    job->columns = CHUNK_LOGITS / job->row_count / LEAST_COLUMNS * LEAST_COLUMNS;
    job->columns = job->columns < LEAST_COLUMNS ? LEAST_COLUMNS : job->columns > MOST_COLUMNS ? MOST_COLUMNS : job->columns;
    const size_t rows = (size_t)job->row_count, logits = rows * (size_t)job->columns;
    const size_t floats = (has_gains ? 2 : 1) * logits + 4 * rows;
    char *memory = bb_cpu_scratch(cpu, BB_SCRATCH_ENTROPY,
                                  (size_t)terms * (sizeof *job->pairs + sizeof *job->terms) + floats * sizeof(float), error);
    if (memory == NULL)
        return false;
    job->pairs = (struct bb_low_rank *)(void *)memory;
    job->terms = (struct bb_low_rank_term *)(void *)(job->pairs + terms);
    job->logits = (float *)(void *)(job->terms + terms);
    job->products = has_gains ? job->logits + logits : NULL;
    job->maxima = job->logits + (has_gains ? 2 : 1) * logits;
    job->sums = job->maxima + rows;
    job->targets = job->sums + rows;
    job->target_slopes = job->targets + rows;
    for (size_t i = 0; i < rows; i++) {
        job->maxima[i] = -INFINITY;
        job->sums[i] = 0.0f;
    }
    return true;
}

static bombus_status cross_entropy_locked(struct bb_cpu *cpu, const struct bb_cross_entropy_call *call, bombus_error *error)
{
    struct job job = {
        .cpu = cpu, .call = call, .row_count = call->x.shape[0], .hidden = call->x.shape[1], .vocab = call->head->weight.rows};
    const bool is_wanted = call->weights != NULL, has_pairs = call->low_rank.count > 0;
    if (!lay_out(cpu, &job, error))
        return BOMBUS_ERROR_MEMORY;
    bombus_status status = run_pass(cpu, &job, softmax_row, is_wanted && !has_pairs, error);
    if (status != BOMBUS_OK)
        return status;
    for (int64_t i = 0; i < job.row_count; i++)
        call->nll[i] = job.maxima[i] + logf(job.sums[i]) - job.targets[i];
    if (!is_wanted)
        return BOMBUS_OK;
    if (!has_pairs) {
        bb_cpu_run(cpu, (int32_t)job.row_count, finish_row, &job);
        return BOMBUS_OK;
    }
    memset(call->d_x.data, 0, (size_t)bb_tensor_count(call->d_x) * sizeof(float));
    if (call->pair_x.data != NULL)
        memset(call->d_pair_x.data, 0, (size_t)bb_tensor_count(call->d_pair_x) * sizeof(float));
    return run_pass(cpu, &job, gradient_row, true, error);
}

static bombus_status cross_entropy(struct bb_backend *backend, const struct bb_cross_entropy_call *call, bombus_error *error)
{
    struct bb_cpu *cpu = (struct bb_cpu *)backend;
    for (int64_t i = 0; i < call->x.shape[0]; i++)
        if (call->targets[i] < 0 || call->targets[i] >= call->head->weight.rows)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "target id %d is not in [0, %lld)", call->targets[i], (long long)call->head->weight.rows);
    if (call->x.shape[0] == 0)
        return BOMBUS_OK;
    bb_pool_lock(cpu->pool);
    bombus_status status = cross_entropy_locked(cpu, call, error);
    bb_pool_unlock(cpu->pool);
    return status;
}

void bb_cpu_fill_cross_entropy(struct bb_backend_table *table)
{
    table->cross_entropy = cross_entropy;
}
