/* Products with f32 activations with AVX2: of weights that are plain floats or mxfp8, widened to f32.
 *
 * The sum of a row: four registers, column c in lane c % 8 of register c / 8 % 4, one FMA a column in ascending order, folded at the end. The
 * order does not depend on how many rows of x there are: few rows of x take the values as they are widened; for many, 16 weight rows are
 * widened to scratch, and a weight row meets 3 rows of x at once, with 12 registers of sums. */
#include "backend/cpu/kernels/avx2/unpack.h"

enum {
    PANEL_ROWS = 16, /* weight rows widened at once */
    STEP = 32,       /* columns that the four registers of a sum take: a group of mxfp8 */
    TILE_X = 3,
    FEW_X = 2        /* rows of x up to which a weight row is widened for each */
};

/* Elements of a weight row are of type `dtype` below, a constant; BB_F8_E4M3 stands for mxfp8, whose columns are a multiple of STEP. */

static int64_t padded_of(int64_t cols)
{
    return (cols + STEP - 1) / STEP * STEP;
}

size_t bb_avx2_floats_scratch(int64_t cols)
{
    return PANEL_ROWS * (size_t)padded_of(cols) * sizeof(float);
}

/* Says to the compiler that a value is wanted in a register here. */
static inline void keep(__m256 *value)
{
    __asm__("" : "+x"(*value));
}

/* Columns [first, first + STEP) as f32, in four registers; behind the last column (unless is_full) 0. */
BB_INLINE void load_values(const struct bb_float_row *source, int64_t first, __m256 values[4], const enum bb_dtype dtype, const bool is_full)
{
    BB_UNROLL
    for (int64_t i = 0; i < 4; i++) {
        const int64_t column = first + 8 * i;
        if (dtype == BB_F8_E4M3)
            values[i] = _mm256_mul_ps(_mm256_set1_ps(bb_e8m0_to_f32(source->scales[first / STEP])),
                                      bb_e4m3_values(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(source->data + column)))));
        else
            values[i] = is_full ? bb_load_8(source->data, dtype, column) : bb_load_floats(source->data, dtype, column, source->cols - column);
    }
}

