/* Rounded product of one row of x: bound by reading the weights.
 *
 * One row of weights at a time, in address order (several row streams defeat the hardware's prefetching). Each register of 64 byte codes gives,
 * by vpdpbusd, 16 partial sums; registers are folded together until the 16 lanes are the sums of 16 units, so that scale, bias and conversion
 * are one instruction each for 16 units. The sums of 16 rows are kept; then their terms are made, transposed, and added unit by unit: the order
 * that kernel.h wants.
 *
 * 4-bit codes are not put in order: of 64 bytes (128 columns) the low nibbles are the even columns, the high nibbles the odd ones, and x is laid
 * out to match once a task. */
#include "backend/cpu/kernels/avx512/linear.h"

#include "base/compiler.h"

#include <string.h>

enum {
    ROWS = 16,
    AHEAD = 2048 /* bytes to prefetch ahead */
};

struct one {
    const struct bb_linear_task *task;
    struct bb_unpacker unpacker;
    const int8_t *x;   /* codes, laid out to match the weights; zeroed up to a whole run of 16 units */
    const float *sums; /* [units], zeroed up to a multiple of 16 */
    int32_t *dots;     /* [ROWS][padded units] */
    int64_t units, padded_units;
};

/* Columns of x and units, padded to whole runs of 16 units of at most 64 columns. */
static size_t padded_cols_of(int64_t cols)
{
    return ((size_t)cols + 16 * BB_UNIT_LIMIT - 1) / (16 * BB_UNIT_LIMIT) * (16 * BB_UNIT_LIMIT);
}

size_t bb_avx512_one_scratch(int64_t cols)
{
    const size_t padded = padded_cols_of(cols), units = padded / 16;
    return padded + units * sizeof(float) + ROWS * units * sizeof(int32_t);
}

/* Four registers of partial sums -> one: in each 128-bit lane, the sums of that lane of a, b, c, d. */
static inline __m512i fold_four(__m512i a, __m512i b, __m512i c, __m512i d)
{
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

/* Neighbouring 128-bit lanes added: lanes p01 p23 q01 q23. */
static inline __m512i fold_lanes(__m512i p, __m512i q)
{
    return _mm512_add_epi32(_mm512_shuffle_i32x4(p, q, 0x88), _mm512_shuffle_i32x4(p, q, 0xDD));
}

/* A run of 16 units as the hot loops see it; bits, is_split and has_values are constants there. */
struct run {
    const uint8_t *codes;
    const int8_t *x;
    __m512i index, shift, mask, values; /* of the unpacker */
    int32_t bits;
    bool is_split, has_values;
};

/* Partial sums of register i: 64 columns in order; or 128 columns, of which x has the 64 even ones first. */
BB_INLINE __m512i dot(const struct run run, int32_t i)
{
    if (!run.is_split) {
        const __m512i packed = _mm512_maskz_loadu_epi8(~UINT64_C(0) >> (64 - 8 * run.bits), run.codes + 8 * run.bits * i);
        __m512i codes = packed;
        if (run.bits != 8)
            codes = _mm512_and_si512(_mm512_multishift_epi64_epi8(run.shift, _mm512_permutexvar_epi8(run.index, packed)), run.mask);
        if (run.has_values)
            codes = _mm512_shuffle_epi8(run.values, codes);
        return _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, _mm512_loadu_si512(run.x + 64 * i));
    }
    const __m512i packed = _mm512_loadu_si512(run.codes + 64 * i);

    __m512i even = _mm512_and_si512(packed, run.mask), odd = _mm512_and_si512(_mm512_srli_epi16(packed, 4), run.mask);
    if (run.has_values) {
        even = _mm512_shuffle_epi8(run.values, even);
        odd = _mm512_shuffle_epi8(run.values, odd);
    }
    const __m512i sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), even, _mm512_loadu_si512(run.x + 128 * i));
    return _mm512_dpbusd_epi32(sums, odd, _mm512_loadu_si512(run.x + 128 * i + 64));
}

/* fold_four for sums of at most 8 products of 4-bit codes: two of them still fit 16 bits, where a fold is a pack and a multiply by ones. */
static inline __m512i fold_four_small(__m512i a, __m512i b, __m512i c, __m512i d)
{
    const __m512i ones = _mm512_set1_epi16(1);
    const __m512i ab = _mm512_madd_epi16(_mm512_packs_epi32(a, b), ones), cd = _mm512_madd_epi16(_mm512_packs_epi32(c, d), ones);
    return _mm512_madd_epi16(_mm512_packs_epi32(ab, cd), ones);
}

