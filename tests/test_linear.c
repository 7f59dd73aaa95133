/* Products with weights: every level of this machine against the reference and against double, for all schemes and odd sizes; the same bits
 * whatever the level (rounded products), the batch and the number of threads. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/kernels/kernels.h"
#include "base/memory.h"
#include "base/random.h"
#include "files/safetensors.h"
#include "quant/quant_modes.h"
#include "test.h"

#include <string.h>

static float random_value(struct bb_random *random)
{
    /* a sum of uniforms: bell-shaped, mean 0, deviation 1 */
    double sum = 0.0;
    for (int i = 0; i < 12; i++)
        sum += bb_random_uniform(random);
    return (float)(sum - 6.0);
}

/* A weight of random values, quantized by the mode itself. Parts lie at odd multiples of their elements' size. */
struct owned_weight {
    struct bb_weight weight;
    char *memory;
};

static struct owned_weight make_weight(struct bb_scheme scheme, enum bb_dtype dtype, int64_t rows, int64_t cols, uint64_t seed)
{
    struct bb_random random = { seed, 0 };
    const struct bb_quant_mode *mode = bb_quant_mode_of(scheme.mode);
    struct bb_weight weight = { .dtype = dtype, .scheme = scheme, .rows = rows, .cols = cols };
    const size_t row_bytes = bb_weight_row_bytes(&weight), scale_bytes = bb_weight_scale_row_bytes(&weight), count = (size_t)rows;
    const size_t element = bb_dtype_bits(dtype) / 8;
    char *memory = malloc(count * (row_bytes + 2 * scale_bytes) + 64), *codes = memory + (mode != NULL ? 4 : element);
    char *scales = codes + count * row_bytes, *biases = scales + count * scale_bytes;
    float *row = malloc((size_t)cols * sizeof(float));
    for (size_t r = 0; r < count; r++) {
        for (int64_t i = 0; i < cols; i++)
            row[i] = 0.05f * random_value(&random) + 0.01f;
        if (mode != NULL) {
            mode->pack_row(scheme, row, cols, (struct bb_packed_row){ (uint8_t *)codes + r * row_bytes, scales + r * scale_bytes, biases + r * scale_bytes, dtype });
            continue;
        }
        for (int64_t i = 0; i < cols; i++) {
            const uint16_t half = dtype == BB_BF16 ? bb_f32_to_bf16(row[i]) : bb_f32_to_f16(row[i]);
            memcpy(codes + r * row_bytes + (size_t)i * element, dtype == BB_F32 ? (void *)&row[i] : (void *)(uintptr_t)&half, element);
        }
    }
    free(row);
    weight.data = codes;
    weight.scales = mode != NULL ? scales : NULL;
    weight.biases = mode != NULL && mode->has_biases ? biases : NULL;
    return (struct owned_weight){ weight, memory };
}

static float *random_rows(int64_t rows, int64_t cols, uint64_t seed)
{
    struct bb_random random = { seed, 0 };
    float *x = malloc((size_t)(rows * cols) * sizeof(float));
    for (int64_t i = 0; i < rows * cols; i++)
        x[i] = random_value(&random);
    return x;
}

