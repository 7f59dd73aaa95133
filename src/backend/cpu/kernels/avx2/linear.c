/* Rounded products of many rows of x with AVX2.
 *
 * A panel of 16 weight rows x up to 512 columns is unpacked to bytes once and stays in the first cache while all rows of x pass over it:
 *
 *     panel   [columns / 4][16 rows][4 bytes]       two registers of 8 rows for each 4 columns
 *     x       [columns / 4][4 rows of x][4 bytes]   as struct bb_rounded lays it, each 4 bytes spread over a register
 *
 * vpmaddubsw gives sums of two products in 16 bits. As many of them are added there as surely fit (HELD steps), before a vpmaddwd by ones takes
 * them to 32 bits. Bound: vpmaddubsw + vpaddw for 32 multiply-adds. 8-bit codes do not fit unsigned: they are taken as code - 128, its absolute
 * value times x with its sign; 128 times the sum of x is added at the end. */
#include "backend/cpu/kernels/avx2/unpack.h"

#include <math.h>

enum {
    PANEL_ROWS = 16,
    PANEL_COLS = 512,
    TILE = 4,                  /* rows of x */
    MAX_UNITS = PANEL_COLS / 16
};

struct panel {
    uint8_t codes[PANEL_COLS / 4][PANEL_ROWS][4];
    float scales[MAX_UNITS][PANEL_ROWS], biases[MAX_UNITS][PANEL_ROWS]; /* a unit */
};

static size_t linear_scratch(int64_t cols, int64_t row_count)
{
    const size_t many = sizeof(struct panel) + (size_t)row_count * PANEL_ROWS * sizeof(float), few = bb_avx2_few_scratch(cols);
    const size_t floats = bb_avx2_floats_scratch(cols), rounded = many > few ? many : few;
    return rounded > floats ? rounded : floats;
}

/* Scales and biases of the units of columns [first, first + cols) of rows [row, row + 8), to panel rows [half, half + 8). */
static void pack_scales(struct panel *panel, const struct bb_weight *weight, int64_t row, int64_t first, int64_t cols, int32_t unit, int32_t half)
{
    const int32_t group_size = weight->scheme.group_size, repeat = group_size / unit;
    const int64_t groups = weight->cols / group_size, first_group = first / group_size;
    const int64_t count = (cols + group_size - 1) / group_size;
    for (int64_t g = 0; g < count; g += 8) {
        const int64_t run = count - g < 8 ? count - g : 8;
        __m256i scales[8], biases[8];
        for (int64_t i = 0; i < 8; i++) {
            const int64_t r = row + i < weight->rows ? row + i : weight->rows - 1;
            __m256 scale, bias;
            bb_load_groups(weight, r * groups + first_group + g, run, &scale, &bias);
            scales[i] = _mm256_castps_si256(scale);
            biases[i] = _mm256_castps_si256(bias);
        }
        bb_transpose(scales);
        bb_transpose(biases);
        for (int64_t i = 0; i < run * repeat; i++) {
            _mm256_store_si256((__m256i *)(void *)&panel->scales[g * repeat + i][half], scales[i / repeat]);
            _mm256_store_si256((__m256i *)(void *)&panel->biases[g * repeat + i][half], biases[i / repeat]);
        }
    }
}

/* Codes of columns [first, first + cols) of rows [row, row + 8), to panel rows [half, half + 8). Rows behind the last repeat it. */
BB_INLINE void pack_codes(struct panel *panel, const struct bb_weight *weight, int64_t row, int64_t first, int64_t cols, int32_t half,
                          const int32_t bits, const bool has_values)
{
    const int64_t row_bytes = (int64_t)bb_weight_row_bytes(weight), last = weight->rows - 1 - row;
    const uint8_t *codes = (const uint8_t *)weight->data + row * row_bytes + first / 8 * bits;
    for (int64_t k = 0; k < cols; k += 32, codes += 4 * bits) {
        const int64_t count = cols - k < 32 ? cols - k : 32;
        __m256i rows[8];
        BB_UNROLL
        for (int64_t i = 0; i < 8; i++) {
            const uint8_t *from = codes + (i < last ? i : last) * row_bytes;
            _mm_prefetch((const char *)from + PANEL_ROWS * row_bytes, _MM_HINT_T1); /* the next panel's */
            rows[i] = bb_unpack_part(from, count, bits, has_values);
            if (bits == 8)
                rows[i] = _mm256_xor_si256(rows[i], _mm256_set1_epi8(-128)); /* code - 128 */
        }
        bb_transpose(rows);
        for (int64_t i = 0; i < count / 4; i++)
            _mm256_store_si256((__m256i *)(void *)&panel->codes[k / 4 + i][half], rows[i]);
    }
}

