/* Every slot of the CPU table on every level of kernels that this machine runs, against plain arithmetic in double
 * or the reference level; and that a row's result does not depend, to the last bit, on the rows beside it, on the
 * cut of the prompt, or on the number of threads. */
#include "test.h"

#include "backend/cpu/kernels/kernels.h"
#include "base/memory.h"
#include "base/random.h"
#include "ops/backends.h"
#include "backend_fixture.h"

#include <string.h>

static void test_open(void **state)
{
    (void)state;
    struct bb_backend *backend;
    bombus_error error;
    assert_int_equal(bb_backend_open(&backend, "toaster", NULL, &error), BOMBUS_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "cpu"));
    struct bb_backend_options wrong_level = {.cpu_level = "avx9000"}, wrong_threads = {.thread_count = -1};
    assert_int_equal(bb_backend_open(&backend, NULL, &wrong_level, &error), BOMBUS_ERROR_UNSUPPORTED);
    assert_int_equal(bb_backend_open(&backend, "auto", &wrong_threads, &error), BOMBUS_ERROR_ARGUMENT);
    assert_null(backend);
    for (uint64_t n = 1;; n++) {
        bb_memory_fail_at(n, n % 2 == 0);
        bombus_status status =
            bb_backend_open(&backend, "cpu", &(struct bb_backend_options){.thread_count = 3}, &error);
        bb_memory_fail_at(0, false);
        if (status == BOMBUS_OK)
            break;
        assert_int_equal(status, BOMBUS_ERROR_MEMORY);
        assert_null(backend);
    }
    assert_non_null(strstr(bb_backend_describe(backend), "3 threads"));
    bb_backend_close(backend);
    bb_backend_close(NULL);
}

static void test_memory(void **state)
{
    (void)state;
    struct bb_backend *backend = open_cpu(NULL, 1);
    bombus_error error;
    static const size_t sizes[] = {0, 1, 4096, (1 << 20) + 5, (size_t)1 << 36};
    for (size_t i = 0; i < BB_COUNT(sizes); i++) {
        char *memory;
        char byte = 7, back = 0;
        CHECK_OK(backend->table->allocate(backend, sizes[i], (void **)&memory, &error), error);
        assert_int_equal((uintptr_t)memory % 64, 0);
        if (sizes[i] > 0) {
            CHECK_OK(backend->table->upload(backend, memory + sizes[i] - 1, &byte, 1, &error), error);
            CHECK_OK(backend->table->download(backend, &back, memory + sizes[i] - 1, 1, &error), error);
            assert_int_equal(back, 7);
        }
        backend->table->release(backend, memory);
    }
    void *memory;
    assert_int_equal(backend->table->allocate(backend, SIZE_MAX, &memory, &error), BOMBUS_ERROR_MEMORY);
    bb_memory_fail_at(1, false);
    assert_int_equal(backend->table->allocate(backend, 10, &memory, &error), BOMBUS_ERROR_MEMORY);
    bb_memory_fail_at(0, false);
    bb_backend_close(backend);
}

/* ---- rows ---- */

static const int32_t row_sizes[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 80, 127, 128, 1000};

