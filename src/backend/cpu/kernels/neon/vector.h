/* Vectors of NEON for the shared kernels (kernels/vector/): 4 f32. */
#ifndef BB_NEON_VECTOR_H
#define BB_NEON_VECTOR_H

#include "base/compiler.h"

#include <arm_neon.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    LANES = 4,
    /* Registers of the attention kernel: key tiles at once for 1, 2 and more rows, and vectors of values. */
    SCORE_TILES_1 = 4,
    SCORE_TILES_2 = 2,
    SCORE_TILES = 1,
    VALUE_VECTORS_1 = 16,
    VALUE_VECTORS_2 = 8,
    VALUE_VECTORS = 4
};

typedef float32x4_t vec;
typedef uint32x4_t vec_mask;

BB_INLINE vec vec_set(float x)
{
    return vdupq_n_f32(x);
}

BB_INLINE vec vec_load(const float *p)
{
    return vld1q_f32(p);
}

BB_INLINE void vec_store(float *p, vec x)
{
    vst1q_f32(p, x);
}

/* The first `count` lanes; the others are 0. */
BB_INLINE vec vec_load_part(const float *p, int64_t count)
{
    float lanes[LANES] = {0};
    memcpy(lanes, p, (size_t)count * sizeof *p);
    return vld1q_f32(lanes);
}

BB_INLINE void vec_store_part(float *p, vec x, int64_t count)
{
    float lanes[LANES];
    vst1q_f32(lanes, x);
    memcpy(p, lanes, (size_t)count * sizeof *p);
}

BB_INLINE vec vec_load_f16(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

BB_INLINE vec vec_load_bf16(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

/* Vectors of one and the other of 2 * LANES numbers in turn, from their upper halves (tensor/low_rank.h). */
BB_INLINE void vec_load_high_pair(const uint16_t *high, vec *one, vec *other)
{
    const uint32x4_t pairs = vreinterpretq_u32_u16(vld1q_u16(high));
    *one = vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16));
    *other = vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xFFFF0000u)));
}

/* The same with both halves: (high << 16) + low. */
BB_INLINE void vec_load_joined_pair(const uint16_t *high, const int16_t *low, vec *one, vec *other)
{
    const int32x4_t rest = vreinterpretq_s32_s16(vld1q_s16(low));
    vec_load_high_pair(high, one, other);
    *one = vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(*one), vshrq_n_s32(vshlq_n_s32(rest, 16), 16)));
    *other = vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(*other), vshrq_n_s32(rest, 16)));
}

BB_INLINE void vec_store_f16(uint16_t *p, vec x)
{
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x)));
}

BB_INLINE vec vec_of_bytes(uint8x8_t bytes)
{
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))));
}

BB_INLINE uint8x8_t vec_four_bytes(const uint8_t *p)
{
    uint32_t word;
    memcpy(&word, p, sizeof word);
    return vcreate_u8(word);
}

BB_INLINE vec vec_load_u8(const uint8_t *p)
{
    return vec_of_bytes(vec_four_bytes(p));
}

/* The low and the high halves of LANES bytes. */
BB_INLINE vec vec_load_low_nibbles(const uint8_t *p)
{
    return vec_of_bytes(vand_u8(vec_four_bytes(p), vdup_n_u8(15)));
}

BB_INLINE vec vec_load_high_nibbles(const uint8_t *p)
{
    return vec_of_bytes(vshr_n_u8(vec_four_bytes(p), 4));
}

/* LANES nibbles in order, the low half of a byte first. */
BB_INLINE vec vec_load_nibbles(const uint8_t *p)
{
    uint16_t word;
    memcpy(&word, p, sizeof word);
    const uint8x8_t bytes = vcreate_u8(word);
    return vec_of_bytes(vzip1_u8(vand_u8(bytes, vdup_n_u8(15)), vshr_n_u8(bytes, 4)));
}

BB_INLINE vec vec_add(vec a, vec b)
{
    return vaddq_f32(a, b);
}

BB_INLINE vec vec_subtract(vec a, vec b)
{
    return vsubq_f32(a, b);
}

BB_INLINE vec vec_multiply(vec a, vec b)
{
    return vmulq_f32(a, b);
}

BB_INLINE vec vec_divide(vec a, vec b)
{
    return vdivq_f32(a, b);
}

/* a * b + c, rounded once */
BB_INLINE vec vec_fma(vec a, vec b, vec c)
{
    return vfmaq_f32(c, a, b);
}

/* Where x is NaN: NaN. */
BB_INLINE vec vec_max(vec limit, vec x)
{
    return vmaxq_f32(limit, x);
}

BB_INLINE vec vec_min(vec limit, vec x)
{
    return vminq_f32(limit, x);
}

BB_INLINE vec vec_round(vec x)
{
    return vrndnq_f32(x);
}

BB_INLINE vec vec_floor(vec x)
{
    return vrndmq_f32(x);
}

BB_INLINE vec vec_absolute(vec x)
{
    return vabsq_f32(x);
}

/* x with the sign of y */
BB_INLINE vec vec_with_sign(vec x, vec y)
{
    return vbslq_f32(vdupq_n_u32(0x80000000u), y, x);
}

/* x * 2^n for whole n in [-125, 128]: by 2^(n - 1), then 2, since 2^128 is no f32. */
BB_INLINE vec vec_scale_by_power(vec x, vec n)
{
    const int32x4_t exponent = vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(126)), 23);
    return vmulq_f32(vmulq_f32(x, vreinterpretq_f32_s32(exponent)), vdupq_n_f32(2.0f));
}

BB_INLINE vec_mask vec_is_less(vec a, vec b)
{
    return vcltq_f32(a, b);
}

BB_INLINE vec_mask vec_is_equal(vec a, vec b)
{
    return vceqq_f32(a, b);
}

/* mask ? a : b */
BB_INLINE vec vec_select(vec_mask mask, vec a, vec b)
{
    return vbslq_f32(mask, a, b);
}

/* Sum and maximum over the lanes. */
BB_INLINE float vec_sum(vec x)
{
    return vaddvq_f32(x);
}

BB_INLINE float vec_largest(vec x)
{
    return vmaxvq_f32(x);
}

/* (a0, b0, a1, b1, ...) of (even, odd), and back: for pairs that lie side by side. */
BB_INLINE void vec_load_pairs(const float *p, vec *even, vec *odd)
{
    const float32x4x2_t pairs = vld2q_f32(p);
    *even = pairs.val[0];
    *odd = pairs.val[1];
}

BB_INLINE void vec_store_pairs(float *p, vec even, vec odd)
{
    vst2q_f32(p, (float32x4x2_t){{even, odd}});
}

#endif
