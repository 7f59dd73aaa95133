/* Rounded products of many rows of x with AVX-512 VNNI.
 *
 * A panel of 32 weight rows x up to 1024 columns is unpacked to bytes once and stays in the first cache while all rows of x pass over it:
 *
 *     panel   [columns / 4][32 rows][4 bytes]        two registers of 16 rows for each 4 columns
 *     x       [columns / 4][12 rows of x][4 bytes]   as struct bb_rounded lays it, each 4 bytes spread over a register
 *
 * of each 8 columns first the even ones, then the odd ones, as nibbles come apart.
 *
 * vpdpbusd adds 4 products in each of 16 lanes (weight rows); 2 x 12 sums are in registers at once. At the end of a unit they become f32 and
 * go to the totals [rows of x][32 weight rows], which stay in the first cache. Bound: one vpdpbusd for 64 multiply-adds. */
#include "backend/cpu/kernels/avx512/unpack.h"

#include "base/compiler.h"

#include <math.h>
#include <string.h>

enum {
    PANEL_ROWS = 32,
    PANEL_COLS = 1024,
    TILE = 12,                     /* rows of x */
    MAX_UNITS = PANEL_COLS / 16
};

struct panel {
    uint8_t codes[PANEL_COLS / 4][PANEL_ROWS][4];
    float scales[MAX_UNITS][PANEL_ROWS], biases[MAX_UNITS][PANEL_ROWS]; /* a unit */
};

static size_t linear_scratch(int64_t cols, int64_t row_count)
{
    const size_t many = sizeof(struct panel) + (size_t)row_count * PANEL_ROWS * sizeof(float);
    const size_t few = bb_avx512_few_scratch(cols);
    const size_t floats = bb_avx512_floats_scratch(row_count), rounded = many > few ? many : few;
    return rounded > floats ? rounded : floats;
}

/* Units [0, count) from column `first` of rows [row, row + 16), to panel rows [half, half + 16). */
static void pack_scales(struct panel *panel, const struct bb_weight *weight, int64_t row, int64_t first, int64_t cols, int32_t unit, int32_t half)
{
    const int32_t group_size = weight->scheme.group_size, repeat = group_size / unit;
    const int64_t groups = weight->cols / group_size, first_group = first / group_size;
    const int64_t count = (cols + group_size - 1) / group_size;
    for (int64_t g = 0; g < count; g += 16) {
        const int64_t run = count - g < 16 ? count - g : 16;
        __m512i scales[16], biases[16];
        for (int64_t i = 0; i < 16; i++) {
            const int64_t r = row + i < weight->rows ? row + i : weight->rows - 1;
            __m512 scale, bias;
            bb_load_groups(weight, r * groups + first_group + g, run, &scale, &bias);
            scales[i] = _mm512_castps_si512(scale);
            biases[i] = _mm512_castps_si512(bias);
        }
        bb_transpose(scales);
        bb_transpose(biases);
        for (int64_t i = 0; i < run * repeat; i++) {
            _mm512_store_si512(&panel->scales[g * repeat + i][half], scales[i / repeat]);
            _mm512_store_si512(&panel->biases[g * repeat + i][half], biases[i / repeat]);
        }
    }
}

/* Where the codes of a row of the panel come from; rows behind the last repeat it. */
struct rows {
    const uint8_t *codes; /* of the first */
    int64_t row_bytes, last;
};

static inline const uint8_t *row_codes(const struct rows *rows, int64_t row)
{
    const uint8_t *codes = rows->codes + (row < rows->last ? row : rows->last) * rows->row_bytes;
    _mm_prefetch((const char *)codes + PANEL_ROWS * rows->row_bytes, _MM_HINT_T1); /* the next panel's */
    return codes;
}

/* 4-bit codes: 8 columns are transposed as they are packed, in one lane; of them the low nibbles are the even columns, the high ones the odd. */
static void pack_nibbles(struct panel *panel, struct rows rows, const struct bb_unpacker *unpacker, int64_t cols, int32_t half)
{
    for (int64_t k = 0; k < cols; k += 128, rows.codes += 64) {
        const int64_t count = cols - k < 128 ? cols - k : 128;
        __m512i packed[16];
        for (int64_t i = 0; i < 16; i++)
            packed[i] = _mm512_maskz_loadu_epi8(~UINT64_C(0) >> (64 - count / 2), row_codes(&rows, i));
        bb_transpose(packed);
        for (int64_t i = 0; i < count / 8; i++) {
            __m512i even = _mm512_and_si512(packed[i], unpacker->mask);
            __m512i odd = _mm512_and_si512(_mm512_srli_epi16(packed[i], 4), unpacker->mask);
            if (unpacker->has_values) {
                even = _mm512_shuffle_epi8(unpacker->values, even);
                odd = _mm512_shuffle_epi8(unpacker->values, odd);
            }
            _mm512_store_si512(&panel->codes[k / 4 + 2 * i][half], even);
            _mm512_store_si512(&panel->codes[k / 4 + 2 * i + 1][half], odd);
        }
    }
}

