/* What the NEON products share: codes and scales to registers, and a 4 x 4 transpose. Nothing is aligned; nothing behind a row is read. */
#ifndef BB_NEON_UNPACK_H
#define BB_NEON_UNPACK_H

#include "backend/cpu/kernels/kernel.h"
#include "base/compiler.h"

#include <arm_neon.h>
#include <string.h>

enum {
    BB_BLOCK = 64 /* columns unpacked at once: 8 * bits bytes, four registers of byte codes */
};

/* How codes of 1, 2, 3, 5 or 6 bits become bytes: a code lies in the byte `low`, shifted right, and the byte behind it (`high`), shifted left. */
struct bb_unpacker {
    uint8x16_t low[4], high[4]; /* for each 16 codes of a block */
    int8x16_t right, left;      /* shifts, negative to the right */
};

static inline struct bb_unpacker bb_unpacker_of(struct bb_scheme scheme)
{
    struct bb_unpacker unpacker;
    uint8_t low[16], high[16];
    int8_t right[16], left[16];
    const int32_t last = scheme.bits > 2 ? 8 * scheme.bits - 16 : 0; /* a block's last load, as in bb_unpack_block */
    for (int32_t i = 0; i < 4; i++) {
        const int32_t begin = 2 * scheme.bits * i, offset = begin < last ? begin : last;
        for (int32_t j = 0; j < 16; j++) {
            low[j] = (uint8_t)(begin - offset + j * scheme.bits / 8);
            high[j] = (uint8_t)(low[j] + 1);
            right[j] = (int8_t)-(j * scheme.bits % 8);
            left[j] = (int8_t)(8 + right[j]);
        }
        unpacker.low[i] = vld1q_u8(low);
        unpacker.high[i] = vld1q_u8(high);
    }
    unpacker.right = vld1q_s8(right);
    unpacker.left = vld1q_s8(left);
    return unpacker;
}

/* Doubled e2m1 values, plus 12: 0 .. 24 (quant_mode.h). */
BB_INLINE uint8x16_t bb_value_codes(void)
{
    static const uint8_t values[16] = { 12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0 };
    return vld1q_u8(values);
}

/* The low and high nibbles of 16 bytes as codes: the even and the odd columns of 32. */
BB_INLINE void bb_split_nibbles(const uint8_t *codes, uint8x16_t *even, uint8x16_t *odd, const bool has_values)
{
    const uint8x16_t packed = vld1q_u8(codes);
    *even = vandq_u8(packed, vdupq_n_u8(15));
    *odd = vshrq_n_u8(packed, 4);
    if (has_values) {
        *even = vqtbl1q_u8(bb_value_codes(), *even);
        *odd = vqtbl1q_u8(bb_value_codes(), *odd);
    }
}

/* A block of 64 codes in order. */
BB_INLINE void bb_unpack_block(const struct bb_unpacker *unpacker, const uint8_t *codes, uint8x16_t out[4], const int32_t bits, const bool has_values)
{
    if (bits == 8) {
        for (int32_t i = 0; i < 4; i++)
            out[i] = vld1q_u8(codes + 16 * i);
        return;
    }
    if (bits == 4) {
        for (int32_t i = 0; i < 4; i += 2) {
            uint8x16_t even, odd;
            bb_split_nibbles(codes + 8 * i, &even, &odd, has_values);
            out[i] = vzip1q_u8(even, odd);
            out[i + 1] = vzip2q_u8(even, odd);
        }
        return;
    }
    const uint8x16_t mask = vdupq_n_u8((uint8_t)((1 << bits) - 1));
    const int32_t last = bits > 2 ? 8 * bits - 16 : 0;
    BB_UNROLL
    for (int32_t i = 0; i < 4; i++) {
        const int32_t offset = 2 * bits * i < last ? 2 * bits * i : last;
        const uint8x16_t packed = bits == 1 ? vcombine_u8(vld1_u8(codes), vdup_n_u8(0)) : vld1q_u8(codes + offset);
        uint8x16_t code = vshlq_u8(vqtbl1q_u8(packed, unpacker->low[i]), unpacker->right);
        if (bits > 2) /* codes run across byte borders */
            code = vorrq_u8(code, vshlq_u8(vqtbl1q_u8(packed, unpacker->high[i]), unpacker->left));
        out[i] = vandq_u8(code, mask);
    }
}

/* The same for the `count` (a multiple of 8, below 64) columns that a row ends with; the others are code 0. */
BB_INLINE void bb_unpack_part(const struct bb_unpacker *unpacker, const uint8_t *codes, int64_t count, uint8x16_t out[4], const int32_t bits,
                              const bool has_values)
{
    uint8_t copy[BB_BLOCK] = {0};
    memcpy(copy, codes, (size_t)(count / 8 * bits));
    bb_unpack_block(unpacker, copy, out, bits, has_values);
}

/* 4 values of 16 bits as f32. */
BB_INLINE float32x4_t bb_widen(uint16x4_t halves, enum bb_dtype dtype)
{
    return dtype == BB_F16 ? vcvt_f32_f16(vreinterpret_f16_u16(halves)) : vreinterpretq_f32_u32(vshll_n_u16(halves, 16));
}

