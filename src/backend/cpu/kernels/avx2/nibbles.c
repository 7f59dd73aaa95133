/* Exact products of affine 4-bit weights in groups of 64 or more with AVX2: what most models are made of.
 *
 * The sum of a row: in each group, column c adds code * x to class c % 16, one FMA a column in ascending order from 0; the group's 16 sums,
 * times its scale, are added to the row's 16 totals, one FMA a group; bias * (sum of the group's x) goes to eight more totals, group g to
 * total g % 8. Classes i and i + 8 are added, then the eight, then the lanes. So a column costs three instructions of eight lanes (mask,
 * convert, FMA), where scale * code + bias for each column costs five.
 *
 * One or two rows of x: of 8 bytes (16 columns), spread over a register, even lanes are the first word, odd lanes the second, and each pair of
 * lanes masks a nibble in its place: code * 16^k, for which x is scaled by 16^-k, both without rounding. More rows: 16 weight rows of codes
 * are unpacked to f32, and tiles of 2 weight rows x 3 rows of x keep 12 registers of a group's sums. */
#include "backend/cpu/kernels/avx2/unpack.h"

#include "base/compiler.h"

enum {
    CLASSES = 16,
    PANEL_ROWS = 16,
    TILE_ROWS = 2,
    TILE_X = 3
};

struct work {
    const struct bb_linear_task *task;
    int64_t cols, groups, group_size;
    int64_t read_ahead;
    float *scales, *biases; /* [PANEL_ROWS][groups] as f32, and what a load of 8 reads behind them */
    float *sums;            /* [rows of x][groups] of x, and the same */
    float *columns;         /* few rows of x: those rows, mixed; many: codes of PANEL_ROWS weight rows as f32 */
};

bool bb_avx2_nibbles_apply(const struct bb_weight *weight)
{
    return weight->scheme.mode == BB_QUANT_AFFINE && weight->scheme.bits == 4 && weight->scheme.group_size >= 64;
}

size_t bb_avx2_nibbles_scratch(int64_t cols, int64_t row_count)
{
    const size_t groups = (size_t)cols / 64 + 1;
    return ((2 * PANEL_ROWS + (size_t)row_count) * groups + 3 * 8 + PANEL_ROWS * (size_t)cols) * sizeof(float);
}

static struct work work_of(const struct bb_linear_task *task)
{
    const int64_t cols = task->weight->cols, group_size = task->weight->scheme.group_size, groups = cols / group_size;
    struct work work = { .task = task, .cols = cols, .groups = groups, .group_size = group_size, .columns = task->scratch };
    work.scales = work.columns + PANEL_ROWS * cols;
    work.biases = work.scales + PANEL_ROWS * groups + 8;
    work.sums = work.biases + PANEL_ROWS * groups + 8;
    work.read_ahead = bb_read_ahead_beside(task, (cols + 2 * PANEL_ROWS * groups) * (int64_t)sizeof(float));
    return work;
}

/* The sums of the groups of each row of x. */
static void sum_groups(const struct work *work)
{
    const float *x = work->task->x + work->task->first_row * work->cols;
    for (int64_t i = 0; i < work->task->row_count * work->groups; i++, x += work->group_size) {
        __m256 even = _mm256_loadu_ps(x), odd = _mm256_loadu_ps(x + 8);
        for (int64_t c = CLASSES; c < work->group_size; c += CLASSES) {
            even = _mm256_add_ps(even, _mm256_loadu_ps(x + c));
            odd = _mm256_add_ps(odd, _mm256_loadu_ps(x + c + 8));
        }
        work->sums[i] = bb_fold_lanes(_mm256_add_ps(even, odd));
    }
}

/* A row's totals of classes 0..7 and 8..15, and the terms of its biases, to one number. sums: of the row of x. */
static inline float finish(const struct work *work, __m256 low, __m256 high, int64_t panel_row, const float *sums)
{
    const float *biases = work->biases + panel_row * work->groups;
    __m256 offset = _mm256_setzero_ps();
    int64_t g = 0;
    for (; g + 8 <= work->groups; g += 8)
        offset = _mm256_fmadd_ps(_mm256_loadu_ps(biases + g), _mm256_loadu_ps(sums + g), offset);
    if (g < work->groups)
        offset = _mm256_fmadd_ps(bb_load_floats(biases, BB_F32, g, work->groups - g), bb_load_floats(sums, BB_F32, g, work->groups - g), offset);
    return bb_fold_lanes(_mm256_add_ps(_mm256_add_ps(low, high), offset));
}

/* ---- few rows of x ---- */

/* Rows of x as the masked nibbles want them: of each 16 columns x[0] x[8] x[1] x[9] .. x[3] x[11], then x[4] x[12] .. x[7] x[15]; the pairs
 * times 1, 16^-1, 16^-2, 16^-3. */
