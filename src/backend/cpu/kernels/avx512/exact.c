/* Exact products with AVX-512: f32 activations, weights widened to f32, any scheme.
 *
 * The sum of a row: of each 1024 columns, column c goes to lane c % 16 of register c / 16 % 4, one FMA a column in ascending order; the four
 * registers are added, and their 16 sums to the row's 16 totals, which are folded at the end. The order does not depend on how many rows of x
 * there are: one row of x takes the values as they are unpacked; for many, a panel of 16 weight rows x 1024 columns is unpacked to scratch, and
 * tiles of 2 weight rows x 3 rows of x keep 24 registers of sums. */
#include "backend/cpu/kernels/avx512/unpack.h"

#include <string.h>

enum {
    PANEL_ROWS = 16, /* weight rows unpacked at once */
    PANEL_COLS = 1024,
    TILE_ROWS = 2,
    TILE_X = 3,
    FEW_X = 6        /* rows of x up to which a weight row is unpacked for each */
};

enum kind { KIND_CODES, KIND_E4M3, KIND_BF16, KIND_F16, KIND_F32 };

/* A weight row being read. */
struct source {
    const uint8_t *data;
    struct bb_unpacker unpacker;
    __m512 codes;                 /* the 16 whole numbers that a 4-bit code means */
    const float *scales, *biases; /* of its groups, as f32 */
    float *all_scales, *all_biases; /* of PANEL_ROWS rows, in the task's scratch */
    int32_t group_shift;          /* log2 of the group */
    int64_t cols;
    int64_t read_ahead;           /* as bb_read_ahead_beside has it */
};

static int64_t padded_cols_of(int64_t cols)
{
    return (cols + 63) / 64 * 64;
}

/* Scales (or biases) of PANEL_ROWS rows as f32, and what the last 64 columns may read behind them. */
static int64_t padded_groups_of(int64_t cols)
{
    return PANEL_ROWS * (cols / 16) + 16;
}

/* What of the scratch begins where, in floats: scales, biases, panel (or mixed x), totals. */
static int64_t panel_place(int64_t cols)
{
    return (2 * padded_groups_of(cols) + 15) / 16 * 16;
}

size_t bb_avx512_exact_scratch(int64_t cols, int64_t row_count)
{
    const int64_t many = PANEL_ROWS * PANEL_COLS + row_count * PANEL_ROWS * 16, few = FEW_X * padded_cols_of(cols);
    return (size_t)(panel_place(cols) + (many > few ? many : few)) * sizeof(float);
}

static enum kind kind_of(const struct bb_weight *weight)
{
    if (weight->scheme.mode != BB_QUANT_NONE)
        return weight->scheme.mode == BB_QUANT_MXFP8 ? KIND_E4M3 : KIND_CODES;
    return weight->dtype == BB_BF16 ? KIND_BF16 : weight->dtype == BB_F16 ? KIND_F16 : KIND_F32;
}

static inline __mmask16 mask_of(int64_t rest)
{
    return (__mmask16)(rest >= 16 ? 0xFFFFu : rest > 0 ? (1u << rest) - 1u : 0u);
}

/* 16 e4m3 codes as f32 (unpack.h says how). */
static inline __m512 e4m3_values(__m128i codes)
{
    const __m512i code = _mm512_cvtepu8_epi32(codes), magnitude = _mm512_and_si512(code, _mm512_set1_epi32(127));
    const __m512i sign = _mm512_slli_epi32(_mm512_andnot_si512(_mm512_set1_epi32(127), code), 24);
    const __m512 value = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(magnitude, 20)), _mm512_set1_ps(0x1p120f));
    const __m512i bits = _mm512_or_si512(_mm512_castps_si512(value), sign);
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(bits, _mm512_cmpeq_epi32_mask(magnitude, _mm512_set1_epi32(127)), _mm512_set1_epi32(0x7FC00000)));
}

/* The order in which 16 columns of 4-bit codes come cheapest: 8 bytes are spread over a register, even lanes shift down their first word's
 * nibbles, odd lanes the second's. Lane 2m holds column m, lane 2m + 1 column 8 + m. */
static inline __m512i mixed_lanes(void)
{
    return _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
}

static inline __m512 unmix(__m512 lanes)
{
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15), lanes);
}

/* load_values for 4-bit codes: a table of the group's 16 values, and each code's place in it (vpermps looks at the low 4 bits alone). Lanes are
 * mixed. */
