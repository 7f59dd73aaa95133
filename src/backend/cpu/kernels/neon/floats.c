/* Products with f32 activations with NEON: of weights that are plain floats or mxfp8, widened to f32.
 *
 * The sum of a row: four registers, column c in lane c % 4 of register c / 4 % 4, one FMA a column in ascending order, folded at the end. The
 * order does not depend on how many rows of x there are: few rows of x take the values of two weight rows as they are widened; for many, 8
 * weight rows are widened to scratch, and tiles of 2 weight rows x 3 rows of x keep 24 registers of sums. */
#include "backend/cpu/kernels/neon/unpack.h"

enum {
    PANEL_ROWS = 8, /* weight rows widened at once */
    TILE_ROWS = 2,
    TILE_X = 3,
    STEP = 16,      /* columns that the four registers of a sum take */
    BLOCK = 64,     /* columns prefetched at once */
    GROUP = 32,     /* columns a scale of mxfp8; its columns are a multiple */
    AHEAD = 1024,   /* bytes to prefetch ahead */
    FEW_X = 2       /* rows of x up to which weight rows are widened for each */
};

/* Elements of a weight row are of type `dtype` below, a constant; BB_F8_E4M3 stands for mxfp8. */

static int64_t padded_cols_of(int64_t cols)
{
    return (cols + STEP - 1) / STEP * STEP;
}

size_t bb_neon_floats_scratch(int64_t cols)
{
    return PANEL_ROWS * (size_t)padded_cols_of(cols) * sizeof(float);
}

BB_INLINE int64_t bytes_of(const enum bb_dtype dtype)
{
    return dtype == BB_F8_E4M3 ? 1 : dtype == BB_F32 ? 4 : 2;
}

/* Says to the compiler that sums are wanted in registers here: gcc 12 else stores and loads them at every step. */
BB_INLINE void keep_sums(float32x4_t sums[4])
{
    __asm__("" : "+w"(sums[0]), "+w"(sums[1]), "+w"(sums[2]), "+w"(sums[3]));
}

/* The first `count` of STEP values of x, the others 0. */
BB_INLINE void load_x(const float *x, int64_t count, float32x4_t in[4])
{
    float copy[STEP] = {0};
    if (count < STEP)
        x = memcpy(copy, x, (size_t)count * sizeof *x);
    BB_UNROLL
    for (int32_t i = 0; i < 4; i++)
        in[i] = vld1q_f32(x + 4 * i);
}

/* 16 e4m3 codes of a group as f32. */
BB_INLINE void widen_codes(const uint8_t *data, float scale, float32x4_t values[4])
{
    const uint8x16_t codes = vld1q_u8(data);
    const uint16x8_t low = vmovl_u8(vget_low_u8(codes)), high = vmovl_high_u8(codes);
    const uint32x4_t wide[4] = { vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(high)), vmovl_high_u16(high) };
    BB_UNROLL
    for (int32_t i = 0; i < 4; i++)
        values[i] = vmulq_n_f32(bb_e4m3_values(wide[i]), scale);
}

/* The values of columns [first, first + STEP), of which `count` are there, the others 0. */
BB_INLINE void load_values(const struct bb_float_row *source, int64_t first, int64_t count, float32x4_t values[4], const enum bb_dtype dtype)
{
    const uint8_t *data = source->data + first * bytes_of(dtype);
    if (dtype == BB_F8_E4M3) {
        widen_codes(data, bb_e8m0_to_f32(source->scales[first / GROUP]), values);
        return;
    }
    uint8_t copy[STEP * 4] = {0};
    if (count < STEP)
        data = memcpy(copy, data, (size_t)(count * bytes_of(dtype)));
    BB_UNROLL
    for (int32_t i = 0; i < 4; i++)
        values[i] = dtype == BB_F32 ? vreinterpretq_f32_u8(vld1q_u8(data + 16 * i)) : bb_widen(vreinterpret_u16_u8(vld1_u8(data + 8 * i)), dtype);
}

