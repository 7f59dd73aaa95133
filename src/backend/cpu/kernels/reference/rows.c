/* Kernels on rows in plain C: the meaning of each slot. */
#include "backend/cpu/kernels/rows.h"

#include <math.h>

static void norm(float *out, const float *x, const struct bb_norm *norm)
{
    double sum = 0.0;
    for (int32_t i = 0; i < norm->size; i++)
        sum += (double)x[i] * (double)x[i];
    float scale = (float)(1.0 / sqrt(sum / norm->size + (double)norm->eps));
    for (int32_t i = 0; i < norm->size; i++) {
        float weight = norm->weight != NULL ? bb_dtype_load(norm->weight, norm->dtype, (size_t)i) : 1.0f;
        out[i] = x[i] * scale * (norm->is_plus_one ? 1.0f + weight : weight);
    }
}

static void rope_table(float *cosines, float *sines, const struct bb_rope *rope, int32_t position)
{
    for (int32_t i = 0; i < rope->dims / 2; i++) {
        float angle = (float)position * rope->inverse_frequencies[i];
        cosines[i] = rope->amplitude * cosf(angle);
        sines[i] = rope->amplitude * sinf(angle);
    }
}

static void rope(float *x, const struct bb_rope *rope, const float *cosines, const float *sines)
{
    int32_t pairs = rope->dims / 2;
    for (int32_t i = 0; i < pairs; i++) {
        float *first = rope->is_traditional ? &x[2 * i] : &x[i];
        float *second = rope->is_traditional ? &x[2 * i + 1] : &x[i + pairs];
        float a = *first, b = *second;
        *first = a * cosines[i] - b * sines[i];
        *second = b * cosines[i] + a * sines[i];
    }
}

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

static void glu(float *out, const float *gate, const float *up, int64_t count, enum bb_activation activation)
{
    for (int64_t i = 0; i < count; i++) {
        float g = gate[i], u = up[i];
        switch (activation) {
        case BB_SILU: out[i] = g * sigmoid(g) * u; break;
        case BB_GELU_TANH: out[i] = 0.5f * g * (1.0f + tanhf(0.7978845608f * (g + 0.044715f * g * g * g))) * u; break;
        case BB_GELU_ERF: out[i] = 0.5f * g * (1.0f + erff(g * 0.7071067812f)) * u; break;
        case BB_SWIGLU_CLIPPED:
            g = fminf(g, 7.0f);
            u = fmaxf(fminf(u, 7.0f), -7.0f);
            out[i] = g * sigmoid(1.702f * g) * (u + 1.0f);
            break;
        }
    }
}

static void add(float *out, const float *a, const float *b, float scale, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        out[i] = a[i] + scale * b[i];
}

static void scale(float *x, float factor, float softcap, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        x[i] *= factor;
        if (softcap > 0.0f)
            x[i] = softcap * tanhf(x[i] / softcap);
    }
}

static void low_rank_sums(float *sums, const float *a, const float *x, int32_t rank, int64_t cols)
{
    for (int32_t r = 0; r < rank; r++) {
        float sum = 0.0f;
        for (int64_t i = 0; i < cols; i++)
            sum += a[r * cols + i] * x[i];
        sums[r] = sum;
    }
}

static void low_rank_add(const struct bb_low_rank_add *call)
{
    for (int64_t row = 0; row < call->row_count; row++)
        for (int64_t i = 0; i < call->count; i++) {
            float sum = 0.0f;
            for (int32_t r = 0; r < call->rank; r++)
                sum += call->sums[row * call->rank + r] * call->b[r * call->b_stride + i];
            call->out[row * call->out_stride + i] += call->gains != NULL ? call->gains[i] * sum : sum;
        }
}

static void packed_sums(const struct bb_packed_sums *call)
{
    for (int64_t row = 0; row < call->row_count; row++)
        for (int32_t r = 0; r < call->rank; r++) {
            float sum = 0.0f;
            for (int64_t i = 0; i < call->cols; i++)
                sum += bb_packed_load(&call->panel, bb_packed_place(&call->panel, call->rank, r, i)) *
                       call->x[row * call->cols + i];
            call->sums[row * call->sums_stride + r] = sum;
        }
}

static void packed_add(const struct bb_packed_add *call)
{
    for (int64_t row = 0; row < call->row_count; row++)
        for (int64_t i = 0; i < call->count; i++) {
            float sum = 0.0f;
            for (int32_t r = 0; r < call->rank; r++) {
                const int64_t place = bb_packed_place(&call->matrix, call->rank, r, call->first + i);
                sum += call->sums[row * call->rank + r] * bb_packed_load(&call->matrix, place);
            }
            call->out[row * call->out_stride + i] += call->gains != NULL ? call->gains[i] * sum : sum;
        }
}

void bb_kernels_fill_reference_rows(struct bb_row_kernels *kernels)
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
