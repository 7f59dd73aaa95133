/* Exact products with NEON: f32 activations, weights widened to f32, any scheme.
 *
 * The sum of a row: four registers, column c in lane c % 4 of register c / 4 % 4, one FMA a column in ascending order, folded at the end. The
 * order does not depend on how many rows of x there are: one row of x takes the values of two weight rows as they are unpacked; for many, 8
 * weight rows are unpacked to scratch, and tiles of 2 weight rows x 3 rows of x keep 24 registers of sums. */
#include "backend/cpu/kernels/neon/unpack.h"

enum {
    PANEL_ROWS = 8, /* weight rows unpacked at once */
    TILE_ROWS = 2,
    TILE_X = 3,
    STEP = 16,      /* columns that the four registers of a sum take */
    AHEAD = 1024,   /* bytes to prefetch ahead */
    FEW_X = 2       /* rows of x up to which weight rows are unpacked for each */
};

enum kind { KIND_CODES, KIND_E4M3, KIND_BF16, KIND_F16, KIND_F32 };

/* A weight row being read. */
struct source {
    const uint8_t *data;
    float *scales, *biases; /* of its groups, as f32, in scratch */
};

/* What the rows of a weight have in common. */
struct reader {
    const struct bb_weight *weight;
    struct bb_unpacker unpacker;
    int32_t group_shift; /* log2 of the group */
};

static int64_t padded_cols_of(int64_t cols)
{
    return (cols + BB_BLOCK - 1) / BB_BLOCK * BB_BLOCK;
}

static int64_t padded_groups_of(int64_t cols)
{
    return cols / 16 + 4;
}

size_t bb_neon_exact_scratch(int64_t cols)
{
    return ((size_t)PANEL_ROWS * (size_t)padded_cols_of(cols) + 2 * TILE_ROWS * (size_t)padded_groups_of(cols)) * sizeof(float);
}

static enum kind kind_of(const struct bb_weight *weight)
{
    if (weight->scheme.mode != BB_QUANT_NONE)
        return weight->scheme.mode == BB_QUANT_MXFP8 ? KIND_E4M3 : KIND_CODES;
    return weight->dtype == BB_BF16 ? KIND_BF16 : weight->dtype == BB_F16 ? KIND_F16 : KIND_F32;
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

/* The same for plain weights of `size` bytes. */
BB_INLINE void load_plain(const uint8_t *data, int64_t count, float32x4_t values[4], const enum kind kind)
{
    const size_t size = kind == KIND_F32 ? 4 : 2;
    uint8_t copy[STEP * 4] = {0};
    if (count < STEP)
        data = memcpy(copy, data, (size_t)count * size);
    BB_UNROLL
    for (int32_t i = 0; i < 4; i++)
        values[i] = kind == KIND_F32 ? vreinterpretq_f32_u8(vld1q_u8(data + 16 * i))
                                     : bb_widen(vreinterpret_u16_u8(vld1_u8(data + 8 * i)), kind == KIND_F16 ? BB_F16 : BB_BF16);
}

/* 16 codes as f32 values of a group. */
BB_INLINE void widen_codes(uint8x16_t codes, float scale, float bias, float32x4_t values[4], const enum kind kind)
{
    const uint16x8_t low = vmovl_u8(vget_low_u8(codes)), high = vmovl_high_u8(codes);
    const uint32x4_t wide[4] = { vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(high)), vmovl_high_u16(high) };
    BB_UNROLL
    for (int32_t i = 0; i < 4; i++)
        values[i] = kind == KIND_E4M3 ? vmulq_n_f32(bb_e4m3_values(wide[i]), scale)
                                      : vfmaq_n_f32(vdupq_n_f32(bias), vcvtq_f32_u32(wide[i]), scale);
}

/* The codes of columns [first, first + 64), of which `count` (64, or a multiple of 16) are there; none if the weight is plain. */
BB_INLINE void load_codes(const struct reader *reader, const struct source *source, int64_t first, int64_t count, uint8x16_t codes[4],
                          const enum kind kind, const int32_t bits, const bool has_values)
{
    if (kind != KIND_CODES && kind != KIND_E4M3)
        return;
    if (count == BB_BLOCK)
        bb_unpack_block(&reader->unpacker, source->data + first / 8 * bits, codes, bits, has_values);
    else
        bb_unpack_part(&reader->unpacker, source->data + first / 8 * bits, count, codes, bits < 8 ? bits : 8, has_values);
}

