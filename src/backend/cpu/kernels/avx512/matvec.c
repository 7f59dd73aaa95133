/* Rounded product of one or two rows of x: bound by reading the weights.
 *
 * One row of weights at a time, in address order to the last load: the processor then reads ahead by itself, and where that is too little
 * (kernels.c), prefetches of codes help it. 16 units (a run) at a time: each register of 64 byte codes gives, by vpdpbusd, 16 partial sums;
 * registers are folded together until the 16 lanes are the sums of 16 units, so that scale, bias and conversion are one instruction each for 16
 * units. The sums of a group of rows are kept until its last row: as that is read, run by run the group's terms are made, transposed and added
 * unit by unit, the order that kernel.h wants. A group is no larger than what stays in the first cache beside x (any other line that
 * is missed there interrupts the reading ahead), and its additions are few enough to be done while the next codes come. A second row of x finds the
 * group in that cache.
 *
 * 4-bit codes are not put in order: of 64 bytes (128 columns) the low nibbles are the even columns, the high nibbles the odd ones, and x is laid
 * out to match once a task. */
#include "backend/cpu/kernels/avx512/unpack.h"

#include "base/compiler.h"

#include <string.h>

enum {
    ROWS = 4,   /* of a group, at most */
    BLOCK = 16, /* rows that are stored at once */
    UNITS = 16 /* of a run */
};

/* A task, and one of its rows of x. */
struct one {
    const struct bb_linear_task *task;
    struct bb_unpacker unpacker;
    int64_t row;         /* of x */
    int8_t *x;           /* its codes, laid out to match the weights; zeroed up to a whole run */
    float *sums, *steps; /* [units], zeroed up to a whole run */
    int32_t *dots;     /* [ROWS][padded units]: sums of code(w) * code(x) */
    uint8_t *tail;     /* [UNITS * BB_UNIT_LIMIT]: codes of a partial run behind which nothing may be read */
    bool is_usual;     /* groups are units, with bf16 scales and biases: nearly every model */
    int64_t units, padded_units;
    size_t row_bytes; /* of codes */
    int64_t read_ahead;
};

/* Columns of x and units, padded to whole runs of 16 units of at most 64 columns. */
static size_t padded_cols_of(int64_t cols)
{
    return ((size_t)cols + 16 * BB_UNIT_LIMIT - 1) / (16 * BB_UNIT_LIMIT) * (16 * BB_UNIT_LIMIT);
}

size_t bb_avx512_few_scratch(int64_t cols)
{
    const size_t padded = padded_cols_of(cols);
    return BB_AVX512_FEW * padded + (2 * BB_AVX512_FEW + ROWS) * (padded / 16) * sizeof(float) + UNITS * BB_UNIT_LIMIT;
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

/* What the hot loops know of a scheme; bits, is_split and has_values are constants there. */
struct form {
    __m512i index, shift, mask, values; /* of the unpacker */
    int32_t bits;
    bool is_split, has_values;
};

/* Partial sums of register i of a run: 64 columns, of each 8 the even ones first; or 128 columns, of which x has the 64 even ones first. */
BB_INLINE __m512i dot(const struct form *form, const uint8_t *run, const int8_t *x, int32_t i)
{
    if (!form->is_split) {
        const __m512i packed = _mm512_maskz_loadu_epi8(~UINT64_C(0) >> (64 - 8 * form->bits), run + 8 * form->bits * i);
        __m512i codes = form->bits == 8 ? packed : _mm512_permutexvar_epi8(form->index, packed);
        codes = _mm512_multishift_epi64_epi8(form->shift, codes);
        if (form->bits != 8)
            codes = _mm512_and_si512(codes, form->mask);
        if (form->has_values)
            codes = _mm512_shuffle_epi8(form->values, codes);
        return _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, _mm512_load_si512(x + 64 * i));
    }
    __m512i packed = _mm512_loadu_si512(run + 64 * i);
    bb_keep(&packed); /* or it is loaded twice */
    __m512i even = _mm512_and_si512(packed, form->mask), odd = _mm512_and_si512(_mm512_srli_epi16(packed, 4), form->mask);
    if (form->has_values) {
        even = _mm512_shuffle_epi8(form->values, even);
        odd = _mm512_shuffle_epi8(form->values, odd);
    }
    const __m512i sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), even, _mm512_load_si512(x + 128 * i));
    return _mm512_dpbusd_epi32(sums, odd, _mm512_load_si512(x + 128 * i + 64));
}