BB_INLINE void load_nibbles(const struct source *source, int64_t first, __m512 values[4], const bool is_full, const bool is_wide)
{
    const __m512i shift = _mm512_setr_epi32(0, 0, 4, 4, 8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 28, 28);
    const uint8_t *codes = source->data + first / 2;
    BB_UNROLL
    for (int32_t i = 0; i < 4; i++) {
        const int64_t column = first + 16 * i, group = (is_wide ? first : column) >> source->group_shift;
        if (!is_full && column >= source->cols) { /* columns are a multiple of 16 */
            values[i] = _mm512_setzero_ps();
            continue;
        }
        int64_t eight;
        memcpy(&eight, codes + 8 * i, sizeof eight);
        const __m512 table = _mm512_fmadd_ps(_mm512_set1_ps(source->scales[group]), source->codes, _mm512_set1_ps(source->biases[group]));
        values[i] = _mm512_permutexvar_ps(_mm512_srlv_epi32(_mm512_set1_epi64(eight), shift), table);
    }
}

/* Columns [first, first + 64) as f32, in four registers; behind the last column (unless is_full) 0.
 * is_wide: the group is at least 64 columns. */
BB_INLINE void load_values(const struct source *source, int64_t first, __m512 values[4], const enum kind kind, const int32_t bits,
                           const bool is_full, const bool is_wide)
{
    const int64_t rest = is_full ? 64 : source->cols - first;
    __m512i bytes = _mm512_setzero_si512();
    if (kind == KIND_CODES || kind == KIND_E4M3) {
        const int64_t count = rest < 64 ? rest / 8 * bits : 8 * bits;
        bytes = _mm512_maskz_loadu_epi8(~UINT64_C(0) >> (64 - count), source->data + first / 8 * bits);
    }
    if (kind == KIND_CODES)
        bytes = _mm512_and_si512(_mm512_multishift_epi64_epi8(source->unpacker.shift, _mm512_permutexvar_epi8(source->unpacker.index, bytes)),
                                 source->unpacker.mask);
    if (kind == KIND_CODES && source->unpacker.has_values)
        bytes = _mm512_shuffle_epi8(source->unpacker.values, bytes);
    const __m128i quarters[4] = { _mm512_castsi512_si128(bytes), _mm512_extracti32x4_epi32(bytes, 1), _mm512_extracti32x4_epi32(bytes, 2),
        _mm512_extracti32x4_epi32(bytes, 3) };
    BB_UNROLL
    for (int64_t i = 0; i < 4; i++) {
        const int64_t group = (first + (is_wide ? 0 : 16 * i)) >> source->group_shift;
        const __mmask16 mask = is_full ? (__mmask16)0xFFFF : mask_of(rest - 16 * i);
        if (kind == KIND_CODES) {
            values[i] = _mm512_fmadd_ps(_mm512_set1_ps(source->scales[group]), _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(quarters[i])),
                                        _mm512_set1_ps(source->biases[group]));
        } else if (kind == KIND_E4M3) {
            values[i] = _mm512_mul_ps(_mm512_set1_ps(source->scales[group]), e4m3_values(quarters[i]));
        } else if (kind == KIND_F32) {
            values[i] = _mm512_maskz_loadu_ps(mask, (const float *)(const void *)source->data + first + 16 * i);
        } else {
            const __m256i halves = _mm256_maskz_loadu_epi16(mask, (const uint16_t *)(const void *)source->data + first + 16 * i);
            values[i] = kind == KIND_F16 ? _mm512_cvtph_ps(halves) : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
        }
        if (!is_full)
            values[i] = _mm512_maskz_mov_ps(mask, values[i]);
    }
}

static struct source source_of(const struct bb_linear_task *task)
{
    const struct bb_weight *weight = task->weight;
    float *groups = task->scratch;
    const int64_t floats = weight->cols + 2 * padded_groups_of(weight->cols);
    struct source source = { .cols = weight->cols, .all_scales = groups, .all_biases = groups + padded_groups_of(weight->cols),
        .read_ahead = bb_read_ahead_beside(task, floats * (int64_t)sizeof(float)) };
    memset(groups, 0, (size_t)(2 * padded_groups_of(weight->cols)) * sizeof(float));
    if (weight->scheme.mode != BB_QUANT_NONE) {
        const __m128i numbers = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        source.unpacker = bb_unpacker_of(weight->scheme, false);
        source.codes = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(weight->scheme.mode == BB_QUANT_AFFINE ? numbers
                                                                                                     : _mm512_castsi512_si128(source.unpacker.values)));
        while ((1 << source.group_shift) < weight->scheme.group_size)
            source.group_shift++;
    }
    return source;
}

