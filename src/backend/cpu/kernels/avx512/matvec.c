/* Rounded product of one to three rows of x: bound by reading the weights.
 *
 * One row of weights at a time, in address order to the last load: the processor then reads ahead by itself, and where that is too little
 * (kernels.c), prefetches of codes help it. 16 units (a run) at a time: each register of 64 byte codes gives, by vpdpbusd, 16 partial sums;
 * registers are folded together until the 16 lanes are the sums of 16 units, so that scale, bias and conversion are one instruction each for 16
 * units. The sums of a group of rows are kept: run by run the group's terms are made, transposed and added unit by unit, the order that kernel.h
 * wants. A group is no larger than what stays in the first cache beside x: any other line that is missed there interrupts the reading ahead. Several
 * rows of x (in exact products the parts of one) each take the codes as they are unpacked.
 *
 * Weights of real models are nearly all *even* (bb_even_rows). They have a form of their own, with next to no branch in the loops: computing that
 * is only a little faster than memory makes reading slower too. So does any stretch of it without a read: the runs of a group are finished one by one
 * while the next group's codes come (vector/few.h); of several rows of x, which compute longer than they read, as its last row is read.
 *
 * 4-bit codes are not put in order: of 64 bytes (128 columns) the low nibbles are the even columns, the high nibbles the odd ones, and x is laid
 * out to match once a task. */
#include "backend/cpu/kernels/avx512/unpack.h"

#include "base/compiler.h"

#include <string.h>

enum {
    ROWS = BB_SET_ROWS,
    WIDE_ROWS = BB_PART_ROWS,
    BLOCK = 16, /* rows that are stored at once */
    UNITS = 16, /* of a run */
    LANES = 16,
    BLOCK_COLS = 2048, /* of several rows of x */
    AHEAD = 4096,      /* bytes, of several rows of x */
    FEW = BB_AVX512_FEW
};

/* A task of one to three rows of x. */
struct few {
    const struct bb_linear_task *task;
    struct bb_unpacker unpacker;
    int32_t x_rows;
    int8_t *x;           /* [rows][padded columns] codes, laid out to match the weights; zeroed up to a whole run */
    float *sums;         /* [rows][padded units], zeroed up to a whole run */
    float *steps;        /* [padded units], likewise; of several rows [padded units][LANES], each row's ROWS times over, the rest 0 */
    int32_t *dots;       /* [rows][ROWS][padded units]: sums of code(w) * code(x); of one row those of two groups */
    uint8_t *tail;       /* [UNITS * BB_UNIT_LIMIT]: codes of a partial run behind which nothing may be read */
    bool is_usual, is_even;
    int64_t units, padded_units;
    int64_t block_units; /* that a group's rows take in turn, a multiple of a run: of several rows of x no more stay in the first cache */
    size_t row_bytes;    /* of codes */
    int64_t read_ahead;
};

/* Columns of x and units, padded to whole runs of 16 units of at most 64 columns. */
static size_t padded_cols_of(int64_t cols)
{
    return ((size_t)cols + 16 * BB_UNIT_LIMIT - 1) / (16 * BB_UNIT_LIMIT) * (16 * BB_UNIT_LIMIT);
}

size_t bb_avx512_few_scratch(int64_t cols)
{
    const size_t padded = padded_cols_of(cols), units = padded / 16;
    return FEW * padded + (FEW * (1 + ROWS) + LANES) * units * sizeof(float) + UNITS * BB_UNIT_LIMIT;
}

