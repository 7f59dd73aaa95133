/* The low-rank kernels by themselves, and packed pairs. */
#include "test.h"

#include "backend/cpu/kernels/kernel.h"
#include "backend/cpu/kernels/kernels.h"
#include "backend_fixture.h"

#include <math.h>

/* Each level beside the reference: odd lengths, ranks and row counts, with and without gains; and an entry is the same wherever a run begins. */
static void test_levels(void **state)
{
    (void)state;
    enum { COLS = 131, RANK = 9, ROWS = 6 };
    static float a[RANK * COLS], x[COLS], gains[COLS], sums[ROWS * RANK], expected[ROWS * COLS], actual[ROWS * COLS],
        parts[ROWS * COLS], filled[ROWS * COLS];
    struct bb_kernels reference, kernels;
    CHECK_STATUS(bb_kernels_choose(&reference, "reference", &fixture_error));
    fill_random(a, RANK * COLS, 1, 0.1f);
    fill_random(x, COLS, 2, 0.1f);
    fill_random(gains, COLS, 3, 0.1f);
    fill_random(sums, ROWS * RANK, 4, 0.1f);
    fill_random(filled, ROWS * COLS, 5, 0.1f);
    for (size_t i = 0; i < COLS; i++)
        gains[i] += 1.0f;
    for (int32_t level = 0; bb_kernels_level_name(level) != NULL; level++) {
        CHECK_STATUS(bb_kernels_choose(&kernels, bb_kernels_level_name(level), &fixture_error));
        for (int64_t cols = 1; cols <= COLS; cols += 13)
            for (int32_t rank = 1; rank <= RANK; rank++) {
                float of_reference[RANK], of_level[RANK];
                reference.rows.low_rank_sums(of_reference, a, x, rank, cols);
                kernels.rows.low_rank_sums(of_level, a, x, rank, cols);
                CHECK_NEAR(of_level, of_reference, (size_t)rank, 1e-5);
                for (int64_t rows = 1; rows <= ROWS; rows++) {
                    struct bb_low_rank_add call = {.b = a,
                                                   .sums = sums,
                                                   .gains = rank % 2 == 0 ? gains : NULL,
                                                   .out_stride = COLS,
                                                   .b_stride = COLS,
                                                   .row_count = rows,
                                                   .count = cols,
                                                   .rank = rank};
                    memcpy(expected, filled, sizeof filled);
                    memcpy(actual, filled, sizeof filled);
                    memcpy(parts, filled, sizeof filled);
                    call.out = expected;
                    reference.rows.low_rank_add(&call);
                    call.out = actual;
                    kernels.rows.low_rank_add(&call);
                    CHECK_NEAR(actual, expected, ROWS * COLS, 1e-6);
                    for (int64_t row = 0; row < rows; row++)
                        for (int64_t first = 0; first < cols; first += 7) {
                            struct bb_low_rank_add part = call;
                            part.out = parts + row * COLS + first;
                            part.b += first;
                            part.sums += row * rank;
                            part.gains += part.gains != NULL ? first : 0;
                            part.row_count = 1;
                            part.count = cols - first < 7 ? cols - first : 7;
                            kernels.rows.low_rank_add(&part);
                        }
                    assert_memory_equal(parts, actual, sizeof parts);
                }
            }
    }
}

enum {
    COLUMNS = 131,
    RANK_LIMIT = 21,
    ROW_LIMIT = 6,
    SIZE_LIMIT = 2 * (RANK_LIMIT + 1) * (COLUMNS + BB_PACKED_COLUMNS)
};

