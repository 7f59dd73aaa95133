/* The low-rank kernels by themselves. */
#include "test.h"

#include "backend/cpu/kernels/kernel.h"
#include "backend/cpu/kernels/kernels.h"
#include "backend_fixture.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