/* Four registers of partial sums -> one: in each 128-bit lane, the sums of that lane of a, b, c, d. */
static inline __m512i fold_four(__m512i a, __m512i b, __m512i c, __m512i d)
{
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

/* fold_four for sums of at most 8 products of codes up to 15: two of them still fit 16 bits, where a fold is a pack and a multiply by ones. */
static inline __m512i fold_four_small(__m512i a, __m512i b, __m512i c, __m512i d)
{
    const __m512i ones = _mm512_set1_epi16(1);
    const __m512i ab = _mm512_madd_epi16(_mm512_packs_epi32(a, b), ones), cd = _mm512_madd_epi16(_mm512_packs_epi32(c, d), ones);
    return _mm512_madd_epi16(_mm512_packs_epi32(ab, cd), ones);
}

/* Neighbouring 128-bit lanes added: lanes p01 p23 q01 q23. */
static inline __m512i fold_lanes(__m512i p, __m512i q)
{
    return _mm512_add_epi32(_mm512_shuffle_i32x4(p, q, 0x88), _mm512_shuffle_i32x4(p, q, 0xDD));
}

/* What the hot loops know of a scheme and a weight; all but the registers are constants there. */
struct form {
    __m512i index, shift, mask, values; /* of the unpacker */
    int32_t unit, bits;
    bool has_values, is_even;
};

/* A run of x: of the first row, and how far the others lie. */
struct x_run {
    const int8_t *first;
    int64_t stride;
};

/* 64 bytes by halves, for codes that come from memory: files lay them at any address, and where the whole would lie across two lines, one half does
 * not (Zen 4: a tenth faster; from the caches it is a little slower). */
static inline __m512i load_halves(const uint8_t *data)
{
    const __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)data);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), _mm256_loadu_si256((const __m256i *)(const void *)(data + 32)), 1);
}

/* Partial sums of register i of a run, for each row of x: 64 columns, of each 8 the even ones first; or 128 columns, of which x has the 64 even
 * ones first. */
BB_INLINE void dot(const struct form form, const uint8_t *run, struct x_run x, int32_t i, __m512i sums[], const int32_t x_rows)
{
    if (form.bits != 4) {
        const __m512i packed = _mm512_maskz_loadu_epi8(~UINT64_C(0) >> (64 - 8 * form.bits), run + 8 * form.bits * i);
        __m512i codes = form.bits == 8 ? packed : _mm512_permutexvar_epi8(form.index, packed);
        codes = _mm512_multishift_epi64_epi8(form.shift, codes);
        if (form.bits != 8)
            codes = _mm512_and_si512(codes, form.mask);
        if (form.has_values)
            codes = _mm512_shuffle_epi8(form.values, codes);
        BB_UNROLL
        for (int32_t t = 0; t < x_rows; t++)
            sums[t] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, _mm512_load_si512(x.first + t * x.stride + 64 * i));
        return;
    }
    __m512i packed = form.is_even && x_rows == 1 ? load_halves(run + 64 * i) : _mm512_loadu_si512(run + 64 * i);
    bb_keep(&packed); /* or it is loaded twice */
    __m512i even = _mm512_and_si512(packed, form.mask), odd = _mm512_and_si512(_mm512_srli_epi16(packed, 4), form.mask);
    if (form.has_values) {
        even = _mm512_shuffle_epi8(form.values, even);
        odd = _mm512_shuffle_epi8(form.values, odd);
    }
    BB_UNROLL
    for (int32_t t = 0; t < x_rows; t++) {
        const int8_t *in = x.first + t * x.stride + 128 * i;
        sums[t] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), even, _mm512_load_si512(in));
        sums[t] = _mm512_dpbusd_epi32(sums[t], odd, _mm512_load_si512(in + 64));
    }
}

BB_INLINE void fold_dots(const struct form form, const uint8_t *run, struct x_run x, int32_t i, __m512i folded[], const int32_t x_rows)
{
    __m512i dots[4][FEW];
    BB_UNROLL
    for (int32_t j = 0; j < 4; j++)
        dot(form, run, x, i + j, dots[j], x_rows);
    BB_UNROLL
    for (int32_t t = 0; t < x_rows; t++)
        folded[t] = form.bits <= 4 && !form.has_values ? fold_four_small(dots[0][t], dots[1][t], dots[2][t], dots[3][t])
                                                       : fold_four(dots[0][t], dots[1][t], dots[2][t], dots[3][t]);
}

/* Sums of a run's units in their order. A unit's partial sums fill `lanes` lanes: 16 registers of one unit, 8 of two, 4 of four, or 2 of eight. */
BB_INLINE void sum_units(const struct form form, const uint8_t *run, struct x_run x, __m512i sums[], const int32_t lanes, const int32_t x_rows)
{
    __m512i a[FEW], b[FEW], c[FEW], d[FEW];
    if (lanes == 2) {
        const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        dot(form, run, x, 0, a, x_rows);
        dot(form, run, x, 1, b, x_rows);
        BB_UNROLL
        for (int32_t t = 0; t < x_rows; t++)
            sums[t] = _mm512_add_epi32(_mm512_permutex2var_epi32(a[t], even, b[t]), _mm512_permutex2var_epi32(a[t], odd, b[t]));
        return;
    }
    fold_dots(form, run, x, 0, a, x_rows);
    if (lanes >= 8)
        fold_dots(form, run, x, 4, b, x_rows);
    if (lanes == 16) {
        BB_UNROLL
        for (int32_t t = 0; t < x_rows; t++)
            a[t] = fold_lanes(a[t], b[t]);
        fold_dots(form, run, x, 8, c, x_rows);
        fold_dots(form, run, x, 12, d, x_rows);
    }
    BB_UNROLL
    for (int32_t t = 0; t < x_rows; t++) {
        if (lanes == 16)
            sums[t] = fold_lanes(a[t], fold_lanes(c[t], d[t]));
        else if (lanes == 8)
            sums[t] = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15), fold_lanes(a[t], b[t]));
        else
            sums[t] = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), a[t]);
    }
}