/* The values of columns [first, first + 16), whose codes are `codes`; of plain weights `count` (at most 16) are there, the others 0. */
BB_INLINE void load_values(const struct reader *reader, const struct source *source, const uint8x16_t *codes, int64_t first, int64_t count,
                           float32x4_t values[4], const enum kind kind, const int32_t bits)
{
    const int64_t group = first >> reader->group_shift;
    if (kind == KIND_CODES || kind == KIND_E4M3)
        widen_codes(*codes, source->scales[group], source->biases[group], values, kind);
    else
        load_plain(source->data + first / 8 * bits, count < STEP ? count : STEP, values, kind);
}

static struct reader reader_of(const struct bb_weight *weight)
{
    struct reader reader = { .weight = weight, .unpacker = bb_unpacker_of(weight->scheme) };
    while ((1 << reader.group_shift) < weight->scheme.group_size)
        reader.group_shift++;
    return reader;
}

/* Source number `index` on a row, whose scales and biases are widened to the scratch behind the panel. */
static struct source source_of(const struct bb_linear_task *task, int64_t row, int32_t index)
{
    const struct bb_weight *weight = task->weight;
    const int64_t padded = padded_groups_of(weight->cols);
    float *groups = (float *)task->scratch + PANEL_ROWS * padded_cols_of(weight->cols) + 2 * index * padded;
    const struct source source = { .data = (const uint8_t *)weight->data + (size_t)row * bb_weight_row_bytes(weight), .scales = groups,
        .biases = groups + padded };
    if (weight->scheme.mode == BB_QUANT_NONE)
        return source;
    const int64_t count = weight->cols / weight->scheme.group_size, first = row * count;
    for (int64_t g = 0; g < count; g += 4) {
        const int64_t run = count - g < 4 ? count - g : 4;
        float32x4_t scale, bias = vdupq_n_f32(0.0f);
        if (weight->scheme.mode == BB_QUANT_MXFP8)
            scale = bb_load_scale_bytes(weight->scales, weight->scheme.mode, first + g, run);
        else
            bb_load_groups(weight, first + g, run, &scale, &bias);
        vst1q_f32(source.scales + g, scale);
        vst1q_f32(source.biases + g, bias);
    }
    return source;
}

/* The end of a row: four registers of sums to one number. */
BB_INLINE float fold(const float32x4_t sums[4])
{
    return vaddvq_f32(vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3])));
}

/* The products of `count` (at most 64) columns of `rows` weight rows and a row of x. */
BB_INLINE void add_columns(const struct reader *reader, const struct source sources[TILE_ROWS], const float *x, int64_t first, int64_t count,
                           float32x4_t sums[TILE_ROWS][4], const int32_t rows, const enum kind kind, const int32_t bits, const bool has_values)
{
    uint8x16_t codes[TILE_ROWS][4];
    BB_UNROLL
    for (int32_t r = 0; r < rows; r++)
        load_codes(reader, &sources[r], first, count, codes[r], kind, bits, has_values);
    BB_UNROLL
    for (int64_t i = 0; i < 4; i++) {
        if (STEP * i >= count)
            break;
        const int64_t column = first + STEP * i;
        float32x4_t in[4];
        load_x(x + column, count - STEP * i, in);
        BB_UNROLL
        for (int32_t r = 0; r < rows; r++) {
            float32x4_t values[4];
            load_values(reader, &sources[r], &codes[r][i], column, count - STEP * i, values, kind, bits);
            BB_UNROLL
            for (int32_t j = 0; j < 4; j++)
                sums[r][j] = vfmaq_f32(sums[r][j], values[j], in[j]);
            keep_sums(sums[r]);
        }
    }
}