/* What a backend does around the kernels, in one thread: out [rows of x, rows of the weight]. */
static void multiply(const struct bb_kernels *kernels, struct bb_linear_task task, int64_t x_rows, bool is_exact)
{
    const int64_t cols = task.weight->cols, units = cols / 16, parts = is_exact ? BB_EXACT_PARTS : 1;
    struct bb_rounded rounded = { .rows = x_rows * parts, .cols = cols, .parts = (int32_t)parts, .unit = bb_linear_unit(task.weight),
        .tile = bb_rounded_tile(kernels, x_rows * parts) };
    rounded.codes = malloc((size_t)(rounded.rows * cols));
    rounded.steps = malloc((size_t)(rounded.rows * units) * sizeof(float));
    rounded.sums = malloc((size_t)(rounded.rows * units) * sizeof(float));
    task.scratch = aligned_alloc(64, (kernels->linear_scratch(cols, rounded.rows) + 63) / 64 * 64);
    task.rounded = &rounded;
    task.row_count = x_rows;
    if (!bb_linear_is_rounded(task.weight)) {
        kernels->multiply_floats(&task);
    } else if (!is_exact) {
        kernels->round_rows(&rounded, task.x, 0, x_rows);
        kernels->multiply_rounded(&task);
    } else {
        float *totals = malloc((size_t)(rounded.rows * task.weight->rows) * sizeof(float));
        struct bb_linear_task of_parts = { .weight = task.weight, .rounded = &rounded, .row_count = rounded.rows, .out = totals,
            .out_stride = task.weight->rows, .scale = 1.0f, .scratch = task.scratch };
        kernels->round_rows(&rounded, task.x, 0, x_rows);
        kernels->multiply_rounded(&of_parts);
        bb_linear_join(&task, totals);
        free(totals);
    }
    free(rounded.codes);
    free(rounded.steps);
    free(rounded.sums);
    free(task.scratch);
}

static float *product_of(const struct bb_kernels *kernels, const struct bb_weight *weight, const float *x, int64_t x_rows, bool is_exact)
{
    float *out = malloc((size_t)(x_rows * weight->rows) * sizeof(float));
    multiply(kernels, (struct bb_linear_task){ .weight = weight, .x = x, .out = out, .out_stride = weight->rows, .scale = 1.0f }, x_rows, is_exact);
    return out;
}

struct scheme_case {
    struct bb_scheme scheme;
    enum bb_dtype dtype;
};

static const struct scheme_case schemes[] = {
    { { BB_QUANT_AFFINE, 1, 64 }, BB_BF16 }, { { BB_QUANT_AFFINE, 2, 32 }, BB_BF16 }, { { BB_QUANT_AFFINE, 2, 64 }, BB_F16 },
    { { BB_QUANT_AFFINE, 2, 128 }, BB_F32 }, { { BB_QUANT_AFFINE, 3, 32 }, BB_F32 }, { { BB_QUANT_AFFINE, 3, 64 }, BB_BF16 },
    { { BB_QUANT_AFFINE, 3, 128 }, BB_F16 }, { { BB_QUANT_AFFINE, 4, 32 }, BB_BF16 }, { { BB_QUANT_AFFINE, 4, 32 }, BB_F32 },
    { { BB_QUANT_AFFINE, 4, 64 }, BB_BF16 }, { { BB_QUANT_AFFINE, 4, 64 }, BB_F16 }, { { BB_QUANT_AFFINE, 4, 64 }, BB_F32 },
    { { BB_QUANT_AFFINE, 4, 128 }, BB_BF16 }, { { BB_QUANT_AFFINE, 4, 128 }, BB_F16 }, { { BB_QUANT_AFFINE, 5, 32 }, BB_F16 },
    { { BB_QUANT_AFFINE, 5, 64 }, BB_BF16 }, { { BB_QUANT_AFFINE, 5, 128 }, BB_BF16 }, { { BB_QUANT_AFFINE, 6, 32 }, BB_BF16 },
    { { BB_QUANT_AFFINE, 6, 64 }, BB_F32 }, { { BB_QUANT_AFFINE, 6, 128 }, BB_BF16 }, { { BB_QUANT_AFFINE, 8, 32 }, BB_F16 },
    { { BB_QUANT_AFFINE, 8, 64 }, BB_BF16 }, { { BB_QUANT_AFFINE, 8, 128 }, BB_BF16 }, { { BB_QUANT_MXFP4, 4, 32 }, BB_U8 },
    { { BB_QUANT_MXFP8, 8, 32 }, BB_U8 }, { { BB_QUANT_NVFP4, 4, 16 }, BB_U8 }, { { BB_QUANT_NONE, 0, 0 }, BB_BF16 },
    { { BB_QUANT_NONE, 0, 0 }, BB_F16 }, { { BB_QUANT_NONE, 0, 0 }, BB_F32 },
};

