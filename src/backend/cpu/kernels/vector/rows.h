/* The kernels on rows, written once for all vectors: each level's rows.c includes its vector.h, then this. The last
 * vector of a row may be partial; an entry's result does not depend on where in a vector it stands, but for the
 * order of a norm's sum, which the row's length fixes. */
#ifndef BB_VECTOR_ROWS_H
#define BB_VECTOR_ROWS_H

#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/kernels/vector/math.h"
#include "backend/cpu/kernels/vector/packed.h"

#include <math.h>

/* ---- norm ---- */

BB_INLINE vec load_weights(const struct bb_norm *norm, enum bb_dtype dtype, int32_t first, int32_t count)
{
    const uint16_t *halves = (const uint16_t *)norm->weight + first;
    if (count < LANES) {
        float lanes[LANES] = {0};
        bb_dtype_load_row(lanes, norm->weight, dtype, (size_t)first, (size_t)count);
        return vec_load(lanes);
    }
    return dtype == BB_F32   ? vec_load((const float *)norm->weight + first)
           : dtype == BB_F16 ? vec_load_f16(halves)
                             : vec_load_bf16(halves);
}

BB_INLINE void scale_row(float *out, const float *x, const struct bb_norm *norm, enum bb_dtype dtype, vec scale)
{
    const vec offset = vec_set(norm->is_plus_one ? 1.0f : 0.0f);
    int32_t i = 0;
    for (; i + LANES <= norm->size; i += LANES)
        vec_store(out + i, vec_multiply(vec_multiply(vec_load(x + i), scale),
                                        vec_add(load_weights(norm, dtype, i, LANES), offset)));
    if (i < norm->size) {
        const int32_t count = norm->size - i;
        const vec weights = vec_add(load_weights(norm, dtype, i, count), offset);
        vec_store_part(out + i, vec_multiply(vec_multiply(vec_load_part(x + i, count), scale), weights), count);
    }
}

static float sum_squares(const float *x, int32_t size)
{
    vec sums[4] = {vec_set(0.0f), vec_set(0.0f), vec_set(0.0f), vec_set(0.0f)};
    int32_t i = 0;
    for (; i + 4 * LANES <= size; i += 4 * LANES)
        for (int32_t part = 0; part < 4; part++) {
            const vec entries = vec_load(x + i + part * LANES);
            sums[part] = vec_fma(entries, entries, sums[part]);
        }
    for (; i < size; i += LANES) {
        const vec entries = i + LANES <= size ? vec_load(x + i) : vec_load_part(x + i, size - i);
        sums[0] = vec_fma(entries, entries, sums[0]);
    }
    return vec_sum(vec_add(vec_add(sums[0], sums[1]), vec_add(sums[2], sums[3])));
}

static void norm(float *out, const float *x, const struct bb_norm *norm)
{
    const vec scale = vec_set(1.0f / sqrtf(sum_squares(x, norm->size) / (float)norm->size + norm->eps));
    if (norm->weight == NULL) {
        int32_t i = 0;
        for (; i + LANES <= norm->size; i += LANES)
            vec_store(out + i, vec_multiply(vec_load(x + i), scale));
        if (i < norm->size)
            vec_store_part(out + i, vec_multiply(vec_load_part(x + i, norm->size - i), scale), norm->size - i);
    } else if (norm->dtype == BB_F32) {
        scale_row(out, x, norm, BB_F32, scale);
    } else if (norm->dtype == BB_F16) {
        scale_row(out, x, norm, BB_F16, scale);
    } else {
        scale_row(out, x, norm, BB_BF16, scale);
    }
}

/* ---- rotary embedding ---- */

static void rope_table(float *cosines, float *sines, const struct bb_rope *rope, int32_t position)
{
    const vec place = vec_set((float)position), amplitude = vec_set(rope->amplitude);
    for (int32_t i = 0, pairs = rope->dims / 2; i < pairs; i += LANES) {
        const int32_t count = pairs - i < LANES ? pairs - i : LANES;
        vec sine, cosine;
        vec_sine_cosine(vec_multiply(place, vec_load_part(rope->inverse_frequencies + i, count)), &sine, &cosine);
        vec_store_part(sines + i, vec_multiply(amplitude, sine), count);
        vec_store_part(cosines + i, vec_multiply(amplitude, cosine), count);
    }
}

BB_INLINE void turn(vec *first, vec *second, vec cosine, vec sine)
{
    const vec a = *first, b = *second;
    *first = vec_subtract(vec_multiply(a, cosine), vec_multiply(b, sine));
    *second = vec_fma(b, cosine, vec_multiply(a, sine));
}

