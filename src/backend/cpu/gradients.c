/* Gradients of products: by their input through any weight, by plain weights, and by low-rank pairs.
 *
 * d_x = d_out W runs along the rows of W as they lie in the file: a chunk is a run of columns of W, whose rows are unpacked in panels that stay in the first
 * cache while all rows of d_out pass over them; so each weight is unpacked once. Every entry is one sum over the rows of W in ascending order, whatever
 * the number of threads. */
#include "backend/cpu/cpu.h"

#include "backend/cpu/kernels/kernel.h"

#include <string.h>

enum {
    PANEL_ROWS = 64,  /* rows of W unpacked at once */
    PANEL_COLS = 128, /* columns a chunk: a multiple of every group, and a cache line of 4-bit codes */
    BLOCK_ROWS = 512, /* rows of d_out that pass over a panel: theirs of d_x stay in the second cache */
    SHORT_COLS = 16,  /* products of bf16 take multiples of this */
    ROWS_A_CHUNK = 16 /* rows of x, or of a plain weight, a chunk */
};

/* ---- by the input ---- */

struct input_job {
    const struct bb_gradient_kernels *kernels;
    const struct bb_weight *weight;
    const float *d_out;
    int64_t d_out_stride;
    float *d_x;
    int64_t row_count;
    bool adds;
    float *panels; /* [workers][PANEL_ROWS * PANEL_COLS] */
    uint16_t *rounded; /* d_out in bf16, [row_count, rounded_stride]; NULL: products are of f32 */
    int64_t rounded_stride; /* even; the last entry may be padding, 0 */
    int32_t column_chunks;
};

/* A panel in bf16: rows of W two and two. */
static void multiply_short(const struct input_job *job, float *panel, float *d_x, int64_t row, int64_t rows, int64_t top, int64_t count, int64_t first,
                           int64_t cols)
{
    uint16_t *pairs = (uint16_t *)(void *)(panel + 2 * PANEL_COLS);
    for (int64_t i = 0; i < count; i += 2) {
        memset(panel + PANEL_COLS, 0, PANEL_COLS * sizeof(float));
        for (int64_t k = i; k < count && k < i + 2; k++)
            job->kernels->unpack(panel + (k - i) * PANEL_COLS, job->weight, top + k, first, cols);
        job->kernels->round_pair(pairs + i * PANEL_COLS, panel, panel + PANEL_COLS, cols);
    }
    job->kernels->multiply_add_short(&(struct bb_short_product_task){.out = d_x,
                                                                     .a = job->rounded + row * job->rounded_stride + top,
                                                                     .b = pairs,
                                                                     .rows = rows,
                                                                     .inner = (count + 1) / 2 * 2,
                                                                     .cols = cols,
                                                                     .out_stride = job->weight->cols,
                                                                     .a_stride = job->rounded_stride,
                                                                     .b_stride = 2 * PANEL_COLS});
}

static void round_chunk(void *context, int32_t row, int32_t worker)
{
    const struct input_job *job = context;
    uint16_t *out = job->rounded + row * job->rounded_stride;
    (void)worker;
    out[job->rounded_stride - 1] = 0;
    job->kernels->round_row(out, job->d_out + row * job->d_out_stride, job->weight->rows);
}

static void input_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct input_job *job = context;
    const struct bb_weight *weight = job->weight;
    const int64_t first = (int64_t)(chunk % job->column_chunks) * PANEL_COLS, cols = bb_cpu_min(PANEL_COLS, weight->cols - first);
    const int64_t row = (int64_t)(chunk / job->column_chunks) * BLOCK_ROWS, rows = bb_cpu_min(BLOCK_ROWS, job->row_count - row);
    float *panel = job->panels + (int64_t)worker * PANEL_ROWS * PANEL_COLS, *d_x = job->d_x + row * weight->cols + first;
    for (int64_t i = 0; i < rows && !job->adds; i++)
        memset(d_x + i * weight->cols, 0, (size_t)cols * sizeof(float));
    for (int64_t top = 0; top < weight->rows; top += PANEL_ROWS) {
        const int64_t count = bb_cpu_min(PANEL_ROWS, weight->rows - top);
        if (job->rounded != NULL) {
            multiply_short(job, panel, d_x, row, rows, top, count, first, cols);
            continue;
        }
        for (int64_t i = 0; i < count; i++)
            job->kernels->unpack(panel + i * PANEL_COLS, weight, top + i, first, cols);
        job->kernels->multiply_add(&(struct bb_product_task){.out = d_x,
                                                             .a = job->d_out + row * job->d_out_stride + top,
                                                             .b = panel,
                                                             .rows = rows,
                                                             .inner = count,
                                                             .cols = cols,
                                                             .out_stride = weight->cols,
                                                             .b_stride = PANEL_COLS,
                                                             .a_row = job->d_out_stride,
                                                             .a_inner = 1});
    }
}

