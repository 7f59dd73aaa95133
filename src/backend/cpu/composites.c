/* Composites: what stands before the attention, and before the feed-forward's second product, in two or three jobs
 * of the pool; for one row the norm before the products and the activation behind them are so little that the caller
 * does them itself. */
#include "backend/cpu/cpu.h"

#include "backend/cpu/kernels/kernel.h"

/* q and k after their products: normalized, rotated; k and v written to the cache. */
struct heads_job {
    const struct bb_cpu *cpu;
    const struct bb_attention_input_call *call;
    float *q, *k;
    const float *v;
    int64_t q_width, kv_width;
    int32_t tile_count, chunk; /* row tiles, in all and a chunk */
    int32_t part_count;        /* of a tile: runs of key heads with their query heads */
};

static void finish_heads(const struct heads_job *job, float *x, int64_t width, const struct bb_norm *norm,
                         const float *cosines, const float *sines)
{
    const struct bb_row_kernels *kernels = &job->cpu->kernels->rows;
    if (norm != NULL)
        for (int64_t i = 0; i < width; i += norm->size)
            kernels->norm(x + i, x + i, norm);
    if (job->call->rope != NULL)
        for (int64_t i = 0; i < width; i += job->call->cache->head_dim)
            kernels->rope(x + i, job->call->rope, cosines, sines);
}

static void heads_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct heads_job *job = context;
    const struct bb_attention_input_call *call = job->call;
    float cosines[BB_ROPE_DIMS_LIMIT / 2], sines[BB_ROPE_DIMS_LIMIT / 2];
    const int32_t kv_heads = call->cache->kv_heads, part = chunk % job->part_count,
                  first_tile = chunk / job->part_count * job->chunk;
    const int32_t head = part * kv_heads / job->part_count, heads = (part + 1) * kv_heads / job->part_count - head;
    const int64_t group_size = job->q_width / kv_heads, kv_size = job->kv_width / kv_heads;
    (void)worker;
    for (int32_t i = first_tile; i < first_tile + job->chunk && i < job->tile_count; i++) {
        const struct bb_cpu_row_tile tile = bb_cpu_row_tile(call->batch, i);
        for (int32_t row = tile.first_row; row < tile.first_row + tile.row_count; row++) {
            float *q = job->q + row * job->q_width + head * group_size,
                  *k = job->k + row * job->kv_width + head * kv_size;
            if (call->rope != NULL)
                job->cpu->kernels->rows.rope_table(cosines, sines, call->rope, call->batch->positions[row]);
            finish_heads(job, q, heads * group_size, call->q_norm, cosines, sines);
            finish_heads(job, k, heads * kv_size, call->k_norm, cosines, sines);
        }
        bb_cpu_write_tile(job->cpu, call->cache, job->k, job->v, &tile, head, heads);
    }
}

/* One row's heads are shared out too: writing them to the cache waits for memory. */
static int32_t part_count(const struct bb_cpu *cpu, const struct heads_job *job)
{
    const struct bb_attention_input_call *call = job->call;
    const int32_t kv_heads = call->cache->kv_heads, head_dim = call->cache->head_dim,
                  threads = bb_pool_thread_count(cpu->pool);
    const bool has_wide_norm = (call->q_norm != NULL && call->q_norm->size > head_dim) ||
                               (call->k_norm != NULL && call->k_norm->size > head_dim);
    return job->tile_count > 1 || has_wide_norm ? 1 : kv_heads < threads ? kv_heads : threads;
}