static const int64_t row_counts[] = { 1, 3, 33, 65 };
static const int64_t column_counts[] = { 128, 16, 32, 64, 192, 1168, 2176 };
static const int64_t batch_sizes[] = { 26, 1, 2, 3, 7, 16 };

static void check_bits(const float *actual, const float *expected, int64_t count, const char *level, const struct bb_weight *weight, int64_t x_rows,
                       bool is_exact)
{
    for (int64_t i = 0; i < count; i++) {
        if (memcmp(&actual[i], &expected[i], sizeof(float)) != 0)
            fail_msg("%s, mode %d, %d bits, group %d, dtype %d, %lld x %lld, %lld rows of x, exact %d: element %lld is %.9g, expected %.9g", level,
                     (int)weight->scheme.mode, (int)weight->scheme.bits, (int)weight->scheme.group_size, (int)weight->dtype, (long long)weight->rows,
                     (long long)weight->cols, (long long)x_rows, (int)is_exact, (long long)i, (double)actual[i], (double)expected[i]);
    }
}

/* The largest |out - W x| as a share of the sum of |w x|. */
static double relative_error(const struct bb_weight *weight, const float *x, const float *out, int64_t x_rows)
{
    float *row = malloc((size_t)weight->cols * sizeof(float));
    double worst = 0.0;
    for (int64_t r = 0; r < weight->rows; r++) {
        bb_quant_unpack_row(weight, r, row);
        for (int64_t t = 0; t < x_rows; t++) {
            double sum = 0.0, size = 1e-30;
            for (int64_t i = 0; i < weight->cols; i++) {
                const double product = (double)row[i] * (double)x[t * weight->cols + i];
                sum += product;
                size += fabs(product);
            }
            worst = fmax(worst, fabs(sum - (double)out[t * weight->rows + r]) / size);
        }
    }
    free(row);
    return worst;
}

static void check_near_truth(const struct bb_kernels *kernels, const struct bb_weight *weight, const float *x, const float *out, bool is_exact)
{
    /* exact: f32 sums of up to 2176 terms. rounded: half a step of max / 127 (max is some 2.5 deviations) a term, at random. */
    const double tolerance = is_exact ? 2e-6 : 0.03 / sqrt((double)weight->cols / 16.0);
    const double error = relative_error(weight, x, out, batch_sizes[0]);
    if (!(error < tolerance))
        fail_msg("%s, mode %d, %d bits, group %d, %lld x %lld, exact %d: relative error %g", kernels->level, (int)weight->scheme.mode,
                 (int)weight->scheme.bits, (int)weight->scheme.group_size, (long long)weight->rows, (long long)weight->cols, (int)is_exact, error);
}

/* Each part of a batch has the same bits as in the whole. */
static void check_parts(const struct bb_kernels *kernels, const struct bb_weight *weight, const float *x, const float *all, bool is_exact)
{
    for (size_t b = 1; b < BB_COUNT(batch_sizes); b++) {
        const int64_t first = batch_sizes[0] - batch_sizes[b];
        float *part = product_of(kernels, weight, x + first * weight->cols, batch_sizes[b], is_exact);
        check_bits(part, all + first * weight->rows, batch_sizes[b] * weight->rows, kernels->level, weight, batch_sizes[b], is_exact);
        free(part);
    }
}

/* One weight on all levels: the first, the reference, gives nearly the true product; the others the same bits, or nearly so (weights that
 * take f32 activations). */
static void check_weight(const struct bb_kernels *levels, int32_t level_count, const struct bb_weight *weight, bool is_exact)
{
    const int64_t count = batch_sizes[0] * weight->rows;
    float *x = random_rows(batch_sizes[0], weight->cols, 7), *expected = product_of(&levels[0], weight, x, batch_sizes[0], is_exact);
    check_near_truth(&levels[0], weight, x, expected, is_exact);
    for (int32_t level = 1; level < level_count; level++) {
        float *all = product_of(&levels[level], weight, x, batch_sizes[0], is_exact);
        if (!bb_linear_is_rounded(weight))
            check_near_truth(&levels[level], weight, x, all, is_exact);
        else
            check_bits(all, expected, count, levels[level].level, weight, batch_sizes[0], is_exact);
        check_parts(&levels[level], weight, x, all, is_exact);
        free(all);
    }
    free(x);
    free(expected);
}

