/* What the AVX-512 products share: unpacking codes and scales to registers, and a 16 x 16 transpose. */
#ifndef BB_AVX512_UNPACK_H
#define BB_AVX512_UNPACK_H

#include "backend/cpu/kernels/kernel.h"
#include "base/compiler.h"

#include <immintrin.h>

/* Says to the compiler that a sum is wanted in a register here. Without it gcc 12 stores every sum of a tile at every step (half the speed). */
static inline void bb_keep(__m512i *sum)
{
    __asm__("" : "+v"(*sum));
}

/* How 64 codes of a scheme become 64 bytes: each 8 codes' bytes go to a quadword (vpermb), each code to a byte of it (vpmultishiftqb). */
struct bb_unpacker {
    __m512i index, shift, mask;
    __m512i values;       /* code -> whole number, for 4-bit floats */
    bool has_values;
    int32_t bits;
};

/* Of each 8 codes the even ones first, then the odd ones. */
static inline struct bb_unpacker bb_unpacker_of(struct bb_scheme scheme)
{
    uint8_t index[64], shift[64];
    for (int32_t i = 0; i < 64; i++) {
        const int32_t byte = i / 8 * scheme.bits + i % 8;
        index[i] = (uint8_t)(byte < 64 ? byte : 63);
        const int32_t code = i % 4 * 2 + i % 8 / 4;
        shift[i] = (uint8_t)(code * scheme.bits);
    }
    return (struct bb_unpacker){
        .index = _mm512_loadu_si512(index),
        .shift = _mm512_loadu_si512(shift),
        .mask = _mm512_set1_epi8((char)((1 << scheme.bits) - 1)),
        /* doubled e2m1 values, plus 12: 0 .. 24 (quant_mode.h) */
        .values = _mm512_broadcast_i32x4(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0)),
        .has_values = scheme.mode != BB_QUANT_AFFINE,
        .bits = scheme.bits,
    };
}

/* `count` codes (a multiple of 8, at most 64) from codes on; nothing behind them is read. */
static inline __m512i bb_unpack_codes(const struct bb_unpacker *unpacker, const uint8_t *codes, int64_t count)
{
    const int64_t bytes = count / 8 * unpacker->bits;
    const __m512i packed = _mm512_maskz_loadu_epi8(~UINT64_C(0) >> (64 - bytes), codes);
    __m512i unpacked = _mm512_multishift_epi64_epi8(unpacker->shift, _mm512_permutexvar_epi8(unpacker->index, packed));
    unpacked = _mm512_and_si512(unpacked, unpacker->mask);
    return unpacker->has_values ? _mm512_shuffle_epi8(unpacker->values, unpacked) : unpacked;
}

/* `count` (at most 16) scales or biases from `first` on as f32, the rest 0. */
static inline __m512 bb_load_floats(const void *data, enum bb_dtype dtype, int64_t first, int64_t count)
{
    const __mmask16 mask = (__mmask16)((1u << count) - 1);
    if (dtype == BB_F32)
        return _mm512_maskz_loadu_ps(mask, (const float *)data + first);
    const __m256i halves = _mm256_maskz_loadu_epi16(mask, (const uint16_t *)data + first);
    return dtype == BB_F16 ? _mm512_cvtph_ps(halves) : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

/* 16 e4m3 codes as f32: the fields in f32's places, then 2^120 for the difference of the exponents' biases: right for subnormal codes too. */
static inline __m512 bb_e4m3_values(__m128i codes)
{
    const __m512i code = _mm512_cvtepu8_epi32(codes), magnitude = _mm512_and_si512(code, _mm512_set1_epi32(127));
    const __m512i sign = _mm512_slli_epi32(_mm512_andnot_si512(_mm512_set1_epi32(127), code), 24);
    const __m512 value = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(magnitude, 20)), _mm512_set1_ps(0x1p120f));
    const __m512i bits = _mm512_or_si512(_mm512_castps_si512(value), sign);
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(bits, _mm512_cmpeq_epi32_mask(magnitude, _mm512_set1_epi32(127)), _mm512_set1_epi32(0x7FC00000)));
}

/* bb_load_floats for scale bytes of mx and nv modes: e8m0 (2^(code - 127)) or e4m3. */
static inline __m512 bb_load_scale_bytes(const void *data, enum bb_quant mode, int64_t first, int64_t count)
{
    const __m128i codes = _mm_maskz_loadu_epi8((__mmask16)((1u << count) - 1), (const uint8_t *)data + first);
    if (mode == BB_QUANT_NVFP4)
        return bb_e4m3_values(codes);
    const __m512i code = _mm512_cvtepu8_epi32(codes);
    __m512i bits = _mm512_slli_epi32(code, 23);
    bits = _mm512_mask_mov_epi32(bits, _mm512_cmpeq_epi32_mask(code, _mm512_setzero_si512()), _mm512_set1_epi32(0x00400000));
    bits = _mm512_mask_mov_epi32(bits, _mm512_cmpeq_epi32_mask(code, _mm512_set1_epi32(255)), _mm512_set1_epi32(0x7FC00000));
    return _mm512_castsi512_ps(bits);
}

