/* Rounded product of one row of x: bound by reading the weights.
 *
 * One row of weights at a time, in address order (several row streams defeat the hardware's prefetching). Each register of 64 byte codes gives,
 * by vpdpbusd, 16 partial sums; registers are folded together until the 16 lanes are the sums of 16 units, so that scale, bias and conversion
 * are one instruction each for 16 units. The terms q of 16 rows are kept, transposed, and added unit by unit: the order that kernel.h wants.
 *
 * 4-bit codes are not put in order: of 64 bytes (128 columns) the low nibbles are the even columns, the high nibbles the odd ones, and x is laid
 * out to match once a task. */
#include "backend/cpu/kernels/avx512/linear.h"

enum {
    ROWS = 16,
    AHEAD = 2048 /* bytes to prefetch ahead */
};

struct one {
    const struct bb_linear_task *task;
    struct bb_unpacker unpacker;
    const int8_t *x;   /* codes, laid out to match the weights; zeroed up to a whole run of 16 units */
    const float *sums; /* [units], zeroed up to a multiple of 16 */
    float *terms;      /* [ROWS][padded units] */
    int64_t units, padded_units;
};

static int64_t padded_units_of(int64_t cols)
{
    return (cols / 16 + 15) / 16 * 16;
}

size_t bb_avx512_one_scratch(int64_t cols)
{
    const size_t units = (size_t)padded_units_of(cols);
    return (size_t)cols + 1024 + units * sizeof(float) + ROWS * units * sizeof(float);
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

/* Partial sums of register i of the run: 64 columns in order. */
static inline __m512i dot_64(const struct one *one, const uint8_t *codes, const int8_t *x, int64_t i)
{
    const __m512i unpacked = bb_unpack_codes(&one->unpacker, codes + 8 * one->unpacker.bits * i, 64);
    return _mm512_dpbusd_epi32(_mm512_setzero_si512(), unpacked, _mm512_loadu_si512(x + 64 * i));
}

/* The same of 4-bit codes of 128 columns; x: 64 even ones, then 64 odd ones. */
static inline __m512i dot_128(const struct one *one, const uint8_t *codes, const int8_t *x, int64_t i, bool has_values)
{
    const __m512i nibble = _mm512_set1_epi8(15), packed = _mm512_loadu_si512(codes + 64 * i);
    __m512i even = _mm512_and_si512(packed, nibble), odd = _mm512_and_si512(_mm512_srli_epi16(packed, 4), nibble);
    if (has_values) {
        even = _mm512_shuffle_epi8(one->unpacker.values, even);
        odd = _mm512_shuffle_epi8(one->unpacker.values, odd);
    }
    const __m512i sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), even, _mm512_loadu_si512(x + 128 * i));
    return _mm512_dpbusd_epi32(sums, odd, _mm512_loadu_si512(x + 128 * i + 64));
}

/* Sums of 16 units whose partial sums fill 4, 8 or 16 lanes each: so many registers come from `dot(i)`. Lanes come out in the order of units. */
#define FOLD_16(dot) fold_lanes(fold_lanes(fold_four(dot(0), dot(1), dot(2), dot(3)), fold_four(dot(4), dot(5), dot(6), dot(7))), \
                                fold_lanes(fold_four(dot(8), dot(9), dot(10), dot(11)), fold_four(dot(12), dot(13), dot(14), dot(15))))
#define FOLD_8(dot) _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15), \
                                             fold_lanes(fold_four(dot(0), dot(1), dot(2), dot(3)), fold_four(dot(4), dot(5), dot(6), dot(7))))
#define FOLD_4(dot) _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), \
                                             fold_four(dot(0), dot(1), dot(2), dot(3)))

/* Whole-number sums of 16 units from `codes` on. */
static inline __attribute__((always_inline)) __m512i sum_units(const struct one *one, const uint8_t *codes, const int8_t *x, const int32_t unit,
                                                               const bool is_nibbles, const bool has_values)
{
#define NIBBLES(i) dot_128(one, codes, x, i, has_values)
#define ORDERED(i) dot_64(one, codes, x, i)
    if (is_nibbles)
        return unit == 64 ? FOLD_8(NIBBLES) : FOLD_4(NIBBLES);
    return unit == 64 ? FOLD_16(ORDERED) : unit == 32 ? FOLD_8(ORDERED) : FOLD_4(ORDERED);
#undef NIBBLES
#undef ORDERED
}

/* Scales and biases of 16 units from unit `u` of row `row` on. */
static inline void load_units(const struct one *one, int64_t row, int64_t u, int64_t count, __m512 *scale, __m512 *bias)
{
    const struct bb_weight *weight = one->task->weight;
    const int64_t groups = weight->cols / weight->scheme.group_size;
    if (weight->scheme.group_size <= BB_UNIT_LIMIT) {
        bb_load_groups(weight, row * groups + u, count, scale, bias);
        return;
    }
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    bb_load_groups(weight, row * groups + u / 2, (count + 1) / 2, scale, bias);
    *scale = _mm512_permutexvar_ps(twice, *scale);
    *bias = _mm512_permutexvar_ps(twice, *bias);
}

