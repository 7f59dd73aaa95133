/* DPO's and ORPO's losses against TRL 1.16's formulas (evaluated in f64), and their slopes by finite differences. */
#include "base/compiler.h"
#include "test.h"
#include "train/preference.h"

static const struct {
    struct bb_answer chosen, rejected;
    double sigmoid, smoothed, hinge, ipo, orpo; /* beta 0.1; 0.5 with smoothing 0.1; 0.3; 0.1; 0.1 */
} cases[] = {
    {{-12.5, -13.0, 5}, {-15.0, -14.25, 7}, 0.632599035317, 0.491200678277, 0.625, 22.9714795918, 0.0910792172532},
    {{-3.0, -2.0, 2}, {-2.5, -4.0, 3}, 0.825939419879, 1.37692908135, 1.75, 36, 0.130188324627},
    {{-200.0, -180.0, 40}, {-90.0, -95.0, 20}, 2.57888973429, 11.2500037266, 8.5, 33.0625, 0.0976824571585},
    {{-0.5, -0.5, 3}, {-30.0, -30.0, 3}, 0.69314718056, 0.69314718056, 1, 25, 8.23408993423e-07},
};

static void check_number(double found, double expected)
{
    if (!(fabs(found - expected) <= 1e-10 * (1.0 + fabs(expected))))
        fail_msg("%.12g, expected %.12g", found, expected);
}

static void test_losses(void **state)
{
    (void)state;
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        const struct bb_answer *chosen = &cases[i].chosen, *rejected = &cases[i].rejected;
        check_number(bb_preference_dpo(chosen, rejected, BOMBUS_DPO_SIGMOID, 0.1, 0.0).loss, cases[i].sigmoid);
        check_number(bb_preference_dpo(chosen, rejected, BOMBUS_DPO_SIGMOID, 0.5, 0.1).loss, cases[i].smoothed);
        check_number(bb_preference_dpo(chosen, rejected, BOMBUS_DPO_HINGE, 0.3, 0.0).loss, cases[i].hinge);
        check_number(bb_preference_dpo(chosen, rejected, BOMBUS_DPO_IPO, 0.1, 0.0).loss, cases[i].ipo);
        check_number(bb_preference_orpo(chosen, rejected, 0.1).loss, cases[i].orpo);
    }
}

static struct bb_preference evaluate(int kind, const struct bb_answer *chosen, const struct bb_answer *rejected)
{
    return kind == 4 ? bb_preference_orpo(chosen, rejected, 0.2)
                     : bb_preference_dpo(chosen, rejected, kind == 3 ? BOMBUS_DPO_SIGMOID : (bombus_dpo_loss)kind, 0.2,
                                         kind == 3 ? 0.25 : 0.0);
}

static void test_slopes(void **state)
{
    (void)state;
    const double step = 1e-5;
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        for (int kind = 0; kind < 5; kind++) {
            struct bb_preference here = evaluate(kind, &cases[i].chosen, &cases[i].rejected);
            for (int side = 0; side < 2; side++) {
                struct bb_answer answers[2][2] = {{cases[i].chosen, cases[i].rejected},
                                                  {cases[i].chosen, cases[i].rejected}};
                answers[0][side].logprob -= step;
                answers[1][side].logprob += step;
                double slope = (evaluate(kind, &answers[1][0], &answers[1][1]).loss -
                                evaluate(kind, &answers[0][0], &answers[0][1]).loss) /
                               (2.0 * step);
                double found = side == 0 ? here.chosen_slope : here.rejected_slope;
                if (!(fabs(found - slope) <= 1e-6 * (1.0 + fabs(slope))))
                    fail_msg("case %zu, loss %d, answer %d: %.9g, expected %.9g", i, kind, side, found, slope);
            }
        }
    }
}

/* Certainty and impossibility give numbers. */
static void test_ends(void **state)
{
    (void)state;
    const struct bb_answer certain = {0.0, 0.0, 3}, impossible = {-1e4, -1.0, 3}, empty = {0};
    for (int kind = 0; kind < 5; kind++) {
        const struct bb_answer *pairs[][2] = {{&certain, &impossible}, {&impossible, &certain}, {&empty, &certain}};
        for (size_t i = 0; i < BB_COUNT(pairs); i++) {
            struct bb_preference found = evaluate(kind, pairs[i][0], pairs[i][1]);
            assert_true(isfinite(found.loss) && isfinite(found.chosen_slope) && isfinite(found.rejected_slope));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_losses), cmocka_unit_test(test_slopes),
                                       cmocka_unit_test(test_ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
