/* The kernels of the backward pass, written once for all vectors: each level's gradients.c includes its vector.h, then this. */
#ifndef BB_VECTOR_GRADIENTS_H
#define BB_VECTOR_GRADIENTS_H

#include "backend/cpu/kernels/gradients.h"
#include "backend/cpu/kernels/vector/math.h"

#include <math.h>

/* ---- products ---- */

/* A tile of out stays in registers: 6 rows of 4 vectors where there are 32 of them, of 2 where there are 16. */
enum { PRODUCT_ROWS = 6, PRODUCT_VECTORS = LANES == 8 ? 2 : 4 };

BB_INLINE void product_tile(const struct bb_product_task *task, int64_t row, int64_t column, const int32_t rows, const int32_t vectors)
{
    vec sums[PRODUCT_ROWS][PRODUCT_VECTORS];
    float *out = task->out + row * task->out_stride + column;
    const float *a = task->a + row * task->a_row, *b = task->b + column;
    BB_UNROLL
    for (int32_t i = 0; i < rows * vectors; i++)
        sums[i / vectors][i % vectors] = vec_load(out + i / vectors * task->out_stride + i % vectors * LANES);
    for (int64_t k = 0; k < task->inner; k++) {
        vec values[PRODUCT_VECTORS];
        BB_UNROLL
        for (int32_t v = 0; v < vectors; v++)
            values[v] = vec_load(b + v * LANES);
        BB_UNROLL
        for (int32_t i = 0; i < rows; i++) {
            const vec factor = vec_set(a[i * task->a_row]);
            BB_UNROLL
            for (int32_t v = 0; v < vectors; v++)
                sums[i][v] = vec_fma(factor, values[v], sums[i][v]);
        }
        a += task->a_inner;
        b += task->b_stride;
    }
    BB_UNROLL
    for (int32_t i = 0; i < rows * vectors; i++)
        vec_store(out + i / vectors * task->out_stride + i % vectors * LANES, sums[i / vectors][i % vectors]);
}

/* The last columns, fewer than a vector. */
static void product_edge(const struct bb_product_task *task, int64_t column)
{
    const int64_t count = task->cols - column;
    for (int64_t i = 0; i < task->rows; i++) {
        float *out = task->out + i * task->out_stride + column;
        const float *a = task->a + i * task->a_row, *b = task->b + column;
        vec sum = vec_load_part(out, count);
        for (int64_t k = 0; k < task->inner; k++)
            sum = vec_fma(vec_set(a[k * task->a_inner]), vec_load_part(b + k * task->b_stride, count), sum);
        vec_store_part(out, sum, count);
    }
}

BB_INLINE void product_columns(const struct bb_product_task *task, int64_t column, const int32_t vectors)
{
    int64_t row = 0;
    for (; row + PRODUCT_ROWS <= task->rows; row += PRODUCT_ROWS)
        product_tile(task, row, column, PRODUCT_ROWS, vectors);
    switch (task->rows - row) {
    case 5: product_tile(task, row, column, 5, vectors); break;
    case 4: product_tile(task, row, column, 4, vectors); break;
    case 3: product_tile(task, row, column, 3, vectors); break;
    case 2: product_tile(task, row, column, 2, vectors); break;
    case 1: product_tile(task, row, column, 1, vectors); break;
    default: break;
    }
}

static void multiply_add(const struct bb_product_task *task)
{
    int64_t column = 0;
    for (; column + PRODUCT_VECTORS * LANES <= task->cols; column += PRODUCT_VECTORS * LANES)
        product_columns(task, column, PRODUCT_VECTORS);
    for (; column + LANES <= task->cols; column += LANES)
        product_columns(task, column, 1);
    if (column < task->cols)
        product_edge(task, column);
}

/* ---- weights ---- */

