/* What the tests of backends and ops share: random data, a small paged cache, and attention in double. */
#ifndef BACKEND_FIXTURE_H
#define BACKEND_FIXTURE_H

#include "backend/backend.h"
#include "base/random.h"
#include "ops/backends.h"
#include "quant/quant_modes.h"

#include <string.h>

static bombus_error fixture_error;

#define CHECK_STATUS(call) CHECK_OK(call, fixture_error)

static inline void fill_random(float *out, size_t count, uint64_t seed, float size)
{
    for (size_t i = 0; i < count; i++)
        out[i] = size * (float)((double)(bb_random_at(seed, i) >> 11) * 0x1p-52 - 1.0);
}

static inline struct bb_tensor matrix(void *data, int64_t rows, int64_t columns)
{
    return (struct bb_tensor){.data = data, .shape = {rows, columns, 1, 1}, .dtype = BB_F32};
}

static inline struct bb_backend *open_cpu(const char *level, int32_t thread_count)
{
    struct bb_backend *backend;
    struct bb_backend_options options = {.cpu_level = level, .thread_count = thread_count};
    CHECK_STATUS(bb_backend_open(&backend, "cpu", &options, &fixture_error));
    return backend;
}

struct attention_case {
    int32_t heads, kv_heads, head_dim, length, window, keep, page_size, group_size;
    float softcap;
    bool has_sinks;
    enum bb_kv_type type;
};

/* One sequence: its projections, a cache whose pages lie in disorder, and what attention gives. */
struct attention_data {
    struct bb_attention_shape shape;
    struct bb_kv_view view;
    int32_t length;
    size_t q_count, kv_count;
    float *q, *k, *v, *out, *expected;
    float sinks[128];
    int32_t *pages;
    const int32_t *tables[1];
    int32_t *positions;
};

static inline void round_group(float *x, int32_t count, int32_t bits)
{
    uint8_t codes[128];
    float scale, bias;
    struct bb_weight weight = {
        .data = codes, .scales = &scale, .biases = &bias, .dtype = BB_F32, .rows = 1, .cols = count};
    weight.scheme = (struct bb_scheme){.mode = BB_QUANT_AFFINE, .bits = bits, .group_size = count};
    bb_quant_affine.pack_row(weight.scheme, x, count, (struct bb_packed_row){codes, &scale, &bias, BB_F32});
    bb_quant_affine.unpack_row(&weight, 0, x);
}

/* k or v as the cache keeps it. */
static inline void round_like_cache(const struct attention_data *data, const float *in, float *out)
{
    memcpy(out, in, data->kv_count * sizeof(float));
    if (data->view.type == BB_KV_Q8 || data->view.type == BB_KV_Q4)
        for (size_t i = 0; i < data->kv_count; i += (size_t)data->view.group_size)
            round_group(out + i, data->view.group_size, data->view.type == BB_KV_Q8 ? 8 : 4);
}

static inline bool sees(const struct bb_kv_view *view, int32_t query, int32_t key)
{
    return key <= query && (view->window == 0 || query - key < view->window || key < view->keep);
}

/* The definition, in double. */
static inline void expect_attention(const struct attention_data *data, const float *k, const float *v)
{
    const struct bb_attention_shape *shape = &data->shape;
    int64_t dim = shape->head_dim, heads = shape->heads, kv_heads = shape->kv_heads;
    double *scores = calloc((size_t)data->length, sizeof *scores), *sum = calloc((size_t)dim, sizeof *sum);
    for (int64_t row = 0; row < data->length; row++)
        for (int64_t head = 0; head < heads; head++) {
            const float *q = data->q + (row * heads + head) * dim;
            int64_t kv_head = head / (heads / kv_heads);
            double largest = shape->sinks != NULL ? (double)data->sinks[head] : (double)-INFINITY, total;
            for (int64_t key = 0; key <= row; key++) {
                scores[key] = 0.0;
                for (int64_t i = 0; i < dim; i++)
                    scores[key] +=
                        (double)q[i] * (double)k[(key * kv_heads + kv_head) * dim + i] * (double)shape->scale;
                if (shape->softcap > 0.0f)
                    scores[key] = (double)shape->softcap * tanh(scores[key] / (double)shape->softcap);
                if (sees(&data->view, (int32_t)row, (int32_t)key))
                    largest = fmax(largest, scores[key]);
            }
            total = shape->sinks != NULL ? exp((double)data->sinks[head] - largest) : 0.0;
            memset(sum, 0, (size_t)dim * sizeof *sum);
            for (int64_t key = 0; key <= row; key++) {
                if (!sees(&data->view, (int32_t)row, (int32_t)key))
                    continue;
                double share = exp(scores[key] - largest);
                total += share;
                for (int64_t i = 0; i < dim; i++)
                    sum[i] += share * (double)v[(key * kv_heads + kv_head) * dim + i];
            }
            for (int64_t i = 0; i < dim; i++)
                data->expected[(row * heads + head) * dim + i] = (float)(sum[i] / total);
        }
    free(scores);
    free(sum);
}