enum { MOST_LEVELS = 8 };

/* All levels of this machine; their number. */
static int32_t choose_levels(struct bb_kernels levels[MOST_LEVELS])
{
    bombus_error error;
    int32_t count = 0;
    for (; count < MOST_LEVELS && bb_kernels_level_name(count) != NULL; count++) {
        CHECK_OK(bb_kernels_choose(&levels[count], bb_kernels_level_name(count), &error), error);
        assert_string_equal(levels[count].level, bb_kernels_level_name(count));
    }
    return count;
}

static void test_levels(void **state)
{
    (void)state;
    struct bb_kernels levels[MOST_LEVELS];
    const int32_t level_count = choose_levels(levels);
    for (size_t s = 0; s < BB_COUNT(schemes); s++) {
        for (size_t i = 0; i < BB_COUNT(row_counts) * BB_COUNT(column_counts); i++) {
            const int64_t rows = row_counts[i % BB_COUNT(row_counts)], cols = column_counts[i / BB_COUNT(row_counts)];
            if (schemes[s].scheme.mode != BB_QUANT_NONE && cols % schemes[s].scheme.group_size != 0)
                continue;
            if (rows > 3 && cols != 128 && cols != 192 && cols != 1168) /* many rows: the rest of a panel; odd numbers of units */
                continue;
            struct owned_weight owned = make_weight(schemes[s].scheme, schemes[s].dtype, rows, cols, i);
            if (bb_linear_is_rounded(&owned.weight))
                check_weight(levels, level_count, &owned.weight, false);
            check_weight(levels, level_count, &owned.weight, true);
            free(owned.memory);
        }
    }
}

/* Products of 1 to 3 rows of x with one weight, the same on all levels. */
static void check_few(const struct bb_kernels *levels, int32_t level_count, const struct bb_weight *weight, const float *x)
{
    for (int is_exact = 0; is_exact < 2; is_exact++) {
        for (int64_t x_rows = 1; x_rows <= 3; x_rows++) {
            float *expected = product_of(&levels[0], weight, x, x_rows, is_exact);
            for (int32_t level = 1; level < level_count; level++) {
                float *out = product_of(&levels[level], weight, x, x_rows, is_exact);
                check_bits(out, expected, x_rows * weight->rows, levels[level].level, weight, x_rows, is_exact);
                free(out);
            }
            free(expected);
        }
    }
}

/* Shapes of real models, for which products of few rows have loops of their own: whole groups of rows, with and without a part of a run at the end; also
 * wider than what the first cache keeps. Once with the largest codes throughout, of x too: the largest sums that there are. */
static void test_even_shapes(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = { { 4, 1024 }, { 36, 1024 }, { 20, 3072 }, { 16, 6144 }, { 12, 12288 }, { 20, 7296 }, { 14, 8192 }, { 8, 64 },
        { 4, 512 }, { 24, 512 }, { 16, 896 }, { 24, 1408 }, { 12, 2560 },
        { 28, 3008 }, { 2, 8192 } };
    struct bb_kernels levels[MOST_LEVELS];
    const int32_t level_count = choose_levels(levels);
    for (size_t i = 0; i < 2 * BB_COUNT(shapes); i++) {
        const int64_t rows = shapes[i / 2][0], cols = shapes[i / 2][1];
        for (int is_largest = 0; is_largest < 2; is_largest++) {
            struct owned_weight owned = make_weight((struct bb_scheme){ BB_QUANT_AFFINE, 4, i % 2 == 0 ? 64 : 32 }, BB_BF16, rows, cols, i);
            float *x = random_rows(3, cols, 8);
            if (is_largest) {
                memset((char *)owned.memory + 4, 0xFF, (size_t)(rows * cols / 2));
                for (int64_t j = 0; j < 3 * cols; j++)
                    x[j] = j % 200 < 100 ? 1.0f : -1.0f;
            }
            check_few(levels, level_count, &owned.weight, x);
            free(x);
            free(owned.memory);
        }
    }
    /* The same shapes of any other scheme. */
    for (size_t s = 0; s < BB_COUNT(schemes); s++) {
        const int64_t rows = 16, cols = 896;
        if (!bb_linear_is_rounded(&(struct bb_weight){ .scheme = schemes[s].scheme }))
            continue;
        struct owned_weight owned = make_weight(schemes[s].scheme, schemes[s].dtype, rows, cols, s);
        float *x = random_rows(3, cols, 8);
        check_few(levels, level_count, &owned.weight, x);
        free(x);
        free(owned.memory);
    }
}

