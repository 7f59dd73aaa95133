/* Rounded product of one row of x with AVX2: bound by reading the weights.
 *
 * One row of weights at a time, in address order: the processor reads ahead by itself, and where that is too little (kernels.c), prefetches of
 * codes help it. Units give 2, 4 or 8 lanes of partial sums; those of 8 units (a run) are folded together until the lanes are the sums of the
 * units. The sums of 4 rows are kept: as the last of them is read, run by run their terms are made, transposed, and added unit by unit, the order
 * that kernel.h wants. More rows at once would not stay in the first cache beside x, and lines that are missed there interrupt the reading ahead.
 *
 * 4-bit codes are not put in order: of 32 bytes the low nibbles are the even columns, the high nibbles the odd ones, and x is laid out to match
 * once a task. */
#include "backend/cpu/kernels/avx2/unpack.h"

enum {
    ROWS = 4,  /* of a group, at most */
    BLOCK = 8, /* rows that are stored at once */
    UNITS = 8  /* of a run */
};

struct one {
    const struct bb_linear_task *task;
    const int8_t *x;         /* codes, laid out to match the weights; zeroed up to a whole run of 8 units */
    const float *sums;       /* [units], zeroed up to a multiple of 8 */
    int32_t *dots;           /* [ROWS][padded units] */
    float *scales, *biases;  /* [ROWS][groups] as f32, of the rows whose terms are being added, unless is_usual */
    uint8_t *tail;           /* [UNITS * BB_UNIT_LIMIT]: codes of a partial run */
    bool is_usual;           /* groups are units, with bf16 scales and biases: nearly every model */
    int64_t units, padded_units;
    int64_t read_ahead;
};

/* Columns of x, padded to whole runs of 8 units of at most 64 columns. */
static size_t padded_cols_of(int64_t cols)
{
    return ((size_t)cols + 8 * BB_UNIT_LIMIT - 1) / (8 * BB_UNIT_LIMIT) * (8 * BB_UNIT_LIMIT);
}

size_t bb_avx2_one_scratch(int64_t cols)
{
    const size_t padded = padded_cols_of(cols), units = padded / 16;
    return padded + units * sizeof(float) + ROWS * units * sizeof(int32_t) + 2 * (ROWS * units + 8) * sizeof(float) + UNITS * BB_UNIT_LIMIT;
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

/* Sums of the run of units from `first` on. The last, partial run of a row is copied first, so that nothing behind the row is read. */
BB_INLINE __m256i sum_run(const struct one *one, const uint8_t *codes, int64_t first, const int32_t unit, const int32_t bits, const bool has_values)
{
    const int64_t units = one->units - first;
    bb_read_ahead(codes, unit * bits, one->read_ahead);
    if (units < UNITS)
        codes = memcpy(one->tail, codes, (size_t)(units * unit / 8 * bits));
    return sum_units(codes, one->x + first * unit, unit, bits, has_values);
}

/* Scales and biases of the run of units from `first` on of row `row`, which is row i of the group. */
BB_INLINE void load_groups(const struct one *one, int64_t row, int64_t i, int64_t first, __m256 *scale, __m256 *bias)
{
    const struct bb_weight *weight = one->task->weight;
    const int64_t groups = weight->cols / weight->scheme.group_size;
    if (one->is_usual) {
        *scale = bb_load_8(weight->scales, BB_BF16, row * groups + first);
        *bias = bb_load_8(weight->biases, BB_BF16, row * groups + first);
        return;
    }
    const bool is_double = weight->scheme.group_size > BB_UNIT_LIMIT; /* two units a group */
    const int64_t place = i * groups + (is_double ? first / 2 : first); /* behind a row: of the next, in terms that are not added */
    *scale = _mm256_loadu_ps(one->scales + place);
    *bias = _mm256_loadu_ps(one->biases + place);
    if (is_double) {
        const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
        *scale = _mm256_permutevar8x32_ps(*scale, twice);
        *bias = _mm256_permutevar8x32_ps(*bias, twice);
    }
}

/* In each half, the lower halves of a's and b's; the upper ones. */
static inline __m256 join_low(__m256 a, __m256 b)
{
    return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}

static inline __m256 join_high(__m256 a, __m256 b)
{
    return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}

/* Adds the terms of `count` rows from `row` on, of the run of units from `first` on, to the rows' totals, unit by unit. */
static __m128 add_terms(const struct one *one, int64_t row, int64_t count, int64_t first, __m128 total)
{
    const __m256 offset = _mm256_set1_ps(one->task->weight->scheme.bits == 8 ? 128.0f : 0.0f); /* of 8-bit codes */
    const __m256 sums = _mm256_loadu_ps(one->sums + first);
    const float *steps = one->task->rounded->steps + first;
    __m256 terms[ROWS];
    BB_UNROLL
    for (int64_t i = 0; i < ROWS; i++) {
        terms[i] = _mm256_setzero_ps();
        if (i >= count)
            continue;
        __m256 scale, bias, dots = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(const void *)(one->dots + i * one->padded_units + first)));
        load_groups(one, row + i, i, first, &scale, &bias);
        dots = _mm256_fmadd_ps(offset, sums, dots); /* exact: whole numbers below 2^24 */
        terms[i] = _mm256_fmadd_ps(scale, dots, _mm256_mul_ps(bias, sums));
    }
    const __m256 low01 = _mm256_unpacklo_ps(terms[0], terms[1]), high01 = _mm256_unpackhi_ps(terms[0], terms[1]);
    const __m256 low23 = _mm256_unpacklo_ps(terms[2], terms[3]), high23 = _mm256_unpackhi_ps(terms[2], terms[3]);
    const __m256 quads[4] = { /* quads[j], half h: unit 4h + j of the rows */
        join_low(low01, low23), join_high(low01, low23), join_low(high01, high23), join_high(high01, high23) };
    __m128 by_unit[UNITS];
    BB_UNROLL
    for (int32_t j = 0; j < 4; j++) {
        by_unit[j] = _mm256_castps256_ps128(quads[j]);
        by_unit[4 + j] = _mm256_extractf128_ps(quads[j], 1);
    }
    BB_UNROLL
    for (int32_t i = 0; i < UNITS; i++) {
        if (first + i < one->units)
            total = _mm_fmadd_ps(by_unit[i], _mm_set1_ps(steps[i]), total);
    }
    return total;
}

