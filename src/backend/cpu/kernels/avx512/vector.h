/* Vectors of AVX-512 for the shared kernels (kernels/vector/): 16 f32. */
#ifndef BB_AVX512_VECTOR_H
#define BB_AVX512_VECTOR_H

#include "base/compiler.h"

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    LANES = 16,
    /* Registers of the attention kernel: key tiles at once for 1, 2 and more rows, and vectors of values. */
    SCORE_TILES_1 = 4,
    SCORE_TILES_2 = 4,
    SCORE_TILES = 4,
    VALUE_VECTORS_1 = 8,
    VALUE_VECTORS_2 = 4,
    VALUE_VECTORS = 4
};

typedef __m512 vec;
typedef __mmask16 vec_mask;

BB_INLINE vec vec_set(float x)
{
    return _mm512_set1_ps(x);
}

BB_INLINE vec vec_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

BB_INLINE void vec_store(float *p, vec x)
{
    _mm512_storeu_ps(p, x);
}

/* The first `count` lanes; the others are 0. */
BB_INLINE vec vec_load_part(const float *p, int64_t count)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
}

BB_INLINE void vec_store_part(float *p, vec x, int64_t count)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), x);
}

BB_INLINE vec vec_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

BB_INLINE vec vec_load_bf16(const uint16_t *p)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* Vectors of one and the other of 2 * LANES numbers in turn, from their upper halves (tensor/low_rank.h). */
BB_INLINE void vec_load_high_pair(const uint16_t *high, vec *one, vec *other)
{
    const __m512i pairs = _mm512_loadu_si512(high);
    *one = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    *other = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xFFFF0000)));
}

/* The same with both halves: (high << 16) + low. */
BB_INLINE void vec_load_joined_pair(const uint16_t *high, const int16_t *low, vec *one, vec *other)
{
    const __m512i rest = _mm512_loadu_si512(low);
    vec_load_high_pair(high, one, other);
    *one = _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(*one), _mm512_srai_epi32(_mm512_slli_epi32(rest, 16), 16)));
    *other = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(*other), _mm512_srai_epi32(rest, 16)));
}

BB_INLINE void vec_store_f16(uint16_t *p, vec x)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

BB_INLINE vec vec_of_bytes(__m128i bytes)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}

BB_INLINE vec vec_load_u8(const uint8_t *p)
{
    return vec_of_bytes(_mm_loadu_si128((const __m128i *)(const void *)p));
}

/* The low and the high halves of LANES bytes. */
BB_INLINE vec vec_load_low_nibbles(const uint8_t *p)
{
    return vec_of_bytes(_mm_and_si128(_mm_loadu_si128((const __m128i *)(const void *)p), _mm_set1_epi8(15)));
}

BB_INLINE vec vec_load_high_nibbles(const uint8_t *p)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
    return vec_of_bytes(_mm_and_si128(_mm_srli_epi16(bytes, 4), _mm_set1_epi8(15)));
}

/* LANES nibbles in order, the low half of a byte first. */
BB_INLINE vec vec_load_nibbles(const uint8_t *p)
{
    __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)p), fifteen = _mm_set1_epi8(15);
    return vec_of_bytes(
        _mm_unpacklo_epi8(_mm_and_si128(bytes, fifteen), _mm_and_si128(_mm_srli_epi16(bytes, 4), fifteen)));
}

BB_INLINE vec vec_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}

BB_INLINE vec vec_subtract(vec a, vec b)
{
    return _mm512_sub_ps(a, b);
}

BB_INLINE vec vec_multiply(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}

BB_INLINE vec vec_divide(vec a, vec b)
{
    return _mm512_div_ps(a, b);
}

/* a * b + c, rounded once */
BB_INLINE vec vec_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* Where x is NaN: NaN. */
BB_INLINE vec vec_max(vec limit, vec x)
{
    return _mm512_max_ps(limit, x);
}

BB_INLINE vec vec_min(vec limit, vec x)
{
    return _mm512_min_ps(limit, x);
}

BB_INLINE vec vec_round(vec x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

BB_INLINE vec vec_floor(vec x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

BB_INLINE vec vec_absolute(vec x)
{
    return _mm512_abs_ps(x);
}

/* x with the sign of y */
BB_INLINE vec vec_with_sign(vec x, vec y)
{
    return _mm512_or_ps(_mm512_abs_ps(x), _mm512_and_ps(y, _mm512_set1_ps(-0.0f)));
}

/* x * 2^n for whole n in [-125, 128] */
BB_INLINE vec vec_scale_by_power(vec x, vec n)
{
    return _mm512_scalef_ps(x, n);
}

BB_INLINE vec_mask vec_is_less(vec a, vec b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}

BB_INLINE vec_mask vec_is_equal(vec a, vec b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}

/* mask ? a : b */
BB_INLINE vec vec_select(vec_mask mask, vec a, vec b)
{
    return _mm512_mask_blend_ps(mask, b, a);
}

/* Sum and maximum over the lanes. */
BB_INLINE float vec_sum(vec x)
{
    return _mm512_reduce_add_ps(x);
}

BB_INLINE float vec_largest(vec x)
{
    return _mm512_reduce_max_ps(x);
}

/* (a0, b0, a1, b1, ...) of (even, odd), and back: for pairs that lie side by side. */
BB_INLINE void vec_load_pairs(const float *p, vec *even, vec *odd)
{
    const __m512i order = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    vec low = _mm512_loadu_ps(p), high = _mm512_loadu_ps(p + LANES);
    *even = _mm512_permutex2var_ps(low, order, high);
    *odd = _mm512_permutex2var_ps(low, _mm512_add_epi32(order, _mm512_set1_epi32(1)), high);
}

BB_INLINE void vec_store_pairs(float *p, vec even, vec odd)
{
    const __m512i order = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    _mm512_storeu_ps(p, _mm512_permutex2var_ps(even, order, odd));
    _mm512_storeu_ps(p + LANES, _mm512_permutex2var_ps(even, _mm512_add_epi32(order, _mm512_set1_epi32(8)), odd));
}

#endif