/* out = residual + scale * (W x + bias), in place, and nothing outside the rows is touched. */
static void test_bias_and_residual(void **state)
{
    (void)state;
    enum { ROWS = 37, COLS = 192, BATCH = 13, STRIDE = 40 };
    bombus_error error;
    struct owned_weight owned = make_weight((struct bb_scheme){ BB_QUANT_AFFINE, 4, 64 }, BB_BF16, ROWS, COLS, 3);
    float *x = random_rows(BATCH, COLS, 4), *residual = random_rows(BATCH, STRIDE, 5);
    uint16_t bias[ROWS];
    for (int i = 0; i < ROWS; i++)
        bias[i] = bb_f32_to_bf16(0.1f * (float)i);
    for (int32_t level = 0; bb_kernels_level_name(level) != NULL; level++) {
        struct bb_kernels kernels;
        CHECK_OK(bb_kernels_choose(&kernels, bb_kernels_level_name(level), &error), error);
        for (int is_exact = 0; is_exact < 2; is_exact++) {
            for (int batch = 1; batch <= BATCH; batch += BATCH - 1) {
                float out[BATCH * STRIDE], expected[BATCH * STRIDE], *plain = product_of(&kernels, &owned.weight, x, batch, is_exact);
                memcpy(out, residual, sizeof out);
                memcpy(expected, residual, sizeof out);
                for (int t = 0; t < batch; t++) {
                    for (int i = 0; i < ROWS; i++)
                        expected[t * STRIDE + i] += 0.25f * (plain[t * ROWS + i] + bb_bf16_to_f32(bias[i]));
                }
                multiply(&kernels, (struct bb_linear_task){ .weight = &owned.weight, .bias = bias, .bias_dtype = BB_BF16, .scale = 0.25f, .x = x,
                    .out = out, .residual = out, .out_stride = STRIDE }, batch, is_exact);
                CHECK_NEAR(out, expected, BATCH * STRIDE, 1e-6);
                free(plain);
            }
        }
    }
    free(x);
    free(residual);
    free(owned.memory);
}

/* Activations that are zero, huge, tiny, infinite or no number. */
static void test_odd_values(void **state)
{
    (void)state;
    enum { ROWS = 20, COLS = 128 };
    bombus_error error;
    struct owned_weight owned = make_weight((struct bb_scheme){ BB_QUANT_AFFINE, 4, 64 }, BB_BF16, ROWS, COLS, 3);
    for (int32_t level = 0; bb_kernels_level_name(level) != NULL; level++) {
        struct bb_kernels kernels;
        CHECK_OK(bb_kernels_choose(&kernels, bb_kernels_level_name(level), &error), error);
        for (int is_exact = 0; is_exact < 2; is_exact++) {
            float x[4][COLS] = { { 0.0f }, { 0.0f }, { 0.0f }, { 0.0f } };
            x[1][70] = 1e30f;
            x[2][3] = NAN;
            x[3][3] = INFINITY;
            float *out = product_of(&kernels, &owned.weight, x[0], 4, is_exact);
            for (int i = 0; i < ROWS; i++) {
                assert_true(out[i] == 0.0f);
                assert_true(isfinite(out[ROWS + i]) != 0);
                assert_true(isnan(out[2 * ROWS + i]) != 0);
                assert_true(!isfinite(out[3 * ROWS + i]));
            }
            free(out);
        }
    }
    free(owned.memory);
}

