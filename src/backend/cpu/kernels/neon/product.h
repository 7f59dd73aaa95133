/* Rounded products with NEON, the body of each level's linear.c, which defines before including this
 *
 *     int32x4_t dot_16(int32x4_t sums, int8x16_t codes, int8x16_t x)    adds 16 products, any 4 to a lane
 *     void add_unit(const int8_t *codes, const int8_t *x, int32_t steps, int32x4_t sums[TILE][2], width)
 *
 * and PANEL_PAIRS: 0 for a panel of [columns / 4][8 rows][4 bytes], 1 for one of [columns / 8][4 pairs of rows][2 rows][8 bytes]. add_unit sums
 * `steps` steps of 4 columns for 8 weight rows (two registers of 4) and `width` rows of x, which lie as struct bb_rounded says.
 *
 * One row of x takes its own path (multiply_one), bound by reading the weights: a weight row at a time, in address order. 8-bit codes are taken
 * as code - 128, and 128 times the sum of x is added at the end. */
#ifndef BB_NEON_PRODUCT_H
#define BB_NEON_PRODUCT_H

#include "backend/cpu/kernels/neon/linear.h"

#include <math.h>

enum {
    PANEL_ROWS = 8,
    PANEL_COLS = 512,
    MAX_UNITS = PANEL_COLS / 16,
    ONE_ROWS = 4,
    AHEAD = 1024 /* bytes to prefetch ahead */
};

struct panel {
    int8_t codes[PANEL_COLS * PANEL_ROWS];
    float scales[MAX_UNITS][PANEL_ROWS], biases[MAX_UNITS][PANEL_ROWS]; /* a unit */
};

/* x of one row: codes, sums of units, and the sums of products of ONE_ROWS weight rows; all padded to whole runs of 4 units. */
struct one {
    const struct bb_linear_task *task;
    int8_t *x;
    float *sums;
    int32_t *dots;
    int64_t units, padded_units;
};

static int64_t padded_cols_of(int64_t cols)
{
    return (cols + 4 * BB_UNIT_LIMIT - 1) / (4 * BB_UNIT_LIMIT) * (4 * BB_UNIT_LIMIT);
}

static size_t linear_scratch(int64_t cols, int64_t row_count)
{
    const size_t many = sizeof(struct panel) + (size_t)row_count * PANEL_ROWS * sizeof(float), units = (size_t)padded_cols_of(cols) / 16;
    const size_t one = (size_t)padded_cols_of(cols) + units * sizeof(float) + ONE_ROWS * units * sizeof(int32_t);
    const size_t exact = bb_neon_exact_scratch(cols), rounded = many > one ? many : one;
    return rounded > exact ? rounded : exact;
}

/* ---- many rows of x ---- */

static void pack_scales(struct panel *panel, const struct bb_weight *weight, int64_t row, int64_t first, int64_t cols, int32_t unit)
{
    const int32_t group_size = weight->scheme.group_size, repeat = group_size / unit;
    const int64_t groups = weight->cols / group_size, first_group = first / group_size;
    const int64_t count = (cols + group_size - 1) / group_size;
    for (int64_t i = 0; i < PANEL_ROWS; i++) {
        const int64_t r = row + i < weight->rows ? row + i : weight->rows - 1;
        for (int64_t g = 0; g < count; g += 4) {
            float scales[4], biases[4];
            float32x4_t scale, bias;
            bb_load_groups(weight, r * groups + first_group + g, count - g < 4 ? count - g : 4, &scale, &bias);
            vst1q_f32(scales, scale);
            vst1q_f32(biases, bias);
            for (int64_t j = 0; j < 4 * repeat && g * repeat + j < count * repeat; j++) {
                panel->scales[g * repeat + j][i] = scales[j / repeat];
                panel->biases[g * repeat + j][i] = biases[j / repeat];
            }
        }
    }
}

