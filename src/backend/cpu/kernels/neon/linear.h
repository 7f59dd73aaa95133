/* What the products of all NEON levels share: unpacking codes and scales to registers. Needs nothing beyond base armv8. */
#ifndef BB_NEON_LINEAR_H
#define BB_NEON_LINEAR_H

#include "backend/cpu/kernels/kernel.h"
#include "base/compiler.h"

#include <arm_neon.h>
#include <string.h>

/* 32 codes of `bits` bits (a constant) in order as bytes, from 4 * bits bytes; nothing behind them is read. */
BB_INLINE uint8x16x2_t bb_unpack_bits(const uint8_t *codes, const int32_t bits)
{
    uint8x16x2_t result;
    if (bits == 8)
        return (uint8x16x2_t){ { vld1q_u8(codes), vld1q_u8(codes + 16) } };
    if (bits == 4) {
        const uint8x16_t packed = vld1q_u8(codes), even = vandq_u8(packed, vdupq_n_u8(15)), odd = vshrq_n_u8(packed, 4);
        return (uint8x16x2_t){ { vzip1q_u8(even, odd), vzip2q_u8(even, odd) } };
    }
    /* each code comes to a 16-bit lane with the byte it begins in and the next, and is shifted down there */
    uint8_t copy[40] = { 0 }, index[16];
    int16_t shift[8];
    memcpy(copy, codes, (size_t)(4 * bits));
    for (int32_t i = 0; i < 8; i++) {
        index[2 * i] = (uint8_t)(i * bits / 8);
        index[2 * i + 1] = (uint8_t)(i * bits / 8 + 1);
        shift[i] = (int16_t)-(i * bits % 8);
    }
    uint8x8_t eight[4];
    BB_UNROLL
    for (int32_t i = 0; i < 4; i++) {
        const uint16x8_t words = vreinterpretq_u16_u8(vqtbl1q_u8(vld1q_u8(copy + bits * i), vld1q_u8(index)));
        eight[i] = vmovn_u16(vandq_u16(vshlq_u16(words, vld1q_s16(shift)), vdupq_n_u16((uint16_t)((1 << bits) - 1))));
    }
    result.val[0] = vcombine_u8(eight[0], eight[1]);
    result.val[1] = vcombine_u8(eight[2], eight[3]);
    return result;
}

/* 32 codes of a scheme as signed bytes: affine codes (8 bits: minus 128), or doubled e2m1 values plus 12 (quant_mode.h). */
BB_INLINE int8x16x2_t bb_unpack_codes(const uint8_t *codes, const int32_t bits, const bool has_values)
{
    static const uint8_t values[16] = { 12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0 };
    const uint8x16x2_t unpacked = bb_unpack_bits(codes, bits);
    int8x16x2_t result;
    BB_UNROLL
    for (int32_t i = 0; i < 2; i++) {
        uint8x16_t bytes = unpacked.val[i];
        if (has_values)
            bytes = vqtbl1q_u8(vld1q_u8(values), bytes);
        if (bits == 8)
            bytes = veorq_u8(bytes, vdupq_n_u8(128));
        result.val[i] = vreinterpretq_s8_u8(bytes);
    }
    return result;
}

/* The same with `count` codes only (a multiple of 8); behind them anything. */
BB_INLINE int8x16x2_t bb_unpack_part(const uint8_t *codes, int64_t count, const int32_t bits, const bool has_values)
{
    uint8_t copy[32] = { 0 };
    if (count >= 32)
        return bb_unpack_codes(codes, bits, has_values);
    memcpy(copy, codes, (size_t)(count > 0 ? count / 8 * bits : 0));
    return bb_unpack_codes(copy, bits, has_values);
}

/* 4 scales or biases from `first` on as f32. */
static inline float32x4_t bb_load_4(const void *data, enum bb_dtype dtype, int64_t first)
{
    if (dtype == BB_F32)
        return vld1q_f32((const float *)data + first);
    const uint16x4_t halves = vld1_u16((const uint16_t *)data + first);
    return dtype == BB_F16 ? vcvt_f32_f16(vreinterpret_f16_u16(halves)) : vreinterpretq_f32_u32(vshll_n_u16(halves, 16));
}

/* The same of `count` elements, the rest 0. */
static inline float32x4_t bb_load_floats(const void *data, enum bb_dtype dtype, int64_t first, int64_t count)
{
    if (count >= 4)
        return bb_load_4(data, dtype, first);
    float copy[4] = { 0 };
    const size_t bytes = bb_dtype_bits(dtype) / 8;
    if (count > 0)
        memcpy(copy, (const char *)data + (size_t)first * bytes, (size_t)count * bytes);
    return bb_load_4(copy, dtype, 0);
}

/* 4 e4m3 codes, widened to 32 bits: the fields in f32's places, then 2^120 for the difference of the exponents' biases: right for subnormal
 * codes too. */