/* Rows [row, row + count) . x, at most ROWS; rows that are not there give 0. */
BB_INLINE __m128 multiply_group(const struct one *one, int64_t row, int64_t count, const int32_t unit, const int32_t bits, const bool has_values)
{
    const uint8_t *codes = (const uint8_t *)one->task->weight->data + row * (one->units * unit / 8 * bits);
    __m128 total = _mm_setzero_ps();
    int32_t *dots = one->dots;
    for (int64_t i = 0; i < count; i++, dots += one->padded_units) {
        const bool is_last = i == count - 1;
        if (is_last && !one->is_usual)
            bb_widen_groups(one->task->weight, row, count, one->scales, one->biases);
        for (int64_t first = 0; first < one->units; first += UNITS) {
            const int64_t units = one->units - first < UNITS ? one->units - first : UNITS;
            _mm256_storeu_si256((__m256i *)(void *)(dots + first), sum_run(one, codes, first, unit, bits, has_values));
            codes += units * unit / 8 * bits;
            if (is_last)
                total = add_terms(one, row, count, first, total);
        }
    }
    return total;
}

/* The same with the constants of the scheme. */
static __m128 multiply_rows(const struct one *one, int64_t row, int64_t count)
{
    const struct bb_scheme scheme = one->task->weight->scheme;
    const int32_t unit = one->task->rounded->unit;
    switch (scheme.bits + (unit == 64 ? 16 : 0)) {
    case 1: return multiply_group(one, row, count, 32, 1, false);
    case 2: return multiply_group(one, row, count, 32, 2, false);
    case 3: return multiply_group(one, row, count, 32, 3, false);
    case 5: return multiply_group(one, row, count, 32, 5, false);
    case 6: return multiply_group(one, row, count, 32, 6, false);
    case 8: return multiply_group(one, row, count, 32, 8, false);
    case 16 + 1: return multiply_group(one, row, count, 64, 1, false);
    case 16 + 2: return multiply_group(one, row, count, 64, 2, false);
    case 16 + 3: return multiply_group(one, row, count, 64, 3, false);
    case 16 + 4: return multiply_group(one, row, count, 64, 4, false);
    case 16 + 5: return multiply_group(one, row, count, 64, 5, false);
    case 16 + 6: return multiply_group(one, row, count, 64, 6, false);
    case 16 + 8: return multiply_group(one, row, count, 64, 8, false);
    default: /* 4 bits, units of 32 or 16 */
        if (scheme.mode == BB_QUANT_AFFINE)
            return multiply_group(one, row, count, 32, 4, false);
        return unit == 32 ? multiply_group(one, row, count, 32, 4, true) : multiply_group(one, row, count, 16, 4, true);
    }
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
    one.tail = (uint8_t *)(one.biases + ROWS * padded_units + 8);
    one.is_usual = task->weight->scheme.mode == BB_QUANT_AFFINE && task->weight->dtype == BB_BF16 && units % UNITS == 0 &&
                   task->weight->scheme.group_size == rounded->unit;
    memset(one.scales, 0, (size_t)(2 * (ROWS * padded_units + 8)) * sizeof(float));
    memset(x + cols, 0, (size_t)(padded_cols - cols));
    for (int64_t i = 0; i < padded_units; i++)
        sums[i] = i < units ? rounded->sums[i] : 0.0f;
    memcpy(x, rounded->codes, (size_t)cols);
    if (task->weight->scheme.bits == 4)
        split_columns(x, padded_cols);
    const int64_t row_bytes = (int64_t)bb_weight_row_bytes(task->weight) + padded_units * 4, rows = bb_rows_at_once(padded_cols, row_bytes);
    one.read_ahead = bb_read_ahead_beside(task, padded_cols + rows * row_bytes);
    struct bb_ahead_place ahead = bb_ahead_begin(task, (task->weight->rows + BLOCK - 1) / BLOCK);
    for (int64_t row = 0; row < task->weight->rows; row += BLOCK) {
        bb_ahead_ask(&ahead);
        const int64_t count = task->weight->rows - row < BLOCK ? task->weight->rows - row : BLOCK;
        float totals[BLOCK + ROWS] = { 0 };
        for (int64_t i = 0; i < count; i += rows) {
            bb_prefetch_groups(task->weight, row + i + rows, rows);
            _mm_storeu_ps(totals + i, multiply_rows(&one, row + i, count - i < rows ? count - i : rows));
        }
        bb_store_rows(task, row, 0, bb_load_bias(task, row), _mm256_loadu_ps(totals));
    }
}
