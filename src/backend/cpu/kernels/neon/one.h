/* Rounded product of one row of x on NEON: the body that neon and neon_dot share. Each includes it once, behind its own
 *
 *     dot_registers(...)    partial sums of up to four registers of codes
 *
 * Bound by reading the weights: one row at a time, in address order. The partial sums of four units are folded to the four lanes of one
 * register. The sums of 8 rows are kept; then their terms are made, transposed, and added unit by unit: the order that kernel.h wants.
 *
 * 4-bit codes are not put in order: of 16 bytes (32 columns) the low nibbles are the even columns, the high nibbles the odd ones, and x is laid
 * out to match once a task. */
#ifndef BB_NEON_ONE_H
#define BB_NEON_ONE_H

#include "backend/cpu/kernels/neon/unpack.h"

enum {
    ROWS = 8,
    AHEAD = 1024 /* bytes to prefetch ahead */
};

struct one {
    const struct bb_linear_task *task;
    const int8_t *x;   /* codes, laid out to match the weights; zeroed up to a whole run of 4 units */
    const float *sums; /* [units], zeroed up to a multiple of 4 */
    int32_t *dots;     /* [ROWS][padded units] */
    int64_t units, padded_units;
};

/* Columns of x, padded to whole runs of 4 units of at most 64 columns. */
static size_t padded_cols_of(int64_t cols)
{
    return ((size_t)cols + 4 * BB_UNIT_LIMIT - 1) / (4 * BB_UNIT_LIMIT) * (4 * BB_UNIT_LIMIT);
}

/* The sums of the 4 units from codes and x on. */
BB_INLINE int32x4_t run_dots(const struct bb_unpacker *unpacker, const uint8_t *codes, const int8_t *x, const int32_t unit, const int32_t bits,
                             const bool is_split, const bool has_values)
{
    const int32_t units_per_block = BB_BLOCK / unit;
    int32x4_t partial[4];
    for (int32_t b = 0; b < 4 / units_per_block; b++, codes += 8 * bits, x += BB_BLOCK) {
        uint8x16_t block[4];
        if (is_split) {
            bb_split_nibbles(codes, &block[0], &block[1], has_values);
            bb_split_nibbles(codes + 16, &block[2], &block[3], has_values);
        } else {
            bb_unpack_block(unpacker, codes, block, bits, has_values);
        }
        int8x16_t registers[4];
        BB_UNROLL
        for (int32_t i = 0; i < 4; i++)
            registers[i] = vreinterpretq_s8_u8(bits == 8 ? veorq_u8(block[i], vdupq_n_u8(128)) : block[i]);
        BB_UNROLL
        for (int32_t u = 0; u < units_per_block; u++)
            partial[b * units_per_block + u] = dot_registers(registers + u * unit / 16, x + u * unit, unit / 16, bits);
    }
    return bb_fold_four(partial[0], partial[1], partial[2], partial[3]);
}

/* The sums of one row. The last, partial run of 4 units is copied first, so that nothing behind the row is read. */
BB_INLINE void row_dots(const struct one *one, int64_t row, int32_t *dots, const int32_t unit, const int32_t bits, const bool is_split,
                        const bool has_values)
{
    const int32_t run_bytes = unit / 2 * bits;
    const struct bb_unpacker unpacker = bb_unpacker_of(one->task->weight->scheme);
    const uint8_t *codes = (const uint8_t *)one->task->weight->data + row * (one->units * unit / 8 * bits);
    const int8_t *x = one->x;
    int64_t u = 0;
    for (; u + 4 <= one->units; u += 4, codes += run_bytes, x += 4 * unit) {
        for (int32_t i = 0; i < run_bytes; i += 64)
            __builtin_prefetch(codes + AHEAD + i);
        vst1q_s32(dots + u, run_dots(&unpacker, codes, x, unit, bits, is_split, has_values));
    }
    if (u < one->units) {
        uint8_t copy[4 * BB_UNIT_LIMIT] = {0};
        memcpy(copy, codes, (size_t)((one->units - u) * unit / 8 * bits));
        vst1q_s32(dots + u, run_dots(&unpacker, copy, x, unit, bits, is_split, has_values));
    }
}

/* A row with the constants of its scheme. */
static void one_row(const struct one *one, int64_t row, int32_t *dots)
{
    const int32_t unit = one->task->rounded->unit;
    const bool has_values = one->task->weight->scheme.mode != BB_QUANT_AFFINE;
    switch (one->task->weight->scheme.bits + (unit == 64 ? 16 : 0)) {
    case 1: row_dots(one, row, dots, 32, 1, false, false); break;
    case 2: row_dots(one, row, dots, 32, 2, false, false); break;
    case 3: row_dots(one, row, dots, 32, 3, false, false); break;
    case 5: row_dots(one, row, dots, 32, 5, false, false); break;
    case 6: row_dots(one, row, dots, 32, 6, false, false); break;
    case 8: row_dots(one, row, dots, 32, 8, false, false); break;
    case 16 + 1: row_dots(one, row, dots, 64, 1, false, false); break;
    case 16 + 2: row_dots(one, row, dots, 64, 2, false, false); break;
    case 16 + 3: row_dots(one, row, dots, 64, 3, false, false); break;
    case 16 + 4: row_dots(one, row, dots, 64, 4, true, false); break;
    case 16 + 5: row_dots(one, row, dots, 64, 5, false, false); break;
    case 16 + 6: row_dots(one, row, dots, 64, 6, false, false); break;
    case 16 + 8: row_dots(one, row, dots, 64, 8, false, false); break;
    default: /* 4 bits, units of 32 or 16 */
        if (!has_values)
            row_dots(one, row, dots, 32, 4, true, false);
        else if (unit == 32)
            row_dots(one, row, dots, 32, 4, true, true);
        else
            row_dots(one, row, dots, 16, 4, false, true);
    }
}