BB_INLINE __m512i fold_dots(const struct form *form, const uint8_t *run, const int8_t *x, int32_t i)
{
    const __m512i a = dot(form, run, x, i), b = dot(form, run, x, i + 1), c = dot(form, run, x, i + 2), d = dot(form, run, x, i + 3);
    return fold_four(a, b, c, d);
}

/* Sums of a run's units in their order. A unit's partial sums fill `lanes` lanes: 16 registers of one unit, 8 of two, 4 of four, or 2 of eight. */
BB_INLINE __m512i sum_units(const struct form *form, const uint8_t *run, const int8_t *x, const int32_t lanes)
{
    if (lanes == 16) {
        const __m512i a = fold_dots(form, run, x, 0), b = fold_dots(form, run, x, 4), ab = fold_lanes(a, b);
        const __m512i c = fold_dots(form, run, x, 8), d = fold_dots(form, run, x, 12);
        return fold_lanes(ab, fold_lanes(c, d));
    }
    if (lanes == 8) {
        const __m512i a = fold_dots(form, run, x, 0), b = fold_dots(form, run, x, 4);
        return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15), fold_lanes(a, b));
    }
    if (lanes == 2) {
        const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        const __m512i a = dot(form, run, x, 0), b = dot(form, run, x, 1), odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        return _mm512_add_epi32(_mm512_permutex2var_epi32(a, even, b), _mm512_permutex2var_epi32(a, odd, b));
    }
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), fold_dots(form, run, x, 0));
}

/* Where the codes are being read. */
struct reader {
    const uint8_t *codes, *end; /* of the weight */
    int64_t ahead;
};

/* Sums of the run of units from `first` on, whose codes come next. Behind a row's last, partial run come the next row's codes, where x is 0;
 * behind the last row nothing is read. */
BB_INLINE __m512i next_run(const struct one *one, const struct form *form, struct reader *reader, int64_t first, const int32_t unit)
{
    const int32_t lanes = unit / (form->is_split ? 8 : 4), run_bytes = 2 * unit * form->bits;
    const int64_t units = one->units - first < UNITS ? one->units - first : UNITS, bytes = units * (run_bytes / UNITS);
    const int8_t *x = one->x + first * unit;
    const uint8_t *codes = reader->codes;
    bb_read_ahead(codes, bytes, reader->ahead);
    reader->codes += bytes;
    if (reader->end - codes < run_bytes)
        codes = memcpy(one->tail, codes, (size_t)bytes);
    return sum_units(form, codes, x, lanes);
}

