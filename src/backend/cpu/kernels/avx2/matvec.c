/* Rounded product of one to three rows of x with AVX2: bound by reading the weights.
 *
 * One row of weights at a time, in address order: the processor reads ahead by itself, and where that is too little (kernels.c), prefetches of
 * codes help it. Units give 2, 4 or 8 lanes of partial sums; those of 8 units (a run) are folded together until the lanes are the sums of the
 * units. The sums of a group of rows are kept: run by run their terms are made, transposed, and added unit by unit, the order that kernel.h wants.
 * More at once would not stay in the first cache beside x, and lines that are missed there interrupt the reading ahead. *Even* weights (bb_even_rows)
 * have a form with next to no branch in the loops, which, where that helps, finishes a group run by run while the next one's codes come
 * (vector/few.h).
 * Several rows of x (in exact products the parts of one) each take the codes as they are unpacked.
 *
 * 4-bit codes are not put in order: of 32 bytes the low nibbles are the even columns, the high nibbles the odd ones, and x is laid out to match
 * once a task. */
#include "backend/cpu/kernels/avx2/unpack.h"

enum {
    ROWS = BB_SET_ROWS,
    WIDE_ROWS = 4,
    BLOCK = 8, /* rows that are stored at once */
    UNITS = 8, /* of a run */
    FEW = BB_AVX2_FEW,
    PAIR = 2 * ROWS, /* totals of two rows of x */
    BLOCK_COLS = 2048, /* of several rows of x */
    AHEAD = 8192       /* bytes, of several rows of x */
};

/* A task of one to three rows of x. */
struct few {
    const struct bb_linear_task *task;
    int32_t x_rows;
    int8_t *x;              /* [rows][padded columns] codes, laid out to match the weights; zeroed up to a whole run of 8 units */
    float *sums;            /* [rows][padded units], zeroed up to a whole run */
    float *steps;           /* likewise; of several rows [padded units][PAIR] of the first two, each ROWS times over, then the third's */
    int32_t *dots;          /* [rows][ROWS][padded units]; of one row those of two groups */
    float *scales, *biases; /* [ROWS][groups] as f32, of the rows whose terms are being added, unless is_usual */
    uint8_t *tail;          /* [UNITS * BB_UNIT_LIMIT]: codes of a partial run */
    bool is_usual;          /* bb_linear_is_usual, and whole runs */
    bool is_even;           /* bb_even_rows, and an even number of units: load_last takes pairs */
    int64_t units, padded_units;
    int64_t block_units; /* that a group's rows take in turn, a multiple of a run: of several rows of x no more stay in the first cache */
    size_t row_bytes;    /* of codes */
    int64_t read_ahead;
};

/* Columns of x, padded to whole runs of 8 units of at most 64 columns. */
static size_t padded_cols_of(int64_t cols)
{
    return ((size_t)cols + 8 * BB_UNIT_LIMIT - 1) / (8 * BB_UNIT_LIMIT) * (8 * BB_UNIT_LIMIT);
}

size_t bb_avx2_few_scratch(int64_t cols)
{
    const size_t padded = padded_cols_of(cols), units = padded / 16;
    return FEW * (padded + (1 + ROWS) * units * sizeof(float)) + ((PAIR + 1) * units + 2 * (ROWS * units + 8)) * sizeof(float) + UNITS * BB_UNIT_LIMIT;
}

/* Four registers of partial sums -> one: in each half, the sums of that half of a, b, c, d. */
static inline __m256i fold_four(__m256i a, __m256i b, __m256i c, __m256i d)
{
    const __m256i ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    const __m256i cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    return _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
}

