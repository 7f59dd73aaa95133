/* Rounded product of one row of x: bound by reading the weights.
 *
 * 16 rows of weights by 16 units (a run) at a time, so that x of the run stays in (at most 16) registers for all the rows. Each register of
 * 64 byte codes gives, by vpdpbusd, 16 partial sums; registers are folded together until the 16 lanes are the sums of 16 units, so that scale,
 * bias and conversion are one instruction each for 16 units. The terms of 16 rows are transposed and added unit by unit: the order that
 * kernel.h wants. What comes a run later (8 KB at 4 bits) is prefetched: that much is under way during memory's latency.
 *
 * 4-bit codes are not put in order: of 64 bytes (128 columns) the low nibbles are the even columns, the high nibbles the odd ones, and x is laid
 * out to match once a task. */
#include "backend/cpu/kernels/avx512/linear.h"

#include "base/compiler.h"

#include <string.h>

enum {
    ROWS = 16,
    UNITS = 16,    /* of a run */
    X_REGISTERS = UNITS * BB_UNIT_LIMIT / 64
};

struct one {
    const struct bb_linear_task *task;
    struct bb_unpacker unpacker;
    const int8_t *x;   /* codes, laid out to match the weights; zeroed up to a whole run */
    const float *sums, *steps; /* [units], zeroed up to a whole run */
    int64_t units;
    size_t row_bytes, group_bytes; /* of codes; of scales, or of biases */
    size_t part_bytes; /* of scales of 16 rows, a run's share */
};

/* Columns of x and units, padded to whole runs of 16 units of at most 64 columns. */
static size_t padded_cols_of(int64_t cols)
{
    return ((size_t)cols + 16 * BB_UNIT_LIMIT - 1) / (16 * BB_UNIT_LIMIT) * (16 * BB_UNIT_LIMIT);
}

size_t bb_avx512_one_scratch(int64_t cols)
{
    const size_t padded = padded_cols_of(cols);
    return padded + 2 * (padded / 16) * sizeof(float);
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

/* Partial sums of register i of a run: 64 columns in order; or 128 columns, of which x has the 64 even ones first. */
BB_INLINE __m512i dot(const struct form *form, const uint8_t *run, const __m512i x[X_REGISTERS], int32_t i)
{
    if (!form->is_split) {
        const __m512i packed = _mm512_maskz_loadu_epi8(~UINT64_C(0) >> (64 - 8 * form->bits), run + 8 * form->bits * i);
        __m512i codes = packed;
        if (form->bits != 8)
            codes = _mm512_and_si512(_mm512_multishift_epi64_epi8(form->shift, _mm512_permutexvar_epi8(form->index, packed)), form->mask);
        if (form->has_values)
            codes = _mm512_shuffle_epi8(form->values, codes);
        return _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, x[i]);
    }
    __m512i packed = _mm512_loadu_si512(run + 64 * i);
    bb_keep(&packed); /* or it is loaded twice */
    __m512i even = _mm512_and_si512(packed, form->mask), odd = _mm512_and_si512(_mm512_srli_epi16(packed, 4), form->mask);
    if (form->has_values) {
        even = _mm512_shuffle_epi8(form->values, even);
        odd = _mm512_shuffle_epi8(form->values, odd);
    }
    return _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), even, x[2 * i]), odd, x[2 * i + 1]);
}

BB_INLINE __m512i fold_dots(const struct form *form, const uint8_t *run, const __m512i x[X_REGISTERS], int32_t i)
{
    return fold_four(dot(form, run, x, i), dot(form, run, x, i + 1), dot(form, run, x, i + 2), dot(form, run, x, i + 3));
}

/* Sums of a run's units in their order. A unit's partial sums fill `lanes` lanes: 16 registers of one unit, 8 of two, 4 of four, or 2 of eight. */
BB_INLINE __m512i sum_units(const struct form *form, const uint8_t *run, const __m512i x[X_REGISTERS], const int32_t lanes)
{
    if (lanes == 16)
        return fold_lanes(fold_lanes(fold_dots(form, run, x, 0), fold_dots(form, run, x, 4)),
                          fold_lanes(fold_dots(form, run, x, 8), fold_dots(form, run, x, 12)));
    if (lanes == 8)
        return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15),
                                        fold_lanes(fold_dots(form, run, x, 0), fold_dots(form, run, x, 4)));
    if (lanes == 2) {
        const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        const __m512i a = dot(form, run, x, 0), b = dot(form, run, x, 1), odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        return _mm512_add_epi32(_mm512_permutex2var_epi32(a, even, b), _mm512_permutex2var_epi32(a, odd, b));
    }
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), fold_dots(form, run, x, 0));
}

/* The sums of rows [row, row + count) for the run of units from `unit_index` on. The row's last, partial run is copied first, so that nothing
 * behind the row is read. */