static void pack(struct panel *panel, const struct bb_weight *weight, int64_t row, int64_t first, int64_t cols, int32_t half)
{
    switch (weight->scheme.mode == BB_QUANT_AFFINE ? weight->scheme.bits : 0) {
    case 1: pack_codes(panel, weight, row, first, cols, half, 1, false); break;
    case 2: pack_codes(panel, weight, row, first, cols, half, 2, false); break;
    case 3: pack_codes(panel, weight, row, first, cols, half, 3, false); break;
    case 4: pack_codes(panel, weight, row, first, cols, half, 4, false); break;
    case 5: pack_codes(panel, weight, row, first, cols, half, 5, false); break;
    case 6: pack_codes(panel, weight, row, first, cols, half, 6, false); break;
    case 8: pack_codes(panel, weight, row, first, cols, half, 8, false); break;
    default: pack_codes(panel, weight, row, first, cols, half, 4, true);
    }
}

/* Steps of 4 columns whose sums surely fit 16 bits: 2 * largest code * 127 each; 0: none do. */
static int32_t held_steps(struct bb_scheme scheme)
{
    if (scheme.mode != BB_QUANT_AFFINE)
        return 4;
    return scheme.bits <= 3 ? 16 : scheme.bits == 4 ? 8 : scheme.bits == 5 ? 4 : scheme.bits == 6 ? 2 : 0;
}

/* Sums of `held` steps of 4 columns, as 32-bit numbers added to `sums`. held 0: one step of signed 8-bit codes. */
BB_INLINE void add_steps(const uint8_t *codes, const int8_t *x, __m256i sums[TILE][2], const int32_t width, const int32_t held)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i small[TILE][2];
    BB_UNROLL
    for (int32_t k = 0; k < (held > 0 ? held : 1); k++) {
        const __m256i rows0 = _mm256_load_si256((const __m256i *)(const void *)(codes + 64 * k));
        const __m256i rows1 = _mm256_load_si256((const __m256i *)(const void *)(codes + 64 * k + 32));
        BB_UNROLL
        for (int32_t t = 0; t < width; t++) {
            int32_t four;
            memcpy(&four, x + 4 * (width * k + t), sizeof four);
            const __m256i spread = _mm256_set1_epi32(four);
            const __m256i products0 = held > 0 ? _mm256_maddubs_epi16(rows0, spread)
                                               : _mm256_maddubs_epi16(_mm256_abs_epi8(rows0), _mm256_sign_epi8(spread, rows0));
            const __m256i products1 = held > 0 ? _mm256_maddubs_epi16(rows1, spread)
                                               : _mm256_maddubs_epi16(_mm256_abs_epi8(rows1), _mm256_sign_epi8(spread, rows1));
            small[t][0] = k == 0 ? products0 : _mm256_add_epi16(small[t][0], products0);
            small[t][1] = k == 0 ? products1 : _mm256_add_epi16(small[t][1], products1);
            bb_keep(&small[t][0]); /* added now: gcc would else keep all products for a tree of sums */
            bb_keep(&small[t][1]);
        }
    }
    BB_UNROLL
    for (int32_t t = 0; t < width; t++) {
        sums[t][0] = _mm256_add_epi32(sums[t][0], _mm256_madd_epi16(small[t][0], ones));
        sums[t][1] = _mm256_add_epi32(sums[t][1], _mm256_madd_epi16(small[t][1], ones));
    }
}