static void test_norm(void **state)
{
    (void)state;
    static const enum bb_dtype dtypes[] = {BB_F32, BB_F16, BB_BF16};
    static float x[4][1024], out[4][1024], weights[1024], expected[1024];
    static uint16_t halves[1024];
    for (int level = 0; bb_kernels_level_name(level) != NULL; level++) {
        struct bb_backend *backend = open_cpu(bb_kernels_level_name(level), 2);
        for (size_t s = 0; s < BB_COUNT(row_sizes) * 8; s++) {
            int32_t size = row_sizes[s / 8];
            struct bb_norm norm = {
                .weight = halves, .dtype = dtypes[s % 3], .size = size, .eps = 1e-5f, .is_plus_one = s % 2 == 0};
            fill_random(weights, 1024, s, 1.0f);
            fill_random(x[0], (size_t)size * 4, s + 1, s % 5 == 0 ? 1e6f : 2.0f);
            for (int32_t i = 0; i < size; i++) {
                if (norm.dtype == BB_F32)
                    norm.weight = weights;
                else
                    halves[i] = norm.dtype == BB_F16 ? bb_f32_to_f16(weights[i]) : bb_f32_to_bf16(weights[i]);
            }
            if (s % 8 == 7)
                norm.weight = NULL;
            struct bb_tensor from = matrix(x[0], 4, size), to = matrix(out[0], 4, size);
            CHECK_STATUS(backend->table->norm(backend, &norm, from, to, &fixture_error));
            for (int row = 0; row < 4; row++) {
                const float *in = x[0] + row * size;
                double sum = 0.0;
                for (int32_t i = 0; i < size; i++)
                    sum += (double)in[i] * (double)in[i];
                for (int32_t i = 0; i < size; i++) {
                    double weight =
                        norm.weight != NULL ? (double)bb_dtype_load(norm.weight, norm.dtype, (size_t)i) : 1.0;
                    expected[i] =
                        (float)((double)in[i] / sqrt(sum / size + 1e-5) * (norm.is_plus_one ? 1.0 + weight : weight));
                }
                CHECK_NEAR(out[0] + row * size, expected, (size_t)size, 4e-6 * sqrt((double)size));
            }
            CHECK_STATUS(backend->table->norm(backend, &norm, from, from, &fixture_error));
            assert_memory_equal(x, out, (size_t)size * 4 * sizeof(float));
        }
        bb_backend_close(backend);
    }
}

static void test_rope(void **state)
{
    (void)state;
    static float frequencies[128], x[4 * 3 * 256], expected[4 * 3 * 256];
    static const int32_t positions[] = {0, 1, 4097, 131071};
    static const int32_t dims[][2] = {{128, 128}, {64, 16}, {80, 80}, {96, 48}, {20, 6}, {2, 2}, {256, 256}};
    for (int level = 0; bb_kernels_level_name(level) != NULL; level++) {
        struct bb_backend *backend = open_cpu(bb_kernels_level_name(level), 2);
        for (size_t c = 0; c < BB_COUNT(dims) * 2; c++) {
            int32_t head_dim = dims[c / 2][0];
            struct bb_rope rope = {.inverse_frequencies = frequencies,
                                   .dims = dims[c / 2][1],
                                   .amplitude = 1.25f,
                                   .is_traditional = c % 2};
            struct bb_batch batch = {.row_count = 4, .positions = positions};
            for (int32_t i = 0; i < rope.dims / 2; i++)
                frequencies[i] = (float)pow(1e6, -2.0 * i / rope.dims);
            fill_random(x, BB_COUNT(x), c, 1.0f);
            memcpy(expected, x, sizeof x);
            for (int32_t head = 0; head < 12; head++)
                for (int32_t i = 0; i < rope.dims / 2; i++) {
                    float *first = expected + head * head_dim + (rope.is_traditional ? 2 * i : i);
                    float *second = first + (rope.is_traditional ? 1 : rope.dims / 2);
                    double angle = (double)((float)positions[head / 3] * frequencies[i]), a = (double)*first,
                           b = (double)*second;
                    *first = (float)(1.25 * (a * cos(angle) - b * sin(angle)));
                    *second = (float)(1.25 * (b * cos(angle) + a * sin(angle)));
                }
            CHECK_STATUS(backend->table->rope(backend, &rope, 3, matrix(x, 4, 3 * head_dim), &batch, &fixture_error));
            CHECK_NEAR(x, expected, BB_COUNT(x), 1e-6);
        }
        bb_backend_close(backend);
    }
}

static double activate(enum bb_activation activation, double g, double u)
{
    switch (activation) {
    case BB_SILU: return g / (1.0 + exp(-g)) * u;
    case BB_GELU_TANH: return 0.5 * g * (1.0 + tanh(0.79788456080286536 * (g + 0.044715 * g * g * g))) * u;
    case BB_GELU_ERF: return 0.5 * g * (1.0 + erf(g * 0.70710678118654752)) * u;
    case BB_SWIGLU_CLIPPED:
        g = fmin(g, 7.0);
        u = fmax(fmin(u, 7.0), -7.0);
        return g / (1.0 + exp(-1.702 * g)) * (u + 1.0);
    }
    return 0.0;
}