/* Scales and biases of `count` (at most 16) groups of codes that stand for values (which bb_unpacker.values are: 2 * value + 12): value = scale *
 * code + bias. */
BB_INLINE void bb_load_value_groups(const void *scales, enum bb_quant mode, int64_t first, int64_t count, __m512 *scale, __m512 *bias)
{
    const __m512 value = bb_load_scale_bytes(scales, mode, first, count);
    *scale = _mm512_mul_ps(value, _mm512_set1_ps(0.5f));
    *bias = _mm512_mul_ps(value, _mm512_set1_ps(-6.0f));
}

/* Scales and biases of `count` (at most 16) groups from `first` on, counted over all rows: value = scale * code + bias. */
static inline void bb_load_groups(const struct bb_weight *weight, int64_t first, int64_t count, __m512 *scale, __m512 *bias)
{
    if (weight->scheme.mode == BB_QUANT_AFFINE) {
        *scale = bb_load_floats(weight->scales, weight->dtype, first, count);
        *bias = bb_load_floats(weight->biases, weight->dtype, first, count);
        return;
    }
    bb_load_value_groups(weight->scales, weight->scheme.mode, first, count, scale, bias);
}

/* rows[i] lane j <-> rows[j] lane i, of 32-bit lanes. */
static inline void bb_transpose(__m512i rows[16])
{
    __m512i pairs[16], quads[16];
    BB_UNROLL
    for (int32_t i = 0; i < 16; i += 2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    BB_UNROLL
    for (int32_t i = 0; i < 16; i += 4) { /* quads[i + j]: in each 128-bit lane l, column 4l + j of rows i .. i+3 */
        quads[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        quads[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        quads[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        quads[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    BB_UNROLL
    for (int32_t j = 0; j < 4; j++) {
        const __m512i low01 = _mm512_shuffle_i32x4(quads[j], quads[4 + j], 0x44), high01 = _mm512_shuffle_i32x4(quads[j], quads[4 + j], 0xEE);
        const __m512i low23 = _mm512_shuffle_i32x4(quads[8 + j], quads[12 + j], 0x44), high23 = _mm512_shuffle_i32x4(quads[8 + j], quads[12 + j], 0xEE);
        rows[j] = _mm512_shuffle_i32x4(low01, low23, 0x88);
        rows[4 + j] = _mm512_shuffle_i32x4(low01, low23, 0xDD);
        rows[8 + j] = _mm512_shuffle_i32x4(high01, high23, 0x88);
        rows[12 + j] = _mm512_shuffle_i32x4(high01, high23, 0xDD);
    }
}

/* Results of 16 weight rows from `row` on for one row of x; `bias` is theirs as f32. */
static inline void bb_store_rows(const struct bb_linear_task *task, int64_t row, int64_t x_row, __m512 bias, __m512 value)
{
    const int64_t place = x_row * task->out_stride + row, rest = task->weight->rows - row;
    const __mmask16 mask = (__mmask16)(rest >= 16 ? 0xFFFFu : (1u << rest) - 1u);
    if (task->bias != NULL)
        value = _mm512_add_ps(value, bias);
    if (task->residual != NULL)
        value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, task->residual + place), _mm512_mul_ps(_mm512_set1_ps(task->scale), value));
    _mm512_mask_storeu_ps(task->out + place, mask, value);
}

/* The biases of 16 rows from `row` on. */
static inline __m512 bb_load_bias(const struct bb_linear_task *task, int64_t row)
{
    const int64_t rest = task->weight->rows - row;
    if (task->bias == NULL || rest <= 0)
        return _mm512_setzero_ps();
    return bb_load_floats(task->bias, task->bias_dtype, row, rest < 16 ? rest : 16);
}

enum {
    BB_AVX512_FEW = 3 /* rows of x up to which a panel of weights does not pay */
};

void bb_avx512_multiply_few(const struct bb_linear_task *task);   /* rounded product of a few rows of x (matvec.c) */
size_t bb_avx512_few_scratch(int64_t cols);
void bb_avx512_multiply_floats(const struct bb_linear_task *task); /* floats.c */
size_t bb_avx512_floats_scratch(int64_t row_count);

#endif