/* The same for the first half of a run, 8 units of 8 lanes; behind them the sums come again. */
BB_INLINE void sum_half(const struct form form, const uint8_t *run, struct x_run x, __m512i sums[], const int32_t x_rows)
{
    fold_dots(form, run, x, 0, sums, x_rows);
    BB_UNROLL
    for (int32_t t = 0; t < x_rows; t++)
        sums[t] = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 0, 4, 1, 5, 2, 6, 3, 7), fold_lanes(sums[t], sums[t]));
}

/* To `dots`: sums of the run of units from `first` on, whose codes come next. Behind a row's last, partial run come the next row's codes, where x
 * is 0; behind the last row nothing is read. */
BB_INLINE void next_run(const struct few *few, const struct form form, struct bb_reader *reader, int64_t first, int32_t *dots, const bool is_whole,
                        const int32_t x_rows)
{
    const int32_t lanes = form.unit / (form.bits == 4 ? 8 : 4), run_bytes = 2 * form.unit * form.bits;
    const int64_t units = is_whole || few->units - first > UNITS ? UNITS : few->units - first, bytes = units * (run_bytes / UNITS);
    const struct x_run x = { few->x + first * form.unit, few->padded_units * form.unit };
    const uint8_t *codes = bb_next_codes(reader, bytes, run_bytes, is_whole, few->tail);
    __m512i sums[FEW];
    if (form.is_even && lanes == 8 && units <= UNITS / 2)
        sum_half(form, codes, x, sums, x_rows);
    else
        sum_units(form, codes, x, sums, lanes, x_rows);
    BB_UNROLL
    for (int32_t t = 0; t < x_rows; t++)
        _mm512_store_si512(dots + t * ROWS * few->padded_units, sums[t]);
}