/* The end of a row: four registers of sums to one number. */
BB_INLINE float fold(const float32x4_t sums[4])
{
    return vaddvq_f32(vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3])));
}

/* The products of `count` (at most BLOCK) columns of `rows` weight rows and a row of x. */
BB_INLINE void add_columns(const struct bb_float_row sources[TILE_ROWS], const float *x, int64_t first, int64_t count, float32x4_t sums[TILE_ROWS][4],
                           const int32_t rows, const enum bb_dtype dtype)
{
    BB_UNROLL
    for (int64_t i = 0; i < BLOCK; i += STEP) {
        if (i >= count)
            break;
        float32x4_t in[4];
        load_x(x + first + i, count - i, in);
        BB_UNROLL
        for (int32_t r = 0; r < rows; r++) {
            float32x4_t values[4];
            load_values(&sources[r], first + i, count - i, values, dtype);
            BB_UNROLL
            for (int32_t j = 0; j < 4; j++)
                sums[r][j] = vfmaq_f32(sums[r][j], values[j], in[j]);
            keep_sums(sums[r]);
        }
    }
}

/* `rows` weight rows from `row` on, and few rows of x. */
BB_INLINE void multiply_rows(const struct bb_linear_task *task, int64_t row, const int32_t rows, const enum bb_dtype dtype)
{
    const int64_t cols = task->weight->cols, bytes = bytes_of(dtype);
    struct bb_float_row sources[TILE_ROWS];
    for (int32_t r = 0; r < rows; r++)
        sources[r] = bb_float_row_of(task->weight, row + r);
    for (int64_t t = task->first_row; t < task->first_row + task->row_count; t++) {
        const float *x = task->x + t * cols;
        float32x4_t sums[TILE_ROWS][4];
        BB_UNROLL
        for (int32_t i = 0; i < 4 * rows; i++)
            sums[i / 4][i % 4] = vdupq_n_f32(0.0f);
        int64_t first = 0;
        for (; first + BLOCK <= cols; first += BLOCK) {
            for (int32_t r = 0; r < rows; r++) {
                for (int64_t i = 0; i < BLOCK * bytes; i += BB_LINE_BYTES)
                    __builtin_prefetch(sources[r].data + first * bytes + AHEAD + i);
            }
            add_columns(sources, x, first, BLOCK, sums, rows, dtype);
        }
        if (first < cols)
            add_columns(sources, x, first, cols - first, sums, rows, dtype);
        for (int32_t r = 0; r < rows; r++)
            bb_linear_store(task, row + r, t, fold(sums[r]));
    }
}

/* `count` rows from `row` on, padded with zeros to a multiple of STEP. */
BB_INLINE void widen_panel(const struct bb_weight *weight, int64_t row, int64_t count, float *panel, const enum bb_dtype dtype)
{
    for (int64_t r = 0; r < count; r++, panel += padded_cols_of(weight->cols)) {
        const struct bb_float_row source = bb_float_row_of(weight, row + r);
        for (int64_t first = 0; first < weight->cols; first += STEP) {
            float32x4_t values[4];
            load_values(&source, first, weight->cols - first, values, dtype);
            for (int32_t i = 0; i < 4; i++)
                vst1q_f32(panel + first + 4 * i, values[i]);
        }
    }
}

/* Adds the products of `count` (at most 16) columns to the sums of a tile. */
BB_INLINE void add_tile(const float *panel, int64_t padded, const float *x, int64_t cols, int64_t count, float32x4_t sums[TILE_ROWS][TILE_X][4],
                        const int32_t rows, const int32_t x_rows)
{
    float32x4_t in[TILE_X][4];
    BB_UNROLL
    for (int32_t t = 0; t < x_rows; t++)
        load_x(x + t * cols, count, in[t]);
    BB_UNROLL
    for (int32_t i = 0; i < 4; i++) {
        float32x4_t values[TILE_ROWS];
        BB_UNROLL
        for (int32_t r = 0; r < rows; r++)
            values[r] = vld1q_f32(panel + r * padded + 4 * i);
        BB_UNROLL
        for (int32_t t = 0; t < x_rows; t++) {
            BB_UNROLL
            for (int32_t r = 0; r < rows; r++)
                sums[r][t][i] = vfmaq_f32(sums[r][t][i], values[r], in[t][i]);
        }
    }
}

