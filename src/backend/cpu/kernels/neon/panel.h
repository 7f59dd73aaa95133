/* Rounded products of many rows of x on NEON: the body that neon, neon_dot and neon_i8mm share. Each includes it once, behind its own
 *
 *     DEPTH                 columns of a row that lie together in the panel and in x
 *     place_codes(...)      64 columns of 4 weight rows to the panel
 *     unit_dots(...)        the whole-number sums of one unit, 8 weight rows x 8 rows of x
 *     MULTIPLY_ONE          the product of one row of x
 *
 * A panel of 16 weight rows x up to 512 columns is unpacked to bytes once and stays in the first cache while all rows of x pass over it:
 *
 *     panel   [2 halves][columns / DEPTH][8 rows][DEPTH bytes]
 *     x       [columns / DEPTH][8 rows of x][DEPTH bytes]       (struct bb_rounded, but with DEPTH for 4)
 *
 * Codes are signed bytes: 8-bit ones are taken as code - 128, and 128 times the sum of x is added to the sum, all in whole numbers. At the end
 * of a unit 8 x 8 sums become f32 and go to the totals [rows of x][16 weight rows]. */
#ifndef BB_NEON_PANEL_H
#define BB_NEON_PANEL_H

#include "backend/cpu/kernels/neon/unpack.h"

#include <math.h>

enum {
    PANEL_ROWS = 16,
    HALF_ROWS = 8,
    PANEL_COLS = 512,
    MAX_UNITS = PANEL_COLS / 16
};

struct code_panel {
    int8_t codes[2][PANEL_COLS * HALF_ROWS];
    float scales[MAX_UNITS][PANEL_ROWS], biases[MAX_UNITS][PANEL_ROWS]; /* a unit */
};

static size_t scratch_bytes(int64_t cols, int64_t row_count)
{
    const size_t many = sizeof(struct code_panel) + (size_t)row_count * PANEL_ROWS * sizeof(float);
    const size_t one = bb_neon_one_scratch(cols), floats = bb_neon_floats_scratch(cols), rounded = many > one ? many : one;
    return rounded > floats ? rounded : floats;
}

/* Scales and biases of the units of columns [first, first + cols) of rows [row, row + 4), to panel rows [place, place + 4). */
static void pack_scales(struct code_panel *panel, const struct bb_weight *weight, int64_t row, int64_t first, int64_t cols, int32_t unit, int32_t place)
{
    const int32_t group_size = weight->scheme.group_size, repeat = group_size / unit;
    const int64_t groups = weight->cols / group_size, first_group = first / group_size, count = cols / group_size;
    for (int64_t g = 0; g < count; g += 4) {
        const int64_t run = count - g < 4 ? count - g : 4;
        int32x4_t scales[4], biases[4];
        for (int64_t i = 0; i < 4; i++) {
            const int64_t r = row + i < weight->rows ? row + i : weight->rows - 1;
            float32x4_t scale, bias;
            bb_load_groups(weight, r * groups + first_group + g, run, &scale, &bias);
            scales[i] = vreinterpretq_s32_f32(scale);
            biases[i] = vreinterpretq_s32_f32(bias);
        }
        bb_transpose(scales);
        bb_transpose(biases);
        for (int64_t i = 0; i < run * repeat; i++) {
            vst1q_f32(&panel->scales[g * repeat + i][place], vreinterpretq_f32_s32(scales[i / repeat]));
            vst1q_f32(&panel->biases[g * repeat + i][place], vreinterpretq_f32_s32(biases[i / repeat]));
        }
    }
}

/* Codes of columns [first, first + cols) of rows [row, row + 4), to panel rows [place, place + 4). Rows behind the last repeat it. */
BB_INLINE void pack_codes(struct code_panel *panel, const struct bb_weight *weight, int64_t row, int64_t first, int64_t cols, int32_t place,
                          const int32_t bits, const bool has_values)
{
    const int64_t row_bytes = (int64_t)bb_weight_row_bytes(weight), last = weight->rows - 1 - row;
    const uint8_t *codes = (const uint8_t *)weight->data + row * row_bytes + first / 8 * bits;
    int8_t *to = panel->codes[place / HALF_ROWS] + place % HALF_ROWS * DEPTH;
    const struct bb_unpacker unpacker = bb_unpacker_of(weight->scheme);
    for (int64_t k = 0; k < cols; k += BB_BLOCK, codes += 8 * bits, to += BB_BLOCK * HALF_ROWS) {
        int8x16_t rows[4][4];
        for (int64_t r = 0; r < 4; r++) {
            const uint8_t *from = codes + (r < last ? r : last) * row_bytes;
            uint8x16_t block[4];
            __builtin_prefetch(from + PANEL_ROWS * row_bytes); /* the next panel's */
            if (cols - k >= BB_BLOCK)
                bb_unpack_block(&unpacker, from, block, bits, has_values);
            else
                bb_unpack_part(&unpacker, from, cols - k, block, bits, has_values);
            for (int32_t i = 0; i < 4; i++)
                rows[r][i] = vreinterpretq_s8_u8(bits == 8 ? veorq_u8(block[i], vdupq_n_u8(128)) : block[i]);
        }
        place_codes(to, rows);
    }
}