static void rope(float *x, const struct bb_rope *rope, const float *cosines, const float *sines)
{
    const int32_t pairs = rope->dims / 2;
    int32_t i = 0;
    for (; i + LANES <= pairs; i += LANES) {
        vec first, second;
        if (rope->is_traditional) {
            vec_load_pairs(x + 2 * i, &first, &second);
            turn(&first, &second, vec_load(cosines + i), vec_load(sines + i));
            vec_store_pairs(x + 2 * i, first, second);
        } else {
            first = vec_load(x + i);
            second = vec_load(x + pairs + i);
            turn(&first, &second, vec_load(cosines + i), vec_load(sines + i));
            vec_store(x + i, first);
            vec_store(x + pairs + i, second);
        }
    }
    for (; i < pairs; i++) {
        float *first = rope->is_traditional ? x + 2 * i : x + i,
              *second = rope->is_traditional ? first + 1 : x + pairs + i;
        const float a = *first, b = *second;
        *first = a * cosines[i] - b * sines[i];
        *second = fmaf(b, cosines[i], a * sines[i]);
    }
}

/* ---- entries ---- */

BB_INLINE vec activate(vec gate, vec up, enum bb_activation activation)
{
    const vec half_gate = vec_multiply(vec_set(0.5f), gate), one = vec_set(1.0f);
    vec inner;
    switch (activation) {
    case BB_SILU: return vec_multiply(vec_multiply(gate, vec_sigmoid(gate)), up);
    case BB_GELU_TANH:
        inner = vec_multiply(vec_multiply(gate, gate), vec_multiply(gate, vec_set(0.044715f)));
        inner = vec_multiply(vec_set(0.7978845608f), vec_add(gate, inner));
        return vec_multiply(vec_fma(half_gate, vec_tanh(inner), half_gate), up);
    case BB_GELU_ERF:
        return vec_multiply(vec_fma(half_gate, vec_erf(vec_multiply(gate, vec_set(0.7071067812f))), half_gate), up);
    case BB_SWIGLU_CLIPPED:
        gate = vec_min(vec_set(7.0f), gate);
        up = vec_max(vec_set(-7.0f), vec_min(vec_set(7.0f), up));
        return vec_multiply(vec_multiply(gate, vec_sigmoid(vec_multiply(vec_set(1.702f), gate))), vec_add(up, one));
    }
    return gate;
}

BB_INLINE void glu_with(float *out, const float *gate, const float *up, int64_t count, enum bb_activation activation)
{
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        vec_store(out + i, activate(vec_load(gate + i), vec_load(up + i), activation));
    if (i < count)
        vec_store_part(out + i,
                       activate(vec_load_part(gate + i, count - i), vec_load_part(up + i, count - i), activation),
                       count - i);
}

static void glu(float *out, const float *gate, const float *up, int64_t count, enum bb_activation activation)
{
    switch (activation) {
    case BB_SILU: glu_with(out, gate, up, count, BB_SILU); break;
    case BB_GELU_TANH: glu_with(out, gate, up, count, BB_GELU_TANH); break;
    case BB_GELU_ERF: glu_with(out, gate, up, count, BB_GELU_ERF); break;
    case BB_SWIGLU_CLIPPED: glu_with(out, gate, up, count, BB_SWIGLU_CLIPPED); break;
    }
}

static void add(float *out, const float *a, const float *b, float factor, int64_t count)
{
    const vec scale = vec_set(factor);
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        vec_store(out + i, vec_fma(vec_load(b + i), scale, vec_load(a + i)));
    if (i < count)
        vec_store_part(out + i, vec_fma(vec_load_part(b + i, count - i), scale, vec_load_part(a + i, count - i)),
                       count - i);
}

BB_INLINE vec cap(vec x, float softcap)
{
    return vec_multiply(vec_set(softcap), vec_tanh(vec_divide(x, vec_set(softcap))));
}

static void scale(float *x, float factor, float softcap, int64_t count)
{
    for (int64_t i = 0; i < count; i += LANES) {
        const int64_t part = count - i < LANES ? count - i : LANES;
        vec entries = vec_multiply(vec_load_part(x + i, part), vec_set(factor));
        if (softcap > 0.0f)
            entries = cap(entries, softcap);
        vec_store_part(x + i, entries, part);
    }
}

/* ---- low-rank pairs ---- */

/* Rows of A at once: each has two sums, so that additions do not wait for each other. */
enum { SUM_ROWS = 4, ADD_VECTORS = 4 };

