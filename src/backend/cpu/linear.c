/* Products with weights, shared out over the pool: rounds the activations once for all products of a call, then hands out chunks of weight
 * rows. Stands on the kernels (kernels/kernel.h), which do a chunk for a block of rows of x; knows no instruction set. */
#include "backend/cpu/cpu.h"

#include "backend/cpu/kernels/kernel.h"
#include "base/memory.h"
#include "quant/quant_modes.h"

#include <stdatomic.h>

enum {
    /* Of weights, when few rows of x make the product memory-bound: large chunks first, since the more at once, the longer the processor reads
     * ahead undisturbed; then small ones, with which the threads end together. */
    CHUNK_BYTES_LEAST = 100 << 10,
    LARGE_BYTES_MOST = 1600 << 10,
    SMALL_BYTES_MOST = 400 << 10,
    CHUNKS_A_THREAD = 4,
    BLOCK_BYTES = 512 << 10,  /* of activations that pass over a chunk of weights at once: they stay in a core's second cache */
    FEW_ROWS = 16,            /* rows of x up to which memory is the bound */
    UNIT_COUNT = 3,           /* lengths of units: 16, 32, 64 */
    ALIGNMENT = 64,
    SHARE_CHUNKS = 64         /* whose terms wait, at most */
};

/* How a product's weight is cut: the first `large_part` rows into chunks of large_rows, the others of small_rows. */
struct cuts {
    int64_t large_part, large_rows, small_rows;
    int32_t first, large_end, end; /* its chunks, of those of all products in turn: [first, large_end) and [large_end, end) */
};

struct job {
    const struct bb_cpu *cpu;
    const struct bb_cpu_product *products;
    int32_t product_count, chunk_count; /* chunks of one block of rows of x, over all products */
    const float *x;
    int64_t row_count, block_rows; /* of x */
    int32_t parts;                 /* rows of codes for one of them */
    int64_t large_bytes, small_bytes; /* of weights, a chunk, for few rows of x */
    int64_t large_total;              /* bytes of all products' weights in turn that large chunks take */
    struct cuts *cuts;                /* [product_count] */
    bool is_exact;
    struct bb_rounded rounded[UNIT_COUNT]; /* codes NULL: not needed */
    char *worker_scratch;
    size_t worker_bytes, totals_place; /* of each worker's: all, and where the totals of parts begin */
    struct bb_cpu_low_rank *low_rank;
    atomic_int next; /* the first chunk that nobody has taken: of run_share */
};