bombus_status bb_cpu_linear_grad(struct bb_cpu *cpu, const struct bb_weight *weight, const float *d_out, int64_t d_out_stride, float *d_x,
                                 int64_t row_count, bool adds, bool is_exact, bombus_error *error)
{
    struct input_job job = {.kernels = &cpu->kernels->gradients,
                            .weight = weight,
                            .d_out = d_out,
                            .d_out_stride = d_out_stride,
                            .d_x = d_x,
                            .row_count = row_count,
                            .adds = adds,
                            .column_chunks = bb_cpu_chunk_count(weight->cols, PANEL_COLS)};
    const size_t panels = (size_t)bb_pool_thread_count(cpu->pool) * PANEL_ROWS * PANEL_COLS;
    const bool is_short = !is_exact && job.kernels->multiply_add_short != NULL && weight->cols % SHORT_COLS == 0;
    job.rounded_stride = (weight->rows + 1) / 2 * 2;
    const size_t rounded = is_short ? (size_t)(row_count * job.rounded_stride) : 0;
    job.panels = bb_cpu_scratch(cpu, BB_SCRATCH_PANELS, panels * sizeof(float) + rounded * sizeof(uint16_t), error);
    if (job.panels == NULL)
        return BOMBUS_ERROR_MEMORY;
    if (is_short) {
        job.rounded = (uint16_t *)(void *)(job.panels + panels);
        bb_cpu_run(cpu, (int32_t)row_count, round_chunk, &job);
    }
    bb_cpu_run(cpu, job.column_chunks * bb_cpu_chunk_count(row_count, BLOCK_ROWS), input_chunk, &job);
    return BOMBUS_OK;
}

static bombus_status linear_grad(struct bb_backend *backend, const struct bb_linear_grad_call *call, bombus_error *error)
{
    struct bb_cpu *cpu = (struct bb_cpu *)backend;
    bb_pool_lock(cpu->pool);
    bombus_status status = bb_cpu_linear_grad(cpu, &call->linear->weight, call->d_out.data, call->d_out.shape[1], call->d_x.data, call->d_out.shape[0],
                                              call->adds, call->is_exact, error);
    bb_pool_unlock(cpu->pool);
    return status;
}

/* ---- by a plain weight ---- */

struct weight_job {
    const struct bb_gradient_kernels *kernels;
    const struct bb_linear_weight_grad_call *call;
};

static void weight_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct weight_job *job = context;
    const struct bb_linear_weight_grad_call *call = job->call;
    const int64_t rows = call->d_out.shape[1], cols = call->x.shape[1], count = call->x.shape[0];
    const int64_t first = (int64_t)chunk * ROWS_A_CHUNK, run = bb_cpu_min(ROWS_A_CHUNK, rows - first);
    const float *d_out = call->d_out.data;
    (void)worker;
    if (call->d_weight != NULL)
        job->kernels->multiply_add(&(struct bb_product_task){.out = call->d_weight + first * cols,
                                                             .a = d_out + first,
                                                             .b = call->x.data,
                                                             .rows = run,
                                                             .inner = count,
                                                             .cols = cols,
                                                             .out_stride = cols,
                                                             .b_stride = cols,
                                                             .a_row = 1,
                                                             .a_inner = rows});
    for (int64_t i = 0; i < count && call->d_bias != NULL; i++)
        for (int64_t r = first; r < first + run; r++)
            call->d_bias[r] += d_out[i * rows + r];
}

static bombus_status linear_weight_grad(struct bb_backend *backend, const struct bb_linear_weight_grad_call *call, bombus_error *error)
{
    struct bb_cpu *cpu = (struct bb_cpu *)backend;
    struct weight_job job = {.kernels = &cpu->kernels->gradients, .call = call};
    (void)error;
    bb_cpu_run(cpu, bb_cpu_chunk_count(call->d_out.shape[1], ROWS_A_CHUNK), weight_chunk, &job);
    return BOMBUS_OK;
}

/* ---- by a low-rank pair ---- */

struct pair_job {
    const struct bb_cpu *cpu;
    const struct bb_low_rank_grad_call *call;
    const float *x, *out;
    float *d_out, *d_x;      /* of the term's first row */
    float *inner, *d_inner;  /* [row_count, rank]: factor * A x, factor * B^T d_out */
    int64_t rows, cols;      /* of the weight */
};

