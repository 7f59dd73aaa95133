/* Kernels of the backward pass in plain C: the meaning of each slot. */
#include "backend/cpu/kernels/gradients.h"

#include "quant/quant_modes.h"

#include <math.h>

static void multiply_add(const struct bb_product_task *task)
{
    for (int64_t i = 0; i < task->rows; i++) {
        float *out = task->out + i * task->out_stride;
        for (int64_t k = 0; k < task->inner; k++) {
            const float a = task->a[i * task->a_row + k * task->a_inner], *b = task->b + k * task->b_stride;
            for (int64_t c = 0; c < task->cols; c++)
                out[c] = fmaf(a, b[c], out[c]);
        }
    }
}

enum { CODES_AT_ONCE = 64 };

void bb_unpack_columns(float *out, const struct bb_weight *weight, int64_t row, int64_t first, int64_t count)
{
    const struct bb_quant_mode *mode = bb_quant_mode_of(weight->scheme.mode);
    if (mode == NULL) {
        bb_dtype_load_row(out, weight->data, weight->dtype, (size_t)(row * weight->cols + first), (size_t)count);
        return;
    }
    if (mode->unpack_codes == NULL) {
        /* One byte an entry: the row from `first` on, as a row of its own. */
        struct bb_weight part = *weight;
        const int64_t group = weight->scheme.group_size, groups = weight->cols / group;
        part.data = (const uint8_t *)weight->data + row * weight->cols + first;
        part.scales = (const uint8_t *)weight->scales + row * groups + first / group;
        part.rows = 1;
        part.cols = count;
        mode->unpack_row(&part, 0, out);
        return;
    }
    const uint8_t *codes_row = (const uint8_t *)weight->data + (size_t)row * bb_weight_row_bytes(weight);
    const int64_t step = weight->scheme.group_size < CODES_AT_ONCE ? weight->scheme.group_size : CODES_AT_ONCE;
    for (int64_t done = 0; done < count; done += step) {
        uint8_t codes[CODES_AT_ONCE];
        float scale, bias;
        const int64_t run = count - done < step ? count - done : step;
        mode->unpack_codes(weight->scheme, codes_row, first + done, run, codes);
        mode->unpack_group(weight, row, (first + done) / weight->scheme.group_size, &scale, &bias);
        for (int64_t i = 0; i < run; i++)
            out[done + i] = scale * (float)codes[i] + bias;
    }
}

static float norm_grad(float *d_x, const float *x, const float *d_out, const struct bb_norm *norm, bool adds)
{
    double squares = 0.0, product = 0.0;
    for (int32_t i = 0; i < norm->size; i++) {
        const float weight = norm->weight != NULL ? bb_dtype_load(norm->weight, norm->dtype, (size_t)i) : 1.0f;
        const double g = (double)d_out[i] * (double)(norm->is_plus_one ? 1.0f + weight : weight);
        squares += (double)x[i] * (double)x[i];
        product += (double)x[i] * g;
    }
    const double scale = 1.0 / sqrt(squares / norm->size + (double)norm->eps), share = scale * scale * product / norm->size;
    for (int32_t i = 0; i < norm->size && d_x != NULL; i++) {
        const float weight = norm->weight != NULL ? bb_dtype_load(norm->weight, norm->dtype, (size_t)i) : 1.0f;
        const double g = (double)d_out[i] * (double)(norm->is_plus_one ? 1.0f + weight : weight);
        const float gradient = (float)(scale * (g - (double)x[i] * share));
        d_x[i] = adds ? d_x[i] + gradient : gradient;
    }
    return (float)scale;
}

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

static void glu_grad(float *d_gate, float *d_up, const float *gate, const float *up, const float *d_out, int64_t count, enum bb_activation activation)
{
    for (int64_t i = 0; i < count; i++) {
        float g = gate[i], u = up[i], value = 0.0f, slope = 0.0f, d = d_out[i]; /* activation(g) and its derivative */
        float u_slope = 1.0f;
        switch (activation) {
        case BB_SILU:
            value = g * sigmoid(g);
            slope = sigmoid(g) * (1.0f + g * (1.0f - sigmoid(g)));
            break;
        case BB_GELU_TANH: {
            const float t = tanhf(0.7978845608f * (g + 0.044715f * g * g * g));
            value = 0.5f * g * (1.0f + t);
            slope = 0.5f * (1.0f + t) + 0.5f * g * (1.0f - t * t) * 0.7978845608f * (1.0f + 0.134145f * g * g);
            break;
        }
        case BB_GELU_ERF:
            value = 0.5f * g * (1.0f + erff(g * 0.7071067812f));
            slope = 0.5f * (1.0f + erff(g * 0.7071067812f)) + g * 0.3989422804f * expf(-0.5f * g * g);
            break;
        case BB_SWIGLU_CLIPPED: {
            const float clipped = fminf(g, 7.0f), s = sigmoid(1.702f * clipped);
            value = clipped * s;
            slope = g <= 7.0f ? s * (1.0f + 1.702f * clipped * (1.0f - s)) : 0.0f;
            u_slope = u >= -7.0f && u <= 7.0f ? 1.0f : 0.0f;
            u = fmaxf(fminf(u, 7.0f), -7.0f) + 1.0f;
            break;
        }
        }
        d_gate[i] = d * slope * u;
        d_up[i] = d * value * u_slope;
    }
}

static float largest(const float *x, int64_t count)
{
    float result = -INFINITY;
    for (int64_t i = 0; i < count; i++)
        result = x[i] > result || x[i] != x[i] ? x[i] : result;
    return result;
}

static float exponentials(float *x, float shift, int64_t count)
{
    double sum = 0.0;
    for (int64_t i = 0; i < count; i++) {
        x[i] = expf(x[i] - shift);
        sum += (double)x[i];
    }
    return (float)sum;
}

void bb_kernels_fill_reference_gradients(struct bb_gradient_kernels *kernels)
{
    kernels->multiply_add = multiply_add;
    kernels->unpack = bb_unpack_columns;
    kernels->norm_grad = norm_grad;
    kernels->glu_grad = glu_grad;
    kernels->largest = largest;
    kernels->exponentials = exponentials;
}