static void unpack(float *out, const struct bb_weight *weight, int64_t row, int64_t first, int64_t count)
{
    const struct bb_scheme scheme = weight->scheme;
    if (scheme.mode != BB_QUANT_AFFINE || (scheme.bits != 4 && scheme.bits != 8) || count % LANES != 0 || first % scheme.group_size != 0) {
        bb_unpack_columns(out, weight, row, first, count);
        return;
    }
    const uint8_t *codes = (const uint8_t *)weight->data + (size_t)row * bb_weight_row_bytes(weight) + first * scheme.bits / 8;
    int64_t group = (row * weight->cols + first) / scheme.group_size;
    for (int64_t done = 0; done < count; done += scheme.group_size, group++) {
        const int64_t end = count - done < scheme.group_size ? count : done + scheme.group_size;
        const vec scale = vec_set(bb_dtype_load(weight->scales, weight->dtype, (size_t)group)),
                  bias = vec_set(bb_dtype_load(weight->biases, weight->dtype, (size_t)group));
        for (int64_t i = done; i < end; i += LANES)
            vec_store(out + i, vec_fma(scheme.bits == 4 ? vec_load_nibbles(codes + i / 2) : vec_load_u8(codes + i), scale, bias));
    }
}

/* ---- norm ---- */

BB_INLINE vec norm_weights(const struct bb_norm *norm, int32_t first, int32_t count)
{
    vec weights = vec_set(1.0f);
    if (norm->weight != NULL && count == LANES && norm->dtype == BB_F32)
        weights = vec_load((const float *)norm->weight + first);
    else if (norm->weight != NULL && count == LANES && norm->dtype == BB_BF16)
        weights = vec_load_bf16((const uint16_t *)norm->weight + first);
    else if (norm->weight != NULL) {
        float lanes[LANES] = {0};
        bb_dtype_load_row(lanes, norm->weight, norm->dtype, (size_t)first, (size_t)count);
        weights = vec_load(lanes);
    }
    return norm->is_plus_one ? vec_add(weights, vec_set(1.0f)) : weights;
}

static float norm_grad(float *d_x, const float *x, const float *d_out, const struct bb_norm *norm, bool adds)
{
    vec squares = vec_set(0.0f), products = vec_set(0.0f);
    for (int32_t i = 0; i < norm->size; i += LANES) {
        const int32_t count = norm->size - i < LANES ? norm->size - i : LANES;
        const vec entries = vec_load_part(x + i, count), g = vec_multiply(vec_load_part(d_out + i, count), norm_weights(norm, i, count));
        squares = vec_fma(entries, entries, squares);
        products = vec_fma(entries, g, products);
    }
    const float scale = 1.0f / sqrtf(vec_sum(squares) / (float)norm->size + norm->eps);
    const vec factor = vec_set(scale), share = vec_set(-scale * scale * vec_sum(products) / (float)norm->size);
    for (int32_t i = 0; i < norm->size && d_x != NULL; i += LANES) {
        const int32_t count = norm->size - i < LANES ? norm->size - i : LANES;
        const vec g = vec_multiply(vec_load_part(d_out + i, count), norm_weights(norm, i, count));
        vec gradient = vec_multiply(factor, vec_fma(vec_load_part(x + i, count), share, g));
        if (adds)
            gradient = vec_add(gradient, vec_load_part(d_x + i, count));
        vec_store_part(d_x + i, gradient, count);
    }
    return scale;
}

/* ---- activations ---- */

/* activation(gate), its slope, what up counts as, and up's own slope. */
struct glu_parts {
    vec value, slope, up, up_slope;
};