BB_INLINE __m512i fold_dots(const struct run run, int32_t i)
{
    if (0)
        return fold_four_small(dot(run, i), dot(run, i + 1), dot(run, i + 2), dot(run, i + 3));
    return fold_four(dot(run, i), dot(run, i + 1), dot(run, i + 2), dot(run, i + 3));
}

/* Sums of the 16 units in their order. A unit's partial sums fill `lanes` lanes: 16 registers of one unit, 8 of two, or 4 of four. */
BB_INLINE __m512i sum_units(const struct run run, const int32_t lanes)
{
    if (lanes == 16)
        return fold_lanes(fold_lanes(fold_dots(run, 0), fold_dots(run, 4)), fold_lanes(fold_dots(run, 8), fold_dots(run, 12)));
    if (lanes == 8)
        return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15),
                                        fold_lanes(fold_dots(run, 0), fold_dots(run, 4)));
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), fold_dots(run, 0));
}

/* The sums of one row. The last, partial run of 16 units is copied first, so that nothing behind the row is read. */
BB_INLINE void row_dots(const struct one *one, int64_t row, int32_t *dots, const int32_t unit,
                                                           const int32_t bits, const bool is_split, const bool has_values)
{
    const int32_t lanes = unit / (is_split ? 8 : 4), run_bytes = 2 * unit * bits; /* of 16 units */
    struct run run = {
        .codes = (const uint8_t *)one->task->weight->data + row * (one->units * unit / 8 * bits), .x = one->x,
        .index = one->unpacker.index, .shift = one->unpacker.shift, .mask = one->unpacker.mask, .values = one->unpacker.values,
        .bits = bits, .is_split = is_split, .has_values = has_values,
    };
    int64_t u = 0;
    for (; u + 16 <= one->units; u += 16, run.codes += run_bytes, run.x += 16 * unit) {
        for (int32_t i = 0; i < run_bytes; i += 64)
            _mm_prefetch((const char *)run.codes + AHEAD + i, _MM_HINT_T0);
        _mm512_storeu_si512(dots + u, sum_units(run, lanes));
    }
    if (u < one->units) {
        uint8_t copy[16 * BB_UNIT_LIMIT];
        const int64_t bytes = (one->units - u) * unit / 8 * bits;
        for (int64_t i = 0; i < run_bytes; i += 64) {
            const int64_t rest = bytes - i;
            const __mmask64 mask = rest <= 0 ? 0 : rest >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << rest) - 1;
            _mm512_storeu_si512(copy + i, _mm512_maskz_loadu_epi8(mask, run.codes + i));
        }
        run.codes = copy;
        _mm512_storeu_si512(dots + u, sum_units(run, lanes));
    }
}

/* A row with the constants of its scheme. */
static void one_row(const struct one *one, int64_t row, int32_t *dots)
{
    const int32_t unit = one->task->rounded->unit;
    const bool has_values = one->unpacker.has_values;
    switch (one->unpacker.bits + (unit == 64 ? 16 : 0)) {
    case 1: row_dots(one, row, dots, 32, 1, false, false); break;
    case 2: row_dots(one, row, dots, 32, 2, false, false); break;
    case 3: row_dots(one, row, dots, 32, 3, false, false); break;
    case 5: row_dots(one, row, dots, 32, 5, false, false); break;
    case 6: row_dots(one, row, dots, 32, 6, false, false); break;
    case 8: row_dots(one, row, dots, 32, 8, false, false); break;
    case 16 + 1: row_dots(one, row, dots, 64, 1, false, false); break;
    case 16 + 2: row_dots(one, row, dots, 64, 2, false, false); break;
    case 16 + 3: row_dots(one, row, dots, 64, 3, false, false); break;
    case 16 + 4: row_dots(one, row, dots, 64, 4, true, false); break;
    case 16 + 5: row_dots(one, row, dots, 64, 5, false, false); break;
    case 16 + 6: row_dots(one, row, dots, 64, 6, false, false); break;
    case 16 + 8: row_dots(one, row, dots, 64, 8, false, false); break;
    default: /* 4 bits, units of 32 or 16 */
        if (!has_values)
            row_dots(one, row, dots, 32, 4, true, false);
        else if (unit == 32)
            row_dots(one, row, dots, 32, 4, true, true);
        else
            row_dots(one, row, dots, 16, 4, false, true);
    }
}