/* Codes of columns [first, first + cols) of rows [row, row + 16), to panel rows [half, half + 16). */
static void pack_codes(struct panel *panel, const struct bb_weight *weight, const struct bb_unpacker *unpacker, int64_t row, int64_t first,
                       int64_t cols, int32_t half)
{
    struct rows from = { .row_bytes = (int64_t)bb_weight_row_bytes(weight), .last = weight->rows - 1 - row };
    from.codes = (const uint8_t *)weight->data + row * from.row_bytes + first / 8 * unpacker->bits;
    if (unpacker->bits == 4) {
        pack_nibbles(panel, from, unpacker, cols, half);
        return;
    }
    for (int64_t k = 0; k < cols; k += 64, from.codes += 8 * unpacker->bits) {
        const int64_t count = cols - k < 64 ? cols - k : 64;
        __m512i rows[16];
        for (int64_t i = 0; i < 16; i++)
            rows[i] = bb_unpack_codes(unpacker, row_codes(&from, i), count);
        bb_transpose(rows);
        for (int64_t i = 0; i < count / 4; i++)
            _mm512_store_si512(&panel->codes[k / 4 + i][half], rows[i]);
    }
}

/* Adds units [first_unit, first_unit + unit_count) of `width` rows of x to their totals. */
BB_INLINE void add_tile(const struct panel *panel, const struct bb_rounded *rounded, int64_t x_row, int64_t first_unit, int64_t unit_count,
                        float *totals, const int32_t width)
{
    const int32_t steps_per_unit = rounded->unit / 4;
    const int64_t units = rounded->cols / rounded->unit;
    const int8_t *x = bb_rounded_row(rounded, x_row) + first_unit * rounded->unit * width;
    const float *steps = rounded->steps + x_row * units + first_unit, *sums = rounded->sums + x_row * units + first_unit;
    const uint8_t *codes = panel->codes[0][0];
    for (int64_t u = 0; u < unit_count; u++) {
        __m512i low[TILE], high[TILE];
        BB_UNROLL
        for (int32_t t = 0; t < width; t++)
            low[t] = high[t] = _mm512_setzero_si512();
        for (int32_t k = 0; k < steps_per_unit; k++, codes += 4 * PANEL_ROWS, x += 4 * width) {
            const __m512i rows0 = _mm512_load_si512(codes), rows1 = _mm512_load_si512(codes + 64);
            BB_UNROLL
            for (int32_t t = 0; t < width; t++) {
                int32_t four;
                memcpy(&four, x + 4 * t, sizeof four);
                const __m512i spread = _mm512_set1_epi32(four);
                low[t] = _mm512_dpbusd_epi32(low[t], rows0, spread);
                high[t] = _mm512_dpbusd_epi32(high[t], rows1, spread);
            }
        }
        BB_UNROLL
        for (int32_t t = 0; t < width; t++) {
            bb_keep(&low[t]);
            bb_keep(&high[t]);
        }
        const __m512 scale0 = _mm512_load_ps(panel->scales[u]), scale1 = _mm512_load_ps(panel->scales[u] + 16);
        const __m512 bias0 = _mm512_load_ps(panel->biases[u]), bias1 = _mm512_load_ps(panel->biases[u] + 16);
        BB_UNROLL
        for (int32_t t = 0; t < width; t++) {
            const __m512 sum = _mm512_set1_ps(sums[t * units + u]), step = _mm512_set1_ps(steps[t * units + u]);
            const __m512 q0 = _mm512_fmadd_ps(scale0, _mm512_cvtepi32_ps(low[t]), _mm512_mul_ps(bias0, sum));
            const __m512 q1 = _mm512_fmadd_ps(scale1, _mm512_cvtepi32_ps(high[t]), _mm512_mul_ps(bias1, sum));
            float *total = totals + t * PANEL_ROWS;
            _mm512_store_ps(total, _mm512_fmadd_ps(q0, step, _mm512_load_ps(total)));
            _mm512_store_ps(total + 16, _mm512_fmadd_ps(q1, step, _mm512_load_ps(total + 16)));
        }
        BB_FORGET_MEMORY();
    }
}

static void add_rows(const struct panel *panel, const struct bb_rounded *rounded, int64_t x_row, int64_t first_unit, int64_t unit_count,
                     float *totals, int64_t width)
{
    switch (width) {
    case 12: add_tile(panel, rounded, x_row, first_unit, unit_count, totals, 12); break;
    case 11: add_tile(panel, rounded, x_row, first_unit, unit_count, totals, 11); break;
    case 10: add_tile(panel, rounded, x_row, first_unit, unit_count, totals, 10); break;
    case 9: add_tile(panel, rounded, x_row, first_unit, unit_count, totals, 9); break;
    case 8: add_tile(panel, rounded, x_row, first_unit, unit_count, totals, 8); break;
    case 7: add_tile(panel, rounded, x_row, first_unit, unit_count, totals, 7); break;
    case 6: add_tile(panel, rounded, x_row, first_unit, unit_count, totals, 6); break;
    case 5: add_tile(panel, rounded, x_row, first_unit, unit_count, totals, 5); break;
    case 4: add_tile(panel, rounded, x_row, first_unit, unit_count, totals, 4); break;
    case 3: add_tile(panel, rounded, x_row, first_unit, unit_count, totals, 3); break;
    case 2: add_tile(panel, rounded, x_row, first_unit, unit_count, totals, 2); break;
    default: add_tile(panel, rounded, x_row, first_unit, unit_count, totals, 1); break;
    }
}

