/* Exact products with NEON: f32 activations, weights widened to f32, any scheme.
 *
 * The sum of a row: eight registers, column c in lane c % 4 of register c / 4 % 8, one FMA a column in ascending order, folded at the end. The
 * order does not depend on how many rows of x there are: few rows of x take the values as they are unpacked; for many, 16 weight rows are
 * unpacked to scratch, and a weight row meets 2 rows of x at once, with 16 registers of sums. */
#include "backend/cpu/kernels/neon/linear.h"

enum {
    STEP = 32,       /* columns at once */
    SUMS = STEP / 4,
    PANEL_ROWS = 16, /* weight rows unpacked at once */
    TILE_X = 2,
    AHEAD = 1024,    /* bytes to prefetch ahead */
    FEW_X = 2        /* rows of x up to which a weight row is unpacked for each */
};

enum kind { KIND_CODES, KIND_VALUES, KIND_E4M3, KIND_BF16, KIND_F16, KIND_F32 };

/* A weight row being read. */
struct source {
    const uint8_t *data;
    float *scales, *biases; /* of its groups, as f32, in the task's scratch */
    int32_t group_shift;    /* log2 of the group */
    int64_t cols;
};

static int64_t padded_of(int64_t cols)
{
    return (cols + STEP - 1) / STEP * STEP;
}

static int64_t padded_groups_of(int64_t cols)
{
    return cols / 16 + 8;
}

size_t bb_neon_exact_scratch(int64_t cols)
{
    return ((size_t)PANEL_ROWS * (size_t)padded_of(cols) + 2 * (size_t)padded_groups_of(cols)) * sizeof(float);
}

/* Codes i * 4 .. i * 4 + 3 of 32 signed bytes as f32; 8-bit codes were made signed by 128. */
BB_INLINE float32x4_t widen(int8x16x2_t codes, int32_t i, const int32_t bits)
{
    int8_t bytes[32];
    vst1q_s8(bytes, codes.val[0]);
    vst1q_s8(bytes + 16, codes.val[1]);
    const int16x8_t words = vmovl_s8(vld1_s8(bytes + i / 2 * 8));
    const int32x4_t wide = i % 2 == 0 ? vmovl_s16(vget_low_s16(words)) : vmovl_high_s16(words);
    return vcvtq_f32_s32(bits == 8 ? vaddq_s32(wide, vdupq_n_s32(128)) : wide);
}

/* Columns [first, first + STEP) as f32; behind the last column (unless is_full) anything finite, if scale and bias are. */
BB_INLINE void load_values(const struct source *source, int64_t first, float32x4_t values[SUMS], const enum kind kind, const int32_t bits,
                           const bool is_full)
{
    const int64_t rest = is_full ? STEP : source->cols - first;
    const enum bb_dtype dtype = kind == KIND_BF16 ? BB_BF16 : kind == KIND_F16 ? BB_F16 : BB_F32;
    int8x16x2_t codes = { { vdupq_n_s8(0), vdupq_n_s8(0) } };
    if (kind == KIND_CODES || kind == KIND_VALUES) {
        const uint8_t *from = source->data + first / 8 * bits;
        codes = is_full ? bb_unpack_codes(from, bits, kind == KIND_VALUES) : bb_unpack_part(from, rest, bits, kind == KIND_VALUES);
    }
    BB_UNROLL
    for (int32_t i = 0; i < SUMS; i++) {
        const int64_t column = first + 4 * i, group = column >> source->group_shift;
        if (kind == KIND_CODES || kind == KIND_VALUES)
            values[i] = vfmaq_n_f32(vdupq_n_f32(source->biases[group]), widen(codes, i, bits), source->scales[group]);
        else if (kind == KIND_E4M3)
            values[i] = vmulq_n_f32(bb_e4m3_values(bb_load_bytes(source->data + column, rest - 4 * i)), source->scales[group]);
        else
            values[i] = is_full ? bb_load_4(source->data, dtype, column) : bb_load_floats(source->data, dtype, column, rest - 4 * i);
    }
}

