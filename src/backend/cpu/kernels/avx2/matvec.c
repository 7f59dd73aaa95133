/* Rounded product of one row of x with AVX2: bound by reading the weights.
 *
 * One row of weights at a time, in address order: the processor reads ahead by itself, and where that is too little (kernels.c), prefetches of
 * codes help it. Units give 2, 4 or 8 lanes of partial sums; those of 8 units are folded together until the lanes are the sums of the units. The sums of 8 rows are kept;
 * then their terms are made, transposed, and added unit by unit: the order that kernel.h wants.
 *
 * 4-bit codes are not put in order: of 32 bytes the low nibbles are the even columns, the high nibbles the odd ones, and x is laid out to match
 * once a task. */
#include "backend/cpu/kernels/avx2/unpack.h"

enum {
    ROWS = 8
};

struct one {
    const struct bb_linear_task *task;
    const int8_t *x;         /* codes, laid out to match the weights; zeroed up to a whole run of 8 units */
    const float *sums;       /* [units], zeroed up to a multiple of 8 */
    int32_t *dots;           /* [ROWS][padded units] */
    float *scales, *biases;  /* [ROWS][groups] as f32, of the rows whose terms are being added */
    int64_t units, padded_units;
};

/* Columns of x, padded to whole runs of 8 units of at most 64 columns. */
static size_t padded_cols_of(int64_t cols)
{
    return ((size_t)cols + 8 * BB_UNIT_LIMIT - 1) / (8 * BB_UNIT_LIMIT) * (8 * BB_UNIT_LIMIT);
}

size_t bb_avx2_one_scratch(int64_t cols)
{
    const size_t padded = padded_cols_of(cols), units = padded / 16;
    return padded + units * sizeof(float) + ROWS * units * sizeof(int32_t) + 2 * (ROWS * units + 8) * sizeof(float);
}

/* Four registers of partial sums -> one: in each half, the sums of that half of a, b, c, d. */
static inline __m256i fold_four(__m256i a, __m256i b, __m256i c, __m256i d)
{
    const __m256i ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    const __m256i cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    return _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
}

/* fold_four for sums of at most 8 products of 4-bit codes: two of them still fit 16 bits, where a fold is a pack and a multiply by ones. */
static inline __m256i fold_four_small(__m256i a, __m256i b, __m256i c, __m256i d)
{
    const __m256i ones = _mm256_set1_epi16(1);
    const __m256i ab = _mm256_madd_epi16(_mm256_packs_epi32(a, b), ones), cd = _mm256_madd_epi16(_mm256_packs_epi32(c, d), ones);
    return _mm256_madd_epi16(_mm256_packs_epi32(ab, cd), ones);
}

/* The products of 32 columns in order, summed to 8 lanes. */
BB_INLINE __m256i dot_32(const uint8_t *codes, const int8_t *x, const int32_t bits, const bool has_values)
{
    const __m256i ones = _mm256_set1_epi16(1), in = _mm256_loadu_si256((const __m256i *)(const void *)x);
    __m256i unpacked = bb_unpack_codes(codes, bits, has_values);
    if (bits != 8)
        return _mm256_madd_epi16(_mm256_maddubs_epi16(unpacked, in), ones);
    unpacked = _mm256_xor_si256(unpacked, _mm256_set1_epi8(-128)); /* code - 128, as in linear.c */
    return _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(unpacked), _mm256_sign_epi8(in, unpacked)), ones);
}