/* exact: relative 1e-5 of the reference vectors (golden/README.md section 2). */
static void check_golden(const struct bb_kernels *kernels, const struct bb_safetensors *file, const char *name, const struct scheme_case *scheme)
{
    const char *parts[] = { "packed", "scales", "biases", "x", "matmul_t_f32" };
    void *copies[BB_COUNT(parts)] = { NULL };
    const struct bb_safetensors_entry *entries[BB_COUNT(parts)];
    for (size_t i = 0; i < BB_COUNT(parts); i++) {
        char part[96];
        snprintf(part, sizeof part, "%s.%s", name, parts[i]);
        entries[i] = bb_safetensors_find(file, part);
        if (entries[i] == NULL)
            continue;
        copies[i] = malloc(entries[i]->size);
        memcpy(copies[i], entries[i]->data, entries[i]->size);
    }
    const int64_t cols = entries[0]->shape[1] * 32 / scheme->scheme.bits;
    const struct bb_weight weight = { copies[0], copies[1], copies[2], scheme->dtype, scheme->scheme, entries[0]->shape[0], cols };
    const int64_t x_rows = entries[3]->shape[0];
    float *x = malloc((size_t)(x_rows * cols) * sizeof(float)), *expected = copies[4];
    bb_dtype_load_row(x, copies[3], entries[3]->dtype, 0, (size_t)(x_rows * cols));
    float *out = product_of(kernels, &weight, x, x_rows, true);
    double largest = 0.0;
    for (int64_t i = 0; i < x_rows * weight.rows; i++) {
        if (fabs((double)expected[i]) > largest)
            largest = fabs((double)expected[i]);
    }
    CHECK_NEAR(out, expected, (size_t)(x_rows * weight.rows), 1e-5 * largest);
    free(x);
    free(out);
    for (size_t i = 0; i < BB_COUNT(parts); i++)
        free(copies[i]);
}

static void test_golden(void **state)
{
    (void)state;
    const char *path = golden_path("quant/quant.safetensors");
    SKIP_WITHOUT_GOLDEN(path);
    bombus_error error;
    struct bb_safetensors file;
    CHECK_OK(bb_safetensors_open(&file, path, &error), error);
    for (int32_t level = 0; bb_kernels_level_name(level) != NULL; level++) {
        struct bb_kernels kernels;
        CHECK_OK(bb_kernels_choose(&kernels, bb_kernels_level_name(level), &error), error);
        int count = 0;
        for (size_t i = 0; i < BB_COUNT(schemes); i++) {
            if (schemes[i].scheme.mode == BB_QUANT_NONE)
                continue;
            char name[64], part[80];
            const char *dtype = schemes[i].dtype == BB_BF16 ? "bf16" : schemes[i].dtype == BB_F16 ? "f16" : "f32";
            snprintf(name, sizeof name, "%s-b%d-g%d-%s", bb_quant_mode_of(schemes[i].scheme.mode)->name, (int)schemes[i].scheme.bits,
                     (int)schemes[i].scheme.group_size, dtype);
            snprintf(part, sizeof part, "%s.packed", name);
            if (bb_safetensors_find(&file, part) == NULL)
                continue;
            check_golden(&kernels, &file, name, &schemes[i]);
            count++;
        }
        assert_true(count >= 10);
    }
    bb_safetensors_close(&file);
}

/* The backend's job over several products of one input, of many chunks and of one: the bits of each alone, for any number of threads and rows of x;
 * an allocation that fails is reported, and the next call works. */