static size_t align_up(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

static int32_t unit_index(const struct bb_weight *weight)
{
    const int32_t unit = bb_linear_unit(weight);
    return unit == 16 ? 0 : unit == 32 ? 1 : 2;
}

static int64_t weight_row_bytes(const struct bb_weight *weight)
{
    return (int64_t)(bb_weight_row_bytes(weight) + 2 * bb_weight_scale_row_bytes(weight));
}

static int64_t product_bytes(const struct bb_cpu_product *product)
{
    return product->linear->weight.rows * weight_row_bytes(&product->linear->weight);
}

static int64_t limited(int64_t value, int64_t least, int64_t most)
{
    return value < least ? least : value > most ? most : value;
}

/* The sizes of chunks for few rows of x: of several threads the last quarter is for small ones. One thread shares with nobody and takes all at once,
 * but for low-rank terms, which it reads behind the last chunk and asks for in it (ahead_of), and for exact products, whose parts' totals stay in the
 * caches. */
static void size_chunks(struct job *job)
{
    const int32_t threads = bb_pool_thread_count(job->cpu->pool);
    const bool is_alone = threads == 1 && job->parts == 1;
    int64_t bytes = 0;
    for (int32_t i = 0; i < job->product_count; i++)
        bytes += product_bytes(&job->products[i]);
    const int64_t large = bytes / (CHUNKS_A_THREAD * threads), small = threads == 1 ? large : large / 2;
    job->large_bytes = is_alone ? bytes : limited(large, CHUNK_BYTES_LEAST, LARGE_BYTES_MOST);
    job->small_bytes = limited(small, CHUNK_BYTES_LEAST, SMALL_BYTES_MOST);
    job->large_total = threads > 1 ? bytes / 4 * 3 : job->low_rank->sum_count > 0 ? bytes - job->small_bytes : bytes;
}

/* Rows of a weight that make a chunk of so many bytes; of many rows of x as few as a kernel likes, since each is much work. */
static int64_t chunk_rows(const struct job *job, const struct bb_weight *weight, int64_t bytes)
{
    const int64_t step = job->cpu->kernels->linear_rows;
    const int64_t rows = job->row_count > FEW_ROWS ? 0 : bytes / weight_row_bytes(weight) / step * step;
    return rows > step ? rows : step;
}

/* Cuts all products' weights; how many chunks that makes. */
static int64_t cut(const struct job *job)
{
    const int64_t step = job->cpu->kernels->linear_rows;
    int64_t chunks = 0, before_small = job->large_total; /* bytes */
    for (int32_t i = 0; i < job->product_count; i++) {
        const struct bb_weight *weight = &job->products[i].linear->weight;
        const int64_t large_rows = chunk_rows(job, weight, job->large_bytes), small_rows = chunk_rows(job, weight, job->small_bytes);
        const int64_t steps = before_small > 0 ? bb_cpu_chunk_count(before_small, step * weight_row_bytes(weight)) : 0;
        const int64_t part = bb_cpu_min(steps * step, weight->rows);
        const int64_t large = bb_cpu_chunk_count(part, large_rows), small = bb_cpu_chunk_count(weight->rows - part, small_rows);
        job->cuts[i] = (struct cuts){ part, large_rows, small_rows, (int32_t)chunks, (int32_t)(chunks + large), (int32_t)(chunks + large + small) };
        chunks += large + small;
        before_small -= product_bytes(&job->products[i]);
    }
    return chunks;
}

/* What one chunk does: rows of a product's weight, times rows of x. */
struct chunk {
    int32_t index;
    const struct bb_cpu_product *product;
    int64_t first, count;         /* rows of the weight */
    int64_t first_row, row_count; /* rows of x */
};

static struct chunk chunk_at(const struct job *job, int32_t index)
{
    struct chunk chunk = { .index = index, .product = job->products };
    const int32_t place = index % job->chunk_count;
    const struct cuts *cuts = job->cuts;
    while (place >= cuts->end) {
        cuts++;
        chunk.product++;
    }
    const bool is_large = place < cuts->large_end;
    const int64_t rows = is_large ? cuts->large_rows : cuts->small_rows, end = is_large ? cuts->large_part : chunk.product->linear->weight.rows;
    chunk.first = is_large ? (place - cuts->first) * rows : cuts->large_part + (place - cuts->large_end) * rows;
    chunk.count = bb_cpu_min(end - chunk.first, rows);
    chunk.first_row = index / job->chunk_count * job->block_rows;
    chunk.row_count = bb_cpu_min(job->row_count - chunk.first_row, job->block_rows);
    return chunk;
}

/* An exact product of a weight whose activations are rounded. */
static void multiply_parts(const struct bb_kernels *kernels, const struct bb_linear_task *task, float *totals)
{
    struct bb_linear_task parts = *task;
    parts.bias = NULL;
    parts.residual = NULL;
    parts.first_row *= BB_EXACT_PARTS;
    parts.row_count *= BB_EXACT_PARTS;
    parts.out = totals;
    parts.out_stride = task->weight->rows;
    kernels->multiply_rounded(&parts);
    bb_linear_join(task, totals);
}

/* The product of a chunk; while the weights are read, `ahead` is asked for. */
static void multiply_chunk(const struct job *job, const struct chunk *chunk, int32_t worker, const struct bb_ahead *ahead, int32_t ahead_count)
{
    const struct bb_cpu_product *product = chunk->product;
    const struct bb_linear *linear = product->linear;
    const struct bb_kernels *kernels = job->cpu->kernels;
    const int64_t first = chunk->first;
    const struct bb_weight weight = bb_weight_rows(&linear->weight, first, chunk->count);
    const size_t bias_bytes = bb_dtype_bits(linear->bias_dtype) / 8;
    const struct bb_linear_task task = {
        .weight = &weight,
        .bias = linear->bias != NULL ? (const char *)linear->bias + (size_t)first * bias_bytes : NULL,
        .bias_dtype = linear->bias_dtype,
        .scale = product->scale,
        .x = job->x,
        .rounded = &job->rounded[unit_index(&weight)],
        .first_row = chunk->first_row,
        .row_count = chunk->row_count,
        .out = product->out + first,
        .residual = product->residual != NULL ? product->residual + first : NULL,
        .out_stride = product->out_stride,
        .read_ahead = kernels->read_ahead,
        .ahead = ahead,
        .ahead_count = ahead_count,
        .scratch = job->worker_scratch + (size_t)worker * job->worker_bytes,
    };
    if (!bb_linear_is_rounded(&weight))
        kernels->multiply_floats(&task);
    else if (job->parts == 1)
        kernels->multiply_rounded(&task);
    else
        multiply_parts(kernels, &task, (float *)(void *)((char *)task.scratch + job->totals_place));
}

static void add_low_rank(const struct job *job, const struct chunk *chunk)
{
    bb_cpu_low_rank_add(job->low_rank, chunk->product, chunk->first, chunk->count, chunk->first_row, chunk->row_count);
}

static void run_chunk(void *context, int32_t index, int32_t worker)
{
    const struct job *job = context;
    const struct chunk chunk = chunk_at(job, index);
    multiply_chunk(job, &chunk, worker, NULL, 0);
    add_low_rank(job, &chunk);
}

/* What a thread reads behind its last chunk: its share of A, and B's rows of all chunks that it has `done`. It is asked for in that chunk alone:
 * earlier, the weights that come would push it out of the second cache. */
static int32_t ahead_of(const struct job *job, const struct chunk *done, int32_t count, struct bb_ahead *ahead)
{
    const int32_t share = job->chunk_count - 1 - done[count - 1].index;
    if (share >= bb_pool_thread_count(job->cpu->pool))
        return 0;
    int32_t pieces = bb_cpu_low_rank_ahead_sums(job->low_rank, ahead, share);
    for (int32_t i = 0; i < count; i++) {
        int64_t rows = done[i].count;
        const struct chunk *first = &done[i];
        for (; i + 1 < count && done[i + 1].index == done[i].index + 1 && done[i + 1].product == first->product; i++)
            rows += done[i + 1].count;
        pieces = bb_cpu_low_rank_ahead_rows(job->low_rank, ahead, pieces, first->product, first->first, rows);
    }
    return pieces;
}

/* A thread's share of a job with few rows of x and low-rank terms: takes chunks as long as there are any, and only then adds the terms to
 * what it has stored. Each change from weights to pairs and back interrupts the processor's reading ahead, which costs more than reading the
 * pairs. */
static void run_share(void *context, int32_t share, int32_t worker)
{
    struct job *job = context;
    struct chunk done[SHARE_CHUNKS];
    struct bb_ahead ahead[BB_CPU_AHEAD_LIMIT];
    int32_t count = 0;
    (void)share;
    for (;;) {
        const int32_t index = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed);
        if (index >= job->chunk_count || count == SHARE_CHUNKS) {
            for (int32_t i = 0; i < count; i++)
                add_low_rank(job, &done[i]);
            count = 0;
        }
        if (index >= job->chunk_count)
            return;
        done[count++] = chunk_at(job, index);
        multiply_chunk(job, &done[count - 1], worker, ahead, ahead_of(job, done, count, ahead));
    }
}