/* The products of 64 columns of 4-bit codes, summed to 8 lanes; x: 32 even columns, then 32 odd ones. */
BB_INLINE __m256i dot_nibbles(const uint8_t *codes, const int8_t *x, const bool has_values)
{
    const __m256i nibble = _mm256_set1_epi8(15), packed = _mm256_loadu_si256((const __m256i *)(const void *)codes);
    const __m256i in_even = _mm256_loadu_si256((const __m256i *)(const void *)x), in_odd = _mm256_loadu_si256((const __m256i *)(const void *)(x + 32));
    __m256i even = _mm256_and_si256(packed, nibble), odd = _mm256_and_si256(_mm256_srli_epi16(packed, 4), nibble);
    if (has_values) {
        const __m256i values = _mm256_broadcastsi128_si256(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
        even = _mm256_shuffle_epi8(values, even);
        odd = _mm256_shuffle_epi8(values, odd);
    }
    const __m256i sums = _mm256_add_epi16(_mm256_maddubs_epi16(even, in_even), _mm256_maddubs_epi16(odd, in_odd));
    return _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
}

/* Register i of a run: 64 columns of nibbles, or a unit of 32 or 64 columns in order; 8 lanes. */
BB_INLINE __m256i dot(const uint8_t *codes, const int8_t *x, int32_t i, const int32_t unit, const int32_t bits, const bool has_values)
{
    if (bits == 4)
        return dot_nibbles(codes + 32 * i, x + 64 * i, has_values);
    codes += i * unit / 8 * bits;
    x += i * unit;
    const __m256i sums = dot_32(codes, x, bits, has_values);
    return unit == 32 ? sums : _mm256_add_epi32(sums, dot_32(codes + 4 * bits, x + 32, bits, has_values));
}

/* Registers i .. i + 3 of a run, folded. */
BB_INLINE __m256i fold_dots(const uint8_t *codes, const int8_t *x, int32_t i, const int32_t unit, const int32_t bits, const bool has_values)
{
    const __m256i a = dot(codes, x, i, unit, bits, has_values), b = dot(codes, x, i + 1, unit, bits, has_values);
    const __m256i c = dot(codes, x, i + 2, unit, bits, has_values), d = dot(codes, x, i + 3, unit, bits, has_values);
    return bits == 4 && !has_values ? fold_four_small(a, b, c, d) : fold_four(a, b, c, d);
}

/* Sums of 8 units in their order. */
BB_INLINE __m256i sum_units(const uint8_t *codes, const int8_t *x, const int32_t unit, const int32_t bits, const bool has_values)
{
    if (unit == 16) { /* four units a register */
        const __m256i pairs = _mm256_hadd_epi32(dot(codes, x, 0, unit, bits, has_values), dot(codes, x, 1, unit, bits, has_values));
        return _mm256_permute4x64_epi64(pairs, 0xD8);
    }
    const __m256i low = fold_dots(codes, x, 0, unit, bits, has_values);
    if (unit == 32 && bits == 4) /* two units a register */
        return _mm256_permutevar8x32_epi32(low, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    const __m256i high = fold_dots(codes, x, 4, unit, bits, has_values);
    return _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
}

/* The sums of one row. The last, partial run of 8 units is copied first, so that nothing behind the row is read. */
BB_INLINE void row_dots(const struct one *one, int64_t row, int32_t *dots, const int32_t unit, const int32_t bits, const bool has_values)
{
    const int32_t run_bytes = unit * bits; /* of 8 units */
    const uint8_t *codes = (const uint8_t *)one->task->weight->data + row * (one->units * unit / 8 * bits);
    const int8_t *x = one->x;
    int64_t u = 0;
    for (; u + 8 <= one->units; u += 8, codes += run_bytes, x += 8 * unit) {
        bb_read_ahead(codes, run_bytes, one->task->read_ahead);
        _mm256_storeu_si256((__m256i *)(void *)(dots + u), sum_units(codes, x, unit, bits, has_values));
    }
    if (u < one->units) {
        uint8_t copy[8 * BB_UNIT_LIMIT] = { 0 };
        memcpy(copy, codes, (size_t)((one->units - u) * unit / 8 * bits));
        _mm256_storeu_si256((__m256i *)(void *)(dots + u), sum_units(copy, x, unit, bits, has_values));
    }
}

/* A row with the constants of its scheme. */
static void one_row(const struct one *one, int64_t row, int32_t *dots)
{
    const struct bb_scheme scheme = one->task->weight->scheme;
    const int32_t unit = one->task->rounded->unit;
    switch (scheme.bits + (unit == 64 ? 16 : 0)) {
    case 1: row_dots(one, row, dots, 32, 1, false); break;
    case 2: row_dots(one, row, dots, 32, 2, false); break;
    case 3: row_dots(one, row, dots, 32, 3, false); break;
    case 5: row_dots(one, row, dots, 32, 5, false); break;
    case 6: row_dots(one, row, dots, 32, 6, false); break;
    case 8: row_dots(one, row, dots, 32, 8, false); break;
    case 16 + 1: row_dots(one, row, dots, 64, 1, false); break;
    case 16 + 2: row_dots(one, row, dots, 64, 2, false); break;
    case 16 + 3: row_dots(one, row, dots, 64, 3, false); break;
    case 16 + 4: row_dots(one, row, dots, 64, 4, false); break;
    case 16 + 5: row_dots(one, row, dots, 64, 5, false); break;
    case 16 + 6: row_dots(one, row, dots, 64, 6, false); break;
    case 16 + 8: row_dots(one, row, dots, 64, 8, false); break;
    default: /* 4 bits, units of 32 or 16 */
        if (scheme.mode == BB_QUANT_AFFINE)
            row_dots(one, row, dots, 32, 4, false);
        else if (unit == 32)
            row_dots(one, row, dots, 32, 4, true);
        else
            row_dots(one, row, dots, 16, 4, true);
    }
}

/* `count` scales or biases from `first` on as f32; dtype is a constant. */
BB_INLINE void widen(float *out, const void *data, int64_t first, int64_t count, const enum bb_dtype dtype)
{
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(out + i, bb_load_8(data, dtype, first + i));
    if (i < count)
        _mm256_storeu_ps(out + i, bb_load_floats(data, dtype, first + i, count - i));
}

/* Widens the scales and biases of `count` rows from `row` on. */
static void widen_groups(const struct one *one, int64_t row, int64_t count)
{
    const struct bb_weight *weight = one->task->weight;
    const int64_t groups = weight->cols / weight->scheme.group_size, first = row * groups, all = count * groups;
    if (weight->scheme.mode == BB_QUANT_AFFINE && weight->dtype == BB_BF16) {
        widen(one->scales, weight->scales, first, all, BB_BF16);
        widen(one->biases, weight->biases, first, all, BB_BF16);
        return;
    }
    bb_widen_groups(weight, row, count, one->scales, one->biases);
}

/* Adds the terms of 8 rows from `row` on, unit by unit. is_double: two units a group. */
BB_INLINE __m256 add_terms(const struct one *one, const bool is_double)
{
    const struct bb_weight *weight = one->task->weight;
    const float *steps = one->task->rounded->steps;
    const int64_t groups = weight->cols / weight->scheme.group_size;
    const __m256 offset = _mm256_set1_ps(weight->scheme.bits == 8 ? 128.0f : 0.0f); /* of 8-bit codes */
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    __m256 total = _mm256_setzero_ps();
    for (int64_t u = 0; u < one->units; u += 8) {
        const int64_t count = one->units - u < 8 ? one->units - u : 8;
        const __m256 sums = _mm256_loadu_ps(one->sums + u);
        __m256i terms[ROWS];
        BB_UNROLL
        for (int64_t i = 0; i < ROWS; i++) {
            const int64_t place = i * groups + (is_double ? u / 2 : u); /* behind a row: of the next, in terms that are not added */
            __m256 scale = _mm256_loadu_ps(one->scales + place), bias = _mm256_loadu_ps(one->biases + place);
            if (is_double) {
                scale = _mm256_permutevar8x32_ps(scale, twice);
                bias = _mm256_permutevar8x32_ps(bias, twice);
            }
            __m256 dots = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(const void *)(one->dots + i * one->padded_units + u)));
            dots = _mm256_fmadd_ps(offset, sums, dots); /* exact: whole numbers below 2^24 */
            terms[i] = _mm256_castps_si256(_mm256_fmadd_ps(scale, dots, _mm256_mul_ps(bias, sums)));
        }
        bb_transpose(terms);
        if (count == 8) {
            BB_UNROLL
            for (int64_t i = 0; i < 8; i++)
                total = _mm256_fmadd_ps(_mm256_castsi256_ps(terms[i]), _mm256_set1_ps(steps[u + i]), total);
            continue;
        }
        for (int64_t i = 0; i < count; i++)
            total = _mm256_fmadd_ps(_mm256_castsi256_ps(terms[i]), _mm256_set1_ps(steps[u + i]), total);
    }
    return total;
}

