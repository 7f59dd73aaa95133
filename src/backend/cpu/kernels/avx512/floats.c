/* Products with f32 activations with AVX-512: of weights that are plain floats or mxfp8, widened to f32.
 *
 * The sum of a row: of each 1024 columns, column c goes to lane c % 16 of register c / 16 % 4, one FMA a column in ascending order; the four
 * registers are added, and their 16 sums to the row's 16 totals, which are folded at the end. The order does not depend on how many rows of x
 * there are: few rows of x take the values as they are widened; for many, a panel of 16 weight rows x 1024 columns is widened to scratch, and
 * tiles of 2 weight rows x 3 rows of x keep 24 registers of sums. */
#include "backend/cpu/kernels/avx512/unpack.h"

#include <string.h>

enum {
    PANEL_ROWS = 16, /* weight rows widened at once */
    PANEL_COLS = 1024,
    STEP = 64,       /* columns that the four registers of a sum take */
    GROUP = 32,      /* columns a scale of mxfp8; its columns are a multiple */
    TILE_ROWS = 2,
    TILE_X = 3,
    FEW_X = 6        /* rows of x up to which a weight row is widened for each */
};

/* Elements of a weight row are of type `dtype` below, a constant; BB_F8_E4M3 stands for mxfp8. */

size_t bb_avx512_floats_scratch(int64_t row_count)
{
    return (size_t)(PANEL_ROWS * PANEL_COLS + row_count * PANEL_ROWS * 16) * sizeof(float);
}

/* Says to the compiler that a value is wanted in a register here. */
static inline void keep(__m512 *value)
{
    __asm__("" : "+v"(*value));
}

static inline __mmask16 mask_of(int64_t rest)
{
    return (__mmask16)(rest >= 16 ? 0xFFFFu : rest > 0 ? (1u << rest) - 1u : 0u);
}

/* Columns [first, first + STEP) as f32, in four registers; behind the last column (unless is_full) 0. */
BB_INLINE void load_values(const struct bb_float_row *source, int64_t first, __m512 values[4], const enum bb_dtype dtype, const bool is_full)
{
    BB_UNROLL
    for (int64_t i = 0; i < 4; i++) {
        const int64_t column = first + 16 * i, rest = is_full ? 16 : source->cols - column;
        if (rest <= 0)
            values[i] = _mm512_setzero_ps();
        else if (dtype == BB_F8_E4M3)
            values[i] = _mm512_mul_ps(_mm512_set1_ps(bb_e8m0_to_f32(source->scales[column / GROUP])),
                                      bb_e4m3_values(_mm_loadu_si128((const __m128i *)(const void *)(source->data + column))));
        else
            values[i] = bb_load_floats(source->data, dtype, column, rest < 16 ? rest : 16);
    }
}

static inline __m512 add_four(const __m512 sums[4])
{
    return _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
}

/* The end of 16 rows: the 16 totals of each to one number a row. Totals i and i + 8 are added, then i and i + 4, and so on. */
static inline __m512 fold_rows(const float *rows)
{
    __m512i lanes[16];
    BB_UNROLL
    for (int32_t i = 0; i < 16; i++)
        lanes[i] = _mm512_loadu_si512(rows + 16 * i);
    bb_transpose(lanes);
    __m512 sums[16];
    BB_UNROLL
    for (int32_t i = 0; i < 16; i++)
        sums[i] = _mm512_castsi512_ps(lanes[i]);
    BB_UNROLL
    for (int32_t i = 0; i < 8; i++)
        sums[i] = _mm512_add_ps(sums[i], sums[i + 8]);
    BB_UNROLL
    for (int32_t i = 0; i < 4; i++)
        sums[i] = _mm512_add_ps(sums[i], sums[i + 4]);
    return _mm512_add_ps(_mm512_add_ps(sums[0], sums[2]), _mm512_add_ps(sums[1], sums[3]));
}

/* The products of STEP columns of a weight row and a row of x. */
BB_INLINE void add_columns(const struct bb_float_row *source, const float *x, int64_t first, __m512 sums[4], const enum bb_dtype dtype, const bool is_full)
{
    __m512 values[4];
    load_values(source, first, values, dtype, is_full);
    BB_UNROLL
    for (int64_t i = 0; i < 4; i++) {
        const __mmask16 mask = is_full ? (__mmask16)0xFFFF : mask_of(source->cols - first - 16 * i);
        sums[i] = _mm512_fmadd_ps(values[i], _mm512_maskz_loadu_ps(mask, x + first + 16 * i), sums[i]);
    }
}

