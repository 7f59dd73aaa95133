/* What the AVX2 products share: unpacking codes and scales to registers, and an 8 x 8 transpose. */
#ifndef BB_AVX2_UNPACK_H
#define BB_AVX2_UNPACK_H

#include "backend/cpu/kernels/kernel.h"
#include "base/compiler.h"

#include <immintrin.h>
#include <string.h>

/* Says to the compiler that a sum is wanted in a register here; else gcc 12 may store every sum of a tile at every step. */
static inline void bb_keep(__m256i *sum)
{
    __asm__("" : "+x"(*sum));
}

/* 32 codes of `bits` bits in order as bytes, from 4 * bits bytes; nothing behind them is read. bits is a constant. */
BB_INLINE __m256i bb_unpack_bits(const uint8_t *codes, const int32_t bits)
{
    if (bits == 8)
        return _mm256_loadu_si256((const __m256i *)codes);
    if (bits == 4) {
        const __m256i pairs = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)codes));
        return _mm256_and_si256(_mm256_or_si256(pairs, _mm256_slli_epi16(pairs, 4)), _mm256_set1_epi8(15));
    }
    const uint64_t mask = UINT64_C(0x0101010101010101) * ((1u << bits) - 1);
    uint64_t eight[4];
    BB_UNROLL
    for (int32_t i = 0; i < 4; i++) {
        const int32_t place = bits * i, last = bits * 4 - 8; /* a load of 8 bytes begins at `last` at the latest */
        uint64_t packed = 0;
        memcpy(&packed, codes + (place < last || last < 0 ? place : last), bits == 1 ? 1 : 8);
        eight[i] = _pdep_u64(last >= 0 && place > last ? packed >> (8 * (place - last)) : packed, mask);
    }
    return _mm256_setr_epi64x((long long)eight[0], (long long)eight[1], (long long)eight[2], (long long)eight[3]);
}

/* 32 codes of a scheme as whole numbers (quant_mode.h): affine codes, or doubled e2m1 values plus 12. */
BB_INLINE __m256i bb_unpack_codes(const uint8_t *codes, const int32_t bits, const bool has_values)
{
    const __m256i unpacked = bb_unpack_bits(codes, bits);
    if (!has_values)
        return unpacked;
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0)), unpacked);
}

/* The same with `count` codes only (a multiple of 8), and 0 behind them. */
BB_INLINE __m256i bb_unpack_part(const uint8_t *codes, int64_t count, const int32_t bits, const bool has_values)
{
    uint8_t copy[32] = { 0 };
    if (count >= 32)
        return bb_unpack_codes(codes, bits, has_values);
    memcpy(copy, codes, (size_t)(count / 8 * bits));
    return bb_unpack_codes(copy, bits, has_values);
}

/* 8 scales or biases from `first` on as f32. */
static inline __m256 bb_load_8(const void *data, enum bb_dtype dtype, int64_t first)
{
    if (dtype == BB_F32)
        return _mm256_loadu_ps((const float *)data + first);
    const __m128i halves = _mm_loadu_si128((const __m128i *)(const void *)((const uint16_t *)data + first));
    return dtype == BB_F16 ? _mm256_cvtph_ps(halves) : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

/* The same of `count` elements, the rest 0. */
static inline __m256 bb_load_floats(const void *data, enum bb_dtype dtype, int64_t first, int64_t count)
{
    if (count >= 8)
        return bb_load_8(data, dtype, first);
    float copy[8] = { 0 };
    const size_t bytes = bb_dtype_bits(dtype) / 8;
    if (count > 0)
        memcpy(copy, (const char *)data + (size_t)first * bytes, (size_t)count * bytes);
    return bb_load_8(copy, dtype, 0);
}

/* 8 e4m3 codes, widened to 32 bits: the fields in f32's places, then 2^120 for the difference of the exponents' biases: right for subnormal
 * codes too. */
static inline __m256 bb_e4m3_values(__m256i code)
{
    const __m256i low = _mm256_set1_epi32(127), magnitude = _mm256_and_si256(code, low), sign = _mm256_slli_epi32(_mm256_andnot_si256(low, code), 24);
    const __m256 value = _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(magnitude, 20)), _mm256_set1_ps(0x1p120f));
    const __m256 not_a_number = _mm256_and_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(magnitude, low)), _mm256_set1_ps(__builtin_nanf("")));
    return _mm256_or_ps(_mm256_or_ps(value, _mm256_castsi256_ps(sign)), not_a_number);
}

