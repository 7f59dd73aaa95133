/* Operations on rows: norm, rotary embedding, activations, sums. Each is cut into chunks of some 16,000 entries;
 * less than two run at once. */
#include "backend/cpu/cpu.h"

#include "backend/cpu/kernels/kernel.h"

#include <string.h>

static struct bb_cpu *cpu_of(struct bb_backend *backend)
{
    return (struct bb_cpu *)backend;
}

struct norm_job {
    const struct bb_kernels *kernels;
    const struct bb_norm *norm;
    const float *x;
    float *out;
    int64_t count, chunk; /* runs of norm->size entries, in all and a chunk */
};

static void norm_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct norm_job *job = context;
    int64_t first = chunk * job->chunk, end = bb_cpu_min(first + job->chunk, job->count), size = job->norm->size;
    (void)worker;
    for (int64_t i = first; i < end; i++)
        job->kernels->rows.norm(job->out + i * size, job->x + i * size, job->norm);
}

void bb_cpu_norm(struct bb_cpu *cpu, const struct bb_norm *norm, const float *x, float *out, int64_t row_count,
                 int64_t width)
{
    struct norm_job job = {.kernels = cpu->kernels, .norm = norm, .x = x, .out = out};
    job.count = row_count * (width / norm->size);
    job.chunk = bb_cpu_chunk_size(norm->size);
    bb_cpu_run(cpu, bb_cpu_chunk_count(job.count, job.chunk), norm_chunk, &job);
}

static bombus_status norm(struct bb_backend *backend, const struct bb_norm *parameters, struct bb_tensor x,
                          struct bb_tensor out, bombus_error *error)
{
    (void)error;
    bb_cpu_norm(cpu_of(backend), parameters, x.data, out.data, x.shape[0], x.shape[1]);
    return BOMBUS_OK;
}

struct rope_job {
    const struct bb_kernels *kernels;
    const struct bb_rope *rope;
    const struct bb_batch *batch;
    float *x;
    int64_t width, head_dim, chunk;
    bool turns_back;
};

static void rope_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct rope_job *job = context;
    float cosines[BB_ROPE_DIMS_LIMIT / 2], sines[BB_ROPE_DIMS_LIMIT / 2];
    int64_t first = chunk * job->chunk, end = bb_cpu_min(first + job->chunk, job->batch->row_count);
    (void)worker;
    for (int64_t row = first; row < end; row++) {
        job->kernels->rows.rope_table(cosines, sines, job->rope, job->batch->positions[row]);
        for (int32_t i = 0; i < job->rope->dims / 2 && job->turns_back; i++)
            sines[i] = -sines[i];
        for (int64_t i = 0; i < job->width; i += job->head_dim)
            job->kernels->rows.rope(job->x + row * job->width + i, job->rope, cosines, sines);
    }
}

bombus_status bb_cpu_rope(struct bb_cpu *cpu, const struct bb_rope *rope, int32_t heads, struct bb_tensor x,
                          const struct bb_batch *batch, bool turns_back, bombus_error *error)
{
    struct rope_job job = {.kernels = cpu->kernels,
                           .rope = rope,
                           .batch = batch,
                           .x = x.data,
                           .width = x.shape[1],
                           .head_dim = x.shape[1] / heads,
                           .chunk = bb_cpu_chunk_size(x.shape[1]),
                           .turns_back = turns_back};
    if (rope->dims > BB_ROPE_DIMS_LIMIT)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "rope over %d entries: at most %d", rope->dims,
                       BB_ROPE_DIMS_LIMIT);
    bb_cpu_run(cpu, bb_cpu_chunk_count(batch->row_count, job.chunk), rope_chunk, &job);
    return BOMBUS_OK;
}

static bombus_status rope(struct bb_backend *backend, const struct bb_rope *parameters, int32_t heads,
                          struct bb_tensor x, const struct bb_batch *batch, bombus_error *error)
{
    return bb_cpu_rope(cpu_of(backend), parameters, heads, x, batch, false, error);
}