static struct source source_of(const struct bb_linear_task *task)
{
    const int64_t cols = task->weight->cols;
    float *groups = (float *)task->scratch + PANEL_ROWS * padded_of(cols);
    struct source source = { .cols = cols, .scales = groups, .biases = groups + padded_groups_of(cols) };
    while ((1 << source.group_shift) < task->weight->scheme.group_size)
        source.group_shift++;
    return source;
}

/* Points the source at a row, and widens the row's scales and biases. */
static void seek_row(struct source *source, const struct bb_weight *weight, int64_t row)
{
    source->data = (const uint8_t *)weight->data + (size_t)row * bb_weight_row_bytes(weight);
    if (weight->scheme.mode == BB_QUANT_NONE)
        return;
    const int64_t groups = weight->cols / weight->scheme.group_size;
    for (int64_t g = 0; g < groups + 2; g += 4) { /* 0 in the places that the last columns may lack */
        const int64_t count = groups - g;
        float32x4_t scale, bias = vdupq_n_f32(0.0f);
        if (weight->scheme.mode == BB_QUANT_MXFP8)
            scale = bb_load_scale_bytes(weight->scales, weight->scheme.mode, row * groups + g, count);
        else
            bb_load_groups(weight, row * groups + g, count, &scale, &bias);
        vst1q_f32(source->scales + g, scale);
        vst1q_f32(source->biases + g, bias);
    }
}

/* The end of a row: eight registers of sums to one number. */
static inline float fold(const float32x4_t sums[SUMS])
{
    const float32x4_t low = vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3]));
    const float32x4_t high = vaddq_f32(vaddq_f32(sums[4], sums[5]), vaddq_f32(sums[6], sums[7]));
    return vaddvq_f32(vaddq_f32(low, high));
}

/* The products of STEP columns of a weight row and a row of x. */
BB_INLINE void add_columns(const struct source *source, const float *x, int64_t first, float32x4_t sums[SUMS], const enum kind kind,
                           const int32_t bits, const bool is_full)
{
    float32x4_t values[SUMS];
    load_values(source, first, values, kind, bits, is_full);
    BB_UNROLL
    for (int64_t i = 0; i < SUMS; i++) {
        const int64_t column = first + 4 * i;
        sums[i] = vfmaq_f32(sums[i], values[i], is_full ? vld1q_f32(x + column) : bb_load_floats(x, BB_F32, column, source->cols - column));
    }
}

/* One weight row, one row of x. */
BB_INLINE float multiply_row(const struct source *source, const float *x, const enum kind kind, const int32_t bits)
{
    float32x4_t sums[SUMS];
    int64_t first = 0;
    BB_UNROLL
    for (int32_t i = 0; i < SUMS; i++)
        sums[i] = vdupq_n_f32(0.0f);
    for (; first + STEP <= source->cols; first += STEP) {
        for (int32_t i = 0; i < 4 * bits; i += 64)
            __builtin_prefetch(source->data + first / 8 * bits + AHEAD + i);
        add_columns(source, x, first, sums, kind, bits, true);
    }
    if (first < source->cols)
        add_columns(source, x, first, sums, kind, bits, false);
    return fold(sums);
}

BB_INLINE void unpack_panel(const struct bb_linear_task *task, struct source *source, int64_t row, int64_t count, float *panel, const enum kind kind,
                            const int32_t bits)
{
    for (int64_t r = 0; r < count; r++, panel += padded_of(source->cols)) {
        seek_row(source, task->weight, row + r);
        for (int64_t first = 0; first < source->cols; first += STEP) {
            float32x4_t values[SUMS];
            load_values(source, first, values, kind, bits, false);
            BB_UNROLL
            for (int64_t i = 0; i < SUMS; i++)
                vst1q_f32(panel + first + 4 * i, values[i]);
        }
    }
}