/* One weight row, one row of x: the 16 totals. */
BB_INLINE __m512 multiply_row(const struct bb_float_row *source, const float *x, int64_t read_ahead, const enum bb_dtype dtype)
{
    const int64_t bytes = dtype == BB_F8_E4M3 ? 1 : dtype == BB_F32 ? 4 : 2;
    __m512 totals = _mm512_setzero_ps();
    for (int64_t block = 0; block < source->cols; block += PANEL_COLS) {
        const int64_t end = source->cols - block < PANEL_COLS ? source->cols : block + PANEL_COLS;
        __m512 sums[4] = { _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps() };
        int64_t first = block;
        for (; first + STEP <= end; first += STEP) {
            bb_read_ahead(source->data + first * bytes, STEP * bytes, read_ahead);
            add_columns(source, x, first, sums, dtype, true);
        }
        if (first < end)
            add_columns(source, x, first, sums, dtype, false);
        totals = _mm512_add_ps(totals, add_four(sums));
    }
    return totals;
}

/* Few rows of x: each weight row is widened for each. */
BB_INLINE void multiply_few(const struct bb_linear_task *task, const enum bb_dtype dtype)
{
    const struct bb_weight *weight = task->weight;
    const int64_t floats = task->row_count * (weight->cols + PANEL_ROWS * 16), row_bytes = (int64_t)bb_weight_row_bytes(weight);
    const int64_t used = floats * (int64_t)sizeof(float) + row_bytes; /* x, totals, a row for all rows of x */
    const int64_t read_ahead = bb_read_ahead_beside(task, used <= BB_NEAR_BYTES);
    float totals[FEW_X][PANEL_ROWS * 16] = { 0 };
    for (int64_t row = 0; row < weight->rows; row += PANEL_ROWS) {
        for (int64_t i = 0; i < PANEL_ROWS && row + i < weight->rows; i++) {
            const struct bb_float_row source = bb_float_row_of(weight, row + i);
            for (int64_t t = 0; t < task->row_count; t++)
                _mm512_storeu_ps(totals[t] + 16 * i, multiply_row(&source, task->x + (task->first_row + t) * weight->cols, read_ahead, dtype));
        }
        for (int64_t t = 0; t < task->row_count; t++)
            bb_store_rows(task, row, task->first_row + t, bb_load_bias(task, row), fold_rows(totals[t]));
    }
}

/* Columns [first, end) of `count` rows from `row` on, padded with zeros to a multiple of STEP. */
BB_INLINE void widen_panel(const struct bb_weight *weight, int64_t row, int64_t count, int64_t first, int64_t end, float *panel,
                           const enum bb_dtype dtype)
{
    for (int64_t r = 0; r < count; r++) {
        const struct bb_float_row source = bb_float_row_of(weight, row + r);
        for (int64_t column = first; column < end; column += STEP) {
            __m512 values[4];
            if (end - column >= STEP)
                load_values(&source, column, values, dtype, true);
            else
                load_values(&source, column, values, dtype, false);
            BB_UNROLL
            for (int64_t i = 0; i < 4; i++)
                _mm512_storeu_ps(panel + r * PANEL_COLS + column - first + 16 * i, values[i]);
        }
    }
}

/* Adds the products of STEP columns to the sums of a tile. rest: columns left, if not is_full. */
BB_INLINE void add_tile(const float *panel, const float *x, int64_t stride, __m512 sums[TILE_ROWS][TILE_X][4], const int32_t rows,
                        const int32_t x_rows, const bool is_full, int64_t rest)
{
    BB_UNROLL
    for (int32_t i = 0; i < 4; i++) {
        const __mmask16 mask = is_full ? (__mmask16)0xFFFF : mask_of(rest - 16 * i);
        __m512 values[TILE_ROWS];
        BB_UNROLL
        for (int32_t r = 0; r < rows; r++) {
            values[r] = _mm512_loadu_ps(panel + r * PANEL_COLS + 16 * i);
            keep(&values[r]); /* read once, not again for each row of x; the same below */
        }
        BB_UNROLL
        for (int32_t t = 0; t < x_rows; t++) {
            __m512 in = is_full ? _mm512_loadu_ps(x + t * stride + 16 * i) : _mm512_maskz_loadu_ps(mask, x + t * stride + 16 * i);
            keep(&in);
            BB_UNROLL
            for (int32_t r = 0; r < rows; r++)
                sums[r][t][i] = _mm512_fmadd_ps(values[r], in, sums[r][t][i]);
        }
    }
}