/* Adds the terms of 16 rows from `row` on, unit by unit. */
static __m512 add_terms(const struct one *one, int64_t row)
{
    const struct bb_weight *weight = one->task->weight;
    const float *steps = one->task->rounded->steps;
    const int64_t groups = weight->cols / weight->scheme.group_size, last = weight->rows - 1;
    const bool is_double = weight->scheme.group_size > BB_UNIT_LIMIT; /* two units a group */
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    __m512 total = _mm512_setzero_ps();
    for (int64_t u = 0; u < one->units; u += 16) {
        const int64_t count = one->units - u < 16 ? one->units - u : 16;
        const __m512 sums = _mm512_loadu_ps(one->sums + u);
        __m512i terms[ROWS];
        for (int64_t i = 0; i < ROWS; i++) {
            const int64_t first = (row + i < last ? row + i : last) * groups;
            __m512 scale, bias;
            if (is_double) {
                bb_load_groups(weight, first + u / 2, (count + 1) / 2, &scale, &bias);
                scale = _mm512_permutexvar_ps(twice, scale);
                bias = _mm512_permutexvar_ps(twice, bias);
            } else {
                bb_load_groups(weight, first + u, count, &scale, &bias);
            }
            const __m512 dots = _mm512_cvtepi32_ps(_mm512_loadu_si512(one->dots + i * one->padded_units + u));
            terms[i] = _mm512_castps_si512(_mm512_fmadd_ps(scale, dots, _mm512_mul_ps(bias, sums)));
        }
        bb_transpose(terms);
        for (int64_t i = 0; i < count; i++)
            total = _mm512_fmadd_ps(_mm512_castsi512_ps(terms[i]), _mm512_set1_ps(steps[u + i]), total);
    }
    return total;
}

/* x for nibbles: of each 128 columns the 64 even ones, then the 64 odd ones. */
static void split_columns(int8_t *out, const int8_t *x, int64_t cols)
{
    for (int64_t i = 0; i < cols; i += 64) {
        const int64_t rest = cols - i;
        const __mmask64 mask = rest >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << rest) - 1;
        const __m512i codes = _mm512_maskz_loadu_epi8(mask, x + i);
        int8_t *to = out + i / 128 * 128 + i % 128 / 2;
        _mm256_storeu_si256((__m256i *)to, _mm512_cvtepi16_epi8(codes));
        _mm256_storeu_si256((__m256i *)(to + 64), _mm512_cvtepi16_epi8(_mm512_srli_epi16(codes, 8)));
    }
}

/* Asks for the scales and biases of a row early: add_terms reads those of 16 rows at once, which would wait for memory. */
static void prefetch_groups(const struct bb_weight *weight, int64_t row)
{
    const size_t bytes = bb_weight_scale_row_bytes(weight);
    const char *scales = (const char *)weight->scales + (size_t)row * bytes, *biases = (const char *)weight->biases + (size_t)row * bytes;
    for (size_t i = 0; i < bytes; i += 64) {
        _mm_prefetch(scales + i, _MM_HINT_T0);
        if (weight->biases != NULL)
            _mm_prefetch(biases + i, _MM_HINT_T0);
    }
}

void bb_avx512_multiply_one(const struct bb_linear_task *task)
{
    const struct bb_rounded *rounded = task->rounded;
    const int64_t cols = rounded->cols, padded_cols = (int64_t)padded_cols_of(cols), units = cols / rounded->unit;
    const int64_t padded_units = padded_cols / rounded->unit;
    int8_t *x = task->scratch;
    float *sums = (float *)(void *)(x + padded_cols);
    struct one one = { .task = task, .unpacker = bb_unpacker_of(task->weight->scheme), .x = x, .sums = sums,
        .dots = (int32_t *)(void *)(sums + padded_units), .units = units, .padded_units = padded_units };
    memset(one.dots, 0, (size_t)(ROWS * padded_units) * sizeof(int32_t)); /* rows that are not there */
    memset(x + cols / 128 * 128, 0, (size_t)(padded_cols - cols / 128 * 128));
    for (int64_t i = 0; i < padded_units; i++)
        sums[i] = i < units ? rounded->sums[i] : 0.0f;
    if (one.unpacker.bits == 4 && rounded->unit != 16) {
        split_columns(x, rounded->codes, cols);
    } else {
        memcpy(x, rounded->codes, (size_t)cols);
    }
    for (int64_t row = 0; row < ROWS && row < task->weight->rows; row++)
        prefetch_groups(task->weight, row);
    for (int64_t row = 0; row < task->weight->rows; row += ROWS) {
        for (int64_t i = 0; i < ROWS && row + i < task->weight->rows; i++) {
            if (row + i + ROWS < task->weight->rows)
                prefetch_groups(task->weight, row + i + ROWS);
            one_row(&one, row + i, one.dots + i * padded_units);
        }
        bb_store_rows(task, row, 0, bb_load_bias(task, row), add_terms(&one, row));
    }
}