static bombus_status attention_input_locked(struct bb_cpu *cpu, const struct bb_attention_input_call *call,
                                            bombus_error *error)
{
    int64_t rows = call->x.shape[0], hidden = call->x.shape[1];
    struct heads_job job = {.cpu = cpu,
                            .call = call,
                            .q = call->out.data,
                            .q_width = call->q->weight.rows,
                            .kv_width = call->k->weight.rows};
    size_t floats = (size_t)rows * (size_t)(job.kv_width * 2 + (call->norm != NULL ? hidden : 0));
    job.k = bb_cpu_scratch(cpu, BB_SCRATCH_INPUT, floats * sizeof(float), error);
    if (job.k == NULL)
        return BOMBUS_ERROR_MEMORY;
    float *v = job.k + rows * job.kv_width, *normalized = v + rows * job.kv_width;
    const float *x = call->x.data;
    job.v = v;
    if (call->norm != NULL) {
        bb_cpu_norm(cpu, call->norm, x, normalized, rows, hidden);
        x = normalized;
    }
    const struct bb_cpu_product products[] = {
        {.linear = call->q, .out = job.q, .out_stride = job.q_width, .scale = 1.0f, .low_rank = call->q_low_rank},
        {.linear = call->k, .out = job.k, .out_stride = job.kv_width, .scale = 1.0f, .low_rank = call->k_low_rank},
        {.linear = call->v, .out = v, .out_stride = job.kv_width, .scale = 1.0f, .low_rank = call->v_low_rank},
    };
    bombus_status status = bb_cpu_multiply(cpu, products, (int32_t)BB_COUNT(products), x, rows, call->is_exact, error);
    if (status != BOMBUS_OK)
        return status;
    /* Tiles hold up to 16 rows, but those of a batch of sequences one each. */
    int64_t entries = rows * (job.q_width + job.kv_width);
    job.tile_count = bb_cpu_row_tile_count(call->batch);
    job.chunk = (int32_t)(BB_CPU_CHUNK * job.tile_count / (entries > 0 ? entries : 1));
    job.chunk = job.chunk > 0 ? job.chunk : 1;
    job.part_count = part_count(cpu, &job);
    bb_cpu_run(cpu, (job.tile_count + job.chunk - 1) / job.chunk * job.part_count, heads_chunk, &job);
    return BOMBUS_OK;
}

static bombus_status attention_input(struct bb_backend *backend, const struct bb_attention_input_call *call,
                                     bombus_error *error)
{
    struct bb_cpu *cpu = (struct bb_cpu *)backend;
    if (call->rope != NULL && call->rope->dims > BB_ROPE_DIMS_LIMIT)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "rope over %d entries: at most %d", call->rope->dims,
                       BB_ROPE_DIMS_LIMIT);
    bb_pool_lock(cpu->pool);
    bombus_status status = attention_input_locked(cpu, call, error);
    bb_pool_unlock(cpu->pool);
    return status;
}

static bombus_status gated_input_locked(struct bb_cpu *cpu, const struct bb_gated_input_call *call, bombus_error *error)
{
    int64_t rows = call->x.shape[0], hidden = call->x.shape[1], width = call->gate->weight.rows;
    size_t floats = (size_t)rows * (size_t)(width + (call->norm != NULL ? hidden : 0));
    float *up = bb_cpu_scratch(cpu, BB_SCRATCH_INPUT, floats * sizeof(float), error), *gate = call->out.data;
    const float *x = call->x.data;
    if (up == NULL)
        return BOMBUS_ERROR_MEMORY;
    if (call->norm != NULL) {
        bb_cpu_norm(cpu, call->norm, x, up + rows * width, rows, hidden);
        x = up + rows * width;
    }
    const struct bb_cpu_product products[] = {
        {.linear = call->gate, .out = gate, .out_stride = width, .scale = 1.0f, .low_rank = call->gate_low_rank},
        {.linear = call->up, .out = up, .out_stride = width, .scale = 1.0f, .low_rank = call->up_low_rank},
    };
    bombus_status status = bb_cpu_multiply(cpu, products, (int32_t)BB_COUNT(products), x, rows, call->is_exact, error);
    if (status == BOMBUS_OK)
        bb_cpu_glu(cpu, call->activation, gate, up, gate, rows * width);
    return status;
}

static bombus_status gated_input(struct bb_backend *backend, const struct bb_gated_input_call *call,
                                 bombus_error *error)
{
    struct bb_cpu *cpu = (struct bb_cpu *)backend;
    bb_pool_lock(cpu->pool);
    bombus_status status = gated_input_locked(cpu, call, error);
    bb_pool_unlock(cpu->pool);
    return status;
}

void bb_cpu_fill_composites(struct bb_backend_table *table)
{
    table->attention_input = attention_input;
    table->gated_input = gated_input;
}