static void test_entries(void **state)
{
    (void)state;
    enum { COUNT = 40000 };
    static float a[COUNT], b[COUNT], out[COUNT], expected[COUNT];
    fill_random(a, COUNT, 3, 9.0f);
    fill_random(b, COUNT, 4, 9.0f);
    for (int level = 0; bb_kernels_level_name(level) != NULL; level++) {
        struct bb_backend *backend = open_cpu(bb_kernels_level_name(level), 3);
        for (size_t s = 0; s <= BB_COUNT(row_sizes); s++) {
            int32_t count = s < BB_COUNT(row_sizes) ? row_sizes[s] : COUNT;
            for (int activation = BB_SILU; activation <= BB_SWIGLU_CLIPPED; activation++) {
                for (int32_t i = 0; i < count; i++)
                    expected[i] = (float)activate((enum bb_activation)activation, (double)a[i], (double)b[i]);
                CHECK_STATUS(backend->table->glu(backend, (enum bb_activation)activation, matrix(a, 1, count),
                                                 matrix(b, 1, count), matrix(out, 1, count), &fixture_error));
                CHECK_NEAR(out, expected, (size_t)count, 3e-5);
            }
            for (int32_t i = 0; i < count; i++)
                expected[i] = (float)((double)a[i] + 0.22 * (double)b[i]);
            CHECK_STATUS(backend->table->add(backend, matrix(a, 1, count), matrix(b, 1, count), 0.22f,
                                             matrix(out, 1, count), &fixture_error));
            CHECK_NEAR(out, expected, (size_t)count, 2e-6);
            for (int32_t i = 0; i < count; i++)
                expected[i] = (float)(3.0 * tanh(0.7 * (double)a[i] / 3.0));
            memcpy(out, a, sizeof out);
            CHECK_STATUS(backend->table->scale(backend, 0.7f, 3.0f, matrix(out, 1, count), &fixture_error));
            CHECK_NEAR(out, expected, (size_t)count, 1e-6);
            memcpy(out, a, sizeof out);
            CHECK_STATUS(backend->table->scale(backend, 0.5f, 0.0f, matrix(out, 1, count), &fixture_error));
            for (int32_t i = 0; i < count; i++)
                assert_true(out[i] == a[i] * 0.5f);
        }
        bb_backend_close(backend);
    }
}

/* What no finite input may spoil: huge gates, and that NaN stays to be seen. */
static void test_entries_at_the_edges(void **state)
{
    (void)state;
    static float a[] = {-1e30f, -200.0f, -88.0f, 0.0f,    -0.0f, 88.0f,  200.0f, 1e30f, NAN,
                        100.0f, -100.0f, 1e-30f, -1e-30f, 90.0f, -90.0f, 1.0f,   NAN};
    static float b[BB_COUNT(a)], out[BB_COUNT(a)];
    for (size_t i = 0; i < BB_COUNT(a); i++)
        b[i] = 1.0f;
    for (int level = 0; bb_kernels_level_name(level) != NULL; level++) {
        struct bb_backend *backend = open_cpu(bb_kernels_level_name(level), 1);
        int32_t count = (int32_t)BB_COUNT(a);
        for (int activation = BB_SILU; activation <= BB_SWIGLU_CLIPPED; activation++) {
            CHECK_STATUS(backend->table->glu(backend, (enum bb_activation)activation, matrix(a, 1, count),
                                             matrix(b, 1, count), matrix(out, 1, count), &fixture_error));
            for (int32_t i = 0; i < count; i++) {
                double expected = activate((enum bb_activation)activation, (double)a[i], 1.0);
                if (isnan(a[i]))
                    assert_true(activation == BB_SWIGLU_CLIPPED || isnan(out[i]));
                else
                    assert_true(fabs((double)out[i] - expected) <= 1e-5 + 1e-6 * fabs(expected));
            }
        }
        memcpy(out, a, sizeof out);
        CHECK_STATUS(backend->table->scale(backend, 1.0f, 30.0f, matrix(out, 1, count), &fixture_error));
        for (int32_t i = 0; i < count; i++)
            assert_true(isnan(a[i]) ? isnan(out[i]) : fabs((double)out[i] - 30.0 * tanh((double)a[i] / 30.0)) < 1e-5);
        bb_backend_close(backend);
    }
}

