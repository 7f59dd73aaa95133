/* Optimizers against values of mlx.optimizers 0.32.4 (CPU), the same bits for any thread count, and what is out of range. */
#include "base/memory.h"
#include "test.h"
#include "train/optimizer.h"
#include "train/orthogonalize.h"

#include <string.h>

/* Value i of array k (0: parameters, then the gradients of each step). */
static float value_at(size_t i, size_t k)
{
    return (float)((double)((long)((i * 37 + k * 101) % 23) - 11) / 7.0);
}

enum { STEPS = 3 };

struct expectation {
    const char *name;
    bombus_optimizer kind;
    bombus_optimizer_options options;
    int32_t rank;
    int64_t shape[3];
    float values[6];
};

static const struct expectation expectations[] = {
    {"adam", BOMBUS_ADAM, {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8}, 2, {3, 2},
     {-1.4084208f, 1.1705482f, -0.684326887f, 1.89534545f, -0.620716929f, -1.40310705f}},
    {"adam, bias correction", BOMBUS_ADAM, {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .bias_correction = true}, 2, {3, 2},
     {-1.50990403f, 0.62579149f, -0.85068357f, 1.33475494f, -0.276771992f, -1.39658391f}},
    {"adamw", BOMBUS_ADAMW, {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.05}, 2, {3, 2},
     {-1.3869921f, 1.15931368f, -0.66953063f, 1.87456787f, -0.615240633f, -1.38354743f}},
    {"sgd", BOMBUS_SGD, {.momentum = 0.0}, 2, {3, 2},
     {-1.54285705f, 0.514285684f, -0.714285731f, 1.34285724f, -0.214285731f, -1.44285715f}},
    {"sgd, momentum", BOMBUS_SGD, {.momentum = 0.9, .weight_decay = 0.02, .dampening = 0.1}, 2, {3, 2},
     {-1.56691277f, 0.765365779f, -0.658591628f, 1.40807641f, -0.311595291f, -1.49751365f}},
    {"sgd, nesterov", BOMBUS_SGD, {.momentum = 0.8, .nesterov = true}, 2, {3, 2},
     {-1.55108571f, 0.782171428f, -0.548799932f, 1.57417142f, -0.348228574f, -1.51097155f}},
    {"muon, tall", BOMBUS_MUON, {.momentum = 0.95, .weight_decay = 0.01, .nesterov = true, .ns_steps = 5}, 2, {3, 2},
     {-1.4933778f, 0.573381901f, -0.752735317f, 1.31563389f, -0.304232836f, -1.44829774f}},
    {"muon, wide", BOMBUS_MUON, {.momentum = 0.9, .ns_steps = 3}, 2, {2, 3},
     {-1.51306665f, 0.584969997f, -0.792064369f, 1.3520031f, -0.170446113f, -1.51218724f}},
    {"muon, a vector", BOMBUS_MUON, {.momentum = 0.95, .weight_decay = 0.01, .nesterov = true, .ns_steps = 5}, 1, {6},
     {-1.56997228f, 0.451858431f, -0.839529872f, 1.16747713f, -0.155946836f, -1.43325567f}},
    {"muon, three dimensions", BOMBUS_MUON, {.momentum = 0.95, .weight_decay = 0.01, .nesterov = true, .ns_steps = 5}, 3,
     {2, 3, 1},
     {-1.52457404f, 0.630708516f, -0.713751793f, 1.3655591f, -0.125016987f, -1.58238363f}},
};

/* Place in memory of entry i of the file, where memory holds the transposed matrix. */
static size_t place_of(const struct expectation *expected, bool is_transposed, size_t i)
{
    size_t rows = (size_t)expected->shape[0], columns = (size_t)expected->shape[1];
    return is_transposed ? i % columns * rows + i / columns : i;
}

static void check(const struct expectation *expected, bool is_transposed)
{
    float values[6], gradients[6], found[6];
    bombus_error error;
    struct bb_optimizer optimizer;
    struct bb_parameter parameter = {.value = values, .gradient = gradients, .count = 6, .rank = expected->rank,
                                     .is_transposed = is_transposed};
    memcpy(parameter.shape, expected->shape, sizeof parameter.shape);
    for (size_t i = 0; i < 6; i++)
        values[place_of(expected, is_transposed, i)] = value_at(i, 0);
    CHECK_OK(bb_optimizer_check(expected->kind, &expected->options, &error), error);
    CHECK_OK(bb_optimizer_init(&optimizer, expected->kind, &expected->options, &parameter, 1, NULL, &error), error);
    for (size_t step = 1; step <= STEPS; step++) {
        for (size_t i = 0; i < 6; i++) /* as sums over two batches */
            gradients[place_of(expected, is_transposed, i)] = 2.0f * value_at(i, step);
        bb_optimizer_step(&optimizer, &parameter, 1, 0.1, 0.5);
    }
    for (size_t i = 0; i < 6; i++)
        found[i] = values[place_of(expected, is_transposed, i)];
    print_message("  %s%s\n", expected->name, is_transposed ? ", transposed in memory" : "");
    CHECK_NEAR(found, expected->values, 6, 2e-6);
    assert_int_equal(optimizer.updates, STEPS);
    bb_optimizer_clear(&optimizer);
}

static void test_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < BB_COUNT(expectations); i++) {
        check(&expectations[i], false);
        if (expectations[i].rank == 2)
            check(&expectations[i], true);
    }
}