static void round_tile(void *context, int32_t chunk, int32_t worker)
{
    (void)worker;
    const struct job *job = context;
    const int64_t tile = job->cpu->kernels->rounded_tile, first = chunk * tile, rest = job->row_count - first;
    for (int32_t i = 0; i < UNIT_COUNT; i++) {
        if (job->rounded[i].codes != NULL)
            job->cpu->kernels->round_rows(&job->rounded[i], job->x, first, rest < tile ? rest : tile);
    }
}

/* Places the rounded activations, the workers' scratch and the cuts in the backend's scratch memory. */
static bombus_status place_memory(struct bb_cpu *cpu, struct job *job, int64_t cols, bombus_error *error)
{
    bool is_wanted[UNIT_COUNT] = { false };
    int64_t total_rows = 0; /* of a chunk, in exact products: there large ones are no smaller than small ones */
    for (int32_t i = 0; i < job->product_count; i++) {
        const struct bb_weight *weight = &job->products[i].linear->weight;
        if (!bb_linear_is_rounded(weight))
            continue;
        is_wanted[unit_index(weight)] = true;
        const int64_t most = chunk_rows(job, weight, job->large_bytes);
        total_rows = most > total_rows ? most : total_rows;
    }
    const size_t rows = (size_t)(job->row_count * job->parts);
    size_t bytes = 0, code_bytes = 0, unit_bytes[UNIT_COUNT] = { 0 };
    if (!bb_multiply_size(rows, (size_t)cols + 4 * ALIGNMENT, &code_bytes))
        return bb_fail_memory(error, SIZE_MAX, "rounded activations");
    code_bytes = align_up(code_bytes);
    for (int32_t i = 0; i < UNIT_COUNT; i++) {
        unit_bytes[i] = align_up(rows * (size_t)(cols >> (4 + i)) * sizeof(float) + ALIGNMENT);
        bytes += is_wanted[i] ? code_bytes + 2 * unit_bytes[i] : 0;
    }
    job->totals_place = job->worker_bytes = align_up(cpu->kernels->linear_scratch(cols, job->block_rows * job->parts));
    if (job->parts > 1)
        job->worker_bytes += align_up(rows * (size_t)total_rows * sizeof(float));
    bytes += job->worker_bytes * (size_t)bb_pool_thread_count(cpu->pool) + (size_t)job->product_count * sizeof *job->cuts;
    char *memory = bb_cpu_scratch(cpu, BB_SCRATCH_MULTIPLY, bytes, error);
    if (memory == NULL)
        return BOMBUS_ERROR_MEMORY;
    job->worker_scratch = memory;
    memory += job->worker_bytes * (size_t)bb_pool_thread_count(cpu->pool);
    for (int32_t i = 0; i < UNIT_COUNT; i++) {
        if (!is_wanted[i])
            continue;
        job->rounded[i] = (struct bb_rounded){ .rows = (int64_t)rows, .cols = cols, .parts = job->parts, .unit = 16 << i,
            .tile = bb_rounded_tile(cpu->kernels, (int64_t)rows),
            .codes = (int8_t *)memory, .steps = (float *)(void *)(memory + code_bytes),
            .sums = (float *)(void *)(memory + code_bytes + unit_bytes[i]) };
        memory += code_bytes + 2 * unit_bytes[i];
    }
    job->cuts = (struct cuts *)(void *)memory;
    return BOMBUS_OK;
}