/* d_magnitudes[i] += sum over the rows of d_out * (W x + scale * B A x) * gain / magnitude, the bracket taken from the product's result. */
static void magnitude_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct pair_job *job = context;
    const struct bb_low_rank *pair = job->call->term.pair;
    const struct bb_linear *linear = job->call->linear;
    const int64_t first = (int64_t)chunk * PANEL_COLS, end = bb_cpu_min(first + PANEL_COLS, job->rows);
    (void)worker;
    for (int64_t t = 0; t < job->call->term.row_count; t++)
        for (int64_t i = first; i < end; i++) {
            const float bias = linear->bias != NULL ? bb_dtype_load(linear->bias, linear->bias_dtype, (size_t)i) : 0.0f;
            if (pair->magnitudes[i] != 0.0f)
                job->call->d_magnitudes[i] += job->d_out[t * job->rows + i] * (job->out[t * job->rows + i] - bias) / pair->magnitudes[i];
        }
}

/* Some rows of x: gains into d_out, the two inner products, and what goes to d_x. */
static void inner_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct pair_job *job = context;
    const struct bb_low_rank_grad_call *call = job->call;
    const struct bb_low_rank *pair = call->term.pair;
    const int64_t first = (int64_t)chunk * ROWS_A_CHUNK, run = bb_cpu_min(ROWS_A_CHUNK, call->term.row_count - first);
    const float factor = pair->scale * call->term.weight;
    (void)worker;
    for (int64_t t = first; t < first + run; t++) {
        float *d_out = job->d_out + t * job->rows, *inner = job->inner + t * pair->rank, *d_inner = job->d_inner + t * pair->rank;
        for (int64_t i = 0; i < job->rows && pair->gains != NULL; i++)
            d_out[i] *= pair->gains[i];
        job->cpu->kernels->rows.low_rank_sums(inner, pair->a, job->x + t * job->cols, pair->rank, job->cols);
        if (pair->b_stride == job->rows)
            job->cpu->kernels->rows.low_rank_sums(d_inner, pair->b, d_out, pair->rank, job->rows);
        for (int32_t r = 0; r < pair->rank && pair->b_stride != job->rows; r++)
            job->cpu->kernels->rows.low_rank_sums(d_inner + r, pair->b + r * pair->b_stride, d_out, 1, job->rows);
        for (int32_t r = 0; r < pair->rank; r++) {
            inner[r] *= factor;
            d_inner[r] *= factor;
        }
    }
    if (job->d_x != NULL)
        job->cpu->kernels->gradients.multiply_add(&(struct bb_product_task){.out = job->d_x + first * job->cols,
                                                                            .a = job->d_inner + first * pair->rank,
                                                                            .b = pair->a,
                                                                            .rows = run,
                                                                            .inner = pair->rank,
                                                                            .cols = job->cols,
                                                                            .out_stride = job->cols,
                                                                            .b_stride = job->cols,
                                                                            .a_row = pair->rank,
                                                                            .a_inner = 1});
}

/* Columns [first, first + count) of one of the pair's matrices: += inner^T rows. */
static void add_outer(const struct pair_job *job, float *out, int64_t out_stride, const float *inner, const float *values, int64_t width, int64_t first)
{
    job->cpu->kernels->gradients.multiply_add(&(struct bb_product_task){.out = out + first,
                                                                        .a = inner,
                                                                        .b = values + first,
                                                                        .rows = job->call->term.pair->rank,
                                                                        .inner = job->call->term.row_count,
                                                                        .cols = bb_cpu_min(PANEL_COLS, width - first),
                                                                        .out_stride = out_stride,
                                                                        .b_stride = width,
                                                                        .a_row = 1,
                                                                        .a_inner = job->call->term.pair->rank});
}

static void outer_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct pair_job *job = context;
    const int32_t a_chunks = bb_cpu_chunk_count(job->cols, PANEL_COLS);
    (void)worker;
    if (chunk < a_chunks)
        add_outer(job, job->call->d_a, job->cols, job->d_inner, job->x, job->cols, (int64_t)chunk * PANEL_COLS);
    else
        add_outer(job, job->call->d_b, job->call->term.pair->b_stride, job->inner, job->d_out, job->rows, (int64_t)(chunk - a_chunks) * PANEL_COLS);
}

