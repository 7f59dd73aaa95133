/* Vectors of AVX2 with FMA and F16C for the shared kernels (kernels/vector/): 8 f32. */
#ifndef BB_AVX2_VECTOR_H
#define BB_AVX2_VECTOR_H

#include "base/compiler.h"

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    LANES = 8,
    /* Registers of the attention kernel: key tiles at once for 1, 2 and more rows, and vectors of values. */
    SCORE_TILES_1 = 4,
    SCORE_TILES_2 = 2,
    SCORE_TILES = 1,
    VALUE_VECTORS_1 = 8,
    VALUE_VECTORS_2 = 4,
    VALUE_VECTORS = 2
};

typedef __m256 vec;
typedef __m256 vec_mask;

BB_INLINE vec vec_set(float x)
{
    return _mm256_set1_ps(x);
}

BB_INLINE vec vec_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

BB_INLINE void vec_store(float *p, vec x)
{
    _mm256_storeu_ps(p, x);
}

/* All ones in the first `count` lanes. */
BB_INLINE __m256i vec_first_lanes(int64_t count)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* The first `count` lanes; the others are 0. */
BB_INLINE vec vec_load_part(const float *p, int64_t count)
{
    return _mm256_maskload_ps(p, vec_first_lanes(count));
}

BB_INLINE void vec_store_part(float *p, vec x, int64_t count)
{
    _mm256_maskstore_ps(p, vec_first_lanes(count), x);
}

BB_INLINE vec vec_load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

BB_INLINE vec vec_load_bf16(const uint16_t *p)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

/* Vectors of one and the other of 2 * LANES numbers in turn, from their upper halves (tensor/low_rank.h). */
BB_INLINE void vec_load_high_pair(const uint16_t *high, vec *one, vec *other)
{
    const __m256i pairs = _mm256_loadu_si256((const __m256i *)(const void *)high);
    *one = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
    *other = _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32((int)0xFFFF0000)));
}

/* The same with both halves: (high << 16) + low. */
BB_INLINE void vec_load_joined_pair(const uint16_t *high, const int16_t *low, vec *one, vec *other)
{
    const __m256i rest = _mm256_loadu_si256((const __m256i *)(const void *)low);
    vec_load_high_pair(high, one, other);
    *one = _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(*one), _mm256_srai_epi32(_mm256_slli_epi32(rest, 16), 16)));
    *other = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(*other), _mm256_srai_epi32(rest, 16)));
}

BB_INLINE void vec_store_f16(uint16_t *p, vec x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

BB_INLINE vec vec_of_bytes(__m128i bytes)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
}

BB_INLINE vec vec_load_u8(const uint8_t *p)
{
    return vec_of_bytes(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

/* The low and the high halves of LANES bytes. */
BB_INLINE vec vec_load_low_nibbles(const uint8_t *p)
{
    return vec_of_bytes(_mm_and_si128(_mm_loadl_epi64((const __m128i *)(const void *)p), _mm_set1_epi8(15)));
}

BB_INLINE vec vec_load_high_nibbles(const uint8_t *p)
{
    __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return vec_of_bytes(_mm_and_si128(_mm_srli_epi16(bytes, 4), _mm_set1_epi8(15)));
}

/* LANES nibbles in order, the low half of a byte first. */
BB_INLINE vec vec_load_nibbles(const uint8_t *p)
{
    __m128i bytes = _mm_loadu_si32(p), fifteen = _mm_set1_epi8(15);
    return vec_of_bytes(
        _mm_unpacklo_epi8(_mm_and_si128(bytes, fifteen), _mm_and_si128(_mm_srli_epi16(bytes, 4), fifteen)));
}

BB_INLINE vec vec_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}

BB_INLINE vec vec_subtract(vec a, vec b)
{
    return _mm256_sub_ps(a, b);
}

BB_INLINE vec vec_multiply(vec a, vec b)
{
    return _mm256_mul_ps(a, b);
}

BB_INLINE vec vec_divide(vec a, vec b)
{
    return _mm256_div_ps(a, b);
}

/* a * b + c, rounded once */
BB_INLINE vec vec_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

/* Where x is NaN: NaN. */
BB_INLINE vec vec_max(vec limit, vec x)
{
    return _mm256_max_ps(limit, x);
}

BB_INLINE vec vec_min(vec limit, vec x)
{
    return _mm256_min_ps(limit, x);
}

BB_INLINE vec vec_round(vec x)
{
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

BB_INLINE vec vec_floor(vec x)
{
    return _mm256_floor_ps(x);
}

BB_INLINE vec vec_absolute(vec x)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

/* x with the sign of y */
BB_INLINE vec vec_with_sign(vec x, vec y)
{
    return _mm256_or_ps(vec_absolute(x), _mm256_and_ps(y, _mm256_set1_ps(-0.0f)));
}

/* x * 2^n for whole n in [-125, 128]: by 2^(n - 1), then 2, since 2^128 is no f32. */
BB_INLINE vec vec_scale_by_power(vec x, vec n)
{
    __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(126)), 23);
    return _mm256_mul_ps(_mm256_mul_ps(x, _mm256_castsi256_ps(exponent)), _mm256_set1_ps(2.0f));
}

BB_INLINE vec_mask vec_is_less(vec a, vec b)
{
    return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}

BB_INLINE vec_mask vec_is_equal(vec a, vec b)
{
    return _mm256_cmp_ps(a, b, _CMP_EQ_OQ);
}

/* mask ? a : b */
BB_INLINE vec vec_select(vec_mask mask, vec a, vec b)
{
    return _mm256_blendv_ps(b, a, mask);
}

/* Sum and maximum over the lanes. */
BB_INLINE float vec_sum(vec x)
{
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
}

BB_INLINE float vec_largest(vec x)
{
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 quarter = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(quarter, _mm_movehdup_ps(quarter)));
}

/* (a0, b0, a1, b1, ...) of (even, odd), and back: for pairs that lie side by side. */
BB_INLINE void vec_load_pairs(const float *p, vec *even, vec *odd)
{
    const vec first = _mm256_loadu_ps(p), second = _mm256_loadu_ps(p + LANES);
    const vec low = _mm256_permute2f128_ps(first, second, 0x20), high = _mm256_permute2f128_ps(first, second, 0x31);
    *even = _mm256_shuffle_ps(low, high, 0x88);
    *odd = _mm256_shuffle_ps(low, high, 0xDD);
}

BB_INLINE void vec_store_pairs(float *p, vec even, vec odd)
{
    const vec low = _mm256_unpacklo_ps(even, odd), high = _mm256_unpackhi_ps(even, odd);
    _mm256_storeu_ps(p, _mm256_permute2f128_ps(low, high, 0x20));
    _mm256_storeu_ps(p + LANES, _mm256_permute2f128_ps(low, high, 0x31));
}

#endif