/* The end of a row: four registers of sums to one number. */
static inline float fold(const __m256 sums[4])
{
    const __m256 eight = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* The products of STEP columns of a weight row and a row of x. */
BB_INLINE void add_columns(const struct bb_float_row *source, const float *x, int64_t first, __m256 sums[4], const enum bb_dtype dtype, const bool is_full)
{
    __m256 values[4];
    load_values(source, first, values, dtype, is_full);
    BB_UNROLL
    for (int64_t i = 0; i < 4; i++) {
        const __m256 in = is_full ? _mm256_loadu_ps(x + first + 8 * i) : bb_load_floats(x, BB_F32, first + 8 * i, source->cols - first - 8 * i);
        sums[i] = _mm256_fmadd_ps(values[i], in, sums[i]);
    }
}

/* One weight row, one row of x. */
BB_INLINE float multiply_row(const struct bb_float_row *source, const float *x, int64_t read_ahead, const enum bb_dtype dtype)
{
    const int64_t bytes = dtype == BB_F8_E4M3 ? 1 : dtype == BB_F32 ? 4 : 2;
    __m256 sums[4] = { _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps() };
    int64_t first = 0;
    for (; first + STEP <= source->cols; first += STEP) {
        bb_read_ahead(source->data + first * bytes, STEP * bytes, read_ahead);
        add_columns(source, x, first, sums, dtype, true);
    }
    if (first < source->cols)
        add_columns(source, x, first, sums, dtype, false);
    return fold(sums);
}

/* `count` rows from `row` on, padded with zeros to a multiple of STEP. */
BB_INLINE void widen_panel(const struct bb_weight *weight, int64_t row, int64_t count, float *panel, const enum bb_dtype dtype)
{
    for (int64_t r = 0; r < count; r++, panel += padded_of(weight->cols)) {
        const struct bb_float_row source = bb_float_row_of(weight, row + r);
        for (int64_t first = 0; first < weight->cols; first += STEP) {
            __m256 values[4];
            load_values(&source, first, values, dtype, false);
            BB_UNROLL
            for (int64_t i = 0; i < 4; i++)
                _mm256_storeu_ps(panel + first + 8 * i, values[i]);
        }
    }
}

/* Adds the products of STEP columns to the sums of a weight row and x_rows rows of x. rest: columns left, if not is_full. */
BB_INLINE void add_tile(const float *values, const float *x, int64_t cols, __m256 sums[TILE_X][4], const int32_t x_rows, const bool is_full, int64_t rest)
{
    BB_UNROLL
    for (int32_t i = 0; i < 4; i++) {
        __m256 value = _mm256_loadu_ps(values + 8 * i);
        keep(&value); /* read once, not again for each row of x */
        BB_UNROLL
        for (int32_t t = 0; t < x_rows; t++) {
            const __m256 in = is_full ? _mm256_loadu_ps(x + t * cols + 8 * i) : bb_load_floats(x, BB_F32, t * cols + 8 * i, rest - 8 * i);
            sums[t][i] = _mm256_fmadd_ps(value, in, sums[t][i]);
        }
    }
}

/* One widened weight row times x_rows rows of x. */
BB_INLINE void multiply_tile(const float *values, const float *x, int64_t cols, float out[TILE_X], const int32_t x_rows)
{
    __m256 sums[TILE_X][4];
    BB_UNROLL
    for (int32_t i = 0; i < x_rows * 4; i++)
        sums[i / 4][i % 4] = _mm256_setzero_ps();
    int64_t first = 0;
    for (; first + STEP <= cols; first += STEP)
        add_tile(values + first, x + first, cols, sums, x_rows, true, STEP);
    if (first < cols)
        add_tile(values + first, x + first, cols, sums, x_rows, false, cols - first);
    BB_UNROLL
    for (int32_t i = 0; i < x_rows * 4; i++)
        keep(&sums[i / 4][i % 4]);
    BB_UNROLL
    for (int32_t t = 0; t < x_rows; t++)
        out[t] = fold(sums[t]);
}

static void multiply_panel(const struct bb_linear_task *task, const float *panel, int64_t row, int64_t count)
{
    const int64_t cols = task->weight->cols, end = task->first_row + task->row_count;
    for (int64_t t = task->first_row; t < end; t += TILE_X) {
        const int64_t x_rows = end - t < TILE_X ? end - t : TILE_X;
        for (int64_t r = 0; r < count; r++) {
            const float *values = panel + r * padded_of(cols), *x = task->x + t * cols;
            float out[TILE_X];
            if (x_rows == 3)
                multiply_tile(values, x, cols, out, 3);
            else if (x_rows == 2)
                multiply_tile(values, x, cols, out, 2);
            else
                multiply_tile(values, x, cols, out, 1);
            for (int64_t i = 0; i < x_rows; i++)
                bb_linear_store(task, row + r, t + i, out[i]);
        }
    }
}

/* Few rows of x: each weight row is widened for each. */
BB_INLINE void multiply_few(const struct bb_linear_task *task, const enum bb_dtype dtype)
{
    for (int64_t row = 0; row < task->weight->rows; row++) {
        const struct bb_float_row source = bb_float_row_of(task->weight, row);
        for (int64_t t = task->first_row; t < task->first_row + task->row_count; t++)
            bb_linear_store(task, row, t, multiply_row(&source, task->x + t * source.cols, task->read_ahead, dtype));
    }
}

BB_INLINE void multiply(const struct bb_linear_task *task, const enum bb_dtype dtype)
{
    const struct bb_weight *weight = task->weight;
    if (task->row_count <= FEW_X) {
        multiply_few(task, dtype);
        return;
    }
    for (int64_t row = 0; row < weight->rows; row += PANEL_ROWS) {
        const int64_t count = weight->rows - row < PANEL_ROWS ? weight->rows - row : PANEL_ROWS;
        widen_panel(weight, row, count, task->scratch, dtype);
        multiply_panel(task, task->scratch, row, count);
    }
}

void bb_avx2_multiply_floats(const struct bb_linear_task *task)
{
    if (task->weight->scheme.mode == BB_QUANT_MXFP8)
        multiply(task, BB_F8_E4M3);
    else if (task->weight->dtype == BB_BF16)
        multiply(task, BB_BF16);
    else if (task->weight->dtype == BB_F16)
        multiply(task, BB_F16);
    else
        multiply(task, BB_F32);
}