/* The terms of the `count` (at most 4) units from `u` on of row `row`, whose sums are `dots`. */
BB_INLINE float32x4_t row_terms(const struct one *one, int64_t row, int64_t u, int64_t count, const int32_t *dots)
{
    const struct bb_weight *weight = one->task->weight;
    const int64_t first = row * (weight->cols / weight->scheme.group_size);
    const float32x4_t sums = vld1q_f32(one->sums + u);
    float32x4_t scale, bias, dot = vcvtq_f32_s32(vld1q_s32(dots + u));
    if (weight->scheme.group_size > BB_UNIT_LIMIT) { /* two units a group */
        bb_load_groups(weight, first + u / 2, count / 2, &scale, &bias);
        scale = vzip1q_f32(scale, scale);
        bias = vzip1q_f32(bias, bias);
    } else {
        bb_load_groups(weight, first + u, count, &scale, &bias);
    }
    if (weight->scheme.bits == 8) /* codes were taken as code - 128; exact, below 2^24 */
        dot = vfmaq_n_f32(dot, sums, 128.0f);
    return vfmaq_f32(vmulq_f32(bias, sums), scale, dot);
}

/* Adds the terms of 8 rows from `row` on, unit by unit. */
static void add_terms(const struct one *one, int64_t row, float32x4_t totals[2])
{
    const float *steps = one->task->rounded->steps;
    const int64_t last = one->task->weight->rows - 1;
    totals[0] = totals[1] = vdupq_n_f32(0.0f);
    for (int64_t u = 0; u < one->units; u += 4) {
        const int64_t count = one->units - u < 4 ? one->units - u : 4;
        int32x4_t terms[2][4];
        BB_UNROLL
        for (int64_t i = 0; i < ROWS; i++)
            terms[i / 4][i % 4] = vreinterpretq_s32_f32(row_terms(one, row + i < last ? row + i : last, u, count, one->dots + i * one->padded_units));
        bb_transpose(terms[0]);
        bb_transpose(terms[1]);
        for (int64_t i = 0; i < count; i++) {
            totals[0] = vfmaq_n_f32(totals[0], vreinterpretq_f32_s32(terms[0][i]), steps[u + i]);
            totals[1] = vfmaq_n_f32(totals[1], vreinterpretq_f32_s32(terms[1][i]), steps[u + i]);
        }
    }
}

static void multiply_one(const struct bb_linear_task *task)
{
    const struct bb_rounded *rounded = task->rounded;
    const struct bb_weight *weight = task->weight;
    const int64_t cols = rounded->cols, padded_cols = (int64_t)padded_cols_of(cols), units = cols / rounded->unit;
    const int64_t padded_units = padded_cols / rounded->unit;
    int8_t *x = task->scratch;
    float *sums = (float *)(void *)(x + padded_cols);
    const struct one one = { .task = task, .x = x, .sums = sums, .dots = (int32_t *)(void *)(sums + padded_units), .units = units,
        .padded_units = padded_units };
    memset(one.dots, 0, (size_t)(ROWS * padded_units) * sizeof(int32_t)); /* rows that are not there */
    memset(x + cols, 0, (size_t)(padded_cols - cols));
    for (int64_t i = 0; i < padded_units; i++)
        sums[i] = i < units ? rounded->sums[i] : 0.0f;
    if (weight->scheme.bits == 4 && rounded->unit != 16) {
        for (int64_t i = 0; i < cols; i += 32) {
            const int8x16x2_t pairs = vld2q_s8(rounded->codes + i);
            vst1q_s8(x + i, pairs.val[0]);
            vst1q_s8(x + i + 16, pairs.val[1]);
        }
    } else {
        memcpy(x, rounded->codes, (size_t)cols);
    }
    struct bb_ahead_place ahead = bb_ahead_begin(task->ahead, task->ahead_count, (weight->rows + ROWS - 1) / ROWS);
    bb_prefetch_groups(weight, 0, weight->rows < ROWS ? weight->rows : ROWS);
    for (int64_t row = 0; row < weight->rows; row += ROWS) {
        bb_ahead_ask(&ahead);
        for (int64_t i = 0; i < ROWS && row + i < weight->rows; i++) {
            if (row + i + ROWS < weight->rows)
                bb_prefetch_groups(weight, row + i + ROWS, 1);
            one_row(&one, row + i, one.dots + i * padded_units);
        }
        float32x4_t totals[2];
        add_terms(&one, row, totals);
        for (int32_t i = 0; i < 2 && row + 4 * i < weight->rows; i++)
            bb_store_rows(task, row + 4 * i, 0, bb_load_bias(task, row + 4 * i), totals[i]);
    }
}

#endif