static void mix_x(const struct work *work)
{
    const __m256 factors = _mm256_setr_ps(1.0f, 1.0f, 0x1p-4f, 0x1p-4f, 0x1p-8f, 0x1p-8f, 0x1p-12f, 0x1p-12f);
    const float *x = work->task->x + work->task->first_row * work->cols;
    for (int64_t i = 0; i < work->task->row_count * work->cols; i += CLASSES) {
        const __m256 first = _mm256_loadu_ps(x + i), second = _mm256_loadu_ps(x + i + 8);
        const __m256 low = _mm256_unpacklo_ps(first, second), high = _mm256_unpackhi_ps(first, second); /* in halves: of 4 columns */
        _mm256_storeu_ps(work->columns + i, _mm256_mul_ps(_mm256_permute2f128_ps(low, high, 0x20), factors));
        _mm256_storeu_ps(work->columns + i + 8, _mm256_mul_ps(_mm256_permute2f128_ps(low, high, 0x31), factors));
    }
}

/* Adds the products of 64 columns of a weight row and mixed x. is_last: behind the codes nothing may be read. */
BB_INLINE void add_columns(const uint8_t *codes, const float *x, __m256 *even, __m256 *odd, const bool is_last)
{
    const __m256i mask = _mm256_setr_epi32(0xF, 0xF, 0xF0, 0xF0, 0xF00, 0xF00, 0xF000, 0xF000);
    BB_UNROLL
    for (int32_t i = 0; i < 4; i++) {
        int64_t eight, upper; /* upper: of each word the higher half first */
        memcpy(&eight, codes + 8 * i, sizeof eight);
        memcpy(&upper, codes + 8 * i + (is_last && i == 3 ? 0 : 2), sizeof upper);
        const __m256i words = _mm256_set1_epi64x(eight);
        const __m256i halves = is_last && i == 3 ? _mm256_srli_epi32(words, 16) : _mm256_set1_epi64x(upper);
        *even = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_and_si256(words, mask)), _mm256_loadu_ps(x + 16 * i), *even);
        *odd = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_and_si256(halves, mask)), _mm256_loadu_ps(x + 16 * i + 8), *odd);
    }
}

/* One weight row, one row of mixed x. codes: of the row; panel_row: where its scales are. */
static inline float multiply_row(const struct work *work, const uint8_t *codes, int64_t panel_row, const float *x, const float *sums)
{
    const float *scales = work->scales + panel_row * work->groups;
    __m256 even_total = _mm256_setzero_ps(), odd_total = _mm256_setzero_ps();
    for (int64_t g = 0; g < work->groups; g++) {
        __m256 even = _mm256_setzero_ps(), odd = _mm256_setzero_ps(); /* of nibbles 0 to 3, and 4 to 7, of both words */
        bb_read_ahead(codes, work->group_size / 2, work->read_ahead);
        for (int64_t left = work->group_size - 64; left > 0; left -= 64, codes += 32, x += 64)
            add_columns(codes, x, &even, &odd, false);
        if (g < work->groups - 1)
            add_columns(codes, x, &even, &odd, false);
        else
            add_columns(codes, x, &even, &odd, true);
        codes += 32;
        x += 64;
        const __m256 scale = _mm256_broadcast_ss(scales + g);
        even_total = _mm256_fmadd_ps(scale, even, even_total);
        odd_total = _mm256_fmadd_ps(scale, odd, odd_total);
    }
    const __m256 low = _mm256_shuffle_ps(even_total, odd_total, 0x88), high = _mm256_shuffle_ps(even_total, odd_total, 0xDD);
    return finish(work, _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(low), 0xD8)),
                  _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(high), 0xD8)), panel_row, sums);
}

static void multiply_few(const struct work *work)
{
    const struct bb_linear_task *task = work->task;
    const struct bb_weight *weight = task->weight;
    mix_x(work);
    for (int64_t row = 0; row < weight->rows; row++) {
        const int64_t rest = weight->rows - row;
        const uint8_t *codes = (const uint8_t *)weight->data + (size_t)row * bb_weight_row_bytes(weight);
        if (row % PANEL_ROWS == 0)
            bb_widen_groups(weight, row, rest < PANEL_ROWS ? rest : PANEL_ROWS, work->scales, work->biases);
        for (int64_t t = 0; t < task->row_count; t++)
            bb_linear_store(task, row, task->first_row + t,
                            multiply_row(work, codes, row % PANEL_ROWS, work->columns + t * work->cols, work->sums + t * work->groups));
    }
}

/* ---- many rows of x ---- */

static void unpack_panel(const struct work *work, int64_t row, int64_t count)
{
    const struct bb_weight *weight = work->task->weight;
    const uint8_t *codes = (const uint8_t *)weight->data + (size_t)row * bb_weight_row_bytes(weight);
    float *panel = work->columns;
    for (int64_t i = 0; i < count * work->cols; i += 32, codes += 16, panel += 32) {
        const __m256i bytes = bb_unpack_bits(codes, 4);
        const __m128i halves[2] = { _mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1) };
        BB_UNROLL
        for (int32_t k = 0; k < 4; k++) {
            const __m128i eight = k % 2 == 0 ? halves[k / 2] : _mm_unpackhi_epi64(halves[k / 2], halves[k / 2]);
            _mm256_storeu_ps(panel + 8 * k, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight)));
        }
    }
}