BB_INLINE void sum_rows(float *sums, const float *a, const float *x, int64_t cols, int32_t row_count)
{
    vec totals[2][SUM_ROWS];
    int64_t i = 0;
    for (int32_t r = 0; r < row_count; r++)
        totals[0][r] = totals[1][r] = vec_set(0.0f);
    for (; i + 2 * LANES <= cols; i += 2 * LANES) {
        const vec first = vec_load(x + i), second = vec_load(x + i + LANES);
        BB_UNROLL
        for (int32_t r = 0; r < row_count; r++) {
            totals[0][r] = vec_fma(vec_load(a + r * cols + i), first, totals[0][r]);
            totals[1][r] = vec_fma(vec_load(a + r * cols + i + LANES), second, totals[1][r]);
        }
    }
    for (; i < cols; i += LANES) {
        const int64_t part = cols - i < LANES ? cols - i : LANES;
        const vec entries = vec_load_part(x + i, part);
        BB_UNROLL
        for (int32_t r = 0; r < row_count; r++)
            totals[0][r] = vec_fma(vec_load_part(a + r * cols + i, part), entries, totals[0][r]);
    }
    for (int32_t r = 0; r < row_count; r++)
        sums[r] = vec_sum(vec_add(totals[0][r], totals[1][r]));
}

static void low_rank_sums(float *sums, const float *a, const float *x, int32_t rank, int64_t cols)
{
    int32_t r = 0;
    for (; r + SUM_ROWS <= rank; r += SUM_ROWS)
        sum_rows(sums + r, a + r * cols, x, cols, SUM_ROWS);
    for (; r < rank; r++)
        sum_rows(sums + r, a + r * cols, x, cols, 1);
}

/* `vectors` whole vectors of `rows` rows, from entry i of row `row` on. */
BB_INLINE void add_tile(const struct bb_low_rank_add *call, int64_t row, int64_t i, int32_t rows, int32_t vectors)
{
    const float *sums = call->sums + row * call->rank, *b = call->b + i;
    float *out = call->out + row * call->out_stride + i;
    vec totals[ADD_VECTORS];
    BB_UNROLL
    for (int32_t k = 0; k < rows * vectors; k++)
        totals[k] = vec_set(0.0f);
    for (int32_t r = 0; r < call->rank; r++, b += call->b_stride)
        BB_UNROLL
        for (int32_t k = 0; k < rows * vectors; k++)
            totals[k] = vec_fma(vec_set(sums[k / vectors * call->rank + r]), vec_load(b + k % vectors * LANES), totals[k]);
    BB_UNROLL
    for (int32_t k = 0; k < rows * vectors; k++) {
        float *place = out + k / vectors * call->out_stride + k % vectors * LANES;
        const vec gain = call->gains != NULL ? vec_load(call->gains + i + k % vectors * LANES) : vec_set(1.0f);
        vec_store(place, vec_fma(gain, totals[k], vec_load(place)));
    }
}

static void add_part(const struct bb_low_rank_add *call, int64_t i, int64_t part)
{
    const vec gain = call->gains != NULL ? vec_load_part(call->gains + i, part) : vec_set(1.0f);
    for (int64_t row = 0; row < call->row_count; row++) {
        float *out = call->out + row * call->out_stride + i;
        vec total = vec_set(0.0f);
        for (int32_t r = 0; r < call->rank; r++)
            total = vec_fma(vec_set(call->sums[row * call->rank + r]), vec_load_part(call->b + r * call->b_stride + i, part), total);
        vec_store_part(out, vec_fma(gain, total, vec_load_part(out, part)), part);
    }
}

/* Four sums at once that do not wait for each other: of one row, or of four where a run is short. */
static void low_rank_add(const struct bb_low_rank_add *call)
{
    int64_t i = 0;
    for (; i + ADD_VECTORS * LANES <= call->count && call->row_count == 1; i += ADD_VECTORS * LANES)
        add_tile(call, 0, i, 1, ADD_VECTORS);
    for (; i + LANES <= call->count; i += LANES) {
        int64_t row = 0;
        for (; row + ADD_VECTORS <= call->row_count; row += ADD_VECTORS)
            add_tile(call, row, i, ADD_VECTORS, 1);
        for (; row < call->row_count; row++)
            add_tile(call, row, i, 1, 1);
    }
    if (i < call->count)
        add_part(call, i, call->count - i);
}

static void fill_rows(struct bb_row_kernels *kernels)
{
    kernels->norm = norm;
    kernels->rope_table = rope_table;
    kernels->rope = rope;
    kernels->glu = glu;
    kernels->add = add;
    kernels->scale = scale;
    kernels->low_rank_sums = low_rank_sums;
    kernels->low_rank_add = low_rank_add;
    kernels->packed_sums = packed_sums;
    kernels->packed_add = packed_add;
}

#endif