/* What glu, add and scale work on: entries without regard to rows. */
struct entries_job {
    const struct bb_kernels *kernels;
    const float *a, *b;
    float *out;
    int64_t count;
    enum bb_activation activation;
    float scale, softcap;
};

static int64_t entries_of(const struct entries_job *job, int32_t chunk, int64_t *first)
{
    *first = (int64_t)chunk * BB_CPU_CHUNK;
    return bb_cpu_min(BB_CPU_CHUNK, job->count - *first);
}

static void glu_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct entries_job *job = context;
    int64_t first, count = entries_of(job, chunk, &first);
    (void)worker;
    job->kernels->rows.glu(job->out + first, job->a + first, job->b + first, count, job->activation);
}

void bb_cpu_glu(struct bb_cpu *cpu, enum bb_activation activation, const float *gate, const float *up, float *out,
                int64_t count)
{
    struct entries_job job = {
        .kernels = cpu->kernels, .a = gate, .b = up, .out = out, .count = count, .activation = activation};
    bb_cpu_run(cpu, bb_cpu_chunk_count(count, BB_CPU_CHUNK), glu_chunk, &job);
}

static bombus_status glu(struct bb_backend *backend, enum bb_activation activation, struct bb_tensor gate,
                         struct bb_tensor up, struct bb_tensor out, bombus_error *error)
{
    (void)error;
    bb_cpu_glu(cpu_of(backend), activation, gate.data, up.data, out.data, bb_tensor_count(out));
    return BOMBUS_OK;
}

static void add_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct entries_job *job = context;
    int64_t first, count = entries_of(job, chunk, &first);
    (void)worker;
    job->kernels->rows.add(job->out + first, job->a + first, job->b + first, job->scale, count);
}

static bombus_status add(struct bb_backend *backend, struct bb_tensor a, struct bb_tensor b, float factor,
                         struct bb_tensor out, bombus_error *error)
{
    struct entries_job job = {
        .kernels = cpu_of(backend)->kernels, .a = a.data, .b = b.data, .out = out.data, .scale = factor};
    (void)error;
    job.count = bb_tensor_count(out);
    bb_cpu_run(cpu_of(backend), bb_cpu_chunk_count(job.count, BB_CPU_CHUNK), add_chunk, &job);
    return BOMBUS_OK;
}

static void scale_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct entries_job *job = context;
    int64_t first, count = entries_of(job, chunk, &first);
    (void)worker;
    job->kernels->rows.scale(job->out + first, job->scale, job->softcap, count);
}

static bombus_status scale(struct bb_backend *backend, float factor, float softcap, struct bb_tensor x,
                           bombus_error *error)
{
    struct entries_job job = {.kernels = cpu_of(backend)->kernels, .out = x.data, .scale = factor, .softcap = softcap};
    (void)error;
    job.count = bb_tensor_count(x);
    if (factor != 1.0f || softcap > 0.0f)
        bb_cpu_run(cpu_of(backend), bb_cpu_chunk_count(job.count, BB_CPU_CHUNK), scale_chunk, &job);
    return BOMBUS_OK;
}

static bombus_status gather(struct bb_backend *backend, struct bb_tensor x, const int32_t *rows, int32_t count,
                            struct bb_tensor out, bombus_error *error)
{
    size_t width = (size_t)x.shape[1];
    (void)backend;
    for (int32_t i = 0; i < count; i++) {
        if (rows[i] < 0 || rows[i] >= x.shape[0])
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "gather: row %d of %lld", rows[i], (long long)x.shape[0]);
        memcpy((float *)out.data + (size_t)i * width, (const float *)x.data + (size_t)rows[i] * width,
               width * sizeof(float));
    }
    return BOMBUS_OK;
}

void bb_cpu_fill_rows(struct bb_backend_table *table)
{
    table->norm = norm;
    table->rope = rope;
    table->glu = glu;
    table->add = add;
    table->scale = scale;
    table->gather = gather;
}
