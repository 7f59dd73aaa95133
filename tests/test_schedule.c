/* Learning rates by update, against mlx.optimizers.schedulers 0.32.4 as mlx_lm's build_schedule makes them. */
#include "base/compiler.h"
#include "test.h"
#include "train/schedule.h"

#include <string.h>

enum { UPDATES = 24 };

static const struct {
    bombus_schedule schedule;
    double rates[UPDATES];
} cases[] = {
    {{.part_count = 1, .parts = {{BOMBUS_COSINE_DECAY, {0.001, 18, 1e-5}}}, .warmup = 4, .warmup_init = 1e-6},
     {9.99999997e-07, 0.000250750018, 0.000500500028, 0.000750250067, 0.00100000005,  0.000999999931,
      0.000992479734, 0.000970147841, 0.000933682604, 0.000884191948, 0.0008231799,   0.000752499967,
      0.000674299954, 0.000590955897, 0.000505000062, 0.000419044198, 0.000335700024, 0.000257499953,
      0.000186820122, 0.000125808001, 7.63174612e-05, 3.98521515e-05, 1.75201731e-05, 9.99999975e-06}},
    {{.part_count = 1, .parts = {{BOMBUS_COSINE_DECAY, {1e-3, 10}}}},
     {0.00100000005, 0.000975528266, 0.000904508517, 0.000793892657, 0.000654508476, 0.000499999966, 0.000345491484,
      0.00020610739, 9.54915013e-05, 2.44717012e-05}},
    {{.part_count = 1, .parts = {{BOMBUS_LINEAR_SCHEDULE, {1e-3, 1e-4, 8}}}},
     {0.00100000005,  0.000887500064, 0.00077500008,  0.000662500039, 0.000550000055, 0.000437500072,
      0.00032500003,  0.000212500046, 0.000100000063, 0.000100000063, 0.000100000063, 0.000100000063,
      0.000100000063, 0.000100000063, 0.000100000063, 0.000100000063, 0.000100000063, 0.000100000063,
      0.000100000063, 0.000100000063, 0.000100000063, 0.000100000063, 0.000100000063, 0.000100000063}},
    {{.part_count = 1, .parts = {{BOMBUS_EXPONENTIAL_DECAY, {1e-3, 0.9}}}, .warmup = 3},
     {0,              0.00033333333,  0.00066666666,  0.000999999931, 0.00100000005,  0.000900000043,
      0.000809999998, 0.000728999963, 0.000656099932, 0.000590489944, 0.00053144095,  0.000478296832,
      0.00043046716,  0.000387420412, 0.000348678353, 0.000313810509, 0.000282429479, 0.000254186481,
      0.000228767851, 0.000205891047, 0.000185301949, 0.000166771744, 0.00015009458,  0.000135085109}},
    {{.part_count = 1, .parts = {{BOMBUS_STEP_DECAY, {1e-3, 0.5, 3}}}},
     {0.001,    0.001,    0.001,    0.0005,    0.0005,    0.0005,    0.00025,    0.00025,    0.00025,    0.000125,   0.000125,   0.000125,
      6.25e-05, 6.25e-05, 6.25e-05, 3.125e-05, 3.125e-05, 3.125e-05, 1.5625e-05, 1.5625e-05, 1.5625e-05, 7.8125e-06, 7.8125e-06, 7.8125e-06}},
    {{.part_count = 3,
      .parts = {{BOMBUS_LINEAR_SCHEDULE, {0, 1e-1, 10}}, {BOMBUS_COSINE_DECAY, {1e-1, 20}}, {BOMBUS_STEP_DECAY, {0.05, 0.5, 2}}},
      .boundaries = {10, 15}},
     {0,            0.00999999978, 0.0199999996, 0.0299999993, 0.0399999991, 0.049999997,  0.0599999987, 0.0700000003,
      0.0799999982, 0.0899999961,  0.100000001,  0.0993844196, 0.0975528285, 0.0945503265, 0.0904508457, 0.0500000007,
      0.0500000007, 0.0250000004,  0.0250000004, 0.0125000002, 0.0125000002, 0.00625000009, 0.00625000009, 0.00312500005}},
};

static void test_rates(void **state)
{
    (void)state;
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        bombus_error error;
        CHECK_OK(bb_schedule_check(&cases[i].schedule, &error), error);
        for (int64_t update = 0; update < UPDATES; update++) {
            double rate = bb_schedule_rate(&cases[i].schedule, 7.0, update), expected = cases[i].rates[update];
            if (!(fabs(rate - expected) <= 1e-6 * fabs(expected) + 1e-10)) /* theirs are f32 */
                fail_msg("case %zu, update %d: %.9g, expected %.9g", i, (int)update, rate, expected);
        }
    }
    assert_true(bb_schedule_rate(&(bombus_schedule){0}, 7.0, 1000) == 7.0);
}

static void test_ranges(void **state)
{
    (void)state;
    const struct {
        bombus_schedule schedule;
        const char *name;
    } wrong[] = {
        {{.part_count = 1, .parts = {{BOMBUS_COSINE_DECAY, {1e-3, 0}}}}, "cosine_decay"},
        {{.part_count = 1, .parts = {{BOMBUS_LINEAR_SCHEDULE, {1e-3, (double)NAN, 8}}}}, "linear_schedule"},
        {{.part_count = 1, .parts = {{BOMBUS_STEP_DECAY, {1e-3, 0.5, 0.5}}}}, "step_decay"},
        {{.part_count = 1, .parts = {{(bombus_schedule_kind)7, {1e-3, 0.5, 0.5}}}}, "kind 7"},
        {{.part_count = 17}, "17 parts"},
        {{.part_count = 1, .parts = {{BOMBUS_EXPONENTIAL_DECAY, {1, 1}}}, .warmup = -1}, "warmup"},
        {{.part_count = 2, .parts = {{BOMBUS_EXPONENTIAL_DECAY, {1, 1}}, {BOMBUS_EXPONENTIAL_DECAY, {1, 1}}}}, "boundary"},
    };
    for (size_t i = 0; i < BB_COUNT(wrong); i++) {
        bombus_error error;
        assert_int_equal(bb_schedule_check(&wrong[i].schedule, &error), BOMBUS_ERROR_ARGUMENT);
        assert_non_null(strstr(error.message, wrong[i].name));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rates), cmocka_unit_test(test_ranges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
