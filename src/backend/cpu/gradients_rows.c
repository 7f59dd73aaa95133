/* Gradients of operations on rows, dropout and noise. Each is cut into chunks of some 16,000 entries, as in rows.c. */
#include "backend/cpu/cpu.h"

#include "backend/cpu/kernels/kernel.h"
#include "base/random.h"

#include <math.h>
#include <string.h>

static struct bb_cpu *cpu_of(struct bb_backend *backend)
{
    return (struct bb_cpu *)backend;
}

/* ---- norm ---- */

struct norm_job {
    const struct bb_kernels *kernels;
    const struct bb_norm_grad_call *call;
    float *scales; /* [count]: 1 / root mean square of each run; NULL: not kept */
    int64_t count, chunk; /* runs, in all and a chunk */
};

static void norm_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct norm_job *job = context;
    const struct bb_norm_grad_call *call = job->call;
    const int64_t size = call->norm->size, end = bb_cpu_min((chunk + 1) * job->chunk, job->count);
    const float *x = call->x.data, *d_out = call->d_out.data;
    float *d_x = call->d_x.data;
    (void)worker;
    for (int64_t i = chunk * job->chunk; i < end; i++) {
        const float scale =
            job->kernels->gradients.norm_grad(d_x != NULL ? d_x + i * size : NULL, x + i * size, d_out + i * size, call->norm, call->adds);
        if (job->scales != NULL)
            job->scales[i] = scale;
    }
}

enum { WEIGHT_COLUMNS = 64 };

/* d_weight[c] += sum over the runs of d_out * x * scale, in order. */
static void norm_weight_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct norm_job *job = context;
    const int64_t size = job->call->norm->size, first = chunk * WEIGHT_COLUMNS, end = bb_cpu_min(first + WEIGHT_COLUMNS, size);
    const float *x = job->call->x.data, *d_out = job->call->d_out.data;
    (void)worker;
    for (int64_t i = 0; i < job->count; i++)
        for (int64_t c = first; c < end; c++)
            job->call->d_weight[c] += d_out[i * size + c] * x[i * size + c] * job->scales[i];
}

static bombus_status norm_grad_locked(struct bb_cpu *cpu, const struct bb_norm_grad_call *call, bombus_error *error)
{
    const int64_t size = call->norm->size;
    struct norm_job job = {.kernels = cpu->kernels, .call = call, .count = bb_tensor_count(call->x) / size, .chunk = bb_cpu_chunk_size(size)};
    if (call->d_weight != NULL) {
        job.scales = bb_cpu_scratch(cpu, BB_SCRATCH_GRADIENTS, (size_t)job.count * sizeof(float), error);
        if (job.scales == NULL)
            return BOMBUS_ERROR_MEMORY;
    }
    bb_cpu_run(cpu, bb_cpu_chunk_count(job.count, job.chunk), norm_chunk, &job);
    if (call->d_weight != NULL)
        bb_cpu_run(cpu, bb_cpu_chunk_count(size, WEIGHT_COLUMNS), norm_weight_chunk, &job);
    return BOMBUS_OK;
}

static bombus_status norm_grad(struct bb_backend *backend, const struct bb_norm_grad_call *call, bombus_error *error)
{
    struct bb_cpu *cpu = cpu_of(backend);
    bb_pool_lock(cpu->pool);
    bombus_status status = norm_grad_locked(cpu, call, error);
    bb_pool_unlock(cpu->pool);
    return status;
}

/* ---- rotary embedding ---- */

/* A turn's transpose is the turn by the negated angle. */
static bombus_status rope_grad(struct bb_backend *backend, const struct bb_rope *rope, int32_t heads, struct bb_tensor d_x, const struct bb_batch *batch,
                               bombus_error *error)
{
    return bb_cpu_rope(cpu_of(backend), rope, heads, d_x, batch, true, error);
}

/* ---- entries ---- */

struct glu_job {
    const struct bb_kernels *kernels;
    enum bb_activation activation;
    const float *gate, *up, *d_out;
    float *d_gate, *d_up;
    int64_t count;
};

static void glu_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct glu_job *job = context;
    const int64_t first = (int64_t)chunk * BB_CPU_CHUNK, count = bb_cpu_min(BB_CPU_CHUNK, job->count - first);
    (void)worker;
    job->kernels->gradients.glu_grad(job->d_gate + first, job->d_up + first, job->gate + first, job->up + first, job->d_out + first, count,
                                     job->activation);
}

static bombus_status glu_grad(struct bb_backend *backend, enum bb_activation activation, struct bb_tensor gate, struct bb_tensor up,
                              struct bb_tensor d_out, struct bb_tensor d_gate, struct bb_tensor d_up, bombus_error *error)
{
    struct glu_job job = {.kernels = cpu_of(backend)->kernels,
                          .activation = activation,
                          .gate = gate.data,
                          .up = up.data,
                          .d_out = d_out.data,
                          .d_gate = d_gate.data,
                          .d_up = d_up.data,
                          .count = bb_tensor_count(gate)};
    (void)error;
    bb_cpu_run(cpu_of(backend), bb_cpu_chunk_count(job.count, BB_CPU_CHUNK), glu_chunk, &job);
    return BOMBUS_OK;
}