static inline float32x4_t bb_e4m3_values(uint32x4_t code)
{
    const uint32x4_t magnitude = vandq_u32(code, vdupq_n_u32(127)), sign = vshlq_n_u32(vandq_u32(code, vdupq_n_u32(128)), 24);
    const float32x4_t value = vmulq_n_f32(vreinterpretq_f32_u32(vshlq_n_u32(magnitude, 20)), 0x1p120f);
    const uint32x4_t not_a_number = vandq_u32(vceqq_u32(magnitude, vdupq_n_u32(127)), vdupq_n_u32(0x7FC00000));
    return vreinterpretq_f32_u32(vorrq_u32(vorrq_u32(vreinterpretq_u32_f32(value), sign), not_a_number));
}

/* `count` bytes (at most 4) as 32-bit lanes, the rest 0. */
static inline uint32x4_t bb_load_bytes(const uint8_t *data, int64_t count)
{
    uint8_t copy[8] = { 0 };
    if (count > 0)
        memcpy(copy, data, (size_t)(count < 4 ? count : 4));
    return vmovl_u16(vget_low_u16(vmovl_u8(vld1_u8(copy))));
}

/* `count` (at most 4) scale bytes of an mx or nv mode. */
static inline float32x4_t bb_load_scale_bytes(const void *data, enum bb_quant mode, int64_t first, int64_t count)
{
    const uint32x4_t code = bb_load_bytes((const uint8_t *)data + first, count);
    if (mode == BB_QUANT_NVFP4)
        return bb_e4m3_values(code);
    const uint32x4_t is_odd = vorrq_u32(vceqq_u32(code, vdupq_n_u32(0)), vceqq_u32(code, vdupq_n_u32(255))); /* 2^-127, and NaN */
    return vreinterpretq_f32_u32(vorrq_u32(vshlq_n_u32(code, 23), vandq_u32(is_odd, vdupq_n_u32(0x00400000))));
}

/* Scales and biases of `count` (at most 4) groups from `first` on, counted over all rows: value = scale * code + bias. */
static inline void bb_load_groups(const struct bb_weight *weight, int64_t first, int64_t count, float32x4_t *scale, float32x4_t *bias)
{
    if (weight->scheme.mode == BB_QUANT_AFFINE) {
        *scale = bb_load_floats(weight->scales, weight->dtype, first, count);
        *bias = bb_load_floats(weight->biases, weight->dtype, first, count);
        return;
    }
    const float32x4_t value = bb_load_scale_bytes(weight->scales, weight->scheme.mode, first, count);
    *scale = vmulq_n_f32(value, 0.5f);
    *bias = vmulq_n_f32(value, -6.0f);
}

/* rows[i] lane j <-> rows[j] lane i. */
BB_INLINE void bb_transpose(int32x4_t rows[4])
{
    const int64x2_t low01 = vreinterpretq_s64_s32(vtrn1q_s32(rows[0], rows[1])), high01 = vreinterpretq_s64_s32(vtrn2q_s32(rows[0], rows[1]));
    const int64x2_t low23 = vreinterpretq_s64_s32(vtrn1q_s32(rows[2], rows[3])), high23 = vreinterpretq_s64_s32(vtrn2q_s32(rows[2], rows[3]));
    rows[0] = vreinterpretq_s32_s64(vtrn1q_s64(low01, low23));
    rows[1] = vreinterpretq_s32_s64(vtrn1q_s64(high01, high23));
    rows[2] = vreinterpretq_s32_s64(vtrn2q_s64(low01, low23));
    rows[3] = vreinterpretq_s32_s64(vtrn2q_s64(high01, high23));
}

/* Results of 4 weight rows from `row` on for one row of x; `bias` is theirs as f32. */
static inline void bb_store_rows(const struct bb_linear_task *task, int64_t row, int64_t x_row, float32x4_t bias, float32x4_t value)
{
    const int64_t place = x_row * task->out_stride + row, rest = task->weight->rows - row, count = rest < 4 ? rest : 4;
    if (task->bias != NULL)
        value = vaddq_f32(value, bias);
    if (task->residual != NULL)
        value = vaddq_f32(bb_load_floats(task->residual, BB_F32, place, count), vmulq_n_f32(value, task->scale));
    float copy[4];
    vst1q_f32(copy, value);
    memcpy(task->out + place, copy, (size_t)count * sizeof(float));
}

/* The biases of 4 rows from `row` on. */
static inline float32x4_t bb_load_bias(const struct bb_linear_task *task, int64_t row)
{
    const int64_t rest = task->weight->rows - row;
    if (task->bias == NULL || rest <= 0)
        return vdupq_n_f32(0.0f);
    return bb_load_floats(task->bias, task->bias_dtype, row, rest);
}

void bb_neon_multiply_exact(const struct bb_linear_task *task); /* exact.c */
size_t bb_neon_exact_scratch(int64_t cols);

#endif