/* x for nibbles: of each 64 columns the 32 even ones, then the 32 odd ones. In place; cols is a multiple of 64. */
static void split_columns(int8_t *x, int64_t cols)
{
    const __m256i low = _mm256_set1_epi16(255);
    for (int64_t i = 0; i < cols; i += 64) {
        const __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(x + i)), b = _mm256_loadu_si256((const __m256i *)(const void *)(x + i + 32));
        const __m256i even = _mm256_packus_epi16(_mm256_and_si256(a, low), _mm256_and_si256(b, low));
        const __m256i odd = _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
        _mm256_storeu_si256((__m256i *)(void *)(x + i), _mm256_permute4x64_epi64(even, 0xD8));
        _mm256_storeu_si256((__m256i *)(void *)(x + i + 32), _mm256_permute4x64_epi64(odd, 0xD8));
    }
}

/* Asks for the scales and biases of a row early: add_terms reads those of 8 rows at once, which would wait for memory. */
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

void bb_avx2_multiply_one(const struct bb_linear_task *task)
{
    const struct bb_rounded *rounded = task->rounded;
    const int64_t cols = rounded->cols, padded_cols = (int64_t)padded_cols_of(cols), units = cols / rounded->unit;
    const int64_t padded_units = padded_cols / rounded->unit;
    int8_t *x = task->scratch;
    float *sums = (float *)(void *)(x + padded_cols);
    struct one one = { .task = task, .x = x, .sums = sums, .dots = (int32_t *)(void *)(sums + padded_units), .units = units,
        .padded_units = padded_units };
    one.scales = (float *)(void *)(one.dots + ROWS * padded_units);
    one.biases = one.scales + ROWS * padded_units + 8;
    memset(one.scales, 0, (size_t)(2 * (ROWS * padded_units + 8)) * sizeof(float));
    memset(one.dots, 0, (size_t)(ROWS * padded_units) * sizeof(int32_t)); /* rows that are not there */
    memset(x + cols, 0, (size_t)(padded_cols - cols));
    for (int64_t i = 0; i < padded_units; i++)
        sums[i] = i < units ? rounded->sums[i] : 0.0f;
    memcpy(x, rounded->codes, (size_t)cols);
    if (task->weight->scheme.bits == 4)
        split_columns(x, padded_cols);
    struct bb_ahead_place ahead = bb_ahead_begin(task, (task->weight->rows + ROWS - 1) / ROWS);
    for (int64_t row = 0; row < ROWS && row < task->weight->rows; row++)
        prefetch_groups(task->weight, row);
    for (int64_t row = 0; row < task->weight->rows; row += ROWS) {
        bb_ahead_ask(&ahead);
        const int64_t count = task->weight->rows - row < ROWS ? task->weight->rows - row : ROWS;
        for (int64_t i = 0; i < count; i++) {
            if (row + i + ROWS < task->weight->rows)
                prefetch_groups(task->weight, row + i + ROWS);
            one_row(&one, row + i, one.dots + i * padded_units);
        }
        widen_groups(&one, row, count);
        const bool is_double = task->weight->scheme.group_size > BB_UNIT_LIMIT;
        bb_store_rows(task, row, 0, bb_load_bias(task, row), is_double ? add_terms(&one, true) : add_terms(&one, false));
    }
}