BB_INLINE void sum_run(const struct one *one, int64_t row, int64_t count, int64_t first, __m512i dots[ROWS], const int32_t unit,
                       const int32_t bits, const bool is_split, const bool has_values)
{
    const int32_t lanes = unit / (is_split ? 8 : 4), run_bytes = 2 * unit * bits, registers = UNITS * unit / 64;
    const struct form form = { .index = one->unpacker.index, .shift = one->unpacker.shift, .mask = one->unpacker.mask,
        .values = one->unpacker.values, .bits = bits, .is_split = is_split, .has_values = has_values };
    const size_t offset = (size_t)(first / UNITS) * (size_t)run_bytes;
    /* the next run of the same rows, or the first of the next rows */
    const size_t ahead = first + UNITS < one->units ? (size_t)run_bytes : ROWS * one->row_bytes - offset;
    const uint8_t *codes = (const uint8_t *)one->task->weight->data + (size_t)row * one->row_bytes + offset;
    __m512i x[X_REGISTERS];
    BB_UNROLL
    for (int32_t i = 0; i < registers; i++)
        x[i] = _mm512_load_si512(one->x + first * unit + 64 * i);
    if (first + UNITS <= one->units) {
        for (int64_t i = 0; i < count; i++, codes += one->row_bytes) {
            BB_UNROLL
            for (int32_t j = 0; j < run_bytes; j += 64)
                _mm_prefetch((const char *)codes + ahead + j, _MM_HINT_T0);
            dots[i] = sum_units(&form, codes, x, lanes);
        }
        return;
    }
    uint8_t copy[UNITS * BB_UNIT_LIMIT];
    const int64_t bytes = (int64_t)(one->row_bytes - offset);
    for (int64_t i = 0; i < count; i++, codes += one->row_bytes) {
        for (int64_t j = 0; j < run_bytes; j += 64) {
            const int64_t rest = bytes - j;
            const __mmask64 mask = rest <= 0 ? 0 : rest >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << rest) - 1;
            _mm_prefetch((const char *)codes + ahead + j, _MM_HINT_T0);
            _mm512_storeu_si512(copy + j, _mm512_maskz_loadu_epi8(mask, codes + j));
        }
        dots[i] = sum_units(&form, copy, x, lanes);
    }
}

/* The same with the constants of the scheme. */
static void sum_rows(const struct one *one, int64_t row, int64_t count, int64_t first, __m512i dots[ROWS])
{
    const int32_t unit = one->task->rounded->unit;
    const bool has_values = one->unpacker.has_values;
    switch (one->unpacker.bits + (unit == 64 ? 16 : 0)) {
    case 1: sum_run(one, row, count, first, dots, 32, 1, false, false); break;
    case 2: sum_run(one, row, count, first, dots, 32, 2, false, false); break;
    case 3: sum_run(one, row, count, first, dots, 32, 3, false, false); break;
    case 5: sum_run(one, row, count, first, dots, 32, 5, false, false); break;
    case 6: sum_run(one, row, count, first, dots, 32, 6, false, false); break;
    case 8: sum_run(one, row, count, first, dots, 32, 8, false, false); break;
    case 16 + 1: sum_run(one, row, count, first, dots, 64, 1, false, false); break;
    case 16 + 2: sum_run(one, row, count, first, dots, 64, 2, false, false); break;
    case 16 + 3: sum_run(one, row, count, first, dots, 64, 3, false, false); break;
    case 16 + 4: sum_run(one, row, count, first, dots, 64, 4, true, false); break;
    case 16 + 5: sum_run(one, row, count, first, dots, 64, 5, false, false); break;
    case 16 + 6: sum_run(one, row, count, first, dots, 64, 6, false, false); break;
    case 16 + 8: sum_run(one, row, count, first, dots, 64, 8, false, false); break;
    default: /* 4 bits, units of 32 or 16 */
        if (!has_values)
            sum_run(one, row, count, first, dots, 32, 4, true, false);
        else if (unit == 32)
            sum_run(one, row, count, first, dots, 32, 4, true, true);
        else
            sum_run(one, row, count, first, dots, 16, 4, true, true);
    }
}

