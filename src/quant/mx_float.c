/* Small floats with a scale a group (OCP microscaling, and NVIDIA's variant): mxfp4 and mxfp8 with e8m0 scales a group of 32, nvfp4 with e4m3
 * scales a group of 16. Two 4-bit codes a byte, the first in the low nibble. */
#include "quant/quant_mode.h"

#include <math.h>

/* e2m1 values, doubled to be whole. */
static const int8_t doubled_e2m1[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

/* Sign, 4 exponent bits (bias 7), 3 mantissa bits; no infinity, all ones is NaN. */
static float e4m3_to_f32(uint8_t code)
{
    const int32_t exponent = (code >> 3) & 15, mantissa = code & 7;
    float magnitude = exponent == 0 ? ldexpf((float)mantissa, -9) : ldexpf((float)(8 + mantissa), exponent - 10);
    if ((code & 127) == 127)
        magnitude = NAN;
    return (code & 128) != 0 ? -magnitude : magnitude;
}

/* To nearest, ties to even; beyond 448 stays 448. */
static uint8_t f32_to_e4m3(float value)
{
    const uint8_t sign = signbit(value) ? 128 : 0;
    float magnitude = fabsf(value);
    if (isnan(value))
        return sign | 127;
    if (magnitude >= 448.0f)
        return sign | 126;
    int exponent;
    frexpf(magnitude, &exponent);          /* magnitude = m * 2^exponent, m in [0.5, 1) */
    if (magnitude == 0.0f || exponent < -5)
        exponent = -5; /* the smallest normal is 2^-6; below, steps stay 2^-9 */
    const int32_t steps = (int32_t)rintf(ldexpf(magnitude, 4 - exponent)); /* 8 .. 16 of the binade's steps; fewer if subnormal */
    return (uint8_t)(sign | (((exponent + 5) << 3) + steps)); /* a carry into the exponent comes out right; subnormals have exponent -5 */
}

/* To nearest, ties toward 0, as mlx does it; no negative 0; beyond 6 stays 6. */
static uint8_t f32_to_e2m1(float value)
{
    static const float middles[7] = { 0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f };
    const float magnitude = fabsf(value);
    uint8_t code = 0;
    while (code < 7 && magnitude > middles[code])
        code++;
    return value < 0.0f && code != 0 ? (uint8_t)(code | 8) : code;
}

/* The smallest power of two not below value, so that nothing is cut off; 1 for a group of zeros. */
static uint8_t f32_to_e8m0(float value)
{
    if (!isfinite(value))
        return 255;
    if (value <= 0.0f)
        return 127;
    int exponent;
    const float mantissa = frexpf(value, &exponent);
    exponent -= mantissa == 0.5f;
    return (uint8_t)(exponent < -127 ? 0 : exponent + 127);
}

static bool is_mxfp4(struct bb_scheme scheme)
{
    return scheme.bits == 4 && scheme.group_size == 32;
}

static bool is_mxfp8(struct bb_scheme scheme)
{
    return scheme.bits == 8 && scheme.group_size == 32;
}

static bool is_nvfp4(struct bb_scheme scheme)
{
    return scheme.bits == 4 && scheme.group_size == 16;
}

static float load_scale(const struct bb_weight *weight, int64_t row, int64_t group)
{
    const uint8_t code = ((const uint8_t *)weight->scales)[row * (weight->cols / weight->scheme.group_size) + group];
    return weight->scheme.mode == BB_QUANT_NVFP4 ? e4m3_to_f32(code) : bb_e8m0_to_f32(code);
}

static void unpack_codes(struct bb_scheme scheme, const uint8_t *row, int64_t first, int64_t count, uint8_t *out)
{
    (void)scheme;
    row += first / 2;
    for (int64_t i = 0; i < count; i += 2, row++) {
        out[i] = (uint8_t)(doubled_e2m1[*row & 15] + 12);
        out[i + 1] = (uint8_t)(doubled_e2m1[*row >> 4] + 12);
    }
}

static void unpack_group(const struct bb_weight *weight, int64_t row, int64_t group, float *scale, float *bias)
{
    const float value = load_scale(weight, row, group);
    *scale = 0.5f * value;
    *bias = -6.0f * value;
}

static void unpack_row4(const struct bb_weight *weight, int64_t row, float *out)
{
    const uint8_t *codes = (const uint8_t *)weight->data + (size_t)row * bb_weight_row_bytes(weight);
    for (int64_t i = 0; i < weight->cols; i += 2, codes++) {
        const float scale = load_scale(weight, row, i / weight->scheme.group_size);
        out[i] = scale * (0.5f * (float)doubled_e2m1[*codes & 15]);
        out[i + 1] = scale * (0.5f * (float)doubled_e2m1[*codes >> 4]);
    }
}

static void unpack_row8(const struct bb_weight *weight, int64_t row, float *out)
{
    const uint8_t *codes = (const uint8_t *)weight->data + (size_t)row * bb_weight_row_bytes(weight);
    for (int64_t i = 0; i < weight->cols; i++)
        out[i] = load_scale(weight, row, i / weight->scheme.group_size) * e4m3_to_f32(codes[i]);
}

/* The group's scale takes its largest value to the largest code value `limit`. */
static void pack_group(const float *in, int32_t count, float limit, struct bb_scheme scheme, uint8_t *codes, uint8_t *scale_code)
{
    float largest = 0.0f;
    for (int32_t i = 0; i < count; i++)
        largest = fmaxf(largest, fabsf(in[i]));
    const float wanted = largest / limit;
    const bool is_e4m3 = scheme.group_size == 16;
    *scale_code = is_e4m3 ? f32_to_e4m3(wanted) : f32_to_e8m0(wanted);
    const float scale = is_e4m3 ? e4m3_to_f32(*scale_code) : bb_e8m0_to_f32(*scale_code);
    for (int32_t i = 0; i < count; i++) {
        const float value = scale == 0.0f ? 0.0f : in[i] / scale;
        if (scheme.bits == 8)
            codes[i] = f32_to_e4m3(value);
        else if ((i & 1) == 0)
            codes[i / 2] = f32_to_e2m1(value);
        else
            codes[i / 2] = (uint8_t)(codes[i / 2] | f32_to_e2m1(value) << 4);
    }
}

static void pack_row(struct bb_scheme scheme, const float *in, int64_t cols, struct bb_packed_row out)
{
    const float limit = scheme.bits == 8 ? 448.0f : 6.0f;
    for (int64_t group = 0; group * scheme.group_size < cols; group++) {
        const int64_t first = group * scheme.group_size;
        pack_group(in + first, scheme.group_size, limit, scheme, out.codes + first * scheme.bits / 8, (uint8_t *)out.scales + group);
    }
}

const struct bb_quant_mode bb_quant_mxfp4 = {
    .mode = BB_QUANT_MXFP4, .name = "mxfp4", .is_valid = is_mxfp4,
    .unpack_codes = unpack_codes, .unpack_group = unpack_group, .unpack_row = unpack_row4, .pack_row = pack_row,
};

const struct bb_quant_mode bb_quant_mxfp8 = {
    .mode = BB_QUANT_MXFP8, .name = "mxfp8", .is_valid = is_mxfp8, .unpack_row = unpack_row8, .pack_row = pack_row,
};

const struct bb_quant_mode bb_quant_nvfp4 = {
    .mode = BB_QUANT_NVFP4, .name = "nvfp4", .is_valid = is_nvfp4,
    .unpack_codes = unpack_codes, .unpack_group = unpack_group, .unpack_row = unpack_row4, .pack_row = pack_row,
};