static void test_gather(void **state)
{
    (void)state;
    struct bb_backend *backend = open_cpu(NULL, 2);
    float x[12], out[9];
    static const int32_t rows[] = {3, 0, 3}, wrong[] = {4};
    fill_random(x, 12, 1, 1.0f);
    CHECK_STATUS(backend->table->gather(backend, matrix(x, 4, 3), rows, 3, matrix(out, 3, 3), &fixture_error));
    for (int i = 0; i < 9; i++)
        assert_true(out[i] == x[rows[i / 3] * 3 + i % 3]);
    assert_int_equal(backend->table->gather(backend, matrix(x, 4, 3), wrong, 1, matrix(out, 1, 3), &fixture_error),
                     BOMBUS_ERROR_ARGUMENT);
    bb_backend_close(backend);
}

/* ---- attention ---- */

static const struct attention_case attention_cases[] = {
    {.heads = 4, .kv_heads = 2, .head_dim = 64, .length = 200},
    {.heads = 1, .kv_heads = 1, .head_dim = 32, .length = 1100}, /* several segments */
    {.heads = 9, .kv_heads = 3, .head_dim = 80, .length = 150},
    {.heads = 6, .kv_heads = 1, .head_dim = 96, .length = 90, .window = 17}, /* multi-query */
    {.heads = 71, .kv_heads = 1, .head_dim = 48, .length = 70},              /* more heads than a tile has rows */
    {.heads = 14, .kv_heads = 2, .head_dim = 20, .length = 100, .window = 70, .keep = 4},
    {.heads = 3, .kv_heads = 3, .head_dim = 7, .length = 140, .softcap = 2.5f},
    {.heads = 2, .kv_heads = 1, .head_dim = 256, .length = 70, .softcap = 50.0f, .window = 33},
    {.heads = 8, .kv_heads = 2, .head_dim = 64, .length = 150, .window = 128, .has_sinks = true},
    {.heads = 1, .kv_heads = 1, .head_dim = 32, .length = 600, .window = 40, .keep = 4, .page_size = 16},
    {.heads = 1, .kv_heads = 1, .head_dim = 16, .length = 530, .page_size = 128},
    {.heads = 5, .kv_heads = 1, .head_dim = 128, .length = 130, .type = BB_KV_F16},
    {.heads = 3, .kv_heads = 1, .head_dim = 40, .length = 80, .type = BB_KV_F16, .window = 9},
    {.heads = 4, .kv_heads = 2, .head_dim = 128, .length = 150, .type = BB_KV_Q8, .group_size = 64},
    {.heads = 4, .kv_heads = 2, .head_dim = 64, .length = 150, .type = BB_KV_Q4, .group_size = 64},
    {.heads = 1,
     .kv_heads = 1,
     .head_dim = 64,
     .length = 550,
     .type = BB_KV_Q4,
     .group_size = 32,
     .window = 100,
     .keep = 4},
    {.heads = 2, .kv_heads = 1, .head_dim = 96, .length = 100, .type = BB_KV_Q8, .group_size = 32, .has_sinks = true},
    {.heads = 4, .kv_heads = 2, .head_dim = 128, .length = 90, .type = BB_KV_Q8, .group_size = 128},
    {.heads = 2, .kv_heads = 1, .head_dim = 256, .length = 70, .type = BB_KV_Q4, .group_size = 128},
    {.heads = 4, .kv_heads = 2, .head_dim = 128, .length = 90, .type = BB_KV_Q4, .group_size = 32},
    {.heads = 6, .kv_heads = 2, .head_dim = 96, .length = 75, .type = BB_KV_Q4, .group_size = 32}, /* 3, 5 and 6 rows a token */
    {.heads = 5, .kv_heads = 1, .head_dim = 64, .length = 75, .type = BB_KV_Q8, .group_size = 64},
    {.heads = 6, .kv_heads = 1, .head_dim = 160, .length = 75, .type = BB_KV_Q8, .group_size = 32},
    {.heads = 8, .kv_heads = 1, .head_dim = 64, .length = 75, .type = BB_KV_Q4, .group_size = 64}, /* 8 and 12 rows a token */
    {.heads = 12, .kv_heads = 1, .head_dim = 64, .length = 75, .type = BB_KV_F16},
};

