/* MLX's affine mode: value = scale * code + bias, codes of 1 to 8 bits, scale and bias a group of columns.
 *
 * Codes are packed low bits first and run across byte borders: 8 codes take `bits` bytes, little-endian, so every eighth code begins a byte. */
#include "quant/affine.h"

#include <math.h>
#include <string.h>

static bool is_valid(struct bb_scheme scheme)
{
    bool has_bits = (scheme.bits >= 1 && scheme.bits <= 6) || scheme.bits == 8;
    return has_bits && (scheme.group_size == 32 || scheme.group_size == 64 || scheme.group_size == 128);
}

static void unpack_codes(struct bb_scheme scheme, const uint8_t *row, int64_t first, int64_t count, uint8_t *out)
{
    const int32_t bits = scheme.bits;
    const uint64_t mask = (1u << bits) - 1;
    row += first / 8 * bits;
    for (int64_t i = 0; i < count; i += 8, row += bits) {
        uint64_t eight = 0;
        for (int32_t j = 0; j < bits; j++)
            eight |= (uint64_t)row[j] << (8 * j);
        for (int32_t j = 0; j < 8; j++)
            out[i + j] = (uint8_t)((eight >> (bits * j)) & mask);
    }
}

static void unpack_group(const struct bb_weight *weight, int64_t row, int64_t group, float *scale, float *bias)
{
    size_t index = (size_t)(row * (weight->cols / weight->scheme.group_size) + group);
    *scale = bb_dtype_load(weight->scales, weight->dtype, index);
    *bias = bb_dtype_load(weight->biases, weight->dtype, index);
}

static void unpack_row(const struct bb_weight *weight, int64_t row, float *out)
{
    const uint8_t *codes = (const uint8_t *)weight->data + (size_t)row * bb_weight_row_bytes(weight);
    const int64_t group_size = weight->scheme.group_size;
    uint8_t unpacked[128];
    for (int64_t group = 0; group * group_size < weight->cols; group++) {
        float scale, bias;
        unpack_group(weight, row, group, &scale, &bias);
        unpack_codes(weight->scheme, codes, group * group_size, group_size, unpacked);
        for (int64_t i = 0; i < group_size; i++) {
            float product = scale * (float)unpacked[i]; /* a statement of its own: not to be fused with the sum */
            out[group * group_size + i] = product + bias;
        }
    }
}

/* Scale and bias of a group as mlx chooses them, in f32: the end of the range that is farther from 0 becomes exact, and so does 0. */
static void choose_group(const float *in, int32_t count, int32_t bits, float *scale, float *bias)
{
    float low = in[0], high = in[0];
    for (int32_t i = 1; i < count; i++) {
        low = in[i] < low ? in[i] : low;
        high = in[i] > high ? in[i] : high;
    }
    if (bits == 1) {
        *scale = fmaxf(high - low, 1e-7f);
        *bias = low;
        return;
    }
    const float levels = (float)((1 << bits) - 1);
    const bool is_low_edge = fabsf(low) > fabsf(high);
    const float edge = is_low_edge ? low : high;
    float step = fmaxf((high - low) / levels, 1e-7f);
    if (!is_low_edge)
        step = -step;
    const float zero_code = rintf(edge / step);
    *scale = zero_code != 0.0f ? edge / zero_code : step;
    *bias = zero_code != 0.0f ? edge : 0.0f;
}

static void pack_codes(const uint8_t *codes, int64_t count, int32_t bits, uint8_t *out)
{
    for (int64_t i = 0; i < count; i += 8, out += bits) {
        uint64_t eight = 0;
        for (int32_t j = 0; j < 8; j++)
            eight |= (uint64_t)codes[i + j] << (bits * j);
        for (int32_t j = 0; j < bits; j++)
            out[j] = (uint8_t)(eight >> (8 * j));
    }
}

/* Codes come from the unrounded scale and bias, which are then stored in the type of the weights. */
static void pack_row(struct bb_scheme scheme, const float *in, int64_t cols, struct bb_packed_row out)
{
    const float highest = (float)((1 << scheme.bits) - 1);
    uint8_t codes[128];
    for (int64_t group = 0; group * scheme.group_size < cols; group++) {
        const float *values = in + group * scheme.group_size;
        float scale, bias;
        choose_group(values, scheme.group_size, scheme.bits, &scale, &bias);
        for (int32_t i = 0; i < scheme.group_size; i++) {
            float code = rintf((values[i] - bias) / scale);
            codes[i] = (uint8_t)(code > 0.0f ? fminf(code, highest) : 0.0f); /* NaN becomes 0 */
        }
        pack_codes(codes, scheme.group_size, scheme.bits, out.codes + group * scheme.group_size / 8 * scheme.bits);
        bb_dtype_store(out.scales, out.dtype, (size_t)group, scale);
        bb_dtype_store(out.biases, out.dtype, (size_t)group, bias);
    }
}