/* The terms of one row. The last, partial run of 16 units is copied first, so that nothing behind the row is read. */
static inline __attribute__((always_inline)) void row_terms(const struct one *one, int64_t row, float *terms, const int32_t unit,
                                                            const bool is_nibbles, const bool has_values)
{
    const int64_t run_bytes = 2 * unit * one->unpacker.bits; /* of 16 units */
    const uint8_t *codes = (const uint8_t *)one->task->weight->data + row * (int64_t)bb_weight_row_bytes(one->task->weight);
    for (int64_t u = 0; u < one->units; u += 16, codes += run_bytes) {
        const int64_t count = one->units - u < 16 ? one->units - u : 16;
        uint8_t copy[16 * BB_UNIT_LIMIT];
        const uint8_t *from = codes;
        if (count < 16) {
            const int64_t bytes = count * unit / 8 * one->unpacker.bits;
            for (int64_t i = 0; i < run_bytes; i += 64) {
                const int64_t rest = bytes - i;
                const __mmask64 mask = rest <= 0 ? 0 : rest >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << rest) - 1;
                _mm512_storeu_si512(copy + i, _mm512_maskz_loadu_epi8(mask, codes + i));
            }
            from = copy;
        } else {
            for (int64_t i = 0; i < run_bytes; i += 64)
                _mm_prefetch((const char *)codes + AHEAD + i, _MM_HINT_T0);
        }
        __m512 scale, bias;
        load_units(one, row, u, count, &scale, &bias);
        const __m512 dot = _mm512_cvtepi32_ps(sum_units(one, from, one->x + u * unit, unit, is_nibbles, has_values));
        _mm512_storeu_ps(terms + u, _mm512_fmadd_ps(scale, dot, _mm512_mul_ps(bias, _mm512_loadu_ps(one->sums + u))));
    }
}

static void one_row(const struct one *one, int64_t row, float *terms)
{
    const int32_t unit = one->task->rounded->unit;
    const bool has_values = one->unpacker.has_values;
    if (one->unpacker.bits == 4 && unit == 64)
        row_terms(one, row, terms, 64, true, false);
    else if (one->unpacker.bits == 4 && unit == 32 && has_values)
        row_terms(one, row, terms, 32, true, true);
    else if (one->unpacker.bits == 4 && unit == 32)
        row_terms(one, row, terms, 32, true, false);
    else if (unit == 64)
        row_terms(one, row, terms, 64, false, false);
    else if (unit == 32)
        row_terms(one, row, terms, 32, false, false);
    else
        row_terms(one, row, terms, 16, false, true);
}

/* Adds the terms of 16 rows unit by unit. */
static __m512 add_terms(const struct one *one)
{
    const float *steps = one->task->rounded->steps;
    __m512 total = _mm512_setzero_ps();
    for (int64_t u = 0; u < one->units; u += 16) {
        const int64_t count = one->units - u < 16 ? one->units - u : 16;
        __m512i terms[ROWS];
        for (int64_t i = 0; i < ROWS; i++)
            terms[i] = _mm512_loadu_si512(one->terms + i * one->padded_units + u);
        bb_transpose(terms);
        for (int64_t i = 0; i < count; i++)
            total = _mm512_fmadd_ps(_mm512_castsi512_ps(terms[i]), _mm512_set1_ps(steps[u + i]), total);
    }
    return total;
}

/* x for nibbles: of each 128 columns the 64 even ones, then the 64 odd ones. */
static void split_columns(int8_t *out, const int8_t *x, int64_t cols)
{
    for (int64_t i = 0; i < cols; i += 128) {
        const int64_t rest = cols - i < 128 ? cols - i : 128;
        for (int64_t j = 0; j < 64; j++) {
            out[i + j] = 2 * j < rest ? x[i + 2 * j] : 0;
            out[i + 64 + j] = 2 * j + 1 < rest ? x[i + 2 * j + 1] : 0;
        }
    }
}

void bb_avx512_multiply_one(const struct bb_linear_task *task)
{
    const struct bb_rounded *rounded = task->rounded;
    const int64_t cols = rounded->cols, run = 16 * rounded->unit;
    const int64_t units = cols / rounded->unit, padded_units = (units + 15) / 16 * 16;
    int8_t *x = task->scratch;
    float *sums = (float *)(void *)(x + (cols + run - 1) / run * run), *terms = sums + padded_units;
    struct one one = { .task = task, .unpacker = bb_unpacker_of(task->weight->scheme), .x = x, .sums = sums, .terms = terms, .units = units,
        .padded_units = padded_units };
    for (int64_t i = cols; i < (cols + run - 1) / run * run; i++)
        x[i] = 0;
    for (int64_t i = 0; i < padded_units; i++)
        sums[i] = i < units ? rounded->sums[i] : 0.0f;
    if (one.unpacker.bits == 4 && rounded->unit != 16)
        split_columns(x, rounded->codes, cols);
    else
        for (int64_t i = 0; i < cols; i++)
            x[i] = rounded->codes[i];
    for (int64_t row = 0; row < task->weight->rows; row += ROWS) {
        for (int64_t i = 0; i < ROWS; i++)
            one_row(&one, row + i < task->weight->rows ? row + i : task->weight->rows - 1, terms + i * padded_units);
        bb_store_rows(task, row, 0, bb_load_bias(task, row), add_terms(&one));
    }
}