/* `count` (at most 8) scale bytes of an mx or nv mode: e8m0 (2^(code - 127)) or e4m3. */
static inline __m256 bb_load_scale_bytes(const void *data, enum bb_quant mode, int64_t first, int64_t count)
{
    const void *codes = (const uint8_t *)data + first;
    uint8_t copy[8] = { 0 };
    if (count < 8)
        codes = memcpy(copy, codes, (size_t)(count > 0 ? count : 0));
    const __m256i code = _mm256_cvtepu8_epi32(_mm_loadl_epi64(codes));
    if (mode == BB_QUANT_NVFP4)
        return bb_e4m3_values(code);
    const __m256i is_zero = _mm256_cmpeq_epi32(code, _mm256_setzero_si256()), is_nan = _mm256_cmpeq_epi32(code, _mm256_set1_epi32(255));
    __m256i bits = _mm256_slli_epi32(code, 23); /* 255 is infinity yet: made NaN by one bit more */
    bits = _mm256_or_si256(bits, _mm256_and_si256(is_nan, _mm256_set1_epi32(0x00400000)));
    return _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_and_si256(is_zero, _mm256_set1_epi32(0x00400000))));
}

/* Scales and biases of `count` (at most 8) groups from `first` on, counted over all rows: value = scale * code + bias. */
static inline void bb_load_groups(const struct bb_weight *weight, int64_t first, int64_t count, __m256 *scale, __m256 *bias)
{
    if (weight->scheme.mode == BB_QUANT_AFFINE) {
        *scale = bb_load_floats(weight->scales, weight->dtype, first, count);
        *bias = bb_load_floats(weight->biases, weight->dtype, first, count);
        return;
    }
    const __m256 value = bb_load_scale_bytes(weight->scales, weight->scheme.mode, first, count);
    *scale = _mm256_mul_ps(value, _mm256_set1_ps(0.5f));
    *bias = _mm256_mul_ps(value, _mm256_set1_ps(-6.0f));
}

/* rows[i] lane j <-> rows[j] lane i, of 32-bit lanes. */
BB_INLINE void bb_transpose(__m256i rows[8])
{
    __m256i pairs[8], quads[8];
    BB_UNROLL
    for (int32_t i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    BB_UNROLL
    for (int32_t i = 0; i < 8; i += 4) { /* quads[i + j]: in each half h, column 4h + j of rows i .. i+3 */
        quads[i] = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
        quads[i + 1] = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
        quads[i + 2] = _mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        quads[i + 3] = _mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    BB_UNROLL
    for (int32_t j = 0; j < 4; j++) {
        rows[j] = _mm256_permute2x128_si256(quads[j], quads[4 + j], 0x20);
        rows[4 + j] = _mm256_permute2x128_si256(quads[j], quads[4 + j], 0x31);
    }
}

/* Results of 8 weight rows from `row` on for one row of x; `bias` is theirs as f32. */
static inline void bb_store_rows(const struct bb_linear_task *task, int64_t row, int64_t x_row, __m256 bias, __m256 value)
{
    const int64_t place = x_row * task->out_stride + row, rest = task->weight->rows - row;
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(rest < 8 ? (int32_t)rest : 8), lanes);
    if (task->bias != NULL)
        value = _mm256_add_ps(value, bias);
    if (task->residual != NULL)
        value = _mm256_add_ps(_mm256_maskload_ps(task->residual + place, mask), _mm256_mul_ps(_mm256_set1_ps(task->scale), value));
    _mm256_maskstore_ps(task->out + place, mask, value);
}

/* The biases of 8 rows from `row` on. */
static inline __m256 bb_load_bias(const struct bb_linear_task *task, int64_t row)
{
    const int64_t rest = task->weight->rows - row;
    if (task->bias == NULL || rest <= 0)
        return _mm256_setzero_ps();
    return bb_load_floats(task->bias, task->bias_dtype, row, rest < 8 ? rest : 8);
}

/* Scales and biases [count, groups of a row] of `count` rows from `row` on as f32; up to 7 more entries of each are written. */
static inline void bb_widen_groups(const struct bb_weight *weight, int64_t row, int64_t count, float *scales, float *biases)
{
    const int64_t groups = weight->cols / weight->scheme.group_size, first = row * groups, all = count * groups;
    for (int64_t g = 0; g < all; g += 8) {
        __m256 scale, bias;
        bb_load_groups(weight, first + g, all - g, &scale, &bias);
        _mm256_storeu_ps(scales + g, scale);
        _mm256_storeu_ps(biases + g, bias);
    }
}

enum {
    BB_AVX2_FEW = 3 /* rows of x up to which a panel of weights does not pay */
};

void bb_avx2_multiply_few(const struct bb_linear_task *task);    /* rounded product of a few rows of x (matvec.c) */
size_t bb_avx2_few_scratch(int64_t cols);
void bb_avx2_multiply_floats(const struct bb_linear_task *task); /* floats.c */
size_t bb_avx2_floats_scratch(int64_t cols);

#endif