/* Totals of classes 0..7 and 8..15 of a weight row and a row of x. */
struct totals {
    __m256 low, high;
};

/* `rows` weight rows from panel_row on times x_rows rows of x: totals[weight row][row of x]. */
BB_INLINE void multiply_tile(const struct work *work, int64_t panel_row, const float *x, struct totals totals[TILE_ROWS][TILE_X], const int32_t rows,
                             const int32_t x_rows)
{
    const int64_t cols = work->cols;
    const float *values = work->columns + panel_row * cols, *scales = work->scales + panel_row * work->groups;
    for (int32_t i = 0; i < rows * x_rows; i++)
        totals[i / x_rows][i % x_rows] = (struct totals){ _mm256_setzero_ps(), _mm256_setzero_ps() };
    for (int64_t g = 0; g < work->groups; g++) {
        __m256 sums[TILE_ROWS][TILE_X][2];
        BB_UNROLL
        for (int32_t i = 0; i < 2 * rows * x_rows; i++)
            sums[i / (2 * x_rows)][i / 2 % x_rows][i % 2] = _mm256_setzero_ps();
        for (int64_t c = 0; c < work->group_size; c += 8 * 2, values += 8 * 2, x += 8 * 2) {
            BB_UNROLL
            for (int32_t half = 0; half < 2; half++) {
                __m256 value[TILE_ROWS];
                BB_UNROLL
                for (int32_t r = 0; r < rows; r++) {
                    value[r] = _mm256_loadu_ps(values + r * cols + 8 * half);
                    bb_keep_floats(&value[r]); /* read once, not again for each row of x */
                }
                BB_UNROLL
                for (int32_t t = 0; t < x_rows; t++) {
                    const __m256 in = _mm256_loadu_ps(x + t * cols + 8 * half);
                    BB_UNROLL
                    for (int32_t r = 0; r < rows; r++)
                        sums[r][t][half] = _mm256_fmadd_ps(value[r], in, sums[r][t][half]);
                }
            }
        }
        BB_UNROLL
        for (int32_t i = 0; i < rows * x_rows; i++) {
            struct totals *total = &totals[i / x_rows][i % x_rows];
            const __m256 scale = _mm256_broadcast_ss(scales + i / x_rows * work->groups + g);
            total->low = _mm256_fmadd_ps(scale, sums[i / x_rows][i % x_rows][0], total->low);
            total->high = _mm256_fmadd_ps(scale, sums[i / x_rows][i % x_rows][1], total->high);
        }
    }
}

/* The tile with constant counts; rows and x_rows are at least 1. */
static void multiply_any_tile(const struct work *work, int64_t panel_row, const float *x, struct totals totals[TILE_ROWS][TILE_X], int64_t rows,
                              int64_t x_rows)
{
    if (rows == 2 && x_rows == 3)
        multiply_tile(work, panel_row, x, totals, 2, 3);
    else if (rows == 2 && x_rows == 2)
        multiply_tile(work, panel_row, x, totals, 2, 2);
    else if (rows == 2)
        multiply_tile(work, panel_row, x, totals, 2, 1);
    else if (x_rows == 3)
        multiply_tile(work, panel_row, x, totals, 1, 3);
    else if (x_rows == 2)
        multiply_tile(work, panel_row, x, totals, 1, 2);
    else
        multiply_tile(work, panel_row, x, totals, 1, 1);
}

static void multiply_panel(const struct work *work, int64_t row, int64_t count)
{
    const struct bb_linear_task *task = work->task;
    for (int64_t t = 0; t < task->row_count; t += TILE_X) {
        const int64_t x_rows = task->row_count - t < TILE_X ? task->row_count - t : TILE_X;
        for (int64_t r = 0; r < count; r += TILE_ROWS) {
            const int64_t rows = count - r < TILE_ROWS ? count - r : TILE_ROWS;
            struct totals totals[TILE_ROWS][TILE_X];
            multiply_any_tile(work, r, task->x + (task->first_row + t) * work->cols, totals, rows, x_rows);
            for (int64_t i = 0; i < rows * x_rows; i++) {
                const int64_t in_tile = i / x_rows, x_row = t + i % x_rows;
                const struct totals *total = &totals[in_tile][i % x_rows];
                bb_linear_store(task, row + r + in_tile, task->first_row + x_row,
                                finish(work, total->low, total->high, r + in_tile, work->sums + x_row * work->groups));
            }
        }
    }
}

void bb_avx2_multiply_nibbles(const struct bb_linear_task *task)
{
    const struct work work = work_of(task);
    sum_groups(&work);
    if (task->row_count <= 2) {
        multiply_few(&work);
        return;
    }
    for (int64_t row = 0; row < task->weight->rows; row += PANEL_ROWS) {
        const int64_t rest = task->weight->rows - row, count = rest < PANEL_ROWS ? rest : PANEL_ROWS;
        bb_widen_groups(task->weight, row, count, work.scales, work.biases);
        unpack_panel(&work, row, count);
        multiply_panel(&work, row, count);
    }
}