static bombus_status multiply_locked(struct bb_cpu *cpu, struct job *job, bombus_error *error)
{
    const int64_t cols = job->products[0].linear->weight.cols, tile = cpu->kernels->rounded_tile;
    job->block_rows = BLOCK_BYTES / (cols * job->parts) / tile * tile;
    job->block_rows = job->block_rows > 2 * tile ? job->block_rows : 2 * tile;
    struct bb_cpu_low_rank low_rank;
    job->low_rank = &low_rank;
    bombus_status status = bb_cpu_low_rank_begin(cpu, &low_rank, job->products, job->product_count, job->x, job->is_exact, error);
    if (status != BOMBUS_OK)
        return status;
    size_chunks(job);
    status = place_memory(cpu, job, cols, error);
    if (status != BOMBUS_OK)
        return status;
    const int64_t tiles = (job->row_count + tile - 1) / tile, blocks = (job->row_count + job->block_rows - 1) / job->block_rows;
    const int64_t chunks = cut(job);
    if (chunks * blocks > INT32_MAX || tiles > INT32_MAX)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "a product of %lld rows is too large", (long long)job->row_count);
    job->chunk_count = (int32_t)chunks;
    if (job->row_count <= FEW_ROWS) {
        for (int32_t i = 0; i < tiles; i++)
            round_tile(job, i, 0);
    } else {
        bb_pool_run(cpu->pool, (int32_t)tiles, round_tile, job);
    }
    atomic_init(&job->next, 0);
    if (low_rank.sum_count > 0 && blocks == 1 && job->row_count <= FEW_ROWS)
        bb_pool_run(cpu->pool, bb_pool_thread_count(cpu->pool), run_share, job);
    else
        bb_pool_run(cpu->pool, (int32_t)(chunks * blocks), run_chunk, job);
    return BOMBUS_OK;
}