/* Levels without attention of their own compute as the level below: tested once. */
static bool has_own_attention(int level)
{
    struct bb_kernels below, here;
    if (level == 0)
        return true;
    CHECK_STATUS(bb_kernels_choose(&below, bb_kernels_level_name(level - 1), &fixture_error));
    CHECK_STATUS(bb_kernels_choose(&here, bb_kernels_level_name(level), &fixture_error));
    return here.attention.attend != below.attention.attend;
}

static void test_attention_is_right(void **state)
{
    (void)state;
    for (size_t c = 0; c < BB_COUNT(attention_cases); c++) {
        struct attention_data data;
        create_attention(&data, &attention_cases[c]);
        for (int level = 0; bb_kernels_level_name(level) != NULL; level++) {
            if (!has_own_attention(level))
                continue;
            struct bb_backend *backend = open_cpu(bb_kernels_level_name(level), 2);
            run_attention(&data, backend, 0, data.length, 97);
            bb_backend_close(backend);
            /* f32 sums of some hundred terms of size 1; the quantized cache's own error is in `expected`, but for
             * f16, which rounds to 2^-11. */
            double tolerance = attention_cases[c].type == BB_KV_F16 ? 3e-3 : 1e-5;
            CHECK_NEAR(data.out, data.expected, data.q_count, tolerance);
        }
        free_attention(&data);
    }
}

/* The cut of the prompt and the threads change nothing, to the last bit. */
static void test_attention_is_the_same_in_any_cut(void **state)
{
    (void)state;
    static const int32_t steps[] = {1, 7, 64, 512};
    for (size_t c = 0; c < BB_COUNT(attention_cases); c++) {
        struct attention_data data;
        create_attention(&data, &attention_cases[c]);
        float *whole = malloc(data.q_count * sizeof(float));
        for (int level = 0; bb_kernels_level_name(level) != NULL; level++) {
            if (!has_own_attention(level))
                continue;
            struct bb_backend *one = open_cpu(bb_kernels_level_name(level), 1),
                              *five = open_cpu(bb_kernels_level_name(level), 5);
            run_attention(&data, one, 0, data.length, data.length);
            memcpy(whole, data.out, data.q_count * sizeof(float));
            for (size_t s = 0; s < BB_COUNT(steps);
                 s += level == 0 ? 2 : 1) { /* plain C is slow, and cannot be wrong by tiles */
                memset(data.out, 0, data.q_count * sizeof(float));
                run_attention(&data, s % 2 == 0 ? five : one, 0, data.length, steps[s]);
                assert_memory_equal(data.out, whole, data.q_count * sizeof(float));
            }
            bb_backend_close(one);
            bb_backend_close(five);
        }
        free(whole);
        free_attention(&data);
    }
}

/* One row over a long cache is shared out by segments: the same bits as a prompt's rows on one thread. */
static void test_attention_shared_out_by_segments(void **state)
{
    (void)state;
    static const struct attention_case cases[] = {
        {.heads = 8, .kv_heads = 1, .head_dim = 64, .length = 600},
        {.heads = 8, .kv_heads = 1, .head_dim = 32, .length = 1060, .window = 530, .keep = 4}};
    for (size_t c = 0; c < BB_COUNT(cases); c++) {
        struct attention_data data;
        create_attention(&data, &cases[c]);
        float *whole = malloc(data.q_count * sizeof(float));
        for (int level = 0; bb_kernels_level_name(level) != NULL; level++) {
            if (!has_own_attention(level))
                continue;
            struct bb_backend *one = open_cpu(bb_kernels_level_name(level), 1);
            struct bb_backend *five = open_cpu(bb_kernels_level_name(level), 5);
            run_attention(&data, one, 0, data.length, data.length);
            CHECK_NEAR(data.out, data.expected, data.q_count, 1e-5);
            memcpy(whole, data.out, data.q_count * sizeof(float));
            size_t last = data.q_count / (size_t)data.length * (size_t)(data.length - 20);
            memset(data.out + last, 0, (data.q_count - last) * sizeof(float));
            run_attention(&data, five, data.length - 20, data.length, 1);
            assert_memory_equal(data.out, whole, data.q_count * sizeof(float));
            bb_backend_close(one);
            bb_backend_close(five);
        }
        free(whole);
        free_attention(&data);
    }
}