/* Codes of columns [first, first + cols) of 8 rows. Rows behind the last repeat it. */
BB_INLINE void pack_codes(struct panel *panel, const struct bb_weight *weight, int64_t row, int64_t first, int64_t cols, const int32_t bits,
                          const bool has_values)
{
    const int64_t row_bytes = (int64_t)bb_weight_row_bytes(weight), last = weight->rows - 1 - row;
    const uint8_t *codes = (const uint8_t *)weight->data + row * row_bytes + first / 8 * bits;
    for (int64_t k = 0; k < cols; k += 32, codes += 4 * bits) {
        const int64_t count = cols - k < 32 ? cols - k : 32;
        for (int64_t i = 0; i < PANEL_ROWS; i++) {
            const uint8_t *from = codes + (i < last ? i : last) * row_bytes;
            int8_t bytes[32];
            __builtin_prefetch(from + PANEL_ROWS * row_bytes); /* the next panel's */
            const int8x16x2_t unpacked = bb_unpack_part(from, count, bits, has_values);
            vst1q_s8(bytes, unpacked.val[0]);
            vst1q_s8(bytes + 16, unpacked.val[1]);
            const int64_t piece = PANEL_PAIRS ? 8 : 4; /* bytes of a row that lie together */
            for (int64_t j = 0; j < count; j += piece)
                memcpy(panel->codes + (k + j) * PANEL_ROWS + i * piece, bytes + j, (size_t)piece);
        }
    }
}

static void pack(struct panel *panel, const struct bb_weight *weight, int64_t row, int64_t first, int64_t cols)
{
    switch (weight->scheme.mode == BB_QUANT_AFFINE ? weight->scheme.bits : 0) {
    case 1: pack_codes(panel, weight, row, first, cols, 1, false); break;
    case 2: pack_codes(panel, weight, row, first, cols, 2, false); break;
    case 3: pack_codes(panel, weight, row, first, cols, 3, false); break;
    case 4: pack_codes(panel, weight, row, first, cols, 4, false); break;
    case 5: pack_codes(panel, weight, row, first, cols, 5, false); break;
    case 6: pack_codes(panel, weight, row, first, cols, 6, false); break;
    case 8: pack_codes(panel, weight, row, first, cols, 8, false); break;
    default: pack_codes(panel, weight, row, first, cols, 4, true);
    }
}

/* Adds units [first_unit, first_unit + unit_count) of `width` rows of x to their totals. */
BB_INLINE void add_tile(const struct panel *panel, const struct bb_rounded *rounded, int64_t x_row, int64_t first_unit, int64_t unit_count,
                        float offset, float *totals, const int32_t width)
{
    const int64_t units = rounded->cols / rounded->unit;
    const int8_t *x = bb_rounded_row(rounded, x_row) + first_unit * rounded->unit * width, *codes = panel->codes;
    const float *steps = rounded->steps + x_row * units + first_unit, *unit_sums = rounded->sums + x_row * units + first_unit;
    for (int64_t u = 0; u < unit_count; u++, codes += rounded->unit * PANEL_ROWS, x += rounded->unit * width) {
        int32x4_t sums[TILE][2];
        add_unit(codes, x, rounded->unit / 4, sums, width);
        BB_UNROLL
        for (int32_t t = 0; t < width; t++) {
            const float32x4_t sum = vdupq_n_f32(unit_sums[t * units + u]), step = vdupq_n_f32(steps[t * units + u]);
            BB_UNROLL
            for (int32_t half = 0; half < 2; half++) {
                float *total = totals + t * PANEL_ROWS + 4 * half;
                const float32x4_t dot = vfmaq_n_f32(vcvtq_f32_s32(sums[t][half]), sum, offset); /* exact: whole numbers below 2^24 */
                const float32x4_t q = vfmaq_f32(vmulq_f32(vld1q_f32(panel->biases[u] + 4 * half), sum), vld1q_f32(panel->scales[u] + 4 * half), dot);
                vst1q_f32(total, vfmaq_f32(vld1q_f32(total), q, step));
            }
        }
        BB_FORGET_MEMORY();
    }
}

