/* The gradient of attention, from queries, keys and values as rows: the softmax is made again, a tile of queries at a time (Dao et al. 2022, without its
 * tiling of keys: a tile's scores are kept). One chunk is one key head of one span, with all query heads of its group in order, so that each thread has
 * its own part of d_k and d_v. */
#include "backend/cpu/cpu.h"

#include "backend/cpu/kernels/kernel.h"

#include <math.h>
#include <string.h>

enum { TILE_ROWS = 48 };

struct job {
    const struct bb_kernels *kernels;
    const struct bb_attention_grad_call *call;
    float *memory; /* [workers][worker_floats] */
    size_t worker_floats;
};

/* One head of one span. Rows of queries are q_stride apart, of keys kv_stride. */
struct head {
    const struct bb_kernels *kernels;
    const struct bb_attention_shape *shape;
    int32_t length, window, index; /* index: of the query head */
    int64_t q_stride, kv_stride;
    const float *q, *k, *v, *out, *d_out;
    float *d_q, *d_k, *d_v;
    float *keys, *values;   /* transposed: [head_dim, length] */
    float *scores, *d_scores; /* [TILE_ROWS, length] */
};

static void multiply(const struct head *head, float *out, int64_t out_stride, const float *a, int64_t a_row, int64_t a_inner, const float *b,
                     int64_t b_stride, int64_t rows, int64_t inner, int64_t cols)
{
    head->kernels->gradients.multiply_add(&(struct bb_product_task){.out = out,
                                                                    .a = a,
                                                                    .b = b,
                                                                    .rows = rows,
                                                                    .inner = inner,
                                                                    .cols = cols,
                                                                    .out_stride = out_stride,
                                                                    .b_stride = b_stride,
                                                                    .a_row = a_row,
                                                                    .a_inner = a_inner});
}

static int32_t first_seen(const struct head *head, int32_t row)
{
    return head->window > 0 && row >= head->window ? row - head->window + 1 : 0;
}

/* Scores of one row over keys [begin, begin + count) -> shares, 0 where it does not look; `slopes` gets the derivative of the cap times shares. */
static void softmax_row(const struct head *head, int32_t row, int32_t begin, int32_t count, float *scores, float *slopes)
{
    const struct bb_attention_shape *shape = head->shape;
    const int32_t first = first_seen(head, row) - begin, end = row + 1 - begin;
    head->kernels->rows.scale(scores + first, shape->scale, shape->softcap, end - first);
    memset(scores, 0, (size_t)first * sizeof(float));
    memset(scores + end, 0, (size_t)(count - end) * sizeof(float));
    for (int32_t i = first; i < end && shape->softcap > 0.0f; i++) {
        const float share = scores[i] / shape->softcap;
        slopes[i] = 1.0f - share * share;
    }
    float most = head->kernels->gradients.largest(scores + first, end - first), rest = 0.0f;
    if (shape->sinks != NULL) {
        const float sink = bb_dtype_load(shape->sinks, shape->sinks_dtype, (size_t)head->index);
        most = fmaxf(most, sink);
        rest = expf(sink - most);
    }
    const float sum = rest + head->kernels->gradients.exponentials(scores + first, most, end - first), factor = 1.0f / sum;
    for (int32_t i = first; i < end; i++)
        scores[i] *= factor;
    for (int32_t i = 0; i < count && shape->softcap > 0.0f; i++)
        slopes[i] = i >= first && i < end ? slopes[i] * scores[i] : 0.0f;
}

/* Query rows [row, row + rows). */
static void grad_tile(const struct head *head, int32_t row, int32_t rows, float *slopes)
{
    const int32_t dim = head->shape->head_dim, begin = first_seen(head, row), count = row + rows - begin;
    const float *q = head->q + row * head->q_stride, *d_out = head->d_out + row * head->q_stride;
    memset(head->scores, 0, (size_t)rows * (size_t)count * sizeof(float));
    memset(head->d_scores, 0, (size_t)rows * (size_t)count * sizeof(float));
    multiply(head, head->scores, count, q, head->q_stride, 1, head->keys + begin, head->length, rows, dim, count);
    multiply(head, head->d_scores, count, d_out, head->q_stride, 1, head->values + begin, head->length, rows, dim, count);
    for (int32_t i = 0; i < rows; i++) {
        float *shares = head->scores + (int64_t)i * count, *d_scores = head->d_scores + (int64_t)i * count, mean;
        softmax_row(head, row + i, begin, count, shares, slopes);
        const float *factors = head->shape->softcap > 0.0f ? slopes : shares;
        head->kernels->rows.low_rank_sums(&mean, d_out + i * head->q_stride, head->out + (row + i) * head->q_stride, 1, dim);
        for (int32_t k = 0; k < count; k++)
            d_scores[k] = factors[k] * (d_scores[k] - mean) * head->shape->scale;
    }
    multiply(head, head->d_q + row * head->q_stride, head->q_stride, head->d_scores, count, 1, head->k + begin * head->kv_stride, head->kv_stride, rows,
             count, dim);
    multiply(head, head->d_k + begin * head->kv_stride, head->kv_stride, head->d_scores, 1, count, q, head->q_stride, count, rows, dim);
    multiply(head, head->d_v + begin * head->kv_stride, head->kv_stride, head->scores, 1, count, d_out, head->q_stride, count, rows, dim);
}