/* rows x x_rows products of a panel; out: [x_rows][rows]. */
BB_INLINE void multiply_tile(const float *panel, int64_t padded, const float *x, int64_t cols, float out[TILE_X][TILE_ROWS], const int32_t rows,
                             const int32_t x_rows)
{
    float32x4_t sums[TILE_ROWS][TILE_X][4];
    BB_UNROLL
    for (int32_t i = 0; i < rows * x_rows * 4; i++)
        sums[i / 4 / x_rows][i / 4 % x_rows][i % 4] = vdupq_n_f32(0.0f);
    int64_t first = 0;
    for (; first + STEP <= cols; first += STEP)
        add_tile(panel + first, padded, x + first, cols, STEP, sums, rows, x_rows);
    if (first < cols)
        add_tile(panel + first, padded, x + first, cols, cols - first, sums, rows, x_rows);
    BB_UNROLL
    for (int32_t i = 0; i < rows * x_rows; i++)
        out[i % x_rows][i / x_rows] = fold(sums[i / x_rows][i % x_rows]);
}

static void multiply_widened(const struct bb_linear_task *task, const float *panel, int64_t row, int64_t count)
{
    const int64_t cols = task->weight->cols, padded = padded_cols_of(cols), end = task->first_row + task->row_count;
    for (int64_t t = task->first_row; t < end; t += TILE_X) {
        const int64_t x_rows = end - t < TILE_X ? end - t : TILE_X;
        for (int64_t r = 0; r < count; r += TILE_ROWS) {
            const int64_t rows = count - r < TILE_ROWS ? count - r : TILE_ROWS;
            const float *from = panel + r * padded, *x = task->x + t * cols;
            float out[TILE_X][TILE_ROWS];
            if (rows == 2 && x_rows == 3)
                multiply_tile(from, padded, x, cols, out, 2, 3);
            else if (rows == 2 && x_rows == 2)
                multiply_tile(from, padded, x, cols, out, 2, 2);
            else if (rows == 2)
                multiply_tile(from, padded, x, cols, out, 2, 1);
            else if (x_rows == 3)
                multiply_tile(from, padded, x, cols, out, 1, 3);
            else if (x_rows == 2)
                multiply_tile(from, padded, x, cols, out, 1, 2);
            else
                multiply_tile(from, padded, x, cols, out, 1, 1);
            for (int64_t i = 0; i < rows * x_rows; i++)
                bb_linear_store(task, row + r + i / x_rows, t + i % x_rows, out[i % x_rows][i / x_rows]);
        }
    }
}

BB_INLINE void multiply(const struct bb_linear_task *task, const enum bb_dtype dtype)
{
    const int64_t rows = task->weight->rows;
    int64_t row = 0;
    if (task->row_count <= FEW_X) {
        for (; row + TILE_ROWS <= rows; row += TILE_ROWS)
            multiply_rows(task, row, TILE_ROWS, dtype);
        if (row < rows)
            multiply_rows(task, row, 1, dtype);
        return;
    }
    for (; row < rows; row += PANEL_ROWS) {
        const int64_t count = rows - row < PANEL_ROWS ? rows - row : PANEL_ROWS;
        widen_panel(task->weight, row, count, task->scratch, dtype);
        multiply_widened(task, task->scratch, row, count);
    }
}

void bb_neon_multiply_floats(const struct bb_linear_task *task)
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