/* Both halves are the number to the bit, the upper one is its bf16; the rest of a tile is 0. */
static void test_pack(void **state)
{
    (void)state;
    static float matrix[RANK_LIMIT * COLUMNS];
    static uint16_t memory[SIZE_LIMIT];
    static const float odd[] = {0.0f,   -0.0f,    1e-42f,    -3e-40f,        3e38f,
                                -3e38f, INFINITY, -INFINITY, 1.0f + 0x1p-8f, 1.0f + 0x1p-7f};
    fill_random(matrix, RANK_LIMIT * COLUMNS, 1, 10.0f);
    memcpy(matrix, odd, sizeof odd);
    for (int32_t rank = 1; rank <= RANK_LIMIT; rank++)
        for (int64_t count = 1; count <= COLUMNS; count += 10) {
            double sum = 0.0, expected = 0.0;
            const struct bb_packed packed = bb_pack(memory, matrix, COLUMNS, rank, count);
            const struct bb_packed upper = {.high = packed.high, .columns = packed.columns};
            for (int32_t r = 0; r < rank; r++)
                for (int64_t i = 0; i < count; i++) {
                    const float value = matrix[r * COLUMNS + i],
                                back = bb_packed_load(&packed, bb_packed_place(&packed, rank, r, i)),
                                rounded = bb_packed_load(&upper, bb_packed_place(&packed, rank, r, i));
                    assert_memory_equal(&back, &value, sizeof value);
                    assert_true(rounded == value || fabsf(rounded - value) <= fmaxf(fabsf(value) * 0x1p-8f, 0x1p-134f));
                    if (fabsf(value) > 1e-30f && fabsf(value) < 1e30f &&
                        packed.low[bb_packed_place(&packed, rank, r, i)] != INT16_MIN)
                        assert_true(rounded == bb_bf16_to_f32(bb_f32_to_bf16(value))); /* but for ties */
                    expected += isfinite(value) && fabsf(value) < 1e30f ? fabs((double)value) : 0.0;
                }
            for (int64_t place = 0; place < (int64_t)bb_packed_size(rank, count); place++) {
                const double value = fabs((double)bb_packed_load(&packed, place));
                sum += value < 1e30 ? value : 0.0;
            }
            assert_true(fabs(sum - expected) <= 1e-9 * expected); /* every place holds an entry, or 0 */
        }
    matrix[0] = NAN;
    const struct bb_packed packed = bb_pack(memory, matrix, COLUMNS, 1, 1);
    const struct bb_packed upper = {.high = packed.high, .columns = packed.columns};
    assert_true(isnan(bb_packed_load(&packed, 0)) && isnan(bb_packed_load(&upper, 0)));
}

/* What a pair adds to a row does not depend on its form. */
static void test_add_row(void **state)
{
    (void)state;
    enum { COLS = 37, ROWS = 35 };
    static float a[RANK_LIMIT * COLS], b[RANK_LIMIT * ROWS], x[COLS], of_plain[COLS], of_packed[COLS];
    static uint16_t memory[2][2 * (RANK_LIMIT + 1) * 48];
    fill_random(a, RANK_LIMIT * COLS, 1, 1.0f);
    fill_random(b, RANK_LIMIT * ROWS, 2, 1.0f);
    fill_random(x, COLS, 3, 1.0f);
    for (int32_t rank = 1; rank <= RANK_LIMIT; rank++)
        for (int64_t row = 0; row < ROWS; row += 17) {
            const struct bb_low_rank plain = {.a = a, .b = b, .b_stride = ROWS, .rank = rank, .scale = 1.5f},
                                     packed = {.packed_a = bb_pack(memory[0], a, COLS, rank, COLS),
                                               .packed_b = bb_pack(memory[1], b, ROWS, rank, ROWS),
                                               .rank = rank,
                                               .scale = 1.5f};
            memcpy(of_plain, x, sizeof x);
            memcpy(of_packed, x, sizeof x);
            bb_low_rank_add_row(of_plain, &plain, COLS, row);
            bb_low_rank_add_row(of_packed, &packed, COLS, row);
            assert_memory_equal(of_packed, of_plain, sizeof x);
        }
}

struct packed_case {
    const struct bb_row_kernels *plain, *kernels; /* those of f32 matrices in plain C; those to test */
    const float *matrix, *x, *gains, *sums, *filled;
    struct bb_packed packed;
    int32_t rank;
    int64_t cols;
};

/* A x, panel by panel; and the same of each row alone. */
static void check_packed_sums(const struct packed_case *at)
{
    float expected[RANK_LIMIT], together[ROW_LIMIT * RANK_LIMIT], alone[RANK_LIMIT];
    for (int32_t first = 0; first < at->rank; first += BB_PACKED_RANKS) {
        struct bb_packed_sums call = {.sums = together + first,
                                      .panel = at->packed,
                                      .x = at->x,
                                      .sums_stride = at->rank,
                                      .row_count = ROW_LIMIT,
                                      .cols = at->cols,
                                      .rank = bb_packed_ranks(at->rank, first)};
        const int64_t place = bb_packed_place(&at->packed, at->rank, first, 0);
        call.panel.high += place;
        call.panel.low = at->packed.low != NULL ? at->packed.low + place : NULL;
        at->kernels->packed_sums(&call);
        call.row_count = 1;
        for (int64_t row = 0; row < ROW_LIMIT; row++) {
            call.sums = alone + first;
            call.x = at->x + row * at->cols;
            at->kernels->packed_sums(&call);
            assert_memory_equal(alone + first, together + row * at->rank + first, (size_t)call.rank * sizeof *alone);
        }
    }
    for (int64_t row = 0; row < ROW_LIMIT; row++) {
        for (int32_t r = 0; r < at->rank; r++)
            at->plain->low_rank_sums(expected + r, at->matrix + r * COLUMNS, at->x + row * at->cols, 1, at->cols);
        CHECK_NEAR(together + row * at->rank, expected, (size_t)at->rank, 1e-5);
    }
}