static void test_backend(void **state)
{
    (void)state;
    enum { BATCH = 50, COLS = 256, PRODUCTS = 3, MOST_ROWS = 9000 };
    const struct scheme_case kinds[PRODUCTS] = { { { BB_QUANT_AFFINE, 4, 64 }, BB_BF16 }, { { BB_QUANT_AFFINE, 8, 32 }, BB_F16 },
        { { BB_QUANT_NONE, 0, 0 }, BB_BF16 } };
    const int64_t rows[PRODUCTS] = { MOST_ROWS, 33, 2070 };
    bombus_error error;
    struct owned_weight owned[PRODUCTS];
    struct bb_linear linears[PRODUCTS];
    float *x = random_rows(BATCH, COLS, 11), *outs[PRODUCTS], *expected[PRODUCTS];
    for (int i = 0; i < PRODUCTS; i++) {
        owned[i] = make_weight(kinds[i].scheme, kinds[i].dtype, rows[i], COLS, (uint64_t)i);
        linears[i] = (struct bb_linear){ .weight = owned[i].weight, .slot = -1 };
        outs[i] = malloc(sizeof(float) * BATCH * MOST_ROWS);
    }
    struct bb_kernels kernels;
    CHECK_OK(bb_kernels_choose(&kernels, NULL, &error), error);
    for (int is_exact = 0; is_exact < 2; is_exact++) {
        for (int i = 0; i < PRODUCTS; i++)
            expected[i] = product_of(&kernels, &linears[i].weight, x, BATCH, is_exact || !bb_linear_is_rounded(&linears[i].weight));
        for (int32_t threads = 1; threads <= 3; threads++) {
            const struct bb_backend_options options = { .thread_count = threads };
            struct bb_backend *backend;
            CHECK_OK(bb_cpu_open(&backend, &options, &error), error);
            for (int batch = 1; batch <= BATCH; batch += 7) {
                struct bb_cpu_product products[PRODUCTS];
                for (int i = 0; i < PRODUCTS; i++)
                    products[i] = (struct bb_cpu_product){ .linear = &linears[i], .out = outs[i], .out_stride = MOST_ROWS, .scale = 1.0f };
                if (batch == 1) {
                    bb_memory_fail_at(1, false);
                    assert_int_equal(bb_cpu_multiply((struct bb_cpu *)backend, products, PRODUCTS, x, batch, is_exact, &error), BOMBUS_ERROR_MEMORY);
                    bb_memory_fail_at(0, false);
                }
                for (int i = 0; i < PRODUCTS; i++)
                    memset(outs[i], 0xFF, sizeof(float) * BATCH * MOST_ROWS);
                CHECK_OK(bb_cpu_multiply((struct bb_cpu *)backend, products, PRODUCTS, x, batch, is_exact, &error), error);
                for (int i = 0; i < PRODUCTS; i++) {
                    for (int t = 0; t < batch; t++)
                        check_bits(outs[i] + t * MOST_ROWS, expected[i] + t * rows[i], rows[i], kernels.level, &linears[i].weight, batch, is_exact);
                }
            }
            backend->table->close(backend);
        }
        for (int i = 0; i < PRODUCTS; i++)
            free(expected[i]);
    }
    for (int i = 0; i < PRODUCTS; i++) {
        free(outs[i]);
        free(owned[i].memory);
    }
    free(x);
}

static void test_choice(void **state)
{
    (void)state;
    bombus_error error;
    struct bb_kernels kernels;
    assert_int_equal(bb_kernels_choose(&kernels, "sse9", &error), BOMBUS_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "sse9"));
    assert_non_null(strstr(error.message, "reference"));
    CHECK_OK(bb_kernels_choose(&kernels, "auto", &error), error);
    int32_t last = 0;
    while (bb_kernels_level_name(last + 1) != NULL)
        last++;
    assert_string_equal(kernels.level, bb_kernels_level_name(last));
    print_message("best level: %s\n", kernels.level);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_even_shapes),
        cmocka_unit_test(test_bias_and_residual),
        cmocka_unit_test(test_odd_values),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_backend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