bombus_status bb_cpu_low_rank_grad(struct bb_cpu *cpu, const struct bb_low_rank_grad_call *call, bombus_error *error)
{
    const struct bb_low_rank_term *term = &call->term;
    const int64_t rows = call->linear->weight.rows, cols = call->linear->weight.cols, first = term->first_row;
    const size_t inner = (size_t)term->row_count * (size_t)term->pair->rank;
    struct pair_job job = {.cpu = cpu,
                           .call = call,
                           .x = (const float *)call->x.data + first * cols,
                           .d_out = (float *)call->d_out.data + first * rows,
                           .rows = rows,
                           .cols = cols};
    job.out = call->out.data != NULL ? (const float *)call->out.data + first * rows : NULL;
    job.d_x = call->d_x.data != NULL ? (float *)call->d_x.data + first * cols : NULL;
    job.inner = bb_cpu_scratch(cpu, BB_SCRATCH_PAIRS, 2 * inner * sizeof(float), error);
    if (job.inner == NULL)
        return BOMBUS_ERROR_MEMORY;
    job.d_inner = job.inner + inner;
    if (call->d_magnitudes != NULL)
        bb_cpu_run(cpu, bb_cpu_chunk_count(rows, PANEL_COLS), magnitude_chunk, &job);
    bb_cpu_run(cpu, bb_cpu_chunk_count(term->row_count, ROWS_A_CHUNK), inner_chunk, &job);
    if (call->d_a != NULL)
        bb_cpu_run(cpu, bb_cpu_chunk_count(cols, PANEL_COLS) + bb_cpu_chunk_count(rows, PANEL_COLS), outer_chunk, &job);
    return BOMBUS_OK;
}

static bombus_status low_rank_grad(struct bb_backend *backend, const struct bb_low_rank_grad_call *call, bombus_error *error)
{
    struct bb_cpu *cpu = (struct bb_cpu *)backend;
    bb_pool_lock(cpu->pool);
    bombus_status status = bb_cpu_low_rank_grad(cpu, call, error);
    bb_pool_unlock(cpu->pool);
    return status;
}

/* ---- by the pair of an embedding ---- */

struct embed_job {
    const struct bb_row_kernels *kernels;
    const struct bb_embed_grad_call *call;
};

/* One entry of the rank: a token's row is scale * gain * (W row + factor * sum over r of b[r, token] * a[r]). */
static void embed_chunk(void *context, int32_t rank, int32_t worker)
{
    const struct embed_job *job = context;
    const struct bb_embed_grad_call *call = job->call;
    const struct bb_low_rank *pair = call->term.pair;
    const int64_t cols = call->d_out.shape[1];
    const float *d_added = call->d_added.data != NULL ? call->d_added.data : call->d_out.data;
    (void)worker;
    for (int32_t row = call->term.first_row; row < call->term.first_row + call->term.row_count; row++) {
        const int32_t token = call->tokens[row];
        const float factor = call->scale * pair->scale * call->term.weight * (pair->gains != NULL ? pair->gains[token] : 1.0f);
        const float *d_row = d_added + row * cols;
        float sum;
        job->kernels->low_rank_sums(&sum, pair->a + rank * cols, d_row, 1, cols);
        call->d_b[rank * pair->b_stride + token] += factor * sum;
        job->kernels->add(call->d_a + rank * cols, call->d_a + rank * cols, d_row,
                          factor * pair->b[rank * pair->b_stride + token], cols);
    }
}

static bombus_status embed_grad(struct bb_backend *backend, const struct bb_embed_grad_call *call, bombus_error *error)
{
    struct bb_cpu *cpu = (struct bb_cpu *)backend;
    const int64_t cols = call->d_out.shape[1];
    struct embed_job job = {.kernels = &cpu->kernels->rows, .call = call};
    (void)error;
    for (int32_t row = call->term.first_row; row < call->term.first_row + call->term.row_count && call->d_magnitudes != NULL; row++) {
        const float magnitude = call->term.pair->magnitudes[call->tokens[row]];
        float sum;
        cpu->kernels->rows.low_rank_sums(&sum, (const float *)call->out.data + row * cols, (const float *)call->d_out.data + row * cols, 1, cols);
        if (magnitude != 0.0f)
            call->d_magnitudes[call->tokens[row]] += sum / magnitude;
    }
    bb_cpu_run(cpu, call->term.pair->rank, embed_chunk, &job);
    return BOMBUS_OK;
}

void bb_cpu_fill_gradients(struct bb_backend_table *table)
{
    table->linear_grad = linear_grad;
    table->linear_weight_grad = linear_weight_grad;
    table->low_rank_grad = low_rank_grad;
    table->embed_grad = embed_grad;
}