/* 16 bf16 as f32. */
static inline __m512 load_brain(const void *data, int64_t first)
{
    const __m256i halves = _mm256_loadu_si256((const __m256i *)((const char *)data + 2 * first));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

/* dots -> terms scale * dot + bias * sum, for a whole run whose units are groups with bf16 scales: nearly every model. */
static void make_usual_terms(const struct one *one, int64_t row, int64_t count, int64_t first, __m512i terms[ROWS])
{
    const struct bb_weight *weight = one->task->weight;
    const __m512 sums = _mm512_load_ps(one->sums + first);
    for (int64_t i = 0; i < count; i++) {
        const int64_t place = (row + i) * one->units + first;
        const __m512 term = _mm512_fmadd_ps(load_brain(weight->scales, place), _mm512_cvtepi32_ps(terms[i]),
                                            _mm512_mul_ps(load_brain(weight->biases, place), sums));
        terms[i] = _mm512_castps_si512(term);
    }
}

static void make_terms(const struct one *one, int64_t row, int64_t count, int64_t first, __m512i terms[ROWS])
{
    const struct bb_weight *weight = one->task->weight;
    const bool is_double = weight->scheme.group_size > BB_UNIT_LIMIT; /* two units a group */
    const int64_t units = one->units - first < UNITS ? one->units - first : UNITS, groups = weight->cols / weight->scheme.group_size;
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    const __m512 sums = _mm512_load_ps(one->sums + first);
    if (units == UNITS && !is_double && weight->scheme.mode == BB_QUANT_AFFINE && weight->dtype == BB_BF16) {
        make_usual_terms(one, row, count, first, terms);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        __m512 scale, bias;
        if (is_double) {
            bb_load_groups(weight, (row + i) * groups + first / 2, (units + 1) / 2, &scale, &bias);
            scale = _mm512_permutexvar_ps(twice, scale);
            bias = _mm512_permutexvar_ps(twice, bias);
        } else {
            bb_load_groups(weight, (row + i) * groups + first, units, &scale, &bias);
        }
        terms[i] = _mm512_castps_si512(_mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(terms[i]), _mm512_mul_ps(bias, sums)));
    }
}

/* Asks early for a part of the scales and biases of the 16 rows from `row` on: the part of run `first` / UNITS, so that few are under way at once. */
static inline void prefetch_groups(const struct one *one, int64_t row, int64_t first)
{
    const struct bb_weight *weight = one->task->weight;
    const size_t begin = (size_t)row * one->group_bytes + (size_t)(first / UNITS) * one->part_bytes;
    for (size_t i = 0; i < one->part_bytes; i += 64) {
        _mm_prefetch((const char *)weight->scales + begin + i, _MM_HINT_T0);
        if (weight->biases != NULL)
            _mm_prefetch((const char *)weight->biases + begin + i, _MM_HINT_T0);
    }
}

/* Rows [row, row + 16) . x; rows that are not there give 0. */
static __m512 multiply_rows(const struct one *one, int64_t row, int64_t count)
{
    __m512 total = _mm512_setzero_ps();
    __m512i terms[ROWS];
    for (int64_t i = count; i < ROWS; i++)
        terms[i] = _mm512_setzero_si512();
    for (int64_t first = 0; first < one->units; first += UNITS) {
        const int64_t units = one->units - first < UNITS ? one->units - first : UNITS;
        __m512i by_unit[ROWS];
        prefetch_groups(one, row + ROWS, first);
        sum_rows(one, row, count, first, terms);
        make_terms(one, row, count, first, terms);
        BB_UNROLL
        for (int32_t i = 0; i < ROWS; i++)
            by_unit[i] = terms[i];
        bb_transpose(by_unit);
        for (int64_t i = 0; i < units; i++)
            total = _mm512_fmadd_ps(_mm512_castsi512_ps(by_unit[i]), _mm512_set1_ps(one->steps[first + i]), total);
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

void bb_avx512_multiply_one(const struct bb_linear_task *task)
{
    const struct bb_rounded *rounded = task->rounded;
    const int64_t cols = rounded->cols, padded_cols = (int64_t)padded_cols_of(cols), units = cols / rounded->unit;
    const int64_t padded_units = padded_cols / rounded->unit;
    int8_t *x = task->scratch;
    float *sums = (float *)(void *)(x + padded_cols), *steps = sums + padded_units;
    struct one one = { .task = task, .unpacker = bb_unpacker_of(task->weight->scheme), .x = x, .sums = sums, .steps = steps,
        .units = units, .row_bytes = bb_weight_row_bytes(task->weight), .group_bytes = bb_weight_scale_row_bytes(task->weight) };
    memset(x + cols / 128 * 128, 0, (size_t)(padded_cols - cols / 128 * 128));
    memset(sums + units, 0, (size_t)(padded_units - units) * sizeof(float));
    memcpy(sums, rounded->sums, (size_t)units * sizeof(float));
    memcpy(steps, rounded->steps, (size_t)units * sizeof(float));
    if (one.unpacker.bits == 4)
        split_columns(x, rounded->codes, cols);
    else
        memcpy(x, rounded->codes, (size_t)cols);
    one.part_bytes = ROWS * one.group_bytes / (size_t)((units + UNITS - 1) / UNITS) + 1;
    for (int64_t first = 0; first < units; first += UNITS)
        prefetch_groups(&one, 0, first);
    for (int64_t row = 0; row < task->weight->rows; row += ROWS) {
        const int64_t rest = task->weight->rows - row;
        bb_store_rows(task, row, 0, bb_load_bias(task, row), multiply_rows(&one, row, rest < ROWS ? rest : ROWS));
    }
}