/* 16 bf16 as f32. */
static inline __m512 load_brain(const void *data, int64_t first)
{
    const __m256i halves = _mm256_loadu_si256((const __m256i *)((const char *)data + 2 * first));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

/* Scales and biases of `units` units of an affine weight, from unit `first` of row `row` on. */
BB_INLINE void load_affine_groups(const struct bb_weight *weight, int64_t row, int64_t first, int64_t units, __m512 *scale, __m512 *bias)
{
    const bool is_double = weight->scheme.group_size > BB_UNIT_LIMIT; /* two units a group */
    const int64_t groups = weight->cols / weight->scheme.group_size;
    const int64_t place = row * groups + (is_double ? first / 2 : first), count = is_double ? (units + 1) / 2 : units;
    *scale = bb_load_floats(weight->scales, weight->dtype, place, count);
    *bias = bb_load_floats(weight->biases, weight->dtype, place, count);
    if (is_double) {
        const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
        *scale = _mm512_permutexvar_ps(twice, *scale);
        *bias = _mm512_permutexvar_ps(twice, *bias);
    }
}

/* The same of a run of any weight. */
BB_INLINE void load_groups(const struct few *few, const struct form form, int64_t row, int64_t first, const bool is_whole, __m512 *scale,
                           __m512 *bias)
{
    const struct bb_weight *weight = few->task->weight;
    const int64_t place = row * few->units + first; /* where a unit is a group */
    const int64_t units = is_whole || few->units - first > UNITS ? UNITS : few->units - first;
    if (form.has_values) {
        bb_load_value_groups(weight->scales, form.unit == 32 ? BB_QUANT_MXFP4 : BB_QUANT_NVFP4, place, units, scale, bias);
    } else if (!form.is_even && !few->is_usual) {
        load_affine_groups(weight, row, first, units, scale, bias);
    } else if (!is_whole && (form.is_even || units < UNITS)) {
        *scale = bb_load_floats(weight->scales, BB_BF16, place, units);
        *bias = bb_load_floats(weight->biases, BB_BF16, place, units);
    } else {
        *scale = load_brain(weight->scales, place);
        *bias = load_brain(weight->biases, place);
    }
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

/* quads[j], 128-bit lane l: the terms of unit 4l + j of the four rows. */
BB_INLINE void transpose_terms(const __m512 terms[ROWS], __m512 quads[4])
{
    const __m512 low01 = _mm512_unpacklo_ps(terms[0], terms[1]), high01 = _mm512_unpackhi_ps(terms[0], terms[1]);
    const __m512 low23 = _mm512_unpacklo_ps(terms[2], terms[3]), high23 = _mm512_unpackhi_ps(terms[2], terms[3]);
    quads[0] = join_low(low01, low23);
    quads[1] = join_high(low01, low23);
    quads[2] = join_low(high01, high23);
    quads[3] = join_high(high01, high23);
}

/* For each row of x the terms scale * dot + bias * sum of the run of units from `first` on of a group, transposed. */
BB_INLINE void make_terms(const struct few *few, const struct form form, struct bb_row_group group, int64_t first, const bool is_whole,
                          __m512 quads[][4], const int32_t x_rows)
{
    __m512 terms[FEW][ROWS];
    BB_UNROLL
    for (int64_t i = 0; i < ROWS; i++) {
        __m512 scale, bias;
        BB_UNROLL
        for (int32_t t = 0; t < x_rows; t++)
            terms[t][i] = _mm512_setzero_ps();
        if (i >= group.count)
            continue;
        load_groups(few, form, group.row + i, first, is_whole, &scale, &bias);
        BB_UNROLL
        for (int32_t t = 0; t < x_rows; t++) {
            const __m512 sums = _mm512_load_ps(few->sums + t * few->padded_units + first);
            const __m512i dots = _mm512_load_si512(group.dots + (t * ROWS + i) * few->padded_units + first);
            terms[t][i] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(dots), _mm512_mul_ps(bias, sums));
        }
    }
    BB_UNROLL
    for (int32_t t = 0; t < x_rows; t++)
        transpose_terms(terms[t], quads[t]);
}

/* Adds a run's terms to the totals of a group's rows, unit by unit; those behind the last unit have steps of 0. */
BB_INLINE __m128 add_run(const struct few *few, const struct form form, struct bb_row_group group, int64_t first, const bool is_whole, __m128 total)
{
    const float *steps = few->steps + first;
    __m512 of_rows[1][4], *quads = of_rows[0];
    __m128 by_unit[UNITS];
    make_terms(few, form, group, first, is_whole, of_rows, 1);
    BB_UNROLL
    for (int32_t j = 0; j < 4; j++) {
        by_unit[j] = _mm512_castps512_ps128(quads[j]);
        by_unit[4 + j] = _mm512_extractf32x4_ps(quads[j], 1);
        by_unit[8 + j] = _mm512_extractf32x4_ps(quads[j], 2);
        by_unit[12 + j] = _mm512_extractf32x4_ps(quads[j], 3);
    }
    BB_UNROLL
    for (int32_t i = 0; i < UNITS / 2; i++)
        total = _mm_fmadd_ps(by_unit[i], _mm_set1_ps(steps[i]), total);
    if (form.is_even && !is_whole && few->units - first <= UNITS / 2)
        return total;
    BB_UNROLL
    for (int32_t i = UNITS / 2; i < UNITS; i++)
        total = _mm_fmadd_ps(by_unit[i], _mm_set1_ps(steps[i]), total);
    return total;
}

/* The same for several rows of x at once: row t's totals are 128-bit lane t. */
BB_INLINE __m512 add_runs(const struct few *few, const struct form form, struct bb_row_group group, int64_t first, const bool is_whole, __m512 total,
                          const int32_t x_rows)
{
    const float *steps = few->steps + first * LANES;
    __m512 quads[FEW][4], by_unit[UNITS];
    make_terms(few, form, group, first, is_whole, quads, x_rows);
    BB_UNROLL
    for (int32_t j = 0; j < 4; j++) {
        const __m512 last = quads[x_rows - 1][j]; /* of two rows the second again, in lanes that nobody reads */
        const __m512 low = _mm512_shuffle_f32x4(quads[0][j], quads[1][j], 0x44), high = _mm512_shuffle_f32x4(quads[0][j], quads[1][j], 0xEE);
        by_unit[j] = _mm512_shuffle_f32x4(low, last, 0x08);
        by_unit[4 + j] = _mm512_shuffle_f32x4(low, last, 0x5D);
        by_unit[8 + j] = _mm512_shuffle_f32x4(high, last, 0xA8);
        by_unit[12 + j] = _mm512_shuffle_f32x4(high, last, 0xFD);
    }
    BB_UNROLL
    for (int32_t i = 0; i < UNITS; i++)
        total = _mm512_fmadd_ps(by_unit[i], _mm512_load_ps(steps + i * LANES), total);
    return total;
}

/* Totals of a group's rows: of one row of x; else of row t of x in 128-bit lane t. */
struct totals {
    __m512 all;
    __m128 single;
};

/* The run of units from `first` on of row `in_group` of a group; behind its last row the terms of all are added to the totals. */
BB_INLINE struct totals multiply_run(const struct few *few, const struct form form, struct bb_reader *reader, struct bb_row_group group, int64_t in_group,
                                     int64_t first, const bool is_whole, struct totals totals, const int32_t x_rows)
{
    next_run(few, form, reader, first, group.dots + in_group * few->padded_units + first, is_whole, x_rows);
    if (in_group < group.count - 1)
        return totals;
    if (x_rows > 1)
        totals.all = add_runs(few, form, group, first, is_whole, totals.all, x_rows);
    else
        totals.single = add_run(few, form, group, first, is_whole, totals.single);
    return totals;
}

/* The group's rows . x, of row t of x in 128-bit lane t; rows that are not there give 0. */
BB_INLINE __m512 multiply_group(const struct few *few, const struct form form, struct bb_row_group group, const int32_t x_rows)
{
    struct bb_reader reader = bb_reader_of(few->task->weight, group.row, few->row_bytes, few->read_ahead);
    const uint8_t *codes = reader.codes;
    struct totals totals = { _mm512_setzero_ps(), _mm_setzero_ps() };
    const int64_t block_units = x_rows > 1 ? few->block_units : few->units;
    for (int64_t begin = 0; begin < few->units; begin += block_units) {
        const int64_t end = few->units - begin < block_units ? few->units : begin + block_units;
        for (int64_t i = 0; i < group.count; i++) {
            if (x_rows > 1) /* else the codes go on where the last row's end */
                reader.codes = codes + (size_t)i * few->row_bytes + begin * (form.unit * form.bits / 8);
            int64_t first = begin;
            for (; form.is_even && first + UNITS <= end; first += UNITS)
                totals = multiply_run(few, form, &reader, group, i, first, true, totals, x_rows);
            for (; first < end; first += UNITS)
                totals = multiply_run(few, form, &reader, group, i, first, false, totals, x_rows);
        }
    }
    return x_rows > 1 ? totals.all : _mm512_castps128_ps512(totals.single);
}

BB_INLINE struct form form_of(const struct few *few, const int32_t unit, const int32_t bits, const bool has_values, const bool is_even)
{
    return (struct form){ .index = few->unpacker.index, .shift = few->unpacker.shift, .mask = few->unpacker.mask, .values = few->unpacker.values,
        .unit = unit, .bits = bits, .has_values = has_values, .is_even = is_even };
}

/* The results of the block of rows from `row` on. */
BB_INLINE void store_block(const struct few *few, int64_t row, const float totals[BLOCK])
{
    bb_store_rows(few->task, row, 0, bb_load_bias(few->task, row), _mm512_loadu_ps(totals));
}

BB_INLINE bool finishes_later(const struct few *few, int64_t rows)
{
    (void)few, (void)rows;
    return true;
}

/* The product, `rows` weight rows at a time. */
BB_INLINE void multiply_form(const struct few *few, int64_t rows, const int32_t unit, const int32_t bits, const bool has_values, const bool is_even,
                             const int32_t x_rows)
{
    const struct bb_linear_task *task = few->task;
    const struct bb_weight *weight = task->weight;
    const struct form form = form_of(few, unit, bits, has_values, is_even);
    struct bb_ahead_place ahead = bb_ahead_begin(task->ahead, task->ahead_count, (weight->rows + BLOCK - 1) / BLOCK);
    for (int64_t row = 0; row < weight->rows; row += BLOCK) {
        bb_ahead_ask(&ahead);
        const int64_t count = weight->rows - row < BLOCK ? weight->rows - row : BLOCK;
        const __m512 bias = bb_load_bias(task, row);
        __m512 totals[FEW];
        BB_UNROLL
        for (int32_t t = 0; t < FEW; t++)
            totals[t] = _mm512_setzero_ps();
        for (int64_t i = 0; i < count; i += rows) {
            bb_prefetch_groups(weight, row + i + 2 * rows, rows);
            const __mmask16 places = (__mmask16)(((1u << rows) - 1u) << i);
            const struct bb_row_group group = { row + i, form.is_even || count - i > rows ? rows : count - i, few->dots };
            const __m512 fours = multiply_group(few, form, group, x_rows);
            totals[0] = _mm512_mask_expand_ps(totals[0], places, fours);
            if (x_rows > 1)
                totals[1] = _mm512_mask_expand_ps(totals[1], places, _mm512_castps128_ps512(_mm512_extractf32x4_ps(fours, 1)));
            if (x_rows > 2)
                totals[2] = _mm512_mask_expand_ps(totals[2], places, _mm512_castps128_ps512(_mm512_extractf32x4_ps(fours, 2)));
        }
        BB_UNROLL
        for (int32_t t = 0; t < x_rows; t++)
            bb_store_rows(task, row, t, bias, totals[t]);
    }
}

#include "backend/cpu/kernels/vector/few.h"

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

/* Row t of x. */
static void lay_out_row(const struct few *few, int64_t t)
{
    const struct bb_rounded *rounded = few->task->rounded;
    const int64_t cols = rounded->cols, padded_cols = few->padded_units * rounded->unit;
    int8_t *x = few->x + t * padded_cols;
    float *sums = few->sums + t * few->padded_units;
    const float *steps = rounded->steps + t * few->units;
    memcpy(x, bb_rounded_row(rounded, t), (size_t)cols);
    memset(x + cols, 0, (size_t)(padded_cols - cols));
    if (few->unpacker.bits == 4)
        split_columns(x, padded_cols);
    memcpy(sums, rounded->sums + t * few->units, (size_t)few->units * sizeof(float));
    memset(sums + few->units, 0, (size_t)(few->padded_units - few->units) * sizeof(float));
    for (int64_t i = 0; i < few->units; i++) {
        if (few->x_rows == 1)
            few->steps[i] = steps[i];
        else
            _mm_store_ps(few->steps + i * LANES + t * ROWS, _mm_set1_ps(steps[i]));
    }
}

void bb_avx512_multiply_few(const struct bb_linear_task *task)
{
    const struct bb_rounded *rounded = task->rounded;
    const struct bb_weight *weight = task->weight;
    const int64_t padded_cols = (int64_t)padded_cols_of(rounded->cols), padded_units = padded_cols / rounded->unit, x_rows = rounded->rows;
    const struct bb_few_plan plan = bb_few_plan(task, padded_cols, ROWS, WIDE_ROWS, BLOCK_COLS, AHEAD);
    int8_t *x = task->scratch;
    float *sums = (float *)(void *)(x + x_rows * padded_cols), *steps = sums + x_rows * padded_units;
    const int64_t step_count = (x_rows > 1 ? LANES : 1) * padded_units;
    int32_t *dots = (int32_t *)(void *)(steps + step_count);
    struct few few = { .task = task, .unpacker = bb_unpacker_of(weight->scheme), .x_rows = (int32_t)x_rows, .x = x, .sums = sums,
        .steps = steps, .dots = dots, .tail = (uint8_t *)(dots + (x_rows > 1 ? x_rows * ROWS : 2 * BB_SHORT_ROWS) * padded_units),
        .units = rounded->cols / rounded->unit, .padded_units = padded_units, .block_units = plan.block_units,
        .row_bytes = bb_weight_row_bytes(weight), .read_ahead = plan.read_ahead };
    const int64_t even_rows = bb_even_rows(task, &plan);
    few.is_usual = bb_linear_is_usual(task);
    few.is_even = even_rows > 0;
    memset(steps, 0, (size_t)step_count * sizeof(float));
    for (int64_t t = 0; t < x_rows; t++)
        lay_out_row(&few, t);
    multiply(&few, even_rows > 0 ? even_rows : plan.rows);
}