/* Adds the products of `cols` columns of a panel's rows and rows of x to their totals [x_rows][PANEL_ROWS][16]. */
BB_INLINE void multiply_tile(const float *panel, const float *x, int64_t cols, int64_t stride, float *totals, const int32_t rows, const int32_t x_rows)
{
    __m512 sums[TILE_ROWS][TILE_X][4];
    BB_UNROLL
    for (int32_t i = 0; i < rows * x_rows * 4; i++)
        sums[i / 4 / x_rows][i / 4 % x_rows][i % 4] = _mm512_setzero_ps();
    int64_t first = 0;
    for (; first + STEP <= cols; first += STEP)
        add_tile(panel + first, x + first, stride, sums, rows, x_rows, true, STEP);
    if (first < cols)
        add_tile(panel + first, x + first, stride, sums, rows, x_rows, false, cols - first);
    BB_UNROLL
    for (int32_t i = 0; i < rows * x_rows * 4; i++)
        keep(&sums[i / 4 / x_rows][i / 4 % x_rows][i % 4]);
    BB_UNROLL
    for (int32_t i = 0; i < rows * x_rows; i++) {
        float *total = totals + (i % x_rows * PANEL_ROWS + i / x_rows) * 16;
        _mm512_storeu_ps(total, _mm512_add_ps(_mm512_loadu_ps(total), add_four(sums[i / x_rows][i % x_rows])));
    }
}

/* x: of the task's first row, from the panel's first column on. */
static void multiply_panel(const float *panel, int64_t count, const float *x, int64_t row_count, int64_t cols, int64_t stride, float *totals)
{
    for (int64_t t = 0; t < row_count; t += TILE_X) {
        const int64_t x_rows = row_count - t < TILE_X ? row_count - t : TILE_X;
        for (int64_t r = 0; r < count; r += TILE_ROWS) {
            const float *from = panel + r * PANEL_COLS, *in = x + t * stride;
            float *to = totals + (t * PANEL_ROWS + r) * 16;
            if (x_rows == 3) /* a last odd row is multiplied with what lies behind it in the panel: nobody reads those totals */
                multiply_tile(from, in, cols, stride, to, 2, 3);
            else if (x_rows == 2)
                multiply_tile(from, in, cols, stride, to, 2, 2);
            else
                multiply_tile(from, in, cols, stride, to, 2, 1);
        }
    }
}

BB_INLINE void multiply(const struct bb_linear_task *task, const enum bb_dtype dtype)
{
    const struct bb_weight *weight = task->weight;
    if (task->row_count <= FEW_X) {
        multiply_few(task, dtype);
        return;
    }
    float *panel = task->scratch, *totals = panel + PANEL_ROWS * PANEL_COLS;
    memset(panel, 0, PANEL_ROWS * PANEL_COLS * sizeof(float));
    for (int64_t row = 0; row < weight->rows; row += PANEL_ROWS) {
        const int64_t count = weight->rows - row < PANEL_ROWS ? weight->rows - row : PANEL_ROWS;
        memset(totals, 0, (size_t)(task->row_count * PANEL_ROWS * 16) * sizeof(float));
        for (int64_t first = 0; first < weight->cols; first += PANEL_COLS) {
            const int64_t end = weight->cols - first < PANEL_COLS ? weight->cols : first + PANEL_COLS;
            widen_panel(weight, row, count, first, end, panel, dtype);
            multiply_panel(panel, count, task->x + task->first_row * weight->cols + first, task->row_count, end - first, weight->cols, totals);
        }
        for (int64_t t = 0; t < task->row_count; t++)
            bb_store_rows(task, row, task->first_row + t, bb_load_bias(task, row), fold_rows(totals + t * PANEL_ROWS * 16));
    }
}

void bb_avx512_multiply_floats(const struct bb_linear_task *task)
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