/* B times sums; and the same in parts that begin anywhere, row by row. */
static void check_packed_add(const struct packed_case *at, int64_t rows)
{
    static float expected[ROW_LIMIT * COLUMNS], actual[ROW_LIMIT * COLUMNS], parts[ROW_LIMIT * COLUMNS];
    const float *gains = at->rank % 2 == 0 ? at->gains : NULL;
    memcpy(expected, at->filled, sizeof expected);
    memcpy(actual, at->filled, sizeof actual);
    memcpy(parts, at->filled, sizeof parts);
    at->plain->low_rank_add(&(struct bb_low_rank_add){.out = expected,
                                                      .b = at->matrix,
                                                      .sums = at->sums,
                                                      .gains = gains,
                                                      .out_stride = COLUMNS,
                                                      .b_stride = COLUMNS,
                                                      .row_count = rows,
                                                      .count = at->cols,
                                                      .rank = at->rank});
    struct bb_packed_add call = {.out = actual,
                                 .matrix = at->packed,
                                 .sums = at->sums,
                                 .gains = gains,
                                 .out_stride = COLUMNS,
                                 .row_count = rows,
                                 .count = at->cols,
                                 .rank = at->rank};
    at->kernels->packed_add(&call);
    CHECK_NEAR(actual, expected, ROW_LIMIT * COLUMNS, 1e-6);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t first = 0, count = 7; first < at->cols; first += count, count = count * 5 % 53) {
            struct bb_packed_add part = call;
            part.out = parts + row * COLUMNS + first;
            part.sums += row * at->rank;
            part.gains += gains != NULL ? first : 0;
            part.row_count = 1;
            part.first = first;
            part.count = at->cols - first < count ? at->cols - first : count;
            at->kernels->packed_add(&part);
        }
    assert_memory_equal(parts, actual, sizeof parts);
}

/* Each level on packed matrices beside the plain ones in plain C, in full and rounded: odd lengths, panels and row
 * counts. */
static void test_packed_levels(void **state)
{
    (void)state;
    static float matrix[RANK_LIMIT * COLUMNS], rounded[RANK_LIMIT * COLUMNS], x[ROW_LIMIT * COLUMNS], gains[COLUMNS],
        sums[ROW_LIMIT * RANK_LIMIT], filled[ROW_LIMIT * COLUMNS];
    static uint16_t memory[SIZE_LIMIT];
    struct bb_kernels reference, kernels;
    CHECK_STATUS(bb_kernels_choose(&reference, "reference", &fixture_error));
    fill_random(matrix, RANK_LIMIT * COLUMNS, 1, 0.1f);
    fill_random(x, ROW_LIMIT * COLUMNS, 2, 0.1f);
    fill_random(gains, COLUMNS, 3, 0.1f);
    fill_random(sums, ROW_LIMIT * RANK_LIMIT, 4, 0.1f);
    fill_random(filled, ROW_LIMIT * COLUMNS, 5, 0.1f);
    for (size_t i = 0; i < COLUMNS; i++)
        gains[i] += 1.0f;
    for (size_t i = 0; i < RANK_LIMIT * COLUMNS; i++)
        rounded[i] = bb_bf16_to_f32(bb_f32_to_bf16(matrix[i]));
    for (int32_t level = 0; bb_kernels_level_name(level) != NULL; level++) {
        CHECK_STATUS(bb_kernels_choose(&kernels, bb_kernels_level_name(level), &fixture_error));
        for (int64_t cols = 1; cols <= COLUMNS; cols += 13)
            for (int32_t rank = 1; rank <= RANK_LIMIT; rank++)
                for (int is_exact = 0; is_exact < 2; is_exact++) {
                    struct packed_case at = {.plain = &reference.rows,
                                             .kernels = &kernels.rows,
                                             .matrix = is_exact ? matrix : rounded,
                                             .x = x,
                                             .gains = gains,
                                             .sums = sums,
                                             .filled = filled,
                                             .packed = bb_pack(memory, matrix, COLUMNS, rank, cols),
                                             .rank = rank,
                                             .cols = cols};
                    if (!is_exact)
                        at.packed.low = NULL;
                    check_packed_sums(&at);
                    for (int64_t rows = 1; rows <= ROW_LIMIT; rows++)
                        check_packed_add(&at, rows);
                }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_pack),
        cmocka_unit_test(test_add_row),
        cmocka_unit_test(test_packed_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