/* Widens the scales and biases of `count` rows from `row` on. */
static void widen_groups(const struct source *source, const struct bb_weight *weight, int64_t row, int64_t count)
{
    if (weight->scheme.mode == BB_QUANT_NONE)
        return;
    const int64_t groups = weight->cols / weight->scheme.group_size, all = count * groups;
    for (int64_t g = 0; g < all; g += 16) {
        const int64_t run = all - g < 16 ? all - g : 16;
        __m512 scale, bias = _mm512_setzero_ps();
        if (weight->scheme.mode == BB_QUANT_MXFP8)
            scale = bb_load_scale_bytes(weight->scales, weight->scheme.mode, row * groups + g, run);
        else
            bb_load_groups(weight, row * groups + g, run, &scale, &bias);
        _mm512_storeu_ps(source->all_scales + g, scale);
        _mm512_storeu_ps(source->all_biases + g, bias);
    }
}

/* Points the source at row `row`, the `index`-th of those whose groups were widened. */
static void seek_row(struct source *source, const struct bb_weight *weight, int64_t row, int64_t index)
{
    source->data = (const uint8_t *)weight->data + (size_t)row * bb_weight_row_bytes(weight);
    if (weight->scheme.mode == BB_QUANT_NONE)
        return;
    source->scales = source->all_scales + index * (weight->cols >> source->group_shift);
    source->biases = source->all_biases + index * (weight->cols >> source->group_shift);
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

/* The products of 64 columns of a weight row and a row of x. For 4-bit codes x is mixed, and padded with zeros. */
BB_INLINE void add_columns(const struct source *source, const float *x, int64_t first, __m512 sums[4], const enum kind kind, const int32_t bits,
                           const bool is_full, const bool is_wide)
{
    const bool is_mixed = kind == KIND_CODES && bits == 4;
    __m512 values[4];
    if (is_mixed)
        load_nibbles(source, first, values, is_full, is_wide);
    else
        load_values(source, first, values, kind, bits, is_full, is_wide);
    BB_UNROLL
    for (int64_t i = 0; i < 4; i++) {
        const __m512 in = is_full || is_mixed ? _mm512_loadu_ps(x + first + 16 * i)
                                              : _mm512_maskz_loadu_ps(mask_of(source->cols - first - 16 * i), x + first + 16 * i);
        sums[i] = _mm512_fmadd_ps(values[i], in, sums[i]);
    }
}

/* One weight row, one row of x: the 16 totals. */
BB_INLINE __m512 multiply_row(const struct source *source, const float *x, const enum kind kind, const int32_t bits, const bool is_wide)
{
    __m512 totals = _mm512_setzero_ps();
    for (int64_t block = 0; block < source->cols; block += PANEL_COLS) {
        const int64_t end = source->cols - block < PANEL_COLS ? source->cols : block + PANEL_COLS;
        __m512 sums[4] = { _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps() };
        int64_t first = block;
        for (; first + 64 <= end; first += 64) {
            bb_read_ahead(source->data + first / 8 * bits, 8 * bits, source->read_ahead);
            add_columns(source, x, first, sums, kind, bits, true, is_wide);
        }
        if (first < end)
            add_columns(source, x, first, sums, kind, bits, false, is_wide);
        totals = _mm512_add_ps(totals, add_four(sums));
    }
    return kind == KIND_CODES && bits == 4 ? unmix(totals) : totals;
}

/* Rows of x with their lanes mixed, and zeros behind them. */
static void mix_x(const struct bb_linear_task *task, int64_t cols, float *out)
{
    for (int64_t t = 0; t < task->row_count; t++) {
        const float *x = task->x + (task->first_row + t) * cols;
        for (int64_t i = 0; i < padded_cols_of(cols); i += 16)
            _mm512_storeu_ps(out + t * padded_cols_of(cols) + i, _mm512_permutexvar_ps(mixed_lanes(), _mm512_maskz_loadu_ps(mask_of(cols - i), x + i)));
    }
}

BB_INLINE void multiply_few(const struct bb_linear_task *task, struct source *source, const enum kind kind, const int32_t bits, const bool is_wide)
{
    const bool is_mixed = kind == KIND_CODES && bits == 4;
    const int64_t cols = source->cols, stride = is_mixed ? padded_cols_of(cols) : cols;
    float *mixed = (float *)task->scratch + panel_place(cols), totals[FEW_X][PANEL_ROWS * 16] = { 0 };
    const float *x = is_mixed ? mixed : task->x + task->first_row * cols;
    if (is_mixed)
        mix_x(task, cols, mixed);
    for (int64_t row = 0; row < task->weight->rows; row += PANEL_ROWS) {
        const int64_t count = task->weight->rows - row < PANEL_ROWS ? task->weight->rows - row : PANEL_ROWS;
        widen_groups(source, task->weight, row, count);
        for (int64_t i = 0; i < count; i++) {
            seek_row(source, task->weight, row + i, i);
            for (int64_t t = 0; t < task->row_count; t++)
                _mm512_storeu_ps(totals[t] + 16 * i, multiply_row(source, x + t * stride, kind, bits, is_wide));
        }
        for (int64_t t = 0; t < task->row_count; t++)
            bb_store_rows(task, row, task->first_row + t, bb_load_bias(task, row), fold_rows(totals[t]));
    }
}

/* Columns [first, end) of `count` rows from `row` on, padded with zeros to a multiple of 64. */
BB_INLINE void unpack_panel(const struct bb_linear_task *task, struct source *source, int64_t row, int64_t count, int64_t first, int64_t end,
                            float *panel, const enum kind kind, const int32_t bits)
{
    for (int64_t r = 0; r < count; r++) {
        seek_row(source, task->weight, row + r, r);
        for (int64_t column = first; column < end; column += 64) {
            __m512 values[4];
            if (end - column >= 64)
                load_values(source, column, values, kind, bits, true, false);
            else
                load_values(source, column, values, kind, bits, false, false);
            BB_UNROLL
            for (int64_t i = 0; i < 4; i++)
                _mm512_storeu_ps(panel + r * PANEL_COLS + column - first + 16 * i, values[i]);
        }
    }
}

/* Adds the products of 64 columns to the sums of a tile. rest: columns left, if not is_full. */
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
            bb_keep_floats(&values[r]); /* read once, not again for each row of x; the same below */
        }
        BB_UNROLL
        for (int32_t t = 0; t < x_rows; t++) {
            __m512 in = is_full ? _mm512_loadu_ps(x + t * stride + 16 * i) : _mm512_maskz_loadu_ps(mask, x + t * stride + 16 * i);
            bb_keep_floats(&in);
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
    for (; first + 64 <= cols; first += 64)
        add_tile(panel + first, x + first, stride, sums, rows, x_rows, true, 64);
    if (first < cols)
        add_tile(panel + first, x + first, stride, sums, rows, x_rows, false, cols - first);
    BB_UNROLL
    for (int32_t i = 0; i < rows * x_rows * 4; i++)
        bb_keep_floats(&sums[i / 4 / x_rows][i / 4 % x_rows][i % 4]);
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

BB_INLINE void multiply_kind(const struct bb_linear_task *task, const enum kind kind, const int32_t bits)
{
    struct source source = source_of(task);
    if (task->row_count <= FEW_X && source.group_shift >= 6) {
        multiply_few(task, &source, kind, bits, true);
        return;
    }
    if (task->row_count <= FEW_X) {
        multiply_few(task, &source, kind, bits, false);
        return;
    }
    float *panel = (float *)task->scratch + panel_place(source.cols), *totals = panel + PANEL_ROWS * PANEL_COLS;
    memset(panel, 0, PANEL_ROWS * PANEL_COLS * sizeof(float));
    for (int64_t row = 0; row < task->weight->rows; row += PANEL_ROWS) {
        const int64_t count = task->weight->rows - row < PANEL_ROWS ? task->weight->rows - row : PANEL_ROWS;
        widen_groups(&source, task->weight, row, count);
        memset(totals, 0, (size_t)(task->row_count * PANEL_ROWS * 16) * sizeof(float));
        for (int64_t first = 0; first < source.cols; first += PANEL_COLS) {
            const int64_t end = source.cols - first < PANEL_COLS ? source.cols : first + PANEL_COLS;
            unpack_panel(task, &source, row, count, first, end, panel, kind, bits);
            multiply_panel(panel, count, task->x + task->first_row * source.cols + first, task->row_count, end - first, source.cols, totals);
        }
        for (int64_t t = 0; t < task->row_count; t++)
            bb_store_rows(task, row, task->first_row + t, bb_load_bias(task, row), fold_rows(totals + t * PANEL_ROWS * 16));
    }
}

void bb_avx512_multiply_floats(const struct bb_linear_task *task)
{
    switch (kind_of(task->weight)) {
    case KIND_CODES:
        if (task->weight->scheme.bits == 4)
            multiply_kind(task, KIND_CODES, 4);
        else
            multiply_kind(task, KIND_CODES, task->weight->scheme.bits);
        break;
    case KIND_E4M3: multiply_kind(task, KIND_E4M3, 8); break;
    case KIND_BF16: multiply_kind(task, KIND_BF16, 16); break;
    case KIND_F16: multiply_kind(task, KIND_F16, 16); break;
    case KIND_F32: multiply_kind(task, KIND_F32, 32); break;
    }
}