/* Two parameters of odd sizes, larger than a chunk. */
static void run_threads(bombus_optimizer kind, int32_t thread_count, float *values, double *squares)
{
    enum { FIRST = 300 * 131, SECOND = 17 * 4001, COUNT = FIRST + SECOND };
    bombus_error error;
    struct bb_pool *pool = NULL;
    struct bb_optimizer optimizer;
    bombus_optimizer_options options = bb_optimizer_defaults(kind);
    float *gradients = bb_allocate(COUNT, sizeof(float));
    struct bb_parameter parameters[2] = {
        {.value = values, .gradient = gradients, .count = FIRST, .rank = 2, .shape = {300, 131}},
        {.value = values + FIRST, .gradient = gradients + FIRST, .count = SECOND, .rank = 2, .shape = {17, 4001}},
    };
    if (thread_count > 0)
        CHECK_OK(bb_pool_create(&pool, thread_count, &error), error);
    CHECK_OK(bb_optimizer_init(&optimizer, kind, &options, parameters, 2, pool, &error), error);
    for (size_t i = 0; i < COUNT; i++)
        values[i] = value_at(i, 0);
    for (size_t step = 1; step <= 2; step++) {
        for (size_t i = 0; i < COUNT; i++)
            gradients[i] = value_at(i, step) * (float)(i % 11);
        bb_optimizer_step(&optimizer, parameters, 2, 0.01, 1.0);
    }
    *squares = bb_sum_squares(pool, gradients, COUNT);
    bb_optimizer_clear(&optimizer);
    bb_pool_free(pool);
    bb_release(gradients);
}

static void test_threads(void **state)
{
    (void)state;
    enum { COUNT = 300 * 131 + 17 * 4001 };
    static float one[COUNT], more[COUNT];
    for (int kind = BOMBUS_ADAM; kind <= BOMBUS_MUON; kind++) {
        double one_squares, more_squares, expected = 0.0;
        run_threads((bombus_optimizer)kind, 0, one, &one_squares);
        run_threads((bombus_optimizer)kind, 3, more, &more_squares);
        assert_memory_equal(one, more, sizeof one);
        assert_memory_equal(&one_squares, &more_squares, sizeof one_squares);
        for (size_t i = 0; i < COUNT; i++) {
            float gradient = value_at(i, 2) * (float)(i % 11);
            expected += (double)gradient * (double)gradient;
        }
        assert_true(fabs(one_squares - expected) <= 1e-12 * expected);
    }
    one[7] = NAN;
    double squares = bb_sum_squares(NULL, one, COUNT);
    assert_true(squares != squares);
}

/* All singular values near 1: the rows of the short side become nearly orthogonal. */
static void test_orthogonal(void **state)
{
    (void)state;
    const struct bb_matrix_shape shapes[] = {{8, 100}, {100, 8}, {1, 5}, {5, 1}, {33, 33}};
    for (size_t s = 0; s < BB_COUNT(shapes); s++) {
        struct bb_matrix_shape shape = shapes[s];
        float matrix[1100], scratch[4 * 1100];
        assert_true(bb_orthogonalize_scratch(shape) <= BB_COUNT(scratch));
        for (size_t i = 0; i < shape.rows * shape.columns; i++)
            matrix[i] = (float)sin((double)(i * i + 3 * i));
        bb_orthogonalize(matrix, shape, 5, scratch, NULL);
        size_t side = shape.rows < shape.columns ? shape.rows : shape.columns;
        double trace = 0.0;
        for (size_t i = 0; i < shape.rows * shape.columns; i++)
            trace += (double)matrix[i] * (double)matrix[i];
        assert_true(trace > 0.4 * (double)side && trace < 1.5 * (double)side);
    }
}

static void test_ranges(void **state)
{
    (void)state;
    const struct {
        bombus_optimizer kind;
        bombus_optimizer_options options;
        const char *name;
    } cases[] = {
        {BOMBUS_ADAM, {.beta1 = 1.0, .beta2 = 0.9}, "beta1"},
        {BOMBUS_ADAMW, {.beta1 = 0.9, .beta2 = -0.1}, "beta2"},
        {BOMBUS_ADAM, {.beta1 = 0.9, .beta2 = 0.9, .eps = (double)NAN}, "eps"},
        {BOMBUS_SGD, {.momentum = 1.5}, "momentum"},
        {BOMBUS_SGD, {.nesterov = true}, "nesterov"},
        {BOMBUS_MUON, {.ns_steps = -1}, "ns_steps"},
        {BOMBUS_SGD, {.weight_decay = -1.0}, "weight_decay"},
        {(bombus_optimizer)9, {.momentum = 0.0}, "optimizer"},
    };
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        bombus_error error;
        assert_int_equal(bb_optimizer_check(cases[i].kind, &cases[i].options, &error), BOMBUS_ERROR_ARGUMENT);
        assert_non_null(strstr(error.message, cases[i].name));
    }
}

/* Each allocation may fail. */
static void test_memory(void **state)
{
    (void)state;
    struct bb_parameter parameter = {.count = 6, .rank = 2, .shape = {3, 2}};
    for (int kind = BOMBUS_ADAM; kind <= BOMBUS_MUON; kind++) {
        bombus_optimizer_options options = bb_optimizer_defaults((bombus_optimizer)kind);
        for (uint64_t at = 1; at <= 2; at++) {
            struct bb_optimizer optimizer;
            bombus_error error;
            bb_memory_fail_at(at, false);
            bombus_status status =
                bb_optimizer_init(&optimizer, (bombus_optimizer)kind, &options, &parameter, 1, NULL, &error);
            bb_memory_fail_at(0, false);
            assert_true(status == BOMBUS_OK || status == BOMBUS_ERROR_MEMORY);
            assert_int_equal(status == BOMBUS_OK, kind == BOMBUS_SGD);
            bb_optimizer_clear(&optimizer);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_threads), cmocka_unit_test(test_orthogonal),
        cmocka_unit_test(test_ranges), cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