static inline void create_attention(struct attention_data *data, const struct attention_case *given)
{
    *data = (struct attention_data){.length = given->length};
    data->shape = (struct bb_attention_shape){.heads = given->heads,
                                              .kv_heads = given->kv_heads,
                                              .head_dim = given->head_dim,
                                              .scale = 0.3f,
                                              .softcap = given->softcap,
                                              .sinks_dtype = BB_F32};
    int32_t page_size = given->page_size > 0 ? given->page_size : 64, page_count = given->length / page_size + 1;
    data->q_count = (size_t)given->length * (size_t)(given->heads * given->head_dim);
    data->kv_count = (size_t)given->length * (size_t)(given->kv_heads * given->head_dim);
    data->q = malloc(data->q_count * sizeof(float));
    data->k = malloc(data->kv_count * sizeof(float));
    data->v = malloc(data->kv_count * sizeof(float));
    data->out = malloc(data->q_count * sizeof(float));
    data->expected = malloc(data->q_count * sizeof(float));
    data->pages = malloc((size_t)page_count * sizeof(int32_t));
    data->positions = malloc((size_t)given->length * sizeof(int32_t));
    fill_random(data->q, data->q_count, 11, 2.0f);
    fill_random(data->k, data->kv_count, 12, 1.0f);
    fill_random(data->v, data->kv_count, 13, 1.0f);
    fill_random(data->sinks, BB_COUNT(data->sinks), 14, 3.0f);
    for (int32_t i = 0; i < given->length; i++)
        data->positions[i] = i;
    for (int32_t i = 0; i < page_count; i++)
        data->pages[i] = page_count - 1 - i;
    if (given->has_sinks)
        data->shape.sinks = data->sinks;
    data->view = (struct bb_kv_view){.type = given->type,
                                     .group_size = given->group_size,
                                     .page_size = page_size,
                                     .kv_heads = given->kv_heads,
                                     .head_dim = given->head_dim,
                                     .window = given->window,
                                     .keep = given->keep};
    data->view.page_stride =
        bb_kv_page_bytes(given->type, given->group_size, page_size, given->kv_heads, given->head_dim);
    data->view.base = aligned_alloc(64, data->view.page_stride * (size_t)page_count);
    /* Positions that were never written hold NaN. */
    memset(data->view.base, 0xFF, data->view.page_stride * (size_t)page_count);
    data->tables[0] = data->pages;
    float *k = malloc(data->kv_count * sizeof(float)), *v = malloc(data->kv_count * sizeof(float));
    round_like_cache(data, data->k, k);
    round_like_cache(data, data->v, v);
    expect_attention(data, k, v);
    free(k);
    free(v);
}

static inline void free_attention(struct attention_data *data)
{
    free(data->q);
    free(data->k);
    free(data->v);
    free(data->out);
    free(data->expected);
    free(data->pages);
    free(data->positions);
    free(data->view.base);
}

/* Writes and attends positions [first, end), `step` rows a batch. */
static inline void run_attention(struct attention_data *data, struct bb_backend *backend, int32_t first, int32_t end,
                                 int32_t step)
{
    int64_t q_width = data->shape.heads * data->shape.head_dim, kv_width = data->shape.kv_heads * data->shape.head_dim;
    data->view.page_tables = data->tables;
    for (int32_t row = first; row < end; row += step) {
        int32_t count = end - row < step ? end - row : step;
        struct bb_span span = {.row_count = count, .first_position = row};
        struct bb_batch batch = {
            .row_count = count, .positions = data->positions + row, .span_count = 1, .spans = &span};
        struct bb_tensor k = matrix(data->k + row * kv_width, count, kv_width),
                         v = matrix(data->v + row * kv_width, count, kv_width);
        struct bb_tensor q = matrix(data->q + row * q_width, count, q_width),
                         out = matrix(data->out + row * q_width, count, q_width);
        CHECK_STATUS(backend->table->write_cache(backend, &data->view, k, v, &batch, &fixture_error));
        CHECK_STATUS(backend->table->attention(backend, &data->shape, &data->view, q, &batch, out, &fixture_error));
    }
}

/* Row `row_a` of a and rows from `row_b` on of b, in one batch over one view, against what data->out holds of them.
 * The sequences' pages are of two allocations: the second one's numbers are made relative to the first one's base. */
static inline void check_together(const struct attention_data *a, int32_t row_a, const struct attention_data *b,
                                  int32_t row_b, struct bb_backend *backend)
{
    size_t width = (size_t)(a->shape.heads * a->shape.head_dim);
    int32_t rows_b = b->length - row_b, rows = rows_b + 1, pages_a = a->length / 64 + 1, pages_b = b->length / 64 + 1,
            *moved;
    struct bb_span spans[] = {{.first_row = 0, .row_count = 1, .first_position = row_a, .sequence = 1},
                              {.first_row = 1, .row_count = rows_b, .first_position = row_b, .sequence = 0}};
    struct bb_batch batch = {.row_count = rows, .span_count = 2, .spans = spans};
    struct bb_kv_view view = a->view;
    size_t bytes_a = (size_t)pages_a * view.page_stride, bytes_b = (size_t)pages_b * view.page_stride;
    float *q = malloc((size_t)rows * width * sizeof(float)), *out = malloc((size_t)rows * width * sizeof(float));
    view.base = malloc(bytes_a + bytes_b);
    memcpy(view.base, a->view.base, bytes_a);
    memcpy(view.base + bytes_a, b->view.base, bytes_b);
    moved = malloc((size_t)pages_b * sizeof *moved);
    for (int32_t i = 0; i < pages_b; i++)
        moved[i] = b->pages[i] + pages_a;
    const int32_t *tables[] = {moved, a->pages};
    view.page_tables = tables;
    memcpy(q, a->q + (size_t)row_a * width, width * sizeof(float));
    memcpy(q + width, b->q + (size_t)row_b * width, (size_t)rows_b * width * sizeof(float));
    CHECK_STATUS(backend->table->attention(backend, &a->shape, &view, matrix(q, rows, (int64_t)width), &batch,
                                           matrix(out, rows, (int64_t)width), &fixture_error));
    assert_memory_equal(out, a->out + (size_t)row_a * width, width * sizeof(float));
    assert_memory_equal(out + width, b->out + (size_t)row_b * width, (size_t)rows_b * width * sizeof(float));
    free(view.base);
    free(moved);
    free(q);
    free(out);
}

#endif