/* Two sequences of different length in one step give what each gives alone. */
static void test_attention_of_several_sequences(void **state)
{
    (void)state;
    static const struct attention_case two[] = {
        {.heads = 4, .kv_heads = 2, .head_dim = 64, .length = 600, .window = 300},
        {.heads = 4, .kv_heads = 2, .head_dim = 64, .length = 33, .window = 300}};
    for (int level = 0; bb_kernels_level_name(level) != NULL; level++) {
        if (!has_own_attention(level))
            continue;
        struct bb_backend *backend = open_cpu(bb_kernels_level_name(level), 3);
        struct attention_data long_one, short_one;
        create_attention(&long_one, &two[0]);
        create_attention(&short_one, &two[1]);
        run_attention(&long_one, backend, 0, 600, 600);
        run_attention(&short_one, backend, 0, 33, 33);
        check_together(&long_one, 599, &short_one, 20, backend);
        check_together(&long_one, 500, &short_one, 32, backend);
        free_attention(&long_one);
        free_attention(&short_one);
        bb_backend_close(backend);
    }
}

/* The kernels that unpack, alone: all bits, odd counts. */
static void test_cache_conversions(void **state)
{
    (void)state;
    static float in[333], out[333], expected[333];
    static uint16_t halves[333], expected_halves[333];
    struct bb_kernels reference, kernels;
    CHECK_STATUS(bb_kernels_choose(&reference, "reference", &fixture_error));
    for (int level = 0; bb_kernels_level_name(level) != NULL; level++) {
        CHECK_STATUS(bb_kernels_choose(&kernels, bb_kernels_level_name(level), &fixture_error));
        for (int32_t count = 0; count <= 333; count += count < 40 ? 1 : 97) {
            fill_random(in, 333, (uint64_t)count, count % 2 == 0 ? 1e-5f : 100.0f);
            kernels.attention.f32_to_f16(halves, in, count);
            reference.attention.f32_to_f16(expected_halves, in, count);
            assert_memory_equal(halves, expected_halves, (size_t)count * 2);
            kernels.attention.f16_to_f32(out, halves, count);
            reference.attention.f16_to_f32(expected, halves, count);
            assert_memory_equal(out, expected, (size_t)count * 4);
        }
        for (int32_t bits = 4; bits <= 8; bits += 4)
            for (int32_t group = 32; group <= 64; group *= 2) {
                enum { DIM = 192 };
                static uint8_t codes[DIM * 16];
                static float scales[DIM], biases[DIM], unpacked[DIM * 16], right[DIM * 16];
                fill_random(scales, DIM, 1, 1.0f);
                fill_random(biases, DIM, 2, 1.0f);
                for (int32_t i = 0; i < DIM * 16; i++)
                    codes[i] = (uint8_t)bb_random_at(5, (uint64_t)i);
                kernels.attention.unpack_keys(unpacked, codes, scales, biases, DIM, group, bits);
                reference.attention.unpack_keys(right, codes, scales, biases, DIM, group, bits);
                assert_memory_equal(unpacked, right, sizeof right);
                kernels.attention.unpack_values(unpacked, codes, scales, biases, DIM, group, bits);
                reference.attention.unpack_values(right, codes, scales, biases, DIM, group, bits);
                assert_memory_equal(unpacked, right, DIM * sizeof(float));
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_entries),
        cmocka_unit_test(test_entries_at_the_edges),
        cmocka_unit_test(test_gather),
        cmocka_unit_test(test_attention_is_right),
        cmocka_unit_test(test_attention_is_the_same_in_any_cut),
        cmocka_unit_test(test_attention_shared_out_by_segments),
        cmocka_unit_test(test_attention_of_several_sequences),
        cmocka_unit_test(test_cache_conversions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