/* Adds units [first_unit, first_unit + unit_count) of `width` rows of x to their totals. */
BB_INLINE void add_tile(const struct panel *panel, const struct bb_rounded *rounded, int64_t x_row, int64_t first_unit, int64_t unit_count,
                        float *totals, const int32_t width, const int32_t held)
{
    const int32_t steps_per_unit = rounded->unit / 4, stride = held > 0 ? held : 1;
    const int64_t units = rounded->cols / rounded->unit;
    const int8_t *x = bb_rounded_row(rounded, x_row) + first_unit * rounded->unit * width;
    const float *steps = rounded->steps + x_row * units + first_unit, *unit_sums = rounded->sums + x_row * units + first_unit;
    const uint8_t *codes = panel->codes[0][0];
    const __m256 offset = _mm256_set1_ps(128.0f);
    for (int64_t u = 0; u < unit_count; u++) {
        __m256i sums[TILE][2];
        BB_UNROLL
        for (int32_t t = 0; t < width; t++)
            sums[t][0] = sums[t][1] = _mm256_setzero_si256();
        for (int32_t k = 0; k < steps_per_unit; k += stride, codes += 64 * stride, x += 4 * width * stride)
            add_steps(codes, x, sums, width, held);
        BB_UNROLL
        for (int32_t t = 0; t < width; t++) {
            const __m256 sum = _mm256_broadcast_ss(&unit_sums[t * units + u]), step = _mm256_broadcast_ss(&steps[t * units + u]);
            BB_UNROLL
            for (int32_t half = 0; half < 2; half++) {
                float *total = totals + t * PANEL_ROWS + 8 * half;
                __m256 dot = _mm256_cvtepi32_ps(sums[t][half]);
                if (held == 0)
                    dot = _mm256_fmadd_ps(offset, sum, dot); /* exact: whole numbers below 2^24 */
                const __m256 q = _mm256_fmadd_ps(_mm256_load_ps(panel->scales[u] + 8 * half), dot,
                                                 _mm256_mul_ps(_mm256_load_ps(panel->biases[u] + 8 * half), sum));
                _mm256_store_ps(total, _mm256_fmadd_ps(q, step, _mm256_load_ps(total)));
            }
        }
        BB_FORGET_MEMORY();
    }
}

BB_INLINE void add_rows(const struct panel *panel, const struct bb_rounded *rounded, int64_t x_row, int64_t first_unit, int64_t unit_count,
                        float *totals, const int32_t held)
{
    switch (bb_rounded_tile_rows(rounded, x_row)) {
    case 4: add_tile(panel, rounded, x_row, first_unit, unit_count, totals, 4, held); break;
    case 3: add_tile(panel, rounded, x_row, first_unit, unit_count, totals, 3, held); break;
    case 2: add_tile(panel, rounded, x_row, first_unit, unit_count, totals, 2, held); break;
    default: add_tile(panel, rounded, x_row, first_unit, unit_count, totals, 1, held); break;
    }
}

static void multiply_panel(const struct bb_linear_task *task, int64_t row)
{
    const struct bb_weight *weight = task->weight;
    const struct bb_rounded *rounded = task->rounded;
    const int32_t steps_per_unit = rounded->unit / 4, held = held_steps(weight->scheme) < steps_per_unit ? held_steps(weight->scheme) : steps_per_unit;
    struct panel *panel = task->scratch;
    float *totals = (float *)(panel + 1);
    memset(totals, 0, (size_t)task->row_count * PANEL_ROWS * sizeof(float));
    for (int64_t first = 0; first < weight->cols; first += PANEL_COLS) {
        const int64_t cols = weight->cols - first < PANEL_COLS ? weight->cols - first : PANEL_COLS, first_unit = first / rounded->unit;
        const int64_t units = cols / rounded->unit;
        for (int32_t half = 0; half < PANEL_ROWS; half += 8) {
            const int64_t from = row + half < weight->rows ? row + half : weight->rows - 1;
            pack(panel, weight, from, first, cols, half);
            pack_scales(panel, weight, from, first, cols, rounded->unit, half);
        }
        for (int64_t t = 0; t < task->row_count; t += TILE) {
            float *tile_totals = totals + t * PANEL_ROWS;
            switch (held) {
            case 16: add_rows(panel, rounded, task->first_row + t, first_unit, units, tile_totals, 16); break;
            case 8: add_rows(panel, rounded, task->first_row + t, first_unit, units, tile_totals, 8); break;
            case 4: add_rows(panel, rounded, task->first_row + t, first_unit, units, tile_totals, 4); break;
            case 2: add_rows(panel, rounded, task->first_row + t, first_unit, units, tile_totals, 2); break;
            default: add_rows(panel, rounded, task->first_row + t, first_unit, units, tile_totals, 0); break;
            }
        }
    }
    for (int32_t half = 0; half < PANEL_ROWS && row + half < weight->rows; half += 8) {
        const __m256 bias = bb_load_bias(task, row + half);
        for (int64_t t = 0; t < task->row_count; t++)
            bb_store_rows(task, row + half, task->first_row + t, bias, _mm256_load_ps(totals + t * PANEL_ROWS + half));
    }
}