/* Adds the products of STEP columns to the sums of a weight row and x_rows rows of x. rest: columns left, if not is_full. */
BB_INLINE void add_tile(const float *values, const float *x, int64_t cols, float32x4_t sums[TILE_X][SUMS], const int32_t x_rows, const bool is_full,
                        int64_t rest)
{
    BB_UNROLL
    for (int32_t i = 0; i < SUMS; i++) {
        const float32x4_t value = vld1q_f32(values + 4 * i);
        BB_UNROLL
        for (int32_t t = 0; t < x_rows; t++) {
            const int64_t place = t * cols + 4 * i;
            sums[t][i] = vfmaq_f32(sums[t][i], value, is_full ? vld1q_f32(x + place) : bb_load_floats(x, BB_F32, place, rest - 4 * i));
        }
    }
}

/* One unpacked weight row times x_rows rows of x. */
BB_INLINE void multiply_tile(const float *values, const float *x, int64_t cols, float out[TILE_X], const int32_t x_rows)
{
    float32x4_t sums[TILE_X][SUMS];
    int64_t first = 0;
    BB_UNROLL
    for (int32_t i = 0; i < x_rows * SUMS; i++)
        sums[i / SUMS][i % SUMS] = vdupq_n_f32(0.0f);
    for (; first + STEP <= cols; first += STEP)
        add_tile(values + first, x + first, cols, sums, x_rows, true, STEP);
    if (first < cols)
        add_tile(values + first, x + first, cols, sums, x_rows, false, cols - first);
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
            if (x_rows == 2)
                multiply_tile(values, x, cols, out, 2);
            else
                multiply_tile(values, x, cols, out, 1);
            for (int64_t i = 0; i < x_rows; i++)
                bb_linear_store(task, row + r, t + i, out[i]);
        }
    }
}

BB_INLINE void multiply_kind(const struct bb_linear_task *task, const enum kind kind, const int32_t bits)
{
    struct source source = source_of(task);
    const int64_t rows = task->weight->rows;
    if (task->row_count <= FEW_X) {
        for (int64_t row = 0; row < rows; row++) {
            seek_row(&source, task->weight, row);
            for (int64_t t = task->first_row; t < task->first_row + task->row_count; t++)
                bb_linear_store(task, row, t, multiply_row(&source, task->x + t * source.cols, kind, bits));
        }
        return;
    }
    for (int64_t row = 0; row < rows; row += PANEL_ROWS) {
        const int64_t count = rows - row < PANEL_ROWS ? rows - row : PANEL_ROWS;
        unpack_panel(task, &source, row, count, task->scratch, kind, bits);
        multiply_panel(task, task->scratch, row, count);
    }
}

void bb_neon_multiply_exact(const struct bb_linear_task *task)
{
    const struct bb_weight *weight = task->weight;
    switch (weight->scheme.mode) {
    case BB_QUANT_NONE:
        if (weight->dtype == BB_BF16)
            multiply_kind(task, KIND_BF16, 16);
        else if (weight->dtype == BB_F16)
            multiply_kind(task, KIND_F16, 16);
        else
            multiply_kind(task, KIND_F32, 32);
        break;
    case BB_QUANT_MXFP8: multiply_kind(task, KIND_E4M3, 8); break;
    case BB_QUANT_MXFP4: case BB_QUANT_NVFP4: multiply_kind(task, KIND_VALUES, 4); break;
    case BB_QUANT_AFFINE:
        switch (weight->scheme.bits) {
        case 1: multiply_kind(task, KIND_CODES, 1); break;
        case 2: multiply_kind(task, KIND_CODES, 2); break;
        case 3: multiply_kind(task, KIND_CODES, 3); break;
        case 4: multiply_kind(task, KIND_CODES, 4); break;
        case 5: multiply_kind(task, KIND_CODES, 5); break;
        case 6: multiply_kind(task, KIND_CODES, 6); break;
        default: multiply_kind(task, KIND_CODES, 8); break;
        }
    }
}