/* `rows` weight rows from `row` on, and few rows of x. */
BB_INLINE void multiply_rows(const struct bb_linear_task *task, const struct reader *reader, int64_t row, const int32_t rows, const enum kind kind,
                             const int32_t bits, const bool has_values)
{
    const int64_t cols = task->weight->cols;
    struct source sources[TILE_ROWS];
    for (int32_t r = 0; r < rows; r++)
        sources[r] = source_of(task, row + r, r);
    for (int64_t t = task->first_row; t < task->first_row + task->row_count; t++) {
        const float *x = task->x + t * cols;
        float32x4_t sums[TILE_ROWS][4];
        BB_UNROLL
        for (int32_t i = 0; i < 4 * rows; i++)
            sums[i / 4][i % 4] = vdupq_n_f32(0.0f);
        int64_t first = 0;
        for (; first + BB_BLOCK <= cols; first += BB_BLOCK) {
            for (int32_t i = 0; i < 8 * bits * rows; i += 64)
                __builtin_prefetch(sources[i / (8 * bits)].data + first / 8 * bits + AHEAD + i % (8 * bits));
            add_columns(reader, sources, x, first, BB_BLOCK, sums, rows, kind, bits, has_values);
        }
        if (first < cols)
            add_columns(reader, sources, x, first, cols - first, sums, rows, kind, bits, has_values);
        for (int32_t r = 0; r < rows; r++)
            bb_linear_store(task, row + r, t, fold(sums[r]));
    }
}

BB_INLINE void unpack_panel(const struct bb_linear_task *task, const struct reader *reader, int64_t row, int64_t row_count, float *panel,
                            const enum kind kind, const int32_t bits, const bool has_values)
{
    const int64_t cols = task->weight->cols, padded = padded_cols_of(cols);
    for (int64_t r = 0; r < row_count; r++) {
        const struct source source = source_of(task, row + r, 0);
        for (int64_t first = 0; first < cols; first += BB_BLOCK) {
            const int64_t count = cols - first < BB_BLOCK ? cols - first : BB_BLOCK;
            uint8x16_t codes[4];
            load_codes(reader, &source, first, count, codes, kind, bits, has_values);
            BB_UNROLL
            for (int64_t i = 0; i < 4; i++) {
                if (STEP * i >= count)
                    break;
                float32x4_t values[4];
                load_values(reader, &source, &codes[i], first + STEP * i, count - STEP * i, values, kind, bits);
                for (int32_t j = 0; j < 4; j++)
                    vst1q_f32(panel + r * padded + first + STEP * i + 4 * j, values[j]);
            }
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

static void multiply_panel(const struct bb_linear_task *task, const float *panel, int64_t row, int64_t count)
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

BB_INLINE void multiply_kind(const struct bb_linear_task *task, const enum kind kind, const int32_t bits, const bool has_values)
{
    const struct reader reader = reader_of(task->weight);
    const int64_t rows = task->weight->rows;
    int64_t row = 0;
    if (task->row_count <= FEW_X) {
        for (; row + TILE_ROWS <= rows; row += TILE_ROWS)
            multiply_rows(task, &reader, row, TILE_ROWS, kind, bits, has_values);
        if (row < rows)
            multiply_rows(task, &reader, row, 1, kind, bits, has_values);
        return;
    }
    for (; row < rows; row += PANEL_ROWS) {
        const int64_t count = rows - row < PANEL_ROWS ? rows - row : PANEL_ROWS;
        unpack_panel(task, &reader, row, count, task->scratch, kind, bits, has_values);
        multiply_panel(task, task->scratch, row, count);
    }
}

static void multiply_codes(const struct bb_linear_task *task)
{
    switch (task->weight->scheme.mode == BB_QUANT_AFFINE ? task->weight->scheme.bits : 0) {
    case 1: multiply_kind(task, KIND_CODES, 1, false); break;
    case 2: multiply_kind(task, KIND_CODES, 2, false); break;
    case 3: multiply_kind(task, KIND_CODES, 3, false); break;
    case 4: multiply_kind(task, KIND_CODES, 4, false); break;
    case 5: multiply_kind(task, KIND_CODES, 5, false); break;
    case 6: multiply_kind(task, KIND_CODES, 6, false); break;
    case 8: multiply_kind(task, KIND_CODES, 8, false); break;
    default: multiply_kind(task, KIND_CODES, 4, true);
    }
}

void bb_neon_multiply_floats(const struct bb_linear_task *task)
{
    switch (kind_of(task->weight)) {
    case KIND_CODES: multiply_codes(task); break;
    case KIND_E4M3: multiply_kind(task, KIND_E4M3, 8, false); break;
    case KIND_BF16: multiply_kind(task, KIND_BF16, 16, false); break;
    case KIND_F16: multiply_kind(task, KIND_F16, 16, false); break;
    case KIND_F32: multiply_kind(task, KIND_F32, 32, false); break;
    }
}