static void multiply_panel(const struct bb_linear_task *task, int64_t row)
{
    const struct bb_weight *weight = task->weight;
    const struct bb_rounded *rounded = task->rounded;
    const float offset = weight->scheme.bits == 8 ? 128.0f : 0.0f;
    struct panel *panel = task->scratch;
    float *totals = (float *)(panel + 1);
    memset(totals, 0, (size_t)task->row_count * PANEL_ROWS * sizeof(float));
    for (int64_t first = 0; first < weight->cols; first += PANEL_COLS) {
        const int64_t cols = weight->cols - first < PANEL_COLS ? weight->cols - first : PANEL_COLS, unit = first / rounded->unit;
        const int64_t count = cols / rounded->unit;
        pack(panel, weight, row, first, cols);
        pack_scales(panel, weight, row, first, cols, rounded->unit);
        for (int64_t t = 0; t < task->row_count; t += TILE) {
            const int64_t x_row = task->first_row + t;
            float *to = totals + t * PANEL_ROWS;
            switch (bb_rounded_tile_rows(rounded, x_row)) {
            case 8: add_tile(panel, rounded, x_row, unit, count, offset, to, 8); break;
            case 7: add_tile(panel, rounded, x_row, unit, count, offset, to, 7); break;
            case 6: add_tile(panel, rounded, x_row, unit, count, offset, to, 6); break;
            case 5: add_tile(panel, rounded, x_row, unit, count, offset, to, 5); break;
            case 4: add_tile(panel, rounded, x_row, unit, count, offset, to, 4); break;
            case 3: add_tile(panel, rounded, x_row, unit, count, offset, to, 3); break;
            case 2: add_tile(panel, rounded, x_row, unit, count, offset, to, 2); break;
            default: add_tile(panel, rounded, x_row, unit, count, offset, to, 1); break;
            }
        }
    }
    for (int32_t half = 0; half < PANEL_ROWS && row + half < weight->rows; half += 4) {
        const float32x4_t bias = bb_load_bias(task, row + half);
        for (int64_t t = 0; t < task->row_count; t++)
            bb_store_rows(task, row + half, task->first_row + t, bias, vld1q_f32(totals + t * PANEL_ROWS + half));
    }
}

/* ---- one row of x ---- */

/* The products of unit i of a run, summed to 4 lanes. Of 4-bit codes in units of 32 or 64, each 16 bytes are 16 even columns (low nibbles) and 16
 * odd ones; x is laid out to match. */
BB_INLINE int32x4_t unit_dot(const uint8_t *codes, const int8_t *x, int32_t i, const int32_t unit, const int32_t bits, const bool has_values)
{
    int32x4_t sums = vdupq_n_s32(0);
    codes += i * unit / 8 * bits;
    x += i * unit;
    if (unit == 16) { /* nvfp4 */
        uint8_t copy[16] = { 0 };
        memcpy(copy, codes, 8);
        return dot_16(sums, bb_unpack_codes(copy, bits, has_values).val[0], vld1q_s8(x));
    }
    BB_UNROLL
    for (int32_t k = 0; k < unit; k += 32, codes += 4 * bits, x += 32) {
        int8x16x2_t unpacked;
        if (bits == 4 && !has_values) {
            const uint8x16_t packed = vld1q_u8(codes);
            unpacked.val[0] = vreinterpretq_s8_u8(vandq_u8(packed, vdupq_n_u8(15)));
            unpacked.val[1] = vreinterpretq_s8_u8(vshrq_n_u8(packed, 4));
        } else {
            unpacked = bb_unpack_codes(codes, bits, has_values);
        }
        sums = dot_16(dot_16(sums, unpacked.val[0], vld1q_s8(x)), unpacked.val[1], vld1q_s8(x + 16));
    }
    return sums;
}