/* 16 bf16 as f32. */
static inline __m512 load_brain(const void *data, int64_t first)
{
    const __m256i halves = _mm256_loadu_si256((const __m256i *)((const char *)data + 2 * first));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

/* The terms scale * dot + bias * sum of a row for a whole run of the usual scheme. */
BB_INLINE __m512 usual_terms(const struct one *one, int64_t row, int64_t first, __m512 dots)
{
    const struct bb_weight *weight = one->task->weight;
    const int64_t place = row * one->units + first;
    const __m512 sums = _mm512_load_ps(one->sums + first);
    return _mm512_fmadd_ps(load_brain(weight->scales, place), dots, _mm512_mul_ps(load_brain(weight->biases, place), sums));
}

/* The same of any scheme and run. */
static __m512 any_terms(const struct one *one, int64_t row, int64_t first, __m512 dots)
{
    const struct bb_weight *weight = one->task->weight;
    const bool is_double = weight->scheme.group_size > BB_UNIT_LIMIT; /* two units a group */
    const int64_t units = one->units - first < UNITS ? one->units - first : UNITS, groups = weight->cols / weight->scheme.group_size;
    __m512 scale, bias;
    if (is_double) {
        const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
        bb_load_groups(weight, row * groups + first / 2, (units + 1) / 2, &scale, &bias);
        scale = _mm512_permutexvar_ps(twice, scale);
        bias = _mm512_permutexvar_ps(twice, bias);
    } else {
        bb_load_groups(weight, row * groups + first, units, &scale, &bias);
    }
    return _mm512_fmadd_ps(scale, dots, _mm512_mul_ps(bias, _mm512_load_ps(one->sums + first)));
}

/* In each 128-bit lane, the lower halves of a's and b's; the upper ones. */
static inline __m512 join_low(__m512 a, __m512 b)
{
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}

static inline __m512 join_high(__m512 a, __m512 b)
{
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}

/* Adds the terms of four rows, of the run of units from `first` on, to the rows' totals. */
BB_INLINE __m128 add_terms(const struct one *one, int64_t first, const __m512 terms[ROWS], int64_t units, __m128 total)
{
    const __m512 low01 = _mm512_unpacklo_ps(terms[0], terms[1]), high01 = _mm512_unpackhi_ps(terms[0], terms[1]);
    const __m512 low23 = _mm512_unpacklo_ps(terms[2], terms[3]), high23 = _mm512_unpackhi_ps(terms[2], terms[3]);
    const __m512 quads[4] = { /* quads[j], 128-bit lane l: unit 4l + j of the rows */
        join_low(low01, low23), join_high(low01, low23), join_low(high01, high23), join_high(high01, high23) };
    __m128 by_unit[UNITS];
    BB_UNROLL
    for (int32_t j = 0; j < 4; j++) {
        by_unit[j] = _mm512_castps512_ps128(quads[j]);
        by_unit[4 + j] = _mm512_extractf32x4_ps(quads[j], 1);
        by_unit[8 + j] = _mm512_extractf32x4_ps(quads[j], 2);
        by_unit[12 + j] = _mm512_extractf32x4_ps(quads[j], 3);
    }
    BB_UNROLL
    for (int32_t i = 0; i < UNITS; i++) {
        if (i < units)
            total = _mm_fmadd_ps(by_unit[i], _mm_set1_ps(one->steps[first + i]), total);
    }
    return total;
}

/* The same from the sums of `count` rows. */
static __m128 add_run(const struct one *one, int64_t row, int64_t count, int64_t first, __m128 total)
{
    const int64_t units = one->units - first < UNITS ? one->units - first : UNITS;
    const bool is_usual = one->is_usual && units == UNITS;
    __m512 terms[ROWS];
    BB_UNROLL
    for (int64_t i = 0; i < ROWS; i++) {
        terms[i] = _mm512_setzero_ps();
        if (i >= count)
            continue;
        const __m512 dots = _mm512_cvtepi32_ps(_mm512_load_si512(one->dots + i * one->padded_units + first));
        terms[i] = is_usual ? usual_terms(one, row + i, first, dots) : any_terms(one, row + i, first, dots);
    }
    return add_terms(one, first, terms, units, total);
}

/* Rows [row, row + count) . x, at most ROWS; rows that are not there give 0. */
BB_INLINE __m128 multiply_group(const struct one *one, int64_t row, int64_t count, const int32_t unit, const int32_t bits, const bool is_split,
                                const bool has_values)
{
    const struct form form = { .index = one->unpacker.index, .shift = one->unpacker.shift, .mask = one->unpacker.mask,
        .values = one->unpacker.values, .bits = bits, .is_split = is_split, .has_values = has_values };
    const struct bb_weight *weight = one->task->weight;
    struct reader reader = { .codes = (const uint8_t *)weight->data + (size_t)row * one->row_bytes,
        .end = (const uint8_t *)weight->data + (size_t)weight->rows * one->row_bytes };
    __m128 total = _mm_setzero_ps();
    int32_t *dots = one->dots;
    for (int64_t i = 0; i < count; i++, dots += one->padded_units) {
        reader.ahead = i % one->task->rounded->rows == one->row ? one->read_ahead : 0; /* rows of x take turns */
        for (int64_t first = 0; first < one->units; first += UNITS) {
            _mm512_store_si512(dots + first, next_run(one, &form, &reader, first, unit));
            if (i == count - 1)
                total = add_run(one, row, count, first, total);
        }
    }
    return total;
}

/* The same with the constants of the scheme. */
static __m128 multiply_rows(const struct one *one, int64_t row, int64_t count)
{
    const int32_t unit = one->task->rounded->unit;
    const bool has_values = one->unpacker.has_values;
    switch (one->unpacker.bits + (unit == 64 ? 16 : 0)) {
    case 1: return multiply_group(one, row, count, 32, 1, false, false);
    case 2: return multiply_group(one, row, count, 32, 2, false, false);
    case 3: return multiply_group(one, row, count, 32, 3, false, false);
    case 5: return multiply_group(one, row, count, 32, 5, false, false);
    case 6: return multiply_group(one, row, count, 32, 6, false, false);
    case 8: return multiply_group(one, row, count, 32, 8, false, false);
    case 16 + 1: return multiply_group(one, row, count, 64, 1, false, false);
    case 16 + 2: return multiply_group(one, row, count, 64, 2, false, false);
    case 16 + 3: return multiply_group(one, row, count, 64, 3, false, false);
    case 16 + 4: return multiply_group(one, row, count, 64, 4, true, false);
    case 16 + 5: return multiply_group(one, row, count, 64, 5, false, false);
    case 16 + 6: return multiply_group(one, row, count, 64, 6, false, false);
    case 16 + 8: return multiply_group(one, row, count, 64, 8, false, false);
    default: /* 4 bits, units of 32 or 16 */
        if (!has_values)
            return multiply_group(one, row, count, 32, 4, true, false);
        return unit == 32 ? multiply_group(one, row, count, 32, 4, true, true) : multiply_group(one, row, count, 16, 4, true, true);
    }
}

/* x for nibbles, in place: of each 128 columns the 64 even ones, then the 64 odd ones. They come in fours in turn. */
static void split_columns(int8_t *x, int64_t cols)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    for (int64_t i = 0; i < cols; i += 128, x += 128) {
        const __m512i low = _mm512_load_si512(x), high = _mm512_load_si512(x + 64);
        _mm512_store_si512(x, _mm512_permutex2var_epi32(low, even, high));
        _mm512_store_si512(x + 64, _mm512_permutex2var_epi32(low, odd, high));
    }
}

