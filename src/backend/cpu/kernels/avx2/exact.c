/* Exact products with AVX2: f32 activations, weights widened to f32, any scheme but the usual one (nibbles.c).
 *
 * The sum of a row: four registers, column c in lane c % 8 of register c / 8 % 4, one FMA a column in ascending order, folded at the end. The
 * order does not depend on how many rows of x there are: few rows of x take the values as they are unpacked; for many, 16 weight rows are
 * unpacked to scratch, and a weight row meets 3 rows of x at once, with 12 registers of sums. */
#include "backend/cpu/kernels/avx2/unpack.h"

enum {
    PANEL_ROWS = 16, /* weight rows unpacked at once */
    TILE_X = 3,
    FEW_X = 2        /* rows of x up to which a weight row is unpacked for each */
};

enum kind { KIND_CODES, KIND_VALUES, KIND_E4M3, KIND_BF16, KIND_F16, KIND_F32 };

/* A weight row being read. */
struct source {
    const uint8_t *data;
    const float *scales, *biases;   /* of its groups, as f32 */
    float *all_scales, *all_biases; /* of PANEL_ROWS rows, in the task's scratch */
    int32_t group_shift;    /* log2 of the group */
    int64_t cols;
    int64_t read_ahead;           /* of the task */
};

static int64_t padded_of(int64_t cols)
{
    return (cols + 31) / 32 * 32;
}

/* Scales (or biases) of PANEL_ROWS rows as f32, and what the last 32 columns may read behind them. */
static int64_t padded_groups_of(int64_t cols)
{
    return PANEL_ROWS * (cols / 16) + 16;
}

size_t bb_avx2_exact_scratch(int64_t cols)
{
    return ((size_t)PANEL_ROWS * (size_t)padded_of(cols) + 2 * (size_t)padded_groups_of(cols)) * sizeof(float);
}

/* `count` bytes as 8 lanes of 32 bits; nothing behind them is read. */
BB_INLINE __m256i load_bytes(const uint8_t *data, int64_t count)
{
    uint8_t copy[8] = { 0 };
    memcpy(copy, data, (size_t)(count < 8 ? count > 0 ? count : 0 : 8));
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)copy));
}

/* Columns [first, first + 32) as f32, in four registers; behind the last column (unless is_full) 0.
 * is_wide: the group is at least 32 columns. */
BB_INLINE void load_values(const struct source *source, int64_t first, __m256 values[4], const enum kind kind, const int32_t bits,
                           const bool is_full, const bool is_wide)
{
    const int64_t rest = is_full ? 32 : source->cols - first;
    __m256i codes = _mm256_setzero_si256();
    if (kind == KIND_CODES || kind == KIND_VALUES) {
        const uint8_t *from = source->data + first / 8 * bits;
        codes = is_full ? bb_unpack_codes(from, bits, kind == KIND_VALUES) : bb_unpack_part(from, rest, bits, kind == KIND_VALUES);
    }
    const __m128i low = _mm256_castsi256_si128(codes), high = _mm256_extracti128_si256(codes, 1);
    const __m128i eights[4] = { low, _mm_unpackhi_epi64(low, low), high, _mm_unpackhi_epi64(high, high) };
    BB_UNROLL
    for (int64_t i = 0; i < 4; i++) {
        const int64_t column = first + 8 * i, group = (is_wide ? first : column) >> source->group_shift;
        if (kind == KIND_CODES || kind == KIND_VALUES)
            values[i] = _mm256_fmadd_ps(_mm256_broadcast_ss(&source->scales[group]), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eights[i])),
                                        _mm256_broadcast_ss(&source->biases[group]));
        else if (kind == KIND_E4M3)
            values[i] = _mm256_mul_ps(_mm256_broadcast_ss(&source->scales[group]),
                                      bb_e4m3_values(load_bytes(source->data + column, is_full ? 8 : rest - 8 * i)));
        else
            values[i] = is_full ? bb_load_8(source->data, kind == KIND_BF16 ? BB_BF16 : kind == KIND_F16 ? BB_F16 : BB_F32, column)
                                : bb_load_floats(source->data, kind == KIND_BF16 ? BB_BF16 : kind == KIND_F16 ? BB_F16 : BB_F32, column, rest - 8 * i);
        if (!is_full && column >= source->cols) /* quantized columns are a multiple of 8 */
            values[i] = _mm256_setzero_ps();
    }
}

static struct source source_of(const struct bb_linear_task *task)
{
    const int64_t cols = task->weight->cols, padded = padded_groups_of(cols);
    float *groups = (float *)task->scratch + PANEL_ROWS * padded_of(cols);
    struct source source = { .cols = cols, .all_scales = groups, .all_biases = groups + padded, .read_ahead = task->read_ahead };
    memset(groups, 0, (size_t)(2 * padded) * sizeof(float));
    while ((1 << source.group_shift) < task->weight->scheme.group_size)
        source.group_shift++;
    return source;
}

/* Widens the scales and biases of `count` rows from `row` on. */
static void widen_groups(const struct source *source, const struct bb_weight *weight, int64_t row, int64_t count)
{
    if (weight->scheme.mode != BB_QUANT_NONE)
        bb_widen_groups(weight, row, count, source->all_scales, source->all_biases);
}

/* Points the source at row `row`, the `index`-th of those whose groups were widened. */
static void seek_row(struct source *source, const struct bb_weight *weight, int64_t row, int64_t index)
{
    source->data = (const uint8_t *)weight->data + (size_t)row * bb_weight_row_bytes(weight);
    source->scales = source->all_scales + index * (weight->cols >> source->group_shift);
    source->biases = source->all_biases + index * (weight->cols >> source->group_shift);
    if (weight->scheme.mode == BB_QUANT_NONE)
        source->scales = source->biases = source->all_scales;
}