/* `count` (at most 4) scales or biases from `first` on as f32, the rest 0. */
BB_INLINE float32x4_t bb_load_floats(const void *data, enum bb_dtype dtype, int64_t first, int64_t count)
{
    const size_t size = dtype == BB_F32 ? 4 : 2;
    const uint8_t *from = (const uint8_t *)data + (size_t)first * size;
    uint8_t copy[16] = {0};
    if (count < 4)
        from = memcpy(copy, from, (size_t)count * size);
    return dtype == BB_F32 ? vreinterpretq_f32_u8(vld1q_u8(from)) : bb_widen(vreinterpret_u16_u8(vld1_u8(from)), dtype);
}

/* e4m3 codes, one a lane, as f32. */
BB_INLINE float32x4_t bb_e4m3_values(uint32x4_t code)
{
    const uint32x4_t magnitude = vandq_u32(code, vdupq_n_u32(127)), sign = vshlq_n_u32(vandq_u32(code, vdupq_n_u32(128)), 24);
    /* e4m3's fields in f32's places, then 2^120 for the difference of the exponents' biases: right for subnormal codes too */
    const float32x4_t value = vmulq_f32(vreinterpretq_f32_u32(vshlq_n_u32(magnitude, 20)), vdupq_n_f32(0x1p120f));
    const uint32x4_t bits = vorrq_u32(vreinterpretq_u32_f32(value), sign);
    return vreinterpretq_f32_u32(vbslq_u32(vceqq_u32(magnitude, vdupq_n_u32(127)), vdupq_n_u32(0x7FC00000), bits));
}

/* The same for scale bytes of mx and nv modes: e8m0 (2^(code - 127)) or e4m3. */
BB_INLINE float32x4_t bb_load_scale_bytes(const void *data, enum bb_quant mode, int64_t first, int64_t count)
{
    uint32_t four = 0;
    memcpy(&four, (const uint8_t *)data + first, (size_t)count);
    const uint32x4_t code = vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four))));
    if (mode == BB_QUANT_NVFP4)
        return bb_e4m3_values(code);
    uint32x4_t bits = vshlq_n_u32(code, 23);
    bits = vbslq_u32(vceqq_u32(code, vdupq_n_u32(0)), vdupq_n_u32(0x00400000), bits);
    return vreinterpretq_f32_u32(vbslq_u32(vceqq_u32(code, vdupq_n_u32(255)), vdupq_n_u32(0x7FC00000), bits));
}

/* Scales and biases of `count` (at most 4) groups from `first` on, counted over all rows: value = scale * code + bias. */
BB_INLINE void bb_load_groups(const struct bb_weight *weight, int64_t first, int64_t count, float32x4_t *scale, float32x4_t *bias)
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

/* rows[i] lane j <-> rows[j] lane i, of 32-bit lanes. */
BB_INLINE void bb_transpose(int32x4_t rows[4])
{
    const int64x2_t even01 = vreinterpretq_s64_s32(vtrn1q_s32(rows[0], rows[1])), odd01 = vreinterpretq_s64_s32(vtrn2q_s32(rows[0], rows[1]));
    const int64x2_t even23 = vreinterpretq_s64_s32(vtrn1q_s32(rows[2], rows[3])), odd23 = vreinterpretq_s64_s32(vtrn2q_s32(rows[2], rows[3]));
    rows[0] = vreinterpretq_s32_s64(vtrn1q_s64(even01, even23));
    rows[1] = vreinterpretq_s32_s64(vtrn1q_s64(odd01, odd23));
    rows[2] = vreinterpretq_s32_s64(vtrn2q_s64(even01, even23));
    rows[3] = vreinterpretq_s32_s64(vtrn2q_s64(odd01, odd23));
}

/* The sums of four registers' lanes. */
BB_INLINE int32x4_t bb_fold_four(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d)
{
    return vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
}

/* Results of 4 weight rows from `row` on for one row of x; `bias` is theirs as f32. */
BB_INLINE void bb_store_rows(const struct bb_linear_task *task, int64_t row, int64_t x_row, float32x4_t bias, float32x4_t value)
{
    const int64_t place = x_row * task->out_stride + row, rest = task->weight->rows - row;
    if (rest < 4) {
        float values[4];
        vst1q_f32(values, value);
        for (int64_t i = 0; i < rest; i++)
            bb_linear_store(task, row + i, x_row, values[i]);
        return;
    }
    if (task->bias != NULL)
        value = vaddq_f32(value, bias);
    if (task->residual != NULL)
        value = vaddq_f32(vld1q_f32(task->residual + place), vmulq_n_f32(value, task->scale));
    vst1q_f32(task->out + place, value);
}

/* The biases of 4 rows from `row` on. */
BB_INLINE float32x4_t bb_load_bias(const struct bb_linear_task *task, int64_t row)
{
    const int64_t rest = task->weight->rows - row;
    if (task->bias == NULL || rest <= 0)
        return vdupq_n_f32(0.0f);
    return bb_load_floats(task->bias, task->bias_dtype, row, rest < 4 ? rest : 4);
}

void bb_neon_multiply_one(const struct bb_linear_task *task);      /* rounded product of one row of x (matvec.c) */
void bb_neon_dot_multiply_one(const struct bb_linear_task *task);  /* the same (neon_dot/matvec.c) */
size_t bb_neon_one_scratch(int64_t cols);                          /* for both */
void bb_neon_multiply_floats(const struct bb_linear_task *task);   /* floats.c */
size_t bb_neon_floats_scratch(int64_t cols);

#endif