/* fold_four from sums of 4 products of 4-bit codes in 16 bits, where four times as much still fits. */
static inline __m256i fold_four_small(__m256i a, __m256i b, __m256i c, __m256i d)
{
    const __m256i ones = _mm256_set1_epi16(1);
    const __m256i ab = _mm256_add_epi16(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    const __m256i cd = _mm256_add_epi16(_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
    return _mm256_madd_epi16(_mm256_packs_epi32(_mm256_madd_epi16(ab, ones), _mm256_madd_epi16(cd, ones)), ones);
}

/* A run of x: of the first row, and how far the others lie. */
struct x_run {
    const int8_t *first;
    int64_t stride;
};

static inline __m256i load(const void *data)
{
    return _mm256_loadu_si256(data);
}

/* What the hot loops know of a scheme and a weight, all constants there. */
struct form {
    int32_t unit, bits;
    bool has_values, is_even;
};

/* Codes of a register of partial sums: of 64 columns, nibbles the even and the odd ones, others in order; or of 32. */
struct codes {
    __m256i low, high;
};

/* Register i of a run: 64 columns of nibbles, or a unit of 32 or 64 columns. */
BB_INLINE struct codes unpack(const uint8_t *run, int32_t i, const struct form form)
{
    const int32_t unit = form.unit, bits = form.bits;
    struct codes codes;
    if (bits == 4) {
        __m256i packed = load(run + 32 * i);
        bb_keep(&packed); /* or it is loaded twice */
        codes.low = _mm256_and_si256(packed, _mm256_set1_epi8(15));
        codes.high = _mm256_and_si256(_mm256_srli_epi16(packed, 4), _mm256_set1_epi8(15));
        if (form.has_values) {
            const __m256i values = _mm256_broadcastsi128_si256(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
            codes.low = _mm256_shuffle_epi8(values, codes.low);
            codes.high = _mm256_shuffle_epi8(values, codes.high);
        }
        return codes;
    }
    run += i * unit / 8 * bits;
    codes.low = bb_unpack_codes(run, bits, form.has_values);
    codes.high = unit == 32 ? codes.low : bb_unpack_codes(run + 4 * bits, bits, form.has_values);
    if (bits == 8) { /* code - 128, as in linear.c */
        codes.low = _mm256_xor_si256(codes.low, _mm256_set1_epi8(-128));
        codes.high = _mm256_xor_si256(codes.high, _mm256_set1_epi8(-128));
    }
    return codes;
}

BB_INLINE __m256i multiply_pairs(__m256i codes, const int8_t *x, const int32_t bits)
{
    return bits == 8 ? _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(load(x), codes)) : _mm256_maddubs_epi16(codes, load(x));
}

/* Whether four sums of a register's 4 products fit 16 bits, for fold_four_small. */
BB_INLINE bool is_small(const struct form form)
{
    return form.bits == 4 && !form.has_values;
}

/* Partial sums of a register for the row whose columns begin at x: 8 lanes of 32 bits; small ones 16 of 16. */
BB_INLINE __m256i dot(struct codes codes, const int8_t *x, const struct form form)
{
    const int32_t bits = form.bits;
    const __m256i ones = _mm256_set1_epi16(1), low = multiply_pairs(codes.low, x, bits);
    if (bits != 4 && form.unit == 32)
        return _mm256_madd_epi16(low, ones);
    const __m256i high = multiply_pairs(codes.high, x + 32, bits);
    if (bits == 4)
        return is_small(form) ? _mm256_add_epi16(low, high) : _mm256_madd_epi16(_mm256_add_epi16(low, high), ones);
    return _mm256_add_epi32(_mm256_madd_epi16(low, ones), _mm256_madd_epi16(high, ones));
}

/* Registers i .. i + 3 of a run for each row of x, folded. */
BB_INLINE void fold_dots(const struct form form, const uint8_t *run, struct x_run x, int32_t i, __m256i folded[], const int32_t x_rows)
{
    const int32_t columns = form.bits == 4 ? 64 : form.unit;
    struct codes codes[4];
    BB_UNROLL
    for (int32_t j = 0; j < 4; j++)
        codes[j] = unpack(run, i + j, form);
    BB_UNROLL
    for (int32_t t = 0; t < x_rows; t++) {
        __m256i dots[4];
        BB_UNROLL
        for (int32_t j = 0; j < 4; j++)
            dots[j] = dot(codes[j], x.first + t * x.stride + (i + j) * columns, form);
        folded[t] = is_small(form) ? fold_four_small(dots[0], dots[1], dots[2], dots[3]) : fold_four(dots[0], dots[1], dots[2], dots[3]);
    }
}

/* Sums of 8 units in their order. */
BB_INLINE void sum_units(const struct form form, const uint8_t *codes, struct x_run x, __m256i sums[], const int32_t x_rows)
{
    __m256i low[FEW], high[FEW];
    if (form.unit == 16) { /* four units a register */
        const struct codes a = unpack(codes, 0, form), b = unpack(codes, 1, form);
        BB_UNROLL
        for (int32_t t = 0; t < x_rows; t++) {
            const int8_t *in = x.first + t * x.stride;
            sums[t] = _mm256_hadd_epi32(dot(a, in, form), dot(b, in + 64, form));
            sums[t] = _mm256_permute4x64_epi64(sums[t], 0xD8);
        }
        return;
    }
    const bool is_whole = form.unit == 32 && form.bits == 4; /* two units a register */
    fold_dots(form, codes, x, 0, low, x_rows);
    if (!is_whole)
        fold_dots(form, codes, x, 4, high, x_rows);
    BB_UNROLL
    for (int32_t t = 0; t < x_rows; t++)
        sums[t] = is_whole ? _mm256_permutevar8x32_epi32(low[t], _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
                           : _mm256_add_epi32(_mm256_permute2x128_si256(low[t], high[t], 0x20), _mm256_permute2x128_si256(low[t], high[t], 0x31));
}

/* The same for the first half of a run of units of 8 lanes; behind them the sums come again. */
BB_INLINE void sum_half(const struct form form, const uint8_t *codes, struct x_run x, __m256i sums[], const int32_t x_rows)
{
    fold_dots(form, codes, x, 0, sums, x_rows);
    BB_UNROLL
    for (int32_t t = 0; t < x_rows; t++)
        sums[t] = _mm256_add_epi32(sums[t], _mm256_permute2x128_si256(sums[t], sums[t], 0x01));
}

/* To `dots`: sums of the run of units from `first` on, whose codes come next. Behind a row's last, partial run come the next row's codes, where x is 0;
 * behind the last row nothing is read. */
BB_INLINE void next_run(const struct few *few, const struct form form, struct bb_reader *reader, int64_t first, int32_t *dots, const bool is_whole,
                        const int32_t x_rows)
{
    const int32_t unit = form.unit, run_bytes = unit * form.bits;
    const int64_t units = is_whole || few->units - first > UNITS ? UNITS : few->units - first, bytes = units * (run_bytes / UNITS);
    const struct x_run x = { few->x + first * unit, few->padded_units * unit };
    const uint8_t *codes = bb_next_codes(reader, bytes, run_bytes, is_whole, few->tail);
    __m256i sums[FEW];
    if (form.is_even && unit == 64 && units <= UNITS / 2)
        sum_half(form, codes, x, sums, x_rows);
    else
        sum_units(form, codes, x, sums, x_rows);
    BB_UNROLL
    for (int32_t t = 0; t < x_rows; t++)
        _mm256_storeu_si256((__m256i *)(void *)(dots + t * ROWS * few->padded_units), sums[t]);
}

/* bf16 of units, where a mask has their pair, else 0. */
static inline __m256 load_last(const void *data, int64_t first, __m128i mask)
{
    const __m128i halves = _mm_maskload_epi32((const int *)(const void *)((const uint16_t *)data + first), mask);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

/* Scales and biases of the run of units from `first` on of row `row`, which is row i of the group. */
BB_INLINE void load_groups(const struct few *few, const struct form form, int64_t row, int64_t i, int64_t first, const bool is_whole, __m256 *scale,
                           __m256 *bias)
{
    const struct bb_weight *weight = few->task->weight;
    if (form.is_even && !is_whole) {
        const __m128i pairs = _mm_cmpgt_epi32(_mm_set1_epi32((int32_t)(few->units - first) / 2), _mm_setr_epi32(0, 1, 2, 3));
        *scale = load_last(weight->scales, row * few->units + first, pairs);
        *bias = load_last(weight->biases, row * few->units + first, pairs);
        return;
    }
    if (form.is_even || few->is_usual) {
        *scale = bb_load_8(weight->scales, BB_BF16, row * few->units + first);
        *bias = bb_load_8(weight->biases, BB_BF16, row * few->units + first);
        return;
    }
    const bool is_double = weight->scheme.group_size > BB_UNIT_LIMIT; /* two units a group */
    const int64_t groups = weight->cols / weight->scheme.group_size;
    const int64_t place = i * groups + (is_double ? first / 2 : first); /* behind a row: of the next, in terms that are not added */
    *scale = _mm256_loadu_ps(few->scales + place);
    *bias = _mm256_loadu_ps(few->biases + place);
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

/* For each row of x the terms scale * dot + bias * sum of the run of units from `first` on of a group, transposed: quads[j], half h: unit 4h + j of the
 * rows. */
BB_INLINE void make_terms(const struct few *few, const struct form form, struct bb_row_group group, int64_t first, const bool is_whole, __m256 quads[][4],
                          const int32_t x_rows)
{
    __m256 terms[FEW][ROWS];
    BB_UNROLL
    for (int64_t i = 0; i < ROWS; i++) {
        __m256 scale, bias;
        BB_UNROLL
        for (int32_t t = 0; t < x_rows; t++)
            terms[t][i] = _mm256_setzero_ps();
        if (i >= group.count)
            continue;
        load_groups(few, form, group.row + i, i, first, is_whole, &scale, &bias);
        BB_UNROLL
        for (int32_t t = 0; t < x_rows; t++) {
            const __m256 sums = _mm256_loadu_ps(few->sums + t * few->padded_units + first);
            const __m256 dots = _mm256_cvtepi32_ps(load(group.dots + (t * ROWS + i) * few->padded_units + first));
            terms[t][i] = form.bits == 8 ? _mm256_fmadd_ps(_mm256_set1_ps(128.0f), sums, dots) : dots; /* exact: whole numbers below 2^24 */
            terms[t][i] = _mm256_fmadd_ps(scale, terms[t][i], _mm256_mul_ps(bias, sums));
        }
    }
    BB_UNROLL
    for (int32_t t = 0; t < x_rows; t++) {
        const __m256 low01 = _mm256_unpacklo_ps(terms[t][0], terms[t][1]), high01 = _mm256_unpackhi_ps(terms[t][0], terms[t][1]);
        const __m256 low23 = _mm256_unpacklo_ps(terms[t][2], terms[t][3]), high23 = _mm256_unpackhi_ps(terms[t][2], terms[t][3]);
        quads[t][0] = join_low(low01, low23);
        quads[t][1] = join_high(low01, low23);
        quads[t][2] = join_low(high01, high23);
        quads[t][3] = join_high(high01, high23);
    }
}

/* Adds a run's terms, for one row of x, to the totals of a set's rows, unit by unit; those behind the last unit have steps of 0. */
BB_INLINE __m128 add_quads(const float *steps, const __m256 quads[4], __m128 total)
{
    __m128 by_unit[UNITS];
    BB_UNROLL
    for (int32_t j = 0; j < 4; j++) {
        by_unit[j] = _mm256_castps256_ps128(quads[j]);
        by_unit[4 + j] = _mm256_extractf128_ps(quads[j], 1);
    }
    BB_UNROLL
    for (int32_t i = 0; i < UNITS; i++)
        total = _mm_fmadd_ps(by_unit[i], _mm_set1_ps(steps[i]), total);
    return total;
}

/* The same for two rows of x at once: the halves. */
BB_INLINE __m256 add_quad_pairs(const float *steps, const __m256 a[4], const __m256 b[4], __m256 total)
{
    __m256 by_unit[UNITS];
    BB_UNROLL
    for (int32_t j = 0; j < 4; j++) {
        by_unit[j] = _mm256_permute2f128_ps(a[j], b[j], 0x20);
        by_unit[4 + j] = _mm256_permute2f128_ps(a[j], b[j], 0x31);
    }
    BB_UNROLL
    for (int32_t i = 0; i < UNITS; i++)
        total = _mm256_fmadd_ps(by_unit[i], _mm256_loadu_ps(steps + i * PAIR), total);
    return total;
}

/* Totals of a group's weight rows. */
struct totals {
    __m256 pair;   /* of two rows of x, one a half */
    __m128 single; /* of the third row of x, or the only one */
};

/* Makes and adds the terms of the run of units from `first` on, for one row of x. */
BB_INLINE __m128 add_run(const struct few *few, const struct form form, struct bb_row_group group, int64_t first, const bool is_whole, __m128 total)
{
    __m256 quads[1][4];
    make_terms(few, form, group, first, is_whole, quads, 1);
    return add_quads(few->steps + first, quads[0], total);
}

/* The same for all rows of x. */
BB_INLINE void add_runs(const struct few *few, const struct form form, struct bb_row_group group, int64_t first, const bool is_whole, struct totals *totals,
                        const int32_t x_rows)
{
    __m256 quads[FEW][4];
    if (x_rows == 1) {
        totals->single = add_run(few, form, group, first, is_whole, totals->single);
        return;
    }
    make_terms(few, form, group, first, is_whole, quads, x_rows);
    totals->pair = add_quad_pairs(few->steps + first * PAIR, quads[0], quads[1], totals->pair);
    if (x_rows == 3)
        totals->single = add_quads(few->steps + few->padded_units * PAIR + first, quads[2], totals->single);
}

/* The run of units from `first` on of row `in_group` of a group, and behind its last row the terms of all. */
BB_INLINE void multiply_run(const struct few *few, const struct form form, struct bb_reader *reader, struct bb_row_group group, int64_t in_group, int64_t first,
                            const bool is_whole, struct totals *totals, const int32_t x_rows)
{
    next_run(few, form, reader, first, group.dots + in_group * few->padded_units + first, is_whole, x_rows);
    if (in_group == group.count - 1)
        add_runs(few, form, group, first, is_whole, totals, x_rows);
}

/* The group's rows . x; rows that are not there give 0. */
BB_INLINE struct totals multiply_group(const struct few *few, const struct form form, struct bb_row_group group, const int32_t x_rows)
{
    const int64_t block_units = x_rows > 1 ? few->block_units : few->units;
    struct bb_reader reader = bb_reader_of(few->task->weight, group.row, few->row_bytes, few->read_ahead);
    const uint8_t *codes = reader.codes;
    struct totals totals = { _mm256_setzero_ps(), _mm_setzero_ps() };
    if (!form.is_even && !few->is_usual)
        bb_widen_groups(few->task->weight, group.row, group.count, few->scales, few->biases);
    for (int64_t begin = 0; begin < few->units; begin += block_units) {
        const int64_t end = few->units - begin < block_units ? few->units : begin + block_units;
        for (int64_t i = 0; i < group.count; i++) {
            if (x_rows > 1) /* else the codes go on where the last row's end */
                reader.codes = codes + (size_t)i * few->row_bytes + begin * (form.unit / 8 * form.bits);
            int64_t first = begin;
            for (; form.is_even && first + UNITS <= end; first += UNITS)
                multiply_run(few, form, &reader, group, i, first, true, &totals, x_rows);
            for (; first < end; first += UNITS)
                multiply_run(few, form, &reader, group, i, first, false, &totals, x_rows);
        }
    }
    return totals;
}

BB_INLINE struct form form_of(const struct few *few, const int32_t unit, const int32_t bits, const bool has_values, const bool is_even)
{
    (void)few;
    return (struct form){ .unit = unit, .bits = bits, .has_values = has_values, .is_even = is_even };
}

/* The results of the block of rows from `row` on. */
BB_INLINE void store_block(const struct few *few, int64_t row, const float totals[BLOCK])
{
    bb_store_rows(few->task, row, 0, bb_load_bias(few->task, row), _mm256_loadu_ps(totals));
}

/* Where a set of rows and x stay in the first cache, its last row is read as fast without that. */
BB_INLINE bool finishes_later(const struct few *few, int64_t rows)
{
    return rows != BB_SET_ROWS || few->task->rounded->cols > BB_NEAR_X_BYTES;
}

/* The product, `rows` weight rows at a time. */
BB_INLINE void multiply_form(const struct few *few, int64_t rows, const int32_t unit, const int32_t bits, const bool has_values, const bool is_even,
                             const int32_t x_rows)
{
    const struct form form = form_of(few, unit, bits, has_values, is_even);
    const struct bb_linear_task *task = few->task;
    const int64_t all = task->weight->rows;
    struct bb_ahead_place ahead = bb_ahead_begin(task->ahead, task->ahead_count, (all + BLOCK - 1) / BLOCK);
    for (int64_t row = 0; row < all; row += BLOCK) {
        bb_ahead_ask(&ahead);
        const int64_t count = all - row < BLOCK ? all - row : BLOCK;
        float totals[FEW][BLOCK + ROWS] = { 0 };
        for (int64_t i = 0; i < count; i += rows) {
            bb_prefetch_groups(task->weight, row + i + rows, rows);
            const struct bb_row_group group = { row + i, form.is_even || count - i > rows ? rows : count - i, few->dots };
            const struct totals sums = multiply_group(few, form, group, x_rows);
            _mm_storeu_ps(totals[0] + i, x_rows == 1 ? sums.single : _mm256_castps256_ps128(sums.pair));
            if (x_rows > 1)
                _mm_storeu_ps(totals[1] + i, _mm256_extractf128_ps(sums.pair, 1));
            if (x_rows > 2)
                _mm_storeu_ps(totals[2] + i, sums.single);
        }
        const __m256 bias = bb_load_bias(task, row);
        BB_UNROLL
        for (int32_t t = 0; t < x_rows; t++)
            bb_store_rows(task, row, t, bias, _mm256_loadu_ps(totals[t]));
    }
}

#include "backend/cpu/kernels/vector/few.h"

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

/* Row t of x. */
static void lay_out_row(const struct few *few, int64_t t)
{
    const struct bb_rounded *rounded = few->task->rounded;
    const int64_t cols = rounded->cols, padded_cols = few->padded_units * rounded->unit;
    int8_t *x = few->x + t * padded_cols;
    const float *steps = rounded->steps + t * few->units;
    memcpy(x, bb_rounded_row(rounded, t), (size_t)cols);
    memset(x + cols, 0, (size_t)(padded_cols - cols));
    if (few->task->weight->scheme.bits == 4)
        split_columns(x, padded_cols);
    for (int64_t i = 0; i < few->padded_units; i++)
        few->sums[t * few->padded_units + i] = i < few->units ? rounded->sums[t * few->units + i] : 0.0f;
    for (int64_t i = 0; i < few->units; i++) {
        if (few->x_rows == 1)
            few->steps[i] = steps[i];
        else if (t < 2)
            _mm_storeu_ps(few->steps + i * PAIR + t * ROWS, _mm_set1_ps(steps[i]));
        else
            few->steps[few->padded_units * PAIR + i] = steps[i];
    }
}

void bb_avx2_multiply_few(const struct bb_linear_task *task)
{
    const struct bb_rounded *rounded = task->rounded;
    const struct bb_weight *weight = task->weight;
    const int64_t padded_cols = (int64_t)padded_cols_of(rounded->cols), padded_units = padded_cols / rounded->unit, x_rows = rounded->rows;
    const int64_t step_count = (x_rows > 1 ? PAIR + 1 : 1) * padded_units;
    const struct bb_few_plan plan = bb_few_plan(task, padded_cols, ROWS, WIDE_ROWS, BLOCK_COLS, AHEAD);
    struct few few = { .task = task, .x_rows = (int32_t)x_rows, .x = task->scratch, .units = rounded->cols / rounded->unit,
        .padded_units = padded_units, .block_units = plan.block_units, .row_bytes = bb_weight_row_bytes(weight), .read_ahead = plan.read_ahead };
    few.sums = (float *)(void *)(few.x + x_rows * padded_cols);
    few.steps = few.sums + x_rows * padded_units;
    few.dots = (int32_t *)(void *)(few.steps + step_count);
    few.scales = (float *)(void *)(few.dots + (x_rows > 1 ? x_rows * ROWS : 2 * BB_SHORT_ROWS) * padded_units);
    few.biases = few.scales + ROWS * padded_units + 8;
    few.tail = (uint8_t *)(few.biases + ROWS * padded_units + 8);
    const int64_t even_rows = few.units % 2 == 0 ? bb_even_rows(task, &plan) : 0;
    few.is_usual = bb_linear_is_usual(task) && few.units % UNITS == 0;
    few.is_even = even_rows > 0;
    memset(few.scales, 0, (size_t)(2 * (ROWS * padded_units + 8)) * sizeof(float));
    memset(few.steps, 0, (size_t)step_count * sizeof(float));
    for (int64_t t = 0; t < x_rows; t++)
        lay_out_row(&few, t);
    multiply(&few, even_rows > 0 ? even_rows : plan.rows);
}