static void multiply_panel(const struct bb_linear_task *task, const struct bb_unpacker *unpacker, int64_t row)
{
    const struct bb_weight *weight = task->weight;
    const struct bb_rounded *rounded = task->rounded;
    struct panel *panel = task->scratch;
    float *totals = (float *)(panel + 1);
    memset(totals, 0, (size_t)task->row_count * PANEL_ROWS * sizeof(float));
    for (int64_t first = 0; first < weight->cols; first += PANEL_COLS) {
        const int64_t cols = weight->cols - first < PANEL_COLS ? weight->cols - first : PANEL_COLS;
        for (int32_t half = 0; half < PANEL_ROWS; half += 16) {
            const int64_t from = row + half < weight->rows ? row + half : weight->rows - 1;
            pack_codes(panel, weight, unpacker, from, first, cols, half);
            pack_scales(panel, weight, from, first, cols, rounded->unit, half);
        }
        for (int64_t t = 0; t < task->row_count; t += TILE) {
            const int64_t x_row = task->first_row + t;
            add_rows(panel, rounded, x_row, first / rounded->unit, cols / rounded->unit, totals + t * PANEL_ROWS,
                     bb_rounded_tile_rows(rounded, x_row));
        }
    }
    for (int32_t half = 0; half < PANEL_ROWS && row + half < weight->rows; half += 16) {
        const __m512 bias = bb_load_bias(task, row + half);
        for (int64_t t = 0; t < task->row_count; t++)
            bb_store_rows(task, row + half, task->first_row + t, bias, _mm512_load_ps(totals + t * PANEL_ROWS + half));
    }
}

static void multiply_rounded(const struct bb_linear_task *task)
{
    if (task->rounded->rows <= BB_AVX512_FEW) {
        bb_avx512_multiply_few(task);
        return;
    }
    const struct bb_unpacker unpacker = bb_unpacker_of(task->weight->scheme);
    for (int64_t row = 0; row < task->weight->rows; row += PANEL_ROWS)
        multiply_panel(task, &unpacker, row);
}

static void round_unit(const float *x, int32_t unit, int8_t *codes, int64_t width, float *step, float *sum, float *rest)
{
    const __m512i absolute = _mm512_set1_epi32(0x7FFFFFFF);
    __m512i largest = _mm512_setzero_si512(), total = _mm512_setzero_si512();
    for (int32_t i = 0; i < unit; i += 16) /* as whole numbers: the order is the same, and infinities and NaN are the largest */
        largest = _mm512_max_epi32(largest, _mm512_and_si512(_mm512_loadu_si512(x + i), absolute));
    const int32_t bits = _mm512_reduce_max_epi32(largest);
    float limit;
    memcpy(&limit, &bits, sizeof limit);
    const bool is_finite = bits < 0x7F800000, is_empty = !is_finite || limit < 1e-30f;
    *step = !is_finite ? NAN : is_empty ? 0.0f : limit / 127.0f;
    const __m512 inverse = _mm512_set1_ps(is_empty ? 0.0f : 127.0f / limit), steps = _mm512_set1_ps(*step);
    const __m128i paired = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
    int8_t rounded[BB_UNIT_LIMIT];
    for (int32_t i = 0; i < unit; i += 16) {
        const __m512 in = _mm512_loadu_ps(x + i);
        const __m512i code = is_empty ? _mm512_setzero_si512() : _mm512_cvtps_epi32(_mm512_mul_ps(in, inverse));
        total = _mm512_add_epi32(total, code);
        if (rest != NULL)
            _mm512_storeu_ps(rest + i, _mm512_fnmadd_ps(_mm512_cvtepi32_ps(code), steps, in));
        _mm_storeu_si128((__m128i *)(rounded + i), _mm_shuffle_epi8(_mm512_cvtepi32_epi8(code), paired));
    }
    for (int32_t i = 0; i < unit; i += 4)
        memcpy(codes + i * width, rounded + i, 4);
    *sum = (float)_mm512_reduce_add_epi32(total);
}

static void round_rows(const struct bb_rounded *rounded, const float *x, int64_t first, int64_t count)
{
    bb_round_rows(rounded, x, first, count, 4, round_unit);
}

void bb_kernels_fill_avx512_linear(struct bb_kernels *kernels)
{
    kernels->rounded_tile = TILE;
    kernels->rounded_few = BB_AVX512_FEW;
    kernels->linear_rows = PANEL_ROWS;
    kernels->linear_scratch = linear_scratch;
    kernels->round_rows = round_rows;
    kernels->multiply_rounded = multiply_rounded;
    kernels->multiply_floats = bb_avx512_multiply_floats;
}