static void transpose(float *out, const float *in, int64_t stride, int32_t rows, int32_t cols)
{
    for (int32_t i = 0; i < rows; i++)
        for (int32_t c = 0; c < cols; c++)
            out[(int64_t)c * rows + i] = in[i * stride + c];
}

static void clear(float *out, int64_t stride, int32_t rows, int32_t cols)
{
    for (int32_t i = 0; i < rows; i++)
        memset(out + i * stride, 0, (size_t)cols * sizeof(float));
}

static void grad_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct job *job = context;
    const struct bb_attention_grad_call *call = job->call;
    const struct bb_attention_shape *shape = call->shape;
    const struct bb_span *span = &call->batch->spans[chunk / shape->kv_heads];
    const int32_t kv_head = chunk % shape->kv_heads, group = shape->heads / shape->kv_heads, dim = shape->head_dim;
    struct head head = {.kernels = job->kernels, .shape = shape, .length = span->row_count, .window = call->window};
    head.q_stride = (int64_t)shape->heads * dim;
    head.kv_stride = (int64_t)shape->kv_heads * dim;
    const int64_t kv_place = span->first_row * head.kv_stride + kv_head * dim, size = (int64_t)span->row_count * dim;
    head.k = (const float *)call->k.data + kv_place;
    head.v = (const float *)call->v.data + kv_place;
    head.d_k = (float *)call->d_k.data + kv_place;
    head.d_v = (float *)call->d_v.data + kv_place;
    head.keys = job->memory + (size_t)worker * job->worker_floats;
    head.values = head.keys + size;
    head.scores = head.values + size;
    head.d_scores = head.scores + (int64_t)TILE_ROWS * head.length;
    float *slopes = head.d_scores + (int64_t)TILE_ROWS * head.length;
    transpose(head.keys, head.k, head.kv_stride, head.length, dim);
    transpose(head.values, head.v, head.kv_stride, head.length, dim);
    clear(head.d_k, head.kv_stride, head.length, dim);
    clear(head.d_v, head.kv_stride, head.length, dim);
    for (int32_t i = 0; i < group; i++) {
        head.index = kv_head * group + i;
        const int64_t place = span->first_row * head.q_stride + head.index * dim;
        head.q = (const float *)call->q.data + place;
        head.out = (const float *)call->out.data + place;
        head.d_out = (const float *)call->d_out.data + place;
        head.d_q = (float *)call->d_q.data + place;
        clear(head.d_q, head.q_stride, head.length, dim);
        for (int32_t row = 0; row < head.length; row += TILE_ROWS)
            grad_tile(&head, row, head.length - row < TILE_ROWS ? head.length - row : TILE_ROWS, slopes);
    }
}

static bombus_status attention_grad_locked(struct bb_cpu *cpu, const struct bb_attention_grad_call *call, bombus_error *error)
{
    struct job job = {.kernels = cpu->kernels, .call = call};
    size_t longest = 0;
    for (int32_t i = 0; i < call->batch->span_count; i++)
        longest = (size_t)call->batch->spans[i].row_count > longest ? (size_t)call->batch->spans[i].row_count : longest;
    job.worker_floats = (longest * (2 * (size_t)call->shape->head_dim + 2 * TILE_ROWS + 1) + 15) / 16 * 16;
    job.memory = bb_cpu_scratch(cpu, BB_SCRATCH_GRADIENTS, (size_t)bb_pool_thread_count(cpu->pool) * job.worker_floats * sizeof(float), error);
    if (job.memory == NULL)
        return BOMBUS_ERROR_MEMORY;
    bb_cpu_run(cpu, call->batch->span_count * call->shape->kv_heads, grad_chunk, &job);
    return BOMBUS_OK;
}

static bombus_status attention_grad(struct bb_backend *backend, const struct bb_attention_grad_call *call, bombus_error *error)
{
    struct bb_cpu *cpu = (struct bb_cpu *)backend;
    bb_pool_lock(cpu->pool);
    bombus_status status = attention_grad_locked(cpu, call, error);
    bb_pool_unlock(cpu->pool);
    return status;
}

void bb_cpu_fill_attention_gradients(struct bb_backend_table *table)
{
    table->attention_grad = attention_grad;
}