static void pack(struct code_panel *panel, const struct bb_weight *weight, int64_t row, int64_t first, int64_t cols, int32_t place)
{
    switch (weight->scheme.mode == BB_QUANT_AFFINE ? weight->scheme.bits : 0) {
    case 1: pack_codes(panel, weight, row, first, cols, place, 1, false); break;
    case 2: pack_codes(panel, weight, row, first, cols, place, 2, false); break;
    case 3: pack_codes(panel, weight, row, first, cols, place, 3, false); break;
    case 4: pack_codes(panel, weight, row, first, cols, place, 4, false); break;
    case 5: pack_codes(panel, weight, row, first, cols, place, 5, false); break;
    case 6: pack_codes(panel, weight, row, first, cols, place, 6, false); break;
    case 8: pack_codes(panel, weight, row, first, cols, place, 8, false); break;
    default: pack_codes(panel, weight, row, first, cols, place, 4, true);
    }
}

/* Adds units [first_unit, first_unit + unit_count) of `width` rows of x to their totals of 8 weight rows. */
BB_INLINE void add_tile(const struct code_panel *panel, int32_t half, const struct bb_rounded *rounded, int64_t x_row, int64_t first_unit,
                        int64_t unit_count, int32_t bits, float *totals, const int32_t width)
{
    const int32_t unit = rounded->unit;
    const int64_t units = rounded->cols / unit;
    const int8_t *codes = panel->codes[half], *x = rounded->codes + x_row * rounded->cols + first_unit * unit * width;
    const float *steps = rounded->steps + x_row * units + first_unit, *sums = rounded->sums + x_row * units + first_unit;
    for (int64_t u = 0; u < unit_count; u++, codes += unit * HALF_ROWS, x += unit * width) {
        int32x4_t dots[TILE][2];
        unit_dots(codes, x, unit, bits, dots, width);
        const float *scales = panel->scales[u] + half * HALF_ROWS, *biases = panel->biases[u] + half * HALF_ROWS;
        const float32x4_t scale[2] = { vld1q_f32(scales), vld1q_f32(scales + 4) }, bias[2] = { vld1q_f32(biases), vld1q_f32(biases + 4) };
        BB_UNROLL
        for (int32_t t = 0; t < width; t++) {
            const float sum = sums[t * units + u], step = steps[t * units + u];
            const int32x4_t offset = vdupq_n_s32(bits == 8 ? 128 * (int32_t)sum : 0);
            float *total = totals + t * PANEL_ROWS;
            BB_UNROLL
            for (int32_t i = 0; i < 2; i++) {
                const float32x4_t dot = vcvtq_f32_s32(vaddq_s32(dots[t][i], offset));
                const float32x4_t q = vfmaq_f32(vmulq_n_f32(bias[i], sum), scale[i], dot);
                vst1q_f32(total + 4 * i, vfmaq_n_f32(vld1q_f32(total + 4 * i), q, step));
            }
        }
        BB_FORGET_MEMORY();
    }
}

static void add_rows(const struct code_panel *panel, int32_t half, const struct bb_rounded *rounded, int64_t x_row, int64_t first_unit,
                     int64_t unit_count, int32_t bits, float *totals)
{
    switch (bb_rounded_tile_rows(rounded, x_row)) {
    case 8: add_tile(panel, half, rounded, x_row, first_unit, unit_count, bits, totals, 8); break;
    case 7: add_tile(panel, half, rounded, x_row, first_unit, unit_count, bits, totals, 7); break;
    case 6: add_tile(panel, half, rounded, x_row, first_unit, unit_count, bits, totals, 6); break;
    case 5: add_tile(panel, half, rounded, x_row, first_unit, unit_count, bits, totals, 5); break;
    case 4: add_tile(panel, half, rounded, x_row, first_unit, unit_count, bits, totals, 4); break;
    case 3: add_tile(panel, half, rounded, x_row, first_unit, unit_count, bits, totals, 3); break;
    case 2: add_tile(panel, half, rounded, x_row, first_unit, unit_count, bits, totals, 2); break;
    default: add_tile(panel, half, rounded, x_row, first_unit, unit_count, bits, totals, 1); break;
    }
}