static void multiply_rounded(const struct bb_linear_task *task)
{
    if (task->rounded->rows <= BB_AVX2_FEW) {
        bb_avx2_multiply_few(task);
        return;
    }
    for (int64_t row = 0; row < task->weight->rows; row += PANEL_ROWS)
        multiply_panel(task, row);
}

static void round_unit(const float *x, int32_t unit, int8_t *codes, int64_t width, float *step, float *sum, float *rest)
{
    const __m256i absolute = _mm256_set1_epi32(0x7FFFFFFF);
    __m256i largest = _mm256_setzero_si256(), total = _mm256_setzero_si256();
    for (int32_t i = 0; i < unit; i += 8) /* as whole numbers: the order is the same, and infinities and NaN are the largest */
        largest = _mm256_max_epi32(largest, _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + i)), absolute));
    __m128i four = _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    const int32_t bits = _mm_cvtsi128_si32(_mm_max_epi32(four, _mm_shuffle_epi32(four, 0xB1)));
    float limit;
    memcpy(&limit, &bits, sizeof limit);
    const bool is_finite = bits < 0x7F800000, is_empty = !is_finite || limit < 1e-30f;
    *step = !is_finite ? NAN : is_empty ? 0.0f : limit / 127.0f;
    const __m256 inverse = _mm256_set1_ps(is_empty ? 0.0f : 127.0f / limit), steps = _mm256_set1_ps(*step);
    for (int32_t i = 0; i < unit; i += 8) {
        const __m256 in = _mm256_loadu_ps(x + i);
        const __m256i code = is_empty ? _mm256_setzero_si256() : _mm256_cvtps_epi32(_mm256_mul_ps(in, inverse));
        total = _mm256_add_epi32(total, code);
        if (rest != NULL)
            _mm256_storeu_ps(rest + i, _mm256_fnmadd_ps(_mm256_cvtepi32_ps(code), steps, in));
        const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(code, code), code);
        const int32_t low = _mm256_extract_epi32(bytes, 0), high = _mm256_extract_epi32(bytes, 4);
        memcpy(codes + i * width, &low, 4);
        memcpy(codes + (i + 4) * width, &high, 4);
    }
    four = _mm_add_epi32(_mm256_castsi256_si128(total), _mm256_extracti128_si256(total, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    *sum = (float)_mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1)));
}

static void round_rows(const struct bb_rounded *rounded, const float *x, int64_t first, int64_t count)
{
    bb_round_rows(rounded, x, first, count, 4, round_unit);
}

void bb_kernels_fill_avx2_linear(struct bb_kernels *kernels)
{
    kernels->rounded_tile = TILE;
    kernels->rounded_few = BB_AVX2_FEW;
    kernels->linear_rows = PANEL_ROWS;
    kernels->linear_scratch = linear_scratch;
    kernels->round_rows = round_rows;
    kernels->multiply_rounded = multiply_rounded;
    kernels->multiply_floats = bb_avx2_multiply_floats;
}