static bombus_status gather_grad(struct bb_backend *backend, struct bb_tensor d_out, const int32_t *rows, int32_t count, struct bb_tensor d_x,
                                 bombus_error *error)
{
    const size_t width = (size_t)d_x.shape[1];
    (void)backend, (void)error;
    memset(d_x.data, 0, (size_t)bb_tensor_count(d_x) * sizeof(float));
    for (int32_t i = 0; i < count; i++)
        memcpy((float *)d_x.data + (size_t)rows[i] * width, (const float *)d_out.data + (size_t)i * width, width * sizeof(float));
    return BOMBUS_OK;
}

/* ---- random numbers: a stream a row, so that any thread finds its own ---- */

struct dropout_job {
    const struct bb_cpu_dropout *dropout;
    const float *x;
    float *out;
    int64_t chunk;
};

static void dropout_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct dropout_job *job = context;
    const struct bb_cpu_dropout *dropout = job->dropout;
    const int64_t end = bb_cpu_min((chunk + 1) * job->chunk, dropout->row_count), width = dropout->width;
    const uint64_t limit = (uint64_t)((double)dropout->rate * 0x1p32);
    const uint64_t slot_seed = bb_random_at(dropout->seed, (uint64_t)dropout->slot);
    const float factor = 1.0f / (1.0f - dropout->rate);
    (void)worker;
    for (int64_t row = chunk * job->chunk; row < end; row++) {
        const uint64_t seed = bb_random_at(slot_seed, (uint64_t)(dropout->rows != NULL ? dropout->rows[row] : row));
        const float *x = job->x + row * width;
        float *out = job->out + row * width;
        for (int64_t i = 0; i < width; i += 2) {
            const uint64_t bits = bb_random_at(seed, (uint64_t)i);
            for (int64_t k = i; k < i + 2 && k < width; k++) {
                const float value = ((k == i ? bits : bits << 32) >> 32) < limit ? 0.0f : x[k] * factor;
                out[k] = dropout->adds ? out[k] + value : value;
            }
        }
    }
}

void bb_cpu_drop_out(struct bb_cpu *cpu, const struct bb_cpu_dropout *dropout, const float *x, float *out)
{
    struct dropout_job job = {.dropout = dropout, .x = x, .out = out, .chunk = bb_cpu_chunk_size(dropout->width)};
    bb_cpu_run(cpu, bb_cpu_chunk_count(dropout->row_count, job.chunk), dropout_chunk, &job);
}

static bombus_status dropout(struct bb_backend *backend, struct bb_tensor x, float rate, uint64_t seed, int32_t slot, bool adds, struct bb_tensor out,
                             bombus_error *error)
{
    const struct bb_cpu_dropout dropout = {
        .rate = rate, .seed = seed, .slot = slot, .row_count = x.shape[0], .width = x.shape[1], .adds = adds};
    (void)error;
    bb_cpu_drop_out(cpu_of(backend), &dropout, x.data, out.data);
    return BOMBUS_OK;
}

struct noise_job {
    const struct bb_batch *batch;
    float *out;
    int64_t width;
    float alpha;
    uint64_t seed;
};

static void noise_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct noise_job *job = context;
    const struct bb_span *span = &job->batch->spans[chunk];
    const float size = job->alpha / sqrtf((float)span->row_count * (float)job->width);
    (void)worker;
    for (int64_t row = span->first_row; row < span->first_row + span->row_count; row++) {
        struct bb_random random = {.seed = bb_random_at(job->seed, (uint64_t)row)};
        for (int64_t i = 0; i < job->width; i++)
            job->out[row * job->width + i] += size * (float)(2.0 * bb_random_uniform(&random) - 1.0);
    }
}

static bombus_status noise(struct bb_backend *backend, const struct bb_batch *batch, float alpha, uint64_t seed, struct bb_tensor x, bombus_error *error)
{
    struct noise_job job = {
        .batch = batch, .out = x.data, .width = x.shape[1], .alpha = alpha, .seed = bb_random_at(seed, UINT64_MAX)};
    (void)error;
    bb_cpu_run(cpu_of(backend), batch->span_count, noise_chunk, &job);
    return BOMBUS_OK;
}

void bb_cpu_fill_row_gradients(struct bb_backend_table *table)
{
    table->norm_grad = norm_grad;
    table->rope_grad = rope_grad;
    table->glu_grad = glu_grad;
    table->gather_grad = gather_grad;
    table->dropout = dropout;
    table->noise = noise;
}