/* Sums of 4 units in their order. */
BB_INLINE int32x4_t sum_units(const uint8_t *codes, const int8_t *x, const int32_t unit, const int32_t bits, const bool has_values)
{
    return vpaddq_s32(vpaddq_s32(unit_dot(codes, x, 0, unit, bits, has_values), unit_dot(codes, x, 1, unit, bits, has_values)),
                      vpaddq_s32(unit_dot(codes, x, 2, unit, bits, has_values), unit_dot(codes, x, 3, unit, bits, has_values)));
}

/* The sums of one row. The last, partial run of 4 units is copied first, so that nothing behind the row is read. */
BB_INLINE void row_dots(const struct one *one, int64_t row, int32_t *dots, const int32_t unit, const int32_t bits, const bool has_values)
{
    const int32_t run_bytes = unit / 2 * bits; /* of 4 units */
    const uint8_t *codes = (const uint8_t *)one->task->weight->data + row * (one->units * unit / 8 * bits);
    const int8_t *x = one->x;
    int64_t u = 0;
    for (; u + 4 <= one->units; u += 4, codes += run_bytes, x += 4 * unit) {
        for (int32_t i = 0; i < run_bytes; i += 64)
            __builtin_prefetch(codes + AHEAD + i);
        vst1q_s32(dots + u, sum_units(codes, x, unit, bits, has_values));
    }
    if (u < one->units) {
        uint8_t copy[4 * BB_UNIT_LIMIT] = { 0 };
        memcpy(copy, codes, (size_t)((one->units - u) * unit / 8 * bits));
        vst1q_s32(dots + u, sum_units(copy, x, unit, bits, has_values));
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

/* Adds the terms of 4 rows from `row` on, unit by unit. */
static float32x4_t add_terms(const struct one *one, int64_t row)
{
    const struct bb_weight *weight = one->task->weight;
    const float *steps = one->task->rounded->steps, offset = weight->scheme.bits == 8 ? 128.0f : 0.0f;
    const int64_t groups = weight->cols / weight->scheme.group_size, last = weight->rows - 1;
    const bool is_double = weight->scheme.group_size > BB_UNIT_LIMIT; /* two units a group */
    float32x4_t total = vdupq_n_f32(0.0f);
    for (int64_t u = 0; u < one->units; u += 4) {
        const int64_t count = one->units - u < 4 ? one->units - u : 4;
        const float32x4_t sums = vld1q_f32(one->sums + u);
        int32x4_t terms[ONE_ROWS];
        for (int64_t i = 0; i < ONE_ROWS; i++) {
            const int64_t first = (row + i < last ? row + i : last) * groups;
            float32x4_t scale, bias;
            if (is_double) {
                bb_load_groups(weight, first + u / 2, (count + 1) / 2, &scale, &bias);
                scale = vzip1q_f32(scale, scale);
                bias = vzip1q_f32(bias, bias);
            } else {
                bb_load_groups(weight, first + u, count, &scale, &bias);
            }
            const float32x4_t dots = vfmaq_n_f32(vcvtq_f32_s32(vld1q_s32(one->dots + i * one->padded_units + u)), sums, offset);
            terms[i] = vreinterpretq_s32_f32(vfmaq_f32(vmulq_f32(bias, sums), scale, dots));
        }
        bb_transpose(terms);
        for (int64_t i = 0; i < count; i++)
            total = vfmaq_n_f32(total, vreinterpretq_f32_s32(terms[i]), steps[u + i]);
    }
    return total;
}

static void multiply_one(const struct bb_linear_task *task)
{
    const struct bb_rounded *rounded = task->rounded;
    const int64_t cols = rounded->cols, padded_cols = padded_cols_of(cols), padded_units = padded_cols / rounded->unit;
    struct one one = { .task = task, .x = task->scratch, .units = cols / rounded->unit, .padded_units = padded_units };
    one.sums = (float *)(void *)(one.x + padded_cols);
    one.dots = (int32_t *)(void *)(one.sums + padded_units);
    memset(one.x, 0, (size_t)padded_cols);
    memset(one.sums, 0, (size_t)padded_units * (sizeof(float) + ONE_ROWS * sizeof(int32_t))); /* dots too: rows that are not there */
    memcpy(one.sums, rounded->sums, (size_t)one.units * sizeof(float));
    if (task->weight->scheme.mode == BB_QUANT_AFFINE && task->weight->scheme.bits == 4) {
        for (int64_t i = 0; i < cols; i += 32) {
            const int8x16_t a = vld1q_s8(rounded->codes + i), b = vld1q_s8(rounded->codes + i + 16);
            vst1q_s8(one.x + i, vuzp1q_s8(a, b));
            vst1q_s8(one.x + i + 16, vuzp2q_s8(a, b));
        }
    } else {
        memcpy(one.x, rounded->codes, (size_t)cols);
    }
    for (int64_t row = 0; row < task->weight->rows; row += ONE_ROWS) {
        for (int64_t i = 0; i < ONE_ROWS && row + i < task->weight->rows; i++)
            one_row(&one, row + i, one.dots + i * padded_units);
        bb_store_rows(task, row, 0, bb_load_bias(task, row), add_terms(&one, row));
    }
}

static void multiply_rounded(const struct bb_linear_task *task)
{
    if (task->rounded->rows == 1) {
        multiply_one(task);
        return;
    }
    for (int64_t row = 0; row < task->weight->rows; row += PANEL_ROWS)
        multiply_panel(task, row);
}

/* ---- rounding ---- */

/* One unit of at most 64 columns; codes lie 4 * width apart in fours. */
static void round_unit(const float *x, int32_t unit, int8_t *codes, int64_t width, float *step, float *sum)
{
    uint32x4_t largest = vdupq_n_u32(0);
    int32x4_t total = vdupq_n_s32(0);
    for (int32_t i = 0; i < unit; i += 4) /* as whole numbers: the order is the same, and infinities and NaN are the largest */
        largest = vmaxq_u32(largest, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), vdupq_n_u32(0x7FFFFFFF)));
    const uint32_t bits = vmaxvq_u32(largest);
    float limit;
    memcpy(&limit, &bits, sizeof limit);
    const bool is_finite = bits < 0x7F800000, is_empty = !is_finite || limit < 1e-30f;
    const float inverse = is_empty ? 0.0f : 127.0f / limit;
    for (int32_t i = 0; i < unit; i += 4) {
        const int32x4_t code = is_empty ? vdupq_n_s32(0) : vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), inverse));
        const int16x4_t words = vmovn_s32(code);
        int8_t bytes[8];
        total = vaddq_s32(total, code);
        vst1_s8(bytes, vmovn_s16(vcombine_s16(words, words)));
        memcpy(codes + i * width, bytes, 4);
    }
    *step = !is_finite ? NAN : is_empty ? 0.0f : limit / 127.0f;
    *sum = (float)vaddvq_s32(total);
}

static void round_rows(const struct bb_rounded *rounded, const float *x, int64_t first, int64_t count)
{
    const int64_t units = rounded->cols / rounded->unit;
    for (int64_t row = first; row < first + count; row++) {
        const int64_t width = bb_rounded_tile_rows(rounded, row);
        int8_t *codes = bb_rounded_row(rounded, row);
        for (int64_t i = 0; i < units; i++)
            round_unit(x + row * rounded->cols + i * rounded->unit, rounded->unit, codes + i * rounded->unit * width, width,
                       rounded->steps + row * units + i, rounded->sums + row * units + i);
    }
}

static void fill(struct bb_kernels *kernels)
{
    kernels->rounded_tile = TILE;
    kernels->linear_rows = 2 * PANEL_ROWS;
    kernels->linear_scratch = linear_scratch;
    kernels->round_rows = round_rows;
    kernels->multiply_rounded = multiply_rounded;
    kernels->multiply_exact = bb_neon_multiply_exact;
}

#endif