BB_INLINE struct glu_parts glu_parts_of(vec gate, vec up, const enum bb_activation activation)
{
    const vec one = vec_set(1.0f), half = vec_set(0.5f);
    struct glu_parts parts = {.value = gate, .slope = one, .up = up, .up_slope = one};
    if (activation == BB_SILU) {
        const vec s = vec_sigmoid(gate);
        parts.value = vec_multiply(gate, s);
        parts.slope = vec_multiply(s, vec_fma(gate, vec_subtract(one, s), one));
    } else if (activation == BB_GELU_TANH) {
        const vec square = vec_multiply(gate, gate);
        const vec inner = vec_multiply(vec_set(0.7978845608f), vec_fma(vec_multiply(square, gate), vec_set(0.044715f), gate));
        const vec t = vec_tanh(inner), share = vec_multiply(half, vec_add(one, t));
        const vec inner_slope = vec_multiply(vec_set(0.7978845608f), vec_fma(square, vec_set(0.134145f), one));
        parts.value = vec_multiply(gate, share);
        parts.slope = vec_fma(vec_multiply(vec_multiply(half, gate), vec_subtract(one, vec_multiply(t, t))), inner_slope, share);
    } else if (activation == BB_GELU_ERF) {
        const vec share = vec_multiply(half, vec_add(one, vec_erf(vec_multiply(gate, vec_set(0.7071067812f)))));
        const vec density = vec_multiply(vec_set(0.3989422804f), vec_exp(vec_multiply(vec_set(-0.5f), vec_multiply(gate, gate))));
        parts.value = vec_multiply(gate, share);
        parts.slope = vec_fma(gate, density, share);
    } else {
        const vec limit = vec_set(7.0f), low = vec_set(-7.0f), zero = vec_set(0.0f);
        const vec clipped = vec_min(limit, gate), s = vec_sigmoid(vec_multiply(vec_set(1.702f), clipped));
        parts.value = vec_multiply(clipped, s);
        parts.slope = vec_multiply(s, vec_fma(vec_multiply(vec_set(1.702f), clipped), vec_subtract(one, s), one));
        parts.slope = vec_select(vec_is_less(limit, gate), zero, parts.slope);
        parts.up = vec_add(vec_max(low, vec_min(limit, up)), one);
        parts.up_slope = vec_select(vec_is_less(limit, up), zero, vec_select(vec_is_less(up, low), zero, one));
    }
    return parts;
}

BB_INLINE void glu_grad_with(float *d_gate, float *d_up, const float *gate, const float *up, const float *d_out, int64_t count,
                             const enum bb_activation activation)
{
    for (int64_t i = 0; i < count; i += LANES) {
        const int64_t part = count - i < LANES ? count - i : LANES;
        const vec d = vec_load_part(d_out + i, part);
        const struct glu_parts parts = glu_parts_of(vec_load_part(gate + i, part), vec_load_part(up + i, part), activation);
        vec_store_part(d_gate + i, vec_multiply(vec_multiply(d, parts.slope), parts.up), part);
        vec_store_part(d_up + i, vec_multiply(vec_multiply(d, parts.value), parts.up_slope), part);
    }
}

static void glu_grad(float *d_gate, float *d_up, const float *gate, const float *up, const float *d_out, int64_t count, enum bb_activation activation)
{
    switch (activation) {
    case BB_SILU: glu_grad_with(d_gate, d_up, gate, up, d_out, count, BB_SILU); break;
    case BB_GELU_TANH: glu_grad_with(d_gate, d_up, gate, up, d_out, count, BB_GELU_TANH); break;
    case BB_GELU_ERF: glu_grad_with(d_gate, d_up, gate, up, d_out, count, BB_GELU_ERF); break;
    case BB_SWIGLU_CLIPPED: glu_grad_with(d_gate, d_up, gate, up, d_out, count, BB_SWIGLU_CLIPPED); break;
    }
}

/* ---- softmax ---- */

static float largest(const float *x, int64_t count)
{
    float result = -INFINITY;
    int64_t i = 0;
    if (count >= LANES) {
        vec most = vec_load(x);
        for (i = LANES; i + LANES <= count; i += LANES)
            most = vec_max(most, vec_load(x + i));
        result = vec_largest(most);
    }
    for (; i < count; i++)
        result = x[i] > result ? x[i] : result;
    return result;
}

static float exponentials(float *x, float shift, int64_t count)
{
    const vec offset = vec_set(shift);
    vec sums = vec_set(0.0f);
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        const vec e = vec_exp(vec_subtract(vec_load(x + i), offset));
        vec_store(x + i, e);
        sums = vec_add(sums, e);
    }
    float sum = vec_sum(sums), lanes[LANES];
    if (i < count) {
        vec_store(lanes, vec_exp(vec_subtract(vec_load_part(x + i, count - i), offset)));
        for (int64_t k = 0; i < count; i++, k++) {
            x[i] = lanes[k];
            sum += lanes[k];
        }
    }
    return sum;
}

static void fill_gradients(struct bb_gradient_kernels *kernels)
{
    kernels->multiply_add = multiply_add;
    kernels->unpack = unpack;
    kernels->norm_grad = norm_grad;
    kernels->glu_grad = glu_grad;
    kernels->largest = largest;
    kernels->exponentials = exponentials;
}

#endif
