/* Gradient slots by themselves: products through every scheme of weights, on every level, against sums in double. */
#include "test.h"

#include "backend/cpu/kernels/kernels.h"
#include "backend_fixture.h"

enum { ROWS = 71, COLS = 320, X_ROWS = 13 };

struct packed {
    uint8_t codes[ROWS * COLS * 4];
    float scales[ROWS * COLS / 16], biases[ROWS * COLS / 16];
};

static struct bb_weight pack(struct packed *packed, const float *values, struct bb_scheme scheme)
{
    const struct bb_quant_mode *mode = bb_quant_mode_of(scheme.mode);
    struct bb_weight weight = {.data = packed->codes, .dtype = BB_F32, .scheme = scheme, .rows = ROWS, .cols = COLS};
    if (mode == NULL) {
        memcpy(packed->codes, values, ROWS * COLS * sizeof *values);
        return weight;
    }
    weight.scales = packed->scales;
    weight.biases = mode->has_biases ? packed->biases : NULL;
    weight.dtype = scheme.mode == BB_QUANT_AFFINE ? BB_F32 : BB_U8;
    for (int64_t r = 0; r < ROWS; r++) {
        struct bb_packed_row row = {.codes = packed->codes + (size_t)r * bb_weight_row_bytes(&weight),
                                    .scales = (char *)packed->scales + (size_t)r * bb_weight_scale_row_bytes(&weight),
                                    .biases = mode->has_biases ? (char *)packed->biases + (size_t)r * bb_weight_scale_row_bytes(&weight) : NULL,
                                    .dtype = weight.dtype};
        mode->pack_row(scheme, values + r * COLS, COLS, row);
    }
    return weight;
}

static void test_linear_grad(void **state)
{
    (void)state;
    static const struct bb_scheme schemes[] = {{BB_QUANT_NONE, 0, 0},       {BB_QUANT_AFFINE, 2, 32}, {BB_QUANT_AFFINE, 3, 64}, {BB_QUANT_AFFINE, 4, 32},
                                               {BB_QUANT_AFFINE, 4, 64},    {BB_QUANT_AFFINE, 5, 64}, {BB_QUANT_AFFINE, 6, 32}, {BB_QUANT_AFFINE, 8, 64},
                                               {BB_QUANT_MXFP4, 4, 32},     {BB_QUANT_MXFP8, 8, 32},  {BB_QUANT_NVFP4, 4, 16}};
    static struct packed packed;
    static float values[ROWS * COLS], d_out[X_ROWS * ROWS], d_x[X_ROWS * COLS], expected[X_ROWS * COLS], row[COLS];
    fill_random(values, ROWS * COLS, 1, 1.0f);
    fill_random(d_out, X_ROWS * ROWS, 2, 1.0f);
    for (size_t s = 0; s < BB_COUNT(schemes); s++) {
        struct bb_linear linear = {.weight = pack(&packed, values, schemes[s]), .slot = -1};
        double sums[X_ROWS * COLS] = {0};
        for (int64_t r = 0; r < ROWS; r++) {
            bb_quant_unpack_row(&linear.weight, r, row);
            for (int64_t i = 0; i < X_ROWS * COLS; i++)
                sums[i] += (double)d_out[i / COLS * ROWS + r] * (double)row[i % COLS];
        }
        for (int64_t i = 0; i < X_ROWS * COLS; i++)
            expected[i] = (float)sums[i];
        for (int32_t level = 0; bb_kernels_level_name(level) != NULL; level++) {
            struct bb_backend *backend = open_cpu(bb_kernels_level_name(level), 2);
            for (int i = 0; i < 4; i++) { /* written, then added; exact, then fast */
                struct bb_linear_grad_call call = {.linear = &linear,
                                                   .d_out = matrix(d_out, X_ROWS, ROWS),
                                                   .d_x = matrix(d_x, X_ROWS, COLS),
                                                   .adds = i % 2 == 1,
                                                   .is_exact = i < 2};
                CHECK_STATUS(backend->table->linear_grad(backend, &call, &fixture_error));
                for (int64_t k = 0; k < X_ROWS * COLS && i % 2 == 1; k++)
                    d_x[k] *= 0.5f;
                CHECK_NEAR(d_x, expected, X_ROWS * COLS, i < 2 ? 2e-5 : 0.1);
            }
            bb_backend_close(backend);
        }
    }
}

/* glu: differences of the forward slot. */
static void test_glu_grad(void **state)
{
    (void)state;
    enum { COUNT = 203 };
    static float gate[COUNT], up[COUNT], d_out[COUNT], d_gate[COUNT], d_up[COUNT], expected[2][COUNT], moved[COUNT], out[2][COUNT];
    fill_random(gate, COUNT, 1, 9.0f);
    fill_random(up, COUNT, 2, 9.0f);
    fill_random(d_out, COUNT, 3, 1.0f);
    const float step = 1e-2f;
    for (int32_t i = 0; i < COUNT; i++) /* away from the corners of the clipped one */
        for (float *entry = &gate[i], *end = NULL; entry != end; entry = entry == &gate[i] ? &up[i] : end)
            if (fabsf(fabsf(*entry) - 7.0f) < 2.0f * step)
                *entry += 5.0f * step;
    for (int32_t level = 0; bb_kernels_level_name(level) != NULL; level++) {
        struct bb_backend *backend = open_cpu(bb_kernels_level_name(level), 2), *reference = open_cpu("reference", 1);
        for (enum bb_activation activation = BB_SILU; activation <= BB_SWIGLU_CLIPPED; activation++) {
            for (int which = 0; which < 2; which++) {
                for (int side = 0; side < 2; side++) {
                    memcpy(moved, which == 0 ? gate : up, sizeof moved);
                    for (int32_t i = 0; i < COUNT; i++)
                        moved[i] += side == 0 ? step : -step;
                    CHECK_STATUS(reference->table->glu(reference, activation, matrix(which == 0 ? moved : gate, 1, COUNT),
                                                       matrix(which == 0 ? up : moved, 1, COUNT), matrix(out[side], 1, COUNT), &fixture_error));
                }
                for (int32_t i = 0; i < COUNT; i++)
                    expected[which][i] = d_out[i] * (out[0][i] - out[1][i]) / (2.0f * step);
            }
            CHECK_STATUS(backend->table->glu_grad(backend, activation, matrix(gate, 1, COUNT), matrix(up, 1, COUNT), matrix(d_out, 1, COUNT),
                                                  matrix(d_gate, 1, COUNT), matrix(d_up, 1, COUNT), &fixture_error));
            CHECK_NEAR(d_gate, expected[0], COUNT, 3e-3);
            CHECK_NEAR(d_up, expected[1], COUNT, 3e-3);
        }
        bb_backend_close(backend);
        bb_backend_close(reference);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_linear_grad), cmocka_unit_test(test_glu_grad)};
    return cmocka_run_group_tests_name("gradients", tests, NULL, NULL);
}