bombus_status bb_cpu_multiply(struct bb_cpu *cpu, const struct bb_cpu_product *products, int32_t product_count, const float *x,
                              int64_t row_count, bool is_exact, bombus_error *error)
{
    if (row_count == 0 || product_count == 0)
        return BOMBUS_OK;
    struct job job = { .cpu = cpu, .products = products, .product_count = product_count, .x = x, .row_count = row_count, .is_exact = is_exact,
        .parts = is_exact ? BB_EXACT_PARTS : 1 };
    bb_pool_lock(cpu->pool);
    bombus_status status = multiply_locked(cpu, &job, error);
    bb_pool_unlock(cpu->pool);
    return status;
}

static bombus_status linear(struct bb_backend *backend, const struct bb_linear_call *call, bombus_error *error)
{
    const struct bb_cpu_product product = { .linear = call->linear, .out = call->out.data, .out_stride = call->linear->weight.rows, .scale = 1.0f };
    return bb_cpu_multiply((struct bb_cpu *)backend, &product, 1, call->x.data, call->x.shape[0], call->is_exact, error);
}

static bombus_status linear_add(struct bb_backend *backend, const struct bb_linear_add_call *call, bombus_error *error)
{
    const struct bb_cpu_product product = { .linear = call->linear, .out = call->out.data, .out_stride = call->linear->weight.rows,
        .residual = call->residual.data, .scale = call->scale, .low_rank = call->low_rank };
    return bb_cpu_multiply((struct bb_cpu *)backend, &product, 1, call->x.data, call->x.shape[0], call->is_exact, error);
}

struct embed_job {
    const struct bb_weight *embedding;
    const int32_t *tokens;
    float scale;
    float *out;
};

static void embed_row(void *context, int32_t chunk, int32_t worker)
{
    (void)worker;
    const struct embed_job *job = context;
    const int64_t cols = job->embedding->cols;
    float *out = job->out + chunk * cols;
    bb_quant_unpack_row(job->embedding, job->tokens[chunk], out);
    for (int64_t i = 0; i < cols; i++)
        out[i] *= job->scale;
}

static bombus_status embed(struct bb_backend *backend, const struct bb_weight *embedding, const struct bb_batch *batch, float scale,
                           struct bb_tensor out, bombus_error *error)
{
    struct bb_cpu *cpu = (struct bb_cpu *)backend;
    for (int32_t i = 0; i < batch->row_count; i++) {
        if (batch->tokens[i] < 0 || batch->tokens[i] >= embedding->rows)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "token id %d is not in [0, %lld)", (int)batch->tokens[i], (long long)embedding->rows);
    }
    struct embed_job job = { .embedding = embedding, .tokens = batch->tokens, .scale = scale, .out = out.data };
    if (batch->row_count <= FEW_ROWS) {
        for (int32_t i = 0; i < batch->row_count; i++)
            embed_row(&job, i, 0);
    } else {
        bb_pool_run(cpu->pool, batch->row_count, embed_row, &job);
    }
    return BOMBUS_OK;
}

void bb_cpu_fill_linear(struct bb_backend_table *table)
{
    table->linear = linear;
    table->linear_add = linear_add;
    table->embed = embed;
}
