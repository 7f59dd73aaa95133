/* Linear products in plain C: the meaning of the slots, and the floor of every machine. */
#include "backend/cpu/kernels/kernel.h"
#include "quant/quant_modes.h"

#include <math.h>

static size_t linear_scratch(int64_t cols, int64_t row_count)
{
    (void)row_count;
    return (size_t)cols * sizeof(float);
}

static void round_unit(const float *x, int32_t unit, int8_t *codes, int64_t width, float *step, float *sum, float *rest)
{
    float largest = 0.0f;
    bool is_finite = true;
    for (int32_t i = 0; i < unit; i++) {
        is_finite = is_finite && isfinite(x[i]);
        largest = fmaxf(largest, fabsf(x[i]));
    }
    const bool is_empty = !is_finite || largest < 1e-30f;
    const float inverse = is_empty ? 0.0f : 127.0f / largest;
    int32_t total = 0;
    *step = !is_finite ? NAN : is_empty ? 0.0f : largest / 127.0f;
    for (int32_t i = 0; i < unit; i++) {
        const int8_t code = is_empty ? 0 : (int8_t)rintf(x[i] * inverse);
        codes[i / 4 * 4 * width + i % 4] = code;
        total += code;
        if (rest != NULL)
            rest[i] = fmaf((float)-code, *step, x[i]);
    }
    *sum = (float)total;
}

static void round_rows(const struct bb_rounded *rounded, const float *x, int64_t first, int64_t count)
{
    bb_round_rows(rounded, x, first, count, 4, round_unit);
}

/* The product's definition (kernel.h), unit by unit. */
static float multiply_row(const struct bb_linear_task *task, const uint8_t *weight_codes, int64_t row, int64_t x_row)
{
    const struct bb_rounded *rounded = task->rounded;
    const struct bb_quant_mode *mode = bb_quant_mode_of(task->weight->scheme.mode);
    const int32_t unit = rounded->unit;
    const int64_t units = rounded->cols / unit, width = bb_rounded_tile_rows(rounded, x_row);
    const int8_t *x_codes = bb_rounded_row(rounded, x_row);
    float total = 0.0f;
    for (int64_t i = 0; i < units; i++) {
        float scale, bias;
        int32_t dot = 0;
        for (int32_t k = 0; k < unit; k++)
            dot += weight_codes[i * unit + k] * x_codes[(i * unit + k) / 4 * 4 * width + k % 4];
        mode->unpack_group(task->weight, row, i * unit / task->weight->scheme.group_size, &scale, &bias);
        const float product = bias * rounded->sums[x_row * units + i];
        total = fmaf(fmaf(scale, (float)dot, product), rounded->steps[x_row * units + i], total);
    }
    return total;
}

static void multiply_rounded(const struct bb_linear_task *task)
{
    const struct bb_weight *weight = task->weight;
    const struct bb_quant_mode *mode = bb_quant_mode_of(weight->scheme.mode);
    uint8_t *codes = task->scratch;
    for (int64_t row = 0; row < weight->rows; row++) {
        mode->unpack_codes(weight->scheme, (const uint8_t *)weight->data + (size_t)row * bb_weight_row_bytes(weight), 0, weight->cols, codes);
        for (int64_t x_row = task->first_row; x_row < task->first_row + task->row_count; x_row++)
            bb_linear_store(task, row, x_row, multiply_row(task, codes, row, x_row));
    }
}

static void multiply_floats(const struct bb_linear_task *task)
{
    const struct bb_weight *weight = task->weight;
    float *values = task->scratch;
    for (int64_t row = 0; row < weight->rows; row++) {
        bb_quant_unpack_row(weight, row, values);
        for (int64_t x_row = task->first_row; x_row < task->first_row + task->row_count; x_row++) {
            const float *x = task->x + x_row * weight->cols;
            double sum = 0.0;
            for (int64_t i = 0; i < weight->cols; i++)
                sum += (double)values[i] * (double)x[i];
            bb_linear_store(task, row, x_row, (float)sum);
        }
    }
}

void bb_kernels_fill_reference_linear(struct bb_kernels *kernels)
{
    kernels->rounded_tile = 1;
    kernels->rounded_few = 1;
    kernels->linear_rows = 1;
    kernels->linear_scratch = linear_scratch;
    kernels->round_rows = round_rows;
    kernels->multiply_rounded = multiply_rounded;
    kernels->multiply_floats = multiply_floats;
}
