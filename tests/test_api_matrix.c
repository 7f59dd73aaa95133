/* Matrices through bombus.h: packed and unpacked on the caller's memory, multiplied, and those of a model where they lie. */
#include "test.h"

#include <string.h>

enum { ROWS = 3, COLS = 128 };

static const char story_model[] = "models/bombus-stories-28m-4bit";

static void fill(float *values, size_t count)
{
    uint32_t state = 12345;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    static const struct {
        bombus_matrix matrix;
        double tolerance; /* half a step of the codes over [-1, 1), and the rounding of scales */
    } cases[] = {
        {{.mode = "affine", .bits = 4, .group_size = 64, .dtype = "F32"}, 0.14},
        {{.mode = "affine", .bits = 8, .group_size = 32, .dtype = "BF16"}, 0.02},
        {{.mode = "mxfp4", .bits = 4, .group_size = 32}, 0.34},
        {{.mode = "nvfp4", .bits = 4, .group_size = 16}, 0.3},
    };
    float in[ROWS * COLS], out[ROWS * COLS], x[2 * COLS], product[2 * ROWS], expected[2 * ROWS];
    fill(in, ROWS * COLS);
    fill(x, 2 * COLS);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bombus_matrix matrix = cases[i].matrix;
        bombus_error error;
        uint8_t data[ROWS * COLS], scales[ROWS * COLS], biases[ROWS * COLS];
        matrix.rows = ROWS;
        matrix.cols = COLS;
        CHECK_OK(bombus_matrix_measure(&matrix, &error), error);
        assert_int_equal(matrix.data_bytes, ROWS * COLS * matrix.bits / 8);
        assert_true(matrix.scale_bytes > 0 && matrix.scale_bytes <= sizeof scales);
        assert_int_equal(matrix.bias_bytes, strcmp(matrix.mode, "affine") == 0 ? matrix.scale_bytes : 0);
        CHECK_OK(bombus_matrix_quantize(&matrix, in, data, scales, biases, &error), error);
        matrix.data = data;
        matrix.scales = scales;
        matrix.biases = matrix.bias_bytes > 0 ? biases : NULL;
        CHECK_OK(bombus_matrix_dequantize(&matrix, out, &error), error);
        CHECK_NEAR(out, in, ROWS * COLS, cases[i].tolerance);
        for (size_t j = 0; j < 2; j++)
            for (size_t row = 0; row < ROWS; row++) {
                double sum = 0.0;
                for (size_t k = 0; k < COLS; k++)
                    sum += (double)out[row * COLS + k] * (double)x[j * COLS + k];
                expected[j * ROWS + row] = (float)sum;
            }
        CHECK_OK(bombus_matrix_multiply(&matrix, x, 2, product, &error), error);
        CHECK_NEAR(product, expected, 2 * ROWS, 1e-6);
    }
}

static void test_of_a_model(void **state)
{
    (void)state;
    bombus_error error;
    bombus_model *model;
    bombus_matrix matrix;
    CHECK_OK(bombus_model_open(&model, story_model, NULL, &error), error);
    CHECK_OK(bombus_model_get_matrix(model, "model.layers.0.self_attn.q_proj", &matrix, &error), error);
    assert_string_equal(matrix.mode, "affine");
    assert_int_equal(matrix.bits, 4);
    assert_int_equal(matrix.group_size, 64);
    assert_int_equal(matrix.rows, 512);
    assert_int_equal(matrix.cols, 512);
    assert_int_equal(matrix.data_bytes, 512 * 512 / 2);
    assert_int_equal(matrix.scale_bytes, 512 * 8 * 2);
    float *values = malloc(512 * 512 * sizeof *values);
    assert_non_null(values);
    CHECK_OK(bombus_matrix_dequantize(&matrix, values, &error), error);
    double largest = 0.0;
    for (size_t i = 0; i < 512 * 512; i++)
        largest = fmax(largest, fabs((double)values[i]));
    assert_true(largest > 0.01 && largest < 10.0);
    free(values);
    assert_int_not_equal(bombus_model_get_matrix(model, "model.layers.99.self_attn.q_proj", &matrix, &error), BOMBUS_OK);
    assert_non_null(strstr(error.message, "model.layers.99.self_attn.q_proj"));
    bombus_model_close(model);
}

static void check_argument(bombus_status status, const bombus_error *error, const char *name)
{
    assert_int_equal(status, BOMBUS_ERROR_ARGUMENT);
    assert_true(strncmp(error->message, name, strlen(name)) == 0);
}

static void test_wrong_arguments(void **state)
{
    (void)state;
    bombus_error error;
    float value = 0.0f;
    bombus_matrix matrix = {.mode = "affine", .bits = 4, .group_size = 64, .dtype = "F32", .rows = 1, .cols = 64};
    bombus_matrix wrong = matrix;
    wrong.mode = "q4_0";
    check_argument(bombus_matrix_measure(&wrong, &error), &error, "mode");
    wrong = matrix;
    wrong.bits = 7;
    check_argument(bombus_matrix_measure(&wrong, &error), &error, "bits");
    wrong = matrix;
    wrong.cols = 65;
    check_argument(bombus_matrix_measure(&wrong, &error), &error, "group_size");
    wrong = matrix;
    wrong.dtype = "I8";
    check_argument(bombus_matrix_measure(&wrong, &error), &error, "dtype");
    wrong = matrix;
    wrong.rows = 0;
    check_argument(bombus_matrix_measure(&wrong, &error), &error, "matrix");
    check_argument(bombus_matrix_measure(NULL, &error), &error, "matrix");
    check_argument(bombus_matrix_dequantize(&matrix, &value, &error), &error, "data");
    check_argument(bombus_matrix_quantize(&matrix, NULL, &value, &value, &value, &error), &error, "in");
    matrix.mode = NULL;
    check_argument(bombus_matrix_quantize(&matrix, &value, &value, NULL, NULL, &error), &error, "mode");
    matrix.data = &value;
    check_argument(bombus_matrix_multiply(&matrix, NULL, 1, &value, &error), &error, "x");
    check_argument(bombus_model_get_matrix(NULL, "x", &matrix, &error), &error, "model");
}

static void test_devices(void **state)
{
    (void)state;
    size_t count = 0;
    while (bombus_device_name(count) != NULL)
        count++;
    assert_true(count > 0);
    assert_string_equal(bombus_device_name(count - 1), "cpu");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_of_a_model),
                                       cmocka_unit_test(test_wrong_arguments), cmocka_unit_test(test_devices)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