/* The end of a row: four registers of sums to one number. */
static inline float fold(const __m256 sums[4])
{
    return bb_fold_lanes(_mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3])));
}

/* The products of 32 columns of a weight row and a row of x. */
BB_INLINE void add_columns(const struct source *source, const float *x, int64_t first, __m256 sums[4], const enum kind kind, const int32_t bits,
                           const bool is_full, const bool is_wide)
{
    __m256 values[4];
    load_values(source, first, values, kind, bits, is_full, is_wide);
    BB_UNROLL
    for (int64_t i = 0; i < 4; i++) {
        const __m256 in = is_full ? _mm256_loadu_ps(x + first + 8 * i) : bb_load_floats(x, BB_F32, first + 8 * i, source->cols - first - 8 * i);
        sums[i] = _mm256_fmadd_ps(values[i], in, sums[i]);
    }
}

/* One weight row, one row of x. */
BB_INLINE float multiply_row(const struct source *source, const float *x, const enum kind kind, const int32_t bits, const bool is_wide)
{
    __m256 sums[4] = { _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps() };
    int64_t first = 0;
    for (; first + 32 <= source->cols; first += 32) {
        bb_read_ahead(source->data + first / 8 * bits, 4 * bits, source->read_ahead);
        add_columns(source, x, first, sums, kind, bits, true, is_wide);
    }
    if (first < source->cols)
        add_columns(source, x, first, sums, kind, bits, false, is_wide);
    return fold(sums);
}

BB_INLINE void unpack_panel(const struct bb_linear_task *task, struct source *source, int64_t row, int64_t count, float *panel, const enum kind kind,
                            const int32_t bits)
{
    widen_groups(source, task->weight, row, count);
    for (int64_t r = 0; r < count; r++, panel += padded_of(source->cols)) {
        seek_row(source, task->weight, row + r, r);
        for (int64_t first = 0; first < source->cols; first += 32) {
            __m256 values[4];
            load_values(source, first, values, kind, bits, false, false);
            BB_UNROLL
            for (int64_t i = 0; i < 4; i++)
                _mm256_storeu_ps(panel + first + 8 * i, values[i]);
        }
    }
}

/* Adds the products of 32 columns to the sums of a weight row and x_rows rows of x. rest: columns left, if not is_full. */
BB_INLINE void add_tile(const float *values, const float *x, int64_t cols, __m256 sums[TILE_X][4], const int32_t x_rows, const bool is_full, int64_t rest)
{
    BB_UNROLL
    for (int32_t i = 0; i < 4; i++) {
        __m256 value = _mm256_loadu_ps(values + 8 * i);
        bb_keep_floats(&value); /* read once, not again for each row of x */
        BB_UNROLL
        for (int32_t t = 0; t < x_rows; t++) {
            const __m256 in = is_full ? _mm256_loadu_ps(x + t * cols + 8 * i) : bb_load_floats(x, BB_F32, t * cols + 8 * i, rest - 8 * i);
            sums[t][i] = _mm256_fmadd_ps(value, in, sums[t][i]);
        }
    }
}

/* One unpacked weight row times x_rows rows of x. */
BB_INLINE void multiply_tile(const float *values, const float *x, int64_t cols, float out[TILE_X], const int32_t x_rows)
{
    __m256 sums[TILE_X][4];
    BB_UNROLL
    for (int32_t i = 0; i < x_rows * 4; i++)
        sums[i / 4][i % 4] = _mm256_setzero_ps();
    int64_t first = 0;
    for (; first + 32 <= cols; first += 32)
        add_tile(values + first, x + first, cols, sums, x_rows, true, 32);
    if (first < cols)
        add_tile(values + first, x + first, cols, sums, x_rows, false, cols - first);
    BB_UNROLL
    for (int32_t i = 0; i < x_rows * 4; i++)
        bb_keep_floats(&sums[i / 4][i % 4]);
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

/* Few rows of x: each weight row is unpacked for each. */
BB_INLINE void multiply_few(const struct bb_linear_task *task, struct source *source, const enum kind kind, const int32_t bits, const bool is_wide)
{
    for (int64_t row = 0; row < task->weight->rows; row++) {
        const int64_t rest = task->weight->rows - row;
        if (row % PANEL_ROWS == 0)
            widen_groups(source, task->weight, row, rest < PANEL_ROWS ? rest : PANEL_ROWS);
        seek_row(source, task->weight, row, row % PANEL_ROWS);
        for (int64_t t = task->first_row; t < task->first_row + task->row_count; t++)
            bb_linear_store(task, row, t, multiply_row(source, task->x + t * source->cols, kind, bits, is_wide));
    }
}

BB_INLINE void multiply_kind(const struct bb_linear_task *task, const enum kind kind, const int32_t bits)
{
    struct source source = source_of(task);
    const int64_t rows = task->weight->rows;
    if (task->row_count <= FEW_X && source.group_shift >= 5) {
        multiply_few(task, &source, kind, bits, true);
        return;
    }
    if (task->row_count <= FEW_X) {
        multiply_few(task, &source, kind, bits, false);
        return;
    }
    for (int64_t row = 0; row < rows; row += PANEL_ROWS) {
        const int64_t count = rows - row < PANEL_ROWS ? rows - row : PANEL_ROWS;
        unpack_panel(task, &source, row, count, task->scratch, kind, bits);
        multiply_panel(task, task->scratch, row, count);
    }
}

void bb_avx2_multiply_floats(const struct bb_linear_task *task)
{
    const struct bb_weight *weight = task->weight;
    if (bb_avx2_nibbles_apply(weight)) {
        bb_avx2_multiply_nibbles(task);
        return;
    }
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
