/* Low-rank additions to products (LoRA, DoRA): rows of the batch over the pool; each row goes through the terms that name it. */
#include "backend/cpu/cpu.h"

#include "backend/cpu/kernels/kernel.h"

struct job {
    const struct bb_low_rank_call *call;
    int32_t rows_per_chunk;
};

/* out_row += factor of the row of W, of each pair with gains, on W x alone. */
static void apply_gains(const struct bb_low_rank_call *call, const struct bb_low_rank_term *terms, int32_t count, float *out)
{
    const struct bb_linear *linear = call->linear;
    bool has_gains = false;
    for (int32_t i = 0; i < count; i++)
        has_gains = has_gains || terms[i].pair->gains != NULL;
    for (int64_t i = 0; i < linear->weight.rows && has_gains; i++) {
        float factor = 1.0f, bias = linear->bias != NULL ? bb_dtype_load(linear->bias, linear->bias_dtype, (size_t)i) : 0.0f;
        for (int32_t k = 0; k < count; k++)
            factor += terms[k].pair->gains != NULL ? terms[k].pair->gains[i] - 1.0f : 0.0f;
        out[i] = bias + factor * (out[i] - bias);
    }
}

static void add_pair(const struct bb_low_rank *pair, const float *x, int64_t cols, float *out, int64_t rows)
{
    for (int32_t rank = 0; rank < pair->rank; rank++) {
        const float *a = pair->a + rank * cols, *b = pair->b + rank * pair->b_stride;
        float sum = 0.0f;
        for (int64_t i = 0; i < cols; i++)
            sum += a[i] * x[i];
        sum *= pair->scale;
        if (pair->gains == NULL)
            for (int64_t i = 0; i < rows; i++)
                out[i] += sum * b[i];
        else
            for (int64_t i = 0; i < rows; i++)
                out[i] += pair->gains[i] * sum * b[i];
    }
}

/* The row `row` through the `count` terms of its span. */
static void add_terms(const struct bb_low_rank_call *call, const struct bb_low_rank_term *terms, int32_t count, int64_t row)
{
    const int64_t cols = call->linear->weight.cols, rows = call->linear->weight.rows;
    const float *x = (const float *)call->x.data + row * cols;
    float *out = (float *)call->out.data + row * rows;
    apply_gains(call, terms, count, out);
    for (int32_t i = 0; i < count; i++)
        add_pair(terms[i].pair, x, cols, out, rows);
}

static void chunk(void *context, int32_t index, int32_t worker)
{
    const struct job *job = context;
    const struct bb_low_rank_call *call = job->call;
    const int32_t begin = index * job->rows_per_chunk, end = begin + job->rows_per_chunk;
    (void)worker;
    for (int32_t i = 0, count; i < call->term_count; i += count) {
        const struct bb_low_rank_term *terms = &call->terms[i];
        count = 1;
        while (i + count < call->term_count && terms[count].first_row == terms->first_row)
            count++;
        for (int32_t row = terms->first_row; row < terms->first_row + terms->row_count; row++)
            if (row >= begin && row < end)
                add_terms(call, terms, count, row);
    }
}

static bombus_status low_rank(struct bb_backend *backend, const struct bb_low_rank_call *call, bombus_error *error)
{
    struct bb_cpu *cpu = (struct bb_cpu *)backend;
    const int64_t rows = call->out.shape[0], width = call->linear->weight.rows + call->linear->weight.cols;
    struct job job = {.call = call, .rows_per_chunk = (int32_t)(BB_CPU_CHUNK / width) + 1};
    (void)error;
    bb_cpu_run(cpu, (int32_t)((rows + job.rows_per_chunk - 1) / job.rows_per_chunk), chunk, &job);
    return BOMBUS_OK;
}

void bb_cpu_fill_low_rank(struct bb_backend_table *table)
{
    table->low_rank = low_rank;
}