/* Row t of x, all rows being one tile, to where one->x, sums and steps point. */
static void lay_out_row(const struct one *one, int64_t t)
{
    const struct bb_rounded *rounded = one->task->rounded;
    const int64_t cols = rounded->cols, padded_cols = one->padded_units * rounded->unit;
    const int8_t *codes = bb_rounded_row(rounded, t);
    if (rounded->rows == 1)
        memcpy(one->x, codes, (size_t)cols);
    else
        for (int64_t i = 0; i < cols; i += 4)
            memcpy(one->x + i, codes + i * rounded->rows, 4);
    memset(one->x + cols, 0, (size_t)(padded_cols - cols));
    if (one->unpacker.bits == 4)
        split_columns(one->x, padded_cols);
    memcpy(one->sums, rounded->sums + t * one->units, (size_t)one->units * sizeof(float));
    memcpy(one->steps, rounded->steps + t * one->units, (size_t)one->units * sizeof(float));
    memset(one->sums + one->units, 0, (size_t)(one->padded_units - one->units) * sizeof(float));
}

void bb_avx512_multiply_few(const struct bb_linear_task *task)
{
    const struct bb_rounded *rounded = task->rounded;
    const struct bb_weight *weight = task->weight;
    const int64_t padded_cols = (int64_t)padded_cols_of(rounded->cols), padded_units = padded_cols / rounded->unit;
    const int64_t row_bytes = (int64_t)bb_weight_row_bytes(weight) + padded_units * 4, rows = bb_rows_at_once(padded_cols, row_bytes);
    int8_t *x = task->scratch;
    float *floats = (float *)(void *)(x + rounded->rows * padded_cols);
    int32_t *dots = (int32_t *)(void *)(floats + 2 * rounded->rows * padded_units);
    struct one ones[BB_AVX512_FEW];
    for (int64_t t = 0; t < rounded->rows; t++, x += padded_cols, floats += 2 * padded_units) {
        ones[t] = (struct one){ .task = task, .unpacker = bb_unpacker_of(weight->scheme, true), .row = t, .x = x, .sums = floats,
            .steps = floats + padded_units, .dots = dots, .tail = (uint8_t *)(dots + ROWS * padded_units),
            .units = rounded->cols / rounded->unit, .padded_units = padded_units, .row_bytes = bb_weight_row_bytes(weight),
            .read_ahead = bb_read_ahead_beside(task, padded_cols + rows * row_bytes) };
        ones[t].is_usual = weight->scheme.mode == BB_QUANT_AFFINE && weight->dtype == BB_BF16 && weight->scheme.group_size == rounded->unit;
        lay_out_row(&ones[t], t);
    }
    struct bb_ahead_place ahead = bb_ahead_begin(task, (weight->rows + BLOCK - 1) / BLOCK);
    for (int64_t row = 0; row < weight->rows; row += BLOCK) {
        bb_ahead_ask(&ahead);
        const int64_t count = weight->rows - row < BLOCK ? weight->rows - row : BLOCK;
        const __m512 bias = bb_load_bias(task, row);
        __m512 totals[BB_AVX512_FEW] = { _mm512_setzero_ps(), _mm512_setzero_ps() };
        for (int64_t i = 0; i < count; i += rows) {
            bb_prefetch_groups(weight, row + i + 2 * rows, rows);
            const __mmask16 places = (__mmask16)(((1u << rows) - 1u) << i);
            for (int64_t t = 0; t < rounded->rows; t++) {
                const __m128 four = multiply_rows(&ones[t], row + i, count - i < rows ? count - i : rows);
                totals[t] = _mm512_mask_expand_ps(totals[t], places, _mm512_castps128_ps512(four));
            }
        }
        for (int64_t t = 0; t < rounded->rows; t++)
            bb_store_rows(task, row, t, bias, totals[t]);
    }
}