static void multiply_panel(const struct bb_linear_task *task, int64_t row)
{
    const struct bb_weight *weight = task->weight;
    const struct bb_rounded *rounded = task->rounded;
    struct code_panel *panel = task->scratch;
    float *totals = (float *)(void *)(panel + 1);
    memset(totals, 0, (size_t)task->row_count * PANEL_ROWS * sizeof(float));
    for (int64_t first = 0; first < weight->cols; first += PANEL_COLS) {
        const int64_t cols = weight->cols - first < PANEL_COLS ? weight->cols - first : PANEL_COLS, first_unit = first / rounded->unit;
        for (int32_t place = 0; place < PANEL_ROWS; place += 4) {
            const int64_t from = row + place < weight->rows ? row + place : weight->rows - 1;
            pack(panel, weight, from, first, cols, place);
            pack_scales(panel, weight, from, first, cols, rounded->unit, place);
        }
        for (int64_t t = 0; t < task->row_count; t += TILE) {
            for (int32_t half = 0; half < 2 && row + half * HALF_ROWS < weight->rows; half++)
                add_rows(panel, half, rounded, task->first_row + t, first_unit, cols / rounded->unit, weight->scheme.bits,
                         totals + t * PANEL_ROWS + half * HALF_ROWS);
        }
    }
    for (int32_t place = 0; place < PANEL_ROWS && row + place < weight->rows; place += 4) {
        const float32x4_t bias = bb_load_bias(task, row + place);
        for (int64_t t = 0; t < task->row_count; t++)
            bb_store_rows(task, row + place, task->first_row + t, bias, vld1q_f32(totals + t * PANEL_ROWS + place));
    }
}

static void multiply_rows(const struct bb_linear_task *task)
{
    if (task->rounded->rows == 1) {
        MULTIPLY_ONE(task);
        return;
    }
    for (int64_t row = 0; row < task->weight->rows; row += PANEL_ROWS)
        multiply_panel(task, row);
}

static void round_to_codes(const float *x, int32_t unit, int8_t *codes, int64_t width, float *step, float *sum, float *rest)
{
    uint32x4_t largest = vdupq_n_u32(0);
    int32x4_t total = vdupq_n_s32(0);
    for (int32_t i = 0; i < unit; i += 4) /* as whole numbers: the order is the same, and infinities and NaN are the largest */
        largest = vmaxq_u32(largest, vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x + i))));
    const uint32_t bits = vmaxvq_u32(largest);
    float limit;
    memcpy(&limit, &bits, sizeof limit);
    const bool is_finite = bits < 0x7F800000, is_empty = !is_finite || limit < 1e-30f;
    const float inverse = is_empty ? 0.0f : 127.0f / limit;
    *step = !is_finite ? NAN : is_empty ? 0.0f : limit / 127.0f;
    for (int32_t i = 0; i < unit; i += 16) {
        int32x4_t four[4];
        for (int32_t j = 0; j < 4; j++) {
            const float32x4_t in = vld1q_f32(x + i + 4 * j);
            four[j] = is_empty ? vdupq_n_s32(0) : vcvtnq_s32_f32(vmulq_n_f32(in, inverse));
            total = vaddq_s32(total, four[j]);
            if (rest != NULL)
                vst1q_f32(rest + i + 4 * j, vfmsq_n_f32(in, vcvtq_f32_s32(four[j]), *step));
        }
        const int16x8_t low = vcombine_s16(vmovn_s32(four[0]), vmovn_s32(four[1])), high = vcombine_s16(vmovn_s32(four[2]), vmovn_s32(four[3]));
        int8_t rounded[16];
        vst1q_s8(rounded, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
        for (int32_t j = 0; j < 16; j += DEPTH)
            memcpy(codes + (i + j) * width, rounded + j, DEPTH);
    }
    *sum = (float)vaddvq_s32(total);
}

static void round_tile(const struct bb_rounded *rounded, const float *x, int64_t first, int64_t count)
{
    bb_round_rows(rounded, x, first, count, DEPTH, round_to_codes);
}

/* The slots of rounded products. */
static void fill_linear(struct bb_kernels *kernels)
{
    kernels->rounded_tile = TILE;
    kernels->rounded_few = 1;
    kernels->linear_rows = PANEL_ROWS;
    kernels->linear_scratch = scratch_bytes;
    kernels->round_rows = round_tile;
    kernels->multiply_rounded = multiply_rows;
}

#endif