/* ---- the nearest grid ---- */

/* A group's values and the nearest way to pack them so far. */
struct fit {
    const float *values;
    int32_t count, bits;
    enum bb_dtype dtype;
    float scale, bias; /* as stored */
    double error;      /* sum of squares; negative: none yet */
    uint8_t codes[128];
};

static float round_to(enum bb_dtype dtype, float value)
{
    return dtype == BB_F32 ? value : dtype == BB_BF16 ? bb_bf16_to_f32(bb_f32_to_bf16(value)) : bb_f16_to_f32(bb_f32_to_f16(value));
}

/* Keeps the grid if it is nearer than those before. */
static void try_grid(struct fit *fit, float scale, float bias)
{
    const float highest = (float)((1 << fit->bits) - 1);
    uint8_t codes[128];
    double error = 0.0;
    scale = round_to(fit->dtype, scale);
    bias = round_to(fit->dtype, bias);
    if (scale == 0.0f || !isfinite(scale) || !isfinite(bias))
        return;
    for (int32_t i = 0; i < fit->count; i++) {
        float code = rintf((fit->values[i] - bias) / scale);
        codes[i] = (uint8_t)(code > 0.0f ? fminf(code, highest) : 0.0f);
        float product = scale * (float)codes[i], gap = product + bias - fit->values[i];
        error += (double)gap * (double)gap;
    }
    if (fit->error >= 0.0 && !(error < fit->error))
        return;
    fit->error = error;
    fit->scale = scale;
    fit->bias = bias;
    memcpy(fit->codes, codes, (size_t)fit->count);
}

/* The line through (code, value) by least squares. */
static void refine(struct fit *fit)
{
    double count = fit->count, codes = 0.0, values = 0.0, squares = 0.0, products = 0.0;
    for (int32_t i = 0; i < fit->count; i++) {
        double code = fit->codes[i], value = (double)fit->values[i];
        codes += code;
        values += value;
        squares += code * code;
        products += code * value;
    }
    double spread = count * squares - codes * codes;
    if (spread <= 0.0)
        return;
    double scale = (count * products - codes * values) / spread;
    try_grid(fit, (float)scale, (float)((values - scale * codes) / count));
}

void bb_affine_pack_nearest(struct bb_scheme scheme, const float *in, int64_t cols, const struct bb_weight *original, int64_t row,
                            struct bb_packed_row out)
{
    enum { REFINEMENTS = 3 };
    static const float shares[] = {0.97f, 0.94f, 0.9f, 0.85f, 0.8f};
    for (int64_t group = 0; group * scheme.group_size < cols; group++) {
        struct fit fit = {.values = in + group * scheme.group_size, .count = scheme.group_size, .bits = scheme.bits, .dtype = out.dtype, .error = -1.0};
        float scale, bias, low = fit.values[0], high = low;
        for (int32_t i = 1; i < fit.count; i++) {
            low = fminf(low, fit.values[i]);
            high = fmaxf(high, fit.values[i]);
        }
        choose_group(fit.values, fit.count, fit.bits, &scale, &bias);
        fit.scale = round_to(out.dtype, scale);
        fit.bias = round_to(out.dtype, bias);
        if (original != NULL) {
            float old_scale, old_bias;
            unpack_group(original, row, group, &old_scale, &old_bias);
            try_grid(&fit, old_scale, old_bias);
        }
        try_grid(&fit, scale, bias);
        for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
            try_grid(&fit, (high - low) * shares[i] / (float)((1 << fit.bits) - 1), (low + high) / 2.0f - (high - low) * shares[i] / 2.0f);
        for (int32_t i = 0; i < REFINEMENTS; i++)
            refine(&fit);
        pack_codes(fit.codes, fit.count, fit.bits, out.codes + group * scheme.group_size / 8 * scheme.bits);
        bb_dtype_store(out.scales, out.dtype, (size_t)group, fit.scale);
        bb_dtype_store(out.biases, out.dtype, (size_t)group, fit.bias);
    }
}

const struct bb_quant_mode bb_quant_affine = {
    .mode = BB_QUANT_AFFINE,
    .name = "affine",
    .has_biases = true,
    .is_valid = is_valid,
    .unpack_codes = unpack_codes,
    .unpack_group = unpack_group,
    .unpack_row = unpack_row,
    .pack_row = pack_row,
};
